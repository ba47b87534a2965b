/**
 * SVM beyond the world switch, through the whole machine: TSC offset and ratio,
 * ASIDs and TLB control (APM 2 §15.16), nested paging, VMLOAD and VMSAVE, branch
 * records, PAUSE filter, MSRs. Interrupts have interrupts_test.ts.
 */
import { assert, assertEquals, assertThrows } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { NotModelled } from "../../core/errors.ts";
import { Vector } from "../../cpu/arch/exceptions.ts";
import { Efer } from "../../cpu/arch/flags.ts";
import { DebugCtl, MsrSlot } from "../../cpu/arch/msr.ts";
import { Gpr, Seg } from "../../cpu/layout.ts";
import { readMsr, writeMsr } from "../../cpu/semantics/system/msr.ts";
import {
  PLACE,
  SELECTOR,
  setGate,
  TestMachine,
} from "../../tests/support/machine.ts";
import {
  InterceptBit as B,
  NestedControl,
  SvmMsr,
  TlbControl,
  VirtualExtension,
  VmCr,
} from "./controls.ts";
import { ExitCode as X } from "./exit_codes.ts";
import { AT, SvmGuest } from "./guest_testing.ts";
import { record } from "./lbr.ts";
import { svm } from "./plugin.ts";
import { Control, Save, SaveSegment } from "./vmcb.ts";
import type { VmcbDraft } from "./vmcb_testing.ts";

const gate = (vector: number, label: string) => (m: TestMachine): void =>
  setGate(m.hardware, vector, m.at(label));

describe("time", () => {
  it("is scaled, then offset, for the guest alone", () => {
    const run = new SvmGuest(
      "rdtsc\nshl rdx, 32\nlea rbx, [rdx + rax]\nvmmcall",
      {
        vmcb: (d) => d.set(Control.tscOffset, 1_000_000),
        setup: (m) => {
          assert(writeMsr(m.cpu, SvmMsr.TscRatio, 5n << 31n));
          assertEquals(writeMsr(m.cpu, SvmMsr.TscRatio, 1n << 40n), false);
        },
      },
    );
    const { v, cpu } = run.machine;
    // RDTSC was step 3 of the machine: 2.5 × 2 steps before it.
    assertEquals(v.gpr(Gpr.RBX), 1_000_005n);
    assertEquals(readMsr(cpu, 0x10), BigInt(v.step));
    assertEquals(
      readMsr(
        new TestMachine("hlt", {
          model: "max-amd",
          plugins: [{ plugin: svm }],
        }).cpu,
        SvmMsr.TscRatio,
      ),
      1n << 32n,
    );
  });
});

