/**
 * Random encoded instances of one iced-x86 code, with the registers to be set
 * up so that memory operands point into data, as bytes for a program's slot.
 * Invariant: the same random stream gives the same bytes.
 */
import {
  type Code,
  Encoder,
  type Instruction,
  MemorySizeExt,
  OpKind,
  Register as R,
} from "iced-x86";
import type { RandomStream } from "../../core/mod.ts";
import {
  buildInstance,
  takesMemory,
  type Variant,
} from "../../host/asm/instances.ts";
import type { Bits } from "../../host/asm/types.ts";

/** What a slot has to load before the instruction. */
export interface Prepared {
  readonly bytes: Uint8Array;
  /** Number of the register that memory is addressed by, or −1. */
  readonly base: number;
  /** Number of the index register, to be made small, or −1. */
  readonly index: number;
  /** What base and index are to be multiples of: 1 unless the form wants more. */
  readonly align: number;
}

const FAMILIES: readonly (readonly [first: R, count: number])[] = [
  [R.AL, 4],
  [R.AX, 8],
  [R.EAX, 8],
  [R.RAX, 8],
];
const HIGH_FAMILIES: readonly (readonly [low: R, high: R])[] = [
  [R.AL, R.R8L],
  [R.AX, R.R8W],
  [R.EAX, R.R8D],
  [R.RAX, R.R8],
];

/** MMX, XMM and x87 registers. */
const VECTOR_FAMILIES: readonly (readonly [first: R, count: number])[] = [
  [R.MM0, 8],
  [R.XMM0, 16],
  [R.ST0, 8],
];

/** The register of the same width and another number, below `count`. */
function another(register: R, number: number, count: number): R {
  for (const [first, most] of VECTOR_FAMILIES) {
    if (register < first || register >= first + most) continue;
    return first + number % Math.min(most, count);
  }
  for (const [i, [low, high]] of HIGH_FAMILIES.entries()) {
    const small = FAMILIES[i][1];
    const isLow = register >= low && register < low + (i === 0 ? 4 : 8);
    const isHigh = register >= high && register < high + 8;
    if (!isLow && !isHigh) continue;
    if (number >= 8) return high + number - 8;
    return low + number % small;
  }
  return register;
}

const BASES_16: readonly (readonly [R, R])[] = [
  [R.BX, R.SI],
  [R.BX, R.DI],
  [R.SI, R.None],
  [R.DI, R.None],
  [R.BX, R.None],
];

/** Numbers that may hold addresses: not RSP, nor RAX and RCX, which are operands. */
const BASES = [3, 5, 6, 7, 2, 8, 9, 10, 11, 12, 13, 14, 15];

function randomize(
  i: Instruction,
  bits: Bits,
  random: RandomStream,
  { keep, stackPointer, align }: {
    keep: boolean;
    stackPointer: boolean;
    align: number;
  },
): { base: number; index: number } {
  let base = -1, index = -1;
  const high = bits === 64;
  for (let k = 0; k < i.opCount; k++) {
    const kind = i.opKind(k);
    if (kind === OpKind.Register && !keep) {
      const old = i.opRegister(k);
      let number = random.below(high ? 16 : 8);
      // Seldom the stack pointer.
      if (number === 4 && (!stackPointer || random.below(8) !== 0)) number = 1;
      i.setOpRegister(k, another(old, number, high ? 16 : 8));
    }
    if (kind === OpKind.Memory && i.memoryBase !== R.AL) {
      if (i.memoryBase === R.None && i.memoryIndex === R.None) continue;
      if (i.memoryBase === R.RIP || i.memoryBase === R.EIP) continue;
      if (i.memoryIndex === R.AL) continue;
      const wide = i.memoryBase >= R.RAX && i.memoryBase <= R.R15 ||
        i.memoryIndex >= R.RAX && i.memoryIndex <= R.R15;
      const narrow = i.memoryBase >= R.AX && i.memoryBase <= R.R15W;
      const displacement = -align &
        (random.below(4) === 0 ? random.below(300) - 150 : random.below(32));
      i.memoryDisplacement = BigInt.asIntN(64, BigInt(displacement));
      i.memoryDisplSize = Math.abs(displacement) < 100
        ? 1
        : narrow
        ? 2
        : wide
        ? 8
        : 4;
      if (narrow) {
        const pair = BASES_16[random.below(BASES_16.length)];
        i.memoryBase = pair[0];
        i.memoryIndex = pair[1];
        base = pair[0] - R.AX;
        index = pair[1] === R.None ? -1 : pair[1] - R.AX;
        i.memoryIndexScale = 1;
        continue;
      }
      base = BASES[random.below(high ? BASES.length : 5)];
      i.memoryBase = base >= 8
        ? (wide ? R.R8 : R.R8D) + base - 8
        : (wide ? R.RAX : R.EAX) + base;
      if (random.below(3) === 0) {
        do index = BASES[random.below(high ? BASES.length : 5)]; while (
          index === base
        );
        i.memoryIndex = index >= 8
          ? (wide ? R.R8 : R.R8D) + index - 8
          : (wide ? R.RAX : R.EAX) + index;
        i.memoryIndexScale = 1 << random.below(4);
      } else {
        i.memoryIndex = R.None;
        i.memoryIndexScale = 1;
      }
    }
  }
  return { base, index };
}

/** Explicit registers of these are special: leave them. */
const SPECIAL =
  /_(cr|dr|tr|Sreg)|^Mov_(cr|dr|Sreg)|^(In|Out)_|_(AL|CL|AX|DX|EAX|RAX|1)(_|$)|_Sreg/;

