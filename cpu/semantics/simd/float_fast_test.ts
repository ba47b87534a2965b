/**
 * The host-arithmetic path against the exact one: wherever it answers, result
 * and PE are the same, and it does answer for ordinary numbers.
 */
import { assert, assertEquals } from "@std/assert";
import * as soft from "../softfloat/softfloat.ts";
import * as fast from "./float_fast.ts";
import * as quick from "./float_fast_convert.ts";

const { F32, F64, FloatFlag } = soft;
const view = new DataView(new ArrayBuffer(8));

/** Deterministic 32-bit numbers. */
class Numbers {
  #state = 1;
  next(): number {
    this.#state = (this.#state + 0x9e3779b9) >>> 0;
    let z = this.#state;
    z = Math.imul(z ^ z >>> 16, 0x21f0aaad);
    z = Math.imul(z ^ z >>> 15, 0x735a2d97);
    return (z ^ z >>> 15) >>> 0;
  }
  below(n: number): number {
    return this.next() % n;
  }
}

/** An encoding: often a few significant bits, exponents near 1 or anywhere. */
function encoding(f: soft.Format, random: Numbers): bigint {
  const stored = f.precision - 1;
  const wide = BigInt(random.next()) << 32n | BigInt(random.next());
  const kept = random.below(3) ? stored : random.below(8);
  const mask = f.storedMask ^ (1n << BigInt(stored - kept)) - 1n;
  const bias = f.maxExponent;
  const exponent = [
    bias + random.below(9) - 4,
    bias + random.below(60) - 30,
    random.below(f.exponentMask + 1),
    random.below(4),
    f.exponentMask - random.below(4),
    0,
  ][random.below(6)];
  return BigInt(random.below(2)) << f.signShift |
    BigInt(exponent) << f.stored | wide & mask & f.storedMask;
}

function number(f: soft.Format, bits: bigint): number {
  if (f === F32) {
    view.setUint32(0, Number(bits));
    return view.getFloat32(0);
  }
  view.setBigUint64(0, bits);
  return view.getFloat64(0);
}

function bitsOf(f: soft.Format, x: number): bigint {
  if (f === F32) {
    view.setFloat32(0, x);
    return BigInt(view.getUint32(0));
  }
  view.setFloat64(0, x);
  return view.getBigUint64(0);
}

const OPERATIONS = [
  ["add", F32, fast.add32, soft.add],
  ["add", F64, fast.add64, soft.add],
  ["subtract", F32, fast.subtract32, soft.subtract],
  ["subtract", F64, fast.subtract64, soft.subtract],
  ["multiply", F32, fast.multiply32, soft.multiply],
  ["multiply", F64, fast.multiply64, soft.multiply],
  ["divide", F32, fast.divide32, soft.divide],
  ["divide", F64, fast.divide64, soft.divide],
  [
    "square root",
    F32,
    fast.squareRoot32,
    (f, e, _, b) => soft.squareRoot(f, e, b),
  ],
  [
    "square root",
    F64,
    fast.squareRoot64,
    (f, e, _, b) => soft.squareRoot(f, e, b),
  ],
] as const satisfies readonly [
  string,
  soft.Format,
  fast.Fast,
  (f: soft.Format, e: soft.FloatEnvironment, a: bigint, b: bigint) => bigint,
][];

for (const [name, f, quick, exact] of OPERATIONS) {
  Deno.test(`${f.name} ${name}: host arithmetic answers as the exact path does`, () => {
    const random = new Numbers();
    const env = new soft.FloatEnvironment(soft.sseNan);
    let answered = 0, inexact = 0;
    for (let i = 0; i < 20_000; i++) {
      const a = encoding(f, random);
      const b = random.below(12) ? encoding(f, random) : a;
      fast.beginFast();
      const r = quick(number(f, a), number(f, b));
      if (Number.isNaN(r)) continue;
      env.begin();
      const what = `${a.toString(16)} ${b.toString(16)}`;
      assertEquals(bitsOf(f, r), exact(f, env, a, b), what);
      assertEquals(fast.lost ? FloatFlag.PE : 0, env.flags, what);
      answered++;
      if (fast.lost) inexact++;
    }
    assert(answered > 3000, `${answered} answers`);
    assert(inexact > 500 && inexact < answered, `${inexact} inexact`);
  });
}

/** Integers as the two paths show them. */
const wrapped = (x: number, bits: number): bigint =>
  BigInt.asUintN(bits, BigInt(x));

Deno.test("conversions, roundings and comparisons do too, in every rounding mode", () => {
  const random = new Numbers();
  const env = new soft.FloatEnvironment(soft.sseNan);
  const answered = new Map<string, number>();
  /** Judges an answer of the quick path against the exact one. */
  const judge = (
    name: string,
    answer: number,
    show: (x: number) => bigint,
    exact: () => bigint,
  ): void => {
    if (Number.isNaN(answer)) return;
    const flags = fast.lost ? FloatFlag.PE : 0;
    env.begin();
    assertEquals([show(answer), flags], [exact(), env.flags], name);
    answered.set(name, (answered.get(name) ?? 0) + 1);
  };
  for (let i = 0; i < 20_000; i++) {
    const f = i & 1 ? F32 : F64, single = f === F32;
    const mode = env.rounding = random.below(4);
    const a = encoding(f, random);
    const b = random.below(8) ? encoding(f, random) : a;
    const x = number(f, a);
    const show = (r: number): bigint => bitsOf(f, r);
    fast.beginFast();
    const suppress = random.below(3) === 0;
    judge(
      `${f.name} round`,
      quick.roundLane(single, x, mode, suppress),
      show,
      () => soft.roundToIntegral(f, env, a, mode, suppress),
    );
    for (const bits of [32, 64]) {
      fast.beginFast();
      judge(
        `${f.name} to ${bits}`,
        quick.toInteger(single, x, bits, mode),
        (r) => wrapped(r, bits),
        () => soft.toInteger(f, env, a, bits, mode),
      );
    }
    fast.beginFast();
    const n = BigInt.asIntN(64, a) >> BigInt(random.below(64));
    if (!single || mode === soft.Rounding.Nearest) {
      judge(
        `${f.name} from 64`,
        quick.fromInteger(Number(n), single),
        show,
        () => soft.fromInteger(f, env, n),
      );
    }
    fast.beginFast();
    if (single) {
      judge(
        "widen",
        quick.widen(x),
        (r) => bitsOf(F64, r),
        () => soft.convert(F32, F64, env, a),
      );
    } else if (mode === soft.Rounding.Nearest) {
      judge(
        "shorten",
        quick.shorten(x),
        (r) => bitsOf(F32, r),
        () => soft.convert(F64, F32, env, a),
      );
    }
    fast.beginFast();
    const related = quick.relate(single, x, number(f, b));
    judge(
      `${f.name} relate`,
      related < 0 ? NaN : related,
      BigInt,
      () => BigInt(soft.compare(f, env, a, b, false)),
    );
  }
  assertEquals(answered.size, 12);
  for (const [name, count] of answered) assert(count > 500, `${name} ${count}`);
});
