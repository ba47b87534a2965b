/**
 * The share of silicon vectors that agrees, as data and as text: for each
 * engine what was judged, what agrees and where a result differs but may; and
 * the rows that CPU models show, covered or with the reason why not.
 * Invariant: the judging is compare.ts's, the reasons are those of ROWS*.txt
 * and of exceptions.ts.
 */
import { runOn } from "./bare_run.ts";
import { judge } from "./compare.ts";
import { readProcessor, readRows, readVectors, vectorFiles } from "./corpus.ts";
import { type Coverage, coverage, ENOUGH } from "./coverage.ts";
import { type EngineName, ENGINES } from "./engines.ts";
import { type Allowance, ALLOWANCES } from "./exceptions.ts";

/** One engine's part of the report. */
export interface EngineShare {
  readonly engine: EngineName;
  readonly judged: number;
  readonly agreed: number;
  /** Of those that agree: where they differ and may. */
  readonly allowed: readonly AllowedShare[];
  /** Forms that the engine said are not modelled, by its words. */
  readonly notModelled: readonly string[];
  /** Readable blocks, one a disagreeing vector. */
  readonly failures: readonly string[];
}

/** How many vectors differ in what a manual leaves open. */
export interface AllowedShare {
  readonly what: string;
  readonly manual: string;
  readonly vectors: number;
}

/** Everything that the command prints. */
export interface ShareReport {
  /** Processors that were recorded, with the vectors of each. */
  readonly processors: readonly { name: string; vectors: number }[];
  readonly engines: readonly EngineShare[];
  /** Rows that a CPU model shows. */
  readonly rows: readonly Coverage[];
}

const add = <K>(counts: Map<K, number>, key: K, n: number): void => {
  counts.set(key, (counts.get(key) ?? 0) + n);
};

/** Judges one engine by every vector. */
function judgeEngine(engine: EngineName): EngineShare {
  const { make, bytes } = ENGINES[engine];
  const run = runOn(make, bytes);
  const allowed = new Map<Allowance, number>();
  const notModelled = new Set<string>();
  const failures: string[] = [];
  let judged = 0, agreed = 0;
  for (const file of vectorFiles()) {
    const cases = readVectors(file);
    const verdict = judge(cases, run);
    judged += cases.length;
    agreed += verdict.agreed;
    for (const [id, n] of verdict.allowed) add(allowed, id, n);
    for (const what of verdict.notModelled.keys()) notModelled.add(what);
    failures.push(...verdict.failures.map((text) => `${file}: ${text}`));
  }
  return {
    engine,
    judged,
    agreed,
    allowed: [...allowed].map(([id, vectors]) => ({
      ...ALLOWANCES[id],
      vectors,
    })),
    notModelled: [...notModelled],
    failures,
  };
}

/** The whole report. */
export function shareOf(engines: readonly EngineName[]): ShareReport {
  const processors = new Map<string, number>();
  for (const file of vectorFiles()) {
    add(processors, readProcessor(file), readVectors(file).length);
  }
  return {
    processors: [...processors].map(([name, vectors]) => ({ name, vectors })),
    engines: engines.map(judgeEngine),
    rows: coverage(readRows()),
  };
}

const isCovered = (row: Coverage): boolean => row.vectors >= ENOUGH;
/** A row without enough vectors, and nobody says why. */
const isMissing = (row: Coverage): boolean =>
  !isCovered(row) && (row.vectors > 0 || row.reason === "");

/** Whether all that was judged agrees, and no row lacks vectors or a reason. */
export function isWhole(report: ShareReport): boolean {
  return report.engines.every((e) => e.judged > 0 && e.agreed === e.judged) &&
    !report.rows.some(isMissing);
}

/** "100 %", or the share rounded down, so that it is never 100 by rounding. */
export function percent(part: number, whole: number): string {
  if (part === whole) return "100 %";
  return `${(Math.floor(part / whole * 1e5) / 1e3).toFixed(3)} %`;
}

/** Failures that the text shows of each engine. */
const SHOWN = 20;

function engineText(e: EngineShare): string[] {
  const lines = [
    `${e.engine.padEnd(9)}  ${e.judged} judged, ${e.agreed} agree: ` +
    percent(e.agreed, e.judged),
  ];
  for (const { vectors, what, manual } of e.allowed) {
    lines.push(`  ${String(vectors).padStart(6)}  ${what} (${manual})`);
  }
  for (const what of e.notModelled) lines.push(`  not modelled: ${what}`);
  for (const text of e.failures.slice(0, SHOWN)) lines.push(`  ${text}`);
  const more = e.failures.length - SHOWN;
  if (more > 0) lines.push(`  and ${more} more (--json has all)`);
  return lines;
}

function rowsText(rows: readonly Coverage[]): string[] {
  const covered = rows.filter(isCovered);
  const lines = [
    `rows: ${covered.length} of ${rows.length} that a CPU model shows have ` +
    `${ENOUGH} vectors or more`,
  ];
  const byReason = new Map<string, Coverage[]>();
  for (const row of rows) {
    if (isCovered(row)) continue;
    const why = isMissing(row)
      ? `only ${row.vectors} vectors, and no reason`
      : row.reason;
    byReason.set(why, [...byReason.get(why) ?? [], row]);
  }
  for (const [why, list] of byReason) {
    lines.push(`  ${why}:`);
    for (const { mnemonic, manual } of list) {
      lines.push(`    ${mnemonic.toUpperCase().padEnd(12)} ${manual}`);
    }
  }
  return lines;
}

/** The report as text. */
export function shareText(report: ShareReport): string {
  return [
    "vectors recorded on silicon:",
    ...report.processors.map(({ name, vectors }) =>
      `  ${String(vectors).padStart(6)}  ${name}`
    ),
    "",
    "agreement, and what differs where the manual leaves it open:",
    ...report.engines.flatMap(engineText),
    "",
    ...rowsText(report.rows),
  ].join("\n");
}
