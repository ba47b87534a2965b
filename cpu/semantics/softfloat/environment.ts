/**
 * What surrounds a floating-point operation: rounding, masks and modes in, flags
 * out (SDM vol. 1 §4.8.4, §4.9, §8.1.5, §10.2.3). Bit numbers of the flags are
 * those of MXCSR and of the x87 status word alike.
 * Invariant: operations only add to `flags`; who owns an environment clears it.
 */
import type { Format, Unpacked } from "./format.ts";

/** Rounding control, encoded as in MXCSR.RC and FCW.RC. */
export const Rounding = { Nearest: 0, Down: 1, Up: 2, Zero: 3 } as const;

/** Exception flags: invalid, denormal, zero divide, overflow, underflow, precision. */
export const FloatFlag = {
  IE: 1,
  DE: 2,
  ZE: 4,
  OE: 8,
  UE: 16,
  PE: 32,
} as const;

/**
 * Picks the NaN that an operation on `a` and `b` answers, at least one of which
 * is one. The operation has raised IE for an SNaN; the rule quiets its answer.
 * Both are given as encodings of `format`.
 */
export type NanRule = (
  format: Format,
  a: bigint,
  b: bigint,
  ua: Unpacked,
  ub: Unpacked,
) => bigint;

/** See the file header. One is reused for many operations. */
export class FloatEnvironment {
  /** One of `Rounding`. */
  rounding: number = Rounding.Nearest;
  /** Significand bits of F80 results: 24, 53 or 64 (FCW.PC). Others ignore it. */
  precision = 64;
  /** Flags whose exception is masked. Only OE and UE matter to results. */
  masks = 0x3f;
  /** Denormal operands count as zeros of their sign, without DE (MXCSR.DAZ). */
  denormalsAreZeros = false;
  /** Tiny results become zeros while underflow is masked (MXCSR.FTZ). */
  flushToZero = false;
  /**
   * x87: unmasked over- and underflow deliver an F80 result with its exponent
   * changed by 24576 (SDM vol. 1 §8.5.4, §8.5.5). An F32 or F64 result is then
   * not stored: OE or UE comes without PE and the answer means nothing. SSE
   * (false) delivers nothing then; PE is judged as with unbounded exponents.
   */
  wrapExponent = false;
  /** Flags raised so far. */
  flags = 0;
  /** The last rounding increased the magnitude (C1 of x87). */
  roundedUp = false;

  constructor(public nan: NanRule) {}

  /** Clears what the last instruction left. */
  begin(): void {
    this.flags = 0;
    this.roundedUp = false;
  }

  raise(flags: number): void {
    this.flags |= flags;
  }
}
