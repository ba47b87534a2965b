/**
 * Where tapes lie: the two interfaces that the core knows of storage, and
 * their in-memory forms. Files are in host/store/.
 * Invariant of a sink: bytes are never changed once appended. After an error
 * the sink holds a prefix of what was appended, so a tape is only ever torn.
 */

/** What a tape is written to. Both methods throw when the store fails. */
export interface ByteSink {
  /** Hands `bytes` (not kept after the call) to the store, in order. */
  append(bytes: Uint8Array): void;
  /**
   * Returns when everything appended has left the process: it survives
   * SIGKILL (a store may offer more, such as surviving power loss).
   */
  flush(): void;
}

/** What a tape is read from. */
export interface ByteSource {
  /** Bytes there now; may grow while the tape is still being written. */
  readonly size: number;
  /** Up to `length` bytes from `offset`; fewer only at the end. */
  read(offset: number, length: number): Uint8Array;
}

/** A tape in memory: sink and source at once. */
export class MemoryStore implements ByteSink, ByteSource {
  #bytes: Uint8Array;
  #size: number;

  /** Starts with `initial` (copied). */
  constructor(initial: Uint8Array = new Uint8Array(0)) {
    this.#bytes = new Uint8Array(initial);
    this.#size = initial.length;
  }

  get size(): number {
    return this.#size;
  }

  append(bytes: Uint8Array): void {
    const need = this.#size + bytes.length;
    if (need > this.#bytes.length) {
      const grown = new Uint8Array(
        Math.max(need, this.#bytes.length * 2, 4096),
      );
      grown.set(this.#bytes.subarray(0, this.#size));
      this.#bytes = grown;
    }
    this.#bytes.set(bytes, this.#size);
    this.#size = need;
  }

  flush(): void {}

  read(offset: number, length: number): Uint8Array {
    return this.#bytes.subarray(offset, Math.min(offset + length, this.#size));
  }

  /** Everything in it, as a view. */
  bytes(): Uint8Array {
    return this.#bytes.subarray(0, this.#size);
  }
}
