/**
 * `defineEvent`: the only place an event exists. From one declaration come the
 * payload type, the canonical bytes, the ring words, the text and JSON forms,
 * documentation and a computed fingerprint. A token's identity is the object;
 * its `id` indexes interest bitmaps in this process and is never recorded.
 */
import { createHash } from "node:crypto";
import type { ByteReader, ByteWriter } from "./bytes.ts";
import { record, recordSignature } from "./composite.ts";
import { EventError, messageOf } from "./errors.ts";
import type { Field, Fields, Json, ValuesOf } from "./fields.ts";

/** input: came from outside; fact: follows; note: an observer's remark. */
export type EventKind = "input" | "fact" | "note";
/** The cheapest recording policy that stores a fact. */
export type EventDetail = "boundaries" | "full";
/** A payload of an older version, before its upcast. */
export type OldPayload = { readonly [field: string]: unknown };

/** An event's declaration made usable; made by `defineEvent` only. */
export interface EventToken<
  P = unknown,
  K extends EventKind = EventKind,
  N extends string = string,
> {
  /** Tells declarations apart. */
  readonly is: "event";
  /** Dense index in this process, for bitmaps; never recorded. */
  readonly id: number;
  /** `plugin.past-participle`. */
  readonly name: N;
  /** Counted up with each change of fields. */
  readonly version: number;
  /** Input, fact or note. */
  readonly kind: K;
  /** What happened. */
  readonly doc: string;
  /** Fields of the payload in order. */
  readonly fields: Fields;
  /** The cheapest policy that records it. */
  readonly detail: EventDetail;
  /** Goes as u32 words through the ring when emitted by an engine. */
  readonly hot: boolean;
  /** u32 words of a hot payload; 0 for others. */
  readonly words: number;
  /** `record(a:u8,…)`: the layout of the payload. */
  readonly signature: string;
  /** First 16 hexadecimal digits of SHA-256 over name, version, kind, layout. */
  readonly fingerprint: string;
  /**
   * Appends the canonical bytes.
   * @throws EventError naming event and field when a value does not fit
   */
  encode(payload: P, out: ByteWriter): void;
  /** Reads what `encode` wrote. */
  decode(from: ByteReader): P;
  /** Puts a hot payload into ring words. */
  toWords(payload: P, words: Uint32Array, at: number): void;
  /** Reads a hot payload from ring words. */
  fromWords(words: Uint32Array, at: number): P;
  /** `a=1 b=0x20` */
  toText(payload: P): string;
  /** Plain data for programs. */
  toJson(payload: P): Json;
  /**
   * Reads what `toJson` wrote.
   * @throws EventError naming event and field
   */
  fromJson(json: unknown): P;
  /** What is wrong with a payload, or undefined. */
  check(payload: unknown): string | undefined;
  /** Older versions that can be read, ascending. */
  readonly upcasts: readonly number[];
  /** Brings a payload of version `from` to this version. */
  upcast(from: number, payload: OldPayload): P;
  /** Payloads at the edges of every field, for conformance tests. */
  samples(): readonly P[];
}

/** The payload type of a token. */
export type PayloadOf<E> = E extends EventToken<infer P> ? P : never;

/** What `defineEvent` takes. */
export interface EventSpec<
  N extends string,
  K extends EventKind,
  F extends Fields,
> {
  /** `plugin.past-participle`, as `mmu.walked`. */
  readonly name: N;
  /** From 1; counted up whenever `fields` change. */
  readonly version: number;
  /** Input, fact or note. */
  readonly kind: K;
  /** What happened. */
  readonly doc: string;
  /** Fields of the payload in order. */
  readonly fields: F;
  /** Default `boundaries`; `full` for a hot event. */
  readonly detail?: EventDetail;
  /** All fields of fixed size; emitted by engines through the ring. */
  readonly hot?: boolean;
  /** From version n to n + 1, for every older version. */
  readonly upcast?: {
    readonly [from: number]: (old: OldPayload) => OldPayload;
  };
}

const known: EventToken[] = [];

/** The token with that process-wide id. */
export function eventById(id: number): EventToken | undefined {
  return known[id];
}

/** Number of tokens made so far: the size that bitmaps by id need. */
export function eventCount(): number {
  return known.length;
}

/** The fingerprint of a schema, as a tape stores it. */
export function fingerprintOf(
  name: string,
  version: number,
  kind: EventKind,
  signature: string,
): string {
  return createHash("sha256").update(`${name}@${version} ${kind} ${signature}`)
    .digest("hex").slice(0, 16);
}

