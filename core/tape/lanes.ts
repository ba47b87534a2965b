/**
 * Lanes: a run of facts (or notes) in columns. One LANE payload holds the
 * order of the events (type numbers), their steps as deltas, and for each
 * type its own columns: hot events (fixed u32 words) one column a word,
 * delta-coded against the previous event of the type; other events their
 * codec's bytes, lengths apart.
 *
 *   events count · types count · position-relative directory:
 *   { type count · words+1 or 0 count · events count } for each type,
 *   then the blocks: order, steps, and for each type its columns.
 *
 * Invariant: the bytes depend only on the sequence of events since the last
 * cut, so the same run gives the same lanes (law 6), whatever the batching.
 */
import { ByteReader, ByteWriter } from "../bytes.ts";
import { MAX_RAW_BYTES } from "./frames.ts";

/** A lane is cut before it would grow beyond this many raw bytes. */
export const LANE_CUT_BYTES = MAX_RAW_BYTES - 8192;
/** Directory and block lengths of a type never take more than this a column. */
const DIRECTORY_BYTES = 24;
/** Hot events have at most this many words. */
export const MAX_WORDS = 64;

/** One event as lanes hold it. */
export interface LaneEvent {
  /** The step. */
  readonly step: number;
  /** Number of the event's schema on this tape. */
  readonly type: number;
  /** Hot events: the words. */
  readonly words?: Uint32Array;
  /** Other events: the codec's bytes. */
  readonly bytes?: Uint8Array;
}

/** A growing column of LEB128 numbers or bytes: the hot path of recording. */
class Column {
  bytes = new Uint8Array(256);
  length = 0;

  #grow(count: number): void {
    const need = Math.max(this.length + count, 2 * this.bytes.length);
    const grown = new Uint8Array(need);
    grown.set(this.bytes.subarray(0, this.length));
    this.bytes = grown;
  }

  /** Appends an unsigned 32-bit number; answers how many bytes it took. */
  count(value: number): number {
    if (this.length + 5 > this.bytes.length) this.#grow(5);
    const { bytes, length } = this;
    let at = length, rest = value >>> 0;
    while (rest >= 0x80) {
      bytes[at++] = (rest & 0x7f) | 0x80;
      rest >>>= 7;
    }
    bytes[at++] = rest;
    this.length = at;
    return at - length;
  }

  raw(more: Uint8Array): void {
    const need = this.length + more.length;
    if (need > this.bytes.length) this.#grow(more.length);
    this.bytes.set(more, this.length);
    this.length = need;
  }

  view(): Uint8Array {
    return this.bytes.subarray(0, this.length);
  }
}

interface TypeColumns {
  readonly type: number;
  /** -1: bytes. */
  readonly width: number;
  count: number;
  readonly previous: Int32Array;
  readonly columns: Column[];
}

/** Collects events until {@link LaneBuilder.cut}. */
export class LaneBuilder {
  readonly #order = new Column();
  readonly #steps = new Column();
  #byType: (TypeColumns | undefined)[] = [];
  #present: TypeColumns[] = [];
  #first = 0;
  #last = 0;
  #count = 0;
  #bytes = 0;

  /** Events collected. */
  get count(): number {
    return this.#count;
  }

  /** An upper bound of the raw bytes a cut would give now. */
  get size(): number {
    return this.#bytes;
  }

