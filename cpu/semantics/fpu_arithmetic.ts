/**
 * x87 arithmetic and comparison (SDM vol. 1 §8.3.4–8.3.6): FADD to FDIVR in all
 * forms, FSQRT, FRNDINT, FSCALE, FXTRACT, FPREM; FCOM to FTST, FXAM.
 * Invariant: an unmasked exception that comes first leaves the stack untouched.
 */
import { Rflags } from "../arch/flags.ts";
import type { CpuContext } from "../context.ts";
import type { Insn } from "../isa/insn.ts";
import { type CallFunction, Outcome, type OutcomeCode } from "../isa/row.ts";
import { formatOf, stackOperand } from "./fpu_transfer.ts";
import { Code, INDEFINITE, x87 } from "./fpu_unit.ts";
import { readOperand } from "./operands.ts";
import {
  add,
  Class,
  classOf,
  compare,
  divide,
  F80,
  type FloatEnvironment,
  FloatFlag,
  type Format,
  fromInteger,
  infinity,
  invalid,
  isNan,
  multiply,
  pack,
  quieted,
  Relation,
  remainder,
  roundToIntegral,
  scale,
  squareRoot,
  subtract,
  unpack,
  x87Nan,
  zero,
} from "./softfloat/softfloat.ts";
import { bitLength } from "./softfloat/format.ts";

type Operation = (
  f: Format,
  env: FloatEnvironment,
  a: bigint,
  b: bigint,
) => bigint;

const reversed = (operation: Operation): Operation => (f, env, a, b) =>
  operation(f, env, b, a);

/** By mnemonic; the first operand is the destination. */
const OPERATIONS = {
  ADD: add,
  MUL: multiply,
  SUB: subtract,
  SUBR: reversed(subtract),
  DIV: divide,
  DIVR: reversed(divide),
} as const satisfies Record<string, Operation>;
/** FADD without its F. */
export type OperationName = keyof typeof OPERATIONS;

/** A memory operand as an 80-bit number: NaNs keep their kind, values are exact. */
interface Source {
  readonly bits: bigint;
  /** It was denormal, which its 80-bit form no longer shows. */
  readonly denormal: boolean;
}

function widened(from: Format, raw: bigint): Source {
  const u = unpack(from, raw);
  const by = BigInt(F80.precision - from.precision);
  switch (u.kind) {
    case Class.Zero:
      return { bits: zero(F80, u.sign), denormal: false };
    case Class.Infinity:
      return { bits: infinity(F80, u.sign), denormal: false };
    case Class.Quiet:
    case Class.Signaling: {
      const fraction = u.significand & (from.quietBit * 2n - 1n);
      const bits = infinity(F80, u.sign) | fraction << by;
      return { bits, denormal: false };
    }
    default: {
      const length = bitLength(u.significand);
      const significand = u.significand << BigInt(F80.precision - length);
      const bits = pack(F80, u.sign, u.exponent + length - 1, significand);
      return { bits, denormal: u.kind === Class.Denormal };
    }
  }
}

/** Kinds of memory operand: reads one. */
export type MemoryKind = "m32fp" | "m64fp" | "m16int" | "m32int";

function read(cpu: CpuContext, insn: Insn, kind: MemoryKind): Source {
  const bits = Number(kind.slice(1, 3)) as 16 | 32 | 64;
  const raw = readOperand(cpu, insn, 0, bits);
  return kind.endsWith("fp") ? widened(formatOf(bits), raw) : {
    bits: fromInteger(F80, x87.env, BigInt.asIntN(bits, raw)),
    denormal: false,
  };
}

/** DE of a denormal memory operand, which comes after all but IE and ZE. */
function noteDenormal({ denormal, bits }: Source, other: bigint): void {
  const { env } = x87;
  if (!denormal || env.flags & (FloatFlag.IE | FloatFlag.ZE)) return;
  if (classOf(F80, other) < Class.Quiet && bits !== 0n) env.raise(FloatFlag.DE);
}

