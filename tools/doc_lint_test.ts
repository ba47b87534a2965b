/**
 * Of what `deno doc --lint` says, undocumented exports stay, and what the file
 * header excuses goes. Invariant: the text has the shape that 2.9.6 writes.
 */
import { assertEquals } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { failure, readFindings } from "./doc_lint.ts";

const block = (kind: string, line: number, source: string): string =>
  `error[${kind}]: exported symbol is bad
   --> /root/core/a.ts:${line}:12
    | 
${String(line).padStart(3)} | ${source}
    |            ^


`;

describe("doc lint", () => {
  it("reports undocumented exports, not members or inferred types", () => {
    const output = block("missing-jsdoc", 7, "export interface A {") +
      block("missing-jsdoc", 113, "  readonly cpu: number;") +
      block("missing-explicit-type", 9, "export const a = f();") +
      block("something-new", 10, "  x(): void;") +
      "error: Found 4 documentation lint errors.\n";
    assertEquals(
      readFindings(output, "/root/").map((f) =>
        `${f.file}:${f.line} ${f.what}`
      ),
      [
        "core/a.ts:7 missing-jsdoc: exported symbol is bad",
        "core/a.ts:10 something-new: exported symbol is bad",
      ],
    );
    assertEquals(failure(output), undefined);
  });
  it("does not take a broken module for a clean one", () => {
    assertEquals(
      failure('error: Module not found "file:///root/mod.ts".\n'),
      'Module not found "file:///root/mod.ts".',
    );
  });
});
