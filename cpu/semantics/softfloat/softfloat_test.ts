/**
 * Arithmetic against two judges that share nothing with it: the host's own f32
 * and f64 operations (exact in ECMAScript for + − × ÷ and Math.fround), and the
 * definition of correct rounding, checked in rationals in every mode.
 */
import { assert, assertEquals } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import * as s from "./softfloat.ts";

const { F32, F64, F80, FloatFlag, Rounding } = s;
const view = new DataView(new ArrayBuffer(8));

/** Deterministic 64-bit numbers (xorshift). */
class Numbers {
  #state = 88172645463325252n;
  next(): bigint {
    let x = this.#state;
    x ^= BigInt.asUintN(64, x << 13n);
    x ^= x >> 7n;
    return this.#state = BigInt.asUintN(64, x ^ (x << 17n));
  }
  below(n: number): number {
    return Number(this.next() % BigInt(n));
  }
}

/** Encodings that lie where rounding, overflow and special cases are. */
function operand(f: s.Format, random: Numbers): bigint {
  const all = f.storedMask & ~f.integerBit;
  const at = BigInt(random.below(f.precision - 1));
  const fraction = [
    0n,
    all,
    1n,
    1n << at,
    (all << at) & all,
    all >> at,
    random.next() & all,
    random.next() & all,
  ][random.below(8)];
  const bias = f.maxExponent;
  const exponent = [
    0,
    f.exponentMask,
    1 + random.below(3),
    f.exponentMask - 1 - random.below(3),
    bias + random.below(70) - 35,
    bias + random.below(70) - 35,
    bias + random.below(8) - 4,
    (bias >> 1) + random.below(60) - 30,
    bias + (bias >> 1) + random.below(60) - 30,
    random.below(f.exponentMask + 1),
  ][random.below(10)];
  const sign = random.next() & 1n;
  return sign << f.signShift | BigInt(exponent) << f.stored | fraction |
    (exponent ? f.integerBit : 0n);
}

function toHost(f: s.Format, bits: bigint): number {
  if (f === F32) {
    view.setUint32(0, Number(bits));
    return view.getFloat32(0);
  }
  view.setBigUint64(0, bits);
  return view.getFloat64(0);
}

/** NaNs all become one: which NaN is ours to choose, not the host's. */
function fromHost(f: s.Format, value: number): bigint {
  if (Number.isNaN(value)) return -1n;
  if (f === F32) {
    view.setFloat32(0, value);
    return BigInt(view.getUint32(0));
  }
  view.setFloat64(0, value);
  return view.getBigUint64(0);
}

type Binary = (
  f: s.Format,
  env: s.FloatEnvironment,
  a: bigint,
  b: bigint,
) => bigint;
const OPERATIONS: readonly [
  string,
  Binary,
  (x: number, y: number) => number,
][] = [
  ["+", s.add, (x, y) => x + y],
  ["-", s.subtract, (x, y) => x - y],
  ["*", s.multiply, (x, y) => x * y],
  ["/", s.divide, (x, y) => x / y],
];

describe("results against the host, to nearest", () => {
  for (const f of [F32, F64]) {
    for (const [name, ours, theirs] of OPERATIONS) {
      it(`${f.name} ${name}`, () => {
        const random = new Numbers();
        const env = new s.FloatEnvironment(s.sseNan);
        for (let i = 0; i < 20_000; i++) {
          const a = operand(f, random);
          const b = i % 9 ? operand(f, random) : a;
          const got = ours(f, env, a, b);
          // One rounding to f64 before that to f32 is innocuous for these four.
          const host = theirs(toHost(f, a), toHost(f, b));
          const expected = fromHost(f, f === F32 ? Math.fround(host) : host);
          const seen = s.isNan(s.classOf(f, got)) ? -1n : got;
          assertEquals(seen, expected, `${a.toString(16)} ${b.toString(16)}`);
        }
      });
    }
  }

  it("conversions between f32, f64 and integers", () => {
    const random = new Numbers();
    const env = new s.FloatEnvironment(s.sseNan);
    for (let i = 0; i < 20_000; i++) {
      const d = operand(F64, random), x = toHost(F64, d);
      const narrow = s.convert(F64, F32, env, d);
      if (!Number.isNaN(x)) {
        assertEquals(narrow, fromHost(F32, Math.fround(x)));
        assertEquals(s.convert(F80, F64, env, s.convert(F64, F80, env, d)), d);
      }
      const n = BigInt.asIntN(64, random.next() >> BigInt(random.below(64)));
      assertEquals(s.fromInteger(F64, env, n), fromHost(F64, Number(n)));
      const held = Math.abs(x) < 2 ** 63;
      assertEquals(
        BigInt.asIntN(64, s.toInteger(F64, env, d, 64, Rounding.Zero)),
        held ? BigInt(Math.trunc(x)) : -(1n << 63n),
      );
      for (
        const [mode, f] of [
          [Rounding.Down, Math.floor],
          [Rounding.Up, Math.ceil],
          [Rounding.Zero, Math.trunc],
        ] as const
      ) {
        if (Number.isNaN(x)) continue;
        assertEquals(s.roundToIntegral(F64, env, d, mode), fromHost(F64, f(x)));
      }
    }
  });

  it("comparison", () => {
    const random = new Numbers();
    const env = new s.FloatEnvironment(s.sseNan);
    for (let i = 0; i < 20_000; i++) {
      const a = operand(F64, random);
      const b = i % 5 ? operand(F64, random) : a ^ (random.next() & 1n) << 63n;
      const x = toHost(F64, a), y = toHost(F64, b);
      const expected = x < y
        ? s.Relation.Less
        : x > y
        ? s.Relation.Greater
        : x === y
        ? s.Relation.Equal
        : s.Relation.Unordered;
      assertEquals(s.compare(F64, env, a, b, true), expected);
    }
  });
});

