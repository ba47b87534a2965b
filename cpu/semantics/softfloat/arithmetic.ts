/**
 * Addition, subtraction, multiplication, division, square root and scaling
 * (SDM vol. 1 §4.8, §4.9, tables 8-10 and 11-1; IEEE 754-2008 §5.4).
 * Invariant: special operands are judged in the manual's order: unsupported,
 * SNaN, QNaN, other invalid operations, zero divide, denormal operand (§4.9.2);
 * the rest is exact until `roundPack`.
 */
import { type FloatEnvironment, FloatFlag, Rounding } from "./environment.ts";
import {
  bitLength,
  Class,
  type Format,
  indefinite,
  infinity,
  isNan,
  quieted,
  unpack,
  type Unpacked,
  withSign,
  zero,
} from "./format.ts";
import { roundPack } from "./round.ts";

/** An operand under the environment: DAZ applied. */
export function operand(
  f: Format,
  env: FloatEnvironment,
  bits: bigint,
): Unpacked {
  const u = unpack(f, bits);
  return u.kind === Class.Denormal && env.denormalsAreZeros
    ? { ...u, kind: Class.Zero, significand: 0n }
    : u;
}

/** Raises IE; its masked answer. */
export function invalid(f: Format, env: FloatEnvironment): bigint {
  env.raise(FloatFlag.IE);
  return indefinite(f);
}

/** Answer to operands of which one is unsupported or a NaN. */
function withoutValue(
  f: Format,
  env: FloatEnvironment,
  a: bigint,
  b: bigint,
  ua: Unpacked,
  ub: Unpacked,
): bigint {
  if (ua.kind === Class.Unsupported || ub.kind === Class.Unsupported) {
    return invalid(f, env);
  }
  if (ua.kind === Class.Signaling || ub.kind === Class.Signaling) {
    env.raise(FloatFlag.IE);
  }
  return env.nan(f, a, b, ua, ub);
}

function noteDenormal(env: FloatEnvironment, ua: Unpacked, ub: Unpacked): void {
  if (ua.kind === Class.Denormal || ub.kind === Class.Denormal) {
    env.raise(FloatFlag.DE);
  }
}

const magnitudeOf = (u: Unpacked): bigint =>
  u.sign ? -u.significand : u.significand;

/** Bits below which a far smaller addend only counts as "not zero". */
const GAP = 72;

/** a + b. */
export function add(
  f: Format,
  env: FloatEnvironment,
  a: bigint,
  b: bigint,
): bigint {
  return sum(f, env, a, b, 0);
}

/** a − b. The answer to a NaN b keeps its sign. */
export function subtract(
  f: Format,
  env: FloatEnvironment,
  a: bigint,
  b: bigint,
): bigint {
  return sum(f, env, a, b, 1);
}

function sum(
  f: Format,
  env: FloatEnvironment,
  a: bigint,
  b: bigint,
  negate: number,
): bigint {
  const ua = operand(f, env, a), plain = operand(f, env, b);
  if (ua.kind >= Class.Quiet || plain.kind >= Class.Quiet) {
    return withoutValue(f, env, a, b, ua, plain);
  }
  const ub = negate ? { ...plain, sign: plain.sign ^ 1 } : plain;
  if (ua.kind === Class.Infinity || ub.kind === Class.Infinity) {
    const both = ua.kind === ub.kind;
    if (both && ua.sign !== ub.sign) return invalid(f, env);
    noteDenormal(env, ua, ub);
    return infinity(f, ua.kind === Class.Infinity ? ua.sign : ub.sign);
  }
  noteDenormal(env, ua, ub);
  let x = magnitudeOf(ua), y = magnitudeOf(ub);
  let ex = ua.exponent, ey = ub.exponent;
  if (y === 0n || (x !== 0n && ex > ey)) {
    [x, y] = [y, x];
    [ex, ey] = [ey, ex];
  }
  // Now y has the larger exponent, or x is zero.
  let total: bigint, exponent: number;
  if (x === 0n) {
    total = y;
    exponent = ey;
  } else if (ey - ex > f.precision + GAP) {
    total = (y << BigInt(GAP)) + (x < 0n ? -1n : 1n);
    exponent = ey - GAP;
  } else {
    total = (y << BigInt(ey - ex)) + x;
    exponent = ex;
  }
  if (total === 0n) {
    // Zeros of one sign keep it; an exact cancellation is +0 unless rounding down.
    const both = x === 0n && y === 0n && ua.sign === ub.sign;
    const down = env.rounding === Rounding.Down ? 1 : 0;
    env.roundedUp = false;
    return zero(f, both ? ua.sign : down);
  }
  const sign = total < 0n ? 1 : 0;
  return roundPack(f, env, sign, exponent, sign ? -total : total);
}

