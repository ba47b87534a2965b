/**
 * A person at the terminal of a running machine: keys for the guest's serial
 * port, and behind the escape key pausing, looking, and stepping back through
 * the tape recorded so far while the machine itself stands still.
 * Invariants: looking back never touches the running machine, which goes on
 * where it was paused; the terminal is given back as it was.
 */
import type { Kernel } from "../../core/kernel.ts";
import { messageOf } from "../../core/errors.ts";
import type { Mark, Timeline } from "../../core/timeline.ts";
import type { GuestSymbol, Machines, SerialPort } from "../machines.ts";
import { columns } from "./args.ts";
import { grouped } from "./command.ts";
import { consoleText, lastLines } from "./console_text.ts";
import type { Io, Keys } from "./io.ts";
import { Keyboard, keyHelp, type Typed } from "./keyboard.ts";

/** Least time between two states that are kept for stepping back. */
const KEEP_MS = 2000;
/** States kept at most; then every second one goes and the time doubles. */
const MOST_KEPT = 8;
/** Lines of the console that a pause shows. */
const CONSOLE_LINES = 6;

/** What a person's terminal is connected to. */
export interface Connection {
  readonly io: Io;
  readonly keys: Keys;
  readonly machines: Machines;
  readonly kernel: Kernel;
  readonly port: SerialPort;
  readonly escape: { readonly code: number; readonly name: string };
  /** Say how to leave. */
  readonly hint: boolean;
  /** Names for code. */
  readonly symbols: () => readonly GuestSymbol[];
  /** The run so far; undefined if it is not recorded. */
  readonly past: ((marks: readonly Mark[]) => Past) | undefined;
}

/** The run so far, on a machine of its own. */
export interface Past {
  readonly timeline: Timeline;
  close(): void;
}

/** Somebody who types and looks. */
export class Interactive {
  readonly #keyboard: Keyboard;
  /** The tape as it was when the pause began, once it is asked for. */
  #past: Past | undefined;
  /** Where the person looks; undefined: at the machine itself. */
  #back: Timeline | undefined;
  #symbols: readonly GuestSymbol[] | undefined;
  #restore: () => void = () => {};
  /** States of the run: a step back starts from the last of them. */
  #kept: Mark[] = [];
  #keepMs = KEEP_MS;
  #keepAt: number;
  /** Asked to end the run. */
  left = false;

  constructor(private readonly to: Connection) {
    this.#keyboard = new Keyboard(to.escape.code);
    this.#keepAt = to.io.now() + KEEP_MS;
  }

