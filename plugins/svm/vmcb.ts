/**
 * The virtual machine control block (APM 2 appendix B): where each field of the
 * control area and of the state-save area lies, and access to one in physical
 * memory. The host save area uses the same offsets.
 *
 * Software reads and writes a VMCB with ordinary instructions, so offsets are
 * architectural. What the processor writes there are no `mem.wrote` facts:
 * `svm.entered` and `svm.exited` say what happened.
 */
import type { PhysicalMemory } from "../../cpu/physical.ts";

/** Byte offsets in the control area (APM 2 table B-1). */
export const Control = {
  /** Six u32 intercept words. */
  intercepts: 0x000,
  /** u16 */ pauseThreshold: 0x03c,
  /** u16 */ pauseCount: 0x03e,
  iopmBase: 0x040,
  msrpmBase: 0x048,
  tscOffset: 0x050,
  /** u32 */ asid: 0x058,
  /** u8 */ tlbControl: 0x05c,
  /** u32: IntCtl bits. */ intCtl: 0x060,
  /** u32: vector in bits 7:0. */ intVector: 0x064,
  /** u32: bit 0 interrupt shadow. */ interruptShadow: 0x068,
  exitCode: 0x070,
  exitInfo1: 0x078,
  exitInfo2: 0x080,
  /** u32 */ exitIntInfo: 0x088,
  /** u32 */ exitIntInfoError: 0x08c,
  /** NestedControl bits. */ nestedControl: 0x090,
  /** u32 */ eventInjection: 0x0a8,
  /** u32 */ eventInjectionError: 0x0ac,
  nestedCr3: 0x0b0,
  /** VirtualExtension bits. */ virtualExtensions: 0x0b8,
  /** u32 */ clean: 0x0c0,
  nextRip: 0x0c8,
  /** u8 count, then 15 bytes. */ instructionBytes: 0x0d0,
} as const;

/** Byte offsets in the state-save area, from the VMCB's start (APM 2 table B-2). */
export const Save = {
  /** Segments: u16 selector, u16 attributes, u32 limit, u64 base. */
  es: 0x400,
  cs: 0x410,
  ss: 0x420,
  ds: 0x430,
  fs: 0x440,
  gs: 0x450,
  gdtr: 0x460,
  ldtr: 0x470,
  idtr: 0x480,
  tr: 0x490,
  /** u8 */ cpl: 0x4cb,
  efer: 0x4d0,
  cr4: 0x548,
  cr3: 0x550,
  cr0: 0x558,
  dr7: 0x560,
  dr6: 0x568,
  rflags: 0x570,
  rip: 0x578,
  rsp: 0x5d8,
  rax: 0x5f8,
  star: 0x600,
  lstar: 0x608,
  cstar: 0x610,
  sfmask: 0x618,
  kernelGsBase: 0x620,
  sysenterCs: 0x628,
  sysenterEsp: 0x630,
  sysenterEip: 0x638,
  cr2: 0x640,
  guestPat: 0x668,
  debugCtl: 0x670,
  branchFrom: 0x678,
  branchTo: 0x680,
  lastExceptionFrom: 0x688,
  lastExceptionTo: 0x690,
} as const;

/** Offsets within a segment of the save area. */
export const SaveSegment = {
  selector: 0,
  attributes: 2,
  limit: 4,
  base: 8,
} as const;

/** Read access to a VMCB, wherever it is kept. */
export interface VmcbView {
  /** u64 at a byte offset. */
  read(offset: number): bigint;
  /** u32 at a byte offset. */
  read32(offset: number): number;
}

/** A VMCB (or host save area) at a 4-KiB-aligned physical address. */
export class Vmcb implements VmcbView {
  constructor(
    private readonly physical: PhysicalMemory,
    readonly address: number,
  ) {}

  read(offset: number): bigint {
    return this.physical.readU64(this.address + offset);
  }
  read32(offset: number): number {
    return this.physical.readU32(this.address + offset);
  }
  read16(offset: number): number {
    return Number(this.physical.read(this.address + offset, 2));
  }
  read8(offset: number): number {
    return Number(this.physical.read(this.address + offset, 1));
  }
  write(offset: number, value: bigint): void {
    this.physical.writeU64(this.address + offset, value);
  }
  write32(offset: number, value: number): void {
    this.physical.writeU32(this.address + offset, value >>> 0);
  }
  write16(offset: number, value: number): void {
    this.physical.write(this.address + offset, 2, BigInt(value));
  }
  write8(offset: number, value: number): void {
    this.physical.write(this.address + offset, 1, BigInt(value));
  }
}
