/**
 * What particular instructions want from a random case: quotients that fit,
 * jump targets that are code, stack images, counts, string pointers, x87
 * images. One table row per family; the rest takes plain random values.
 * Invariant: nothing here looks at what the CPU answers.
 */
import { OpKind, Register, RegisterExt } from "iced-x86";
import {
  CODE,
  DATA,
  defaultGpr,
  PAGE_SIZE,
  READ_ONLY,
  STACK,
} from "../../tests/silicon/environment.ts";
import type { Work } from "./cases.ts";
import { FLOAT_MNEMONIC, floatState, x87State } from "./floats.ts";
import { put } from "./put.ts";
import { littleEndian, type Random } from "./random.ts";
import { xgetbvState, XSAVE_AREA, xsaveState } from "./xsave_cases.ts";

const U64 = (1n << 64n) - 1n;
const RAX = 0, RCX = 1, RDX = 2, RBX = 3, RSP = 4, RBP = 5, RSI = 6, RDI = 7;

/** Mostly in the code page, but never in the instruction's own bytes. */
export function codeTarget(rng: Random): bigint {
  if (rng.chance(6)) return BigInt(DATA + rng.below(PAGE_SIZE));
  if (rng.chance(5)) return BigInt(0x40000000 + rng.below(PAGE_SIZE));
  const low = rng.chance(50);
  return BigInt(CODE + (low ? rng.below(0x7e0) : 0x820 + rng.below(0x7c0)));
}

/** A selector: null, user, kernel, empty, beyond the limit, in the LDT. */
export function selector(rng: Random): bigint {
  return BigInt(
    rng.pick([
      0,
      0,
      1,
      2,
      3,
      0x23,
      0x28,
      0x2b,
      0x2b,
      0x2b,
      0x33,
      0x33,
      0x30,
      0x20,
      0x10,
      0x13,
      0x18,
      0x1b,
      0x38,
      0x83,
      0xfff8,
      0x07,
      0x2c,
    ]),
  );
}

function stackPointer(w: Work): void {
  const { rng, state, pinned } = w;
  if (pinned.has(RSP)) return;
  const dice = rng.below(100);
  let rsp = STACK + 0x400 + 8 * rng.below(0x100);
  if (dice < 6) rsp += 1 + rng.below(7);
  else if (dice < 10) rsp = STACK + rng.below(9);
  else if (dice < 14) rsp = STACK + PAGE_SIZE - rng.below(9);
  state.gpr[RSP] = BigInt(rsp);
  if (dice === 14) state.gpr[RSP] = 0x0000_9000_0000_0000n;
}

function stackTop(w: Work, value: bigint, length: number): void {
  put(w, w.state.gpr[RSP], littleEndian(value, length));
}

/** A random image for POPF: no TF (it would trap in the harness, not here). */
function flagImage(rng: Random): bigint {
  const image = rng.chance(50) ? rng.u64() : BigInt(rng.below(0x1000));
  // AC stays clear: what runs next in the harness would be checked too.
  return image & ~0x100n & (rng.chance(80) ? ~0x40000n : ~0n);
}

function divide(w: Work): void {
  const { state, rng, form } = w;
  const width = Number(/(?:rm|r)(\d+)$/.exec(form.name)?.[1] ?? 8);
  if (rng.chance(25)) return;
  const signed = form.mnemonic === "Idiv";
  const half = BigInt(width);
  const mask = (1n << half) - 1n;
  // A quotient that fits: the high half is smaller than the divisor, or a
  // sign extension.
  if (width === 8) {
    state.gpr[RAX] = rng.u64() & ~0xffffn & U64 |
      BigInt(signed ? (rng.below(256) - 128) & 0xffff : rng.below(0x600));
    return;
  }
  const low = rng.interesting(width);
  const negative = signed && (low >> (half - 1n)) === 1n;
  const high = negative ? mask : signed ? 0n : BigInt(rng.below(8));
  state.gpr[RAX] = state.gpr[RAX] & ~mask & U64 | low;
  state.gpr[RDX] = state.gpr[RDX] & ~mask & U64 | high;
}

