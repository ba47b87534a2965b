/**
 * Growable little-endian writer and bounds-checked reader: the only way that
 * payloads, cells and kernel state become bytes. Canonical: one value has
 * exactly one encoding. Counts are LEB128, at most five bytes.
 */
import { StateError } from "./errors.ts";

const utf8 = new TextEncoder();
const utf8Strict = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
const MASK64 = 0xffff_ffff_ffff_ffffn;

/** Appends values to a buffer that grows by doubling. */
export class ByteWriter {
  #bytes: Uint8Array;
  #view: DataView;
  /** Bytes written so far. */
  length = 0;

  /** Starts with room for `capacity` bytes. */
  constructor(capacity = 64) {
    this.#bytes = new Uint8Array(capacity);
    this.#view = new DataView(this.#bytes.buffer);
  }

  #need(n: number): number {
    const at = this.length;
    const end = at + n;
    if (end > this.#bytes.length) {
      const grown = new Uint8Array(Math.max(end, this.#bytes.length * 2));
      grown.set(this.#bytes.subarray(0, at));
      this.#bytes = grown;
      this.#view = new DataView(grown.buffer);
    }
    this.length = end;
    return at;
  }

  /** One byte; the value is taken modulo 256. */
  u8(value: number): void {
    const at = this.#need(1);
    this.#bytes[at] = value;
  }
  /** Two bytes, little-endian. */
  u16(value: number): void {
    const at = this.#need(2);
    this.#view.setUint16(at, value, true);
  }
  /** Four bytes, little-endian. */
  u32(value: number): void {
    const at = this.#need(4);
    this.#view.setUint32(at, value, true);
  }
  /** Eight bytes, little-endian. */
  u64(value: bigint): void {
    const at = this.#need(8);
    this.#view.setBigUint64(at, value & MASK64, true);
  }
  /** A non-negative safe integer as eight bytes, little-endian. */
  u53(value: number): void {
    const at = this.#need(8);
    this.#view.setUint32(at, value >>> 0, true);
    this.#view.setUint32(at + 4, Math.floor(value / 0x1_0000_0000), true);
  }
  /** An unsigned 32-bit count as LEB128. */
  count(value: number): void {
    let rest = value >>> 0;
    while (rest >= 0x80) {
      this.u8((rest & 0x7f) | 0x80);
      rest >>>= 7;
    }
    this.u8(rest);
  }
  /** Bytes without a count. */
  raw(bytes: Uint8Array): void {
    const at = this.#need(bytes.length);
    this.#bytes.set(bytes, at);
  }
  /** Bytes after their count. */
  bytes(bytes: Uint8Array): void {
    this.count(bytes.length);
    this.raw(bytes);
  }
  /** UTF-8 after its byte count. */
  text(text: string): void {
    this.bytes(utf8.encode(text));
  }

  /** Forgets what was written and keeps the buffer. */
  reset(): void {
    this.length = 0;
  }
  /** What was written, as a copy. */
  finish(): Uint8Array {
    return this.#bytes.slice(0, this.length);
  }
  /** What was written, as a view that the next write may invalidate. */
  view(): Uint8Array {
    return this.#bytes.subarray(0, this.length);
  }
}

/** Reads what `ByteWriter` wrote; every read is bounds-checked. */
export class ByteReader {
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  /** Offset of the next byte. */
  at: number;
  /** Offset after the last byte. */
  readonly end: number;

  /** Reads `bytes` from offset `at` up to `end`. */
  constructor(bytes: Uint8Array, at = 0, end = bytes.length) {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.at = at;
    this.end = end;
  }

  #take(n: number): number {
    const at = this.at;
    if (at + n > this.end) {
      throw new StateError(
        `read ${n} bytes at ${at}: the data ends at ${this.end}`,
      );
    }
    this.at = at + n;
    return at;
  }

  /** True when everything has been read. */
  get done(): boolean {
    return this.at >= this.end;
  }
  /** One byte. */
  u8(): number {
    const at = this.#take(1);
    return this.#bytes[at];
  }
  /** Two bytes, little-endian. */
  u16(): number {
    const at = this.#take(2);
    return this.#view.getUint16(at, true);
  }
  /** Four bytes, little-endian. */
  u32(): number {
    const at = this.#take(4);
    return this.#view.getUint32(at, true);
  }
  /** Eight bytes, little-endian. */
  u64(): bigint {
    const at = this.#take(8);
    return this.#view.getBigUint64(at, true);
  }
  /** Eight bytes that hold a safe integer. */
  u53(): number {
    const at = this.#take(8);
    const low = this.#view.getUint32(at, true);
    const high = this.#view.getUint32(at + 4, true);
    if (high > 0x1f_ffff) {
      throw new StateError(`read a safe integer at ${at}: it exceeds 2^53`);
    }
    return high * 0x1_0000_0000 + low;
  }
  /** A LEB128 count; only the shortest form is accepted. */
  count(): number {
    let value = 0;
    let scale = 1;
    for (let i = 0; i < 5; i++) {
      const byte = this.u8();
      value += (byte & 0x7f) * scale;
      scale *= 128;
      if (byte < 0x80) {
        if (value > 0xffff_ffff || (byte === 0 && i > 0)) break;
        return value;
      }
    }
    throw new StateError(`read a count at ${this.at}: it is not canonical`);
  }
  /** `n` bytes as a copy. */
  raw(n: number): Uint8Array {
    const at = this.#take(n);
    return this.#bytes.slice(at, at + n);
  }
  /** Bytes after their count, as a copy. */
  bytes(): Uint8Array {
    return this.raw(this.count());
  }
  /** UTF-8 after its byte count. */
  text(): string {
    try {
      return utf8Strict.decode(this.bytes());
    } catch (cause) {
      if (cause instanceof StateError) throw cause;
      throw new StateError(`read text at ${this.at}: it is not UTF-8`, cause);
    }
  }
}

const HEX: readonly string[] = Array.from(
  { length: 256 },
  (_, byte) => byte.toString(16).padStart(2, "0"),
);

/** Lower-case hexadecimal digits of `bytes`. */
export function toHex(bytes: Uint8Array): string {
  let text = "";
  for (const byte of bytes) text += HEX[byte];
  return text;
}

/**
 * The bytes that hexadecimal digits stand for.
 * @throws RangeError when `digits` is not pairs of hexadecimal digits
 */
export function fromHex(digits: string): Uint8Array {
  if (digits.length % 2 !== 0 || !/^[0-9a-fA-F]*$/.test(digits)) {
    throw new RangeError(`expected pairs of hexadecimal digits: ${digits}`);
  }
  const bytes = new Uint8Array(digits.length / 2);
  for (let i = 0; i < bytes.length; i++) {
    bytes[i] = Number.parseInt(digits.slice(2 * i, 2 * i + 2), 16);
  }
  return bytes;
}

/** True when both hold the same bytes. */
export function sameBytes(a: Uint8Array, b: Uint8Array): boolean {
  if (a.length !== b.length) return false;
  let i = 0;
  if (((a.byteOffset | b.byteOffset) & 3) === 0) {
    const words = a.length >>> 2;
    const left = new Int32Array(a.buffer, a.byteOffset, words);
    const right = new Int32Array(b.buffer, b.byteOffset, words);
    for (let w = 0; w < words; w++) if (left[w] !== right[w]) return false;
    i = words * 4;
  }
  for (; i < a.length; i++) if (a[i] !== b[i]) return false;
  return true;
}
