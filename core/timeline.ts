/**
 * Time travel over a tape: one machine that stands at any moment of the run,
 * forwards and backwards, and forks of it.
 *
 * ```ts
 * const tape = TapeReader.open(new FileSource("run.tape")); // torn is fine
 * const time = Timeline.open(tape, factory);   // factory: manifest → Kernel
 * time.seek({ step: 120_000, ordinal: 0 });    // state before that step
 * time.state().pages.page(3).bytes;            // … look at it
 * time.step(); time.back(); time.seekEnd();
 * time.runTo({ event: "mem.wrote", where: (p) => p.gpa === 0x1000n });
 * time.reverseTo({ event: "vmx.exited" });     // the last one before here
 * time.reverseTo((kernel) => predicate(kernel));            // by state
 * time.events(from, to);                       // every event, `full` detail
 * raiseToFull(time, from, to, sink);           // … into a sidecar.ts
 * const { kernel, recorder } = time.fork(time.moment, edits, tapeWriter(sink));
 * kernel.run(); recorder.finish();             // the other future
 * ```
 *
 * The other tape commands: record → recorder.ts; open, what a tape holds and
 * its state (0 clean, 4 torn, 5 damaged) → tape/reader.ts; verify →
 * `verifyTape` (replayer.ts); recover → `recoverTape` (tape/recover.ts); diff
 * of two tapes → `diffRuns` (divergence.ts); stored events without a
 * machine → `decodeStored(tape, new Map())` (tape/events.ts).
 *
 * Invariants: the tape is never written; a moment's state is the same however
 * it was reached (law 4); observers see every event from step 0, in order,
 * unless they are memoryless.
 */
import { type EventAt, Listener } from "./collect.ts";
import { ConfigError, TapeError } from "./errors.ts";
import type { EventToken } from "./event.ts";
import { Feeder } from "./feeder.ts";
import {
  type Fork,
  type ForkEdit,
  type ForkOptions,
  forkTape,
} from "./fork.ts";
import type { Kernel } from "./kernel.ts";
import type { Keyframe } from "./keyframe.ts";
import type { Moment } from "./moment.ts";
import type { OutFactory } from "./recorder.ts";
import {
  loadForTape,
  type MachineFactory,
  runToEnd,
} from "./replay_machine.ts";
import type { FactSink } from "./sink.ts";
import { holdsAll, storedSteps } from "./stored_search.ts";
import type { TapeReader } from "./tape/reader.ts";

export type { Fork, ForkEdit, ForkOptions };

/** Looks for one event, by token or name. */
export interface EventQuery {
  /** The event. */
  readonly event: EventToken | string;
  /** Default: any payload. */
  readonly where?: (payload: never, at: Moment) => boolean;
}
/** What `runTo` and `reverseTo` look for: an event, or a state (slower). */
export type Query = EventQuery | ((kernel: Kernel) => boolean);

/** In-memory keyframe. */
export interface Mark {
  readonly keyframe: Keyframe;
  /** Inputs consumed before it. */
  readonly inputs: number;
}
/** How a timeline starts. */
export interface TimelineOptions {
  /** Inputs that the machine has consumed. */
  readonly inputs?: number;
  /** May start from the keyframes on the tape: default true. */
  readonly tapeKeyframes?: boolean;
  /** Of a tape still being written: how far the run went with its inputs. */
  readonly end?: number;
  /** States that the recording host kept, taken where nothing was queued. */
  readonly marks?: readonly Mark[];
}

/** In-memory keyframes at most. */
const MAX_MARKS = 64;
/** Marks are set at halves of the way to a target until this near. */
const NEAREST_MARK_STEPS = 256;
const MAX_MARKS_PER_SEEK = 8;

/** A machine that travels along a tape. */
export class Timeline {
  /** The tape. */
  readonly tape: TapeReader;
  /** The machine. */
  readonly kernel: Kernel;
  readonly #factory: MachineFactory;
  readonly #feeder: Feeder;
  #marks: Mark[] = [];
  /** Step on arrival at which the kernel stands; -1: elsewhere. */
  #arrived: number;
  #moment: Moment = { step: 0, ordinal: 0 };
  /** The cursor stands on an event that a search or seek named. */
  #onEvent = false;
  /** May start from the keyframes on the tape. */
  readonly #jumps: boolean;
  readonly #known: number | undefined;
  /** Steps executed so far: what seeking cost. */
  executedSteps = 0;

