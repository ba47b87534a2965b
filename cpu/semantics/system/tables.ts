/**
 * Descriptor-table registers and descriptor queries: LGDT, LIDT, SGDT, SIDT,
 * LLDT, LTR, SLDT, STR (SDM 3A §2.4, UMIP §2.5), LAR, LSL, VERR, VERW, ARPL
 * (SDM 2A–2B, each by name).
 */
import { Vector } from "../../arch/exceptions.ts";
import { Cr4, Rflags, SegmentRights as R } from "../../arch/flags.ts";
import type { CpuContext } from "../../context.ts";
import type { Insn } from "../../isa/insn.ts";
import { type CallFunction, Outcome, type OutcomeCode } from "../../isa/row.ts";
import { Seg, VCPU } from "../../layout.ts";
import { Access } from "../../port.ts";
import {
  canonicalBase,
  effectiveAddress,
  failed,
  gp,
  in64,
  isMemory,
  longModeActive,
  memorySegment,
  protectedMode,
  readMemory,
  readOperand,
  readSystem,
  refuse,
  setFlag,
  ud,
  writeMemory,
  writeOperand,
  writeSystem,
} from "./common.ts";
import {
  baseOf,
  type Descriptor,
  descriptorAddress,
  dplOf,
  isCode,
  isConforming,
  isNull,
  isPresent,
  isSystem,
  limitOf,
  nullSegment,
  readDescriptor,
  segmentOf,
  selectorError,
  SystemType,
} from "./descriptors.ts";

/** #GP(0) under CR4.UMIP outside CPL 0 (SDM 3A §2.5), before interception. */
export function checkUmip(cpu: CpuContext): number | undefined {
  const { v } = cpu;
  if ((v.cr4 & Cr4.UMIP) && v.cpl > 0) return refuse(cpu, Vector.GP, 0);
  return 0;
}

/** #UD in real-address and virtual-8086 mode, #GP(0) outside CPL 0. */
export function checkProtectedPrivileged(cpu: CpuContext): number | undefined {
  if (!protectedMode(cpu.v)) return refuse(cpu, Vector.UD, -1);
  return cpu.v.cpl === 0 ? 0 : refuse(cpu, Vector.GP, 0);
}

/** SLDT and STR: #UD outside protected mode, then UMIP. */
export function checkProtectedUmip(cpu: CpuContext): number | undefined {
  if (!protectedMode(cpu.v)) return refuse(cpu, Vector.UD, -1);
  return checkUmip(cpu);
}

/** SGDT, SIDT. @param at VCPU.gdtr or VCPU.idtr */
export function storeTable(at: number): CallFunction {
  return (cpu, insn) => {
    const { v } = cpu;
    const long = in64(v);
    const limit = BigInt(v.word(at + 8) & 0xffff);
    const base = v.quad(at);
    // Both parts are probed, so that a fault leaves memory alone.
    const at0 = effectiveAddress(cpu, insn);
    const bytes = long ? 10 : 6;
    const linear = cpu.access.linear(memorySegment(insn), at0, bytes, true);
    if (linear === undefined) return failed(cpu);
    if (cpu.access.probe(linear, bytes, Access.Write) !== 0) return failed(cpu);
    const first = writeMemory(cpu, insn, 2, limit);
    if (first !== Outcome.Done) return first;
    return writeMemory(cpu, insn, long ? 8 : 4, base, 2n);
  };
}

/** LGDT, LIDT: 16-bit operand size takes 24 bits of base. */
export function loadTable(at: number): CallFunction {
  return (cpu, insn) => {
    const { v } = cpu;
    const long = in64(v);
    const limit = readMemory(cpu, insn, 2);
    if (limit === undefined) return failed(cpu);
    let base = readMemory(cpu, insn, long ? 8 : 4, 2n);
    if (base === undefined) return failed(cpu);
    if (!long && insn.operandSize === 16) base &= 0xff_ffffn;
    if (long && !canonicalBase(cpu, base)) return gp(cpu);
    v.setQuad(at, base);
    v.setWord(at + 8, Number(limit));
    return Outcome.Done;
  };
}

