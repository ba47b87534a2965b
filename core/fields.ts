/**
 * Fields: the typed atoms that event payloads, cells and options are made of.
 * A field knows its TypeScript type, its canonical bytes, its ring words (when
 * its size is fixed), its text and JSON forms and its documentation. The
 * signature string names the layout completely: fingerprints are made of
 * signatures, and `fieldOf` (signature.ts) turns one back into a field, so
 * that a tape's in-band schema can be read without its plugin.
 */
import type { ByteReader, ByteWriter } from "./bytes.ts";
import { fromHex, toHex } from "./bytes.ts";

/** What `JSON.stringify` takes. */
export type Json =
  | null
  | boolean
  | number
  | string
  | readonly Json[]
  | { readonly [key: string]: Json };

/** One typed value: its codecs, forms and documentation. */
export interface Field<T> {
  /** Tells declarations apart. */
  readonly is: "field";
  /** Complete description of the layout, as `u32` or `list(u8)`. */
  readonly signature: string;
  /** What the value means, with units. */
  readonly doc: string;
  /** Value of a fresh cell; default of an option. */
  readonly initial: T;
  /** As an option it has no default and must be given. */
  readonly required: boolean;
  /** u32 words in a ring, or 0 when the size is not fixed. */
  readonly words: number;
  /** True when equal values are identical (usable as a key). */
  readonly primitive: boolean;
  /** Values at the edges of the range, for conformance tests. */
  readonly samples: readonly T[];
  /** What is wrong with `value`, or undefined. */
  check(value: unknown): string | undefined;
  /**
   * Appends the canonical bytes.
   * @throws RangeError when the value does not fit
   */
  encode(value: T, out: ByteWriter): void;
  /** Reads what `encode` wrote. */
  decode(from: ByteReader): T;
  /** Puts the value into `words` ring words. */
  toWords(value: T, words: Uint32Array, at: number): void;
  /** Reads what `toWords` put. */
  fromWords(words: Uint32Array, at: number): T;
  /** Form for people. */
  toText(value: T): string;
  /** Form for programs; u64 and bytes become strings. */
  toJson(value: T): Json;
  /**
   * Reads what `toJson` wrote; numbers may be text.
   * @throws RangeError saying what was expected
   */
  fromJson(json: unknown): T;
  /** The same field made a required option. */
  mandatory(): Field<T>;
}

/** Named fields in declaration order. */
export type Fields = { readonly [name: string]: Field<unknown> };

/** The TypeScript value that a set of fields describes. */
export type ValuesOf<F extends Fields> = {
  readonly [K in keyof F]: F[K] extends Field<infer T> ? T : never;
};

/** A field without what `makeField` adds. */
export type FieldShape<T> = Omit<Field<T>, "is" | "required" | "mandatory">;

/** Completes a field; for the constructors here and in signature.ts. */
export function makeField<T>(shape: FieldShape<T>): Field<T> {
  const make = (required: boolean): Field<T> => ({
    ...shape,
    is: "field",
    required,
    mandatory: () => make(true),
  });
  return make(false);
}

/** Makes an option mandatory: it has no default and must be given. */
export function required<T>(field: Field<T>): Field<T> {
  return field.mandatory();
}

function notFixed(signature: string): never {
  throw new RangeError(`${signature} has no fixed size: not usable in a ring`);
}

function fit<T>(field: FieldShape<T>, value: T): void {
  const wrong = field.check(value);
  if (wrong !== undefined) throw new RangeError(wrong);
}

function parseWhole(json: unknown, what: string): bigint {
  if (typeof json === "bigint") return json;
  if (typeof json === "number" && Number.isSafeInteger(json)) {
    return BigInt(json);
  }
  if (typeof json === "string" && /^(0x[0-9a-fA-F]+|[0-9]+)$/.test(json)) {
    return BigInt(json);
  }
  throw new RangeError(`expected ${what}, found ${JSON.stringify(json)}`);
}

