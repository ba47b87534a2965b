/**
 * Checks who imports whom (design §3) over the module graph, and that neither
 * modules nor folders import each other in a circle. Run by the test command;
 * prints `file:line: what: remedy`, and exits 1 if there is anything to say.
 * Invariant: every module has a row in AREAS; a file that fits no row is an
 * error, so that a new folder needs a decision here first.
 */
import {
  type Files,
  type Finding,
  isTest,
  readFiles,
  report,
} from "./files.ts";
import { code, lex } from "./lex.ts";

/** One import or re-export. */
export interface Import {
  readonly specifier: string;
  readonly line: number;
  /** Whether only types cross: such an import is gone at run time. */
  readonly typeOnly: boolean;
}

/** Core files that cpu/ may know: vocabulary and contracts, no machinery. */
export const CORE_LEAVES: ReadonlySet<string> = new Set(
  [
    "fields",
    "nearest",
    "event",
    "hook",
    "service",
    "moment",
    "assert",
    "errors",
    "executor",
  ]
    .map((name) => `core/${name}.ts`),
);

/** Bare specifiers, as `deno.json`'s import map spells them. */
const STD = /^@std\//;
const PURE_NODE = /^node:(zlib|crypto)$/;

interface Area {
  /** Which files belong to the area; the first row that fits counts. */
  readonly files: RegExp;
  /** What the area's files may import; `own` is the file's own area folder. */
  readonly may: (
    to: string,
    own: string,
    publicPaths: ReadonlySet<string>,
  ) => boolean;
  /** The rule in words: the remedy. */
  readonly rule: string;
}

const plugin = (path: string): string =>
  path.split("/").slice(0, 2).join("/") + "/";

/** Design §3's table: sources first, then their tests. */
const AREAS: readonly Area[] = [
  {
    files: /^deps\//,
    may: (to) =>
      to.startsWith("deno-std/") || to === "node:test" || STD.test(to) ||
      to.startsWith("deps/"),
    rule: "a door re-exports npm:deno-std or node:test only",
  },
  {
    files: /^core\/.*_(test|testing)\.ts$/,
    may: (to) =>
      /^(core|tests)\//.test(to) || /^(@std\/|node:|fast-check$)/.test(to),
    rule:
      "core's tests import core/, tests/ and test libraries only: core knows no x86",
  },
  {
    files: /^core\//,
    may: (to) => (to.startsWith("core/") && !isTest(to)) || PURE_NODE.test(to),
    rule:
      "core/ imports core/, node:zlib and node:crypto only; give core what it needs through an argument or a service",
  },
  {
    files: /^(cpu|plugins|host|testing)\/.*_(test|testing)\.ts$/,
    may: (to) => !/^(examples|bench|tools)\//.test(to),
    rule: "a test beside sources imports no examples/, bench/ or tools/",
  },
  {
    files: /^cpu\//,
    may: (to) => (to.startsWith("cpu/") && !isTest(to)) || CORE_LEAVES.has(to),
    rule: `cpu/ imports cpu/ and core's leaf files (${
      [...CORE_LEAVES].map((p) => p.slice(5, -3)).join(", ")
    }) only; go out by cpu/port.ts`,
  },
  {
    files: /^plugins\/[^/]+\/api\.ts$/,
    may: (to, own) =>
      /^(core|cpu)\//.test(to) && !isTest(to) ||
      /^plugins\/[^/]+\/api\.ts$/.test(to) ||
      to.startsWith(own) && to !== `${own}plugin.ts` && !isTest(to),
    rule:
      "an api.ts imports core/, cpu/, other plugins' api.ts and its own tables, never a plugin.ts",
  },
  {
    files: /^plugins\/decoder\//,
    may: (to, own) => mayPlugin(to, own) || to === "iced-x86",
    rule:
      "a plugin imports core/, cpu/, its own files and other plugins' api.ts only",
  },
  {
    files: /^plugins\/[^/]+\//,
    may: mayPlugin,
    rule:
      "a plugin imports core/, cpu/, its own files and other plugins' api.ts only (decoding is a service of the decoder's api.ts)",
  },
  {
    files: /^host\//,
    may: (to) =>
      /^(core|cpu|plugins|host|testing)\//.test(to) && !isTest(to) ||
      to === "mod.ts" || to === "deno.json" ||
      /^(@std\/(cli|yaml)|node:|yaml$|iced-x86$)/.test(to),
    rule:
      "host/ imports core/, cpu/, plugins/, mod.ts and the packages of design §10; tests are not for it",
  },
  {
    files: /^testing\//,
    may: (to) =>
      /^(core|cpu|testing)\//.test(to) ||
      /^plugins\/[^/]+\/api\.ts$/.test(to) || STD.test(to),
    rule:
      "the conformance kit imports core/, cpu/, plugins' api.ts and @std only",
  },
  {
    files: /^[^/]+\.ts$/,
    may: (to) => /^(core|cpu|plugins|host|testing)\//.test(to) && !isTest(to),
    rule:
      "a module at the root re-exports core/, cpu/, plugins/ and host/ only",
  },
  {
    files: /^examples\//,
    may: (to) =>
      /^(core|cpu|examples|host|plugins|testing)\//.test(to) ||
      to === "mod.ts" || /^(@std\/|node:|@vmtape\/)/.test(to),
    rule: "an example imports the project, @std and node, never tests",
  },
  {
    files: /^(tests|bench|tools)\//,
    may: (to) => !to.startsWith("examples/") || to.length > 0,
    rule: "",
  },
];

