/**
 * Lists the events stored on a tape, by their in-band schemas alone: no plugin
 * is loaded and nothing is run, so it works on any tape that can be opened.
 * Invariant: a moment printed here is one that `seek` takes only on a `full`
 * tape; on others the ordinal counts stored events, and a remark says so.
 */
import { eventToJson, formatEvent } from "../../core/collect.ts";
import { compareMoments, type Moment } from "../../core/moment.ts";
import { decodeStored } from "../../core/tape/events.ts";
import type { TapeReader } from "../../core/tape/reader.ts";
import { tokenOf } from "../../core/tape/schema.ts";
import type { Arguments } from "./args.ts";
import { EventFilter } from "./filter.ts";
import type { Io } from "./io.ts";
import { Lines } from "./lines.ts";

/** Which part of a tape. */
export interface Window {
  readonly from: Moment;
  readonly to: Moment;
  /** Most events to list. */
  readonly limit: number;
}

/** Lists them. */
export function listStored(
  tape: TapeReader,
  window: Window,
  args: Arguments,
  io: Io,
): void {
  const detail = tape.manifest?.detail;
  if (detail !== "full" && !args.has("quiet") && !args.has("json")) {
    io.err(
      `vmtape events: the tape stores ${
        detail ?? "some"
      } only; --full derives every event again\n`,
    );
  }
  const tokens = new Map(
    tape.schemas.map((schema) => [schema.name, tokenOf(schema)] as const),
  );
  const filter = new EventFilter(args.all("type"), args.all("where"), tokens);
  const lines = new Lines(io);
  let listed = 0;
  const { from, to, limit } = window;
  const end = to.ordinal > 0 ? to.step + 1 : to.step;
  for (const one of decodeStored(tape, tokens, from.step, end)) {
    if (compareMoments(one, from) < 0) continue;
    if (compareMoments(one, to) >= 0) break;
    if (!filter.matches(one.event.name, one.payload)) continue;
    if (args.has("json")) lines.json(eventToJson(one));
    else lines.add(`${formatEvent(one)}\n`);
    if (++listed >= limit || io.outClosed) break;
  }
  lines.flush();
}
