/**
 * Judges an engine by the silicon vectors: the interface an engine offers, the
 * comparison with undefined flags masked, and which rows no vector covers.
 * Invariant: everything not listed in a vector must be unchanged, so a result
 * is compared whole: registers, flags, selectors, x87/SSE state, all pages.
 */
import {
  copyState,
  pagesAfter,
  type SiliconCase,
  type SiliconFault,
  type SiliconState,
  stateFields,
} from "./vectors.ts";
import { PAGE_SIZE } from "./environment.ts";

/** What an engine made of one case. */
export interface Result {
  readonly after: SiliconState;
  readonly fault: SiliconFault | null;
  /** The four pages by linear address, PAGE_SIZE bytes each, as left behind. */
  readonly pages: ReadonlyMap<number, Uint8Array>;
}

/**
 * An engine under judgement: sets the world of environment.ts up at CPL 3, with
 * `case.before` and `pagesBefore(case)`, executes the one instruction at RIP
 * until RIP leaves it (REP iterations, at most 64) or it faults, and tells the
 * state. With a fault, `after` is what the exception's frame would save: RIP of
 * the instruction for faults, of the next one for traps (INT3, INT n, INT1).
 * RF is cleared. Returns a text instead when the form is not modelled.
 */
export type RunCase = (c: SiliconCase) => Result | string;

/** x87's last instruction pointers. */
const POINTERS: ReadonlySet<string> = new Set(["fop", "fip", "fdp"]);
const ES = 0x80;

/**
 * Instructions whose results the manual bounds by one unit in the last place
 * (SDM vol. 1 §8.3.10): processors differ there, in C1 with it, and in PE where
 * a result happens to be exact.
 */
const TRANSCENDENTAL = /^F(2xm1|yl2x|yl2xp1|ptan|patan|sin|cos|sincos)$/;
const C1_AND_PE = 0x220n;

/** Whether a field of a transcendental's result is within the bound. */
function closeEnough(name: string, silicon: bigint, here: bigint): boolean {
  if (name === "fsw") return ((silicon ^ here) & ~C1_AND_PE) === 0n;
  if (!/^st[01]$/.test(name)) return false;
  const apart = silicon - here;
  return apart === 1n || apart === -1n;
}

const hex = (v: bigint | number): string => `0x${v.toString(16)}`;

function faultText(fault: SiliconFault | null): string {
  if (!fault) return "no fault";
  const { vector, errorCode, cr2 } = fault;
  return `vector ${vector}, error code ${hex(errorCode)}` +
    (vector === 14 ? `, CR2 ${hex(cr2)}` : "");
}

/**
 * Differences between `result` and the recording, one readable text each;
 * empty when they agree.
 */
export function mismatches(c: SiliconCase, result: Result): string[] {
  const out: string[] = [];
  const expectedFault = faultText(c.fault);
  const actualFault = faultText(result.fault);
  if (expectedFault !== actualFault) {
    out.push(`fault: silicon ${expectedFault}, here ${actualFault}`);
  }
  const mask = ~c.undefinedFlags;
  const expected = copyState(c.after);
  const actual = copyState(result.after);
  expected.rflags = (expected.rflags & mask) >>> 0;
  actual.rflags = (actual.rflags & mask) >>> 0;
  for (const [register, own] of c.hostBits) actual.gpr[register] &= ~own;
  if (expected.rip !== actual.rip) {
    out.push(`rip: silicon ${hex(expected.rip)}, here ${hex(actual.rip)}`);
  }
  const fields = new Map(stateFields(actual));
  // Seen on the recording host: the signal frame keeps these while an x87
  // exception is pending (ES = 1) and shows zero otherwise, so without one
  // the recording does not know them.
  const pointersKnown = (expected.fpu.fsw & ES) !== 0;
  const near = TRANSCENDENTAL.test(c.form);
  for (const [name, value] of stateFields(expected)) {
    const here = fields.get(name)!;
    if (near && closeEnough(name, value, here)) continue;
    if (value === here || (POINTERS.has(name) && !pointersKnown)) continue;
    const note = name === "fl" && c.undefinedFlags
      ? ` (${hex(c.undefinedFlags)} masked as undefined)`
      : "";
    out.push(`${name}: silicon ${hex(value)}, here ${hex(here)}${note}`);
  }
  for (const [address, page] of pagesAfter(c)) {
    const here = result.pages.get(address);
    if (here?.length !== PAGE_SIZE) {
      out.push(`page ${hex(address)}: missing in the result`);
      continue;
    }
    let at = 0;
    while (at < PAGE_SIZE && page[at] === here[at]) at++;
    if (at === PAGE_SIZE) continue;
    const bytes = (p: Uint8Array): string =>
      Array.from(p.subarray(at, at + 8), (b) => b.toString(16).padStart(2, "0"))
        .join(" ");
    out.push(
      `memory ${hex(address + at)}: silicon ${bytes(page)}, here ${
        bytes(here)
      }`,
    );
  }
  return out;
}

/** How a set of cases fared with one engine. */
export interface Verdict {
  readonly agreed: number;
  /** Cases the engine said are not modelled, by its words. */
  readonly notModelled: ReadonlyMap<string, number>;
  /** Readable blocks, one a disagreeing case. */
  readonly failures: readonly string[];
}

/**
 * Runs all `cases` through `runCase`. `skip` (for instance `amdOnly` cases on
 * an Intel model) leaves cases out.
 */
export function judge(
  cases: readonly SiliconCase[],
  runCase: RunCase,
  skip: (c: SiliconCase) => boolean = () => false,
): Verdict {
  let agreed = 0;
  const notModelled = new Map<string, number>();
  const failures: string[] = [];
  for (const c of cases) {
    if (skip(c)) continue;
    const result = runCase(c);
    if (typeof result === "string") {
      notModelled.set(result, (notModelled.get(result) ?? 0) + 1);
      continue;
    }
    const found = mismatches(c, result);
    if (found.length === 0) agreed++;
    else {
      failures.push(
        `${c.form}: ${c.disassembly}\n` +
          found.map((line) => `    ${line}`).join("\n"),
      );
    }
  }
  return { agreed, notModelled, failures };
}

/** One row of ROWS.txt. */
export interface RowCount {
  readonly mnemonic: string;
  readonly cases: number;
  readonly faults: number;
  /** Why there are none; empty if there are. */
  readonly reason: string;
}

/** Parses tests/cases/silicon/ROWS.txt. */
export function parseRows(text: string): RowCount[] {
  const rows: RowCount[] = [];
  for (const [i, line] of text.split("\n").entries()) {
    if (line === "" || line.startsWith("#") || line.startsWith("form ")) {
      continue;
    }
    const match = /^(\S+) (\d+) (.+)$/.exec(line);
    if (!match) {
      throw new Error(`ROWS.txt:${i + 1}: expected "mnemonic count detail"`);
    }
    const cases = Number(match[2]);
    rows.push({
      mnemonic: match[1],
      cases,
      faults: cases ? Number(match[3]) : 0,
      reason: cases ? "" : match[3],
    });
  }
  return rows;
}

/** Text that lists the rows without vectors, grouped by reason. */
export function rowsWithoutVectors(rows: readonly RowCount[]): string {
  const byReason = new Map<string, string[]>();
  for (const { mnemonic, cases, reason } of rows) {
    if (cases) continue;
    byReason.set(reason, [...byReason.get(reason) ?? [], mnemonic]);
  }
  return [...byReason].map(([reason, list]) =>
    `${reason}: ${list.map((m) => m.toLowerCase()).join(" ")}`
  ).join("\n");
}
