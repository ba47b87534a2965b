/**
 * The laws of design §2 on random programs for two to four vCPUs: replay,
 * engine and observer independence, restore anywhere, canonical files; and
 * that the programs are worth it: every vCPU runs, is interrupted, faults, and
 * runs what another wrote.
 */
import { assert, assertEquals } from "@std/assert";
import { formatDivergence } from "../../core/divergence.ts";
import type { Json } from "../../core/fields.ts";
import { Feeder } from "../../core/feeder.ts";
import { Kernel } from "../../core/kernel.ts";
import { RandomStream, toHex } from "../../core/mod.ts";
import { RegisterEdited } from "../../core/machine_events.ts";
import { loadForTape, type MachineFactory } from "../../core/replay_machine.ts";
import { tapeWriter } from "../../core/recorder.ts";
import { verifyTape } from "../../core/replayer.ts";
import { TapeReader } from "../../core/tape/reader.ts";
import { MemoryStore } from "../../core/tape/store.ts";
import { Timeline } from "../../core/timeline.ts";
import { parseModel } from "../../cpu/arch/models.ts";
import { MachineExecutor } from "../../cpu/engine/executor.ts";
import { T0Engine, t0EngineBytes } from "../../cpu/engine/t0/engine.ts";
import {
  ActivityChanged,
  CpuRetired,
  ExceptionDelivered,
  InterruptDelivered,
  MemWrote,
} from "../../cpu/facts.ts";
import { MACHINE } from "../../cpu/layout.ts";
import { platformUses } from "../../host/catalog.ts";
import { machines } from "../../host/machine.ts";
import { DecoderService } from "../../plugins/decoder/api.ts";
import { type Ending, machineOf, record, type Recording } from "../sim/run.ts";
import { makeSmpCorpus, type SmpProgram } from "../sim/smp.ts";
import { SMP_AT } from "../sim/smp_runtime.ts";

const corpus: readonly SmpProgram[] = [
  ...makeSmpCorpus(1n, 24, "port"),
  ...makeSmpCorpus(1n, 12, "lapic"),
];

const recordings = new Map<SmpProgram, Recording>();
function recordingOf(program: SmpProgram): Recording {
  let recording = recordings.get(program);
  if (recording === undefined) {
    recording = record(machineOf(program, "reference"), program);
    recordings.set(program, recording);
  }
  return recording;
}

const quiet = new Map<SmpProgram, TapeReader>();
function quietOf(program: SmpProgram): TapeReader {
  let tape = quiet.get(program);
  if (tape === undefined) {
    const kernel = machineOf(program, "reference");
    tape = record(kernel, program, { detail: "inputs" }).tape;
    quiet.set(program, tape);
  }
  return tape;
}

interface Engine {
  readonly name: string;
  /** Every so manieth program is enough for it. */
  readonly share: number;
  factory(program: SmpProgram): MachineFactory;
}

/** T0 that compiles every form at its first execution. */
const EAGER: Engine = {
  name: "t0, compiling at once",
  share: 1,
  factory: ({ scenario: { machine }, uses = [] }) => (manifest) => {
    const { machine: recorded, seed } = manifest.machine as unknown as {
      readonly seed: string;
      readonly machine: Json;
    };
    const model = parseModel(machine.cpu);
    return Kernel.load({
      plugins: platformUses(model, machine.platform, uses),
      seed: BigInt(seed),
      machine: recorded,
      executor: (port) =>
        new MachineExecutor(port, {
          model,
          ramBytes: machine.memory,
          cpus: machine.cpus,
          turnSteps: machine.quantum,
          engineBytes: t0EngineBytes(machine.cpus),
          engine: (world) => {
            const decoder = world.port.service(DecoderService).get()!;
            return new T0Engine(decoder.create(model), {
              threshold: 0,
              hot: [],
            });
          },
        }),
    });
  },
};
const named = (engine: string): Engine => ({
  name: engine,
  // Compiling the usual hot forms takes longer than such a program.
  share: engine === "t0" ? 6 : 1,
  factory: ({ uses = [] }) => machines.factory({ engine, uses }),
});
const ENGINES: readonly Engine[] = [...machines.engines.map(named), EAGER];

