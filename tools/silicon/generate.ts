/**
 * Records tests/cases/silicon/*.txt on the CPU under us.
 *   deno run -A tools/silicon/generate.ts [--simd|--intel] [--only RE] [--dry]
 * `--simd`: only rows with MMX or XMM operands that are in the ISA table, into
 * simd_*.txt; `--intel`, on Intel's: what rows.ts keeps for it, into
 * intel_*.txt; without either all others, on AMD's.
 * Needs gcc, Linux on x86-64 and CR4.FSGSBASE. Every form gets seeded cases,
 * every row (mnemonic) at least MINIMUM of them; ROWS.txt lists all rows, with
 * counts or with the reason for none.
 * Invariant: no clock and no entropy; the same CPU gives the same files.
 */
import { rowIndexOf } from "../../cpu/isa/table.ts";
import {
  FORMAT_HEADER,
  formatCase,
  parseCase,
  type SiliconCase,
} from "../../tests/silicon/vectors.ts";
import { type Draft, draft } from "./cases.ts";
import { isFloat, leftOpen } from "./floats.ts";
import { alsoIn64, legacyCount, legacyDraft } from "./legacy_cases.ts";
import { ranDry } from "./host_values.ts";
import { buildHarness, execute, type Outcome } from "./native.ts";
import { Random } from "./random.ts";
import { allRows, fileOf, type Form, type Row, type Scope } from "./rows.ts";
import {
  needsShiftContext,
  resultUndefined,
  type ShiftContext,
  undefinedAfterFault,
  undefinedFlags,
} from "./undefined_flags.ts";
import { namesForeign, XSAVE_AREA } from "./xsave_cases.ts";

/** For each mnemonic, by set. */
const MINIMUM: Readonly<Record<Scope, number>> = {
  general: 96,
  simd: 60,
  intel: 52,
};
/** For each mnemonic with an XSAVE area. */
const AREA_MINIMUM = 56;
/** For each of sixteen conditions of one semantics. */
const CONDITIONS = /^(Cmov|Set(?!ssbsy)|J(?!mp)|Loop)/, CONDITION_MINIMUM = 60;
/** For each mnemonic whose cases state seeds: they are short of room. */
const SEEDED_MINIMUM = 51;
/** PCMPxSTRx: their immediates have 256 meanings. */
const STRINGS = /^Pcmp[ei]str/, STRINGS_MINIMUM = 136;
/** For each floating-point mnemonic; most with register operands. */
const FLOAT_MINIMUM = 52, FLOAT_MEMORY = 35;
const PER_FORM = 8;
const SEED = "vmtape silicon 1";
const OUT = new URL("../../tests/cases/silicon/", import.meta.url);

/** Width and masked count of a shift, from its form and its inputs. */
function shiftContext(d: Draft): ShiftContext {
  const width = Number(/_(?:rm|r)(\d+)/.exec(d.form.name)?.[1] ?? 64);
  const raw = d.form.name.endsWith("_1")
    ? 1
    : d.form.name.endsWith("_CL")
    ? Number(d.before.gpr[1] & 0xffn)
    : d.code[d.code.length - 1];
  return { width, count: raw & (width === 64 ? 63 : 31) };
}

function drafts(row: Row, form: Form, minimum: number): Draft[] {
  const rng = new Random(`${SEED} ${form.name}`);
  const most = STRINGS.test(row.mnemonic)
    ? STRINGS_MINIMUM
    : isFloat(form)
    ? FLOAT_MINIMUM
    : form.seededFile !== undefined
    ? SEEDED_MINIMUM
    : XSAVE_AREA.test(row.mnemonic)
    ? AREA_MINIMUM
    : CONDITIONS.test(row.mnemonic)
    ? CONDITION_MINIMUM
    : minimum;
  const share = Math.max(PER_FORM, Math.ceil(most / row.forms.length));
  const wanted = form.legacy ? legacyCount(form, share) : share;
  const make = form.legacy ? legacyDraft : draft;
  const made: Draft[] = [];
  const seen = new Set<string>();
  for (let tries = 0; made.length < wanted && tries < wanted * 50; tries++) {
    const d = make(form, rng);
    if (!d) continue;
    if (namesForeign(d)) continue;
    if (leftOpen(form.mnemonic, d.before.fpu.st[0])) continue;
    if (isFloat(form) && d.hasMemory && !rng.chance(FLOAT_MEMORY)) continue;
    if (
      needsShiftContext(form.mnemonic) &&
      resultUndefined(form.mnemonic, shiftContext(d))
    ) continue;
    const key = `${d.code} ${d.before.gpr} ${d.before.rflags} ${d.seed}`;
    if (seen.has(key)) continue;
    seen.add(key);
    made.push(d);
  }
  return made;
}

