/**
 * The kernel: owns time, inputs, timers, the event stream and all state, and
 * drives an executor. It knows no x86. Its loop does the same things at the
 * same steps whatever engine, observers, detail or host pauses there are:
 * at a step boundary first the digest boundary, then a stop, then due timers,
 * then inputs one by one (timers again after each), then the executor.
 */
import { assert } from "./assert.ts";
import { Bus } from "./bus.ts";
import type { Owner } from "./bus.ts";
import { ClockService, VirtualTime } from "./clock.ts";
import type { DigestPart } from "./digest.ts";
import { failureReason, messageOf, StateError } from "./errors.ts";
import type { EventToken } from "./event.ts";
import type { Executor } from "./executor.ts";
import { HookTable } from "./hook_table.ts";
import { loadPlugins } from "./host.ts";
import type { LivePlugin } from "./host.ts";
import { makeManifest } from "./kernel_manifest.ts";
import { checkInput, makePort, subscribeKernel } from "./kernel_port.ts";
import { KernelState } from "./kernel_state.ts";
import type { CellBlob, Keyframe } from "./keyframe.ts";
import {
  MACHINE_EVENTS,
  MachineIdled,
  MachineStopped,
  MachineStuck,
} from "./machine_events.ts";
import type { At } from "./moment.ts";
import { DirtyPages } from "./pages.ts";
import type { Plugin } from "./plugin.ts";
import { RandomStream } from "./random.ts";
import { BOUNDARY_STEPS } from "./sink.ts";
import type {
  FactSink,
  KernelConfig,
  Manifest,
  RunOptions,
  StateDifference,
  StopInfo,
} from "./sink.ts";
import type { ServiceToken } from "./service.ts";
import { StateKeeper } from "./state_keeper.ts";
import { Timers } from "./timers.ts";

export { DirtyPages };
export type { DigestPart };

/** What an idle jump or a yield takes from a run's budget, in steps. */
const TURN_COST = 64;

interface QueuedInput {
  readonly event: EventToken;
  readonly payload: unknown;
}

/** One machine: executor, plugins, events, time and state. */
export class Kernel {
  /** Seed of all random streams. */
  readonly seed: bigint;
  /** The engine underneath. */
  readonly executor: Executor;
  readonly #config: KernelConfig;
  /** Has no executor yet while that is being made. */
  readonly #clock = new VirtualTime();
  readonly #bus: Bus;
  readonly #hooks = new HookTable();
  readonly #timers: Timers;
  readonly #live: readonly LivePlugin[];
  readonly #keeper: StateKeeper;
  readonly #state: KernelState;
  readonly #inputs: QueuedInput[] = [];
  /** The limit given to the executor's running `run`, or -1. */
  #limit = -1;
  #lastBoundary = -1;
  /** The executor has not run since step and time came to be what they are. */
  #fresh = true;
  /** It ran since, and waits for an input. */
  #waiting = false;
  #paused = false;
  #broken: unknown;

