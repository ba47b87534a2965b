/**
 * vmcs02: the VMCS in which L0 runs L2 for L1. Its guest state is vmcs12's; its
 * controls are vmcs12's with what L0 must add; its host state is L0's.
 *
 * L1's physical addresses are host-physical ones, so bitmaps and lists of L1
 * that L0 need not change are used in place.
 */
import { Efer } from "../../cpu/arch/flags.ts";
import {
  effectiveControls,
  Entry,
  Exit,
  Pin,
  Primary,
  Secondary,
  type Vmcs,
  VMCS_FIELDS,
  VmcsField as F,
} from "../vmx/api.ts";
import { type L0, vmcs12Of } from "./nested_state.ts";
import { eptpOf } from "./shadow.ts";
import { exitControls, setReadExits, VPID_L2_DEFAULT } from "./vmcs01.ts";

/** VMCS field type "guest state" (bits 11:10 of the encoding). */
const GUEST_TYPE = 2;
/** Control fields that go from vmcs12 as they are. */
const PASSED = [
  F.IoBitmapA,
  F.IoBitmapB,
  F.TscOffset,
  F.TscMultiplier,
  F.XssExitingBitmap,
  F.ExceptionBitmap,
  F.PageFaultErrorMask,
  F.PageFaultErrorMatch,
  F.Cr3TargetCount,
  F.Cr3Target0,
  F.Cr3Target1,
  F.Cr3Target2,
  F.Cr3Target3,
  F.Cr0Mask,
  F.Cr4Mask,
  F.Cr0Shadow,
  F.Cr4Shadow,
  F.EntryInterruptionInformation,
  F.EntryExceptionErrorCode,
  F.EntryInstructionLength,
] as const;

const COPIED = VMCS_FIELDS.filter((row) =>
  row.type === GUEST_TYPE ||
  (PASSED as readonly number[]).includes(row.encoding)
);

/** What of L1's state vmcs02 inherits where vmcs12 does not load it. */
export interface Inherited {
  readonly efer: number;
  readonly pat: bigint;
  readonly dr7: bigint;
  readonly debugctl: bigint;
}

/** L1's values, read while vmcs01 is current. */
export function inheritedFrom(l0: L0): Inherited {
  const { operations: ops } = l0;
  return {
    efer: Number(ops.vmread(F.GuestEfer)),
    pat: ops.vmread(F.GuestPat),
    dr7: ops.vmread(F.GuestDr7),
    debugctl: ops.vmread(F.GuestDebugctl),
  };
}

