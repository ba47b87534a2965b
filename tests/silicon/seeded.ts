/**
 * Vector registers and data of the cases that state a seed instead of values
 * (`x=SEED` in a vector file): a 128-bit value costs 32 digits, and those cases
 * have many. Registers and blocks of memory get values of one kind each, which
 * make integer SIMD misbehave: lanes at edges, equal lanes, short strings.
 * Invariant: equal seeds give equal values, for ever: the recordings rely on it.
 */
import { Random } from "../../tools/silicon/random.ts";
import { PAGE_SIZE } from "./environment.ts";
import { FLOAT_SEED, floatVectors } from "./seeded_floats.ts";

/** What a seed stands for. */
export interface SeededVectors {
  /** XMM0–15. */
  readonly xmm: readonly bigint[];
  /** ST0–7, as MMX registers: exponents all ones. */
  readonly st: readonly bigint[];
  /** The data page. */
  readonly data: Uint8Array;
}

const EDGES: Readonly<Record<number, readonly number[]>> = {
  1: [0, 1, 2, 0x7e, 0x7f, 0x80, 0x81, 0xfe, 0xff],
  2: [0, 1, 0x7f, 0x80, 0xff, 0x100, 0x7fff, 0x8000, 0x8001, 0xfffe, 0xffff],
  4: [0, 1, 0xffff, 0x7fff_ffff, 0x8000_0000, 0x8000_0001, 0xffff_ffff],
};
/** A small alphabet with an end, so that strings have matches. */
const LETTERS = [0, 0x61, 0x61, 0x62, 0x62, 0x63, 0x41, 0xe9];

/** Sixteen bytes of one kind. */
function block(rng: Random, out: Uint8Array, at: number): void {
  const kind = rng.below(6);
  const width = 1 << rng.below(3);
  for (let i = 0; i < 16; i += 4) {
    let value = rng.u32();
    if (kind < 3) {
      value = 0;
      for (let k = 0; k < 4; k += width) {
        const edge = rng.chance(70)
          ? rng.pick(EDGES[width])
          : rng.below(2 ** (8 * width));
        value += edge * 2 ** (8 * k);
      }
    } else if (kind === 3) {
      value = 0;
      const wide = rng.chance(40);
      for (let k = 0; k < 4; k += wide ? 2 : 1) {
        value += rng.pick(LETTERS) * 2 ** (8 * k);
      }
    } else if (kind === 4) {
      value = rng.below(80);
    }
    for (let k = 0; k < 4; k++) out[at + i + k] = value / 2 ** (8 * k) & 0xff;
  }
}

function number(bytes: Uint8Array, at: number, length: number): bigint {
  let value = 0n;
  for (let i = length - 1; i >= 0; i--) {
    value = value << 8n | BigInt(bytes[at + i]);
  }
  return value;
}

const made = new Map<number, SeededVectors>();

/** Registers and data of a seed; not to be written to. */
export function seededVectors(seed: number): SeededVectors {
  let vectors = made.get(seed);
  if (vectors === undefined) {
    vectors = seed < FLOAT_SEED ? make(seed) : floatVectors(seed);
    made.set(seed, vectors);
  }
  return vectors;
}

function make(seed: number): SeededVectors {
  const rng = new Random(`silicon vectors ${seed}`);
  const registers = new Uint8Array(16 * 24);
  for (let at = 0; at < registers.length; at += 16) block(rng, registers, at);
  // Neighbours are often equal, so that comparisons find something.
  for (let r = 1; r < 24; r++) {
    if (rng.chance(20)) {
      registers.copyWithin(r * 16, r * 16 - 16, r * 16 - 1 - rng.below(15));
    }
  }
  const data = new Uint8Array(PAGE_SIZE);
  for (let at = 0; at < PAGE_SIZE; at += 16) block(rng, data, at);
  return {
    xmm: Array.from({ length: 16 }, (_, r) => number(registers, r * 16, 16)),
    st: Array.from(
      { length: 8 },
      (_, r) => number(registers, 256 + r * 16, 8) | 0xffffn << 64n,
    ),
    data,
  };
}
