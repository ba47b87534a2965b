/**
 * Shifts and rotates (SDM vol. 1 §7.3.6, vol. 2 SAL/SAR/SHL/SHR, RCL/RCR/ROL/ROR,
 * SHLD, SHRD, and BMI2's RORX SARX SHLX SHRX).
 *
 * Counts are masked to 5 bits (6 for 64-bit operands). A masked count of zero
 * changes no flag. OF is defined for count 1 only; for other counts the same
 * formula is applied to the final result. AF is cleared.
 */
import type { EmitFunction, Emitter, Size } from "../isa/emitter.ts";

/** Where the count comes from: the D0/D1 forms shift by one. */
export type Count = "one" | "operand";

type ShiftBody = <V, B>(
  e: Emitter<V, B>,
  size: Size,
  a: V,
  count: V,
) => { res: V; cf: () => B; of: (cf: B) => B };

function count<V, B>(e: Emitter<V, B>, from: Count, operand: number): V {
  return from === "one"
    ? e.k(1)
    : e.and(e.rd(operand), e.k(e.size(0) === 64 ? 63 : 31));
}

/** Runs `flags` unless the count is zero. */
function unlessZero<V, B>(
  e: Emitter<V, B>,
  from: Count,
  n: V,
  flags: () => void,
): void {
  if (from === "one") flags();
  else e.if(e.ne(n, e.k(0)), flags);
}

/** Top bit of `v` at `size`. */
function msb<V, B>(e: Emitter<V, B>, size: Size, v: V): B {
  return e.bit(v, e.k(size - 1));
}

/** Exclusive or of the two top bits. */
function topTwoDiffer<V, B>(e: Emitter<V, B>, size: Size, v: V): B {
  return e.xorB(msb(e, size, v), e.bit(v, e.k(size - 2)));
}

const shlBody: ShiftBody = (e, size, a, n) => {
  const res = e.shl(a, n);
  return {
    res,
    cf: () => size === 64 ? e.bit(a, e.sub(e.k(64), n)) : e.bit(res, e.k(size)),
    of: (cf) => e.xorB(msb(e, size, res), cf),
  };
};

const shrBody: ShiftBody = (e, size, a, n) => {
  const res = e.shr(a, n);
  return {
    res,
    cf: () => e.bit(a, e.sub(n, e.k(1))),
    of: () => topTwoDiffer(e, size, res),
  };
};

const sarBody: ShiftBody = (e, size, a, n) => {
  const signed = e.sx(a, size);
  return {
    res: e.sar(signed, n),
    cf: () => e.bit(signed, e.sub(n, e.k(1))),
    of: () => e.false(),
  };
};

function shift(body: ShiftBody, from: Count): EmitFunction {
  return (e) => {
    const size = e.size(0);
    const a = e.rdRw(0), n = count(e, from, 1);
    const { res, cf, of } = body(e, size, a, n);
    e.wr(0, res);
    if (!e.wantFlags) return;
    unlessZero(e, from, n, () => {
      const carry = cf();
      e.fRes(size, res, carry, of(carry));
    });
  };
}

/** SHL and its alias SAL. */
export const shl = (from: Count): EmitFunction => shift(shlBody, from);
/** SHR. */
export const shr = (from: Count): EmitFunction => shift(shrBody, from);
/** SAR. */
export const sar = (from: Count): EmitFunction => shift(sarBody, from);

function rotateLeft<V, B>(e: Emitter<V, B>, size: Size, a: V, n: V): V {
  if (size === 64) return e.rotl(a, n);
  const by = e.and(n, e.k(size - 1));
  return e.zx(e.or(e.shl(a, by), e.shr(a, e.sub(e.k(size), by))), size);
}

function rotateRight<V, B>(e: Emitter<V, B>, size: Size, a: V, n: V): V {
  if (size === 64) return e.rotl(a, e.sub(e.k(64), n));
  const by = e.and(n, e.k(size - 1));
  return e.zx(e.or(e.shr(a, by), e.shl(a, e.sub(e.k(size), by))), size);
}

/** ROL: CF is the result's low bit whenever the masked count is not zero. */
export function rol(from: Count): EmitFunction {
  return (e) => {
    const size = e.size(0);
    const a = e.rdRw(0), n = count(e, from, 1);
    const res = rotateLeft(e, size, a, n);
    e.wr(0, res);
    unlessZero(e, from, n, () => {
      const cf = e.bit(res, e.k(0));
      e.fCO(cf, e.xorB(msb(e, size, res), cf));
    });
  };
}

/** ROR. */
export function ror(from: Count): EmitFunction {
  return (e) => {
    const size = e.size(0);
    const a = e.rdRw(0), n = count(e, from, 1);
    const res = rotateRight(e, size, a, n);
    e.wr(0, res);
    unlessZero(
      e,
      from,
      n,
      () => e.fCO(msb(e, size, res), topTwoDiffer(e, size, res)),
    );
  };
}

/** Count of a rotate through carry: 8- and 16-bit counts wrap at size + 1. */
function carryCount<V, B>(e: Emitter<V, B>, from: Count, size: Size): V {
  const n = count(e, from, 1);
  return from === "one" || size >= 32 ? n : e.remU(n, e.k(size + 1));
}

