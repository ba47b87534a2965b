/**
 * Checks on the memory that a loaded guest takes, common to all loaders.
 * Invariant: segments that pass lie in RAM and don't overlap.
 */
import { ConfigError } from "../../core/errors.ts";
import type { Segment } from "./types.ts";

/** `0x1234` */
export function hex(value: number | bigint): string {
  return `0x${value.toString(16)}`;
}

/** The first address at or above `value` that is a multiple of `to`. */
export function roundUp(value: number, to: number): number {
  return Math.ceil(value / to) * to;
}

/**
 * @throws {ConfigError} when a segment lies outside RAM or on another one
 */
export function checkSegments(
  file: string,
  segments: readonly Segment[],
  memoryBytes: number,
): void {
  const sorted = segments.filter((s) => s.size > 0)
    .sort((a, b) => a.physicalAddress - b.physicalAddress);
  for (const { physicalAddress, size, name } of sorted) {
    const end = physicalAddress + size;
    if (end > memoryBytes) {
      const mib = Math.ceil(end / (1 << 20));
      throw new ConfigError(
        `load ${file}: ${name} takes ${hex(physicalAddress)} to ${hex(end)}, ` +
          `the machine has ${memoryBytes / (1 << 20)} MiB of memory; give it ` +
          `${mib} MiB or more, or load lower`,
      );
    }
  }
  for (let i = 1; i < sorted.length; i++) {
    const [a, b] = [sorted[i - 1], sorted[i]];
    const end = a.physicalAddress + a.size;
    if (end > b.physicalAddress) {
      throw new ConfigError(
        `load ${file}: ${a.name} (${hex(a.physicalAddress)} to ${hex(end)}) ` +
          `overlaps ${b.name} (from ${hex(b.physicalAddress)}); move the ` +
          "guest (its link address, `org` or `at`)",
      );
    }
  }
}
