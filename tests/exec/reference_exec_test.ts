/** The text cases of tests/cases/exec on the reference engine. */
import { assertEquals } from "@std/assert";
import { ReferenceEngine } from "../../cpu/engine/reference/reference.ts";
import { CaseRunner, readExecCases } from "./cases.ts";

const runner = new CaseRunner((decoder) => new ReferenceEngine(decoder));
for (const [file, cases] of readExecCases()) {
  Deno.test(`reference: ${file}, ${cases.length} cases`, () => {
    const wrong = cases.flatMap((c) =>
      runner.run(c).map((text) => `${c.where} ${text}`)
    );
    assertEquals(wrong, []);
  });
}
