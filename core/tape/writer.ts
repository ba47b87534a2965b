/**
 * Writes a tape's frames, in order, to a ByteSink: preamble, framing, chain
 * of commits, seek index, END (reference/record-replay.md §4.2).
 * Invariants: one append a frame, so a tape is only ever torn at its tail;
 * once the sink has failed nothing more is written; memory is bounded (the
 * entries of one INDEX frame).
 */
import { ByteWriter } from "../bytes.ts";
import { messageOf, VmtapeError } from "../errors.ts";
import {
  decodeHeader,
  encodeFrame,
  encodePreamble,
  Feature,
  type FrameHeader,
  FrameType,
  isChained,
  MAX_RAW_BYTES,
  PREAMBLE_BYTES,
} from "./frames.ts";
import { sha256 } from "../keyframe.ts";
import { encodeIndex, INDEX_EVERY } from "./index.ts";
import { encodeEnd, type RunEnd } from "./payloads.ts";
import type { ByteSink } from "./store.ts";

/**
 * Where a recorder's frames go: a TapeWriter, or a comparison with a tape.
 * `position`, `count` and `raw` are canonical; `raw` is not kept.
 */
export interface FrameOut {
  /** SHA-256 chain over everything canonical so far, 32 bytes. */
  readonly chainHead: Uint8Array;
  /** Writes one payload, in parts if it is long. */
  frame(
    type: FrameType,
    position: number,
    count: number,
    raw: Uint8Array,
  ): void;
  /** What was written has left the process when this returns. */
  flush(): void;
  /** Closes the tape: final index and END. */
  end(end: RunEnd): void;
}

/** The chain before any frame. */
export function chainStart(): Uint8Array {
  return sha256(new TextEncoder().encode("vmtape chain 1"));
}

/** What `chainNext` hashes, in one buffer: pieces would cost more than the copy. */
const link = new ByteWriter(64);

/** The chain after one frame (a part of at most 256 KiB). */
export function chainNext(
  head: Uint8Array,
  type: number,
  position: number,
  count: number,
  raw: Uint8Array,
): Uint8Array {
  link.reset();
  link.raw(head);
  link.u8(type);
  link.u53(position);
  link.u32(count);
  link.u32(raw.length);
  link.raw(raw);
  return sha256(link.view());
}

const WHOLE = { continues: false, continued: false };

/** Writes one tape (or sidecar) from its first byte. */
export class TapeWriter implements FrameOut {
  readonly #sink: ByteSink;
  #offset = 0;
  #ordinal = 0;
  #chain = chainStart();
  #pending: FrameHeader[] = [];
  #lastIndex = -1;
  #failure: VmtapeError | undefined;
  #ended = false;

  /** Writes the preamble. `id`: SHA-256 of the manifest. */
  constructor(sink: ByteSink, id: Uint8Array, sidecar = false) {
    this.#sink = sink;
    this.#append(encodePreamble({
      required: Feature.zstd | (sidecar ? Feature.sidecar : 0),
      optional: 0,
      id,
    }));
    this.#offset = PREAMBLE_BYTES;
  }

  get chainHead(): Uint8Array {
    return this.#chain;
  }

  /** Bytes written. */
  get offset(): number {
    return this.#offset;
  }

  /** What the sink threw, if it failed; nothing is written after that. */
  get failure(): VmtapeError | undefined {
    return this.#failure;
  }

  #append(bytes: Uint8Array): void {
    this.#store(() => this.#sink.append(bytes));
  }

  flush(): void {
    this.#store(() => this.#sink.flush());
  }

  /** A store's failure passes through plugins unwrapped, and is final. */
  #store(action: () => void): void {
    if (this.#failure !== undefined) throw this.#failure;
    try {
      action();
    } catch (error) {
      this.#failure = error instanceof VmtapeError
        ? error
        : new VmtapeError("store", `write tape: ${messageOf(error)}`, error);
      throw this.#failure;
    }
  }

  frame(
    type: FrameType,
    position: number,
    count: number,
    raw: Uint8Array,
  ): void {
    if (this.#ended) throw new Error("Cannot write to a tape that has ended");
    let at = 0;
    do {
      const part = raw.subarray(at, at + MAX_RAW_BYTES);
      const continued = at > 0;
      at += part.length;
      const continues = at < raw.length;
      this.#one(type, position, count, part, { continues, continued });
    } while (at < raw.length);
  }

  #one(
    type: FrameType,
    position: number,
    count: number,
    raw: Uint8Array,
    parts: { continues: boolean; continued: boolean },
  ): void {
    const bytes = encodeFrame(
      { type, position, count, ordinal: this.#ordinal, ...parts },
      raw,
    );
    this.#append(bytes);
    const header = decodeHeader(bytes, this.#offset) as FrameHeader;
    if (isChained(type)) {
      this.#chain = chainNext(this.#chain, type, position, count, raw);
    }
    this.#offset += bytes.length;
    this.#ordinal++;
    if (type === FrameType.end) return;
    if (type === FrameType.index) {
      this.#lastIndex = header.offset;
      this.#pending = [];
    }
    this.#pending.push(header);
    if (
      this.#pending.length >= INDEX_EVERY &&
      !parts.continues
    ) {
      this.#index(position);
    }
  }

  #index(position: number): void {
    const raw = encodeIndex(this.#lastIndex, this.#pending);
    this.#one(FrameType.index, position, this.#pending.length, raw, WHOLE);
  }

  /** Writes the final index and END; nothing may follow. */
  end(end: RunEnd): void {
    this.#index(end.step);
    const raw = encodeEnd({
      ...end,
      indexOffset: this.#lastIndex,
      chainHead: this.#chain,
    });
    this.frame(FrameType.end, end.step, 0, raw);
    this.flush();
    this.#ended = true;
  }
}
