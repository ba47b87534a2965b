/**
 * iced-x86's register and operand-kind numbers as our operands. Register
 * operands are immutable, so one object per register serves every instruction.
 */
import { MemorySize, MemorySizeExt, OpKind, Register } from "iced-x86";
import {
  NO_REGISTER,
  type Operand,
  OperandKind,
  RIP_RELATIVE,
} from "../../cpu/isa/insn.ts";

/** First register, last register, kind, size in bits, number of the first. */
const RANGES: readonly (readonly [number, number, number, number, number])[] = [
  [Register.AL, Register.BL, OperandKind.Gpr, 8, 0],
  [Register.AH, Register.BH, OperandKind.HighByte, 8, 0],
  [Register.SPL, Register.R15L, OperandKind.Gpr, 8, 4],
  [Register.AX, Register.R15W, OperandKind.Gpr, 16, 0],
  [Register.EAX, Register.R15D, OperandKind.Gpr, 32, 0],
  [Register.RAX, Register.R15, OperandKind.Gpr, 64, 0],
  [Register.ES, Register.GS, OperandKind.Segment, 16, 0],
  [Register.XMM0, Register.XMM31, OperandKind.Xmm, 128, 0],
  [Register.CR0, Register.CR15, OperandKind.Control, 64, 0],
  [Register.DR0, Register.DR15, OperandKind.Debug, 64, 0],
  [Register.ST0, Register.ST7, OperandKind.X87, 80, 0],
  [Register.MM0, Register.MM7, OperandKind.Mmx, 64, 0],
];

const operands: Operand[] = [];
for (const [first, last, kind, size, number] of RANGES) {
  for (let r = first; r <= last; r++) {
    operands[r] = {
      kind,
      reg: number + r - first,
      size,
      imm: 0n,
      selector: 0,
    };
  }
}

const OTHER: Operand = {
  kind: OperandKind.Other,
  reg: 0,
  size: 0,
  imm: 0n,
  selector: 0,
};

/** The operand of an iced-x86 register. */
export function registerOperand(register: number): Operand {
  return operands[register] ?? OTHER;
}

/** Base or index register of a memory operand as our number. */
export function addressRegister(register: number): number {
  if (register === Register.None) return NO_REGISTER;
  if (register === Register.RIP || register === Register.EIP) {
    return RIP_RELATIVE;
  }
  return registerOperand(register).reg;
}

/** Segment register number, ES 0 … GS 5. */
export function segmentNumber(register: number): number {
  return register - Register.ES;
}

/** Size in bits of an immediate operand kind, after the manual's extension; 0 otherwise. */
export const IMMEDIATE_SIZE: readonly number[] = (() => {
  const sizes: number[] = [];
  for (let i = 0; i <= OpKind.Memory; i++) sizes.push(0);
  sizes[OpKind.Immediate8] = 8;
  sizes[OpKind.Immediate8_2nd] = 8;
  sizes[OpKind.Immediate16] = 16;
  sizes[OpKind.Immediate32] = 32;
  sizes[OpKind.Immediate64] = 64;
  sizes[OpKind.Immediate8to16] = 16;
  sizes[OpKind.Immediate8to32] = 32;
  sizes[OpKind.Immediate8to64] = 64;
  sizes[OpKind.Immediate32to64] = 64;
  return sizes;
})();

/** Size in bits of each iced-x86 memory size. */
export const MEMORY_BITS: readonly number[] = (() => {
  const bits: number[] = [];
  for (const value of Object.values(MemorySize)) {
    if (typeof value === "number") {
      bits[value] = MemorySizeExt.size(value) * 8;
    }
  }
  return bits;
})();