describe("ASIDs", () => {
  it("tag entries: one guest's survive the host and are not another's", () => {
    const run = new SvmGuest("mov rbx, [0x200000]\nvmmcall", {
      setup: ({ hardware: { physical } }) => {
        physical.writeU64(0x10_0000, 0x1111n);
        physical.writeU64(0x18_0000, 0x2222n);
        // 2 MiB + … maps to the first 2 MiB's upper half through 4-KiB pages.
        physical.writeU64(PLACE.tables + 0x2008, 0x70007n);
        physical.writeU64(0x70000, 0x10_0007n);
      },
    });
    const { physical } = run.machine.hardware;
    const { v } = run.machine;
    const rerun = (asid: number, tlb = 0): bigint => {
      run.vmcb.write(Save.rip, run.label("guest"));
      run.vmcb.write32(Control.asid, asid);
      run.vmcb.write32(Control.tlbControl, tlb);
      run.again();
      return v.gpr(Gpr.RBX);
    };
    assertEquals(v.gpr(Gpr.RBX), 0x1111n);
    physical.writeU64(0x70000, 0x18_0007n);
    assertEquals(rerun(1), 0x1111n, "stale");
    // Direct-mapped: ASID 2's entry now has the place of ASID 1's.
    assertEquals(rerun(2), 0x2222n, "another ASID walks");
    physical.writeU64(0x70000, 0x10_0007n);
    assertEquals(rerun(2), 0x2222n, "stale");
    assertEquals(rerun(2, TlbControl.FlushAsid), 0x1111n);
    physical.writeU64(0x70000, 0x18_0007n);
    assertEquals(rerun(2), 0x1111n, "stale again");
    assertEquals(rerun(2, TlbControl.FlushAll), 0x2222n);
  });

  it("can be named to INVLPGA", () => {
    const guest = "mov rbx, [0x200000]\nvmmcall";
    for (const [asid, fresh] of [[1, true], [2, false]] as const) {
      const run = new SvmGuest(guest, {
        before: `
          cmp qword [0x1000 + DATA], 0
          je first
          mov rax, 0x200000
          mov ecx, ${asid}
          invlpga rax, ecx
        first:
          inc qword [0x1000 + DATA]
          mov rax, ${AT.vmcb}`,
        setup: ({ hardware: { physical } }) => {
          physical.writeU64(0x10_0000, 0x1111n);
          physical.writeU64(0x18_0000, 0x2222n);
          physical.writeU64(PLACE.tables + 0x2008, 0x70007n);
          physical.writeU64(0x70000, 0x10_0007n);
        },
      });
      run.machine.hardware.physical.writeU64(0x70000, 0x18_0007n);
      run.vmcb.write(Save.rip, run.label("guest"));
      run.again();
      const expected = fresh ? 0x2222n : 0x1111n;
      assertEquals(run.machine.v.gpr(Gpr.RBX), expected, `ASID ${asid}`);
    }
  });
});

describe("nested paging", () => {
  const NPT = 0x40000;
  const on = (d: VmcbDraft, m: TestMachine): VmcbDraft => {
    const { physical } = m.hardware;
    physical.writeU64(NPT, BigInt(NPT + 0x1000) | 7n);
    physical.writeU64(NPT + 0x1000, BigInt(NPT + 0x2000) | 7n);
    physical.writeU64(NPT + 0x2000, 0x87n);
    return d.on(Control.nestedControl, NestedControl.Enable)
      .set(Control.nestedCr3, NPT);
  };

  it("exits with the fault, the address and the instruction", () => {
    const run = new SvmGuest("mov rax, 0x200008\nat: mov [rax], rbx\nvmmcall", {
      vmcb: on,
    });
    assertEquals(run.code, X.Npf);
    assertEquals(run.info1, 1n << 32n | 6n);
    assertEquals(run.info2, 0x200008n);
    assertEquals(run.vmcb.read(Save.rip), run.label("at"));
    assertEquals(run.vmcb.read32(Control.instructionBytes) >>> 8, 0x188948);
    assertEquals(run.vmcb.read8(Control.instructionBytes), 15);
    assertEquals(run.entered[0].nestedCr3, BigInt(NPT));
    // Fixed by the host, the guest goes on.
    run.machine.hardware.physical.writeU64(NPT + 0x2008, 0x87n);
    run.again();
    assertEquals(run.code, X.Vmmcall);
  });

  it("gives the guest a PAT of its own", () => {
    const run = new SvmGuest(
      "mov ecx, 0x277\nrdmsr\nmov rbx, rax\nmov eax, 6\nmov edx, 0\nwrmsr\nvmmcall",
      {
        vmcb: (d, m) => on(d, m).set(Save.guestPat, 0x0007_0406_0000_0001n),
      },
    );
    assertEquals(run.machine.v.gpr(Gpr.RBX), 1n);
    assertEquals(run.vmcb.read(Save.guestPat), 6n);
    assertEquals(run.machine.v.msr(MsrSlot.Pat), 0x0007_0406_0007_0406n);
  });

  it("translates VMSAVE's address where it is virtualized", () => {
    const text = "mov rax, 0x200000\nvmsave rax\nvmmcall";
    const virtual = (d: VmcbDraft, m: TestMachine): VmcbDraft =>
      on(d, m).set(Control.virtualExtensions, VirtualExtension.VmloadVmsave);
    const fault = new SvmGuest(text, { vmcb: virtual });
    assertEquals(fault.code, X.Npf);
    assertEquals(fault.info2, 0x200000n);
    const run = new SvmGuest(text, {
      vmcb: (d, m) => {
        virtual(d, m);
        m.hardware.physical.writeU64(NPT + 0x2008, 0x87n);
        m.v.setMsr(MsrSlot.Star, 0x1234n);
      },
    });
    assertEquals(run.code, X.Vmmcall);
    // Guest-physical 2 MiB is host-physical 0.
    assertEquals(run.machine.word(Save.star), 0x1234n);
  });
});

