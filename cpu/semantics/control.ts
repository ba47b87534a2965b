/**
 * Near control transfer (SDM vol. 1 §7.3.8, vol. 2 Jcc JMP CALL RET LOOPcc
 * JrCXZ BOUND). The target is checked before the stack is written, so a fault
 * leaves everything as it was.
 */
import { Vector } from "../arch/exceptions.ts";
import { Gpr } from "../layout.ts";
import { popValue, pushValue } from "./stack.ts";
import type {
  ConditionCode,
  EmitFunction,
  Emitter,
  Size,
} from "../isa/emitter.ts";

const { RCX } = Gpr;
const CC_Z = 4;

/** Jcc. */
export function jcc(cc: ConditionCode): EmitFunction {
  return (e) => e.jcc(e.cond(cc));
}

/** JMP rel. */
export function jmpRelative<V, B>(e: Emitter<V, B>): void {
  e.jmpRel();
}

/** JMP r/m. */
export function jmpIndirect<V, B>(e: Emitter<V, B>): void {
  e.jmp(e.rd(0));
}

/** CALL rel at an operand size. */
export function callRelative(size: Size): EmitFunction {
  return (e) => {
    e.jmpRel();
    pushValue(e, size, e.nextRip());
  };
}

/** CALL r/m. */
export function callIndirect<V, B>(e: Emitter<V, B>): void {
  e.jmp(e.rd(0));
  pushValue(e, e.size(0), e.nextRip());
}

/** RET, with or without releasing parameter bytes. */
export function ret(size: Size, release: boolean): EmitFunction {
  return (e) => e.jmp(popValue(e, size, release ? e.rd(0) : undefined));
}

/** LOOP, LOOPE, LOOPNE: the counter has the address size. */
export function loop(kind: "always" | "equal" | "notEqual"): EmitFunction {
  return (e) => {
    const size = e.form.addressSize;
    const count = e.zx(e.sub(e.gpr(RCX, size), e.k(1)), size);
    e.setGpr(RCX, size, count);
    const more = e.ne(count, e.k(0));
    if (kind === "always") e.jcc(more);
    else e.jcc(e.andB(more, e.cond(kind === "equal" ? CC_Z : CC_Z | 1)));
  };
}

/** JCXZ, JECXZ, JRCXZ. */
export function jrcxz<V, B>(e: Emitter<V, B>): void {
  e.jcc(e.eq(e.gpr(RCX, e.form.addressSize), e.k(0)));
}

/** BOUND: #BR unless lower ≤ index ≤ upper, signed. */
export function bound<V, B>(e: Emitter<V, B>): void {
  const size = e.size(0), memory = e.form.memory;
  if (memory === undefined) {
    e.faultIf(e.true(), Vector.UD);
    return;
  }
  const index = e.sx(e.rd(0), size), at = e.ea(1);
  const lower = e.sx(e.ld(memory.segment, at, size), size);
  const next = e.zx(e.add(at, e.k(size / 8)), e.form.addressSize);
  const upper = e.sx(e.ld(memory.segment, next, size), size);
  e.faultIf(e.orB(e.ltS(index, lower), e.ltS(upper, index)), Vector.BR);
}
