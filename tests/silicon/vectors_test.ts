/**
 * Tests of the vector format, of the comparison, and of the corpus itself: its
 * size, its coverage, and that what silicon did agrees with iced's table of
 * flags (an independent source) and with our table of undefined flags.
 */
import { assert, assertEquals, assertThrows } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { Code, Instruction, Mnemonic, Register, RflagsBits } from "iced-x86";
import {
  needsShiftContext,
  undefinedAfterFault,
  undefinedFlags,
} from "../../tools/silicon/undefined_flags.ts";
import {
  compare,
  judge,
  parseRows,
  type Result,
  rowsWithoutVectors,
} from "./compare.ts";
import { corpusBytes, readRows, readVectors, vectorFiles } from "./corpus.ts";
import { DATA } from "./environment.ts";
import {
  copyState,
  formatCase,
  pagesAfter,
  pagesBefore,
  parseCase,
  parseFile,
  type SiliconCase,
} from "./vectors.ts";

const ADD =
  "Add_rm8_r8 | add [rbx],al | 0003 | rax=f0 rbx=20000010 fl=203 m20000010=2201 | fl=203 m20000010=12 u=10";
const DIV = "Div_rm8 | div cl | f6f1 | rcx=0 | fault=0:0:0";
const FAULT =
  "Add_rm8_r8 | add [rbx],al | 0003 | rbx=20005010 | fault=e:6:20005010";

const perfect = (c: SiliconCase): Result => ({
  after: copyState(c.after),
  fault: c.fault,
  pages: pagesAfter(c),
});

const mismatches = (c: SiliconCase, result: Result): readonly string[] =>
  compare(c, result).mismatches;

// Iced's flag bits in RFLAGS positions.
const ICED_FLAGS: readonly [number, number][] = [
  [RflagsBits.CF, 1],
  [RflagsBits.PF, 4],
  [RflagsBits.AF, 0x10],
  [RflagsBits.ZF, 0x40],
  [RflagsBits.SF, 0x80],
  [RflagsBits.DF, 0x400],
  [RflagsBits.OF, 0x800],
];
const toRflags = (bits: number): number =>
  ICED_FLAGS.reduce((mask, [from, to]) => bits & from ? mask | to : mask, 0);

const codes = Code as unknown as Readonly<Record<string, Code>>;

interface FlagTable {
  readonly mnemonic: string;
  readonly written: number;
  readonly cleared: number;
  readonly set: number;
  readonly undefined: number;
}

const flagTables = new Map<string, FlagTable>();
function flagTable(form: string): FlagTable {
  const known = flagTables.get(form);
  if (known) return known;
  const ins = Instruction.create(codes[form]);
  // Two equal registers would be a zeroing idiom to iced.
  ins.op0Register = Register.AL;
  // And a shift by an immediate zero would change nothing.
  ins.immediate8 = 5;
  const table = {
    mnemonic: Mnemonic[ins.mnemonic],
    written: toRflags(ins.rflagsModified),
    cleared: toRflags(ins.rflagsCleared),
    set: toRflags(ins.rflagsSet),
    undefined: toRflags(ins.rflagsUndefined),
  };
  ins.free();
  flagTables.set(form, table);
  return table;
}

const files = vectorFiles().map((name) => ({ name, cases: readVectors(name) }));
const all = files.flatMap((f) => f.cases);

