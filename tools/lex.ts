/**
 * A lexer of TypeScript, just good enough for the checks in this folder: it
 * tells names from comments, strings, templates and regular expressions, and
 * says at which line each token starts.
 * Invariant: the concatenation of token texts and of the white space between
 * them is the source; nothing is skipped silently.
 */

/** What a token is. A template is cut at its `${` and `}`. */
export type TokenKind =
  | "name"
  | "number"
  | "string"
  | "template"
  | "regex"
  | "punct"
  | "comment";

/** One token; `line` and `column` count from 1. */
export interface Token {
  readonly kind: TokenKind;
  readonly text: string;
  readonly line: number;
  readonly column: number;
}

/** Keywords after which a `/` starts a regular expression. */
const BEFORE_REGEX = new Set(
  "return typeof case in of delete void throw new else do instanceof yield await"
    .split(" "),
);

const NAME = /[\p{ID_Start}$_#@][\p{ID_Continue}$]*/uy;
const NUMBER =
  /(?:0[xX][\da-fA-F_]+|0[bB][01_]+|0[oO][0-7_]+|\d[\d_]*(?:\.(?!\.)[\d_]*)?(?:[eE][+-]?\d+)?|\.\d[\d_]*(?:[eE][+-]?\d+)?)n?/y;
const PUNCT =
  /=>|\.\.\.|\?\.(?!\d)|\*\*=?|\+\+|--|[&|?]{2}=?|<<=?|[!=]==?|[-+*/%&|^<>]=|[{}()[\].;,<>+\-*/%&|^!~?:=@\\]/y;
const REGEX = /\/(?:[^\\\n[/]|\\.|\[(?:[^\]\\\n]|\\.)*\])+\/[a-z]*/y;
const STRING = /"(?:[^"\\\n]|\\[^])*"|'(?:[^'\\\n]|\\[^])*'/y;

/** Reads `source`'s tokens. */
export function lex(source: string): Token[] {
  const tokens: Token[] = [];
  /** For each open template: how many braces are open inside its `${`. */
  const templates: number[] = [];
  let at = 0, line = 1, lineStart = 0;

  const push = (kind: TokenKind, end: number): void => {
    const text = source.slice(at, end);
    tokens.push({ kind, text, line, column: at - lineStart + 1 });
    for (let i = at; i < end; i++) {
      if (source[i] === "\n") {
        line++;
        lineStart = i + 1;
      }
    }
    at = end;
  };
  const match = (pattern: RegExp): number => {
    pattern.lastIndex = at;
    return pattern.test(source) ? pattern.lastIndex : -1;
  };
  /** `from` is just after the backtick or closing brace; returns the end of this piece. */
  const templatePiece = (from: number): number => {
    for (let i = from; i < source.length; i++) {
      if (source[i] === "\\") i++;
      else if (source[i] === "`") return i + 1;
      else if (source[i] === "$" && source[i + 1] === "{") {
        templates.push(0);
        return i + 2;
      }
    }
    return source.length;
  };

  while (at < source.length) {
    const c = source[at];
    if (c === "\n") {
      line++;
      lineStart = ++at;
    } else if (/\s/.test(c)) at++;
    else if (
      source.startsWith("//", at) || (at === 0 && source.startsWith("#!"))
    ) {
      const end = source.indexOf("\n", at);
      push("comment", end < 0 ? source.length : end);
    } else if (source.startsWith("/*", at)) {
      const end = source.indexOf("*/", at + 2);
      push("comment", end < 0 ? source.length : end + 2);
    } else if (c === "`") push("template", templatePiece(at + 1));
    else if (c === "}" && templates.at(-1) === 0) {
      templates.pop();
      push("template", templatePiece(at + 1));
    } else if (c === '"' || c === "'") {
      const end = match(STRING);
      push("string", end < 0 ? at + 1 : end);
    } else if (c === "/" && regexMayStart(tokens) && match(REGEX) >= 0) {
      push("regex", match(REGEX));
    } else if (match(NAME) >= 0) push("name", match(NAME));
    else if (match(NUMBER) >= 0) push("number", match(NUMBER));
    else {
      if (templates.length > 0 && c === "{") templates[templates.length - 1]++;
      if (templates.length > 0 && c === "}") templates[templates.length - 1]--;
      const end = match(PUNCT);
      push("punct", end < 0 ? at + 1 : end);
    }
  }
  return tokens;
}

/** Whether a `/` after `tokens` opens a regular expression rather than divides. */
function regexMayStart(tokens: readonly Token[]): boolean {
  let i = tokens.length - 1;
  while (i >= 0 && tokens[i].kind === "comment") i--;
  if (i < 0) return true;
  const { kind, text } = tokens[i];
  if (kind === "name") return BEFORE_REGEX.has(text);
  if (kind === "template") return text.endsWith("${");
  if (kind !== "punct") return false;
  if (text === "!") { // `x! / y` divides, `!/x/` does not
    const before = tokens[i - 1];
    return before === undefined || (before.kind === "punct" &&
      before.text !== ")" && before.text !== "]");
  }
  return ![")", "]", "}", "++", "--"].includes(text);
}

/** The tokens that are code: comments left out. */
export function code(tokens: readonly Token[]): Token[] {
  return tokens.filter((t) => t.kind !== "comment");
}
