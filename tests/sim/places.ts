/**
 * Where things lie in the memory of a random program (tests/sim/program.ts):
 * one flat image from BASE, physical = linear. Kernel and user body consist of
 * slots of SLOT bytes, at whose starts a fault's handler resumes.
 */

/** Bytes of a slot: prologue, instruction under test, jump to the next slot. */
export const SLOT = 64;

/** Physical and linear addresses. */
export const AT = {
  runtime: 0x100000,
  gdt: 0x102000,
  tss: 0x102800,
  /** Second TSS of 32-bit programs, for task switches. */
  tss2: 0x102900,
  idt: 0x103000,
  pml4: 0x104000,
  pdpt: 0x105000,
  pd: 0x106000,
  pt: 0x107000,
  pdHigh: 0x108000,
  vars: 0x109000,
  /** Tops of the stacks of faults, NMI, debug exceptions and interrupts. */
  faultStack: 0x10a800,
  nmiStack: 0x10ac00,
  debugStack: 0x10b000,
  interruptStack: 0x10b800,
  kernelStack: 0x10c800,
  innerStack: 0x10d800,
  kernelData: 0x110000,
  userData: 0x114000,
  userStack: 0x118800,
  /** VMXON region or host save area. */
  vmxon: 0x119000,
  /** VMCS or VMCB. */
  vmcs: 0x11a000,
  msrBitmap: 0x11b000,
  ioBitmaps: 0x11c000,
  ept: 0x11e000,
  eptPt: 0x121000,
  hostStack: 0x123000,
  fields: 0x123000,
  eptHigh: 0x125000,
  eptList: 0x126000,
  kernelBody: 0x130000,
  userBody: 0x138000,
  end: 0x140000,
} as const;

/** Bytes of data on each side that instructions are aimed at. */
export const DATA_BYTES = 0x4000;

/** Offsets from AT.vars. */
export const VAR = {
  rax: 0x00,
  rcx: 0x08,
  /** Slot at which the last fault resumed. */
  last: 0x10,
  kernelEnd: 0x18,
  userEnd: 0x20,
  faults: 0x28,
  exits: 0x30,
  /** Debug exceptions until TF and DR7 are cleared. */
  debugLeft: 0x38,
  /** The program runs as L2 of VMX (1) or SVM (2) and ends by VMCALL or VMMCALL. */
  nested: 0x40,
  scratch: 0x48,
  zeros: 0x60,
  vmxonPointer: 0x70,
  vmcsPointer: 0x78,
  /** What an L1 on SVM makes of a nested page-table entry that faulted. */
  open: 0x80,
  /** Events that L1 injects: pairs of information and error code, 16 of them. */
  injected: 0x100,
} as const;

/** Selectors of the GDT. */
export const SELECTOR = {
  code64: 0x08,
  data: 0x10,
  code32: 0x18,
  code16: 0x20,
  data16: 0x28,
  userCode32: 0x33,
  userData: 0x3b,
  userCode64: 0x43,
  tss: 0x48,
  notPresent: 0x58,
  callGate: 0x60,
  /** 16 bytes in 64-bit mode. */
  ldt: 0x70,
  tss2: 0x80,
  taskGate: 0x88,
} as const;
