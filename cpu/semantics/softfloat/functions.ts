/**
 * Elementary functions of finite arguments to some 190 bits, for correct
 * rounding: sine, cosine, arctangent, 2^x − 1, logarithms (SDM vol. 1 §8.3.7
 * demands an error below one unit; these stay below 2^-120 of one).
 * Fixed point with FRACTION bits; small results are an exact factor times a
 * ratio near one, so that the relative error stays small too.
 * Invariant: no host arithmetic; an answer is exact only where it says so.
 */
import { integerRoot } from "./arithmetic.ts";
import { bitLength } from "./format.ts";

/** ±significand × 2^exponent. */
export interface Real {
  readonly sign: number;
  readonly exponent: number;
  readonly significand: bigint;
  /** The value is exactly this; else it lies strictly above in magnitude. */
  readonly exact: boolean;
}

const FRACTION = 320;
const F = BigInt(FRACTION);
const ONE = 1n << F;

/** Value of a finite argument × 2^FRACTION, rounded towards zero. */
function fixed({ significand, exponent, sign }: Real): bigint {
  const shift = FRACTION + exponent;
  const magnitude = shift >= 0
    ? significand << BigInt(shift)
    : significand >> BigInt(Math.min(-shift, bitLength(significand) + 1));
  return sign ? -magnitude : magnitude;
}

const times = (a: bigint, b: bigint): bigint => (a * b) >> F;

/** Σ z^k / (2k + 1), the odd series of atanh (or of atan for negative z). */
function oddSeries(z: bigint): bigint {
  let power = ONE, sum = 0n;
  for (let k = 1n; power !== 0n && power !== -1n; k += 2n) {
    sum += power / k;
    power = times(power, z);
  }
  return sum;
}

/** ln of a rational near one: 2 atanh((a − b) / (a + b)). */
function logarithmOf(a: bigint, b: bigint): bigint {
  const z = ((a - b) << F) / (a + b);
  return 2n * times(z, oddSeries(times(z, z)));
}

const LN2 = logarithmOf(2n, 1n);

function inverseTangent(n: bigint): bigint {
  const z = ONE / n;
  return times(z, oddSeries(-times(z, z)));
}

/** π × 2^FRACTION, by Machin's formula. */
export const PI: bigint = 4n * (4n * inverseTangent(5n) - inverseTangent(239n));

/** An inexact real from fixed point. */
function real(value: bigint): Real {
  const sign = value < 0n ? 1 : 0;
  return {
    sign,
    significand: sign ? -value : value,
    exponent: -FRACTION,
    exact: false,
  };
}

/** factor × ratio, where the factor is exact. */
function product(factor: Real, ratio: bigint): Real {
  const by = real(ratio);
  return {
    sign: factor.sign ^ by.sign,
    significand: factor.significand * by.significand,
    exponent: factor.exponent + by.exponent,
    exact: false,
  };
}

/** A ratio that is never one: the functions are not linear. */
const below = (ratio: bigint): bigint => ratio >= ONE ? ONE - 1n : ratio;

/** π / 2 as the reduction takes it, and how many fraction bits it has. */
export interface Quarter {
  readonly value: bigint;
  readonly fraction: number;
}

/**
 * π / 2 of 66 significant bits: what Intel's processors reduce by, and AMD's
 * after them (SDM vol. 1 §8.3.8).
 */
export const QUARTER_66: Quarter = {
  value: PI >> F - 64n,
  fraction: 65,
};

interface Reduced {
  /** Argument minus quadrant × π/2, exact. */
  readonly rest: Real;
  readonly quadrant: number;
}

/** Takes multiples of π/2 off, to the nearest. */
function reduce(x: Real, quarter: Quarter): Reduced {
  // A common scale in which both are integers.
  const scale = Math.max(quarter.fraction, -x.exponent);
  const value = x.significand << BigInt(scale + x.exponent);
  const step = quarter.value << BigInt(scale - quarter.fraction);
  const n = (2n * value + step) / (2n * step);
  const rest = value - n * step;
  const negative = rest < 0n;
  return {
    rest: {
      sign: (negative ? 1 : 0) ^ x.sign,
      significand: negative ? -rest : rest,
      exponent: -scale,
      exact: true,
    },
    quadrant: Number(n & 3n),
  };
}

/** Σ (−t)^k / (2k + first)!, × first!; t = r². */
function alternating(t: bigint, first: bigint): bigint {
  let term = ONE, sum = 0n;
  for (let k = first; term !== 0n && term !== -1n; k += 2n) {
    sum += term;
    term = -times(term, t) / ((k + 1n) * (k + 2n));
  }
  return sum;
}

const SMALL = -200;
const topOf = (x: Real): number => x.exponent + bitLength(x.significand);

/** sin(rest) of a reduced argument. */
function smallSine(rest: Real): Real {
  if (rest.significand === 0n) return rest;
  if (topOf(rest) < SMALL) return product(rest, ONE - 1n);
  const r = fixed(rest);
  return product(rest, below(alternating(times(r, r), 1n)));
}

