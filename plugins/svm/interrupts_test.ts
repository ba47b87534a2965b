/**
 * GIF and what it holds (APM 2 §15.17), virtual interrupts and virtual NMIs
 * (§15.21), through the whole machine.
 */
import { assert, assertEquals } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { Vector } from "../../cpu/arch/exceptions.ts";
import { Cr4, Efer, Rflags } from "../../cpu/arch/flags.ts";
import { EventRequest, Gpr, VCPU } from "../../cpu/layout.ts";
import { setGate, TestMachine } from "../../tests/support/machine.ts";
import { IntCtl, InterceptBit as B } from "./controls.ts";
import { ExitCode as X } from "./exit_codes.ts";
import { SvmGuest } from "./guest_testing.ts";
import { TaskSource } from "../../cpu/semantics/system/task.ts";
import { svm } from "./plugin.ts";
import { hasFlag, SCRATCH, SvmFlag } from "./scratch.ts";
import { Control, Save } from "./vmcb.ts";
import type { VmcbDraft } from "./vmcb_testing.ts";

const gate = (vector: number, label: string) => (m: TestMachine): void =>
  setGate(m.hardware, vector, m.at(label));
const request = (m: TestMachine, event: number): void =>
  m.hardware.request(0, event);
const intCtl = (bits: number, vector = 0) => (d: VmcbDraft): VmcbDraft =>
  d.set32(Control.intCtl, bits).set32(Control.intVector, vector);
const PRIORITY = 15 << IntCtl.PriorityShift;

