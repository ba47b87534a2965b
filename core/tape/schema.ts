/**
 * In-band schemas: before an event's first use a tape states its name,
 * version, kind, layout and fingerprint, and gives it a number. With the
 * layout's signature a tape can be read without the plugin that wrote it.
 * Invariant: fingerprints are computed from name, version, kind and layout,
 * never written by hand; a token reads a schema of the same fingerprint
 * directly, an older version through its upcasts, anything else not at all.
 */
import { ByteReader } from "../bytes.ts";
import { TapeError } from "../errors.ts";
import {
  defineEvent,
  type EventDetail,
  type EventKind,
  type EventToken,
  fingerprintOf,
  type OldPayload,
} from "../event.ts";

import { fieldsOf } from "../signature.ts";
import { canonicalJson } from "./manifest.ts";
import type { LaneEvent } from "./lanes.ts";

/** An event's schema as it stands on a tape. */
export interface TapeSchema {
  /** Its number on this tape, from 0. */
  readonly id: number;
  /** The class of error. */
  readonly name: string;
  /** Of its schema. */
  readonly version: number;
  /** What it holds. */
  readonly kind: EventKind;
  /** Which facts are stored. */
  readonly detail: EventDetail;
  /** u32 words of a hot event, 0 for others. */
  readonly words: number;
  /** Its layout. */
  readonly signature: string;
  /** Computed from all of these. */
  readonly fingerprint: string;
}

/** The schema of `token` under number `id`. */
export function schemaOf(token: EventToken, id: number): TapeSchema {
  const { name, version, kind, detail, words, signature, fingerprint } = token;
  return { id, name, version, kind, detail, words, signature, fingerprint };
}

/** The SCHEMA payload. */
export function encodeSchema(schema: TapeSchema): Uint8Array {
  return new TextEncoder().encode(canonicalJson(schema));
}

/** Reads a SCHEMA payload. Throws RangeError when it contradicts itself. */
export function decodeSchema(raw: Uint8Array): TapeSchema {
  const schema = JSON.parse(new TextDecoder().decode(raw)) as TapeSchema;
  const { name, version, kind, signature, fingerprint } = schema;
  if (fingerprintOf(name, version, kind, signature) !== fingerprint) {
    throw new RangeError(
      `Cannot read the schema of ${name}: its fingerprint does not fit it`,
    );
  }
  return schema;
}

/** Reads the payloads of one schema with one token of this build. */
export function payloadReader(
  schema: TapeSchema,
  token: EventToken,
): (event: Pick<LaneEvent, "words" | "bytes">) => unknown {
  if (schema.fingerprint === token.fingerprint) {
    return (event) =>
      event.words === undefined
        ? token.decode(new ByteReader(event.bytes ?? new Uint8Array(0)))
        : token.fromWords(event.words, 0);
  }
  if (schema.name !== token.name || schema.version >= token.version) {
    throw new TapeError(
      `read event ${schema.name} version ${schema.version} ` +
        `(${schema.fingerprint}): this build has ${token.name} version ` +
        `${token.version} (${token.fingerprint}), use the vmtape or plugin ` +
        "that recorded the tape",
    );
  }
  const read = payloadReader(schema, tokenOf(schema));
  return (event) => token.upcast(schema.version, read(event) as OldPayload);
}

const byFingerprint = new Map<string, EventToken>();

/** A token made from a schema alone, for events that no plugin here declares. */
export function tokenOf(schema: TapeSchema): EventToken {
  let token = byFingerprint.get(schema.fingerprint);
  if (token === undefined) {
    token = defineEvent({
      name: schema.name,
      version: schema.version,
      kind: schema.kind,
      doc: "Known by its schema on a tape only",
      fields: fieldsOf(schema.signature),
      detail: schema.detail,
      hot: schema.words > 0,
    });
    byFingerprint.set(schema.fingerprint, token);
  }
  return token;
}
