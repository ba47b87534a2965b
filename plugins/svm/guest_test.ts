/**
 * Guests through the whole machine: state across VMRUN and #VMEXIT, exceptions,
 * EXITINTINFO, injection, faults of the SVM instructions (APM 2 §15.5–15.20).
 */
import { assert, assertEquals } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { Vector } from "../../cpu/arch/exceptions.ts";
import { Cr0, Cr4, Efer, Rflags } from "../../cpu/arch/flags.ts";
import { ActivityState, Gpr, Seg } from "../../cpu/layout.ts";
import {
  PLACE,
  SELECTOR,
  setGate,
  TestMachine,
} from "../../tests/support/machine.ts";
import { VMRUN_CHECKS } from "./api.ts";
import { EventInfo, InterceptBit as B } from "./controls.ts";
import { ExitCode as X } from "./exit_codes.ts";
import { AT, SvmGuest } from "./guest_testing.ts";
import { svm } from "./plugin.ts";
import { hasFlag, SCRATCH, SvmFlag } from "./scratch.ts";
import { Control, Save, SaveSegment } from "./vmcb.ts";
import type { VmcbDraft } from "./vmcb_testing.ts";

const gate = (vector: number, label: string) => (m: TestMachine): void =>
  setGate(m.hardware, vector, m.at(label));
const inject = (info: number, error = 0) => (d: VmcbDraft): VmcbDraft =>
  d.set32(Control.eventInjection, EventInfo.Valid | info)
    .set32(Control.eventInjectionError, error);

describe("VMRUN and #VMEXIT", () => {
  it("save and restore host and guest", () => {
    const run = new SvmGuest(
      `mov rsp, 0x9998
       mov rax, 0x1234
       mov rbx, 0x5678
       stc
       at: vmmcall`,
      {
        before: "sti\nstd",
        vmcb: (d) => d.set(Save.cr2, 0x77000).set(Save.rflags, 0x202),
      },
    );
    const { v } = run.machine;
    assertEquals(run.code, X.Vmmcall);
    assertEquals(run.vmcb.read(Save.rsp), 0x9998n);
    assertEquals(run.vmcb.read(Save.rax), 0x1234n);
    assertEquals(run.vmcb.read(Save.rflags), 0x203n);
    assertEquals(run.vmcb.read8(Save.cpl), 0);
    assertEquals(run.vmcb.read16(Save.cs + SaveSegment.attributes), 0xa9b);
    // General registers but RAX and RSP pass through, and so does CR2.
    assertEquals(v.gpr(Gpr.RBX), 0x5678n);
    assertEquals(v.cr2, 0x77000n);
    assertEquals(v.gpr(Gpr.RAX), BigInt(AT.vmcb));
    assertEquals(v.gpr(Gpr.RSP), BigInt(PLACE.stack));
    assertEquals(v.rflags, 0x602);
    assertEquals(v.rip, run.label("exit") + 1n);
    assertEquals(v.segSelector(Seg.CS), SELECTOR.code64);
    assert(hasFlag(v, SvmFlag.GifClear), "GIF");
    assertEquals(run.entered.length, 1);
    assertEquals(run.exited[0].rip, run.label("at"));
  });

  it("fail with VMEXIT_INVALID before any guest state is loaded", () => {
    const run = new SvmGuest("vmmcall", {
      vmcb: (d) => d.set32(Control.asid, 0).set(Save.cr2, 0x55),
    });
    assertEquals(run.code, X.Invalid);
    assertEquals(run.entered.length, 0);
    const check = run.failed[0].check;
    assertEquals(VMRUN_CHECKS[check - 1].id, "asid.zero");
    assertEquals(run.machine.v.cr2, 0n);
    assertEquals(run.machine.v.rip, run.label("exit") + 1n);
    assert(hasFlag(run.machine.v, SvmFlag.GifClear));
  });

  it("run real-mode guests", () => {
    const run = new SvmGuest("", {
      vmcb: (d, m) => {
        m.hardware.physical.writeBytes(
          AT.data,
          // mov ax, cs; vmmcall
          Uint8Array.from([0x8c, 0xc8, 0x0f, 0x01, 0xd9]),
        );
        d.set(Save.cr0, Cr0.ET).set(Save.cr4, 0).set(Save.efer, Efer.SVME);
        d.segment(Save.cs, AT.data >> 4, 0x09b, BigInt(AT.data), 0xffff);
        for (const at of [Save.es, Save.ss, Save.ds]) {
          d.segment(at, 0, 0x093, 0n, 0xffff);
        }
        d.set(Save.rip, 0).set(Save.rax, 0);
      },
    });
    assertEquals(run.code, X.Vmmcall);
    assertEquals(run.vmcb.read(Save.rax), BigInt(AT.data >> 4));
    assertEquals(run.vmcb.read(Control.nextRip), 5n);
    assertEquals(run.machine.v.cr4 & Cr4.PAE, Cr4.PAE);
  });

  it("trap a host's RFLAGS.TF after the #VMEXIT", () => {
    const run = new SvmGuest("vmmcall", {
      before: "pushfq\nor dword [rsp], 0x100\npopfq",
      after: "nop\nnop\nhlt\ntrap: mov rbx, [rsp]\nhlt",
      setup: gate(Vector.DB, "trap"),
    });
    assertEquals(run.code, X.Vmmcall);
    assertEquals(run.machine.v.gpr(Gpr.RBX), run.label("exit"));
  });

  it("raise #UD without EFER.SVME and #GP for a bad address", () => {
    for (
      const [efer, rax, vector] of [
        [0, AT.vmcb, Vector.UD],
        [Efer.SVME, AT.vmcb + 16, Vector.GP],
        [Efer.SVME, 2 ** 52, Vector.GP],
      ]
    ) {
      for (const text of ["vmrun rax", "vmload rax", "vmsave rax"]) {
        const m = new TestMachine(`${text}\nhlt\nfault: hlt`, {
          model: "max-amd",
          plugins: [{ plugin: svm }],
        });
        setGate(m.hardware, vector, m.at("fault"));
        m.v.efer |= efer;
        m.v.setGpr(Gpr.RAX, BigInt(rax));
        m.run(10);
        assertEquals(m.v.rip, BigInt(m.at("fault") + 1), text);
      }
    }
  });

  it("refuse VMRUN while VM_HSAVE_PA is 0", () => {
    const run = new SvmGuest("vmmcall", {
      setup: (m) => {
        m.v.setQuad(SCRATCH.hsave, 0n);
        setGate(m.hardware, Vector.GP, m.at("exit"));
      },
    });
    assertEquals([run.entered.length, run.failed.length], [0, 0]);
    assertEquals(run.machine.v.rip, run.label("exit") + 1n);
    // The handler found the fault's frame.
    assertEquals(run.machine.v.gpr(Gpr.RSP), BigInt(PLACE.stack - 48));
  });

  it("give VMMCALL no meaning of its own", () => {
    const run = new SvmGuest("vmmcall", {
      vmcb: (d) =>
        d.intercept(B.Vmmcall, false).intercept(B.Exception + Vector.UD),
    });
    assertEquals(run.code, X.Exception + Vector.UD);
  });
});

