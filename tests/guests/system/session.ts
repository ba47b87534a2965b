/**
 * A person at the console of a recorded machine, as a program: waits for words,
 * types lines, notes where and in which state the machine was meanwhile.
 * Invariant: what is typed is an input, between two steps that the guest's own
 * output chose, so that two sessions give the same tape.
 */
import {
  type EventToken,
  FileSink,
  type Kernel,
  machines,
  Recorder,
  type Scenario,
  tapeWriter,
} from "../../../mod.ts";
import { LEAN } from "./lean.ts";

const SLICE = 5_000_000;

/** Where the machine was at some point, for comparison later. */
export interface Mark {
  readonly step: number;
  readonly state: string;
  /** All that the console had shown. */
  readonly shown: string;
}

/** See the file header. */
export class Session {
  readonly kernel: Kernel;
  readonly marks: Mark[] = [];
  /** All that the console has shown. */
  shown = "";
  readonly #recorder: Recorder;
  readonly #sink: FileSink;
  #read = 0;

  constructor(
    scenario: Scenario,
    files: ReadonlyMap<string, Uint8Array>,
    tape: string,
    engine?: string,
  ) {
    this.kernel = machines.create(scenario, files, { uses: [], engine });
    machines.serial(this.kernel)!.listen((byte) => {
      this.shown += String.fromCharCode(byte);
      return undefined;
    });
    this.#sink = new FileSink(tape, { overwrite: true });
    this.#recorder = Recorder.start(this.kernel, tapeWriter(this.#sink), {
      detail: "inputs",
    });
  }

  /** Runs until the console shows `words` after what was awaited before. */
  expect(words: string, mostSteps = 3e9): void {
    const from = this.#read;
    const limit = this.kernel.moment.step + mostSteps;
    for (;;) {
      const at = this.shown.indexOf(words, from);
      if (at >= 0) {
        this.#read = at + words.length;
        return;
      }
      const info = this.kernel.run({ budgetSteps: SLICE });
      if (info.kind === "stopped" || info.step > limit) {
        throw new Error(
          `waited for ${JSON.stringify(words)} until step ${info.step} ` +
            `(${info.kind}); the console ends with:\n${this.shown.slice(-800)}`,
        );
      }
      if (info.kind === "waiting") {
        throw new Error(
          `waited for ${
            JSON.stringify(words)
          }, the guest halted; the console ` +
            `ends with:\n${this.shown.slice(-800)}`,
        );
      }
    }
  }

  /** Types a line. */
  type(line: string): void {
    const bytes = new TextEncoder().encode(`${line}\n`);
    machines.serial(this.kernel)!.send(bytes);
  }

  /** Types a line and waits for words of the answer, then for the prompt. */
  ask(line: string, answer: string): void {
    this.type(line);
    this.expect(line);
    this.expect(answer);
    this.expect(LEAN.prompt);
    this.mark();
  }

  /** Watches for an event. @returns the steps at which it happens, as it does */
  steps<P>(event: EventToken<P>, where: (payload: P) => boolean): number[] {
    const steps: number[] = [];
    this.kernel.watch(event, (payload, { step }) => {
      if (where(payload)) steps.push(step);
      return undefined;
    });
    return steps;
  }

  /** Notes where the machine is. */
  mark(): void {
    this.marks.push({
      step: this.kernel.moment.step,
      state: this.kernel.stateDigest(),
      shown: this.shown,
    });
  }

  /** Runs to the machine's end. @returns its exit status */
  end(mostSteps = 2e9): number | undefined {
    const limit = this.kernel.moment.step + mostSteps;
    for (;;) {
      const info = this.kernel.run({ budgetSteps: SLICE });
      if (info.kind === "stopped") return info.exitCode;
      if (info.kind === "waiting" || info.step > limit) {
        throw new Error(
          `the machine did not end (${info.kind}, step ${info.step}); the ` +
            `console ends with:\n${this.shown.slice(-800)}`,
        );
      }
    }
  }

  /** Closes the tape. */
  finish(): void {
    this.#recorder.finish();
    this.#sink.close();
  }
}
