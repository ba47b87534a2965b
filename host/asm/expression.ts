/**
 * Expressions: parsing to a tree, evaluation with unbounded integers, and the
 * splitting of an address expression into registers × scales + displacement.
 * Invariant: trees are immutable; a value depends only on the environment.
 */
import type { Register } from "iced-x86";
import { LineError } from "./types.ts";
import { stringBytes, type TokenReader } from "./lexer.ts";

/** An expression tree. `here` is `$`, `base` is `$$`. */
export type Expr =
  | { readonly k: "num"; readonly value: bigint }
  | { readonly k: "sym"; readonly name: string; readonly column: number }
  | { readonly k: "reg"; readonly reg: Register; readonly column: number }
  | { readonly k: "here" }
  | { readonly k: "base" }
  | {
    readonly k: "un";
    readonly op: string;
    readonly a: Expr;
  }
  | {
    readonly k: "bin";
    readonly op: string;
    readonly a: Expr;
    readonly b: Expr;
    readonly column: number;
  };

/** What an expression may ask while it is evaluated. */
export interface Environment {
  /** Value of a symbol; throws LineError when there is none. */
  symbol(name: string, column: number): bigint;
  /** Address of the current statement (`$`). */
  readonly here: bigint;
  /** Address of the current section's start (`$$`). */
  readonly base: bigint;
}

/** Names and registers, as the expression parser needs to see them. */
export interface NameResolver {
  /** The register of this (lower-case) name, or undefined. */
  register(name: string): Register | undefined;
  /** The full name of a symbol as written (local labels get their parent). */
  symbol(name: string): string;
}

const LEVELS: readonly (readonly string[])[] = [
  ["||"],
  ["&&"],
  ["==", "!=", "<", ">", "<=", ">=", "="],
  ["|"],
  ["^"],
  ["&"],
  ["<<", ">>"],
  ["+", "-"],
  ["*", "/", "//", "%"],
];

/** Parses one expression; stops at the first token that doesn't continue it. */
export function parseExpression(
  reader: TokenReader,
  names: NameResolver,
  what = "expression",
): Expr {
  return parseLevel(reader, names, what, 0);
}

function parseLevel(
  reader: TokenReader,
  names: NameResolver,
  what: string,
  level: number,
): Expr {
  if (level === LEVELS.length) return parseUnary(reader, names, what);
  let a = parseLevel(reader, names, what, level + 1);
  for (;;) {
    const token = reader.peek();
    if (token?.kind !== "punct" || !LEVELS[level].includes(token.text)) {
      return a;
    }
    reader.next();
    const b = parseLevel(reader, names, what, level + 1);
    a = { k: "bin", op: token.text, a, b, column: token.column };
  }
}

function parseUnary(
  reader: TokenReader,
  names: NameResolver,
  what: string,
): Expr {
  for (const op of ["-", "+", "~", "!"]) {
    if (reader.take(op)) {
      const a = parseUnary(reader, names, what);
      return op === "+" ? a : { k: "un", op, a };
    }
  }
  const token = reader.peek();
  if (
    token === undefined || token.kind === "float" ||
    token.kind === "decorator"
  ) {
    throw new LineError(
      reader.column,
      `${what}: found ${reader.found()}, expected a number, a symbol or \`(\``,
    );
  }
  if (reader.take("(")) {
    const inner = parseLevel(reader, names, what, 0);
    reader.expect(")", what);
    return inner;
  }
  if (reader.take("$$")) return { k: "base" };
  if (reader.take("$")) return { k: "here" };
  if (token.kind === "punct") {
    throw new LineError(
      reader.column,
      `${what}: found ${reader.found()}, expected a number, a symbol or \`(\``,
    );
  }
  reader.next();
  if (token.kind === "number") return { k: "num", value: token.value };
  if (token.kind === "string") {
    // A character constant: its first character is the lowest byte.
    let value = 0n;
    const bytes = stringBytes(token.text);
    for (let i = bytes.length - 1; i >= 0; i--) {
      value = (value << 8n) | BigInt(bytes[i]);
    }
    return { k: "num", value };
  }
  const reg = names.register(token.text.toLowerCase());
  if (reg !== undefined) return { k: "reg", reg, column: token.column };
  return { k: "sym", name: names.symbol(token.text), column: token.column };
}

/** Is the value free of `$`, `$$` and of symbols that aren't `known`? */
export function isConstant(
  e: Expr,
  known?: ReadonlyMap<string, bigint>,
): boolean {
  switch (e.k) {
    case "num":
    case "reg":
      return true;
    case "sym":
      return known !== undefined && known.has(e.name);
    case "un":
      return isConstant(e.a, known);
    case "bin":
      return isConstant(e.a, known) && isConstant(e.b, known);
    default:
      return false;
  }
}