/** SLDT, STR: 16 bits to memory, the operand size to a register. */
export function storeSelector(segment: number): CallFunction {
  return (cpu, insn) => {
    const selector = BigInt(cpu.v.segSelector(segment));
    if (isMemory(insn, 0)) return writeMemory(cpu, insn, 2, selector);
    cpu.v.setGprSized(insn.operands[0].reg, insn.operandSize, selector);
    return Outcome.Done;
  };
}

/**
 * LDT or TSS descriptor of `selector`, with its full base. 16 bytes in IA-32e
 * mode, whose upper type field must be zero (SDM 3A §3.5.2, §7.2.3).
 */
function systemSegment(
  cpu: CpuContext,
  selector: number,
  types: readonly number[],
): { d: Descriptor; base: bigint } | undefined {
  const error = selectorError(selector);
  const { v } = cpu;
  const long = longModeActive(v);
  const address = selector & 4
    ? undefined
    : descriptorAddress(v, selector, long ? 16 : 8);
  if (address === undefined) return refuse(cpu, Vector.GP, error);
  const d = readDescriptor(cpu, selector, address);
  if (d === undefined) return undefined;
  if (!isSystem(d.attributes) || !types.includes(d.attributes & R.TypeMask)) {
    return refuse(cpu, Vector.GP, error);
  }
  if (!isPresent(d.attributes)) return refuse(cpu, Vector.NP, error);
  let base = baseOf(d);
  if (long) {
    const upper = readSystem(cpu, address + 8n, 8);
    if (upper === undefined) return undefined;
    if ((upper >> 40n) & 0x1fn) return refuse(cpu, Vector.GP, error);
    base |= (upper & 0xffff_ffffn) << 32n;
    if (!canonicalBase(cpu, base)) return refuse(cpu, Vector.GP, error);
  }
  return { d, base };
}

/** LLDT. A null selector makes the LDTR unusable. */
export function lldt(cpu: CpuContext, insn: Insn): OutcomeCode {
  const { v } = cpu;
  const value = readOperand(cpu, insn, 0, 16);
  if (value === undefined) return failed(cpu);
  const selector = Number(value);
  if (isNull(selector) && !(selector & 4)) {
    v.setSegment(Seg.LDTR, nullSegment(selector));
    return Outcome.Done;
  }
  const found = systemSegment(cpu, selector, [SystemType.Ldt]);
  if (found === undefined) return failed(cpu);
  v.setSegment(Seg.LDTR, {
    ...segmentOf(found.d, selector),
    base: found.base,
  });
  return Outcome.Done;
}

/** LTR: marks the TSS busy in the table. */
export function ltr(cpu: CpuContext, insn: Insn): OutcomeCode {
  const { v } = cpu;
  const value = readOperand(cpu, insn, 0, 16);
  if (value === undefined) return failed(cpu);
  const selector = Number(value);
  if (isNull(selector)) return gp(cpu);
  const types = longModeActive(v)
    ? [SystemType.Tss32]
    : [SystemType.Tss16, SystemType.Tss32];
  const found = systemSegment(cpu, selector, types);
  if (found === undefined) return failed(cpu);
  const { d, base } = found;
  const byte = BigInt(((d.high >>> 8) & 0xff) | 2);
  const outcome = writeSystem(cpu, d.address + 5n, 1, byte);
  if (outcome !== Outcome.Done) return outcome;
  v.setSegment(Seg.TR, {
    ...segmentOf(d, selector),
    base,
    attributes: d.attributes | 2,
  });
  return Outcome.Done;
}

/**
 * Descriptor that LAR, LSL, VERR or VERW ask about: undefined when it is not
 * visible (ZF = 0) or reading it faulted (`access.outcome`).
 */