/** Fills vmcs02 (current) from vmcs12 for an entry that L1 asked for. */
export function buildVmcs02(l0: L0, inherited: Inherited): void {
  const { operations: ops, capabilities } = l0;
  const vmcs12 = vmcs12Of(l0);
  const c12 = effectiveControls(vmcs12);
  for (const row of COPIED) {
    if (!capabilities.fields.has(row.feature)) continue;
    ops.vmwrite(row.encoding, vmcs12.read(row.encoding));
  }
  if (!(c12.entry & Entry.LoadPat)) ops.vmwrite(F.GuestPat, inherited.pat);
  if (!(c12.entry & Entry.LoadDebugControls)) {
    ops.vmwrite(F.GuestDr7, inherited.dr7);
    ops.vmwrite(F.GuestDebugctl, inherited.debugctl);
  }
  ops.vmwrite(F.GuestEfer, BigInt(guestEfer(vmcs12, c12.entry, inherited)));
  // L1 as an executive monitor does not exist; a link pointer is checked on vmcs12.
  ops.vmwrite(F.VmcsLinkPointer, 0xffff_ffff_ffff_ffffn);

  const bitmap = mergeMsrBitmap(l0, vmcs12, c12.primary);
  ops.vmwrite(F.PinControls, BigInt(c12.pin));
  ops.vmwrite(
    F.PrimaryControls,
    BigInt((c12.primary | Primary.SecondaryControls) >>> 0),
  );
  const mbec = l0.extension?.offers.includes("vmx-mbec")
    ? Secondary.ModeBasedExecute
    : 0;
  ops.vmwrite(
    F.SecondaryControls,
    BigInt((c12.secondary & ~mbec | Secondary.Ept | Secondary.Vpid) >>> 0),
  );
  ops.vmwrite(F.MsrBitmaps, BigInt(bitmap));
  // An extension may intercept interrupts that L1 leaves to L2: those stay pending.
  const acknowledge = c12.pin & Pin.ExternalInterruptExiting
    ? c12.exit & Exit.AcknowledgeInterrupt
    : 0;
  // Saved always: it must go on, not start again, when L0 itself resumes L2.
  const timer = c12.pin & Pin.PreemptionTimer ? Exit.SavePreemptionTimer : 0;
  const exit = exitControls(capabilities) | acknowledge | timer;
  ops.vmwrite(F.ExitControls, BigInt(exit >>> 0));
  ops.vmwrite(
    F.EntryControls,
    BigInt(
      (c12.entry | Entry.LoadEfer | Entry.LoadPat |
        Entry.LoadDebugControls) >>> 0,
    ),
  );
  ops.vmwrite(
    F.Vpid,
    tagOf(c12.secondary & Secondary.Vpid ? vmcs12.read32(F.Vpid) : 0),
  );
  // MSRs of L1's entry list are loaded on this entry only, not when L0 resumes.
  ops.vmwrite(F.EntryMsrLoadAddress, vmcs12.read(F.EntryMsrLoadAddress));
  ops.vmwrite(F.EntryMsrLoadCount, vmcs12.read(F.EntryMsrLoadCount));
  if (c12.pin & Pin.PreemptionTimer) {
    ops.vmwrite(F.PreemptionTimer, vmcs12.read(F.PreemptionTimer));
  }
  if (!(c12.secondary & Secondary.Ept)) {
    ops.vmwrite(F.Eptp, eptpOf(l0.cells.ept01));
  }
}

/** L1's VPID, except that those L0 uses itself share one flushed tag. */
function tagOf(vpid12: number): bigint {
  return BigInt(
    vpid12 === 0 || vpid12 >= VPID_L2_DEFAULT ? VPID_L2_DEFAULT : vpid12,
  );
}

/** Fields of an entry that hold only once: cleared before L0 itself resumes L2. */
export function clearEntryEvents(l0: L0): void {
  const { operations: ops } = l0;
  ops.vmwrite(F.EntryInterruptionInformation, 0n);
  ops.vmwrite(F.EntryMsrLoadCount, 0n);
}

/** SDM 3C §27.3.2.1: EFER as vmcs12's entry controls give it. */
function guestEfer(
  vmcs12: Vmcs,
  entry: number,
  inherited: Inherited,
): number {
  if (entry & Entry.LoadEfer) return vmcs12.read32(F.GuestEfer);
  const long = (entry & Entry.Ia32eModeGuest) !== 0;
  const both = Efer.LMA | Efer.LME;
  if (long) return (inherited.efer | both) >>> 0;
  const paged = (vmcs12.read32(F.GuestCr0) & 0x80000000) !== 0;
  return (inherited.efer & ~(paged ? both : Efer.LMA)) >>> 0;
}

/** L1's MSR bitmap with L0's own exits added; L1's accesses all exit without one. */
function mergeMsrBitmap(l0: L0, vmcs12: Vmcs, primary: number): number {
  const { cells, cpu: { physical } } = l0;
  if (!(primary & Primary.MsrBitmaps)) return cells.msrBitmap02;
  physical.writeBytes(
    cells.msrBitmap02,
    physical.readBytes(Number(vmcs12.read(F.MsrBitmaps)), 4096),
  );
  setReadExits(l0, cells.msrBitmap02);
  return cells.msrBitmap02;
}
