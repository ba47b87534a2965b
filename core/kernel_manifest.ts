/**
 * The manifest: plain data naming everything that a replay must match. No
 * observers, no notes, no engine.
 */
import { stateSignature } from "./cell.ts";
import type { EventToken } from "./event.ts";
import type { LivePlugin } from "./host.ts";
import { optionsToJson } from "./options.ts";
import type { KernelConfig, Manifest } from "./sink.ts";

/** The manifest of a loaded machine. */
export function makeManifest(
  config: KernelConfig,
  participants: readonly LivePlugin[],
  events: Iterable<EventToken>,
): Manifest {
  return {
    format: 1,
    seed: `0x${config.seed.toString(16)}`,
    machine: config.machine ?? null,
    participants: participants.map(({ plugin, use, options }) => ({
      name: plugin.name,
      version: plugin.version,
      options: optionsToJson(use, options),
      state: stateSignature(plugin.state),
      ...(use.digest === undefined ? {} : { digest: use.digest }),
    })),
    events: [...events]
      .filter(({ kind }) => kind !== "note")
      .sort((a, b) => a.name < b.name ? -1 : 1)
      .map(({ name, version, kind, signature, fingerprint }) => ({
        name,
        version,
        kind,
        signature,
        fingerprint,
      })),
  };
}
