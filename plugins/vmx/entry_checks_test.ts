/**
 * The entry-check tables: every row is violated by its case and by that case
 * no other row; corner states pass; and a row whose predicate were flipped,
 * or that let everything pass, would be noticed by these very cases.
 */
import { assert, assertEquals } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import {
  CheckGroup,
  ENTRY_CHECKS,
  type EntryCheck,
  firstFailure,
} from "./entry_checks.ts";
import {
  ACCEPTED,
  validVmcs,
  type Violation,
  VIOLATIONS,
} from "./entry_cases_testing.ts";

function draftOf(c: Violation) {
  const draft = validVmcs(c.base, c.model);
  c.mutate(draft);
  return draft.context();
}

/** Ids of the rows of `checks` that a case violates. */
function violated(c: Violation, checks: readonly EntryCheck[]): string[] {
  const context = draftOf(c);
  return checks.filter((row) => !row.valid(context)).map((row) => row.id);
}

/** What is wrong with a table, judged by all cases. */
function faults(checks: readonly EntryCheck[]): string[] {
  const wrong: string[] = [];
  for (const [id, c] of VIOLATIONS) {
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

describe("VM-entry checks", () => {
  it("have unique names and a case each", () => {
    const ids = ENTRY_CHECKS.map((row) => row.id);
    assertEquals(new Set(ids).size, ids.length);
    assertEquals(ids.filter((id) => !VIOLATIONS.has(id)), []);
    assertEquals([...VIOLATIONS.keys()].filter((id) => !ids.includes(id)), []);
  });

  it("are each violated alone by their case; corner states pass", () => {
    assertEquals(faults(ENTRY_CHECKS), []);
  });

  it("are noticed when any one predicate is flipped or always true", () => {
    ENTRY_CHECKS.forEach((row, i) => {
      const flipped = ENTRY_CHECKS.with(i, {
        ...row,
        valid: (c) => !row.valid(c),
      });
      assert(faults(flipped).length > 0, `flipping ${row.id} goes unnoticed`);
      const lax = ENTRY_CHECKS.with(i, { ...row, valid: () => true });
      assert(faults(lax).length > 0, `dropping ${row.id} goes unnoticed`);
    });
  });

  it("end in the outcome of their group", () => {
    for (const row of ENTRY_CHECKS) {
      const c = VIOLATIONS.get(row.id);
      assert(c !== undefined);
      const context = draftOf(c);
      for (const group of Object.values(CheckGroup)) {
        const first = firstFailure(context, group);
        assertEquals(first?.id, group === row.group ? row.id : undefined);
      }
      assertEquals(row.qualification !== undefined, row.group === 2, row.id);
      assert(/^SDM 3C §27\.[23]/.test(row.manual), row.id);
    }
  });
});
