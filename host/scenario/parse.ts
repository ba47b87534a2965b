/**
 * Reads a scenario out of YAML text. @std/yaml parses; only when something is
 * wrong does npm:yaml locate the node, so that a good scenario costs one
 * parse. Every message is `file:line:column: path: what was expected and found`.
 * Invariant: a ScenarioError names at least one place; a scenario that comes
 * back has passed the schema.
 */
import { parse } from "@std/yaml";
import {
  isMap as isYamlMap,
  isNode,
  isScalar,
  LineCounter,
  parseDocument,
} from "yaml";
import { messageOf } from "../../core/errors.ts";
import { ScenarioError, showPath } from "./define.ts";
import { checkScenario } from "./schema.ts";
import type { Issue } from "./shape.ts";
import type { Path, Scenario } from "./types.ts";

/** A scenario together with the text it came from. */
export interface ScenarioFile {
  readonly scenario: Scenario;
  /** The file's path, as given. */
  readonly file: string;
  /** An error about the value at `path`, with its place in the file. */
  errorAt(path: Path, message: string, cause?: unknown): ScenarioError;
  /**
   * Where the text at `path` begins in the file, if it stands there line by
   * line (a `|` block): its line and column, both from 1.
   */
  blockAt(path: Path): { line: number; column: number } | undefined;
}

/** Where `path` stands in `text`, as `line:column`; the nearest parent's place if it has none itself. */
function locate(text: string, path: Path, onKey: boolean): string {
  const lines = new LineCounter();
  const document = parseDocument(text, {
    lineCounter: lines,
    uniqueKeys: false,
  });
  const place = (offset: number): string => {
    const { line, col } = lines.linePos(offset);
    return `${line}:${col}`;
  };
  for (let length = path.length; length > 0; length--) {
    const parent = length === 1
      ? document.contents
      : document.getIn(path.slice(0, length - 1), true);
    const key = path[length - 1];
    if (isYamlMap(parent)) {
      const pair = parent.items.find((p) =>
        String(isNode(p.key) ? (p.key as { value?: unknown }).value : p.key) ===
          String(key)
      );
      const node = pair &&
        ((onKey && length === path.length || !isNode(pair.value))
          ? pair.key
          : pair.value);
      if (isNode(node) && node.range) return place(node.range[0]);
      if (isNode(pair?.key) && pair.key.range) return place(pair.key.range[0]);
      continue;
    }
    const node = document.getIn(path.slice(0, length), true);
    if (isNode(node) && node.range) return place(node.range[0]);
  }
  const range = document.contents?.range;
  return place(range?.[0] ?? 0);
}

/** Where the lines of a `|` block begin. */
function locateBlock(
  text: string,
  path: Path,
): { line: number; column: number } | undefined {
  const lines = new LineCounter();
  const document = parseDocument(text, { lineCounter: lines });
  const node = document.getIn(path, true);
  if (!isScalar(node) || node.type !== "BLOCK_LITERAL" || !node.range) {
    return undefined;
  }
  const line = lines.linePos(node.range[0]).line + 1;
  const first = text.split(/\r?\n/).slice(line - 1).find((l) =>
    l.trim() !== ""
  );
  const source = String(node.value).split("\n").find((l) => l.trim() !== "");
  if (first === undefined || source === undefined) return undefined;
  return { line, column: first.indexOf(source) + 1 };
}

function showIssue(file: string, text: string, issue: Issue): string {
  const path = issue.path.length === 0 ? "" : ` ${showPath(issue.path)}:`;
  return `${file}:${
    locate(text, issue.path, issue.onKey)
  }:${path} ${issue.message}`;
}

/** npm:yaml's first complaint, if there is one, at its line and column. */
function stricterError(
  file: string,
  text: string,
  cause?: unknown,
): ScenarioError | undefined {
  const lines = new LineCounter();
  const [first] = parseDocument(text, { lineCounter: lines }).errors;
  if (first === undefined) return undefined;
  const { line, col } = lines.linePos(first.pos[0]);
  const what = first.message.split(/ at line \d+/)[0].replace(/:$/, "");
  return new ScenarioError(
    [`${file}:${line}:${col}: not YAML: ${what}`],
    cause,
  );
}

/** The place of a text that @std/yaml refused. */
function syntaxError(
  file: string,
  text: string,
  thrown: unknown,
): ScenarioError {
  const stricter = stricterError(file, text, thrown);
  if (stricter !== undefined) return stricter;
  const message = messageOf(thrown);
  const at = /line (\d+), column (\d+)/.exec(message);
  const what = message.split("\n")[0]
    .replace(/ at line \d+, column \d+:?$/, "");
  return new ScenarioError(
    [`${file}:${at?.[1] ?? 1}:${at?.[2] ?? 1}: not YAML: ${what}`],
    thrown,
  );
}

/**
 * Reads a scenario out of YAML.
 * @param text the file's contents
 * @param file its name, for messages
 * @throws {ScenarioError} naming every issue with its place
 */
export function parseScenario(text: string, file: string): ScenarioFile {
  let value: unknown;
  try {
    value = parse(text);
  } catch (thrown) {
    throw syntaxError(file, text, thrown);
  }
  const { scenario, issues } = checkScenario(value);
  if (scenario === undefined) {
    // the stricter parser may know better why it makes no sense (tabs …)
    throw stricterError(file, text) ?? new ScenarioError(
      issues.map((issue) => showIssue(file, text, issue)),
    );
  }
  return {
    scenario,
    file,
    errorAt: (path, message, cause) =>
      new ScenarioError([
        showIssue(file, text, { path, onKey: false, message }),
      ], cause),
    blockAt: (path) => locateBlock(text, path),
  };
}