describe("VMLOAD and VMSAVE", () => {
  it("move the state that VMRUN leaves alone", () => {
    const m = new TestMachine(
      "mov rax, DATA\nvmload rax\nadd rax, 0x1000\nvmsave rax\nhlt",
      {
        model: "max-amd",
        plugins: [{ plugin: svm }],
        constants: { DATA: BigInt(AT.data) },
      },
    );
    m.v.efer |= Efer.SVME;
    const { physical } = m.hardware;
    const at = (offset: number): number => AT.data + offset;
    physical.writeU32(at(Save.fs), 0x0c93_0000 | SELECTOR.data);
    physical.writeU32(at(Save.fs + SaveSegment.limit), 0xffff_ffff);
    physical.writeU64(at(Save.fs + SaveSegment.base), 0x0100_0000_0000_0000n);
    physical.writeU32(at(Save.tr), 0x008b_0000 | SELECTOR.tss);
    physical.writeU32(at(Save.tr + SaveSegment.limit), 0x67);
    const msrs: [number, bigint][] = [
      [Save.star, 1n],
      [Save.lstar, 2n],
      [Save.cstar, 3n],
      [Save.sfmask, 4n],
      [Save.sysenterCs, 5n],
      [Save.sysenterEsp, 6n],
      [Save.sysenterEip, 7n],
      [Save.kernelGsBase, 8n],
    ];
    for (const [offset, value] of msrs) physical.writeU64(at(offset), value);
    m.run(10);
    for (const [offset, value] of msrs) {
      assertEquals(m.word(at(offset) + 0x1000), value);
    }
    // Bases become canonical.
    assertEquals(m.v.segBase(Seg.FS), 0xff00_0000_0000_0000n);
    assertEquals(m.v.segAttributes(Seg.FS), 0xc093);
    assertEquals(m.word(at(Save.fs) + 0x1000, 4), BigInt(0x0c93_0010));
    assertEquals(m.v.segAttributes(Seg.LDTR) & 0x1_0000, 0x1_0000);
  });
});

describe("branch records", () => {
  const branches = `
    jmp short there
    nop
    there: nop
    xor eax, eax
    jnz there
    jz taken
    nop
    taken: mov rbx, 1
    vmmcall`;

  it("keep the last branch taken", () => {
    const run = new SvmGuest(branches, {
      setup: (m) => m.v.setMsr(MsrSlot.DebugCtl, DebugCtl.LBR),
    });
    const { v, cpu } = run.machine;
    const taken = run.label("taken");
    assertEquals(record(v, 1), taken);
    assertEquals(record(v, 0), taken - 3n);
    assertEquals(readMsr(cpu, SvmMsr.LastBranchToIp), taken);
  });

  it("are the guest's own under LBR virtualization", () => {
    const run = new SvmGuest(branches, {
      vmcb: (d) =>
        d.set(Control.virtualExtensions, VirtualExtension.Lbr)
          .set(Save.debugCtl, 1).set(Save.lastExceptionTo, 0x99),
    });
    const { v } = run.machine;
    assertEquals(record(v, 1), 0n);
    assertEquals(v.msr(MsrSlot.DebugCtl), 0n);
    assertEquals(run.vmcb.read(Save.branchTo), run.label("taken"));
    assertEquals(run.vmcb.read(Save.debugCtl), 1n);
    assertEquals(run.vmcb.read(Save.lastExceptionTo), 0x99n);
  });

  it("tell an exception apart", () => {
    const run = new SvmGuest(
      "jmp short at\nnop\nat: ud2\nhandler: vmmcall",
      {
        setup: (m) => {
          gate(Vector.UD, "handler")(m);
          m.v.setMsr(MsrSlot.DebugCtl, DebugCtl.LBR);
        },
      },
    );
    const { v } = run.machine;
    assertEquals([record(v, 0), record(v, 1)], [
      run.label("at"),
      run.label("handler"),
    ]);
    assertEquals([record(v, 2), record(v, 3)], [
      run.label("guest"),
      run.label("at"),
    ]);
  });
});

