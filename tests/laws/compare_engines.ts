/**
 * Design law 2 as a comparison: two engines run one program from stop to stop
 * at random steps; state digests (registers, RAM, TLBs, steps) and every fact
 * must be equal.
 */
import { NotModelled } from "../../core/errors.ts";
import type { PluginUse } from "../../core/plugin.ts";
import type { FactSink } from "../../core/sink.ts";
import type { Backend } from "../../cpu/engine/backend.ts";
import type { EngineWorld } from "../../cpu/engine/executor.ts";
import { T0Engine, t0EngineBytes } from "../../cpu/engine/t0/engine.ts";
import { PLACE, referenceEngine, TestMachine } from "../support/machine.ts";
import { DecoderService } from "../../plugins/decoder/api.ts";
import { Random, type RandomProgram } from "./random_programs.ts";

/** T0 over the decoder plugin, see T0Options. */
export function t0Engine(
  threshold: number,
  eager = false,
  hot?: readonly string[],
): (w: EngineWorld) => Backend {
  return ({ port, hardware }) => {
    const factory = port.service(DecoderService).get();
    if (factory === undefined) throw new RangeError("no decoder plugin");
    return new T0Engine(factory.create(hardware.model), {
      ...{ threshold, eager, hot },
    });
  };
}

/** How a comparison runs. */
export interface Comparison {
  readonly mode: "real" | "long" | "protected";
  readonly steps: number;
  /** Steps between stops, at most. */
  readonly stride: number;
  /** Names of events to record; all of a prefix. */
  readonly facts: readonly string[];
  readonly threshold?: number;
  /** Of T0: all the forms of several instructions that there can be. */
  readonly eager?: boolean;
  /** Of T0: the forms that are compiled from the start, see T0Options. */
  readonly hot?: readonly string[];
  readonly seed?: number;
  /** CPU model. */
  readonly model?: string;
  /** Beside decoder and MMU. */
  readonly plugins?: readonly PluginUse[];
  /** Called at each stop, of both machines with equal random numbers. */
  readonly disturb?: (machine: TestMachine, random: Random) => void;
}

class Side {
  readonly machine: TestMachine;
  readonly facts: string[] = [];

  constructor(
    program: RandomProgram,
    { mode, facts, plugins, model }: Comparison,
    engine: (world: EngineWorld) => Backend,
  ) {
    this.machine = new TestMachine(program.source, {
      mode,
      engine,
      plugins,
      model,
      engineBytes: t0EngineBytes(1),
      setup: program.setup,
      constants: { PLACE_CODE: BigInt(PLACE.code) },
    });
    if (facts.length > 0) this.machine.kernel.sink = this.sink(facts);
  }

  private sink(wanted: readonly string[]): FactSink {
    const plain = (_: string, v: unknown): unknown =>
      typeof v === "bigint" ? v.toString(16) : v;
    return {
      input: () => {},
      note: () => {},
      boundary: () => {},
      fact: (step, event, payload) =>
        this.facts.push(
          `${step} ${event.name} ${JSON.stringify(payload, plain)}`,
        ),
      hot: (step, id, words, at, n) =>
        this.facts.push(
          `${step} #${id} ${
            Array.from(words.subarray(at, at + n), (w) => w.toString(16))
              .join(" ")
          }`,
        ),
      wants: (event) => wanted.some((name) => event.name.startsWith(name)),
    };
  }

  /** Runs on. @returns how that ended, with the state's digest */
  run(to: number): string {
    const { kernel, executor, v } = this.machine;
    let end: string;
    try {
      end = kernel.run({ untilStep: to }).kind;
    } catch (error) {
      if (!(error instanceof NotModelled)) throw error;
      end = error.message;
    }
    executor.drain();
    return `${end} at step ${v.step}, RIP ${v.rip.toString(16)}: ` +
      kernel.stateDigest();
  }

  registers(): string {
    const { v } = this.machine;
    const gpr = Array.from({ length: 16 }, (_, r) => v.gpr(r).toString(16));
    return `${gpr.join(" ")} flags ${v.rflags.toString(16)}`;
  }
}

/** The first difference in words, or undefined. */
export function difference(
  program: RandomProgram,
  how: Comparison,
): string | undefined {
  const reference = new Side(program, how, referenceEngine);
  const t0 = new Side(
    program,
    how,
    t0Engine(how.threshold ?? 0, how.eager, how.hot),
  );
  const random = new Random(how.seed ?? 1);
  for (let to = 0; to < how.steps;) {
    to += 1 + random.below(how.stride);
    for (const { machine } of [reference, t0]) {
      how.disturb?.(machine, new Random(to));
    }
    const expected = reference.run(to), actual = t0.run(to);
    const a = reference.facts.splice(0), b = t0.facts.splice(0);
    const i = a.findIndex((fact, i) => fact !== b[i]);
    if (i >= 0 || a.length !== b.length) {
      const at = i < 0 ? a.length : i;
      const near = (facts: string[]): string =>
        facts.slice(Math.max(0, at - 3), at + 2).join("\n  ");
      return `facts until step ${to}: reference\n  ${near(a)}\nT0\n  ${
        near(b)
      }`;
    }
    if (expected !== actual) {
      return `run to step ${to}: reference ${expected} ${reference.registers()}, ` +
        `T0 ${actual} ${t0.registers()}`;
    }
    if (!expected.startsWith("step")) return undefined;
  }
  return undefined;
}
