/**
 * What our processor's VMX can do, for one CPU model: the VMX capability MSRs
 * (SDM 3D appendix A) and the same facts as the entry checks use them.
 *
 * Invariant: only what this plugin models is advertised, and of that only what
 * the model has (`CpuModel.vmx`); nothing else is ever accepted.
 */
import type { CpuModel, VmxFeature } from "../../cpu/arch/models.ts";
import { cr4Defined } from "../../cpu/arch/control_bits.ts";
import { Cr0, Cr4 } from "../../cpu/arch/flags.ts";
import {
  type AllowedSettings,
  DEFAULT1,
  Entry,
  Exit,
  Pin,
  Primary,
  Secondary,
  TRUE_ALLOWED_ZERO,
} from "./controls.ts";
import { FieldFeature, HIGHEST_FIELD_INDEX } from "./vmcs_fields.ts";

/** MSR indices of VMX (SDM 4 table 2-2). */
export const VmxMsr = {
  FeatureControl: 0x3a,
  Basic: 0x480,
  PinControls: 0x481,
  PrimaryControls: 0x482,
  ExitControls: 0x483,
  EntryControls: 0x484,
  Misc: 0x485,
  Cr0Fixed0: 0x486,
  Cr0Fixed1: 0x487,
  Cr4Fixed0: 0x488,
  Cr4Fixed1: 0x489,
  VmcsEnum: 0x48a,
  SecondaryControls: 0x48b,
  EptVpid: 0x48c,
  TruePinControls: 0x48d,
  TruePrimaryControls: 0x48e,
  TrueExitControls: 0x48f,
  TrueEntryControls: 0x490,
  VmFunctions: 0x491,
} as const;

/** IA32_FEATURE_CONTROL bits (SDM 4 table 2-2). */
export const FeatureControl = { Lock: 1, VmxonOutsideSmx: 4 } as const;

/**
 * The preemption timer counts down when this bit of the TSC changes. Bit 0: a
 * step is a nanosecond here and a VM entry takes one, so that a coarser timer
 * would stand still over short guests as on no real processor.
 */
export const PREEMPTION_TIMER_SHIFT = 0;
/** CR3-target values that exist. */
export const CR3_TARGETS = 4;
/** MSRs in one MSR area that are recommended at most; ours is also the limit. */
export const MSR_AREA_LIMIT = 512;
/** Entries of an EPTP list. */
export const EPTP_LIST_ENTRIES = 512;

/** IA32_VMX_EPT_VPID_CAP bits (SDM 3D appendix A.10). */
export const EptVpidCapability = {
  ExecuteOnly: 1n << 0n,
  WalkLength4: 1n << 6n,
  Uncacheable: 1n << 8n,
  WriteBack: 1n << 14n,
  Page2M: 1n << 16n,
  Page1G: 1n << 17n,
  Invept: 1n << 20n,
  AccessedDirty: 1n << 21n,
  AdvancedInformation: 1n << 22n,
  InveptSingle: 1n << 25n,
  InveptAll: 1n << 26n,
  Invvpid: 1n << 32n,
  InvvpidAddress: 1n << 40n,
  InvvpidSingle: 1n << 41n,
  InvvpidAll: 1n << 42n,
  InvvpidRetainGlobals: 1n << 43n,
} as const;

/** Everything about VMX that does not change while the processor runs. */
export interface VmxCapabilities {
  readonly model: CpuModel;
  readonly pin: AllowedSettings;
  readonly primary: AllowedSettings;
  readonly secondary: AllowedSettings;
  readonly exit: AllowedSettings;
  readonly entry: AllowedSettings;
  /** CR0 bits that must be 1, and that may be 1, in VMX operation. */
  readonly cr0: AllowedSettings;
  readonly cr4: AllowedSettings;
  readonly eptVpid: bigint;
  readonly vmFunctions: number;
  /** Present fields, as a set of FieldFeature. */
  readonly fields: ReadonlySet<number>;
  /** Value of a capability MSR; undefined for any other index. */
  msr(index: number): bigint | undefined;
}

const CR0_ALWAYS = (Cr0.PE | Cr0.NE | Cr0.PG) >>> 0;

function allowed(must1: number, modelled: number): AllowedSettings {
  return { must1: must1 >>> 0, may1: (must1 | modelled) >>> 0 };
}

