/**
 * The corpus of random x86 programs is worth testing the laws on (issue:
 * "prints its coverage and fails below"): every ISA row, every exception
 * vector, faults, self-modifying code, page-table edits, VM exits.
 */
import { assert, assertEquals } from "@std/assert";
import { EXCEPTIONS, Vector } from "../../cpu/arch/exceptions.ts";
import { parseModel } from "../../cpu/arch/models.ts";
import { ROWS } from "../../cpu/isa/table.ts";
import { rowLabel } from "../../cpu/isa/validate.ts";
import { Coverage } from "../sim/coverage.ts";
import { MODELS, NESTED_MODELS } from "../sim/program.ts";
import { corpus } from "./x86_subjects.ts";

/**
 * Rows that can't retire although a model shows them: they raise #UD, which is
 * what the corpus sees them do. So do rows of features that no model shows.
 */
const NEVER_RETIRE: readonly string[] = [
  "UD", // that is what it is for
  "RSM", // #UD outside SMM (SDM 2B RSM); SMM is not modelled
  "GETSEC", // #UD with CR4.SMXE = 0; no model shows SMX
  "VMMCALL", // exits or is #UD (APM 2 §15.18)
];

/** Names of the rows of features that no model of the corpus shows. */
function rowsNotShown(): string[] {
  const models = [...MODELS, ...NESTED_MODELS].map(parseModel);
  return ROWS.filter(({ feature }) =>
    feature !== undefined && !models.some((model) => model.has(feature))
  ).map(rowLabel);
}

/** Vectors that nothing raises here, with the reason. */
const NEVER_RAISED: Readonly<Record<number, string>> = {
  [Vector.VE]: "no model has the EPT-violation #VE control",
  [Vector.CP]: "no model shows CET",
};

Deno.test("the corpus covers rows, vectors, faults, SMC, page tables, VMX, SVM", () => {
  const coverage = new Coverage();
  for (const program of corpus) coverage.add(program);
  console.log(String(coverage));
  assert(coverage.programs >= 200);
  const { notRetired, notReached } = coverage.missing();
  assertEquals(notReached, [], "ISA rows that no program reached");
  assertEquals(
    [...notRetired].sort(),
    [...NEVER_RETIRE, ...rowsNotShown()].sort(),
    "ISA rows that never retired",
  );
  const silent = EXCEPTIONS.map(({ vector }) => vector)
    .filter((vector) => !coverage.vectors.has(vector));
  assertEquals(silent, Object.keys(NEVER_RAISED).map(Number));
  assert(coverage.faulting >= 0.1 * coverage.programs);
  assert(coverage.selfModifying >= 50);
  assert(coverage.pageTableEdits >= 50);
  assert(coverage.exits >= 500 && coverage.entries >= 500);
  assert(coverage.exitReasons.size >= 30);
  const svmExits = [...coverage.exitCodes.values()].reduce((a, b) => a + b, 0);
  assert(svmExits >= 200 && coverage.svmEntries >= 200);
  assert(coverage.exitCodes.size >= 40);
  assert(coverage.interrupts >= 300 && coverage.serialBytes >= 100);
  assertEquals(coverage.endings.get("not modelled") ?? 0, 0);
  // Most run to where they end themselves.
  assert((coverage.endings.get("stopped") ?? 0) >= 0.7 * coverage.programs);
});

Deno.test("the corpus is a function of its seed", async () => {
  const { makeCorpus } = await import("../sim/program.ts");
  const few = { long: 4, nested: 2, protected: 2, real: 1 };
  const one = makeCorpus(7n, few), again = makeCorpus(7n, few);
  assertEquals(one, again);
});
