/**
 * Reads a tape: closed, torn, damaged or still growing; never writes to it.
 * Invariants: nothing is believed that was not checked (each payload's CRC on
 * every read, the chain under `verify`); what is missing is said, with its
 * place; an input counts only while no earlier one is missing.
 */
import { toHex } from "../bytes.ts";
import { messageOf, TapeError } from "../errors.ts";
import {
  decodePayload,
  Feature,
  FrameFlag,
  type FrameHeader,
  FrameType,
  frameTypeName,
  isChained,
  TAPE_ID_BYTES,
} from "./frames.ts";
import {
  type KeyframePlace,
  KeyframeReader,
  type StoredKeyframe,
} from "./keyframes.ts";
import { decodeLane, type LaneEvent } from "./lanes.ts";
import { decodeManifest, tapeId, type TapeManifest } from "./manifest.ts";
import {
  type CommitRecord,
  decodeCommit,
  decodeDigest,
  decodeInput,
  type DigestRecord,
  type InputRecord,
  type KeyframeRecord,
  type RunEnd,
} from "./payloads.ts";
import { type Damage, readBody, type Scan, scanTape } from "./scan.ts";
import { decodeSchema, type TapeSchema } from "./schema.ts";
import type { ByteSource } from "./store.ts";
import { chainNext, chainStart } from "./writer.ts";

export type { KeyframePlace, StoredKeyframe } from "./keyframes.ts";

/** Exit statuses of the tape commands (design §5). */
export const TapeStatus = {
  clean: 0,
  badInput: 2,
  diverged: 3,
  torn: 4,
  damaged: 5,
  incompatible: 6,
} as const;

/** One canonical or other frame with its raw payload. */
export interface RawFrame {
  /** Its header, with its place. */
  readonly header: FrameHeader;
  /** Its payload, unpacked. */
  readonly raw: Uint8Array;
}

/** How to open a tape. */
export interface OpenOptions {
  /** Check every byte and the chain, instead of believing the index. */
  readonly verify?: boolean;
  /** It must be a sidecar (sidecar.ts); otherwise it must not. */
  readonly sidecar?: boolean;
}

/** An open tape. */
export class TapeReader {
  readonly #source: ByteSource;
  readonly #scan: Scan;
  /** Set on a recovered tape: behind this frame only inputs were kept. */
  readonly gap: FrameHeader | undefined;
  readonly #damage: Damage[];
  /** The tape's id in hexadecimal: the head of the manifest's SHA-256. */
  readonly id: string;
  /** Undefined: the manifest did not survive; nothing can be replayed. */
  readonly manifest: TapeManifest | undefined;
  /** What recorded it; outside the chain. */
  readonly engine: string | undefined;
  /** By their numbers. */
  readonly schemas: readonly TapeSchema[];
  /** In file order. */
  readonly commits: readonly CommitRecord[];
  /** In file order. */
  readonly digests: readonly DigestRecord[];
  /** Keyframes taken on arrival at their steps. */
  readonly keyframes: readonly KeyframePlace[];
  /** The one taken where the run ended, after its last event. */
  readonly endKeyframe: KeyframePlace | undefined;
  readonly #keyframes: KeyframeReader;
  /** Inputs that survived without a gap before them, in order. */
  readonly inputs: readonly InputRecord[];
  /** Inputs that are known to have been on the tape and are lost. */
  readonly missingInputs: number;
  /** Inputs that survived behind a missing one: replay can't reach them. */
  readonly strandedInputs: readonly InputRecord[];
  /** Where the run ended, or as far as the tape shows. */
  readonly end: RunEnd;

  /**
   * Opens a tape.
   * @throws TapeError when the bytes are no tape at all, or of a format that
   * this version does not know; damage is no error, see `status`
   */
  static open(source: ByteSource, options: OpenOptions = {}): TapeReader {
    return new TapeReader(source, options);
  }

