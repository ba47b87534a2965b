/**
 * From a parsed instruction to bytes: evaluates its expressions, matches the
 * forms of its mnemonic, encodes every match with iced-x86's encoder and keeps
 * the shortest. Invariant: for equal inputs the same bytes, and never fewer
 * than `minimum`, so that layout only ever grows (jump relaxation ends).
 */
import { Encoder, EncodingKind, Instruction, OpKind, Register } from "iced-x86";
import { type Candidate, checkMemorySize, choose } from "./choose.ts";
import { applyDecorators, type Decorators } from "./decorators.ts";
import { type Environment, evaluate } from "./expression.ts";
import type { Form } from "./forms.ts";
import {
  type Evaluated,
  fits,
  type Match,
  matchForm,
  type Request,
} from "./match.ts";
import type { Operand, Prefixes } from "./operands.ts";
import { type RegisterClass, registerClass } from "./registers.ts";
import { badPrefix, noMatch, notEncodable } from "./diagnose.ts";
import { type Bits, LineError } from "./types.ts";

/** A parsed instruction. */
export interface InstructionText {
  readonly mnemonic: string;
  readonly column: number;
  readonly operands: readonly Operand[];
  readonly prefixes: Prefixes;
  readonly bits: Bits;
  readonly to: boolean;
  readonly decorators: Decorators;
  readonly forms: readonly Form[];
}

const encoders = new Map<Bits, Encoder>();

function encoderFor(bits: Bits): Encoder {
  let encoder = encoders.get(bits);
  if (encoder === undefined) {
    encoder = new Encoder(bits);
    encoders.set(bits, encoder);
  }
  return encoder;
}

/**
 * Encodes at address `ip`. `minimum` is the least length allowed (0 at first).
 * @throws LineError when nothing fits, naming what is accepted.
 */
export function encodeInstruction(
  text: InstructionText,
  ip: bigint,
  env: Environment,
  minimum: number,
): Uint8Array {
  const { prefixes } = text;
  const request: Request = {
    mnemonic: text.mnemonic,
    operands: text.operands.map((o) => evaluateOperand(o, env)),
    bits: text.bits,
    operandBits: prefixes.operandBits,
    addressBits: prefixes.addressBits,
    to: text.to,
  };
  const matches: Match[] = [];
  const isDecorated = text.decorators.column !== undefined;
  for (const form of text.forms) {
    if (isDecorated && form.encoding !== EncodingKind.MVEX) continue;
    const match = matchForm(form, request);
    if (match !== undefined) matches.push(match);
  }
  if (matches.length === 0) throw noMatch(text, request);
  const allowed = matches.filter((m) => allowsPrefixes(m, text));
  if (allowed.length === 0) throw badPrefix(text);
  const candidates: Candidate[] = [];
  let reason = "";
  for (const match of allowed) {
    for (
      const wide of hasRegisterDisplacement(match) ? [false, true] : [false]
    ) {
      const bytes = tryEncode(text, match, ip, wide);
      if (typeof bytes === "string") reason = bytes;
      else candidates.push({ form: match.form, bytes });
    }
  }
  if (candidates.length === 0) throw notEncodable(text, request, reason, ip);
  checkMemorySize(text, candidates);
  return choose(text, candidates, minimum);
}

function evaluateOperand(operand: Operand, env: Environment): Evaluated {
  switch (operand.k) {
    case "reg":
      return { k: "reg", reg: operand.reg };
    case "imm":
      return {
        k: "imm",
        value: evaluate(operand.expr, env),
        size: operand.size,
        distance: operand.distance,
      };
    case "far":
      return {
        k: "far",
        selector: evaluate(operand.selector, env),
        offset: evaluate(operand.offset, env),
        size: operand.size,
      };
    case "mem":
      return {
        k: "mem",
        text: operand,
        displacement: operand.displacement === undefined
          ? 0n
          : evaluate(operand.displacement, env),
      };
  }
}

function hasRegisterDisplacement(match: Match): boolean {
  const memory = match.operands.find((o) => o.k === "mem");
  return memory?.k === "mem" && memory.text.base !== Register.None &&
    memory.text.displacement !== undefined &&
    memory.text.displacement.k !== "num";
}

