/**
 * SSE arithmetic, comparison, rounding and dot products (SDM vol. 2; vol. 1
 * §11.4, §11.5): operations on one pair of lanes, and the shapes that apply
 * them to scalars, packed, horizontal and alternating operands.
 * Invariant: scalar forms keep the destination's upper part.
 */
import { Rflags } from "../../arch/flags.ts";
import type { CpuContext } from "../../context.ts";
import type { Insn } from "../../isa/insn.ts";
import { type CallFunction, Outcome, type OutcomeCode } from "../../isa/row.ts";
import * as soft from "../softfloat/softfloat.ts";
import {
  doubles,
  env,
  loadOperands,
  quads,
  Scratch,
  settle,
  singles,
  storeXmm,
  words,
} from "./float.ts";
import { reciprocalEstimate, rootEstimate } from "./float_estimates.ts";
import * as fast from "./float_fast.ts";
import { relate, roundLane } from "./float_fast_convert.ts";

const { F32, F64, FloatFlag, Rounding, Relation } = soft;
type Binary = (
  f: soft.Format,
  env: soft.FloatEnvironment,
  a: bigint,
  b: bigint,
) => bigint;

/** One operation on a pair of lanes; the host's arithmetic where it suffices. */
export interface LaneOperation {
  readonly exact: Binary;
  readonly fast32?: fast.Fast;
  readonly fast64?: fast.Fast;
  /** The fast paths do not depend on rounding. */
  readonly anyRounding?: boolean;
}

const usesFast = (op: LaneOperation): boolean =>
  op.anyRounding === true || env.rounding === Rounding.Nearest;

/** Which lanes an instruction works on. */
export const Shape = {
  Scalar32: 0,
  Scalar64: 1,
  Packed32: 2,
  Packed64: 3,
} as const;
const isSingle = (shape: number): boolean => (shape & 1) === 0;
const lanesOf = (shape: number): number =>
  shape < Shape.Packed32 ? 1 : isSingle(shape) ? 4 : 2;

const { Destination, Source, Result } = Scratch;

/** Result lane `to` from lanes `x` and `y` (indices into the scratch lanes). */
function apply32(op: LaneOperation, to: number, x: number, y: number): void {
  if (op.fast32 && usesFast(op)) {
    const r = op.fast32(singles[x], singles[y]);
    if (r === r) {
      singles[to] = r;
      return;
    }
  }
  words[to] = Number(op.exact(F32, env, BigInt(words[x]), BigInt(words[y])));
}

/** The same for f64 lanes. */
function apply64(op: LaneOperation, to: number, x: number, y: number): void {
  if (op.fast64 && usesFast(op)) {
    const r = op.fast64(doubles[x], doubles[y]);
    if (r === r) {
      doubles[to] = r;
      return;
    }
  }
  quads[to] = op.exact(F64, env, quads[x], quads[y]);
}

function apply(
  op: LaneOperation,
  single: boolean,
  to: number,
  x: number,
  y: number,
): void {
  if (single) apply32(op, Result + to, x, y);
  else apply64(op, Result / 2 + to, x, y);
}

/** Flags, then the result: the common end. */
function finish(cpu: CpuContext, insn: Insn, count: number): OutcomeCode {
  if (fast.lost) env.raise(FloatFlag.PE);
  if (!settle(cpu)) return Outcome.Fault;
  storeXmm(cpu, insn.operands[0].reg, count);
  return Outcome.Done;
}

function failed(cpu: CpuContext): OutcomeCode {
  return (cpu.access.outcome || Outcome.Fault) as OutcomeCode;
}

/** op xmm, xmm/m: each lane of destination and source. */
export function arithmetic(op: LaneOperation, shape: number): CallFunction {
  const single = isSingle(shape), count = lanesOf(shape);
  const second = single ? Source : Source / 2;
  const stored = count * (single ? 1 : 2);
  return (cpu, insn) => {
    if (!loadOperands(cpu, insn)) return failed(cpu);
    fast.beginFast();
    for (let i = 0; i < count; i++) {
      apply(op, single, i, Destination + i, second + i);
    }
    return finish(cpu, insn, stored);
  };
}

