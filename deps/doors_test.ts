/**
 * Each door in deps/ opens onto working std code: its declared functions exist
 * and do what the sources rely on (design §10).
 * Invariant: every name that a `.d.ts` declares as a value is exported by the
 * `.js` beside it, so that a typo there can't hide until run time.
 */
import * as std from "@std/assert";
import {
  afterAll,
  afterEach,
  beforeAll,
  beforeEach,
  describe,
  it,
} from "@std/testing/bdd";
import { parseArgs } from "@std/cli/parse-args";
import { parse, stringify } from "@std/yaml";
import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";

const calls: string[] = [];

describe("door bdd", () => {
  beforeAll(() => void calls.push("beforeAll"));
  beforeEach(() => void calls.push("beforeEach"));
  afterEach(() => void calls.push("afterEach"));
  afterAll(() => void calls.push("afterAll"));
  it("runs cases", () => void calls.push("case"));
  it("runs hooks around each case, once around all", () => {
    assertEquals(calls, [
      "beforeAll",
      "beforeEach",
      "case",
      "afterEach",
      "beforeEach",
    ]);
  });
});

describe("door assert", () => {
  it("compares deeply", () => {
    assertEquals({ a: [1n] }, { a: [1n] });
    const error = assertThrows(
      () => assertEquals([1], [2]),
      std.AssertionError,
      "Values are not equal",
    );
    assert(error instanceof Error);
  });
  it("passes only when it should", async () => {
    assertThrows(() => std.assertNotEquals(1, 1), std.AssertionError);
    assertThrows(() => std.assertStrictEquals({}, {}), std.AssertionError);
    assertThrows(() => std.assertStringIncludes("ab", "c"), std.AssertionError);
    assertThrows(() => std.assertMatch("ab", /c/), std.AssertionError);
    assertThrows(() => std.assertInstanceOf(1, Error), std.AssertionError);
    assertThrows(() => std.assertExists(null), std.AssertionError);
    assertThrows(() => std.assertAlmostEquals(1, 2), std.AssertionError);
    assertThrows(() => std.fail("x"), std.AssertionError, "x");
    assertThrows(() => std.unreachable(), std.AssertionError);
    await assertRejects(() => Promise.reject(new TypeError("y")), TypeError);
  });
});

describe("door parse-args", () => {
  it("keeps strings, flags and positional arguments", () => {
    const args = parseArgs(["run", "--kernel", "07", "--json", "x.yml"], {
      boolean: ["json"],
      string: ["kernel"],
    });
    assertEquals({ ...args }, {
      _: ["run", "x.yml"],
      json: true,
      kernel: "07",
    });
  });
});

describe("door yaml", () => {
  it("reads and writes", () => {
    const value = { machine: { cpu: "max-intel", cpus: 1 }, plugins: ["vmx"] };
    assertEquals(parse(stringify(value)), value);
    assertThrows(() => parse("a: [1"), SyntaxError);
  });
});

describe("declared names", () => {
  for (const door of ["assert", "bdd", "parse_args", "yaml"]) {
    it(`${door}.d.ts declares only what ${door}.js exports`, async () => {
      const types = await Deno.readTextFile(
        new URL(`${door}.d.ts`, import.meta.url),
      );
      const code: Record<string, unknown> = await import(`./${door}.js`);
      const names = [
        ...types.matchAll(/export declare (?:function|const|class) (\w+)/g),
      ].map((m) => m[1]);
      assert(names.length > 0);
      for (const name of names) {
        assert(name in code, `${door}.js exports no ${name}`);
      }
    });
  }
});