/** Is a register named anywhere in the tree? */
export function hasRegister(e: Expr): boolean {
  if (e.k === "reg") return true;
  if (e.k === "un") return hasRegister(e.a);
  return e.k === "bin" && (hasRegister(e.a) || hasRegister(e.b));
}

/** The value of a tree without registers. Throws LineError. */
export function evaluate(e: Expr, env: Environment): bigint {
  switch (e.k) {
    case "num":
      return e.value;
    case "sym":
      return env.symbol(e.name, e.column);
    case "here":
      return env.here;
    case "base":
      return env.base;
    case "reg":
      throw new LineError(
        e.column,
        "a register stands where a number is needed: registers can be " +
          "operands and parts of an address in [ ]",
      );
    case "un": {
      const a = evaluate(e.a, env);
      return e.op === "-" ? -a : e.op === "~" ? ~a : a === 0n ? 1n : 0n;
    }
    case "bin":
      return binary(e.op, evaluate(e.a, env), evaluate(e.b, env), e.column);
  }
}

function binary(op: string, a: bigint, b: bigint, column: number): bigint {
  const truth = (value: boolean): bigint => value ? 1n : 0n;
  switch (op) {
    case "+":
      return a + b;
    case "-":
      return a - b;
    case "*":
      return a * b;
    case "/":
    case "//":
    case "%":
      if (b === 0n) throw new LineError(column, "division by zero");
      return op === "%" ? a % b : a / b;
    case "<<":
    case ">>":
      if (b < 0n || b > 4096n) {
        throw new LineError(column, `shift by ${b}: accepted are 0 to 4096`);
      }
      return op === "<<" ? a << b : a >> b;
    case "&":
      return a & b;
    case "|":
      return a | b;
    case "^":
      return a ^ b;
    case "==":
    case "=":
      return truth(a === b);
    case "!=":
      return truth(a !== b);
    case "<":
      return truth(a < b);
    case ">":
      return truth(a > b);
    case "<=":
      return truth(a <= b);
    case ">=":
      return truth(a >= b);
    case "&&":
      return truth(a !== 0n && b !== 0n);
    default:
      return truth(a !== 0n || b !== 0n);
  }
}

/** A register term of an address: register × scale. */
export interface RegisterTerm {
  readonly reg: Register;
  readonly scale: bigint;
  /** A scale was written, so `[rax*1]` is an index. */
  readonly scaled: boolean;
  readonly column: number;
}

/** An address expression taken apart. */
export interface LinearAddress {
  readonly terms: RegisterTerm[];
  /** What remains after the registers; undefined means 0. */
  readonly rest: Expr | undefined;
}

/**
 * Splits an address expression into register terms and the rest. `constant`
 * evaluates the factor beside a register, which must be known at once.
 */
export function splitAddress(
  e: Expr,
  constant: (factor: Expr) => bigint,
): LinearAddress {
  if (!hasRegister(e)) return { terms: [], rest: e };
  switch (e.k) {
    case "reg":
      return {
        terms: [{ reg: e.reg, scale: 1n, scaled: false, column: e.column }],
        rest: undefined,
      };
    case "bin": {
      if (e.op === "+" || (e.op === "-" && !hasRegister(e.b))) {
        const a = splitAddress(e.a, constant);
        const b = splitAddress(e.b, constant);
        return {
          terms: [...a.terms, ...b.terms],
          rest: combine(e.op, a.rest, b.rest, e.column),
        };
      }
      if (e.op === "*" && hasRegister(e.a) !== hasRegister(e.b)) {
        const [side, factor] = hasRegister(e.a) ? [e.a, e.b] : [e.b, e.a];
        const scale = constant(factor);
        const inner = splitAddress(side, constant);
        return {
          terms: inner.terms.map((t) => ({
            ...t,
            scale: t.scale * scale,
            scaled: true,
          })),
          rest: combine("*", inner.rest, factor, e.column),
        };
      }
      throw new LineError(
        e.column,
        `\`${e.op}\` can't be applied to a register: accepted is ` +
          "[base + index*scale + displacement]",
      );
    }
    default:
      throw new LineError(
        1,
        "a register can't be negated: accepted is " +
          "[base + index*scale + displacement]",
      );
  }
}

function combine(
  op: string,
  a: Expr | undefined,
  b: Expr | undefined,
  column: number,
): Expr | undefined {
  if (op === "*") {
    return a === undefined || b === undefined
      ? undefined
      : { k: "bin", op, a, b, column };
  }
  if (b === undefined) return a;
  if (a === undefined) return op === "-" ? { k: "un", op, a: b } : b;
  return { k: "bin", op, a, b, column };
}
