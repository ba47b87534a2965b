/**
 * Instructions decoded before, found again by their bytes: kernels execute the
 * same few thousand instructions at ever new places, and decoding costs more
 * than all else that makes a block. Wild bytes (wild_bytes.ts) are no part of
 * what is compared; at each place they give a number of their own.
 *
 * Invariant: an entry holds only what its bytes and the mode's sizes say. No
 * instruction's bytes are the beginning of another's, so the first match is it.
 */
import type { InstructionDecoder } from "../../isa/decoder.ts";
import type { Insn } from "../../isa/insn.ts";
import type { Form } from "./form.ts";
import type { Mode } from "./mode.ts";
import { RECORD_BYTES } from "./record.ts";
import { Wild, type WildBytes, wildBytes, wildValue } from "./wild_bytes.ts";

/** What is known of some bytes. */
export interface Decoded {
  /** As it was at the place where it was met first. */
  readonly insn: Insn;
  readonly wild: WildBytes;
  /** A procedure may ask for RIP or operands: each place needs an instruction of its own. */
  readonly own: boolean;
  /** Its forms by Form.local, once known. */
  far: Form | undefined;
  near: Form | undefined;
  /** Index of the contents of its record in the cache's `words`. */
  readonly words: number;
  /** They have been made. */
  filled: boolean;
}

const MAX_LENGTH = 15;
/** Entries after which all are forgotten. */
const MOST = 1 << 17;
const FIRST_SIZE = 1 << 10;
const WORDS = RECORD_BYTES / 4;
/** Of an entry: hash, tag, four words of bytes, four that say which bits count. */
const ENTRY = 10, TAG = 1, BYTES = 2, MASKS = 6;

/** By number of bytes: which bits of four words they are. */
const FIRST = Int32Array.from({ length: 17 * 4 }, (_, i) => {
  const bytes = (i >> 2) - (i & 3) * 4;
  if (bytes <= 0) return 0;
  return bytes >= 4 ? -1 : (1 << bytes * 8) - 1;
});

/** What an entry needs to agree in: the sizes that decoding depends on, and its head's length. */
function tagOf({ codeSize, stackSize, real }: Mode, head: number): number {
  return codeSize | stackSize << 8 | (real ? 1 << 16 : 0) | head << 20;
}

/** See the file header. One per decoder. */
export class DecodeCache {
  /** After `find`: the halves of the number that wild bytes give, where there are any. */
  low = 0;
  high = 0;
  /** Contents of records. */
  words = new Uint32Array(FIRST_SIZE * WORDS);
  private readonly list: Decoded[] = [];
  /** By entry. */
  private entries = new Int32Array(FIRST_SIZE * ENTRY);
  /** By hash: entry + 1, or 0; the next place where one is taken. */
  private index = new Int32Array(FIRST_SIZE * 4);
  /** By first two bytes: bit n set when an entry with a head of n bytes is known. */
  private readonly heads = new Uint16Array(1 << 16);
  private memory: Uint8Array | undefined;
  private view!: DataView;
  private readonly end = new DataView(new ArrayBuffer(16));

  constructor(private readonly decoder: InstructionDecoder) {}

  /** The number that wild bytes give. */
  get value(): bigint {
    return BigInt(this.high) << 32n | BigInt(this.low);
  }

  /**
   * What begins at `at`, of which `room` bytes may belong to it.
   * @param ripLow its RIP in halves; `ripLow` may go beyond 32 bits
   * @returns a DecodeFailure code if that is no instruction
   */
  find(
    bytes: Uint8Array,
    at: number,
    room: number,
    ripLow: number,
    ripHigh: number,
    mode: Mode,
  ): Decoded | number {
    let { view } = this, from = at;
    if (bytes !== this.memory || at + 16 > bytes.length) {
      view = this.viewOf(bytes, at);
      if (view === this.end) from = 0;
    }
    const a = view.getInt32(from, true), b = view.getInt32(from + 4, true);
    const c = view.getInt32(from + 8, true), d = view.getInt32(from + 12, true);
    const { index, entries } = this;
    const last = index.length - 1;
    // A second byte that belongs to the next instruction says nothing.
    const begin = room > 1 ? a & 0xffff : a & 0xff;
    const heads = this.heads[begin];
    for (let left = heads; left !== 0; left &= left - 1) {
      const n = 31 - Math.clz32(left & -left);
      if (n > room) break;
      const m = n * 4;
      const tag = tagOf(mode, n);
      const hash = hashOf(
        a & FIRST[m],
        b & FIRST[m + 1],
        c & FIRST[m + 2],
        d & FIRST[m + 3],
        tag,
      );
      for (let i = hash & last; index[i] !== 0; i = i + 1 & last) {
        const e = (index[i] - 1) * ENTRY;
        if (entries[e + TAG] !== tag) continue;
        const other = (a ^ entries[e + BYTES]) & entries[e + MASKS] |
          (b ^ entries[e + BYTES + 1]) & entries[e + MASKS + 1] |
          (c ^ entries[e + BYTES + 2]) & entries[e + MASKS + 2] |
          (d ^ entries[e + BYTES + 3]) & entries[e + MASKS + 3];
        if (other !== 0) continue;
        const known = this.list[index[i] - 1];
        if (known.insn.length > room) continue;
        const { wild } = known;
        if (wild.count !== 0) {
          const next = ripLow + known.insn.length;
          this.read(wild, bytes, at + n, next, ripHigh);
        }
        return known;
      }
    }
    return this.decode(bytes, at, room, ripLow, ripHigh, mode);
  }

