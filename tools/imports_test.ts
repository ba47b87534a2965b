/**
 * Each import rule of design §3 is broken once here and must be reported at
 * its line with its remedy; the project as it stands is clean.
 * Invariant: every case states a tree that is clean but for one import.
 */
import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { checkImports, cycles, importsOf } from "./imports.ts";

/** Every folder's modules, so that broken imports point at files that exist. */
const TREE: Record<string, string> = {
  "mod.ts": "",
  "deno.json":
    `{"exports": {".": "./mod.ts", "./plugins/mmu": "./plugins/mmu/api.ts", "./plugins/vmx": "./plugins/vmx/api.ts"}}`,
  "core/mod.ts": "",
  "core/event.ts": "",
  "core/kernel.ts": "",
  "core/kernel_test.ts": "",
  "cpu/port.ts": "",
  "plugins/mmu/api.ts": "",
  "plugins/mmu/plugin.ts": "",
  "plugins/mmu/walk.ts": "",
  "plugins/vmx/api.ts": "",
  "plugins/vmx/plugin.ts": "",
  "host/machine.ts": "",
  "host/cli/main.ts": "",
  "host/store/tape_file.ts": "",
  "examples/hello.ts": "",
  "tests/toy.ts": "",
  "bench/k1.ts": "",
  "tools/tidy.ts": "",
};

const check = (changes: Record<string, string>): string[] =>
  checkImports(new Map(Object.entries({ ...TREE, ...changes })))
    .map((f) => `${f.file}:${f.line}: ${f.what}: ${f.remedy}`);

