/**
 * Design law 2 for `call` rows: what T0 does in the middle of compiled code, or
 * by a row's plain case, against the reference, while interrupts and NMIs come.
 */
import { assertEquals } from "@std/assert";
import { Rflags } from "../../cpu/arch/flags.ts";
import { EventRequest } from "../../cpu/layout.ts";
import { definePlugin } from "../../core/mod.ts";
import { t0EngineBytes } from "../../cpu/engine/t0/engine.ts";
import { ExceptionFiltering } from "../../cpu/hardware.ts";
import { svm } from "../../plugins/svm/plugin.ts";
import { TestMachine } from "../support/machine.ts";
import { type Comparison, difference, t0Engine } from "./compare_engines.ts";
import {
  iretProgram,
  iretText,
  PROCEDURE_PLUGINS,
  procedureProgram,
  versionsProgram,
} from "./procedure_programs.ts";

/** STI and IRETQ. */
const PLAIN = ["64:fb", "64:48cf"];

const disturb: Comparison["disturb"] = ({ hardware }, random) => {
  if (random.below(20) === 0) hardware.request(0, EventRequest.Nmi);
  // STI again in the shadow of another is only then not idle.
  if (random.below(8) === 0) hardware.cpus[0].v.rflags &= ~Rflags.IF;
};

for (let seed = 0; seed < 8; seed++) {
  for (const stride of [3, 50, 1000]) {
    Deno.test(`T0 executes procedures as the reference does: ${seed}, stops within ${stride}`, () => {
      const how: Comparison = {
        ...{ mode: "long", steps: 2500 + 10 * stride, stride },
        ...{ facts: [], threshold: seed % 2 * 6, seed, disturb },
        plugins: PROCEDURE_PLUGINS,
      };
      assertEquals(difference(procedureProgram(seed), how), undefined);
    });
  }
}

Deno.test("T0 goes on after an STI where the reference stands in", () => {
  const how: Comparison = {
    ...{ mode: "long", steps: 5000, stride: 90, facts: [] },
    ...{ threshold: Infinity, hot: PLAIN, plugins: PROCEDURE_PLUGINS },
  };
  assertEquals(difference(procedureProgram(2), how), undefined);
});

Deno.test("T0 executes procedures as the reference does while branches are recorded", () => {
  for (const seed of [1, 2, 4]) {
    const how: Comparison = {
      ...{ mode: "long", steps: 5000, stride: 40, facts: [], threshold: 0 },
      ...{ model: "max-amd", plugins: [...PROCEDURE_PLUGINS, { plugin: svm }] },
    };
    assertEquals(difference(procedureProgram(seed), how), undefined);
  }
});

Deno.test("IRETs on T0 end what blocks NMIs", () => {
  const how: Comparison = {
    ...{ mode: "long", steps: 6000, stride: 90, facts: [], threshold: 0 },
    disturb: ({ hardware }) => hardware.request(0, EventRequest.Nmi),
  };
  assertEquals(difference(iretProgram(), how), undefined);
});

Deno.test("code that a procedure exchanges is executed, in an STI's shadow too", () => {
  const how: Comparison = {
    ...{ mode: "long", steps: 6000, stride: 7, facts: [], threshold: 0 },
    plugins: PROCEDURE_PLUGINS,
  };
  assertEquals(difference(versionsProgram(), how), undefined);
});

Deno.test("an exception filter is told of every IRET", () => {
  let returns = 0;
  const filter = definePlugin({
    ...{ name: "filter", version: "1.0.0", doc: "Counts", role: "participant" },
    provides: { filter: ExceptionFiltering },
    setup({ provide }) {
      provide.filter({
        exception: () => false,
        returned: () => void returns++,
        boundary: () => false,
      });
    },
  });
  const again = iretText({});
  const machine = new TestMachine(
    `mov ecx, 40\nmore: ${again}\ndec ecx\njnz more\nhlt`,
    {
      ...{ plugins: [{ plugin: filter }], engineBytes: t0EngineBytes(1) },
      engine: t0Engine(0),
    },
  );
  machine.run();
  assertEquals(returns, 40);
});
