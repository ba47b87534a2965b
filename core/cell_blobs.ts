/**
 * The encoded cells of plugins: making them, matching them with the plugins of
 * this machine, and reading them back. A blob of another layout is refused.
 */
import { ByteReader, ByteWriter } from "./bytes.ts";
import { stateSignature } from "./cell.ts";
import { StateError } from "./errors.ts";
import type { LivePlugin } from "./host.ts";
import type { CellBlob } from "./keyframe.ts";

function blobHead({ plugin }: LivePlugin): Omit<CellBlob, "bytes"> {
  return {
    plugin: plugin.name,
    version: plugin.version,
    signature: stateSignature(plugin.state),
  };
}

/** An observer's random stream and cells, encoded. */
export function observerBlob(live: LivePlugin): CellBlob {
  const out = new ByteWriter();
  live.random.encode(out);
  live.cells.encode(out);
  return { ...blobHead(live), bytes: out.finish() };
}

/**
 * What `observerBlob` made, back into the observer.
 * @throws StateError when it does not fit
 */
export function restoreObserver(live: LivePlugin, blob: CellBlob): void {
  decodeAll(live, blob, (from) => {
    live.random.decode(from);
    live.cells.decode(from);
  });
  live.owner.failed = false;
  for (const handler of live.restored) handler();
}

/** A participant's cells, encoded. */
export function cellBlob(live: LivePlugin): CellBlob {
  const out = new ByteWriter();
  live.cells.encode(out);
  return { ...blobHead(live), bytes: out.finish() };
}

/**
 * Decodes a blob to its last byte.
 * @throws StateError when bytes are left over
 */
export function decodeAll(
  { plugin }: LivePlugin,
  blob: CellBlob,
  decode: (from: ByteReader) => void,
): void {
  const from = new ByteReader(blob.bytes);
  decode(from);
  if (!from.done) {
    throw new StateError(
      `restore the cells of plugin ${plugin.name}: ${
        from.end - from.at
      } bytes ` +
        `are left over, the keyframe is damaged`,
    );
  }
}

/**
 * Pairs plugins with their blobs.
 * @param all every plugin must have one and every blob a plugin
 * @throws StateError naming the plugin and what to load
 */
export function matchBlobs(
  plugins: readonly LivePlugin[],
  blobs: readonly CellBlob[],
  all: boolean,
): [LivePlugin, CellBlob][] {
  const byName = new Map(blobs.map((blob) => [blob.plugin, blob]));
  const pairs: [LivePlugin, CellBlob][] = [];
  for (const live of plugins) {
    const { name } = live.plugin;
    const blob = byName.get(name);
    byName.delete(name);
    if (blob === undefined) {
      if (!all) continue;
      throw new StateError(
        `restore a keyframe: it has no cells of plugin ${name}, load the ` +
          `plugins of the recording`,
      );
    }
    const { signature } = blobHead(live);
    if (blob.signature !== signature) {
      throw new StateError(
        `restore the cells of plugin ${name}: the keyframe has version ` +
          `${blob.version} with ${blob.signature}, this is version ` +
          `${live.plugin.version} with ${signature}, run from an earlier ` +
          `keyframe or load the recorded version`,
      );
    }
    pairs.push([live, blob]);
  }
  const [extra] = byName.keys();
  if (all && extra !== undefined) {
    throw new StateError(
      `restore a keyframe: it has cells of plugin ${extra}, which is not ` +
        `loaded, load the plugins of the recording`,
    );
  }
  return pairs;
}
