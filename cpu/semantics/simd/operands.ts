/**
 * MMX and XMM operands as SIMD procedures see them: availability (SDM 3A §13.1,
 * vol. 1 §9.6), alignment (vol. 1 §10.4.1) and whole-register values.
 * Invariant: a procedure that faults has changed neither registers nor memory.
 */
import { Vector } from "../../arch/exceptions.ts";
import { Cr0, Cr4, Rflags } from "../../arch/flags.ts";
import type { CpuContext } from "../../context.ts";
import { type Insn, OperandKind } from "../../isa/insn.ts";
import type { OutcomeCode } from "../../isa/row.ts";
import { Seg, VCPU } from "../../layout.ts";
import { Access } from "../../port.ts";
import { pendingError } from "../fpu_control.ts";
import {
  effectiveOffset,
  memoryOf,
  readOperand,
  sizeMask,
  writeOperand,
} from "../operands.ts";
import type { Lanes } from "./lanes.ts";

const MASK64 = 0xffff_ffff_ffff_ffffn;
/** MXCSR.MM of AMD's processors: no #GP on misaligned sources (APM 1 §4.2.2). */
const MXCSR_MM = 1 << 17;
/** FSW.TOP. */
const TOP = 0x3800;

/** Whether operand `i` is a register of the kind. */
export function isKind(insn: Insn, i: number, kind: number): boolean {
  return insn.operands[i].kind === kind;
}

/** #UD, #NM and #MF before an instruction's operands. @returns true: raised */
export function simdUnavailable(cpu: CpuContext, insn: Insn): boolean {
  const { v } = cpu;
  const { operands } = insn;
  let xmm = false, mmx = false;
  for (let i = 0; i < operands.length; i++) {
    const { kind } = operands[i];
    if (kind === OperandKind.Xmm) xmm = true;
    else if (kind === OperandKind.Mmx) mmx = true;
  }
  const { cr0 } = v;
  if ((cr0 & Cr0.EM) !== 0 || (xmm && (v.cr4 & Cr4.OSFXSR) === 0)) {
    v.raise(Vector.UD);
    return true;
  }
  if (cr0 & Cr0.TS) {
    v.raise(Vector.NM);
    return true;
  }
  return mmx && pendingError(cpu);
}

/** All 128 bits of an XMM register. */
export function xmm(cpu: CpuContext, r: number): bigint {
  const at = VCPU.vector + r * 64;
  return cpu.v.quad(at) | cpu.v.quad(at + 8) << 64n;
}

/** Writes all 128 bits of an XMM register. */
export function setXmm(cpu: CpuContext, r: number, value: bigint): void {
  const at = VCPU.vector + r * 64;
  cpu.v.setQuad(at, value & MASK64);
  cpu.v.setQuad(at + 8, (value >> 64n) & MASK64);
}

/** Writes an MMX register: its exponent part becomes ones (SDM 1 §9.5.1). */
function setMmx(cpu: CpuContext, r: number, value: bigint): void {
  cpu.v.setQuad(VCPU.x87 + r * 16, value & MASK64);
  cpu.v.setQuad(VCPU.x87 + r * 16 + 8, 0xffffn);
}

/** An MMX instruction completes: TOP 0 and all tags valid (SDM 1 §9.5.1). */
export function enterMmx(cpu: CpuContext): void {
  cpu.v.setWord(VCPU.fsw, cpu.v.word(VCPU.fsw) & ~TOP);
  cpu.v.setWord(VCPU.ftw, 0);
}

/** Completes an instruction: the MMX state change if it names an MMX register. */
export function complete(cpu: CpuContext, insn: Insn): OutcomeCode {
  const { operands } = insn;
  for (let i = 0; i < operands.length; i++) {
    if (operands[i].kind === OperandKind.Mmx) enterMmx(cpu);
  }
  return 0;
}

/** How a 16-byte memory operand is to be aligned. */
export const Align = {
  None: 0,
  /** #GP unless MXCSR.MM lifts it. */
  Operand: 1,
  /** #GP always: aligned moves. */
  Strict: 2,
  /** #GP on Intel's processors; AMD's, as seen on silicon, never do (SHA). */
  Intel: 3,
} as const;

