/**
 * Stores that misbehave, for the crash tests: a disk that fills up at a chosen
 * write, in the middle of it.
 */
import { MemoryStore } from "../../core/tape/store.ts";

/** What the full disk throws. */
export class DiskFull extends Error {
  override readonly name = "DiskFull";
}

/** Fails at append number `failAt`, after writing part of it. */
export class FullStore extends MemoryStore {
  readonly failAt: number;
  appends = 0;
  flushes = 0;
  /** Bytes there at the last flush that returned. */
  flushed = 0;

  constructor(failAt: number) {
    super();
    this.failAt = failAt;
  }

  override append(bytes: Uint8Array): void {
    const number = this.appends++;
    if (number < this.failAt) return super.append(bytes);
    if (number === this.failAt) {
      super.append(bytes.subarray(0, (bytes.length * 7 * number) % 97));
    }
    throw new DiskFull("no space left on device");
  }

  override flush(): void {
    this.flushes++;
    this.flushed = this.size;
  }
}