function strings(w: Work): void {
  const { state, rng, instruction: ins, form } = w;
  const size = { b: 1, w: 2, d: 4, q: 8 }[form.mnemonic.at(-1)!] ?? 1;
  const repeated = ins.hasRepePrefix || ins.hasRepnePrefix;
  const count = repeated ? rng.pick([0, 1, 2, 3, 5, 8, 13]) : 1;
  const down = (state.rflags & 0x400) !== 0;
  const span = Math.max(1, count) * size;
  const pointer = (writes: boolean): number => {
    const dice = rng.below(100);
    if (dice < 6) {
      return down
        ? DATA + rng.below(span)
        : DATA + PAGE_SIZE - 1 - rng.below(span);
    }
    if (dice < 9) return DATA + 0x4000;
    if (dice < 12 && !writes) return READ_ONLY + 0x100;
    return DATA + 0x400 + rng.below(0xa00);
  };
  const source = pointer(false);
  let target = pointer(true);
  if (rng.chance(15)) target = source + (rng.below(5) - 2) * size;
  const narrow = form.operands.some((_, i) =>
    ins.opKind(i) === OpKind.MemorySegESI ||
    ins.opKind(i) === OpKind.MemoryESEDI
  );
  const high = narrow ? rng.u64() & 0xffff_ffff_0000_0000n : 0n;
  state.gpr[RSI] = BigInt(source) | high;
  state.gpr[RDI] = BigInt(target) | high;
  if (repeated) state.gpr[RCX] = BigInt(count) | (narrow ? high : 0n);
  const bytes = rng.bytes(span);
  const lowest = (p: number): bigint => BigInt(down ? p - span + size : p);
  if (/^(Movs|Lods|Cmps)/.test(form.mnemonic)) put(w, lowest(source), bytes);
  if (/^Cmps/.test(form.mnemonic)) {
    const other = bytes.slice();
    if (rng.chance(70)) other[rng.below(span)] ^= 1 << rng.below(8);
    put(w, lowest(target), other);
  }
  if (/^Scas/.test(form.mnemonic)) {
    const accumulator = littleEndian(state.gpr[RAX], size);
    const same = ins.hasRepnePrefix ? 10 : 85;
    for (let i = 0; i < span; i += size) {
      bytes.set(rng.chance(same) ? accumulator : rng.bytes(size), i);
    }
    put(w, lowest(target), bytes);
  }
}

function shiftCount(w: Work): void {
  const { rng, state, instruction: ins, form } = w;
  const count = rng.pick([
    0,
    1,
    1,
    2,
    3,
    7,
    8,
    9,
    15,
    16,
    17,
    31,
    32,
    33,
    63,
    64,
    65,
    255,
    rng.below(256),
  ]);
  form.operands.forEach((_, i) => {
    const kind = ins.opKind(i);
    if (kind === OpKind.Immediate8 && !form.name.endsWith("_1")) {
      ins.immediate8 = count;
    }
    if (
      kind === OpKind.Register && ins.opRegister(i) === Register.CL && i > 0 &&
      !w.pinned.has(RCX)
    ) {
      state.gpr[RCX] = state.gpr[RCX] & ~0xffn & U64 | BigInt(count);
    }
  });
}

function bitOffset(w: Work): void {
  const { rng, state, instruction: ins } = w;
  if (w.effectiveAddress === null || ins.opKind(1) !== OpKind.Register) return;
  const full = RegisterExt.fullRegister(ins.opRegister(1)) - Register.RAX;
  const bits = 8 * RegisterExt.size(ins.opRegister(1));
  if (w.pinned.has(full)) return;
  const offset = rng.chance(8)
    ? rng.interesting(bits)
    : BigInt(rng.below(0x3000) - 0x1800);
  const mask = (1n << BigInt(bits)) - 1n;
  state.gpr[full] = state.gpr[full] & ~mask & U64 | offset & mask;
  // The bit string's touched word gets contents too.
  const signed = BigInt.asIntN(bits, offset);
  const word = BigInt(bits);
  const index = signed >= 0n ? signed / word : -((-signed + word - 1n) / word);
  put(w, w.effectiveAddress + index * word / 8n, rng.bytes(bits / 8));
}

function indirect(w: Work): void {
  const { instruction: ins, rng, state } = w;
  if (ins.opCount === 0 || ins.opKind(0) !== OpKind.Register) return;
  const full = RegisterExt.fullRegister(ins.op0Register) - Register.RAX;
  state.gpr[full] = rng.chance(4) ? 0x0000_9000_0000_0000n : codeTarget(rng);
}

