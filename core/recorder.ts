/**
 * Records a run: the kernel's FactSink that writes a tape.
 *
 * ```ts
 * const kernel = Kernel.load(config);
 * const writer = tapeWriter(sink);                       // any ByteSink
 * const recorder = Recorder.start(kernel, writer, { detail: "boundaries" });
 * kernel.inject(SerialInput, { byte: 0x6c });            // write-ahead
 * let info = kernel.run({ budgetSteps: 1e7 });           // and again …
 * recorder.finish();                                     // END: a clean tape
 * ```
 *
 * The host calls `kernel.run` as without recording. When the store fails (disk
 * full) the error comes out of `run`, `inject` or `finish`; nothing already
 * committed is lost, the tape is torn, the machine must not go on.
 *
 * Invariants: an input has left the process before the machine consumes it
 * (law 5); every chained frame is a function of the run, never of the engine,
 * observers, host or clock (law 6); memory is bounded.
 */
import { ByteWriter, fromHex, toHex } from "./bytes.ts";
import type { EventToken } from "./event.ts";
import type { Json } from "./fields.ts";
import type { DirtyPages, Kernel } from "./kernel.ts";
import { PageTable } from "./keyframe.ts";
import type { At } from "./moment.ts";
import type { FactSink } from "./sink.ts";
import { LaneEncoder, SchemaTable } from "./tape/encoder.ts";
import { FactsDigest } from "./tape/facts_digest.ts";
import { FrameType, TAPE_ID_BYTES } from "./tape/frames.ts";
import {
  type Cadence,
  DEFAULT_CADENCE,
  type Detail,
  encodeManifest,
  type Parent,
  tapeId,
  type TapeManifest,
} from "./tape/manifest.ts";
import { PageStore } from "./tape/pages.ts";
import {
  encodeCommit,
  encodeDigest,
  encodeInput,
  encodeKeyframe,
  encodeRest,
} from "./tape/payloads.ts";
import type { ByteSink } from "./tape/store.ts";
import { type FrameOut, TapeWriter } from "./tape/writer.ts";

/** A last keyframe is written when no more pages were dirtied since. */
const FINAL_KEYFRAME_PAGES = 256;

/** How to record. */
export interface RecordOptions {
  /** Which facts are stored. Default: `boundaries`. */
  readonly detail?: Detail;
  /** Where digests and keyframes fall; default for real machines. */
  readonly cadence?: Cadence;
  /** Set on a fork. */
  readonly parent?: Parent;
  /** What the host wants to find again (scenario text, image names). */
  readonly host?: Json;
  /** Gets observers' notes; they never go on the tape. */
  readonly notes?: NoteSink;
}

/** Who keeps observers' notes: a sidecar, a terminal. */
export interface NoteSink {
  /** Takes one note of `plugin`, made during `step`. */
  note(step: number, event: EventToken, payload: unknown, plugin: string): void;
}

/** Makes the writer once the manifest, hence the tape's id, is known. */
export type OutFactory = (id: Uint8Array) => FrameOut;

/** Writes the tape to `sink`. */
export function tapeWriter(sink: ByteSink): OutFactory {
  return (id) => new TapeWriter(sink, id);
}

/** The manifest that a recording of `kernel` would carry. */
export function manifestOf(
  kernel: Kernel,
  options: RecordOptions,
): TapeManifest {
  return {
    format: "vmtape",
    detail: options.detail ?? "boundaries",
    cadence: options.cadence ?? DEFAULT_CADENCE,
    machine: kernel.manifest() as unknown as Json,
    parent: options.parent,
    host: options.host,
  };
}

/** Is a fact of this event stored under `detail`? */
export function storedUnder(detail: Detail, event: EventToken): boolean {
  if (detail === "inputs") return false;
  return detail === "full" || event.detail === "boundaries";
}

