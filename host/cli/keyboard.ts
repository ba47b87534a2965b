/**
 * What a person types at a running machine: bytes for the guest, and commands
 * to vmtape behind an escape key (as telnet's Ctrl-]). While the machine is
 * paused nothing is typed at the guest, so the commands need no escape key.
 * Invariant: what was typed takes effect in its order: bytes before a command
 * reach the guest before it, and which of the two a byte is depends only on
 * what came before it.
 */
import { UsageError } from "./args.ts";

/** What the keys behind the escape key do. */
export const KEYS = {
  leave: ["q", "end the run and close its tape"],
  pause: ["p", "pause; go on"],
  back: ["b", "while paused: a step back (100b: a hundred)"],
  forward: ["f", "while paused: a step forward again"],
  registers: ["r", "while paused: registers"],
  help: ["h", "this list"],
} as const;

/** A command by name. */
export type KeyCommand = keyof typeof KEYS;

/** A command as it was typed. */
export interface Typed {
  readonly command: KeyCommand;
  /** Digits typed before it; 1 without any. */
  readonly count: number;
}

/** The usual escape key. */
export const DEFAULT_ESCAPE = "Ctrl-]";

const CTRL_C = 3;
const MOST_DIGITS = 12;
const BY_KEY = new Map(
  Object.entries(KEYS).map(([name, [key]]) => [key, name as KeyCommand]),
);

/**
 * Reads the name of a control key, as `Ctrl-]`, `^A`.
 * @returns its code and its name as shown
 * @throws {UsageError} if it is none
 */
export function readEscape(text: string): { code: number; name: string } {
  const key = /^(?:ctrl-|\^)([@-_a-z])$/i.exec(text)?.[1].toUpperCase();
  const code = key === undefined ? 0 : key.charCodeAt(0) & 0x1f;
  if (key === undefined || code === 0) {
    throw new UsageError(
      `--escape takes a control key, as Ctrl-] or ^A, found ${
        JSON.stringify(text)
      }`,
    );
  }
  return { code, name: `Ctrl-${key}` };
}

/** A queue of typed bytes, read as what they mean. */
export class Keyboard {
  #typed: number[] = [];
  #escaped = false;
  #count = "";
  /** Nothing reaches the guest; commands need no escape key. */
  paused = false;

  constructor(readonly escape: number) {}

  /** Takes bytes as they come from the terminal. */
  push(bytes: Uint8Array): void {
    for (const byte of bytes) this.#typed.push(byte);
  }

  /** Whether something was typed and not read yet. */
  get waiting(): boolean {
    return this.#typed.length > 0;
  }

  /** The next command, if no byte for the guest comes before it. */
  command(): Typed | undefined {
    while (this.#typed.length > 0) {
      const byte = this.#typed[0];
      const key = String.fromCharCode(byte);
      if (!this.#escaped && byte === this.escape) {
        this.#typed.shift();
        this.#escaped = true;
        continue;
      }
      if (!this.#escaped && !this.paused) return undefined;
      if (this.#escaped && !this.paused && byte === this.escape) {
        return undefined; // twice: a byte for the guest
      }
      this.#typed.shift();
      if (/\d/.test(key) && this.#count.length < MOST_DIGITS) {
        this.#count += key;
        continue;
      }
      this.#escaped = false;
      const count = Math.max(1, Number(this.#count || "1"));
      this.#count = "";
      const command = BY_KEY.get(key.toLowerCase() as "q");
      if (command !== undefined) return { command, count };
      // whoever presses something else wants to know what there is
      if (byte !== CTRL_C && this.paused && byte < 0x20) continue;
      return { command: "help", count: 1 };
    }
    return undefined;
  }

  /** Bytes for the guest, up to the next command. */
  guest(): Uint8Array | undefined {
    if (this.paused) return undefined;
    const bytes: number[] = [];
    while (this.#typed.length > 0) {
      const byte = this.#typed[0];
      if (byte === this.escape && !this.#escaped) {
        this.#typed.shift();
        this.#escaped = true;
        continue;
      }
      if (this.#escaped && byte !== this.escape) break;
      this.#escaped = false;
      bytes.push(byte);
      this.#typed.shift();
    }
    return bytes.length === 0 ? undefined : Uint8Array.from(bytes);
  }
}

/** The list of keys, a line each. */
export function keyHelp(escape: string): string {
  const rows = Object.values(KEYS).map(([key, doc]) =>
    `  ${escape} ${key}  ${doc}\n`
  );
  return rows.join("") +
    `  ${escape} ${escape}  send ${escape} to the guest\n` +
    `while paused the letters alone will do\n`;
}
