/**
 * Basic exit reasons (SDM 3C appendix C), what of them our processor produces,
 * VM-instruction error numbers (SDM 3C §31.4), and interruption-information
 * formats (SDM 3C §25.8.3, §25.9.2). Nothing else in the project spells an exit
 * reason as a number or string.
 */

/** Basic exit reasons. */
export const ExitReason = {
  ExceptionOrNmi: 0,
  ExternalInterrupt: 1,
  TripleFault: 2,
  Init: 3,
  Sipi: 4,
  InterruptWindow: 7,
  NmiWindow: 8,
  TaskSwitch: 9,
  Cpuid: 10,
  Getsec: 11,
  Hlt: 12,
  Invd: 13,
  Invlpg: 14,
  Rdpmc: 15,
  Rdtsc: 16,
  Rsm: 17,
  Vmcall: 18,
  Vmclear: 19,
  Vmlaunch: 20,
  Vmptrld: 21,
  Vmptrst: 22,
  Vmread: 23,
  Vmresume: 24,
  Vmwrite: 25,
  Vmxoff: 26,
  Vmxon: 27,
  ControlRegister: 28,
  MovDr: 29,
  Io: 30,
  Rdmsr: 31,
  Wrmsr: 32,
  EntryFailureGuestState: 33,
  EntryFailureMsrLoading: 34,
  Mwait: 36,
  MonitorTrapFlag: 37,
  Monitor: 39,
  Pause: 40,
  EntryFailureMachineCheck: 41,
  TprBelowThreshold: 43,
  GdtrIdtr: 46,
  LdtrTr: 47,
  EptViolation: 48,
  EptMisconfiguration: 49,
  Invept: 50,
  Rdtscp: 51,
  PreemptionTimer: 52,
  Invvpid: 53,
  Wbinvd: 54,
  Xsetbv: 55,
  Rdrand: 57,
  Invpcid: 58,
  Vmfunc: 59,
  Rdseed: 61,
  Xsaves: 63,
  Xrstors: 64,
} as const;
export type ExitReasonCode = typeof ExitReason[keyof typeof ExitReason];

/** Bit 31 of the exit-reason field: the VM entry failed. */
export const ENTRY_FAILURE = 0x8000_0000;

/** One exit reason. */
export interface ExitReasonRow {
  readonly reason: number;
  readonly name: string;
  /** Manual spelling for people. */
  readonly title: string;
  /** Trap-like: the instruction has completed when the exit happens. */
  readonly trapLike: boolean;
  /** The VM-exit instruction-length field is valid. */
  readonly instructionLength: boolean;
}

const TITLES: Record<keyof typeof ExitReason, string> = {
  ExceptionOrNmi: "Exception or non-maskable interrupt",
  ExternalInterrupt: "External interrupt",
  TripleFault: "Triple fault",
  Init: "INIT signal",
  Sipi: "Start-up IPI",
  InterruptWindow: "Interrupt window",
  NmiWindow: "NMI window",
  TaskSwitch: "Task switch",
  Cpuid: "CPUID",
  Getsec: "GETSEC",
  Hlt: "HLT",
  Invd: "INVD",
  Invlpg: "INVLPG",
  Rdpmc: "RDPMC",
  Rdtsc: "RDTSC",
  Rsm: "RSM",
  Vmcall: "VMCALL",
  Vmclear: "VMCLEAR",
  Vmlaunch: "VMLAUNCH",
  Vmptrld: "VMPTRLD",
  Vmptrst: "VMPTRST",
  Vmread: "VMREAD",
  Vmresume: "VMRESUME",
  Vmwrite: "VMWRITE",
  Vmxoff: "VMXOFF",
  Vmxon: "VMXON",
  ControlRegister: "Control-register access",
  MovDr: "MOV DR",
  Io: "I/O instruction",
  Rdmsr: "RDMSR",
  Wrmsr: "WRMSR",
  EntryFailureGuestState: "VM-entry failure due to invalid guest state",
  EntryFailureMsrLoading: "VM-entry failure due to MSR loading",
  Mwait: "MWAIT",
  MonitorTrapFlag: "Monitor trap flag",
  Monitor: "MONITOR",
  Pause: "PAUSE",
  EntryFailureMachineCheck: "VM-entry failure due to machine-check event",
  TprBelowThreshold: "TPR below threshold",
  GdtrIdtr: "Access to GDTR or IDTR",
  LdtrTr: "Access to LDTR or TR",
  EptViolation: "EPT violation",
  EptMisconfiguration: "EPT misconfiguration",
  Invept: "INVEPT",
  Rdtscp: "RDTSCP",
  PreemptionTimer: "VMX-preemption timer expired",
  Invvpid: "INVVPID",
  Wbinvd: "WBINVD",
  Xsetbv: "XSETBV",
  Rdrand: "RDRAND",
  Invpcid: "INVPCID",
  Vmfunc: "VMFUNC",
  Rdseed: "RDSEED",
  Xsaves: "XSAVES",
  Xrstors: "XRSTORS",
};