  private constructor(source: ByteSource, options: OpenOptions) {
    this.#source = source;
    this.#scan = scanTape(source, options.verify === true);
    if (this.#scan.refusal !== undefined) {
      throw new TapeError(`open tape: ${this.#scan.refusal}`);
    }
    const sidecar =
      ((this.#scan.preamble?.required ?? 0) & Feature.sidecar) !== 0;
    if (sidecar && options.sidecar !== true) {
      throw new TapeError(
        "open tape: this is a sidecar of a tape, open the tape itself",
      );
    }
    this.#damage = [...this.#scan.damage];
    let manifest: TapeManifest | undefined;
    let id = "";
    let engine: string | undefined;
    const schemas: TapeSchema[] = [];
    const commits: CommitRecord[] = [];
    const digests: DigestRecord[] = [];
    const inputs: InputRecord[] = [];
    const stranded: InputRecord[] = [];
    const frames = this.#scan.frames;
    this.gap = frames.find(({ type }) => type === FrameType.gap);
    // A chain with a link missing vouches for nothing.
    const chained = options.verify === true && !frames.some(
      (frame, i) => frame.ordinal !== i,
    );
    let chain = chained ? chainStart() : undefined;
    for (let i = 0; i < frames.length; i++) {
      const header = frames[i];
      const type = header.type;
      const first = this.#isFirst(i);
      if (isChained(type) && chain !== undefined) {
        if (first && type === FrameType.commit) this.#checkChain(i, chain);
        chain = this.#extend(chain, header);
      }
      if (!first) continue;
      if (!EAGER.has(type)) continue;
      const raw = this.payloadAt(i);
      if (raw === undefined) continue;
      try {
        switch (type) {
          case FrameType.manifest:
            if (sidecar) break;
            manifest = decodeManifest(raw);
            id = toHex(tapeId(raw).subarray(0, TAPE_ID_BYTES));
            break;
          case FrameType.engine:
            engine = new TextDecoder().decode(raw);
            break;
          case FrameType.schema: {
            const schema = decodeSchema(raw);
            schemas[schema.id] = schema;
            break;
          }
          case FrameType.commit:
            commits.push(decodeCommit(raw, header.position));
            break;
          case FrameType.digest:
            digests.push(decodeDigest(raw, header.position));
            break;
          case FrameType.input: {
            const input = decodeInput(raw, header.position);
            const known = schemas[input.type] !== undefined;
            if (known && input.ordinal === inputs.length) inputs.push(input);
            else stranded.push(input);
            break;
          }
        }
      } catch (error) {
        this.#report(header, messageOf(error));
      }
    }
    if (
      this.#scan.preamble !== undefined && manifest !== undefined &&
      toHex(this.#scan.preamble.id) !== id
    ) {
      this.#damage.push({
        offset: 0,
        length: 64,
        what: "the preamble names another manifest",
        torn: false,
      });
    }
    if (
      this.#scan.end !== undefined && chain !== undefined &&
      this.#damage.length === 0 &&
      toHex(chain) !== toHex(this.#scan.end.chainHead)
    ) {
      this.#report(frames[frames.length - 1], "END names another chain head");
    }
    const told = Math.max(0, ...commits.map((commit) => commit.inputs));
    const beyond = Math.max(
      told,
      inputs.length,
      (stranded.at(-1)?.ordinal ?? -1) + 1,
    );
    this.missingInputs = beyond - inputs.length - stranded.length;
    const whole = beyond <= inputs.length;
    // Behind a missing input nothing can be reached by running.
    const reached = digests.filter((d) => d.inputs <= inputs.length);
    const last = [reached.at(-1), inputs.at(-1)].filter((r) => r !== undefined);
    const step = Math.max(0, ...last.map((record) => record.step));
    const time = Math.max(step, ...last.map((record) => record.time));
    const end = whole ? this.#scan.end : undefined;
    this.end = end ?? { step, time, ...OPEN_END };
    this.manifest = manifest;
    this.id = id;
    this.engine = engine;
    this.schemas = schemas;
    this.commits = commits;
    this.digests = digests;
    this.#keyframes = new KeyframeReader(frames, {
      payloadAt: (index) => this.payloadAt(index),
    });
    this.keyframes = this.#keyframes.arrivals;
    this.endKeyframe = this.#keyframes.atEnd;
    this.inputs = inputs;
    this.strandedInputs = stranded;
  }