function faultMask(d: Draft, o: Outcome): number {
  if (o.after.rflags === d.before.rflags) return 0;
  return undefinedAfterFault(d.form.mnemonic);
}

function record(d: Draft, o: Outcome): SiliconCase {
  const mnemonic = d.form.mnemonic;
  const mask = o.fault ? faultMask(d, o) : undefinedFlags(
    mnemonic,
    needsShiftContext(mnemonic) ? shiftContext(d) : undefined,
  );
  const hostBits = o.fault ? new Map<number, bigint>() : d.hostBits;
  for (const [register, own] of hostBits) o.after.gpr[register] &= ~own;
  return {
    vendor: d.form.vendor,
    form: d.form.name,
    disassembly: d.disassembly,
    code: d.code,
    before: d.before,
    memoryBefore: d.memory,
    after: o.after,
    hostBits,
    fault: o.fault,
    memoryAfter: o.memoryAfter,
    undefinedFlags: mask,
    amdOnly: d.amdOnly,
    ...(d.seed === undefined ? {} : { seed: d.seed }),
  };
}

function isString(form: Form): boolean {
  return /^(Movs|Cmps|Stos|Lods|Scas|Ins|Outs)[bwdq]_/.test(form.name);
}

function cpuName(): string {
  const text = Deno.readTextFileSync("/proc/cpuinfo");
  const field = (name: string): string =>
    new RegExp(`^${name}\\s*: (.*)$`, "m").exec(text)?.[1] ?? "?";
  return `${field("model name")}, family ${field("cpu family")} model ${
    field("model")
  } stepping ${field("stepping")}`;
}

interface Tally {
  cases: number;
  faults: number;
}

/** Where the rows of a set are listed, and which they are. */
const LISTS: Readonly<Record<Scope, { file: string; what: string }>> = {
  general: { file: "ROWS.txt", what: "of 64-bit mode outside SIMD and EVEX" },
  simd: { file: "ROWS_SIMD.txt", what: "of 64-bit mode with SIMD operands" },
  intel: { file: "ROWS_INTEL.txt", what: "that ROWS.txt lacks" },
};

/** @throws Error on the wrong vendor's processor */
function checkVendor(scope: Scope): void {
  const wanted = scope === "intel" ? "GenuineIntel" : "AuthenticAMD";
  const info = Deno.readTextFileSync("/proc/cpuinfo");
  const vendor = /^vendor_id\s*: (.*)$/m.exec(info)?.[1];
  if (vendor !== wanted) {
    throw new Error(
      `record silicon vectors: this processor is ${vendor}'s, those of ` +
        `${LISTS[scope].file} are ${wanted}'s; --only records none`,
    );
  }
}

function rowsReport(
  rows: readonly Row[],
  tallies: ReadonlyMap<string, Tally>,
  scope: Scope,
): string {
  const lines = [
    `# Rows (iced mnemonics) ${LISTS[scope].what}, on ${cpuName()}.`,
    "# Written by tools/silicon/generate.ts. mnemonic cases faults, or",
    "# mnemonic 0 and the reason; then forms of recorded rows left out.",
  ];
  for (const row of rows) {
    const t = tallies.get(row.mnemonic);
    const why = [...new Set(row.skipped.values())].join("; ");
    lines.push(
      t ? `${row.mnemonic} ${t.cases} ${t.faults}` : `${row.mnemonic} 0 ${why}`,
    );
  }
  for (const row of rows.filter((r) => tallies.has(r.mnemonic))) {
    for (const [form, why] of row.skipped) lines.push(`form ${form}: ${why}`);
  }
  return lines.join("\n") + "\n";
}