/** FADD m32fp … FIDIVR m16int. */
export function withMemory(
  name: OperationName,
  kind: MemoryKind,
): CallFunction {
  const operation = OPERATIONS[name];
  return (cpu, insn) => {
    if (!x87.begin(cpu)) return Outcome.Fault;
    const source = read(cpu, insn, kind);
    if (cpu.access.outcome !== 0) return cpu.access.outcome as OutcomeCode;
    x87.pointers(cpu, insn);
    if (x87.empty(0)) {
      if (x87.underflow()) x87.set(0, INDEFINITE);
      return x87.finish();
    }
    const a = x87.st(0);
    const result = operation(F80, x87.env, a, source.bits);
    noteDenormal(source, a);
    if (x87.blocked) return x87.abandon();
    x87.set(0, result);
    return x87.finish();
  };
}

/** FADD ST(0), ST(i); FADD ST(i), ST(0); FADDP. */
export function withRegister(
  name: OperationName,
  toStack: boolean,
  pop: boolean,
): CallFunction {
  const operation = OPERATIONS[name];
  return (cpu, insn) => {
    if (!x87.begin(cpu)) return Outcome.Fault;
    x87.pointers(cpu, insn);
    const i = toStack ? insn.operands[0].reg : stackOperand(insn);
    const target = toStack ? i : 0, other = toStack ? 0 : i;
    let result = INDEFINITE;
    if (x87.empty(0) || x87.empty(i)) {
      if (!x87.underflow()) return x87.finish();
    } else {
      result = operation(F80, x87.env, x87.st(target), x87.st(other));
      if (x87.blocked) return x87.abandon();
    }
    x87.set(target, result);
    if (pop) x87.pop();
    return x87.finish();
  };
}

/** An operation on ST(0) alone. */
export function onTop(
  operation: (env: FloatEnvironment, a: bigint) => bigint,
): CallFunction {
  return (cpu, insn) => {
    if (!x87.begin(cpu)) return Outcome.Fault;
    x87.pointers(cpu, insn);
    if (x87.empty(0)) {
      if (x87.underflow()) x87.set(0, INDEFINITE);
      return x87.finish();
    }
    const result = operation(x87.env, x87.st(0));
    if (x87.blocked) return x87.abandon();
    x87.set(0, result);
    return x87.finish();
  };
}

/** FSQRT. */
export const fsqrt: CallFunction = onTop((env, a) => squareRoot(F80, env, a));
/** FRNDINT. */
export const frndint: CallFunction = onTop((env, a) => {
  if (classOf(F80, a) === Class.Denormal) env.raise(FloatFlag.DE);
  return roundToIntegral(F80, env, a);
});

/** Beyond any exponent: 2 to this scales everything out of range. */
const MOST_SCALE = 0x20000;

/** FSCALE (SDM 2A table 3-32): ST(0) × 2^trunc(ST(1)). */
export function fscale(cpu: CpuContext, insn: Insn): OutcomeCode {
  if (!x87.begin(cpu)) return Outcome.Fault;
  x87.pointers(cpu, insn);
  if (x87.empty(0) || x87.empty(1)) {
    if (x87.underflow()) x87.set(0, INDEFINITE);
    return x87.finish();
  }
  x87.env.precision = F80.precision;
  const result = scaled(x87.env, x87.st(0), x87.st(1));
  if (x87.blocked) return x87.abandon();
  x87.set(0, result);
  return x87.finish();
}

