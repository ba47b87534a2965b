/**
 * x87 data transfer (SDM vol. 1 §8.3.3): loads, stores, constants, exchanges,
 * conditional moves, packed decimals.
 * Invariant: a memory operand that faults leaves the unit untouched; an
 * unmasked exception leaves memory and stack untouched.
 */
import { Rflags } from "../arch/flags.ts";
import type { CpuContext } from "../context.ts";
import type { Insn } from "../isa/insn.ts";
import { type CallFunction, Outcome, type OutcomeCode } from "../isa/row.ts";
import { Access } from "../port.ts";
import { misaligned } from "./fpu_image.ts";
import { INDEFINITE, x87 } from "./fpu_unit.ts";
import {
  effectiveOffset,
  memoryOf,
  readOperand,
  writeOperand,
} from "./operands.ts";
import {
  absolute,
  convert,
  F32,
  F64,
  F80,
  FloatEnvironment,
  FloatFlag,
  type Format,
  fromInteger,
  indefinite,
  negated,
  Rounding,
  roundPack,
  toInteger,
  x87Nan,
  zero,
} from "./softfloat/softfloat.ts";

const MASK64 = (1n << 64n) - 1n;
const BYTES = 10;

/** The format of a memory operand of so many bits. */
export function formatOf(bits: number): Format {
  return bits === 32 ? F32 : F64;
}

/** Number of the ST(i) operand: the last one. */
export function stackOperand(insn: Insn): number {
  return insn.operands.at(-1)!.reg;
}

/** Linear address of an 80-bit operand, all of it accessible; or undefined. */
function ten(cpu: CpuContext, insn: Insn, write: boolean): bigint | undefined {
  const { access } = cpu;
  access.outcome = 0;
  const memory = memoryOf(insn);
  const offset = effectiveOffset(cpu, insn, memory);
  const linear = access.linear(memory.segment, offset, BYTES, write);
  if (linear === undefined || misaligned(cpu, linear, 8)) return undefined;
  const kind = write ? Access.Write : Access.Read;
  return access.probe(linear, BYTES, kind) === 0 ? linear : undefined;
}

function readTen(cpu: CpuContext, insn: Insn): bigint {
  const linear = ten(cpu, insn, false);
  if (linear === undefined) return 0n;
  const low = cpu.access.read(linear, 8);
  return cpu.access.read((linear + 8n) & MASK64, 2) << 64n | low;
}

function writeTen(cpu: CpuContext, insn: Insn, bits: bigint): OutcomeCode {
  const linear = ten(cpu, insn, true);
  if (linear === undefined) return cpu.access.outcome as OutcomeCode;
  cpu.access.write(linear, 8, bits & MASK64);
  cpu.access.write((linear + 8n) & MASK64, 2, bits >> 64n);
  return Outcome.Done;
}

/** Pushes what `value` answers, unless the stack is full. */
function pushed(value: () => bigint): OutcomeCode {
  if (x87.full) {
    if (x87.overflow()) x87.push(INDEFINITE);
    return x87.finish();
  }
  const bits = value();
  if (x87.blocked) return x87.abandon();
  x87.push(bits);
  return x87.finish();
}

/** A load: reads memory, then pushes it as a value. */
function load(
  read: (cpu: CpuContext, insn: Insn) => bigint,
  value: (raw: bigint) => bigint,
): CallFunction {
  return (cpu, insn) => {
    if (!x87.begin(cpu)) return Outcome.Fault;
    const raw = read(cpu, insn);
    if (cpu.access.outcome !== 0) return cpu.access.outcome as OutcomeCode;
    x87.pointers(cpu, insn);
    return pushed(() => value(raw));
  };
}

/** FLD m32fp, m64fp. */
export function fldReal(bits: 32 | 64): CallFunction {
  const format = formatOf(bits);
  return load(
    (cpu, insn) => readOperand(cpu, insn, 0, bits),
    (raw) => convert(format, F80, x87.env, raw),
  );
}
/** FLD m80fp: the encoding as it is. */
export const fldExtended: CallFunction = load(readTen, (raw) => raw);
/** FILD. */
export function fild(bits: 16 | 32 | 64): CallFunction {
  return load(
    (cpu, insn) => readOperand(cpu, insn, 0, bits),
    (raw) => fromInteger(F80, x87.env, BigInt.asIntN(bits, raw)),
  );
}