  private constructor(config: KernelConfig) {
    this.#config = config;
    this.seed = config.seed;
    const clock = this.#clock;
    this.#bus = new Bus(clock);
    this.#timers = new Timers((due) => {
      if (this.#limit >= 0) this.#shorten(clock.stepOf(due));
    });
    for (const event of MACHINE_EVENTS) this.#bus.register(event, "kernel");
    const services = new Map<ServiceToken<unknown>, unknown>([
      [ClockService, clock],
    ]);
    const random = new RandomStream(config.seed, "machine");
    const executor = config.executor(makePort({
      seed: config.seed,
      clock,
      bus: this.#bus,
      hooks: this.#hooks,
      services,
      random,
      stop: (reason, exitCode) => this.stop(reason, exitCode),
    }));
    this.executor = clock.executor = executor;
    this.#bus.beforeEmit = () => executor.drain();
    subscribeKernel(
      this.#bus,
      executor,
      (reason, exitCode) => this.stop(reason, exitCode),
    );
    this.#live = loadPlugins(config.plugins, {
      bus: this.#bus,
      hooks: this.#hooks,
      timers: this.#timers,
      clock,
      seed: config.seed,
      services,
      stop: (reason, exitCode) => this.stop(reason, exitCode),
    });
    this.#state = new KernelState(this.#timers, [
      ["machine", random],
      ...this.#live.filter(({ owner }) => !owner.observes)
        .map(({ plugin, random }) => [plugin.name, random] as const),
    ]);
    executor.start?.();
    this.#keeper = new StateKeeper(
      executor.state,
      this.#live,
      this.#state,
      () => this.moment,
    );
  }

  /**
   * Loads a machine.
   * @throws ConfigError or PluginError naming plugin, field and remedy
   */
  static load(config: KernelConfig): Kernel {
    return new Kernel(config);
  }

  /** Plugins in load order, observers last. */
  get plugins(): readonly Plugin[] {
    return this.#live.map(({ plugin }) => plugin);
  }
  /** Every event type known here, by name. */
  get events(): ReadonlyMap<string, EventToken> {
    return this.#bus.known;
  }
  /** The boundary at which the machine stands. */
  get moment(): At {
    return { step: this.#clock.step(), time: this.#clock.now() };
  }
  /** Who gets the stream. */
  get sink(): FactSink | undefined {
    return this.#bus.sink;
  }
  set sink(sink: FactSink | undefined) {
    this.#bus.sink = sink;
  }
  /** What broke the machine in mid-run, if something did; restore mends it. */
  get failure(): unknown {
    return this.#broken;
  }
  /** It has just arrived: the executor has not run here yet. */
  get fresh(): boolean {
    return this.#fresh;
  }
  /**
   * The machine waits for an input: halted, no timer armed. Inputs are
   * delivered on arrival at a step or time, before the executor runs there,
   * or one by one while it waits; nowhere else, so that (step, time, waiting)
   * says where exactly an input belongs.
   */
  get waiting(): boolean {
    return this.#waiting;
  }
  /** Inputs queued and not delivered. */
  get queued(): number {
    return this.#inputs.length;
  }
  /** How the machine ended, if it has. */
  get stopped(): StopInfo | undefined {
    return this.#state.ended ? this.#stopInfo("stopped") : undefined;
  }

  /**
   * Queues an input; `run` delivers it at the next boundary.
   * @throws EventError when nothing here takes such an input, or it is wrong
   */
  inject<P>(event: EventToken<P, "input">, payload: P): void {
    checkInput(this.#bus, this.executor, event, payload);
    this.#inputs.push({ event, payload });
  }

  /** Ends the run at the next boundary; the stop is machine state. */
  stop(reason: string, exitCode?: number): void {
    this.#state.requestStop(reason, exitCode);
    if (this.#limit >= 0) this.#shorten(0);
  }

  /** Ends `run` at the next boundary; changes no state. */
  pause(): void {
    this.#paused = true;
    if (this.#limit >= 0) this.#shorten(0);
  }

  #shorten(limit: number): void {
    const least = Math.max(limit, this.executor.step());
    if (least >= this.#limit) return;
    this.#limit = least;
    this.executor.shorten(least);
  }

  /**
   * Watches as an observer would.
   * @returns the function that ends it
   */
  watch<P>(
    event: EventToken<P>,
    handler: (payload: P, at: At) => undefined,
  ): () => void {
    const owner: Owner = { name: "watch", observes: true, failed: false };
    return this.#bus.subscribe(
      owner,
      event,
      handler as (payload: unknown, at: At) => undefined,
    );
  }

  /**
   * Runs until something of `options` comes true or the machine ends.
   * @throws NotModelled, PluginError: the machine can't go on. An observer's
   *   failure is thrown at a boundary, and the machine can.
   */
  run(options: RunOptions = {}): StopInfo {
    if (this.#broken !== undefined) {
      throw new StateError(
        `run the machine: it failed earlier (${messageOf(this.#broken)}), ` +
          `restore a keyframe first`,
        this.#broken,
      );
    }
    assert(this.#limit < 0, "run is not called from within run");
    try {
      return this.#loop(options);
    } catch (thrown) {
      if (thrown instanceof ObserverFailed) throw thrown.failure;
      this.#fail(thrown);
      throw thrown;
    } finally {
      this.#limit = -1;
      this.#paused = false;
    }
  }

  /** A failure ends the machine as a fact of its moment. */
  #fail(thrown: unknown): void {
    this.#broken = thrown;
    const reason = failureReason(thrown);
    if (reason === undefined) return;
    this.executor.drain();
    this.#bus.emit(MachineStopped, { reason, exitCode: undefined });
    this.#bus.clear();
  }

  #loop(options: RunOptions): StopInfo {
    let budget = options.budgetSteps ?? Number.POSITIVE_INFINITY;
    for (;;) {
      const at = this.moment;
      this.#arrive(at);
      if (this.#paused) return this.#stopInfo("paused");
      if (hasArrived(at, options)) return this.#stopInfo("step");
      if (options.stopWhen?.(this) === true) return this.#stopInfo("predicate");
      if (this.#state.stopRequested) return this.#end();
      if (this.#timers.fireOne(at)) {
        this.#bus.pump();
        continue;
      }
      if ((this.#fresh || this.#waiting) && this.#deliverInput()) continue;
      if (budget <= 0) return this.#stopInfo("budget");
      const outcome = this.#execute(at, options, budget);
      const ran = this.#clock.step() - at.step;
      switch (outcome.kind) {
        case "limit":
          budget -= ran;
          // At `untilStep`, yet the machine isn't idle: time can't pass here.
          if (ran === 0 && at.step === options.untilStep) {
            return this.#stopInfo("step");
          }
          break;
        case "yield":
          budget -= Math.max(ran, TURN_COST);
          break;
        case "idle":
          budget -= ran + TURN_COST;
          if (this.#state.stopRequested) break;
          if (!outcome.pumped && ran === 0 && !this.#letTimePass()) {
            this.#waiting = true;
            if (this.#inputs.length > 0) continue;
            return this.#stopInfo("waiting");
          }
          break;
        case "stopped":
          this.#state.requestStop(outcome.reason, outcome.exitCode);
          break;
        case "stuck":
          this.#bus.emit(MachineStuck, { loop: outcome.loop ?? "" });
          this.#state.requestStop(
            `stuck: ${outcome.loop ?? "no step"}`,
            outcome.exitCode,
          );
          break;
      }
    }
  }

  #arrive(at: At): void {
    assert(!this.#bus.pending, "no event waits at a step boundary");
    const { sink } = this.#bus;
    const every = sink?.boundarySteps ?? BOUNDARY_STEPS;
    if (at.step % every === 0 && at.step !== this.#lastBoundary) {
      this.#lastBoundary = at.step;
      sink?.boundary(this);
    }
    const failure = this.#bus.observerFailure;
    if (failure !== undefined) {
      this.#bus.observerFailure = undefined;
      throw new ObserverFailed(failure);
    }
  }

  #deliverInput(): boolean {
    const input = this.#inputs.shift();
    if (input === undefined) return false;
    this.#bus.input(input.event, input.payload);
    this.#waiting = false;
    this.#bus.pump();
    return true;
  }

  #execute(at: At, options: RunOptions, budget: number) {
    const { executor } = this;
    if (this.#bus.interestChanged) {
      this.#bus.interestChanged = false;
      const { bits, handled } = this.#bus.hotInterest();
      executor.interest(bits, handled);
    }
    const every = this.#bus.sink?.boundarySteps ?? BOUNDARY_STEPS;
    const boundary = (Math.floor(at.step / every) + 1) * every;
    this.#limit = Math.max(
      at.step,
      Math.min(
        options.untilStep ?? boundary,
        boundary,
        this.#clock.stepOf(this.#timers.next()),
        at.step + budget,
      ),
    );
    this.#waiting = false;
    const outcome = executor.run(this.#limit);
    this.#fresh = this.#clock.step() !== at.step;
    this.#limit = -1;
    executor.drain();
    return { ...outcome, pumped: this.#bus.pump() };
  }

  /** Jumps to the next timer; false when there is none. */
  #letTimePass(): boolean {
    const due = this.#timers.next();
    if (due === Number.POSITIVE_INFINITY) return false;
    const { time } = this.moment;
    if (due <= time) return true;
    this.#bus.emit(MachineIdled, { from: time, to: due });
    this.#clock.idleUntil(due);
    this.#fresh = true;
    this.#bus.pump();
    return true;
  }

  #end(): StopInfo {
    if (!this.#state.ended) {
      this.#state.end();
      this.#bus.emit(MachineStopped, {
        reason: this.#state.reason,
        exitCode: this.#state.exitCode,
      });
      this.#bus.pump();
    }
    return this.#stopInfo("stopped");
  }

  #stopInfo(kind: StopInfo["kind"]): StopInfo {
    const info = { kind, ...this.moment };
    return kind === "stopped"
      ? {
        ...info,
        reason: this.#state.reason,
        exitCode: this.#state.exitCode,
      }
      : info;
  }

  /** RAM pages written from now on. */
  trackDirty(): DirtyPages {
    return this.#keeper.pages.track();
  }

  #atBoundary(): void {
    assert(
      !this.#bus.pending && this.#limit < 0,
      "state is looked at as a whole at step boundaries only",
    );
  }

  /** Complete state; at a boundary only. */
  capture(): Keyframe {
    this.#atBoundary();
    return this.#keeper.capture();
  }

  /** Observers' cells and random streams. */
  captureObservers(): readonly CellBlob[] {
    return this.#keeper.captureObservers();
  }

  /**
   * Becomes what `keyframe` holds. Queued inputs are dropped; observers whose
   * cells it doesn't hold keep theirs.
   * @throws StateError when it is of another machine
   */
  restore(keyframe: Keyframe): void {
    this.#inputs.length = 0;
    this.#bus.clear();
    this.#bus.observerFailure = undefined;
    try {
      this.#keeper.restore(keyframe);
    } catch (thrown) {
      this.#broken = thrown;
      throw thrown;
    }
    this.#lastBoundary = keyframe.step;
    this.#fresh = true;
    this.#waiting = false;
    this.#broken = undefined;
  }

  /** Restores those observers that `cells` holds. */
  restoreObservers(cells: readonly CellBlob[]): void {
    this.#keeper.restoreObservers(cells);
  }

  /** SHA-256 (hexadecimal) over pages, participants' cells, kernel state. */
  stateDigest(): string {
    this.#atBoundary();
    return this.#keeper.digest();
  }

  /** The parts of the state digest, for finding what differs. */
  digestParts(): readonly DigestPart[] {
    this.#atBoundary();
    return this.#keeper.digestParts();
  }

  /** Everything that a replay must match. */
  manifest(): Manifest {
    return makeManifest(
      this.#config,
      this.#keeper.participants,
      this.#bus.declared,
    );
  }

  /** What differs between two states of this machine. */
  explain(before: Keyframe, after: Keyframe): readonly StateDifference[] {
    return this.#keeper.explain(before, after);
  }
}

/** Carries an observer's failure out of the loop: the machine is intact. */
class ObserverFailed extends Error {
  constructor(readonly failure: Error) {
    super(failure.message);
  }
}

function hasArrived(at: At, { untilStep, untilTime }: RunOptions): boolean {
  if (untilStep === undefined || at.step < untilStep) return false;
  return at.step > untilStep || untilTime === undefined || at.time >= untilTime;
}