/** Leaves out SIMD forms that have no row in the ISA table. */
function keepModelled(row: Row): void {
  for (const form of row.forms.splice(0)) {
    if (rowIndexOf(form.name) >= 0) row.forms.push(form);
    else row.skipped.set(form.name, "not in the ISA table yet");
  }
}

async function main(args: string[]): Promise<void> {
  const onlyAt = args.indexOf("--only");
  const only = onlyAt >= 0 ? new RegExp(args[onlyAt + 1]) : null;
  const dry = args.includes("--dry") || only !== null;
  const binary = Deno.makeTempFileSync({ prefix: "vmtape-silicon-" });
  buildHarness(new URL("harness.c", import.meta.url).pathname, binary);
  const scope = args.includes("--simd")
    ? "simd"
    : args.includes("--intel")
    ? "intel"
    : "general";
  if (!dry) checkVendor(scope);
  const rows = allRows(scope);
  if (scope === "simd") rows.forEach(keepModelled);
  const files = new Map<string, string[]>();
  const tallies = new Map<string, Tally>();
  const troubles: string[] = [];
  for (const row of rows) {
    if (only && !only.test(row.mnemonic)) continue;
    const all = row.forms.flatMap((form) => drafts(row, form, MINIMUM[scope]));
    if (all.length === 0) continue;
    const outcomes = await execute(binary, all);
    const file = fileOf(row.mnemonic, !row.userMode, scope);
    const tally = { cases: 0, faults: 0 };
    for (const [i, o] of outcomes.entries()) {
      if (typeof o === "string") {
        troubles.push(`${all[i].form.name} (${all[i].disassembly}): ${o}`);
        continue;
      }
      // What a faulting instruction stored before it faulted is the model's
      // own order of work; only string instructions define it.
      if (o.fault && o.memoryAfter.length && !isString(all[i].form)) continue;
      if (!o.fault && ranDry(row.mnemonic, o.after.rflags)) continue;
      const line = formatCase(record(all[i], o));
      if (formatCase(parseCase(line)) !== line) {
        troubles.push(`does not survive parsing: ${line}`);
      }
      const { seededFile, legacy } = all[i].form;
      const into = legacy
        ? "intel_legacy"
        : scope === "intel"
        ? file
        : seededFile ?? file;
      files.set(into, [...files.get(into) ?? [], line]);
      tally.cases++;
      if (o.fault) tally.faults++;
    }
    tallies.set(row.mnemonic, tally);
    // What exists in 64-bit mode, too, has its cases on AMD's.
    if (tally.cases < 50 && !row.forms.some(alsoIn64)) {
      troubles.push(`${row.mnemonic}: only ${tally.cases} cases`);
    }
  }
  Deno.removeSync(binary);
  let bytes = 0;
  for (const [file, lines] of files) {
    const header = [...FORMAT_HEADER, `CPU: ${cpuName()}`].map((l) => `# ${l}`);
    const text = [...header, ...lines].join("\n") + "\n";
    bytes += text.length;
    if (dry) console.log(lines.join("\n"));
    else Deno.writeTextFileSync(new URL(`${file}.txt`, OUT), text);
  }
  if (!dry) {
    Deno.writeTextFileSync(
      new URL(LISTS[scope].file, OUT),
      rowsReport(rows, tallies, scope),
    );
  }
  const cases = [...tallies.values()].reduce((n, t) => n + t.cases, 0);
  const faults = [...tallies.values()].reduce((n, t) => n + t.faults, 0);
  for (const trouble of troubles) console.error(trouble);
  console.error(
    `${tallies.size} rows, ${cases} cases (${faults} faulting), ${bytes} bytes`,
  );
}

if (import.meta.main) await main(Deno.args);
