/**
 * The CVT family (SDM 2A; vol. 1 §11.4.1.6, figure 11-8): between
 * f32, f64 and 32- or 64-bit integers, in XMM, MMX and general registers. One
 * table of lane conversions, one procedure for all shapes.
 * Invariant: a result register changes only after the flags are settled.
 */
import type { CpuContext } from "../../context.ts";
import { type Insn, OperandKind } from "../../isa/insn.ts";
import { type CallFunction, Outcome, type OutcomeCode } from "../../isa/row.ts";
import * as soft from "../softfloat/softfloat.ts";
import {
  complete,
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
import { beginFast, lost } from "./float_fast.ts";
import * as fast from "./float_fast_convert.ts";
import { writeVector } from "./operands.ts";

const { F32, F64, FloatFlag, Rounding } = soft;
const { Source, Result } = Scratch;

/** Data type of a lane. */
export type LaneType = "f32" | "f64" | "i32" | "i64";
type Convert = (bits: bigint) => bigint;

const widthOf = (type: LaneType): number =>
  type === "f32" || type === "i32" ? 32 : 64;

/** One lane's conversion. @param truncate CVTT: rounds towards zero */
function conversion(from: LaneType, to: LaneType, truncate: boolean): Convert {
  const integer = (type: LaneType): boolean => type[0] === "i";
  const format = (type: LaneType): soft.Format => type === "f32" ? F32 : F64;
  const bits = widthOf(integer(from) ? from : to);
  if (integer(from)) {
    return (x) => soft.fromInteger(format(to), env, BigInt.asIntN(bits, x));
  }
  const f = format(from);
  if (!integer(to)) return (x) => soft.convert(f, format(to), env, x);
  return truncate
    ? (x) => soft.toInteger(f, env, x, bits, Rounding.Zero)
    : (x) => soft.toInteger(f, env, x, bits);
}

/** What one instruction converts. */
export interface Conversion {
  readonly from: LaneType;
  readonly to: LaneType;
  /** Lanes. */
  readonly count: 1 | 2 | 4;
  /** XMM destinations: the rest becomes zero instead of staying. */
  readonly clears?: boolean;
  readonly truncate?: boolean;
}

/**
 * One lane by the host's arithmetic. @returns false: not here
 */
type Quick = (i: number) => boolean;

function quickConversion(
  from: LaneType,
  to: LaneType,
  truncate: boolean,
): Quick {
  const single = from === "f32";
  const nearest = (): boolean => env.rounding === Rounding.Nearest;
  const read = (i: number): number => {
    if (from === "i32") return words[Source + i] | 0;
    if (from === "f32") return singles[Source + i];
    if (from === "f64") return doubles[Source / 2 + i];
    return Number(BigInt.asIntN(64, quads[Source / 2 + i]));
  };
  const compute = (x: number): number => {
    if (to === "i32" || to === "i64") {
      const rounding = truncate ? Rounding.Zero : env.rounding;
      return fast.toInteger(single, x, widthOf(to), rounding);
    }
    if (from === "f32") return fast.widen(x);
    if (to === "f32" && !nearest()) return NaN;
    return from === "f64" ? fast.shorten(x) : fast.fromInteger(x, to === "f32");
  };
  return (i) => {
    const r = compute(read(i));
    if (r !== r) return false;
    if (to === "i32") words[Result + i] = r;
    else if (to === "f32") singles[Result + i] = r;
    else if (to === "f64") doubles[Result / 2 + i] = r;
    else quads[Result / 2 + i] = BigInt(r);
    return true;
  };
}

const lane = (width: number, at: number, i: number): bigint =>
  width === 32 ? BigInt(words[at + i]) : quads[at / 2 + i];

function setLane(width: number, i: number, value: bigint): void {
  if (width === 32) words[Result + i] = Number(value);
  else quads[Result / 2 + i] = value;
}

/** CVT*: see `Conversion`. */
export function convert(what: Conversion): CallFunction {
  const f = conversion(what.from, what.to, what.truncate ?? false);
  const quick = quickConversion(what.from, what.to, what.truncate ?? false);
  const from = widthOf(what.from), to = widthOf(what.to);
  const used = what.count * to / 32;
  return (cpu, insn) => {
    if (!loadOperands(cpu, insn)) {
      return (cpu.access.outcome || Outcome.Fault) as OutcomeCode;
    }
    if (what.clears) words.fill(0, Result);
    beginFast();
    for (let i = 0; i < what.count; i++) {
      if (!quick(i)) setLane(to, i, f(lane(from, Source, i)));
    }
    if (lost) env.raise(FloatFlag.PE);
    // On silicon the x87 state has become MMX state even if #XM follows.
    complete(cpu, insn);
    if (!settle(cpu)) return Outcome.Fault;
    return store(cpu, insn, what.clears ? 4 : used);
  };
}

function store(cpu: CpuContext, insn: Insn, used: number): OutcomeCode {
  const { kind, reg, size } = insn.operands[0];
  if (kind === OperandKind.Xmm) {
    storeXmm(cpu, reg, used);
    return Outcome.Done;
  }
  if (kind === OperandKind.Mmx) {
    return writeVector(cpu, insn, 0, quads[Result / 2]);
  }
  if (size === 32) cpu.v.setGpr32(reg, words[Result]);
  else cpu.v.setGpr(reg, quads[Result / 2]);
  return Outcome.Done;
}
