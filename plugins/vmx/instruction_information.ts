/**
 * The VM-exit instruction-information field and the displacement that goes into
 * the exit qualification (SDM 3C §28.2.5, tables 28-8 to 28-14).
 */
import { type Insn, OperandKind, RIP_RELATIVE } from "../../cpu/isa/insn.ts";

const MEMORY_FORM = 0;
const REGISTER_FORM = 1 << 10;
const NO_INDEX = 1 << 22;
const NO_BASE = 1 << 27;
const SCALES: Readonly<Record<number, number>> = { 1: 0, 2: 1, 4: 2, 8: 3 };

function addressSize(insn: Insn): number {
  return insn.addressSize === 16 ? 0 : insn.addressSize === 32 ? 1 : 2;
}

/** Scale, address size, segment, index and base of the memory operand. */
function memoryOperand(insn: Insn): number {
  const m = insn.memory;
  if (m === undefined) return REGISTER_FORM;
  let info = MEMORY_FORM | addressSize(insn) << 7 | m.segment << 15;
  if (m.index >= 0) info |= SCALES[m.scale] | m.index << 18;
  else info |= NO_INDEX;
  if (m.base >= 0) info |= m.base << 23;
  else info |= NO_BASE;
  return info >>> 0;
}

/** Register number of operand `i`, 0 when it is none. */
function register(insn: Insn, i: number): number {
  const operand = insn.operands[i];
  return operand?.kind === OperandKind.Gpr ? operand.reg : 0;
}

/** Displacement of the memory operand as the qualification shows it. */
export function displacement(insn: Insn): bigint {
  const m = insn.memory;
  if (m === undefined) return 0n;
  // RIP-relative: the displacement plus the next instruction's address.
  return m.base === RIP_RELATIVE || insn.addressSize === 64
    ? m.displacement
    : m.displacement & (insn.addressSize === 32 ? 0xffff_ffffn : 0xffffn);
}

/** INS and OUTS (table 28-8). */
export function stringIoInformation(insn: Insn): number {
  return (addressSize(insn) << 7 | insn.segment << 15) >>> 0;
}

/** VMCLEAR, VMPTRLD, VMPTRST, VMXON, XRSTORS, XSAVES (table 28-13). */
export function memoryInformation(insn: Insn): number {
  return memoryOperand(insn);
}

/** INVEPT, INVPCID, INVVPID (table 28-9): the type's register in bits 31:28. */
export function invalidateInformation(insn: Insn): number {
  return (memoryOperand(insn) | register(insn, 0) << 28) >>> 0;
}

/** Identity (bits 29:28) of descriptor-table instructions. */
const GDTR_IDTR: Readonly<Record<string, number>> = {
  SGDT: 0,
  SIDT: 1,
  LGDT: 2,
  LIDT: 3,
};
const LDTR_TR: Readonly<Record<string, number>> = {
  SLDT: 0,
  STR: 1,
  LLDT: 2,
  LTR: 3,
};

/** LGDT, LIDT, SGDT, SIDT (table 28-10). */
export function gdtrIdtrInformation(insn: Insn): number {
  // Bit 11, operand size: 0 = 16 bits; undefined in 64-bit mode, we keep 0.
  const size = insn.codeSize !== 64 && insn.operandSize === 32 ? 1 : 0;
  return (memoryOperand(insn) | size << 11 |
    GDTR_IDTR[insn.row.name] << 28) >>> 0;
}

/** LLDT, LTR, SLDT, STR (table 28-11). */
export function ldtrTrInformation(insn: Insn): number {
  const base = insn.memory === undefined
    ? REGISTER_FORM | register(insn, 0) << 3
    : memoryOperand(insn);
  return (base | LDTR_TR[insn.row.name] << 28) >>> 0;
}

/** RDRAND and RDSEED (table 28-12). */
export function randomInformation(insn: Insn): number {
  const size = insn.operandSize === 16 ? 0 : insn.operandSize === 32 ? 1 : 2;
  return register(insn, 0) << 3 | size << 11;
}

/** VMREAD and VMWRITE (table 28-14): reg1 in 6:3, reg2 in 31:28. */
export function vmreadInformation(insn: Insn): number {
  const write = insn.row.name === "VMWRITE";
  const field = register(insn, write ? 0 : 1);
  const value = write ? 1 : 0;
  const base = insn.memory === undefined
    ? REGISTER_FORM | register(insn, value) << 3
    : memoryOperand(insn);
  return (base | field << 28) >>> 0;
}
