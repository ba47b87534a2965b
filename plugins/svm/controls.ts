/**
 * Bits of the VMCB's control fields (APM 2 table B-1 and the sections named at
 * each), and which of them need a CPUID feature. Names are the manual's.
 */

/** Positions in the six intercept words: word × 32 + bit (APM 2 table B-1). */
export const InterceptBit = {
  /** 16 bits: MOV from CR0–CR15. */
  ReadCr: 0,
  WriteCr: 16,
  ReadDr: 32,
  WriteDr: 48,
  /** 32 bits, by vector. */
  Exception: 64,
  Intr: 96,
  Nmi: 97,
  Smi: 98,
  Init: 99,
  Vintr: 100,
  /** Writes of CR0 that change bits other than TS and MP. */
  SelectiveCr0: 101,
  ReadIdtr: 102,
  ReadGdtr: 103,
  ReadLdtr: 104,
  ReadTr: 105,
  WriteIdtr: 106,
  WriteGdtr: 107,
  WriteLdtr: 108,
  WriteTr: 109,
  Rdtsc: 110,
  Rdpmc: 111,
  Pushf: 112,
  Popf: 113,
  Cpuid: 114,
  Rsm: 115,
  Iret: 116,
  SoftwareInterrupt: 117,
  Invd: 118,
  Pause: 119,
  Hlt: 120,
  Invlpg: 121,
  Invlpga: 122,
  Ioio: 123,
  Msr: 124,
  TaskSwitch: 125,
  FerrFreeze: 126,
  Shutdown: 127,
  Vmrun: 128,
  Vmmcall: 129,
  Vmload: 130,
  Vmsave: 131,
  Stgi: 132,
  Clgi: 133,
  Skinit: 134,
  Rdtscp: 135,
  Icebp: 136,
  Wbinvd: 137,
  Monitor: 138,
  Mwait: 139,
  MwaitArmed: 140,
  Xsetbv: 141,
  Rdpru: 142,
  Invpcid: 162,
} as const;

/** Virtual-interrupt control, VMCB 060h (APM 2 §15.21). */
export const IntCtl = {
  TprMask: 0xf,
  Irq: 1 << 8,
  /** Virtual GIF. */
  Gif: 1 << 9,
  Nmi: 1 << 11,
  NmiMask: 1 << 12,
  PriorityShift: 16,
  PriorityMask: 0xf << 16,
  IgnoreTpr: 1 << 20,
  IntrMasking: 1 << 24,
  GifEnable: 1 << 25,
  NmiEnable: 1 << 26,
} as const;

/** VMCB 090h (APM 2 §15.25.3). */
export const NestedControl = { Enable: 1, Gmet: 8 } as const;

/** VMCB 0B8h (APM 2 §15.23, §15.33.1). */
export const VirtualExtension = {
  Lbr: 1,
  VmloadVmsave: 2,
} as const;

/** TLB_CONTROL, VMCB 05Ch (APM 2 table 15-9). */
export const TlbControl = {
  Nothing: 0,
  FlushAll: 1,
  FlushAsid: 3,
  FlushAsidNonGlobal: 7,
} as const;

/** EVENTINJ and EXITINTINFO (APM 2 figures 15-3, 15-4). */
export const EventInfo = {
  VectorMask: 0xff,
  TypeShift: 8,
  TypeMask: 7 << 8,
  ErrorCodeValid: 1 << 11,
  Valid: 0x80000000,
} as const;

/** TYPE of EVENTINJ and EXITINTINFO. */
export const EventInfoType = {
  Interrupt: 0,
  Nmi: 2,
  Exception: 3,
  SoftwareInterrupt: 4,
} as const;

/** VM_CR, C001_0114h (APM 2 §15.30.1). */
export const VmCr = {
  /** Turns INIT into #SX. */
  RInit: 1n << 1n,
  Lock: 1n << 3n,
  SvmDisable: 1n << 4n,
  Defined: 0x1fn,
} as const;

/** MSRs of the SVM unit (APM 2 §15.30, §13.1.1.5). */
export const SvmMsr = {
  LastBranchFromIp: 0x1db,
  LastBranchToIp: 0x1dc,
  LastIntFromIp: 0x1dd,
  LastIntToIp: 0x1de,
  TscRatio: 0xc0000104,
  VmCr: 0xc0010114,
  VmHsavePa: 0xc0010117,
  SvmKey: 0xc0010118,
} as const;