  /**
   * Loads the machine of `tape`.
   * @throws ConfigError when it does not match what was recorded, TapeError
   * when the tape lost its manifest or first keyframe
   */
  static open(
    tape: TapeReader,
    factory: MachineFactory,
    options: { tapeKeyframes?: boolean } = {},
  ): Timeline {
    const loaded = loadForTape(tape, factory);
    if ("incompatible" in loaded) {
      throw new ConfigError(`replay tape: ${loaded.incompatible}`);
    }
    const { kernel, inputs } = loaded;
    return new Timeline(tape, factory, kernel, { ...options, inputs });
  }

  /** `kernel` stands where the tape starts, or `inputs` inputs behind that. */
  constructor(
    tape: TapeReader,
    factory: MachineFactory,
    kernel: Kernel,
    options: TimelineOptions = {},
  ) {
    this.tape = tape;
    this.kernel = kernel;
    this.#known = options.end;
    this.#factory = factory;
    this.#feeder = new Feeder(kernel, tape, options.inputs);
    this.#jumps = options.tapeKeyframes !== false &&
      kernel.plugins.every((plugin) =>
        plugin.role !== "observer" || plugin.memoryless === true
      );
    this.#arrived = kernel.moment.step;
    this.#moment = { step: this.#arrived, ordinal: 0 };
    this.#mark();
    const observers = kernel.captureObservers();
    for (const { keyframe, inputs } of options.marks ?? []) {
      if (keyframe.step <= this.#arrived) continue;
      this.#marks.push({ keyframe: { ...keyframe, observers }, inputs });
    }
    this.#marks.sort((a, b) => a.keyframe.step - b.keyframe.step);
  }

  /** Where the cursor stands; the kernel has the state before that step. */
  get moment(): Moment {
    return this.#moment;
  }

  /** The complete state under the cursor, pages in canonical form. */
  state(): Keyframe {
    return this.kernel.capture();
  }

  /** The first step that can be reached: the run's, unless it was lost. */
  get start(): number {
    return this.#marks[0].keyframe.step;
  }

  /** The last step of the run. */
  get end(): number {
    return Math.max(this.tape.end.step, this.#known ?? 0);
  }

  /** Goes to `moment`, or to the end if it lies beyond. */
  seek(moment: Moment): Moment {
    if (moment.step > this.end) return this.seekEnd();
    this.#arrive(Math.max(moment.step, this.start));
    this.#moment = { step: this.#arrived, ordinal: moment.ordinal };
    this.#onEvent = moment.ordinal > 0;
    return this.#moment;
  }

  /** Goes to where the run ended, after its last event. */
  seekEnd(): Moment {
    let events = 0;
    this.#listen(this.end, Infinity, new Listener(() => events++));
    this.#moment = { step: this.end, ordinal: events };
    this.#onEvent = false;
    return this.#moment;
  }

  /** Goes `count` steps forward. */
  step(count = 1): Moment {
    return this.seek({ step: this.#moment.step + count, ordinal: 0 });
  }

  /**
   * Goes `count` steps back. From among a step's events the first step back
   * leads before all of them.
   */
  back(count = 1): Moment {
    const whole = this.#moment.ordinal > 0 ? count - 1 : count;
    const step = Math.max(this.#moment.step - whole, this.start);
    return this.seek({ step, ordinal: 0 });
  }

  /** Every event with from ≤ step < to in `full` detail, notes too. */
  events(from: number, to: number): EventAt[] {
    const found: EventAt[] = [];
    this.listen(from, to, new Listener((one) => void found.push(one)));
    return found;
  }

  /**
   * Re-executes from ≤ step < to with `sink` listening, then goes back to
   * where the cursor was. A `to` beyond the end includes the run's end.
   */
  listen(from: number, to: number, sink: FactSink): void {
    const before = this.#moment;
    const onEvent = this.#onEvent;
    this.#listen(from, to, sink);
    this.seek(before);
    this.#moment = before;
    this.#onEvent = onEvent;
  }

  /**
   * Goes forward to the next match after the cursor; undefined, and the
   * cursor stays, if there is none.
   */
  runTo(query: Query): Moment | undefined {
    if (typeof query === "function") return this.#runToState(query);
    const wanted = this.#matcher(query);
    const { step, ordinal } = this.#moment;
    const least = this.#onEvent ? ordinal + 1 : ordinal;
    const here = this.#match(step, query).find((m) => m.ordinal >= least);
    if (here !== undefined) return this.#stand(here);
    let [first] = this.#stored(query, step + 1, Infinity) ?? [-1];
    if (first === -1) {
      const scout = new Listener((one) => {
        if (first >= 0 || !wanted(one)) return;
        first = one.step;
        this.kernel.pause();
      }, (event) => this.#isOf(event, query));
      this.#listen(step + 1, Infinity, scout);
    }
    if (!(first >= 0)) return this.#return(this.#moment);
    return this.#stand(this.#match(first, query)[0]);
  }

  /** Goes back to the last match before the cursor; undefined if none. */
  reverseTo(query: Query): Moment | undefined {
    if (typeof query === "function") return this.#reverseToState(query);
    const wanted = this.#matcher(query);
    const { step, ordinal } = this.#moment;
    const here = this.#match(step, query).filter((m) => m.ordinal < ordinal);
    if (here.length > 0) return this.#stand(here[here.length - 1]);
    for (let to = step; to > this.start;) {
      const from = this.#baseStep(to - 1);
      let last = -1;
      const stored = this.#stored(query, from, to);
      if (stored !== undefined) {
        for (const step of stored) last = step;
      } else {
        const scout = new Listener(
          (one) => {
            if (wanted(one)) last = one.step;
          },
          (event) => this.#isOf(event, query),
        );
        this.#listen(from, to, scout);
      }
      if (last >= 0) {
        const found = this.#match(last, query);
        return this.#stand(found[found.length - 1]);
      }
      to = from;
    }
    return this.#return({ step, ordinal });
  }

  #runToState(holds: (kernel: Kernel) => boolean): Moment | undefined {
    const before = this.#moment;
    for (let step = before.step + 1; step <= this.end; step++) {
      this.#arrive(step);
      if (holds(this.kernel)) return this.#stand({ step, ordinal: 0 });
    }
    return this.#return(before);
  }

  #reverseToState(holds: (kernel: Kernel) => boolean): Moment | undefined {
    const before = this.#moment;
    const top = before.ordinal > 0 ? before.step + 1 : before.step;
    for (let to = top; to > this.start;) {
      const from = this.#baseStep(to - 1);
      let last = -1;
      for (let step = from; step < to; step++) {
        this.#arrive(step);
        if (holds(this.kernel)) last = step;
      }
      if (last >= 0) return this.#stand({ step: last, ordinal: 0 });
      to = from;
    }
    return this.#return(before);
  }

  #stand(moment: Moment): Moment {
    this.seek(moment);
    this.#onEvent = true;
    return moment;
  }

  #return(moment: Moment): undefined {
    this.seek(moment);
    this.#moment = moment;
    return undefined;
  }

  #isOf(event: EventToken, query: EventQuery): boolean {
    return typeof query.event === "string"
      ? event.name === query.event
      : event === query.event;
  }

  #matcher(query: EventQuery): (one: EventAt) => boolean {
    const name = typeof query.event === "string"
      ? query.event
      : query.event.name;
    if (!this.kernel.events.has(name)) {
      throw new ConfigError(
        `look for event ${name}: no plugin of this machine declares it`,
      );
    }
    const where = query.where;
    return (one) =>
      this.#isOf(one.event, query) &&
      (where === undefined || where(one.payload as never, one));
  }