function farFrame(w: Work): void {
  const { rng, form } = w;
  const width = /^(Retfq|Iretq)/.test(form.name)
    ? 8
    : /w/.test(form.name)
    ? 2
    : 4;
  const cs = rng.chance(75) ? 0x33n : selector(rng);
  const ss = rng.chance(85) ? 0x2bn : selector(rng);
  const frame = form.mnemonic.startsWith("Iret")
    ? [
      codeTarget(rng),
      cs,
      flagImage(rng),
      BigInt(STACK + rng.below(PAGE_SIZE)),
      ss,
    ]
    : [codeTarget(rng), cs];
  const bytes = new Uint8Array(frame.length * width);
  frame.forEach((v, i) => bytes.set(littleEndian(v, width), i * width));
  put(w, w.state.gpr[RSP], bytes);
}

function fpuState(w: Work): void {
  const { rng, state } = w;
  // Data instructions have their own: x87State.
  if (w.form.seededFile !== undefined || rng.chance(15)) return;
  const fpu = state.fpu;
  fpu.fcw = rng.chance(60) ? 0x37f : (rng.below(0x1000) & 0xf3f) | 0x40;
  // ES and B follow from the unmasked exceptions (SDM vol. 1 §8.1.3).
  const flags = rng.chance(60) ? 0 : rng.below(0x80);
  const pending = (flags & ~fpu.fcw & 0x3f) !== 0;
  fpu.fsw = flags | (rng.below(256) << 8 & 0x7f00) | (pending ? 0x8080 : 0);
  fpu.ftw = rng.below(256);
  if (rng.chance(50)) {
    fpu.st[rng.below(8)] = 0x3fff_8000_0000_0000_0000n + (rng.u64() >> 1n);
  }
}

function vectorState(w: Work): void {
  const { rng, state } = w;
  state.fpu.mxcsr = 0x1f80 ^ (rng.chance(50) ? rng.below(0x10000) & 0xe07f : 0);
  if (rng.chance(50)) {
    state.fpu.xmm[rng.below(16)] = (rng.u64() << 64n) | rng.u64();
  }
}

function frame(w: Work): void {
  const { rng, state, form } = w;
  if (form.mnemonic === "Leave") {
    stackPointer(w);
    state.gpr[RBP] = state.gpr[RSP];
    stackTop(w, rng.interesting(64), 8);
  } else {
    w.instruction.immediate16 = rng.pick([
      0,
      8,
      0x10,
      0x1f0,
      rng.below(0x10000),
    ]);
    w.instruction.immediate8_2nd = rng.pick([0, 0, 1, 2, 3, 5, 31, 32, 0x41]);
    state.gpr[RBP] = state.gpr[RSP] + BigInt(8 * rng.below(16));
    put(w, state.gpr[RBP] - 0x40n, rng.bytes(0x40));
  }
}

type Shaper = [RegExp, (w: Work) => void];

