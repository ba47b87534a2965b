/**
 * The host's side of SVM by an owner (design §8): a small owner starts the guest
 * image before step 0, completes its CPUIDs, and meets a VMEXIT_INVALID; steps
 * and retires stay as natively.
 */
import { assert, assertEquals, assertThrows } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { ConfigError } from "../../core/errors.ts";
import { definePlugin } from "../../core/mod.ts";
import { Efer, SegmentRights as R } from "../../cpu/arch/flags.ts";
import type { CpuContext } from "../../cpu/context.ts";
import { CpuRetired, RegWrote } from "../../cpu/facts.ts";
import { HardwareAccess } from "../../cpu/hardware.ts";
import { Gpr, GuestMode, Seg } from "../../cpu/layout.ts";
import { TestMachine } from "../../tests/support/machine.ts";
import {
  SvmEntered,
  SvmEntryFailed,
  SvmExited,
  SvmMsr,
  SvmRoot,
  type SvmRootOperations,
} from "./api.ts";
import { InterceptBit as B } from "./controls.ts";
import { ExitCode as X } from "./exit_codes.ts";
import { svm } from "./plugin.ts";
import { Control, Save, Vmcb } from "./vmcb.ts";
import { longGuest } from "./vmcb_testing.ts";

const HSAVE = 0x100000;
const VMCB = 0x101000;

function start(cpu: CpuContext, ops: SvmRootOperations, asid: number): void {
  const { v, physical } = cpu;
  assert(ops.wrmsr(0xc0000080, BigInt(v.efer | Efer.SVME)));
  assert(ops.wrmsr(SvmMsr.VmHsavePa, BigInt(HSAVE)));
  assertEquals(ops.wrmsr(SvmMsr.VmHsavePa, 1n), false);
  assertEquals(ops.rdmsr(SvmMsr.VmHsavePa), BigInt(HSAVE));
  const rights = v.segAttributes(Seg.CS);
  assert(rights & R.Long);
  longGuest(v.cr3).intercept(B.Cpuid).intercept(B.Hlt)
    .set32(Control.asid, asid)
    .set(Save.rip, v.rip).set(Save.rsp, v.gpr(Gpr.RSP))
    .store(physical, VMCB);
  ops.vmsave(VMCB);
  ops.vmload(VMCB);
  ops.invlpga(1, 0n);
  ops.vmrun(VMCB);
}

interface Seen {
  readonly codes: number[];
}

function owner(seen: Seen, asid: number) {
  return definePlugin({
    name: "test-owner",
    version: "1.0.0",
    doc: "completes CPUID, stops at HLT",
    role: "participant",
    needs: { hardware: HardwareAccess, root: SvmRoot },
    setup({ use: { hardware, root } }) {
      root.bind({
        onExit(cpu, ops) {
          const vmcb = new Vmcb(cpu.physical, VMCB);
          const code = Number(BigInt.asIntN(64, vmcb.read(Control.exitCode)));
          seen.codes.push(code);
          assertEquals(cpu.v.guestMode, GuestMode.None);
          if (code === X.Invalid) vmcb.write32(Control.asid, 1);
          else if (code === X.Cpuid) {
            cpu.v.setGpr(Gpr.RBX, 0x1234n);
            ops.retired(vmcb.read(Save.rip));
            vmcb.write(Save.rip, vmcb.read(Control.nextRip));
          } else return;
          ops.vmrun(VMCB);
        },
      });
      assertThrows(() => root.bind({ onExit: () => {} }), ConfigError, "owner");
      hardware.onStart(() => {
        const cpu = hardware.cpus[0];
        start(cpu, root.operations(cpu), asid);
      });
      return undefined;
    },
  });
}

function run(asid: number) {
  const seen: Seen = { codes: [] };
  const m = new TestMachine("mov ecx, 7\ncpuid\nmov rdx, rbx\nhlt", {
    model: "max-amd",
    plugins: [{ plugin: svm }, { plugin: owner(seen, asid) }],
  });
  const retired = m.collect(CpuRetired);
  const wrote = m.collect(RegWrote);
  const entered = m.collect(SvmEntered);
  const exited = m.collect(SvmExited);
  const failed = m.collect(SvmEntryFailed);
  m.run(100);
  return { m, seen, retired, wrote, entered, exited, failed };
}

describe("the root owner of SVM", () => {
  it("runs the image as its guest, one step for each instruction", () => {
    const { m, seen, retired, wrote, entered, exited } = run(1);
    assertEquals(seen.codes, [X.Cpuid, X.Hlt]);
    assertEquals(retired.length, 3);
    assertEquals(m.v.step, 3);
    assertEquals(
      wrote.map((w) => [w.register, w.value]),
      [[Gpr.RCX, 7n], [Gpr.RBX, 0x1234n], [Gpr.RDX, 0x1234n]],
    );
    assert(entered.every((e) => e.owner) && exited.every((e) => e.owner));
    assertEquals(entered.length, 2);
  });

  it("meets VMEXIT_INVALID as another call", () => {
    const { seen, failed } = run(0);
    assertEquals(seen.codes, [X.Invalid, X.Cpuid, X.Hlt]);
    assertEquals(failed.map((f) => f.owner), [true]);
  });
});