/** Bytes of a packed decimal's digits, two a byte. */
const DECIMAL_BYTES = 9n;
const DECIMAL_LIMIT = 10n ** 18n;
/** Packed BCD indefinite (SDM vol. 1 table 4-4). */
const DECIMAL_INDEFINITE = 0xffff_c000_0000_0000_0000n;

/** FBLD. Digits above 9 count as their value: the manual leaves them open. */
export const fbld: CallFunction = load(readTen, (raw) => {
  let value = 0n;
  for (let i = DECIMAL_BYTES * 2n - 1n; i >= 0n; i--) {
    value = value * 10n + (raw >> i * 4n & 15n);
  }
  const bits = fromInteger(F80, x87.env, value);
  return raw >> 79n ? negated(F80, bits) : bits;
});

/** FLD ST(i). */
export function fldRegister(cpu: CpuContext, insn: Insn): OutcomeCode {
  if (!x87.begin(cpu)) return Outcome.Fault;
  x87.pointers(cpu, insn);
  const i = stackOperand(insn);
  if (!x87.full && x87.empty(i)) {
    if (x87.underflow()) x87.push(INDEFINITE);
    return x87.finish();
  }
  return pushed(() => x87.st(i));
}

/**
 * Constants to 128 bits and their exponents: rounded by RC when pushed, and
 * never told as inexact (SDM 2A FLD1).
 */
const CONSTANTS = {
  FLD1: [1n << 127n, 0],
  FLDL2T: [0xd49a_784b_cd1b_8afe_492b_f6ff_4daf_db4dn, 1],
  FLDL2E: [0xb8aa_3b29_5c17_f0bb_be87_fed0_691d_3e89n, 0],
  FLDPI: [0xc90f_daa2_2168_c234_c4c6_628b_80dc_1cd1n, 1],
  FLDLG2: [0x9a20_9a84_fbcf_f798_8f89_59ac_0b7c_9178n, -2],
  FLDLN2: [0xb172_17f7_d1cf_79ab_c9e3_b398_03f2_f6afn, -1],
  FLDZ: [0n, 0],
} as const satisfies Record<string, readonly [bigint, number]>;

const quiet = new FloatEnvironment(x87Nan);

/** FLD1 … FLDZ. */
export function constant(name: keyof typeof CONSTANTS): CallFunction {
  const [significand, exponent] = CONSTANTS[name];
  return (cpu, insn) => {
    if (!x87.begin(cpu)) return Outcome.Fault;
    x87.pointers(cpu, insn);
    return pushed(() => {
      if (significand === 0n) return zero(F80, 0);
      quiet.rounding = x87.env.rounding;
      return roundPack(F80, quiet, 0, exponent - 127, significand);
    });
  };
}

/** A store: what goes to memory, and whether the stack is popped. */
function store(
  pop: boolean,
  empty: bigint,
  value: (bits: bigint) => bigint,
  write: (cpu: CpuContext, insn: Insn, bits: bigint) => OutcomeCode,
): CallFunction {
  return (cpu, insn) => {
    if (!x87.begin(cpu)) return Outcome.Fault;
    let bits = empty;
    if (!x87.empty(0)) {
      bits = value(x87.st(0));
      if (x87.notStored) {
        x87.pointers(cpu, insn);
        return x87.abandon();
      }
    } else if (!x87.underflow()) {
      x87.pointers(cpu, insn);
      return x87.finish();
    }
    const outcome = write(cpu, insn, bits);
    if (outcome !== Outcome.Done) return outcome;
    x87.pointers(cpu, insn);
    if (pop) x87.pop();
    return x87.finish();
  };
}

