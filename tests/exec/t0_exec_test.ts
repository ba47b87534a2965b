/** The text cases of tests/cases/exec on T0, every form compiled. */
import { assertEquals } from "@std/assert";
import { T0Engine, t0EngineBytes } from "../../cpu/engine/t0/engine.ts";
import { CaseRunner, readExecCases } from "./cases.ts";

const runner = new CaseRunner(
  (decoder) => new T0Engine(decoder, { threshold: 0 }),
  t0EngineBytes(1),
);
for (const [file, cases] of readExecCases()) {
  Deno.test(`t0: ${file}, ${cases.length} cases`, () => {
    const wrong = cases.flatMap((c) =>
      runner.run(c).map((text) => `${c.where} ${text}`)
    );
    assertEquals(wrong, []);
  });
}
