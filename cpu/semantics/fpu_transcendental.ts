/**
 * x87 transcendental instructions (SDM vol. 1 §8.3.7, vol. 2A): FSIN, FCOS,
 * FSINCOS, FPTAN, FPATAN, F2XM1, FYL2X, FYL2XP1. Results are correctly rounded
 * (processors differ from each other in the last bit); arguments of FSIN and
 * its like are reduced by a π of 66 bits, as processors do.
 * Invariant: FCW.PC has no say; an inexact answer raises PE.
 */
import { type CallFunction, Outcome } from "../isa/row.ts";
import { withoutValue } from "./fpu_arithmetic.ts";
import { Code, INDEFINITE, x87 } from "./fpu_unit.ts";
import {
  angle,
  exponentialMinusOne,
  logarithm,
  logarithmOfOnePlus,
  multiplied,
  quarterTurns,
  quotient,
  type Real,
  sineCosine,
} from "./softfloat/functions.ts";
import {
  Class,
  F80,
  type FloatEnvironment,
  FloatFlag,
  infinity,
  invalid,
  roundPack,
  unpack,
  type Unpacked,
  zero,
} from "./softfloat/softfloat.ts";

const realOf = ({ sign, exponent, significand }: Unpacked): Real => ({
  sign,
  exponent,
  significand,
  exact: true,
});

/** The value as an encoding; what is not exact lies above its bits. */
function rounded(env: FloatEnvironment, value: Real): bigint {
  const { sign, exponent, significand, exact } = value;
  if (significand === 0n) return zero(F80, sign);
  if (exact) return roundPack(F80, env, sign, exponent, significand);
  return roundPack(F80, env, sign, exponent - 1, significand << 1n | 1n);
}

const ONE = roundPack(F80, x87.env, 0, 0, 1n);

function denormal(env: FloatEnvironment, ...operands: Unpacked[]): void {
  if (operands.some(({ kind }) => kind === Class.Denormal)) {
    env.raise(FloatFlag.DE);
  }
}

const hasValue = (u: Unpacked): boolean => u.kind < Class.Quiet;

// --- sine, cosine, tangent

/** Exponent from which arguments are out of range: |x| ≥ 2^63. */
const RANGE = 63;

/** What a trigonometric instruction leaves, or that it went out of range. */
interface Angles {
  readonly top: bigint;
  readonly pushed?: bigint;
}

/** @param answer of a finite argument in range @param atZero of ±0 */
function trigonometric(
  pushes: boolean,
  answer: (env: FloatEnvironment, x: Real) => Angles,
  atZero: (zero: bigint) => Angles,
): CallFunction {
  return (cpu, insn) => {
    if (!x87.begin(cpu)) return Outcome.Fault;
    x87.pointers(cpu, insn);
    const which = Code.C1 | Code.C2;
    const under = x87.empty(0);
    if (under || pushes && x87.full) {
      if (under ? x87.underflow() : x87.overflow()) {
        x87.set(0, INDEFINITE);
        if (pushes) x87.push(INDEFINITE);
      }
      return x87.finish(0, which);
    }
    const { env } = x87;
    env.precision = F80.precision;
    const a = x87.st(0), u = unpack(F80, a);
    let angles: Angles;
    if (!hasValue(u)) {
      const nan = withoutValue(env, a, a);
      angles = { top: nan, pushed: nan };
    } else if (u.kind === Class.Infinity) {
      const nan = invalid(F80, env);
      angles = { top: nan, pushed: nan };
    } else if (u.kind === Class.Zero) angles = atZero(a);
    else if (u.exponent + F80.precision - 1 >= RANGE) {
      return x87.finish(Code.C2, which);
    } else {
      denormal(env, u);
      angles = answer(env, realOf(u));
    }
    if (x87.blocked) return x87.abandon();
    x87.set(0, angles.top);
    if (pushes) x87.push(angles.pushed!);
    return x87.finish(0, which);
  };
}

/** FSIN. */
export const fsin: CallFunction = trigonometric(
  false,
  (env, x) => ({ top: rounded(env, sineCosine(x).sine) }),
  (zero) => ({ top: zero }),
);
/** FCOS. */
export const fcos: CallFunction = trigonometric(
  false,
  (env, x) => ({ top: rounded(env, sineCosine(x).cosine) }),
  () => ({ top: ONE }),
);
/** FSINCOS: the cosine is pushed. */
export const fsincos: CallFunction = trigonometric(
  true,
  (env, x) => {
    const { sine, cosine } = sineCosine(x);
    // C1 tells of the sine, as on AMD's processors.
    const pushed = rounded(env, cosine);
    return { top: rounded(env, sine), pushed };
  },
  (zero) => ({ top: zero, pushed: ONE }),
);
/** FPTAN: a one is pushed. */
export const fptan: CallFunction = trigonometric(
  true,
  (env, x) => {
    const { sine, cosine } = sineCosine(x);
    return { top: rounded(env, quotient(sine, cosine)), pushed: ONE };
  },
  (zero) => ({ top: zero, pushed: ONE }),
);

// --- functions of one or two operands