describe("the PAUSE filter", () => {
  const pauses = (n: number): string => `${"pause\n".repeat(n)}vmmcall`;
  const filter = (count: number, threshold = 0) => (d: VmcbDraft): VmcbDraft =>
    d.intercept(B.Pause)
      .set32(Control.pauseThreshold, threshold | count << 16);

  it("lets its count pass", () => {
    assertEquals(new SvmGuest(pauses(3), { vmcb: filter(3) }).code, X.Vmmcall);
    assertEquals(new SvmGuest(pauses(4), { vmcb: filter(3) }).code, X.Pause);
    assertEquals(new SvmGuest(pauses(1), { vmcb: filter(0) }).code, X.Pause);
  });

  it("starts anew after a gap beyond the threshold", () => {
    const apart = `${`pause\n${"nop\n".repeat(8)}`.repeat(6)}vmmcall`;
    assertEquals(new SvmGuest(apart, { vmcb: filter(3, 5) }).code, X.Vmmcall);
    assertEquals(new SvmGuest(apart, { vmcb: filter(3, 50) }).code, X.Pause);
  });
});

describe("SVM's MSRs", () => {
  const fresh = (model = "max-amd"): TestMachine =>
    new TestMachine("hlt", { model, plugins: [{ plugin: svm }] });

  it("lock and disable", () => {
    const { cpu, v } = fresh();
    assertEquals(readMsr(cpu, SvmMsr.VmCr), 0n);
    assertEquals(writeMsr(cpu, SvmMsr.VmCr, 0x20n), false);
    assert(writeMsr(cpu, 0xc0000080, BigInt(v.efer | Efer.SVME)));
    assertEquals(writeMsr(cpu, SvmMsr.VmCr, VmCr.SvmDisable), false);
    assert(writeMsr(cpu, 0xc0000080, BigInt(v.efer & ~Efer.SVME)));
    assert(writeMsr(cpu, SvmMsr.VmCr, VmCr.SvmDisable | VmCr.Lock));
    assertEquals(writeMsr(cpu, 0xc0000080, BigInt(v.efer | Efer.SVME)), false);
    assert(writeMsr(cpu, SvmMsr.VmCr, 0n));
    assertEquals(readMsr(cpu, SvmMsr.VmCr), VmCr.SvmDisable | VmCr.Lock);
    assertThrows(() => writeMsr(cpu, SvmMsr.VmCr, VmCr.RInit), NotModelled);
  });

  it("take a page for the host's state", () => {
    const { cpu } = fresh();
    assert(writeMsr(cpu, SvmMsr.VmHsavePa, 0x5000n));
    assertEquals(readMsr(cpu, SvmMsr.VmHsavePa), 0x5000n);
    assertEquals(writeMsr(cpu, SvmMsr.VmHsavePa, 0x5010n), false);
    assertEquals(writeMsr(cpu, SvmMsr.VmHsavePa, 1n << 52n), false);
  });

  it("depend on the model", () => {
    const { cpu } = fresh("max-amd,-tsc-scale,-lbrv");
    assertEquals(readMsr(cpu, SvmMsr.TscRatio), undefined);
    assertEquals(readMsr(cpu, SvmMsr.LastBranchToIp), undefined);
    assertEquals(writeMsr(cpu, SvmMsr.TscRatio, 0n), false);
  });
});
