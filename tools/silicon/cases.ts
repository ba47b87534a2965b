/**
 * Random cases for one iced code: operands, an encoding, register values that
 * put memory operands where something happens, memory contents, flags.
 * What an instruction wants beyond that (divisors, jump targets, stack images)
 * is in shape.ts. Operand kinds: iced's op-code table.
 * Invariant: the bytes made here decode to the code they were made for.
 */
import {
  Decoder,
  DecoderOptions,
  Encoder,
  Formatter,
  FormatterSyntax,
  Instruction,
  InstructionInfoFactory,
  MemorySizeExt,
  OpCodeOperandKind as K,
  OpKind,
  Register,
  RegisterExt,
} from "iced-x86";
import {
  CODE,
  DATA,
  PAGE_SIZE,
  READ_ONLY,
  START,
} from "../../tests/silicon/environment.ts";
import {
  applySeed,
  initialState,
  type MemoryRun,
  type SiliconState,
} from "../../tests/silicon/vectors.ts";
import type { Random } from "./random.ts";
import type { Form } from "./rows.ts";
import { isFloat, seedFor, x87Seed } from "./floats.ts";
import { hostBitsOf } from "./host_values.ts";
import { contents } from "./contents.ts";
import { malform } from "./malform.ts";
import {
  BRANCH,
  FIXED_REGISTER,
  IMMEDIATE,
  REGISTER_BITS,
  REGISTER_OR_MEMORY,
} from "./operand_kinds.ts";
import { settle } from "./shape.ts";
import { AREA_BYTES, areaAddress, XSAVE_AREA } from "./xsave_cases.ts";

/** A case before it has been run. */
export interface Draft {
  readonly form: Form;
  readonly disassembly: string;
  readonly code: Uint8Array;
  readonly before: SiliconState;
  readonly memory: readonly MemoryRun[];
  readonly amdOnly: boolean;
  /** See SiliconCase. */
  readonly seed?: number;
  /** Whether an operand lies in memory. */
  readonly hasMemory: boolean;
  /** See host_values.ts. */
  readonly hostBits: ReadonlyMap<number, bigint>;
}

/** What shape.ts may look at and change. */
export interface Work {
  readonly form: Form;
  readonly rng: Random;
  readonly instruction: Instruction;
  readonly state: SiliconState;
  readonly memory: MemoryRun[];
  /** Registers whose value forms an address. */
  readonly pinned: Set<number>;
  /** Linear address of the explicit memory operand, if any. */
  effectiveAddress: bigint | null;
}

const U64 = (1n << 64n) - 1n;
const encoder = new Encoder(64);
const infoFactory = new InstructionInfoFactory();
const formatter = new Formatter(FormatterSyntax.Intel);
const NON_CANONICAL = 0x0000_9000_0000_0000n;

const GPR8 = [
  Register.AL,
  Register.CL,
  Register.DL,
  Register.BL,
  Register.SPL,
  Register.BPL,
  Register.SIL,
  Register.DIL,
  Register.R8L,
  Register.R9L,
  Register.R10L,
  Register.R15L,
  Register.AH,
  Register.CH,
  Register.DH,
  Register.BH,
];

function gprOfSize(rng: Random, bits: number): Register {
  if (bits === 8) return rng.pick(GPR8);
  const first = bits === 16
    ? Register.AX
    : bits === 32
    ? Register.EAX
    : Register.RAX;
  return first + rng.below(16);
}

/** Where a memory operand of `size` bytes goes, by dice. */
function operandAddress(rng: Random, size: number, align: number): bigint {
  const last = Math.max(0, PAGE_SIZE - size);
  const dice = rng.below(100);
  if (dice < 3) {
    return BigInt(DATA + PAGE_SIZE - 1 - rng.below(Math.max(1, size - 1)));
  }
  if (dice < 5) return BigInt(READ_ONLY + rng.below(last + 1));
  if (dice < 7) return BigInt(DATA + 0x5000 + rng.below(PAGE_SIZE));
  if (dice < 9) return NON_CANONICAL + BigInt(rng.below(PAGE_SIZE));
  const step = align > 1 && rng.chance(92) ? align : 1;
  return BigInt(DATA + rng.below(Math.floor(last / step) + 1) * step);
}

