/**
 * Escalation traps of the user view (reference §1.3, VMX column). While L2 is at
 * CPL 3 they make every way into supervisor mode exit:
 *
 * - `trap-all`: EFER.SCE = 0 (SYSCALL → #UD), SYSENTER_CS = 0 (→ #GP), IDT
 *   limit 0 (INT n → #GP), every exception, interrupts and NMIs; call-gate
 *   targets are withheld from the user view, so that their first fetch exits,
 *   and while NMIs are blocked the IDT's targets too;
 * - `entry-page-nx`: every supervisor entry point's page is withheld.
 *
 * Invariant: `disarm` restores exactly what `arm` changed, so that vmcs02 never
 * shows trap state when L1 gets to see it.
 */
import { Efer } from "../../cpu/arch/flags.ts";
import { Interruptibility } from "../../cpu/layout.ts";
import type { NestedContext } from "../hypervisor/api.ts";
import {
  effectiveControls,
  Pin,
  Primary,
  Secondary,
  VmcsField as F,
} from "../vmx/api.ts";

/** Real values that armed traps hide; cells. */
export interface TrapCells {
  armed: boolean;
  idtrLimit: number;
  efer: number;
  sysenterCs: number;
}

/** Sets the traps of strategy `trap-all`. */
export function arm(context: NestedContext, cells: TrapCells): void {
  if (cells.armed) return;
  const { operations: ops, vmcs12 } = context;
  const c12 = effectiveControls(vmcs12);
  cells.armed = true;
  cells.idtrLimit = Number(ops.vmread(F.GuestIdtrLimit));
  cells.efer = Number(ops.vmread(F.GuestEfer));
  cells.sysenterCs = Number(ops.vmread(F.GuestSysenterCs));
  ops.vmwrite(F.GuestIdtrLimit, 0n);
  ops.vmwrite(F.GuestEfer, BigInt((cells.efer & ~Efer.SCE) >>> 0));
  ops.vmwrite(F.GuestSysenterCs, 0n);
  ops.vmwrite(F.ExceptionBitmap, 0xffff_ffffn);
  ops.vmwrite(F.PageFaultErrorMask, 0n);
  ops.vmwrite(F.PageFaultErrorMatch, 0n);
  const pin = c12.pin | Pin.ExternalInterruptExiting |
    (nmiBlocked(context) ? 0 : Pin.NmiExiting);
  ops.vmwrite(F.PinControls, BigInt(pin >>> 0));
  const secondary = Number(ops.vmread(F.SecondaryControls));
  ops.vmwrite(
    F.SecondaryControls,
    BigInt((secondary | Secondary.DescriptorTableExiting) >>> 0),
  );
}

/**
 * NMIs are blocked for L2. They are not intercepted then, because with "NMI
 * exiting" IRET would leave them blocked (SDM 3C §26.3); the handler's page is
 * withheld instead.
 */
export function nmiBlocked(context: NestedContext): boolean {
  const blocking = Number(context.operations.vmread(F.GuestInterruptibility));
  return (blocking & Interruptibility.ByNmi) !== 0;
}

/**
 * An interrupt that L2 masks exits all the same (SDM 3C §26.2): waits for L2 to
 * open its window instead.
 */
export function holdInterrupts(context: NestedContext): void {
  const { operations: ops } = context;
  const pin = Number(ops.vmread(F.PinControls));
  ops.vmwrite(
    F.PinControls,
    BigInt((pin & ~Pin.ExternalInterruptExiting) >>> 0),
  );
  const primary = Number(ops.vmread(F.PrimaryControls));
  ops.vmwrite(
    F.PrimaryControls,
    BigInt((primary | Primary.InterruptWindowExiting) >>> 0),
  );
}

/** Restores what `arm` changed; L2 may have changed nothing of it meanwhile. */
export function disarm(context: NestedContext, cells: TrapCells): void {
  if (!cells.armed) return;
  const { operations: ops, vmcs12 } = context;
  const c12 = effectiveControls(vmcs12);
  cells.armed = false;
  ops.vmwrite(F.GuestIdtrLimit, BigInt(cells.idtrLimit));
  const efer = Number(ops.vmread(F.GuestEfer));
  ops.vmwrite(
    F.GuestEfer,
    BigInt((efer & ~Efer.SCE | cells.efer & Efer.SCE) >>> 0),
  );
  ops.vmwrite(F.GuestSysenterCs, BigInt(cells.sysenterCs));
  for (
    const field of [
      F.ExceptionBitmap,
      F.PageFaultErrorMask,
      F.PageFaultErrorMatch,
    ]
  ) ops.vmwrite(field, vmcs12.read(field));
  ops.vmwrite(F.PinControls, BigInt(c12.pin));
  const window = c12.primary & Primary.InterruptWindowExiting;
  const primary = Number(ops.vmread(F.PrimaryControls)) &
    ~Primary.InterruptWindowExiting;
  ops.vmwrite(F.PrimaryControls, BigInt((primary | window) >>> 0));
  const secondary = Number(ops.vmread(F.SecondaryControls));
  const own = c12.secondary & Secondary.DescriptorTableExiting;
  ops.vmwrite(
    F.SecondaryControls,
    BigInt((secondary & ~Secondary.DescriptorTableExiting | own) >>> 0),
  );
}

/** Monitor trap flag of vmcs02: L1's, or ours for one step. */
export function setStep(context: NestedContext, ours: boolean): void {
  const { operations: ops, vmcs12 } = context;
  const own = effectiveControls(vmcs12).primary & Primary.MonitorTrapFlag;
  const primary = Number(ops.vmread(F.PrimaryControls)) &
    ~Primary.MonitorTrapFlag;
  const wanted = ours ? Primary.MonitorTrapFlag : own;
  ops.vmwrite(F.PrimaryControls, BigInt((primary | wanted) >>> 0));
}
