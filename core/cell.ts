/**
 * Cells: the only place a plugin keeps mutable state. Every cell encodes,
 * decodes and resets itself, so that keyframes, digests and blame come for
 * free. A plain field is a scalar cell (`state.n = 3`); containers are live
 * objects. Insertion order of sets and maps is part of their state.
 * Invariant: decode(encode(x)) behaves exactly as x.
 */
import type { ByteReader, ByteWriter } from "./bytes.ts";
import { CellArray, CellMap, CellSet } from "./containers.ts";
import type { Field, Json } from "./fields.ts";

/** One live container bound to its codec. */
export interface LiveCell<L> {
  /** What the plugin holds and changes. */
  readonly live: L;
  /** Back to the initial value. */
  reset(): void;
  /** Appends its canonical bytes. */
  encode(out: ByteWriter): void;
  /** Replaces its contents; the live object stays the same. */
  decode(from: ByteReader): void;
}

/** Declares a container whose live object is an `L`. */
export interface Container<L> {
  /** Tells declarations apart. */
  readonly is: "container";
  /** Complete description of the layout, as `set(u64)`. */
  readonly signature: string;
  /** What it holds. */
  readonly doc: string;
  /** Named cells inside, of a struct or table. */
  readonly cells?: StateSpecs;
  /** A fresh cell. */
  make(): LiveCell<L>;
  /** The state as plain data, read from an encoding (for blame and dumps). */
  toJson(from: ByteReader): Json;
}

/** A cell's declaration: a field is a scalar, the rest are containers. */
export type CellSpec = Field<unknown> | Container<unknown>;
/** The cells of a plugin, by name. */
export type StateSpecs = { readonly [cell: string]: CellSpec };

/** Names of the scalar cells. */
export type ScalarsOf<S extends StateSpecs> = {
  [K in keyof S]: S[K] extends Field<unknown> ? K : never;
}[keyof S];

/** The live state that `S` describes. */
export type StateOf<S extends StateSpecs> =
  & { [K in ScalarsOf<S>]: S[K] extends Field<infer T> ? T : never }
  & {
    readonly [K in Exclude<keyof S, ScalarsOf<S>>]: S[K] extends
      Container<infer L> ? L : never;
  };

/** A growable list of values. */
export function arrayOf<T>(of: Field<T>, doc = ""): Container<CellArray<T>> {
  return {
    is: "container",
    signature: `array(${of.signature})`,
    doc: doc === "" ? of.doc : doc,
    make() {
      const live = new CellArray<T>();
      return {
        live,
        reset: () => live.clear(),
        encode(out) {
          out.count(live.length);
          for (const item of live) of.encode(item, out);
        },
        decode(from) {
          live.clear();
          for (let n = from.count(); n > 0; n--) live.push(of.decode(from));
        },
      };
    },
    toJson(from) {
      const items: Json[] = [];
      for (let n = from.count(); n > 0; n--) {
        items.push(of.toJson(of.decode(from)));
      }
      return items;
    },
  };
}

function keyed(of: Field<unknown>, what: string): void {
  if (!of.primitive) {
    throw new RangeError(
      `${what}(${of.signature}): keys must be numbers, bigints or text`,
    );
  }
}

/** A set of primitive values, in insertion order. */
export function setOf<T>(of: Field<T>, doc = ""): Container<CellSet<T>> {
  keyed(of, "setOf");
  return {
    is: "container",
    signature: `set(${of.signature})`,
    doc: doc === "" ? of.doc : doc,
    make() {
      const live = new CellSet<T>();
      return {
        live,
        reset: () => live.clear(),
        encode(out) {
          out.count(live.size);
          for (const item of live) of.encode(item, out);
        },
        decode(from) {
          live.clear();
          for (let n = from.count(); n > 0; n--) live.add(of.decode(from));
        },
      };
    },
    toJson(from) {
      const items: Json[] = [];
      for (let n = from.count(); n > 0; n--) {
        items.push(of.toJson(of.decode(from)));
      }
      return items;
    },
  };
}

