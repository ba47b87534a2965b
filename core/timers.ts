/**
 * Virtual timers. Deadlines are kernel state; handlers are not. Timers due at
 * the same time fire in load order of their plugins, then in declared order.
 */
import type { ByteReader, ByteWriter } from "./bytes.ts";
import { messageOf, PluginError, StateError, VmtapeError } from "./errors.ts";
import type { Json } from "./fields.ts";
import type { At } from "./moment.ts";
import type { Timer } from "./plugin.ts";

/** Firings at one boundary after which a timer is taken to spin. */
const MAX_FIRINGS = 65_536;
const NEVER = Number.POSITIVE_INFINITY;

class DeclaredTimer implements Timer {
  /** NEVER when not armed. */
  due = NEVER;
  handler: ((at: At) => unknown) | undefined;

  constructor(
    readonly plugin: string,
    readonly name: string,
    readonly armed: (due: number) => void,
  ) {}

  run(handler: (at: At) => undefined): void {
    if (this.handler !== undefined) {
      throw new PluginError(
        this.plugin,
        `plugin ${this.plugin}, timer ${this.name}: it has a handler already, ` +
          `call run once`,
      );
    }
    this.handler = handler;
  }
  at(time: number): void {
    if (!Number.isSafeInteger(time) || time < 0) {
      throw new PluginError(
        this.plugin,
        `plugin ${this.plugin}, timer ${this.name}: armed for ${time}, use a ` +
          `non-negative integer of virtual nanoseconds`,
      );
    }
    this.due = time;
    this.armed(time);
  }
  cancel(): void {
    this.due = NEVER;
  }
  get deadline(): number | undefined {
    return this.due === NEVER ? undefined : this.due;
  }
}

/** All timers of one machine, in load order. */
export class Timers {
  readonly #timers: DeclaredTimer[] = [];
  readonly #armed: (due: number) => void;
  #boundary = -1;
  #firings = 0;

  /** @param armed called whenever a timer is armed */
  constructor(armed: (due: number) => void) {
    this.#armed = armed;
  }

  declare(plugin: string, name: string): Timer {
    const timer = new DeclaredTimer(plugin, name, this.#armed);
    this.#timers.push(timer);
    return timer;
  }

  /** A declared timer without a handler, as `plugin.timer`. */
  unhandled(plugin: string): string | undefined {
    return this.#timers.find((timer) =>
      timer.plugin === plugin && timer.handler === undefined
    )?.name;
  }

  /** The earliest deadline, or infinity. */
  next(): number {
    let due = NEVER;
    for (const timer of this.#timers) if (timer.due < due) due = timer.due;
    return due;
  }

  /**
   * Fires the first timer that is due.
   * @returns whether one was
   */
  fireOne(at: At): boolean {
    const due = this.next();
    if (due > at.time) return false;
    const timer = this.#timers.find((one) => one.due === due);
    if (timer === undefined) return false;
    this.#firings = this.#boundary === at.time ? this.#firings + 1 : 0;
    this.#boundary = at.time;
    const name = `plugin ${timer.plugin}, timer ${timer.name}`;
    if (this.#firings > MAX_FIRINGS) {
      throw new PluginError(
        timer.plugin,
        `${name}: fired ${MAX_FIRINGS} times at virtual time ${at.time}, arm ` +
          `it for a later time`,
      );
    }
    timer.due = NEVER;
    let answer: unknown;
    try {
      answer = timer.handler?.(at);
    } catch (thrown) {
      if (thrown instanceof VmtapeError) throw thrown;
      throw new PluginError(
        timer.plugin,
        `${name} at step ${at.step}: ${messageOf(thrown)}`,
        thrown,
      );
    }
    if (answer !== undefined) {
      throw new PluginError(
        timer.plugin,
        `${name}: the handler answered a value; handlers are synchronous and ` +
          `answer nothing`,
      );
    }
    return true;
  }

  encode(out: ByteWriter): void {
    out.count(this.#timers.length);
    for (const timer of this.#timers) {
      out.text(`${timer.plugin}.${timer.name}`);
      out.u8(timer.due === NEVER ? 0 : 1);
      if (timer.due !== NEVER) out.u53(timer.due);
    }
  }

  decode(from: ByteReader): void {
    const saved = readDeadlines(from);
    const have = this.#timers.map((timer) => `${timer.plugin}.${timer.name}`);
    const wanted = [...saved.keys()];
    if (wanted.join() !== have.join()) {
      throw new StateError(
        `restore timers: the keyframe has ${wanted.join(", ") || "none"}, ` +
          `this machine ${have.join(", ") || "none"}, load the same plugins`,
      );
    }
    this.#timers.forEach((timer) => {
      timer.due = saved.get(`${timer.plugin}.${timer.name}`) ?? NEVER;
    });
    this.#boundary = -1;
  }
}

function readDeadlines(from: ByteReader): Map<string, number | undefined> {
  const saved = new Map<string, number | undefined>();
  for (let n = from.count(); n > 0; n--) {
    const name = from.text();
    saved.set(name, from.u8() === 0 ? undefined : from.u53());
  }
  return saved;
}

/** Encoded deadlines as plain data. */
export function timersToJson(from: ByteReader): Json {
  const json: Record<string, Json> = {};
  for (const [name, due] of readDeadlines(from)) json[name] = due ?? null;
  return json;
}
