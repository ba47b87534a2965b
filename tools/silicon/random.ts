/**
 * Seeded numbers for the vector generator: a 32-bit mixing generator (no clock,
 * no entropy) and the values that make instructions misbehave.
 * Invariant: equal seeds give equal vectors.
 */

/** A seeded stream of numbers. */
export class Random {
  #state: number;

  /** Stream for `seed`; equal texts give equal streams. */
  constructor(seed: string) {
    let h = 0x811c9dc5;
    for (const ch of seed) h = Math.imul(h ^ ch.charCodeAt(0), 0x01000193);
    this.#state = h >>> 0;
  }

  /** Uniform 32-bit number. */
  u32(): number {
    this.#state = (this.#state + 0x9e3779b9) >>> 0;
    let z = this.#state;
    z = Math.imul(z ^ (z >>> 16), 0x21f0aaad);
    z = Math.imul(z ^ (z >>> 15), 0x735a2d97);
    return (z ^ (z >>> 15)) >>> 0;
  }

  /** Uniform number in 0…`n`-1. */
  below(n: number): number {
    return Math.floor(this.u32() / 4294967296 * n);
  }

  /** True `percent` times in a hundred. */
  chance(percent: number): boolean {
    return this.below(100) < percent;
  }

  /** One element of `list`. */
  pick<T>(list: readonly T[]): T {
    return list[this.below(list.length)];
  }

  /** Uniform 64-bit number. */
  u64(): bigint {
    return (BigInt(this.u32()) << 32n) | BigInt(this.u32());
  }

  /** A `bits`-wide value, mostly one at an edge. */
  interesting(bits: number): bigint {
    const all = (1n << BigInt(bits)) - 1n;
    const half = 1n << BigInt(bits - 1);
    switch (this.below(10)) {
      case 0:
        return this.pick([0n, 1n, 2n, all, all - 1n]);
      case 1:
        return this.pick([half, half - 1n, half + 1n]);
      case 2:
        return 1n << BigInt(this.below(bits));
      case 3:
        return all ^ (1n << BigInt(this.below(bits)));
      case 4:
        return BigInt(this.below(256)) & all;
      case 5:
        return (all - BigInt(this.below(256))) & all;
      case 6:
        return this.u64() & all & ((1n << BigInt(1 + this.below(bits))) - 1n);
      default:
        return this.u64() & all;
    }
  }

  /** `length` bytes, little-endian pieces of interesting values. */
  bytes(length: number): Uint8Array {
    const out = new Uint8Array(length);
    for (let i = 0; i < length; i += 8) {
      let v = this.interesting(8 * Math.min(8, length - i));
      for (let j = i; j < Math.min(length, i + 8); j++, v >>= 8n) {
        out[j] = Number(v & 0xffn);
      }
    }
    return out;
  }
}

/** `value` as `length` little-endian bytes. */
export function littleEndian(value: bigint, length: number): Uint8Array {
  const v = BigInt.asUintN(8 * length, value);
  return Uint8Array.from(
    { length },
    (_, i) => Number((v >> BigInt(8 * i)) & 0xffn),
  );
}

/** Unsigned number in `bytes`, little-endian. */
export function fromLittleEndian(bytes: Uint8Array): bigint {
  return bytes.reduceRight((v, b) => (v << 8n) | BigInt(b), 0n);
}
