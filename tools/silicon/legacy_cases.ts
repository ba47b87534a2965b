/**
 * Random cases for what exists outside 64-bit mode only, run in compatibility
 * mode (CS = 23H, data segments flat): decimal adjustment, PUSHA and POPA,
 * BOUND, INTO, far pointers, ARPL, and 32-bit forms of stack and branches.
 * Registers that a case uses have 32 bits, the others their defaults.
 * Invariant: nothing here looks at what the CPU answers.
 */
import {
  Decoder,
  DecoderOptions,
  Encoder,
  Formatter,
  FormatterSyntax,
  MemorySizeExt,
  OpCodeOperandKind as K,
  OpKind,
  Register,
} from "iced-x86";
import {
  DATA,
  PAGE_SIZE,
  READ_ONLY,
  STACK,
  START,
} from "../../tests/silicon/environment.ts";
import { type Draft, type Work, workOf } from "./cases.ts";
import { FIXED_REGISTER, IMMEDIATE } from "./operand_kinds.ts";
import { put } from "./put.ts";
import { littleEndian, type Random } from "./random.ts";
import type { Form } from "./rows.ts";
import { codeTarget, selector } from "./shape.ts";

/** Rows that have no 64-bit form. */
const ROWS = "Da[as]|Aa[as]|Aa[md]_imm8|Salc|(Pusha|Popa)[wd]|Into|" +
  "(Push|Pop)fd|Jcxz_rel8_32|Bound_r16_m1616|Bound_r32_m3232|L[de]s_r(16_m1616|32_m1632)|" +
  "Arpl_r(m16_r16|32m16_r32)";
/** Forms of others that exist there alone. */
const FORMS = "Leaved|Retnd(_imm16)?|Call_rel32_32|Jmp_rel8_32|" +
  "Call_rm32|Jmp_rm32|Push[wd]_(ES|CS|SS|DS)|Pop[wd]_(ES|SS|DS)|(Push|Pop)d_[FG]S|" +
  "(Inc|Dec)_r(16|32)|(Push|Pop)_r(32|m32)|Pushd_imm(8|32)|" +
  "Enterd_imm16_imm8|Loop(n?e)?_rel8_32_E?CX|Jecxz_rel8_32|J[olg]_rel8_32|" +
  "(Jmp|Call)_ptr1632";

/** Codes recorded in compatibility mode (names of iced's). */
export const LEGACY = new RegExp(`^(${ROWS}|${FORMS})$`);
const OWN_ROW = new RegExp(`^(${ROWS})$`);

/** Whether a form's row has cases of 64-bit mode, too. */
export const alsoIn64 = (form: Form): boolean =>
  form.legacy && !OWN_ROW.test(form.name);

/** Cases for each form of a row that is covered in 64-bit mode too. */
const FEW = 6;

/** Cases for a form, of the `minimum` for its row. */
export function legacyCount(form: Form, minimum: number): number {
  return alsoIn64(form) ? FEW : minimum;
}

const RAX = 0, RCX = 1, RSP = 4, RBP = 5;
const LOW_HALF = 0xffff_ffffn;
const USER_CODE_32 = 0x23, USER_DATA = 0x2b;
const STATUS = [1, 4, 0x10, 0x40, 0x80, 0x800];

const encoder = new Encoder(32);
const formatter = new Formatter(FormatterSyntax.Intel);

function operandAddress(rng: Random, size: number): number {
  const dice = rng.below(100);
  if (dice < 3) return DATA + PAGE_SIZE - 1 - rng.below(Math.max(1, size - 1));
  if (dice < 6) return READ_ONLY + rng.below(PAGE_SIZE - size);
  if (dice < 9) return DATA + 0x5000 + rng.below(PAGE_SIZE);
  return DATA + rng.below(PAGE_SIZE - size);
}