/** An operation of ST(1) and ST(0) whose result replaces both. */
function ofTwo(
  operation: (env: FloatEnvironment, y: bigint, x: bigint) => bigint,
): CallFunction {
  return (cpu, insn) => {
    if (!x87.begin(cpu)) return Outcome.Fault;
    x87.pointers(cpu, insn);
    let result = INDEFINITE;
    if (x87.empty(0) || x87.empty(1)) {
      if (!x87.underflow()) return x87.finish();
    } else {
      x87.env.precision = F80.precision;
      result = operation(x87.env, x87.st(1), x87.st(0));
      if (x87.blocked) return x87.abandon();
    }
    x87.set(1, result);
    x87.pop();
    return x87.finish();
  };
}

/** FPATAN (SDM 2A table 3-30): the angle of the point (ST(0), ST(1)). */
export const fpatan: CallFunction = ofTwo((env, y, x) => {
  const uy = unpack(F80, y), ux = unpack(F80, x);
  if (!hasValue(uy) || !hasValue(ux)) return withoutValue(env, y, x);
  denormal(env, uy, ux);
  const turns = (quarters: number): bigint =>
    quarters === 0
      ? zero(F80, uy.sign)
      : rounded(env, quarterTurns(quarters, uy.sign));
  const infinite = (u: Unpacked): boolean => u.kind === Class.Infinity;
  if (infinite(uy)) {
    return turns(infinite(ux) ? (ux.sign ? 3 : 1) : 2);
  }
  if (infinite(ux)) return turns(ux.sign ? 4 : 0);
  if (uy.kind === Class.Zero) return turns(ux.sign ? 4 : 0);
  if (ux.kind === Class.Zero) return turns(2);
  return rounded(env, angle(realOf(uy), realOf(ux)));
});

/** Answer to a product with ±0 or ±∞ as the logarithm. */
function timesExtreme(
  env: FloatEnvironment,
  uy: Unpacked,
  sign: number,
  infinite: boolean,
): bigint {
  const wrong = infinite ? Class.Zero : Class.Infinity;
  if (uy.kind === wrong) return invalid(F80, env);
  denormal(env, uy);
  return infinite ? infinity(F80, uy.sign ^ sign) : zero(F80, uy.sign ^ sign);
}

/** ST(1) times a finite logarithm that is not zero. */
function timesLogarithm(
  env: FloatEnvironment,
  uy: Unpacked,
  logarithm: Real,
): bigint {
  const sign = uy.sign ^ logarithm.sign;
  if (uy.kind === Class.Zero) return zero(F80, sign);
  if (uy.kind === Class.Infinity) return infinity(F80, sign);
  return rounded(env, multiplied(realOf(uy), logarithm));
}

/** FYL2X (SDM 2A table 3-60): ST(1) × log2 ST(0). */
export const fyl2x: CallFunction = ofTwo((env, y, x) => {
  const uy = unpack(F80, y), ux = unpack(F80, x);
  if (!hasValue(uy) || !hasValue(ux)) return withoutValue(env, y, x);
  if (ux.kind === Class.Zero) {
    if (uy.kind === Class.Zero) return invalid(F80, env);
    if (uy.kind !== Class.Infinity) env.raise(FloatFlag.ZE);
    return infinity(F80, uy.sign ^ 1);
  }
  if (ux.sign) return invalid(F80, env);
  if (ux.kind === Class.Infinity) return timesExtreme(env, uy, 0, true);
  const log = logarithm(realOf(ux));
  if (log.significand === 0n) return timesExtreme(env, uy, 0, false);
  denormal(env, uy, ux);
  return timesLogarithm(env, uy, log);
});

/** FYL2XP1 (SDM 2A table 3-61): ST(1) × log2(ST(0) + 1). */
export const fyl2xp1: CallFunction = ofTwo((env, y, x) => {
  const uy = unpack(F80, y), ux = unpack(F80, x);
  if (!hasValue(uy) || !hasValue(ux)) return withoutValue(env, y, x);
  if (ux.kind === Class.Zero) return timesExtreme(env, uy, ux.sign, false);
  if (ux.kind === Class.Infinity) {
    return ux.sign ? invalid(F80, env) : timesExtreme(env, uy, 0, true);
  }
  // The manual leaves arguments of −1 and below open.
  const atMostMinusOne = ux.sign === 1 &&
    ux.exponent + F80.precision - 1 >= 0;
  if (atMostMinusOne) return invalid(F80, env);
  denormal(env, uy, ux);
  return timesLogarithm(env, uy, logarithmOfOnePlus(realOf(ux)));
});

/** F2XM1: 2^ST(0) − 1 for −1 ≤ ST(0) ≤ 1; others, left open, stay. */
export const f2xm1: CallFunction = (cpu, insn) => {
  if (!x87.begin(cpu)) return Outcome.Fault;
  x87.pointers(cpu, insn);
  if (x87.empty(0)) {
    if (x87.underflow()) x87.set(0, INDEFINITE);
    return x87.finish();
  }
  const { env } = x87;
  env.precision = F80.precision;
  const a = x87.st(0), u = unpack(F80, a);
  let result = a;
  if (!hasValue(u)) result = withoutValue(env, a, a);
  else if (u.kind === Class.Infinity) {
    result = u.sign ? roundPack(F80, env, 1, 0, 1n) : a;
  } else if (u.kind !== Class.Zero) {
    denormal(env, u);
    const top = u.exponent + F80.precision - 1;
    if (top < 0) result = rounded(env, exponentialMinusOne(realOf(u)));
    else if (a === (ONE | 1n << 79n)) {
      result = roundPack(F80, env, 1, -1, 1n);
    }
  }
  if (x87.blocked) return x87.abandon();
  x87.set(0, result);
  return x87.finish();
};
