/**
 * Blame: compares two complete states and names what differs as plugin, cell
 * and field. Pages are named by the executor, kernel state and cells by their
 * declarations.
 */
import { ByteReader, sameBytes, toHex } from "./bytes.ts";
import { stateToJson } from "./cell.ts";
import type { StateSpecs } from "./cell.ts";
import type { PagedState } from "./executor.ts";
import type { Json } from "./fields.ts";
import type { CellBlob, Keyframe } from "./keyframe.ts";
import type { StateDifference } from "./sink.ts";

/** Differences listed at most, of each kind. */
const LIMIT = 64;

/** What `explain` needs to know of the machine. */
export interface Explained {
  readonly pages: PagedState;
  /** Cells of each plugin, by name. */
  readonly cells: ReadonlyMap<string, StateSpecs>;
  /** Kernel state as plain data. */
  readonly kernel: (encoded: Uint8Array) => Json;
}

/** What differs between two states of one machine; empty when equal. */
export function explain(
  before: Keyframe,
  after: Keyframe,
  machine: Explained,
): readonly StateDifference[] {
  const found: StateDifference[] = [];
  pageDifferences(before, after, machine.pages, found);
  if (!sameBytes(before.kernel, after.kernel)) {
    const differences = jsonDifferences(
      machine.kernel(before.kernel),
      machine.kernel(after.kernel),
    );
    for (const one of differences) {
      const [cell, ...rest] = one.path;
      found.push({ ...named("kernel", cell, rest), ...one.values });
    }
  }
  const others = new Map(after.cells.map((blob) => [blob.plugin, blob]));
  for (const blob of before.cells) {
    const other = others.get(blob.plugin);
    const specs = machine.cells.get(blob.plugin);
    if (other === undefined || specs === undefined) {
      found.push({
        ...named(blob.plugin, "", []),
        before: "loaded",
        after: other === undefined ? "not loaded" : "unknown here",
      });
    } else if (!sameBytes(blob.bytes, other.bytes)) {
      found.push(...cellDifferences(blob, other, specs));
    }
  }
  return found;
}

function named(
  plugin: string,
  cell: string | undefined,
  rest: readonly string[],
): Pick<StateDifference, "plugin" | "cell" | "field"> {
  return { plugin, cell: cell ?? "", field: rest.join(".") };
}

function pageDifferences(
  before: Keyframe,
  after: Keyframe,
  pages: PagedState,
  found: StateDifference[],
): void {
  let ramPages = 0;
  before.pages.differences(after.pages, (index, mine, theirs) => {
    if (index >= pages.statePages && ++ramPages > LIMIT) return;
    const names = new Set<string>();
    for (let at = 0; at < mine.bytes.length && names.size < LIMIT; at++) {
      if (mine.bytes[at] === theirs.bytes[at]) continue;
      const name = pages.describe(index, at);
      if (names.has(name)) continue;
      names.add(name);
      const from = at & ~7;
      found.push({
        ...named("machine", name, []),
        before: toHex(mine.bytes.subarray(from, from + 8)),
        after: toHex(theirs.bytes.subarray(from, from + 8)),
      });
      // In RAM the first difference of a page is enough.
      if (index >= pages.statePages) break;
    }
  });
}

function cellDifferences(
  before: CellBlob,
  after: CellBlob,
  specs: StateSpecs,
): StateDifference[] {
  const differences = jsonDifferences(
    stateToJson(specs, new ByteReader(before.bytes)),
    stateToJson(specs, new ByteReader(after.bytes)),
  );
  if (differences.length === 0) {
    // The same data in another order: sets and maps keep theirs.
    return [{
      ...named(before.plugin, "", []),
      before: "insertion order differs",
      after: "insertion order differs",
    }];
  }
  return differences.map(({ path: [cell, ...rest], values }) => ({
    ...named(before.plugin, cell, rest),
    ...values,
  }));
}

interface JsonDifference {
  readonly path: readonly string[];
  readonly values: { readonly before: string; readonly after: string };
}

/** Paths at which two plain values differ, at most 64. */
export function jsonDifferences(before: Json, after: Json): JsonDifference[] {
  const found: JsonDifference[] = [];
  const walk = (a: Json | undefined, b: Json | undefined, path: string[]) => {
    if (found.length >= LIMIT || a === b) return;
    if (
      typeof a === "object" && a !== null && typeof b === "object" && b !== null
    ) {
      const left = a as { readonly [key: string]: Json };
      const right = b as { readonly [key: string]: Json };
      for (
        const key of new Set([...Object.keys(left), ...Object.keys(right)])
      ) {
        walk(left[key], right[key], [...path, key]);
      }
      return;
    }
    const show = (value: Json | undefined) =>
      value === undefined ? "missing" : JSON.stringify(value);
    found.push({ path, values: { before: show(a), after: show(b) } });
  };
  walk(before, after, []);
  return found;
}
