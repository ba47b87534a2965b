/**
 * Forks: another future of a tape, as a new self-contained tape with the
 * parent's inputs up to a moment, then the edits. Used through
 * `Timeline.fork`. Invariant: the parent is never written; everything up to
 * the moment is run again and recorded, so the fork needs no parent to replay.
 */
import { toHex } from "./bytes.ts";
import { ConfigError, TapeError } from "./errors.ts";
import type { EventToken } from "./event.ts";
import { Feeder } from "./feeder.ts";
import type { Kernel } from "./kernel.ts";
import type { Moment } from "./moment.ts";
import { type OutFactory, Recorder, type RecordOptions } from "./recorder.ts";
import { loadForTape, type MachineFactory } from "./replay_machine.ts";
import type { TapeReader } from "./tape/reader.ts";

/** An input that a fork adds at its moment. */
export interface ForkEdit<P = unknown> {
  /** The event. */
  readonly event: EventToken<P, "input">;
  /** Its payload. */
  readonly payload: P;
}

/** How to fork. */
export interface ForkOptions extends RecordOptions {
  /**
   * Feed the parent's later inputs too, each at the first boundary at or after
   * its step. Default: the new future has none of them.
   */
  readonly keepInputs?: boolean;
  /** Told now and then how far the way to the moment has been run again. */
  readonly progress?: (step: number, end: number) => void;
}

/** A fork: a machine past its edits, under recording. */
export interface Fork {
  /** The machine. */
  readonly kernel: Kernel;
  /** Its recording. */
  readonly recorder: Recorder;
}

/** Steps between two calls of `progress`. */
const PROGRESS_STEPS = 2 ** 22;

/**
 * Forks `tape` at `moment`, whose step lies within the run.
 * @throws ConfigError when the machine does not match, TapeError when the
 * state that the run starts from is lost
 */
export function forkTape(
  tape: TapeReader,
  factory: MachineFactory,
  moment: Moment,
  edits: readonly ForkEdit[],
  out: OutFactory,
  options: ForkOptions,
): Fork {
  const manifest = tape.requireManifest();
  const loaded = loadForTape(tape, factory);
  if ("incompatible" in loaded) {
    throw new ConfigError(`fork tape: ${loaded.incompatible}`);
  }
  const { kernel, fromStart } = loaded;
  if (!fromStart) {
    throw new TapeError(
      "fork tape: the state that it starts from is lost, use another copy",
    );
  }
  const { step, ordinal } = moment;
  const commit = tape.commits.filter((c) => c.step <= step).at(-1);
  const recorder = Recorder.start(kernel, out, {
    detail: options.detail ?? manifest.detail,
    cadence: options.cadence ?? manifest.cadence,
    host: options.host ?? manifest.host,
    notes: options.notes,
    parent: {
      tape: tape.id,
      chainHead: commit === undefined ? "" : toHex(commit.chainHead),
      step,
      ordinal,
    },
  });
  const feeder = new Feeder(kernel, tape);
  const here = tape.inputs.filter((input) => input.step === step)
    .slice(0, ordinal);
  feeder.limit = tape.inputs.filter((input) => input.step < step).length +
    here.length;
  const target = {
    untilStep: step,
    untilTime: here.at(-1)?.time,
    budgetSteps: PROGRESS_STEPS,
  };
  while (feeder.run(target).kind === "budget") {
    options.progress?.(kernel.moment.step, step);
  }
  if (here.length > 0) kernel.run({ budgetSteps: 0 });
  const later = feeder.limit;
  for (const { event, payload } of edits) kernel.inject(event, payload);
  kernel.run({ budgetSteps: 0 });
  if (options.keepInputs === true) {
    const rest = new Feeder(kernel, tape, later);
    rest.runLoosely();
  }
  return { kernel, recorder };
}
