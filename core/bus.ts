/**
 * The bus: one ordered stream of events. `emit` appends at once (the sink sees
 * it at once); handlers run when the machine pumps at a consistent point,
 * breadth-first. An event that nobody wants costs one byte load. Handlers run
 * in order of subscription: machine, participants in load order, observers.
 */
import { assert } from "./assert.ts";
import { EventError, messageOf, PluginError, VmtapeError } from "./errors.ts";
import { eventById, eventCount } from "./event.ts";
import type { EventToken } from "./event.ts";
import type { At } from "./moment.ts";
import type { FactSink } from "./sink.ts";

/** Handlers that events may set off in a row before the bus suspects a loop. */
export const MAX_DEPTH = 64;

const RECORDED = 1;
const HANDLED = 2;

/** Failures that only pass through a handler: of the guest, of the sink. */
const NOT_ITS_FAULT: ReadonlySet<string> = new Set([
  "not-modelled",
  "store",
  "diverged",
]);

/** Who subscribed. */
export interface Owner {
  readonly name: string;
  readonly observes: boolean;
  /** An observer that threw gets no more events. */
  failed: boolean;
}

interface Subscription {
  readonly owner: Owner;
  readonly handler: (payload: unknown, at: At) => unknown;
}

interface Waiting {
  readonly event: EventToken;
  readonly payload: unknown;
  readonly at: At;
  readonly depth: number;
}

/** Where the bus reads the machine's clocks. */
export interface BusClock {
  step(): number;
  now(): number;
  /** Virtual time of a step since the machine last idled. */
  timeOf(step: number): number;
}

/** One machine's event stream. */
export class Bus {
  readonly #clock: BusClock;
  readonly #known = new Map<string, EventToken>();
  /** Known not only because an observer watches for it. */
  readonly #declared = new Set<EventToken>();
  #interest = new Uint8Array(0);
  #registered = new Uint8Array(0);
  #handlers: (Subscription[] | undefined)[] = [];
  #queue: Waiting[] = [];
  #delivering: Waiting | undefined;
  #sink: FactSink | undefined;
  #scratch = new Uint32Array(64);
  #at: At = { step: 0, time: 0 };
  /** Set whenever interest in a hot event may have changed. */
  interestChanged = true;
  /** Drains the executor's ring, so that hot facts keep their place. */
  beforeEmit: (() => void) | undefined;
  /** First failure of an observer since it was last taken. */
  observerFailure: PluginError | undefined;

  constructor(clock: BusClock) {
    this.#clock = clock;
  }

  /** Every event type registered, by name. */
  get known(): ReadonlyMap<string, EventToken> {
    return this.#known;
  }