function randomizeImmediate(i: Instruction, random: RandomStream): void {
  for (let k = 0; k < i.opCount; k++) {
    const value = random.below(2 ** 32);
    switch (i.opKind(k)) {
      case OpKind.Immediate8:
        if (i.immediate8 !== 1) i.immediate8 = value & 0xff;
        break;
      case OpKind.Immediate16:
        i.immediate16 = value & 0xffff;
        break;
      case OpKind.Immediate32:
        i.immediate32 = value;
        break;
      case OpKind.Immediate8to16:
        i.immediate8to16 = (value << 24) >> 24;
        break;
      case OpKind.Immediate8to32:
        i.immediate8to32 = (value << 24) >> 24;
        break;
      case OpKind.Immediate8to64:
        i.immediate8to64 = BigInt((value << 24) >> 24);
        break;
      case OpKind.Immediate32to64:
        i.immediate32to64 = BigInt(value | 0);
        break;
      case OpKind.Immediate64:
        i.immediate64 = BigInt(value) << 32n |
          BigInt(random.below(2 ** 32));
        break;
    }
  }
}

/** Where an instance lies and what its memory operand is aimed at. */
export interface Aim {
  readonly data: number;
  readonly ip: number;
  /** It may change the stack pointer. */
  readonly stackPointer: boolean;
}

const encoders = new Map<Bits, Encoder>();

function encode(i: Instruction, bits: Bits, ip: bigint): Uint8Array {
  let encoder = encoders.get(bits);
  if (encoder === undefined) encoders.set(bits, encoder = new Encoder(bits));
  encoder.encode(i, ip);
  return encoder.takeBuffer();
}

/** Forms whose 16 bytes may lie anywhere. */
const UNALIGNED = /^(Movup|Movdqu|Lddqu|Pcmp[ei]str)/;

/**
 * What the form's memory operand has to be aligned to, or 1; one time in four
 * 1 anyway, for #GP.
 */
function alignment(i: Instruction, codeName: string, random: RandomStream) {
  const size = MemorySizeExt.size(i.memorySize);
  const area = /^Fx(save|rstor)/.test(codeName);
  const wanted = /^Xsave|^Xrstor/.test(codeName)
    ? 64
    : area || size === 16 && !UNALIGNED.test(codeName)
    ? 16
    : 1;
  return wanted > 1 && random.below(4) === 0 ? 1 : wanted;
}

/**
 * A random instance at `ip`; branches go to `ip` + their length + `ahead`.
 * Undefined when chance chose operands that have no encoding.
 */
export function randomInstance(
  code: Code,
  codeName: string,
  bits: Bits,
  random: RandomStream,
  { data: anywhere, ip, stackPointer }: Aim,
): Prepared | undefined {
  const memory = takesMemory(code) && random.below(2) === 0;
  const choice = random.below(10);
  const variant: Variant = {
    name: "random",
    memory,
    high: bits === 64 && random.below(2) === 0,
    address: choice === 0
      ? "absolute"
      : choice === 1
      ? "segment"
      : choice === 2
      ? "other-size"
      : choice === 3 && bits === 64
      ? "rip"
      : undefined,
  };
  const make = (target: number): Instruction =>
    buildInstance(code, bits, variant, BigInt(target));
  const i = make(ip);
  const align = alignment(i, codeName, random);
  const data = anywhere & -align;
  try {
    const found = randomize(i, bits, random, {
      keep: SPECIAL.test(codeName),
      stackPointer,
      align,
    });
    randomizeImmediate(i, random);
    for (let k = 0; k < i.opCount; k++) {
      if (i.opKind(k) !== OpKind.Memory) continue;
      if (i.memoryBase === R.RIP || i.memoryBase === R.EIP) {
        i.memoryDisplacement = BigInt(data);
      } else if (i.memoryBase === R.None && i.memoryIndex === R.None) {
        i.memoryDisplacement = BigInt(
          i.memoryDisplSize === 2 ? data & 0xffff : data,
        );
      }
    }
    if (random.below(12) === 0) i.hasLockPrefix = true;
    if (/^(Movs|Cmps|Stos|Lods|Scas|Ins|Outs)[bwdq]_/.test(codeName)) {
      const rep = random.below(3);
      if (rep === 1) i.hasRepePrefix = true;
      if (rep === 2) i.hasRepnePrefix = true;
    }
    let bytes = encode(i, bits, BigInt(ip));
    const branch = branchKind(i);
    if (branch !== undefined) {
      const to = BigInt(ip + bytes.length + 3);
      if (branch === OpKind.NearBranch64) i.nearBranch64 = to;
      else if (branch === OpKind.NearBranch32) i.nearBranch32 = Number(to);
      else i.nearBranch16 = Number(to & 0xffffn);
      bytes = encode(i, bits, BigInt(ip));
    }
    return { bytes, ...found, align };
  } catch {
    // iced-x86 refuses e.g. SPL as an index or AH with REX.
    return undefined;
  } finally {
    i.free();
  }
}

function branchKind(i: Instruction): OpKind | undefined {
  for (let k = 0; k < i.opCount; k++) {
    const kind = i.opKind(k);
    if (
      kind === OpKind.NearBranch16 || kind === OpKind.NearBranch32 ||
      kind === OpKind.NearBranch64
    ) return kind;
  }
  return undefined;
}
