/**
 * The preprocessor, a subset of NASM's: %define (with parameters), %undef,
 * %assign, %macro … %endmacro, %rep … %endrep, %if/%ifdef/%ifndef … %endif,
 * %error. It turns source text into plain lines that remember their origin.
 * Invariant: purely textual; it never sees addresses, so it runs once.
 */
import { LineError } from "./types.ts";
import { tokenize, TokenReader } from "./lexer.ts";
import { evaluate, parseExpression } from "./expression.ts";
import { registerByName } from "./registers.ts";

/** A line to assemble and where it came from. */
export interface SourceLine {
  readonly text: string;
  /** 1-based line of the file in which the text stands. */
  readonly line: number;
  /** The macro it came from, for errors. */
  readonly note?: string;
}

interface Definition {
  readonly parameters: readonly string[] | undefined;
  readonly body: string;
}

interface Macro {
  readonly name: string;
  readonly least: number;
  readonly most: number;
  readonly body: readonly SourceLine[];
}

/** Reports a problem found on a line. */
export type Report = (line: SourceLine, error: LineError) => void;

const MAX_LINES = 1_000_000;
const MAX_DEPTH = 100;

/** Expands a source text into lines without `%` directives. */
export function preprocess(
  source: string,
  constants: Readonly<Record<string, number | bigint>>,
  report: Report,
  firstLine = 1,
): SourceLine[] {
  const expander = new Expander(constants, report);
  const lines = source.split("\n").map((text, i) => ({
    text: text.replace(/\r$/, ""),
    line: i + firstLine,
  }));
  expander.run(lines, 0);
  return expander.output;
}

class Expander {
  readonly output: SourceLine[] = [];
  readonly #definitions = new Map<string, Definition>();
  readonly #macros = new Map<string, Macro>();
  readonly #values = new Map<string, bigint>();
  readonly #report: Report;
  #expansions = 0;

  constructor(
    constants: Readonly<Record<string, number | bigint>>,
    report: Report,
  ) {
    this.#report = report;
    for (const [name, value] of Object.entries(constants)) {
      this.#values.set(name, BigInt(value));
    }
  }

  run(lines: readonly SourceLine[], depth: number): void {
    let i = 0;
    while (i < lines.length) {
      const line = lines[i];
      try {
        if (depth > MAX_DEPTH || this.output.length > MAX_LINES) {
          throw new LineError(
            1,
            `macros expand without end: limits are ${MAX_DEPTH} levels and ` +
              `${MAX_LINES} lines`,
          );
        }
        i = this.#line(lines, i, depth);
      } catch (error) {
        if (!(error instanceof LineError)) throw error;
        this.#report(line, error);
        if (depth > MAX_DEPTH) return;
        i++;
      }
    }
  }