/** Gives the instruction's memory operand a form that reaches `target`. */
function memoryForm(w: Work, target: bigint): void {
  const { instruction: ins, rng, state, pinned } = w;
  const canonicalLow = target < 0x7fff_0000n;
  const narrow = canonicalLow && rng.chance(10);
  const bank = narrow ? Register.EAX : Register.RAX;
  const mask = narrow ? 0xffff_ffffn : U64;
  const garbage = narrow ? rng.u64() & ~0xffff_ffffn & U64 : 0n;
  let segmentBase = 0n;
  if (canonicalLow && rng.chance(8)) {
    segmentBase = BigInt(rng.pick([0x1000, 0x3, DATA - 0x100]));
    const fs = rng.chance(50);
    ins.segmentPrefix = fs ? Register.FS : Register.GS;
    if (fs) state.fsBase = segmentBase;
    else state.gsBase = segmentBase;
  }
  const offset = target - segmentBase;
  const form = rng.below(20);
  if (form < 2 && canonicalLow) {
    ins.memoryBase = narrow ? Register.EIP : Register.RIP;
    ins.memoryDisplSize = narrow ? 4 : 8;
    ins.memoryDisplacement = offset & mask;
    return;
  }
  if (form < 3 && canonicalLow && !narrow) {
    ins.memoryDisplSize = 8;
    ins.memoryDisplacement = BigInt.asUintN(
      64,
      BigInt.asIntN(32, offset),
    );
    return;
  }
  const base = rng.below(16);
  // Seeded cases are short; others have seen every form.
  const plain = w.form.seededFile !== undefined;
  const displacement = rng.chance(plain ? 75 : 35)
    ? 0n
    : rng.chance(plain ? 85 : 60)
    ? BigInt(rng.below(256) - 128)
    : BigInt(rng.below(0x7fffffff) - 0x40000000);
  let rest = offset - displacement;
  ins.memoryDisplacement = BigInt.asUintN(narrow ? 32 : 64, displacement);
  ins.memoryDisplSize = displacement === 0n
    ? 0
    : displacement >= -128n && displacement < 128n
    ? 1
    : narrow
    ? 4
    : 8;
  ins.memoryBase = bank + base;
  if (rng.chance(plain ? 10 : 40)) {
    const index = rng.below(16);
    if (index !== base && index !== 4) {
      const scale = rng.pick([1, 2, 4, 8]);
      const value = rng.chance(50)
        ? BigInt(rng.below(0x4000))
        : rng.interesting(narrow ? 32 : 64);
      ins.memoryIndex = bank + index;
      ins.memoryIndexScale = scale;
      state.gpr[index] = value & mask | (narrow ? rng.u64() & ~mask & U64 : 0n);
      pinned.add(index);
      rest -= value * BigInt(scale);
    }
  }
  state.gpr[base] = (rest & mask) | garbage;
  pinned.add(base);
}

/** Kinds of MMX and XMM operands: first register, and whether memory may be. */
const VECTOR = new Map<K, [Register, boolean]>([
  [K.mm_reg, [Register.MM0, false]],
  [K.mm_rm, [Register.MM0, false]],
  [K.mm_or_mem, [Register.MM0, true]],
  [K.xmm_reg, [Register.XMM0, false]],
  [K.xmm_rm, [Register.XMM0, false]],
  [K.xmm_or_mem, [Register.XMM0, true]],
]);

/** Gives a vector register, named by an operand, a value. */
function vectorValue(w: Work, register: Register): void {
  if (w.form.seededFile !== undefined) return;
  const { rng, state: { fpu } } = w;
  const half = (): bigint =>
    rng.chance(25) ? BigInt(rng.below(80)) : rng.interesting(64);
  if (register >= Register.MM0 && register <= Register.MM7) {
    // TOP is 0: ST(i) is MMX register i.
    fpu.st[register - Register.MM0] = half() | 0xffffn << 64n;
  } else fpu.xmm[register - Register.XMM0] = half() | half() << 64n;
}

function branchTarget(w: Work, bits: number, wide: boolean): bigint {
  const { rng } = w;
  const next = BigInt(START + 8);
  if (!wide) {
    // AMD truncates RIP to 16 bits: always into page 0 or near it.
    return BigInt((0x808 + rng.below(200) - 100) & 0xffff);
  }
  if (bits === 8) {
    return next + BigInt(rng.pick([1, -1]) * (12 + rng.below(90)));
  }
  if (rng.chance(12)) return next + BigInt((rng.u32() | 0) >> 1);
  return BigInt(
    CODE + (rng.chance(50) ? rng.below(0x7e0) : 0x820 + rng.below(0x700)),
  );
}

/** DS:rDI of MASKMOVQ and MASKMOVDQU, whose mask selects the bytes stored. */
function maskedAddress(w: Work, i: number): void {
  const { rng, state, instruction: ins } = w;
  const target = operandAddress(rng, 16, 1);
  const narrow = target < 0x7fff_0000n && rng.chance(15);
  ins.setOpKind(i, narrow ? OpKind.MemorySegEDI : OpKind.MemorySegRDI);
  let offset = target;
  if (target < 0x7fff_0000n && rng.chance(15)) {
    ins.segmentPrefix = Register.FS;
    state.fsBase = 0x1003n;
    offset -= state.fsBase;
  }
  state.gpr[7] = narrow ? offset | rng.u64() & ~0xffff_ffffn & U64 : offset;
  w.pinned.add(7);
}