/** Exits that follow something else than the execution of one instruction. */
const EVENT_EXITS: ReadonlySet<number> = new Set([
  ExitReason.ExceptionOrNmi,
  ExitReason.ExternalInterrupt,
  ExitReason.TripleFault,
  ExitReason.Init,
  ExitReason.Sipi,
  ExitReason.InterruptWindow,
  ExitReason.NmiWindow,
  ExitReason.EntryFailureGuestState,
  ExitReason.EntryFailureMsrLoading,
  ExitReason.EntryFailureMachineCheck,
  ExitReason.MonitorTrapFlag,
  ExitReason.TprBelowThreshold,
  ExitReason.EptViolation,
  ExitReason.EptMisconfiguration,
  ExitReason.PreemptionTimer,
]);

/** Every exit reason our processor can produce or names. */
export const EXIT_REASONS: readonly ExitReasonRow[] = Object.entries(ExitReason)
  .map(([name, reason]) => ({
    reason,
    name,
    title: TITLES[name as keyof typeof ExitReason],
    trapLike: reason === ExitReason.TprBelowThreshold,
    instructionLength: !EVENT_EXITS.has(reason),
  }));

const BY_REASON = new Map(EXIT_REASONS.map((row) => [row.reason, row]));

/** Title of a basic exit reason (bits 15:0 of the field). */
export function exitReasonTitle(reason: number): string {
  return BY_REASON.get(reason & 0xffff)?.title ??
    `exit reason ${reason & 0xffff}`;
}

/** VM-instruction error numbers (SDM 3C table 31-1). */
export const VmError = {
  None: 0,
  VmcallInRoot: 1,
  VmclearInvalidAddress: 2,
  VmclearVmxonPointer: 3,
  VmlaunchNonClear: 4,
  VmresumeNonLaunched: 5,
  VmresumeAfterVmxoff: 6,
  EntryInvalidControls: 7,
  EntryInvalidHostState: 8,
  VmptrldInvalidAddress: 9,
  VmptrldVmxonPointer: 10,
  VmptrldIncorrectRevision: 11,
  UnsupportedComponent: 12,
  VmwriteReadOnly: 13,
  VmxonInRoot: 15,
  EntryMovSsBlocking: 26,
  InvalidInveptInvvpidOperand: 28,
} as const;

/** Interruption types (SDM 3C table 25-17). */
export const InterruptionType = {
  External: 0,
  Nmi: 2,
  HardwareException: 3,
  SoftwareInterrupt: 4,
  PrivilegedSoftwareException: 5,
  SoftwareException: 6,
  Other: 7,
} as const;

/** Bits of interruption-information fields. */
export const Interruption = {
  VectorMask: 0xff,
  TypeShift: 8,
  TypeMask: 7 << 8,
  ErrorCodeValid: 1 << 11,
  /** VM-exit interruption information only: NMI unblocking due to IRET. */
  NmiUnblocking: 1 << 12,
  Valid: 0x8000_0000,
  /** Reserved in the VM-entry field. */
  EntryReserved: 0x7fff_f000,
} as const;

/** Exit qualification of a failed VM entry for invalid guest state (SDM 3C §27.8). */
export const EntryFailureQualification = {
  None: 0n,
  PdpteLoading: 2n,
  NmiInjection: 3n,
  InvalidLinkPointer: 4n,
} as const;