  /** Handles line `i`; returns the index of the next one. */
  #line(lines: readonly SourceLine[], i: number, depth: number): number {
    const line = lines[i];
    const directive = /^\s*%([a-z]+)\b\s*(.*)$/i.exec(line.text);
    if (directive === null) {
      this.#plain(line, depth);
      return i + 1;
    }
    const [, word, rest] = directive;
    const column = line.text.indexOf("%") + 1;
    switch (word.toLowerCase()) {
      case "define":
      case "xdefine":
        this.#define(stripComment(rest), column);
        return i + 1;
      case "undef":
        this.#definitions.delete(rest.trim());
        return i + 1;
      case "assign": {
        const m = /^([A-Za-z_.?@][\w.?@$]*)\s+(.*)$/.exec(stripComment(rest));
        if (m === null) {
          throw new LineError(column, "%assign needs a name and an expression");
        }
        const value = this.#evaluate(m[2], column);
        this.#definitions.set(m[1], {
          parameters: undefined,
          body: `${value}`,
        });
        return i + 1;
      }
      case "macro":
        return this.#macro(lines, i, stripComment(rest), column);
      case "rep": {
        const end = matching(lines, i, "rep", "endrep");
        const count = this.#evaluate(stripComment(rest), column);
        const body = lines.slice(i + 1, end);
        if (count < 0n || count > 1_000_000n) {
          throw new LineError(column, `%rep ${count}: accepted are 0 to 10^6`);
        }
        for (let n = 0n; n < count; n++) this.run(body, depth + 1);
        return end + 1;
      }
      case "if":
      case "ifdef":
      case "ifndef":
        return this.#conditional(lines, i, depth);
      case "error":
        throw new LineError(column, this.#substitute(rest));
      default:
        throw new LineError(
          column,
          `unknown directive %${word}: accepted are %define %undef %assign ` +
            "%macro %endmacro %rep %endrep %if %ifdef %ifndef %elif %else " +
            "%endif %error",
        );
    }
  }

  #define(rest: string, column: number): void {
    const m = /^([A-Za-z_.?@][\w.?@$]*)(\(([^)]*)\))?\s*(.*)$/.exec(rest);
    if (m === null) throw new LineError(column, "%define needs a name");
    const parameters = m[2] === undefined
      ? undefined
      : m[3].split(",").map((p) => p.trim());
    this.#definitions.set(m[1], { parameters, body: m[4].trim() });
  }

  #macro(
    lines: readonly SourceLine[],
    i: number,
    rest: string,
    column: number,
  ): number {
    const end = matching(lines, i, "macro", "endmacro");
    const m = /^([A-Za-z_.?@][\w.?@$]*)(?:\s+(\d+)(?:-(\d+|\*))?)?\s*$/.exec(
      rest,
    );
    if (m === null) {
      throw new LineError(
        column,
        "%macro needs a name and a number of parameters, as in " +
          "`%macro write 2` or `%macro write 1-3`",
      );
    }
    const least = Number(m[2] ?? 0);
    const most = m[3] === "*" ? Infinity : Number(m[3] ?? least);
    this.#macros.set(m[1].toLowerCase(), {
      name: m[1],
      least,
      most,
      body: lines.slice(i + 1, end),
    });
    return end + 1;
  }

  #conditional(
    lines: readonly SourceLine[],
    start: number,
    depth: number,
  ): number {
    const end = matching(lines, start, "if(?:n?def)?", "endif");
    let taken = false;
    let at = start;
    while (at < end) {
      const next = branchEnd(lines, at, end);
      const [, word, rest] = /^\s*%([a-z]+)\b\s*(.*)$/i.exec(lines[at].text)!;
      if (!taken && this.#holds(word.toLowerCase(), stripComment(rest))) {
        taken = true;
        this.run(lines.slice(at + 1, next), depth + 1);
      }
      at = next;
    }
    return end + 1;
  }

  #holds(word: string, rest: string): boolean {
    const name = rest.trim();
    const isDefined = this.#definitions.has(name) || this.#values.has(name) ||
      this.#macros.has(name.toLowerCase());
    switch (word) {
      case "ifdef":
        return isDefined;
      case "ifndef":
        return !isDefined;
      case "else":
        return true;
      default:
        return this.#evaluate(rest, 1) !== 0n;
    }
  }

  #plain(line: SourceLine, depth: number): void {
    const call =
      /^(\s*(?:[A-Za-z_.?@%][\w.?@$%]*:)?\s*)([A-Za-z_.?@][\w.?@$]*)(?:\s+(.*))?$/
        .exec(line.text);
    const macro = call === null
      ? undefined
      : this.#macros.get(call[2].toLowerCase());
    if (call !== null && macro !== undefined) {
      if (call[1].trim() !== "") {
        this.output.push({ ...line, text: this.#substitute(call[1]) });
      }
      this.#expand(macro, stripComment(call[3] ?? ""), line, depth);
      return;
    }
    const text = this.#substitute(line.text);
    // A plain constant may steer %if and %rep further down.
    const constant = /^\s*([A-Za-z_?@][\w.?@$]*):?\s+equ\s+(.*)$/i.exec(text);
    if (constant !== null) {
      try {
        const value = this.#evaluate(stripComment(constant[2]), 1);
        this.#values.set(constant[1], value);
      } catch (error) {
        if (!(error instanceof LineError)) throw error;
      }
    }
    this.output.push(text === line.text ? line : { ...line, text });
  }

  #expand(macro: Macro, text: string, from: SourceLine, depth: number): void {
    const args = splitArguments(this.#substitute(text));
    if (args.length < macro.least || args.length > macro.most) {
      const accepted = macro.least === macro.most
        ? `${macro.least}`
        : `${macro.least} to ${macro.most}`;
      throw new LineError(
        1,
        `macro ${macro.name}: found ${args.length} arguments, accepted are ` +
          accepted,
      );
    }
    const unique = ++this.#expansions;
    const body = macro.body.map((line) => ({
      line: line.line,
      note: `in macro ${macro.name}, used at line ${from.line}`,
      text: line.text
        .replace(/%%([\w.?@$]+)/g, `..@${unique}.$1`)
        .replace(
          /%(\d+)/g,
          (_, n) => n === "0" ? `${args.length}` : args[Number(n) - 1] ?? "",
        ),
    }));
    this.run(body, depth + 1);
  }

  /** Replaces defined names outside strings and comments. */
  #substitute(text: string, busy: ReadonlySet<string> = new Set()): string {
    if (this.#definitions.size === 0) return text;
    let out = "";
    let i = 0;
    while (i < text.length) {
      const c = text[i];
      if (c === ";") return out + text.slice(i);
      if (c === '"' || c === "'" || c === "`") {
        let end = i + 1;
        while (end < text.length && text[end] !== c) {
          end += c === "`" && text[end] === "\\" ? 2 : 1;
        }
        out += text.slice(i, end + 1);
        i = end + 1;
        continue;
      }
      const word = /^[A-Za-z0-9_.?@][\w.?@$]*/.exec(text.slice(i));
      if (word === null) {
        out += c;
        i++;
        continue;
      }
      const name = word[0];
      i += name.length;
      const definition = this.#definitions.get(name);
      if (definition === undefined || busy.has(name)) {
        out += name;
        continue;
      }
      let body = definition.body;
      if (definition.parameters !== undefined) {
        const open = /^\s*\(/.exec(text.slice(i));
        if (open === null) {
          out += name;
          continue;
        }
        const close = closing(text, i + open[0].length);
        const args = splitArguments(text.slice(i + open[0].length, close));
        i = close + 1;
        const { parameters } = definition;
        body = body.replace(
          /[A-Za-z_.?@][\w.?@$]*/g,
          (w) => parameters.includes(w) ? args[parameters.indexOf(w)] ?? "" : w,
        );
      }
      out += this.#substitute(body, new Set([...busy, name]));
    }
    return out;
  }

  #evaluate(text: string, column: number): bigint {
    const plain = this.#substitute(text);
    const reader = new TokenReader(tokenize(plain), plain.length + 1);
    const expr = parseExpression(reader, {
      register: registerByName,
      symbol: (name) => name,
    });
    if (!reader.done) {
      throw new LineError(column, `found ${reader.found()} after expression`);
    }
    return evaluate(expr, {
      here: 0n,
      base: 0n,
      symbol: (name) => {
        const value = this.#values.get(name);
        if (value !== undefined) return value;
        throw new LineError(
          column,
          `\`${name}\` isn't known here: % directives see %define, %assign, ` +
            "constant equ lines above and the constants option, not labels",
        );
      },
    });
  }
}

