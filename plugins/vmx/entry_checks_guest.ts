/**
 * VM-entry checks on the guest-state area other than segments (SDM 3C
 * §27.3.1.1, §27.3.1.3–27.3.1.6): control registers, MSRs, descriptor tables,
 * RIP, RFLAGS, non-register state, link pointer, PDPTEs. Any failure is a VM
 * exit with reason 33 and the row's qualification.
 */
import { Cr0, Cr4, Efer, Rflags } from "../../cpu/arch/flags.ts";
import { ActivityState, Interruptibility } from "../../cpu/layout.ts";
import {
  canonical,
  eferSettable,
  physicalAddress,
  validCr3,
  validPat,
  validPdpte,
} from "./check_values.ts";
import { Entry, Pin, Secondary } from "./controls.ts";
import type { EntryCheck, EntryContext } from "./entry_checks.ts";
import {
  EntryFailureQualification,
  Interruption,
  InterruptionType,
} from "./exit_reasons.ts";
import { VmcsField } from "./vmcs_fields.ts";

const REGISTERS = "SDM 3C §27.3.1.1";
const TABLES = "SDM 3C §27.3.1.3";
const RIP = "SDM 3C §27.3.1.4";
const NON_REGISTER = "SDM 3C §27.3.1.5";
const PDPTE = "SDM 3C §27.3.1.6";

function row(
  id: string,
  manual: string,
  valid: (c: EntryContext) => boolean,
  qualification: bigint = EntryFailureQualification.None,
): EntryCheck {
  return { id: `guest.${id}`, group: 2, manual, valid, qualification };
}

const has = (word: number, bit: number): boolean => (word & bit) !== 0;
const ia32e = (c: EntryContext): boolean =>
  has(c.controls.entry, Entry.Ia32eModeGuest);
const ug = (c: EntryContext): boolean =>
  has(c.controls.secondary, Secondary.UnrestrictedGuest);
const cr0 = (c: EntryContext): number => c.vmcs.read32(VmcsField.GuestCr0);
const cr4 = (c: EntryContext): number => c.vmcs.read32(VmcsField.GuestCr4);
const rflags = (c: EntryContext): number =>
  c.vmcs.read32(VmcsField.GuestRflags);
const activity = (c: EntryContext): number =>
  c.vmcs.read32(VmcsField.GuestActivity);
const blocking = (c: EntryContext): number =>
  c.vmcs.read32(VmcsField.GuestInterruptibility);

/** IA32_DEBUGCTL bits that our processor lets software set: LBR and BTF. */
const DEBUGCTL_SETTABLE = 0b11n;
const BTF = 0b10n;
/** RFLAGS bits 63:22, 15, 5 and 3. */
const RFLAGS_RESERVED = 0xffff_ffff_ffc0_8028n;
/** Pending debug exceptions: bits 11:4, 13 and 63:15. */
const PENDING_RESERVED = 0xffff_ffff_ffff_aff0n;
/** Pending debug exceptions bit 14: single step. */
const PENDING_BS = 1n << 14n;
const ALL_ONES = 0xffff_ffff_ffff_ffffn;

/** CR0 bits that must be 1 in a guest; PE and PG not when unrestricted. */
function cr0Fixed(c: EntryContext): boolean {
  const value = c.vmcs.read(VmcsField.GuestCr0);
  const { must1 } = c.capabilities.cr0;
  const required = ug(c) ? must1 & ~(Cr0.PE | Cr0.PG) : must1;
  return value >> 32n === 0n && (~Number(value) & required) === 0;
}

/** Interruption to inject as (type, vector), or undefined. */
function injected(
  c: EntryContext,
): { type: number; vector: number } | undefined {
  const info = c.vmcs.read32(VmcsField.EntryInterruptionInformation);
  if (!has(info, Interruption.Valid)) return undefined;
  return {
    type: (info >>> Interruption.TypeShift) & 7,
    vector: info & Interruption.VectorMask,
  };
}
const injects = (c: EntryContext, type: number): boolean =>
  injected(c)?.type === type;

