/**
 * iced-x86's decoder as our InstructionDecoder (SDM vol. 2A ch. 2): its
 * instruction becomes an immutable record with the row that implements it.
 *
 * Invariant: the result is a function of bytes, mode and CPU model. A form is
 * #UD when the model lacks it, NotModelled when only we do.
 */
import {
  Code,
  Decoder,
  DecoderError,
  EncodingKind,
  Instruction,
  OpKind,
  Register,
} from "iced-x86";
import type { CpuModel } from "../../cpu/arch/models.ts";
import {
  DecodeFailure,
  type DecodeFailureCode,
  type InstructionDecoder,
} from "../../cpu/isa/decoder.ts";
import type { Size } from "../../cpu/isa/emitter.ts";
import {
  type Insn,
  type MemoryOperand,
  type Operand,
  OperandKind,
  Rep,
  RIP_RELATIVE,
} from "../../cpu/isa/insn.ts";
import type { Row } from "../../cpu/isa/row.ts";
import { rowIndexOf, ROWS } from "../../cpu/isa/table.ts";
import { Seg } from "../../cpu/layout.ts";
import { decoderOptions, modelHasAll } from "./features.ts";
import { hasAddressPrefix, withoutIdlePrefixes } from "./prefixes.ts";
import {
  addressRegister,
  IMMEDIATE_SIZE,
  MEMORY_BITS,
  registerOperand,
  segmentNumber,
} from "./registers.ts";

const MAX_LENGTH = 15;
const NO_OPERANDS: readonly Operand[] = [];
const MASKS: readonly bigint[] = Array.from(
  { length: 65 },
  (_, bits) => (1n << BigInt(bits)) - 1n,
);

type ModeSize = 16 | 32 | 64;

/** What is known about a code for one model. */
interface CodeInfo {
  /** −1: no such form on this model; −2: not modelled; else the row. */
  readonly row: number;
  /** From the op-code table; 0 when the form has no operand size of its own. */
  readonly operandSize: number;
  readonly repeatable: boolean;
  readonly vex: boolean;
  /** For the message, where the form is not modelled. */
  readonly name: string;
}
const INVALID = -1, NOT_MODELLED = -2;

/** A decoded instruction; the key is made when first asked for. */
class Record implements Insn {
  private key: string | undefined;
  constructor(
    readonly row: Row,
    readonly rowIndex: number,
    readonly code: number,
    readonly length: number,
    readonly rip: bigint,
    readonly operands: readonly Operand[],
    readonly memory: MemoryOperand | undefined,
    readonly codeSize: ModeSize,
    readonly operandSize: Size,
    readonly addressSize: ModeSize,
    readonly stackSize: ModeSize,
    readonly segment: number,
    readonly lock: boolean,
    readonly rep: number,
  ) {}

  at(rip: bigint, target: bigint): Insn {
    let { operands, memory } = this;
    const first = operands[0];
    if (first?.kind === OperandKind.NearBranch) {
      operands = [{ ...first, imm: target }, ...operands.slice(1)];
    }
    if (memory?.base === RIP_RELATIVE) {
      memory = { ...memory, ...displacementOf(target) };
    }
    return new Record(
      this.row,
      this.rowIndex,
      this.code,
      this.length,
      rip,
      operands,
      memory,
      this.codeSize,
      this.operandSize,
      this.addressSize,
      this.stackSize,
      this.segment,
      this.lock,
      this.rep,
    );
  }

  /**
   * Shape, a slash, registers: what comes before the slash groups instructions
   * that differ in register numbers too.
   */
  get formKey(): string {
    if (this.key !== undefined) return this.key;
    let shape = `${this.code}.${this.codeSize}.${this.addressSize}.` +
      `${this.stackSize}.${this.rep}${this.lock ? "L" : ""}`;
    let registers = `${this.segment}`;
    for (const operand of this.operands) {
      shape += `.${operand.kind}:${operand.size}`;
      registers += `,${operand.reg}`;
    }
    if (this.memory !== undefined) {
      const { base, index, scale, segment } = this.memory;
      shape += base < 0 ? `b${base}` : "b";
      shape += index < 0 ? "" : "i";
      registers += `,${base},${index},${scale},${segment}`;
    }
    return this.key = `${shape}/${registers}`;
  }
}

const BEGINNINGS = 4096;

class IcedDecoder implements InstructionDecoder {
  notModelled = "";
  private readonly options: number;
  private readonly instruction = new Instruction();
  private readonly padded = new Uint8Array(MAX_LENGTH);
  private readonly codes: (CodeInfo | undefined)[] = [];
  /** Answers of `goesOn`, which ends of pages ask for again and again. */
  private readonly beginnings = new Map<string, boolean>();

