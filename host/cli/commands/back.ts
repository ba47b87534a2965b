/**
 * `vmtape back`: goes back from a moment (the end, by default) to the last
 * event of a kind, as the write that changed an address or the exit before a
 * fault, and shows the machine there.
 * Invariant: the tape is only read; if there is no such event that is said, and
 * no other moment shown.
 */
import { ConfigError } from "../../../core/errors.ts";
import { formatMoment } from "../../../core/moment.ts";
import type { Query, Timeline } from "../../../core/timeline.ts";
import { MemWrote } from "../../../cpu/facts.ts";
import type { PayloadOf } from "../../../core/event.ts";
import { type Arguments, readU64, UsageError } from "../args.ts";
import {
  type Command,
  type Context,
  MACHINE_OPTIONS,
  openTape,
  openTimeline,
} from "../command.ts";
import { TAPE_STATUSES } from "../exit.ts";
import { EventFilter, namesOf } from "../filter.ts";
import { showMoment, VIEW_OPTIONS } from "../view.ts";

/** `vmtape back` */
export const backCommand: Command = {
  usage: {
    name: "back",
    summary: "go back to the last event of a kind, and show the machine there",
    positionals: [
      { name: "TAPE", doc: "the tape" },
      { name: "EVENT", doc: "its name, as vmx.exited", optional: true },
    ],
    options: [
      {
        name: "from",
        value: "MOMENT",
        doc: "where to start (default: the end)",
      },
      {
        name: "where",
        value: "FIELD=VALUE",
        doc: "only events whose field has this value",
        many: true,
      },
      {
        name: "wrote",
        value: "PA",
        doc: "the last store to a physical address",
      },
      { name: "times", value: "N", doc: "go back so many times" },
      ...VIEW_OPTIONS,
      ...MACHINE_OPTIONS,
    ],
    statuses: TAPE_STATUSES,
    examples: [
      "back run.tape exception.delivered --where vector=14",
      "back run.tape --wrote 0x201ff8 --from 88123",
      "back run.tape vmx.exited --times 3 --regs --disasm",
    ],
  },
  run: runBack,
};

async function runBack(args: Arguments, context: Context): Promise<number> {
  const [path, name] = args.positionals;
  const wrote = args.text("wrote");
  if ((name === undefined) === (wrote === undefined)) {
    throw new UsageError("back needs an EVENT or --wrote PA, one of them");
  }
  const from = args.moment("from");
  const times = args.whole("times", 1) ?? 1;
  const tape = openTape(path, context);
  const { timeline } = await openTimeline(tape, path, args, context);
  const query = wrote === undefined
    ? eventQuery(name, args, timeline)
    : writeQuery(readU64(wrote, "--wrote"));
  if (from === undefined) timeline.seekEnd();
  else timeline.seek(from);
  const start = formatMoment(timeline.moment);
  for (let i = 0; i < times; i++) {
    if (timeline.reverseTo(query) === undefined) {
      const what = wrote === undefined ? `${name} event` : `store to ${wrote}`;
      const which = i === 0
        ? `no such ${what}`
        : `only ${i} such ${what}${i === 1 ? "" : "s"}`;
      throw new ConfigError(
        `go back from ${start}: there is ${which} before it, try another --from or event`,
      );
    }
  }
  showMoment(timeline, args, context);
  return tape.exitStatus;
}

function eventQuery(name: string, args: Arguments, timeline: Timeline): Query {
  const { events } = timeline.kernel;
  const [first, ...more] = namesOf(name, events);
  if (more.length > 0) {
    throw new UsageError(
      `back looks for one event, ${name} names ${more.length + 1}: choose one`,
    );
  }
  const filter = new EventFilter([first], args.all("where"), events);
  return {
    event: first,
    where: (payload: unknown) => filter.payloadMatches(payload),
  };
}

/** Stores that touch the byte at `address`. */
function writeQuery(address: bigint): Query {
  return {
    event: MemWrote,
    where: ({ physical, size }: PayloadOf<typeof MemWrote>) =>
      physical <= address && address < physical + BigInt(size),
  };
}
