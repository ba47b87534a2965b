/**
 * Exact IEEE-754 arithmetic for x87 and SSE: the one door to this folder.
 *
 * Formats `F32`, `F64`, `F80`; values are their encodings as unsigned bigints of
 * 32, 64 or 80 bits (F80: significand in bits 63:0, sign and exponent above).
 * Every operation takes a `FloatEnvironment`: rounding, masks, FCW.PC for F80
 * results, DAZ, FTZ and the NaN rule (`sseNan`, `x87Nan`) go in; `flags` (bits
 * as in MXCSR and FSW) and `roundedUp` (C1) come out. Call `begin()` before an
 * instruction; packed instructions share one environment over their lanes.
 *
 *   add subtract multiply divide squareRoot scale remainder   (f, env, a[, b])
 *   absolute negated                                   sign only, raise nothing
 *   compare(f, env, a, b, quiet) → Relation
 *   roundToIntegral toInteger fromInteger convert(from, to, env, a)
 *   unpack classOf pack roundPack zero infinity indefinite quieted integerRoot
 *
 * What stays with the caller: unmasked IE, DE and ZE deliver nothing (look at
 * `flags & ~masks` and drop the result); unmasked OE and UE of x87 register
 * results need `wrapExponent`, of memory results nothing is stored; x87's stack
 * faults; DE of FRNDINT (`classOf`) — `toInteger` and `roundToIntegral` raise no
 * DE, and `convert` takes a parameter for it; F80 operands under precision
 * control are used whole, only results are rounded to `precision`.
 * Manual: SDM vol. 1 §4.8, §4.9, ch. 8, ch. 11. Invariant: no host arithmetic.
 */
export {
  FloatEnvironment,
  FloatFlag,
  type NanRule,
  Rounding,
} from "./environment.ts";
export {
  bitLength,
  Class,
  classOf,
  F32,
  F64,
  F80,
  type Format,
  indefinite,
  infinity,
  isNan,
  pack,
  quieted,
  unpack,
  type Unpacked,
  withSign,
  zero,
} from "./format.ts";
export { precisionOf, roundPack } from "./round.ts";
export {
  absolute,
  add,
  divide,
  integerRoot,
  invalid,
  multiply,
  negated,
  operand,
  type Remainder,
  remainder,
  scale,
  squareRoot,
  sseNan,
  subtract,
  x87Nan,
} from "./arithmetic.ts";
export {
  compare,
  convert,
  fromInteger,
  Relation,
  roundToIntegral,
  toInteger,
} from "./convert.ts";