// Tried in order against the mnemonic; all that match apply.
const SHAPERS: readonly Shaper[] = [
  [FLOAT_MNEMONIC, floatState],
  [/^F/, x87State],
  [/^(Push|Pop|Call|Ret|Enter|Leave|Iret)/, stackPointer],
  [
    /^Pop$/,
    (w) =>
      stackTop(
        w,
        /[a-z]s$/.test(w.form.name) && !/r|m/.test(w.form.name.slice(4))
          ? selector(w.rng)
          : w.rng.interesting(64),
        8,
      ),
  ],
  [/^Popf/, (w) => stackTop(w, flagImage(w.rng), 8)],
  [
    /^Ret$/,
    (w) =>
      stackTop(
        w,
        w.rng.chance(4) ? 0x0000_9000_0000_0000n : codeTarget(w.rng),
        8,
      ),
  ],
  [/^(Retf|Iret)/, farFrame],
  [/^(Enter|Leave)$/, frame],
  [/^(Call|Jmp)$/, indirect],
  [/^I?div$/i, divide],
  [/^(Movs|Cmps|Stos|Lods|Scas|Ins|Outs)[bwdq]$/, (w) => {
    if (w.instruction.isStringInstruction) strings(w);
  }],
  [/^(Rol|Ror|Rcl|Rcr|Shl|Sal|Shr|Sar|Shld|Shrd)$/, shiftCount],
  [/^Bt[src]?$/, bitOffset],
  [/^(F|Wait|Emms|Ldmxcsr|Stmxcsr)/, fpuState],
  [/^(Fxsave|Fxrstor|Ldmxcsr|Stmxcsr)/, vectorState],
  [/^Loop|^Jr?e?cxz/, (w) => {
    w.state.gpr[RCX] = w.rng.pick([
      0n,
      1n,
      2n,
      0x1_0000_0000n,
      0x1_0000_0001n,
      w.rng.u64(),
    ]);
  }],
  [/^Xlatb$/, (w) => {
    const al = w.state.gpr[RAX] & 0xffn;
    const table = BigInt(DATA + w.rng.below(0xf80));
    w.state.gpr[RBX] = w.rng.chance(6) ? 0x4000_0000n : table;
    if (w.instruction.memoryBase === Register.EBX) {
      w.state.gpr[RBX] |= w.rng.u64() << 32n & U64;
    }
    put(w, table + al, w.rng.bytes(1));
  }],
  [/^Int$/, (w) => {
    if (w.instruction.immediate8 === 0x80) w.instruction.immediate8 = 0x81;
    if (w.rng.chance(20)) w.instruction.immediate8 = w.rng.pick([3, 4]);
  }],
  [/^(Clzero)/, (w) => {
    w.state.gpr[RAX] = BigInt(DATA + w.rng.below(0xfff));
    put(w, w.state.gpr[RAX] & ~63n, w.rng.bytes(64));
  }],
  [XSAVE_AREA, xsaveState],
  [/^Xgetbv$/, (w) => {
    if (w.form.vendor === "GenuineIntel") return xgetbvState(w);
    const index = w.rng.chance(70) ? 0n : 2n + BigInt(w.rng.below(1000));
    w.state.gpr[RCX] = w.rng.u64() << 32n & U64 | index;
  }],
  [/^Wr[fg]sbase$/, (w) => {
    const r = RegisterExt.fullRegister(w.instruction.op0Register) -
      Register.RAX;
    if (w.rng.chance(80)) w.state.gpr[r] &= 0x7fff_ffff_ffffn;
  }],
  [/^Rd[fg]sbase$/, (w) => {
    w.state.fsBase = w.rng.u64() & 0x7fff_ffff_ffffn;
    w.state.gsBase = w.rng.u64() & 0x7fff_ffff_ffffn;
  }],
  [/^(Lar|Lsl|Ver[rw])$/, (w) => {
    const i = w.instruction.opCount - 1;
    if (w.instruction.opKind(i) !== OpKind.Register) return;
    const r = RegisterExt.fullRegister(w.instruction.opRegister(i)) -
      Register.RAX;
    w.state.gpr[r] = w.state.gpr[r] & ~0xffffn & U64 | selector(w.rng);
  }],
  [/^Pcmpestr/, (w) => {
    // ECX is only written. Lengths: mostly short ones, negative ones too.
    if (!w.pinned.has(RCX)) w.state.gpr[RCX] = defaultGpr(RCX);
    for (const r of [RAX, RDX]) {
      if (!w.rng.chance(85)) continue;
      const length = BigInt(w.rng.below(40) - 20);
      w.state.gpr[r] = w.rng.chance(50)
        ? length & U64
        : w.rng.u64() & ~0xffff_ffffn & U64 | length & 0xffff_ffffn;
    }
  }],
  [/^Mov$/, (w) => {
    // Loads of a segment register: CS is #UD; a null in FS or GS leaves
    // the base to the model on AMD, so those get a real selector.
    const ins = w.instruction;
    if (
      ins.opKind(0) !== OpKind.Register ||
      !RegisterExt.isSegmentRegister(ins.op0Register)
    ) return;
    const s = ins.op0Register === Register.FS || ins.op0Register === Register.GS
      ? w.rng.pick([0x2bn, 0x23n, 0x10n, 0x83n])
      : selector(w.rng);
    if (ins.opKind(1) !== OpKind.Register) return;
    const r = RegisterExt.fullRegister(ins.op1Register) - Register.RAX;
    w.state.gpr[r] = w.state.gpr[r] & ~0xffffn & U64 | s;
  }],
];

/** Gives the registers, the immediates and implicit memory their values. */
export function settle(w: Work): void {
  for (const [pattern, shape] of SHAPERS) {
    if (pattern.test(w.form.mnemonic)) shape(w);
  }
}
