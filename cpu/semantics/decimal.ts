/**
 * Decimal adjustment (SDM vol. 1 §7.3.4, vol. 2 AAA AAD AAM AAS DAA DAS); not
 * in 64-bit mode. OF, undefined after all of them, is cleared except by AAD; SF,
 * ZF and PF, undefined after AAA and AAS, are those of the result AL.
 */
import { Vector } from "../arch/exceptions.ts";
import { ARITHMETIC_FLAGS, Rflags } from "../arch/flags.ts";
import { Gpr } from "../layout.ts";
import type { EmitFunction, Emitter } from "../isa/emitter.ts";

const { RAX } = Gpr;

/** Writes all arithmetic flags: SF ZF PF of the byte `res`, CF, AF; OF = 0. */
function decimalFlags<V, B>(e: Emitter<V, B>, res: V, cf: B, af: B): void {
  const byte = e.zx(res, 8);
  const parity = e.and(e.not(e.popcnt(byte)), e.k(1));
  const zero = e.b2v(e.eq(byte, e.k(0)));
  let flags = e.and(byte, e.k(Rflags.SF));
  flags = e.or(flags, e.shl(zero, e.k(6)));
  flags = e.or(flags, e.shl(parity, e.k(2)));
  flags = e.or(flags, e.shl(e.b2v(af), e.k(4)));
  e.putFl(ARITHMETIC_FLAGS, e.or(flags, e.b2v(cf)));
}

/** DAA and DAS. */
export function decimalAdjust(direction: "add" | "subtract"): EmitFunction {
  return (e) => {
    const old = e.gpr(RAX, 8), carry = e.cf();
    const half = e.bit(e.getFl(), e.k(4));
    const step = direction === "add" ? e.add : e.sub;
    const nine = e.ltU(e.k(9), e.and(old, e.k(0xf)));
    const af = e.orB(nine, half);
    const high = e.orB(e.ltU(e.k(0x99), old), carry);
    const six = e.sel(af, e.k(6), e.k(0));
    const sixty = e.sel(high, e.k(0x60), e.k(0));
    const low = step.call(e, old, six);
    // DAS keeps the borrow of the first correction (SDM 2A DAS).
    const borrow = e.andB(af, e.ltU(old, e.k(6)));
    const cf = direction === "add" ? high : e.orB(high, borrow);
    const res = step.call(e, low, sixty);
    e.setGpr(RAX, 8, res);
    decimalFlags(e, res, cf, af);
  };
}

/** AAA and AAS: AX ± 106h when a digit overflowed; AL keeps its low nibble. */
export function asciiAdjust(direction: "add" | "subtract"): EmitFunction {
  return (e) => {
    const ax = e.gpr(RAX, 16);
    const nine = e.ltU(e.k(9), e.and(ax, e.k(0xf)));
    const adjust = e.orB(nine, e.bit(e.getFl(), e.k(4)));
    const by = e.sel(adjust, e.k(0x106), e.k(0));
    const moved = direction === "add" ? e.add(ax, by) : e.sub(ax, by);
    const res = e.and(moved, e.k(0xff0f));
    e.setGpr(RAX, 16, res);
    decimalFlags(e, res, adjust, adjust);
  };
}

/** AAM: AH ← AL / imm, AL ← AL mod imm; #DE for 0. */
export function aam<V, B>(e: Emitter<V, B>): void {
  const al = e.gpr(RAX, 8), base = e.rd(0);
  e.faultIf(e.eq(base, e.k(0)), Vector.DE);
  const high = e.divU(al, base), low = e.remU(al, base);
  e.setGpr(RAX, 16, e.or(e.shl(high, e.k(8)), low));
  decimalFlags(e, low, e.false(), e.false());
}

/** AAD: AL ← AL + AH × imm, AH ← 0; CF, AF, OF as of that byte addition. */
export function aad<V, B>(e: Emitter<V, B>): void {
  const al = e.gpr(RAX, 8), ah = e.shr(e.gpr(RAX, 16), e.k(8));
  const product = e.zx(e.mul(ah, e.rd(0)), 8);
  const sum = e.add(al, product);
  e.setGpr(RAX, 16, e.zx(sum, 8));
  e.fAdd(8, al, product, sum);
}