/** cos(rest) of a reduced argument. */
function smallCosine(rest: Real): Real {
  if (rest.significand === 0n) {
    return { sign: 0, significand: 1n, exponent: 0, exact: true };
  }
  const r = fixed(rest);
  return real(below(alternating(times(r, r), 0n)));
}

const negate = (x: Real): Real => ({ ...x, sign: x.sign ^ 1 });

/** Sine and cosine of a finite, non-zero x. */
export function sineCosine(
  x: Real,
  quarter: Quarter = QUARTER_66,
): { readonly sine: Real; readonly cosine: Real } {
  const { rest, quadrant } = reduce(x, quarter);
  const s = smallSine(rest), c = smallCosine(rest);
  // The quadrant was counted on |x|.
  const odd = (quadrant & 1) !== 0;
  const flipped = x.sign === 1;
  const sine = odd ? (flipped ? negate(c) : c) : s;
  const cosine = odd ? (flipped ? s : negate(s)) : c;
  return {
    sine: quadrant >= 2 ? negate(sine) : sine,
    cosine: quadrant >= 2 ? negate(cosine) : cosine,
  };
}

/** a ÷ b, both non-zero. */
export function quotient(a: Real, b: Real): Real {
  const shift = FRACTION + bitLength(b.significand);
  return {
    sign: a.sign ^ b.sign,
    significand: (a.significand << BigInt(shift)) / b.significand,
    exponent: a.exponent - b.exponent - shift,
    exact: false,
  };
}

/** arctan of the ratio of positive y to positive x, in (0, π/2). */
function arctangentOf(y: Real, x: Real): Real {
  const t = quotient(y, x);
  if (topOf(t) < SMALL) return product(t, ONE - 1n);
  if (topOf(t) > 1) return real(PI / 2n - fixed(arctangentOf(x, y)));
  // Halve the angle until the series is short.
  let tangent = fixed(t), halvings = 0;
  while (bitLength(tangent) > FRACTION - 6) {
    const root = integerRoot((ONE + times(tangent, tangent)) << F);
    tangent = (tangent << F) / (ONE + root);
    halvings++;
  }
  const ratio = below(oddSeries(-times(tangent, tangent)));
  if (halvings === 0) return product(t, ratio);
  return real(times(tangent, ratio) << BigInt(halvings));
}

/** Angle of the point (x, y), both finite and not zero, in (−π, π). */
export function angle(y: Real, x: Real): Real {
  const positive = arctangentOf({ ...y, sign: 0 }, { ...x, sign: 0 });
  const full = x.sign ? real(PI - fixed(positive)) : positive;
  return { ...full, sign: y.sign };
}

/** π × numerator / 4. */
export function quarterTurns(numerator: number, sign: number): Real {
  return { ...real(PI * BigInt(numerator) / 4n), sign };
}

/** 2^x − 1 for 0 < |x| < 1. */
export function exponentialMinusOne(x: Real): Real {
  // (2^x − 1) / x = ln 2 × Σ w^k / (k + 1)!, w = x ln 2.
  const w = times(fixed(x), LN2);
  let term = ONE, sum = 0n;
  for (let k = 2n; term !== 0n && term !== -1n; k++) {
    sum += term;
    term = times(term, w) / k;
  }
  return product(x, times(sum, LN2));
}

/** log2 of positive x; exact for powers of two. */
export function logarithm(x: Real): Real {
  const length = bitLength(x.significand);
  let exponent = x.exponent + length - 1;
  const power = 1n << BigInt(length - 1);
  if (x.significand === power) {
    const sign = exponent < 0 ? 1 : 0;
    return {
      sign,
      significand: BigInt(Math.abs(exponent)),
      exponent: 0,
      exact: true,
    };
  }
  // A fraction in (√½, √2), so that the logarithm of numbers near one is small.
  let unit = power;
  if (2n * x.significand * x.significand > 4n * power * power) {
    unit *= 2n;
    exponent++;
  }
  const fraction = logarithmOf(x.significand, unit);
  return real((BigInt(exponent) << F) + (fraction << F) / LN2);
}

/** 1 + x, exact; x > −1. */
function plusOne({ sign, exponent, significand }: Real): Real {
  const scale = Math.max(0, -exponent);
  const value = significand << BigInt(exponent + scale);
  const one = 1n << BigInt(scale);
  return {
    sign: 0,
    exponent: -scale,
    significand: sign ? one - value : one + value,
    exact: true,
  };
}

/** log2(1 + x) for x > −1, not zero. */
export function logarithmOfOnePlus(x: Real): Real {
  if (topOf(x) > -1) return logarithm(plusOne(x));
  // ln(1 + x) / x = 2 / (2 + x) × Σ z^2k / (2k + 1), z = x / (2 + x).
  const value = fixed(x);
  const divisor = 2n * ONE + value;
  const z = (value << F) / divisor;
  const ratio = times((2n * ONE << F) / divisor, oddSeries(times(z, z)));
  return product(x, (ratio << F) / LN2);
}

/** a × b. */
export function multiplied(a: Real, b: Real): Real {
  return {
    sign: a.sign ^ b.sign,
    significand: a.significand * b.significand,
    exponent: a.exponent + b.exponent,
    exact: a.exact && b.exact,
  };
}