/** Whether an event may be injected into the guest's activity state. */
function injectionFitsActivity(c: EntryContext): boolean {
  const event = injected(c);
  if (event === undefined) return true;
  const { type, vector } = event;
  switch (activity(c)) {
    case ActivityState.Hlt:
      return type === InterruptionType.External ||
        type === InterruptionType.Nmi ||
        (type === InterruptionType.HardwareException &&
          (vector === 1 || vector === 18)) ||
        type === InterruptionType.Other;
    case ActivityState.Shutdown:
      return type === InterruptionType.Nmi ||
        (type === InterruptionType.HardwareException && vector === 18);
    case ActivityState.WaitForSipi:
      return false;
    default:
      return true;
  }
}

/** Whether the pending-BS rule applies: blocking or HLT (SDM 3C §27.3.1.5). */
const singleStepJudged = (c: EntryContext): boolean =>
  has(blocking(c), Interruptibility.BySti | Interruptibility.ByMovSs) ||
  activity(c) === ActivityState.Hlt;
const stepping = (c: EntryContext): boolean =>
  has(rflags(c), Rflags.TF) &&
  (c.vmcs.read(VmcsField.GuestDebugctl) & BTF) === 0n;
const pendingBs = (c: EntryContext): boolean =>
  (c.vmcs.read(VmcsField.GuestPendingDebug) & PENDING_BS) !== 0n;

const linkPointer = (c: EntryContext): bigint =>
  c.vmcs.read(VmcsField.VmcsLinkPointer);
const linkUsed = (c: EntryContext): boolean => linkPointer(c) !== ALL_ONES;
const linkAddressValid = (c: EntryContext): boolean =>
  physicalAddress(linkPointer(c), 12, c.model);

/** Whether the guest uses PAE paging outside IA-32e mode. */
const pae = (c: EntryContext): boolean =>
  has(cr0(c), Cr0.PG) && has(cr4(c), Cr4.PAE) && !ia32e(c);
const ept = (c: EntryContext): boolean =>
  has(c.controls.secondary, Secondary.Ept);
const PDPTE_FIELDS = [
  VmcsField.GuestPdpte0,
  VmcsField.GuestPdpte1,
  VmcsField.GuestPdpte2,
  VmcsField.GuestPdpte3,
];

const canonicalField = (
  id: string,
  manual: string,
  field: number,
): EntryCheck => row(id, manual, (c) => canonical(c.vmcs.read(field), c.model));

const loads = (c: EntryContext, bit: number): boolean =>
  has(c.controls.entry, bit);

