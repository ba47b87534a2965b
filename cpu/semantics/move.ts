/**
 * Data movement, conversion and flag instructions (SDM vol. 1 §7.3.1, §7.3.3,
 * §7.3.13, vol. 2): MOV family, XCHG, BSWAP, MOVBE, CMOVcc, SETcc, LEA, XLAT,
 * sign extensions of the accumulator, LAHF, SAHF, CLC, STC, CMC, SALC, the
 * no-operations and cache hints.
 */
import { Vector } from "../arch/exceptions.ts";
import { Rflags } from "../arch/flags.ts";
import { Gpr } from "../layout.ts";
import type {
  ConditionCode,
  EmitFunction,
  Emitter,
  Size,
} from "../isa/emitter.ts";

const { RAX, RDX, RBX } = Gpr;

/** MOV, MOVZX, MOVNTI: destination ← zero-extended source. */
export function mov<V, B>(e: Emitter<V, B>): void {
  e.wr(0, e.rd(1));
}

/** MOVSX, MOVSXD. */
export function movsx<V, B>(e: Emitter<V, B>): void {
  e.wr(0, e.sx(e.rd(1), e.size(1)));
}

/** XCHG. */
export function xchg<V, B>(e: Emitter<V, B>): void {
  const a = e.rdRw(0), b = e.rd(1);
  e.wr(0, b);
  e.wr(1, a);
}

/** LEA: the offset, without segment base or check. */
export function lea<V, B>(e: Emitter<V, B>): void {
  e.wr(0, e.ea(1));
}

/** CMOVcc: the source is read, and a 32-bit destination zero-extended, in any case. */
export function cmov(cc: ConditionCode): EmitFunction {
  return (e) => {
    const src = e.rd(1);
    e.wr(0, e.sel(e.cond(cc), src, e.rd(0)));
  };
}

/** SETcc. */
export function set(cc: ConditionCode): EmitFunction {
  return (e) => e.wr(0, e.b2v(e.cond(cc)));
}

function swapBytes<V, B>(e: Emitter<V, B>, v: V, size: Size): V {
  if (size === 16) {
    return e.or(e.shr(v, e.k(8)), e.shl(e.zx(v, 8), e.k(8)));
  }
  const swap = (x: V, by: number, mask: bigint): V =>
    e.or(
      e.and(e.shr(x, e.k(by)), e.k(mask)),
      e.shl(e.and(x, e.k(mask)), e.k(by)),
    );
  let x = swap(v, 8, 0x00ff00ff_00ff00ffn);
  x = swap(x, 16, 0x0000ffff_0000ffffn);
  return size === 64 ? e.rotl(x, e.k(32)) : x;
}

/** BSWAP; of a 16-bit register (undefined by the manual) processors make zero. */
export function bswap<V, B>(e: Emitter<V, B>): void {
  const size = e.size(0);
  e.wr(0, size === 16 ? e.k(0) : swapBytes(e, e.rd(0), size));
}

/** MOVBE. */
export function movbe<V, B>(e: Emitter<V, B>): void {
  e.wr(0, swapBytes(e, e.rd(1), e.size(0)));
}

/** XLAT: AL ← [rBX + AL]. */
export function xlat<V, B>(e: Emitter<V, B>): void {
  const size = e.form.addressSize;
  const offset = e.zx(e.add(e.gpr(RBX, size), e.gpr(RAX, 8)), size);
  e.setGpr(RAX, 8, e.ld(e.form.segment, offset, 8));
}

/** CBW, CWDE, CDQE: sign-extends the accumulator from half of `size`. */
export function extendAccumulator(size: 16 | 32 | 64): EmitFunction {
  const half: Size = size === 64 ? 32 : size === 32 ? 16 : 8;
  return (e) => e.setGpr(RAX, size, e.sx(e.gpr(RAX, half), half));
}

/** CWD, CDQ, CQO: the accumulator's sign into rDX. */
export function signToRdx(size: 16 | 32 | 64): EmitFunction {
  return (e) => {
    const sign = e.sar(e.sx(e.gpr(RAX, size), size), e.k(63));
    e.setGpr(RDX, size, sign);
  };
}

const LOW_FLAGS = Rflags.CF | Rflags.PF | Rflags.AF | Rflags.ZF | Rflags.SF;

/** LAHF: AH ← SF:ZF:0:AF:0:PF:1:CF. */
export function lahf<V, B>(e: Emitter<V, B>): void {
  const low = e.or(e.and(e.getFl(), e.k(LOW_FLAGS)), e.k(Rflags.Fixed1));
  e.setGpr(RAX, 16, e.or(e.gpr(RAX, 8), e.shl(low, e.k(8))));
}

/** SAHF. */
export function sahf<V, B>(e: Emitter<V, B>): void {
  e.putFl(LOW_FLAGS, e.shr(e.gpr(RAX, 16), e.k(8)));
}

/** CLC. */
export function clc<V, B>(e: Emitter<V, B>): void {
  e.putFl(Rflags.CF, e.k(0));
}

/** STC. */
export function stc<V, B>(e: Emitter<V, B>): void {
  e.putFl(Rflags.CF, e.k(1));
}

/** CMC. */
export function cmc<V, B>(e: Emitter<V, B>): void {
  e.putFl(Rflags.CF, e.b2v(e.notB(e.cf())));
}

/** SALC (D6): AL ← CF ? FFh : 0. */
export function salc<V, B>(e: Emitter<V, B>): void {
  e.setGpr(RAX, 8, e.sub(e.k(0), e.b2v(e.cf())));
}

/** NOP, ENDBR, hints, fences: nothing; a memory operand is not touched. */
export function nop<V, B>(_e: Emitter<V, B>): void {}

/** CLFLUSH and relatives: checked as a one-byte load (SDM 2A CLFLUSH). */
export function cacheLine<V, B>(e: Emitter<V, B>): void {
  e.rd(0);
}

/** UD0, UD1, UD2. */
export function undefinedOpcode<V, B>(e: Emitter<V, B>): void {
  e.faultIf(e.true(), Vector.UD);
}
