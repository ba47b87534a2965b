/**
 * One procedure per shape of SIMD instruction (SDM vol. 2): what is read, which
 * lane function joins it, where the result goes.
 * Invariant: checks, then reads, then the one write.
 */
import type { CpuContext } from "../../context.ts";
import { type Insn, OperandKind } from "../../isa/insn.ts";
import type { CallFunction, OutcomeCode } from "../../isa/row.ts";
import { Outcome } from "../../isa/row.ts";
import { signMask, type VectorFunction } from "./lanes.ts";
import {
  isKind,
  readVector,
  simdUnavailable,
  writeVector,
} from "./operands.ts";

const MASK64 = 0xffff_ffff_ffff_ffffn;

const widthOf = (insn: Insn, i: number): number =>
  isKind(insn, i, OperandKind.Mmx) ? 64 : 128;

/** Immediate of the last operand, or 0. */
function immediate(insn: Insn): number {
  const last = insn.operands[insn.operands.length - 1];
  return last.kind === OperandKind.Immediate ? Number(last.imm & 0xffn) : 0;
}

/** op dst, src [, imm8]: dst = f(dst, src). Shift counts are sources too. */
export function combine(f: VectorFunction): CallFunction {
  return (cpu, insn) => {
    if (simdUnavailable(cpu, insn)) return Outcome.Fault;
    const source = readVector(cpu, insn, 1);
    if (cpu.access.outcome !== 0) return cpu.access.outcome as OutcomeCode;
    const old = readVector(cpu, insn, 0);
    const width = widthOf(insn, 0);
    return writeVector(cpu, insn, 0, f(old, source, width, immediate(insn)));
  };
}

/** Whole-register, 32- and 64-bit moves; shorter sources are zero-extended. */
export function move(align: number): CallFunction {
  return (cpu, insn) => {
    if (simdUnavailable(cpu, insn)) return Outcome.Fault;
    const value = readVector(cpu, insn, 1, align);
    if (cpu.access.outcome !== 0) return cpu.access.outcome as OutcomeCode;
    return writeVector(cpu, insn, 0, value, align);
  };
}

/** MOVQ and its relatives: the low 64 bits, zero-extended. */
export function moveQuad(cpu: CpuContext, insn: Insn): OutcomeCode {
  if (simdUnavailable(cpu, insn)) return Outcome.Fault;
  const value = readVector(cpu, insn, 1) & MASK64;
  if (cpu.access.outcome !== 0) return cpu.access.outcome as OutcomeCode;
  return writeVector(cpu, insn, 0, value);
}

/** MOVSS, MOVSD: between registers the upper part stays, from memory it is 0. */
export function moveScalar(bits: number): CallFunction {
  return (cpu, insn) => {
    if (simdUnavailable(cpu, insn)) return Outcome.Fault;
    let value = readVector(cpu, insn, 1);
    if (cpu.access.outcome !== 0) return cpu.access.outcome as OutcomeCode;
    value = BigInt.asUintN(bits, value);
    if (
      isKind(insn, 0, OperandKind.Xmm) && isKind(insn, 1, OperandKind.Xmm)
    ) {
      const upper = readVector(cpu, insn, 0) >> BigInt(bits);
      value |= upper << BigInt(bits);
    }
    return writeVector(cpu, insn, 0, value);
  };
}

/**
 * MOVLPS, MOVHPS, MOVHLPS, MOVLHPS: one half to one half, the other stays.
 * @param from, to 0 or 64: bit of the register's half
 */
export function moveHalf(from: bigint, to: bigint): CallFunction {
  return (cpu, insn) => {
    if (simdUnavailable(cpu, insn)) return Outcome.Fault;
    const source = readVector(cpu, insn, 1);
    if (cpu.access.outcome !== 0) return cpu.access.outcome as OutcomeCode;
    const half = (source >> from) & MASK64;
    if (!isKind(insn, 0, OperandKind.Xmm)) {
      return writeVector(cpu, insn, 0, half);
    }
    const kept = readVector(cpu, insn, 0) & (MASK64 << (64n - to));
    return writeVector(cpu, insn, 0, kept | half << to);
  };
}

/** PMOVMSKB, MOVMSKPS, MOVMSKPD: sign bits to a general register. */
export function moveMask(width: number): CallFunction {
  return (cpu, insn) => {
    if (simdUnavailable(cpu, insn)) return Outcome.Fault;
    const value = readVector(cpu, insn, 1);
    const mask = signMask(value, widthOf(insn, 1), width);
    return writeVector(cpu, insn, 0, mask);
  };
}

/** Bit position of the word that an immediate selects. */
function wordAt(insn: Insn, i: number): bigint {
  return BigInt((immediate(insn) & (widthOf(insn, i) / 16 - 1)) * 16);
}

/** PEXTRW. */
export function extractWord(cpu: CpuContext, insn: Insn): OutcomeCode {
  if (simdUnavailable(cpu, insn)) return Outcome.Fault;
  const word = (readVector(cpu, insn, 1) >> wordAt(insn, 1)) & 0xffffn;
  return writeVector(cpu, insn, 0, word);
}

/** PINSRW. */
export function insertWord(cpu: CpuContext, insn: Insn): OutcomeCode {
  if (simdUnavailable(cpu, insn)) return Outcome.Fault;
  const word = readVector(cpu, insn, 1) & 0xffffn;
  if (cpu.access.outcome !== 0) return cpu.access.outcome as OutcomeCode;
  const at = wordAt(insn, 0);
  const kept = readVector(cpu, insn, 0) & ~(0xffffn << at);
  return writeVector(cpu, insn, 0, kept | word << at);
}
