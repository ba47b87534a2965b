/**
 * House rules as a check (design §3): no clock, entropy, inexact Math, locale,
 * Promise or I/O outside host/; file headers; at most 500 lines a file, by a
 * ratchet; no leftover to-do marks, unjustified lint exceptions or `any`.
 * Run by the test command; prints `file:line: what: remedy`.
 * Invariant: each ban is a row with its remedy; exceptions are stated in the
 * file that needs them or in RATCHET, never in a rule.
 */
import {
  type Files,
  type Finding,
  isTest,
  readFiles,
  report,
} from "./files.ts";
import { code, lex, type Token } from "./lex.ts";

/** Most lines of a file. */
export const MAX_LINES = 500;
/** Fewest and most lines of a file's header comment. */
export const HEADER_LINES: readonly [number, number] = [3, 30];
/** Tests and files shorter than this may say it in one line. */
const SMALL_FILE_LINES = 100;

/**
 * Files longer than MAX_LINES that are neither generated nor a flat table, with
 * the length they may have. A number may only fall: shorten the file, then it.
 */
export const RATCHET: Readonly<Record<string, number>> = {};

interface Ban {
  /** Names of globals or keywords. */
  readonly names: readonly string[];
  readonly what: string;
  readonly remedy: string;
}

/** What makes a run depend on more than its inputs, or touch the outside. */
const BANS: readonly Ban[] = [
  {
    names: [
      "Date",
      "performance",
      "Temporal",
      "setTimeout",
      "setInterval",
      "setImmediate",
      "requestAnimationFrame",
    ],
    what: "the host's clock",
    remedy:
      "use the kernel's clock service and plugin timers (virtual time); only host/ sees real time",
  },
  {
    names: [
      "getRandomValues",
      "randomUUID",
      "randomBytes",
      "randomInt",
      "randomFillSync",
    ],
    what: "the host's entropy",
    remedy: "use the plugin's own seeded `random` stream (core/random.ts)",
  },
  {
    names: [
      "async",
      "await",
      "Promise",
      "queueMicrotask",
      "Worker",
      "SharedArrayBuffer",
      "Atomics",
    ],
    what: "asynchronous code",
    remedy:
      "make it synchronous, or let the host do it and send the result as an input",
  },
  {
    names: [
      "Deno",
      "process",
      "fetch",
      "console",
      "navigator",
      "localStorage",
      "sessionStorage",
      "caches",
      "WebSocket",
      "EventSource",
      "XMLHttpRequest",
      "alert",
      "confirm",
      "prompt",
    ],
    what: "input or output",
    remedy:
      "do it in host/ and pass the data in as an argument or an input event",
  },
  {
    names: [
      "WeakRef",
      "FinalizationRegistry",
      "globalThis",
      "self",
      "window",
      "eval",
    ],
    what: "something a replay can't repeat",
    remedy: "hold state in cells and name what you need",
  },
  {
    names: [
      "Intl",
      "toLocaleString",
      "toLocaleUpperCase",
      "toLocaleLowerCase",
      "localeCompare",
      "toLocaleDateString",
      "toLocaleTimeString",
    ],
    what: "the host's locale",
    remedy: "format and compare without a locale (`<`, toUpperCase, padStart)",
  },
];

/** Names banned as members too (`crypto.randomUUID`, `s.localeCompare`): all others count only as globals. */
const MEMBERS: ReadonlySet<string> = new Set(
  BANS.filter((b) => /entropy|locale/.test(b.what)).flatMap((b) => b.names),
);

const BAN_OF: ReadonlyMap<string, Ban> = new Map(
  BANS.flatMap((ban) => ban.names.map((name) => [name, ban] as const)),
);

/** Names that are words of our own too: declared as a parameter, they are ours in that file. */
const AMBIGUOUS: ReadonlySet<string> = new Set(
  ["fetch", "process", "performance", "self", "window", "caches", "prompt"],
);

/** Single exceptions, each with the reason why it can't change a run. */
const ALLOWED: readonly { files: RegExp; name: string; because: string }[] = [
  {
    files: /^cpu\/semantics\/simd\/float_fast\.ts$/,
    name: "Math.sqrt",
    because: "a guess whose residual is computed exactly before it counts",
  },
  {
    files: /^core\/tape\//,
    name: "WeakRef",
    because:
      "a cache of pages read from a tape: a miss reads the same bytes again",
  },
  {
    files: /^testing\/traps\.ts$/,
    name: "globalThis",
    because: "it sets traps on the host's clock and entropy, for plugin tests",
  },
];

/** What ECMAScript defines exactly; all other functions of Math may differ between engines. */
const EXACT_MATH: ReadonlySet<string> = new Set(
  [
    "abs",
    "ceil",
    "clz32",
    "floor",
    "fround",
    "imul",
    "max",
    "min",
    "round",
    "sign",
    "trunc",
  ],
);