describe("GIF", () => {
  const QUIRK = "max-amd,+kvm-gif-breakpoints";

  for (const model of ["max-amd", QUIRK]) {
    it(`holds NMIs until STGI on ${model}`, () => {
      const m = new TestMachine(
        "clgi\nmov rbx, 1\nmov rbx, 2\nstgi\nhlt\nhandler: hlt",
        { model, plugins: [{ plugin: svm }] },
      );
      m.v.efer |= Efer.SVME;
      gate(Vector.NMI, "handler")(m);
      m.run(1);
      request(m, EventRequest.Nmi);
      m.run(100);
      assertEquals(m.v.gpr(Gpr.RBX), 2n);
      assertEquals(m.v.rip, BigInt(m.at("handler") + 1));
      assert(!hasFlag(m.v, SvmFlag.GifClear));
    });
  }

  // DR7's R/W field, and where the handler is told to return: a fault's
  // instruction, or the one after a trap's.
  const MATCHES = [
    { what: "instruction", dr0: "at", dr7: 0x402n, back: "at" },
    { what: "data", dr0: "data", dr7: 0x10402n, back: "next" },
    { what: "I/O", dr0: "PORT", dr7: 0x20402n, back: "after" },
  ] as const;
  const PORT = 0x2ff;
  const cases = [
    { gif: "stgi", model: "max-amd", met: true },
    { gif: "clgi", model: "max-amd", met: false },
    { gif: "clgi", model: QUIRK, met: true },
  ];
  for (const { gif, model, met } of cases) {
    const machine = (): TestMachine => {
      const m = new TestMachine(
        `${gif}
        at: mov [data], al
        next: out dx, al
        after: hlt
        handler: mov rbx, [rsp]
        mov rcx, dr6
        hlt
        data: dq 0`,
        { model, plugins: [{ plugin: svm }] },
      );
      m.v.efer |= Efer.SVME;
      m.v.cr4 |= Cr4.DE;
      m.v.setGpr(Gpr.RDX, BigInt(PORT));
      gate(Vector.DB, "handler")(m);
      return m;
    };
    const does = met ? "takes" : "discards";
    for (const { what, dr0, dr7, back } of MATCHES) {
      it(`${does} ${what} breakpoints after ${gif} on ${model}`, () => {
        const m = machine();
        m.v.setDr(0, BigInt(dr0 === "PORT" ? PORT : m.at(dr0)));
        m.v.setDr(7, dr7);
        m.run(50);
        const end = met ? m.at("data") : m.at("handler");
        assertEquals(m.v.rip, BigInt(end));
        assertEquals(m.v.gpr(Gpr.RBX), BigInt(met ? m.at(back) : 0));
        assertEquals(m.v.gpr(Gpr.RCX) & 0xfn, met ? 1n : 0n);
      });
    }

    it(`takes single steps after ${gif} on ${model}`, () => {
      const m = machine();
      m.run(1);
      m.v.rflags |= Rflags.TF;
      m.run(50);
      assertEquals(m.v.gpr(Gpr.RBX), BigInt(m.at("next")));
      assertEquals(m.v.gpr(Gpr.RCX) & 0xf00fn, 0x4000n);
    });
  }

  it("is 0 after a #VMEXIT; an intercepted NMI waits for the host's STGI", () => {
    const run = new SvmGuest("jmp guest", {
      vmcb: (d) => d.intercept(B.Nmi),
      after: "mov rbx, 1\nstgi\nhlt\nhandler: mov rcx, 2\nhlt",
      setup: (m) => {
        gate(Vector.NMI, "handler")(m);
        request(m, EventRequest.Nmi);
        // Held by GIF = 0 before VMRUN, which sets GIF.
        m.v.setWord(SCRATCH.flags, SvmFlag.GifClear);
      },
    });
    assertEquals(run.code, X.Nmi);
    assertEquals(run.vmcb.read(Save.rip), run.label("guest"));
    assertEquals(run.machine.v.gpr(Gpr.RBX), 1n);
    assertEquals(run.machine.v.gpr(Gpr.RCX), 2n);
  });

  it("is virtual where the VMCB says so", () => {
    const text = "clgi\nvmmcall\nstgi\nvmmcall";
    const run = new SvmGuest(text, {
      vmcb: intCtl(IntCtl.GifEnable | IntCtl.Gif),
    });
    assertEquals(run.vmcb.read32(Control.intCtl) & IntCtl.Gif, 0);
    run.vmcb.write(Save.rip, run.vmcb.read(Control.nextRip));
    run.again();
    assertEquals(run.vmcb.read32(Control.intCtl) & IntCtl.Gif, IntCtl.Gif);
  });

  it("lets an INIT that nobody intercepts end guest mode", () => {
    const run = new SvmGuest("jmp guest", {
      setup: (m) => {
        request(m, EventRequest.Init);
        m.v.setWord(SCRATCH.flags, SvmFlag.GifClear);
      },
    });
    const { v } = run.machine;
    assertEquals(run.entered.length, 1);
    assertEquals(run.exited, []);
    assertEquals([v.guestMode, v.efer, v.word(VCPU.tlbTag)], [0, 0, 0]);
  });

  it("holds INIT and SMI, which can be intercepted", () => {
    for (
      const [event, bit, code] of [
        [EventRequest.Init, B.Init, X.Init],
        [EventRequest.Smi, B.Smi, X.Smi],
      ]
    ) {
      const run = new SvmGuest("jmp guest", {
        vmcb: (d) => d.intercept(bit),
        setup: (m) => {
          request(m, event);
          m.v.setWord(SCRATCH.flags, SvmFlag.GifClear);
        },
      });
      assertEquals(run.code, code);
      // Still latched, and held: GIF is 0.
      assertEquals(run.machine.v.eventRequest & event, event);
      assertEquals(run.machine.v.rip, run.label("exit") + 1n);
    }
  });
});

