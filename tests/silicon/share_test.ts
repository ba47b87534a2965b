/** What `deno task silicon` counts as whole, its text, and the rows it covers. */
import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { readRows } from "./corpus.ts";
import { coverage, shownRows } from "./coverage.ts";
import { isWhole, percent, type ShareReport, shareText } from "./share.ts";

const row = (vectors: number, reason: string) => ({
  mnemonic: "Wrpkru",
  vectors,
  reason,
  manual: "SDM 2D WRPKRU",
});
const engine = (judged: number, agreed: number) => ({
  engine: "t0" as const,
  judged,
  agreed,
  allowed: [],
  notModelled: [],
  failures: judged === agreed ? [] : ["x.txt: Add_rm8_r8: add al,al"],
});
const report = (
  judged: number,
  agreed: number,
  vectors: number,
  reason: string,
): ShareReport => ({
  processors: [{ name: "a processor", vectors: judged }],
  engines: [engine(judged, agreed)],
  rows: [row(vectors, reason)],
});

Deno.test("only full agreement with every row accounted for is whole", () => {
  assert(isWhole(report(100, 100, 50, "")));
  assert(isWhole(report(100, 100, 0, "the host lacks PKU")));
  assert(!isWhole(report(100, 99, 50, "")), "one disagrees");
  assert(!isWhole(report(100, 100, 49, "")), "too few");
  assert(!isWhole(report(100, 100, 0, "")), "no reason");
  assert(!isWhole(report(0, 0, 50, "")), "nothing judged");
});

Deno.test("a share is never 100 % by rounding", () => {
  assertEquals(percent(7, 7), "100 %");
  assertEquals(percent(999_999, 1_000_000), "99.999 %");
});

Deno.test("the text names failures, and rows with reason and manual", () => {
  const text = shareText(report(100, 99, 0, "the host lacks PKU"));
  assertStringIncludes(text, "t0         100 judged, 99 agree: 99.000 %");
  assertStringIncludes(text, "x.txt: Add_rm8_r8: add al,al");
  assertStringIncludes(
    text,
    "the host lacks PKU:\n    WRPKRU       SDM 2D WRPKRU",
  );
});

Deno.test("every row that a CPU model shows has vectors or a reason", () => {
  const rows = coverage(readRows());
  assertEquals(rows.length, shownRows().size);
  for (const { mnemonic, vectors, reason } of rows) {
    assert(vectors >= 50 || reason.length > 10, `${mnemonic}: ${vectors}`);
  }
});
