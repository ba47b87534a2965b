/**
 * The payloads of the frames that have a fixed layout: INPUT, KEYFRAME,
 * DIGEST, COMMIT, END. (MANIFEST and SCHEMA are JSON: manifest.ts, schema.ts.
 * LANE: lanes.ts. PAGE: pages.ts. INDEX: index.ts.)
 * Invariant: one value has one encoding; decoding throws on bad bytes.
 */
import { ByteReader, ByteWriter } from "../bytes.ts";
import type { CellBlob, Keyframe } from "../keyframe.ts";

const HASH_BYTES = 32;

/** One input as it stands on a tape. */
export interface InputRecord {
  /** Number of the input on its tape, from 0. */
  readonly ordinal: number;
  /** The step. */
  readonly step: number;
  /** Virtual time in ns (steps plus idle). */
  readonly time: number;
  /** Consumed while the machine waited there, not on arrival. */
  readonly waiting: boolean;
  /** Number of the event's schema on this tape. */
  readonly type: number;
  /** The event's codec bytes. */
  readonly payload: Uint8Array;
}

/** INPUT payload; the step is the frame's position. */
export function encodeInput(input: InputRecord): Uint8Array {
  const out = new ByteWriter(32 + input.payload.length);
  out.u53(input.ordinal);
  out.u53(input.time);
  out.u8(input.waiting ? 1 : 0);
  out.count(input.type);
  out.bytes(input.payload);
  return out.finish();
}

/** Inverse of {@link encodeInput}. */
export function decodeInput(raw: Uint8Array, step: number): InputRecord {
  const from = new ByteReader(raw);
  return {
    ordinal: from.u53(),
    step,
    time: from.u53(),
    waiting: from.u8() === 1,
    type: from.count(),
    payload: from.bytes(),
  };
}

/** A state digest and, on `full` tapes, the digest of the facts since. */
export interface DigestRecord {
  /** The step. */
  readonly step: number;
  /** Virtual time, ns. */
  readonly time: number;
  /** Inputs consumed before it. */
  readonly inputs: number;
  /** SHA-256 of the state. */
  readonly state: Uint8Array;
  /** SHA-256 over all facts since the last DIGEST; empty unless `full`. */
  readonly facts: Uint8Array;
}

/** DIGEST payload; the step is the frame's position. */
export function encodeDigest(digest: DigestRecord): Uint8Array {
  const out = new ByteWriter(96);
  out.u53(digest.time);
  out.u53(digest.inputs);
  out.bytes(digest.state);
  out.bytes(digest.facts);
  return out.finish();
}

/** Inverse of {@link encodeDigest}. */
export function decodeDigest(raw: Uint8Array, step: number): DigestRecord {
  const from = new ByteReader(raw);
  return {
    step,
    time: from.u53(),
    inputs: from.u53(),
    state: from.bytes(),
    facts: from.bytes(),
  };
}

/** A point up to which everything before it is vouched for. */
export interface CommitRecord {
  /** The step. */
  readonly step: number;
  /** The chain over every canonical frame before this one. */
  readonly chainHead: Uint8Array;
  /** Inputs before it. */
  readonly inputs: number;
  /** Facts stored before it. */
  readonly facts: number;
}

/** COMMIT payload; the step is the frame's position. */
export function encodeCommit(commit: CommitRecord): Uint8Array {
  const out = new ByteWriter(64);
  out.raw(commit.chainHead);
  out.u53(commit.inputs);
  out.u53(commit.facts);
  return out.finish();
}

/** Inverse of {@link encodeCommit}. */
export function decodeCommit(raw: Uint8Array, step: number): CommitRecord {
  const from = new ByteReader(raw);
  return {
    step,
    chainHead: from.raw(HASH_BYTES),
    inputs: from.u53(),
    facts: from.u53(),
  };
}

/** Where a run ended. */
export interface RunEnd {
  /** The last step of the run. */
  readonly step: number;
  /** Virtual time there, ns. */
  readonly time: number;
  /** The machine ended by itself; otherwise the host stopped it. */
  readonly stopped: boolean;
  /** It waited for an input. */
  readonly waiting: boolean;
  /** It broke in mid-step (what isn't modelled); there is no last digest. */
  readonly failed: boolean;
  /** The recorder closed the tape: its last frames are those of the end. */
  readonly closed: boolean;
}

/** The END payload. */
export interface EndRecord extends RunEnd {
  /** Offset of the last INDEX frame. */
  readonly indexOffset: number;
  readonly chainHead: Uint8Array;
}