/** FST, FSTP m32fp, m64fp. */
export function fstReal(bits: 32 | 64, pop: boolean): CallFunction {
  const format = formatOf(bits);
  return store(
    pop,
    indefinite(format),
    (value) => convert(F80, format, x87.env, value, false),
    (cpu, insn, value) => writeOperand(cpu, insn, 0, value, bits),
  );
}
/** FSTP m80fp. */
export const fstpExtended: CallFunction = store(
  true,
  INDEFINITE,
  (bits) => bits,
  writeTen,
);
/** FIST, FISTP; FISTTP truncates. */
export function fist(
  bits: 16 | 32 | 64,
  pop: boolean,
  truncate = false,
): CallFunction {
  return store(
    pop,
    1n << BigInt(bits - 1),
    (value) => {
      const { env } = x87;
      const rounding = truncate ? Rounding.Zero : env.rounding;
      return toInteger(F80, env, value, bits, rounding);
    },
    (cpu, insn, value) => writeOperand(cpu, insn, 0, value, bits),
  );
}
/** FBSTP. */
export const fbstp: CallFunction = store(
  true,
  DECIMAL_INDEFINITE,
  (bits) => {
    const { env } = x87;
    const value = BigInt.asIntN(64, toInteger(F80, env, bits, 64));
    let rest = value < 0n ? -value : value;
    if (env.flags & FloatFlag.IE || rest >= DECIMAL_LIMIT) {
      env.begin();
      env.raise(FloatFlag.IE);
      return DECIMAL_INDEFINITE;
    }
    let out = bits >> 79n << 79n;
    for (let at = 0n; rest > 0n; at += 4n, rest /= 10n) {
      out |= rest % 10n << at;
    }
    return out;
  },
  writeTen,
);

/** FST, FSTP ST(i). */
export function fstRegister(pop: boolean): CallFunction {
  return (cpu, insn) => {
    if (!x87.begin(cpu)) return Outcome.Fault;
    x87.pointers(cpu, insn);
    if (x87.empty(0) && !x87.underflow()) return x87.finish();
    x87.set(stackOperand(insn), x87.empty(0) ? INDEFINITE : x87.st(0));
    if (pop) x87.pop();
    return x87.finish();
  };
}

/** FSTPNCE (not in the SDM): FSTP that does not look whether ST(0) is empty. */
export function fstpnce(cpu: CpuContext, insn: Insn): OutcomeCode {
  if (!x87.begin(cpu)) return Outcome.Fault;
  x87.pointers(cpu, insn);
  const i = stackOperand(insn);
  if (x87.empty(0)) x87.free(i);
  else x87.set(i, x87.st(0));
  x87.pop();
  return x87.finish();
}

/** FXCH: empty registers are filled with the indefinite, if that is masked. */
export function fxch(cpu: CpuContext, insn: Insn): OutcomeCode {
  if (!x87.begin(cpu)) return Outcome.Fault;
  x87.pointers(cpu, insn);
  const i = stackOperand(insn);
  const [a, b] = [0, i].map((r) => x87.empty(r) ? undefined : x87.st(r));
  if ((a === undefined || b === undefined) && !x87.underflow()) {
    return x87.finish();
  }
  x87.set(0, b ?? INDEFINITE);
  x87.set(i, a ?? INDEFINITE);
  return x87.finish();
}

const { CF, PF, ZF } = Rflags;

/** FCMOVcc: moves if any of `flags` is set, or if none of them is. */
export function fcmov(flags: number, whenSet: boolean): CallFunction {
  return (cpu, insn) => {
    if (!x87.begin(cpu)) return Outcome.Fault;
    x87.pointers(cpu, insn);
    const i = stackOperand(insn);
    if (x87.empty(0) || x87.empty(i)) {
      if (x87.underflow()) x87.set(0, INDEFINITE);
    } else if (((cpu.v.rflags & flags) !== 0) === whenSet) {
      x87.set(0, x87.st(i));
    }
    return x87.finish(0, 0);
  };
}
/** Flags of FCMOVB, FCMOVE, FCMOVBE and FCMOVU. */
export const MOVE_FLAGS = { B: CF, E: ZF, BE: CF | ZF, U: PF } as const;

/** FCHS, FABS: of any encoding, without exceptions. */
export function sign(change: "FCHS" | "FABS"): CallFunction {
  const value = change === "FCHS" ? negated : absolute;
  return (cpu, insn) => {
    if (!x87.begin(cpu)) return Outcome.Fault;
    x87.pointers(cpu, insn);
    if (!x87.empty(0)) x87.set(0, value(F80, x87.st(0)));
    else if (x87.underflow()) x87.set(0, INDEFINITE);
    return x87.finish();
  };
}

/** FFREEP (not in the SDM; AMD's and Intel's processors have it): frees, pops. */
export function ffreep(cpu: CpuContext, insn: Insn): OutcomeCode {
  if (!x87.begin(cpu)) return Outcome.Fault;
  x87.pointers(cpu, insn);
  x87.free(stackOperand(insn));
  x87.pop();
  return x87.finish();
}
