/**
 * Compares canonical frames, as a recorder makes them, with those of a tape:
 * a FrameOut that writes nothing and throws at the first difference.
 * Invariant: a frame that has no counterpart (damage, a torn tail) is counted
 * as unchecked and never passes for equal.
 */
import { sameBytes } from "../bytes.ts";
import { VmtapeError } from "../errors.ts";
import { FrameType, isChained, MAX_RAW_BYTES } from "./frames.ts";
import type { RawFrame, TapeReader } from "./reader.ts";
import { chainNext, chainStart, type FrameOut } from "./writer.ts";

/** Thrown out of the recorder at the first frame that differs. */
export class FrameDiffers extends VmtapeError {
  override readonly name = "FrameDiffers";
  constructor(readonly expected: RawFrame, readonly type: number) {
    super("diverged", "a frame of the replay differs from the tape's");
  }
}

/** A FrameOut that compares instead of writing. */
export class FrameComparison implements FrameOut {
  readonly #tape: TapeReader;
  readonly #frames: Iterator<RawFrame>;
  #chain = chainStart();
  #next: RawFrame | undefined;
  #previousEnd = 0;
  #resync = false;
  #onlyInputs = false;
  frames = 0;
  unchecked = 0;
  /** DIGEST frames among the equal ones. */
  digests = 0;
  /** Step of the last of them; -1 before the first. */
  equalUpTo = -1;

  constructor(tape: TapeReader) {
    this.#tape = tape;
    this.#frames = tape.chainedFrames();
    this.#advance();
  }

  get chainHead(): Uint8Array {
    return this.#chain;
  }

  flush(): void {}
  end(): void {}

  #advance(): void {
    const next = this.#frames.next();
    this.#next = next.done === true ? undefined : next.value;
    if (this.#next === undefined) return;
    const { offset, type } = this.#next.header;
    if (this.#tape.gap !== undefined && offset > this.#tape.gap.offset) {
      // A recovered tape has only the inputs here.
      this.#onlyInputs = true;
      if (type !== FrameType.input) this.#advance();
      return;
    }
    const from = this.#previousEnd;
    // Frames were lost in between: skip ours until they meet again.
    this.#resync = this.#tape.damage.some((d) =>
      !d.torn && d.offset >= from && d.offset < offset
    );
    this.#previousEnd = offset;
  }

  frame(
    type: FrameType,
    position: number,
    count: number,
    raw: Uint8Array,
  ): void {
    if (!isChained(type)) return;
    let at = 0;
    do {
      const part = raw.subarray(at, at + MAX_RAW_BYTES);
      at += part.length;
      this.#chain = chainNext(this.#chain, type, position, count, part);
      this.#compare(type, position, count, part);
    } while (at < raw.length);
  }

  #compare(
    type: FrameType,
    position: number,
    count: number,
    raw: Uint8Array,
  ): void {
    const next = this.#next;
    if (next === undefined || this.#onlyInputs && type !== FrameType.input) {
      this.unchecked++;
      return;
    }
    const same = next.header.type === type &&
      next.header.position === position && next.header.count === count &&
      sameBytes(next.raw, raw);
    if (!same) {
      if (this.#resync) {
        this.unchecked++;
        return;
      }
      throw new FrameDiffers(next, type);
    }
    this.frames++;
    if (type === FrameType.digest) {
      this.digests++;
      this.equalUpTo = position;
    }
    this.#advance();
  }
}
