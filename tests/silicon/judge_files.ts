/** Registers one test per vector file for an engine; shared by the engines' tests. */
import { assert, assertEquals } from "@std/assert";
import type { Backend } from "../../cpu/engine/backend.ts";
import type { InstructionDecoder } from "../../cpu/isa/decoder.ts";
import { runOn } from "./bare_run.ts";
import { judge } from "./compare.ts";
import { readVectors, vectorFiles } from "./corpus.ts";
import { ABSENT_FORMS, notFollowed } from "./exceptions.ts";

/** Failures shown for one file. */
const SHOWN = 10;

/**
 * @param part which files: those whose index is `part` modulo `parts`, so that
 *   no test file takes long
 */
export function judgeFiles(
  name: string,
  engine: (decoder: InstructionDecoder) => Backend,
  part: number,
  parts: number,
  engineBytes?: number,
): void {
  const run = runOn(engine, engineBytes);
  vectorFiles().forEach((file, i) => {
    if (i % parts !== part) return;
    Deno.test(`${name} agrees with silicon: ${file}`, () => {
      const cases = readVectors(file);
      assert(cases.length > 0);
      const skipped = cases.filter((c) => notFollowed(c) !== undefined).length;
      const verdict = judge(cases, run, (c) => notFollowed(c) !== undefined);
      assertEquals(verdict.failures.slice(0, SHOWN), []);
      const absent = [...verdict.notModelled];
      assertEquals(absent.filter(([what]) => !ABSENT_FORMS.test(what)), []);
      const left = absent.reduce((sum, [, count]) => sum + count, 0);
      assertEquals(verdict.agreed + skipped + left, cases.length);
    });
  });
}
