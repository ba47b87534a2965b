/**
 * SSE arithmetic on the host's f64, where that is provably the same: operands
 * zero or normal, results zero or normal and far from over- and underflow,
 * rounding to nearest. Then PE alone can arise, and error-free transformations
 * (Dekker, Knuth) tell whether it does. ECMAScript defines + − × ÷ exactly; of
 * f32, rounding to f64 first does no harm (53 ≥ 2 × 24 + 2).
 * Invariant: NaN means "not here": the caller takes the exact path. Any other
 * answer is the exact path's, `lost` included.
 */

/** Smallest normal numbers; bounds within which no step over- or underflows. */
const MIN64 = 2.2250738585072014e-308, BIG64 = 1e300;
const MIN32 = 1.1754943508222875e-38, MAX32 = 3.4028234663852886e38;
/** For products: errors of products of such numbers are normal too. */
const SMALL = 1e-120, LARGE = 1e120;
/** 2^27 + 1 splits an f64 into halves (Dekker). */
const SPLITTER = 134217729;

/** Whether an answer since `beginFast` was inexact (PE). */
export let lost = false;
/** Clears `lost`. */
export function beginFast(): void {
  lost = false;
}

/** Notes an inexact answer. */
export function lose(): void {
  lost = true;
}

/** Two numbers to one, or NaN: see the file header. */
export type Fast = (x: number, y: number) => number;

const normal64 = (x: number): boolean => {
  const m = Math.abs(x);
  return x === 0 || (m >= MIN64 && m < BIG64);
};
const normal32 = (x: number): boolean => {
  const m = Math.abs(x);
  return x === 0 || (m >= MIN32 && m <= MAX32);
};
const moderate = (x: number): boolean => {
  const m = Math.abs(x);
  return m >= SMALL && m <= LARGE;
};

/** x + y − sum, exactly (Knuth). */
function sumError(x: number, y: number, sum: number): number {
  const v = sum - x;
  return (x - (sum - v)) + (y - v);
}

/** x × y − product, exactly (Dekker). */
function productError(x: number, y: number, product: number): number {
  const cx = SPLITTER * x, cy = SPLITTER * y;
  const xh = cx - (cx - x), yh = cy - (cy - y);
  const xl = x - xh, yl = y - yh;
  return ((xh * yh - product) + xh * yl + xl * yh) + xl * yl;
}

/** f64 addition. */
export function add64(x: number, y: number): number {
  const r = x + y;
  if (!normal64(x) || !normal64(y) || !normal64(r)) return NaN;
  if (sumError(x, y, r) !== 0) lost = true;
  return r;
}

/** f64 subtraction. */
export function subtract64(x: number, y: number): number {
  const r = x - y;
  if (!normal64(x) || !normal64(y) || !normal64(r)) return NaN;
  if (sumError(x, -y, r) !== 0) lost = true;
  return r;
}

/** f64 multiplication. */
export function multiply64(x: number, y: number): number {
  const r = x * y;
  if (moderate(x) && moderate(y)) {
    if (productError(x, y, r) !== 0) lost = true;
    return r;
  }
  return (x === 0 || y === 0) && normal64(x) && normal64(y) ? r : NaN;
}

/** f64 division. */
export function divide64(x: number, y: number): number {
  if (!moderate(y)) return NaN;
  const r = x / y;
  if (x === 0) return r;
  if (!moderate(x)) return NaN;
  const back = r * y;
  if (back !== x || productError(r, y, back) !== 0) lost = true;
  return r;
}

/** An f32 result from its f64 rounding. @param exact the f64 is the true result */
export function narrow(r: number, exact: boolean): number {
  const single = Math.fround(r);
  const m = Math.abs(single);
  // At the smallest normal number itself tininess is in question.
  if (!(m > MIN32 && m <= MAX32) && r !== 0) return NaN;
  if (!exact || single !== r) lost = true;
  return single;
}

/** f32 addition. */
export function add32(x: number, y: number): number {
  if (!normal32(x) || !normal32(y)) return NaN;
  const r = x + y;
  return narrow(r, sumError(x, y, r) === 0);
}

/** f32 subtraction. */
export function subtract32(x: number, y: number): number {
  if (!normal32(x) || !normal32(y)) return NaN;
  const r = x - y;
  return narrow(r, sumError(x, -y, r) === 0);
}

/** f32 multiplication: 48 bits hold the product. */
export function multiply32(x: number, y: number): number {
  if (!normal32(x) || !normal32(y)) return NaN;
  return narrow(x * y, true);
}

/** f32 division: a quotient of at most 24 bits is exact if it gives x back. */
export function divide32(x: number, y: number): number {
  if (!normal32(x) || !normal32(y) || y === 0) return NaN;
  const r = x / y;
  const single = Math.fround(r);
  return narrow(r, single === r && single * y === x);
}

/** Significands of powers of two as whole numbers. */
const LEAST64 = 4503599627370496, LEAST32 = 8388608;

/** The square root, of the second operand, checked by its exact residual. */
export function squareRoot64(_x: number, y: number): number {
  if (y === 0) return y;
  if (!(y >= SMALL && y <= LARGE)) return NaN;
  const r = Math.sqrt(y), square = r * r;
  const residual = (y - square) - productError(r, r, square);
  return rooted(r, residual, lastPlace(r), LEAST64);
}

/** The same for f32: 48 bits hold the square. */
export function squareRoot32(_x: number, y: number): number {
  if (y === 0) return y;
  if (!(y >= MIN32 && y <= MAX32)) return NaN;
  const r = Math.fround(Math.sqrt(y));
  return rooted(r, y - r * r, lastPlace(r) * LEAST64 / LEAST32, LEAST32);
}

const encoding = new DataView(new ArrayBuffer(8));
/** Last place of a normal f64. */
function lastPlace(r: number): number {
  encoding.setFloat64(0, r);
  const field = encoding.getUint32(0) >>> 20;
  encoding.setUint32(0, field - 52 << 20);
  encoding.setUint32(4, 0);
  return encoding.getFloat64(0);
}

/**
 * The host's root is a guess. It is √y rounded to nearest exactly if
 * −r·u < y − r² ≤ r·u, u its last place (both sides are whole multiples of u²).
 * @param least r ÷ u of a power of two, below which places are half as wide:
 *   not judged here unless exact
 */
function rooted(
  r: number,
  residual: number,
  unit: number,
  least: number,
): number {
  if (residual === 0) return r;
  const bound = r * unit;
  if (!(residual > -bound && residual <= bound) || r / unit === least) {
    return NaN;
  }
  lost = true;
  return r;
}
