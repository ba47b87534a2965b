/**
 * Turns what a scenario says about plugins into plugins: ours by name, others
 * from a file or an npm package (design §4). Files are hashed, so that a tape
 * can tell whether it is replayed with the code that recorded it.
 * Invariant: whatever goes wrong is a ConfigError naming the plugin's source
 * and what to do.
 */
import { ConfigError, messageOf } from "../core/errors.ts";
import { sha256 } from "../core/keyframe.ts";
import { toHex } from "../core/bytes.ts";
import type { Plugin, PluginUse } from "../core/plugin.ts";
import { fileProblem } from "./scenario/files.ts";
import { didYouMean } from "./scenario/spelling.ts";
import type { PluginSpec } from "./scenario/types.ts";

/** Frames of this file say nothing of where a foreign module went wrong. */
const OWN_PATH = new URL(import.meta.url).pathname;

/** Where names and relative paths are looked up. */
export interface PluginPlaces {
  readonly catalog: ReadonlyMap<string, Plugin>;
  /** Folders (URLs ending in `/`) for relative paths, tried in order. */
  readonly folders: readonly URL[];
}

/** Whether `source` is a path rather than a name or specifier. */
export function isPath(source: string): boolean {
  return /^\.{0,2}\//.test(source);
}

function isPlugin(value: unknown): value is Plugin {
  return typeof value === "object" && value !== null &&
    (value as { is?: unknown }).is === "plugin" &&
    typeof (value as { setup?: unknown }).setup === "function";
}

/** The plugin that a module exports: as default, or as its only one. */
function pluginOf(module: Record<string, unknown>, source: string): Plugin {
  if (isPlugin(module.default)) return module.default;
  const found = [...new Set(Object.values(module).filter(isPlugin))];
  if (found.length === 1) return found[0];
  const state = found.length === 0
    ? `it exports no plugin (but ${
      Object.keys(module).join(", ") || "nothing"
    })`
    : `it exports ${found.length} plugins (${
      found.map((p) => p.name).join(", ")
    })`;
  throw new ConfigError(
    `load plugin ${source}: ${state}, export default definePlugin({ … })`,
  );
}

/** What went wrong in importing a module, with the place if it is told. */
function problemOf(thrown: unknown): string {
  const [what, ...rest] = messageOf(thrown).split("\n");
  const frames = thrown instanceof Error ? thrown.stack?.split("\n") ?? [] : [];
  const at = [...rest, ...frames].map((line) =>
    /\bfile:\/\/([^\s)]+:\d+:\d+)/.exec(line)?.[1]
  ).find((place) => place !== undefined && !place.startsWith(OWN_PATH));
  return `${what}${at === undefined ? "" : ` (at ${at})`}, correct the file`;
}

async function importPlugin(
  specifier: string,
  source: string,
): Promise<Plugin> {
  let module: Record<string, unknown>;
  try {
    module = await import(specifier);
  } catch (thrown) {
    throw new ConfigError(
      `load plugin ${source}: ${problemOf(thrown)}`,
      thrown,
    );
  }
  return pluginOf(module, source);
}

/** Loads one plugin. */
export async function loadPlugin(
  spec: PluginSpec,
  places: PluginPlaces,
): Promise<PluginUse> {
  const { source, options } = spec;
  const use = { options: options as PluginUse["options"], from: source };
  if (isPath(source)) {
    for (const folder of places.folders) {
      const url = new URL(source, folder);
      let code: Uint8Array;
      try {
        code = Deno.readFileSync(url);
      } catch (error) {
        if (error instanceof Deno.errors.NotFound) continue;
        throw new ConfigError(
          `load plugin ${source}: ${fileProblem(error)}`,
          error,
        );
      }
      const plugin = await importPlugin(url.href, source);
      return { ...use, plugin, digest: toHex(sha256(code)) };
    }
    const tried = places.folders.map((f) => new URL(source, f).pathname);
    throw new ConfigError(
      `load plugin ${source}: there is no file ${
        tried.join(" or ")
      }, correct the path`,
    );
  }
  if (source.startsWith("npm:")) {
    return { ...use, plugin: await importPlugin(source, source) };
  }
  const plugin = places.catalog.get(source);
  if (plugin === undefined) {
    const names = [...places.catalog.keys()];
    throw new ConfigError(
      `load plugin ${source}: there is none of that name${
        didYouMean(source, names)
      }; ` +
        `ours are ${
          names.join(", ")
        }, others need a path (./${source}.ts) or npm: specifier`,
    );
  }
  return { ...use, plugin };
}
