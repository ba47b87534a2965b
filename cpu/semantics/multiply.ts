/**
 * Multiplication and division (SDM vol. 1 §7.3.2.4, vol. 2 MUL IMUL DIV IDIV MULX).
 *
 * SF, ZF, PF after a multiplication are undefined; here they follow the low
 * half. Division leaves all flags unchanged (undefined by the manual). A
 * quotient that does not fit raises #DE before anything is written.
 */
import { Vector } from "../arch/exceptions.ts";
import { Gpr } from "../layout.ts";
import type { Emitter, Size } from "../isa/emitter.ts";

const { RAX, RDX } = Gpr;

/** MUL: accumulator × operand, double-width result. */
export function mul<V, B>(e: Emitter<V, B>): void {
  const size = e.size(0);
  const a = e.gpr(RAX, size), b = e.rd(0), low = e.mul(a, b);
  const high = size === 64 ? e.mulHighU(a, b) : e.shr(low, e.k(size));
  writeProduct(e, size, low, high);
  const carry = e.ne(high, e.k(0));
  e.fRes(size, low, carry, carry);
}

/** IMUL with one operand. */
export function imul1<V, B>(e: Emitter<V, B>): void {
  const size = e.size(0);
  const a = e.sx(e.gpr(RAX, size), size), b = e.sx(e.rd(0), size);
  const low = e.mul(a, b);
  const high = size === 64 ? e.mulHighS(a, b) : e.shr(low, e.k(size));
  writeProduct(e, size, low, high);
  const carry = overflowed(e, size, low, high);
  e.fRes(size, low, carry, carry);
}

/** IMUL r, r/m. */
export function imul2<V, B>(e: Emitter<V, B>): void {
  truncatedProduct(e, e.rd(0), e.rd(1));
}

/** IMUL r, r/m, imm. */
export function imul3<V, B>(e: Emitter<V, B>): void {
  truncatedProduct(e, e.rd(1), e.rd(2));
}

function truncatedProduct<V, B>(e: Emitter<V, B>, x: V, y: V): void {
  const size = e.size(0);
  const a = e.sx(x, size), b = e.sx(y, size), low = e.mul(a, b);
  e.wr(0, low);
  if (!e.wantFlags) return;
  const high = size === 64 ? e.mulHighS(a, b) : low;
  const carry = overflowed(e, size, low, high);
  e.fRes(size, low, carry, carry);
}

/** Whether a signed product does not fit its low half. */
function overflowed<V, B>(e: Emitter<V, B>, size: Size, low: V, high: V): B {
  return size === 64
    ? e.ne(high, e.sar(low, e.k(63)))
    : e.ne(e.sx(low, size), low);
}

function writeProduct<V, B>(
  e: Emitter<V, B>,
  size: Size,
  low: V,
  high: V,
): void {
  if (size === 8) {
    e.setGpr(RAX, 16, low);
    return;
  }
  e.setGpr(RAX, size, low);
  e.setGpr(RDX, size, high);
}

/** MULX: RDX × operand 2 into operands 0 (high) and 1 (low); no flags. */
export function mulx<V, B>(e: Emitter<V, B>): void {
  const size = e.size(0);
  const a = e.gpr(RDX, size), b = e.rd(2), low = e.mul(a, b);
  const high = size === 64 ? e.mulHighU(a, b) : e.shr(low, e.k(size));
  // Same register twice: the high half stays (SDM 2B MULX).
  e.wr(1, low);
  e.wr(0, high);
}

/** Dividend of a DIV or IDIV of at most 32 bits, zero-extended. */
function narrowDividend<V, B>(e: Emitter<V, B>, size: Size): V {
  return size === 8
    ? e.gpr(RAX, 16)
    : e.or(e.shl(e.gpr(RDX, size), e.k(size)), e.gpr(RAX, size));
}

function writeQuotient<V, B>(
  e: Emitter<V, B>,
  size: Size,
  quotient: V,
  remainder: V,
): void {
  if (size === 8) {
    const high = e.shl(e.zx(remainder, 8), e.k(8));
    e.setGpr(RAX, 16, e.or(high, e.zx(quotient, 8)));
    return;
  }
  e.setGpr(RAX, size, quotient);
  e.setGpr(RDX, size, remainder);
}

