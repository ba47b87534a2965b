/**
 * Plain cases of frequent procedures, for engines that compile (isa/row.ts,
 * `quick`): CLI, STI, IRETQ, CLD, STD, PUSHF, RDTSC, PAUSE and CMPXCHG16B as
 * kernels execute them outside virtual-8086 mode. Whatever is not plain goes to
 * the procedure by `slowIf`; privilege and interception are the engine's to see to.
 */
import { ARITHMETIC_FLAGS, Cr4, Rflags, SegmentRights } from "../arch/flags.ts";
import { MsrSlot } from "../arch/msr.ts";
import type { QuickEmitter, QuickFunction, Size } from "../isa/emitter.ts";
import {
  Gpr,
  Interruptibility,
  Seg,
  SEGMENT,
  SEGMENT_SIZE,
  VCPU,
} from "../layout.ts";
import { pushValue } from "./stack.ts";
import { CODE64, DATA } from "./system/fast_call.ts";

const { RAX, RCX, RDX, RBX, RSP } = Gpr;

/** Value of RFLAGS without the bits of `cleared`, arithmetic flags as they are now. */
function systemFlags<V, B>(e: QuickEmitter<V, B>, cleared: number): V {
  return e.and(e.field(VCPU.rflags, 32), e.k(~cleared >>> 0));
}

/** CLI at CPL 0. */
export function cli<V, B>(e: QuickEmitter<V, B>): void {
  e.slowIf(e.ne(e.field(VCPU.cpl, 32), e.k(0)));
  e.setField(VCPU.rflags, 32, systemFlags(e, Rflags.IF));
}

/** STI at CPL 0 while no event waits: nothing but its shadow is left to see to. */
export function sti<V, B>(e: QuickEmitter<V, B>): void {
  const shadows = e.k(Interruptibility.BySti | Interruptibility.ByMovSs);
  const shadow = e.and(e.field(VCPU.interruptibility, 32), shadows);
  const events = e.or(e.field(VCPU.eventRequest, 32), shadow);
  e.slowIf(e.ne(e.or(e.field(VCPU.cpl, 32), events), e.k(0)));
  const enabled = e.and(e.field(VCPU.rflags, 32), e.k(Rflags.IF));
  e.setField(VCPU.rflags, 32, e.or(systemFlags(e, 0), e.k(Rflags.IF)));
  e.holdInterrupts(e.eq(enabled, e.k(0)));
}

/** Descriptor of base 0 and limit 4 GiB, without its access rights. */
const FLAT = 0x000f_0000_0000_ffffn;
/** What IRETQ's RFLAGS or those before it have in rare cases. */
const RARE_FLAGS = Rflags.TF | Rflags.NT | Rflags.RF | Rflags.VM;
/** What it loads of RFLAGS at CPL 0, beside the arithmetic flags (SDM 2A IRET). */
const LOADED_FLAGS = ARITHMETIC_FLAGS | Rflags.TF | Rflags.IF | Rflags.DF |
  Rflags.IOPL | Rflags.NT | Rflags.RF | Rflags.AC | Rflags.VIF | Rflags.VIP |
  Rflags.ID;
const DEBUG_CTL = VCPU.msrs + MsrSlot.DebugCtl * 8;

/**
 * Loads CS, or SS which may be null, at CPL 0 from a flat descriptor of the GDT.
 * @returns zero, or the case is not plain
 */
function loadFlat<V, B>(
  e: QuickEmitter<V, B>,
  segment: number,
  popped: V,
  attributes: number,
): V {
  const at = VCPU.segments + segment * SEGMENT_SIZE;
  const selector = e.zx(popped, 16);
  const isNull = e.eq(selector, e.k(0));
  const empty = segment === Seg.SS ? isNull : e.false();
  const unlessEmpty = (value: V, otherwise = 0): V =>
    e.sel(empty, e.k(otherwise), value);
  e.setField(at + SEGMENT.base, 64, e.k(0));
  e.setField(at + SEGMENT.limit, 32, unlessEmpty(e.k(0xffff_ffff)));
  e.setField(at + SEGMENT.selector, 32, selector);
  const rights = unlessEmpty(e.k(attributes), SegmentRights.Unusable);
  e.setField(at + SEGMENT.attributes, 32, rights);
  const descriptor = e.peek(e.add(e.field(VCPU.gdtr, 64), selector), 64);
  const flat = e.k(FLAT | BigInt(attributes) << 40n);
  // RPL 0, from the GDT, inside it.
  const beyond = e.ltU(
    e.field(VCPU.gdtr + 8, 32),
    e.add(selector, e.k(7)),
  );
  const other = e.or(e.and(selector, e.k(7)), e.b2v(e.orB(isNull, beyond)));
  return unlessEmpty(e.or(e.xor(descriptor, flat), other));
}

/** IRETQ of 64-bit code from CPL 0 to CPL 0 while no event waits. */
export function iret<V, B>(e: QuickEmitter<V, B>): void {
  if (e.form.codeSize !== 64 || e.form.operandSize !== 64) {
    return e.slowIf(e.true());
  }
  const slot = (i: number): V => e.peek(e.add(e.gpr(RSP, 64), e.k(i * 8)), 64);
  const rip = slot(0), image = slot(2);
  const flags = e.field(VCPU.rflags, 32);
  let rare = e.and(e.or(flags, image), e.k(RARE_FLAGS));
  rare = e.or(rare, loadFlat(e, Seg.CS, slot(1), CODE64));
  rare = e.or(rare, loadFlat(e, Seg.SS, slot(4), DATA));
  const { cpl, eventRequest, interruptibility } = VCPU;
  for (const field of [cpl, eventRequest, interruptibility, DEBUG_CTL]) {
    rare = e.or(rare, e.field(field, 32));
  }
  e.slowIf(e.ne(rare, e.k(0)));
  e.setGpr(RSP, 64, slot(3));
  const kept = systemFlags(e, LOADED_FLAGS);
  const loaded = e.and(image, e.k(LOADED_FLAGS));
  e.setField(VCPU.rflags, 32, e.or(kept, loaded));
  e.putFl(ARITHMETIC_FLAGS, image);
  e.jmp(rip);
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
