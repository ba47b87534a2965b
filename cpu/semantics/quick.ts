/**
 * Plain cases of frequent procedures, for engines that compile (isa/row.ts,
 * `quick`): CLI, CLD, STD, PUSHF, RDTSC, PAUSE and CMPXCHG16B as kernels execute
 * them outside virtual-8086 mode. Whatever is not plain goes to the procedure by
 * `slowIf`; privilege and interception are the engine's to see to.
 */
import { ARITHMETIC_FLAGS, Cr4, Rflags } from "../arch/flags.ts";
import type { QuickEmitter, QuickFunction, Size } from "../isa/emitter.ts";
import { Gpr, Seg, SEGMENT, SEGMENT_SIZE, VCPU } from "../layout.ts";
import { pushValue } from "./stack.ts";

const { RAX, RCX, RDX, RBX } = Gpr;

/** Value of RFLAGS without the bits of `cleared`, arithmetic flags as they are now. */
function systemFlags<V, B>(e: QuickEmitter<V, B>, cleared: number): V {
  return e.and(e.field(VCPU.rflags, 32), e.k(~cleared >>> 0));
}

/** CLI at CPL 0. */
export function cli<V, B>(e: QuickEmitter<V, B>): void {
  e.slowIf(e.ne(e.field(VCPU.cpl, 32), e.k(0)));
  e.setField(VCPU.rflags, 32, systemFlags(e, Rflags.IF));
}

/** CLD and STD. */
export function setDirection(down: boolean): QuickFunction {
  return (e) => {
    const others = systemFlags(e, Rflags.DF);
    e.setField(VCPU.rflags, 32, down ? e.or(others, e.k(Rflags.DF)) : others);
  };
}

/** PUSHF outside virtual-8086 mode. */
export function pushf<V, B>(e: QuickEmitter<V, B>): void {
  e.slowIf(e.ne(e.and(e.field(VCPU.rflags, 32), e.k(Rflags.VM)), e.k(0)));
  const system = systemFlags(e, ARITHMETIC_FLAGS | Rflags.VM | Rflags.RF);
  const size = e.form.operandSize as Size;
  pushValue(e, size, e.zx(e.or(system, e.getFl()), size));
}

/** RDTSC while CR4.TSD is clear. */
export function rdtsc<V, B>(e: QuickEmitter<V, B>): void {
  e.slowIf(e.ne(e.and(e.field(VCPU.cr4, 32), e.k(Cr4.TSD)), e.k(0)));
  const tsc = e.tsc();
  e.setGpr(RAX, 64, e.zx(tsc, 32));
  e.setGpr(RDX, 64, e.shr(tsc, e.k(32)));
}

/** PAUSE where nobody waits for the turn. */
export function pause<V, B>(_e: QuickEmitter<V, B>): void {}

/** CMPXCHG16B on an aligned operand. */
export function cmpxchg16b<V, B>(e: QuickEmitter<V, B>): void {
  const { segment } = e.form.memory!;
  const low = e.ea(0), high = e.add(low, e.k(8));
  const base = VCPU.segments + segment * SEGMENT_SIZE + SEGMENT.base;
  // Other bases are zero in 64-bit mode (SDM 1 §3.3.7.1).
  const linear = segment === Seg.FS || segment === Seg.GS
    ? e.add(e.field(base, 64), low)
    : low;
  e.slowIf(e.ne(e.and(linear, e.k(15)), e.k(0)));
  const a = e.ldRw(segment, low, 64), b = e.ldRw(segment, high, 64);
  const equal = e.andB(
    e.eq(a, e.gpr(RAX, 64)),
    e.eq(b, e.gpr(RDX, 64)),
  );
  e.st(segment, low, 64, e.sel(equal, e.gpr(RBX, 64), a));
  e.st(segment, high, 64, e.sel(equal, e.gpr(RCX, 64), b));
  e.putFl(Rflags.ZF, e.shl(e.b2v(equal), e.k(31 - Math.clz32(Rflags.ZF))));
  e.if(e.notB(equal), () => {
    e.setGpr(RAX, 64, a);
    e.setGpr(RDX, 64, b);
  });
}