function memoryOperand(w: Work, size: number): void {
  const { instruction: ins, rng, state, pinned } = w;
  const target = operandAddress(rng, size);
  w.effectiveAddress = BigInt(target);
  if (rng.chance(20)) {
    ins.memoryDisplacement = BigInt(target);
    ins.memoryDisplSize = 4;
    return;
  }
  const base = rng.pick([0, 1, 2, 3, 5, 6, 7]);
  const displacement = rng.chance(40) ? 0 : rng.below(256) - 128;
  ins.memoryBase = Register.EAX + base;
  ins.memoryDisplacement = BigInt.asUintN(32, BigInt(displacement));
  ins.memoryDisplSize = displacement === 0 ? 0 : 1;
  state.gpr[base] = BigInt(target - displacement);
  pinned.add(base);
}

/** Register operands by kind: first register. */
const REGISTERS = new Map<K, Register>([
  [K.r16_reg, Register.AX],
  [K.r32_reg, Register.EAX],
  [K.r16_opcode, Register.AX],
  [K.r32_opcode, Register.EAX],
  [K.r16_or_mem, Register.AX],
  [K.r32_or_mem, Register.EAX],
]);

function setOperands(w: Work): void {
  const { form, instruction: ins, rng } = w;
  const useMemory = rng.chance(50);
  form.operands.forEach((kind, i) => {
    const first = REGISTERS.get(kind);
    const fixed = FIXED_REGISTER.get(kind);
    const immediate = IMMEDIATE.get(kind);
    const either = kind === K.r16_or_mem || kind === K.r32_or_mem;
    if (kind === K.mem || (either && useMemory)) {
      ins.setOpKind(i, OpKind.Memory);
    } else if (first !== undefined) {
      const register = rng.below(8);
      ins.setOpKind(i, OpKind.Register);
      ins.setOpRegister(i, first + register);
      if (!w.pinned.has(register)) {
        w.state.gpr[register] = rng.interesting(32);
      }
    } else if (fixed !== undefined) {
      ins.setOpKind(i, OpKind.Register);
      ins.setOpRegister(i, fixed);
    } else if (kind === K.br32_1 || kind === K.br32_4) {
      ins.setOpKind(i, OpKind.NearBranch32);
      const far = kind === K.br32_4;
      ins.nearBranch32 = far
        ? Number(codeTarget(rng))
        : START + 8 + rng.pick([1, -1]) * (12 + rng.below(90));
    } else if (kind === K.farbr4_2) {
      ins.setOpKind(i, OpKind.FarBranch32);
      ins.farBranch32 = Number(codeTarget(rng));
      ins.farBranchSelector = rng.chance(40) ? 0x23 : Number(selector(rng));
    } else if (immediate) {
      const second = i > 0 && ins.opKind(i - 1) === OpKind.Immediate16;
      const value = rng.interesting(immediate[1]);
      ins.setOpKind(i, second ? OpKind.Immediate8_2nd : immediate[0]);
      if (second) ins.immediate8_2nd = rng.pick([0, 0, 1, 2, 5, 31]);
      else ins.setImmediateI64(i, BigInt.asIntN(immediate[1], value));
    } else throw new Error(`${form.name}: operand kind ${K[kind]} not handled`);
  });
}