  get sink(): FactSink | undefined {
    return this.#sink;
  }
  set sink(sink: FactSink | undefined) {
    this.#sink = sink;
    for (const event of this.#known.values()) this.#refresh(event);
  }

  /** The events of machine and participants: what a manifest names. */
  get declared(): Iterable<EventToken> {
    return this.#declared;
  }

  /**
   * Makes an event type known; `observed`: only to an observer.
   * @throws EventError when another declaration has the same name
   */
  register(event: EventToken, by: string, observed = false): void {
    const other = this.#known.get(event.name);
    if (!observed && (other ?? event) === event) this.#declared.add(event);
    if (other === event) return;
    if (other !== undefined) {
      throw new EventError(
        `register event ${event.name} for ${by}: another declaration has the ` +
          `same name (version ${other.version}, this one ${event.version}), ` +
          `import one token everywhere`,
      );
    }
    this.#known.set(event.name, event);
    if (event.id >= this.#interest.length) this.#grow();
    this.#registered[event.id] = 1;
    this.#refresh(event);
  }

  /** True for a token that `register` has seen. */
  isRegistered(event: EventToken): boolean {
    return this.#registered[event.id] === 1;
  }

  #grow(): void {
    const size = eventCount() + 32;
    const interest = new Uint8Array(size);
    interest.set(this.#interest);
    this.#interest = interest;
    const registered = new Uint8Array(size);
    registered.set(this.#registered);
    this.#registered = registered;
  }

  #refresh(event: EventToken): void {
    const recorded = this.#sink?.wants(event) === true ? RECORDED : 0;
    const handled = (this.#handlers[event.id]?.length ?? 0) > 0 ? HANDLED : 0;
    this.#interest[event.id] = recorded | handled;
    if (event.hot) this.interestChanged = true;
  }

  /** Subscribes; answers the function that unsubscribes. */
  subscribe(
    owner: Owner,
    event: EventToken,
    handler: (payload: unknown, at: At) => unknown,
  ): () => void {
    this.register(event, owner.name, owner.observes);
    const subscription: Subscription = { owner, handler };
    // Lists are replaced, never changed: a delivery goes on with its own.
    this.#handlers[event.id] = [
      ...(this.#handlers[event.id] ?? []),
      subscription,
    ];
    this.#refresh(event);
    return () => {
      this.#handlers[event.id] = this.#handlers[event.id]?.filter((one) =>
        one !== subscription
      );
      this.#refresh(event);
    };
  }

  /** True when somebody records or handles the event. */
  wants(event: EventToken): boolean {
    return this.#interest[event.id] > 0;
  }

  /** Appends a fact; `payload` is used only if somebody wants it. */
  emit(event: EventToken, payload: unknown): void {
    const interest = this.#interest[event.id];
    if (!(interest > 0)) return;
    this.beforeEmit?.();
    const at = this.#now();
    if ((interest & RECORDED) !== 0) this.#record(at, event, payload);
    if ((interest & HANDLED) !== 0) this.#enqueue(event, payload, at);
  }

  /** Appends an observer's note. */
  note(event: EventToken, payload: unknown, plugin: string): void {
    const interest = this.#interest[event.id];
    if (!(interest > 0)) return;
    const at = this.#now();
    if ((interest & RECORDED) !== 0) {
      this.#sink?.note(at.step, event, payload, plugin);
    }
    if ((interest & HANDLED) !== 0) this.#enqueue(event, payload, at);
  }

  /** Appends an input: written ahead, then queued for its handlers. */
  input(event: EventToken, payload: unknown): void {
    const at = this.#now();
    this.#sink?.input(at, event, payload);
    if ((this.#interest[event.id] & HANDLED) !== 0) {
      this.#enqueue(event, payload, at);
    }
  }

  /** Appends a hot fact from an engine's ring. */
  hot(step: number, eventId: number, words: Uint32Array, at: number): void {
    const interest = this.#interest[eventId];
    if (!(interest > 0)) return;
    const event = eventById(eventId);
    assert(event !== undefined && event.hot, "the ring holds hot events only");
    if ((interest & RECORDED) !== 0) {
      this.#sink?.hot(step, eventId, words, at, event.words);
    }
    if ((interest & HANDLED) !== 0) {
      const when = { step, time: this.#clock.timeOf(step) };
      this.#enqueue(event, event.fromWords(words, at), when);
    }
  }

  #record(at: At, event: EventToken, payload: unknown): void {
    const sink = this.#sink;
    if (sink === undefined) return;
    if (event.hot) {
      event.toWords(payload, this.#scratch, 0);
      sink.hot(at.step, event.id, this.#scratch, 0, event.words);
    } else {
      sink.fact(at.step, event, payload);
    }
  }

  /** What a handler causes belongs to the step of what it handles. */
  #now(): At {
    if (this.#delivering !== undefined) return this.#delivering.at;
    const step = this.#clock.step();
    const time = this.#clock.now();
    if (this.#at.step !== step || this.#at.time !== time) {
      this.#at = { step, time };
    }
    return this.#at;
  }

  #enqueue(event: EventToken, payload: unknown, at: At): void {
    const depth = (this.#delivering?.depth ?? 0) + 1;
    if (depth > MAX_DEPTH) {
      throw new EventError(
        `emit ${event.name} at step ${at.step}: ${MAX_DEPTH} events have set ` +
          `off each other in a row, break the loop between their handlers`,
      );
    }
    this.#queue.push({ event, payload, at, depth });
  }

  /** Facts are waiting for handlers. */
  get pending(): boolean {
    return this.#queue.length > 0;
  }

  /**
   * Delivers what waits and what that sets off.
   * @returns whether anything was delivered
   * @throws PluginError naming a participant whose handler threw
   */
  pump(): boolean {
    if (this.#queue.length === 0 || this.#delivering !== undefined) {
      return false;
    }
    try {
      // The array grows while handlers emit.
      for (let i = 0; i < this.#queue.length; i++) {
        const waiting = this.#queue[i];
        this.#delivering = waiting;
        const handlers = this.#handlers[waiting.event.id];
        if (handlers === undefined) continue;
        for (const subscription of handlers) {
          this.#deliver(subscription, waiting);
        }
      }
    } finally {
      this.#delivering = undefined;
      this.#queue = [];
    }
    return true;
  }

  #deliver(subscription: Subscription, waiting: Waiting): void {
    const { owner } = subscription;
    if (owner.failed) return;
    let thrown: unknown;
    try {
      const answer = subscription.handler(waiting.payload, waiting.at);
      if (answer === undefined) return;
      thrown = new TypeError(
        "the handler answered a value; handlers are synchronous and answer " +
          "nothing",
      );
    } catch (error) {
      thrown = error;
    }
    const failure = blame(owner.name, waiting, thrown);
    if (!owner.observes || !(failure instanceof PluginError)) throw failure;
    owner.failed = true;
    this.observerFailure ??= failure;
  }

  /** Drops what waits: after a restore, which happens at boundaries only. */
  clear(): void {
    this.#queue = [];
  }

  /** Bit `token.id` of every hot event that somebody wants. */
  hotInterest(): { readonly bits: Uint32Array; readonly handled: boolean } {
    const bits = new Uint32Array((this.#interest.length + 31) >>> 5);
    let handled = false;
    for (const event of this.#known.values()) {
      if (!event.hot) continue;
      const interest = this.#interest[event.id];
      if (interest !== 0) bits[event.id >>> 5] |= 1 << (event.id & 31);
      handled ||= (interest & HANDLED) !== 0;
    }
    return { bits, handled };
  }
}

function blame(plugin: string, waiting: Waiting, thrown: unknown): Error {
  // A precise error of ours (NotModelled, a bad payload) says it all.
  if (thrown instanceof PluginError) return thrown;
  if (thrown instanceof VmtapeError && NOT_ITS_FAULT.has(thrown.code)) {
    return thrown;
  }
  return new PluginError(
    plugin,
    `plugin ${plugin}, handler of ${waiting.event.name} at step ` +
      `${waiting.at.step}: ${messageOf(thrown)}`,
    thrown,
  );
}
