/** Registers one test per vector file for an engine; shared by the engines' tests. */
import { assert, assertEquals } from "@std/assert";
import { runOn } from "./bare_run.ts";
import { judge } from "./compare.ts";
import { readVectors, vectorFiles } from "./corpus.ts";
import { type EngineName, ENGINES } from "./engines.ts";

/** Failures shown for one file. */
const SHOWN = 10;

/**
 * @param part which files: those whose index is `part` modulo `parts`, so that
 *   no test file takes long
 */
export function judgeFiles(
  name: EngineName,
  part: number,
  parts: number,
): void {
  const { make, bytes } = ENGINES[name];
  const run = runOn(make, bytes);
  vectorFiles().forEach((file, i) => {
    if (i % parts !== part) return;
    Deno.test(`${name} agrees with silicon: ${file}`, () => {
      const cases = readVectors(file);
      assert(cases.length > 0);
      const verdict = judge(cases, run);
      assertEquals(verdict.failures.slice(0, SHOWN), []);
      assertEquals([...verdict.notModelled], []);
      assertEquals(verdict.agreed, cases.length);
    });
  });
}
