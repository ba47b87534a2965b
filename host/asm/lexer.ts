/**
 * Tokens of one line of assembly text. Numbers as in NASM: 0x1f, 1fh, 0b101,
 * 101b, 0o17, 17o, 1_000; strings in ', " or `, the last with C escapes.
 * Invariant: every token knows its 1-based column, so every error can too.
 */
import { LineError } from "./types.ts";

/** A lexical unit of a line. */
export type Token =
  | { kind: "name"; text: string; column: number; spaced: boolean }
  | {
    kind: "number";
    text: string;
    value: bigint;
    column: number;
    spaced: boolean;
  }
  | { kind: "float"; text: string; column: number; spaced: boolean }
  | { kind: "string"; text: string; column: number; spaced: boolean }
  /** `{…}` behind an operand: the text between, in lower case. */
  | { kind: "decorator"; text: string; column: number; spaced: boolean }
  | { kind: "punct"; text: string; column: number; spaced: boolean };

const NAME_START = /[A-Za-z_.?@]/;
const NAME_PART = /[A-Za-z0-9_.?@$]/;
const PUNCTUATION = [
  "$$",
  "<<",
  ">>",
  "==",
  "!=",
  "<=",
  ">=",
  "&&",
  "||",
  "//",
];
const SINGLE = "$[]()+-*/%&|^~!<>=,:;";

/** Splits `text` into tokens, dropping the comment. Throws LineError. */
export function tokenize(text: string): Token[] {
  const tokens: Token[] = [];
  let i = 0;
  let spaced = false;
  while (i < text.length) {
    const c = text[i];
    if (c === " " || c === "\t" || c === "\r") {
      i++;
      spaced = true;
      continue;
    }
    if (c === ";") break;
    const column = i + 1;
    if (c === '"' || c === "'" || c === "`") {
      const [value, end] = readString(text, i);
      tokens.push({ kind: "string", text: value, column, spaced });
      i = end;
    } else if (c === "{") {
      const end = text.indexOf("}", i);
      if (end < 0) {
        throw new LineError(column, "`}` is missing before the line's end");
      }
      const inner = text.slice(i + 1, end).replaceAll(" ", "").toLowerCase();
      tokens.push({ kind: "decorator", text: inner, column, spaced });
      i = end + 1;
    } else if (c >= "0" && c <= "9") {
      let end = i + 1;
      while (end < text.length && /[0-9A-Za-z_.]/.test(text[end])) {
        // 1.5e-3: the sign belongs to a decimal number's exponent.
        end++;
        if (
          /[eE]/.test(text[end - 1]) && /[+-]/.test(text[end] ?? "") &&
          /^[0-9_]*\.[0-9_]*e$/i.test(text.slice(i, end))
        ) end++;
      }
      const word = text.slice(i, end);
      if (/^[0-9_]+\.[0-9_]*(e[+-]?[0-9]+)?$/i.test(word)) {
        tokens.push({ kind: "float", text: word, column, spaced });
      } else {
        const value = readNumber(word, column);
        tokens.push({ kind: "number", text: word, value, column, spaced });
      }
      i = end;
    } else if (NAME_START.test(c) || (c === "%" && text[i + 1] === "%")) {
      let end = c === "%" ? i + 2 : i + 1;
      while (end < text.length && NAME_PART.test(text[end])) end++;
      const name = text.slice(i, end);
      tokens.push({ kind: "name", text: name, column, spaced });
      i = end;
    } else {
      const pair = text.slice(i, i + 2);
      const found = PUNCTUATION.includes(pair)
        ? pair
        : SINGLE.includes(c)
        ? c
        : undefined;
      if (found === undefined) {
        throw new LineError(
          column,
          `unexpected character ${JSON.stringify(c)}: accepted are names, ` +
            "numbers, strings, [ ] ( ) and operators",
        );
      }
      tokens.push({ kind: "punct", text: found, column, spaced });
      i += found.length;
    }
    spaced = false;
  }
  return tokens;
}