  /** Takes the terminal; `wake` is called when something was typed. */
  open(wake: () => void): void {
    const { io, keys, escape: { name }, hint } = this.to;
    if (hint) {
      io.err(
        `vmtape run: keys go to the guest, Ctrl-C too; ${name} q leaves, ${name} h lists more\n`,
      );
    }
    this.#restore = keys.open((bytes) => {
      this.#keyboard.push(bytes);
      wake();
    });
  }

  /** Gives the terminal back. */
  close(): void {
    this.#restore();
    this.#forget();
  }

  /** Whether something was typed and not acted on. */
  get waiting(): boolean {
    return this.#keyboard.waiting;
  }

  /** The machine shall stand still. */
  get paused(): boolean {
    return this.#keyboard.paused;
  }

  /** Keeps the machine's state now and then, where nothing is under way. */
  remember(inputs: number): void {
    const { io, kernel, past } = this.to;
    const now = io.now();
    if (past === undefined || now < this.#keepAt) return;
    if (kernel.queued > 0 || kernel.waiting) return;
    this.#keepAt = now + this.#keepMs;
    this.#kept.push({ keyframe: kernel.capture(), inputs });
    if (this.#kept.length <= MOST_KEPT) return;
    this.#kept = this.#kept.filter((_, i) => i % 2 === 0);
    this.#keepMs *= 2;
  }

  /** Whether a key could wake a machine that is halted. */
  canWake(): boolean {
    return this.to.port.hears();
  }

  /** What was typed for the guest. */
  typed(): Uint8Array | undefined {
    return this.#keyboard.guest();
  }

  /** Does what the next commands say. */
  obey(): void {
    for (;;) {
      const typed = this.#keyboard.command();
      if (typed === undefined) return;
      this.#do(typed);
      if (this.left) return;
    }
  }

  #do({ command, count }: Typed): void {
    const keyboard = this.#keyboard;
    const was = keyboard.paused;
    switch (command) {
      case "leave":
        this.left = true;
        keyboard.paused = false;
        return;
      case "pause":
        keyboard.paused = !was;
        if (!was) this.#show();
        else this.#say(`[goes on at step ${grouped(this.#present)}]\n`);
        return;
      case "back":
        keyboard.paused = true;
        return this.#travel(-count);
      case "forward":
        keyboard.paused = true;
        return this.#travel(count);
      case "registers":
        keyboard.paused = true;
        return this.#registers();
      case "help":
        this.#say(`\n${keyHelp(this.to.escape.name)}`);
    }
  }

  /** Forgets the past: the machine goes on. */
  goOn(): void {
    this.#keyboard.paused = false;
    this.#forget();
  }

  get #present(): number {
    return this.to.kernel.moment.step;
  }

  #forget(): void {
    this.#past?.close();
    this.#past = undefined;
    this.#back = undefined;
  }

  /** Goes `steps` on from where the person looks, at most to the present. */
  #travel(steps: number): void {
    const present = this.#present;
    const from = this.#back?.moment.step ?? present;
    if (steps > 0 && from === present) {
      this.#show("this is the present; p goes on");
      return;
    }
    if (this.to.past === undefined) {
      this.#say(
        "\n[no step back: nothing is recorded (--no-tape), so the past is gone]\n",
      );
      return;
    }
    try {
      const { timeline } = this.#past ??= this.to.past(this.#kept);
      const step = Math.max(timeline.start, from + steps);
      if (step >= present) this.#back = undefined;
      else {
        timeline.seek({ step, ordinal: 0 });
        this.#back = timeline;
      }
      this.#show(
        step === timeline.start && from + steps < step
          ? "the run starts here"
          : "",
      );
    } catch (error) {
      this.#forget();
      this.#say(`\n[no step back: ${messageOf(error)}]\n`);
    }
  }

  /** Moment, the next instruction and the console, where the person looks. */
  #show(remark = ""): void {
    const { machines } = this.to;
    const kernel = this.#back?.kernel ?? this.to.kernel;
    const present = this.#present;
    const { step, time } = kernel.moment;
    const inspector = machines.inspector(kernel, this.#names(kernel));
    const lines = [
      `step ${grouped(step)}${
        step === present ? "" : ` (${grouped(present - step)} back)`
      }, virtual time ${grouped(time)} ns${remark === "" ? "" : `; ${remark}`}`,
    ];
    if (inspector !== undefined) {
      const { turn, cpus } = inspector;
      for (const { address, symbol, text } of inspector.disassemble(turn, 1)) {
        const place = symbol === undefined ? "" : ` <${symbol}>`;
        lines.push(
          `${cpus > 1 ? `vCPU ${turn} ` : ""}${address}${place}: ${text}`,
        );
      }
    }
    const port = this.#back === undefined
      ? this.to.port
      : machines.serial(kernel);
    const console = consoleText(port?.tail() ?? new Uint8Array(0));
    this.#say(
      `\n[paused: ${lines.join("\n ")}\n` +
        lastLines(console, CONSOLE_LINES).replace(/^/gm, " | ").slice(0, -3) +
        ` b back, f forward, r registers, p go on, q leave, h help]\n`,
    );
  }

  #registers(): void {
    const kernel = this.#back?.kernel ?? this.to.kernel;
    const inspector = this.to.machines.inspector(kernel);
    const rows = inspector?.registers(inspector.turn) ?? [];
    this.#say(
      `\n[registers at step ${grouped(kernel.moment.step)}:\n` +
        columns(rows.map(({ name, value, meaning }) => [
          name,
          meaning === undefined ? value : `${value}  ${meaning}`,
        ])) + "]\n",
    );
  }

  /** Names out of the image, or out of the guest's memory once it has some. */
  #names(kernel: Kernel): readonly GuestSymbol[] {
    if (this.#symbols !== undefined) return this.#symbols;
    let found = this.to.symbols();
    if (found.length === 0) {
      found = this.to.machines.inspector(kernel)?.guestSymbols() ?? [];
    }
    if (found.length > 0) this.#symbols = found;
    return found;
  }

  /** Says something on a raw terminal, which starts no line by itself. */
  #say(text: string): void {
    const { io } = this.to;
    const raw = text.replaceAll("\n", "\r\n");
    if (io.isTerminal.err) io.err(raw);
    else io.out(raw);
  }
}
