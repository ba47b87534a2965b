/**
 * Where an instruction has one to four bytes that steer nothing but a number in
 * its record: a relative branch displacement, an address displacement or an
 * immediate (SDM 2A §2.1, appendix A). Instructions that differ in nothing else
 * are decoded once.
 *
 * Invariant: what is said here of an instruction has been compared with what
 * the decoder made of it.
 */
import { type Insn, OperandKind, RIP_RELATIVE } from "../../isa/insn.ts";
import { isPrefix } from "../../isa/prefixes.ts";

/** What wild bytes mean. */
export const Wild = {
  None: 0,
  /** Target of a near branch, relative to the next instruction. */
  Branch: 1,
  /** Displacement of a RIP-relative operand. */
  Relative: 2,
  /** Displacement of another memory operand, sign-extended. */
  Displacement: 3,
  /** The only immediate, sign-extended to its operand. */
  Immediate: 4,
} as const;

/** Bytes `start` to `start + count` of an instruction. */
export interface WildBytes {
  readonly kind: number;
  readonly start: number;
  readonly count: number;
  /** Bits of the number that they give. */
  readonly size: 16 | 32 | 64;
}

const VEX2 = 0xc5, VEX3 = 0xc4;
const ESCAPE = 0x0f, XBEGIN = 0xc7;
const RM_SIB = 4, BASE_NONE = 5;
const BYTES = 4;

/** The wild bytes of an instruction that has a form. */
export function wildBytes(insn: Insn, bytes: Uint8Array): WildBytes {
  const { operands, memory, length } = insn;
  if (operands[0]?.kind === OperandKind.NearBranch) {
    const start = beforeTarget(bytes, insn.codeSize);
    const size = operands[0].size as 16 | 32 | 64;
    return { kind: Wild.Branch, start, count: length - start, size };
  }
  if (memory?.base === RIP_RELATIVE) {
    const start = modRmAt(bytes, 64) + 1;
    const size = insn.addressSize;
    return { kind: Wild.Relative, start, count: BYTES, size };
  }
  if (insn.row.emit !== undefined) {
    const found = memory !== undefined && insn.addressSize === 64
      ? displacement(bytes)
      : undefined;
    const other = found ?? immediate(insn, bytes);
    if (other !== undefined) return other;
  }
  return { kind: Wild.None, start: length, count: 0, size: 64 };
}

/** What the decoder made of them. */
export function wildValue(insn: Insn, kind: number): bigint {
  const { operands, memory } = insn;
  switch (kind) {
    case Wild.Branch:
      return operands[0].imm;
    case Wild.Immediate:
      return operands[operands.length - 1].imm;
    default:
      return memory!.displacement;
  }
}

/** Opcodes of the one-byte map with an immediate of at most 32 bits (SDM 2 appendix A, Iz). */
const IMMEDIATE_Z: ReadonlySet<number> = new Set([
  ...[0x05, 0x0d, 0x15, 0x1d, 0x25, 0x2d, 0x35, 0x3d],
  ...[0x68, 0x69, 0x81, 0xa9, 0xc7, 0xf7],
]);
/** Arithmetic with a sign-extended byte. */
const IMMEDIATE_B = 0x83;
/** MOV r, imm, whose immediate has the operand's size (SDM 2B MOV). */
const MOV_IMMEDIATE = 0xb8;
/** MOV with an offset instead of ModR/M. */
const MOV_OFFSET = 0xa0;

/** An immediate of four bytes, or of one that is sign-extended to more. */
function immediate(
  { operands, length, codeSize }: Insn,
  bytes: Uint8Array,
): WildBytes | undefined {
  const last = operands[operands.length - 1];
  if (last?.kind !== OperandKind.Immediate) return undefined;
  const { size } = last;
  if (size !== 32 && size !== 64) return undefined;
  const opcode = bytes[opcodeAt(bytes, codeSize)];
  let count = 0;
  if (opcode === IMMEDIATE_B) count = 1;
  else if (IMMEDIATE_Z.has(opcode)) count = BYTES;
  else if ((opcode & 0xf8) === MOV_IMMEDIATE && size === 32) count = BYTES;
  if (count === 0) return undefined;
  return { kind: Wild.Immediate, start: length - count, count, size };
}

/** The displacement of a memory operand of 64-bit code (SDM 2A tables 2-2 and 2-3). */
function displacement(bytes: Uint8Array): WildBytes | undefined {
  const opcode = bytes[opcodeAt(bytes, 64)];
  if ((opcode & 0xfc) === MOV_OFFSET) return undefined;
  const at = modRmAt(bytes, 64);
  const mod = bytes[at] >> 6;
  const sib = (bytes[at] & 7) === RM_SIB;
  let count = 0;
  if (mod === 1) count = 1;
  else if (mod === 2) count = BYTES;
  else if (mod === 0 && sib && (bytes[at + 1] & 7) === BASE_NONE) count = BYTES;
  if (count === 0) return undefined;
  return {
    kind: Wild.Displacement,
    start: at + (sib ? 2 : 1),
    count,
    size: 64,
  };
}

function opcodeAt(bytes: Uint8Array, codeSize: number): number {
  let at = 0;
  while (isPrefix(bytes[at], codeSize === 64)) at++;
  return at;
}

/** Where ModR/M is (SDM 2A §2.1.2, §2.3.5). */
function modRmAt(bytes: Uint8Array, codeSize: number): number {
  const at = opcodeAt(bytes, codeSize);
  if (bytes[at] === VEX2) return at + 3;
  if (bytes[at] === VEX3) return at + 4;
  if (bytes[at] !== ESCAPE) return at + 1;
  const third = bytes[at + 1] === 0x38 || bytes[at + 1] === 0x3a;
  return at + (third ? 3 : 2);
}

/** Bytes before a near branch's displacement, which ends it. */
function beforeTarget(bytes: Uint8Array, codeSize: number): number {
  const at = opcodeAt(bytes, codeSize);
  const two = bytes[at] === ESCAPE || bytes[at] === XBEGIN;
  return at + (two ? 2 : 1);
}