  #columns(step: number, type: number, width: number): TypeColumns {
    if (this.#count === 0) {
      this.#first = step;
      this.#last = step;
      this.#bytes = 32;
    }
    let columns = this.#byType[type];
    if (columns === undefined) {
      columns = {
        type,
        width,
        count: 0,
        previous: new Int32Array(Math.max(width, 0)),
        columns: Array.from(
          { length: width < 0 ? 2 : width },
          () => new Column(),
        ),
      };
      this.#byType[type] = columns;
    }
    if (columns.count === 0) {
      this.#present.push(columns);
      this.#bytes += DIRECTORY_BYTES * (1 + columns.columns.length);
    }
    columns.count++;
    this.#count++;
    this.#bytes += this.#order.count(type) +
      this.#steps.count(step - this.#last);
    this.#last = step;
    return columns;
  }

  /** Appends a hot event: `count` words of `words` from `at`. */
  words(
    step: number,
    type: number,
    words: Uint32Array,
    at: number,
    count: number,
  ): void {
    const columns = this.#columns(step, type, count);
    const previous = columns.previous;
    let grown = 0;
    for (let i = 0; i < count; i++) {
      const word = words[at + i] | 0;
      const delta = (word - previous[i]) | 0;
      grown += columns.columns[i].count((delta << 1) ^ (delta >> 31));
      previous[i] = word;
    }
    this.#bytes += grown;
  }

  /** Appends an event by its codec's bytes. */
  payload(step: number, type: number, bytes: Uint8Array): void {
    const [lengths, contents] = this.#columns(step, type, -1).columns;
    contents.raw(bytes);
    this.#bytes += lengths.count(bytes.length) + bytes.length;
  }

  /** The lane so far, or undefined if empty; starts the next. */
  cut(): { position: number; count: number; raw: Uint8Array } | undefined {
    if (this.#count === 0) return undefined;
    const out = new ByteWriter(this.#bytes);
    out.count(this.#count);
    out.count(this.#present.length);
    for (const columns of this.#present) {
      out.count(columns.type);
      out.count(columns.width + 1);
      out.count(columns.count);
    }
    out.bytes(this.#order.view());
    out.bytes(this.#steps.view());
    for (const columns of this.#present) {
      for (const column of columns.columns) {
        out.bytes(column.view());
        column.length = 0;
      }
      columns.previous.fill(0);
      columns.count = 0;
    }
    const lane = { position: this.#first, count: this.#count, raw: out.view() };
    this.#order.length = 0;
    this.#steps.length = 0;
    this.#present = [];
    this.#count = 0;
    this.#bytes = 0;
    return lane;
  }
}

/** The events of a LANE payload in order. Throws RangeError on bad bytes. */
export function decodeLane(raw: Uint8Array, position: number): LaneEvent[] {
  const input = new ByteReader(raw);
  const total = input.count();
  const types = input.count();
  if (total > raw.length || types > raw.length) {
    throw new RangeError("Cannot read a lane: it counts more than it holds");
  }
  const directory: { type: number; width: number; count: number }[] = [];
  for (let i = 0; i < types; i++) {
    const type = input.count(), width = input.count() - 1;
    const count = input.count();
    if (width > MAX_WORDS || count > total) {
      throw new RangeError(
        `Cannot read a lane: bad directory for type ${type}`,
      );
    }
    directory.push({ type, width, count });
  }
  const order = new ByteReader(input.bytes());
  const steps = new ByteReader(input.bytes());
  const payloads = new Map<number, () => Pick<LaneEvent, "words" | "bytes">>();
  for (const { type, width, count } of directory) {
    if (width < 0) {
      const lengths = new ByteReader(input.bytes());
      const contents = new ByteReader(input.bytes());
      payloads.set(type, () => ({ bytes: contents.raw(lengths.count()) }));
    } else {
      const table = new Uint32Array(width * count);
      for (let column = 0; column < width; column++) {
        const from = new ByteReader(input.bytes());
        let word = 0;
        for (let row = 0; row < count; row++) {
          const code = from.count();
          word = (word + ((code >>> 1) ^ -(code & 1))) | 0;
          table[row * width + column] = word;
        }
      }
      let row = 0;
      payloads.set(type, () => {
        const words = table.subarray(row * width, (row + 1) * width);
        row++;
        return { words };
      });
    }
  }
  const events: LaneEvent[] = [];
  let step = position;
  for (let i = 0; i < total; i++) {
    const type = order.count();
    step += steps.count();
    const next = payloads.get(type);
    if (next === undefined) {
      throw new RangeError(`Cannot read a lane: type ${type} has no columns`);
    }
    events.push({ step, type, ...next() });
  }
  return events;
}
