/**
 * String instructions (SDM vol. 1 §7.3.9, vol. 2 REP): MOVS CMPS STOS LODS SCAS.
 *
 * Under REP one iteration is one step: the counter, pointers and flags of an
 * iteration are committed together, so a fault leaves the registers of the
 * iterations done. A zero count is one step that does nothing.
 */
import { Gpr, Seg } from "../layout.ts";
import { Rep } from "../isa/insn.ts";
import type { EmitFunction, Emitter, Size } from "../isa/emitter.ts";

const { RAX, RCX, RSI, RDI } = Gpr;

/** Runs `iteration`, once per step under REP; it returns ZF where that ends the loop. */
function repeated<V, B>(
  e: Emitter<V, B>,
  iteration: () => B | undefined,
): void {
  const { rep, addressSize } = e.form;
  if (rep === Rep.None) {
    iteration();
    return;
  }
  const count = e.gpr(RCX, addressSize);
  e.if(e.ne(count, e.k(0)), () => {
    const zf = iteration();
    const left = e.zx(e.sub(count, e.k(1)), addressSize);
    e.setGpr(RCX, addressSize, left);
    const more = e.ne(left, e.k(0));
    if (zf === undefined) e.repeatIf(more);
    else e.repeatIf(e.andB(more, rep === Rep.RepE ? zf : e.notB(zf)));
  });
}

/** Advances an index register by the operand size in DF's direction. */
function advance<V, B>(e: Emitter<V, B>, register: number, size: Size): void {
  const width = e.form.addressSize;
  const by = e.mul(e.direction(), e.k(size / 8));
  e.setGpr(register, width, e.add(e.gpr(register, width), by));
}

const source = <V, B>(e: Emitter<V, B>, size: Size): V =>
  e.ld(e.form.segment, e.gpr(RSI, e.form.addressSize), size);

const destination = <V, B>(e: Emitter<V, B>, size: Size): V =>
  e.ld(Seg.ES, e.gpr(RDI, e.form.addressSize), size);

/** MOVS. */
export function movs(size: Size): EmitFunction {
  return (e) =>
    repeated(e, () => {
      e.st(Seg.ES, e.gpr(RDI, e.form.addressSize), size, source(e, size));
      advance(e, RSI, size);
      advance(e, RDI, size);
      return undefined;
    });
}

/** STOS. */
export function stos(size: Size): EmitFunction {
  return (e) =>
    repeated(e, () => {
      e.st(Seg.ES, e.gpr(RDI, e.form.addressSize), size, e.gpr(RAX, size));
      advance(e, RDI, size);
      return undefined;
    });
}

/** LODS. */
export function lods(size: Size): EmitFunction {
  return (e) =>
    repeated(e, () => {
      e.setGpr(RAX, size, source(e, size));
      advance(e, RSI, size);
      return undefined;
    });
}

/** SCAS: accumulator − [ES:rDI]. */
export function scas(size: Size): EmitFunction {
  return (e) =>
    repeated(e, () => {
      const a = e.gpr(RAX, size), b = destination(e, size);
      e.fSub(size, a, b, e.sub(a, b));
      advance(e, RDI, size);
      return e.eq(a, b);
    });
}

/** CMPS: [rSI] − [ES:rDI]; the latter is read first, as AMD's processors do. */
export function cmps(size: Size): EmitFunction {
  return (e) =>
    repeated(e, () => {
      const b = destination(e, size), a = source(e, size);
      e.fSub(size, a, b, e.sub(a, b));
      advance(e, RSI, size);
      advance(e, RDI, size);
      return e.eq(a, b);
    });
}
