/** Broken tables are told apart, each by its row. */
import { assertEquals } from "@std/assert";
import type { Row } from "./row.ts";
import { ROWS } from "./table.ts";
import { validateRows } from "./validate.ts";

const good: Row = { name: "X", codes: ["X1"], emit: () => {}, manual: "SDM" };

Deno.test("the table itself is well formed", () => {
  assertEquals(validateRows(ROWS), []);
});

const broken: readonly [string, readonly Row[], string][] = [
  ["twice", [good, { ...good, codes: ["X2"] }], "row X exists twice"],
  [
    "neither emit nor call",
    [{ ...good, emit: undefined }],
    "row X needs exactly one of emit and call",
  ],
  [
    "both",
    [{ ...good, call: () => 0 }],
    "row X needs exactly one of emit and call",
  ],
  ["no code", [{ ...good, codes: [] }], "row X covers no code"],
  [
    "shared code",
    [good, { ...good, variant: "b" }],
    "row X (b) and row X both cover X1",
  ],
  [
    "intercept",
    [{ ...good, intercept: 1 }],
    "row X has an intercept but no call",
  ],
  [
    "privileged",
    [{ ...good, privileged: true }],
    "row X is privileged but has no call",
  ],
  [
    "modes",
    [{ ...good, legacyOnly: true, longOnly: true }],
    "row X is both legacyOnly and longOnly",
  ],
  ["manual", [{ ...good, manual: "" }], "row X has no manual reference"],
];

for (const [name, rows, message] of broken) {
  Deno.test(`a broken table is refused: ${name}`, () => {
    assertEquals(validateRows(rows), [message]);
  });
}