describe("virtual interrupts", () => {
  const guest = "nop\nsti\nnop\nnop\nvmmcall\nhandler: pop rcx\nvmmcall";
  const setup = gate(0x55, "handler");

  it("are taken when IF, shadow and priority allow, once", () => {
    const run = new SvmGuest(guest, {
      vmcb: intCtl(IntCtl.Irq | PRIORITY, 0x55),
      setup,
    });
    // After STI's shadow: the NOP that follows it has run.
    assertEquals(run.machine.v.gpr(Gpr.RCX), run.label("guest") + 3n);
    assertEquals(run.vmcb.read32(Control.intCtl), PRIORITY);
  });

  it("wait behind V_TPR unless V_IGN_TPR", () => {
    const low = 3 << IntCtl.PriorityShift | 3 | IntCtl.Irq;
    for (
      const [bits, taken] of [
        [low, false],
        [low | IntCtl.IgnoreTpr, true],
        [low + (1 << IntCtl.PriorityShift), true],
      ] as const
    ) {
      const run = new SvmGuest(guest, { vmcb: intCtl(bits, 0x55), setup });
      assertEquals(run.machine.v.gpr(Gpr.RCX) !== 0n, taken, String(bits));
      const left = run.vmcb.read32(Control.intCtl) & IntCtl.Irq;
      assertEquals(left === 0, taken);
    }
  });

  it("exit under the VINTR intercept, pending still", () => {
    const run = new SvmGuest(guest, {
      vmcb: (d) => intCtl(IntCtl.Irq | PRIORITY, 0x55)(d).intercept(B.Vintr),
      setup,
    });
    assertEquals(run.code, X.Vintr);
    assertEquals(run.vmcb.read(Save.rip), run.label("guest") + 3n);
    assertEquals(
      run.vmcb.read32(Control.intCtl) & IntCtl.Irq,
      IntCtl.Irq,
    );
  });

  it("respect the VMCB's interrupt shadow and V_GIF", () => {
    const shadowed = new SvmGuest(guest, {
      vmcb: (d) =>
        intCtl(IntCtl.Irq | PRIORITY, 0x55)(d).set(Save.rflags, 0x202)
          .set32(Control.interruptShadow, 1),
      setup,
    });
    assertEquals(
      shadowed.machine.v.gpr(Gpr.RCX),
      shadowed.label("guest") + 1n,
    );
    assertEquals(shadowed.vmcb.read32(Control.interruptShadow), 0);
    const held = new SvmGuest(guest, {
      vmcb: intCtl(IntCtl.Irq | PRIORITY | IntCtl.GifEnable, 0x55),
      setup,
    });
    assertEquals(held.machine.v.gpr(Gpr.RCX), 0n);
  });

  it("keep the shadow of an instruction that exits", () => {
    const run = new SvmGuest("sti\ncpuid", {
      vmcb: (d) => d.intercept(B.Cpuid),
    });
    assertEquals(run.vmcb.read32(Control.interruptShadow), 1);
    const own = new SvmGuest("sti\nvmmcall");
    assertEquals(own.vmcb.read32(Control.interruptShadow), 1);
  });

  it("have a TPR of their own under V_INTR_MASKING", () => {
    const run = new SvmGuest(
      "mov rbx, cr8\nmov rax, 9\nmov cr8, rax\nvmmcall",
      { vmcb: intCtl(IntCtl.IntrMasking | 5) },
    );
    assertEquals(run.machine.v.gpr(Gpr.RBX), 5n);
    assertEquals(run.vmcb.read32(Control.intCtl), IntCtl.IntrMasking | 9);
  });

  it("share CR8 with the APIC without V_INTR_MASKING", () => {
    const run = new SvmGuest(
      "mov rax, 9\nmov cr8, rax\nmov rbx, cr8\nvmmcall",
      {
        vmcb: intCtl(5),
      },
    );
    // Read where it was written: from the interrupt controller.
    assertEquals(run.machine.v.gpr(Gpr.RBX), 9n);
    assertEquals(run.vmcb.read32(Control.intCtl), 9);
    const host = new TestMachine("mov rax, 9\nmov cr8, rax\nhlt", {
      model: "max-amd",
      plugins: [{ plugin: svm }],
    });
    host.run(10);
    assertEquals(host.v.word(SCRATCH.intCtl), 0);
  });

  it("wake a halted guest", () => {
    const run = new SvmGuest("sti\nhlt\nvmmcall\nhandler: pop rcx\nvmmcall", {
      vmcb: intCtl(IntCtl.Irq | PRIORITY, 0x55),
      setup,
    });
    assertEquals(run.machine.v.gpr(Gpr.RCX), run.label("guest") + 2n);
  });
});

