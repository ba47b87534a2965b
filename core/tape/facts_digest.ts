/**
 * The facts digest: SHA-256 over the facts and inputs of a `full` window in
 * stream order, each as step, fingerprint and payload. Independent of how
 * lanes are cut, of schema numbers, engines and observers (laws 1, 2, 3).
 */
import { createHash, type Hash } from "node:crypto";
import { ByteWriter, fromHex } from "../bytes.ts";
import type { EventToken } from "../event.ts";

const CHUNK_BYTES = 1 << 16;

/** Hashes events as they come. */
export class FactsDigest {
  #hash: Hash = createHash("sha256");
  readonly #buffer = new ByteWriter(CHUNK_BYTES + 4096);
  readonly #marks: (Uint8Array | undefined)[] = [];

  #lead(step: number, token: EventToken): ByteWriter {
    const buffer = this.#buffer;
    if (buffer.length >= CHUNK_BYTES) this.#spill();
    let mark = this.#marks[token.id];
    if (mark === undefined) {
      mark = fromHex(token.fingerprint);
      this.#marks[token.id] = mark;
    }
    buffer.u53(step);
    buffer.raw(mark);
    return buffer;
  }

  #spill(): void {
    this.#hash.update(this.#buffer.view());
    this.#buffer.reset();
  }

  /** A hot event as `count` words of `words` from `at`. */
  words(
    step: number,
    token: EventToken,
    words: Uint32Array,
    at: number,
    count: number,
  ): void {
    const buffer = this.#lead(step, token);
    for (let i = 0; i < count; i++) buffer.u32(words[at + i]);
  }

  /** Any other event by its codec's bytes. */
  bytes(step: number, token: EventToken, bytes: Uint8Array): void {
    this.#lead(step, token).bytes(bytes);
  }

  /** The digest since the last call; starts the next window. */
  take(): Uint8Array {
    this.#spill();
    const digest = this.#hash.digest();
    this.#hash = createHash("sha256");
    return digest;
  }
}
