/**
 * Stack instructions (SDM vol. 1 ch. 6, vol. 2 PUSH POP PUSHA POPA LEAVE).
 * The stack pointer has SS.B's width outside 64-bit mode; the wrapped pointer
 * is what gets written back, its upper part kept for a 16-bit stack.
 */
import { Gpr, Seg } from "../layout.ts";
import type { EmitFunction, Emitter, Size } from "../isa/emitter.ts";

const { RSP, RBP } = Gpr;

/** Stores `value` below the stack pointer and returns the new pointer. */
export function pushValue<V, B>(e: Emitter<V, B>, size: Size, value: V): void {
  const width = e.form.stackSize;
  const sp = e.zx(e.sub(e.gpr(RSP, width), e.k(size / 8)), width);
  e.st(Seg.SS, sp, size, value);
  e.setGpr(RSP, width, sp);
}

/** Loads from the stack pointer and advances it (by `extra` more bytes). */
export function popValue<V, B>(e: Emitter<V, B>, size: Size, extra?: V): V {
  const width = e.form.stackSize;
  const sp = e.gpr(RSP, width);
  const value = e.ld(Seg.SS, sp, size);
  const next = e.add(sp, e.k(size / 8));
  e.setGpr(RSP, width, extra === undefined ? next : e.add(next, extra));
  return value;
}

/** PUSH of a register, memory or immediate operand; PUSH rSP stores the old value. */
export function push<V, B>(e: Emitter<V, B>): void {
  pushValue(e, e.size(0), e.rd(0));
}

/**
 * POP. An address based on rSP is computed after the increment (SDM 2B POP);
 * POP rSP keeps the popped value, being written last.
 */
export function pop<V, B>(e: Emitter<V, B>): void {
  const size = e.size(0), memory = e.form.memory;
  if (memory === undefined) {
    e.wr(0, popValue(e, size));
    return;
  }
  const value = popValue(e, size);
  const offset = memory.base === RSP
    ? e.zx(e.add(e.ea(0), e.k(size / 8)), e.form.addressSize)
    : e.ea(0);
  e.st(memory.segment, offset, size, value);
}

/** PUSHA, PUSHAD: the eight registers, rSP as it was before. */
export function pusha(size: 16 | 32): EmitFunction {
  return (e) => {
    const width = e.form.stackSize;
    let sp = e.gpr(RSP, width);
    for (let r = 0; r < 8; r++) {
      sp = e.zx(e.sub(sp, e.k(size / 8)), width);
      e.st(Seg.SS, sp, size, e.gpr(r, size));
    }
    e.setGpr(RSP, width, sp);
  };
}

/** POPA, POPAD: the stored rSP is skipped. */
export function popa(size: 16 | 32): EmitFunction {
  return (e) => {
    const width = e.form.stackSize;
    let sp = e.gpr(RSP, width);
    for (let r = 7; r >= 0; r--) {
      const value = e.ld(Seg.SS, sp, size);
      if (r !== RSP) e.setGpr(r, size, value);
      sp = e.zx(e.add(sp, e.k(size / 8)), width);
    }
    e.setGpr(RSP, width, sp);
  };
}

/** LEAVE: rSP ← rBP, then POP rBP. */
export function leave(size: Size): EmitFunction {
  return (e) => {
    const width = e.form.stackSize;
    const frame = e.gpr(RBP, width);
    const value = e.ld(Seg.SS, frame, size);
    e.setGpr(RSP, width, e.add(frame, e.k(size / 8)));
    e.setGpr(RBP, size, value);
  };
}
