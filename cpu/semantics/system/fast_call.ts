/**
 * SYSCALL, SYSRET, SYSENTER, SYSEXIT (SDM 2B, each by name; SDM 3A §5.8.7–8;
 * APM 3 for what AMD does otherwise: SYSCALL outside 64-bit mode, no SYSENTER
 * in long mode, SYSRET's stack segment and unchecked RCX).
 */
import { Cr0, Efer, Rflags, SegmentRights as R } from "../../arch/flags.ts";
import { MsrSlot } from "../../arch/msr.ts";
import type { CpuContext } from "../../context.ts";
import type { Insn } from "../../isa/insn.ts";
import { type CallFunction, Outcome, type OutcomeCode } from "../../isa/row.ts";
import { Gpr, Seg } from "../../layout.ts";
import type { Vcpu } from "../../vcpu.ts";
import { gp, in64, longModeActive, MASK32, ud } from "./common.ts";

/** Flat 64-bit code at DPL 0, in VMCS format. */
export const CODE64 = R.Code | R.WritableReadable | R.Accessed | R.CodeData |
  R.Present | R.Long | R.Granularity;
const CODE32 = (CODE64 & ~R.Long) | R.DefaultBig;
/** Flat data at DPL 0. */
export const DATA = R.WritableReadable | R.Accessed | R.CodeData | R.Present |
  R.DefaultBig | R.Granularity;
const DPL3 = 3 << R.DplShift;
const FLAT_LIMIT = 0xffffffff;

function flat(
  v: Vcpu,
  segment: number,
  selector: number,
  attributes: number,
): void {
  v.setSegment(segment, { selector, base: 0n, limit: FLAT_LIMIT, attributes });
}

function enterKernel(v: Vcpu, selector: number, code: number): void {
  flat(v, Seg.CS, selector & 0xfffc, code);
  flat(v, Seg.SS, ((selector & 0xfffc) + 8) & 0xffff, DATA);
  v.cpl = 0;
}

/** SYSCALL. */
export function syscall(cpu: CpuContext): OutcomeCode {
  const { v } = cpu;
  const intel = cpu.model.vendor === "GenuineIntel";
  const long = longModeActive(v);
  if (!(v.efer & Efer.SCE) || !(v.cr0 & Cr0.PE)) return ud(cpu);
  if (intel && !in64(v)) return ud(cpu);
  const star = v.msr(MsrSlot.Star);
  const selector = Number((star >> 32n) & 0xffffn);
  if (!long) {
    // APM 3 SYSCALL, legacy mode.
    v.setGpr32(Gpr.RCX, Number(cpu.nextRip & MASK32));
    cpu.nextRip = star & MASK32;
    v.rflags &= ~(Rflags.VM | Rflags.IF | Rflags.RF);
    enterKernel(v, selector, CODE32);
    return Outcome.Done;
  }
  const target = in64(v) ? v.msr(MsrSlot.Lstar) : v.msr(MsrSlot.Cstar);
  v.setGpr(Gpr.RCX, cpu.nextRip);
  const flags = v.rflags & ~Rflags.RF;
  v.setGpr(Gpr.R11, BigInt(flags >>> 0));
  const mask = Number(v.msr(MsrSlot.Fmask) & MASK32);
  v.rflags = ((flags & ~mask) | Rflags.Fixed1) >>> 0;
  cpu.nextRip = target;
  enterKernel(v, selector, CODE64);
  return Outcome.Done;
}

/** SYSRET. @param bits operand size: 64 returns to 64-bit mode */
export function sysret(bits: 32 | 64): CallFunction {
  return (cpu) => {
    const { v } = cpu;
    const intel = cpu.model.vendor === "GenuineIntel";
    if (!(v.efer & Efer.SCE) || !(v.cr0 & Cr0.PE)) return ud(cpu);
    if (intel && !in64(v)) return ud(cpu);
    if (v.cpl !== 0) return gp(cpu);
    const rcx = v.gpr(Gpr.RCX);
    if (bits === 64 && intel && !cpu.access.canonical(rcx)) return gp(cpu);
    const star = v.msr(MsrSlot.Star);
    const base = Number(star >> 48n);
    const long = longModeActive(v);
    if (long) {
      const image = Number(v.gpr(Gpr.R11) & 0x3c7fd7n);
      v.rflags = (image | Rflags.Fixed1) >>> 0;
    } else v.rflags = (v.rflags | Rflags.IF) >>> 0;
    const code = bits === 64 ? (base + 16) | 3 : base | 3;
    flat(v, Seg.CS, code & 0xffff, (bits === 64 ? CODE64 : CODE32) | DPL3);
    const stack = ((base + 8) | 3) & 0xffff;
    if (intel) flat(v, Seg.SS, stack, DATA | DPL3);
    // APM 3 SYSRET: base, limit and attributes of SS stay.
    else v.setSegment(Seg.SS, { ...v.segment(Seg.SS), selector: stack });
    v.cpl = 3;
    cpu.nextRip = bits === 64 ? rcx : rcx & MASK32;
    return Outcome.Done;
  };
}

/** SYSENTER. */
export function sysenter(cpu: CpuContext): OutcomeCode {
  const { v } = cpu;
  const long = longModeActive(v);
  if (long && cpu.model.vendor === "AuthenticAMD") return ud(cpu);
  const selector = Number(v.msr(MsrSlot.SysenterCs) & 0xfffcn);
  if (!(v.cr0 & Cr0.PE) || selector === 0) return gp(cpu);
  v.rflags &= ~(Rflags.VM | Rflags.IF | Rflags.RF);
  const esp = v.msr(MsrSlot.SysenterEsp);
  const eip = v.msr(MsrSlot.SysenterEip);
  v.setGpr(Gpr.RSP, long ? esp : esp & MASK32);
  cpu.nextRip = long ? eip : eip & MASK32;
  enterKernel(v, selector, long ? CODE64 : CODE32);
  return Outcome.Done;
}

/** SYSEXIT. @param bits operand size: 64 returns to 64-bit mode */
export function sysexit(bits: 32 | 64): CallFunction {
  return (cpu: CpuContext, _insn: Insn) => {
    const { v } = cpu;
    if (!(v.cr0 & Cr0.PE) || v.cpl !== 0) return gp(cpu);
    const long = longModeActive(v);
    if (long && cpu.model.vendor === "AuthenticAMD") return ud(cpu);
    const selector = Number(v.msr(MsrSlot.SysenterCs) & 0xfffcn);
    if (selector === 0) return gp(cpu);
    const rsp = v.gpr(Gpr.RCX);
    const rip = v.gpr(Gpr.RDX);
    if (bits === 64) {
      if (!cpu.access.canonical(rsp) || !cpu.access.canonical(rip)) {
        return gp(cpu);
      }
      flat(v, Seg.CS, ((selector + 32) | 3) & 0xffff, CODE64 | DPL3);
      flat(v, Seg.SS, ((selector + 40) | 3) & 0xffff, DATA | DPL3);
      v.setGpr(Gpr.RSP, rsp);
      cpu.nextRip = rip;
    } else {
      flat(v, Seg.CS, ((selector + 16) | 3) & 0xffff, CODE32 | DPL3);
      flat(v, Seg.SS, ((selector + 24) | 3) & 0xffff, DATA | DPL3);
      v.setGpr(Gpr.RSP, rsp & MASK32);
      cpu.nextRip = rip & MASK32;
    }
    v.cpl = 3;
    return Outcome.Done;
  };
}
