/**
 * VMX root operation by an owner in place of HOST_RIP (design §8): a small
 * owner starts the guest image as L1 before step 0, completes its CPUIDs, and
 * meets a failed VM entry; steps and facts stay as natively.
 */
import { assert, assertEquals, assertThrows } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { ConfigError } from "../../core/errors.ts";
import { definePlugin } from "../../core/mod.ts";
import { Cr0, Cr4, Efer } from "../../cpu/arch/flags.ts";
import { MsrSlot } from "../../cpu/arch/msr.ts";
import type { CpuContext } from "../../cpu/context.ts";
import { CpuRetired, RegWrote } from "../../cpu/facts.ts";
import { HardwareAccess } from "../../cpu/hardware.ts";
import { Gpr, GuestMode } from "../../cpu/layout.ts";
import { TestMachine } from "../../tests/support/machine.ts";
import {
  type RootOperations,
  VMFAIL_INVALID,
  VmxEntryFailed,
  VmxExited,
  VmxRoot,
} from "./api.ts";
import { capabilitiesOf } from "./capabilities.ts";
import { Entry, Exit, Primary } from "./controls.ts";
import { GUEST_SEGMENTS } from "./entry_checks_segments.ts";
import { ENTRY_FAILURE, ExitReason } from "./exit_reasons.ts";
import { vmx } from "./plugin.ts";
import { VmcsField as F } from "./vmcs_fields.ts";

const VMXON_REGION = 0x100000;
const VMCS_REGION = 0x101000;

/** Copies the vCPU's state into the guest-state area and makes it a host. */
function start(cpu: CpuContext, ops: RootOperations, broken: boolean): void {
  const { v, physical, model } = cpu;
  const c = capabilitiesOf(model);
  for (const region of [VMXON_REGION, VMCS_REGION]) {
    physical.writeU32(region, model.vmcsRevision);
  }
  v.setMsr(MsrSlot.FeatureControl, 5n);
  assertEquals(ops.vmxon(VMXON_REGION), VMFAIL_INVALID); // CR4.VMXE is 0
  v.cr4 |= Cr4.VMXE;
  assertEquals(ops.vmxon(VMXON_REGION), 0);
  assertThrows(() => ops.vmread(F.GuestRip), RangeError, "vmptrld");
  assertEquals(ops.vmclear(VMCS_REGION), 0);
  assertEquals(ops.vmptrld(VMCS_REGION), 0);
  assertEquals(ops.vmptrst(), VMCS_REGION);
  const set = (field: number, value: bigint | number): void =>
    ops.vmwrite(field, BigInt(value));
  assertThrows(() => set(F.ExitReason, 0), RangeError, "read-only");
  assertThrows(() => set(0x7ffe, 0), RangeError, "no such field");
  set(F.PinControls, c.pin.must1);
  set(F.PrimaryControls, (c.primary.must1 | Primary.HltExiting) >>> 0);
  set(F.ExitControls, c.exit.must1 | Exit.HostAddressSpaceSize);
  set(F.EntryControls, c.entry.must1 | Entry.Ia32eModeGuest);
  set(F.VmcsLinkPointer, 0xffff_ffff_ffff_ffffn);
  for (const f of [F.GuestCr0, F.HostCr0]) set(f, v.cr0);
  for (const f of [F.GuestCr3, F.HostCr3]) set(f, v.cr3);
  for (const f of [F.GuestCr4, F.HostCr4]) set(f, v.cr4);
  set(F.Cr4Mask, Cr4.VMXE);
  GUEST_SEGMENTS.forEach((s, i) => {
    const value = v.segment(i);
    set(s.selector, value.selector);
    set(s.base, value.base);
    set(s.limit, value.limit);
    set(s.attributes, value.attributes);
  });
  set(F.GuestGdtrBase, v.gdtrBase);
  set(F.GuestGdtrLimit, v.gdtrLimit);
  set(F.GuestIdtrBase, v.idtrBase);
  set(F.GuestIdtrLimit, v.idtrLimit);
  set(F.GuestRip, v.rip);
  set(F.GuestRsp, v.gpr(Gpr.RSP));
  set(F.GuestRflags, broken ? 0 : v.rflags);
  set(F.GuestDr7, 0x400);
  set(F.HostCsSelector, 8);
  set(F.HostTrSelector, 16);
  assertEquals(ops.resume(), 0);
}

