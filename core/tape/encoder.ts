/**
 * Turns the stream of facts into lanes and schemas, for tapes and sidecars.
 * Invariant: a function of the events alone, in order: schemas are numbered by
 * first use and lanes cut by bytes, so batching never shows (law 6).
 */
import { ByteWriter } from "../bytes.ts";
import { assert } from "../assert.ts";
import { eventById, type EventToken } from "../event.ts";
import type { FactsDigest } from "./facts_digest.ts";
import { FrameType } from "./frames.ts";
import { LANE_CUT_BYTES, LaneBuilder } from "./lanes.ts";
import { encodeSchema, schemaOf } from "./schema.ts";
import type { FrameOut } from "./writer.ts";

/** A lane's steps are deltas of at most 32 bits. */
const MAX_STEP_DELTA = 2 ** 31;

/** Numbers events by first use and states their schemas; one a file. */
export class SchemaTable {
  readonly #out: FrameOut;
  readonly #ids: (number | undefined)[] = [];
  #count = 0;

  constructor(out: FrameOut) {
    this.#out = out;
  }

  /** The event's number in this file; writes its schema on first use. */
  idOf(token: EventToken): number {
    const known = this.#ids[token.id];
    if (known !== undefined) return known;
    const id = this.#count++;
    this.#ids[token.id] = id;
    this.#out.frame(FrameType.schema, id, 1, encodeSchema(schemaOf(token, id)));
    return id;
  }
}

/** Writes events to `out` as lanes of one frame type. */
export class LaneEncoder {
  readonly #out: FrameOut;
  readonly #type: FrameType;
  readonly #schemas: SchemaTable;
  readonly #lane = new LaneBuilder();
  readonly #tokens: (EventToken | undefined)[] = [];
  readonly #scratch = new ByteWriter(256);
  readonly #words = new Uint32Array(64);
  #last = 0;
  /** Events encoded. */
  count = 0;
  /** Set to have them hashed too. */
  digest: FactsDigest | undefined;

  constructor(
    out: FrameOut,
    schemas: SchemaTable,
    type: FrameType = FrameType.lane,
  ) {
    this.#out = out;
    this.#schemas = schemas;
    this.#type = type;
  }

  #room(step: number): void {
    assert(step >= this.#last, "facts come in the order of their steps");
    if (
      this.#lane.size > LANE_CUT_BYTES || step - this.#last > MAX_STEP_DELTA
    ) {
      this.flush();
    }
    this.#last = step;
    this.count++;
  }

  /** A hot event from the ring. */
  hot(
    step: number,
    eventId: number,
    words: Uint32Array,
    at: number,
    count: number,
  ): void {
    let token = this.#tokens[eventId];
    if (token === undefined) {
      token = eventById(eventId);
      assert(token !== undefined, `the ring names event ${eventId}`);
      this.#tokens[eventId] = token;
    }
    const id = this.#schemas.idOf(token);
    this.#room(step);
    this.#lane.words(step, id, words, at, count);
    this.digest?.words(step, token, words, at, count);
  }

  /** The place of an input among the facts; `payload` is hashed with them. */
  mark(
    step: number,
    token: EventToken,
    mark: Uint8Array,
    payload: Uint8Array,
  ): void {
    const id = this.#schemas.idOf(token);
    this.#room(step);
    this.#lane.payload(step, id, mark);
    this.digest?.bytes(step, token, payload);
  }

  /** Any event by its payload. */
  event(step: number, token: EventToken, payload: unknown): void {
    if (token.hot) {
      token.toWords(payload, this.#words, 0);
      this.hot(step, token.id, this.#words, 0, token.words);
      return;
    }
    this.#scratch.reset();
    token.encode(payload, this.#scratch);
    this.bytes(step, token, this.#scratch.view());
  }

  /** An event that is not hot, by bytes that its reader understands. */
  bytes(step: number, token: EventToken, bytes: Uint8Array): void {
    const id = this.#schemas.idOf(token);
    this.#room(step);
    this.#lane.payload(step, id, bytes);
    this.digest?.bytes(step, token, bytes);
  }

  /** Writes the lane so far. */
  flush(): void {
    const lane = this.#lane.cut();
    if (lane === undefined) return;
    this.#out.frame(this.#type, lane.position, lane.count, lane.raw);
  }
}
