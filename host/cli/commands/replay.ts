/**
 * `vmtape replay` runs a recorded run again with its console; `vmtape verify`
 * does it in silence after checking every byte. Both compare everything that
 * the tape holds with what comes out (design laws 1 and 2).
 * Invariant: status 0 means that nothing differed and nothing was missing.
 */
import { formatDivergence } from "../../../core/divergence.ts";
import { type Verification, verifyTape } from "../../../core/replayer.ts";
import type { Arguments } from "../args.ts";
import {
  type Command,
  type Context,
  echoSerial,
  factoryFor,
  grouped,
  MACHINE_OPTIONS,
  openTape,
  printJson,
} from "../command.ts";
import { Exit, TAPE_STATUSES } from "../exit.ts";
import { Progress } from "../progress.ts";
import { eventToJson } from "../../../core/collect.ts";

/** Steps between two looks at the clock. */
const BUDGET_STEPS = 1 << 20;

/** `vmtape replay` */
export const replayCommand: Command = {
  usage: {
    name: "replay",
    summary: "run a tape again, with its console, and compare",
    positionals: [{ name: "TAPE", doc: "the tape" }],
    options: [...MACHINE_OPTIONS],
    statuses: TAPE_STATUSES,
    examples: ["replay hello.tape", "replay hello.tape --engine reference"],
  },
  run: (args, context) => runAgain(args, context, false),
};

/** `vmtape verify` */
export const verifyCommand: Command = {
  usage: {
    name: "verify",
    summary: "check every byte of a tape, run it again and compare",
    positionals: [{ name: "TAPE", doc: "the tape" }],
    options: [...MACHINE_OPTIONS],
    statuses: TAPE_STATUSES,
    examples: [
      "verify hello.tape",
      "verify hello.tape --engine reference --json",
    ],
  },
  run: (args, context) => runAgain(args, context, true),
};

async function runAgain(
  args: Arguments,
  context: Context,
  verify: boolean,
): Promise<number> {
  const { io, machines } = context;
  const [path] = args.positionals;
  const tape = openTape(path, context, verify);
  const factory = await factoryFor(tape, path, args, context);
  const progress = new Progress(io, args.has("quiet"));
  let echoing = verify || args.has("json");
  const found = verifyTape(tape, (manifest) => {
    const kernel = factory(manifest);
    // the first machine is the replay; a bisection makes others
    if (!echoing) echoSerial(machines, kernel, io, () => progress.makeWay());
    echoing = true;
    return kernel;
  }, {
    budgetSteps: BUDGET_STEPS,
    progress: (step, end) => {
      progress.update(step, `of ${grouped(end)}`);
      return true;
    },
  });
  progress.done();
  if (args.has("json")) {
    const { divergence } = found;
    printJson(io, {
      ...found,
      divergence: divergence && {
        ...divergence,
        expected: divergence.expected && eventToJson(divergence.expected),
        actual: divergence.actual && eventToJson(divergence.actual),
        before: divergence.before.map(eventToJson),
      },
    });
  } else if (verify) io.out(verdict(path, found));
  else io.err(verdict(path, found));
  return found.status;
}

function verdict(path: string, found: Verification): string {
  const lines: string[] = [];
  if (found.incompatible !== undefined) {
    lines.push(`${path}: incompatible: ${found.incompatible}`);
  } else if (found.divergence !== undefined) {
    lines.push(`${path}: ${formatDivergence(found.divergence)}`);
  } else {
    lines.push(
      `${path}: equal to step ${grouped(found.step)}: ${
        grouped(found.frames)
      } frames and ${grouped(found.digests)} digests compared`,
    );
  }
  if (found.status !== Exit.ok && found.unchecked > 0) {
    lines.push(
      `not compared: ${grouped(found.unchecked)} frames that the tape has lost`,
    );
  }
  for (const line of found.lost) lines.push(`lost: ${line}`);
  return lines.map((line) => `${line.trimEnd()}\n`).join("");
}
