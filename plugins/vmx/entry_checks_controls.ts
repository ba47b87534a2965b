/**
 * VM-entry checks on the VMX controls (SDM 3C §27.2.1): VM-execution, VM-exit
 * and VM-entry control fields. Any failure is VMfailValid with error 7.
 */
import { Cr0 } from "../../cpu/arch/flags.ts";
import type { CpuModel } from "../../cpu/arch/models.ts";
import { EXCEPTIONS } from "../../cpu/arch/exceptions.ts";
import { CR3_TARGETS, EptVpidCapability } from "./capabilities.ts";
import { physicalAddress, withinPhysical } from "./check_values.ts";
import {
  controlsAllowed,
  Exit,
  Pin,
  Primary,
  Secondary,
  VmFunction,
} from "./controls.ts";
import type { EntryCheck, EntryContext } from "./entry_checks.ts";
import { Interruption, InterruptionType } from "./exit_reasons.ts";
import { VmcsField } from "./vmcs_fields.ts";

const EXECUTION = "SDM 3C §27.2.1.1";
const EXIT = "SDM 3C §27.2.1.2";
const ENTRY = "SDM 3C §27.2.1.3";

function row(
  id: string,
  manual: string,
  valid: (c: EntryContext) => boolean,
): EntryCheck {
  return { id: `controls.${id}`, group: 0, manual, valid };
}

const has = (word: number, bit: number): boolean => (word & bit) !== 0;

/** EPTP of the VMCS when EPT is on, else undefined. */
function eptp(c: EntryContext): bigint | undefined {
  return has(c.controls.secondary, Secondary.Ept)
    ? c.vmcs.read(VmcsField.Eptp)
    : undefined;
}

/** Whether a memory type (EPTP bits 2:0) is one the capability MSR lists. */
export function eptpMemoryTypeValid(
  value: bigint,
  capability: bigint,
): boolean {
  const type = value & 7n;
  if (type === 0n) return (capability & EptVpidCapability.Uncacheable) !== 0n;
  return type === 6n && (capability & EptVpidCapability.WriteBack) !== 0n;
}

/** The four things the manual asks of an EPTP (SDM 3C §27.2.1.1, §26.5.6.3). */
const EPTP_RULES: readonly (readonly [
  string,
  (value: bigint, capability: bigint, model: CpuModel) => boolean,
])[] = [
  ["memory-type", (v, capability) => eptpMemoryTypeValid(v, capability)],
  ["walk-length", (v) => (v >> 3n & 7n) === 3n],
  [
    "accessed-dirty",
    (v, capability) =>
      (v & 0x40n) === 0n ||
      (capability & EptVpidCapability.AccessedDirty) !== 0n,
  ],
  [
    "reserved",
    (v, _, model) => (v & 0xf80n) === 0n && withinPhysical(v, model),
  ],
];

/** Whether VM entry would accept an EPT pointer (also INVEPT, VMFUNC). */
export function eptpValidFor(
  value: bigint,
  capability: bigint,
  model: CpuModel,
): boolean {
  return EPTP_RULES.every(([, rule]) => rule(value, capability, model));
}

/** MSR areas: aligned to 16 bytes, first and last byte within MAXPHYADDR. */
function area(c: EntryContext, count: number, address: number): boolean {
  const entries = BigInt(c.vmcs.read32(count));
  if (entries === 0n) return true;
  const first = c.vmcs.read(address);
  return physicalAddress(first, 4, c.model) &&
    withinPhysical(first + entries * 16n - 1n, c.model);
}

/** Event to inject, or undefined. */
function injection(c: EntryContext): number | undefined {
  const info = c.vmcs.read32(VmcsField.EntryInterruptionInformation);
  return has(info, Interruption.Valid) ? info : undefined;
}
const typeOf = (info: number): number => (info >>> Interruption.TypeShift) & 7;
const vectorOf = (info: number): number => info & Interruption.VectorMask;