function small(
  bits: 8 | 16 | 32,
  doc: string,
  initial: number,
): Field<number> {
  const max = bits === 32 ? 0xffff_ffff : (1 << bits) - 1;
  const signature = `u${bits}`;
  const shape: FieldShape<number> = {
    signature,
    doc,
    initial,
    words: 1,
    primitive: true,
    samples: [0, 1, max >>> 1, max],
    check: (value) =>
      typeof value === "number" && Number.isInteger(value) && value >= 0 &&
        value <= max
        ? undefined
        : `expected ${signature}, found ${String(value)}`,
    encode(value, out) {
      if (!Number.isInteger(value) || value < 0 || value > max) {
        fit(shape, value);
      }
      if (bits === 8) out.u8(value);
      else if (bits === 16) out.u16(value);
      else out.u32(value);
    },
    decode: (from) =>
      bits === 8 ? from.u8() : bits === 16 ? from.u16() : from.u32(),
    toWords(value, words, at) {
      fit(shape, value);
      words[at] = value;
    },
    fromWords: (words, at) => bits === 32 ? words[at] : words[at] & max,
    toText: (value) => value < 10 ? String(value) : `0x${value.toString(16)}`,
    toJson: (value) => value,
    fromJson(json) {
      const value = Number(parseWhole(json, `${signature} (0 to ${max})`));
      fit(shape, value);
      return value;
    },
  };
  return makeField(shape);
}

/** Unsigned 8-bit integer (`number`). */
export function u8(doc = "", initial = 0): Field<number> {
  return small(8, doc, initial);
}
/** Unsigned 16-bit integer (`number`). */
export function u16(doc = "", initial = 0): Field<number> {
  return small(16, doc, initial);
}
/** Unsigned 32-bit integer (`number`). */
export function u32(doc = "", initial = 0): Field<number> {
  return small(32, doc, initial);
}

/** Unsigned 64-bit integer (`bigint`): architectural values. */
export function u64(doc = "", initial = 0n): Field<bigint> {
  const max = 0xffff_ffff_ffff_ffffn;
  const shape: FieldShape<bigint> = {
    signature: "u64",
    doc,
    initial,
    words: 2,
    primitive: true,
    samples: [0n, 1n, 0xffff_ffffn, 0x1_0000_0000n, 1n << 63n, max],
    check: (value) =>
      typeof value === "bigint" && value >= 0n && value <= max
        ? undefined
        : `expected u64 (bigint), found ${typeof value} ${String(value)}`,
    encode(value, out) {
      fit(shape, value);
      out.u64(value);
    },
    decode: (from) => from.u64(),
    toWords(value, words, at) {
      fit(shape, value);
      words[at] = Number(value & 0xffff_ffffn);
      words[at + 1] = Number(value >> 32n);
    },
    fromWords: (words, at) => BigInt(words[at + 1]) << 32n | BigInt(words[at]),
    toText: (value) => `0x${value.toString(16)}`,
    toJson: (value) => `0x${value.toString(16)}`,
    fromJson(json) {
      const value = parseWhole(json, "u64 (number or 0x string)");
      fit(shape, value);
      return value;
    },
  };
  return makeField(shape);
}

/** Non-negative safe integer (`number`): steps, times, physical addresses. */
export function u53(doc = "", initial = 0): Field<number> {
  const shape: FieldShape<number> = {
    signature: "u53",
    doc,
    initial,
    words: 2,
    primitive: true,
    samples: [0, 1, 0xffff_ffff, 0x1_0000_0000, Number.MAX_SAFE_INTEGER],
    check: (value) =>
      typeof value === "number" && Number.isSafeInteger(value) && value >= 0
        ? undefined
        : `expected a safe non-negative integer, found ${String(value)}`,
    encode(value, out) {
      fit(shape, value);
      out.u53(value);
    },
    decode: (from) => from.u53(),
    toWords(value, words, at) {
      fit(shape, value);
      words[at] = value >>> 0;
      words[at + 1] = Math.floor(value / 0x1_0000_0000);
    },
    fromWords: (words, at) => words[at + 1] * 0x1_0000_0000 + words[at],
    toText: (value) => value < 10 ? String(value) : `0x${value.toString(16)}`,
    toJson: (value) => value,
    fromJson(json) {
      const value = Number(parseWhole(json, "a non-negative integer"));
      fit(shape, value);
      return value;
    },
  };
  return makeField(shape);
}

/** Truth value. */
export function bool(doc = "", initial = false): Field<boolean> {
  const shape: FieldShape<boolean> = {
    signature: "bool",
    doc,
    initial,
    words: 1,
    primitive: true,
    samples: [false, true],
    check: (value) =>
      typeof value === "boolean"
        ? undefined
        : `expected true or false, found ${String(value)}`,
    encode(value, out) {
      fit(shape, value);
      out.u8(value ? 1 : 0);
    },
    decode(from) {
      const byte = from.u8();
      if (byte > 1) throw new RangeError(`expected 0 or 1, found ${byte}`);
      return byte === 1;
    },
    toWords(value, words, at) {
      fit(shape, value);
      words[at] = value ? 1 : 0;
    },
    fromWords: (words, at) => words[at] !== 0,
    toText: (value) => (value ? "yes" : "no"),
    toJson: (value) => value,
    fromJson(json) {
      if (typeof json !== "boolean") {
        throw new RangeError(
          `expected true or false, found ${JSON.stringify(json)}`,
        );
      }
      return json;
    },
  };
  return makeField(shape);
}