/** The sink of a kernel under recording. */
export class Recorder implements FactSink {
  /** The machine. */
  readonly kernel: Kernel;
  /** What the tape states about the run. */
  readonly manifest: TapeManifest;
  /** SHA-256 of the manifest; its head is the tape's id. */
  readonly id: Uint8Array;
  readonly #out: FrameOut;
  readonly #schemas: SchemaTable;
  readonly #encoder: LaneEncoder;
  readonly #pages: PageStore;
  readonly #notes: NoteSink | undefined;
  readonly #scratch = new ByteWriter(256);
  /** Steps between boundaries: the kernel calls `boundary` at multiples. */
  readonly boundarySteps: number;
  readonly #sinceDigest: DirtyPages;
  readonly #sinceKeyframe: DirtyPages;
  #digestStep: number;
  #keyframeStep: number;
  /** Of the last keyframe; zeros before the first. */
  #table: PageTable;
  readonly #ids: Uint32Array;
  #keyframes = 0;
  /** Pages in the last whole page table, and amendments since. */
  #fullCount = 0;
  #amended = 0;
  #inputs = 0;
  #ended = false;

  /**
   * Installs itself as the sink of `kernel`, which must stand where it was
   * loaded or restored, and writes manifest and first keyframe.
   */
  static start(
    kernel: Kernel,
    out: OutFactory,
    options: RecordOptions = {},
  ): Recorder {
    return new Recorder(kernel, out, options);
  }