/** Computes the capabilities of `model`. */
export function capabilitiesOf(model: CpuModel): VmxCapabilities {
  const when = (feature: VmxFeature, bits: number): number =>
    model.hasVmx(feature) ? bits : 0;
  const ept = model.hasVmx("vmx-ept");
  const secondaryExists = model.hasVmx("vmx-secondary-ctls");
  const switching = ept && model.hasVmx("vmx-vmfunc") &&
    model.hasVmx("vmx-eptp-switching") && secondaryExists;

  const pin = Pin.ExternalInterruptExiting | Pin.NmiExiting |
    when("vmx-vnmi", Pin.VirtualNmis) |
    when("vmx-preemption-timer", Pin.PreemptionTimer);
  const primary = Primary.InterruptWindowExiting | Primary.HltExiting |
    Primary.InvlpgExiting | Primary.MwaitExiting | Primary.RdpmcExiting |
    Primary.RdtscExiting | Primary.Cr3LoadExiting | Primary.Cr3StoreExiting |
    Primary.Cr8LoadExiting | Primary.Cr8StoreExiting | Primary.MovDrExiting |
    Primary.UnconditionalIoExiting | Primary.MonitorExiting |
    Primary.PauseExiting |
    when("vmx-vnmi", Primary.NmiWindowExiting) |
    when("vmx-tsc-offset", Primary.TscOffsetting) |
    when("vmx-io-bitmap", Primary.IoBitmaps) |
    when("vmx-monitor-trap-flag", Primary.MonitorTrapFlag) |
    when("vmx-msr-bitmap", Primary.MsrBitmaps) |
    when("vmx-secondary-ctls", Primary.SecondaryControls);
  const secondary = !secondaryExists ? 0 : (
    when("vmx-ept", Secondary.Ept) |
    when("vmx-desc-exit", Secondary.DescriptorTableExiting) |
    (model.has("rdtscp") ? when("vmx-rdtscp-exit", Secondary.Rdtscp) : 0) |
    when("vmx-vpid", Secondary.Vpid) |
    when("vmx-wbinvd-exit", Secondary.WbinvdExiting) |
    (ept ? when("vmx-unrestricted-guest", Secondary.UnrestrictedGuest) : 0) |
    (model.has("rdrand")
      ? when("vmx-rdrand-exit", Secondary.RdrandExiting)
      : 0) |
    (model.has("invpcid") ? when("vmx-invpcid-exit", Secondary.Invpcid) : 0) |
    (switching ? Secondary.VmFunctions : 0) |
    (model.has("rdseed")
      ? when("vmx-rdseed-exit", Secondary.RdseedExiting)
      : 0) |
    (model.has("xsaves") ? when("vmx-xsaves", Secondary.EnableXsaves) : 0) |
    (ept ? when("vmx-mbec", Secondary.ModeBasedExecute) : 0) |
    when("vmx-tsc-scaling", Secondary.TscScaling)
  );
  const exit = Exit.SaveDebugControls | Exit.HostAddressSpaceSize |
    Exit.AcknowledgeInterrupt | Exit.SavePat | Exit.LoadPat | Exit.SaveEfer |
    Exit.LoadEfer |
    when("vmx-preemption-timer", Exit.SavePreemptionTimer);
  const entry = Entry.LoadDebugControls | Entry.Ia32eModeGuest |
    Entry.LoadPat | Entry.LoadEfer;

  const truePin = allowed(DEFAULT1.pin & ~TRUE_ALLOWED_ZERO.pin, pin);
  const truePrimary = allowed(
    DEFAULT1.primary & ~TRUE_ALLOWED_ZERO.primary,
    primary,
  );
  const trueExit = allowed(DEFAULT1.exit & ~TRUE_ALLOWED_ZERO.exit, exit);
  const trueEntry = allowed(DEFAULT1.entry & ~TRUE_ALLOWED_ZERO.entry, entry);

  const fields = new Set<number>([
    FieldFeature.Always,
    FieldFeature.Pat,
    FieldFeature.Efer,
  ]);
  const field = (has: boolean, feature: number): void => {
    if (has) fields.add(feature);
  };
  field((secondary & Secondary.Vpid) !== 0, FieldFeature.Vpid);
  field(ept && secondaryExists, FieldFeature.Ept);
  field((primary & Primary.MsrBitmaps) !== 0, FieldFeature.MsrBitmaps);
  field(switching, FieldFeature.EptpSwitching);
  field((secondary & Secondary.TscScaling) !== 0, FieldFeature.TscScaling);
  field((secondary & Secondary.EnableXsaves) !== 0, FieldFeature.Xsaves);
  field((pin & Pin.PreemptionTimer) !== 0, FieldFeature.PreemptionTimer);

  const C = EptVpidCapability;
  let eptVpid = 0n;
  if (secondary & Secondary.Ept) {
    eptVpid |= C.WalkLength4 | C.Uncacheable | C.WriteBack | C.Invept |
      C.InveptSingle | C.InveptAll;
    if (model.hasVmx("vmx-ept-execonly")) eptVpid |= C.ExecuteOnly;
    if (model.hasVmx("vmx-ept-2mb")) eptVpid |= C.Page2M;
    if (model.hasVmx("vmx-ept-1gb")) eptVpid |= C.Page1G;
    if (model.hasVmx("vmx-eptad")) eptVpid |= C.AccessedDirty;
    if (model.hasVmx("vmx-ept-advanced-exitinfo")) {
      eptVpid |= C.AdvancedInformation;
    }
  }
  if (secondary & Secondary.Vpid) {
    eptVpid |= C.Invvpid | C.InvvpidAddress | C.InvvpidSingle | C.InvvpidAll |
      C.InvvpidRetainGlobals;
  }

  const cr4May = cr4Defined(model);
  const word = (must1: number, settings: AllowedSettings): bigint =>
    BigInt((must1 | settings.must1) >>> 0) | BigInt(settings.may1) << 32n;
  // Without the true MSRs in mind, every default-1 bit reads as required.
  const msrs = new Map<number, bigint>([
    // Region of one page, write-back, INS/OUTS information, true MSRs exist.
    [
      VmxMsr.Basic,
      BigInt(model.vmcsRevision) | 0x1000n << 32n | 6n << 50n | 1n << 54n |
      1n << 55n,
    ],
    [VmxMsr.PinControls, word(DEFAULT1.pin, truePin)],
    [VmxMsr.PrimaryControls, word(DEFAULT1.primary, truePrimary)],
    [VmxMsr.ExitControls, word(DEFAULT1.exit, trueExit)],
    [VmxMsr.EntryControls, word(DEFAULT1.entry, trueEntry)],
    [VmxMsr.TruePinControls, word(0, truePin)],
    [VmxMsr.TruePrimaryControls, word(0, truePrimary)],
    [VmxMsr.TrueExitControls, word(0, trueExit)],
    [VmxMsr.TrueEntryControls, word(0, trueEntry)],
    // EFER.LMA is stored into "IA-32e mode guest"; HLT, shutdown and
    // wait-for-SIPI activity states are supported.
    [
      VmxMsr.Misc,
      BigInt(PREEMPTION_TIMER_SHIFT) | 1n << 5n | 7n << 6n |
      BigInt(CR3_TARGETS) << 16n,
    ],
    [VmxMsr.Cr0Fixed0, BigInt(CR0_ALWAYS)],
    [VmxMsr.Cr0Fixed1, 0xffff_ffffn],
    [VmxMsr.Cr4Fixed0, BigInt(Cr4.VMXE)],
    [VmxMsr.Cr4Fixed1, BigInt(cr4May)],
    [VmxMsr.VmcsEnum, BigInt(HIGHEST_FIELD_INDEX) << 1n],
  ]);
  if (secondaryExists) {
    msrs.set(VmxMsr.SecondaryControls, BigInt(secondary >>> 0) << 32n);
  }
  if (eptVpid !== 0n) msrs.set(VmxMsr.EptVpid, eptVpid);
  if (switching) msrs.set(VmxMsr.VmFunctions, 1n);

  return {
    model,
    pin: truePin,
    primary: truePrimary,
    secondary: allowed(0, secondary),
    exit: trueExit,
    entry: trueEntry,
    cr0: allowed(CR0_ALWAYS, 0xffff_ffff),
    cr4: { must1: Cr4.VMXE, may1: cr4May },
    eptVpid,
    vmFunctions: switching ? 1 : 0,
    fields,
    msr: (index) => msrs.get(index),
  };
}
