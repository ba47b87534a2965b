/**
 * What floating-point seeds (FLOAT_SEED and above) stand for: lanes that lie
 * where rounding, overflow, denormals and NaNs are, with neighbours that cancel
 * or nearly do. The lane type is in the seed's low bits.
 * Invariant: equal seeds give equal values, for ever: the recordings rely on it.
 */
import { Random } from "../../tools/silicon/random.ts";
import { PAGE_SIZE } from "./environment.ts";
import type { SeededVectors } from "./seeded.ts";

/** The first of them; each lane type has COUNT seeds. */
export const FLOAT_SEED = 0x10000;
const COUNT = 0x40;
/** Lane types; the number is the seed's remainder. */
export const LaneType = {
  Single: 0,
  Double: 1,
  Integer: 2,
  Extended: 3,
} as const;
const TYPES = 4;

/** A seed for lanes of the type. */
export function floatSeed(rng: Random, type: number): number {
  return FLOAT_SEED + rng.below(COUNT) * TYPES + type;
}

/** An f32 or f64 encoding. @param near one to be near to, or null */
function float(rng: Random, single: boolean, near: bigint | null): bigint {
  const [stored, exponentBits] = single ? [23, 8] : [52, 11];
  const fractions = BigInt(stored), signs = BigInt(stored + exponentBits);
  if (near !== null && rng.chance(10)) return near;
  if (near !== null && rng.chance(6)) return near ^ 1n << signs;
  const all = (1n << fractions) - 1n, top = 2 ** exponentBits - 1;
  const bias = top >> 1, shift = BigInt(rng.below(stored));
  const fraction = rng.pick([
    0n,
    0n,
    all,
    1n,
    1n << shift,
    (all << shift) & all,
    all >> shift,
    rng.u64() & all,
    rng.u64() & all,
    rng.u64() & all,
  ]);
  const other = near === null ? bias : Number(near >> fractions) & top;
  const exponent = rng.pick([
    0,
    0,
    top,
    1 + rng.below(3),
    top - 1 - rng.below(2),
    bias + rng.below(70) - 6,
    bias + rng.below(8) - 4,
    bias + rng.below(8) - 4,
    (bias >> 1) + rng.below(12) - 6,
    bias + (bias >> 1) + rng.below(12) - 6,
    other + rng.below(6) - 3,
    other + rng.below(2 * stored) - stored,
    rng.below(top + 1),
  ]);
  const inside = Math.min(top, Math.max(0, exponent));
  const sign = rng.chance(50) ? 1n : 0n;
  return sign << signs | BigInt(inside) << fractions | fraction;
}

/** Lanes one after another, each near to one of the last few. */
class Lanes {
  readonly #recent: bigint[] = [];
  constructor(readonly rng: Random, readonly type: number) {}

