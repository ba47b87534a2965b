/**
 * Stored events with their payloads: those of the lanes, inputs filled in from
 * their own frames; under the policy `inputs`, and behind the last lane of a
 * torn tape, the inputs alone.
 * Invariant: ordinals count the stored events of a step; only on a `full` tape
 * are they the ordinals of moments.
 */
import { ByteReader } from "../bytes.ts";
import type { EventAt } from "../collect.ts";
import type { EventToken } from "../event.ts";
import type { LaneEvent } from "./lanes.ts";
import type { TapeReader } from "./reader.ts";
import { payloadReader, tokenOf } from "./schema.ts";

/**
 * The stored events with from ≤ step < to. `known`: this build's tokens by
 * name (`kernel.events`); an event that it lacks is read by its layout.
 */
export function* decodeStored(
  tape: TapeReader,
  known: ReadonlyMap<string, EventToken>,
  from = 0,
  to = Infinity,
): Generator<EventAt> {
  type Reader = {
    token: EventToken;
    read: (event: Pick<LaneEvent, "words" | "bytes">) => unknown;
  };
  const readers: Reader[] = [];
  const readerOf = (type: number): Reader => {
    const schema = tape.schemas[type];
    return readers[type] ??= (() => {
      const token = known.get(schema.name) ?? tokenOf(schema);
      return { token, read: payloadReader(schema, token) };
    })();
  };
  let step = -1, ordinal = 0, input = 0;
  const next = (at: number): number => {
    if (at !== step) [step, ordinal] = [at, 0];
    return ordinal++;
  };
  const inputAt = (number: number): EventAt => {
    const record = tape.inputs[number];
    const { token, read } = readerOf(record.type);
    const payload = read({ bytes: record.payload });
    return {
      step: record.step,
      ordinal: next(record.step),
      event: token,
      payload,
    };
  };
  for (const event of tape.events(from, to)) {
    if (tape.schemas[event.type] === undefined) continue;
    const { token, read } = readerOf(event.type);
    if (token.kind === "input") {
      const number = new ByteReader(event.bytes ?? new Uint8Array(0)).u53();
      if (tape.inputs[number] === undefined) continue;
      input = number + 1;
      yield inputAt(number);
    } else {
      const payload = read(event);
      yield {
        step: event.step,
        ordinal: next(event.step),
        event: token,
        payload,
      };
    }
  }
  for (; input < tape.inputs.length; input++) {
    const at = tape.inputs[input].step;
    if (at >= Math.max(from, step) && at < to) yield inputAt(input);
  }
}