  /** A view of the bytes, or `end` with those from `at` on where they are too few. */
  private viewOf(bytes: Uint8Array, at: number): DataView {
    if (bytes !== this.memory) {
      this.memory = bytes;
      this.view = new DataView(
        bytes.buffer,
        bytes.byteOffset,
        bytes.byteLength,
      );
    }
    if (at + 16 <= bytes.length) return this.view;
    for (let i = 0; i < 16; i++) this.end.setUint8(i, bytes[at + i] ?? 0);
    return this.end;
  }

  private decode(
    bytes: Uint8Array,
    at: number,
    room: number,
    ripLow: number,
    ripHigh: number,
    mode: Mode,
  ): Decoded | number {
    const { codeSize, stackSize, real } = mode;
    const data = bytes.subarray(at, at + Math.min(room, MAX_LENGTH));
    const rip = BigInt.asUintN(
      codeSize === 64 ? 64 : 32,
      (BigInt(ripHigh) << 32n) + BigInt(ripLow),
    );
    const insn = this.decoder.decode(
      data,
      data.length,
      codeSize,
      rip,
      stackSize,
      real,
    );
    if (typeof insn === "number") return insn;
    const wild = wildBytes(insn, data);
    if (this.list.length === MOST) this.forget();
    const made: Decoded = {
      ...{ insn, wild, own: insn.row.emit === undefined },
      ...{ far: undefined, near: undefined },
      ...{ words: this.list.length * WORDS, filled: false },
    };
    if (wild.count !== 0) {
      this.read(wild, bytes, at + wild.start, ripLow + insn.length, ripHigh);
      const { value } = this, decoded = wildValue(insn, wild.kind);
      if (value !== decoded) {
        throw new Error(
          `decode ${insn.row.name}: its bytes say ${value}, the decoder ` +
            `${decoded}; correct where wild_bytes.ts looks`,
        );
      }
    }
    this.enter(made, data, mode);
    return made;
  }

  private enter(made: Decoded, data: Uint8Array, mode: Mode): void {
    const { insn: { length }, wild: { start, count } } = made;
    const number = this.list.push(made);
    if (number * 4 > this.index.length) this.grow();
    const e = (number - 1) * ENTRY;
    const tag = tagOf(mode, start);
    const { entries, end } = this;
    for (let i = 0; i < 16; i++) end.setUint8(i, i < length ? data[i] : 0);
    for (let i = 0; i < 4; i++) {
      const wild = FIRST[(start + count) * 4 + i] & ~FIRST[start * 4 + i];
      entries[e + BYTES + i] = end.getInt32(i * 4, true);
      entries[e + MASKS + i] = FIRST[length * 4 + i] & ~wild;
    }
    const m = start * 4;
    entries[e + TAG] = tag;
    entries[e] = hashOf(
      entries[e + BYTES] & FIRST[m],
      entries[e + BYTES + 1] & FIRST[m + 1],
      entries[e + BYTES + 2] & FIRST[m + 2],
      entries[e + BYTES + 3] & FIRST[m + 3],
      tag,
    );
    this.place(number);
    const bit = 1 << start;
    if (start > 1) this.heads[data[0] | data[1] << 8] |= bit;
    else {
      for (let i = 0; i < 256; i++) this.heads[data[0] | i << 8] |= bit;
    }
  }

  private place(number: number): void {
    const { index } = this;
    const last = index.length - 1;
    let i = this.entries[(number - 1) * ENTRY] & last;
    while (index[i] !== 0) i = i + 1 & last;
    index[i] = number;
  }

  private grow(): void {
    const { entries, words, list } = this;
    this.entries = new Int32Array(entries.length * 2);
    this.entries.set(entries);
    this.words = new Uint32Array(words.length * 2);
    this.words.set(words);
    this.index = new Int32Array(this.index.length * 2);
    for (let number = 1; number < list.length; number++) this.place(number);
  }

  private forget(): void {
    this.list.length = 0;
    this.index.fill(0);
    this.heads.fill(0);
  }

  /** Puts the number of the wild bytes at `at` into `low` and `high`. */
  private read(
    { kind, count, size }: WildBytes,
    bytes: Uint8Array,
    at: number,
    nextLow: number,
    ripHigh: number,
  ): void {
    let value = bytes[at] << 24 >> 24;
    if (count > 1) value = bytes[at + 1] << 24 >> 16 | bytes[at];
    if (count > 2) {
      value = bytes[at] | bytes[at + 1] << 8 | bytes[at + 2] << 16 |
        bytes[at + 3] << 24;
    }
    let high = 0;
    if (kind <= Wild.Relative) {
      value += nextLow;
      high = ripHigh;
    }
    this.low = (size === 16 ? value & 0xffff : value) >>> 0;
    this.high = size === 64 ? (high + Math.floor(value / 2 ** 32)) >>> 0 : 0;
  }
}

function hashOf(
  a: number,
  b: number,
  c: number,
  d: number,
  tag: number,
): number {
  const hash = Math.imul(a, 0x9e3779b1) ^ Math.imul(b, 0x85ebca77) ^
    Math.imul(c, 0xc2b2ae3d) ^ Math.imul(d, 0x27d4eb2f) ^
    Math.imul(tag, 0x165667b1);
  return hash ^ hash >>> 15;
}
