/**
 * Binary floating-point formats and their encodings (SDM vol. 1 §4.2.2, §4.8,
 * §8.2.2): taking one apart, classes, special values, building one.
 * Encodings are unsigned bigints of the format's width: 32, 64 or 80 bits.
 * Invariant: `pack` is exact: it neither rounds nor raises.
 */

/** One format; its integer bit is implicit, or explicit in the x87 format. */
export interface Format {
  readonly name: "f32" | "f64" | "f80";
  /** Bits of an encoding. */
  readonly width: number;
  /** Significand bits, the integer bit included. */
  readonly precision: number;
  readonly explicit: boolean;
  /** Exponent of the largest and the smallest normal number, unbiased. */
  readonly maxExponent: number;
  readonly minExponent: number;
  /** Stored significand bits, and a mask for them. */
  readonly stored: bigint;
  readonly storedMask: bigint;
  readonly exponentMask: number;
  /** Bit of the sign. */
  readonly signShift: bigint;
  /** Most significant fraction bit: set in a quiet NaN. */
  readonly quietBit: bigint;
  /** Integer bit where it is explicit, else 0n. */
  readonly integerBit: bigint;
}

function format(
  name: Format["name"],
  exponentBits: number,
  precision: number,
  explicit: boolean,
): Format {
  const stored = BigInt(explicit ? precision : precision - 1);
  const maxExponent = 2 ** (exponentBits - 1) - 1;
  return {
    name,
    width: 1 + exponentBits + Number(stored),
    precision,
    explicit,
    maxExponent,
    minExponent: 1 - maxExponent,
    stored,
    storedMask: (1n << stored) - 1n,
    exponentMask: 2 ** exponentBits - 1,
    signShift: stored + BigInt(exponentBits),
    quietBit: 1n << BigInt(precision - 2),
    integerBit: explicit ? 1n << BigInt(precision - 1) : 0n,
  };
}

/** Single precision. */
export const F32: Format = format("f32", 8, 24, false);
/** Double precision. */
export const F64: Format = format("f64", 11, 53, false);
/** x87 double extended precision. */
export const F80: Format = format("f80", 15, 64, true);

/** Classes of an operand; the order makes `>= Quiet` "has no value". */
export const Class = {
  Zero: 0,
  /** Denormals, and pseudo-denormals of F80. */
  Denormal: 1,
  Normal: 2,
  Infinity: 3,
  Quiet: 4,
  Signaling: 5,
  /** F80 only: unnormals, pseudo-NaNs and pseudo-infinities (table 8-3). */
  Unsupported: 6,
} as const;

/** An operand taken apart. */
export interface Unpacked {
  readonly kind: number;
  /** 1 for negative. */
  readonly sign: number;
  /** Finite values are ±significand × 2^exponent. */
  readonly exponent: number;
  /** Not normalised. Stored bits of infinities, NaNs and unsupported ones. */
  readonly significand: bigint;
}

/** Takes an encoding apart. */
export function unpack(f: Format, bits: bigint): Unpacked {
  const significand = bits & f.storedMask;
  const upper = Number(bits >> f.stored);
  const biased = upper & f.exponentMask;
  const sign = upper > f.exponentMask ? 1 : 0;
  const lowest = f.minExponent - f.precision + 1;
  if (biased === 0) {
    const kind = significand === 0n ? Class.Zero : Class.Denormal;
    return { kind, sign, exponent: lowest, significand };
  }
  const integer = !f.explicit || (significand & f.integerBit) !== 0n;
  if (biased === f.exponentMask) {
    return {
      kind: special(f, significand, integer),
      sign,
      exponent: 0,
      significand,
    };
  }
  if (!integer) {
    return { kind: Class.Unsupported, sign, exponent: 0, significand };
  }
  return {
    kind: Class.Normal,
    sign,
    exponent: lowest + biased - 1,
    significand: f.explicit ? significand : significand | f.storedMask + 1n,
  };
}

function special(f: Format, significand: bigint, integer: boolean): number {
  if (!integer) return Class.Unsupported;
  if ((significand & ~f.integerBit) === 0n) return Class.Infinity;
  return (significand & f.quietBit) !== 0n ? Class.Quiet : Class.Signaling;
}

/** Class of an encoding. */
export function classOf(f: Format, bits: bigint): number {
  return unpack(f, bits).kind;
}

/** Whether the class is a NaN (unsupported encodings are none). */
export function isNan(kind: number): boolean {
  return kind === Class.Quiet || kind === Class.Signaling;
}

/** Zero of the sign. */
export function zero(f: Format, sign: number): bigint {
  return BigInt(sign) << f.signShift;
}

/** Infinity of the sign. */
export function infinity(f: Format, sign: number): bigint {
  return zero(f, sign) | BigInt(f.exponentMask) << f.stored | f.integerBit;
}

/** QNaN floating-point indefinite: the answer to a masked invalid operation. */
export function indefinite(f: Format): bigint {
  return infinity(f, 1) | f.quietBit;
}

/** The NaN, quiet. */
export function quieted(f: Format, bits: bigint): bigint {
  return bits | f.quietBit;
}

/** The encoding with its sign replaced. */
export function withSign(f: Format, bits: bigint, sign: number): bigint {
  return BigInt.asUintN(Number(f.signShift), bits) | zero(f, sign);
}

/**
 * Encodes a finite value that the format holds exactly.
 * @param exponent of the integer bit, at least minExponent
 * @param significand `f.precision` bits, integer bit included; less than
 *   2^(precision − 1) only with minExponent (a denormal)
 */
export function pack(
  f: Format,
  sign: number,
  exponent: number,
  significand: bigint,
): bigint {
  const normal = (significand >> BigInt(f.precision - 1)) !== 0n;
  const biased = normal ? exponent - f.minExponent + 1 : 0;
  return zero(f, sign) | BigInt(biased) << f.stored |
    significand & f.storedMask;
}

/** Number of significant bits of an unsigned bigint. */
export function bitLength(x: bigint): number {
  let bits = 0;
  while (x >> 64n !== 0n) {
    x >>= 64n;
    bits += 64;
  }
  const high = Number(x >> 32n);
  if (high !== 0) return bits + 64 - Math.clz32(high);
  return bits + 32 - Math.clz32(Number(x));
}
