/**
 * What an instruction can be intercepted as, whatever the virtualization: VMX
 * maps each to an exit reason and its controls, SVM to an intercept bit. A row
 * names at most one; only then is the virtualization port asked.
 */

export const Intercept = {
  Cpuid: 1,
  Hlt: 2,
  Invlpg: 3,
  Invd: 4,
  Wbinvd: 5,
  Rdtsc: 6,
  Rdtscp: 7,
  Rdpmc: 8,
  Rdmsr: 9,
  Wrmsr: 10,
  PortIo: 11,
  MovToCr: 12,
  MovFromCr: 13,
  Clts: 14,
  Lmsw: 15,
  Smsw: 16,
  MovDr: 17,
  /** LGDT, LIDT, SGDT, SIDT. */
  GdtrIdtr: 18,
  /** LLDT, LTR, SLDT, STR. */
  LdtrTr: 19,
  Monitor: 20,
  Mwait: 21,
  Pause: 22,
  Xsetbv: 23,
  Rdrand: 24,
  Rdseed: 25,
  Invpcid: 26,
  Rsm: 27,
  Getsec: 28,
  TaskSwitch: 29,
  /** VMX and SVM instructions themselves. */
  Virtualization: 30,
  SoftwareInterrupt: 31,
  Iret: 32,
  Pushf: 33,
  Popf: 34,
  Icebp: 35,
  Xsaves: 36,
  Xrstors: 37,
  /** Never exits by itself; #UD in a guest without "enable RDTSCP". */
  Rdpid: 38,
  /** AMD's; has no VMX control. */
  Rdpru: 39,
} as const;
export type InterceptId = typeof Intercept[keyof typeof Intercept];