describe("exception intercepts", () => {
  const only = (vector: number) => (d: VmcbDraft): VmcbDraft =>
    d.intercept(B.Exception + vector);

  it("report error code, address and instruction bytes", () => {
    const run = new SvmGuest("mov rbx, 0x40000000\nat: mov [rbx], rcx", {
      vmcb: only(Vector.PF),
      setup: ({ hardware: { physical } }) =>
        physical.writeU64(PLACE.tables + 0x1008, 0n),
    });
    assertEquals(run.code, X.Exception + Vector.PF);
    assertEquals(run.info1, 2n);
    assertEquals(run.info2, 0x4000_0000n);
    assertEquals(run.vmcb.read(Save.rip), run.label("at"));
    assertEquals(run.vmcb.read(Control.nextRip), 0n);
    assertEquals(run.vmcb.read8(Control.instructionBytes), 15);
    assertEquals(run.vmcb.read32(Control.instructionBytes) >>> 8, 0x0b8948);
    // CR2 keeps its value (§15.12.15).
    assertEquals(run.vmcb.read(Save.cr2), 0n);
  });

  it("store what bytes there are before a page that is absent", () => {
    const code = [0x48, 0x89, 0x0b]; // mov [rbx], rcx
    const run = new SvmGuest("jmp rax", {
      vmcb: (d) => only(Vector.PF)(d).set(Save.rax, 0x1f_fffd),
      setup: ({ hardware: { physical }, v }) => {
        physical.writeU64(PLACE.tables + 0x2008, 0n);
        physical.writeBytes(0x1f_fffd, Uint8Array.from(code));
        v.setGpr(Gpr.RBX, 0x20_0000n);
      },
    });
    assertEquals(run.info2, 0x20_0000n);
    const words = run.vmcb.read32(Control.instructionBytes);
    assertEquals(words, 0x0b894803);
  });

  it("come before delivery, for traps with DR6 written", () => {
    const run = new SvmGuest("nop\nat: nop\nvmmcall", {
      vmcb: (d) => only(Vector.DB)(d).set(Save.rflags, 2 | Rflags.TF),
    });
    assertEquals(run.code, X.Exception + Vector.DB);
    assertEquals(run.vmcb.read(Save.rip), run.label("at"));
    assertEquals(run.vmcb.read(Save.dr6), 0xffff4ff0n);
  });

  it("take INT3 with the next RIP", () => {
    const run = new SvmGuest("int3\nafter: vmmcall", { vmcb: only(Vector.BP) });
    assertEquals(run.code, X.Exception + Vector.BP);
    assertEquals(run.vmcb.read(Save.rip), run.label("guest"));
    assertEquals(run.vmcb.read(Control.nextRip), run.label("after"));
  });

  it("name the event that was being delivered", () => {
    const unmapped = (d: VmcbDraft): VmcbDraft =>
      only(Vector.PF)(d).set(Save.idtr + 8, 0x4000_0000);
    const setup = ({ hardware: { physical } }: TestMachine): void =>
      physical.writeU64(PLACE.tables + 0x1008, 0n);
    const run = new SvmGuest("int 0x30", { vmcb: unmapped, setup });
    assertEquals(run.code, X.Exception + Vector.PF);
    assertEquals(
      run.vmcb.read32(Control.exitIntInfo),
      (EventInfo.Valid | 4 << 8 | 0x30) >>> 0,
    );
    const fault = new SvmGuest("mov ds, word [bad]\nbad: dw 0xfff8", {
      vmcb: unmapped,
      setup,
    });
    assertEquals(
      fault.vmcb.read32(Control.exitIntInfo),
      (EventInfo.Valid | EventInfo.ErrorCodeValid | 3 << 8 | Vector.GP) >>> 0,
    );
    assertEquals(fault.vmcb.read32(Control.exitIntInfoError), 0xfff8);
  });

  it("see a shutdown as an exit, or let it happen", () => {
    const vmcb = (d: VmcbDraft): VmcbDraft => d.set32(Save.idtr + 4, 0);
    const run = new SvmGuest("ud2", { vmcb });
    assertEquals(run.code, X.Shutdown);
    const down = new SvmGuest("ud2", {
      vmcb: (d) => vmcb(d).intercept(B.Shutdown, false),
    });
    assertEquals(down.exited, []);
    assertEquals(down.machine.v.activity, ActivityState.Shutdown);
  });
});

