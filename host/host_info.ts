/**
 * What the host puts into a tape's manifest for itself: where plugins that are
 * not ours came from, and what the guest was, so that a replay can load the
 * first and find symbols of the second.
 * Invariant: nothing here is needed to re-run the machine (its first keyframe
 * holds the guest), and paths stand as the scenario wrote them, so that the
 * same scenario gives the same tape wherever it is run.
 */
import { toHex } from "../core/bytes.ts";
import type { Json } from "../core/fields.ts";
import { sha256 } from "../core/keyframe.ts";
import type { PluginUse } from "../core/plugin.ts";
import type { ScenarioFiles } from "./machines.ts";
import { isPath } from "./plugin_loader.ts";
import {
  GUEST_FORMATS,
  type GuestSpec,
  type Scenario,
} from "./scenario/types.ts";

/** The host's part of a manifest. */
export interface HostInfo {
  readonly guest?: {
    readonly format: GuestSpec["format"];
    readonly path?: string;
    /** Assembly source that no file holds. */
    readonly text?: string;
    /** SHA-256 of the file or text. */
    readonly sha256: string;
    readonly append: string;
  };
  /** Sources of participants that are not ours, by name. */
  readonly plugins: { readonly [name: string]: string };
}

/** The host's part of the manifest of a new tape. */
export function hostInfo(
  scenario: Scenario,
  files: ScenarioFiles,
  uses: readonly PluginUse[],
): HostInfo {
  const foreign = uses.filter(({ plugin, from }) =>
    plugin.role === "participant" && from !== undefined &&
    (isPath(from) || from.startsWith("npm:"))
  );
  const plugins = Object.fromEntries(
    foreign.map(({ plugin, from }) => [plugin.name, from!]),
  );
  const { guest } = scenario;
  if (guest === undefined) return { plugins };
  const { format, path, text, append } = guest;
  const bytes = path === undefined
    ? new TextEncoder().encode(text)
    : files.get(path) ?? new Uint8Array(0);
  return {
    plugins,
    guest: {
      format,
      ...(path === undefined ? {} : { path }),
      ...(text === undefined ? {} : { text }),
      sha256: toHex(sha256(bytes)),
      append,
    },
  };
}

/** Reads the host's part of a manifest; anything strange in it counts as absent. */
export function readHostInfo(json: Json | undefined): HostInfo {
  const bag = (value: unknown): Record<string, unknown> =>
    typeof value === "object" && value !== null && !Array.isArray(value)
      ? value as Record<string, unknown>
      : {};
  const host = bag(json);
  const plugins = Object.fromEntries(
    Object.entries(bag(host.plugins)).filter((
      entry,
    ): entry is [string, string] => typeof entry[1] === "string"),
  );
  const guest = bag(host.guest);
  const text = (name: string): string | undefined =>
    typeof guest[name] === "string" ? guest[name] : undefined;
  const format = GUEST_FORMATS.find((f) => f === guest.format);
  if (format === undefined) return { plugins };
  const path = text("path"), source = text("text");
  return {
    plugins,
    guest: {
      format,
      ...(path === undefined ? {} : { path }),
      ...(source === undefined ? {} : { text: source }),
      sha256: text("sha256") ?? "",
      append: text("append") ?? "",
    },
  };
}