/** HADD, HSUB: neighbours of the destination, then those of the source. */
export function horizontal(op: LaneOperation, single: boolean): CallFunction {
  const count = single ? 4 : 2;
  return (cpu, insn) => {
    if (!loadOperands(cpu, insn)) return failed(cpu);
    fast.beginFast();
    for (let i = 0; i < count; i++) {
      // Destination and source lie side by side in the scratch lanes.
      apply(op, single, i, 2 * i, 2 * i + 1);
    }
    return finish(cpu, insn, 4);
  };
}

/** ADDSUB: even lanes subtract, odd lanes add. */
export function alternating(single: boolean): CallFunction {
  const count = single ? 4 : 2, second = single ? Source : Source / 2;
  return (cpu, insn) => {
    if (!loadOperands(cpu, insn)) return failed(cpu);
    fast.beginFast();
    for (let i = 0; i < count; i++) {
      apply(i & 1 ? ADD : SUBTRACT, single, i, Destination + i, second + i);
    }
    return finish(cpu, insn, 4);
  };
}

/** ADD. */
export const ADD: LaneOperation = {
  exact: soft.add,
  fast32: fast.add32,
  fast64: fast.add64,
};
/** SUB. */
export const SUBTRACT: LaneOperation = {
  exact: soft.subtract,
  fast32: fast.subtract32,
  fast64: fast.subtract64,
};
/** MUL. */
export const MULTIPLY: LaneOperation = {
  exact: soft.multiply,
  fast32: fast.multiply32,
  fast64: fast.multiply64,
};
/** DIV. */
export const DIVIDE: LaneOperation = {
  exact: soft.divide,
  fast32: fast.divide32,
  fast64: fast.divide64,
};
/** SQRT, of the source. */
export const SQUARE_ROOT: LaneOperation = {
  exact: (f, e, _a, b) => soft.squareRoot(f, e, b),
  fast32: fast.squareRoot32,
  fast64: fast.squareRoot64,
};

/** MIN and MAX: the source unless the destination is beyond it (SDM 2B). */
function extreme(relation: number): LaneOperation {
  const quick = (single: boolean): fast.Fast => (x, y) => {
    const related = relate(single, x, y);
    return related < 0 ? NaN : related === relation ? x : y;
  };
  return {
    anyRounding: true,
    fast32: quick(true),
    fast64: quick(false),
    exact: (f, e, a, b) => {
      const bits = soft.compare(f, e, a, b, false) === relation ? a : b;
      const flushed = e.denormalsAreZeros &&
        soft.classOf(f, bits) === soft.Class.Denormal;
      return flushed ? soft.zero(f, Number(bits >> f.signShift)) : bits;
    },
  };
}
/** MIN. */
export const MINIMUM: LaneOperation = extreme(Relation.Less);
/** MAX. */
export const MAXIMUM: LaneOperation = extreme(Relation.Greater);

/** Immediate of the last operand. */
function immediate(insn: Insn): number {
  return Number(insn.operands[insn.operands.length - 1].imm & 0xffn);
}

/**
 * Predicates of CMPcc (SDM 2A table 3-1, imm8[2:0]): relations for which the
 * answer is ones, as bits; predicates 1, 2, 5 and 6 signal QNaNs.
 */
const LT = 1 << Relation.Less, EQ = 1 << Relation.Equal;
const GT = 1 << Relation.Greater, UN = 1 << Relation.Unordered;
const PREDICATES = [
  EQ,
  LT,
  LT | EQ,
  UN,
  LT | GT | UN,
  EQ | GT | UN,
  GT | UN,
  LT | EQ | GT,
];
const SIGNALING = 1 << 1 | 1 << 2 | 1 << 5 | 1 << 6;

/** Relation of destination and source lane `i`; raises IE and DE. */
function relation(single: boolean, i: number, quiet: boolean): number {
  const x = Destination + i, y = (single ? Source : Source / 2) + i;
  const quick = single
    ? relate(true, singles[x], singles[y])
    : relate(false, doubles[x], doubles[y]);
  if (quick >= 0) return quick;
  return single
    ? soft.compare(F32, env, BigInt(words[x]), BigInt(words[y]), quiet)
    : soft.compare(F64, env, quads[x], quads[y], quiet);
}

/** CMPcc: a mask for each lane. */
export function compareMask(shape: number): CallFunction {
  const single = isSingle(shape), count = lanesOf(shape);
  return (cpu, insn) => {
    if (!loadOperands(cpu, insn)) return failed(cpu);
    const predicate = immediate(insn) & 7;
    const quiet = (SIGNALING >> predicate & 1) === 0;
    for (let i = 0; i < count; i++) {
      const holds = PREDICATES[predicate] >> relation(single, i, quiet) & 1;
      if (single) words[Result + i] = -holds;
      else words[Result + 2 * i] = words[Result + 2 * i + 1] = -holds;
    }
    fast.beginFast();
    return finish(cpu, insn, count * (single ? 1 : 2));
  };
}