/** The bytes of a match, or why it can't be encoded. */
function tryEncode(
  text: InstructionText,
  match: Match,
  ip: bigint,
  wideDisplacement: boolean,
): Uint8Array | string {
  const instruction = new Instruction();
  try {
    instruction.code = match.form.code;
    setPrefixes(instruction, text, match.form);
    if (match.form.encoding === EncodingKind.MVEX) {
      const hasMemory = match.operands.some((o) => o.k === "mem");
      applyDecorators(instruction, text.decorators, hasMemory);
    }
    for (let k = 0; k < match.operands.length; k++) {
      const problem = setOperand(
        instruction,
        k,
        match,
        text.bits,
        wideDisplacement,
      );
      if (problem !== undefined) return problem;
    }
    const raw = (match.raw66 ? 1 : 0) + (match.raw67 ? 1 : 0);
    const at = ip + BigInt(raw);
    let bytes = runEncoder(text.bits, instruction, at);
    const memory = match.operands.find((o) => o.k === "mem");
    if (memory?.k === "mem" && memory.text.relative === "rip") {
      const next = at + BigInt(bytes.length);
      instruction.memoryDisplacement = BigInt.asIntN(
        64,
        next + memory.displacement,
      );
      bytes = runEncoder(text.bits, instruction, at);
    }
    if (raw === 0) return bytes;
    const prefixed = new Uint8Array(bytes.length + raw);
    if (match.raw66) prefixed[0] = 0x66;
    if (match.raw67) prefixed[raw - 1] = 0x67;
    prefixed.set(bytes, raw);
    return prefixed;
  } catch (error) {
    if (error instanceof LineError) throw error;
    // iced throws strings or Errors for values out of range.
    return error instanceof Error ? error.message : String(error);
  } finally {
    instruction.free();
  }
}

function runEncoder(
  bits: Bits,
  instruction: Instruction,
  ip: bigint,
): Uint8Array {
  const encoder = encoderFor(bits);
  const mask = bits === 64 ? 64 : 32;
  try {
    encoder.encode(instruction, BigInt.asUintN(mask, ip));
  } catch (error) {
    encoder.takeBuffer();
    throw error;
  }
  return encoder.takeBuffer();
}

function setPrefixes(
  instruction: Instruction,
  text: InstructionText,
  form: Form,
): void {
  const p = text.prefixes;
  if (p.lock) instruction.hasLockPrefix = true;
  if ((p.rep && !form.ownsF3) || p.xrelease) instruction.hasRepPrefix = true;
  if ((p.repne && !form.ownsF2) || p.xacquire || p.bnd) {
    instruction.hasRepnePrefix = true;
  }
  if (p.segment !== undefined) instruction.segmentPrefix = p.segment;
  if (p.notrack) instruction.segmentPrefix = Register.DS;
}

function setOperand(
  i: Instruction,
  k: number,
  match: Match,
  bits: Bits,
  wide: boolean,
): string | undefined {
  const operand = match.operands[k];
  const kind = match.form.kinds[k];
  switch (operand.k) {
    case "reg":
      i.setOpKind(k, OpKind.Register);
      i.setOpRegister(k, widen(operand.reg, kind.regClass));
      return undefined;
    case "implied":
      setStringOperand(i, k, kind.string!, match.addressBits);
      return undefined;
    case "mem":
      if (kind.string !== undefined) {
        if (operand.text.segment !== undefined && kind.string !== "esdi") {
          i.segmentPrefix = operand.text.segment;
        }
        setStringOperand(i, k, kind.string, match.addressBits);
        return undefined;
      }
      return setMemory(i, k, operand, match, bits, wide);
    case "far": {
      if (!fits(operand.selector, 16)) return "the selector exceeds 16 bits";
      if (!fits(operand.offset, kind.farBits!)) {
        return `the offset exceeds ${kind.farBits} bits`;
      }
      i.farBranchSelector = Number(BigInt.asUintN(16, operand.selector));
      const offset = Number(BigInt.asUintN(kind.farBits!, operand.offset));
      if (kind.farBits === 16) {
        i.setOpKind(k, OpKind.FarBranch16);
        i.farBranch16 = offset;
      } else {
        i.setOpKind(k, OpKind.FarBranch32);
        i.farBranch32 = offset;
      }
      return undefined;
    }
    case "imm":
      if (kind.branchBits !== undefined) {
        setBranch(i, k, kind.name, kind.branchBits, operand.value, bits);
      } else setImmediate(i, k, match, operand.value);
      return undefined;
  }
}

/** The wide register where a form shows only its low 16 bits (LLDT cx). */
function widen(reg: Register, wanted: RegisterClass | undefined): Register {
  if (wanted !== "r32" && wanted !== "r64") return reg;
  if (registerClass(reg) !== "r16") return reg;
  return reg - Register.AX + (wanted === "r32" ? Register.EAX : Register.RAX);
}

function setStringOperand(
  i: Instruction,
  k: number,
  string: "si" | "di" | "esdi" | "bx",
  bits: 16 | 32 | 64,
): void {
  const step = bits === 16 ? 0 : bits === 32 ? 1 : 2;
  if (string === "bx") {
    i.setOpKind(k, OpKind.Memory);
    i.memoryBase = [Register.BX, Register.EBX, Register.RBX][step];
    i.memoryIndex = Register.AL;
  } else {
    const first = {
      si: OpKind.MemorySegSI,
      di: OpKind.MemorySegDI,
      esdi: OpKind.MemoryESDI,
    }[string];
    i.setOpKind(k, first + step);
  }
}

