/**
 * The table of VMRUN checks: every row is violated by its case and by that case
 * no other row; corner states pass; and a row whose predicate were flipped or
 * let everything pass would be noticed by these very cases.
 */
import { assert, assertEquals } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { Cr0, Efer } from "../../cpu/arch/flags.ts";
import { parseModel } from "../../cpu/arch/models.ts";
import {
  ACCEPTED,
  ALSO,
  type EntryCase,
  PDPT,
  VIOLATIONS,
} from "./entry_cases_testing.ts";
import { firstFailure, VMRUN_CHECKS, type VmrunCheck } from "./entry_checks.ts";
import { contextOf, longGuest } from "./vmcb_testing.ts";
import { Control, Save } from "./vmcb.ts";

function violated(c: EntryCase, checks: readonly VmrunCheck[]): string[] {
  const { legacyHost, pdpte } = c;
  const draft = longGuest(PDPT);
  c.change(draft);
  const context = contextOf(draft, {
    ...(c.model && { model: parseModel(c.model) }),
    ...(legacyHost && {
      hostLong: false,
      hostCr0: (legacyHost.paged ? Cr0.PE | Cr0.PG : Cr0.PE) >>> 0,
    }),
    readU64: (at) => at === PDPT ? pdpte ?? 0n : 0n,
  });
  return checks.filter((row) => !row.valid(context)).map((row) => row.id);
}

/** What is wrong with a table, judged by all cases. */
function faults(checks: readonly VmrunCheck[]): string[] {
  const wrong: string[] = [];
  for (const [id, c] of [...VIOLATIONS, ...ALSO]) {
    const ids = violated(c, checks);
    if (ids.length !== 1 || ids[0] !== id) {
      wrong.push(`${id}: case violates [${ids}]`);
    }
  }
  for (const [name, c] of ACCEPTED) {
    const ids = violated(c, checks);
    if (ids.length > 0) wrong.push(`${name}: refused by [${ids}]`);
  }
  return wrong;
}

describe("VMRUN checks", () => {
  it("have unique names, a manual section and a case each", () => {
    const ids = VMRUN_CHECKS.map((row) => row.id);
    assertEquals(new Set(ids).size, ids.length);
    assertEquals([...VIOLATIONS.keys()].toSorted(), ids.toSorted());
    for (const row of VMRUN_CHECKS) assert(/^APM 2 §15/.test(row.manual));
  });

  it("are each violated alone by their case; corner states pass", () => {
    assertEquals(faults(VMRUN_CHECKS), []);
  });

  it("are noticed when any one predicate is flipped or always true", () => {
    VMRUN_CHECKS.forEach((row, i) => {
      const flipped = VMRUN_CHECKS.with(i, {
        ...row,
        valid: (c) => !row.valid(c),
      });
      assert(faults(flipped).length > 0, `flipping ${row.id} goes unnoticed`);
      const lax = VMRUN_CHECKS.with(i, { ...row, valid: () => true });
      assert(faults(lax).length > 0, `dropping ${row.id} goes unnoticed`);
    });
  });

  it("answer with the first row that fails", () => {
    const draft = longGuest().set32(Control.asid, 0).off(Save.efer, Efer.SVME);
    assertEquals(firstFailure(contextOf(draft))?.id, "asid.zero");
    assertEquals(firstFailure(contextOf(longGuest())), undefined);
  });
});
