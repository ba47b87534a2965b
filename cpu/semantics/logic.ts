/**
 * Logical instructions (SDM vol. 1 §7.3.5): AND, OR, XOR, TEST, NOT.
 * AF is undefined after the first four; like current processors we clear it.
 */
import type { Emitter } from "../isa/emitter.ts";

/** AND. */
export function and<V, B>(e: Emitter<V, B>): void {
  const res = e.and(e.rdRw(0), e.rd(1));
  e.wr(0, res);
  e.fLogic(e.size(0), res);
}

/** OR. */
export function or<V, B>(e: Emitter<V, B>): void {
  const res = e.or(e.rdRw(0), e.rd(1));
  e.wr(0, res);
  e.fLogic(e.size(0), res);
}

/** XOR. */
export function xor<V, B>(e: Emitter<V, B>): void {
  const res = e.xor(e.rdRw(0), e.rd(1));
  e.wr(0, res);
  e.fLogic(e.size(0), res);
}

/** TEST: the flags of AND. */
export function test<V, B>(e: Emitter<V, B>): void {
  e.fLogic(e.size(0), e.and(e.rd(0), e.rd(1)));
}

/** NOT: no flags. */
export function not<V, B>(e: Emitter<V, B>): void {
  e.wr(0, e.not(e.rdRw(0)));
}