const QUICK = ENGINES.filter(({ share }) => share === 1);

function replay(tape: TapeReader, engine: Engine, program: SmpProgram): void {
  const found = verifyTape(tape, engine.factory(program));
  const why = found.divergence === undefined
    ? found.incompatible ?? ""
    : formatDivergence(found.divergence);
  assertEquals(
    [found.status, found.unchecked, found.complete, found.digests],
    [0, 0, true, tape.digests.length],
    `${program.name} on ${engine.name}: ${why}`,
  );
}

const states = (tape: TapeReader): string[] =>
  tape.digests.map(({ step, state }) => `${step} ${toHex(state)}`);

Deno.test("several vCPUs: the corpus covers turns, interrupts, faults, code, paging", () => {
  const endings = new Map<Ending, number>();
  let interrupted = 0, faulted = 0, halts = 0, crossed = 0, turns = 0;
  let entries = 0;
  for (const program of corpus) {
    const kernel = machineOf(program, "reference");
    const ran = new Set<number>(), met = new Set<number>();
    let last = -1;
    kernel.watch(CpuRetired, ({ cpu }) => {
      ran.add(cpu);
      if (cpu !== last) turns++;
      last = cpu;
      return undefined;
    });
    kernel.watch(InterruptDelivered, ({ cpu }) => void met.add(cpu));
    kernel.watch(ExceptionDelivered, () => void faulted++);
    kernel.watch(ActivityChanged, () => void halts++);
    kernel.watch(MemWrote, ({ cpu, physical }) => {
      const offset = Number(physical) - SMP_AT.patches;
      if (offset >= 0 && offset < program.cpus * 0x1000) {
        if (offset >> 12 !== cpu) crossed++;
      }
      if (Number(physical) >> 12 === SMP_AT.pt >> 12) entries++;
      return undefined;
    });
    const { ending } = record(kernel, program);
    endings.set(ending, (endings.get(ending) ?? 0) + 1);
    assertEquals(ran.size, program.cpus, `${program.name}: who ran`);
    interrupted += met.size;
  }
  const said = JSON.stringify({
    ...Object.fromEntries(endings),
    interrupted,
    faulted,
    halts,
    crossed,
    turns,
    entries,
  });
  console.log(said);
  assert(corpus.length >= 30);
  assert((endings.get("stopped") ?? 0) >= 0.7 * corpus.length, said);
  assertEquals(endings.get("not modelled"), undefined, said);
  assert(interrupted >= 2 * corpus.length, said);
  assert(faulted >= 5 * corpus.length && halts >= 5 * corpus.length, said);
  assert(crossed >= 3 * corpus.length, said);
  assert(entries >= 3 * corpus.length, said);
  assert(turns >= 50 * corpus.length, said);
});

Deno.test("several vCPUs: the corpus is a function of its seed", () => {
  assertEquals(makeSmpCorpus(7n, 4, "port"), makeSmpCorpus(7n, 4, "port"));
});

for (const engine of ENGINES) {
  const chosen = corpus.filter((_, i) => i % engine.share === 0);
  Deno.test(`several vCPUs, laws 1 and 2: ${engine.name}, observed`, () => {
    for (const program of chosen) {
      replay(recordingOf(program).tape, engine, program);
    }
  });
  Deno.test(`several vCPUs, law 2: ${engine.name}, quiet`, () => {
    for (const program of chosen) replay(quietOf(program), engine, program);
  });
}