function stripComment(text: string): string {
  const cut = /^((?:[^;"'`]|"[^"]*"|'[^']*'|`[^`]*`)*);/.exec(text);
  return (cut === null ? text : cut[1]).trim();
}

/** Index of the line that closes the block opened at `start`. */
function matching(
  lines: readonly SourceLine[],
  start: number,
  open: string,
  close: string,
): number {
  const opens = new RegExp(`^\\s*%${open}\\b`, "i");
  const closes = new RegExp(`^\\s*%${close}\\b`, "i");
  let depth = 0;
  for (let i = start; i < lines.length; i++) {
    if (opens.test(lines[i].text)) depth++;
    else if (closes.test(lines[i].text) && --depth === 0) return i;
  }
  throw new LineError(1, `no %${close} follows this line`);
}

/** Index of the %elif, %else or %endif that ends the branch at `start`. */
function branchEnd(
  lines: readonly SourceLine[],
  start: number,
  end: number,
): number {
  let depth = 0;
  for (let i = start + 1; i < end; i++) {
    if (/^\s*%if/i.test(lines[i].text)) depth++;
    else if (/^\s*%endif\b/i.test(lines[i].text)) depth--;
    else if (depth === 0 && /^\s*%(elif|else)\b/i.test(lines[i].text)) return i;
  }
  return end;
}

function closing(text: string, from: number): number {
  let depth = 0;
  for (let i = from; i < text.length; i++) {
    if (text[i] === "(") depth++;
    else if (text[i] === ")" && depth-- === 0) return i;
  }
  throw new LineError(from, "`)` is missing after the macro's arguments");
}

function splitArguments(text: string): string[] {
  if (text.trim() === "") return [];
  const parts: string[] = [];
  let depth = 0;
  let quote = "";
  let part = "";
  for (const c of text) {
    if (quote !== "") {
      if (c === quote) quote = "";
    } else if (c === '"' || c === "'" || c === "`") quote = c;
    else if ("([{".includes(c)) depth++;
    else if (")]}".includes(c)) depth--;
    if (c === "," && depth === 0 && quote === "") {
      parts.push(part.trim());
      part = "";
    } else part += c;
  }
  parts.push(part.trim());
  return parts.map((p) => /^\{.*\}$/.test(p) ? p.slice(1, -1) : p);
}
