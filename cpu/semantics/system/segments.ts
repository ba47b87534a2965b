/**
 * Segment registers as operands: MOV to and from, PUSH, POP, LDS LES LFS LGS
 * LSS, SWAPGS and the FS/GS base instructions (SDM 2A–2B, each by name).
 */
import { Cr4 } from "../../arch/flags.ts";
import { MsrSlot } from "../../arch/msr.ts";
import type { CpuContext } from "../../context.ts";
import type { Insn } from "../../isa/insn.ts";
import { type CallFunction, Outcome, type OutcomeCode } from "../../isa/row.ts";
import { Seg } from "../../layout.ts";
import {
  canonicalBase,
  failed,
  gp,
  readMemory,
  readOperand,
  ud,
} from "./common.ts";
import { loadSegment } from "./descriptors.ts";
import { Stack } from "./stack.ts";

/** MOV Sreg, r/m. Loading CS is #UD. */
export function movToSegment(cpu: CpuContext, insn: Insn): OutcomeCode {
  const segment = insn.operands[0].reg;
  if (segment === Seg.CS || segment > Seg.GS) return ud(cpu);
  const selector = readOperand(cpu, insn, 1, 16);
  if (selector === undefined) return failed(cpu);
  return loadSegment(cpu, segment, Number(selector), true);
}

/** PUSH Sreg. Intel stores 16 bits of a 32-bit slot, AMD all (SDM 2B PUSH; APM 3 PUSH). */
export function pushSegment(bits: 16 | 32 | 64): CallFunction {
  return (cpu, insn) => {
    const stack = Stack.current(cpu);
    const selector = BigInt(cpu.v.segSelector(insn.operands[0].reg));
    const stored = bits === 32 && cpu.model.vendor === "GenuineIntel"
      ? 16
      : bits;
    if (!stack.push(bits, selector, stored)) return failed(cpu);
    stack.commit();
    return Outcome.Done;
  };
}

/** POP Sreg; POP SS holds events for one instruction. */
export function popSegment(bits: 16 | 32 | 64): CallFunction {
  return (cpu, insn) => {
    const stack = Stack.current(cpu);
    const value = stack.pop(bits);
    if (value === undefined) return failed(cpu);
    const selector = Number(value & 0xffffn);
    const outcome = loadSegment(cpu, insn.operands[0].reg, selector, true);
    if (outcome === Outcome.Done) stack.commit();
    return outcome;
  };
}

/** LDS, LES, LFS, LGS, LSS: offset first in memory, then selector. */
export function loadFarPointer(segment: number): CallFunction {
  return (cpu, insn) => {
    const bytes = insn.operandSize >> 3;
    const offset = readMemory(cpu, insn, bytes);
    if (offset === undefined) return failed(cpu);
    const selector = readMemory(cpu, insn, 2, BigInt(bytes));
    if (selector === undefined) return failed(cpu);
    const outcome = loadSegment(cpu, segment, Number(selector), false);
    if (outcome !== Outcome.Done) return outcome;
    cpu.v.setGprSized(insn.operands[0].reg, insn.operandSize, offset);
    return Outcome.Done;
  };
}

/** SWAPGS: CPL 0 only (checked by the row). */
export function swapgs(cpu: CpuContext): OutcomeCode {
  const { v } = cpu;
  const base = v.segBase(Seg.GS);
  v.setSegBase(Seg.GS, v.msr(MsrSlot.KernelGsBase));
  v.setMsr(MsrSlot.KernelGsBase, base);
  return Outcome.Done;
}

/** RDFSBASE, RDGSBASE. */
export function readBase(segment: number): CallFunction {
  return (cpu, insn) => {
    const { v } = cpu;
    if (!(v.cr4 & Cr4.FSGSBASE)) return ud(cpu);
    const o = insn.operands[0];
    v.setGprSized(o.reg, o.size, v.segBase(segment));
    return Outcome.Done;
  };
}

/** WRFSBASE, WRGSBASE: a non-canonical base is #GP(0). */
export function writeBase(segment: number): CallFunction {
  return (cpu, insn) => {
    const { v } = cpu;
    if (!(v.cr4 & Cr4.FSGSBASE)) return ud(cpu);
    const base = readOperand(cpu, insn, 0);
    if (base === undefined) return failed(cpu);
    if (!canonicalBase(cpu, base)) return gp(cpu);
    v.setSegBase(segment, base);
    return Outcome.Done;
  };
}