/** An exact value: n ÷ d × 2^e, d > 0. */
interface Exact {
  n: bigint;
  d: bigint;
  e: number;
}
const exact = (f: s.Format, bits: bigint): Exact => {
  const u = s.unpack(f, bits);
  return {
    n: u.sign ? -u.significand : u.significand,
    d: 1n,
    e: u.exponent,
  };
};
/** Sign of x − y. */
function order(x: Exact, y: Exact): number {
  const e = Math.min(x.e, y.e);
  const left = (x.n * y.d) << BigInt(x.e - e);
  const right = (y.n * x.d) << BigInt(y.e - e);
  return left === right ? 0 : left > right ? 1 : -1;
}
const EXACT: Readonly<Record<string, (x: Exact, y: Exact) => Exact>> = {
  "+": (x, y) => {
    const e = Math.min(x.e, y.e);
    return { n: (x.n << BigInt(x.e - e)) + (y.n << BigInt(y.e - e)), d: 1n, e };
  },
  "*": (x, y) => ({ n: x.n * y.n, d: 1n, e: x.e + y.e }),
  "/": (x, y) => ({
    n: y.n < 0n ? -x.n : x.n,
    d: y.n < 0n ? -y.n : y.n,
    e: x.e - y.e,
  }),
};
/** The next encoding towards +∞, or −∞ (finite ones and infinities). */
function neighbour(f: s.Format, bits: bigint, up: boolean): bigint {
  const sign = bits >> f.signShift;
  const magnitude = BigInt.asUintN(Number(f.signShift), bits);
  if (magnitude === 0n) return s.zero(f, up ? 0 : 1) + 1n;
  return bits + (up === (sign === 0n) ? 1n : -1n);
}

/** Whether r is x rounded, by definition; r may be an infinity. */
function isRounded(f: s.Format, mode: number, x: Exact, r: bigint): boolean {
  const lower = neighbour(f, r, false), upper = neighbour(f, r, true);
  // An infinity stands where the next larger number would be.
  const side = (bits: bigint): Exact => {
    if (s.classOf(f, bits) !== s.Class.Infinity) return exact(f, bits);
    const n = bits >> f.signShift ? -1n : 1n;
    return { n, d: 1n, e: f.maxExponent + 1 };
  };
  const infinite = s.classOf(f, r) === s.Class.Infinity;
  const at = infinite && mode !== Rounding.Nearest ? 0 : order(x, side(r)); // where x lies from r
  const negative = x.n < 0n;
  const towards = mode === Rounding.Zero
    ? negative ? Rounding.Up : Rounding.Down
    : mode;
  if (mode === Rounding.Nearest) {
    if (at === 0) return true;
    const other = at > 0 ? upper : lower;
    if (infinite && (at > 0) === !negative) return true;
    const u = side(r), v = side(other);
    const e = Math.min(u.e, v.e);
    const middle = {
      n: (u.n << BigInt(u.e - e)) + (v.n << BigInt(v.e - e)),
      d: 1n,
      e: e - 1,
    };
    const by = order(x, middle);
    return by === 0 ? (r & 1n) === 0n : (by > 0) !== (at > 0);
  }
  if (infinite) {
    const largest = neighbour(f, r, negative);
    return order(x, exact(f, largest)) === (negative ? -1 : 1) &&
      (towards === Rounding.Up) === !negative;
  }
  return towards === Rounding.Down
    ? at >= 0 && (order(x, side(upper)) < 0 ||
      s.classOf(f, upper) === s.Class.Infinity)
    : at <= 0 && (order(x, side(lower)) > 0 ||
      s.classOf(f, lower) === s.Class.Infinity);
}

