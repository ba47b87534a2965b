/**
 * Fields made of fields: lists, records and values that may be missing. Their
 * values are plain immutable data; live containers are cells (cell.ts).
 */
import type { Field, Fields, Json, ValuesOf } from "./fields.ts";
import { makeField } from "./fields.ts";

function notFixed(): never {
  throw new RangeError("a composite value is not usable in a ring");
}

/** A list of values of one field. */
export function list<T>(of: Field<T>, doc = ""): Field<readonly T[]> {
  return makeField<readonly T[]>({
    signature: `list(${of.signature})`,
    doc,
    initial: [],
    words: 0,
    primitive: false,
    samples: [[], [...of.samples]],
    check(value) {
      if (!Array.isArray(value)) return `expected a list, found ${value}`;
      for (let i = 0; i < value.length; i++) {
        const wrong = of.check(value[i]);
        if (wrong !== undefined) return `item ${i}: ${wrong}`;
      }
      return undefined;
    },
    encode(value, out) {
      out.count(value.length);
      for (const item of value) of.encode(item, out);
    },
    decode(from) {
      const n = from.count();
      const items: T[] = [];
      for (let i = 0; i < n; i++) items.push(of.decode(from));
      return items;
    },
    toWords: notFixed,
    fromWords: notFixed,
    toText: (value) => `[${value.map((item) => of.toText(item)).join(" ")}]`,
    toJson: (value) => value.map((item) => of.toJson(item)),
    fromJson(json) {
      if (!Array.isArray(json)) {
        throw new RangeError(`expected a list, found ${JSON.stringify(json)}`);
      }
      return json.map((item) => of.fromJson(item));
    },
  });
}

/** A value that may be undefined (null in JSON). */
export function maybe<T>(of: Field<T>, doc = ""): Field<T | undefined> {
  return makeField<T | undefined>({
    signature: `maybe(${of.signature})`,
    doc: doc === "" ? of.doc : doc,
    initial: undefined,
    words: 0,
    primitive: of.primitive,
    samples: [undefined, ...of.samples],
    check: (value) => value === undefined ? undefined : of.check(value),
    encode(value, out) {
      out.u8(value === undefined ? 0 : 1);
      if (value !== undefined) of.encode(value, out);
    },
    decode(from) {
      const byte = from.u8();
      if (byte > 1) throw new RangeError(`expected 0 or 1, found ${byte}`);
      return byte === 0 ? undefined : of.decode(from);
    },
    toWords: notFixed,
    fromWords: notFixed,
    toText: (value) => value === undefined ? "-" : of.toText(value),
    toJson: (value) => value === undefined ? null : of.toJson(value),
    fromJson: (json) =>
      json === null || json === undefined ? undefined : of.fromJson(json),
  });
}

/** Named values in declaration order. */
export function record<F extends Fields>(
  fields: F,
  doc = "",
): Field<ValuesOf<F>> {
  const entries = Object.entries(fields);
  const names = Object.keys(fields);
  const build = (of: (field: Field<unknown>, name: string) => unknown) => {
    const value: Record<string, unknown> = {};
    for (const [name, field] of entries) value[name] = of(field, name);
    return value as ValuesOf<F>;
  };
  const get = (value: ValuesOf<F>, name: string): unknown =>
    (value as Record<string, unknown>)[name];
  const longest = Math.max(1, ...entries.map(([, f]) => f.samples.length));
  return makeField<ValuesOf<F>>({
    signature: recordSignature(fields),
    doc,
    initial: build((field) => field.initial),
    words: 0,
    primitive: false,
    samples: Array.from(
      { length: longest },
      (_, i) => build((field) => field.samples[i % field.samples.length]),
    ),
    check(value) {
      if (typeof value !== "object" || value === null) {
        return `expected fields ${names.join(", ")}, found ${String(value)}`;
      }
      const unknown = Object.keys(value).find((key) => !names.includes(key));
      if (unknown !== undefined) {
        return `unknown field ${unknown}: expected ${names.join(", ")}`;
      }
      for (const [name, field] of entries) {
        const wrong = field.check((value as Record<string, unknown>)[name]);
        if (wrong !== undefined) return `${name}: ${wrong}`;
      }
      return undefined;
    },
    encode(value, out) {
      for (const [name, field] of entries) field.encode(get(value, name), out);
    },
    decode: (from) => build((field) => field.decode(from)),
    toWords: notFixed,
    fromWords: notFixed,
    toText: (value) =>
      entries.map(([name, field]) =>
        `${name}=${field.toText(get(value, name))}`
      )
        .join(" "),
    toJson(value) {
      const json: Record<string, Json> = {};
      for (const [name, field] of entries) {
        json[name] = field.toJson(get(value, name));
      }
      return json;
    },
    fromJson(json) {
      if (typeof json !== "object" || json === null || Array.isArray(json)) {
        throw new RangeError(
          `expected fields ${names.join(", ")}, found ${JSON.stringify(json)}`,
        );
      }
      const unknown = Object.keys(json).find((key) => !names.includes(key));
      if (unknown !== undefined) {
        throw new RangeError(
          `unknown field ${unknown}: expected ${names.join(", ")}`,
        );
      }
      return build((field, name) => {
        const given = (json as Record<string, unknown>)[name];
        return given === undefined && !field.required
          ? field.initial
          : field.fromJson(given);
      });
    },
  });
}

/** The signature of named fields in declaration order. */
export function recordSignature(fields: Fields): string {
  const parts = Object.entries(fields).map(([name, field]) =>
    `${name}:${field.signature}`
  );
  return `record(${parts.join(",")})`;
}