/** Encodes an END payload. */
export function encodeEnd(end: EndRecord): Uint8Array {
  const out = new ByteWriter(64);
  out.u53(end.step);
  out.u53(end.time);
  out.u8(end.stopped ? 1 : 0);
  out.u8(end.waiting ? 1 : 0);
  out.u8(end.failed ? 1 : 0);
  out.u8(end.closed ? 1 : 0);
  out.u53(end.indexOffset);
  out.raw(end.chainHead);
  return out.finish();
}

/** Inverse of {@link encodeEnd}. */
export function decodeEnd(raw: Uint8Array): EndRecord {
  const from = new ByteReader(raw);
  return {
    step: from.u53(),
    time: from.u53(),
    stopped: from.u8() === 1,
    waiting: from.u8() === 1,
    failed: from.u8() === 1,
    closed: from.u8() === 1,
    indexOffset: from.u53(),
    chainHead: from.raw(HASH_BYTES),
  };
}

/** A KEYFRAME without its pages' contents. */
export interface KeyframeRecord {
  /** The step. */
  readonly step: number;
  /** Virtual time, ns. */
  readonly time: number;
  /** Inputs consumed before it. */
  readonly inputs: number;
  /** The table is whole; otherwise it amends the previous keyframe's. */
  readonly full: boolean;
  /** Taken where the run ended, not on arrival at its step. */
  readonly atEnd: boolean;
  /** Pages in the whole state. */
  readonly pageCount: number;
  /** Everything outside pages: kernel state and participants' cells. */
  readonly rest: Uint8Array;
  /** Page indices, ascending. */
  readonly pages: readonly number[];
  /** For each: number of the stored page, 0 for a page of zeros. */
  readonly ids: readonly number[];
}

/** KEYFRAME payload; the step is the frame's position. */
export function encodeKeyframe(keyframe: KeyframeRecord): Uint8Array {
  const { pages, ids } = keyframe;
  const out = new ByteWriter(64 + keyframe.rest.length + 6 * pages.length);
  out.u8((keyframe.full ? 1 : 0) | (keyframe.atEnd ? 2 : 0));
  out.u53(keyframe.time);
  out.u53(keyframe.inputs);
  out.u53(keyframe.pageCount);
  out.bytes(keyframe.rest);
  out.count(pages.length);
  let page = 0;
  for (let i = 0; i < pages.length; i++) {
    out.count(pages[i] - page);
    out.count(ids[i]);
    page = pages[i];
  }
  return out.finish();
}

/** Inverse of {@link encodeKeyframe}. */
export function decodeKeyframe(raw: Uint8Array, step: number): KeyframeRecord {
  const from = new ByteReader(raw);
  const flags = from.u8();
  const full = (flags & 1) !== 0;
  const atEnd = (flags & 2) !== 0;
  const time = from.u53();
  const inputs = from.u53();
  const pageCount = from.u53();
  const rest = from.bytes();
  const count = from.count();
  const pages: number[] = [], ids: number[] = [];
  let page = 0;
  for (let i = 0; i < count; i++) {
    page += from.count();
    pages.push(page);
    ids.push(from.count());
  }
  return { step, time, inputs, full, atEnd, pageCount, rest, pages, ids };
}

/** A keyframe's state outside pages: the kernel's and participants' cells. */
export function encodeRest(keyframe: Keyframe): Uint8Array {
  const out = new ByteWriter(1024);
  out.bytes(keyframe.kernel);
  encodeCells(keyframe.cells, out);
  return out.finish();
}

/** Inverse of {@link encodeRest}. */
export function decodeRest(
  rest: Uint8Array,
): { kernel: Uint8Array; cells: CellBlob[] } {
  const from = new ByteReader(rest);
  return { kernel: from.bytes(), cells: decodeCells(from) };
}

/** Cells of plugins, in order. */
export function encodeCells(
  cells: readonly CellBlob[],
  out: ByteWriter,
): void {
  out.count(cells.length);
  for (const cell of cells) {
    out.text(cell.plugin);
    out.text(cell.version);
    out.text(cell.signature);
    out.bytes(cell.bytes);
  }
}

/** Inverse of {@link encodeCells}. */
export function decodeCells(from: ByteReader): CellBlob[] {
  const cells: CellBlob[] = [];
  for (let n = from.count(); n > 0; n--) {
    cells.push({
      plugin: from.text(),
      version: from.text(),
      signature: from.text(),
      bytes: from.bytes(),
    });
  }
  return cells;
}
