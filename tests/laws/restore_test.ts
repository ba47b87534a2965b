/**
 * Law 4 on the toy machine, 200 seeded random programs: state at any step is
 * the same however it was reached, by running, seeking, stepping back, from
 * keyframes on the tape or in memory, with observers or without. And what the
 * timeline finds is where the facts say it is.
 */
import { assert, assertEquals } from "@std/assert";
import { type Keyframe, RandomStream } from "../../core/mod.ts";
import { formatEvent } from "../../core/collect.ts";
import { Recorder, tapeWriter } from "../../core/recorder.ts";
import { verifyTape } from "../../core/replayer.ts";
import { TapeReader } from "../../core/tape/reader.ts";
import { MemoryStore } from "../../core/tape/store.ts";
import { type Query, Timeline } from "../../core/timeline.ts";
import {
  makeToy,
  TOY_OBSERVERS,
  ToyPortWritten,
  ToySerialReceived,
} from "../toy/mod.ts";
import {
  drive,
  seededRun,
  TOY_CADENCE,
  toyFactory,
  type ToyRun,
  toyTape,
} from "./toy_runs.ts";

const SEEDS = 200;
const STEPS = 400;

/** Digests on arrival at each of `steps`, ascending, without any tape. */
function straightDigests(run: ToyRun, steps: readonly number[]): string[] {
  const kernel = makeToy(run);
  const inputs = [...run.inputs];
  const digests: string[] = [];
  for (const step of steps) {
    while (inputs.length > 0 && inputs[0].at < step) {
      const { at, bytes } = inputs.splice(0, 1)[0];
      drive(kernel, { ...run, steps: at, inputs: [] });
      kernel.inject(ToySerialReceived, { bytes: Uint8Array.from(bytes) });
    }
    drive(kernel, { ...run, steps: step, inputs: [] });
    if (kernel.moment.step !== step) break;
    digests.push(kernel.stateDigest());
  }
  return digests;
}

Deno.test("law 4: seeking in any order equals running", () => {
  let sought = 0;
  for (let seed = 1; seed <= SEEDS; seed++) {
    const run = seededRun(BigInt(seed), STEPS);
    const detail = seed % 2 === 0 ? "inputs" : "full";
    const { tape } = toyTape(run, { detail });
    const random = new RandomStream(BigInt(seed), "law-4");
    const steps = [
      ...new Set(Array.from({ length: 10 }, () => random.below(STEPS))),
    ].sort((a, b) => a - b);
    const digests = straightDigests(run, steps);
    const more = seed % 3 === 0 ? TOY_OBSERVERS : [];
    const timeline = Timeline.open(tape, toyFactory({ more, chop: seed % 5 }));
    for (let i = 0; i < 2 * digests.length; i++) {
      const pick = random.below(digests.length);
      const near = random.below(3);
      timeline.seek({ step: steps[pick] + near, ordinal: 0 });
      timeline.back(near);
      assertEquals(timeline.moment, { step: steps[pick], ordinal: 0 });
      assertEquals(
        timeline.kernel.stateDigest(),
        digests[pick],
        `seed ${seed}`,
      );
      sought++;
    }
  }
  assert(sought > 10 * SEEDS);
});

Deno.test("law 4: observers' cells are as if they had watched from step 0", () => {
  for (let seed = 1; seed <= 40; seed++) {
    const { tape } = toyTape(seededRun(BigInt(seed), STEPS));
    const factory = toyFactory({ more: TOY_OBSERVERS });
    const straight = Timeline.open(tape, factory);
    const jumpy = Timeline.open(tape, factory);
    for (const step of [300, 20, 170, 399, 5]) {
      jumpy.seek({ step, ordinal: 0 });
      straight.seek({ step: 0, ordinal: 0 });
      straight.seek({ step, ordinal: 0 });
      assertEquals(
        jumpy.kernel.captureObservers(),
        straight.kernel.captureObservers(),
      );
    }
  }
});

Deno.test("runTo and reverseTo find what the facts say", () => {
  let found = 0;
  for (let seed = 1; seed <= 40; seed++) {
    const { tape } = toyTape(seededRun(BigInt(seed), STEPS));
    const timeline = Timeline.open(tape, toyFactory());
    const all = timeline.events(0, Infinity);
    const query: Query = {
      event: ToyPortWritten,
      where: ({ port }: { port: number }) => port % 2 === 1,
    };
    const places = all.filter(({ event, payload }) =>
      event === ToyPortWritten && (payload as { port: number }).port % 2 === 1
    ).map(({ step, ordinal }) => ({ step, ordinal }));
    const forward = [];
    for (let at = timeline.runTo(query); at; at = timeline.runTo(query)) {
      forward.push(at);
    }
    assertEquals(forward, places, `seed ${seed}`);
    timeline.seekEnd();
    assertEquals(timeline.moment.step, tape.end.step);
    const backward = [];
    for (
      let at = timeline.reverseTo(query);
      at;
      at = timeline.reverseTo(query)
    ) {
      backward.unshift(at);
    }
    assertEquals(backward, places, `seed ${seed}`);
    found += places.length;
    // The event at a moment is the one that was looked for.
    if (places.length > 0) {
      const [{ step, ordinal }] = places;
      assertEquals(
        timeline.events(step, step + 1)[ordinal].event.name,
        ToyPortWritten.name,
      );
    }
  }
  assert(found > 100);
});

