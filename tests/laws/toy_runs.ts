/**
 * Recorded toy runs for the law and crash tests: seeded programs, seeded
 * serial inputs, a cadence fine enough that short runs have commits and
 * keyframes.
 */
import {
  Kernel,
  type KernelConfig,
  RandomStream,
  type RunOptions,
} from "../../core/mod.ts";
import type { MachineFactory } from "../../core/replay_machine.ts";
import {
  Recorder,
  type RecordOptions,
  tapeWriter,
} from "../../core/recorder.ts";
import type { Cadence } from "../../core/tape/manifest.ts";
import { TapeReader } from "../../core/tape/reader.ts";
import { type ByteSink, MemoryStore } from "../../core/tape/store.ts";
import {
  makeToy,
  randomProgram,
  toyConfig,
  type ToyOptions,
  ToySerialReceived,
} from "../toy/mod.ts";

/** Commits every hundred steps or so, keyframes less often. */
export const TOY_CADENCE: Cadence = {
  interval: 64,
  digestStepsPerPage: 20,
  keyframeStepsPerPage: 60,
};

/** A machine from a toy tape's manifest: the program is in its keyframe. */
export function toyFactory(
  options: Partial<ToyOptions> = {},
): MachineFactory {
  return (manifest) => {
    const machine = manifest.machine as {
      seed: string;
      machine: { ramPages: number };
    };
    const config: KernelConfig = toyConfig({
      program: new Uint8Array(0),
      ramPages: machine.machine.ramPages,
      seed: BigInt(machine.seed),
      ...options,
    });
    return Kernel.load({ ...config, machine: machine.machine });
  };
}

/** A run: what is injected when, and where it ends. */
export interface ToyRun extends ToyOptions {
  /** The name of its engine. */
  readonly name?: string;
  readonly steps: number;
  /** Serial bytes at steps, ascending. */
  readonly inputs: readonly { readonly at: number; readonly bytes: number[] }[];
}

/** The run of one seed. */
export function seededRun(seed: bigint, steps = 1200): ToyRun {
  const random = new RandomStream(seed, "toy-run");
  const inputs: { at: number; bytes: number[] }[] = [];
  for (let at = random.below(200); at < steps; at += 1 + random.below(400)) {
    const bytes = Array.from(
      { length: 1 + random.below(4) },
      () => random.below(256),
    );
    inputs.push({ at, bytes });
    if (random.below(4) === 0) inputs.push({ at, bytes: [7] });
  }
  return { program: randomProgram(seed), seed, steps, inputs };
}

/** Idle time, in ns, after which a machine is taken to sleep for ever. */
const ASLEEP = 8000;

/**
 * Runs `kernel` through `run`. Some programs sleep for ever: the host gives up
 * by virtual time, which is the same for every engine.
 */
export function drive(
  kernel: Kernel,
  run: ToyRun,
  extra: RunOptions = {},
): void {
  const idle = (): number => kernel.moment.time - kernel.moment.step;
  const to = (untilStep: number): void => {
    const enough = idle() + ASLEEP;
    kernel.run({ ...extra, untilStep, stopWhen: () => idle() > enough });
  };
  for (const { at, bytes } of run.inputs) {
    to(at);
    kernel.inject(ToySerialReceived, { bytes: Uint8Array.from(bytes) });
  }
  to(run.steps);
}

/** Records `run` into `sink` (default: memory). */
export function recordToy<S extends ByteSink>(
  run: ToyRun,
  options: RecordOptions,
  sink: S,
): { kernel: Kernel; recorder: Recorder; sink: S } {
  const kernel = makeToy(run);
  const recorder = Recorder.start(kernel, tapeWriter(sink), {
    cadence: TOY_CADENCE,
    ...options,
  });
  drive(kernel, run);
  recorder.finish();
  return { kernel, recorder, sink };
}

/** Records `run` in memory and opens the tape. */
export function toyTape(
  run: ToyRun,
  options: RecordOptions = { detail: "full" },
): { tape: TapeReader; store: MemoryStore; kernel: Kernel } {
  const { kernel, sink } = recordToy(run, options, new MemoryStore());
  return { tape: TapeReader.open(sink, { verify: true }), store: sink, kernel };
}