/** a × b. */
export function multiply(
  f: Format,
  env: FloatEnvironment,
  a: bigint,
  b: bigint,
): bigint {
  const ua = operand(f, env, a), ub = operand(f, env, b);
  if (ua.kind >= Class.Quiet || ub.kind >= Class.Quiet) {
    return withoutValue(f, env, a, b, ua, ub);
  }
  const sign = ua.sign ^ ub.sign;
  if (ua.kind === Class.Infinity || ub.kind === Class.Infinity) {
    if (ua.kind === Class.Zero || ub.kind === Class.Zero) {
      return invalid(f, env);
    }
    noteDenormal(env, ua, ub);
    return infinity(f, sign);
  }
  noteDenormal(env, ua, ub);
  const product = ua.significand * ub.significand;
  if (product === 0n) return zero(f, sign);
  return roundPack(f, env, sign, ua.exponent + ub.exponent, product);
}

/** a ÷ b. */
export function divide(
  f: Format,
  env: FloatEnvironment,
  a: bigint,
  b: bigint,
): bigint {
  const ua = operand(f, env, a), ub = operand(f, env, b);
  if (ua.kind >= Class.Quiet || ub.kind >= Class.Quiet) {
    return withoutValue(f, env, a, b, ua, ub);
  }
  const sign = ua.sign ^ ub.sign;
  if (ua.kind === Class.Infinity) {
    if (ub.kind === Class.Infinity) return invalid(f, env);
    noteDenormal(env, ua, ub);
    return infinity(f, sign);
  }
  if (ub.kind === Class.Infinity) {
    noteDenormal(env, ua, ub);
    return zero(f, sign);
  }
  if (ub.kind === Class.Zero) {
    if (ua.kind === Class.Zero) return invalid(f, env);
    env.raise(FloatFlag.ZE);
    return infinity(f, sign);
  }
  noteDenormal(env, ua, ub);
  if (ua.kind === Class.Zero) return zero(f, sign);
  // Enough quotient bits for the precision, a rounding bit and a sticky bit.
  const extra = 2 * f.precision + 3;
  const dividend = ua.significand << BigInt(extra);
  let quotient = dividend / ub.significand;
  if (quotient * ub.significand !== dividend) quotient |= 1n;
  const exponent = ua.exponent - ub.exponent - extra;
  return roundPack(f, env, sign, exponent, quotient);
}

/** Largest r with r² ≤ n. */
export function integerRoot(n: bigint): bigint {
  if (n < 2n) return n;
  let r = 1n << BigInt((bitLength(n) + 1) >> 1);
  // Newton's iteration falls towards the root from above.
  for (;;) {
    const next = (r + n / r) >> 1n;
    if (next >= r) return r;
    r = next;
  }
}

/** Square root of a. */
export function squareRoot(
  f: Format,
  env: FloatEnvironment,
  a: bigint,
): bigint {
  const ua = operand(f, env, a);
  if (ua.kind >= Class.Quiet) return withoutValue(f, env, a, a, ua, ua);
  if (ua.kind === Class.Zero) return zero(f, ua.sign);
  if (ua.sign) return invalid(f, env);
  if (ua.kind === Class.Infinity) return infinity(f, 0);
  noteDenormal(env, ua, ua);
  let shift = 2 * f.precision + 6;
  if ((ua.exponent - shift) & 1) shift++;
  const n = ua.significand << BigInt(shift);
  let root = integerRoot(n);
  if (root * root !== n) root |= 1n;
  return roundPack(f, env, 0, (ua.exponent - shift) / 2, root);
}

/**
 * a × 2^n, rounded (the finite case of FSCALE; NaNs by the rule with themselves).
 * @param n any safe integer
 */
export function scale(
  f: Format,
  env: FloatEnvironment,
  a: bigint,
  n: number,
): bigint {
  const ua = operand(f, env, a);
  if (ua.kind >= Class.Quiet) return withoutValue(f, env, a, a, ua, ua);
  if (ua.kind === Class.Zero || ua.kind === Class.Infinity) return a;
  noteDenormal(env, ua, ua);
  return roundPack(f, env, ua.sign, ua.exponent + n, ua.significand);
}

