/**
 * VM-execution, VM-exit and VM-entry controls (SDM 3C §25.6–25.8): bit names,
 * which bits are reserved to 1 by default (appendix A), and which our
 * processor models. A bit that no row here lists can never be set: the
 * capability MSRs and through them the entry checks refuse it.
 */

/** Pin-based controls (SDM 3C table 25-5). */
export const Pin = {
  ExternalInterruptExiting: 1 << 0,
  NmiExiting: 1 << 3,
  VirtualNmis: 1 << 5,
  PreemptionTimer: 1 << 6,
} as const;

/** Primary processor-based controls (SDM 3C table 25-6). */
export const Primary = {
  InterruptWindowExiting: 1 << 2,
  TscOffsetting: 1 << 3,
  HltExiting: 1 << 7,
  InvlpgExiting: 1 << 9,
  MwaitExiting: 1 << 10,
  RdpmcExiting: 1 << 11,
  RdtscExiting: 1 << 12,
  Cr3LoadExiting: 1 << 15,
  Cr3StoreExiting: 1 << 16,
  Cr8LoadExiting: 1 << 19,
  Cr8StoreExiting: 1 << 20,
  TprShadow: 1 << 21,
  NmiWindowExiting: 1 << 22,
  MovDrExiting: 1 << 23,
  UnconditionalIoExiting: 1 << 24,
  IoBitmaps: 1 << 25,
  MonitorTrapFlag: 1 << 27,
  MsrBitmaps: 1 << 28,
  MonitorExiting: 1 << 29,
  PauseExiting: 1 << 30,
  SecondaryControls: 0x8000_0000,
} as const;

/** Secondary processor-based controls (SDM 3C table 25-7). */
export const Secondary = {
  VirtualizeApicAccesses: 1 << 0,
  Ept: 1 << 1,
  DescriptorTableExiting: 1 << 2,
  Rdtscp: 1 << 3,
  VirtualizeX2Apic: 1 << 4,
  Vpid: 1 << 5,
  WbinvdExiting: 1 << 6,
  UnrestrictedGuest: 1 << 7,
  PauseLoopExiting: 1 << 10,
  RdrandExiting: 1 << 11,
  Invpcid: 1 << 12,
  VmFunctions: 1 << 13,
  RdseedExiting: 1 << 16,
  PageModificationLogging: 1 << 17,
  EnableXsaves: 1 << 20,
  ModeBasedExecute: 1 << 22,
  TscScaling: 1 << 25,
} as const;

/** VM-exit controls (SDM 3C table 25-13). */
export const Exit = {
  SaveDebugControls: 1 << 2,
  HostAddressSpaceSize: 1 << 9,
  AcknowledgeInterrupt: 1 << 15,
  SavePat: 1 << 18,
  LoadPat: 1 << 19,
  SaveEfer: 1 << 20,
  LoadEfer: 1 << 21,
  SavePreemptionTimer: 1 << 22,
} as const;

/** VM-entry controls (SDM 3C table 25-15). */
export const Entry = {
  LoadDebugControls: 1 << 2,
  Ia32eModeGuest: 1 << 9,
  LoadPat: 1 << 14,
  LoadEfer: 1 << 15,
} as const;

/** VM-function controls (SDM 3C table 25-10). */
export const VmFunction = { EptpSwitching: 1 } as const;

/**
 * Bits that are 1 unless software knows the "true" capability MSRs, and bits
 * that are 1 always (SDM 3C appendix A.3–A.5).
 */
export const DEFAULT1 = {
  pin: 0x0000_0016,
  primary: 0x0401_e172,
  exit: 0x0003_6dff,
  entry: 0x0000_11ff,
} as const;
/** Default-1 bits that the true MSRs allow to be 0. */
export const TRUE_ALLOWED_ZERO = {
  pin: 0,
  primary: (Primary.Cr3LoadExiting | Primary.Cr3StoreExiting) >>> 0,
  exit: Exit.SaveDebugControls,
  entry: Entry.LoadDebugControls,
} as const;

/** Allowed settings of one control word. */
export interface AllowedSettings {
  /** Bits that must be 1. */
  readonly must1: number;
  /** Bits that may be 1. */
  readonly may1: number;
}

/** True when `value` is allowed by `allowed`. */
export function controlsAllowed(
  value: number,
  allowed: AllowedSettings,
): boolean {
  return (~value & allowed.must1) === 0 && (value & ~allowed.may1) === 0;
}

/** The five control words as the effective settings of one VM entry. */
export interface ControlWords {
  readonly pin: number;
  readonly primary: number;
  /** 0 unless the primary controls activate them. */
  readonly secondary: number;
  readonly exit: number;
  readonly entry: number;
}
