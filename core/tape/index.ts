/**
 * The disposable seek index. Every {@link INDEX_EVERY} frames, and before
 * END, the writer adds an INDEX frame that lists the frames since the last
 * one and points back to it, so that a closed tape opens without a scan.
 * Invariant: nothing is only in the index; a tape without it opens by
 * scanning, to the same result.
 *
 *   previous INDEX offset + 1, or 0, u53 · frames count · first ordinal count ·
 *   { type u8 · flags u8 · offset u53 · position u53 · items count ·
 *     stored count · raw count · CRC u32 }
 */
import { ByteReader, ByteWriter } from "../bytes.ts";
import type { FrameHeader } from "./frames.ts";

/** Frames between two INDEX frames. */
export const INDEX_EVERY = 4096;

/** The payload of an INDEX frame. `previous`: offset of the last, or -1. */
export function encodeIndex(
  previous: number,
  frames: readonly FrameHeader[],
): Uint8Array {
  const out = new ByteWriter(frames.length * 16 + 16);
  out.u53(previous + 1);
  out.count(frames.length);
  out.count(frames.length === 0 ? 0 : frames[0].ordinal);
  for (const frame of frames) {
    out.u8(frame.type);
    out.u8(frame.flags);
    out.u53(frame.offset);
    out.u53(frame.position);
    out.count(frame.count);
    out.count(frame.storedLength);
    out.count(frame.rawLength);
    out.u32(frame.payloadCrc);
  }
  return out.finish();
}

/** Reads an INDEX payload. Throws RangeError on bad bytes. */
export function decodeIndex(
  raw: Uint8Array,
): { previous: number; frames: FrameHeader[] } {
  const input = new ByteReader(raw);
  const previous = input.u53() - 1;
  const count = input.count();
  let ordinal = input.count();
  const frames: FrameHeader[] = [];
  for (let i = 0; i < count; i++) {
    const type = input.u8(), flags = input.u8();
    const offset = input.u53();
    frames.push({
      offset,
      type,
      flags,
      position: input.u53(),
      count: input.count(),
      storedLength: input.count(),
      rawLength: input.count(),
      payloadCrc: input.u32(),
      ordinal: ordinal++,
    });
  }
  return { previous, frames };
}