function mayPlugin(to: string, own: string): boolean {
  return /^(core|cpu)\//.test(to) && !isTest(to) ||
    to.startsWith(own) && !isTest(to) || /^plugins\/[^/]+\/api\.ts$/.test(to);
}

/** Reads the imports of one module. */
export function importsOf(source: string): Import[] {
  const tokens = code(lex(source));
  const found: Import[] = [];
  const isString = (i: number): boolean => tokens[i]?.kind === "string";
  const unquote = (i: number): string => tokens[i].text.slice(1, -1);
  for (let i = 0; i < tokens.length; i++) {
    const { kind, text, line } = tokens[i];
    if (kind !== "name" || (text !== "import" && text !== "export")) continue;
    const before = tokens[i - 1]?.text;
    if (before === "." || before === "?." || tokens[i + 1]?.text === ":") {
      continue;
    }
    if (text === "import" && isString(i + 1)) {
      found.push({ specifier: unquote(i + 1), line, typeOnly: false });
    } else if (text === "import" && tokens[i + 1]?.text === "(") {
      if (isString(i + 2)) {
        // `import("x").T` in a type position is erased, `await import("x")` is not
        const typeOnly = before === ":" || before === "<" || before === "|" ||
          before === "typeof" ||
          before === "=" && tokens[i - 3]?.text === "type";
        found.push({ specifier: unquote(i + 2), line, typeOnly });
      }
    } else if (
      text === "import"
        ? tokens[i + 1]?.text !== "."
        : /^[{*]$|^type$/.test(tokens[i + 1]?.text)
    ) {
      const from = clauseEnd(tokens.map((t) => t.text), i + 1);
      if (from > 0 && isString(from + 1)) {
        const clause = tokens.slice(i + 1, from).map((t) => t.text);
        found.push({
          specifier: unquote(from + 1),
          line,
          typeOnly: isTypeOnly(clause),
        });
      }
    }
  }
  return found;
}

/** Index of the `from` that ends the import or export clause starting at `i`, or -1. */
function clauseEnd(texts: readonly string[], i: number): number {
  for (let depth = 0; i < texts.length; i++) {
    const text = texts[i];
    if (text === "{") depth++;
    else if (text === "}") depth--;
    else if (
      text === "from" && depth === 0 && /^["']/.test(texts[i + 1] ?? "")
    ) return i;
    else if (depth === 0 && !/^[\w$*,]+$/.test(text)) return -1;
  }
  return -1;
}

function isTypeOnly(clause: readonly string[]): boolean {
  if (clause[0] === "type" && clause[1] !== "," && clause.length > 1) {
    return true;
  }
  if (clause[0] !== "{" || clause.length === 2) return false;
  const names = clause.slice(1, -1).join(" ").split(",").filter((n) =>
    n.trim() !== ""
  );
  return names.every((name) => /^ ?type \S/.test(name));
}

/** `specifier` as seen from `file`: a path of ours, or the bare name itself. */
export function resolve(file: string, specifier: string): string {
  if (!/^\.{1,2}\//.test(specifier)) return specifier;
  return new URL(specifier, `file:///${file}`).pathname.slice(1);
}

/** Which area `file` belongs to, as a folder for cycle reports. */
function folderOf(file: string): string {
  const parts = file.split("/");
  if (parts.length === 1) return file;
  return parts[0] === "plugins" || parts[0] === "host" && parts.length > 2
    ? parts.slice(0, 2).join("/")
    : parts[0];
}

/** Every exported path in deno.json. */
function exportedPaths(files: Files): Set<string> {
  const config = files.get("deno.json");
  if (config === undefined) return new Set();
  const { exports = {} } = JSON.parse(config) as {
    exports?: Record<string, string>;
  };
  return new Set(Object.values(exports).map((p) => p.replace(/^\.\//, "")));
}

/** Runs every rule. */
export function checkImports(files: Files): Finding[] {
  const findings: Finding[] = [];
  const exported = exportedPaths(files);
  const graph = new Map<string, Map<string, number>>();
  for (const [file, source] of files) {
    if (!/\.[tj]s$/.test(file)) continue;
    const area = AREAS.find((a) => a.files.test(file));
    if (area === undefined) {
      findings.push({
        file,
        line: 1,
        what: "no import rule for this place",
        remedy:
          "move the file into a folder of design §3, or give its folder a row in tools/imports.ts",
      });
      continue;
    }
    const edges = new Map<string, number>();
    graph.set(file, edges);
    for (const { specifier, line, typeOnly } of importsOf(source)) {
      const to = resolve(file, specifier);
      if (to !== specifier && !files.has(to)) {
        findings.push({
          file,
          line,
          what: `imports ${to}, which doesn't exist`,
          remedy: "correct the path or write the file",
        });
      } else if (/^(npm|jsr|https?):/.test(to)) {
        findings.push({
          file,
          line,
          what: `imports ${to} past the import map`,
          remedy:
            "name the package in deno.json's imports and import that name",
        });
      } else if (
        !area.may(
          to,
          area.files.source.startsWith("^plugins") ? plugin(file) : "",
          exported,
        )
      ) {
        findings.push({ file, line, what: `imports ${to}`, remedy: area.rule });
      }
      if (to !== specifier && !typeOnly && !edges.has(to)) edges.set(to, line);
    }
  }
  for (const api of files.keys()) {
    if (
      /^plugins\/[^/]+\/api\.ts$/.test(api) && exported.size > 0 &&
      !exported.has(api)
    ) {
      findings.push({
        file: api,
        line: 1,
        what: "is not exported",
        remedy: `add "./${
          api.slice(0, -"/api.ts".length)
        }": "./${api}" to deno.json's exports`,
      });
    }
  }
  findings.push(...moduleCycles(graph), ...folderCycles(graph));
  return findings;
}

/**
 * Modules of different folders that need each other at load time: whichever
 * loads first sees undefined constants. (Within a folder functions may call
 * each other across files.)
 */
function moduleCycles(
  graph: ReadonlyMap<string, ReadonlyMap<string, number>>,
): Finding[] {
  const folder = (file: string): string => file.replace(/[^/]*$/, "");
  const across = cycles(graph).filter((cycle) =>
    cycle.some((file) => folder(file) !== folder(cycle[0]))
  );
  return across.map((cycle) => ({
    file: cycle[0],
    line: graph.get(cycle[0])!.get(cycle[1])!,
    what: `modules import each other: ${cycle.join(" → ")}`,
    remedy:
      "move what both need into a third file, or import types only with `import type`",
  }));
}

function folderCycles(
  graph: ReadonlyMap<string, ReadonlyMap<string, number>>,
): Finding[] {
  const folders = new Map<string, Map<string, number>>();
  const places = new Map<string, { file: string; line: number }>();
  for (const [file, edges] of graph) {
    if (isTest(file) || /^(tests|tools|bench)\//.test(file)) continue;
    const from = folderOf(file);
    if (!folders.has(from)) folders.set(from, new Map());
    for (const [target, line] of edges) {
      const to = folderOf(target);
      // mod.ts is the front door of everything: the command line goes through it
      if (from === to || from === "mod.ts" || to === "mod.ts") continue;
      folders.get(from)!.set(to, line);
      places.set(`${from} ${to}`, { file, line });
    }
  }
  return cycles(folders).map((cycle) => {
    const edges = cycle.slice(1).map((to, i) => {
      const place = places.get(`${cycle[i]} ${to}`)!;
      return `${place.file}:${place.line}`;
    });
    return {
      ...places.get(`${cycle[0]} ${cycle[1]}`)!,
      what: `folders import each other: ${cycle.join(" → ")} (${
        edges.join(", ")
      })`,
      remedy:
        "let one of them declare the token or table and the other import it",
    };
  });
}

/**
 * Cycles as `[a, b, …, a]`, no two sharing a node: those that share one show up
 * when the reported one is gone.
 */
export function cycles(
  graph: ReadonlyMap<string, ReadonlyMap<string, number>>,
): string[][] {
  const found: string[][] = [];
  const done = new Set<string>();
  for (const start of [...graph.keys()].sort()) {
    if (done.has(start)) continue;
    const cameFrom = new Map<string, string>();
    const queue = [start];
    search: for (
      let node = queue.shift();
      node !== undefined;
      node = queue.shift()
    ) {
      for (const next of graph.get(node)?.keys() ?? []) {
        if (next === start) {
          const path = [start];
          for (let back = node; back !== start; back = cameFrom.get(back)!) {
            path.unshift(back);
          }
          found.push([start, ...path]);
          for (const seen of path) done.add(seen);
          break search;
        }
        if (!cameFrom.has(next) && !done.has(next)) {
          cameFrom.set(next, node);
          queue.push(next);
        }
      }
    }
    done.add(start);
  }
  return found;
}

if (import.meta.main) {
  const files = readFiles();
  Deno.exit(report("imports", files.size, checkImports(files)));
}
