/**
 * The tape's container (reference/record-replay.md §4.2): a 64-byte preamble
 * that is valid from byte 0, then 8-aligned frames.
 *
 *   preamble  magic 8 · length u32 · 0 u32 · required u64 · optional u64 ·
 *             id 24 (head of SHA-256 of the manifest) · 0 u32 · CRC u32
 *   frame     sync u32 · type u8 · flags u8 · 0 u16 · position u64 ·
 *             count u32 · stored u32 · raw u32 · ordinal u32 ·
 *             payload CRC u32 · header CRC u32
 *             payload · zeros to 8 · length of the frame u32 · end sync u32
 *
 * Invariant: the header CRC covers the header, the payload CRC everything
 * after it (padding and suffix too), so no byte of a tape is unprotected.
 */
import { constants, zstdCompressSync, zstdDecompressSync } from "node:zlib";
import { crc32 } from "./crc.ts";

/** What a frame holds. Numbers are on tapes: never change one. */
export const FrameType = {
  manifest: 1,
  schema: 2,
  input: 3,
  lane: 4,
  page: 5,
  keyframe: 6,
  digest: 7,
  commit: 8,
  index: 9,
  end: 10,
  engine: 11,
  note: 12,
  cells: 13,
  link: 14,
  gap: 15,
} as const;
/** One of the values of {@link FrameType}. */
export type FrameType = typeof FrameType[keyof typeof FrameType];

/** The name of a frame type, or `type N` for one this version does not know. */
export function frameTypeName(type: number): string {
  for (const [name, value] of Object.entries(FrameType)) {
    if (value === type) return name;
  }
  return `type ${type}`;
}

/** Frame flags. */
export const FrameFlag = {
  /** A reader that does not know the type must refuse the tape. */
  critical: 1,
  /** The payload is stored as zstd. */
  zstd: 2,
  /** The frame's raw bytes are in the chain of commits. */
  chained: 4,
  /** The next frame of this type goes on with the same payload. */
  continues: 8,
  /** It goes on with the payload of the frame before. */
  continued: 16,
} as const;

/** The frame types whose raw bytes are chained, hence canonical (law 6). */
const CHAINED: ReadonlySet<number> = new Set([
  FrameType.manifest,
  FrameType.schema,
  FrameType.input,
  FrameType.lane,
  FrameType.page,
  FrameType.keyframe,
  FrameType.digest,
  FrameType.commit,
]);
/** The frame types that a replay can do without. */
const ANCILLARY: ReadonlySet<number> = new Set([
  FrameType.index,
  FrameType.engine,
  FrameType.note,
  FrameType.cells,
  FrameType.link,
  FrameType.gap,
]);
/** The frame types stored as zstd when that makes them smaller. */
const COMPRESSED: ReadonlySet<number> = new Set([
  FrameType.lane,
  FrameType.page,
  FrameType.note,
  FrameType.index,
  FrameType.keyframe,
  FrameType.cells,
]);

export const PREAMBLE_BYTES = 64;
export const HEADER_BYTES = 40;
export const SUFFIX_BYTES = 8;
/** The most raw bytes in one frame; longer payloads go on in the next. */
export const MAX_RAW_BYTES = 256 * 1024;
export const TAPE_ID_BYTES = 24;
/** Little-endian `vmt{`: opens each frame. */
export const SYNC = 0x7b74_6d76;
/** Little-endian `}tmv`: closes each frame. */
export const END_SYNC = 0x766d_747d;
const MAGIC = [0x89, 0x56, 0x4d, 0x54, 0x0d, 0x0a, 0x1a, 0x0a];
const TWO_32 = 0x1_0000_0000;
/** zstd gains nothing on payloads shorter than this. */
const COMPRESS_FROM_BYTES = 128;

/** Feature bits of the preamble. `required`: refuse the tape if unknown. */
export const Feature = {
  /** Required: payloads of some types are zstd. */
  zstd: 1,
  /** Required: this file is a sidecar of another tape, not a tape. */
  sidecar: 2,
} as const;
const KNOWN_REQUIRED = Feature.zstd | Feature.sidecar;

/** A decoded preamble. */
export interface Preamble {
  readonly required: number;
  readonly optional: number;
  /** The first 24 bytes of the SHA-256 of the manifest. */
  readonly id: Uint8Array;
}

/** The 64 bytes at the head of a tape. */
export function encodePreamble(p: Preamble): Uint8Array {
  const bytes = new Uint8Array(PREAMBLE_BYTES);
  const view = new DataView(bytes.buffer);
  bytes.set(MAGIC, 0);
  view.setUint32(8, PREAMBLE_BYTES, true);
  view.setUint32(16, p.required, true);
  view.setUint32(24, p.optional, true);
  bytes.set(p.id.subarray(0, TAPE_ID_BYTES), 32);
  view.setUint32(60, crc32(bytes.subarray(0, 60)), true);
  return bytes;
}

/**
 * Reads a preamble: the preamble, or what is wrong with it.
 * `foreign` is true when the file does not even start like a tape.
 */
export function decodePreamble(
  bytes: Uint8Array,
): Preamble | { error: string; foreign: boolean } {
  const magic = MAGIC.every((byte, i) =>
    i >= bytes.length || bytes[i] === byte
  );
  if (bytes.length < PREAMBLE_BYTES) {
    return {
      error: `the file ends inside the preamble, at byte ${bytes.length}`,
      foreign: !magic,
    };
  }
  const view = new DataView(bytes.buffer, bytes.byteOffset, PREAMBLE_BYTES);
  const crcGood =
    view.getUint32(60, true) === crc32(bytes.subarray(0, PREAMBLE_BYTES - 4));
  if (!magic) {
    return { error: "the file does not start like a tape", foreign: !crcGood };
  }
  if (!crcGood) {
    return { error: "the preamble's CRC does not match", foreign: false };
  }
  const required = view.getUint32(16, true);
  const unknown = (required & ~KNOWN_REQUIRED) >>> 0;
  if (unknown !== 0 || view.getUint32(20, true) !== 0) {
    return {
      error: `the tape requires features 0x${unknown.toString(16)}, ` +
        "which this version does not know: use a newer vmtape",
      foreign: true,
    };
  }
  return {
    required,
    optional: view.getUint32(24, true),
    id: bytes.slice(32, 32 + TAPE_ID_BYTES),
  };
}