describe("silicon vector format", () => {
  it("parses registers, flags, memory and the next RIP", () => {
    const c = parseCase(
      ADD.replace("fl=203 m20000010=12 u=10", "fl=207 m20000010=12 u=10"),
    );
    assertEquals(c.code, Uint8Array.of(0, 3));
    assertEquals(c.before.gpr[0], 0xf0n);
    assertEquals(c.before.gpr[1], 0x0202020202020202n);
    assertEquals(c.after.rip, 0x10000802n);
    assertEquals([c.before.rflags, c.after.rflags], [0x203, 0x207]);
    assertEquals(c.undefinedFlags, 0x10);
    assertEquals(
      pagesBefore(c).get(DATA)!.slice(0x10, 0x13),
      Uint8Array.of(0x22, 1, 0),
    );
    assertEquals(
      pagesAfter(c).get(DATA)!.slice(0x10, 0x13),
      Uint8Array.of(0x12, 1, 0),
    );
  });

  it("parses faults and keeps RIP on the instruction", () => {
    const c = parseCase(FAULT);
    assertEquals(c.fault, { vector: 14, errorCode: 6, cr2: 0x20005010n });
    assertEquals(c.after.rip, c.before.rip);
  });

  it("says what is wrong, with file and line", () => {
    const cases: [string, string][] = [
      ["a | b | 90 | -", "4 fields"],
      ["a | b | 9 | - | -", 'bytes "9"'],
      ["a | b | 90 | rzx=1 | -", '"rzx=1"'],
      ["a | b | 90 | rax | -", '"rax": expected name=value'],
      ["a | b | 90 | st9=1 | -", '"st9=1"'],
      ["a | b | 90 | m1=00 | -", "not in a mapped page"],
      ["a | b | 90 | - | fault=1", 'fault "1"'],
    ];
    for (const [line, message] of cases) {
      assertThrows(
        () => parseFile("x.txt", `# c\n${line}`),
        Error,
        `x.txt:2: `,
      );
      assertThrows(() => parseFile("x.txt", line), Error, message);
    }
  });

  it("formats every recorded case as its own line", () => {
    for (const { name } of files) {
      const path = new URL(`../cases/silicon/${name}`, import.meta.url);
      const lines = Deno.readTextFileSync(path).split("\n")
        .filter((l) => l && !l.startsWith("#"));
      assertEquals(lines, readVectors(name).map(formatCase));
    }
  });
});

describe("comparison with silicon", () => {
  const c = parseCase(ADD);

  it("accepts an equal result and masks only undefined flags", () => {
    const result = perfect(c);
    assertEquals(mismatches(c, result), []);
    result.after.rflags ^= 0x10;
    assertEquals(mismatches(c, result), []);
    result.after.rflags ^= 1;
    assertEquals(mismatches(c, result), [
      "fl: silicon 0x203, here 0x202 (0x10 masked as undefined)",
    ]);
  });

  it("names every kind of difference", () => {
    const wrong = perfect(c);
    wrong.after.gpr[11] = 7n;
    wrong.after.rip += 1n;
    wrong.after.fpu.xmm[3] = 1n;
    wrong.after.selectors[3] = 0x2b;
    wrong.pages.get(DATA)![0x11] = 0xee;
    const text = mismatches(c, { ...wrong, fault: parseCase(DIV).fault });
    assertEquals(text, [
      "fault: silicon no fault, here vector 0, error code 0x0",
      "rip: silicon 0x10000802, here 0x10000803",
      "r11: silicon 0xc0c0c0c0c0c0c0c, here 0x7",
      "ds: silicon 0x0, here 0x2b",
      "xmm3: silicon 0x0, here 0x1",
      "memory 0x20000011: silicon 01 00 00 00 00 00 00 00, here ee 00 00 00 00 00 00 00",
    ]);
  });

  it("tells a fault's address and error code apart", () => {
    const f = parseCase(FAULT);
    const fault = { ...f.fault!, errorCode: 4 };
    assertEquals(mismatches(f, { ...perfect(f), fault }), [
      "fault: silicon vector 14, error code 0x6, CR2 0x20005010, here vector 14, error code 0x4, CR2 0x20005010",
    ]);
  });

  it("counts agreement, what is not modelled, and failures", () => {
    const run = (k: SiliconCase): Result | string =>
      k.fault ? "DIV: not modelled" : perfect(k);
    const wrong = parseCase(ADD.replace("rax=f0", "rax=f1"));
    const verdict = judge(
      [c, parseCase(DIV), wrong],
      (k) =>
        k === wrong
          ? { ...perfect(k), after: { ...k.after, rflags: 2 } }
          : run(k),
    );
    assertEquals(verdict.agreed, 1);
    assertEquals([...verdict.notModelled], [["DIV: not modelled", 1]]);
    assertEquals(verdict.failures.length, 1);
    assert(verdict.failures[0].startsWith("Add_rm8_r8: add [rbx],al\n    fl:"));
  });
});

