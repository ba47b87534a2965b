/**
 * Sidecars: what observers noted and what was derived from a tape, in a file
 * of its own beside it. It has the tape's container and lanes, but belongs to
 * one tape, which its link names by id and chain head; deleting it loses
 * nothing.
 *
 * ```ts
 * const notes = new SidecarWriter(sink, { kind: "notes" });   // while recording
 * Recorder.start(kernel, out, { notes }); …
 * recorder.finish();
 * notes.finish(kernel, recorder.tapeId, toHex(recorder.chainHead));
 * raiseToFull(timeline, from, to, sink);                       // afterwards
 * const sidecar = Sidecar.open(source, tape);
 * for (const event of sidecar.events(kernel.events)) …
 * ```
 *
 * Invariants: nothing of it is in the tape's chain; a sidecar of another tape
 * is refused; within its window its facts are the `full` derivation.
 */
import { ByteReader, ByteWriter, toHex } from "./bytes.ts";
import { type EventAt, Listener } from "./collect.ts";
import { TapeError } from "./errors.ts";
import type { EventToken } from "./event.ts";
import type { Kernel } from "./kernel.ts";
import type { CellBlob } from "./keyframe.ts";
import type { NoteSink } from "./recorder.ts";
import { LaneEncoder, SchemaTable } from "./tape/encoder.ts";
import { FactsDigest } from "./tape/facts_digest.ts";
import { FrameType } from "./tape/frames.ts";
import { canonicalJson } from "./tape/manifest.ts";
import { decodeCells, encodeCells } from "./tape/payloads.ts";
import { TapeReader } from "./tape/reader.ts";
import { payloadReader, tokenOf } from "./tape/schema.ts";
import type { ByteSink, ByteSource } from "./tape/store.ts";
import { TapeWriter } from "./tape/writer.ts";
import type { Timeline } from "./timeline.ts";

/** What a sidecar is, stated first in it. */
export interface SidecarHead {
  /** notes: observers' remarks; window: the `full` derivation of a window. */
  readonly kind: "notes" | "window";
  /** Of a window: steps from ≤ step < to. */
  readonly from?: number;
  /** Step after the last. */
  readonly to?: number;
}

/** The tape that a sidecar belongs to. */
interface Link {
  readonly tape: string;
  readonly chainHead: string;
  /** SHA-256 over the facts of a window. */
  readonly facts: string;
}

const NO_ID = new Uint8Array(32);

/** Writes a sidecar. */
export class SidecarWriter implements NoteSink {
  readonly #out: TapeWriter;
  readonly #facts: LaneEncoder;
  readonly #notes: LaneEncoder;
  readonly #scratch = new ByteWriter(256);

  /** Names what differs. */
  constructor(sink: ByteSink, head: SidecarHead) {
    this.#out = new TapeWriter(sink, NO_ID, true);
    const schemas = new SchemaTable(this.#out);
    this.#facts = new LaneEncoder(this.#out, schemas);
    this.#facts.digest = new FactsDigest();
    this.#notes = new LaneEncoder(this.#out, schemas, FrameType.note);
    this.#out.frame(
      FrameType.manifest,
      head.from ?? 0,
      1,
      new TextEncoder().encode(canonicalJson(head)),
    );
  }

  /** Adds an input or fact, in stream order. */
  fact(step: number, event: EventToken, payload: unknown): void {
    this.#facts.event(step, event, payload);
  }

  /** Takes one note of `plugin`, made during `step`. */
  note(
    step: number,
    event: EventToken,
    payload: unknown,
    plugin: string,
  ): void {
    this.#scratch.reset();
    this.#scratch.text(plugin);
    event.encode(payload, this.#scratch);
    this.#notes.bytes(step, event, this.#scratch.view());
  }

  /**
   * Closes it: observers' cells as they are now, and the link to the tape.
   * Until then it belongs to nothing.
   */
  finish(kernel: Kernel, tape: string, chainHead: string): void {
    this.#facts.flush();
    this.#notes.flush();
    const { step, time } = kernel.moment;
    const cells = new ByteWriter();
    encodeCells(kernel.captureObservers(), cells);
    this.#out.frame(FrameType.cells, step, 1, cells.finish());
    const link: Link = {
      tape,
      chainHead,
      facts: toHex(this.#facts.digest?.take() ?? new Uint8Array(0)),
    };
    const raw = new TextEncoder().encode(canonicalJson(link));
    this.#out.frame(FrameType.link, step, 1, raw);
    this.#out.end({
      step,
      time,
      stopped: false,
      waiting: false,
      failed: false,
      closed: true,
    });
  }
}