/** ZF, PF, CF by relation (SDM 2A COMISS). */
const COMPARE_FLAGS = [
  Rflags.CF,
  Rflags.ZF,
  0,
  Rflags.ZF | Rflags.PF | Rflags.CF,
];
const ARITHMETIC_FLAGS = Rflags.CF | Rflags.PF | Rflags.AF | Rflags.ZF |
  Rflags.SF | Rflags.OF;

/** COMIS and UCOMIS. @param quiet UCOMIS: QNaNs raise nothing */
export function compareFlags(single: boolean, quiet: boolean): CallFunction {
  return (cpu, insn) => {
    if (!loadOperands(cpu, insn)) return failed(cpu);
    const related = relation(single, 0, quiet);
    if (!settle(cpu)) return Outcome.Fault;
    const { v } = cpu;
    v.rflags = v.rflags & ~ARITHMETIC_FLAGS | COMPARE_FLAGS[related];
    return Outcome.Done;
  };
}

/** ROUND: imm8[1:0] or MXCSR.RC (imm8[2]); imm8[3] suppresses PE. */
export function round(shape: number): CallFunction {
  const single = isSingle(shape);
  const calls = Array.from({ length: 16 }, (_, imm) => {
    const rounding = (): number => imm & 4 ? env.rounding : imm & 3;
    const suppress = (imm & 8) !== 0;
    const quick: fast.Fast = (_x, y) =>
      roundLane(single, y, rounding(), suppress);
    return arithmetic({
      exact: (f, e, _a, b) =>
        soft.roundToIntegral(f, e, b, rounding(), suppress),
      fast32: quick,
      fast64: quick,
      anyRounding: true,
    }, shape);
  });
  return (cpu, insn) => calls[immediate(insn) & 15](cpu, insn);
}

/** RCPPS, RCPSS, RSQRTPS, RSQRTSS: no flags, no rounding control. */
export function estimate(root: boolean, shape: number): CallFunction {
  const f = root ? rootEstimate : reciprocalEstimate;
  const count = lanesOf(shape);
  return (cpu, insn) => {
    if (!loadOperands(cpu, insn)) return failed(cpu);
    for (let i = 0; i < count; i++) words[Result + i] = f(words[Source + i]);
    storeXmm(cpu, insn.operands[0].reg, count);
    return Outcome.Done;
  };
}

/**
 * DPPS, DPPD (SDM 2A): products where imm8[7:4] says, their sum (of pairs, then
 * of the pairs' sums) where imm8[3:0] says; zeros elsewhere. Every step rounds;
 * an unmasked exception of a step ends the instruction there.
 */
export function dotProduct(single: boolean): CallFunction {
  const count = single ? 4 : 2, second = single ? Source : Source / 2;
  const first = single ? Result : Result / 2;
  const clear = (i: number): void => {
    if (single) words[first + i] = 0;
    else quads[first + i] = 0n;
  };
  const agreed = (cpu: CpuContext): boolean => {
    if (fast.lost) env.raise(FloatFlag.PE);
    return settle(cpu);
  };
  return (cpu, insn) => {
    if (!loadOperands(cpu, insn)) return failed(cpu);
    const imm = immediate(insn);
    fast.beginFast();
    for (let i = 0; i < count; i++) {
      if (imm >> 4 + i & 1) apply(MULTIPLY, single, i, i, second + i);
      else clear(i);
    }
    if (!agreed(cpu)) return Outcome.Fault;
    for (let width = count; width > 1; width >>= 1) {
      for (let i = 0; i < width / 2; i++) {
        apply(ADD, single, i, first + 2 * i, first + 2 * i + 1);
      }
      if (!agreed(cpu)) return Outcome.Fault;
    }
    const sum = single ? words[first] : 0, wide = single ? 0n : quads[first];
    for (let i = 0; i < count; i++) {
      if (!(imm >> i & 1)) clear(i);
      else if (single) words[first + i] = sum;
      else quads[first + i] = wide;
    }
    storeXmm(cpu, insn.operands[0].reg);
    return Outcome.Done;
  };
}
