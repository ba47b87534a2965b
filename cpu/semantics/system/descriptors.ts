/**
 * Segment descriptors and segment registers (SDM 3A §3.4.5, §3.5, §5.3–5.6):
 * fetching from GDT and LDT, decoding, and loading DS, ES, FS, GS and SS with
 * the checks of MOV. A segment register changes only after every check.
 */
import { Vector } from "../../arch/exceptions.ts";
import { SegmentRights as R } from "../../arch/flags.ts";
import type { CpuContext } from "../../context.ts";
import { Outcome, type OutcomeCode } from "../../isa/row.ts";
import { Interruptibility, Seg } from "../../layout.ts";
import type { SegmentValue, Vcpu } from "../../vcpu.ts";
import {
  failed,
  gp,
  in64,
  protectedMode,
  readSystem,
  refuse,
  virtual8086,
  writeSystem,
} from "./common.ts";

/** System descriptor types (SDM 3A table 3-2). */
export const SystemType = {
  Tss16: 1,
  Ldt: 2,
  Tss16Busy: 3,
  CallGate16: 4,
  TaskGate: 5,
  InterruptGate16: 6,
  TrapGate16: 7,
  Tss32: 9,
  Tss32Busy: 11,
  CallGate32: 12,
  InterruptGate32: 14,
  TrapGate32: 15,
} as const;

/** A descriptor as read from its table. */
export interface Descriptor {
  /** As it was fetched. */
  readonly selector: number;
  /** Linear address of its first byte. */
  readonly address: bigint;
  /** Bytes 0–3. */
  readonly low: number;
  /** Bytes 4–7. */
  readonly high: number;
  /** VMCS access-rights format. */
  readonly attributes: number;
}

/** Selector without RPL, as an error code shows it. */
export const selectorError = (selector: number): number => selector & 0xfffc;

/** Whether a selector is null (index 0 of the GDT). */
export const isNull = (selector: number): boolean => (selector & 0xfffc) === 0;

/** Access rights of a descriptor's high word, in VMCS format. */
export function attributesOf(high: number): number {
  return (high >>> 8) & 0xf0ff;
}

/** Decoded limit in bytes. */
export function limitOf(d: Descriptor): number {
  const limit = (d.low & 0xffff) | (d.high & 0xf0000);
  return d.attributes & R.Granularity
    ? ((limit << 12) | 0xfff) >>> 0
    : limit >>> 0;
}

/** Low 32 bits of the base. */
export function baseOf(d: Descriptor): bigint {
  return BigInt(
    ((d.low >>> 16) | ((d.high & 0xff) << 16) | (d.high & 0xff000000)) >>> 0,
  );
}

/** DPL of access rights. */
export const dplOf = (attributes: number): number => (attributes & R.Dpl) >> 5;
/** P is set. */
export const isPresent = (a: number): boolean => (a & R.Present) !== 0;
/** A code segment. */
export const isCode = (a: number): boolean =>
  (a & (R.CodeData | R.Code)) === (R.CodeData | R.Code);
/** A conforming code segment. */
export const isConforming = (a: number): boolean =>
  (a & (R.CodeData | R.Code | R.ExpandDownConforming)) ===
    (R.CodeData | R.Code | R.ExpandDownConforming);
/** A writable data segment. */
export const isWritableData = (a: number): boolean =>
  (a & (R.CodeData | R.Code | R.WritableReadable)) ===
    (R.CodeData | R.WritableReadable);
/** S is clear: a system descriptor. */
export const isSystem = (a: number): boolean => (a & R.CodeData) === 0;

/** Segment register contents for a descriptor. */
export function segmentOf(d: Descriptor, selector: number): SegmentValue {
  return {
    selector,
    base: baseOf(d),
    limit: limitOf(d),
    attributes: d.attributes,
  };
}

/** Where a descriptor lies, or undefined when the index is beyond its table. */
export function descriptorAddress(
  v: Vcpu,
  selector: number,
  bytes = 8,
): bigint | undefined {
  const index = selector & 0xfff8;
  if (selector & 4) {
    if (v.segAttributes(Seg.LDTR) & R.Unusable) return undefined;
    if (index + bytes - 1 > v.segLimit(Seg.LDTR)) return undefined;
    return v.segBase(Seg.LDTR) + BigInt(index);
  }
  if (index + bytes - 1 > v.gdtrLimit) return undefined;
  return v.gdtrBase + BigInt(index);
}

/** Reads the eight bytes at `address`. */
export function readDescriptor(
  cpu: CpuContext,
  selector: number,
  address: bigint,
): Descriptor | undefined {
  const q = readSystem(cpu, address, 8);
  if (q === undefined) return undefined;
  const high = Number(q >> 32n);
  return {
    selector,
    address,
    low: Number(q & 0xffff_ffffn),
    high,
    attributes: attributesOf(high),
  };
}

/**
 * Fetches a descriptor; beyond the table's limit it is `vector`(selector | ext).
 * The caller has excluded null selectors.
 */
export function fetchDescriptor(
  cpu: CpuContext,
  selector: number,
  vector: number = Vector.GP,
  ext = 0,
): Descriptor | undefined {
  const address = descriptorAddress(cpu.v, selector);
  if (address === undefined) {
    return refuse(cpu, vector, selectorError(selector) | ext);
  }
  return readDescriptor(cpu, selector, address);
}