describe("virtual NMIs", () => {
  const vmcb = (d: VmcbDraft): VmcbDraft =>
    intCtl(IntCtl.NmiEnable | IntCtl.Nmi)(d).intercept(B.Nmi);
  const setup = gate(Vector.NMI, "handler");

  it("are taken once, and block until IRET", () => {
    const guest = "hlt\nback: vmmcall\nhandler: mov rcx, [rsp]\nvmmcall\niretq";
    const run = new SvmGuest(guest, { vmcb, setup });
    assertEquals(run.machine.v.gpr(Gpr.RCX), run.label("guest"));
    const blocked = IntCtl.NmiEnable | IntCtl.NmiMask;
    assertEquals(run.vmcb.read32(Control.intCtl), blocked);
    run.vmcb.write(Save.rip, run.vmcb.read(Control.nextRip));
    run.vmcb.write(Save.rsp, run.vmcb.read(Save.rsp));
    // A second one waits for the IRET.
    run.vmcb.write32(Control.intCtl, blocked | IntCtl.Nmi);
    run.machine.v.setGpr(Gpr.RCX, 0n);
    run.again();
    assertEquals(run.machine.v.gpr(Gpr.RCX), run.label("guest"));
    assertEquals(run.vmcb.read32(Control.intCtl), blocked);
  });
});

describe("virtual NMIs and physical ones", () => {
  it("come in the other order", () => {
    const run = new SvmGuest("jmp guest\nhandler: vmmcall", {
      vmcb: (d) => intCtl(IntCtl.NmiEnable | IntCtl.Nmi)(d).intercept(B.Nmi),
      setup: (m) => {
        gate(Vector.NMI, "handler")(m);
        request(m, EventRequest.Nmi);
        m.v.setWord(SCRATCH.flags, SvmFlag.GifClear);
      },
    });
    assertEquals(run.code, X.Nmi);
    assertEquals(run.vmcb.read(Save.rip), run.label("guest"));
    const left = run.vmcb.read32(Control.intCtl);
    assertEquals(left, IntCtl.NmiEnable | IntCtl.Nmi);
  });
});

describe("what the loop asks of the port", () => {
  /** A guest that spins. */
  const spinning = (vmcb: (d: VmcbDraft) => unknown, before = ""): SvmGuest =>
    new SvmGuest("jmp guest", { vmcb, before });
  const portOf = (run: SvmGuest) => run.machine.cpu.virtualization!;

  it("INTR exits under its intercept, unacknowledged", () => {
    const run = spinning((d) => d.intercept(B.Intr));
    assert(portOf(run).interceptInterrupt(run.machine.cpu));
    assertEquals(run.code, X.Intr);
    assertEquals(run.vmcb.read(Save.rip), run.label("guest"));
    const other = spinning((d) => d);
    assert(!portOf(other).interceptInterrupt(other.machine.cpu));
  });

  it("INTR is let in by the guest's IF, under V_INTR_MASKING by the host's", () => {
    const mask = intCtl(IntCtl.IntrMasking);
    for (
      const [vmcb, before, open] of [
        [(d: VmcbDraft) => d, "sti", false],
        [(d: VmcbDraft) => d.set(Save.rflags, 0x202), "", true],
        [mask, "sti", true],
        [(d: VmcbDraft) => mask(d).set(Save.rflags, 0x202), "", false],
      ] as const
    ) {
      const run = spinning(vmcb, before);
      assertEquals(portOf(run).interruptsOpen?.(run.machine.cpu), open);
    }
  });

  it("a task switch reports selector, cause, error code and RF", () => {
    const ask = (source: number, errorCode: number, rf = 0): bigint => {
      const run = spinning((d) => d.intercept(B.TaskSwitch));
      const { cpu, v } = run.machine;
      v.rflags |= rf;
      cpu.delivering = errorCode < 0 ? undefined : {
        vector: Vector.DF,
        type: 3,
        errorCode,
        instructionLength: 0,
      };
      assert(portOf(run).interceptTaskSwitch(cpu, 0x38, source));
      assertEquals(run.code, X.TaskSwitch);
      assertEquals(run.info1, 0x38n);
      return run.info2;
    };
    assertEquals(ask(TaskSource.Call, -1), 0n);
    assertEquals(ask(TaskSource.Iret, -1), 1n << 36n);
    assertEquals(ask(TaskSource.Jump, -1, Rflags.RF), 1n << 38n | 1n << 48n);
    assertEquals(ask(TaskSource.Gate, 0x123), 1n << 44n | 0x123n);
    const run = spinning((d) => d);
    assert(!portOf(run).interceptTaskSwitch(run.machine.cpu, 0x38, 0));
  });
});