/** Rows on guest state other than segments. */
export const GUEST_CHECKS: readonly EntryCheck[] = [
  row("cr0.fixed", REGISTERS, cr0Fixed),
  row(
    "cr0.paging-needs-protection",
    REGISTERS,
    (c) => !ug(c) || !has(cr0(c), Cr0.PG) || has(cr0(c), Cr0.PE),
  ),
  row("cr4.fixed", REGISTERS, (c) => {
    const value = c.vmcs.read(VmcsField.GuestCr4);
    const { must1, may1 } = c.capabilities.cr4;
    return value >> 32n === 0n && (~Number(value) & must1) === 0 &&
      (Number(value) & ~may1) === 0;
  }),
  row(
    "debugctl.reserved",
    REGISTERS,
    (c) =>
      !loads(c, Entry.LoadDebugControls) ||
      (c.vmcs.read(VmcsField.GuestDebugctl) & ~DEBUGCTL_SETTABLE) === 0n,
  ),
  // An unrestricted guest can lack PG; otherwise cr0.fixed speaks first.
  row(
    "ia32e.paging",
    REGISTERS,
    (c) => !ug(c) || !ia32e(c) || has(cr0(c), Cr0.PG),
  ),
  row("ia32e.pae", REGISTERS, (c) => !ia32e(c) || has(cr4(c), Cr4.PAE)),
  row("ia32e.pcide", REGISTERS, (c) => ia32e(c) || !has(cr4(c), Cr4.PCIDE)),
  row(
    "cr3.width",
    REGISTERS,
    (c) => validCr3(c.vmcs.read(VmcsField.GuestCr3), c.model),
  ),
  row("dr7.high", REGISTERS, (c) =>
    !loads(c, Entry.LoadDebugControls) ||
    c.vmcs.read(VmcsField.GuestDr7) >> 32n === 0n),
  canonicalField("sysenter-esp", REGISTERS, VmcsField.GuestSysenterEsp),
  canonicalField("sysenter-eip", REGISTERS, VmcsField.GuestSysenterEip),
  row(
    "pat",
    REGISTERS,
    (c) =>
      !loads(c, Entry.LoadPat) || validPat(c.vmcs.read(VmcsField.GuestPat)),
  ),
  row("efer.reserved", REGISTERS, (c) =>
    !loads(c, Entry.LoadEfer) ||
    (c.vmcs.read(VmcsField.GuestEfer) & ~eferSettable(c.model)) === 0n),
  row("efer.lma", REGISTERS, (c) =>
    !loads(c, Entry.LoadEfer) ||
    has(c.vmcs.read32(VmcsField.GuestEfer), Efer.LMA) === ia32e(c)),
  row("efer.lme", REGISTERS, (c) => {
    if (!loads(c, Entry.LoadEfer) || !has(cr0(c), Cr0.PG)) return true;
    // LMA against the control is efer.lma's business: judged from the control.
    return has(c.vmcs.read32(VmcsField.GuestEfer), Efer.LME) === ia32e(c);
  }),
  canonicalField("gdtr.base", TABLES, VmcsField.GuestGdtrBase),
  canonicalField("idtr.base", TABLES, VmcsField.GuestIdtrBase),
  row(
    "gdtr.limit",
    TABLES,
    (c) => c.vmcs.read32(VmcsField.GuestGdtrLimit) >>> 16 === 0,
  ),
  row(
    "idtr.limit",
    TABLES,
    (c) => c.vmcs.read32(VmcsField.GuestIdtrLimit) >>> 16 === 0,
  ),
  row("rip.high", RIP, (c) =>
    sixtyFourBit(c) ||
    c.vmcs.read(VmcsField.GuestRip) >> 32n === 0n),
  row("rip.identical", RIP, (c) => {
    if (!sixtyFourBit(c)) return true;
    const rip = BigInt.asIntN(64, c.vmcs.read(VmcsField.GuestRip));
    const high = rip >> BigInt(c.model.linearAddressBits);
    return high === 0n || high === -1n;
  }),
  row(
    "rflags.reserved",
    RIP,
    (c) => (c.vmcs.read(VmcsField.GuestRflags) & RFLAGS_RESERVED) === 0n,
  ),
  row("rflags.fixed1", RIP, (c) => has(rflags(c), Rflags.Fixed1)),
  row("rflags.vm", RIP, (c) =>
    !has(rflags(c), Rflags.VM) ||
    (!ia32e(c) && has(cr0(c), Cr0.PE))),
  row(
    "rflags.if",
    RIP,
    (c) => !injects(c, InterruptionType.External) || has(rflags(c), Rflags.IF),
  ),
  row(
    "activity.known",
    NON_REGISTER,
    (c) => activity(c) <= ActivityState.WaitForSipi,
  ),
  row(
    "activity.hlt-dpl",
    NON_REGISTER,
    (c) =>
      activity(c) !== ActivityState.Hlt ||
      (c.vmcs.read32(VmcsField.GuestSsAttributes) & 0x60) === 0,
  ),
  row(
    "activity.blocking",
    NON_REGISTER,
    (c) =>
      activity(c) === ActivityState.Active ||
      activity(c) > ActivityState.WaitForSipi ||
      !has(blocking(c), Interruptibility.BySti | Interruptibility.ByMovSs),
  ),
  row("activity.injection", NON_REGISTER, injectionFitsActivity),
  row(
    "interruptibility.reserved",
    NON_REGISTER,
    (c) => (blocking(c) & ~0xf) === 0,
  ),
  row(
    "interruptibility.sti-and-mov-ss",
    NON_REGISTER,
    (c) => (blocking(c) & 3) !== 3,
  ),
  row(
    "interruptibility.sti-if",
    NON_REGISTER,
    (c) =>
      !has(blocking(c), Interruptibility.BySti) || has(rflags(c), Rflags.IF),
  ),
  row(
    "interruptibility.external",
    NON_REGISTER,
    (c) => !injects(c, InterruptionType.External) || (blocking(c) & 3) === 0,
  ),
  row(
    "interruptibility.nmi-mov-ss",
    NON_REGISTER,
    (c) =>
      !injects(c, InterruptionType.Nmi) ||
      !has(blocking(c), Interruptibility.ByMovSs),
    EntryFailureQualification.NmiInjection,
  ),
  row(
    "interruptibility.smi",
    NON_REGISTER,
    (c) => !has(blocking(c), Interruptibility.BySmi),
  ),
  row(
    "interruptibility.virtual-nmi",
    NON_REGISTER,
    (c) =>
      !has(c.controls.pin, Pin.VirtualNmis) ||
      !injects(c, InterruptionType.Nmi) ||
      !has(blocking(c), Interruptibility.ByNmi),
  ),
  row(
    "pending-debug.reserved",
    NON_REGISTER,
    (c) => (c.vmcs.read(VmcsField.GuestPendingDebug) & PENDING_RESERVED) === 0n,
  ),
  row(
    "pending-debug.bs-missing",
    NON_REGISTER,
    (c) => !singleStepJudged(c) || !stepping(c) || pendingBs(c),
  ),
  row(
    "pending-debug.bs-excess",
    NON_REGISTER,
    (c) => !singleStepJudged(c) || stepping(c) || !pendingBs(c),
  ),
  row(
    "link-pointer.address",
    NON_REGISTER,
    (c) => !linkUsed(c) || linkAddressValid(c),
    EntryFailureQualification.InvalidLinkPointer,
  ),
  // VMCS shadowing is not advertised, so bit 31 must be 0 too.
  row(
    "link-pointer.revision",
    NON_REGISTER,
    (c) =>
      !linkUsed(c) || !linkAddressValid(c) ||
      c.readU32(Number(linkPointer(c))) === c.model.vmcsRevision,
    EntryFailureQualification.InvalidLinkPointer,
  ),
  row(
    "link-pointer.current",
    NON_REGISTER,
    (c) => linkPointer(c) !== BigInt(c.vmcsAddress),
    EntryFailureQualification.InvalidLinkPointer,
  ),
  row(
    "pdpte.ept",
    PDPTE,
    (c) =>
      !pae(c) || !ept(c) ||
      PDPTE_FIELDS.every((f) => validPdpte(c.vmcs.read(f), c.model)),
    EntryFailureQualification.PdpteLoading,
  ),
  row("pdpte.memory", PDPTE, (c) => {
    if (!pae(c) || ept(c)) return true;
    const base = Number(c.vmcs.read(VmcsField.GuestCr3) & 0xffff_ffe0n);
    for (let i = 0; i < 4; i++) {
      if (!validPdpte(c.readU64(base + i * 8), c.model)) return false;
    }
    return true;
  }, EntryFailureQualification.PdpteLoading),
];

/** Whether the guest will execute 64-bit code. */
function sixtyFourBit(c: EntryContext): boolean {
  return ia32e(c) && has(c.vmcs.read32(VmcsField.GuestCsAttributes), 1 << 13);
}
