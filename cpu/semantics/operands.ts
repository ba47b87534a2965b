/**
 * Operands as `call` procedures see them: effective addresses, reads and writes
 * of register and memory operands through the accessors (SDM vol. 1 §3.7).
 *
 * After a read or write of memory, test `cpu.access.outcome`: not 0 means the
 * access faulted and the procedure must return it.
 */
import type { CpuContext } from "../context.ts";
import {
  type Insn,
  type MemoryOperand,
  NO_REGISTER,
  type Operand,
  OperandKind,
  RIP_RELATIVE,
} from "../isa/insn.ts";
import type { OutcomeCode } from "../isa/row.ts";

/** All ones at a size in bits. */
export function sizeMask(size: number): bigint {
  switch (size) {
    case 8:
      return 0xffn;
    case 16:
      return 0xffffn;
    case 32:
      return 0xffff_ffffn;
    case 64:
      return 0xffff_ffff_ffff_ffffn;
    default:
      return (1n << BigInt(size)) - 1n;
  }
}

/** Offset of the instruction's memory operand, truncated to the address size. */
export function effectiveOffset(
  cpu: CpuContext,
  insn: Insn,
  memory: MemoryOperand,
): bigint {
  const { v } = cpu;
  let offset = memory.displacement;
  if (memory.base !== NO_REGISTER && memory.base !== RIP_RELATIVE) {
    offset += v.gpr(memory.base);
  }
  if (memory.index !== NO_REGISTER) {
    offset += v.gpr(memory.index) * BigInt(memory.scale);
  }
  return offset & sizeMask(insn.addressSize);
}

/** The memory operand, which the row's codes guarantee. */
export function memoryOf(insn: Insn): MemoryOperand {
  if (insn.memory === undefined) {
    throw new Error(`${insn.row.name} has no memory operand; see its codes`);
  }
  return insn.memory;
}

/**
 * Reads operand `i` zero-extended at `size` bits (its own by default, at most
 * 64). For memory, 0n with `cpu.access.outcome` set on a fault.
 */
export function readOperand(
  cpu: CpuContext,
  insn: Insn,
  i: number,
  size: number = insn.operands[i].size,
): bigint {
  const operand: Operand = insn.operands[i];
  cpu.access.outcome = 0;
  switch (operand.kind) {
    case OperandKind.Gpr:
      return cpu.v.gpr(operand.reg) & sizeMask(size);
    case OperandKind.HighByte:
      return (cpu.v.gpr(operand.reg) >> 8n) & 0xffn;
    case OperandKind.Memory: {
      const memory = memoryOf(insn);
      const offset = effectiveOffset(cpu, insn, memory);
      return cpu.access.readSegment(memory.segment, offset, size / 8);
    }
    default:
      return operand.imm & sizeMask(size);
  }
}

/** Writes operand `i`, a register or memory, at `size` bits. @returns outcome */
export function writeOperand(
  cpu: CpuContext,
  insn: Insn,
  i: number,
  value: bigint,
  size: number = insn.operands[i].size,
): OutcomeCode {
  const operand: Operand = insn.operands[i];
  if (operand.kind === OperandKind.Memory) {
    const memory = memoryOf(insn);
    const offset = effectiveOffset(cpu, insn, memory);
    const masked = value & sizeMask(size);
    return cpu.access.writeSegment(
      memory.segment,
      offset,
      size / 8,
      masked,
    ) as OutcomeCode;
  }
  if (operand.kind === OperandKind.HighByte) {
    const old = cpu.v.gpr(operand.reg);
    cpu.v.setGpr(operand.reg, (old & ~0xff00n) | ((value & 0xffn) << 8n));
  } else cpu.v.setGprSized(operand.reg, size, value & sizeMask(size));
  return 0;
}
