/**
 * Operand kinds of iced-x86's op-code table, as the generator needs them.
 * Flat table; cases.ts says what becomes of the kinds that are not here.
 */
import { OpCodeOperandKind as K, OpKind, Register } from "iced-x86";

/** General registers: size in bits. */
export const REGISTER_BITS: ReadonlyMap<K, number> = new Map<K, number>([
  [K.r8_reg, 8],
  [K.r8_opcode, 8],
  [K.r16_reg, 16],
  [K.r16_reg_mem, 16],
  [K.r16_rm, 16],
  [K.r16_opcode, 16],
  [K.r32_reg, 32],
  [K.r32_reg_mem, 32],
  [K.r32_rm, 32],
  [K.r32_opcode, 32],
  [K.r32_vvvv, 32],
  [K.r64_reg, 64],
  [K.r64_reg_mem, 64],
  [K.r64_rm, 64],
  [K.r64_opcode, 64],
  [K.r64_vvvv, 64],
]);
/** General registers or memory: size in bits. */
export const REGISTER_OR_MEMORY: ReadonlyMap<K, number> = new Map<K, number>([
  [K.r8_or_mem, 8],
  [K.r16_or_mem, 16],
  [K.r32_or_mem, 32],
  [K.r64_or_mem, 64],
]);
/** Operands that are always one register. */
export const FIXED_REGISTER: ReadonlyMap<K, Register> = new Map<K, Register>([
  [K.al, Register.AL],
  [K.cl, Register.CL],
  [K.ax, Register.AX],
  [K.dx, Register.DX],
  [K.eax, Register.EAX],
  [K.rax, Register.RAX],
  [K.es, Register.ES],
  [K.cs, Register.CS],
  [K.ss, Register.SS],
  [K.ds, Register.DS],
  [K.fs, Register.FS],
  [K.gs, Register.GS],
]);
/** Immediates: iced's kind of operand and size in bits. */
export const IMMEDIATE: ReadonlyMap<K, [OpKind, number]> = new Map<
  K,
  [OpKind, number]
>([
  [K.imm8, [OpKind.Immediate8, 8]],
  [K.imm8sex16, [OpKind.Immediate8to16, 8]],
  [K.imm8sex32, [OpKind.Immediate8to32, 8]],
  [K.imm8sex64, [OpKind.Immediate8to64, 8]],
  [K.imm16, [OpKind.Immediate16, 16]],
  [K.imm32, [OpKind.Immediate32, 32]],
  [K.imm32sex64, [OpKind.Immediate32to64, 32]],
  [K.imm64, [OpKind.Immediate64, 64]],
]);
/** Near branches: iced's kind of operand and size of the displacement. */
export const BRANCH: ReadonlyMap<K, [OpKind, number]> = new Map<
  K,
  [OpKind, number]
>([
  [K.br16_1, [OpKind.NearBranch16, 8]],
  [K.br16_2, [OpKind.NearBranch16, 16]],
  [K.br32_1, [OpKind.NearBranch32, 8]],
  [K.br32_4, [OpKind.NearBranch32, 32]],
  [K.br64_1, [OpKind.NearBranch64, 8]],
  [K.br64_4, [OpKind.NearBranch64, 32]],
]);
