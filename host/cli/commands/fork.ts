/**
 * `vmtape fork`: another future. Takes a run to a moment, changes memory or
 * registers there or adds input, lets it go on, and records all of that on a
 * tape of its own (design §6).
 * Invariant: the parent tape is only read; the new tape replays without it.
 */
import { fromHex } from "../../../core/bytes.ts";
import type { EventToken } from "../../../core/event.ts";
import { inputRefusal } from "../../../core/kernel_port.ts";
import {
  MachineInterrupted,
  MemoryEdited,
  RegisterEdited,
} from "../../../core/machine_events.ts";
import { tapeWriter } from "../../../core/recorder.ts";
import type { ForkEdit } from "../../../core/timeline.ts";
import { RECORD_POLICIES } from "../../scenario/types.ts";
import {
  type Arguments,
  readMoment,
  readU64,
  readWhole,
  UsageError,
} from "../args.ts";
import {
  type Command,
  type Context,
  createTape,
  echoSerial,
  grouped,
  MACHINE_OPTIONS,
  openTape,
  openTimeline,
  pathOf,
  printJson,
} from "../command.ts";
import { Exit, RUN_STATUSES } from "../exit.ts";
import { Progress } from "../progress.ts";

/** Steps between two looks at the clock. */
const BUDGET_STEPS = 1 << 20;
const GENERAL = /^(r[abcd]x|r[sd]i|r[sb]p|r(8|9|1[0-5]))$/;

/** `vmtape fork` */
export const forkCommand: Command = {
  usage: {
    name: "fork",
    summary: "change the past and record the other future",
    positionals: [
      { name: "TAPE", doc: "the parent; it is not changed" },
      { name: "MOMENT", doc: "where to change it: STEP or STEP.EVENT" },
    ],
    options: [
      {
        name: "out",
        value: "FILE",
        doc: "the new tape (default: NAME.fork.tape)",
      },
      {
        name: "poke",
        value: "PA=BYTES",
        doc: "write memory: 0x201ff8=0f0b",
        many: true,
      },
      {
        name: "set",
        value: "REG=VALUE",
        doc: "write a register: rax=1, rip=0x1000, vcpu1.rax=0",
        many: true,
      },
      {
        name: "input",
        value: "EVENT=JSON",
        doc: 'add an input: uart.received={"bytes":"6c730a"}',
        many: true,
      },
      { name: "keep-inputs", doc: "feed the parent's later inputs too" },
      { name: "max-steps", value: "N", doc: "stop at this step" },
      {
        name: "record",
        value: "POLICY",
        doc: `what is stored: ${RECORD_POLICIES.join(", ")}`,
      },
      ...MACHINE_OPTIONS,
    ],
    statuses: RUN_STATUSES,
    examples: [
      "fork fault.tape 88123 --poke 0x201ff8=0000000000000000",
      "fork run.tape 5000 --set rax=0 --out other.tape",
    ],
  },
  run: runFork,
};

