/**
 * Sinks that listen to a replay: one that hands over every event of the
 * `full` derivation with its moment, one that looks for one event only.
 * Invariant: listening changes no fact (law 3); ordinals count inputs and
 * facts in stream order from arrival at the step.
 */
import { ByteWriter, sameBytes } from "./bytes.ts";
import { assert } from "./assert.ts";
import { eventById, type EventToken } from "./event.ts";
import type { Json } from "./fields.ts";
import { type At, formatMoment, type Moment } from "./moment.ts";
import type { FactSink } from "./sink.ts";

/** One event with its address. */
export interface EventAt extends Moment {
  /** The event. */
  readonly event: EventToken;
  /** Its payload. */
  readonly payload: unknown;
  /** Set on notes: the observer. */
  readonly plugin?: string;
}

/** `1234.5 mem.wrote gpa=0x10 …` */
export function formatEvent(one: EventAt): string {
  const by = one.plugin === undefined ? "" : `[${one.plugin}] `;
  const text = one.event.toText(one.payload);
  return `${formatMoment(one)} ${by}${one.event.name} ${text}`.trimEnd();
}

/** An event as JSON, for tools. */
export function eventToJson(one: EventAt): Json {
  const { step, ordinal, event, payload, plugin } = one;
  return {
    step,
    ordinal,
    event: event.name,
    kind: event.kind,
    payload: event.toJson(payload),
    ...(plugin === undefined ? {} : { plugin }),
  };
}

/** The canonical bytes of an event's payload. */
export function payloadBytes(one: EventAt): Uint8Array {
  const out = new ByteWriter();
  one.event.encode(one.payload, out);
  return out.finish();
}

/** Same step, same event, same payload? */
export function sameEvent(a: EventAt, b: EventAt): boolean {
  return a.step === b.step && a.event.fingerprint === b.event.fingerprint &&
    sameBytes(payloadBytes(a), payloadBytes(b));
}

/** Which events a listener gets. */
export type Wanted = (event: EventToken) => boolean;

/**
 * Hands every wanted event to `visit`, in stream order. A note counts as
 * nothing: it has the ordinal of the event that follows it.
 */
export class Listener implements FactSink {
  readonly #visit: (one: EventAt) => void;
  readonly #wanted: Wanted;
  #step = -1;
  #ordinal = 0;

  /** Names what differs. */
  constructor(visit: (one: EventAt) => void, wanted: Wanted = () => true) {
    this.#visit = visit;
    this.#wanted = wanted;
  }

  #at(step: number): Moment {
    if (step !== this.#step) {
      this.#step = step;
      this.#ordinal = 0;
    }
    return { step, ordinal: this.#ordinal++ };
  }

  input(at: At, event: EventToken, payload: unknown): void {
    this.fact(at.step, event, payload);
  }

  fact(step: number, event: EventToken, payload: unknown): void {
    if (!this.#wanted(event)) return;
    this.#visit({ ...this.#at(step), event, payload });
  }

  hot(step: number, eventId: number, words: Uint32Array, at: number): void {
    const event = eventById(eventId);
    assert(event !== undefined, `the ring names event ${eventId}`);
    this.fact(step, event, event.fromWords(words, at));
  }

  note(
    step: number,
    event: EventToken,
    payload: unknown,
    plugin: string,
  ): void {
    const ordinal = step === this.#step ? this.#ordinal : 0;
    this.#visit({ step, ordinal, event, payload, plugin });
  }

  boundary(): void {}

  wants(event: EventToken): boolean {
    return event.kind === "input" || this.#wanted(event);
  }
}
