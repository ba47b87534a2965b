/**
 * What the command line needs of the world, as one object: standard streams,
 * signals, the terminal's nature, files' names. Commands take it as an
 * argument, so that tests run them in-process with an Io of their own.
 * Invariant: nothing in host/cli/ but realIo touches Deno's global streams.
 */
import { messageOf } from "../../core/errors.ts";

/** The keys of a terminal. */
export interface Keys {
  /**
   * Makes the terminal raw: each key comes as its bytes, Ctrl-C too, and
   * nothing is echoed. @returns what gives the terminal back as it was; may be
   * called twice
   */
  open(handler: (bytes: Uint8Array) => void): () => void;
}

/** The world as a command sees it. */
export interface Io {
  /** Writes results: text, or a guest's raw bytes. */
  out(data: string | Uint8Array): void;
  /** Whoever read `out` has left (`| head`): what is written there is lost. */
  readonly outClosed?: boolean;
  /** Writes messages and progress. */
  err(text: string): void;
  /** Whether a person reads `out` or `err` as it comes. */
  readonly isTerminal: { readonly out: boolean; readonly err: boolean };
  /** Bytes piped into standard input; undefined at a terminal. */
  readonly piped: AsyncIterable<Uint8Array> | undefined;
  /** The terminal's keys, if a person sits at both ends: input and output. */
  readonly keys: Keys | undefined;
  /**
   * Calls `handler` at each Ctrl-C, SIGTERM or SIGHUP (the terminal went away;
   * under nohup nothing does); answers what ends that.
   */
  onInterrupt(handler: () => void): () => void;
  /** Milliseconds of a clock that only goes forward. */
  now(): number;
  /** Lets the runtime handle what came in (signals, standard input). */
  breathe(): Promise<void>;
}

const encoder = new TextEncoder();

function writeAll(
  stream: { writeSync(data: Uint8Array): number },
  data: Uint8Array,
): void {
  for (let at = 0; at < data.length;) {
    at += stream.writeSync(data.subarray(at));
  }
}

/** Bit of SIGHUP in the masks of Linux's /proc/PID/status (proc(5)). */
const SIGHUP_BIT = 1n;

/**
 * Whether whoever started this process has it ignore SIGHUP, as nohup(1) does.
 * Only Linux tells, and only with leave to read.
 */
function ignoresHangUp(): boolean {
  const path = "/proc/self/status";
  try {
    if (
      Deno.permissions.querySync({ name: "read", path }).state !== "granted"
    ) {
      return false;
    }
    const mask = /^SigIgn:\s*([0-9a-f]+)/m.exec(Deno.readTextFileSync(path));
    return mask !== null && (BigInt(`0x${mask[1]}`) & SIGHUP_BIT) !== 0n;
  } catch {
    return false;
  }
}

/** What each signal that would end the process shall do. */
function endings(handler: () => void): [Deno.Signal, () => void][] {
  if (Deno.build.os === "windows") return [["SIGINT", handler]];
  return [
    ["SIGINT", handler],
    ["SIGTERM", handler],
    // Deno handles SIGHUP as soon as it handles SIGTERM, which undoes nohup's
    // work: what was ignored needs a listener that does nothing.
    ["SIGHUP", ignoresHangUp() ? () => {} : handler],
  ];
}

/** The process's terminal. It is given back even if nobody asks for it. */
function terminalKeys(): Keys {
  return {
    open(handler) {
      Deno.stdin.setRaw(true);
      let open = true;
      const restore = (): void => {
        if (!open) return;
        open = false;
        globalThis.removeEventListener("unload", restore);
        try {
          Deno.stdin.setRaw(false);
        } catch {
          // the terminal is gone
        }
      };
      globalThis.addEventListener("unload", restore);
      void (async () => {
        const buffer = new Uint8Array(4096);
        try {
          while (open) {
            const length = await Deno.stdin.read(buffer);
            if (length === null) break;
            if (open) handler(buffer.slice(0, length));
          }
        } catch {
          // a terminal that went away types nothing any more
        }
      })();
      return restore;
    },
  };
}

/**
 * The process's own world. A stream that can't be written any more stops no
 * recording: a reader that left is nobody's mistake, anything else (a full
 * disk) is said once on stderr.
 */
export function realIo(): Io {
  let closed = false;
  const err = (text: string): void => {
    try {
      writeAll(Deno.stderr, encoder.encode(text));
    } catch {
      // nobody is left to be told
    }
  };
  return {
    out(data) {
      if (closed) return;
      try {
        writeAll(
          Deno.stdout,
          typeof data === "string" ? encoder.encode(data) : data,
        );
      } catch (error) {
        closed = true;
        if (error instanceof Deno.errors.BrokenPipe) return;
        err(
          `vmtape: write to standard output: ${
            messageOf(error)
          }, the rest of the output is lost\n`,
        );
      }
    },
    get outClosed() {
      return closed;
    },
    err,
    isTerminal: {
      out: Deno.stdout.isTerminal(),
      err: Deno.stderr.isTerminal(),
    },
    piped: Deno.stdin.isTerminal() ? undefined : Deno.stdin.readable,
    keys: Deno.stdin.isTerminal() && Deno.stdout.isTerminal()
      ? terminalKeys()
      : undefined,
    onInterrupt(handler) {
      const signals = endings(handler);
      for (const [signal, act] of signals) Deno.addSignalListener(signal, act);
      return () => {
        for (const [signal, act] of signals) {
          Deno.removeSignalListener(signal, act);
        }
      };
    },
    now: () => performance.now(),
    breathe: () => new Promise((resolve) => setTimeout(resolve, 0)),
  };
}
