/**
 * Progress on stderr: one line that is rewritten at a terminal, nothing
 * otherwise. While a guest talks to the same terminal the line keeps quiet and
 * is taken away before the guest's next byte.
 * Invariant: what is shown never reaches standard output, and `done` leaves
 * the terminal as it was found.
 */
import type { Io } from "./io.ts";

/** Least time between two updates. */
const INTERVAL_MS = 200;
/** How long a guest must be silent before the line may show. */
const SILENCE_MS = 1000;
/** Erases the line and returns to its start. */
const CLEAR = "\r\x1b[K";

const SCALES: readonly (readonly [number, string])[] = [
  [1e9, "G"],
  [1e6, "M"],
  [1e3, "k"],
];

/** `12.3 M`, `950`. */
export function scaled(value: number): string {
  for (const [size, unit] of SCALES) {
    if (value >= size) return `${(value / size).toFixed(1)} ${unit}`;
  }
  return String(Math.round(value));
}

/** One line of progress. */
export class Progress {
  #shown = false;
  #last: number;
  #quietUntil = 0;
  #lastStep = 0;
  readonly #enabled: boolean;

  constructor(private readonly io: Io, quiet: boolean) {
    this.#enabled = io.isTerminal.err && !quiet;
    this.#last = io.now();
  }

  /** Says where the run is; `detail` follows the step count and the speed. */
  update(step: number, detail: string): void {
    if (!this.#enabled) return;
    const now = this.io.now();
    const elapsed = now - this.#last;
    if (elapsed < INTERVAL_MS || now < this.#quietUntil) return;
    const speed = Math.max(0, step - this.#lastStep) / elapsed * 1000;
    this.#last = now;
    this.#lastStep = step;
    this.io.err(
      `${CLEAR}step ${scaled(step)}, ${scaled(speed)}steps/s${
        detail === "" ? "" : `, ${detail}`
      }`,
    );
    this.#shown = true;
  }

  /** To be called before the guest's output goes to the same terminal. */
  makeWay(): void {
    if (!this.#enabled || !this.io.isTerminal.out) return;
    this.#quietUntil = this.io.now() + SILENCE_MS;
    this.done();
  }

  /** Takes the line away. */
  done(): void {
    if (this.#shown) this.io.err(CLEAR);
    this.#shown = false;
  }
}