function setBranch(
  i: Instruction,
  k: number,
  name: string,
  branchBits: number,
  value: bigint,
  bits: Bits,
): void {
  const width = branchBits !== 0
    ? branchBits
    : name === "brdisp_2"
    ? 16
    : name === "brdisp_4"
    ? 32
    : bits === 64
    ? 64
    : 32; // XBEGIN
  const target = BigInt.asUintN(width, value);
  if (width === 16) {
    i.setOpKind(k, OpKind.NearBranch16);
    i.nearBranch16 = Number(target);
  } else if (width === 32) {
    i.setOpKind(k, OpKind.NearBranch32);
    i.nearBranch32 = Number(target);
  } else {
    i.setOpKind(k, OpKind.NearBranch64);
    i.nearBranch64 = target;
  }
}

function setImmediate(
  i: Instruction,
  k: number,
  match: Match,
  value: bigint,
): void {
  const { immBits, extendBits } = match.form.kinds[k];
  const isSecond = k > 0 && match.form.kinds[k - 1].immBits !== undefined;
  if (extendBits !== 0) {
    const kind = immBits === 32
      ? OpKind.Immediate32to64
      : extendBits === 16
      ? OpKind.Immediate8to16
      : extendBits === 32
      ? OpKind.Immediate8to32
      : OpKind.Immediate8to64;
    i.setOpKind(k, kind);
    i.setImmediateI64(k, BigInt.asIntN(extendBits!, value));
    return;
  }
  switch (immBits) {
    case 16:
      i.setOpKind(k, OpKind.Immediate16);
      i.immediate16 = Number(BigInt.asUintN(16, value));
      return;
    case 32:
      i.setOpKind(k, OpKind.Immediate32);
      i.immediate32 = Number(BigInt.asUintN(32, value));
      return;
    case 64:
      i.setOpKind(k, OpKind.Immediate64);
      i.immediate64 = BigInt.asUintN(64, value);
      return;
    default: {
      const low = Number(BigInt.asUintN(8, value));
      i.setOpKind(k, isSecond ? OpKind.Immediate8_2nd : OpKind.Immediate8);
      if (isSecond) i.immediate8_2nd = low;
      else i.immediate8 = low;
    }
  }
}

function setMemory(
  i: Instruction,
  k: number,
  operand: Evaluated & { k: "mem" },
  match: Match,
  bits: Bits,
  wide: boolean,
): string | undefined {
  const { text, displacement } = operand;
  i.setOpKind(k, OpKind.Memory);
  if (text.segment !== undefined) i.segmentPrefix = text.segment;
  const address = match.addressBits;
  if (text.addressBits !== 0 && text.addressBits !== address) {
    return `the address uses ${text.addressBits}-bit registers, not ${address}`;
  }
  if (text.relative === "rel" || text.relative === "rip") {
    if (bits !== 64) return "only 64-bit mode has addresses relative to RIP";
    i.memoryBase = address === 32 ? Register.EIP : Register.RIP;
    i.memoryDisplSize = address / 8;
    i.memoryDisplacement = BigInt.asIntN(64, displacement);
    return undefined;
  }
  if (!fits(displacement, address)) {
    return `displacement ${displacement} exceeds ${address} bits`;
  }
  const value = BigInt.asIntN(address, displacement);
  const full = address / 8;
  if (text.base === Register.None && text.index === Register.None) {
    i.memoryDisplSize = full;
    i.memoryDisplacement = address === 64
      ? value
      : BigInt.asUintN(address, value);
    return undefined;
  }
  i.memoryBase = text.base;
  i.memoryIndex = text.index;
  i.memoryIndexScale = text.scale;
  const forced = text.displacementBytes;
  if (forced === 1 && value !== BigInt.asIntN(8, value)) {
    return `displacement ${displacement} exceeds 8 bits`;
  }
  if (address === 64 && value !== BigInt.asIntN(32, value)) {
    return `displacement ${displacement} exceeds 32 bits`;
  }
  i.memoryDisplSize = wide || forced > 1
    ? full
    : value === 0n && forced === 0
    ? 0
    : 1;
  i.memoryDisplacement = value;
  return undefined;
}

function allowsPrefixes(match: Match, text: InstructionText): boolean {
  const p = text.prefixes;
  const { form } = match;
  const isLockable = form.lockable && match.operands[0]?.k === "mem";
  if (p.lock && !isLockable) return false;
  if (p.rep && !(form.repable || form.ownsF3)) return false;
  if (p.repne && !(form.repneable || form.ownsF2)) return false;
  if (p.bnd && !form.bndable) return false;
  return !p.notrack || form.notrackable;
}
