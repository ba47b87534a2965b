/**
 * `vmtape diff`: compares two recorded runs by running both, finds the first
 * step at which they part (bisecting by state digests), and shows the first
 * differing event both ways, the sixteen before it, and what state differs.
 * Invariant: status 0 means equal states wherever looked, the ends included.
 */
import { diffRuns, formatDivergence } from "../../../core/divergence.ts";
import { eventToJson } from "../../../core/collect.ts";
import type { Arguments } from "../args.ts";
import {
  type Command,
  type Context,
  grouped,
  MACHINE_OPTIONS,
  openTape,
  openTimeline,
  printJson,
} from "../command.ts";
import { Exit, TAPE_STATUSES } from "../exit.ts";

/** `vmtape diff` */
export const diffCommand: Command = {
  usage: {
    name: "diff",
    summary: "find where two runs part, and what is to blame",
    positionals: [
      { name: "LEFT", doc: "a tape" },
      {
        name: "RIGHT",
        doc: "a tape of the same kind of machine, as a fork of the first",
      },
    ],
    options: [...MACHINE_OPTIONS],
    statuses: TAPE_STATUSES,
    examples: ["diff run.tape fork.tape", "diff run.tape fork.tape --json"],
  },
  run: runDiff,
};

async function runDiff(args: Arguments, context: Context): Promise<number> {
  const { io } = context;
  const [leftPath, rightPath] = args.positionals;
  const left = openTape(leftPath, context);
  const right = openTape(rightPath, context);
  const twins = {
    left: (await openTimeline(left, leftPath, args, context)).timeline,
    right: (await openTimeline(right, rightPath, args, context)).timeline,
  };
  const found = diffRuns(twins);
  const status = found === undefined
    ? Math.max(left.exitStatus, right.exitStatus)
    : Exit.diverged;
  if (args.has("json")) {
    printJson(io, {
      status,
      divergence: found === undefined ? null : {
        ...found,
        expected: found.expected && eventToJson(found.expected),
        actual: found.actual && eventToJson(found.actual),
        before: found.before.map(eventToJson),
      },
    });
  } else if (found === undefined) {
    io.out(`equal to step ${grouped(twins.left.end)}\n`);
  } else {io.out(
      `left ${leftPath} (expected), right ${rightPath} (actual)\n${
        formatDivergence(found).trimEnd()
      }\n`,
    );}
  return status;
}