  constructor(private readonly model: CpuModel) {
    this.options = decoderOptions(model);
  }

  decode(
    bytes: Uint8Array,
    available: number,
    codeSize: ModeSize,
    rip: bigint,
    stackSize: ModeSize,
    real: boolean,
  ): Insn | DecodeFailureCode {
    const length = available < MAX_LENGTH ? available : MAX_LENGTH;
    const data = bytes.length === length ? bytes : bytes.subarray(0, length);
    const error = this.run(data, codeSize, rip);
    if (error !== DecoderError.None) {
      if (error === DecoderError.NoMoreBytes) {
        return this.goesOn(data, codeSize)
          ? DecodeFailure.NeedMoreBytes
          : DecodeFailure.Invalid;
      }
      return length === MAX_LENGTH && this.tooLong(data, codeSize)
        ? DecodeFailure.TooLong
        : DecodeFailure.Invalid;
    }
    const { instruction } = this;
    const code = instruction.code;
    const info = this.codes[code] ?? this.describe(code);
    if (info.row === INVALID || (info.vex && real)) {
      return DecodeFailure.Invalid;
    }
    if (info.row === NOT_MODELLED) {
      this.notModelled = info.name;
      return DecodeFailure.NotModelled;
    }
    return this.record(info, code, data, codeSize, rip, stackSize);
  }

  /** Decodes into `instruction`. @returns a DecoderError */
  private run(data: Uint8Array, codeSize: ModeSize, rip: bigint): number {
    const decoder = new Decoder(codeSize, data, this.options);
    decoder.ip = rip;
    decoder.decodeOut(this.instruction);
    const error = decoder.lastError;
    decoder.free();
    return error;
  }

  /**
   * Whether an instruction really goes on beyond `bytes`: iced-x86 wants a
   * ModR/M byte even after an opcode that does not exist. It does not go on
   * when nothing that may follow makes it an instruction. Idle prefixes are
   * left out, so that the 15-byte limit plays no part.
   */
  private goesOn(bytes: Uint8Array, codeSize: ModeSize): boolean {
    const key = `${codeSize}:${bytes.join()}`;
    let answer = this.beginnings.get(key);
    if (answer === undefined) {
      answer = this.mayGoOn(bytes, codeSize);
      if (this.beginnings.size >= BEGINNINGS) this.beginnings.clear();
      this.beginnings.set(key, answer);
    }
    return answer;
  }

  private mayGoOn(bytes: Uint8Array, codeSize: ModeSize): boolean {
    const { padded } = this;
    const core = withoutIdlePrefixes(bytes, codeSize === 64);
    if (core.length === MAX_LENGTH) return false;
    if (this.run(core, codeSize, 0n) !== DecoderError.NoMoreBytes) return false;
    padded.fill(0);
    padded.set(core);
    for (let modRm = 0; modRm < 256; modRm++) {
      padded[core.length] = modRm;
      if (this.run(padded, codeSize, 0n) === DecoderError.None) return true;
      if (this.instruction.length > core.length + 1) return true;
    }
    return false;
  }

  /** Whether 15 bytes that are no instruction begin a longer one. */
  private tooLong(bytes: Uint8Array, codeSize: ModeSize): boolean {
    const fourteen = bytes.subarray(0, MAX_LENGTH - 1);
    return this.run(fourteen, codeSize, 0n) === DecoderError.NoMoreBytes &&
      this.goesOn(bytes, codeSize);
  }

  private describe(code: number): CodeInfo {
    const name = Code[code];
    let row = rowIndexOf(name);
    const opCode = this.instruction.opCode;
    if (row >= 0) {
      const { feature } = ROWS[row];
      if (feature !== undefined && !this.model.has(feature)) row = INVALID;
    } else {
      const needs = this.instruction.cpuidFeatures();
      row = modelHasAll(this.model, needs) ? NOT_MODELLED : INVALID;
    }
    const info: CodeInfo = {
      row,
      operandSize: opCode.operandSize,
      repeatable: opCode.canUseRepPrefix,
      vex: opCode.encoding !== EncodingKind.Legacy,
      // Texts cost more than all the rest.
      name: row === NOT_MODELLED
        ? `${opCode.instructionString} (${opCode.opCodeString})`
        : "",
    };
    opCode.free();
    this.codes[code] = info;
    return info;
  }

