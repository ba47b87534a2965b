/**
 * What the emulation reads of L2's state at an exit: privilege, the next
 * instruction's address, what an exception or violation is.
 */
import { Vector } from "../../cpu/arch/exceptions.ts";
import { Cr0, Cr4 } from "../../cpu/arch/flags.ts";
import { Interruptibility } from "../../cpu/layout.ts";
import type { NestedContext, PolicyEntry } from "../hypervisor/api.ts";
import {
  effectiveControls,
  Interruption,
  Secondary,
  VmcsField as F,
} from "../vmx/api.ts";
import { SwitchPath } from "./api.ts";
import type { Violation } from "./decision.ts";

/** Rights bits of L1's entries. */
export const RW = 3;
export const XS = 4;
export const XU = 0x400;

/** CPL of L2: the DPL of SS (SDM 3C §25.4.1). */
export function cplOf(context: NestedContext): number {
  return (Number(context.operations.vmread(F.GuestSsAttributes)) >>> 5) & 3;
}

/** Paging of L2. */
export function pagingOn(context: NestedContext): boolean {
  return (context.paging().cr0 & Cr0.PG) !== 0;
}

/** Whether L1 asks for mode-based execute control in this vmcs12. */
export function wantsMbec(context: NestedContext): boolean {
  const { secondary } = effectiveControls(context.vmcs12);
  return context.eptp12 !== 0n &&
    (secondary & Secondary.ModeBasedExecute) !== 0;
}

/** L2 executes 64-bit code. */
export function longMode({ operations: ops }: NestedContext): boolean {
  return (Number(ops.vmread(F.GuestCsAttributes)) & 1 << 13) !== 0;
}

/** Linear address of L2's next instruction. */
export function nextLinear(context: NestedContext): bigint {
  const { operations: ops } = context;
  const rip = ops.vmread(F.GuestRip);
  return longMode(context)
    ? rip
    : BigInt.asUintN(32, ops.vmread(F.GuestCsBase) + rip);
}

/** Whether L2's next instruction lies at a user-mode address. */
export function nextIsUser(context: NestedContext): boolean {
  return context.translate(nextLinear(context))?.user ?? false;
}

/** SDM 3C §28.1: an intercepted #DB left DR6 and DR7.GD alone. */
export function debugException(context: NestedContext): void {
  const { operations: ops, cpu } = context;
  const qualification = ops.vmread(F.ExitQualification);
  const bits = qualification & 0x600fn;
  cpu.v.setDr(6, cpu.v.dr(6) & ~0xfn | bits);
  ops.vmwrite(F.GuestDr7, ops.vmread(F.GuestDr7) & ~0x2000n);
}

/** SDM 3C §26.2: exception bitmap, and for #PF the error-code mask and match. */
export function wantedByL1(context: NestedContext, info: number): boolean {
  const { operations: ops, vmcs12 } = context;
  const vector = info & Interruption.VectorMask;
  const bit = (vmcs12.read32(F.ExceptionBitmap) & 1 << vector) !== 0;
  if (vector !== Vector.PF) return bit;
  const code = Number(ops.vmread(F.ExitInterruptionErrorCode));
  const equal = (code & vmcs12.read32(F.PageFaultErrorMask)) ===
    vmcs12.read32(F.PageFaultErrorMatch);
  return bit === equal;
}

/** An IRET that unblocked NMIs and faulted runs again: they are blocked until it does. */
export function blockNmi({ operations: ops }: NestedContext): void {
  const blocking = Number(ops.vmread(F.GuestInterruptibility));
  const blocked = blocking | Interruptibility.ByNmi;
  ops.vmwrite(F.GuestInterruptibility, BigInt(blocked));
}

/** What the trapped instruction is, for people: by its opcode. */
export function pathOf(context: NestedContext): number {
  const bytes = context.readL2(nextLinear(context), 2);
  if (bytes === undefined) return SwitchPath.Exception;
  if (bytes[0] === 0xcd) return SwitchPath.SoftwareInterrupt;
  if (bytes[0] === 0x0f && bytes[1] === 0x05) return SwitchPath.Syscall;
  if (bytes[0] === 0x0f && bytes[1] === 0x34) return SwitchPath.Sysenter;
  return SwitchPath.Exception;
}

/** An EPT violation of L2 and L1's policy for its page. */
export interface Described {
  readonly facts: Violation;
  readonly page: number;
  /** L1's rights, 0 where it has no valid entry. */
  readonly rights: number;
  readonly entry: PolicyEntry | undefined;
}

/** What the decision table is asked about the violation in vmcs02. */
export function describeViolation(
  context: NestedContext,
  view: number,
  exact: boolean,
  withholds: (page: number) => boolean,
): Described {
  const { operations: ops } = context;
  const q = Number(ops.vmread(F.ExitQualification));
  const page = Math.floor(Number(ops.vmread(F.GuestPhysicalAddress)) / 4096);
  const walk = context.policy(page);
  const entry = walk.kind === "mapped" ? walk.entry : undefined;
  const rights = entry?.rights ?? 0;
  const { cr0, cr4 } = context.paging();
  const fetch = (q & 4) !== 0;
  const linear = ops.vmread(F.GuestLinearAddress);
  return {
    facts: {
      fetch,
      read: (q & 1) !== 0,
      write: (q & 2) !== 0,
      policy: walk.kind,
      r: (rights & 1) !== 0,
      w: (rights & 2) !== 0,
      xs: (rights & XS) !== 0,
      xu: (rights & XU) !== 0,
      view,
      cpl: cplOf(context),
      paging: (cr0 & Cr0.PG) !== 0,
      smep: (cr4 & Cr4.SMEP) !== 0,
      userLinear: fetch && (context.translate(linear)?.user ?? false),
      empty: (q & 0x38) === 0,
      exact,
      withheld: withholds(page),
    },
    page,
    rights,
    entry,
  };
}