  /** The state that the run started from; undefined if damage took it. */
  firstKeyframe(): StoredKeyframe | undefined {
    const place = this.keyframes[0];
    const manifest = this.frames.find(({ type }) =>
      type === FrameType.manifest
    );
    if (place === undefined || place.step !== manifest?.position) {
      return undefined;
    }
    // Nothing but the engine's name and pages lies between the two.
    const between = this.frames.slice(0, place.frame);
    if (between.some(({ type }) => !BEFORE_KEYFRAME.has(type))) {
      return undefined;
    }
    return this.keyframe(place);
  }

  /** Everything that is not as it was written, by place. */
  get damage(): readonly Damage[] {
    return this.#damage;
  }

  /** Was it closed, and is everything there? */
  get state(): "clean" | "torn" | "damaged" {
    if (this.#damage.some((d) => !d.torn)) return "damaged";
    return this.#damage.length > 0 ? "torn" : "clean";
  }

  /** 0 clean, 4 torn but usable, 5 damaged inside. */
  get exitStatus(): number {
    return TapeStatus[this.state];
  }

  /** Bytes in the file. */
  get size(): number {
    return this.#source.size;
  }

  /** The chain head that END or the last good commit vouches for, in hex. */
  get chainHead(): string {
    const head = this.#scan.end?.chainHead ?? this.commits.at(-1)?.chainHead;
    return head === undefined ? "" : toHex(head);
  }

  /** The manifest, or an error saying that it is lost. */
  requireManifest(): TapeManifest {
    if (this.manifest === undefined) {
      throw new TapeError(
        "replay tape: its manifest is lost, so what to run is unknown; " +
          "use another copy of the tape",
      );
    }
    return this.manifest;
  }

  /** What a crash or damage cost, in words; empty for a clean tape. */
  lost(): string[] {
    const lines = this.#damage.map((d) =>
      `bytes ${d.offset}–${d.offset + d.length}: ${d.what}`
    );
    if (lines.length === 0) return lines;
    const commit = this.commits.at(-1);
    lines.push(
      commit === undefined
        ? "no commit survived"
        : `last good commit: step ${commit.step}, ${commit.inputs} inputs, ` +
          `${commit.facts} facts`,
    );
    lines.push(
      this.missingInputs + this.strandedInputs.length > 0
        ? `${this.inputs.length} inputs survived, ${this.missingInputs} are ` +
          `lost and ${this.strandedInputs.length} lie behind a lost one`
        : `${this.inputs.length} inputs survived; facts after the last commit ` +
          "can be derived again from them",
    );
    return lines;
  }

