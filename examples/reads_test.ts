/** What the examples about faults, reads and the library say is so. */
import { assertEquals } from "@std/assert";
import { ExceptionDelivered } from "../mod.ts";
import { POLICIES } from "../plugins/introspect/api.ts";
import { takeApart } from "./02-page-fault.ts";
import { readFromInside, readFromOutside } from "./05-read-policies.ts";
import { walkAtEveryStep } from "./06-torn-list.ts";
import { sumAndLookBack } from "./11-library.ts";

Deno.test("02: the fault is seen before, during and after", () => {
  const fault = takeApart();
  assertEquals(fault.linear, 0x1_0000_2000n);
  assertEquals(fault.walkBefore.rows.at(-1)?.meaning, "not present");
  assertEquals(fault.walkAfter.rows.at(-1)?.meaning, "RW supervisor A");
  assertEquals(fault.delivery.at(-1)?.event, ExceptionDelivered);
  assertEquals(fault.handler.at(-1), "page_fault+0x13: iretq");
});

Deno.test("05: only inject-and-retry shows the guest a fault", () => {
  const outside = POLICIES.map(readFromOutside);
  assertEquals(outside.map((r) => [r.ending, r.bytes, r.guestFaults]), [
    ["reported", 8, 0],
    ["dropped", 8, 0],
    ["dropped", 8, 0],
    ["read", 16, 1],
  ]);
  const inside = POLICIES.map(readFromInside);
  assertEquals(inside.map((r) => [r.ending, r.bytes, r.guestFaults]), [
    ["redirected", 0, 0],
    ["redirected", 0, 0],
    ["redirected", 8, 0],
    ["read", 8, 1],
  ]);
});

Deno.test("06: no step of an insertion shows a half-linked list as whole", () => {
  const walks = walkAtEveryStep();
  const values = (n: number): string => walks[n].values.join();
  assertEquals(
    new Set(walks.map((w) => w.outcome)),
    new Set([
      "closed",
      "torn",
      "faulted",
    ]),
  );
  for (const [n, { outcome }] of walks.entries()) {
    if (outcome !== "closed") continue;
    assertEquals(["42,44,45", "42,43,44,45"].includes(values(n)), true);
  }
});

Deno.test("11: the library's answers", () => {
  const answers = sumAndLookBack();
  assertEquals(answers.verified, 0);
  assertEquals(answers.sums.at(-1), 210n);
  assertEquals([answers.rax, answers.rcx], [105n, 14n]);
});
