/**
 * What recording and time travel cost: recording under `inputs` against none
 * on each kernel (claim: ≤ 5 %), events per second and bytes per event under
 * `full`, and the latencies of `seek` and `back`. Ratios come from runs that
 * alternate in one process.
 */
import process from "node:process";
import {
  type Kernel,
  MemoryStore,
  Recorder,
  TapeReader,
  tapeWriter,
  Timeline,
} from "../mod.ts";
import { machines } from "../host/machine.ts";
import { kernelImage, KERNELS } from "./kernels.ts";
import { guestMachine } from "./machine.ts";

const SLICE = 50_000_000;
/** Fewer rounds say nothing on a host that does other things too. */
const LEAST_ROUNDS = 5;

/** Runs a machine to its end. @returns milliseconds */
function runToEnd(kernel: Kernel): number {
  const started = performance.now();
  while (kernel.run({ budgetSteps: SLICE }).kind === "budget");
  return performance.now() - started;
}

/** Middle value. */
export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[sorted.length >> 1];
}

/** One kernel's overhead. */
export interface Overhead {
  readonly kernel: string;
  /** CPU time with recording over that without: median of the rounds' ratios. */
  readonly ratio: number;
  readonly steps: number;
  readonly tapeBytes: number;
}

/** CPU time of user code that `run` takes, in microseconds. */
function cpuTime(run: () => void): number {
  const before = process.cpuUsage();
  run();
  return process.cpuUsage(before).user;
}

/**
 * Recording under `inputs` against none: ratios of runs made one right after
 * the other, first the one and then the other first, by CPU time; a run before
 * them has the host compile its code.
 */
export function recordingOverhead(
  millions: number,
  rounds: number,
): Overhead[] {
  return KERNELS.filter(({ name }) => name !== "empty").map((kernel) => {
    const image = kernelImage(kernel, millions);
    let steps = 0;
    let tapeBytes = 0;
    const bare = (): number => {
      const machine = guestMachine(image);
      return cpuTime(() => runToEnd(machine));
    };
    const recorded = (): number => {
      const machine = guestMachine(image);
      const store = new MemoryStore();
      const recorder = Recorder.start(machine, tapeWriter(store), {
        detail: "inputs",
      });
      const time = cpuTime(() => runToEnd(machine));
      recorder.finish();
      steps = machine.moment.step;
      tapeBytes = store.size;
      return time;
    };
    bare();
    const ratios: number[] = [];
    for (let round = 0; round < Math.max(rounds, LEAST_ROUNDS); round++) {
      if (round % 2 === 0) {
        const without = bare();
        ratios.push(recorded() / without);
      } else {
        const time = recorded();
        ratios.push(time / bare());
      }
    }
    return { kernel: kernel.name, ratio: median(ratios), steps, tapeBytes };
  });
}

/** What `full` recording and travelling cost on one kernel. */
export interface Travel {
  readonly eventsPerSecond: number;
  readonly bytesPerEvent: number;
  /** Milliseconds, median and worst of the seeks made. */
  readonly seekMedian: number;
  readonly seekWorst: number;
  readonly backMedian: number;
}

/** Full detail, `seek` to scattered moments and `back` from each. */
export function travelCosts(seeks: number): Travel {
  const kernel = KERNELS[0];
  const full = guestMachine(kernelImage(kernel, 1));
  const fullStore = new MemoryStore();
  const recorder = Recorder.start(full, tapeWriter(fullStore), {
    detail: "full",
  });
  const milliseconds = runToEnd(full);
  recorder.finish();
  let events = 0;
  const reader = TapeReader.open(fullStore);
  for (const frame of reader.frames) {
    if (frame.count > 0) events += frame.count;
  }

  const long = guestMachine(kernelImage(kernel, 200));
  const store = new MemoryStore();
  const inputs = Recorder.start(long, tapeWriter(store), { detail: "inputs" });
  runToEnd(long);
  inputs.finish();
  const factory = machines.factory({ uses: [] });
  const time = Timeline.open(TapeReader.open(store), factory);
  const seekTimes: number[] = [];
  const backTimes: number[] = [];
  const timed = (act: () => void): number => {
    const started = performance.now();
    act();
    return performance.now() - started;
  };
  for (let i = 0; i < seeks; i++) {
    // Scattered deterministically over the run: multiples of the golden ratio.
    const step = Math.floor(time.end * ((i * 0.6180339887) % 1));
    seekTimes.push(timed(() => time.seek({ step, ordinal: 0 })));
    backTimes.push(timed(() => time.back()));
  }
  return {
    eventsPerSecond: events / (milliseconds / 1000),
    bytesPerEvent: fullStore.size / Math.max(events, 1),
    seekMedian: median(seekTimes),
    seekWorst: Math.max(...seekTimes),
    backMedian: median(backTimes),
  };
}