function scaled(env: FloatEnvironment, a: bigint, b: bigint): bigint {
  const ua = unpack(F80, a), ub = unpack(F80, b);
  if (ua.kind >= Class.Quiet || ub.kind >= Class.Quiet) {
    return withoutValue(env, a, b);
  }
  if (ub.kind === Class.Infinity) {
    const vanishing = ub.sign === 1;
    const wrong = vanishing
      ? ua.kind === Class.Infinity
      : ua.kind === Class.Zero;
    if (wrong) return invalid(F80, env);
    if (ua.kind === Class.Denormal) env.raise(FloatFlag.DE);
    return vanishing ? zero(F80, ua.sign) : infinity(F80, ua.sign);
  }
  if (ub.kind === Class.Denormal) env.raise(FloatFlag.DE);
  if (ub.kind === Class.Zero) return scale(F80, env, a, 0);
  const power = ub.exponent >= 0
    ? ub.significand << BigInt(Math.min(ub.exponent, 64))
    : ub.significand >> BigInt(Math.min(-ub.exponent, 64));
  const most = BigInt(MOST_SCALE);
  const n = Number(power > most ? most : power);
  return scale(F80, env, a, ub.sign ? -n : n);
}

/** The answer to operands of which one is a NaN or unsupported. */
export function withoutValue(
  env: FloatEnvironment,
  a: bigint,
  b: bigint,
): bigint {
  const ua = unpack(F80, a), ub = unpack(F80, b);
  const kinds = [ua.kind, ub.kind];
  if (kinds.includes(Class.Unsupported)) return invalid(F80, env);
  if (kinds.includes(Class.Signaling)) env.raise(FloatFlag.IE);
  return x87Nan(F80, a, b, ua, ub);
}

/** FXTRACT: exponent into ST(0), then the significand is pushed. */
export function fxtract(cpu: CpuContext, insn: Insn): OutcomeCode {
  if (!x87.begin(cpu)) return Outcome.Fault;
  x87.pointers(cpu, insn);
  const under = x87.empty(0);
  if (under || x87.full) {
    if (under ? x87.underflow() : x87.overflow()) {
      x87.set(0, INDEFINITE);
      x87.push(INDEFINITE);
    }
    return x87.finish();
  }
  const { env } = x87;
  const a = x87.st(0), u = unpack(F80, a);
  let exponent: bigint, significand: bigint;
  if (u.kind === Class.Unsupported) {
    exponent = significand = invalid(F80, env);
  } else if (isNan(u.kind)) {
    if (u.kind === Class.Signaling) env.raise(FloatFlag.IE);
    exponent = significand = quieted(F80, a);
  } else if (u.kind === Class.Infinity) {
    exponent = infinity(F80, 0);
    significand = a;
  } else if (u.kind === Class.Zero) {
    env.raise(FloatFlag.ZE);
    exponent = infinity(F80, 1);
    significand = a;
  } else {
    if (u.kind === Class.Denormal) env.raise(FloatFlag.DE);
    const length = bitLength(u.significand);
    exponent = fromInteger(F80, env, BigInt(u.exponent + length - 1));
    const shift = BigInt(F80.precision - length);
    significand = pack(F80, u.sign, 0, u.significand << shift);
  }
  if (x87.blocked) return x87.abandon();
  x87.set(0, exponent);
  x87.push(significand);
  return x87.finish();
}

/** FPREM, FPREM1: quotient bits 2, 1 and 0 go to C0, C3 and C1. */
export function fprem(nearest: boolean): CallFunction {
  const which = Code.C0 | Code.C1 | Code.C2 | Code.C3;
  return (cpu, insn) => {
    if (!x87.begin(cpu)) return Outcome.Fault;
    x87.pointers(cpu, insn);
    if (x87.empty(0) || x87.empty(1)) {
      if (x87.underflow()) x87.set(0, INDEFINITE);
      return x87.finish(0, Code.C1 | Code.C2);
    }
    const { bits, quotient, complete } = remainder(
      F80,
      x87.env,
      x87.st(0),
      x87.st(1),
      nearest,
    );
    if (x87.blocked) return x87.abandon();
    x87.set(0, bits);
    if (x87.env.flags & FloatFlag.IE) {
      return x87.finish(0, Code.C1 | Code.C2);
    }
    x87.env.roundedUp = false;
    const q = Number(quotient & 7n);
    const codes = (q & 4 ? Code.C0 : 0) | (q & 2 ? Code.C3 : 0) |
      (q & 1 ? Code.C1 : 0) | (complete ? 0 : Code.C2);
    return x87.finish(codes, which);
  };
}