/** Sets the accessed bit in table and copy, when it is clear. @returns the descriptor with it set */
export function markAccessed(
  cpu: CpuContext,
  d: Descriptor,
): Descriptor | undefined {
  if (d.attributes & R.Accessed) return d;
  const high = d.high | 0x100;
  const byte = BigInt((high >>> 8) & 0xff);
  if (writeSystem(cpu, d.address + 5n, 1, byte) !== Outcome.Done) {
    return undefined;
  }
  return { ...d, high, attributes: d.attributes | R.Accessed };
}

/** Contents of DS, ES, FS or GS after loading a null selector. */
export function nullSegment(selector: number): SegmentValue {
  return { selector, base: 0n, limit: 0, attributes: R.Unusable };
}

/** SS after a null selector was loaded in IA-32e mode: DPL follows CPL. */
export function nullStack(selector: number, cpl: number): SegmentValue {
  return {
    selector,
    base: 0n,
    limit: 0,
    attributes: R.Unusable | (cpl << R.DplShift),
  };
}

/** Real-address mode: base = selector × 16, limit and rights stay (SDM 3A §20.1.1). */
export function loadReal(v: Vcpu, segment: number, selector: number): void {
  const old = v.segment(segment);
  let attributes = old.attributes;
  if (attributes & R.Unusable) attributes = 0x93;
  v.setSegment(segment, {
    selector,
    base: BigInt(selector) << 4n,
    limit: old.attributes & R.Unusable ? 0xffff : old.limit,
    attributes,
  });
}

/** Virtual-8086 segments have fixed limit and rights (SDM 3A §20.2.1). */
export function loadVirtual8086(
  v: Vcpu,
  segment: number,
  selector: number,
): void {
  v.setSegment(segment, {
    selector,
    base: BigInt(selector) << 4n,
    limit: 0xffff,
    attributes: 0xf3,
  });
}

/**
 * Checks and fetches what SS would be after MOV SS (SDM 2B MOV, "IF SS is
 * loaded").
 */
export function stackSegment(
  cpu: CpuContext,
  selector: number,
): SegmentValue | undefined {
  const { v } = cpu;
  const rpl = selector & 3;
  if (isNull(selector)) {
    if (!in64(v) || v.cpl === 3 || rpl !== v.cpl) {
      return refuse(cpu, Vector.GP, 0);
    }
    return nullStack(selector, v.cpl);
  }
  let d = fetchDescriptor(cpu, selector);
  if (d === undefined) return undefined;
  if (
    rpl !== v.cpl || !isWritableData(d.attributes) ||
    dplOf(d.attributes) !== v.cpl
  ) return refuse(cpu, Vector.GP, selectorError(selector));
  if (!isPresent(d.attributes)) {
    return refuse(cpu, Vector.SS, selectorError(selector));
  }
  d = markAccessed(cpu, d);
  return d && segmentOf(d, selector);
}

/** Checks and fetches what DS, ES, FS or GS would be (SDM 2B MOV). */
export function dataSegment(
  cpu: CpuContext,
  selector: number,
): SegmentValue | undefined {
  const { v } = cpu;
  if (isNull(selector)) return nullSegment(selector);
  let d = fetchDescriptor(cpu, selector);
  if (d === undefined) return undefined;
  const a = d.attributes;
  const readable = !isSystem(a) && (!isCode(a) || (a & R.WritableReadable));
  if (!readable) return refuse(cpu, Vector.GP, selectorError(selector));
  const dpl = dplOf(a);
  if (!isConforming(a) && ((selector & 3) > dpl || v.cpl > dpl)) {
    return refuse(cpu, Vector.GP, selectorError(selector));
  }
  if (!isPresent(a)) return refuse(cpu, Vector.NP, selectorError(selector));
  d = markAccessed(cpu, d);
  return d && segmentOf(d, selector);
}

/**
 * Loads ES, SS, DS, FS or GS in any mode, with all checks.
 * @param blocking MOV SS and POP SS hold events for one instruction
 */
export function loadSegment(
  cpu: CpuContext,
  segment: number,
  selector: number,
  blocking: boolean,
): OutcomeCode {
  const { v } = cpu;
  if (segment === Seg.CS) return gp(cpu);
  if (virtual8086(v)) loadVirtual8086(v, segment, selector);
  else if (!protectedMode(v)) loadReal(v, segment, selector);
  else {
    const value = segment === Seg.SS
      ? stackSegment(cpu, selector)
      : dataSegment(cpu, selector);
    if (value === undefined) return failed(cpu);
    v.setSegment(segment, value);
  }
  if (segment === Seg.SS && blocking) {
    v.interruptibility |= Interruptibility.ByMovSs;
  }
  return Outcome.Done;
}

/**
 * After a return to an outer privilege level: data segments that the new level
 * may not use become null (SDM 2A IRET, RETURN-TO-OUTER-PRIVILEGE-LEVEL).
 */
export function dropInnerSegments(v: Vcpu): void {
  for (const s of [Seg.ES, Seg.DS, Seg.FS, Seg.GS]) {
    const a = v.segAttributes(s);
    if (a & R.Unusable) continue;
    if (isConforming(a) || dplOf(a) >= v.cpl) continue;
    // Only selector and validity go: FS and GS keep their bases.
    const old = v.segment(s);
    v.setSegment(s, { ...old, selector: 0, attributes: a | R.Unusable });
  }
}
