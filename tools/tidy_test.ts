/**
 * Each house rule is broken once here and must be reported at its line with a
 * remedy; look-alikes (a method called `fetch`, a word in a string) must not.
 * Invariant: every case is one line of code below a clean header.
 */
import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { checkTidy, MAX_LINES } from "./tidy.ts";

const HEAD = "/**\n * What it is.\n */\n";
const check = (file: string, body: string, ratchet = {}): string[] =>
  checkTidy(new Map([[file, HEAD + body]]), ratchet)
    .map((f) => `${f.file}:${f.line}: ${f.what}: ${f.remedy}`);

describe("purity", () => {
  const impure = [
    "const t = Date.now();",
    "const t = new Date(0);",
    "performance.now();",
    "setTimeout(f, 1);",
    "const r = Math.random();",
    "crypto.getRandomValues(a);",
    'import { randomBytes } from "node:crypto";',
    "const y = Math.sin(x);",
    "const y = Math.pow(x, 2);",
    "const y = Math.sqrt(x);",
    "const y = Math.PI;",
    "const y = x ** 3;",
    "const y = 10 ** x;",
    "async function f() {}",
    "const f = async () => 1;",
    "await f();",
    "const p: Promise<number> = q;",
    "Promise.resolve(1);",
    "queueMicrotask(f);",
    'Deno.readFileSync("x");',
    'console.log("x");',
    'const r = fetch("http://x");',
    'return fetch("http://x");',
    "process.exit(1);",
    "globalThis.x = 1;",
    "new WeakRef(o);",
    "a.localeCompare(b);",
    "n.toLocaleString();",
    "const x = { now: Date };",
    "const x = y ? Date : 1;",
  ];
  for (const line of impure) {
    it(`bans ${line}`, () => {
      for (
        const file of [
          "core/a.ts",
          "cpu/arch/a.ts",
          "plugins/mmu/a.ts",
          "mod.ts",
        ]
      ) {
        const found = check(file, line);
        assert(found.length >= 1, file);
        assertStringIncludes(found[0], `${file}:4: `);
        assert(/: .+: .{10,}/.test(found[0]), found[0]);
      }
      for (
        const file of [
          "host/a.ts",
          "core/a_test.ts",
          "tests/laws/a.ts",
          "tools/a.ts",
          "bench/a.ts",
        ]
      ) {
        assertEquals(check(file, line), [], file);
      }
    });
  }

  const pure = [
    "const y = Math.floor(x) + Math.imul(a, b) + Math.max(1, 2);",
    "const y = 2 ** 52 + Number(2n ** 64n) + Number(x ** 3n);",
    'const s = "Date.now() and Promise"; // Date, await, fetch()',
    "const s = `performance ${x} Deno.exit()`;",
    "class C { fetch(at: number): number { return at; } }",
    "interface P { fetch(at: number): number; performance: number; process?: string; }",
    "function fetch(at: number): number { return at; }\nfetch(1);",
    "port.fetch(1); this.process(2); a.b?.console();",
    "const o = { performance: 1, fetch: 2 };",
    "function f(at: number, fetch: boolean): number { return fetch ? 1 : 2; }",
    "function f(window: number, self?: number): number { return 1; }",
  ];
  for (const line of pure) {
    it(`passes ${line.split("\n")[0]}`, () =>
      assertEquals(check("core/a.ts", line), []));
  }

  it("keeps its exceptions to their place", () => {
    assertEquals(check("core/tape/a.ts", "new WeakRef(o);"), []);
    assertEquals(check("core/a.ts", "new WeakRef(o);").length, 1);
  });
  it("lets an example act: it is a program", () => {
    assertEquals(check("examples/a.ts", "console.log(await f());"), []);
  });
});

