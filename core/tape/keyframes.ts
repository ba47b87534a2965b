/**
 * Reads keyframes back: joins partial page tables to whole ones and finds the
 * pages. Invariant: a keyframe is whole or not given at all; what damage took
 * is never filled with anything else.
 */
import { TapeError } from "../errors.ts";
import { type Keyframe, Page, PageTable, ZERO_PAGE } from "../keyframe.ts";
import { FrameFlag, type FrameHeader, FrameType } from "./frames.ts";
import { pageOf } from "./pages.ts";
import { decodeKeyframe, decodeRest, type KeyframeRecord } from "./payloads.ts";

/** A keyframe that can be restored: everything it needs is on the tape. */
export interface KeyframePlace {
  /** The step. */
  readonly step: number;
  /** Index of its first frame among the tape's frames. */
  readonly frame: number;
}

/** A keyframe read from a tape. */
export interface StoredKeyframe {
  /** The complete state. */
  readonly keyframe: Keyframe;
  /** Inputs consumed before it. */
  readonly inputs: number;
}

/** PAGE frames kept unpacked. */
const HELD_FRAMES = 16;

/** The keyframes of one tape. */
export class KeyframeReader {
  readonly #frames: readonly FrameHeader[];
  readonly #tape: { payloadAt(index: number): Uint8Array | undefined };
  /** All keyframes, in file order. */
  readonly #places: KeyframePlace[] = [];
  /** Indices of PAGE frames, ascending by first page. */
  readonly #pages: number[] = [];
  readonly #loaded = new Map<number, WeakRef<Page>>();
  #held: { frame: number; raw: Uint8Array }[] = [];
  /** Keyframes taken on arrival at their steps. */
  readonly arrivals: readonly KeyframePlace[];
  /** The one taken where the run ended, after its last event. */
  readonly atEnd: KeyframePlace | undefined;

  /** `tape` reads whole payloads by the index of their first frame. */
  constructor(
    frames: readonly FrameHeader[],
    tape: { payloadAt(index: number): Uint8Array | undefined },
  ) {
    this.#frames = frames;
    this.#tape = tape;
    frames.forEach(({ type, position, flags }, frame) => {
      if (type === FrameType.page) this.#pages.push(frame);
      if (type !== FrameType.keyframe) return;
      if ((flags & FrameFlag.continued) !== 0) return;
      this.#places.push({ step: position, frame });
    });
    const last = this.#places.at(-1);
    const ended = last !== undefined && this.record(last)?.atEnd === true;
    this.atEnd = ended ? last : undefined;
    this.arrivals = ended ? this.#places.slice(0, -1) : this.#places;
  }

  /** A keyframe's own record, with its maybe partial page table. */
  record(place: KeyframePlace): KeyframeRecord | undefined {
    const raw = this.#tape.payloadAt(place.frame);
    return raw && decodeKeyframe(raw, place.step);
  }

  /** The ids of a keyframe's pages, or undefined when damage took some. */
  #table(
    place: KeyframePlace,
  ): { record: KeyframeRecord; ids: Map<number, number> } | undefined {
    const at = this.#places.findIndex((k) => k.frame === place.frame);
    const chain: KeyframeRecord[] = [];
    for (let i = at; i >= 0; i--) {
      const record = this.record(this.#places[i]);
      if (record === undefined) return undefined;
      chain.push(record);
      if (record.full) break;
    }
    if (chain.at(-1)?.full !== true) return undefined;
    const record = chain[0];
    if (this.#keyframeMissing(place, chain[chain.length - 1])) return undefined;
    const ids = new Map<number, number>();
    for (const { pages, ids: own } of chain.reverse()) {
      pages.forEach((page, i) => ids.set(page, own[i]));
    }
    for (const id of ids.values()) {
      if (id !== 0 && this.#pageFrame(id) < 0) return undefined;
    }
    return { record, ids };
  }

  /**
   * The complete state at `place`, or undefined when damage took something
   * that it needs: use an earlier one. Pages already loaded are shared.
   */
  keyframe(place: KeyframePlace): StoredKeyframe | undefined {
    const found = this.#table(place);
    if (found === undefined) return undefined;
    const { record, ids } = found;
    const changes: [number, Page][] = [];
    try {
      for (const [index, id] of ids) {
        if (id !== 0) changes.push([index, this.#load(id)]);
      }
    } catch (error) {
      if (error instanceof TapeError) return undefined;
      throw error;
    }
    const { kernel, cells } = decodeRest(record.rest);
    return {
      inputs: record.inputs,
      keyframe: {
        step: record.step,
        time: record.time,
        pages: PageTable.zero(record.pageCount).with(changes),
        kernel,
        cells,
        observers: [],
      },
    };
  }

  #load(id: number): Page {
    let page = this.#loaded.get(id)?.deref();
    if (page === undefined) {
      page = new Page(this.page(id).slice());
      this.#loaded.set(id, new WeakRef(page));
    }
    return page;
  }

  /** Did damage take a keyframe between `base` and `place`? */
  #keyframeMissing(place: KeyframePlace, base: KeyframeRecord): boolean {
    const frames = this.#frames;
    const from = this.#places.find((k) => k.step === base.step);
    if (from === undefined) return true;
    return frames[place.frame].ordinal - frames[from.frame].ordinal !==
      place.frame - from.frame;
  }

  /** Index of the PAGE frame that holds page `id`, or -1. */
  #pageFrame(id: number): number {
    let low = 0, high = this.#pages.length - 1;
    while (low <= high) {
      const middle = (low + high) >> 1;
      const { position, count } = this.#frames[this.#pages[middle]];
      if (id < position) high = middle - 1;
      else if (id >= position + count) low = middle + 1;
      else return this.#pages[middle];
    }
    return -1;
  }

  /** The contents of stored page `id` (a view); throws TapeError if lost. */
  page(id: number): Uint8Array {
    if (id === 0) return ZERO_PAGE.bytes;
    const frame = this.#pageFrame(id);
    if (frame < 0) {
      throw new TapeError(`read page ${id}: it is not on the tape`);
    }
    const header = this.#frames[frame];
    let held = this.#held.find((one) => one.frame === frame);
    if (held === undefined) {
      const raw = this.#tape.payloadAt(frame);
      if (raw === undefined) {
        throw new TapeError(
          `read page ${id} at byte ${header.offset}: it is damaged, run ` +
            "`vmtape recover` for a tape without it",
        );
      }
      held = { frame, raw };
      this.#held = [held, ...this.#held.slice(0, HELD_FRAMES - 1)];
    }
    return pageOf(held.raw, header.count, id - header.position);
  }
}
