/**
 * Comparison, rounding to integral values, and conversion between formats and
 * to and from integers (SDM vol. 1 §4.8.4, §4.9.1, §8.3.6, table 8-10, §11.4).
 * Invariant: an answer that the destination cannot hold is the indefinite of
 * its type, with IE.
 */
import { invalid, operand } from "./arithmetic.ts";
import { type FloatEnvironment, FloatFlag } from "./environment.ts";
import {
  bitLength,
  Class,
  type Format,
  infinity,
  isNan,
  pack,
  quieted,
  type Unpacked,
  zero,
} from "./format.ts";
import { integerInexact, roundMagnitude, roundPack } from "./round.ts";

/** How two operands relate. */
export const Relation = {
  Less: 0,
  Equal: 1,
  Greater: 2,
  Unordered: 3,
} as const;

/** Order of two finite or infinite operands: negative, 0 or positive. */
function order(a: Unpacked, b: Unpacked): number {
  const side = (u: Unpacked): number =>
    u.kind === Class.Zero ? 0 : u.sign ? -1 : 1;
  const sa = side(a), sb = side(b);
  if (sa !== sb || sa === 0) return sa - sb;
  if (a.kind === Class.Infinity || b.kind === Class.Infinity) {
    if (a.kind === b.kind) return 0;
    return a.kind === Class.Infinity ? sa : -sa;
  }
  const ta = a.exponent + bitLength(a.significand);
  const tb = b.exponent + bitLength(b.significand);
  if (ta !== tb) return ta > tb ? sa : -sa;
  const shift = a.exponent - b.exponent;
  const x = shift > 0 ? a.significand << BigInt(shift) : a.significand;
  const y = shift < 0 ? b.significand << BigInt(-shift) : b.significand;
  return x === y ? 0 : x > y ? sa : -sa;
}

/**
 * Relates a to b.
 * @param quiet a QNaN raises nothing (unordered compares); else it raises IE
 */
export function compare(
  f: Format,
  env: FloatEnvironment,
  a: bigint,
  b: bigint,
  quiet: boolean,
): number {
  const ua = operand(f, env, a), ub = operand(f, env, b);
  if (ua.kind >= Class.Quiet || ub.kind >= Class.Quiet) {
    const worst = Math.max(ua.kind, ub.kind);
    if (!quiet || worst >= Class.Signaling) env.raise(FloatFlag.IE);
    return Relation.Unordered;
  }
  if (ua.kind === Class.Denormal || ub.kind === Class.Denormal) {
    env.raise(FloatFlag.DE);
  }
  const by = order(ua, ub);
  return by === 0 ? Relation.Equal : by < 0 ? Relation.Less : Relation.Greater;
}

/**
 * Rounds to an integral value of the format; raises IE for an SNaN, PE unless
 * suppressed. Denormal operands raise nothing here: x87 callers do that.
 */
export function roundToIntegral(
  f: Format,
  env: FloatEnvironment,
  a: bigint,
  rounding: number = env.rounding,
  suppressPrecision = false,
): bigint {
  const u = operand(f, env, a);
  env.roundedUp = false;
  if (u.kind === Class.Unsupported) return invalid(f, env);
  if (isNan(u.kind)) {
    if (u.kind === Class.Signaling) env.raise(FloatFlag.IE);
    return quieted(f, a);
  }
  if (u.kind === Class.Zero) return zero(f, u.sign);
  if (u.kind === Class.Infinity || u.exponent >= 0) return a;
  const magnitude = roundMagnitude(
    env,
    rounding,
    u.sign,
    u.exponent,
    u.significand,
  );
  if (integerInexact() && !suppressPrecision) env.raise(FloatFlag.PE);
  return exactInteger(f, u.sign, magnitude);
}

/** An integer that the format holds exactly. */
function exactInteger(f: Format, sign: number, magnitude: bigint): bigint {
  if (magnitude === 0n) return zero(f, sign);
  const length = bitLength(magnitude);
  const shift = BigInt(f.precision - length);
  return pack(f, sign, length - 1, magnitude << shift);
}

/**
 * To a signed integer of `bits`; IE and the integer indefinite when it does not
 * fit. Denormal operands raise no DE (no such instruction does).
 * @returns two's complement, unsigned, in `bits` bits
 */
export function toInteger(
  f: Format,
  env: FloatEnvironment,
  a: bigint,
  bits: number,
  rounding: number = env.rounding,
): bigint {
  const u = operand(f, env, a);
  const limit = 1n << BigInt(bits - 1);
  env.roundedUp = false;
  const outside = (): bigint => {
    env.raise(FloatFlag.IE);
    env.roundedUp = false;
    return limit;
  };
  if (u.kind >= Class.Infinity) return outside();
  if (u.kind === Class.Zero) return 0n;
  if (u.exponent + bitLength(u.significand) > bits + 1) return outside();
  const magnitude = roundMagnitude(
    env,
    rounding,
    u.sign,
    u.exponent,
    u.significand,
  );
  if (magnitude > limit || (magnitude === limit && !u.sign)) return outside();
  if (integerInexact()) env.raise(FloatFlag.PE);
  return BigInt.asUintN(bits, u.sign ? -magnitude : magnitude);
}

/**
 * Loads into F80 are exact: FCW.PC has no say in them (SDM vol. 1 §8.1.5.2).
 */
function roundLoaded(
  f: Format,
  env: FloatEnvironment,
  sign: number,
  exponent: number,
  significand: bigint,
): bigint {
  const { precision } = env;
  env.precision = 64;
  const bits = roundPack(f, env, sign, exponent, significand);
  env.precision = precision;
  return bits;
}

/** From a signed integer of any size, rounded. Zero is +0. */
export function fromInteger(
  f: Format,
  env: FloatEnvironment,
  value: bigint,
): bigint {
  if (value === 0n) return zero(f, 0);
  const sign = value < 0n ? 1 : 0;
  return roundLoaded(f, env, sign, 0, sign ? -value : value);
}

/**
 * From one format to another, rounded. NaNs keep the upper bits of their
 * fraction and become quiet.
 * @param denormals whether a denormal operand raises DE (x87 stores do not)
 */
export function convert(
  from: Format,
  to: Format,
  env: FloatEnvironment,
  a: bigint,
  denormals = true,
): bigint {
  const u = operand(from, env, a);
  env.roundedUp = false;
  switch (u.kind) {
    case Class.Unsupported:
      return invalid(to, env);
    case Class.Signaling:
    case Class.Quiet: {
      if (u.kind === Class.Signaling) env.raise(FloatFlag.IE);
      const fraction = u.significand & (from.quietBit * 2n - 1n);
      const by = BigInt(to.precision - from.precision);
      const moved = by >= 0n ? fraction << by : fraction >> -by;
      return quieted(to, infinity(to, u.sign) | moved);
    }
    case Class.Infinity:
      return infinity(to, u.sign);
    case Class.Zero:
      return zero(to, u.sign);
    default:
      if (u.kind === Class.Denormal && denormals) env.raise(FloatFlag.DE);
      return roundLoaded(to, env, u.sign, u.exponent, u.significand);
  }
}
