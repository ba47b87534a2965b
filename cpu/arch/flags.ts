/**
 * RFLAGS, CR0, CR4 and EFER bits (SDM vol. 1 §3.4.3, vol. 3A §2.5, §2.2.1).
 */

export const Rflags = {
  CF: 1 << 0,
  Fixed1: 1 << 1,
  PF: 1 << 2,
  AF: 1 << 4,
  ZF: 1 << 6,
  SF: 1 << 7,
  TF: 1 << 8,
  IF: 1 << 9,
  DF: 1 << 10,
  OF: 1 << 11,
  IOPL: 3 << 12,
  NT: 1 << 14,
  RF: 1 << 16,
  VM: 1 << 17,
  AC: 1 << 18,
  VIF: 1 << 19,
  VIP: 1 << 20,
  ID: 1 << 21,
} as const;
/** CF, PF, AF, ZF, SF, OF. */
export const ARITHMETIC_FLAGS = 0x8d5;

export const Cr0 = {
  PE: 1 << 0,
  MP: 1 << 1,
  EM: 1 << 2,
  TS: 1 << 3,
  ET: 1 << 4,
  NE: 1 << 5,
  WP: 1 << 16,
  AM: 1 << 18,
  NW: 1 << 29,
  CD: 1 << 30,
  PG: 0x80000000,
} as const;

export const Cr4 = {
  VME: 1 << 0,
  PVI: 1 << 1,
  TSD: 1 << 2,
  DE: 1 << 3,
  PSE: 1 << 4,
  PAE: 1 << 5,
  MCE: 1 << 6,
  PGE: 1 << 7,
  PCE: 1 << 8,
  OSFXSR: 1 << 9,
  OSXMMEXCPT: 1 << 10,
  UMIP: 1 << 11,
  LA57: 1 << 12,
  VMXE: 1 << 13,
  SMXE: 1 << 14,
  FSGSBASE: 1 << 16,
  PCIDE: 1 << 17,
  OSXSAVE: 1 << 18,
  SMEP: 1 << 20,
  SMAP: 1 << 21,
  PKE: 1 << 22,
  CET: 1 << 23,
  PKS: 1 << 24,
  LAM_SUP: 1 << 28,
} as const;

/** Bits of CR3 above the address (SDM 3A §4.4; ISE ch. on LAM), and MOV's bit 63. */
export const Cr3 = {
  /** Metadata in bits 62:57 of user pointers. */
  LAM_U57: 1n << 61n,
  /** Metadata in bits 62:48 of user pointers; LAM_U57 goes first. */
  LAM_U48: 1n << 62n,
  /** Bits 51:0: address and PCID. */
  ADDRESS: (1n << 52n) - 1n,
} as const;

export const Efer = {
  SCE: 1 << 0,
  LME: 1 << 8,
  LMA: 1 << 10,
  NXE: 1 << 11,
  SVME: 1 << 12,
  LMSLE: 1 << 13,
  FFXSR: 1 << 14,
} as const;

/** Segment access-rights bits in VMCS format (SDM 3C table 25-2). */
export const SegmentRights = {
  TypeMask: 0xf,
  Accessed: 1,
  /** Writable (data) or readable (code). */
  WritableReadable: 2,
  /** Expand-down (data) or conforming (code). */
  ExpandDownConforming: 4,
  Code: 8,
  /** S = 1: code or data. */
  CodeData: 1 << 4,
  DplShift: 5,
  Dpl: 3 << 5,
  Present: 1 << 7,
  Available: 1 << 12,
  Long: 1 << 13,
  DefaultBig: 1 << 14,
  Granularity: 1 << 15,
  Unusable: 1 << 16,
} as const;
