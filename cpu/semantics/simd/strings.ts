/**
 * PCMPESTRI, PCMPESTRM, PCMPISTRI, PCMPISTRM (SDM vol. 2B §4.1, "imm8 control
 * byte operation"): comparison of strings of bytes or words in two XMM operands.
 * Invariant: strings are masks of 8 or 16 bits; bit i is element i.
 */
import { Rflags } from "../../arch/flags.ts";
import type { CpuContext } from "../../context.ts";
import type { Insn } from "../../isa/insn.ts";
import { type CallFunction, Outcome, type OutcomeCode } from "../../isa/row.ts";
import { Gpr, VCPU } from "../../layout.ts";
import { makeLanes } from "./lanes.ts";
import { Align, load, simdUnavailable } from "./operands.ts";
import { immediate } from "./shapes.ts";

const A = makeLanes(), B = makeLanes();

/** imm8[3:2]. */
const Aggregation = { EqualAny: 0, Ranges: 1, EqualEach: 2, EqualOrdered: 3 };

/**
 * IntRes1 (SDM 2B §4.1.4): which elements of `b` match, `a` having `la` valid
 * elements and `b` `lb`. Comparisons with an invalid element are overridden as
 * table 4-5 says.
 */
function compare(
  a: ArrayLike<number>,
  la: number,
  b: ArrayLike<number>,
  lb: number,
  kind: number,
): number {
  const n = a.length;
  let result = 0;
  for (let j = 0; j < n; j++) {
    let match: boolean;
    switch (kind) {
      case Aggregation.EqualAny:
        match = false;
        for (let i = 0; j < lb && i < la; i++) match ||= a[i] === b[j];
        break;
      case Aggregation.Ranges:
        match = false;
        for (let i = 0; j < lb && i + 1 < la; i += 2) {
          match ||= b[j] >= a[i] && b[j] <= a[i + 1];
        }
        break;
      case Aggregation.EqualEach:
        match = j < la && j < lb ? a[j] === b[j] : j >= la && j >= lb;
        break;
      default:
        match = true;
        for (let i = 0; i < la && i + j < n; i++) {
          match &&= i + j < lb && a[i] === b[i + j];
        }
    }
    if (match) result |= 1 << j;
  }
  return result;
}

/** Elements before the first null, at most all. */
function implicitLength(v: ArrayLike<number>): number {
  let n = 0;
  while (n < v.length && v[n] !== 0) n++;
  return n;
}

/** |EAX| or |RAX| (EDX, RDX), at most `most`. */
function explicitLength(
  cpu: CpuContext,
  register: number,
  wide: boolean,
  most: number,
): number {
  const value = BigInt.asIntN(wide ? 64 : 32, cpu.v.gpr(register));
  const size = value < 0n ? -value : value;
  return size > BigInt(most) ? most : Number(size);
}

/** CF ZF SF OF as results, AF and PF cleared. */
function setFlags(
  cpu: CpuContext,
  result: number,
  firstShort: boolean,
  secondShort: boolean,
): void {
  const { v } = cpu;
  const all = Rflags.CF | Rflags.PF | Rflags.AF | Rflags.ZF | Rflags.SF |
    Rflags.OF;
  v.rflags = ((v.rflags & ~all) | (result !== 0 ? Rflags.CF : 0) |
    (secondShort ? Rflags.ZF : 0) | (firstShort ? Rflags.SF : 0) |
    (result & 1 ? Rflags.OF : 0)) >>> 0;
}

/** PCMPxSTRI: the place of the lowest or highest match to ECX. */
function toIndex(cpu: CpuContext, result: number, n: number, imm: number) {
  let index = n;
  if (result !== 0) {
    index = 31 - Math.clz32(imm & 0x40 ? result : result & -result);
  }
  cpu.v.setGpr32(Gpr.RCX, index);
}

/** PCMPxSTRM: bits, or elements of ones, to XMM0. */
function toMask(cpu: CpuContext, result: number, n: number, imm: number): void {
  const { u8, u16, u32 } = A;
  u32.fill(0);
  if (!(imm & 0x40)) u32[0] = result;
  else {
    const out = n === 16 ? u8 : u16;
    for (let i = 0; i < n; i++) out[i] = result >> i & 1 ? -1 : 0;
  }
  for (let i = 0; i < 4; i++) cpu.v.setWord(VCPU.vector + i * 4, u32[i]);
}

/**
 * One of the four.
 * @param lengths where lengths come from; "wide": RAX and RDX
 */
export function compareStrings(
  lengths: "implicit" | "explicit" | "wide",
  result: "index" | "mask",
): CallFunction {
  return (cpu: CpuContext, insn: Insn): OutcomeCode => {
    if (simdUnavailable(cpu, insn)) return Outcome.Fault;
    if (!load(cpu, insn, 1, B, Align.None)) {
      return cpu.access.outcome as OutcomeCode;
    }
    load(cpu, insn, 0, A);
    const imm = immediate(insn);
    const view = (["u8", "u16", "i8", "i16"] as const)[imm & 3];
    const a = A[view], b = B[view], n = a.length;
    let la: number, lb: number;
    if (lengths === "implicit") {
      la = implicitLength(a);
      lb = implicitLength(b);
    } else {
      const wide = lengths === "wide";
      la = explicitLength(cpu, Gpr.RAX, wide, n);
      lb = explicitLength(cpu, Gpr.RDX, wide, n);
    }
    let found = compare(a, la, b, lb, imm >> 2 & 3);
    // Polarity, imm8[5:4]: 1 negates all elements, 3 the valid ones of `b`.
    if (imm & 0x10) found ^= (1 << (imm & 0x20 ? lb : n)) - 1;
    setFlags(cpu, found, la < n, lb < n);
    if (result === "index") toIndex(cpu, found, n, imm);
    else toMask(cpu, found, n, imm);
    return Outcome.Done;
  };
}