function setOperands(w: Work): void {
  const { form, instruction: ins, rng } = w;
  const useMemory = rng.chance(50);
  form.operands.forEach((kind, i) => {
    const setRegister = (register: Register): void => {
      ins.setOpKind(i, OpKind.Register);
      ins.setOpRegister(i, register);
    };
    const bits = REGISTER_BITS.get(kind);
    const either = REGISTER_OR_MEMORY.get(kind);
    const fixed = FIXED_REGISTER.get(kind);
    const immediate = IMMEDIATE.get(kind);
    const branch = BRANCH.get(kind);
    const vector = VECTOR.get(kind);
    if (vector && !(vector[1] && useMemory)) {
      const many = vector[0] === Register.MM0 ? 8 : 16;
      const register = vector[0] + rng.below(many);
      setRegister(register);
      vectorValue(w, register);
    } else if (vector) ins.setOpKind(i, OpKind.Memory);
    else if (bits) setRegister(gprOfSize(rng, bits));
    else if (either && !useMemory) setRegister(gprOfSize(rng, either));
    else if (either || kind === K.mem) {
      ins.setOpKind(i, OpKind.Memory);
    } else if (kind === K.mem_offs) {
      ins.setOpKind(i, OpKind.Memory);
      ins.memoryDisplSize = 8;
    } else if (fixed !== undefined) setRegister(fixed);
    else if (kind === K.seg_reg) {
      setRegister(Register.ES + rng.below(6));
    } else if (kind === K.cr_reg) {
      setRegister(Register.CR0 + rng.pick([0, 2, 3, 4, 8]));
    } else if (kind === K.dr_reg) {
      setRegister(Register.DR0 + rng.pick([0, 3, 6, 7]));
    } else if (kind === K.st0) setRegister(Register.ST0);
    else if (kind === K.sti_opcode) setRegister(Register.ST0 + rng.below(8));
    else if (kind === K.imm8_const_1) {
      ins.setOpKind(i, OpKind.Immediate8);
      ins.immediate8 = 1;
    } else if (immediate) {
      const isSecond = i > 0 && ins.opKind(i - 1) === OpKind.Immediate16;
      ins.setOpKind(i, isSecond ? OpKind.Immediate8_2nd : immediate[0]);
      const value = rng.interesting(immediate[1]);
      if (isSecond) ins.immediate8_2nd = Number(value);
      else ins.setImmediateI64(i, BigInt.asIntN(immediate[1], value));
    } else if (branch) {
      ins.setOpKind(i, branch[0]);
      const wide = branch[0] !== OpKind.NearBranch16;
      ins.nearBranch64 = branchTarget(w, branch[1], wide);
    } else if (kind === K.seg_rSI) {
      ins.setOpKind(
        i,
        w.rng.chance(15) ? OpKind.MemorySegESI : OpKind.MemorySegRSI,
      );
    } else if (kind === K.es_rDI) {
      // Both pointers of one instruction have one address size.
      const narrow = i > 0 && form.operands[0] === K.seg_rSI
        ? ins.opKind(0) === OpKind.MemorySegESI
        : rng.chance(15);
      ins.setOpKind(i, narrow ? OpKind.MemoryESEDI : OpKind.MemoryESRDI);
      if (i === 0 && form.operands[1] === K.seg_rSI) return;
    } else if (kind === K.seg_rDI) {
      maskedAddress(w, i);
    } else if (kind === K.seg_rBX_al) {
      ins.setOpKind(i, OpKind.Memory);
      ins.memoryBase = rng.chance(15) ? Register.EBX : Register.RBX;
      ins.memoryIndex = Register.AL;
    } else throw new Error(`${form.name}: operand kind ${K[kind]} not handled`);
  });
  if (form.operands[0] === K.es_rDI && form.operands[1] === K.seg_rSI) {
    ins.setOpKind(
      1,
      ins.opKind(0) === OpKind.MemoryESEDI
        ? OpKind.MemorySegESI
        : OpKind.MemorySegRSI,
    );
  }
}

/** Registers (0…15) that the instruction reads or writes. */
function registersUsed(ins: Instruction): Set<number> {
  const info = infoFactory.info(ins);
  const used = new Set<number>();
  for (const entry of info.usedRegisters()) {
    const full = RegisterExt.fullRegister(entry.register);
    if (full >= Register.RAX && full <= Register.R15) {
      used.add(full - Register.RAX);
    }
    entry.free();
  }
  info.free();
  return used;
}

