/**
 * The lexer tells code from comments, strings, templates and regular
 * expressions: a check that reads a name inside a string would cry wolf, one
 * that takes code for a string would miss what it is there to find.
 */
import { assertEquals } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { code, lex } from "./lex.ts";
import { readFiles } from "./files.ts";

const kinds = (source: string): string =>
  lex(source).map((t) => `${t.kind}:${t.text}`).join(" ");

describe("lex", () => {
  it("tells division from regular expressions", () => {
    assertEquals(kinds("a / b / c"), "name:a punct:/ name:b punct:/ name:c");
    assertEquals(kinds("f(/a[/]b/g)"), "name:f punct:( regex:/a[/]b/g punct:)");
    assertEquals(kinds("return /x/"), "name:return regex:/x/");
    assertEquals(kinds("x! / 2 / 3").includes("regex"), false);
    assertEquals(kinds("!/x/"), "punct:! regex:/x/");
    assertEquals(kinds("(1) / 2 / 3").includes("regex"), false);
  });
  it("cuts templates at their holes, nested ones too", () => {
    assertEquals(
      kinds("`a${ b + `c${d}` }e` f"),
      "template:`a${ name:b punct:+ template:`c${ name:d template:}` template:}e` name:f",
    );
    assertEquals(
      kinds("`${ { x: 1 } }`"),
      "template:`${ punct:{ name:x punct:: number:1 punct:} template:}`",
    );
  });
  it("keeps comments and strings whole", () => {
    assertEquals(
      kinds(`"a // b" // c 'd'\n/* e "f */ 'g\\'h'`),
      `string:"a // b" comment:// c 'd' comment:/* e "f */ string:'g\\'h'`,
    );
  });
  it("reads numbers", () => {
    for (const n of ["0x1fn", "1_000", "1.5e-3", ".5", "0b11", "12n"]) {
      assertEquals(kinds(n), `number:${n}`);
    }
    assertEquals(kinds("[0..x]").startsWith("punct:[ number:0"), true);
  });
  it("counts lines and columns from one", () => {
    const tokens = code(lex("a\n  /* x\n */ b\n`\n` c"));
    assertEquals(tokens.map((t) => [t.text, t.line, t.column]), [
      ["a", 1, 1],
      ["b", 3, 5],
      ["`\n`", 4, 1],
      ["c", 5, 3],
    ]);
  });
  it("loses no character of any source of this project", () => {
    for (const [path, source] of readFiles()) {
      const kept = lex(source).map((t) => t.text).join("").replace(/\s+/g, "");
      assertEquals(kept, source.replace(/\s+/g, ""), path);
    }
  });
});