/** Exit reasons as the owner saw them. */
interface Seen {
  readonly reasons: number[];
  stop: boolean;
}

function owner(seen: Seen, broken: boolean) {
  return definePlugin({
    name: "owner",
    version: "1.0.0",
    doc: "Test owner of VMX root operation",
    role: "participant",
    needs: { hardware: HardwareAccess, root: VmxRoot },
    setup({ use: { hardware, root }, stop }) {
      root.bind({
        onExit(cpu, ops) {
          const { v } = cpu;
          assertEquals(v.guestMode, GuestMode.None);
          const reason = Number(ops.vmread(F.ExitReason));
          seen.reasons.push(reason);
          if (reason & ENTRY_FAILURE) {
            ops.vmwrite(F.GuestRflags, 2n);
            assertEquals(ops.resume(), 0);
            return;
          }
          if (reason !== ExitReason.Cpuid) {
            stop("the owner stopped", 0);
            return;
          }
          const rip = ops.vmread(F.GuestRip);
          const length = ops.vmread(F.ExitInstructionLength);
          for (const r of [Gpr.RAX, Gpr.RBX, Gpr.RCX, Gpr.RDX]) {
            v.setGpr(r, BigInt(0x100 + r));
          }
          ops.vmwrite(F.GuestRip, rip + length);
          ops.retired(rip);
          assertEquals(ops.resume(), 0);
        },
      });
      assertThrows(() => root.bind({ onExit: () => {} }), ConfigError);
      hardware.onStart(() => {
        const cpu = hardware.cpus[0];
        start(cpu, root.operations(cpu), broken);
      });
      return undefined;
    },
  });
}

const PROGRAM = `
  mov eax, 5
here:
  cpuid
  add eax, ebx
  mov r8, cr4
  hlt
`;

function run(broken: boolean) {
  const seen: Seen = { reasons: [], stop: false };
  const machine = new TestMachine(PROGRAM, {
    plugins: [{ plugin: vmx }, { plugin: owner(seen, broken) }],
  });
  const retired = machine.collect(CpuRetired);
  const wrote = machine.collect(RegWrote);
  const exits = machine.collect(VmxExited);
  const failed = machine.collect(VmxEntryFailed);
  const end = machine.run(1000);
  return { machine, seen, retired, wrote, exits, failed, end };
}

describe("a root owner", () => {
  it("runs the image as L1 and completes instructions as one step each", () => {
    const r = run(false);
    assertEquals(r.seen.reasons, [ExitReason.Cpuid, ExitReason.Hlt]);
    assertEquals(r.end.kind, "stopped");
    const here = BigInt(r.machine.at("here"));
    // MOV, CPUID, ADD, MOV: HLT exits and does not retire.
    assertEquals(r.retired.length, 4);
    assertEquals(r.retired[1].rip, here);
    assertEquals(r.machine.v.step, 4);
    assertEquals(
      r.wrote.slice(1, 5).map((w) => [w.register, w.value]),
      [[0, 0x100n], [1, 0x101n], [2, 0x102n], [3, 0x103n]],
    );
    assertEquals(r.machine.v.gpr(Gpr.RAX), 0x203n);
    assert(r.exits.every((e) => e.owner));
    // The mask hides VMXE from L1.
    assertEquals(r.machine.v.gpr(Gpr.R8), BigInt(Cr4.PAE));
    assertEquals(r.machine.v.efer & Efer.LMA, Efer.LMA);
    assert(r.machine.v.cr0 & Cr0.PG);
  });

  it("is called again after a failed VM entry", () => {
    const r = run(true);
    const failure = (ExitReason.EntryFailureGuestState | ENTRY_FAILURE) >>> 0;
    assertEquals(r.seen.reasons[0], failure);
    assertEquals(r.seen.reasons.slice(1), [ExitReason.Cpuid, ExitReason.Hlt]);
    assertEquals(r.failed.map((f) => [f.reason, f.owner]), [[failure, true]]);
  });
});
