/**
 * Makes a scenario of a plain object, as programs give it, and says what is
 * wrong with one. Apart from parse.ts, so that a run without a YAML file loads
 * no YAML parser.
 * Invariant: a scenario that comes back has passed the schema.
 */
import { ConfigError } from "../../core/errors.ts";
import { checkScenario } from "./schema.ts";
import type { Path, Scenario } from "./types.ts";

/** A scenario that can't be used; the message holds one line per issue. */
export class ScenarioError extends ConfigError {
  constructor(
    /** Each issue as `file:line:column: path: message`. */
    readonly issues: readonly string[],
    cause?: unknown,
  ) {
    super(issues.join("\n"), cause);
  }
}

/** A path as messages show it: `plugins[0].mbec`. */
export function showPath(path: Path): string {
  return path.map((part, i) => {
    if (typeof part === "number") return `[${part}]`;
    const word = /^[\w.-]+$/.test(part) && !part.includes(".")
      ? part
      : JSON.stringify(part);
    return i === 0 ? word : `.${word}`;
  }).join("");
}

/**
 * Completes and checks a scenario given by a program as a plain object of the
 * YAML's shape.
 * @throws {ScenarioError} naming every issue with its path
 */
export function defineScenario(value: unknown): Scenario {
  const { scenario, issues } = checkScenario(value);
  if (scenario !== undefined) return scenario;
  throw new ScenarioError(
    issues.map(({ path, message }) =>
      `scenario${path.length === 0 ? "" : "." + showPath(path)}: ${message}`
    ),
  );
}
