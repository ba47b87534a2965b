/**
 * VM-entry checks on the host-state area (SDM 3C §27.2.2–27.2.4). Any failure
 * is VMfailValid with error 8.
 */
import { Cr4, Efer } from "../../cpu/arch/flags.ts";
import { canonical, eferSettable, validCr3, validPat } from "./check_values.ts";
import { controlsAllowed, Entry, Exit } from "./controls.ts";
import type { EntryCheck, EntryContext } from "./entry_checks.ts";
import { VmcsField } from "./vmcs_fields.ts";

const REGISTERS = "SDM 3C §27.2.2";
const SEGMENTS = "SDM 3C §27.2.3";
const ADDRESS_SPACE = "SDM 3C §27.2.4";

function row(
  id: string,
  manual: string,
  valid: (c: EntryContext) => boolean,
): EntryCheck {
  return { id: `host.${id}`, group: 1, manual, valid };
}

const long = (c: EntryContext): boolean =>
  (c.controls.exit & Exit.HostAddressSpaceSize) !== 0;
const loads = (c: EntryContext, bit: number): boolean =>
  (c.controls.exit & bit) !== 0;

const canonicalField = (id: string, manual: string, field: number) =>
  row(id, manual, (c) => canonical(c.vmcs.read(field), c.model));

const SELECTORS: readonly (readonly [string, number])[] = [
  ["es", VmcsField.HostEsSelector],
  ["cs", VmcsField.HostCsSelector],
  ["ss", VmcsField.HostSsSelector],
  ["ds", VmcsField.HostDsSelector],
  ["fs", VmcsField.HostFsSelector],
  ["gs", VmcsField.HostGsSelector],
  ["tr", VmcsField.HostTrSelector],
];

const BASES: readonly (readonly [string, number])[] = [
  ["fs", VmcsField.HostFsBase],
  ["gs", VmcsField.HostGsBase],
  ["tr", VmcsField.HostTrBase],
  ["gdtr", VmcsField.HostGdtrBase],
  ["idtr", VmcsField.HostIdtrBase],
];

/** Rows on the host-state area. */
export const HOST_CHECKS: readonly EntryCheck[] = [
  row(
    "cr0.fixed",
    REGISTERS,
    (c) =>
      c.vmcs.read(VmcsField.HostCr0) >> 32n === 0n &&
      controlsAllowed(c.vmcs.read32(VmcsField.HostCr0), c.capabilities.cr0),
  ),
  row(
    "cr4.fixed",
    REGISTERS,
    (c) =>
      c.vmcs.read(VmcsField.HostCr4) >> 32n === 0n &&
      controlsAllowed(c.vmcs.read32(VmcsField.HostCr4), c.capabilities.cr4),
  ),
  row(
    "cr3.width",
    REGISTERS,
    (c) => validCr3(c.vmcs.read(VmcsField.HostCr3), c.model),
  ),
  canonicalField("sysenter-esp", REGISTERS, VmcsField.HostSysenterEsp),
  canonicalField("sysenter-eip", REGISTERS, VmcsField.HostSysenterEip),
  row(
    "pat",
    REGISTERS,
    (c) => !loads(c, Exit.LoadPat) || validPat(c.vmcs.read(VmcsField.HostPat)),
  ),
  row("efer.reserved", REGISTERS, (c) =>
    !loads(c, Exit.LoadEfer) ||
    (c.vmcs.read(VmcsField.HostEfer) & ~eferSettable(c.model)) === 0n),
  row("efer.lma", REGISTERS, (c) =>
    !loads(c, Exit.LoadEfer) ||
    ((c.vmcs.read32(VmcsField.HostEfer) & Efer.LMA) !== 0) === long(c)),
  row("efer.lme", REGISTERS, (c) =>
    !loads(c, Exit.LoadEfer) ||
    ((c.vmcs.read32(VmcsField.HostEfer) & Efer.LME) !== 0) === long(c)),
  ...SELECTORS.map(([name, field]) =>
    row(`${name}.rpl-ti`, SEGMENTS, (c) => (c.vmcs.read32(field) & 7) === 0)
  ),
  row(
    "cs.null",
    SEGMENTS,
    (c) => (c.vmcs.read32(VmcsField.HostCsSelector) & 0xfff8) !== 0,
  ),
  row(
    "tr.null",
    SEGMENTS,
    (c) => (c.vmcs.read32(VmcsField.HostTrSelector) & 0xfff8) !== 0,
  ),
  row(
    "ss.null",
    SEGMENTS,
    (c) => long(c) || (c.vmcs.read32(VmcsField.HostSsSelector) & 0xfff8) !== 0,
  ),
  ...BASES.map(([name, field]) =>
    canonicalField(`${name}.base`, SEGMENTS, field)
  ),
  row("address-space.long-mode", ADDRESS_SPACE, (c) => c.longMode === long(c)),
  row(
    "address-space.ia32e-guest",
    ADDRESS_SPACE,
    (c) => long(c) || (c.controls.entry & Entry.Ia32eModeGuest) === 0,
  ),
  row(
    "address-space.pcide",
    ADDRESS_SPACE,
    (c) => long(c) || (c.vmcs.read32(VmcsField.HostCr4) & Cr4.PCIDE) === 0,
  ),
  row(
    "address-space.rip-high",
    ADDRESS_SPACE,
    (c) => long(c) || c.vmcs.read(VmcsField.HostRip) >> 32n === 0n,
  ),
  row(
    "address-space.pae",
    ADDRESS_SPACE,
    (c) => !long(c) || (c.vmcs.read32(VmcsField.HostCr4) & Cr4.PAE) !== 0,
  ),
  row(
    "address-space.rip-canonical",
    ADDRESS_SPACE,
    (c) => !long(c) || canonical(c.vmcs.read(VmcsField.HostRip), c.model),
  ),
];
