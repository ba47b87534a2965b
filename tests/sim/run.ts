/**
 * Runs and records random programs (and any scenario) on machines of
 * host/machine.ts, for the law tests: drives with the scheduled inputs, stops
 * at the limit, survives NotModelled.
 */
import { NotModelled } from "../../core/errors.ts";
import type { Kernel } from "../../core/kernel.ts";
import type { PluginUse } from "../../core/plugin.ts";
import {
  Recorder,
  type RecordOptions,
  tapeWriter,
} from "../../core/recorder.ts";
import type { Cadence } from "../../core/tape/manifest.ts";
import { TapeReader } from "../../core/tape/reader.ts";
import { MemoryStore } from "../../core/tape/store.ts";
import type { RunOptions } from "../../core/sink.ts";
import type { ScenarioFiles } from "../../host/machines.ts";
import { machines } from "../../host/machine.ts";
import type { Scenario } from "../../host/scenario/types.ts";

/** Digests and keyframes often enough for programs of a thousand steps. */
export const PROGRAM_CADENCE: Cadence = {
  interval: 128,
  digestStepsPerPage: 4,
  keyframeStepsPerPage: 24,
};

/** A scenario with its files and foreign plugins. */
export interface Subject {
  readonly name: string;
  readonly scenario: Scenario;
  readonly files: ScenarioFiles;
  readonly uses?: readonly PluginUse[];
  readonly cadence?: Cadence;
}

/** A machine for a subject, at step 0. */
export function machineOf(
  subject: Subject,
  engine?: string,
  more: readonly PluginUse[] = [],
): Kernel {
  return machines.create(subject.scenario, subject.files, {
    engine,
    uses: [...(subject.uses ?? []), ...more],
  });
}

/** How a run is cut up; none of it may change a fact. */
export interface Slicing {
  /** Budgets of so many steps; 0: none. */
  readonly chop?: number;
  /** Called whenever a budget is used up. */
  readonly paused?: (kernel: Kernel) => void;
}

/**
 * Virtual nanoseconds without a step after which a program is given up: halted,
 * with a timer that ticks and an interrupt that never comes.
 */
const PATIENCE = 2e7;

/** How a run ended, in words. */
export type Ending = "stopped" | "waiting" | "steps" | "not modelled" | "stuck";

/**
 * Drives a machine through the subject's inputs to its limit.
 */
export function drive(
  kernel: Kernel,
  { scenario }: Subject,
  extra: RunOptions & Slicing = {},
): Ending {
  const { chop = 0, paused, ...options } = extra;
  const limit = scenario.steps ?? 1e6;
  const pending = [...scenario.inputs];
  const serial = machines.serial(kernel);
  let at = { step: -1, time: 0 };
  try {
    for (;;) {
      const untilStep = Math.min(limit, pending[0]?.at ?? limit);
      const info = kernel.run({
        ...options,
        untilStep,
        budgetSteps: chop > 0 ? chop : 1 << 16,
      });
      if (info.kind === "stopped") {
        return info.reason?.startsWith("stuck") ? "stuck" : "stopped";
      }
      if (info.kind === "budget" || info.kind === "predicate") {
        if (info.step !== at.step) at = { step: info.step, time: info.time };
        else if (info.time - at.time > PATIENCE) return "waiting";
        paused?.(kernel);
        continue;
      }
      const next = pending.shift();
      if (next === undefined) {
        return info.kind === "waiting" ? "waiting" : "steps";
      }
      if (next.serial !== undefined) serial?.send(next.serial);
      else if (next.event !== undefined) {
        const event = kernel.events.get(next.event.name)!;
        kernel.inject(
          event as never,
          event.fromJson(next.event.payload) as never,
        );
      }
    }
  } catch (error) {
    if (error instanceof NotModelled) return "not modelled";
    throw error;
  }
}

/** A recording in memory. */
export interface Recording {
  readonly kernel: Kernel;
  readonly tape: TapeReader;
  readonly store: MemoryStore;
  readonly ending: Ending;
  readonly chainHead: Uint8Array;
}

/** Records `kernel` (at the start of `subject`) in memory. */
export function record(
  kernel: Kernel,
  subject: Subject,
  options: RecordOptions & Slicing = {},
): Recording {
  const { chop, paused, ...rest } = options;
  const store = new MemoryStore();
  const recorder = Recorder.start(kernel, tapeWriter(store), {
    detail: "full",
    cadence: subject.cadence ?? PROGRAM_CADENCE,
    ...rest,
  });
  const ending = drive(kernel, subject, { chop, paused });
  recorder.finish();
  const { chainHead } = recorder;
  const tape = TapeReader.open(store, { verify: true });
  return { kernel, tape, store, ending, chainHead };
}