function decodeAs(code: Uint8Array, options: number): Instruction {
  const decoder = new Decoder(64, code, options);
  decoder.ip = BigInt(START);
  const instruction = decoder.decode();
  decoder.free();
  return instruction;
}

/** Seeded forms that write flags. */
const FLAG_WRITERS = /^(Ptest|Pcmp[ei]str)/;

const NEEDS_16 = /^(Cmpxchg16b|Fxsave|Fxrstor)/;

/** Work on a case of `form` before anything is chosen. */
export function workOf(form: Form, rng: Random): Work {
  return {
    form,
    rng,
    instruction: Instruction.create(form.code),
    state: initialState(),
    memory: [],
    pinned: new Set(),
    effectiveAddress: null,
  };
}

/** Makes one case of `form`, or null when the dice gave no valid encoding. */
export function draft(form: Form, rng: Random): Draft | null {
  const w = workOf(form, rng);
  const { instruction: ins, state } = w;
  const seeded = form.seededFile !== undefined;
  const seed = !seeded
    ? undefined
    : form.seededFile === "x87_data"
    ? x87Seed(rng)
    : isFloat(form)
    ? seedFor(rng, form)
    : rng.below(0x1000);
  if (seed !== undefined) w.memory.push(applySeed(state, seed));
  try {
    setOperands(w);
    if (!seeded || FLAG_WRITERS.test(form.mnemonic) && rng.chance(30)) {
      for (const bit of [1, 4, 0x10, 0x40, 0x80, 0x800]) {
        if (rng.chance(50)) state.rflags |= bit;
      }
    }
    const explicit = form.operands.findIndex((_, i) =>
      ins.opKind(i) === OpKind.Memory
    );
    const isArea = XSAVE_AREA.test(form.mnemonic);
    const size = isArea ? AREA_BYTES : MemorySizeExt.size(ins.memorySize);
    const implicitTable = form.operands.includes(K.seg_rBX_al);
    if (explicit >= 0 && !implicitTable) {
      const mustAlign = NEEDS_16.test(form.mnemonic);
      const often = seeded ? 85 : 60;
      const align = mustAlign ? 16 : rng.chance(often) ? size : 1;
      const middle = /^Bt/.test(form.mnemonic) && rng.chance(90);
      const target = middle
        ? BigInt(DATA + 0x600 + rng.below(0x400))
        : isArea
        ? areaAddress(rng)
        : operandAddress(rng, Math.max(1, size), align);
      w.effectiveAddress = target;
      if (form.operands[explicit] === K.mem_offs) {
        ins.memoryDisplacement = target;
      } else memoryForm(w, target);
      if (form.opCode.canUseLockPrefix && explicit === 0 && rng.chance(20)) {
        ins.hasLockPrefix = true;
      }
    }
    if (ins.isStringInstruction) {
      if (rng.chance(60)) {
        if (/^(Cmps|Scas)/.test(form.mnemonic) && rng.chance(50)) {
          ins.hasRepnePrefix = true;
        } else ins.hasRepePrefix = true;
      }
      if (rng.chance(40)) state.rflags |= 0x400;
    }
    for (const register of registersUsed(ins)) {
      if (w.pinned.has(register) || register === 4) continue;
      state.gpr[register] = rng.interesting(64);
    }
    settle(w);
    if (w.effectiveAddress !== null && !seeded) contents(w, size);
    if (rng.chance(3)) state.rflags |= 0x40000;
    encoder.encode(ins, BigInt(START));
    const code = encoder.takeBuffer();
    const made = finish(w, code, seed);
    return made && rng.chance(4) ? malform(made, ins, rng) : made;
  } catch (error) {
    encoder.takeBuffer();
    // Iced's encoder refuses impossible pairs (AH with REX, far branches).
    if (error instanceof Error && error.message.includes("not handled")) {
      throw error;
    }
    return null;
  } finally {
    ins.free();
  }
}

function finish(w: Work, code: Uint8Array, seed?: number): Draft | null {
  const intel = decodeAs(code, DecoderOptions.None);
  const amd = decodeAs(code, DecoderOptions.AMD);
  const amdOnly = intel.code !== w.form.code;
  const right = amd.code === w.form.code || !amdOnly;
  const disassembly = formatter.format(amdOnly ? amd : intel);
  intel.free();
  amd.free();
  if (!right) return null;
  return {
    form: w.form,
    // Seeded cases are there to be many: they have no room for it.
    disassembly: seed === undefined ? disassembly : "-",
    code,
    before: w.state,
    memory: w.memory,
    amdOnly,
    ...(seed === undefined ? {} : { seed }),
    hasMemory: w.effectiveAddress !== null,
    hostBits: hostBitsOf(w.form, w.instruction),
  };
}