/** RCL. */
export function rcl(from: Count): EmitFunction {
  return (e) => {
    const size = e.size(0);
    const a = e.rdRw(0), n = carryCount(e, from, size), c = e.b2v(e.cf());
    const one = e.k(1);
    if (size === 64) {
      const low = e.shl(c, e.sub(n, one));
      const high = e.shr(e.shr(a, one), e.sub(e.k(64), n));
      const turned = e.or(e.or(e.shl(a, n), low), high);
      const res = e.sel(e.eq(n, e.k(0)), a, turned);
      e.wr(0, res);
      unlessZero(e, from, n, () => {
        const cf = e.bit(a, e.sub(e.k(64), n));
        e.fCO(cf, e.xorB(msb(e, size, res), cf));
      });
      return;
    }
    const wide = e.or(a, e.shl(c, e.k(size)));
    const wrapped = e.shr(wide, e.sub(e.k(size + 1), n));
    const res = e.or(e.shl(wide, n), wrapped);
    e.wr(0, res);
    unlessZero(e, from, n, () => {
      const cf = e.bit(res, e.k(size));
      e.fCO(cf, e.xorB(msb(e, size, res), cf));
    });
  };
}

/** RCR. */
export function rcr(from: Count): EmitFunction {
  return (e) => {
    const size = e.size(0);
    const a = e.rdRw(0), n = carryCount(e, from, size), c = e.b2v(e.cf());
    const one = e.k(1);
    if (size === 64) {
      const left = e.sub(e.k(64), n);
      const high = e.or(e.shl(c, left), e.shl(e.shl(a, one), left));
      const turned = e.or(e.shr(a, n), high);
      const res = e.sel(e.eq(n, e.k(0)), a, turned);
      e.wr(0, res);
      unlessZero(e, from, n, () => {
        const cf = e.bit(a, e.sub(n, one));
        e.fCO(cf, topTwoDiffer(e, size, res));
      });
      return;
    }
    const wide = e.or(a, e.shl(c, e.k(size)));
    const wrapped = e.shl(wide, e.sub(e.k(size + 1), n));
    const res = e.or(e.shr(wide, n), wrapped);
    e.wr(0, res);
    unlessZero(
      e,
      from,
      n,
      () => e.fCO(e.bit(res, e.k(size)), topTwoDiffer(e, size, res)),
    );
  };
}

/**
 * SHLD. A 16-bit shift by more than 16 is undefined; like processors do, bits
 * of the destination follow those of the source.
 */
export function shld<V, B>(e: Emitter<V, B>): void {
  const size = e.size(0);
  const a = e.rdRw(0), b = e.rd(1), n = count(e, "operand", 2);
  let res: V, cf: () => B;
  if (size === 64) {
    const low = e.shr(e.shr(b, e.k(1)), e.sub(e.k(63), n));
    res = e.or(e.shl(a, n), low);
    cf = () => e.bit(a, e.sub(e.k(64), n));
  } else if (size === 32) {
    const wide = e.or(e.shl(a, e.k(32)), b);
    res = e.shr(e.shl(wide, n), e.k(32));
    cf = () => e.bit(wide, e.sub(e.k(64), n));
  } else {
    const wide = concatenate16(e, a, b);
    res = e.zx(e.shr(e.shl(wide, n), e.k(32)), 16);
    cf = () => e.bit(wide, e.sub(e.k(48), n));
  }
  e.wr(0, res);
  unlessZero(e, "operand", n, () => {
    const carry = cf();
    e.fRes(size, res, carry, e.xorB(msb(e, size, res), carry));
  });
}

/** SHRD. */
export function shrd<V, B>(e: Emitter<V, B>): void {
  const size = e.size(0);
  const a = e.rdRw(0), b = e.rd(1), n = count(e, "operand", 2);
  let res: V, from = a;
  if (size === 64) {
    const high = e.shl(e.shl(b, e.k(1)), e.sub(e.k(63), n));
    res = e.or(e.shr(a, n), high);
  } else if (size === 32) {
    res = e.shr(e.or(e.shl(b, e.k(32)), a), n);
  } else {
    from = concatenate16(e, a, b);
    res = e.shr(from, n);
  }
  e.wr(0, res);
  unlessZero(e, "operand", n, () => {
    const cf = e.bit(from, e.sub(n, e.k(1)));
    e.fRes(size, res, cf, topTwoDiffer(e, size, res));
  });
}

/** dest : src : dest, 48 bits. */
function concatenate16<V, B>(e: Emitter<V, B>, a: V, b: V): V {
  return e.or(e.or(e.shl(a, e.k(32)), e.shl(b, e.k(16))), a);
}

/** RORX: rotate right by an immediate; no flags. */
export function rorx<V, B>(e: Emitter<V, B>): void {
  e.wr(0, rotateRight(e, e.size(0), e.rd(1), count(e, "operand", 2)));
}

/** SHLX. */
export function shlx<V, B>(e: Emitter<V, B>): void {
  e.wr(0, e.shl(e.rd(1), count(e, "operand", 2)));
}

/** SHRX. */
export function shrx<V, B>(e: Emitter<V, B>): void {
  e.wr(0, e.shr(e.rd(1), count(e, "operand", 2)));
}

/** SARX. */
export function sarx<V, B>(e: Emitter<V, B>): void {
  e.wr(0, e.sar(e.sx(e.rd(1), e.size(0)), count(e, "operand", 2)));
}