describe("silicon corpus", () => {
  it("stays below 5 MB with at least 50 cases a recorded row", () => {
    assert(corpusBytes() <= 5_000_000, `${corpusBytes()} bytes`);
    const recorded = readRows().filter((row) => row.cases > 0);
    assert(recorded.length >= 250, `${recorded.length} rows`);
    for (const { mnemonic, cases } of recorded) {
      assert(cases >= 50, `${mnemonic}: ${cases} cases`);
    }
    const byRow = new Map<string, number>();
    for (const { form } of all) {
      const { mnemonic } = flagTable(form);
      byRow.set(mnemonic, (byRow.get(mnemonic) ?? 0) + 1);
    }
    assertEquals(
      [...byRow].sort(),
      recorded.map((r): [string, number] => [r.mnemonic, r.cases]).sort(),
    );
  });

  it("gives a reason for every row without vectors", () => {
    const rows = readRows();
    for (const { mnemonic, cases, reason } of rows) {
      assert(cases > 0 || reason.length > 10, mnemonic);
    }
    const text = rowsWithoutVectors(parseRows("Add 64 3\nCpuid 0 its own\n"));
    assertEquals(text, "its own: cpuid");
  });

  it("holds faults of every kind user code can raise", () => {
    const seen = new Set(all.flatMap((c) => c.fault ? [c.fault.vector] : []));
    assertEquals([...seen].sort((a, b) => a - b), [
      0, // #DE
      1, // #DB (INT1)
      3, // #BP
      4, // #OF (INTO, INT 4)
      5, // #BR (BOUND)
      6, // #UD
      12, // #SS
      13, // #GP
      14, // #PF
      16, // #MF
      17, // #AC
      19, // #XM
    ]);
  });

  it("changes only flags that iced's table says may change", () => {
    for (const c of all) {
      const table = flagTable(c.form);
      const status = 0xcd5;
      const changed = (c.before.rflags ^ c.after.rflags) & status;
      const allowed = c.fault ? stringFlags(table, c) : table.written;
      const wrong = changed & ~allowed;
      if (wrong) assertEquals(wrong, 0, formatCase(c));
      if (c.fault) continue;
      const masked = conditional(table.mnemonic);
      const kept = c.after.rflags & table.cleared & ~masked;
      const missing = table.set & ~c.after.rflags;
      if (kept | missing) assertEquals([kept, missing], [0, 0], formatCase(c));
    }
  });

  it("masks the flags that iced's table calls undefined", () => {
    for (const c of all) {
      const { mnemonic, undefined: iced } = flagTable(c.form);
      if (c.fault) {
        const partly = c.before.rflags !== c.after.rflags;
        const mask = partly ? undefinedAfterFault(mnemonic) : 0;
        if (c.undefinedFlags !== mask) {
          assertEquals(c.undefinedFlags, mask, formatCase(c));
        }
      } else if (needsShiftContext(mnemonic)) {
        // Iced does not know the count: its mask is all that may be undefined
        // for some count, except CF beyond the width and SHLD's results.
        continue;
      } else {
        assertEquals(c.undefinedFlags, undefinedFlags(mnemonic), c.form);
        assertEquals(c.undefinedFlags, iced, c.form);
      }
    }
  });
});

// REP CMPS and SCAS commit the flags of the iterations before a fault.
function stringFlags(table: FlagTable, c: SiliconCase): number {
  const repeated = c.code.includes(0xf3) || c.code.includes(0xf2);
  return /^(Cmps|Scas)/.test(table.mnemonic) && repeated ? table.written : 0;
}

// Shifts by zero leave flags alone that iced lists as cleared.
function conditional(mnemonic: string): number {
  return needsShiftContext(mnemonic) ? 0xfff : 0;
}
