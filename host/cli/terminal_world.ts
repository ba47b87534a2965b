/**
 * The world of `vmtape run`: the guest's bytes go to standard output; piped
 * standard input or a terminal's keys, and Ctrl-C, come in; a clock ends it.
 * Invariant: only `received` and `ending` bring something from outside into
 * the machine, and the runner records what they bring.
 */
import type { RunWorld } from "../runner.ts";
import type { Arguments } from "./args.ts";
import type { Context } from "./command.ts";
import type { Interactive } from "./interactive.ts";
import { type Progress, scaled } from "./progress.ts";

/** The terminal, pipes, signals and clock around a run. */
export class TerminalWorld implements RunWorld {
  readonly #io: Context["io"];
  readonly #json: boolean;
  readonly #forget: () => void;
  readonly #deadline: number;
  #interrupts = 0;
  #wake: (() => void) | undefined;
  #chunks: Uint8Array[] = [];
  #open: boolean;

  /** @param person who sits at the terminal, if somebody does */
  constructor(
    args: Arguments,
    context: Context,
    private readonly line: Progress,
    timeoutSeconds: number | undefined,
    private readonly person: Interactive | undefined,
  ) {
    this.#io = context.io;
    this.#json = args.has("json");
    this.#deadline = timeoutSeconds === undefined
      ? Infinity
      : this.#io.now() + timeoutSeconds * 1000;
    this.#forget = this.#io.onInterrupt(() => {
      this.#interrupts++;
      this.#wake?.();
    });
    this.#open = this.#io.piped !== undefined;
    if (this.#io.piped !== undefined) void this.#read(this.#io.piped);
  }

  /** Takes the terminal's keys, if a person sits there. */
  takeTerminal(): void {
    this.person?.open(() => this.#wake?.());
  }

  async #read(piped: AsyncIterable<Uint8Array>): Promise<void> {
    try {
      for await (const chunk of piped) {
        this.#chunks.push(chunk.slice());
        this.#wake?.();
      }
    } catch {
      // a broken pipe ends the input, as its end does
    }
    this.#open = false;
    this.#wake?.();
  }

  serial(bytes: Uint8Array): void {
    if (this.#json) return;
    this.line.makeWay();
    this.#io.out(bytes);
  }

  progress(step: number): void {
    const left = this.#deadline - this.#io.now();
    this.line.update(
      step,
      Number.isFinite(left) ? `${scaled(Math.max(0, left / 1000))} s left` : "",
    );
  }

  now(): number {
    return this.#io.now();
  }

  breathe(): Promise<void> {
    return this.#io.breathe();
  }

  received(): Uint8Array | undefined {
    if (this.person !== undefined) return this.person.typed();
    if (this.#chunks.length === 0) return undefined;
    const all = new Uint8Array(this.#chunks.reduce((n, c) => n + c.length, 0));
    let at = 0;
    for (const chunk of this.#chunks) {
      all.set(chunk, at);
      at += chunk.length;
    }
    this.#chunks = [];
    return all;
  }

  more(): Promise<void> | undefined {
    if (this.#interrupts > 0 || this.#chunks.length > 0) {
      return Promise.resolve();
    }
    if (this.person?.waiting === true) return Promise.resolve();
    if (!this.#open && this.person?.canWake() !== true) return undefined;
    return this.#changed();
  }

  hold(inputs: number): Promise<void> | undefined {
    const { person } = this;
    if (person === undefined) return undefined;
    person.remember(inputs);
    person.obey();
    return person.paused ? this.#paused(person) : undefined;
  }

  async #paused(person: Interactive): Promise<void> {
    while (person.paused && this.ending() === undefined) {
      if (!person.waiting) await this.#changed();
      person.obey();
    }
    person.goOn();
  }

  /** Resolves at a key, a signal, more of a pipe, or the deadline. */
  #changed(): Promise<void> {
    return new Promise((resolve) => {
      const left = this.#deadline - this.#io.now();
      const timer = Number.isFinite(left)
        ? setTimeout(() => this.#wake?.(), Math.max(0, left))
        : undefined;
      this.#wake = () => {
        this.#wake = undefined;
        clearTimeout(timer);
        resolve();
      };
    });
  }

  ending(): "interrupt" | "timeout" | undefined {
    if (this.#interrupts > 0 || this.person?.left === true) return "interrupt";
    return this.#io.now() >= this.#deadline ? "timeout" : undefined;
  }

  /** Lets go of signals and of the terminal. */
  close(): void {
    this.#forget();
    this.person?.close();
  }
}