/** |a| and −a, of any encoding; raise nothing. */
export function absolute(f: Format, a: bigint): bigint {
  return withSign(f, a, 0);
}
/** See `absolute`. */
export function negated(f: Format, a: bigint): bigint {
  return a ^ zero(f, 1);
}

/** What `remainder` answers. */
export interface Remainder {
  readonly bits: bigint;
  /** Low bits of the magnitude of the quotient; 0n while incomplete. */
  readonly quotient: bigint;
  /** False: only part of the dividend's excess exponent is gone (C2 = 1). */
  readonly complete: boolean;
}

/**
 * FPREM and FPREM1 (SDM 2A; x87 only): exact remainder of a by b.
 * @param nearest quotient rounded to nearest (FPREM1), else truncated
 * @param reduction exponent bits that a partial step removes when a's exponent
 *   exceeds b's by 64 or more. The manual leaves 32 to 63 open; the default is
 *   what AMD's processors do
 */
export function remainder(
  f: Format,
  env: FloatEnvironment,
  a: bigint,
  b: bigint,
  nearest: boolean,
  reduction: (difference: number) => number = (d) => 32 + (d & 31),
): Remainder {
  // The answer is exact: FCW.PC has no say in it.
  const precision = env.precision;
  env.precision = 64;
  const answer = exactRemainder(f, env, a, b, nearest, reduction);
  env.precision = precision;
  return answer;
}

function exactRemainder(
  f: Format,
  env: FloatEnvironment,
  a: bigint,
  b: bigint,
  nearest: boolean,
  reduction: (difference: number) => number,
): Remainder {
  const done = (bits: bigint): Remainder => ({
    bits,
    quotient: 0n,
    complete: true,
  });
  const ua = operand(f, env, a), ub = operand(f, env, b);
  if (ua.kind >= Class.Quiet || ub.kind >= Class.Quiet) {
    return done(withoutValue(f, env, a, b, ua, ub));
  }
  if (ua.kind === Class.Infinity || ub.kind === Class.Zero) {
    return done(invalid(f, env));
  }
  noteDenormal(env, ua, ub);
  if (ua.kind === Class.Zero) return done(zero(f, ua.sign));
  if (ub.kind === Class.Infinity) {
    return done(roundPack(f, env, ua.sign, ua.exponent, ua.significand));
  }
  const topOf = (u: Unpacked): number => u.exponent + bitLength(u.significand);
  const difference = topOf(ua) - topOf(ub);
  if (difference < -1) {
    return done(roundPack(f, env, ua.sign, ua.exponent, ua.significand));
  }
  const complete = difference < 64;
  // A partial step subtracts a multiple of b × 2^skipped.
  const skipped = complete ? 0 : difference - reduction(difference);
  const shift = ua.exponent - (ub.exponent + skipped);
  let x = ua.significand, y = ub.significand, exponent = ua.exponent;
  if (shift >= 0) {
    x <<= BigInt(shift);
    exponent = ub.exponent + skipped;
  } else y <<= BigInt(-shift);
  let quotient = x / y, rest = x - quotient * y, sign = ua.sign;
  if (
    complete && nearest &&
    (2n * rest > y || (2n * rest === y && (quotient & 1n) === 1n))
  ) {
    quotient++;
    rest = y - rest;
    sign ^= 1;
  }
  const bits = rest === 0n
    ? zero(f, ua.sign)
    : roundPack(f, env, sign, exponent, rest);
  return { bits, quotient: complete ? quotient : 0n, complete };
}

/** NaN rule of SSE: the first source if it is a NaN, else the second (table 4-7). */
export function sseNan(
  f: Format,
  a: bigint,
  b: bigint,
  ua: Unpacked,
): bigint {
  return quieted(f, isNan(ua.kind) ? a : b);
}

/**
 * NaN rule of x87 (table 4-7): a QNaN before an SNaN; of two alike the larger
 * significand; of equal ones the positive.
 */
export function x87Nan(
  f: Format,
  a: bigint,
  b: bigint,
  ua: Unpacked,
  ub: Unpacked,
): bigint {
  if (!isNan(ub.kind)) return quieted(f, a);
  if (!isNan(ua.kind)) return quieted(f, b);
  if (ua.kind !== ub.kind) return ua.kind === Class.Quiet ? a : b;
  const [x, y] = [ua.significand, ub.significand];
  if (x !== y) return quieted(f, x > y ? a : b);
  return quieted(f, ua.sign <= ub.sign ? a : b);
}
