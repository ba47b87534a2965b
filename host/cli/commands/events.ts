/**
 * `vmtape events`: lists a run's events: those stored on the tape, or, with
 * --full, --disasm or --plugin, every event of a window, derived again by
 * running it. One line (or JSON object) each, in stream order.
 * Invariants: what is listed twice is listed the same: moments and payloads
 * don't depend on filters; memory does not grow with the list.
 */
import { eventToJson, formatEvent, Listener } from "../../../core/collect.ts";
import type { Timeline } from "../../../core/timeline.ts";
import type { CodeRow, GuestSymbol, Inspector } from "../../machines.ts";
import type { Arguments } from "../args.ts";
import {
  type Command,
  type Context,
  MACHINE_OPTIONS,
  openTape,
  openTimeline,
} from "../command.ts";
import { Lines } from "../lines.ts";
import { TAPE_STATUSES } from "../exit.ts";
import { EventFilter, FILTER_OPTIONS } from "../filter.ts";
import { listStored } from "../stored.ts";
import { nameItself, SYMBOLS_OPTION, symbolsOf } from "../symbols.ts";

/** `vmtape events` */
export const eventsCommand: Command = {
  usage: {
    name: "events",
    summary: "list the events of a tape",
    positionals: [{ name: "TAPE", doc: "the tape" }],
    options: [
      { name: "from", value: "MOMENT", doc: "first moment" },
      { name: "to", value: "MOMENT", doc: "moment to stop before" },
      ...FILTER_OPTIONS,
      { name: "limit", value: "N", doc: "at most so many" },
      {
        name: "full",
        doc: "every event, also those that the tape does not store",
      },
      { name: "disasm", doc: "show the code of each step (implies --full)" },
      SYMBOLS_OPTION,
      ...MACHINE_OPTIONS,
    ],
    statuses: TAPE_STATUSES,
    examples: [
      "events hello.tape --limit 20",
      "events run.tape --type 'vmx.*' --json",
      "events run.tape --from 88100 --to 88130 --disasm",
      "events run.tape --type exception.delivered --where vector=14",
    ],
  },
  run: runEvents,
};

async function runEvents(args: Arguments, context: Context): Promise<number> {
  const { io } = context;
  const [path] = args.positionals;
  const window = {
    from: args.moment("from") ?? { step: 0, ordinal: 0 },
    to: args.moment("to") ?? { step: Number.MAX_SAFE_INTEGER, ordinal: 0 },
    limit: args.whole("limit", 1) ?? Infinity,
  };
  const tape = openTape(path, context);
  const derive = args.has("full") || args.has("disasm") ||
    args.all("plugin").length > 0;
  if (!derive) {
    listStored(tape, window, args, io);
    return tape.exitStatus;
  }
  const { timeline } = await openTimeline(tape, path, args, context);
  const { kernel } = timeline;
  const filter = new EventFilter(
    args.all("type"),
    args.all("where"),
    kernel.events,
  );
  // code is looked up in a machine of its own: the listened-to one is in mid-step
  const code = args.has("disasm")
    ? new CodeListing(
      (await openTimeline(tape, path, args, context)).timeline,
      symbolsOf(tape, args, context),
      context,
    )
    : undefined;
  // the listener counts ordinals over all events, so it filters here, not there
  const { from, to, limit } = window;
  const lines = new Lines(io);
  let found = 0;
  const listener = new Listener((one) => {
    if (found >= limit || io.outClosed) return kernel.pause();
    if (one.step === from.step && one.ordinal < from.ordinal) return;
    if (one.step === to.step && one.ordinal >= to.ordinal) return;
    if (!filter.matches(one.event.name, one.payload)) return;
    found++;
    const row = code?.enter(one.step);
    if (args.has("json")) {
      if (row !== undefined) lines.json({ step: one.step, code: row });
      lines.json(eventToJson(one));
    } else {
      if (row !== undefined) lines.add(codeText(one.step, row));
      lines.add(`${code === undefined ? "" : "    "}${formatEvent(one)}\n`);
    }
    if (found >= limit) kernel.pause();
  });
  timeline.listen(from.step, to.ordinal > 0 ? to.step + 1 : to.step, listener);
  lines.flush();
  return tape.exitStatus;
}

/** A kernel that unpacks itself has no names before it has done so. */
const LOOK_AGAIN_STEPS = 1 << 24;

/** The instructions of a run, step by step. */
class CodeListing {
  #step = -1;
  readonly #inspector: Inspector | undefined;
  /** The guest's own symbols are looked for again from this step on. */
  #lookAgain: number;

  constructor(
    private readonly timeline: Timeline,
    symbols: readonly GuestSymbol[],
    context: Context,
  ) {
    this.#inspector = context.machines.inspector(timeline.kernel, symbols);
    this.#lookAgain = symbols.length > 0 ? Infinity : 0;
  }

  /** The instruction that `step` will retire, once a step. */
  enter(step: number): CodeRow | undefined {
    if (step === this.#step) return undefined;
    this.#step = step;
    this.timeline.seek({ step, ordinal: 0 });
    const inspector = this.#inspector;
    if (inspector !== undefined && step >= this.#lookAgain) {
      this.#lookAgain = nameItself(inspector)
        ? Infinity
        : step + LOOK_AGAIN_STEPS;
    }
    return inspector?.disassemble(inspector.turn, 1)[0];
  }
}

function codeText(step: number, { address, symbol, text }: CodeRow): string {
  const place = symbol === undefined ? "" : ` <${symbol}>`;
  return `${step} ${address}${place}: ${text}\n`;
}
