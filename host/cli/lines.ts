/**
 * Many short lines on standard output, written a buffer at a time.
 * Invariant: what was added comes out in order and whole once `flush` returns.
 */
import { jsonLine } from "./command.ts";
import type { Io } from "./io.ts";

/** Characters gathered before they are written. */
const ENOUGH = 1 << 16;

/** Gathers lines for an {@link Io}. */
export class Lines {
  #text = "";

  constructor(private readonly io: Io) {}

  /** Adds text that ends its own line. */
  add(text: string): void {
    this.#text += text;
    if (this.#text.length >= ENOUGH) this.flush();
  }

  /** Adds a value as a line of JSON. */
  json(value: unknown): void {
    this.add(jsonLine(value));
  }

  /** Writes what was gathered. */
  flush(): void {
    if (this.#text !== "") this.io.out(this.#text);
    this.#text = "";
  }
}