/** What lies on the stack and in the operand, and what registers it wants. */
function settle(w: Work, size: number): void {
  const { form: { mnemonic, name }, rng, state, instruction: ins } = w;
  const top = STACK + 0x400 + 4 * rng.below(0x200) + (rng.chance(8) ? 2 : 0);
  const stack = /^(Push|Pop|Call|Ret|Enter|Leave)/.test(mnemonic);
  if (stack && !w.pinned.has(RSP)) state.gpr[RSP] = BigInt(top);
  if (/^(Pusha|Pushad)$/.test(mnemonic) && rng.chance(12)) {
    state.gpr[RSP] = BigInt(STACK + 2 * rng.below(2));
  }
  if (/^(Popa|Popad)$/.test(mnemonic)) put(w, BigInt(top), rng.bytes(32));
  if (/^(Pop|Popfd|Ret|Leave)$/.test(mnemonic)) {
    let value = rng.interesting(32);
    if (/_[DESFG]S$/.test(name)) value = selector(rng);
    // No TF, which would trap in the harness, and no AC.
    if (mnemonic === "Popfd") value &= ~0x40100n;
    if (mnemonic === "Ret") value = codeTarget(rng);
    put(w, BigInt(top), littleEndian(value, 4));
  }
  if (mnemonic === "Leave") state.gpr[RBP] = BigInt(top);
  if (mnemonic === "Enter") {
    ins.immediate16 = rng.pick([0, 8, 0x10, 0x1f0]);
    state.gpr[RBP] = BigInt(top + 8 * rng.below(16));
    put(w, state.gpr[RBP] - 0x40n, rng.bytes(0x40));
  }
  if (/^(Loop|Je?cxz)/.test(mnemonic)) {
    state.gpr[RCX] = rng.pick([0n, 1n, 2n, 0x1_0000n, 0x1_0001n, 0x8000_0000n]);
  }
  const data = w.effectiveAddress;
  if (/^(Jmp|Call)_rm32/.test(name)) {
    const target = codeTarget(rng);
    if (data !== null) put(w, data, littleEndian(target, 4));
    else state.gpr[ins.op0Register - Register.EAX] = target;
    return;
  }
  if (data === null) return;
  const bytes = rng.bytes(size);
  if (/^L[de]s$/.test(mnemonic)) {
    bytes.set(littleEndian(selector(rng), 2), size - 2);
  }
  if (mnemonic === "Bound" && rng.chance(70)) {
    // Bounds around the index, at times exactly, at times just off it.
    const bits = size * 4;
    const register = ins.op0Register -
      (bits === 16 ? Register.AX : Register.EAX);
    const index = BigInt.asIntN(bits, state.gpr[register]);
    const near = (): bigint => BigInt(rng.pick([0, 0, 1, 2, 100, -1]));
    bytes.set(littleEndian(index - near(), size / 2));
    bytes.set(littleEndian(index + near(), size / 2), size / 2);
  }
  put(w, data, bytes);
}

/** Makes one case of `form`, or null when the dice gave no valid encoding. */
export function legacyDraft(form: Form, rng: Random): Draft | null {
  const w = workOf(form, rng);
  const { instruction: ins, state } = w;
  state.selectors = [USER_DATA, USER_CODE_32, USER_DATA, USER_DATA, 0, 0];
  if (/^(Da|Aa|Salc)/.test(form.name)) state.gpr[RAX] = rng.u64() & LOW_HALF;
  for (const bit of STATUS) if (rng.chance(50)) state.rflags |= bit;
  try {
    setOperands(w);
    const size = Math.max(2, MemorySizeExt.size(ins.memorySize));
    const inMemory = form.operands.some((_, i) =>
      ins.opKind(i) === OpKind.Memory
    );
    if (inMemory) memoryOperand(w, size);
    settle(w, size);
    encoder.encode(ins, BigInt(START));
    const code = encoder.takeBuffer();
    const decoder = new Decoder(32, code, DecoderOptions.None);
    decoder.ip = BigInt(START);
    const decoded = decoder.decode();
    const same = decoded.code === form.code;
    const disassembly = formatter.format(decoded);
    decoded.free();
    decoder.free();
    if (!same) return null;
    return {
      form,
      disassembly,
      code,
      before: state,
      memory: w.memory,
      amdOnly: false,
      hasMemory: inMemory,
      hostBits: new Map(),
    };
  } catch (error) {
    encoder.takeBuffer();
    if (error instanceof Error && error.message.includes("not handled")) {
      throw error;
    }
    return null;
  } finally {
    ins.free();
  }
}