/** One of a fixed list of words; one byte, its index in the list. */
export function oneOf<const V extends readonly [string, ...string[]]>(
  values: V,
  doc = "",
  initial: V[number] = values[0],
): Field<V[number]> {
  const list: readonly string[] = values;
  if (list.length > 256 || new Set(list).size !== list.length) {
    throw new RangeError(
      `oneOf: ${list.length} words, expected at most 256 different ones`,
    );
  }
  for (const word of list) {
    if (!/^[A-Za-z0-9_.#+-]+$/.test(word)) {
      throw new RangeError(
        `oneOf: word ${JSON.stringify(word)}: use letters, digits and _.#+-`,
      );
    }
  }
  const at = new Map(list.map((word, i) => [word, i]));
  const wordAt = (i: number): V[number] => {
    if (i >= list.length) {
      throw new RangeError(
        `expected one of ${list.join(", ")}, found no. ${i}`,
      );
    }
    return list[i] as V[number];
  };
  const shape: FieldShape<V[number]> = {
    signature: `oneOf(${list.join("|")})`,
    doc,
    initial,
    words: 1,
    primitive: true,
    samples: list as readonly V[number][],
    check: (value) =>
      typeof value === "string" && at.has(value)
        ? undefined
        : `expected one of ${list.join(", ")}, found ${String(value)}`,
    encode(value, out) {
      fit(shape, value);
      out.u8(at.get(value) ?? 0);
    },
    decode: (from) => wordAt(from.u8()),
    toWords(value, words, i) {
      fit(shape, value);
      words[i] = at.get(value) ?? 0;
    },
    fromWords: (words, i) => wordAt(words[i]),
    toText: (value) => value,
    toJson: (value) => value,
    fromJson(json) {
      fit(shape, json as V[number]);
      return json as V[number];
    },
  };
  return makeField(shape);
}

/** UTF-8 text without lone surrogates. */
export function text(doc = "", initial = ""): Field<string> {
  const shape: FieldShape<string> = {
    signature: "text",
    doc,
    initial,
    words: 0,
    primitive: true,
    samples: ["", "a", "é€😀", "two\nlines\0"],
    check: (value) =>
      typeof value === "string" && value.isWellFormed()
        ? undefined
        : `expected well-formed text, found ${String(value)}`,
    encode(value, out) {
      fit(shape, value);
      out.text(value);
    },
    decode: (from) => from.text(),
    toWords: () => notFixed("text"),
    fromWords: () => notFixed("text"),
    toText: (value) => JSON.stringify(value),
    toJson: (value) => value,
    fromJson(json) {
      if (typeof json !== "string") {
        throw new RangeError(`expected text, found ${JSON.stringify(json)}`);
      }
      return json;
    },
  };
  return makeField(shape);
}

/** Bytes; treated as immutable once in a payload or cell. */
export function bytes(doc = ""): Field<Uint8Array> {
  const shape: FieldShape<Uint8Array> = {
    signature: "bytes",
    doc,
    initial: new Uint8Array(0),
    words: 0,
    primitive: false,
    samples: [new Uint8Array(0), Uint8Array.of(0, 1, 127, 128, 255)],
    check: (value) =>
      value instanceof Uint8Array
        ? undefined
        : `expected bytes, found ${String(value)}`,
    encode(value, out) {
      fit(shape, value);
      out.bytes(value);
    },
    decode: (from) => from.bytes(),
    toWords: () => notFixed("bytes"),
    fromWords: () => notFixed("bytes"),
    toText: (value) =>
      value.length <= 32
        ? toHex(value)
        : `${toHex(value.subarray(0, 32))}… (${value.length} bytes)`,
    toJson: (value) => toHex(value),
    fromJson(json) {
      if (typeof json !== "string") {
        throw new RangeError(
          `expected hexadecimal digits, found ${JSON.stringify(json)}`,
        );
      }
      return fromHex(json);
    },
  };
  return makeField(shape);
}