function visible(
  cpu: CpuContext,
  selector: number,
): Descriptor | undefined {
  cpu.access.outcome = 0;
  if (isNull(selector)) return undefined;
  const address = descriptorAddress(cpu.v, selector);
  if (address === undefined) return undefined;
  const d = readDescriptor(cpu, selector, address);
  if (d === undefined) return undefined;
  const a = d.attributes;
  if (isCode(a) && isConforming(a)) return d;
  const dpl = dplOf(a);
  return cpu.v.cpl <= dpl && (selector & 3) <= dpl ? d : undefined;
}

/** System types that LAR and LSL know, by mode (SDM 2A table 3-53, table 3-56). */
const { Tss16, Tss16Busy, Ldt, CallGate16, TaskGate } = SystemType;
const { Tss32, Tss32Busy, CallGate32 } = SystemType;
const LAR_LEGACY: readonly number[] = [
  Tss16,
  Ldt,
  Tss16Busy,
  CallGate16,
  TaskGate,
  Tss32,
  Tss32Busy,
  CallGate32,
];
const LAR_LONG: readonly number[] = [Ldt, Tss32, Tss32Busy, CallGate32];
const LSL_LEGACY: readonly number[] = [Tss16, Ldt, Tss16Busy, Tss32, Tss32Busy];
const LSL_LONG: readonly number[] = [Ldt, Tss32, Tss32Busy];

function query(
  cpu: CpuContext,
  insn: Insn,
  legacy: readonly number[],
  long: readonly number[],
  answer: (d: Descriptor) => bigint,
): OutcomeCode {
  const { v } = cpu;
  if (!protectedMode(v)) return ud(cpu);
  const value = readOperand(cpu, insn, 1, 16);
  if (value === undefined) return failed(cpu);
  const d = visible(cpu, Number(value));
  if (cpu.access.outcome !== 0) return failed(cpu);
  const types = longModeActive(v) ? long : legacy;
  const ok = d !== undefined &&
    (!isSystem(d.attributes) || types.includes(d.attributes & R.TypeMask));
  if (ok) v.setGprSized(insn.operands[0].reg, insn.operandSize, answer(d));
  setFlag(v, Rflags.ZF, ok);
  return Outcome.Done;
}

/** LAR. */
export const lar: CallFunction = (cpu, insn) =>
  query(
    cpu,
    insn,
    LAR_LEGACY,
    LAR_LONG,
    (d) => BigInt(d.high & (insn.operandSize === 16 ? 0xff00 : 0x00ffff00)),
  );

/** LSL. */
export const lsl: CallFunction = (cpu, insn) =>
  query(cpu, insn, LSL_LEGACY, LSL_LONG, (d) => BigInt(limitOf(d)));

/** VERR and VERW. */
export function verify(write: boolean): CallFunction {
  return (cpu, insn) => {
    const { v } = cpu;
    if (!protectedMode(v)) return ud(cpu);
    const value = readOperand(cpu, insn, 0, 16);
    if (value === undefined) return failed(cpu);
    const d = visible(cpu, Number(value));
    if (cpu.access.outcome !== 0) return failed(cpu);
    let ok = d !== undefined && !isSystem(d.attributes);
    if (ok && d) {
      const wr = (d.attributes & R.WritableReadable) !== 0;
      ok = write ? !isCode(d.attributes) && wr : !isCode(d.attributes) || wr;
    }
    setFlag(v, Rflags.ZF, ok);
    return Outcome.Done;
  };
}

/** ARPL. */
export function arpl(cpu: CpuContext, insn: Insn): OutcomeCode {
  const { v } = cpu;
  if (!protectedMode(v)) return ud(cpu);
  const value = readOperand(cpu, insn, 0, 16);
  if (value === undefined) return failed(cpu);
  const rpl = v.gpr(insn.operands[1].reg) & 3n;
  const raise = (value & 3n) < rpl;
  if (raise) {
    const outcome = writeOperand(cpu, insn, 0, (value & ~3n) | rpl, 16);
    if (outcome !== Outcome.Done) return outcome;
  }
  setFlag(v, Rflags.ZF, raise);
  return Outcome.Done;
}

/** VCPU offsets of the two table registers, for the rows. */
export const TableRegister = { Gdtr: VCPU.gdtr, Idtr: VCPU.idtr } as const;