/**
 * Declares an event.
 * @throws EventError when the declaration contradicts itself
 */
export function defineEvent<
  const N extends string,
  K extends EventKind,
  F extends Fields,
>(spec: EventSpec<N, K, F>): EventToken<ValuesOf<F>, K, N> {
  type P = ValuesOf<F>;
  const entries: [string, Field<unknown>][] = Object.entries(spec.fields);
  const words = validate(spec, entries);
  const payload = record(spec.fields);
  const signature = recordSignature(spec.fields);
  const bag = (value: P) => value as { readonly [name: string]: unknown };
  const fail = (field: string, cause: unknown): never => {
    throw new EventError(
      `event ${spec.name}, field ${field}: ${messageOf(cause)}`,
      cause,
    );
  };
  const token: EventToken<P, K, N> = {
    is: "event",
    id: known.length,
    name: spec.name,
    version: spec.version,
    kind: spec.kind,
    doc: spec.doc,
    fields: spec.fields,
    detail: spec.detail ?? (spec.hot === true ? "full" : "boundaries"),
    hot: spec.hot === true,
    words: spec.hot === true ? words : 0,
    signature,
    fingerprint: fingerprintOf(spec.name, spec.version, spec.kind, signature),
    encode(value, out) {
      const from = bag(value);
      for (const [name, field] of entries) {
        try {
          field.encode(from[name], out);
        } catch (cause) {
          fail(name, cause);
        }
      }
    },
    decode: (from) => payload.decode(from),
    toWords(value, out, at) {
      const from = bag(value);
      let next = at;
      for (const [name, field] of entries) {
        try {
          field.toWords(from[name], out, next);
        } catch (cause) {
          fail(name, cause);
        }
        next += field.words;
      }
    },
    fromWords(from, at) {
      const value: Record<string, unknown> = {};
      let next = at;
      for (const [name, field] of entries) {
        value[name] = field.fromWords(from, next);
        next += field.words;
      }
      return value as P;
    },
    toText: (value) => payload.toText(value),
    toJson: (value) => payload.toJson(value),
    fromJson(json) {
      try {
        return payload.fromJson(json);
      } catch (cause) {
        throw new EventError(`event ${spec.name}: ${messageOf(cause)}`, cause);
      }
    },
    check: (value) => payload.check(value),
    upcasts: Object.keys(spec.upcast ?? {}).map(Number),
    upcast(from, old) {
      let value = old;
      for (let version = from; version < spec.version; version++) {
        const step = spec.upcast?.[version];
        if (step === undefined) {
          throw new EventError(
            `read event ${spec.name}, version ${from}: this build has version ` +
              `${spec.version} and no upcast from ${version}, add one to its ` +
              `declaration`,
          );
        }
        value = step(value);
      }
      const wrong = payload.check(value);
      if (wrong !== undefined) fail("(upcast)", new RangeError(wrong));
      return value as P;
    },
    samples: () => payload.samples,
  };
  known.push(token);
  return token;
}

function validate(
  spec: EventSpec<string, EventKind, Fields>,
  entries: readonly [string, Field<unknown>][],
): number {
  const refuse = (why: string): never => {
    throw new EventError(`define event ${spec.name}: ${why}`);
  };
  if (!/^[a-z0-9-]+(\.[a-z0-9-]+)+$/.test(spec.name)) {
    refuse("the name must be plugin.what-happened in lower case");
  }
  if (!Number.isInteger(spec.version) || spec.version < 1) {
    refuse(`version ${spec.version}: it must be an integer from 1`);
  }
  if (spec.doc.trim() === "") refuse("doc is empty: say what happened");
  let words = 0;
  for (const [name, field] of entries) {
    if (!/^[a-zA-Z][A-Za-z0-9]*$/.test(name)) {
      refuse(`field ${name}: the name must be letters and digits`);
    }
    if (spec.hot === true && field.words === 0) {
      refuse(
        `field ${name} (${field.signature}): a hot event has fixed-size ` +
          "fields only",
      );
    }
    words += field.words;
  }
  for (const from of Object.keys(spec.upcast ?? {})) {
    if (!(Number(from) >= 1 && Number(from) < spec.version)) {
      refuse(`upcast from ${from}: it must be below version ${spec.version}`);
    }
  }
  return words;
}