function readNumber(word: string, column: number): bigint {
  const plain = word.replaceAll("_", "").toLowerCase();
  const tries: [RegExp, string, number][] = [
    [/^0x[0-9a-f]+$/, plain, 0],
    [/^0[bo][0-7]+$/, plain, 0],
    [/^0y[01]+$/, `0b${plain.slice(2)}`, 0],
    [/^[0-9]+d?$/, plain.replace(/d$/, "").replace(/^0+(?=.)/, ""), 0],
    [/^[0-9][0-9a-f]*h$/, `0x${plain.slice(0, -1)}`, 0],
    [/^[01]+[by]$/, `0b${plain.slice(0, -1)}`, 0],
    [/^[0-7]+[oq]$/, `0o${plain.slice(0, -1)}`, 0],
  ];
  for (const [pattern, literal] of tries) {
    if (!pattern.test(plain)) continue;
    try {
      return BigInt(literal);
    } catch {
      break;
    }
  }
  throw new LineError(
    column,
    `\`${word}\` isn't a number: accepted are 31, 0x1f, 1fh, 0b11111, ` +
      "11111b, 0o37 and 37o",
  );
}

const ESCAPES: Readonly<Record<string, string>> = {
  n: "\n",
  r: "\r",
  t: "\t",
  0: "\0",
  e: "\x1b",
  "\\": "\\",
  "`": "`",
  '"': '"',
  "'": "'",
};

function readString(text: string, start: number): [string, number] {
  const quote = text[start];
  let value = "";
  let i = start + 1;
  while (i < text.length && text[i] !== quote) {
    if (quote === "`" && text[i] === "\\") {
      const hex = /^\\x([0-9a-fA-F]{1,2})/.exec(text.slice(i));
      if (hex !== null) {
        value += String.fromCharCode(parseInt(hex[1], 16));
        i += hex[0].length;
        continue;
      }
      const escape = ESCAPES[text[i + 1]];
      if (escape === undefined) {
        throw new LineError(
          i + 1,
          `unknown escape \\${text[i + 1] ?? ""}: accepted are ` +
            "\\n \\r \\t \\0 \\e \\\\ \\` \\xNN",
        );
      }
      value += escape;
      i += 2;
    } else {
      value += text[i++];
    }
  }
  if (i >= text.length) {
    throw new LineError(
      start + 1,
      `string isn't closed: a ${quote} is missing before the line's end`,
    );
  }
  return [value, i + 1];
}

/** The bytes of a string literal (UTF-8; escapes give single bytes). */
export function stringBytes(text: string): Uint8Array {
  let latin = true;
  for (let i = 0; i < text.length; i++) {
    if (text.charCodeAt(i) > 0xff) latin = false;
  }
  // A string whose characters all fit a byte keeps \xNN escapes as they are.
  return latin
    ? Uint8Array.from(text, (c) => c.charCodeAt(0))
    : new TextEncoder().encode(text);
}

/** Reads tokens one after the other; knows where the line ends. */
export class TokenReader {
  index = 0;
  readonly tokens: readonly Token[];
  readonly endColumn: number;

  constructor(tokens: readonly Token[], endColumn: number) {
    this.tokens = tokens;
    this.endColumn = endColumn;
  }

  /** The token `ahead` places further, without consuming it. */
  peek(ahead = 0): Token | undefined {
    return this.tokens[this.index + ahead];
  }

  /** Column of the next token, or of the line's end. */
  get column(): number {
    return this.peek()?.column ?? this.endColumn;
  }

  /** True when no token is left. */
  get done(): boolean {
    return this.index >= this.tokens.length;
  }

  /** Consumes and returns the next token. */
  next(): Token {
    return this.tokens[this.index++];
  }

  /** Is the next token this punctuation? */
  at(text: string, ahead = 0): boolean {
    const token = this.peek(ahead);
    return token?.kind === "punct" && token.text === text;
  }

  /** Consumes the punctuation if it comes next. */
  take(text: string): boolean {
    if (!this.at(text)) return false;
    this.index++;
    return true;
  }

  /** Consumes the punctuation or complains that it's missing. */
  expect(text: string, where: string): void {
    if (this.take(text)) return;
    throw new LineError(
      this.column,
      `${where}: found ${this.found()}, expected \`${text}\``,
    );
  }

  /** The next token as words for an error. */
  found(): string {
    const token = this.peek();
    if (token === undefined) return "the line's end";
    if (token.kind === "decorator") return `\`{${token.text}}\``;
    return token.kind === "string"
      ? `the string ${JSON.stringify(token.text)}`
      : `\`${token.text}\``;
  }

  /** The lower-case text of the next token if it is a name. */
  word(ahead = 0): string | undefined {
    const token = this.peek(ahead);
    return token?.kind === "name" ? token.text.toLowerCase() : undefined;
  }

  /** Consumes the next token if it is this word (case-insensitive). */
  takeWord(word: string): boolean {
    if (this.word() !== word) return false;
    this.index++;
    return true;
  }
}