/** Linear address of a 16-byte operand, checked whole; undefined on a fault. */
function wide(
  cpu: CpuContext,
  insn: Insn,
  align: number,
  write: boolean,
): bigint | undefined {
  const { access, v } = cpu;
  access.outcome = 0;
  const memory = memoryOf(insn);
  const offset = effectiveOffset(cpu, insn, memory);
  // The base of DS, ES, SS and CS is 0 in 64-bit mode (SDM 1 §3.4.2.1).
  const base = access.long && memory.segment < Seg.FS
    ? 0n
    : v.segBase(memory.segment);
  const odd = ((base + offset) & 15n) !== 0n;
  // As seen on silicon, misalignment comes before the canonical check.
  const lifted = align === Align.Operand &&
      (v.word(VCPU.mxcsr) & MXCSR_MM) !== 0 ||
    align === Align.Intel && cpu.model.vendor === "AuthenticAMD";
  if (odd && align !== Align.None && !lifted) {
    access.outcome = v.raise(Vector.GP, 0);
    return undefined;
  }
  const linear = access.linear(memory.segment, offset, 16, write);
  if (linear === undefined) return undefined;
  if (
    odd && (v.rflags & Rflags.AC) !== 0 && v.cpl === 3 &&
    (v.cr0 & Cr0.AM) !== 0
  ) {
    access.outcome = v.raise(Vector.AC, 0);
    return undefined;
  }
  const kind = write ? Access.Write : Access.Read;
  return access.probe(linear, 16, kind) === 0 ? linear : undefined;
}

/** Reads operand `i` whole; on a fault 0n with `cpu.access.outcome` set. */
export function readVector(
  cpu: CpuContext,
  insn: Insn,
  i: number,
  align: number = Align.Operand,
): bigint {
  const { kind, reg, size } = insn.operands[i];
  const { access } = cpu;
  access.outcome = 0;
  if (kind === OperandKind.Xmm) return xmm(cpu, reg);
  if (kind === OperandKind.Mmx) return cpu.v.quad(VCPU.x87 + reg * 16);
  if (kind !== OperandKind.Memory || size !== 128) {
    return readOperand(cpu, insn, i);
  }
  const linear = wide(cpu, insn, align, false);
  if (linear === undefined) return 0n;
  const low = access.read(linear, 8);
  if (access.outcome !== 0) return 0n;
  const high = access.read((linear + 8n) & MASK64, 8);
  return low | high << 64n;
}

/**
 * Writes operand `i`: registers whole, memory and general registers at their
 * size. Completes the instruction. @returns outcome
 */
export function writeVector(
  cpu: CpuContext,
  insn: Insn,
  i: number,
  value: bigint,
  align: number = Align.Operand,
): OutcomeCode {
  const { kind, reg, size } = insn.operands[i];
  const { access } = cpu;
  if (kind === OperandKind.Xmm) setXmm(cpu, reg, value);
  else if (kind === OperandKind.Mmx) setMmx(cpu, reg, value);
  else if (kind === OperandKind.Memory && size === 128) {
    const linear = wide(cpu, insn, align, true);
    if (linear === undefined) return access.outcome as OutcomeCode;
    access.write(linear, 8, value & MASK64);
    if (access.outcome !== 0) return access.outcome as OutcomeCode;
    access.write((linear + 8n) & MASK64, 8, (value >> 64n) & MASK64);
    if (access.outcome !== 0) return access.outcome as OutcomeCode;
  } else {
    const outcome = writeOperand(cpu, insn, i, value & sizeMask(size));
    if (outcome !== 0) return outcome;
  }
  return complete(cpu, insn);
}

/** Where `direct` found an operand: physical address. */
let physicalAddress = 0;
const TWO32 = 2 ** 32;

/**
 * The way of nearly every access, without BigInt: 64-bit mode, flat segment, a
 * 48-bit canonical address, within one page of RAM, no breakpoint, alignment
 * check or metadata in the address that anybody would look at. Everything else
 * takes the way of `wide`, which finds a translation made here in the TLB.
 * @returns 1 with `physicalAddress`; 0: not here; −1: it faulted
 */