/** The program counter is byte 32 of the first state page. */
function pcIsTenfold(state: Keyframe): boolean {
  return state.pages.page(0).bytes[32] % 10 === 0;
}

Deno.test("searching by state finds the first and last step where it holds", () => {
  const { tape } = toyTape(seededRun(3n, STEPS));
  const timeline = Timeline.open(tape, toyFactory());
  const holds = (step: number): boolean => {
    timeline.seek({ step, ordinal: 0 });
    return pcIsTenfold(timeline.state());
  };
  const steps = Array.from({ length: STEPS }, (_, i) => i).filter(holds);
  assert(steps.length > 10 && steps.length < STEPS - 10);

  const query: Query = (kernel) => pcIsTenfold(kernel.capture());
  timeline.seek({ step: 100, ordinal: 0 });
  assertEquals(timeline.runTo(query)?.step, steps.find((step) => step > 100));
  timeline.seek({ step: 100, ordinal: 0 });
  assertEquals(
    timeline.reverseTo(query)?.step,
    steps.filter((step) => step < 100).at(-1),
  );
});

Deno.test("a fork is a tape of its own and leaves the parent alone", () => {
  for (let seed = 1; seed <= 40; seed++) {
    const run = seededRun(BigInt(seed), STEPS);
    const { tape, store } = toyTape(run);
    const parent = store.bytes().slice();
    const timeline = Timeline.open(tape, toyFactory());
    const step = 50 + 5 * seed;
    const forkOf = (edits: number[], keepInputs: boolean): TapeReader => {
      const sink = new MemoryStore();
      const { kernel, recorder } = timeline.fork(
        { step, ordinal: 0 },
        edits.map((byte) => ({
          event: ToySerialReceived,
          payload: { bytes: Uint8Array.of(byte) },
        })),
        tapeWriter(sink),
        { keepInputs },
      );
      drive(kernel, { ...run, inputs: [] });
      recorder.finish();
      return TapeReader.open(sink, { verify: true });
    };
    const other = forkOf([1, 2], false);
    assertEquals(other.state, "clean");
    assertEquals(verifyTape(other, toyFactory()).status, 0);
    assertEquals(other.manifest?.parent?.tape, tape.id);
    assertEquals(other.manifest?.parent?.step, step);
    const before = tape.inputs.filter((input) => input.step < step).length;
    assertEquals(other.inputs.length, before + 2);
    assertEquals(
      other.inputs.slice(before).map((input) => input.step),
      [step, step],
    );
    // Up to the moment both are the same run.
    const there = Timeline.open(other, toyFactory());
    assertEquals(
      there.events(0, step).map(formatEvent),
      timeline.events(0, step).map(formatEvent),
    );
    // No edits and the parent's inputs: the same run to its end.
    const same = forkOf([], true);
    assertEquals(
      same.inputs.map(({ step, time }) => [step, time]),
      tape.inputs.map(({ step, time }) => [step, time]),
    );
    assertEquals(same.digests.at(-1)?.state, tape.digests.at(-1)?.state);
    assertEquals(store.bytes(), parent);
  }
});

Deno.test("a recording can be cut into budgets of any size", () => {
  for (let seed = 1; seed <= 40; seed++) {
    const run = seededRun(BigInt(seed), STEPS);
    const { store } = toyTape(run);
    const kernel = makeToy(run);
    const sink = new MemoryStore();
    const recorder = Recorder.start(kernel, tapeWriter(sink), {
      cadence: TOY_CADENCE,
      detail: "full",
    });
    for (const { at, bytes } of [...run.inputs, { at: run.steps, bytes: [] }]) {
      for (let turn = 0; kernel.moment.step < at && turn < 1e5; turn++) {
        kernel.run({ untilStep: at, budgetSteps: 1 + seed % 9 });
      }
      if (bytes.length === 0) break;
      kernel.inject(ToySerialReceived, { bytes: Uint8Array.from(bytes) });
    }
    recorder.finish();
    if (kernel.moment.step === run.steps) {
      assertEquals(sink.bytes(), store.bytes(), `seed ${seed}`);
    }
  }
});
