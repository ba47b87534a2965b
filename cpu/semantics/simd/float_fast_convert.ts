/**
 * SSE comparisons, roundings and conversions on the host's f64, for operands
 * that are zero, normal or (compared) infinite; beside float_fast.ts.
 * Invariant: NaN (or -1) means "not here": the caller takes the exact path.
 * Any other answer is the exact path's, `lost` of float_fast.ts included.
 */
import { Relation, Rounding } from "../softfloat/softfloat.ts";
import { lose, narrow } from "./float_fast.ts";

/** Smallest normal numbers. */
const MIN64 = 2.2250738585072014e-308, MIN32 = 1.1754943508222875e-38;
/** Beyond these every f64 (every integer) is (may not be) exact: 2^52, 2^53. */
const WHOLE = 4503599627370496, EXACT = 9007199254740992;
const INT32_LIMIT = 2147483647;

const leastOf = (single: boolean): number => single ? MIN32 : MIN64;

/** Relation of two lanes, or -1. */
export function relate(single: boolean, x: number, y: number): number {
  const least = leastOf(single);
  if (!(x === 0 || Math.abs(x) >= least)) return -1;
  if (!(y === 0 || Math.abs(y) >= least)) return -1;
  return x < y ? Relation.Less : x === y ? Relation.Equal : Relation.Greater;
}

/** x rounded to an integral value (below 2^52), its sign kept; sets `lost`. */
function integral(x: number, rounding: number): number {
  let r: number;
  if (rounding === Rounding.Down) r = Math.floor(x);
  else if (rounding === Rounding.Up) r = Math.ceil(x);
  else {
    r = Math.trunc(x);
    if (rounding === Rounding.Nearest) {
      const rest = Math.abs(x - r);
      if (rest > 0.5 || (rest === 0.5 && r % 2 !== 0)) r += x < 0 ? -1 : 1;
    }
  }
  return r;
}

/** ROUND of one lane, or NaN. @param suppress no PE */
export function roundLane(
  single: boolean,
  x: number,
  rounding: number,
  suppress: boolean,
): number {
  const m = Math.abs(x);
  if (x === 0 || (m >= WHOLE && m < Infinity)) return x;
  if (!(m >= leastOf(single) && m < WHOLE)) return NaN;
  const r = integral(x, rounding);
  if (r !== x && !suppress) lose();
  // Zeros keep their operand's sign: -0.4 + 0 would not.
  return r === 0 ? (x < 0 ? -0 : 0) : r;
}

/** To a signed integer of 32 or 64 bits, or NaN. */
export function toInteger(
  single: boolean,
  x: number,
  bits: number,
  rounding: number,
): number {
  if (x === 0) return 0;
  const m = Math.abs(x);
  if (!(m >= leastOf(single) && m < (bits === 32 ? INT32_LIMIT : WHOLE))) {
    return NaN;
  }
  const r = integral(x, rounding);
  if (r !== x) lose();
  return r;
}

/** From a signed integer, or NaN. f32 only when rounding to nearest. */
export function fromInteger(n: number, single: boolean): number {
  if (!(n > -EXACT && n < EXACT)) return NaN;
  if (!single) return n;
  const r = Math.fround(n);
  if (r !== n) lose();
  return r;
}

/** f32 to f64, exact, or NaN. */
export function widen(x: number): number {
  return x === 0 || (Math.abs(x) >= MIN32 && Math.abs(x) < Infinity) ? x : NaN;
}

/** f64 to f32 when rounding to nearest, or NaN. */
export function shorten(x: number): number {
  return x === 0 ? x : Math.abs(x) >= MIN32 ? narrow(x, true) : NaN;
}
