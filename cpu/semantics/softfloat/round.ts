/**
 * Rounding of exact values to a format (SDM vol. 1 §4.8.4, §4.9.1.4–4.9.1.6):
 * overflow, underflow with tininess detected after rounding, denormal results.
 * Invariant: a result is rounded once, from the exact value (or from one whose
 * last bit stands for everything below it).
 */
import { type FloatEnvironment, FloatFlag, Rounding } from "./environment.ts";
import { bitLength, type Format, infinity, pack, zero } from "./format.ts";

/** Exponent adjustment of wrapped results (SDM vol. 1 §8.5.4). */
const WRAP = 24576;

/** What the last call of `roundedShift` did. */
let inexact = false, increased = false;

/** `value >> n` with the lost bits rounded; sets `inexact` and `increased`. */
function roundedShift(
  rounding: number,
  sign: number,
  value: bigint,
  n: number,
): bigint {
  inexact = increased = false;
  if (n <= 0) return value << BigInt(-n);
  const width = BigInt(n);
  const kept = value >> width;
  const lost = value - (kept << width);
  if (lost === 0n) return kept;
  inexact = true;
  if (rounding === Rounding.Nearest) {
    const half = 1n << (width - 1n);
    increased = lost > half || (lost === half && (kept & 1n) === 1n);
  } else {
    increased = rounding === (sign ? Rounding.Down : Rounding.Up);
  }
  return increased ? kept + 1n : kept;
}

/** Significand bits of a result. */
export function precisionOf(f: Format, env: FloatEnvironment): number {
  return f.explicit ? env.precision : f.precision;
}

/**
 * Rounds ±significand × 2^exponent (significand > 0) to the format and raises
 * OE, UE and PE.
 */
export function roundPack(
  f: Format,
  env: FloatEnvironment,
  sign: number,
  exponent: number,
  significand: bigint,
): bigint {
  const p = precisionOf(f, env);
  const length = bitLength(significand);
  let top = exponent + length - 1;
  let kept = roundedShift(env.rounding, sign, significand, length - p);
  if (kept >> BigInt(p) !== 0n) {
    kept >>= 1n;
    top++;
  }
  env.roundedUp = increased;
  if (top > f.maxExponent) return overflow(f, env, sign, top, kept);
  if (top < f.minExponent) {
    return underflow(f, env, sign, top, kept, exponent, significand);
  }
  if (inexact) env.raise(FloatFlag.PE);
  return pack(f, sign, top, kept << BigInt(f.precision - p));
}

function overflow(
  f: Format,
  env: FloatEnvironment,
  sign: number,
  top: number,
  kept: bigint,
): bigint {
  env.raise(FloatFlag.OE);
  const p = precisionOf(f, env);
  if (!(env.masks & FloatFlag.OE)) {
    if (!env.wrapExponent) return undelivered(f, env, sign);
    const wrapped = top - WRAP;
    if (!f.explicit) return notStored(f, env, sign);
    if (wrapped <= f.maxExponent) {
      if (inexact) env.raise(FloatFlag.PE);
      return pack(f, sign, wrapped, kept << BigInt(f.precision - p));
    }
    // FSCALE can go so far that the changed exponent does not fit either.
    env.raise(FloatFlag.PE);
    env.roundedUp = true;
    return infinity(f, sign);
  }
  env.raise(FloatFlag.PE);
  const away = sign ? Rounding.Down : Rounding.Up;
  env.roundedUp = env.rounding === Rounding.Nearest || env.rounding === away;
  if (env.roundedUp) return infinity(f, sign);
  const largest = ((1n << BigInt(p)) - 1n) << BigInt(f.precision - p);
  return pack(f, sign, f.maxExponent, largest);
}

/** SSE: PE tells whether rounding lost anything, the exponent aside. */
function undelivered(f: Format, env: FloatEnvironment, sign: number): bigint {
  if (inexact) env.raise(FloatFlag.PE);
  return zero(f, sign);
}

/** An x87 store that an unmasked exception stops. */
function notStored(f: Format, env: FloatEnvironment, sign: number): bigint {
  env.roundedUp = false;
  return zero(f, sign);
}

function underflow(
  f: Format,
  env: FloatEnvironment,
  sign: number,
  top: number,
  kept: bigint,
  exponent: number,
  significand: bigint,
): bigint {
  const p = precisionOf(f, env);
  const masked = (env.masks & FloatFlag.UE) !== 0;
  const spare = BigInt(f.precision - p);
  if (!masked) {
    env.raise(FloatFlag.UE);
    if (!env.wrapExponent) return undelivered(f, env, sign);
    if (!f.explicit) return notStored(f, env, sign);
    const wrapped = top + WRAP;
    if (wrapped >= f.minExponent) {
      if (inexact) env.raise(FloatFlag.PE);
      return pack(f, sign, wrapped, kept << spare);
    }
  } else if (env.flushToZero) {
    env.raise(FloatFlag.UE | FloatFlag.PE);
    env.roundedUp = false;
    return zero(f, sign);
  }
  const quantum = f.minExponent - p + 1;
  const tiny = roundedShift(
    env.rounding,
    sign,
    significand,
    quantum - exponent,
  );
  env.roundedUp = increased;
  if (inexact) env.raise(FloatFlag.UE | FloatFlag.PE);
  return pack(f, sign, f.minExponent, tiny << spare);
}

/**
 * Rounds ±significand × 2^exponent to an integer's magnitude; raises nothing.
 * @returns magnitude; `integerInexact` and `env.roundedUp` say what was lost
 */
export function roundMagnitude(
  env: FloatEnvironment,
  rounding: number,
  sign: number,
  exponent: number,
  significand: bigint,
): bigint {
  // Whatever lies more than 2 bits below one half rounds alike.
  const shift = Math.min(-exponent, bitLength(significand) + 2);
  const magnitude = roundedShift(rounding, sign, significand, shift);
  env.roundedUp = increased;
  return magnitude;
}

/** Whether the last `roundMagnitude` lost anything. */
export function integerInexact(): boolean {
  return inexact;
}