/** A decoded frame header, with its place. */
export interface FrameHeader {
  /** Byte offset of the frame in its file. */
  readonly offset: number;
  /** Number of its schema. */
  readonly type: number;
  /** Bits of {@link FrameFlag}. */
  readonly flags: number;
  /** First step of what it holds; PAGE frames: number of the first page. */
  readonly position: number;
  /** Items in it. */
  readonly count: number;
  /** Bytes of the payload in the file. */
  readonly storedLength: number;
  /** Bytes of the payload unpacked. */
  readonly rawLength: number;
  /** Number of the frame in its file, from 0. */
  readonly ordinal: number;
  /** CRC-32 of everything behind the header. */
  readonly payloadCrc: number;
}

/** Bytes of a whole frame whose stored payload has `storedLength` bytes. */
export function frameBytes(storedLength: number): number {
  return HEADER_BYTES + ((storedLength + 7) & ~7) + SUFFIX_BYTES;
}

/** Is this frame type in the chain of commits? */
export function isChained(type: number): boolean {
  return CHAINED.has(type);
}

/** One whole frame. `raw` has at most {@link MAX_RAW_BYTES} bytes. */
export function encodeFrame(
  frame: {
    type: FrameType;
    position: number;
    count: number;
    ordinal: number;
    continues?: boolean;
    continued?: boolean;
  },
  raw: Uint8Array,
): Uint8Array {
  if (raw.length > MAX_RAW_BYTES) {
    throw new RangeError(
      `Cannot frame ${raw.length} bytes: the limit is ${MAX_RAW_BYTES}`,
    );
  }
  let flags = 0;
  if (!ANCILLARY.has(frame.type)) flags |= FrameFlag.critical;
  if (CHAINED.has(frame.type)) flags |= FrameFlag.chained;
  if (frame.continues) flags |= FrameFlag.continues;
  if (frame.continued) flags |= FrameFlag.continued;
  let stored = raw;
  if (COMPRESSED.has(frame.type) && raw.length >= COMPRESS_FROM_BYTES) {
    const packed = zstdCompressSync(raw, {
      params: { [constants.ZSTD_c_compressionLevel]: 1 },
    });
    if (packed.length < raw.length) {
      stored = packed;
      flags |= FrameFlag.zstd;
    }
  }
  const bytes = new Uint8Array(frameBytes(stored.length));
  const view = new DataView(bytes.buffer);
  view.setUint32(0, SYNC, true);
  bytes[4] = frame.type;
  bytes[5] = flags;
  view.setUint32(8, frame.position >>> 0, true);
  view.setUint32(12, Math.floor(frame.position / TWO_32), true);
  view.setUint32(16, frame.count, true);
  view.setUint32(20, stored.length, true);
  view.setUint32(24, raw.length, true);
  view.setUint32(28, frame.ordinal, true);
  bytes.set(stored, HEADER_BYTES);
  view.setUint32(bytes.length - 8, bytes.length, true);
  view.setUint32(bytes.length - 4, END_SYNC, true);
  view.setUint32(32, crc32(bytes.subarray(HEADER_BYTES)), true);
  view.setUint32(36, crc32(bytes.subarray(0, 36)), true);
  return bytes;
}

/** Reads a header at `offset` of its file; undefined if it is not one. */
export function decodeHeader(
  bytes: Uint8Array,
  offset: number,
): FrameHeader | undefined {
  if (bytes.length < HEADER_BYTES) return undefined;
  const view = new DataView(bytes.buffer, bytes.byteOffset, HEADER_BYTES);
  if (view.getUint32(0, true) !== SYNC) return undefined;
  if (view.getUint32(36, true) !== crc32(bytes.subarray(0, 36))) {
    return undefined;
  }
  return {
    offset,
    type: bytes[4],
    flags: bytes[5],
    position: view.getUint32(8, true) + view.getUint32(12, true) * TWO_32,
    count: view.getUint32(16, true),
    storedLength: view.getUint32(20, true),
    rawLength: view.getUint32(24, true),
    ordinal: view.getUint32(28, true),
    payloadCrc: view.getUint32(32, true),
  };
}

/** Does the CRC vouch for the bytes after the header? */
export function isIntact(header: FrameHeader, body: Uint8Array): boolean {
  return crc32(body) === header.payloadCrc;
}

/**
 * The raw payload of a frame, from all of its bytes after the header, or
 * what is wrong with them.
 */
export function decodePayload(
  header: FrameHeader,
  body: Uint8Array,
): Uint8Array | { error: string } {
  if (!isIntact(header, body)) {
    return { error: "the payload's CRC does not match" };
  }
  const stored = body.subarray(0, header.storedLength);
  if ((header.flags & FrameFlag.zstd) === 0) return stored;
  let raw: Uint8Array;
  try {
    raw = zstdDecompressSync(stored, { maxOutputLength: header.rawLength });
  } catch {
    return { error: "the payload does not decompress" };
  }
  if (raw.length !== header.rawLength) {
    return { error: "the payload has another length than its header says" };
  }
  return new Uint8Array(raw.buffer, raw.byteOffset, raw.byteLength);
}