/** Words after which a name is being declared, not used. */
const DECLARES = new Set([
  "function",
  "const",
  "let",
  "var",
  "class",
  "interface",
  "type",
  "get",
  "set",
  "enum",
]);

/** Whether the rules on purity hold for `file`. */
function isPure(file: string): boolean {
  return !isTest(file) &&
    /^(core|cpu|plugins|testing)\/|^[^/]+\.ts$/.test(file);
}

/** Runs every rule over every file. */
export function checkTidy(
  files: Files,
  ratchet: Readonly<Record<string, number>> = RATCHET,
): Finding[] {
  const findings: Finding[] = [];
  for (const [file, source] of files) {
    if (!/\.[tj]s$/.test(file)) continue;
    const tokens = lex(source);
    const found = [
      ...header(file, source, tokens),
      ...length(source, ratchet[file]),
      ...comments(file, tokens),
      ...anyTypes(file, code(tokens)),
      ...(isPure(file) ? purity(file, code(tokens)) : []),
    ];
    findings.push(...found.map((f) => ({ file, ...f })));
  }
  for (const file of Object.keys(ratchet)) {
    if (!files.has(file)) {
      findings.push({
        file,
        line: 1,
        what: "is in RATCHET and doesn't exist",
        remedy: "delete its line in tools/tidy.ts",
      });
    }
  }
  return findings;
}

type Local = Omit<Finding, "file">;

/** The comment lines before the first code, delimiters included. */
function headerLines(tokens: readonly Token[]): string[] {
  const lines: string[] = [];
  let next = 0;
  for (const { kind, text, line } of tokens) {
    if (kind !== "comment") break;
    if (text.startsWith("#!")) continue;
    if (next > 0 && line > next) break;
    const own = text.split("\n");
    lines.push(...own);
    next = line + own.length;
    if (text.startsWith("/*")) break;
  }
  return lines;
}

function header(
  file: string,
  source: string,
  tokens: readonly Token[],
): Local[] {
  const lines = headerLines(tokens);
  const small = isTest(file) || file.startsWith("tests/") ||
    source.split("\n").length <= SMALL_FILE_LINES;
  const least = small ? 1 : HEADER_LINES[0];
  const most = HEADER_LINES[1];
  if (lines.length >= least && lines.length <= most) return [];
  return [{
    line: 1,
    what: lines.length === 0
      ? "has no header"
      : `has a header of ${lines.length} lines`,
    remedy:
      `open the file with a comment of ${least} to ${most} lines: what it is, which manual section, which invariant it keeps`,
  }];
}

/** Whether a header declares its file generated, or a table without control flow. */
function isExempt(source: string): boolean {
  const head = headerLines(lex(source.slice(0, 4000))).join("\n");
  return /@generated|\bflat table\b/i.test(head);
}

function length(source: string, allowed: number | undefined): Local[] {
  const lines = source.split("\n").length - (source.endsWith("\n") ? 1 : 0);
  if (isExempt(source)) return [];
  if (allowed !== undefined) {
    if (lines < allowed) {
      return [{
        line: lines,
        what: `has ${lines} lines, fewer than the ${allowed} in RATCHET`,
        remedy: lines > MAX_LINES
          ? `lower its number in tools/tidy.ts to ${lines}`
          : "delete its line in tools/tidy.ts",
      }];
    }
    if (lines === allowed) return [];
    return [{
      line: allowed + 1,
      what: `has ${lines} lines, RATCHET allows it ${allowed}`,
      remedy: "split the file: it may only get shorter",
    }];
  }
  if (lines <= MAX_LINES) return [];
  return [{
    line: MAX_LINES + 1,
    what: `has ${lines} lines, ${MAX_LINES} are allowed`,
    remedy:
      'split it by concept (or, if it is one, say "flat table" or "@generated by …" in its header)',
  }];
}

const LEFTOVER = /\b(TO[D]O|FIX[M]E|X[X]X|HA[C]K)\b/;

function comments(file: string, tokens: readonly Token[]): Local[] {
  const found: Local[] = [];
  for (const { kind, text, line } of tokens) {
    if (kind !== "comment") continue;
    text.split("\n").forEach((part, i) => {
      const at = line + i;
      const leftover = LEFTOVER.exec(part);
      if (leftover) {
        found.push({
          line: at,
          what: `leftover ${leftover[0]}`,
          remedy:
            "do it, or state the limit in docs/DEVIATIONS.md and throw NotModelled",
        });
      }
      if (
        /@ts-(ignore|nocheck)/.test(part) ||
        /@ts-expect-error/.test(part) && !isTest(file) &&
          !file.startsWith("tests/")
      ) {
        found.push({
          line: at,
          what: "type checking switched off",
          remedy:
            "type it; only a test may expect an error, with @ts-expect-error",
        });
      }
      if (
        /deno-lint-ignore/.test(part) &&
        !/deno-lint-ignore.*--\s*\S{3,}/.test(part)
      ) {
        found.push({
          line: at,
          what: "lint exception without a reason",
          remedy:
            "fix what lint says, or give the reason: `deno-lint-ignore RULE -- reason`",
        });
      }
    });
  }
  return found;
}

