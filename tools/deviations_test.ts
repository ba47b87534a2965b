// Everything that stops with NotModelled is named in docs/DEVIATIONS.md.
import { assert, assertEquals } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { QUIRKS } from "../cpu/arch/quirks.ts";
import { isTest, readFiles } from "./files.ts";

/** Text of the first argument of each NotModelled, up to its first placeholder. */
export function notModelledTexts(source: string): string[] {
  const calls = source.matchAll(
    /(?:\.notModelled\(|new NotModelled\()\s*(["`])((?:(?!\1|\$\{).)+)/g,
  );
  return [...calls].map(([, , text]) => text.replace(/[\s,:]+$/, ""));
}

describe("docs/DEVIATIONS.md", () => {
  it("finds literals and templates", () => {
    assertEquals(
      notModelledTexts(
        'cpu.notModelled("a b", x); new NotModelled(\n`c ${d}`)',
      ),
      ["a b", "c"],
    );
  });

  it("names every quirk of the CPU models", () => {
    const text = Deno.readTextFileSync(
      new URL("../docs/DEVIATIONS.md", import.meta.url),
    );
    for (const quirk of Object.keys(QUIRKS)) {
      assert(text.includes(`\n- \`${quirk}\` (`), `add "${quirk}"`);
    }
  });

  it("names everything that is not modelled", () => {
    const text = Deno.readTextFileSync(
      new URL("../docs/DEVIATIONS.md", import.meta.url),
    ).toLowerCase();
    let found = 0;
    for (const [file, source] of readFiles()) {
      if (!/^(cpu|plugins)\/.*\.ts$/.test(file) || isTest(file)) continue;
      for (const what of notModelledTexts(source)) {
        found++;
        assert(
          text.includes(what.toLowerCase()),
          `${file}: add "${what}" to docs/DEVIATIONS.md`,
        );
      }
    }
    assert(found > 10, "the search found next to nothing: mend its pattern");
  });
});