/** A map from primitive keys to values, in insertion order of its keys. */
export function mapOf<K, V>(
  key: Field<K>,
  value: Field<V>,
  doc = "",
): Container<CellMap<K, V>> {
  keyed(key, "mapOf");
  return {
    is: "container",
    signature: `map(${key.signature},${value.signature})`,
    doc,
    make() {
      const live = new CellMap<K, V>();
      return {
        live,
        reset: () => live.clear(),
        encode(out) {
          out.count(live.size);
          for (const [k, v] of live) {
            key.encode(k, out);
            value.encode(v, out);
          }
        },
        decode(from) {
          live.clear();
          for (let n = from.count(); n > 0; n--) {
            const k = key.decode(from);
            live.set(k, value.decode(from));
          }
        },
      };
    },
    toJson(from) {
      const items: Record<string, Json> = {};
      for (let n = from.count(); n > 0; n--) {
        const k = key.toText(key.decode(from));
        items[k] = value.toJson(value.decode(from));
      }
      return items;
    },
  };
}

/** A fixed number of bytes, live as a `Uint8Array`, initially zero. */
export function bytesOf(length: number, doc = ""): Container<Uint8Array> {
  return {
    is: "container",
    signature: `bytes(${length})`,
    doc,
    make() {
      const live = new Uint8Array(length);
      return {
        live,
        reset: () => void live.fill(0),
        encode: (out) => out.raw(live),
        decode: (from) => live.set(from.raw(length)),
      };
    },
    toJson: (from) => Array.from(from.raw(length)),
  };
}

/** A fixed number of u32 words, live as a `Uint32Array`, initially zero. */
export function wordsOf(length: number, doc = ""): Container<Uint32Array> {
  return {
    is: "container",
    signature: `words(${length})`,
    doc,
    make() {
      const live = new Uint32Array(length);
      return {
        live,
        reset: () => void live.fill(0),
        encode(out) {
          for (let i = 0; i < length; i++) out.u32(live[i]);
        },
        decode(from) {
          for (let i = 0; i < length; i++) live[i] = from.u32();
        },
      };
    },
    toJson: (from) => Array.from({ length }, () => from.u32()),
  };
}

/** A fixed group of named cells. */
export function struct<S extends StateSpecs>(
  cells: S,
  doc = "",
): Container<StateOf<S>> {
  return {
    is: "container",
    signature: stateSignature(cells),
    doc,
    cells,
    make: () => makeState(cells),
    toJson: (from) => stateToJson(cells, from),
  };
}

/** A fixed number of equal groups of named cells, as one for each vCPU. */
export function tableOf<S extends StateSpecs>(
  length: number,
  cells: S,
  doc = "",
): Container<readonly StateOf<S>[]> {
  return {
    is: "container",
    signature: `table(${length},${stateSignature(cells)})`,
    doc,
    cells,
    make() {
      const rows = Array.from({ length }, () => makeState(cells));
      return {
        live: rows.map((row) => row.live),
        reset() {
          for (const row of rows) row.reset();
        },
        encode(out) {
          for (const row of rows) row.encode(out);
        },
        decode(from) {
          for (const row of rows) row.decode(from);
        },
      };
    },
    toJson: (from) => Array.from({ length }, () => stateToJson(cells, from)),
  };
}

/** Makes the live state of `cells`, with its codec. */
export function makeState<S extends StateSpecs>(
  cells: S,
): LiveCell<StateOf<S>> {
  const live: Record<string, unknown> = {};
  const parts: LiveCell<unknown>[] = [];
  for (const [name, spec] of Object.entries(cells)) {
    if (spec.is === "field") {
      live[name] = spec.initial;
      parts.push({
        live: undefined,
        reset() {
          live[name] = spec.initial;
        },
        encode: (out) => spec.encode(live[name], out),
        decode(from) {
          live[name] = spec.decode(from);
        },
      });
    } else {
      const cell = spec.make();
      Object.defineProperty(live, name, { value: cell.live, enumerable: true });
      parts.push(cell);
    }
  }
  return {
    live: Object.seal(live) as StateOf<S>,
    reset() {
      for (const part of parts) part.reset();
    },
    encode(out) {
      for (const part of parts) part.encode(out);
    },
    decode(from) {
      for (const part of parts) part.decode(from);
    },
  };
}

/** Encoded state of `cells` as plain data. */
export function stateToJson(cells: StateSpecs, from: ByteReader): Json {
  const json: Record<string, Json> = {};
  for (const [name, spec] of Object.entries(cells)) {
    json[name] = spec.is === "field"
      ? spec.toJson(spec.decode(from))
      : spec.toJson(from);
  }
  return json;
}

/** `struct(a:u8,b:set(u64))`: the layout of named cells. */
export function stateSignature(cells: StateSpecs): string {
  const parts = Object.entries(cells).map(([name, spec]) =>
    `${name}:${spec.signature}`
  );
  return `struct(${parts.join(",")})`;
}