/**
 * Derives every fact with from ≤ step < to, in `full` detail, and observers'
 * notes, into a sidecar; the timeline's cursor stays.
 */
export function raiseToFull(
  timeline: Timeline,
  from: number,
  to: number,
  sink: ByteSink,
): void {
  const { tape, kernel } = timeline;
  const writer = new SidecarWriter(sink, { kind: "window", from, to });
  timeline.listen(
    from,
    to,
    new Listener(({ step, event, payload, plugin }) => {
      if (plugin === undefined) writer.fact(step, event, payload);
      else writer.note(step, event, payload, plugin);
    }),
  );
  writer.finish(kernel, tape.id, tape.chainHead);
}

/** An open sidecar. */
export class Sidecar {
  readonly #reader: TapeReader;
  /** What it states about itself. */
  readonly head: SidecarHead;
  /** SHA-256 over the facts of its window, hexadecimal. */
  readonly factsDigest: string;

  /**
   * Opens the sidecar of `tape`.
   * @throws TapeError when it is damaged, was not closed, or belongs to
   * another tape
   */
  static open(source: ByteSource, tape: TapeReader): Sidecar {
    return new Sidecar(source, tape);
  }

  private constructor(source: ByteSource, tape: TapeReader) {
    const reader = TapeReader.open(source, { sidecar: true, verify: true });
    const unusable = (): TapeError =>
      new TapeError(
        `open sidecar: it is ${reader.state}, delete it and derive it again`,
      );
    if (reader.state !== "clean") throw unusable();
    const json = (type: FrameType): unknown => {
      for (const { raw } of reader.payloads(type)) {
        return JSON.parse(new TextDecoder().decode(raw));
      }
      throw unusable();
    };
    this.head = json(FrameType.manifest) as SidecarHead;
    const link = json(FrameType.link) as Link;
    if (link.tape !== tape.id || link.chainHead !== tape.chainHead) {
      throw new TapeError(
        `open sidecar: it belongs to tape ${link.tape} with chain head ` +
          `${link.chainHead}, not to tape ${tape.id}, delete it and derive ` +
          "it again",
      );
    }
    this.#reader = reader;
    this.factsDigest = link.facts;
  }

  /** Its facts with from ≤ step < to, ordinals as in moments. */
  *events(
    known: ReadonlyMap<string, EventToken> = new Map(),
    from = 0,
    to = Infinity,
  ): Generator<EventAt> {
    let step = -1, ordinal = 0;
    for (const event of this.#reader.events(from, to)) {
      const { token, read } = this.#readerOf(event.type, known);
      if (event.step !== step) [step, ordinal] = [event.step, 0];
      const payload = read(event);
      yield { step: event.step, ordinal: ordinal++, event: token, payload };
    }
  }

  /** Its notes with from ≤ step < to; ordinal -1. */
  *notes(
    known: ReadonlyMap<string, EventToken> = new Map(),
    from = 0,
    to = Infinity,
  ): Generator<EventAt> {
    for (const event of this.#reader.events(from, to, FrameType.note)) {
      const { token, read } = this.#readerOf(event.type, known);
      const bytes = new ByteReader(event.bytes ?? new Uint8Array(0));
      const plugin = bytes.text();
      const payload = read({ bytes: event.bytes?.subarray(bytes.at) });
      yield { step: event.step, ordinal: -1, event: token, payload, plugin };
    }
  }

  /** Observers' cells as they were when it was closed. */
  cells(): readonly CellBlob[] {
    for (const { raw } of this.#reader.payloads(FrameType.cells)) {
      return decodeCells(new ByteReader(raw));
    }
    return [];
  }

  #readerOf(type: number, known: ReadonlyMap<string, EventToken>) {
    const schema = this.#reader.schemas[type];
    const token = known.get(schema.name) ?? tokenOf(schema);
    return { token, read: payloadReader(schema, token) };
  }
}