describe("import rules", () => {
  it("pass a clean tree", () => {
    assertEquals(
      check({
        "mod.ts": `export * from "./host/machine.ts";`,
        "core/kernel.ts":
          `import { a } from "./event.ts"; import { createHash } from "node:crypto";`,
        "core/kernel_test.ts":
          `import "./kernel.ts"; import "../tests/toy.ts"; import fc from "fast-check";`,
        "cpu/port.ts": `import { e } from "../core/event.ts";`,
        "plugins/mmu/walk.ts":
          `import "../../core/mod.ts"; import "../../cpu/port.ts"; import "./api.ts";`,
        "plugins/vmx/plugin.ts":
          `import { Walk } from "../mmu/api.ts"; import "./api.ts";`,
        "host/machine.ts":
          `import "../plugins/vmx/plugin.ts"; import { parse } from "@std/yaml";`,
        "host/cli/main.ts": `import { x } from "../../mod.ts";`,
        "examples/hello.ts":
          `import { m } from "../mod.ts"; import { w } from "../plugins/mmu/api.ts";`,
      }),
      [],
    );
  });

  const broken: [file: string, specifier: string][] = [
    ["core/kernel.ts", "../cpu/port.ts"],
    ["core/kernel.ts", "../plugins/mmu/api.ts"],
    ["core/kernel.ts", "../tests/toy.ts"],
    ["core/kernel.ts", "./kernel_test.ts"],
    ["core/kernel.ts", "node:fs"],
    ["core/kernel.ts", "@std/yaml"],
    ["core/kernel_test.ts", "../cpu/port.ts"],
    ["cpu/port.ts", "../core/kernel.ts"],
    ["cpu/port.ts", "../plugins/mmu/api.ts"],
    ["cpu/port.ts", "iced-x86"],
    ["plugins/mmu/walk.ts", "../vmx/plugin.ts"],
    ["plugins/mmu/walk.ts", "../../host/machine.ts"],
    ["plugins/mmu/walk.ts", "../../mod.ts"],
    ["plugins/mmu/walk.ts", "iced-x86"],
    ["plugins/mmu/walk.ts", "node:fs"],
    ["plugins/mmu/api.ts", "./plugin.ts"],
    ["host/machine.ts", "../tests/toy.ts"],
    ["host/machine.ts", "../examples/hello.ts"],
    ["host/machine.ts", "fast-check"],
    ["mod.ts", "./tests/toy.ts"],
    ["examples/hello.ts", "../tests/toy.ts"],
  ];
  for (const [file, specifier] of broken) {
    it(`report ${specifier} in ${file}, with line and remedy`, () => {
      for (
        const statement of [
          `import "${specifier}";`,
          `export type { T } from "${specifier}";`,
        ]
      ) {
        const found = check({ [file]: `\n${statement}\n` });
        assertEquals(found.length, 1, found.join("\n"));
        assertStringIncludes(found[0], `${file}:2: imports `);
        assert(found[0].length > `${file}:2: imports ${specifier}: `.length);
      }
    });
  }

  it("report a folder without a rule, a missing file and a bare package", () => {
    assertStringIncludes(
      check({ "misc/a.ts": "" })[0],
      "misc/a.ts:1: no import rule",
    );
    assertStringIncludes(
      check({ "cpu/port.ts": `import "./gone.ts";` })[0],
      "cpu/gone.ts, which doesn't exist",
    );
    assertStringIncludes(
      check({ "host/machine.ts": `import "npm:yaml@2";` })[0],
      "past the import map",
    );
  });
  it("report a plugin whose api is not exported", () => {
    assertStringIncludes(
      check({ "plugins/pic8259/api.ts": "" })[0],
      `add "./plugins/pic8259": "./plugins/pic8259/api.ts"`,
    );
  });
  it("report module cycles across folders, unless only types go round", () => {
    const tree = { "core/tape/a.ts": `import { e } from "../event.ts";` };
    const found = check({
      ...tree,
      "core/event.ts": `\nimport { a } from "./tape/a.ts";`,
    });
    assertStringIncludes(
      found[0],
      "core/event.ts:2: modules import each other: core/event.ts → core/tape/a.ts → core/event.ts",
    );
    assertEquals(found.length, 1);
    assertEquals(
      check({
        ...tree,
        "core/event.ts": `import type { a } from "./tape/a.ts";`,
      }),
      [],
    );
    assertEquals(
      check({
        "core/event.ts": `import { k } from "./kernel.ts";`,
        "core/kernel.ts": `import { e } from "./event.ts";`,
      }),
      [],
    );
  });
  it("report folder cycles that no two modules close", () => {
    const found = check({
      "plugins/mmu/walk.ts": `import { a } from "../vmx/api.ts";`,
      "plugins/vmx/plugin.ts": `import { b } from "../mmu/api.ts";`,
    });
    assertEquals(found.length, 1);
    assertStringIncludes(
      found[0],
      "plugins/mmu → plugins/vmx → plugins/mmu (plugins/mmu/walk.ts:1, plugins/vmx/plugin.ts:1)",
    );
  });
});

describe("importsOf", () => {
  it("reads every form at its line", () => {
    const source = `import a from "1";
import type { b } from "2";
import { type c, type d } from "3";
import { type e, f } from "4";
import * as g from "5";
export * from "6";
export { h } from '7';
import "8";
const i = await import("9");
type J = import("10").J;
const s = 'import "no"'; // import "no"
const t = \`import "no"\`;
export const from = "no";
export type K = "no";
x.import("no");
import.meta.url;`;
    assertEquals(
      importsOf(source).map((i) =>
        `${i.line}:${i.specifier}${i.typeOnly ? "t" : ""}`
      ),
      [
        "1:1",
        "2:2t",
        "3:3t",
        "4:4",
        "5:5",
        "6:6",
        "7:7",
        "8:8",
        "9:9",
        "10:10t",
      ],
    );
  });
});

describe("cycles", () => {
  it("gives a shortest way round each knot once", () => {
    const graph = (edges: Record<string, string[]>) =>
      new Map(
        Object.entries(edges).map((
          [a, bs],
        ) => [a, new Map(bs.map((b) => [b, 1]))]),
      );
    assertEquals(
      cycles(graph({ a: ["b"], b: ["c", "a"], c: ["a"], d: ["d"] })),
      [["a", "b", "a"], ["d", "d"]],
    );
    assertEquals(cycles(graph({ a: ["b"], b: ["c"], c: [] })), []);
  });
});
