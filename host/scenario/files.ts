/**
 * The files that a scenario names: which they are, and reading them from the
 * scenario's own folder.
 * Invariant: keys are paths as written, so that nothing of where the scenario
 * lies gets into the machine.
 */
import { ConfigError, messageOf } from "../../core/errors.ts";
import type { ScenarioFiles } from "../machines.ts";
import type { Path, Scenario } from "./types.ts";

/** Each file's path as written, with the place in the scenario that names it. */
export function filesOf(scenario: Scenario): [path: string, at: Path][] {
  const { guest } = scenario;
  if (guest === undefined) return [];
  const modules = guest.modules.map((
    m,
    i,
  ): [string, Path] => [m.path, ["guest", "modules", i]]);
  return guest.path === undefined
    ? modules
    : [[guest.path, ["guest", guest.format]], ...modules];
}

/**
 * Reads them relative to `folder`.
 * @param fail makes the error for one place of the scenario
 */
export function readFilesOf(
  scenario: Scenario,
  folder: URL,
  fail: (at: Path, message: string, cause: unknown) => Error = (
    _at,
    message,
    cause,
  ) => new ConfigError(message, cause),
): ScenarioFiles {
  const files = new Map<string, Uint8Array>();
  for (const [path, at] of filesOf(scenario)) {
    if (files.has(path)) continue;
    try {
      files.set(path, Deno.readFileSync(new URL(encodePath(path), folder)));
    } catch (error) {
      throw fail(at, `read ${path}: ${fileProblem(error)}`, error);
    }
  }
  return files;
}

/** Why a file could not be read or written, with the remedy, for a message. */
export function fileProblem(error: unknown): string {
  const { NotFound, IsADirectory, PermissionDenied, NotCapable } = Deno.errors;
  if (error instanceof NotFound) {
    return "there is no such file, correct the path";
  }
  if (error instanceof IsADirectory) return "it is a folder, name a file";
  if (error instanceof PermissionDenied) {
    return "permission denied by the system, change the file's mode or name another";
  }
  if (error instanceof NotCapable) {
    return `Deno has no permission for it, ${
      messageOf(error).replace(/^.*(run again with )/s, "$1")
    }`;
  }
  return messageOf(error);
}

/** `path` as part of a URL: `%`, `?` and `#` are ordinary characters in files' names. */
export function encodePath(path: string): string {
  return path.split("/").map(encodeURIComponent).join("/");
}