Deno.test("several vCPUs, law 3: observers, slices and checkpoints change no byte", () => {
  corpus.forEach((program, i) => {
    const random = new RandomStream(BigInt(i), "smp-law-3");
    const engine = i % 6 === 0 ? undefined : "reference";
    const kernel = machineOf(program, engine);
    for (const event of kernel.events.values()) {
      const wanted = i % 3 === 0 || i % 3 === 1 && random.below(3) === 0;
      if (wanted) kernel.watch(event, () => undefined);
    }
    const watched = record(kernel, program, {
      chop: 1 + random.below(200),
      paused(paused) {
        if (random.below(4) === 0) paused.capture();
        if (random.below(8) === 0) paused.stateDigest();
      },
    });
    const plain = recordingOf(program);
    assertEquals(
      toHex(watched.chainHead),
      toHex(plain.chainHead),
      program.name,
    );
    assertEquals(states(watched.tape), states(plain.tape), program.name);
  });
});

Deno.test("several vCPUs, law 4: seeking in any order equals running", () => {
  corpus.filter((_, i) => i % 2 === 0).forEach((program, i) => {
    const random = new RandomStream(BigInt(i), "smp-law-4");
    const { tape } = recordingOf(program);
    const engine = QUICK[i % QUICK.length];
    const straight = Timeline.open(tape, engine.factory(program), {
      tapeKeyframes: false,
    });
    const jumpy = Timeline.open(tape, engine.factory(program));
    const steps = Array.from({ length: 6 }, () => random.below(tape.end.step))
      .sort((a, b) => a - b);
    const digests = steps.map((step) => {
      straight.seek({ step, ordinal: 0 });
      return straight.kernel.stateDigest();
    });
    for (const n of [5, 0, 3, 2, 4, 1]) {
      jumpy.seek({ step: steps[n], ordinal: 0 });
      assertEquals(
        jumpy.kernel.stateDigest(),
        digests[n],
        `${program.name} at step ${steps[n]}`,
      );
    }
  });
});

Deno.test("several vCPUs, law 4: save, restore elsewhere and run equals run", () => {
  corpus.filter((_, i) => i % 2 === 1).forEach((program, i) => {
    const random = new RandomStream(BigInt(i), "smp-law-4-restore");
    const { tape } = recordingOf(program);
    const load = (engine: Engine): Feeder => {
      const loaded = loadForTape(tape, engine.factory(program));
      assert(!("incompatible" in loaded), program.name);
      return new Feeder(loaded.kernel, tape, loaded.inputs);
    };
    const one = load(QUICK[i % QUICK.length]);
    const two = load(QUICK[(i + 1) % QUICK.length]);
    const last = tape.end.step - 1;
    const at = random.below(last);
    one.run({ untilStep: at });
    two.run({ untilStep: random.below(last) });
    two.kernel.restore(one.kernel.capture());
    for (const far of [0, 1, 7, 100, 1000]) {
      const untilStep = Math.min(at + far, last);
      one.run({ untilStep });
      two.run({ untilStep });
      assertEquals(
        two.kernel.stateDigest(),
        one.kernel.stateDigest(),
        `${program.name} restored at ${at}, run to ${untilStep}`,
      );
    }
  });
});

/** Steps of the recorded run before which a PAUSE of the turn is remembered. */
function betweenPauses(tape: TapeReader, factory: MachineFactory): number[] {
  const { kernel } = Timeline.open(tape, factory);
  const { executor } = kernel;
  assert(executor instanceof MachineExecutor);
  const { memory, layout } = executor.hardware;
  const words = new BigUint64Array(memory.buffer);
  const at = (layout.state + MACHINE.turnPause) >>> 3;
  const steps: number[] = [];
  for (;;) {
    const { kind, step } = kernel.run({ budgetSteps: 1 });
    if (kind !== "budget") return steps;
    if (words[at] !== 0n) steps.push(step);
  }
}

