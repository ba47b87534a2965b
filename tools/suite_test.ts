/**
 * The count that ends the test command comes out of deno's JUnit report: each
 * case once, suites not at all unless they failed by themselves.
 * Invariant: the reports below have the shape that `deno test` 2.9.6 writes.
 */
import { assertEquals } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { tally } from "./suite.ts";

const failure = (message: string): string =>
  `<failure message="${message}">Error: x &lt;failure</failure>`;
const report = (...cases: [name: string, body?: string][]): string =>
  `<testsuites name="deno test">\n<testsuite name="./a_test.ts">\n` +
  cases.map(([name, body]) =>
    `<testcase name="${name}" classname="./a_test.ts" time="0.005" line="2" col="1">\n${
      body ?? ""
    }\n</testcase>\n`
  ).join("") + "</testsuite>\n</testsuites>\n";

describe("tally", () => {
  it("counts cases by outcome", () => {
    assertEquals(
      tally(
        report(["a"], ["b", failure("Uncaught Error: x")], ["c", "<skipped/>"]),
      ),
      { passed: 1, failed: 1, skipped: 1 },
    );
  });
  it("counts steps in place of their suite", () => {
    assertEquals(
      tally(report(
        ["s", failure("1 test step failed")],
        ["s &gt; t", failure("2 test steps failed")],
        ["s &gt; t &gt; x"],
        ["s &gt; t &gt; y", failure("Uncaught AssertionError: no")],
      )),
      { passed: 1, failed: 1, skipped: 0 },
    );
  });
  it("counts a suite that failed by itself", () => {
    assertEquals(
      tally(report(["s", failure("Leaks detected")], ["s &gt; x"])),
      { passed: 1, failed: 1, skipped: 0 },
    );
  });
  it("counts nothing in an empty report", () => {
    assertEquals(tally(report()), { passed: 0, failed: 0, skipped: 0 });
  });
});
