/** What the examples about mode-based execute control and the demo say is so. */
import { assert, assertEquals } from "@std/assert";
import { runInHardware } from "./03-mbec-in-hardware.ts";
import { runEmulated, sideBySide, STRATEGIES } from "./04-mbec-emulated.ts";
import { demonstrate } from "./demo.ts";

/** The three attempts of the scene, as L1 logs them. */
const LOGGED = [
  ["cc", "0015a00c"],
  ["9c", "0014d000"],
  ["9c", "0014d000"],
];

function logged(serial: string): string[][] {
  const line = /qualification 0.(..) at GPA (.{8})/g;
  return [...serial.matchAll(line)].map(([, low, page]) => [low, page]);
}

Deno.test("03: L1 sees every forbidden fetch", () => {
  const { serial, seen, end } = runInHardware();
  assertEquals(end.exitCode, 33);
  assertEquals(logged(serial), LOGGED);
  assertEquals(seen.handled, 0);
});

Deno.test("04: so it does under emulation, with fewer exits by entry pages", () => {
  const runs = runEmulated();
  for (const { serial, end } of runs) {
    assertEquals(end.exitCode, 33);
    assertEquals(logged(serial), LOGGED);
  }
  const [trapAll, entryPage] = runs.map((run) => run.seen);
  assert(entryPage.handled < trapAll.handled);
  assertEquals(trapAll.exits, entryPage.exits);
  const printed = sideBySide(STRATEGIES, runs);
  assert(printed.includes(String(trapAll.handled)), printed);
});

Deno.test("demo: verified, back to the first violation, equal to hardware", () => {
  const text: string[] = [];
  const found = demonstrate((line) => void text.push(line));
  assertEquals(found.exitCode, 33);
  assertEquals(found.verified, 0);
  assertEquals(found.violations, 3);
  assert(found.switches > 20);
  assertEquals(found.policy, "R – – XU");
  assertEquals(found.differences, [undefined, undefined]);
  const printed = text.join("\n");
  for (const line of ["decision row 6", "guest PTE", "cr4", "VIOLATION"]) {
    assert(printed.includes(line), line);
  }
});