  private constructor(
    kernel: Kernel,
    out: OutFactory,
    options: RecordOptions,
  ) {
    this.kernel = kernel;
    this.manifest = manifestOf(kernel, options);
    const encoded = encodeManifest(this.manifest);
    this.id = tapeId(encoded);
    this.#out = out(this.id);
    this.#schemas = new SchemaTable(this.#out);
    this.#encoder = new LaneEncoder(this.#out, this.#schemas);
    this.#pages = new PageStore(this.#out);
    this.#notes = options.notes;
    if (this.manifest.detail === "full") {
      this.#encoder.digest = new FactsDigest();
    }
    this.boundarySteps = this.manifest.cadence.interval;
    const step = kernel.moment.step;
    this.#digestStep = step;
    this.#keyframeStep = step;
    this.#sinceDigest = kernel.trackDirty();
    this.#sinceKeyframe = kernel.trackDirty();
    const { pageCount } = kernel.executor.state;
    this.#table = PageTable.zero(pageCount);
    this.#ids = new Uint32Array(pageCount);
    this.#out.frame(FrameType.manifest, step, 1, encoded);
    this.#out.frame(
      FrameType.engine,
      step,
      1,
      new TextEncoder().encode(kernel.executor.name),
    );
    this.#keyframe();
    this.#digest();
    this.#commit();
    kernel.sink = this;
  }

  /** The tape's id in hexadecimal. */
  get tapeId(): string {
    return toHex(this.id.subarray(0, TAPE_ID_BYTES));
  }

  /** Inputs recorded. */
  get inputs(): number {
    return this.#inputs;
  }

  /** The chain over everything canonical so far. */
  get chainHead(): Uint8Array {
    return this.#out.chainHead;
  }

  input(at: At, event: EventToken, payload: unknown): void {
    this.#scratch.reset();
    event.encode(payload, this.#scratch);
    const { step, time } = at;
    const { waiting } = this.kernel;
    const type = this.#schemas.idOf(event);
    const ordinal = this.#inputs;
    const bytes = this.#scratch.finish();
    this.#out.frame(
      FrameType.input,
      step,
      1,
      encodeInput({ ordinal, step, time, waiting, type, payload: bytes }),
    );
    this.#out.flush();
    this.#inputs++;
    if (this.manifest.detail !== "inputs") {
      this.#scratch.reset();
      this.#scratch.u53(ordinal);
      this.#encoder.mark(step, event, this.#scratch.view(), bytes);
    }
  }

  fact(step: number, event: EventToken, payload: unknown): void {
    this.#encoder.event(step, event, payload);
  }

  hot(
    step: number,
    eventId: number,
    words: Uint32Array,
    at: number,
    n: number,
  ): void {
    this.#encoder.hot(step, eventId, words, at, n);
  }

  note(
    step: number,
    event: EventToken,
    payload: unknown,
    plugin: string,
  ): void {
    this.#notes?.note(step, event, payload, plugin);
  }

  wants(event: EventToken): boolean {
    if (event.kind === "note") return this.#notes !== undefined;
    return event.kind === "input" || storedUnder(this.manifest.detail, event);
  }

  boundary(kernel: Kernel): void {
    const step = kernel.moment.step;
    const { interval, digestStepsPerPage, keyframeStepsPerPage } =
      this.manifest.cadence;
    if (step % interval !== 0) return;
    // State pages are always written and always hashed. Asking the executor
    // ends its silent writes, so what is known already decides where it can.
    const { statePages } = kernel.executor.state;
    const due = (
      since: number,
      dirty: DirtyPages,
      perPage: number,
    ): boolean => {
      const passed = step - since;
      return passed >= interval &&
        passed >= perPage * (statePages + dirty.least) &&
        passed >= perPage * (statePages + dirty.count);
    };
    const keyframe = due(
      this.#keyframeStep,
      this.#sinceKeyframe,
      keyframeStepsPerPage,
    );
    const digest = due(
      this.#digestStep,
      this.#sinceDigest,
      digestStepsPerPage,
    );
    if (keyframe) this.#keyframe();
    if (!keyframe && !digest) return;
    this.#digest();
    this.#commit();
  }

  /**
   * Writes the last digest and commit, the index and END, and lets go of the
   * kernel. Without it (a crash) the tape is torn but usable.
   */
  finish(): void {
    if (this.#ended) return;
    const { kernel } = this;
    if (kernel.failure === undefined) {
      // To a point that a replay finds again: all due timers and queued inputs
      // delivered, the executor either not yet run here or waiting.
      let info = kernel.run({ budgetSteps: 0 });
      while (info.kind !== "stopped" && !kernel.fresh && !kernel.waiting) {
        info = kernel.run({ untilStep: info.step + 1 });
      }
    }
    this.#ended = true;
    kernel.sink = undefined;
    const failed = kernel.failure !== undefined;
    if (failed) {
      this.#encoder.flush();
    } else {
      // A small last keyframe: seeking the end is immediate, blame is exact.
      if (
        kernel.moment.step !== this.#keyframeStep &&
        this.#sinceKeyframe.count <= FINAL_KEYFRAME_PAGES
      ) this.#keyframe(true);
      this.#digest();
    }
    this.#commit();
    this.#out.end({
      ...kernel.moment,
      stopped: kernel.stopped !== undefined,
      waiting: kernel.waiting,
      failed,
      closed: true,
    });
    this.#sinceDigest.close();
    this.#sinceKeyframe.close();
  }

  /** What changed since the last keyframe, as a keyframe. */
  #keyframe(atEnd = false): void {
    const { step, time } = this.kernel.moment;
    const keyframe = this.kernel.capture();
    const changed: number[] = [];
    const visit = (index: number): void => {
      const id = this.#pages.add(keyframe.pages.page(index));
      if (id === this.#ids[index]) return;
      this.#ids[index] = id;
      changed.push(index);
    };
    keyframe.pages.differences(this.#table, visit);
    this.#pages.flush();
    this.#amended += changed.length;
    let pages = changed;
    const full = this.#keyframes++ === 0 || this.#amended > this.#fullCount;
    if (full) {
      pages = [];
      this.#ids.forEach((id, index) => id !== 0 && pages.push(index));
      this.#fullCount = pages.length;
      this.#amended = 0;
    }
    const raw = encodeKeyframe({
      step,
      time,
      inputs: this.#inputs,
      full,
      atEnd,
      pageCount: keyframe.pages.pageCount,
      rest: encodeRest(keyframe),
      pages,
      ids: pages.map((index) => this.#ids[index]),
    });
    this.#encoder.flush();
    this.#out.frame(FrameType.keyframe, step, pages.length, raw);
    this.#table = keyframe.pages;
    this.#keyframeStep = step;
    this.#sinceKeyframe.clear();
  }

  /** The state here, and the facts since the last digest. */
  #digest(): void {
    const { step, time } = this.kernel.moment;
    this.#encoder.flush();
    const digest = encodeDigest({
      step,
      time,
      inputs: this.#inputs,
      state: fromHex(this.kernel.stateDigest()),
      facts: this.#encoder.digest?.take() ?? new Uint8Array(0),
    });
    this.#out.frame(FrameType.digest, step, 1, digest);
    this.#digestStep = step;
    this.#sinceDigest.clear();
  }

  /** Vouches for everything so far. */
  #commit(): void {
    const { step } = this.kernel.moment;
    const commit = encodeCommit({
      step,
      chainHead: this.#out.chainHead,
      inputs: this.#inputs,
      facts: this.#encoder.count,
    });
    this.#out.frame(FrameType.commit, step, 1, commit);
    this.#out.flush();
  }
}
