/**
 * `vmtape recover`: writes a closed tape with everything that still counts of
 * a torn or damaged one, and says what was lost (design §5, law 5).
 * Invariant: the old tape is only read.
 */
import { ConfigError } from "../../../core/errors.ts";
import { recoverTape } from "../../../core/tape/recover.ts";
import { TapeStatus } from "../../../core/tape/reader.ts";
import { type Arguments, UsageError } from "../args.ts";
import {
  type Command,
  type Context,
  createTape,
  grouped,
  openFile,
  openTape,
  pathOf,
  printJson,
  requireManifest,
} from "../command.ts";
import { TAPE_STATUSES } from "../exit.ts";

/** `vmtape recover` */
export const recoverCommand: Command = {
  usage: {
    name: "recover",
    summary: "make a closed tape out of a torn or damaged one",
    positionals: [{ name: "TAPE", doc: "the torn tape; it is not changed" }],
    options: [
      {
        name: "out",
        value: "FILE",
        doc: "the new tape (default: NAME.recovered.tape)",
      },
    ],
    statuses: TAPE_STATUSES,
    examples: ["recover crashed.tape", "recover crashed.tape --out whole.tape"],
  },
  run: runRecover,
};

function runRecover(args: Arguments, context: Context): number {
  const { io } = context;
  const [path] = args.positionals;
  const out = args.text("out") ??
    `${path.replace(/\.tape$/, "")}.recovered.tape`;
  const source = openFile(path, context);
  try {
    if (isSameFile(pathOf(path, context), pathOf(out, context))) {
      throw new UsageError(
        `recover ${path}: it can't be written over itself, name another file with --out`,
      );
    }
    if (source.size === 0) {
      throw new ConfigError(
        `recover ${path}: the file is empty, there is nothing to recover`,
      );
    }
    // what can't be recovered must not cost the file that is there
    requireManifest(openTape(path, context), path);
    const sink = createTape(out, context);
    const recovery = recoverTape(source, sink);
    sink.close();
    const status = TapeStatus[recovery.state];
    if (args.has("json")) printJson(io, { status, out, ...recovery });
    else {
      io.out(
        `${out}: to step ${grouped(recovery.step)}, ${
          grouped(recovery.inputs)
        } inputs, ${grouped(recovery.commits)} commits\n`,
      );
      for (const line of recovery.lost) io.out(`lost: ${line}\n`);
      if (recovery.state === "clean") {
        io.out("nothing was lost: the tape was whole\n");
      }
    }
    return status;
  } finally {
    source.close();
  }
}

function isSameFile(a: string, b: string): boolean {
  try {
    return Deno.realPathSync(a) === Deno.realPathSync(b);
  } catch {
    return false; // the new one isn't there yet
  }
}
