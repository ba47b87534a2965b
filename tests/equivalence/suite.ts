/**
 * The equivalence test itself (design §8), over a range of seeds: every pair of
 * policy and program runs without L0, under L0 with MBEC in hardware, and with
 * MBEC emulated by both strategies, exact and lazy. Exact runs must be equal in
 * everything; a lazy run may differ only behind a slack note of the oracle.
 *
 * Prints how often each way up, each way down and each decision row occurred,
 * and fails below ten.
 */
import { assertEquals } from "@std/assert";
import {
  DATA,
  DOWN_COUNTS,
  ESCALATION_TITLES,
  hvciGuest,
  type HvciOptions,
  WAY_TITLES,
} from "../../examples/guests/hvci.ts";
import { DECISION_TABLE } from "../../plugins/mbec/decision.ts";
import { ARRANGEMENTS, compare, observe, type Run } from "./harness.ts";
import { pairOf } from "./programs.ts";
import { unpagedPairOf } from "./unpaged.ts";

/** Least number of occurrences of everything. */
const FLOOR = 10;

class Coverage {
  /** Lazy runs that differed, but only behind a slack note. */
  behindSlack = 0;
  private readonly counts = new Map<string, number>();

  constructor() {
    for (const title of ESCALATION_TITLES) this.add(`up: ${title}`, 0);
    for (const title of WAY_TITLES) this.add(`down: ${title}`, 0);
    for (const { row } of DECISION_TABLE) this.add(`row ${row}`, 0);
  }
  private add(what: string, n: number): void {
    this.counts.set(what, (this.counts.get(what) ?? 0) + n);
  }
  /** The guest counts its ways itself. */
  ways({ ram }: Run): void {
    const view = new DataView(ram.buffer, ram.byteOffset);
    const count = (i: number): number =>
      Number(view.getBigUint64(DATA.counts + i * 8, true));
    ESCALATION_TITLES.forEach((title, i) => this.add(`up: ${title}`, count(i)));
    WAY_TITLES.forEach((title, i) =>
      this.add(`down: ${title}`, count(DOWN_COUNTS + i))
    );
  }
  decisions({ seen }: Run): void {
    for (const [row, n] of seen.decisions) this.add(`row ${row}`, n);
  }
  toString(): string {
    const counts = [...this.counts].map(([what, n]) => `${what}: ${n}`);
    return `${counts.join(", ")}; behind a slack note: ${this.behindSlack}`;
  }
  /** Decision rows alone. */
  get decided(): string {
    return [...this.counts].filter(([what]) => what.startsWith("row "))
      .map(([what, n]) => `${what}: ${n}`).join(", ");
  }
  /** What occurred too rarely. */
  get rare(): string[] {
    return [...this.counts].filter(([, n]) => n < FLOOR).map(([what]) => what);
  }
}

/** Compares all arrangements over pairs. @returns what differed, by seed */
function compareAll(
  from: number,
  to: number,
  pair: (seed: number) => HvciOptions,
  coverage: Coverage,
): string[] {
  const wrong: string[] = [];
  for (let seed = from; seed < to; seed++) {
    const guest = hvciGuest(pair(seed));
    const [native, ...others] = ARRANGEMENTS.map((arrangement) =>
      observe(guest, arrangement)
    );
    coverage.ways(native);
    others.forEach((run, i) => {
      coverage.decisions(run);
      const found = compare(native, run);
      if (found === undefined) return;
      const { name, emulated } = ARRANGEMENTS[i + 1];
      const slack = emulated?.exactness === "lazy" &&
        run.seen.slack.length > 0 && run.seen.slack[0] <= found.step;
      if (slack) coverage.behindSlack++;
      else wrong.push(`seed ${seed}, ${name}: ${found.text}`);
    });
  }
  return wrong;
}

/** Registers the test for seeds from ≤ seed < to. */
export function equivalence(from: number, to: number): void {
  Deno.test(`seeds ${from} to ${to - 1}: hardware and emulation agree`, () => {
    const coverage = new Coverage();
    const wrong = compareAll(from, to, pairOf, coverage);
    console.log(coverage.toString());
    assertEquals(wrong, []);
    assertEquals(coverage.rare, [], `each must occur ${FLOOR} times`);
  });
}

/** The same for an L2 that turns paging on and off. */
export function unpagedEquivalence(from: number, to: number): void {
  Deno.test(`seeds ${from} to ${to - 1}, paging on and off`, () => {
    const coverage = new Coverage();
    const wrong = compareAll(from, to, unpagedPairOf, coverage);
    console.log(coverage.decided);
    assertEquals(wrong, []);
    const rows = coverage.rare.filter((what) => what.startsWith("row "));
    // Nothing is read before it changes, written, or withheld often here.
    assertEquals(rows.filter((row) => !/[248]$/.test(row)), []);
  });
}
