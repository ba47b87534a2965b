/**
 * Finds a tape's frames: through the seek index when the tape was closed,
 * else by walking and checking every byte. Invariant (law 7): a walk reports
 * every byte that is not part of an intact frame, with its place, and tells
 * a torn tail (a run that was killed) from damage inside.
 */
import { messageOf } from "../errors.ts";
import {
  decodeHeader,
  decodePayload,
  decodePreamble,
  frameBytes,
  FrameFlag,
  type FrameHeader,
  FrameType,
  frameTypeName,
  HEADER_BYTES,
  isIntact,
  type Preamble,
  PREAMBLE_BYTES,
  SYNC,
} from "./frames.ts";
import { decodeIndex } from "./index.ts";
import { decodeEnd, type EndRecord } from "./payloads.ts";
import type { ByteSource } from "./store.ts";

/** One stretch of bytes that is not as it was written. */
export interface Damage {
  /** First byte. */
  readonly offset: number;
  /** Bytes. */
  readonly length: number;
  /** What differs, in words. */
  readonly what: string;
  /** A tail cut short by a crash, not damage to what was complete. */
  readonly torn: boolean;
}

/** The frames of a tape and the state they are in. */
export interface Scan {
  readonly preamble: Preamble | undefined;
  readonly frames: readonly FrameHeader[];
  readonly damage: readonly Damage[];
  readonly end: EndRecord | undefined;
  /** True: every byte was checked. False: the index was believed. */
  readonly verified: boolean;
  /** Set when the file is no tape, or of a newer format. */
  readonly refusal?: string;
}

const KNOWN_TYPES: ReadonlySet<number> = new Set(Object.values(FrameType));
const RESYNC_CHUNK = 1 << 20;

/** The bytes of a frame after its header. */
export function readBody(
  source: ByteSource,
  header: FrameHeader,
): Uint8Array {
  return source.read(
    header.offset + HEADER_BYTES,
    frameBytes(header.storedLength) - HEADER_BYTES,
  );
}

/** The frames of `source`, by the index if it has one and `verify` is not set. */
export function scanTape(source: ByteSource, verify: boolean): Scan {
  const head = decodePreamble(source.read(0, PREAMBLE_BYTES));
  if ("error" in head && head.foreign) {
    return {
      preamble: undefined,
      frames: [],
      damage: [],
      end: undefined,
      verified: false,
      refusal: head.error,
    };
  }
  if (!verify && !("error" in head)) {
    const fast = scanByIndex(source, head);
    if (fast !== undefined) return fast;
  }
  const damage: Damage[] = [];
  let preamble: Preamble | undefined;
  if ("error" in head) {
    damage.push({
      offset: 0,
      length: Math.min(source.size, PREAMBLE_BYTES),
      what: head.error,
      torn: source.size < PREAMBLE_BYTES,
    });
  } else {
    preamble = head;
  }
  return walk(source, preamble, damage);
}

