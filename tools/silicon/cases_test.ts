/**
 * Tests of the generator's side that needs no silicon: every form it wants to
 * record can be encoded and decodes to itself, equal seeds give equal cases,
 * and every row has forms or a reason.
 */
import { assert, assertEquals, assertNotEquals } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { Code, Decoder, DecoderOptions } from "iced-x86";
import { CODE, PAGE_SIZE } from "../../tests/silicon/environment.ts";
import { type Draft, draft } from "./cases.ts";
import { LEGACY, legacyDraft } from "./legacy_cases.ts";
import { Random } from "./random.ts";
import { allRows, type Form } from "./rows.ts";
import { resultUndefined, undefinedFlags } from "./undefined_flags.ts";
import { namesForeign, XSAVE_AREA } from "./xsave_cases.ts";

function some(form: Form, seed: string, count: number): Draft[] {
  const rng = new Random(seed);
  const made: Draft[] = [];
  for (let i = 0; made.length < count && i < 200 * count; i++) {
    const d = form.legacy ? legacyDraft(form, rng) : draft(form, rng);
    if (d && !d.disassembly.startsWith("(")) made.push(d);
  }
  return made;
}

const rows = allRows();
const intel = allRows("intel").flatMap((row) => row.forms);
const forms = rows.flatMap((row) => row.forms);

describe("silicon case generator", () => {
  it("encodes every form it wants to record", () => {
    for (const form of [...forms, ...intel]) {
      const [d] = some(form, form.name, 1);
      assert(d, `${form.name}: no case after 200 tries`);
      const decoder = new Decoder(
        form.legacy ? 32 : 64,
        d.code,
        d.amdOnly ? DecoderOptions.AMD : DecoderOptions.None,
      );
      const ins = decoder.decode();
      assertEquals(Code[ins.code], form.name);
      assertEquals(ins.length, d.code.length);
      ins.free();
      decoder.free();
    }
  });

  it("gives equal cases for equal seeds only", () => {
    const form = forms.find((f) => f.name === "Add_rm32_r32")!;
    const shown = (seed: string): string =>
      some(form, seed, 20).map((d) =>
        `${d.code} ${d.before.gpr} ${d.before.rflags}`
      ).join("\n");
    assertEquals(shown("a"), shown("a"));
    assertNotEquals(shown("a"), shown("b"));
  });

  it("reaches pages that fault and operands that do not", () => {
    const form = forms.find((f) => f.name === "Mov_r64_rm64")!;
    const drafts = some(form, "pages", 400);
    const withMemory = drafts.filter((d) => d.memory.length > 0);
    const bare = drafts.filter((d) => d.disassembly.includes("["))
      .filter((d) => d.memory.length === 0);
    assert(withMemory.length > 100, `${withMemory.length} with memory`);
    assert(bare.length > 5, `${bare.length} towards no page`);
  });

  it("accounts for every row", () => {
    for (const { mnemonic, forms, skipped } of rows) {
      assert(forms.length + skipped.size > 0, mnemonic);
      for (const [form, why] of skipped) assert(why !== "", form);
    }
  });
});

describe("cases that Intel's processor records", () => {
  it("name no component of XSAVE that only the host has", () => {
    const areas = intel.filter((f) => XSAVE_AREA.test(f.mnemonic));
    assertEquals(areas.length, 8);
    const drafts = areas.flatMap((form) => some(form, "masks", 100));
    const judged = drafts.filter((d) => !namesForeign(d));
    assert(judged.length > 600, `${judged.length} judged`);
    // XCR0 of the host is 600E7H: x87, SSE and its own.
    for (const { before } of judged) assertEquals(before.gpr[0] & 0x600e4n, 0n);
    const masks = new Set(judged.map(({ before }) => before.gpr[0] & 3n));
    assertEquals([...masks].sort(), [0n, 1n, 2n, 3n]);
  });

  it("run in compatibility mode what has no 64-bit form", () => {
    const legacy = intel.filter((f) => f.legacy);
    assert(legacy.length > 60, `${legacy.length} forms`);
    for (const form of legacy) {
      assert(LEGACY.test(form.name));
      const [d] = some(form, form.name, 1);
      assertEquals(d.before.selectors.slice(0, 4), [0x2b, 0x23, 0x2b, 0x2b]);
      assert(d.before.rip < BigInt(CODE + PAGE_SIZE));
    }
  });
});

describe("undefined flags", () => {
  it("follow the masked count of shifts and rotates", () => {
    const rows: [string, number, number, number][] = [
      // mnemonic, width, masked count, mask (SDM vol. 2 SAL/SAR/SHL/SHR, …)
      ["Shl", 32, 0, 0],
      ["Shl", 32, 1, 0x10],
      ["Shl", 32, 2, 0x810],
      ["Shl", 8, 8, 0x811],
      ["Sar", 8, 31, 0x810],
      ["Rol", 16, 0, 0],
      ["Rcr", 16, 1, 0],
      ["Rcr", 16, 2, 0x800],
      ["Shld", 32, 1, 0x10],
      ["Shld", 16, 17, 0x8d5],
    ];
    for (const [mnemonic, width, count, mask] of rows) {
      assertEquals(
        undefinedFlags(mnemonic, { width, count }),
        mask,
        `${mnemonic} ${width} by ${count}`,
      );
    }
    assertEquals(undefinedFlags("Add"), 0);
    assert(resultUndefined("Shrd", { width: 16, count: 17 }));
    assert(!resultUndefined("Shrd", { width: 32, count: 31 }));
  });
});
