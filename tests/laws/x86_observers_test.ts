/**
 * Laws 3 and 4 on random x86 programs and on the examples: observers, detail,
 * slicing, breakpoints and checkpoints change no fact; state at any step is
 * the same however it was reached, and a restored machine goes on as the one
 * that was saved.
 */
import { assert, assertEquals } from "@std/assert";
import { NotModelled } from "../../core/errors.ts";
import { Feeder } from "../../core/feeder.ts";
import { RandomStream, toHex } from "../../core/mod.ts";
import { loadForTape } from "../../core/replay_machine.ts";
import { decodeStored } from "../../core/tape/events.ts";
import type { TapeReader } from "../../core/tape/reader.ts";
import { Timeline } from "../../core/timeline.ts";
import { machines } from "../../host/machine.ts";
import { machineOf, record, type Subject } from "../sim/run.ts";
import { corpus, exampleSubjects, recordingOf } from "./x86_subjects.ts";

const subjects: readonly Subject[] = [...corpus, ...await exampleSubjects()];

const states = (tape: TapeReader): string[] =>
  tape.digests.map(({ step, state }) => `${step} ${toHex(state)}`);

Deno.test("law 3: observers, slices and checkpoints change no byte", () => {
  let seen = 0, pauses = 0;
  subjects.forEach((subject, i) => {
    const random = new RandomStream(BigInt(i), "law-3");
    const kernel = machineOf(subject, undefined);
    // A different set of watched events each time; i % 3: all, some or none.
    for (const event of kernel.events.values()) {
      const wanted = i % 3 === 0 || i % 3 === 1 && random.below(3) === 0;
      if (wanted) kernel.watch(event, () => void seen++);
    }
    const watched = record(kernel, subject, {
      chop: 1 + random.below(200),
      paused(paused) {
        pauses++;
        // A checkpoint, and looks at the state.
        if (random.below(4) === 0) paused.capture();
        if (random.below(8) === 0) paused.stateDigest();
        if (random.below(8) === 0) paused.run({ stopWhen: () => true });
      },
    });
    const plain = recordingOf(subject);
    assertEquals(
      toHex(watched.chainHead),
      toHex(plain.chainHead),
      subject.name,
    );
    assertEquals(states(watched.tape), states(plain.tape), subject.name);
  });
  assert(seen > 1000 * corpus.length && pauses > 10 * corpus.length);
});

Deno.test("law 3: every detail is the same run", () => {
  subjects.forEach((subject, i) => {
    const full = recordingOf(subject);
    const detail = i % 2 === 0 ? "inputs" : "boundaries";
    const { tape, kernel } = record(machineOf(subject, "reference"), subject, {
      detail,
    });
    assertEquals(states(tape), states(full.tape), subject.name);
    const known = kernel.events;
    const show = (tape: TapeReader): string[] =>
      [...decodeStored(tape, known)].filter(({ event }) =>
        event.kind === "input" ||
        detail === "boundaries" && event.detail === "boundaries"
      ).map(({ step, event, payload }) =>
        `${step} ${event.name} ${event.toText(payload)}`
      );
    assertEquals(show(tape), show(full.tape), subject.name);
  });
});

Deno.test("law 4: seeking in any order equals running", () => {
  subjects.forEach((subject, i) => {
    const random = new RandomStream(BigInt(i), "law-4");
    const { tape } = recordingOf(subject);
    const engine = machines.engines[i % machines.engines.length];
    const uses = subject.uses ?? [];
    const factory = machines.factory({ engine, uses });
    const straight = Timeline.open(tape, factory, { tapeKeyframes: false });
    const jumpy = Timeline.open(tape, factory);
    const steps = Array.from(
      { length: 4 },
      () => random.below(Math.max(tape.end.step, 1)),
    ).sort((a, b) => a - b);
    const digests = steps.map((step) => {
      straight.seek({ step, ordinal: 0 });
      return straight.kernel.stateDigest();
    });
    for (const n of [3, 0, 2, 1]) {
      const near = random.below(3);
      jumpy.seek({
        step: Math.min(steps[n] + near, tape.end.step),
        ordinal: 0,
      });
      jumpy.seek({ step: steps[n], ordinal: 0 });
      assertEquals(
        jumpy.kernel.stateDigest(),
        digests[n],
        `${subject.name} at step ${steps[n]}`,
      );
    }
  });
});

Deno.test("law 4: save, restore elsewhere and run equals run", () => {
  let compared = 0;
  subjects.forEach((subject, i) => {
    const random = new RandomStream(BigInt(i), "law-4-restore");
    const { tape } = recordingOf(subject);
    const uses = subject.uses ?? [];
    const load = (engine: string): Feeder => {
      const loaded = loadForTape(tape, machines.factory({ engine, uses }));
      assert(!("incompatible" in loaded), subject.name);
      return new Feeder(loaded.kernel, tape, loaded.inputs);
    };
    const { engines } = machines;
    const one = load(engines[i % engines.length]);
    const other = load(engines[(i + 1) % engines.length]);
    const last = tape.end.step;
    const to = (feeder: Feeder, untilStep: number): boolean => {
      try {
        return feeder.run({ untilStep }).kind === "step";
      } catch (error) {
        if (error instanceof NotModelled) return false;
        throw error;
      }
    };
    const at = random.below(Math.max(last, 1));
    assert(to(one, at), subject.name);
    const saved = one.kernel.capture();
    // The other has been somewhere else meanwhile.
    to(other, random.below(Math.max(last, 1)));
    other.kernel.restore(saved);
    other.next = one.next;
    assertEquals(
      other.kernel.stateDigest(),
      one.kernel.stateDigest(),
      `${subject.name} restored at ${at}`,
    );
    for (const far of [1, 7, 100, 1000]) {
      const step = Math.min(at + far, last);
      if (step <= at || step === last && tape.end.stopped) continue;
      assert(to(one, step) && to(other, step), subject.name);
      assertEquals(
        other.kernel.stateDigest(),
        one.kernel.stateDigest(),
        `${subject.name} restored at ${at}, run to ${step}`,
      );
      compared++;
    }
  });
  assert(compared > 2 * corpus.length);
});
