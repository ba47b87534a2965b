/**
 * The toy machine itself: it must be a machine on which the laws can fail.
 * Here they hold without a tape; tests/laws runs them through one.
 */
import { assert, assertEquals } from "@std/assert";
import { NotModelled } from "../../core/mod.ts";
import type { EventToken, FactSink, Kernel } from "../../core/mod.ts";
import {
  assemble,
  echoProgram,
  halt,
  jmp,
  makeToy,
  mystery,
  randomProgram,
  spin,
  TOY_OBSERVERS,
  TOY_PARTICIPANTS,
  ToySerialReceived,
} from "./mod.ts";

/** Collects the stream as text. */
class Log implements FactSink {
  readonly inputs: string[] = [];
  readonly facts: string[] = [];
  readonly notes: string[] = [];
  constructor(readonly kernel: Kernel, readonly full = true) {}
  input(
    at: { step: number; time: number },
    event: EventToken,
    payload: unknown,
  ) {
    this.inputs.push(`${at.step} ${at.time} ${event.name}`);
    this.facts.push(`${at.step} ${event.name} ${event.toText(payload)}`);
  }
  fact(step: number, event: EventToken, payload: unknown) {
    this.facts.push(`${step} ${event.name} ${event.toText(payload)}`);
  }
  hot(step: number, id: number, words: Uint32Array, at: number, n: number) {
    this.facts.push(`${step} ${id} ${words.subarray(at, at + n).join()}`);
  }
  note(step: number, event: EventToken, payload: unknown, plugin: string) {
    this.notes.push(`${step} ${plugin} ${event.toText(payload)}`);
  }
  boundary() {}
  wants(event: EventToken) {
    return this.full || !event.hot;
  }
}

Deno.test("echo: serial input comes back, and 0 exits with the tick count", () => {
  const kernel = makeToy({ program: echoProgram() });
  const log = new Log(kernel);
  kernel.sink = log;
  assertEquals(kernel.run({ budgetSteps: 5000 }).kind, "budget");
  kernel.inject(ToySerialReceived, { bytes: Uint8Array.of(65, 66) });
  kernel.run({ budgetSteps: 5000 });
  kernel.inject(ToySerialReceived, { bytes: Uint8Array.of(0) });
  const end = kernel.run({ budgetSteps: 5000 });
  assertEquals(end.kind, "stopped");
  assertEquals(end.reason, "program exited");
  const ticks = log.facts.filter((line) => line.includes("toy-timer.ticked"));
  assert(ticks.length > 10);
  assertEquals(end.exitCode, ticks.length & 255);
  const sent = log.facts.filter((line) => line.includes("toy-serial.sent"));
  assertEquals(sent.map((line) => line.split(" ").at(-1)), [
    "byte=0x41",
    "byte=0x42",
  ]);
  // Ended is ended.
  assertEquals(kernel.run(), end);
});

Deno.test("random programs: chops, observers, pauses and detail change nothing", () => {
  for (let seed = 1n; seed <= 20n; seed++) {
    const program = randomProgram(seed);
    const run = (options: {
      chop?: number;
      observe?: boolean;
      full?: boolean;
      pauses?: number;
      shuffle?: boolean;
    }) => {
      const plugins = [...TOY_PARTICIPANTS];
      if (options.shuffle) plugins.reverse();
      const kernel = makeToy({
        program,
        seed,
        chop: options.chop,
        plugins,
        more: options.observe ? TOY_OBSERVERS : [],
      });
      const log = new Log(kernel, options.full);
      kernel.sink = log;
      const to = (untilStep: number) => {
        if (options.pauses !== undefined) {
          for (let s = 0; s < untilStep; s += options.pauses) {
            kernel.run({ untilStep: s, budgetSteps: 1e6 });
            if (options.full) kernel.stateDigest();
          }
        }
        // Idle time may pass before the step is reached.
        return kernel.run({ untilStep, budgetSteps: 1e6 });
      };
      to(700);
      kernel.inject(ToySerialReceived, { bytes: Uint8Array.of(1, 2, 3) });
      to(3000);
      return { log, digest: kernel.stateDigest(), at: kernel.moment };
    };
    const plain = run({ full: true });
    const variants = [
      run({ full: true, chop: 7 }),
      run({ full: true, observe: true }),
      run({ full: true, pauses: 13 }),
      run({ full: true, shuffle: true }),
      run({ full: true, chop: 1, observe: true, pauses: 101 }),
    ];
    for (const other of variants) {
      assertEquals(other.at, plain.at, `seed ${seed}`);
      assertEquals(other.log.facts, plain.log.facts, `seed ${seed}`);
      assertEquals(other.digest, plain.digest, `seed ${seed}`);
    }
    const quiet = run({ full: false });
    assertEquals(quiet.digest, plain.digest, `seed ${seed}`);
    assertEquals(
      quiet.log.facts,
      plain.log.facts.filter((line) => !/^\d+ \d/.test(line)),
    );
  }
});

Deno.test("random programs: save, restore and run equals run, anywhere", () => {
  for (let seed = 100n; seed < 120n; seed++) {
    const options = { program: randomProgram(seed), seed };
    const straight = makeToy(options);
    const log = new Log(straight);
    straight.sink = log;
    straight.run({ untilStep: 1500, budgetSteps: 1e6 });
    const one = makeToy(options);
    const other = makeToy(options);
    const facts: string[] = [];
    for (let step = 0; step < 1500; step += 1 + Number(seed % 97n)) {
      if (one.run({ untilStep: step, budgetSteps: 1e6 }).kind !== "step") break;
      const saved = one.capture();
      assertEquals(one.explain(saved, one.capture()), []);
      other.restore(saved);
      assertEquals(other.stateDigest(), one.stateDigest());
      const next = new Log(other);
      other.sink = next;
      other.run({
        untilStep: Math.min(1500, step + 1 + Number(seed % 97n)),
        budgetSteps: 1e6,
      });
      facts.push(...next.facts);
      if (step + 1 + Number(seed % 97n) >= 1500) {
        assertEquals(other.stateDigest(), straight.stateDigest());
      }
    }
    assertEquals(facts, log.facts, `seed ${seed}`);
  }
});

Deno.test("loops without a step, self-made ends and unmodelled things stop", () => {
  const stuck = makeToy({ program: assemble(jmp(0), spin()) });
  const log = new Log(stuck);
  stuck.sink = log;
  const end = stuck.run();
  assertEquals(end.reason, "stuck: spin at 4");
  assertEquals(log.facts.slice(-2), [
    '1 machine.stuck loop="spin at 4"',
    '1 machine.stopped reason="stuck: spin at 4" exitCode=-',
  ]);
  assertEquals(makeToy({ program: halt_() }).run().reason, "toy halted");
  const mysterious = makeToy({ program: assemble(jmp(0), mystery()) });
  const facts = new Log(mysterious);
  mysterious.sink = facts;
  let thrown: unknown;
  try {
    mysterious.run();
  } catch (error) {
    thrown = error;
  }
  assert(thrown instanceof NotModelled);
  assertEquals(
    facts.facts.at(-1),
    '1 machine.stopped reason="not modelled: MYSTERY (toy manual, section 7)" exitCode=-',
  );
});

function halt_(): Uint8Array {
  return assemble(halt());
}
