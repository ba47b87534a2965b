/**
 * Binary arithmetic (SDM vol. 1 §7.3.2, AMD APM vol. 3 ch. 3): ADD to CMP,
 * INC, DEC, NEG, XADD, CMPXCHG and the single-carry ADCX and ADOX.
 *
 * Invariant: results handed to `wr` and to the flag operations may have
 * garbage above the operand size; operand reads never do.
 */
import { Rflags } from "../arch/flags.ts";
import { Gpr } from "../layout.ts";
import type { Emitter } from "../isa/emitter.ts";

/** ADD: dest ← dest + src. */
export function add<V, B>(e: Emitter<V, B>): void {
  const a = e.rdRw(0), b = e.rd(1), res = e.add(a, b);
  e.wr(0, res);
  e.fAdd(e.size(0), a, b, res);
}

/** ADC: dest ← dest + src + CF. */
export function adc<V, B>(e: Emitter<V, B>): void {
  const a = e.rdRw(0), b = e.rd(1), carry = e.cf();
  const res = e.add(e.add(a, b), e.b2v(carry));
  e.wr(0, res);
  e.fAdd(e.size(0), a, b, res, carry);
}

/** SUB: dest ← dest − src. */
export function sub<V, B>(e: Emitter<V, B>): void {
  const a = e.rdRw(0), b = e.rd(1), res = e.sub(a, b);
  e.wr(0, res);
  e.fSub(e.size(0), a, b, res);
}

/** SBB: dest ← dest − (src + CF). */
export function sbb<V, B>(e: Emitter<V, B>): void {
  const a = e.rdRw(0), b = e.rd(1), borrow = e.cf();
  const res = e.sub(e.sub(a, b), e.b2v(borrow));
  e.wr(0, res);
  e.fSub(e.size(0), a, b, res, borrow);
}

/** CMP: the flags of dest − src. */
export function cmp<V, B>(e: Emitter<V, B>): void {
  const a = e.rd(0), b = e.rd(1);
  e.fSub(e.size(0), a, b, e.sub(a, b));
}

/** INC: CF is preserved. */
export function inc<V, B>(e: Emitter<V, B>): void {
  const res = e.add(e.rdRw(0), e.k(1));
  e.wr(0, res);
  e.fInc(e.size(0), res);
}

/** DEC: CF is preserved. */
export function dec<V, B>(e: Emitter<V, B>): void {
  const res = e.sub(e.rdRw(0), e.k(1));
  e.wr(0, res);
  e.fDec(e.size(0), res);
}

/** NEG: 0 − dest; CF is set unless dest was 0. */
export function neg<V, B>(e: Emitter<V, B>): void {
  const a = e.rdRw(0), zero = e.k(0), res = e.sub(zero, a);
  e.wr(0, res);
  e.fSub(e.size(0), zero, a, res);
}

/** XADD: src ← dest, then dest ← sum; with one register for both, the sum stays. */
export function xadd<V, B>(e: Emitter<V, B>): void {
  const a = e.rdRw(0), b = e.rd(1), res = e.add(a, b);
  e.wr(1, a);
  e.wr(0, res);
  e.fAdd(e.size(0), a, b, res);
}

/**
 * CMPXCHG: a memory destination is always written (SDM 2A: a write cycle occurs
 * whatever the comparison's result), a register, like the accumulator, only
 * when it changes: a 32-bit one keeps its upper half otherwise.
 */
export function cmpxchg<V, B>(e: Emitter<V, B>): void {
  const size = e.size(0);
  const dest = e.rdRw(0), src = e.rd(1), acc = e.gpr(Gpr.RAX, size);
  const equal = e.eq(acc, dest);
  if (e.form.memory === undefined) e.if(equal, () => e.wr(0, src));
  else e.wr(0, e.sel(equal, src, dest));
  e.if(e.notB(equal), () => e.setGpr(Gpr.RAX, size, dest));
  e.fSub(size, acc, dest, e.sub(acc, dest));
}

/** CMPXCHG8B: EDX:EAX against the quadword; only ZF is affected. */
export function cmpxchg8b<V, B>(e: Emitter<V, B>): void {
  const dest = e.rdRw(0);
  const pair = (high: number, low: number): V =>
    e.or(e.shl(e.gpr(high, 32), e.k(32)), e.gpr(low, 32));
  const equal = e.eq(pair(Gpr.RDX, Gpr.RAX), dest);
  e.wr(0, e.sel(equal, pair(Gpr.RCX, Gpr.RBX), dest));
  e.if(e.notB(equal), () => {
    e.setGpr(Gpr.RAX, 32, dest);
    e.setGpr(Gpr.RDX, 32, e.shr(dest, e.k(32)));
  });
  e.putFl(Rflags.ZF, e.shl(e.b2v(equal), e.k(6)));
}

/** ADCX: adds with CF, changing CF alone. */
export function adcx<V, B>(e: Emitter<V, B>): void {
  addWithOneFlag(e, e.cf(), Rflags.CF, 0);
}

/** ADOX: adds with OF, changing OF alone. */
export function adox<V, B>(e: Emitter<V, B>): void {
  addWithOneFlag(e, e.bit(e.getFl(), e.k(11)), Rflags.OF, 11);
}

function addWithOneFlag<V, B>(
  e: Emitter<V, B>,
  carry: B,
  mask: number,
  position: number,
): void {
  const size = e.size(0);
  const a = e.rd(0), b = e.rd(1);
  const sum = e.add(a, b), res = e.add(sum, e.b2v(carry));
  const out = size === 64
    ? e.orB(e.ltU(sum, a), e.ltU(res, sum))
    : e.bit(res, e.k(size));
  e.wr(0, res);
  e.putFl(mask, e.shl(e.b2v(out), e.k(position)));
}
