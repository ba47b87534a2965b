/**
 * What a user is told about a file that can't be read, whatever the system's
 * reason, and names with characters that mean something in URLs.
 */
import { assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { ConfigError } from "../../core/errors.ts";
import { encodePath, fileProblem, readFilesOf } from "./files.ts";
import { defineScenario } from "./define.ts";

describe("a file that can't be read", () => {
  const { NotFound, IsADirectory, PermissionDenied, NotCapable } = Deno.errors;
  const rows: readonly [error: Error, part: string][] = [
    [new NotFound("os error 2"), "there is no such file, correct the path"],
    [new IsADirectory("os error 21"), "it is a folder, name a file"],
    [new PermissionDenied("os error 13"), "change the file's mode"],
    [
      new NotCapable(
        'Requires read access to "x", run again with the --allow-read flag',
      ),
      "Deno has no permission for it, run again with the --allow-read flag",
    ],
    [new Error("Input/output error"), "Input/output error"],
  ];
  for (const [error, part] of rows) {
    it(`${error.name}: ${part}`, () =>
      assertStringIncludes(fileProblem(error), part));
  }
  it("is named as the scenario wrote it", () => {
    const scenario = defineScenario({ guest: { flat: "no such%20file?.bin" } });
    const folder = new URL(`file://${Deno.makeTempDirSync()}/`);
    const error = assertThrows(
      () => readFilesOf(scenario, folder),
      ConfigError,
    );
    assertStringIncludes(
      error.message,
      "read no such%20file?.bin: there is no",
    );
    Deno.writeFileSync(
      new URL(encodePath("no such%20file?.bin"), folder),
      Uint8Array.of(1),
    );
    assertEquals([...readFilesOf(scenario, folder).keys()], [
      "no such%20file?.bin",
    ]);
    Deno.removeSync(folder, { recursive: true });
  });
});
