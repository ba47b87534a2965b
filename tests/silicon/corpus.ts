/**
 * Reads the recorded corpus, tests/cases/silicon/*.txt.
 * Invariant: file order and line order are stable.
 */
import { parseRows, type RowCount } from "./compare.ts";
import { parseFile, type SiliconCase } from "./vectors.ts";

const DIRECTORY = new URL("../cases/silicon/", import.meta.url);
const LISTS = ["ROWS.txt", "ROWS_SIMD.txt", "ROWS_INTEL.txt"];

/** Names of the vector files, sorted. */
export function vectorFiles(): string[] {
  return [...Deno.readDirSync(DIRECTORY)]
    .map((entry) => entry.name)
    .filter((name) => name.endsWith(".txt") && !LISTS.includes(name))
    .sort();
}

/** The cases of one vector file. @throws Error naming file and line. */
export function readVectors(name: string): SiliconCase[] {
  return parseFile(name, Deno.readTextFileSync(new URL(name, DIRECTORY)));
}

/** The processor that a file was recorded on, as its head says. */
export function readProcessor(name: string): string {
  const text = Deno.readTextFileSync(new URL(name, DIRECTORY));
  return /^# CPU: (.*)$/m.exec(text)?.[1] ?? "a processor without a name";
}

/** The list of all rows with their counts. */
export function readRows(): RowCount[] {
  const rows = new Map<string, RowCount>();
  for (const list of LISTS) {
    const text = Deno.readTextFileSync(new URL(list, DIRECTORY));
    for (const row of parseRows(text)) {
      // MOVSD and CMPSD are a string and a SIMD instruction each; and two
      // processors were recorded.
      const other = rows.get(row.mnemonic);
      const cases = row.cases + (other?.cases ?? 0);
      const faults = row.faults + (other?.faults ?? 0);
      const reason = cases > 0 ? "" : row.reason;
      rows.set(row.mnemonic, { ...row, cases, faults, reason });
    }
  }
  return [...rows.values()];
}

/** Bytes the corpus takes on disk. */
export function corpusBytes(): number {
  return [...vectorFiles(), ...LISTS].reduce(
    (sum, name) => sum + Deno.statSync(new URL(name, DIRECTORY)).size,
    0,
  );
}