function walk(
  source: ByteSource,
  preamble: Preamble | undefined,
  damage: Damage[],
): Scan {
  const frames: FrameHeader[] = [];
  const size = source.size;
  let end: EndRecord | undefined;
  let refusal: string | undefined;
  let offset = PREAMBLE_BYTES;
  let expected = 0;
  let gap = false;
  while (offset < size) {
    const header = decodeHeader(source.read(offset, HEADER_BYTES), offset);
    const whole = header === undefined ? 0 : frameBytes(header.storedLength);
    if (header === undefined || offset + whole > size) {
      const next = resync(source, offset + 8);
      const torn = next === size &&
        (header !== undefined || size - offset < HEADER_BYTES ||
          zeros(source, offset));
      damage.push({
        offset,
        length: next - offset,
        what: torn
          ? "the tape ends inside a frame"
          : "bytes that are no frame: its header is damaged",
        torn,
      });
      gap = true;
      offset = next;
      continue;
    }
    const body = readBody(source, header);
    offset += whole;
    if (!isIntact(header, body)) {
      damage.push({
        offset: header.offset,
        length: whole,
        what: `${frameTypeName(header.type)} frame ${header.ordinal}: the ` +
          "payload's CRC does not match",
        torn: false,
      });
      expected = header.ordinal + 1;
      continue;
    }
    if (header.ordinal !== expected && !gap) {
      damage.push({
        offset: header.offset,
        length: 0,
        what: `frame ${header.ordinal} stands where frame ${expected} belongs`,
        torn: false,
      });
    }
    gap = false;
    expected = header.ordinal + 1;
    if (
      !KNOWN_TYPES.has(header.type) &&
      (header.flags & FrameFlag.critical) !== 0
    ) {
      refusal = `it holds critical frames of ${
        frameTypeName(header.type)
      }, which this version does not know: use a newer vmtape`;
    }
    frames.push(header);
    if (header.type === FrameType.end) {
      try {
        end = decodeEnd(body);
      } catch (error) {
        damage.push({
          offset: header.offset,
          length: whole,
          what: `END: ${messageOf(error)}`,
          torn: false,
        });
      }
      if (offset < size) {
        damage.push({
          offset,
          length: size - offset,
          what: "bytes after END",
          torn: false,
        });
      }
      break;
    }
  }
  if (end === undefined && !damage.some((d) => d.offset + d.length >= size)) {
    damage.push({
      offset: size,
      length: 0,
      what: "the tape was not closed: it has no END frame",
      torn: true,
    });
  }
  return { preamble, frames, damage, end, verified: true, refusal };
}

/** The first offset from `from`, 8-aligned, where a whole frame stands. */
function resync(source: ByteSource, from: number): number {
  const size = source.size;
  for (let base = from; base < size; base += RESYNC_CHUNK) {
    const chunk = source.read(base, RESYNC_CHUNK);
    const view = new DataView(chunk.buffer, chunk.byteOffset, chunk.byteLength);
    for (let i = 0; i + 4 <= chunk.length; i += 8) {
      if (view.getUint32(i, true) !== SYNC) continue;
      const offset = base + i;
      const header = decodeHeader(source.read(offset, HEADER_BYTES), offset);
      if (header === undefined) continue;
      if (offset + frameBytes(header.storedLength) > size) continue;
      if (isIntact(header, readBody(source, header))) return offset;
    }
  }
  return size;
}

/** A file system may leave zeros where a tail was not yet written. */
function zeros(source: ByteSource, from: number): boolean {
  for (let at = from; at < source.size; at += RESYNC_CHUNK) {
    if (source.read(at, RESYNC_CHUNK).some((byte) => byte !== 0)) return false;
  }
  return true;
}

/** Follows END and the INDEX frames back; undefined if anything is odd. */
function scanByIndex(source: ByteSource, preamble: Preamble): Scan | undefined {
  const size = source.size;
  const tail = source.read(size - 8, 8);
  if (tail.length < 8) return undefined;
  const length = new DataView(tail.buffer, tail.byteOffset, 8)
    .getUint32(0, true);
  const frameAt = (offset: number, type: number): {
    header: FrameHeader;
    payload: Uint8Array;
  } | undefined => {
    if (offset < PREAMBLE_BYTES || offset >= size) return undefined;
    const header = decodeHeader(source.read(offset, HEADER_BYTES), offset);
    if (header === undefined || header.type !== type) return undefined;
    const payload = decodePayload(header, readBody(source, header));
    return "error" in payload ? undefined : { header, payload };
  };
  try {
    const last = frameAt(size - length, FrameType.end);
    if (last === undefined) return undefined;
    const end = decodeEnd(last.payload);
    const parts: (readonly FrameHeader[])[] = [[last.header]];
    let at = end.indexOffset;
    let own: FrameHeader[] = [];
    while (at >= 0) {
      const index = frameAt(at, FrameType.index);
      if (index === undefined) return undefined;
      const { previous, frames } = decodeIndex(index.payload);
      if (parts.length === 1) own = [index.header];
      parts.push([...frames, ...own]);
      own = [];
      at = previous;
    }
    const frames = parts.reverse().flat();
    if (frames.some((frame, i) => frame.ordinal !== i)) return undefined;
    return { preamble, frames, damage: [], end, verified: false };
  } catch {
    return undefined;
  }
}
