/**
 * The manifest: what a tape is a run of. JSON with sorted keys and no
 * spaces, so that one manifest has one text; its SHA-256 is the tape's id.
 * The kernel's part (plugins, options, order, seed) is the kernel's business;
 * this file adds how it was recorded and, for a fork, where it came from.
 */
import { createHash } from "node:crypto";
import type { Json } from "../fields.ts";

/** What of the run's facts is stored (design §5). */
export const DETAILS = ["inputs", "boundaries", "full"] as const;
/** One of {@link DETAILS}. */
export type Detail = typeof DETAILS[number];

/** Where digests, commits and keyframes fall, in steps and pages: canonical. */
export interface Cadence {
  /** Boundaries are at multiples of this many steps. */
  readonly interval: number;
  /** A digest and commit is due at this many steps a page dirtied since. */
  readonly digestStepsPerPage: number;
  /** A keyframe is due at this many steps a page dirtied since. */
  readonly keyframeStepsPerPage: number;
}

/** The cadence of real machines: keyframe work ≤ 3 % of modelled run time. */
export const DEFAULT_CADENCE: Cadence = {
  interval: 2 ** 20,
  digestStepsPerPage: 524_288,
  keyframeStepsPerPage: 524_288,
};

/** The moment of another tape that a fork starts from. */
export interface Parent {
  /** The parent's id, hexadecimal. */
  readonly tape: string;
  /** The parent's chain head at its last commit at or before the moment. */
  readonly chainHead: string;
  /** The step. */
  readonly step: number;
  /** Among the events of that step. */
  readonly ordinal: number;
}

/** The MANIFEST frame. */
export interface TapeManifest {
  /** Tells our manifests from others. */
  readonly format: "vmtape";
  /** Which facts are stored. */
  readonly detail: Detail;
  /** Where digests and keyframes fall. */
  readonly cadence: Cadence;
  /** The kernel's manifest, as its `load` takes it again for a replay. */
  readonly machine: Json;
  /** Set on a fork. */
  readonly parent?: Parent;
  /** What the host wants to find again: scenario text, image names … */
  readonly host?: Json;
}

/** JSON with sorted keys and no spaces. */
export function canonicalJson(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(canonicalJson).join(",")}]`;
  if (typeof value === "object" && value !== null) {
    const entries = Object.entries(value).filter(([, v]) => v !== undefined);
    entries.sort(([a], [b]) => a < b ? -1 : a > b ? 1 : 0);
    return `{${
      entries.map(([key, v]) => `${JSON.stringify(key)}:${canonicalJson(v)}`)
        .join(",")
    }}`;
  }
  if (typeof value === "bigint") {
    throw new TypeError("Cannot write a bigint as JSON: write it as text");
  }
  return JSON.stringify(value) ?? "null";
}

/** The bytes of the MANIFEST frame. */
export function encodeManifest(manifest: TapeManifest): Uint8Array {
  return new TextEncoder().encode(canonicalJson(manifest));
}

/** The tape's id: SHA-256 of the manifest's bytes. */
export function tapeId(encoded: Uint8Array): Uint8Array {
  return createHash("sha256").update(encoded).digest();
}

/** Reads a MANIFEST frame. Throws RangeError when it is none. */
export function decodeManifest(raw: Uint8Array): TapeManifest {
  const value: unknown = JSON.parse(new TextDecoder().decode(raw));
  if (
    typeof value !== "object" || value === null ||
    (value as { format?: unknown }).format !== "vmtape"
  ) {
    throw new RangeError("Cannot read the manifest: it is not of a vmtape");
  }
  return value as TapeManifest;
}