  #report(header: FrameHeader, what: string): void {
    this.#damage.push({
      offset: header.offset,
      length: 0,
      what: `${frameTypeName(header.type)} frame ${header.ordinal}: ${what}`,
      torn: false,
    });
  }

  #extend(chain: Uint8Array, header: FrameHeader): Uint8Array | undefined {
    const raw = decodePayload(header, readBody(this.#source, header));
    if ("error" in raw) return undefined;
    return chainNext(chain, header.type, header.position, header.count, raw);
  }

  #checkChain(frame: number, chain: Uint8Array): void {
    if (this.#damage.some((d) => !d.torn)) return; // Already known to be broken.
    const raw = this.payloadAt(frame);
    if (raw === undefined) return;
    const header = this.#scan.frames[frame];
    try {
      const commit = decodeCommit(raw, header.position);
      if (toHex(commit.chainHead) === toHex(chain)) return;
      this.#report(header, "it vouches for another chain");
    } catch (error) {
      this.#report(header, messageOf(error));
    }
  }

  /** Does a payload start here, rather than go on from the frame before? */
  #isFirst(index: number): boolean {
    return (this.#scan.frames[index].flags & FrameFlag.continued) === 0;
  }

  /** The raw payload that starts at frame `index`, parts joined, if whole. */
  payloadAt(index: number): Uint8Array | undefined {
    const frames = this.#scan.frames;
    const parts: Uint8Array[] = [];
    for (let i = index; i < frames.length; i++) {
      const header = frames[i];
      if (
        header.type !== frames[index].type ||
        header.ordinal !== frames[index].ordinal + (i - index)
      ) {
        return undefined; // A part is missing: the writer was killed.
      }
      const raw = decodePayload(header, readBody(this.#source, header));
      if ("error" in raw) {
        if (!this.#damage.some((d) => d.offset === header.offset)) {
          this.#report(header, raw.error);
        }
        return undefined;
      }
      if (parts.length === 0 && (header.flags & FrameFlag.continues) === 0) {
        return raw;
      }
      parts.push(raw);
      if ((header.flags & FrameFlag.continues) === 0) return join(parts);
    }
    return undefined;
  }

  /** Canonical frames in file order, parts apart, from frame `from` on. */
  *chainedFrames(from = 0): Generator<RawFrame> {
    const frames = this.#scan.frames;
    for (let i = from; i < frames.length; i++) {
      const header = frames[i];
      if (!isChained(header.type)) continue;
      const raw = decodePayload(header, readBody(this.#source, header));
      if ("error" in raw) this.#report(header, raw.error);
      else yield { header, raw };
    }
  }

  /** All frame headers, in file order. */
  get frames(): readonly FrameHeader[] {
    return this.#scan.frames;
  }

  /** Whole payloads of one frame type, in file order. */
  *payloads(type: FrameType): Generator<RawFrame> {
    const frames = this.#scan.frames;
    for (let i = 0; i < frames.length; i++) {
      if (frames[i].type !== type || !this.#isFirst(i)) continue;
      const raw = this.payloadAt(i);
      if (raw !== undefined) yield { header: frames[i], raw };
    }
  }

  /**
   * Stored events in stream order with from ≤ step < to: facts by default,
   * and a mark for each input (an input's schema, its ordinal as payload).
   */
  *events(
    from = 0,
    to = Infinity,
    type: FrameType = FrameType.lane,
  ): Generator<LaneEvent> {
    const frames = this.#scan.frames;
    const lanes = frames.flatMap((header, i) =>
      header.type === type && this.#isFirst(i) ? [i] : []
    );
    for (let i = 0; i < lanes.length; i++) {
      const header = frames[lanes[i]];
      if (header.position >= to) return;
      // A lane ends where the next begins: skip those wholly before `from`.
      const next = lanes[i + 1];
      if (next !== undefined && frames[next].position < from) continue;
      const raw = this.payloadAt(lanes[i]);
      if (raw === undefined) continue;
      for (const event of decodeLane(raw, header.position)) {
        if (event.step >= to) break;
        if (event.step >= from) yield event;
      }
    }
  }

  /** A keyframe's own record, with its maybe partial page table. */
  keyframeRecord(place: KeyframePlace): KeyframeRecord | undefined {
    return this.#keyframes.record(place);
  }

  /**
   * The complete state at `place`, or undefined when damage took something
   * that it needs: use an earlier one. Pages already loaded are shared.
   */
  keyframe(place: KeyframePlace): StoredKeyframe | undefined {
    return this.#keyframes.keyframe(place);
  }

  /** The contents of stored page `id` (a view); throws TapeError if lost. */
  page(id: number): Uint8Array {
    return this.#keyframes.page(id);
  }
}

const BEFORE_KEYFRAME: ReadonlySet<number> = new Set([
  FrameType.manifest,
  FrameType.engine,
  FrameType.page,
]);

/** How a run ends whose tape was not closed. */
const OPEN_END = {
  stopped: false,
  waiting: false,
  failed: false,
  closed: false,
};

const EAGER: ReadonlySet<number> = new Set([
  FrameType.manifest,
  FrameType.engine,
  FrameType.schema,
  FrameType.commit,
  FrameType.digest,
  FrameType.input,
]);

function join(parts: readonly Uint8Array[]): Uint8Array {
  const whole = new Uint8Array(parts.reduce((n, part) => n + part.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}
