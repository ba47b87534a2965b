/**
 * Feeds a tape's inputs to a machine: each at the exact step and virtual time
 * at which it was consumed when it was recorded. Used by replay, timeline,
 * sidecars and forks. Invariant: from the same state the same inputs are
 * delivered between the same steps, whatever budgets the host sets.
 */
import { TapeError } from "./errors.ts";
import type { EventToken } from "./event.ts";
import type { Kernel } from "./kernel.ts";
import type { RunOptions, StopInfo } from "./sink.ts";
import type { InputRecord } from "./tape/payloads.ts";
import type { TapeReader } from "./tape/reader.ts";
import { payloadReader } from "./tape/schema.ts";

const STOPS: { readonly [kind in StopInfo["kind"]]: string } = {
  step: "running",
  budget: "running",
  predicate: "running",
  paused: "paused",
  waiting: "waiting",
  stopped: "stopped",
};

/** Runs a kernel along a tape. */
export class Feeder {
  /** The machine. */
  readonly kernel: Kernel;
  /** The tape. */
  readonly tape: TapeReader;
  readonly #tokens = new Map<number, (input: InputRecord) => void>();
  /** Number of the next input. */
  next: number;
  /** Inputs from this one on are not fed. */
  limit: number;

  /** `kernel` stands at a boundary with `next` inputs consumed. */
  constructor(kernel: Kernel, tape: TapeReader, next = 0) {
    this.kernel = kernel;
    this.tape = tape;
    this.next = next;
    this.limit = tape.inputs.length;
  }

  /**
   * As `kernel.run`, with the tape's inputs. `untilStep` stops on arrival,
   * before the inputs of that step; with `untilTime` also those up to that
   * time are delivered.
   * @throws TapeError when an input's event is unknown here
   */
  run(options: RunOptions = {}): StopInfo {
    const kernel = this.kernel;
    const until = options.untilStep ?? Infinity;
    const untilTime = options.untilTime ?? -1;
    const deadline = kernel.moment.step + (options.budgetSteps ?? Infinity);
    while (true) {
      const budgetSteps = options.budgetSteps === undefined
        ? undefined
        : Math.max(deadline - kernel.moment.step, 0);
      const input = this.next < this.limit
        ? this.tape.inputs[this.next]
        : undefined;
      if (
        input === undefined || input.step > until ||
        (input.step === until && input.time > untilTime)
      ) {
        return kernel.run({ ...options, budgetSteps });
      }
      const { step, time } = kernel.moment;
      const there = step === input.step && time === input.time;
      if (there && (kernel.waiting || !input.waiting)) {
        this.#deliver(input);
        continue;
      }
      // A machine that waits there can't be run past it.
      const info = kernel.run({
        ...options,
        untilStep: input.waiting ? input.step + 1 : input.step,
        untilTime: input.waiting ? undefined : input.time,
        budgetSteps,
      });
      if (
        info.kind === "budget" || info.kind === "predicate" ||
        info.kind === "paused"
      ) return info;
      if (
        info.step !== input.step || info.time !== input.time ||
        info.kind !== (input.waiting ? "waiting" : "step")
      ) {
        throw new Diverged(
          `the machine is ${STOPS[info.kind]} at step ${info.step}, time ` +
            `${info.time}, where the tape has input ${input.ordinal} at step ` +
            `${input.step}, time ${input.time}`,
        );
      }
    }
  }

  /**
   * Feeds the rest where the machine may not be the recorded one (a fork):
   * each at the first boundary at or after its step. Stops with the machine.
   */
  runLoosely(): void {
    const { kernel } = this;
    while (this.next < this.limit) {
      const input = this.tape.inputs[this.next];
      if (kernel.moment.step < input.step) {
        if (kernel.run({ untilStep: input.step }).kind === "stopped") return;
      }
      this.#deliver(input);
      // Consumed before the next one is due, or the order would be lost.
      kernel.run({ budgetSteps: 0 });
      while (kernel.queued > 0) {
        const { step } = kernel.moment;
        if (kernel.run({ untilStep: step + 1 }).kind === "stopped") return;
      }
    }
  }

  #deliver(input: InputRecord): void {
    let deliver = this.#tokens.get(input.type);
    if (deliver === undefined) {
      const schema = this.tape.schemas[input.type];
      const token = this.kernel.events.get(schema.name);
      if (token === undefined || token.kind !== "input") {
        throw new TapeError(
          `replay input ${input.ordinal}: no plugin declares the input ` +
            `${schema.name}, load the plugin that the tape was recorded with`,
        );
      }
      const read = payloadReader(schema, token);
      deliver = ({ payload }) =>
        this.kernel.inject(
          token as EventToken<unknown, "input">,
          read({ bytes: payload }),
        );
      this.#tokens.set(input.type, deliver);
    }
    deliver(input);
    this.next = input.ordinal + 1;
  }
}

/** The replay is not the run on the tape. */
export class Diverged extends TapeError {
  /** The class of error. */
  override readonly name = "Diverged" as "TapeError";
}