const ERROR_CODE_VECTORS = new Set(
  EXCEPTIONS.filter((e) => e.hasErrorCode && e.mnemonic !== "#CP")
    .map((e) => e.vector),
);

/** Unrestricted guest in real mode: no error code is ever delivered. */
function realMode(c: EntryContext): boolean {
  return has(c.controls.secondary, Secondary.UnrestrictedGuest) &&
    !has(c.vmcs.read32(VmcsField.GuestCr0), Cr0.PE);
}

const bitmap = (
  id: string,
  control: number,
  field: number,
): EntryCheck =>
  row(id, EXECUTION, (c) =>
    !has(c.controls.primary, control) ||
    physicalAddress(c.vmcs.read(field), 12, c.model));

/** Rows on VM-execution, VM-exit and VM-entry control fields. */
export const CONTROL_CHECKS: readonly EntryCheck[] = [
  row(
    "pin.allowed",
    EXECUTION,
    (c) => controlsAllowed(c.controls.pin, c.capabilities.pin),
  ),
  row(
    "primary.allowed",
    EXECUTION,
    (c) => controlsAllowed(c.controls.primary, c.capabilities.primary),
  ),
  row(
    "secondary.allowed",
    EXECUTION,
    (c) => controlsAllowed(c.controls.secondary, c.capabilities.secondary),
  ),
  row(
    "cr3-target-count",
    EXECUTION,
    (c) => c.vmcs.read32(VmcsField.Cr3TargetCount) <= CR3_TARGETS,
  ),
  bitmap("io-bitmap-a", Primary.IoBitmaps, VmcsField.IoBitmapA),
  bitmap("io-bitmap-b", Primary.IoBitmaps, VmcsField.IoBitmapB),
  bitmap("msr-bitmaps", Primary.MsrBitmaps, VmcsField.MsrBitmaps),
  row(
    "virtual-nmis.nmi-exiting",
    EXECUTION,
    (c) =>
      has(c.controls.pin, Pin.NmiExiting) ||
      !has(c.controls.pin, Pin.VirtualNmis),
  ),
  row(
    "nmi-window.virtual-nmis",
    EXECUTION,
    (c) =>
      has(c.controls.pin, Pin.VirtualNmis) ||
      !has(c.controls.primary, Primary.NmiWindowExiting),
  ),
  row(
    "vpid.nonzero",
    EXECUTION,
    (c) =>
      !has(c.controls.secondary, Secondary.Vpid) ||
      c.vmcs.read32(VmcsField.Vpid) !== 0,
  ),
  ...EPTP_RULES.map(([id, rule]) =>
    row(`eptp.${id}`, EXECUTION, (c) => {
      const value = eptp(c);
      return value === undefined ||
        rule(value, c.capabilities.eptVpid, c.model);
    })
  ),
  row(
    "unrestricted-guest.ept",
    EXECUTION,
    (c) =>
      !has(c.controls.secondary, Secondary.UnrestrictedGuest) ||
      has(c.controls.secondary, Secondary.Ept),
  ),
  row(
    "mode-based-execute.ept",
    EXECUTION,
    (c) =>
      !has(c.controls.secondary, Secondary.ModeBasedExecute) ||
      has(c.controls.secondary, Secondary.Ept),
  ),
  row(
    "vm-functions.allowed",
    EXECUTION,
    (c) =>
      !has(c.controls.secondary, Secondary.VmFunctions) ||
      (c.vmcs.read(VmcsField.VmFunctionControls) &
          ~BigInt(c.capabilities.vmFunctions)) === 0n,
  ),
  row(
    "eptp-switching.ept",
    EXECUTION,
    (c) => !eptpSwitching(c) || has(c.controls.secondary, Secondary.Ept),
  ),
  row("eptp-switching.list", EXECUTION, (c) =>
    !eptpSwitching(c) ||
    physicalAddress(c.vmcs.read(VmcsField.EptpListAddress), 12, c.model)),
  row(
    "tsc-scaling.multiplier",
    EXECUTION,
    (c) =>
      !has(c.controls.secondary, Secondary.TscScaling) ||
      c.vmcs.read(VmcsField.TscMultiplier) !== 0n,
  ),
  row(
    "exit.allowed",
    EXIT,
    (c) => controlsAllowed(c.controls.exit, c.capabilities.exit),
  ),
  row(
    "exit.save-preemption-timer",
    EXIT,
    (c) =>
      has(c.controls.pin, Pin.PreemptionTimer) ||
      !has(c.controls.exit, Exit.SavePreemptionTimer),
  ),
  row(
    "exit.msr-store-area",
    EXIT,
    (c) => area(c, VmcsField.ExitMsrStoreCount, VmcsField.ExitMsrStoreAddress),
  ),
  row(
    "exit.msr-load-area",
    EXIT,
    (c) => area(c, VmcsField.ExitMsrLoadCount, VmcsField.ExitMsrLoadAddress),
  ),
  row(
    "entry.allowed",
    ENTRY,
    (c) => controlsAllowed(c.controls.entry, c.capabilities.entry),
  ),
  row(
    "entry.msr-load-area",
    ENTRY,
    (c) => area(c, VmcsField.EntryMsrLoadCount, VmcsField.EntryMsrLoadAddress),
  ),
  row("injection.type", ENTRY, (c) => {
    const info = injection(c);
    if (info === undefined) return true;
    const type = typeOf(info);
    if (type === InterruptionType.Other) {
      return has(c.capabilities.primary.may1, Primary.MonitorTrapFlag);
    }
    return type !== 1;
  }),
  row("injection.vector", ENTRY, (c) => {
    const info = injection(c);
    if (info === undefined) return true;
    const vector = vectorOf(info);
    switch (typeOf(info)) {
      case InterruptionType.Nmi:
        return vector === 2;
      case InterruptionType.HardwareException:
        return vector <= 31;
      case InterruptionType.Other:
        return vector === 0;
      default:
        return true;
    }
  }),
  row("injection.error-code-real-mode", ENTRY, (c) => {
    const info = injection(c);
    return info === undefined || !realMode(c) ||
      !has(info, Interruption.ErrorCodeValid);
  }),
  row("injection.error-code-excess", ENTRY, (c) => {
    const info = injection(c);
    return info === undefined || realMode(c) ||
      !has(info, Interruption.ErrorCodeValid) || takesErrorCode(info);
  }),
  row("injection.error-code-missing", ENTRY, (c) => {
    const info = injection(c);
    return info === undefined || realMode(c) ||
      has(info, Interruption.ErrorCodeValid) || !takesErrorCode(info);
  }),
  row("injection.reserved", ENTRY, (c) => {
    const info = injection(c);
    return info === undefined || !has(info, Interruption.EntryReserved);
  }),
  row("injection.error-code-high", ENTRY, (c) => {
    const info = injection(c);
    return info === undefined || !has(info, Interruption.ErrorCodeValid) ||
      c.vmcs.read32(VmcsField.EntryExceptionErrorCode) >>> 16 === 0;
  }),
  row("injection.instruction-length", ENTRY, (c) => {
    const info = injection(c);
    if (info === undefined) return true;
    const type = typeOf(info);
    if (
      type !== InterruptionType.SoftwareInterrupt &&
      type !== InterruptionType.PrivilegedSoftwareException &&
      type !== InterruptionType.SoftwareException
    ) return true;
    const length = c.vmcs.read32(VmcsField.EntryInstructionLength);
    return length >= 1 && length <= 15;
  }),
];

function eptpSwitching(c: EntryContext): boolean {
  return has(c.controls.secondary, Secondary.VmFunctions) &&
    (c.vmcs.read(VmcsField.VmFunctionControls) &
        BigInt(VmFunction.EptpSwitching)) !== 0n;
}

function takesErrorCode(info: number): boolean {
  return typeOf(info) === InterruptionType.HardwareException &&
    ERROR_CODE_VECTORS.has(vectorOf(info));
}
