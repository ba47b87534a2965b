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
import type { Allowance } from "./exceptions.ts";

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
const KERNEL_HALF = 1n << 63n;
const PF = 14;

/** Whether a recording knows x87's pointers (ALLOWANCES.pointers). */
const pointersKnown = (c: SiliconCase): boolean =>
  c.vendor === "GenuineIntel" || (c.after.fpu.fsw & ES) !== 0;

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

/** What a comparison found. */
export interface Comparison {
  /** Differences, one readable text each; none when they agree. */
  readonly mismatches: readonly string[];
  /** Where the result differs, and may. */
  readonly allowed: ReadonlySet<Allowance>;
}

/** Compares a result with the recording. */
export function compare(c: SiliconCase, result: Result): Comparison {
  const out: string[] = [];
  const allowed = new Set<Allowance>();
  compareFaults(c.fault, result.fault, out, allowed);
  const expected = copyState(c.after);
  const actual = copyState(result.after);
  for (const [register, own] of c.hostBits) {
    if (actual.gpr[register] & own) allowed.add("host");
    actual.gpr[register] &= ~own;
  }
  if ((expected.rflags ^ actual.rflags) & c.undefinedFlags) {
    allowed.add("flags");
  }
  const mask = ~c.undefinedFlags;
  expected.rflags = (expected.rflags & mask) >>> 0;
  actual.rflags = (actual.rflags & mask) >>> 0;
  if (expected.rip !== actual.rip) {
    out.push(`rip: silicon ${hex(expected.rip)}, here ${hex(actual.rip)}`);
  }
  const fields = new Map(stateFields(actual));
  const known = pointersKnown(c);
  const near = TRANSCENDENTAL.test(c.form);
  for (const [name, value] of stateFields(expected)) {
    const here = fields.get(name)!;
    if (value === here) continue;
    if (POINTERS.has(name) && !known) allowed.add("pointers");
    else if (near && closeEnough(name, value, here)) allowed.add("last-bit");
    else {
      const note = name === "fl" && c.undefinedFlags
        ? ` (${hex(c.undefinedFlags)} masked as undefined)`
        : "";
      out.push(`${name}: silicon ${hex(value)}, here ${hex(here)}${note}`);
    }
  }
  comparePages(c, result, out);
  return { mismatches: out, allowed };
}

function compareFaults(
  silicon: SiliconFault | null,
  here: SiliconFault | null,
  out: string[],
  allowed: Set<Allowance>,
): void {
  const [expected, actual] = [faultText(silicon), faultText(here)];
  if (expected === actual) return;
  if (silicon?.vector === PF && here && here.cr2 >= KERNEL_HALF) {
    const errorCode = (here.errorCode & ~1) | (silicon.errorCode & 1);
    if (faultText({ ...here, errorCode }) === expected) {
      allowed.add("kernel");
      return;
    }
  }
  out.push(`fault: silicon ${expected}, here ${actual}`);
}

function comparePages(c: SiliconCase, result: Result, out: string[]): void {
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
}

/** How a set of cases fared with one engine. */
export interface Verdict {
  readonly agreed: number;
  /** Of those that agree, how many differ where they may, by reason. */
  readonly allowed: ReadonlyMap<Allowance, number>;
  /** Cases the engine said are not modelled, by its words. */
  readonly notModelled: ReadonlyMap<string, number>;
  /** Readable blocks, one a disagreeing case. */
  readonly failures: readonly string[];
}

/** Runs all `cases` through `runCase`. */
export function judge(
  cases: readonly SiliconCase[],
  runCase: RunCase,
): Verdict {
  let agreed = 0;
  const allowed = new Map<Allowance, number>();
  const notModelled = new Map<string, number>();
  const failures: string[] = [];
  for (const c of cases) {
    const result = runCase(c);
    if (typeof result === "string") {
      notModelled.set(result, (notModelled.get(result) ?? 0) + 1);
      continue;
    }
    const found = compare(c, result);
    if (found.mismatches.length === 0) {
      agreed++;
      for (const a of found.allowed) allowed.set(a, (allowed.get(a) ?? 0) + 1);
    } else {
      failures.push(
        `${c.form}: ${c.disassembly}\n` +
          found.mismatches.map((line) => `    ${line}`).join("\n"),
      );
    }
  }
  return { agreed, allowed, notModelled, failures };
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