  next(): bigint {
    const { rng, type } = this;
    if (type === LaneType.Integer) return rng.interesting(32);
    const known = this.#recent.length > 0 && rng.chance(70);
    const near = known ? rng.pick(this.#recent) : null;
    const lane = float(rng, type === LaneType.Single, near);
    this.#recent.push(lane);
    if (this.#recent.length > 4) this.#recent.shift();
    return lane;
  }

  /** 128 bits of them. */
  block(): bigint {
    const width = this.type === LaneType.Double ? 64n : 32n;
    let out = 0n;
    for (let at = 0n; at < 128n; at += width) out |= this.next() << at;
    return out;
  }
}

/** An 80-bit encoding; unsupported ones are rare. */
function extended(rng: Random, near: bigint | null): bigint {
  if (near !== null && rng.chance(8)) return near;
  if (near !== null && rng.chance(4)) return near ^ 1n << 79n;
  const top = 0x7fff, bias = 0x3fff, all = (1n << 63n) - 1n;
  const shift = BigInt(rng.below(63));
  const fraction = rng.pick([
    0n,
    0n,
    all,
    1n,
    1n << 62n,
    1n << shift,
    (all << shift) & all,
    all >> shift,
    // Halves of what 53 and 24 bits keep.
    rng.u64() & all & ~0x7ffn | 0x400n,
    rng.u64() & all & ~0xff_ffff_ffffn | 0x80_0000_0000n,
    rng.u64() & all,
    rng.u64() & all,
    rng.u64() & all,
  ]);
  const other = near === null ? bias : Number(near >> 64n) & top;
  const exponent = rng.pick([
    0,
    0,
    top,
    1 + rng.below(3),
    top - 1 - rng.below(2),
    bias + rng.below(70) - 6,
    bias + rng.below(8) - 4,
    bias + rng.below(8) - 4,
    bias + rng.below(8) - 4,
    bias - 0x3ff + rng.below(8) - 60,
    bias - 0x7f + rng.below(40) - 30,
    bias + 0x7f + rng.below(4) - 2,
    bias + 0x3ff + rng.below(4) - 2,
    (bias >> 1) + rng.below(12) - 6,
    bias + (bias >> 1) + rng.below(12) - 6,
    other + rng.below(6) - 3,
    other + rng.below(130) - 65,
    rng.below(top + 1),
  ]);
  const inside = Math.min(top, Math.max(0, exponent));
  const integer = inside !== 0 && !rng.chance(2) || rng.chance(2);
  return (rng.chance(50) ? 1n : 0n) << 79n | BigInt(inside) << 64n |
    (integer ? 1n << 63n : 0n) | fraction;
}

/** x87 registers near each other; data of every format at every 16 bytes. */
function extendedVectors(seed: number): SeededVectors {
  const rng = new Random(`silicon x87 ${seed}`);
  const st: bigint[] = [];
  for (let i = 0; i < 8; i++) {
    st.push(
      extended(rng, st.length > 0 && rng.chance(70) ? rng.pick(st) : null),
    );
  }
  const data = new DataView(new ArrayBuffer(PAGE_SIZE));
  const put = (at: number, low: bigint, high: bigint): void => {
    data.setBigUint64(at, BigInt.asUintN(64, low), true);
    data.setBigUint64(at + 8, BigInt.asUintN(64, high), true);
  };
  for (let at = 0; at < PAGE_SIZE; at += 16) {
    const kind = rng.below(5);
    if (kind === 0) {
      const bits = extended(rng, rng.pick(st));
      put(at, bits, bits >> 64n);
    } else if (kind === 1) {
      put(at, float(rng, false, null), float(rng, false, null));
    } else if (kind === 2) {
      const single = (): bigint => float(rng, true, null);
      put(at, single() | single() << 32n, single() | single() << 32n);
    } else if (kind === 3) {
      put(at, rng.interesting(64), rng.interesting(64));
    } else {
      let digits = rng.chance(50) ? 1n << 79n : 0n;
      const count = rng.below(19);
      for (let i = 0; i < count; i++) {
        digits |= BigInt(rng.below(10)) << BigInt(4 * i);
      }
      put(at, digits, digits >> 64n);
    }
  }
  return {
    xmm: Array.from({ length: 16 }, () => 0n),
    st,
    data: new Uint8Array(data.buffer),
  };
}

/** Registers and data of a floating-point seed. MMX registers hold integers. */
export function floatVectors(seed: number): SeededVectors {
  if (seed % TYPES === LaneType.Extended) return extendedVectors(seed);
  const rng = new Random(`silicon floats ${seed}`);
  const lanes = new Lanes(rng, seed % TYPES);
  const xmm = Array.from({ length: 16 }, () => lanes.block());
  const st = Array.from(
    { length: 8 },
    () => rng.interesting(32) | rng.interesting(32) << 32n | 0xffffn << 64n,
  );
  const data = new DataView(new ArrayBuffer(PAGE_SIZE));
  for (let at = 0; at < PAGE_SIZE; at += 16) {
    const block = lanes.block();
    data.setBigUint64(at, BigInt.asUintN(64, block), true);
    data.setBigUint64(at + 8, block >> 64n, true);
  }
  return { xmm, st, data: new Uint8Array(data.buffer) };
}