async function runFork(args: Arguments, context: Context): Promise<number> {
  const { io, machines } = context;
  const [path, where] = args.positionals;
  const moment = readMoment(where, "MOMENT");
  const out = args.text("out") ?? `${path.replace(/\.tape$/, "")}.fork.tape`;
  if (pathOf(out, context) === pathOf(path, context)) {
    throw new UsageError(
      `fork ${path}: it can't be written over itself, name another file with --out`,
    );
  }
  const limit = args.whole("max-steps", 1);
  const detail = args.oneOf("record", RECORD_POLICIES);
  const tape = openTape(path, context);
  const { timeline } = await openTimeline(tape, path, args, context);
  if (moment.step > timeline.end) {
    throw new UsageError(
      `fork ${path} at ${where}: the run ends at step ${timeline.end}, choose an earlier moment`,
    );
  }
  const edits = [
    ...args.all("poke").map(memoryEdit),
    ...args.all("set").map(registerEdit),
    ...args.all("input").map((text) => inputEdit(text, timeline.kernel.events)),
  ];
  // a mistyped edit must not cost the tape that is there
  for (const { event, payload } of edits) {
    const refusal = inputRefusal(timeline.kernel.executor, event, payload);
    if (refusal !== undefined) {
      throw new UsageError(`fork ${path} at ${where}: ${refusal}`);
    }
  }
  const sink = createTape(out, context);
  let interrupted = false;
  const forget = io.onInterrupt(() => interrupted = true);
  const progress = new Progress(io, args.has("quiet"));
  try {
    const { kernel, recorder } = timeline.fork(
      moment,
      edits,
      tapeWriter(sink),
      {
        ...(detail === undefined ? {} : { detail }),
        keepInputs: args.has("keep-inputs"),
        progress: (step, end) =>
          progress.update(step, `of ${grouped(end)} to run again`),
      },
    );
    if (!args.has("json")) {
      echoSerial(machines, kernel, io, () => progress.makeWay());
    }
    let info = kernel.run({ budgetSteps: 0 });
    try {
      while (
        info.kind !== "stopped" && info.kind !== "waiting" &&
        info.step < (limit ?? Infinity)
      ) {
        info = kernel.run({
          budgetSteps: BUDGET_STEPS,
          ...(limit === undefined ? {} : { untilStep: limit }),
        });
        progress.update(info.step, "");
        await io.breathe();
        if (!interrupted) continue;
        kernel.inject(MachineInterrupted, {});
        interrupted = false;
      }
    } finally {
      progress.done();
      recorder.finish();
    }
    const status = info.exitCode ?? Exit.ok;
    if (args.has("json")) {
      printJson(io, { status, out, edits: edits.length, ...info });
    } else if (!args.has("quiet")) {
      io.err(
        `vmtape fork: ${info.reason ?? info.kind} at step ${
          grouped(info.step)
        }; tape ${out}\n`,
      );
    }
    return status;
  } finally {
    forget();
    progress.done();
    sink.close();
  }
}

/** Reads `PA=BYTES`. */
function memoryEdit(text: string): ForkEdit {
  const match = /^([^=]+)=((?:[\da-f]{2})+)$/i.exec(text.replaceAll("_", ""));
  const physicalAddress = match === null ? undefined : readWhole(match[1]);
  if (match === null || physicalAddress === undefined) {
    throw new UsageError(
      `--poke takes PA=BYTES, bytes in hexadecimal, as 0x201ff8=0f0b, found ${
        JSON.stringify(text)
      }`,
    );
  }
  return {
    event: MemoryEdited,
    payload: { physicalAddress, bytes: fromHex(match[2].toLowerCase()) },
  } as ForkEdit;
}

/** Reads `REG=VALUE`, `vcpu1.REG=VALUE`. */
function registerEdit(text: string): ForkEdit {
  const match = /^(?:vcpu(\d+)\.)?([a-z][\w.]*)=(.+)$/i.exec(text);
  if (match === null) {
    throw new UsageError(
      `--set takes REG=VALUE, as rax=1, found ${JSON.stringify(text)}`,
    );
  }
  const name = match[2].toLowerCase();
  const payload = {
    vcpu: Number(match[1] ?? 0),
    register: GENERAL.test(name) ? `gpr.${name}` : name,
    value: readU64(match[3], `--set ${match[2]}`),
  };
  return { event: RegisterEdited, payload } as ForkEdit;
}

/** Reads `EVENT=JSON`. */
function inputEdit(
  text: string,
  events: ReadonlyMap<string, EventToken>,
): ForkEdit {
  const equals = text.indexOf("=");
  const event = events.get(text.slice(0, equals));
  if (event === undefined || event.kind !== "input") {
    const inputs = [...events.values()].filter((e) => e.kind === "input").map((
      e,
    ) => e.name);
    throw new UsageError(
      `--input takes EVENT=JSON, EVENT one of ${inputs.join(", ")}, found ${
        JSON.stringify(text)
      }`,
    );
  }
  let json: unknown;
  try {
    json = JSON.parse(text.slice(equals + 1));
  } catch {
    throw new UsageError(
      `--input ${event.name}: ${
        JSON.stringify(text.slice(equals + 1))
      } is no JSON`,
    );
  }
  return {
    event: event as EventToken<unknown, "input">,
    payload: event.fromJson(json),
  };
}
