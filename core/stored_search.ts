/**
 * Searches the stored lanes of a tape instead of running the machine again:
 * whether they tell of an event, and the steps at which they hold it.
 * Invariant: they are asked only where they hold every event of the type, so
 * that what they don't hold did not happen.
 */
import type { EventToken } from "./event.ts";
import { storedUnder } from "./recorder.ts";
import { decodeStored } from "./tape/events.ts";
import type { TapeReader } from "./tape/reader.ts";

/** Does the tape hold every event of this type? */
export function holdsAll(tape: TapeReader, event: EventToken): boolean {
  if (tape.state !== "clean" || tape.gap !== undefined) return false;
  const detail = tape.manifest?.detail;
  if (event.kind === "input") return true;
  return event.kind === "fact" && detail !== undefined &&
    storedUnder(detail, event);
}

/** The steps, in order and once each, that have a matching stored event. */
export function* storedSteps(
  tape: TapeReader,
  known: ReadonlyMap<string, EventToken>,
  event: EventToken,
  matches: (payload: unknown, step: number) => boolean,
  from: number,
  to: number,
): Generator<number> {
  let last = -1;
  for (const one of decodeStored(tape, known, from, to)) {
    if (one.step === last || one.event !== event) continue;
    if (!matches(one.payload, one.step)) continue;
    last = one.step;
    yield last;
  }
}