/** The type `any`; a `.d.ts` in deps/ speaks for untyped code and may use it. */
function anyTypes(file: string, tokens: readonly Token[]): Local[] {
  if (/^deps\/.*\.d\.ts$/.test(file)) return [];
  return tokens.flatMap(({ kind, text, line }, i) => {
    if (kind !== "name" || text !== "any") return [];
    const before = tokens[i - 1]?.text ?? "", after = tokens[i + 1]?.text ?? "";
    const isType = [":", "<", "as", "|", "&", "=>"].includes(before) ||
      before === "," && [">", ",", "["].includes(after) ||
      before === "=" && after === ";" && tokens[i - 3]?.text === "type";
    return isType && after !== "(" && after !== "."
      ? [{
        line,
        what: "the type any",
        remedy: "say what it is, or `unknown` and narrow it",
      }]
      : [];
  });
}

function purity(file: string, tokens: readonly Token[]): Local[] {
  const found: Local[] = [];
  // An example is a program: what it does when started itself is its own.
  const main = file.startsWith("examples/")
    ? tokens.findIndex((t, i) =>
      t.text === "main" && tokens[i - 2]?.text === "meta"
    )
    : -1;
  const end = main < 0 ? tokens.length : main;
  const declared = declaredNames(tokens);
  for (let i = 0; i < end; i++) {
    const { kind, text, line } = tokens[i];
    if (text === "**" || text === "**=") {
      if (!isExactPower(tokens, i)) {
        found.push({
          line,
          what: `operator ${text}`,
          remedy:
            "engines may round it differently: shift, multiply, or use bigint literals",
        });
      }
      continue;
    }
    if (kind !== "name") continue;
    const member = tokens[i - 1]?.text === "." || tokens[i - 1]?.text === "?.";
    const allowed = (name: string): boolean =>
      ALLOWED.some((a) => a.name === name && a.files.test(file));
    if (member && tokens[i - 2]?.text === "Math" && !EXACT_MATH.has(text)) {
      if (allowed(`Math.${text}`)) continue;
      const random = text === "random";
      found.push({
        line,
        what: `Math.${text}`,
        remedy: random
          ? "use the plugin's own seeded `random` stream (core/random.ts)"
          : "engines may round it differently: use integer arithmetic",
      });
      continue;
    }
    const ban = BAN_OF.get(text);
    if (ban === undefined || declared.has(text) || isLabel(tokens, i)) continue;
    if (member && !MEMBERS.has(text)) continue;
    if (allowed(text)) continue;
    found.push({ line, what: `${text} is ${ban.what}`, remedy: ban.remedy });
  }
  return found;
}

/** `2 ** n` and powers of bigints are exact. */
function isExactPower(tokens: readonly Token[], i: number): boolean {
  const base = tokens[i - 1], exponent = tokens[i + 1];
  return base?.text === "2" ||
    [base, exponent].some((t) => t?.kind === "number" && t.text.endsWith("n"));
}

/** Names that the file declares itself, which therefore are no globals in it. */
function declaredNames(tokens: readonly Token[]): Set<string> {
  const names = new Set<string>();
  tokens.forEach(({ kind, text }, i) => {
    if (kind !== "name" || !BAN_OF.has(text)) return;
    const before = tokens[i - 1]?.text, after = tokens[i + 1]?.text;
    const parameter = AMBIGUOUS.has(text) && after === ":" &&
      ["(", ",", "readonly", "private"].includes(before);
    if (DECLARES.has(before) || parameter) names.add(text);
  });
  return names;
}

/** Whether token `i` only names a property, parameter or method being declared. */
function isLabel(tokens: readonly Token[], i: number): boolean {
  const before = tokens[i - 1]?.text ?? "", after = tokens[i + 1]?.text ?? "";
  if (
    after === ":" ||
    after === "?" && [":", ",", ")"].includes(tokens[i + 2]?.text ?? "")
  ) {
    return [
      "{",
      ",",
      ";",
      "(",
      "readonly",
      "}",
      "override",
      "private",
      "protected",
      "public",
    ].includes(before) || tokens[i - 1].line < tokens[i].line;
  }
  if (
    after !== "(" ||
    ["=", "=>", "return", "!", "?", ":", "&&", "||", "(", "await", "??"]
      .includes(before)
  ) return false;
  let depth = 0;
  for (let j = i + 1; j < tokens.length; j++) {
    if (tokens[j].text === "(") depth++;
    else if (tokens[j].text === ")" && --depth === 0) {
      return tokens[j + 1]?.text === "{" || tokens[j + 1]?.text === ":";
    }
  }
  return false;
}

if (import.meta.main) {
  const files = readFiles();
  Deno.exit(report("tidy", files.size, checkTidy(files)));
}