  /** Steps with a match in from ≤ step < to, where the tape's lanes tell. */
  #stored(
    query: EventQuery,
    from: number,
    to: number,
  ): Iterable<number> | undefined {
    const { tape, kernel: { events } } = this;
    const { where } = query;
    const event = typeof query.event === "string"
      ? events.get(query.event)
      : query.event;
    // Ordinals of stored events are not those of moments.
    if (event === undefined || (where?.length ?? 0) > 1) return undefined;
    if (!holdsAll(tape, event)) return undefined;
    return storedSteps(
      tape,
      events,
      event,
      (payload) =>
        where === undefined || where(payload as never, undefined as never),
      from,
      to,
    );
  }

  /** The matches among the events of `step`, with their ordinals. */
  #match(step: number, query: EventQuery): Moment[] {
    const wanted = this.#matcher(query);
    const found: Moment[] = [];
    const listener = new Listener((one) => {
      if (wanted(one)) found.push({ step, ordinal: one.ordinal });
    });
    this.#listen(step, step + 1, listener);
    return found;
  }

  /** Where a run towards `step` would start. */
  #baseStep(step: number): number {
    return this.#base(step).step;
  }

  #base(step: number): { step: number; load: () => Mark } {
    let mark = this.#marks[0];
    for (const one of this.#marks) {
      if (one.keyframe.step <= step) mark = one;
    }
    if (this.#jumps) {
      const places = this.tape.keyframes;
      for (let i = places.length - 1; i >= 0; i--) {
        const place = places[i];
        if (place.step > step) continue;
        if (place.step <= mark.keyframe.step) break;
        const load = (): Mark => {
          const stored = this.tape.keyframe(place);
          if (stored === undefined) return mark;
          return { keyframe: stored.keyframe, inputs: stored.inputs };
        };
        return { step: place.step, load };
      }
    }
    return { step: mark.keyframe.step, load: () => mark };
  }

  /** Makes the kernel stand on arrival at `step` ≤ end. */
  #arrive(step: number): void {
    const base = this.#base(step);
    const near = this.#arrived >= 0 && this.#arrived <= step &&
      this.#arrived >= base.step;
    if (!near) this.#restore(base.load());
    let marks = 0;
    while (this.#arrived < step) {
      const left = step - this.#arrived;
      const halfway = left > 2 * NEAREST_MARK_STEPS &&
        marks < MAX_MARKS_PER_SEEK;
      this.#run(halfway ? this.#arrived + Math.ceil(left / 2) : step);
      if (!halfway) continue;
      this.#mark();
      marks++;
    }
  }

  #run(step: number): void {
    const from = this.kernel.moment.step;
    this.#arrived = -1;
    const info = this.#feeder.run({ untilStep: step });
    this.executedSteps += info.step - from;
    if (info.kind !== "step") {
      throw new TapeError(
        `seek to step ${step}: the machine is ${info.kind} at step ` +
          `${info.step}, which the tape does not show; run \`vmtape verify\``,
      );
    }
    this.#arrived = step;
  }

  #restore(mark: Mark): void {
    this.#arrived = -1;
    this.kernel.restore(mark.keyframe);
    this.#feeder.next = mark.inputs;
    this.#arrived = mark.keyframe.step;
  }

  #mark(): void {
    const step = this.#arrived;
    if (this.#marks.some(({ keyframe }) => keyframe.step === step)) return;
    this.#marks.push({
      keyframe: this.kernel.capture(),
      inputs: this.#feeder.next,
    });
    this.#marks.sort((a, b) => a.keyframe.step - b.keyframe.step);
    if (this.#marks.length <= MAX_MARKS) return;
    // Drop the one whose loss widens the smallest gap; never the first.
    let drop = 1, gap = Infinity;
    for (let i = 1; i < this.#marks.length - 1; i++) {
      const width = this.#marks[i + 1].keyframe.step -
        this.#marks[i - 1].keyframe.step;
      if (width < gap) [drop, gap] = [i, width];
    }
    this.#marks.splice(drop, 1);
  }

  /** As `listen`, but stays where it ends. */
  #listen(from: number, to: number, sink: FactSink): void {
    const first = Math.max(from, this.start);
    if (first > this.end) return;
    this.#arrive(first);
    const { kernel } = this;
    this.#arrived = -1;
    kernel.sink = sink;
    try {
      if (to <= this.end) {
        const info = this.#feeder.run({ untilStep: to });
        if (info.kind === "step") this.#arrived = to;
      } else {
        runToEnd(this.#feeder);
      }
    } finally {
      kernel.sink = undefined;
      this.executedSteps += kernel.moment.step - first;
    }
  }

  /**
   * Another future: a new tape with the parent's inputs up to `moment`, then
   * `edits` as inputs. The parent stays as it is.
   */
  fork(
    moment: Moment,
    edits: readonly ForkEdit[],
    out: OutFactory,
    options: ForkOptions = {},
  ): Fork {
    const step = Math.min(Math.max(moment.step, this.start), this.end);
    const at = { step, ordinal: moment.ordinal };
    return forkTape(this.tape, this.#factory, at, edits, out, options);
  }
}
