/**
 * `vmtape seek`: goes to a moment of a recorded run and shows the machine as
 * it was: registers, code, page walks, memory, the events of that step.
 * Invariant: the tape is only read.
 */
import { type Arguments, readMoment, UsageError } from "../args.ts";
import {
  type Command,
  type Context,
  MACHINE_OPTIONS,
  openTape,
  openTimeline,
} from "../command.ts";
import { TAPE_STATUSES } from "../exit.ts";
import { showMoment, VIEW_OPTIONS } from "../view.ts";

/** `vmtape seek` */
export const seekCommand: Command = {
  usage: {
    name: "seek",
    summary: "show the machine at a moment of a tape",
    positionals: [
      { name: "TAPE", doc: "the tape" },
      { name: "MOMENT", doc: "STEP, STEP.EVENT, or `end`" },
    ],
    options: [...VIEW_OPTIONS, ...MACHINE_OPTIONS],
    statuses: TAPE_STATUSES,
    examples: [
      "seek hello.tape 1200",
      "seek fault.tape 88123.2 --regs --walk 0x400000 --disasm",
      "seek run.tape end --dump 0x7c00+64",
    ],
  },
  run: runSeek,
};

async function runSeek(args: Arguments, context: Context): Promise<number> {
  const [path, where] = args.positionals;
  const moment = where === "end" ? undefined : readMoment(where, "MOMENT");
  const tape = openTape(path, context);
  const { timeline } = await openTimeline(tape, path, args, context);
  if (moment !== undefined && moment.step > timeline.end) {
    throw new UsageError(
      `seek ${path} to ${where}: the run ends at step ${timeline.end}, choose an earlier moment or \`end\``,
    );
  }
  if (moment === undefined) timeline.seekEnd();
  else timeline.seek(moment);
  showMoment(timeline, args, context);
  return tape.exitStatus;
}
