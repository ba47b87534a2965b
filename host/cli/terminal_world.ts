/**
 * The world of `vmtape run`: the guest's bytes go to standard output, piped
 * standard input and Ctrl-C come in, a clock ends it.
 * Invariant: only `received` and `ending` bring something from outside into
 * the machine, and the runner records what they bring.
 */
import type { RunWorld } from "../runner.ts";
import type { Arguments } from "./args.ts";
import type { Context } from "./command.ts";
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

  constructor(
    args: Arguments,
    context: Context,
    private readonly line: Progress,
    timeoutSeconds: number | undefined,
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
    if (!this.#open) return undefined;
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
    if (this.#interrupts > 0) return "interrupt";
    return this.#io.now() >= this.#deadline ? "timeout" : undefined;
  }

  /** Lets go of signals. */
  close(): void {
    this.#forget();
  }
}
