/**
 * VM-entry checks as table rows (SDM 3C §27.2, §27.3.1): one list that the
 * hardware runs on the current VMCS and a hypervisor model on its guest's.
 *
 * Invariants: a predicate reads nothing but its EntryContext; rows are disjoint
 * enough that each can be violated alone (entry_checks_test.ts proves it); the
 * groups are judged in the order controls, host state, guest state.
 */
import type { CpuModel } from "../../cpu/arch/models.ts";
import type { VmxCapabilities } from "./capabilities.ts";
import { type ControlWords, Primary, Secondary } from "./controls.ts";
import { CONTROL_CHECKS } from "./entry_checks_controls.ts";
import { GUEST_CHECKS } from "./entry_checks_guest.ts";
import { HOST_CHECKS } from "./entry_checks_host.ts";
import { SEGMENT_CHECKS } from "./entry_checks_segments.ts";
import { VmError } from "./exit_reasons.ts";
import { VmcsField } from "./vmcs_fields.ts";

/** Read access to the fields of a VMCS, wherever it is kept. */
export interface VmcsView {
  /** Value of a field, zero-extended. */
  read(field: number): bigint;
  /** Low 32 bits of a field, unsigned. */
  read32(field: number): number;
}

/** What a check may know. */
export interface EntryContext {
  readonly vmcs: VmcsView;
  readonly capabilities: VmxCapabilities;
  readonly model: CpuModel;
  /** Control words; `secondary` is 0 unless activated. */
  readonly controls: ControlWords;
  /** EFER.LMA when the VM entry began. */
  readonly longMode: boolean;
  /** Physical address of the VMCS being entered. */
  readonly vmcsAddress: number;
  /** Physical memory, for the link pointer's revision identifier. */
  readU32(address: number): number;
  /** PDPTEs in memory at CR3, for PAE guests without EPT. */
  readU64(address: number): bigint;
}

/** Which group a row belongs to, and so what its failure does. */
export const CheckGroup = {
  /** VMfailValid with error 7. */
  Controls: 0,
  /** VMfailValid with error 8. */
  Host: 1,
  /** VM exit with reason 33. */
  Guest: 2,
} as const;

/** One check. */
export interface EntryCheck {
  /** Unique name, e.g. `guest.rip.high-bits`. */
  readonly id: string;
  readonly group: number;
  /** Manual section. */
  readonly manual: string;
  /** True when the VMCS passes. */
  readonly valid: (c: EntryContext) => boolean;
  /** Exit qualification of the entry failure (guest group only). */
  readonly qualification?: bigint;
}

/** Every check, in the order in which they are judged. */
export const ENTRY_CHECKS: readonly EntryCheck[] = [
  ...CONTROL_CHECKS,
  ...HOST_CHECKS,
  ...GUEST_CHECKS,
  ...SEGMENT_CHECKS,
];

/** The first check of `group` that the context fails. */
export function firstFailure(
  c: EntryContext,
  group: number,
  checks: readonly EntryCheck[] = ENTRY_CHECKS,
): EntryCheck | undefined {
  for (const check of checks) {
    if (check.group === group && !check.valid(c)) return check;
  }
  return undefined;
}

/** VM-instruction error of a failed group; 0 for the guest group. */
export function errorOfGroup(group: number): number {
  if (group === CheckGroup.Controls) return VmError.EntryInvalidControls;
  if (group === CheckGroup.Host) return VmError.EntryInvalidHostState;
  return VmError.None;
}

/** Control words of a VMCS as they take effect. */
export function effectiveControls(vmcs: VmcsView): ControlWords {
  const primary = vmcs.read32(VmcsField.PrimaryControls);
  return {
    pin: vmcs.read32(VmcsField.PinControls),
    primary,
    secondary: primary & Primary.SecondaryControls
      ? vmcs.read32(VmcsField.SecondaryControls)
      : 0,
    exit: vmcs.read32(VmcsField.ExitControls),
    entry: vmcs.read32(VmcsField.EntryControls),
  };
}

/** Whether the guest may run without protection or paging. */
export function unrestricted(c: ControlWords): boolean {
  return (c.secondary & Secondary.UnrestrictedGuest) !== 0;
}
