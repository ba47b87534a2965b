/**
 * Divergence: where two runs part, and who is to blame. A replay that differs
 * from its tape is explained from what the tape holds (facts, digests,
 * keyframes); two live runs are bisected by state digests to the very step.
 * Invariant: what is reported was seen on both sides; nothing is guessed.
 */
import { type EventAt, formatEvent, Listener, sameEvent } from "./collect.ts";
import { TapeError } from "./errors.ts";
import type { Keyframe } from "./keyframe.ts";
import { formatMoment, type Moment } from "./moment.ts";
import type { StateDifference } from "./sink.ts";
import type { MachineFactory } from "./replay_machine.ts";
import type { TapeReader } from "./tape/reader.ts";
import { Timeline } from "./timeline.ts";

/** Events shown before the first that differs. */
export const EVENTS_BEFORE = 16;

/** Where and how two runs part. */
export interface Divergence {
  /** facts: an event differs; state: only state does; run: one can't go on. */
  readonly kind: "facts" | "state" | "run";
  /** The first moment known to differ. */
  readonly moment: Moment;
  /** The last step at which both were known to be equal. */
  readonly equalUpTo: number;
  /** What differs, in words. */
  readonly what: string;
  /** The first differing event of the tape (or left run), if events differ. */
  readonly expected?: EventAt;
  /** … and of the replay (or right run). */
  readonly actual?: EventAt;
  /** Up to sixteen equal events before it. */
  readonly before: readonly EventAt[];
  /** Plugin, cell and field, where both states are known. */
  readonly blame: readonly StateDifference[];
  /** Step at which the states of `blame` were compared. */
  readonly blameStep?: number;
}

/** A divergence as the lines that the CLI prints. */
export function formatDivergence(found: Divergence): string {
  const lines = [
    `diverged at ${formatMoment(found.moment)}: ${found.what}`,
    `  equal up to step ${found.equalUpTo}`,
  ];
  for (const one of found.before) lines.push(`    ${formatEvent(one)}`);
  if (found.kind === "facts") {
    const show = (one: EventAt | undefined): string =>
      one === undefined ? "(nothing more)" : formatEvent(one);
    lines.push(`  expected ${show(found.expected)}`);
    lines.push(`  actual   ${show(found.actual)}`);
  }
  for (const { plugin, cell, field, before, after } of found.blame) {
    const name = [plugin, cell, field].filter((part) => part !== "").join(", ");
    const at = found.blameStep === undefined ? "" : ` at ${found.blameStep}`;
    lines.push(`  blame${at}: ${name}: expected ${before}, actual ${after}`);
  }
  return lines.join("\n");
}

/** The first place where two event lists differ, or undefined. */
export function firstDifference(
  expected: readonly EventAt[],
  actual: readonly EventAt[],
): Pick<Divergence, "moment" | "expected" | "actual" | "before"> | undefined {
  const length = Math.max(expected.length, actual.length);
  for (let i = 0; i < length; i++) {
    const mine = expected[i], theirs = actual[i];
    if (mine !== undefined && theirs !== undefined && sameEvent(mine, theirs)) {
      continue;
    }
    const first = mine === undefined
      ? theirs
      : theirs === undefined || mine.step <= theirs.step
      ? mine
      : theirs;
    return {
      moment: { step: first.step, ordinal: first.ordinal },
      expected: mine,
      actual: theirs,
      before: expected.slice(Math.max(0, i - EVENTS_BEFORE), i),
    };
  }
  return undefined;
}

/** Differing fields of two payloads of one event. */
export function payloadBlame(
  expected: EventAt | undefined,
  actual: EventAt | undefined,
): StateDifference[] {
  if (expected?.event.name !== actual?.event.name) return [];
  if (expected === undefined || actual === undefined) return [];
  const { event } = expected;
  const mine = expected.payload as Record<string, unknown>;
  const theirs = actual.payload as Record<string, unknown>;
  const found: StateDifference[] = [];
  for (const [field, codec] of Object.entries(event.fields)) {
    const before = codec.toText(mine[field]),
      after = codec.toText(theirs[field]);
    if (before === after) continue;
    found.push({
      plugin: event.name.split(".")[0],
      cell: event.name,
      field,
      before,
      after,
    });
  }
  return found;
}

/** Two runs that can be put at any step. */
export interface Twins {
  /** The one called expected. */
  readonly left: Timeline;
  /** The one called actual. */
  readonly right: Timeline;
}

/**
 * The first step at which the states of two runs differ, found by digests in
 * `from`..`to`: doubling windows from the start, then halving. Undefined: equal
 * wherever looked, the end included.
 */
