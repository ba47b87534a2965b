/**
 * Drives a machine under test: delivers its inputs at their steps and keeps
 * the whole stream as lines, so that two runs can be compared fact by fact.
 */
import type {
  CellBlob,
  EventToken,
  FactSink,
  Kernel,
  Keyframe,
} from "../core/mod.ts";
import { eventById, toHex } from "../core/mod.ts";
import type { TestInput, TestMachine } from "./report.ts";
import { withTraps } from "./traps.ts";

/** Turns of the kernel's loop without a step before a run is given up. */
const IDLE_BUDGET = 1 << 22;

/** The stream of one run. */
export class Stream implements FactSink {
  /** Inputs and facts. */
  readonly facts: string[] = [];
  readonly notes: string[] = [];
  readonly counts = new Map<string, number>();

  #count(event: EventToken): void {
    this.counts.set(event.name, (this.counts.get(event.name) ?? 0) + 1);
  }
  input(
    at: { readonly step: number; readonly time: number },
    event: EventToken,
    payload: unknown,
  ): void {
    this.facts.push(
      `${at.step} ${event.name} ${event.toText(payload)} at time ${at.time}`,
    );
  }
  fact(step: number, event: EventToken, payload: unknown): void {
    this.#count(event);
    const wrong = event.check(payload);
    if (wrong !== undefined) throw new RangeError(`${event.name}: ${wrong}`);
    this.facts.push(`${step} ${event.name} ${event.toText(payload)}`);
  }
  hot(step: number, id: number, words: Uint32Array, at: number): void {
    const event = eventById(id);
    if (event === undefined) return;
    this.fact(step, event, event.fromWords(words, at));
  }
  note(
    step: number,
    event: EventToken,
    payload: unknown,
    plugin: string,
  ): void {
    this.#count(event);
    const wrong = event.check(payload);
    if (wrong !== undefined) throw new RangeError(`${event.name}: ${wrong}`);
    this.notes.push(`${step} ${plugin} ${event.name} ${event.toText(payload)}`);
  }
  boundary(): void {}
  wants(): boolean {
    return true;
  }
}

/** A state on the way, and how much of the stream came before it. */
export interface Saved {
  readonly keyframe: Keyframe;
  readonly facts: number;
  readonly notes: number;
  /** Inputs still to come. */
  readonly inputs: readonly TestInput[];
}

/** What one run showed. */
export interface Shown {
  readonly kernel: Kernel;
  readonly stream: Stream;
  readonly digest: string;
  readonly observers: readonly CellBlob[];
  readonly saved: readonly Saved[];
}

/**
 * Runs to the machine's last step.
 * @param inputs those still to come
 * @param saveAt steps at which to save the state, ascending
 */
export function drive(
  kernel: Kernel,
  machine: TestMachine,
  inputs: readonly TestInput[] = machine.inputs ?? [],
  saveAt: readonly number[] = [],
): Shown {
  const stream = new Stream();
  kernel.sink = stream;
  const saved: Saved[] = [];
  withTraps(() =>
    feed(kernel, machine, inputs, saveAt, (rest) =>
      saved.push({
        keyframe: kernel.capture(),
        facts: stream.facts.length,
        notes: stream.notes.length,
        inputs: rest,
      }))
  );
  const digest = kernel.stateDigest();
  const observers = kernel.captureObservers();
  kernel.sink = undefined;
  return { kernel, stream, digest, observers, saved };
}

/**
 * Runs to the machine's last step, delivering inputs on the way.
 * @param save called on arrival at each step of `saveAt`, before its inputs,
 *   with the inputs still to come
 */
export function feed(
  kernel: Kernel,
  machine: TestMachine,
  inputs: readonly TestInput[],
  saveAt: readonly number[] = [],
  save: (rest: readonly TestInput[]) => void = () => {},
): void {
  const queue = [...inputs];
  const places = new Set([
    ...saveAt,
    ...inputs.map(({ at }) => at),
    machine.steps,
  ]);
  const give = (): boolean => {
    const input = queue.shift();
    if (input !== undefined) kernel.inject(input.event, input.payload);
    return input !== undefined;
  };
  for (const place of [...places].sort((a, b) => a - b)) {
    if (place < kernel.moment.step || place > machine.steps) continue;
    if (!runTo(kernel, place, give)) break;
    if (saveAt.includes(place)) save([...queue]);
    while (queue.length > 0 && queue[0].at <= place) give();
  }
}

/**
 * Runs on to `step`; a machine that waits before gets its next input early.
 * @returns whether it arrived
 */
function runTo(kernel: Kernel, step: number, giveNext: () => boolean): boolean {
  for (;;) {
    const info = kernel.run({ untilStep: step, budgetSteps: IDLE_BUDGET });
    if (info.kind === "step") return true;
    if (info.kind !== "waiting" || !giveNext()) return false;
  }
}

/**
 * The first difference between two runs, or undefined.
 * @param from where in the first run the second began
 */
export function difference(
  one: Shown,
  other: Shown,
  from: Pick<Saved, "facts" | "notes"> = { facts: 0, notes: 0 },
  notes = true,
): string | undefined {
  const streams: [string, string[], string[]][] = [
    ["facts", one.stream.facts.slice(from.facts), other.stream.facts],
  ];
  if (notes) {
    streams.push(
      ["notes", one.stream.notes.slice(from.notes), other.stream.notes],
    );
  }
  for (const [what, a, b] of streams) {
    for (let i = 0; i < Math.max(a.length, b.length); i++) {
      if (a[i] !== b[i]) {
        return `${what} differ at no. ${from.facts + i}: ` +
          `${a[i] ?? "(no more)"} against ${b[i] ?? "(no more)"}`;
      }
    }
  }
  if (one.digest !== other.digest) {
    const [first] = one.kernel.explain(
      one.kernel.capture(),
      other.kernel.capture(),
    );
    return "final states differ" +
      (first === undefined
        ? ""
        : `: ${first.plugin} ${first.cell} ${first.field} ${first.before} ` +
          `against ${first.after}`);
  }
  if (!notes) return undefined;
  for (const blob of one.observers) {
    const twin = other.observers.find(({ plugin }) => plugin === blob.plugin);
    if (twin !== undefined && toHex(twin.bytes) !== toHex(blob.bytes)) {
      return `cells of observer ${blob.plugin} differ`;
    }
  }
  return undefined;
}