describe("correct rounding by definition, all modes", () => {
  for (const f of [F32, F64]) {
    for (const [name, ours] of OPERATIONS.filter(([n]) => n !== "-")) {
      it(`${f.name} ${name}`, () => {
        const random = new Numbers();
        const env = new s.FloatEnvironment(s.sseNan);
        let judged = 0;
        for (let i = 0; i < 6_000; i++) {
          const a = operand(f, random), b = operand(f, random);
          const kinds = [s.classOf(f, a), s.classOf(f, b)];
          if (Math.max(...kinds) >= s.Class.Infinity) continue;
          if (name === "/" && kinds[1] === s.Class.Zero) continue;
          const x = EXACT[name](exact(f, a), exact(f, b));
          if (x.n === 0n) continue;
          env.rounding = i & 3;
          env.begin();
          const r = ours(f, env, a, b);
          const what = `${a.toString(16)} ${name} ${b.toString(16)} mode ${
            i & 3
          }: ${r.toString(16)}`;
          assert(isRounded(f, i & 3, x, r), what);
          const infinite = s.classOf(f, r) === s.Class.Infinity;
          const isExact = !infinite && order(x, exact(f, r)) === 0;
          assertEquals((env.flags & FloatFlag.PE) !== 0, !isExact, what);
          const smallest = { n: x.n < 0n ? -1n : 1n, d: 1n, e: f.minExponent };
          const inside = order(x, smallest) === (x.n < 0n ? 1 : -1);
          const underflow = (env.flags & FloatFlag.UE) !== 0;
          if (underflow) assert(inside && !isExact, what);
          else if (inside && !isExact) {
            assertEquals(order(exact(f, r), smallest), 0, what);
          }
          if (infinite) assert(env.flags & FloatFlag.OE, what);
          judged++;
        }
        assert(judged > 2000);
      });
    }

    it(`${f.name} square root`, () => {
      const random = new Numbers();
      const env = new s.FloatEnvironment(s.sseNan);
      for (let i = 0; i < 4_000; i++) {
        const a = s.withSign(f, operand(f, random), 0);
        if (s.classOf(f, a) >= s.Class.Infinity || a === 0n) continue;
        env.rounding = i & 3;
        env.begin();
        const r = exact(f, s.squareRoot(f, env, a));
        const square = { n: r.n * r.n, d: 1n, e: 2 * r.e };
        const by = order(exact(f, a), square);
        assertEquals((env.flags & FloatFlag.PE) !== 0, by !== 0);
        if ((i & 3) === Rounding.Up) assert(by <= 0);
        else if (i & 3) assert(by >= 0);
        // Half a unit (a whole one when directed) on either side encloses √a.
        const half = (i & 3) ? 1n : 0n;
        const step = (d: bigint): Exact => {
          const n = 2n * r.n + d * (1n + half);
          return { n: n * n, d: 1n, e: 2 * (r.e - 1) };
        };
        assert(order(exact(f, a), step(1n)) < 0);
        assert(order(exact(f, a), step(-1n)) > 0);
      }
    });
  }
});

describe("modes and NaN rules", () => {
  const env = new s.FloatEnvironment(s.sseNan);

  it("tininess is judged after rounding", () => {
    // 24 bits hold (1 − 2^−24) × 2^−126 exactly: tiny, though it rounds up.
    env.begin();
    const r = s.multiply(F32, env, 0x00ffffffn, 0x3f000000n);
    assertEquals([r, env.flags], [0x00800000n, FloatFlag.UE | FloatFlag.PE]);
    // Closer to 2^−126 than 24 bits tell: not tiny.
    env.begin();
    const q = s.multiply(F32, env, 0x00a0a61bn, 0x3f4bf90bn);
    assertEquals([q, env.flags], [0x00800000n, FloatFlag.PE]);
  });

  it("FTZ, DAZ and unmasked underflow", () => {
    env.begin();
    env.flushToZero = true;
    assertEquals(s.multiply(F32, env, 0x80800000n, 0x3f000000n), 0x80000000n);
    assertEquals(env.flags, FloatFlag.UE | FloatFlag.PE);
    env.begin();
    env.masks = 0x3f & ~FloatFlag.UE;
    s.multiply(F32, env, 0x80800000n, 0x3f000000n);
    assertEquals(env.flags, FloatFlag.UE, "tiny and exact, nothing delivered");
    env.begin();
    env.masks = 0x3f;
    env.flushToZero = false;
    env.denormalsAreZeros = true;
    assertEquals(s.add(F32, env, 0x80000001n, 0x80000001n), 0x80000000n);
    assertEquals(env.flags, 0);
    env.denormalsAreZeros = false;
  });

  it("which NaN", () => {
    const quiet = 0x7fc00001n, signaling = 0xffa00000n, other = 0x7fc00002n;
    env.begin();
    assertEquals(s.add(F32, env, signaling, quiet), 0xffe00000n);
    assertEquals(env.flags, FloatFlag.IE);
    const x87 = new s.FloatEnvironment(s.x87Nan);
    assertEquals(s.add(F32, x87, signaling, quiet), quiet);
    assertEquals(s.add(F32, x87, quiet, other), other);
    assertEquals(s.add(F32, x87, quiet, quiet | 1n << 31n), quiet);
    assertEquals(s.multiply(F32, env, 0n, 0x7f800000n), 0xffc00000n);
  });

  it("wrapped exponents of F80", () => {
    const x87 = new s.FloatEnvironment(s.x87Nan);
    x87.masks = 0x3f & ~FloatFlag.OE;
    x87.wrapExponent = true;
    const big = 0x7ffe_8000_0000_0000_0000n;
    assertEquals(
      s.multiply(F80, x87, big, big),
      BigInt(2 * 0x3fff + 0x3fff - 24576) << 64n | 1n << 63n,
    );
    assertEquals(x87.flags, FloatFlag.OE);
  });
});