// --- comparison

const RELATION_CODES = [Code.C0, Code.C3, 0, Code.C0 | Code.C2 | Code.C3];
const RELATION_FLAGS = [
  Rflags.CF,
  Rflags.ZF,
  0,
  Rflags.CF | Rflags.PF | Rflags.ZF,
];
const COMPARED = Code.C0 | Code.C1 | Code.C2 | Code.C3;

/** What a comparison is with. */
export type Compared = MemoryKind | "register" | "zero";

/** FCOM, FUCOM, FICOM, FTST and their popping forms. @param pops 0 to 2 */
export function fcom(
  with_: Compared,
  pops: number,
  quiet: boolean,
): CallFunction {
  return (cpu, insn) => {
    if (!x87.begin(cpu)) return Outcome.Fault;
    const { env } = x87;
    const inMemory = with_ !== "register" && with_ !== "zero";
    let source: Source = { bits: 0n, denormal: false };
    if (inMemory) {
      source = read(cpu, insn, with_);
      if (cpu.access.outcome !== 0) return cpu.access.outcome as OutcomeCode;
    }
    x87.pointers(cpu, insn);
    // FCOMPP and FUCOMPP name no register: ST(1).
    const i = with_ === "register" && insn.operands.length > 0
      ? stackOperand(insn)
      : 1;
    let relation: number = Relation.Unordered;
    if (x87.empty(0) || (with_ === "register" && x87.empty(i))) {
      if (!x87.underflow()) {
        return x87.finish(RELATION_CODES[relation], COMPARED);
      }
    } else {
      const a = x87.st(0);
      const b = with_ === "register" ? x87.st(i) : source.bits;
      relation = compare(F80, env, a, b, quiet);
      if (relation !== Relation.Unordered) noteDenormal(source, a);
      if (x87.blocked) return x87.abandon(RELATION_CODES[relation], COMPARED);
    }
    for (let n = 0; n < pops; n++) x87.pop();
    return x87.finish(RELATION_CODES[relation], COMPARED);
  };
}

/**
 * FCOMI, FUCOMI and their popping forms. C1 changes with a stack fault only, as
 * on processors of both vendors; SDM 2A FCOMI clears it.
 */
export function fcomi(pop: boolean, quiet: boolean): CallFunction {
  const written = Rflags.CF | Rflags.PF | Rflags.ZF | Rflags.OF | Rflags.SF |
    Rflags.AF;
  return (cpu, insn) => {
    if (!x87.begin(cpu)) return Outcome.Fault;
    x87.pointers(cpu, insn);
    const i = stackOperand(insn);
    let relation: number = Relation.Unordered;
    let stays = false;
    if (x87.empty(0) || x87.empty(i)) stays = !x87.underflow();
    else relation = compare(F80, x87.env, x87.st(0), x87.st(i), quiet);
    const { v } = cpu;
    v.rflags = (v.rflags & ~written | RELATION_FLAGS[relation]) >>> 0;
    if (x87.blocked) return x87.abandon(0, 0);
    if (pop && !stays) x87.pop();
    return x87.finish(0, 0);
  };
}

/** Codes of FXAM by class (SDM 2A table 3-34), in the order of `Class`. */
const EXAMINED = [
  Code.C3,
  Code.C3 | Code.C2,
  Code.C2,
  Code.C2 | Code.C0,
  Code.C0,
  Code.C0,
  0,
];

/** FXAM: C1 is the sign, also of an empty register. */
export function fxam(cpu: CpuContext, insn: Insn): OutcomeCode {
  if (!x87.begin(cpu)) return Outcome.Fault;
  x87.pointers(cpu, insn);
  const bits = x87.st(0);
  const codes = x87.empty(0) ? Code.C3 | Code.C0 : EXAMINED[classOf(F80, bits)];
  return x87.finish(codes | (bits >> 79n ? Code.C1 : 0), COMPARED);
}
