/**
 * Recovery: writes a closed tape with everything that still counts of a torn
 * or damaged one: all intact frames before the first damage, then the inputs
 * behind it as far as none is missing. Facts and keyframes behind it are left
 * out: a replay derives them again.
 * Invariants: the old tape is only read; each input that the machine consumed
 * and that survived is on the new one; what was lost is said.
 */
import { TapeError } from "../errors.ts";
import { FrameFlag, FrameType } from "./frames.ts";
import { canonicalJson } from "./manifest.ts";
import { encodeInput } from "./payloads.ts";
import { TapeReader } from "./reader.ts";
import type { ByteSink, ByteSource } from "./store.ts";
import { fromHex } from "../bytes.ts";
import { TapeWriter } from "./writer.ts";

/** What a recovery kept and lost. */
export interface Recovery {
  /** State of the old tape. */
  readonly state: "clean" | "torn" | "damaged";
  /** The last step that the new tape vouches for. */
  readonly step: number;
  /** In file order. */
  readonly commits: number;
  /** Inputs on the new tape. */
  readonly inputs: number;
  /** What was lost, one line each. */
  readonly lost: readonly string[];
}

/** Frame types that only make sense before the first damage. */
const KEPT: ReadonlySet<number> = new Set([
  FrameType.manifest,
  FrameType.engine,
  FrameType.schema,
  FrameType.input,
  FrameType.lane,
  FrameType.page,
  FrameType.keyframe,
  FrameType.digest,
  FrameType.commit,
  FrameType.gap,
]);

/**
 * Copies what counts of `source` to `sink`, which must be another file.
 * @throws TapeError when nothing can be replayed: the manifest or the first
 * keyframe is lost
 */
export function recoverTape(source: ByteSource, sink: ByteSink): Recovery {
  const tape = TapeReader.open(source, { verify: true });
  tape.requireManifest();
  if (tape.firstKeyframe() === undefined) {
    throw new TapeError(
      "recover tape: its first keyframe is lost, so there is no state to " +
        "run from; use another copy of the tape",
    );
  }
  const damageAt = Math.min(
    ...tape.damage.map((d) => d.offset),
    Number.MAX_SAFE_INTEGER,
  );
  const start = tape.keyframes[0].frame;
  const writer = new TapeWriter(sink, fromHex(tape.id));
  let inputs = 0, commits = 0;
  let whole = tape.state === "clean";
  const gap = (): void => {
    if (whole) return;
    whole = true;
    const lost = new TextEncoder().encode(canonicalJson(tape.lost()));
    writer.frame(FrameType.gap, tape.end.step, 1, lost);
  };
  const frames = tape.frames;
  for (let i = 0; i < frames.length; i++) {
    const header = frames[i];
    if ((header.flags & FrameFlag.continued) !== 0) continue;
    // Damage to the engine's name must not cost the state behind it.
    const before = header.offset < damageAt || i <= start;
    if (!before) gap();
    // Behind the damage schemas still serve the inputs there.
    if (!(before ? KEPT.has(header.type) : header.type === FrameType.schema)) {
      continue;
    }
    const raw = tape.payloadAt(i);
    if (raw === undefined) continue;
    writer.frame(header.type as FrameType, header.position, header.count, raw);
    if (header.type === FrameType.input) inputs++;
    if (header.type === FrameType.commit) commits++;
  }
  gap();
  for (const input of tape.inputs.slice(inputs)) {
    writer.frame(FrameType.input, input.step, 1, encodeInput(input));
  }
  writer.end(tape.end);
  return {
    state: tape.state,
    step: tape.end.step,
    commits,
    inputs: tape.inputs.length,
    lost: tape.lost(),
  };
}
