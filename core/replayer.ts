/**
 * Replays a tape and checks the run against it, frame by frame: the machine is
 * recorded once more and each canonical frame (inputs, facts, keyframe pages,
 * digests, commits) must have the same bytes as the tape's (laws 1, 2 and 6).
 *
 * ```ts
 * const tape = TapeReader.open(source, { verify: true });
 * const result = verifyTape(tape, factory);     // factory: manifest → Kernel
 * result.status;                                // 0, 3, 4, 5 or 6
 * result.divergence && formatDivergence(result.divergence);
 * ```
 *
 * Invariant: a frame that could not be compared (damage) is counted as such
 * and never passes for equal.
 */
import type { Divergence } from "./divergence.ts";
import { Diverged, Feeder } from "./feeder.ts";
import { Recorder } from "./recorder.ts";
import { explainReplay } from "./replay_blame.ts";
import {
  type AlongOptions,
  loadForTape,
  type MachineFactory,
  runToEnd,
} from "./replay_machine.ts";
import { FrameComparison, FrameDiffers } from "./tape/comparison.ts";
import { type TapeReader, TapeStatus } from "./tape/reader.ts";

/** What a verification found. */
export interface Verification {
  /** An exit status: see TapeStatus. */
  readonly status: number;
  /** The replay went as far as the tape; else it parted or was stopped. */
  readonly complete: boolean;
  /** Where the replay ended. */
  readonly step: number;
  /** Canonical frames compared and found equal. */
  readonly frames: number;
  /** Digests among them. */
  readonly digests: number;
  /** Canonical frames of the replay with no counterpart left on the tape. */
  readonly unchecked: number;
  /** Set when status is 3. */
  readonly divergence?: Divergence;
  /** Set when status is 6: what is missing or incompatible. */
  readonly incompatible?: string;
  /** What a crash or damage cost; empty for a clean tape. */
  readonly lost: readonly string[];
}

/** Replays `tape` from its start and compares everything. */
export function verifyTape(
  tape: TapeReader,
  factory: MachineFactory,
  options: AlongOptions = {},
): Verification {
  const lost = tape.lost();
  const loaded = loadForTape(tape, factory);
  const nothing = {
    complete: false,
    step: 0,
    frames: 0,
    digests: 0,
    unchecked: 0,
  };
  if ("incompatible" in loaded) {
    const { incompatible } = loaded;
    return { status: TapeStatus.incompatible, ...nothing, incompatible, lost };
  }
  if (!loaded.fromStart) {
    lost.push("the state that the run started from: nothing was compared");
    return { status: TapeStatus.damaged, ...nothing, lost };
  }
  const { kernel } = loaded;
  const manifest = tape.requireManifest();
  const comparison = new FrameComparison(tape);
  let divergence: Divergence | undefined;
  let complete = false;
  try {
    const recorder = Recorder.start(kernel, () => comparison, manifest);
    complete = runToEnd(new Feeder(kernel, tape), options);
    if (complete && tape.end.closed) recorder.finish();
  } catch (error) {
    if (!(error instanceof FrameDiffers) && !(error instanceof Diverged)) {
      throw error;
    }
    divergence = explainReplay(
      tape,
      kernel,
      comparison.equalUpTo,
      error,
    );
  } finally {
    kernel.sink = undefined;
  }
  return {
    status: divergence !== undefined ? TapeStatus.diverged : tape.exitStatus,
    complete,
    step: kernel.moment.step,
    frames: comparison.frames,
    digests: comparison.digests,
    unchecked: comparison.unchecked,
    divergence,
    lost,
  };
}
