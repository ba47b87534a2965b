/**
 * Design law 2: T0, quiet and observed, against the reference on random
 * programs, with every form compiled and with the usual mixture.
 */
import { assertEquals } from "@std/assert";
import { difference } from "./compare_engines.ts";
import {
  crossingProgram,
  randomProgram,
  stringProgram,
} from "./random_programs.ts";

const HOT = ["cpu.retired", "mem.wrote", "reg.wrote"];
const OBSERVED: readonly (readonly string[])[] = [
  [],
  [...HOT, "mmu.", "exception."],
  ["mem.wrote"],
];

for (const mode of ["long", "protected"] as const) {
  for (let seed = 0; seed < 3; seed++) {
    const facts = OBSERVED[seed];
    const what = facts.length ? `observed by ${facts.join(", ")}` : "quiet";
    Deno.test(`T0 is the reference: ${mode} program ${seed}, ${what}`, () => {
      const how = {
        mode,
        steps: 4000,
        stride: 300,
        facts,
        threshold: seed * 4,
      };
      assertEquals(difference(randomProgram(seed, mode), how), undefined);
    });
  }
}

for (const mode of ["long", "protected"] as const) {
  for (const seed of [11, 12, 13]) {
    Deno.test(`T0 with all forms of several instructions: ${mode} ${seed}`, () => {
      const how = {
        ...{ mode, steps: 3000, stride: 40, facts: [] },
        ...{ threshold: 0, eager: true },
      };
      assertEquals(difference(randomProgram(seed, mode), how), undefined);
    });
  }
}

for (const stride of [7, 600, 40_000]) {
  Deno.test(`T0 repeats strings as the reference does, stops within ${stride}`, () => {
    const how = {
      mode: "long" as const,
      steps: 30_000 + 10 * stride,
      stride,
      facts: [],
    };
    assertEquals(difference(stringProgram(stride), how), undefined);
  });
}

for (let seed = 0; seed < 4; seed++) {
  for (const facts of [[], HOT]) {
    Deno.test(`T0 is the reference where code crosses pages: ${seed} ${facts}`, () => {
      const how = { mode: "long" as const, steps: 6000, stride: 90, facts };
      const eager = seed % 2 === 1;
      assertEquals(
        difference(crossingProgram(seed), { ...how, eager }),
        undefined,
      );
    });
  }
}
