/**
 * Explains a replay that differs from its tape from what the tape holds: its
 * facts if any are stored, else the keyframe at or after the place, whose
 * state is compared with the replay's, cell by cell.
 * Invariant: only runs the machine from keyframes that were found equal.
 */
import { type EventAt, Listener } from "./collect.ts";
import {
  type Divergence,
  firstDifference,
  payloadBlame,
} from "./divergence.ts";
import { messageOf } from "./errors.ts";
import { Diverged } from "./feeder.ts";
import type { Kernel } from "./kernel.ts";
import { storedUnder } from "./recorder.ts";
import type { FrameDiffers } from "./tape/comparison.ts";
import { decodeStored } from "./tape/events.ts";
import { frameTypeName } from "./tape/frames.ts";
import type { TapeReader } from "./tape/reader.ts";
import { Timeline } from "./timeline.ts";

/**
 * What differs. `equalUpTo`: step of the last digest found equal; the kernel
 * may be broken in mid-run, it is restored.
 */
export function explainReplay(
  tape: TapeReader,
  kernel: Kernel,
  equalUpTo: number,
  error: FrameDiffers | Diverged,
): Divergence {
  const reached = kernel.moment.step;
  kernel.sink = undefined;
  const what = error instanceof Diverged
    ? messageOf(error)
    : `${frameTypeName(error.type)} at step ${reached} is not as on the tape`;
  const fallback: Divergence = {
    kind: error instanceof Diverged ? "run" : "state",
    moment: { step: reached, ordinal: 0 },
    equalUpTo,
    what,
    before: [],
    blame: [],
  };
  const base = tape.keyframes.filter((place) => place.step <= equalUpTo)
    .map((place) => tape.keyframe(place)).filter((k) => k !== undefined).at(-1);
  if (base === undefined) return fallback;
  kernel.restore(base.keyframe);
  const replay = new Timeline(tape, () => kernel, kernel, {
    inputs: base.inputs,
    tapeKeyframes: false,
  });
  return differentFacts(tape, replay, equalUpTo, reached, what) ??
    differentState(tape, replay, fallback, reached);
}

/** Compares stored facts with those of the replay in equalUpTo … reached. */
function differentFacts(
  tape: TapeReader,
  replay: Timeline,
  equalUpTo: number,
  reached: number,
  what: string,
): Divergence | undefined {
  const { detail } = tape.requireManifest();
  if (detail === "inputs") return undefined;
  const from = Math.max(replay.start, equalUpTo - 1);
  const stored = [
    ...decodeStored(tape, replay.kernel.events, from, reached + 1),
  ];
  const derived: EventAt[] = [];
  const listener = new Listener(
    (one) => void derived.push(one),
    (event) =>
      event.kind === "input" ||
      event.kind === "fact" && storedUnder(detail, event),
  );
  try {
    replay.listen(from, reached + 1, listener);
  } catch (error) {
    if (!(error instanceof Diverged)) throw error;
  }
  // A torn tape may end inside the step that was reached.
  const last = stored.at(-1)?.step ?? from;
  const found = firstDifference(
    stored,
    derived.filter((one) => one.step <= last || one.step < reached),
  );
  if (found === undefined) return undefined;
  return {
    kind: "facts",
    equalUpTo,
    what,
    ...found,
    blame: payloadBlame(found.expected, found.actual),
  };
}

/** Compares the tape's next keyframe with the replay's state there. */
function differentState(
  tape: TapeReader,
  replay: Timeline,
  fallback: Divergence,
  reached: number,
): Divergence {
  const place = tape.keyframes.find((one) => one.step >= reached) ??
    tape.endKeyframe;
  const stored = place && tape.keyframe(place);
  if (place === undefined || stored === undefined) return fallback;
  try {
    if (place === tape.endKeyframe) replay.seekEnd();
    else replay.seek({ step: place.step, ordinal: 0 });
  } catch {
    return fallback;
  }
  const { kernel } = replay;
  const actual = kernel.capture();
  const blame = kernel.explain(stored.keyframe, actual);
  return { ...fallback, blame, blameStep: place.step };
}