describe("comments", () => {
  it("must open the file", () => {
    const bare = checkTidy(new Map([["core/a.ts", "export {};\n"]]), {});
    assertEquals(bare.map((f) => f.what), ["has no header"]);
    const short = checkTidy(
      new Map([["core/a.ts", "// short\n" + "x();\n".repeat(200)]]),
      {},
    );
    assertEquals(short.map((f) => f.what), ["has a header of 1 lines"]);
    for (const file of ["core/a_test.ts", "tests/a.ts"]) {
      const source = "// short\n" + "x();\n".repeat(200);
      assertEquals(checkTidy(new Map([[file, source]]), {}), []);
    }
    assertEquals(checkTidy(new Map([["core/a.ts", "// short\n"]]), {}), []);
    const long = checkTidy(new Map([["core/a.ts", "// x\n".repeat(40)]]), {});
    assertEquals(long.map((f) => f.what), ["has a header of 40 lines"]);
    assertEquals(
      checkTidy(
        new Map([["core/a.ts", "// a\n// b\n// c\n\n// d\nexport {};\n"]]),
        {},
      ),
      [],
    );
    assertEquals(
      checkTidy(new Map([["core/a.ts", "#!/usr/bin/env deno\n" + HEAD]]), {}),
      [],
    );
  });
  it("hold no leftovers, in any folder", () => {
    for (const word of ["TO" + "DO", "FIX" + "ME", "XX" + "X", "HA" + "CK"]) {
      assertStringIncludes(
        check("tests/a.ts", `\n// ${word}: later`)[0],
        `tests/a.ts:5: leftover ${word}: `,
      );
      assertEquals(check("tests/a.ts", `const a = "${word}";`), []);
    }
  });
  it("switch no checking off without a reason", () => {
    assertStringIncludes(
      check("host/a.ts", "// @ts-" + "ignore")[0],
      "host/a.ts:4: type checking switched off",
    );
    assertStringIncludes(
      check("host/a.ts", "// @ts-" + "expect-error no")[0],
      "switched off",
    );
    assertEquals(
      check("host/a_test.ts", "// @ts-" + "expect-error an async handler"),
      [],
    );
    assertStringIncludes(
      check("host/a.ts", "// deno-lint-" + "ignore no-x")[0],
      "without a reason",
    );
    assertEquals(
      check("host/a.ts", "// deno-lint-" + "ignore no-x -- because of y"),
      [],
    );
  });
});

describe("any", () => {
  it("is reported as a type only", () => {
    for (
      const line of [
        "let a: any;",
        "f(x as any);",
        "const m: Map<string, any> = n;",
        "type A = any;",
        "let a: any[];",
        "let a: string | any;",
      ]
    ) {
      assertStringIncludes(
        check("host/a.ts", line)[0],
        "host/a.ts:4: the type any: ",
      );
    }
    for (
      const line of [
        "const any = 1;",
        "Promise.any([]);",
        "fc.any();",
        "const a = { any: 1 };",
        "f(any, 1);",
      ]
    ) {
      assertEquals(check("host/a.ts", line), []);
    }
  });
});

describe("length", () => {
  const lines = (n: number): string => "x();\n".repeat(n - 3);
  it("is at most MAX_LINES", () => {
    assertEquals(check("host/a.ts", lines(MAX_LINES)), []);
    assertStringIncludes(
      check("host/a.ts", lines(MAX_LINES + 1))[0],
      `host/a.ts:501: has 501 lines`,
    );
  });
  it("is free for what is declared generated or a flat table", () => {
    for (
      const words of ["@generated by tools/gen.ts", "A flat table of rows"]
    ) {
      const source = `// ${words}\n//\n//\n` + lines(900);
      assertEquals(checkTidy(new Map([["cpu/a.ts", source]]), {}), []);
    }
    assertEquals(check("cpu/a.ts", "// flat table\n" + lines(900)).length, 1);
  });
  it("may only shrink where the ratchet allows more", () => {
    const with700 = { "host/a.ts": 700 };
    assertEquals(check("host/a.ts", lines(700), with700), []);
    assertStringIncludes(
      check("host/a.ts", lines(701), with700)[0],
      "RATCHET allows it 700",
    );
    assertStringIncludes(
      check("host/a.ts", lines(690), with700)[0],
      "lower its number in tools/tidy.ts to 690",
    );
    assertStringIncludes(
      check("host/a.ts", lines(400), with700)[0],
      "delete its line",
    );
    assertStringIncludes(check("host/b.ts", "", with700)[0], "doesn't exist");
  });
});