  private record(
    info: CodeInfo,
    code: number,
    data: Uint8Array,
    codeSize: ModeSize,
    rip: bigint,
    stackSize: ModeSize,
  ): Insn {
    const { instruction } = this;
    const long = codeSize === 64;
    let addressSize: ModeSize = codeSize;
    if (hasAddressPrefix(data, data.length, long)) {
      addressSize = codeSize === 32 ? 16 : 32;
    }
    const count = instruction.opCount;
    let memory: MemoryOperand | undefined;
    let segment: number = Seg.DS;
    let operands = NO_OPERANDS;
    if (count > 0) {
      const list: Operand[] = [];
      for (let i = 0; i < count; i++) {
        const kind: number = instruction.opKind(i);
        if (kind === OpKind.Register) {
          list.push(registerOperand(instruction.opRegister(i)));
        } else if (kind === OpKind.Memory) {
          const size = MEMORY_BITS[instruction.memorySize];
          if (instruction.memoryIndex === Register.AL) { // XLAT
            segment = this.segmentOf(long, Seg.DS);
            list.push(operand(OperandKind.Other, size));
            continue;
          }
          memory = this.memory(long);
          list.push(operand(OperandKind.Memory, size));
        } else if (kind >= OpKind.MemorySegSI) {
          // String operands: implicit registers; the source's segment may be overridden.
          if (kind <= OpKind.MemorySegRDI) {
            segment = this.segmentOf(long, Seg.DS);
          }
          list.push(
            operand(OperandKind.Other, MEMORY_BITS[instruction.memorySize]),
          );
        } else list.push(this.constant(i, kind));
      }
      operands = list;
    }
    let operandSize = info.operandSize;
    if (operandSize === 0) {
      const first = operands[0];
      operandSize = first !== undefined && first.size >= 8 && first.size <= 64
        ? first.size
        : codeSize === 64
        ? 32
        : codeSize;
    }
    let rep: number = Rep.None;
    if (info.repeatable) {
      if (instruction.hasRepnePrefix) rep = Rep.RepNE;
      else if (instruction.hasRepPrefix) rep = Rep.RepE;
    }
    return new Record(
      ROWS[info.row],
      info.row,
      code,
      instruction.length,
      rip,
      operands,
      memory,
      codeSize,
      operandSize as Size,
      addressSize,
      stackSize,
      segment,
      instruction.hasLockPrefix,
      rep,
    );
  }

  /**
   * Effective segment. In 64-bit mode ES, CS, SS and DS overrides are ignored
   * (SDM vol. 1 §3.3.7), so that not even the fault vector depends on them.
   */
  private segmentOf(long: boolean, normal: number): number {
    const segment = segmentNumber(this.instruction.memorySegment);
    return long && segment < Seg.FS ? normal : segment;
  }

  private memory(long: boolean): MemoryOperand {
    const { instruction } = this;
    const base = addressRegister(instruction.memoryBase);
    const onStack = base === 4 || base === 5; // rSP, rBP
    return {
      base,
      index: addressRegister(instruction.memoryIndex),
      scale: instruction.memoryIndexScale as 1 | 2 | 4 | 8,
      ...displacementOf(BigInt.asUintN(64, instruction.memoryDisplacement)),
      segment: this.segmentOf(long, onStack ? Seg.SS : Seg.DS),
    };
  }

  /** Immediates and branch targets. */
  private constant(i: number, kind: number): Operand {
    const { instruction } = this;
    const size = IMMEDIATE_SIZE[kind];
    if (size !== 0) {
      const imm = instruction.immediate(i) & MASKS[size];
      return operand(OperandKind.Immediate, size, imm);
    }
    switch (kind) {
      case OpKind.NearBranch16:
      case OpKind.NearBranch32:
      case OpKind.NearBranch64:
        return operand(
          OperandKind.NearBranch,
          16 << (kind - OpKind.NearBranch16),
          instruction.nearBranchTarget,
        );
      default: {
        const wide = kind === OpKind.FarBranch32;
        const offset = wide ? instruction.farBranch32 : instruction.farBranch16;
        return operand(
          OperandKind.FarBranch,
          wide ? 32 : 16,
          BigInt(offset),
          instruction.farBranchSelector,
        );
      }
    }
  }
}

/** A displacement and its halves. */
function displacementOf(
  displacement: bigint,
): Pick<
  MemoryOperand,
  "displacement" | "displacementLow" | "displacementHigh"
> {
  return {
    displacement,
    displacementLow: Number(displacement & MASKS[32]),
    displacementHigh: Number(displacement >> 32n),
  };
}

function operand(kind: number, size: number, imm = 0n, selector = 0): Operand {
  return { kind, reg: 0, size, imm, selector };
}

/** A decoder for `model` (see cpu/isa/decoder.ts). */
export function createDecoder(model: CpuModel): InstructionDecoder {
  return new IcedDecoder(model);
}