export function firstDifferentStep(
  { left, right }: Twins,
  from: number,
  to: number,
): { equal: number; different: number } | undefined {
  const equalAt = (step: number): boolean => {
    const mine = stateAt(left, step);
    const theirs = stateAt(right, step);
    return mine !== undefined && theirs !== undefined &&
      left.kernel.stateDigest() === right.kernel.stateDigest();
  };
  if (!equalAt(from)) return { equal: from - 1, different: from };
  let equal = from, different = -1;
  for (let stride = 1024; different < 0; stride *= 2) {
    const step = Math.min(equal + stride, to);
    if (step === equal) return undefined;
    if (equalAt(step)) equal = step;
    else different = step;
  }
  while (different - equal > 1) {
    const middle = equal + Math.floor((different - equal) / 2);
    if (equalAt(middle)) equal = middle;
    else different = middle;
  }
  return { equal, different };
}

/**
 * Where two tapes part, each replayed on its own machine; undefined if they
 * are runs with equal states and facts. Both must be replayable.
 */
export function diffRuns(twins: Twins): Divergence | undefined {
  const { left, right } = twins;
  const from = Math.max(left.start, right.start);
  const to = Math.min(left.end, right.end);
  const found = firstDifferentStep(twins, from, to);
  if (found === undefined) return diffEnds(twins, to);
  const { equal, different } = found;
  if (different === from) {
    return {
      kind: "state",
      moment: { step: from, ordinal: 0 },
      equalUpTo: equal,
      what: "the runs start in different states",
      before: [],
      ...blameAt(twins, from),
    };
  }
  const start = Math.max(from, equal - EVENTS_BEFORE);
  const difference = firstDifference(
    eventsOf(left, start, different),
    eventsOf(right, start, different),
  );
  const blame = blameAt(twins, different);
  if (difference === undefined) {
    return {
      kind: "state",
      moment: { step: different, ordinal: 0 },
      equalUpTo: equal,
      what: `step ${equal} left different states without a different fact`,
      before: eventsOf(left, start, different).slice(-EVENTS_BEFORE),
      ...blame,
    };
  }
  return {
    kind: "facts",
    equalUpTo: equal,
    what: `step ${difference.moment.step} did different things`,
    ...difference,
    ...blame,
  };
}

/** Compares two runs behind the last step of the shorter one. */
function diffEnds({ left, right }: Twins, to: number): Divergence | undefined {
  const difference = firstDifference(
    eventsOf(left, to, Infinity),
    eventsOf(right, to, Infinity),
  );
  if (difference !== undefined) {
    return {
      kind: "facts",
      equalUpTo: to,
      what: "the runs end differently",
      ...difference,
      blame: payloadBlame(difference.expected, difference.actual),
    };
  }
  if (left.end === right.end) return undefined;
  return {
    kind: "run",
    moment: { step: to, ordinal: 0 },
    equalUpTo: to,
    what: `one run ends at step ${left.end}, the other at ${right.end}`,
    before: [],
    blame: [],
  };
}

function blameAt(
  { left, right }: Twins,
  step: number,
): Pick<Divergence, "blame" | "blameStep"> {
  const mine = stateAt(left, step), theirs = stateAt(right, step);
  if (mine === undefined || theirs === undefined) return { blame: [] };
  return { blame: left.kernel.explain(mine, theirs), blameStep: step };
}

/** The state at `step`; undefined if that run can't get there. */
function stateAt(timeline: Timeline, step: number): Keyframe | undefined {
  try {
    timeline.seek({ step, ordinal: 0 });
    return timeline.state();
  } catch (error) {
    if (error instanceof TapeError) return undefined;
    throw error;
  }
}

/** The events with from ≤ step < to as far as that run gets. */
function eventsOf(timeline: Timeline, from: number, to: number): EventAt[] {
  const found: EventAt[] = [];
  try {
    timeline.listen(from, to, new Listener((one) => void found.push(one)));
  } catch (error) {
    if (!(error instanceof TapeError)) throw error;
  }
  return found.filter(({ event }) => event.kind !== "note");
}

/**
 * Where two builds of one machine part over the same tape, found without its
 * keyframes: both run from its start. Undefined: they are the same.
 */
export function diffBuilds(
  tape: TapeReader,
  left: MachineFactory,
  right: MachineFactory,
): Divergence | undefined {
  const options = { tapeKeyframes: false };
  return diffRuns({
    left: Timeline.open(tape, left, options),
    right: Timeline.open(tape, right, options),
  });
}
