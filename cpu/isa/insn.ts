/**
 * A decoded instruction as rows, engines and procedures see it.
 *
 * Made by the decoder service (design §7) from bytes and mode; immutable and
 * shared. `formKey` is equal for two instructions exactly when they differ only
 * in displacement, immediate values, length and address, so that a back end may
 * specialise code by it.
 */
import type { Row } from "./row.ts";
import type { Size } from "./emitter.ts";

/** Kinds of operand. */
export const OperandKind = {
  /** General register; `reg` 0–15. */
  Gpr: 0,
  /** AH, CH, DH, BH; `reg` 0–3. */
  HighByte: 1,
  Memory: 2,
  /** `imm`, extended to the operand size as the manual says. */
  Immediate: 3,
  /** Near branch: `imm` holds the absolute target offset. */
  NearBranch: 4,
  /** ptr16:16 / ptr16:32: `imm` is the offset, `selector` the selector. */
  FarBranch: 5,
  /** Segment register; `reg` in manual order ES CS SS DS FS GS. */
  Segment: 6,
  Control: 7,
  Debug: 8,
  /** ST(i). */
  X87: 9,
  Mmx: 10,
  Xmm: 11,
  /** Others (TR, BND, k, …): no row of ours uses them. */
  Other: 12,
} as const;

/** One operand. */
export interface Operand {
  readonly kind: number;
  /** Register number within its kind; 0 otherwise. */
  readonly reg: number;
  /** Size in bits; larger for vector, far-pointer and state-area operands. */
  readonly size: number;
  /** Immediate or branch target, zero-extended to 64 bits at the operand size. */
  readonly imm: bigint;
  readonly selector: number;
}

/** No base or index register. */
export const NO_REGISTER = -1;
/** Base value for RIP-relative addressing: displacement is then the absolute target. */
export const RIP_RELATIVE = -2;

/** The instruction's only ModR/M or moffs memory operand. */
export interface MemoryOperand {
  /** 0–15, NO_REGISTER, or RIP_RELATIVE. */
  readonly base: number;
  readonly index: number;
  readonly scale: 1 | 2 | 4 | 8;
  /** Sign-extended to 64 bits, as an unsigned bigint; absolute when RIP-relative. */
  readonly displacement: bigint;
  /** Its halves, for procedures that do without BigInt. */
  readonly displacementLow: number;
  readonly displacementHigh: number;
  /** Effective segment after overrides: ES 0 … GS 5. */
  readonly segment: number;
}

/** Repeat prefixes. */
export const Rep = { None: 0, RepE: 1, RepNE: 2 } as const;

/** A decoded instruction. */
export interface Insn {
  readonly row: Row;
  /** Index of `row` in the ISA table. */
  readonly rowIndex: number;
  /** iced-x86 `Code`. */
  readonly code: number;
  readonly length: number;
  /** Offset (RIP/EIP/IP) of its first byte. */
  readonly rip: bigint;
  readonly operands: readonly Operand[];
  readonly memory: MemoryOperand | undefined;
  /** 64, 32 or 16: CS.L / CS.D when decoded. */
  readonly codeSize: 16 | 32 | 64;
  /** Effective operand size after prefixes and defaults. */
  readonly operandSize: Size;
  readonly addressSize: 16 | 32 | 64;
  /** Width of the stack pointer: 64 in 64-bit mode, else by SS.B. */
  readonly stackSize: 16 | 32 | 64;
  /** Segment of implicit string sources (DS unless overridden). */
  readonly segment: number;
  readonly lock: boolean;
  readonly rep: number;
  /** The same at another RIP, with another branch target or RIP-relative address if it has one. */
  at(rip: bigint, target: bigint): Insn;
  /** Groups instructions that differ only in immediates, displacement, length and address. */
  readonly formKey: string;
}