describe("event injection", () => {
  it("delivers an exception with its error code before the first instruction", () => {
    const run = new SvmGuest("hlt\nhandler: pop rbx\npop rcx\nvmmcall", {
      vmcb: inject(
        3 << 8 | EventInfo.ErrorCodeValid | Vector.GP,
        0x18,
      ),
      setup: gate(Vector.GP, "handler"),
    });
    assertEquals(run.code, X.Vmmcall);
    assertEquals(run.machine.v.gpr(Gpr.RBX), 0x18n);
    assertEquals(run.machine.v.gpr(Gpr.RCX), run.label("guest"));
    assertEquals(
      run.vmcb.read32(Control.eventInjection) & EventInfo.Valid,
      0,
    );
    assertEquals(run.entered[0].injected & 0xff, Vector.GP);
  });

  it("returns from a software interrupt to nRIP", () => {
    const guest = "nop\nnop\nnext: hlt\nhandler: pop rcx\nvmmcall";
    const vmcb = (d: VmcbDraft, m: TestMachine) =>
      inject(4 << 8 | 0x55)(d).set(Control.nextRip, m.at("next"));
    const setup = gate(0x55, "handler");
    const run = new SvmGuest(guest, { vmcb, setup });
    assertEquals(run.machine.v.gpr(Gpr.RCX), run.label("next"));
    const old = new SvmGuest(guest, {
      vmcb,
      setup,
      model: "max-amd,-nrip-save",
    });
    assertEquals(old.machine.v.gpr(Gpr.RCX), old.label("guest"));
    assertEquals(old.vmcb.read(Control.nextRip), old.label("next"));
  });

  it("leaves CR2 to the VMCB and names itself when its delivery faults", () => {
    const run = new SvmGuest("hlt", {
      vmcb: (d) =>
        inject(3 << 8 | EventInfo.ErrorCodeValid | Vector.PF, 2)(d)
          .set(Save.cr2, 0xabc000).set32(Save.idtr + 4, 0)
          .intercept(B.Exception + Vector.DF),
    });
    assertEquals(run.code, X.Exception + Vector.DF);
    assertEquals(run.vmcb.read(Save.cr2), 0xabc000n);
    const np = new SvmGuest("hlt", {
      vmcb: (d) =>
        inject(0x40)(d).set32(Save.idtr + 4, 0)
          .intercept(B.Exception + Vector.GP),
    });
    assertEquals(np.code, X.Exception + Vector.GP);
    assertEquals(
      np.vmcb.read32(Control.exitIntInfo),
      (EventInfo.Valid | 0x40) >>> 0,
    );
  });
});
