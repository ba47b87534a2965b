/**
 * The state digest: SHA-256 over named parts, so that a mismatch already says
 * where to look. Parts, in order: `state` (the executor's state pages), `ram`
 * (two-level over page hashes), `kernel`, and `cells:NAME` of each participant
 * in load order. Nothing of engine, detail, observers or host.
 */
import { ByteWriter, toHex } from "./bytes.ts";
import { cellBlob } from "./cell_blobs.ts";
import type { LivePlugin } from "./host.ts";
import type { KernelState } from "./kernel_state.ts";
import { sha256 } from "./keyframe.ts";
import type { PageStore } from "./pages.ts";

/** A named part of the state digest. */
export interface DigestPart {
  /** `state`, `ram`, `kernel`, or `cells:` and the participant's name. */
  readonly name: string;
  /** SHA-256, hexadecimal. */
  readonly digest: string;
}

/** A part of the digest before it becomes text. */
export interface RawDigestPart {
  readonly name: string;
  readonly digest: Uint8Array;
}

/** The parts of a machine's digest; at step boundaries only. */
export function rawDigestParts(
  pages: PageStore,
  state: KernelState,
  participants: readonly LivePlugin[],
): readonly RawDigestPart[] {
  return [
    { name: "state", digest: pages.stateDigest() },
    { name: "ram", digest: pages.ramDigest() },
    { name: "kernel", digest: sha256(state.encode()) },
    ...participants.map((live) => ({
      name: `cells:${live.plugin.name}`,
      digest: sha256(cellBlob(live).bytes),
    })),
  ];
}

/** The digest of digests, hexadecimal. */
export function combineDigest(parts: readonly RawDigestPart[]): string {
  const out = new ByteWriter();
  out.text("vmtape state 1");
  for (const { name, digest } of parts) {
    out.text(name);
    out.raw(digest);
  }
  return toHex(sha256(out.view()));
}