Deno.test("several vCPUs, law 4: a seek between two PAUSEs of a turn equals running", () => {
  let sought = 0;
  corpus.filter((_, i) => i % 4 === 3).forEach((program, i) => {
    const random = new RandomStream(BigInt(i), "smp-law-4-pause");
    const { tape } = recordingOf(program);
    const engine = QUICK[i % QUICK.length];
    const between = betweenPauses(tape, engine.factory(program));
    const straight = Timeline.open(tape, engine.factory(program), {
      tapeKeyframes: false,
    });
    const jumpy = Timeline.open(tape, engine.factory(program));
    const chosen = Array.from(
      { length: Math.min(between.length, 6) },
      () => between[random.below(between.length)],
    ).sort((a, b) => a - b);
    // Far enough for the turn to end, one way or the other.
    const steps = chosen.flatMap((step) => [step, step + 40])
      .map((step) => Math.min(step, tape.end.step));
    const digests = steps.map((step) => {
      straight.seek({ step, ordinal: 0 });
      return straight.kernel.stateDigest();
    });
    for (let n = steps.length - 2; n >= 0; n -= 2) {
      for (const at of [n, n + 1]) {
        jumpy.seek({ step: steps[at], ordinal: 0 });
        assertEquals(
          jumpy.kernel.stateDigest(),
          digests[at],
          `${program.name} at step ${steps[at]}`,
        );
      }
      sought++;
    }
  });
  assert(sought >= 40, `${sought} places`);
});

Deno.test("several vCPUs, law 6: one file, and one chain on every engine", () => {
  corpus.forEach((program, i) => {
    const one = recordingOf(program);
    const again = record(machineOf(program, "reference"), program);
    assertEquals(again.store.bytes().length, one.store.bytes().length);
    assertEquals(again.chainHead, one.chainHead, program.name);
    if (i % 6 !== 0) return;
    const other = record(machineOf(program, "t0"), program);
    assertEquals(other.chainHead, one.chainHead, program.name);
  });
});

Deno.test("several vCPUs: events and states of each are found both ways", () => {
  const program = corpus[2];
  const { tape } = recordingOf(program);
  const time = Timeline.open(tape, ENGINES[0].factory(program));
  time.seekEnd();
  for (let cpu = program.cpus - 1; cpu >= 0; cpu--) {
    const query = {
      event: InterruptDelivered,
      where: (p: { cpu: number }) => p.cpu === cpu,
    };
    const back = time.reverseTo(query);
    assert(back !== undefined, `an interrupt of vCPU ${cpu}`);
    const again = time.reverseTo(query);
    if (again !== undefined) assertEquals(time.runTo(query), back);
    time.seekEnd();
  }
  const { executor } = time.kernel;
  assert(executor instanceof MachineExecutor);
  const { hardware } = executor;
  const isTurn = (cpu: number) => () => hardware.turn() === cpu;
  time.seek({ step: tape.end.step >> 1, ordinal: 0 });
  for (const cpu of [1, 0, 2]) {
    const found = time.reverseTo(isTurn(cpu));
    assert(found !== undefined);
    assertEquals(hardware.turn(), cpu);
    time.step();
  }
});

Deno.test("several vCPUs: a fork may edit any; what differs is blamed on it", () => {
  const program = corpus[4];
  const { tape } = recordingOf(program);
  const factory = ENGINES[0].factory(program);
  const time = Timeline.open(tape, factory);
  const step = tape.end.step >> 1;
  const store = new MemoryStore();
  const payload = { vcpu: 2, register: "gpr.r12", value: 0x1234n };
  const { kernel, recorder } = time.fork(
    { step, ordinal: 0 },
    [{ event: RegisterEdited, payload }],
    tapeWriter(store),
  );
  time.seek({ step, ordinal: 0 });
  const before = time.state();
  const found = kernel.explain(before, kernel.capture());
  assertEquals(found.map(({ cell }) => cell), ["vcpu2.gpr.r12"]);
  kernel.run({ untilStep: step + 500 });
  recorder.finish();
  const fork = TapeReader.open(store, { verify: true });
  const result = verifyTape(fork, factory);
  assertEquals(result.status, 0);
});
