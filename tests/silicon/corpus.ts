/**
 * Reads the recorded corpus, tests/cases/silicon/*.txt.
 * Invariant: file order and line order are stable.
 */
import { parseRows, type RowCount } from "./compare.ts";
import { parseFile, type SiliconCase } from "./vectors.ts";

const DIRECTORY = new URL("../cases/silicon/", import.meta.url);
const ROWS = "ROWS.txt";

/** Names of the vector files, sorted. */
export function vectorFiles(): string[] {
  return [...Deno.readDirSync(DIRECTORY)]
    .map((entry) => entry.name)
    .filter((name) => name.endsWith(".txt") && name !== ROWS)
    .sort();
}

/** The cases of one vector file. @throws Error naming file and line. */
export function readVectors(name: string): SiliconCase[] {
  return parseFile(name, Deno.readTextFileSync(new URL(name, DIRECTORY)));
}

/** The list of all rows with their counts. */
export function readRows(): RowCount[] {
  return parseRows(Deno.readTextFileSync(new URL(ROWS, DIRECTORY)));
}

/** Bytes the corpus takes on disk. */
export function corpusBytes(): number {
  return [...vectorFiles(), ROWS].reduce(
    (sum, name) => sum + Deno.statSync(new URL(name, DIRECTORY)).size,
    0,
  );
}