function direct(
  cpu: CpuContext,
  insn: Insn,
  bytes: number,
  align: number,
  write: boolean,
): number {
  const { v, access } = cpu;
  const memory = memoryOf(insn);
  const { base, index } = memory;
  if (
    insn.codeSize !== 64 || insn.addressSize !== 64 ||
    memory.segment >= Seg.FS || (v.rflags & Rflags.AC) !== 0 ||
    (v.word(VCPU.dr + 7 * 8) & 0xff) !== 0
  ) return 0;
  let low = memory.displacementLow, high = memory.displacementHigh;
  if (base >= 0) {
    low += v.gpr32(base);
    high += v.word(base * 8 + 4);
  }
  if (index >= 0) {
    low += v.gpr32(index) * memory.scale;
    high += v.word(index * 8 + 4) * memory.scale;
  }
  high = (high + Math.floor(low / TWO32)) >>> 0;
  low >>>= 0;
  const top = high >>> 15, offset = low & 0xfff;
  if (
    (top !== 0 && top !== 0x1ffff) || offset + bytes > 4096 ||
    (align !== Align.None && bytes === 16 && (low & 15) !== 0)
  ) return 0;
  const page = high * 0x100000 + (low >>> 12);
  access.outcome = 0;
  const frame = access.frame(page, offset, write ? Access.Write : Access.Read);
  if (frame < 0) return -1;
  physicalAddress = frame * 4096 + offset;
  return physicalAddress + bytes <= cpu.physical.ramBytes ? 1 : 0;
}

/** Words of an operand of so many bits. */
const words = (size: number): number => size >>> 5;

/**
 * Reads operand `i` into lanes, zero-extended to 16 bytes. No BigInt for
 * registers. @returns false on a fault, with `cpu.access.outcome` set
 */
export function load(
  cpu: CpuContext,
  insn: Insn,
  i: number,
  into: Lanes,
  align: number = Align.Operand,
): boolean {
  const { kind, reg, size, imm } = insn.operands[i];
  const { v } = cpu;
  const { u32 } = into;
  u32[2] = u32[3] = 0;
  if (kind === OperandKind.Xmm) {
    const at = VCPU.vector + reg * 64;
    u32[0] = v.word(at);
    u32[1] = v.word(at + 4);
    u32[2] = v.word(at + 8);
    u32[3] = v.word(at + 12);
  } else if (kind === OperandKind.Mmx) {
    const at = VCPU.x87 + reg * 16;
    u32[0] = v.word(at);
    u32[1] = v.word(at + 4);
  } else if (kind === OperandKind.Immediate) {
    u32[0] = Number(imm & 0xffn);
    u32[1] = 0;
  } else if (kind === OperandKind.Gpr && size >= 32) {
    u32[0] = v.gpr32(reg);
    u32[1] = size === 64 ? v.word(reg * 8 + 4) : 0;
  } else {
    if (kind === OperandKind.Memory && size >= 32) {
      const found = direct(cpu, insn, size >>> 3, align, false);
      if (found < 0) return false;
      if (found > 0) {
        const { physical } = cpu;
        u32[1] = 0;
        for (let k = 0; k < words(size); k++) {
          u32[k] = physical.readU32(physicalAddress + k * 4);
        }
        return true;
      }
    }
    const value = readVector(cpu, insn, i, align);
    if (cpu.access.outcome !== 0) return false;
    into.u64[0] = value;
    into.u64[1] = value >> 64n;
  }
  return true;
}

/**
 * Writes lanes to operand `i`: registers whole, memory and general registers
 * at their size. Completes the instruction. @returns outcome
 */
export function store(
  cpu: CpuContext,
  insn: Insn,
  i: number,
  from: Lanes,
  align: number = Align.Operand,
): OutcomeCode {
  const { kind, reg, size } = insn.operands[i];
  const { v } = cpu;
  const { u32 } = from;
  if (kind === OperandKind.Xmm) {
    const at = VCPU.vector + reg * 64;
    v.setWord(at, u32[0]);
    v.setWord(at + 4, u32[1]);
    v.setWord(at + 8, u32[2]);
    v.setWord(at + 12, u32[3]);
  } else if (kind === OperandKind.Mmx) {
    const at = VCPU.x87 + reg * 16;
    v.setWord(at, u32[0]);
    v.setWord(at + 4, u32[1]);
    v.setWord(at + 8, 0xffff);
    v.setWord(at + 12, 0);
  } else if (kind === OperandKind.Gpr && size >= 32) {
    v.setWord(reg * 8, u32[0]);
    v.setWord(reg * 8 + 4, size === 64 ? u32[1] : 0);
  } else {
    if (
      kind === OperandKind.Memory && size >= 32 && !cpu.facts.observed
    ) {
      const found = direct(cpu, insn, size >>> 3, align, true);
      if (found < 0) return cpu.access.outcome as OutcomeCode;
      if (found > 0) {
        const { physical } = cpu;
        for (let k = 0; k < words(size); k++) {
          physical.writeU32(physicalAddress + k * 4, u32[k]);
        }
        return complete(cpu, insn);
      }
    }
    const value = from.u64[0] | from.u64[1] << 64n;
    return writeVector(cpu, insn, i, value, align);
  }
  return complete(cpu, insn);
}
