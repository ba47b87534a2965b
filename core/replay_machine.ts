/**
 * The machine of a tape: loaded from its manifest, checked against it, put at
 * its first keyframe, run along it to its end.
 * Invariant: a machine that is not the recorded one is refused with the first
 * difference named; it never replays approximately.
 */
import { ConfigError, failureReason, messageOf, TapeError } from "./errors.ts";
import type { Feeder } from "./feeder.ts";
import type { Kernel } from "./kernel.ts";
import { canonicalJson, type TapeManifest } from "./tape/manifest.ts";
import type { StoredKeyframe, TapeReader } from "./tape/reader.ts";

/**
 * Loads the machine that a manifest describes: at step 0, without a sink.
 * Throws ConfigError when a plugin is missing or of another version. The
 * state is then restored from the tape, so images need not be at hand.
 */
export type MachineFactory = (manifest: TapeManifest) => Kernel;

/** How to run along a tape. */
export interface AlongOptions {
  /** Steps between two calls of `progress`. */
  readonly budgetSteps?: number;
  /** Told how far it is; answers true to go on. */
  readonly progress?: (step: number, end: number) => boolean;
}

/** Steps between two looks at the host. */
const DEFAULT_BUDGET = 2 ** 24;

/** Says where two machine manifests differ, or undefined. */
export function manifestDifference(
  tape: unknown,
  here: unknown,
  path = "",
): string | undefined {
  if (canonicalJson(tape) === canonicalJson(here)) return undefined;
  const mine = entriesOf(tape), theirs = entriesOf(here);
  if (mine !== undefined && theirs !== undefined) {
    const keys = [...new Set([...mine.keys(), ...theirs.keys()])];
    // Participants say more than their events, versions more than digests.
    const rank = (key: string): number =>
      key === "version" ? 0 : key === "events" || key === "digest" ? 2 : 1;
    keys.sort((a, b) => rank(a) - rank(b));
    for (const key of keys) {
      const found = manifestDifference(
        mine.get(key),
        theirs.get(key),
        path === "" ? key : `${path}, ${key}`,
      );
      if (found !== undefined) return found;
    }
    return `${path}: the tape has them in another order than this build`;
  }
  const show = (v: unknown): string =>
    v === undefined ? "none" : canonicalJson(v).slice(0, 120);
  return `${path}: the tape has ${show(tape)}, this build has ${show(here)}; ` +
    "load the machine that the tape was recorded with";
}

/** Members of an object, or of a list by their names. */
function entriesOf(value: unknown): Map<string, unknown> | undefined {
  if (typeof value !== "object" || value === null) return undefined;
  return new Map(
    Object.entries(value).map(([key, item]) => [
      typeof item?.name === "string" ? item.name : key,
      item,
    ]),
  );
}

/** A machine loaded for a tape. */
export interface Loaded {
  /** The machine. */
  readonly kernel: Kernel;
  /** Inputs that its state has consumed. */
  readonly inputs: number;
  /** It stands where the run started; otherwise that state is lost. */
  readonly fromStart: boolean;
}

/**
 * Loads the machine of a tape and puts it at the first keyframe that damage
 * left; or says why it can't be this machine.
 * @throws TapeError when the manifest or every keyframe is lost
 */
export function loadForTape(
  tape: TapeReader,
  factory: MachineFactory,
): Loaded | { incompatible: string } {
  const manifest = tape.requireManifest();
  let kernel: Kernel;
  try {
    kernel = factory(manifest);
  } catch (error) {
    if (error instanceof ConfigError) {
      return { incompatible: messageOf(error) };
    }
    throw error;
  }
  const difference = manifestDifference(manifest.machine, kernel.manifest());
  if (difference !== undefined) return { incompatible: difference };
  const start = tape.firstKeyframe();
  const first = start ?? laterKeyframe(tape);
  if (first === undefined) {
    throw new TapeError(
      "replay tape: no keyframe survived, so there is no state to run from; " +
        "use another copy of the tape",
    );
  }
  const observers = kernel.captureObservers();
  kernel.restore({ ...first.keyframe, observers });
  const fromStart = start !== undefined;
  return { kernel, inputs: first.inputs, fromStart };
}

/** The first keyframe that stands by itself and whose inputs are known. */
function laterKeyframe(tape: TapeReader): StoredKeyframe | undefined {
  for (const place of tape.keyframes) {
    const stored = tape.keyframe(place);
    if (stored !== undefined && stored.inputs <= tape.inputs.length) {
      return stored;
    }
  }
  return undefined;
}

/** Runs along the tape to where it ends. False: `progress` stopped it. */
export function runToEnd(feeder: Feeder, options: AlongOptions = {}): boolean {
  const { end } = feeder.tape;
  const { budgetSteps = DEFAULT_BUDGET, progress } = options;
  const target = end.stopped || end.waiting || end.failed
    ? { untilStep: end.step + 1, budgetSteps }
    : { untilStep: end.step, untilTime: end.time, budgetSteps };
  try {
    while (feeder.run(target).kind === "budget") {
      if (progress?.(feeder.kernel.moment.step, end.step) === false) {
        return false;
      }
    }
  } catch (error) {
    // The recorded run broke here too; its facts tell whether in the same way.
    if (end.failed && failureReason(error) !== undefined) return true;
    throw error;
  }
  feeder.kernel.run({ budgetSteps: 0 });
  return true;
}