/** DIV. */
export function div<V, B>(e: Emitter<V, B>): void {
  const size = e.size(0);
  const d = e.rd(0);
  e.faultIf(e.eq(d, e.k(0)), Vector.DE);
  if (size === 64) {
    const high = e.gpr(RDX, 64), low = e.gpr(RAX, 64);
    e.faultIf(e.notB(e.ltU(high, d)), Vector.DE);
    divide128(e, high, low, d, (q, r) => writeQuotient(e, 64, q, r));
    return;
  }
  const dividend = narrowDividend(e, size);
  const q = e.divU(dividend, d);
  e.faultIf(e.ne(e.zx(q, size), q), Vector.DE);
  writeQuotient(e, size, q, e.remU(dividend, d));
}

/** IDIV: truncates towards zero; the remainder has the dividend's sign. */
export function idiv<V, B>(e: Emitter<V, B>): void {
  const size = e.size(0);
  const d = e.sx(e.rd(0), size);
  e.faultIf(e.eq(d, e.k(0)), Vector.DE);
  if (size === 64) return idiv64(e, d);
  let dividend = narrowDividend(e, size);
  if (size !== 32) dividend = e.sx(dividend, size === 8 ? 16 : 32);
  else {
    // −2^63 / −1 overflows even the 64-bit division.
    const least = e.eq(dividend, e.k(1n << 63n));
    e.faultIf(e.andB(least, e.eq(d, e.k(-1))), Vector.DE);
  }
  const q = e.divS(dividend, d);
  e.faultIf(e.ne(e.sx(q, size), q), Vector.DE);
  writeQuotient(e, size, q, e.remS(dividend, d));
}

function idiv64<V, B>(e: Emitter<V, B>, d: V): void {
  const zero = e.k(0);
  const high = e.gpr(RDX, 64), low = e.gpr(RAX, 64);
  const negative = e.ltS(high, zero), dNegative = e.ltS(d, zero);
  const negate = (c: B, v: V): V => e.sel(c, e.sub(zero, v), v);
  const carry = e.b2v(e.eq(low, zero));
  const absHigh = e.sel(negative, e.add(e.not(high), carry), high);
  const absD = negate(dNegative, d);
  e.faultIf(e.notB(e.ltU(absHigh, absD)), Vector.DE);
  const qNegative = e.xorB(negative, dNegative);
  // |q| may reach 2^63 only when the quotient is negative.
  const limit = e.add(e.k((1n << 63n) - 1n), e.b2v(qNegative));
  divide128(e, absHigh, negate(negative, low), absD, (q, r) => {
    e.faultIf(e.ltU(limit, q), Vector.DE);
    writeQuotient(e, 64, negate(qNegative, q), negate(negative, r));
  });
}

/**
 * Unsigned high:low / d with high < d, by schoolbook division in base 2^32
 * (Knuth, TAOCP 2 §4.3.1 algorithm D with two digits). `done` is called once
 * per path, with the quotient and remainder of that path.
 */
function divide128<V, B>(
  e: Emitter<V, B>,
  high: V,
  low: V,
  d: V,
  done: (quotient: V, remainder: V) => void,
): void {
  const k32 = e.k(32), digitMask = e.k(0xffff_ffff);
  e.if(
    e.eq(high, e.k(0)),
    () => done(e.divU(low, d), e.remU(low, d)),
    () => {
      const shift = e.clz(d), v = e.shl(d, shift);
      const v1 = e.shr(v, k32), v0 = e.and(v, digitMask);
      const carried = e.shr(e.shr(low, e.k(1)), e.sub(e.k(63), shift));
      const top = e.or(e.shl(high, shift), carried);
      const rest = e.shl(low, shift);
      const digit = (n: V, next: V): V => {
        let q = e.divU(n, v1);
        let r = e.sub(n, e.mul(q, v1));
        for (let i = 0; i < 2; i++) { // an estimate is at most 2 too large
          const fits = e.eq(e.shr(r, k32), e.k(0));
          const large = e.orB(
            e.ne(e.shr(q, k32), e.k(0)),
            e.ltU(e.or(e.shl(r, k32), next), e.mul(q, v0)),
          );
          const one = e.b2v(e.andB(fits, large));
          q = e.sub(q, one);
          r = e.add(r, e.mul(one, v1));
        }
        return q;
      };
      const next1 = e.shr(rest, k32), next0 = e.and(rest, digitMask);
      const q1 = digit(top, next1);
      const middle = e.sub(e.or(e.shl(top, k32), next1), e.mul(q1, v));
      const q0 = digit(middle, next0);
      const last = e.sub(e.or(e.shl(middle, k32), next0), e.mul(q0, v));
      done(e.add(e.shl(q1, k32), q0), e.shr(last, shift));
    },
  );
}
