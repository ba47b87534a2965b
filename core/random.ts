/**
 * Random streams, one for each plugin, seeded by SHA-256(seed, plugin name):
 * adding a plugin never shifts another's stream. The generator is
 * xoshiro128** (Blackman and Vigna, public domain); its four words are kernel
 * state, in keyframes and digests.
 */
import { createHash } from "node:crypto";
import type { ByteReader, ByteWriter } from "./bytes.ts";

/** A deterministic stream. */
export interface Random {
  /** A uniform unsigned 32-bit integer. */
  u32(): number;
  /** A uniform unsigned 64-bit integer. */
  u64(): bigint;
  /** A uniform integer from 0 below `limit` (1 to 2^32). */
  below(limit: number): number;
}

/** A stream that the kernel can save and restore. */
export class RandomStream implements Random {
  readonly #s = new Uint32Array(4);

  /** The stream of `name` in a machine of seed `seed`. */
  constructor(seed: bigint, name: string) {
    const digest = createHash("sha256")
      .update(`vmtape random\0${seed.toString(16)}\0${name}`).digest();
    const view = new DataView(
      digest.buffer,
      digest.byteOffset,
      digest.byteLength,
    );
    for (let i = 0; i < 4; i++) this.#s[i] = view.getUint32(4 * i, true);
    // xoshiro's only forbidden state.
    if (this.#s.every((word) => word === 0)) this.#s[0] = 1;
  }

  u32(): number {
    const s = this.#s;
    const x5 = Math.imul(s[1], 5);
    const result = Math.imul((x5 << 7) | (x5 >>> 25), 9) >>> 0;
    const t = s[1] << 9;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = (s[3] << 11) | (s[3] >>> 21);
    return result;
  }

  u64(): bigint {
    const low = BigInt(this.u32());
    return BigInt(this.u32()) << 32n | low;
  }

  below(limit: number): number {
    if (!(Number.isInteger(limit) && limit >= 1 && limit <= 0x1_0000_0000)) {
      throw new RangeError(`draw below ${limit}: use an integer, 1 to 2^32`);
    }
    // Rejects the incomplete last interval, so that every value is as likely.
    const fair = 0x1_0000_0000 - (0x1_0000_0000 % limit);
    for (;;) {
      const drawn = this.u32();
      if (drawn < fair) return drawn % limit;
    }
  }

  /** Appends its position, 16 bytes. */
  encode(out: ByteWriter): void {
    for (const word of this.#s) out.u32(word);
  }
  /** Goes to a saved position. */
  decode(from: ByteReader): void {
    for (let i = 0; i < 4; i++) this.#s[i] = from.u32();
  }
}
