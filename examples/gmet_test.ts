/** What the example about the guest mode execute trap says is so. */
import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { demonstrateGmet, entryText, faultText } from "./12-gmet.ts";

Deno.test("12: GMET stops the kernel, the tape leads back to it", () => {
  const text: string[] = [];
  const found = demonstrateGmet((line) => void text.push(line));
  assertEquals(found.exitCode, 33);
  assertEquals(found.faults, [
    0x1_0000_0006n,
    0x1_0000_0011n,
    0x1_0000_0011n,
    0x1_0000_0015n,
    0x1_0000_0011n,
    0x1_0000_0007n,
  ]);
  assertEquals(found.verified, 0);
  assertEquals(found.policy, "P – U –");
  assert(found.firstFault < found.firstViolation);
  assertStringIncludes(found.serial, "its kernel ran user code: 0");
  const printed = text.join("\n");
  for (
    const part of [
      `step ${found.firstFault}: write, as user, absent`,
      `step ${found.firstViolation}\n`,
      "nested PTE",
      "guest PTE",
      "VMEXIT_VMMCALL",
      "all equal",
    ]
  ) assertStringIncludes(printed, part);
  // Without GMET the kernel runs what the user owns, and nothing else changes.
  assertStringIncludes(found.without, "no guest mode execute trap");
  assertStringIncludes(found.without, "its kernel ran user code: 2");
  const faults = [...found.without.matchAll(/EXITINFO1 (\S+)/g)]
    .map(([, info]) => info);
  assertEquals(faults, [
    "1_00000006",
    "1_00000015",
    "1_00000015",
    "1_00000007",
  ]);
});

Deno.test("12: EXITINFO1 and nested entries in words", () => {
  assertEquals(
    faultText(0x2_0000_000fn),
    "write, as user, forbidden, reserved bit, of a page table",
  );
  assertEquals(
    faultText(0x1_0000_0004n),
    "read, as user, absent, of the page itself",
  );
  assertEquals(entryText(1n << 63n | 7n), "P W U NX");
  assertEquals(entryText(0n), "– – – –");
});
