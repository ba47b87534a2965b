/**
 * Shapes: checkers of plain data that collect every issue with its path, so
 * that a scenario's author sees all mistakes at once, each at its place.
 * Invariant: a shape never throws and never changes its argument; it returns
 * undefined exactly when it has reported an issue (or there was no value).
 */
import { didYouMean } from "./spelling.ts";
import type { Path } from "./types.ts";

/** One complaint about one place. */
export interface Issue {
  readonly path: Path;
  /** Whether the last key of the path is meant, not its value. */
  readonly onKey: boolean;
  readonly message: string;
}

/** Where shapes report to. */
export type Issues = Issue[];

/** Reads a value at `path` into a `T`. */
export type Shape<T> = (
  value: unknown,
  path: Path,
  issues: Issues,
) => T | undefined;

/** What `value` is, in words for a message. */
export function describe(value: unknown): string {
  if (value === null || value === undefined) return "nothing";
  if (Array.isArray(value)) {
    return `a list of ${value.length} ${value.length === 1 ? "item" : "items"}`;
  }
  if (value instanceof Date) return "a date (quote it to make it text)";
  if (value instanceof Uint8Array) return "binary data";
  if (typeof value === "object") {
    const keys = Object.keys(value);
    return keys.length === 0
      ? "an empty map"
      : `a map with ${keys.slice(0, 4).join(", ")}${
        keys.length > 4 ? ", …" : ""
      }`;
  }
  const shown = typeof value === "bigint"
    ? String(value)
    : JSON.stringify(value) ?? String(value);
  return shown.length > 60 ? `${shown.slice(0, 57)}…` : shown;
}

/** Reports that `value` is not what was expected. */
export function mismatch(
  expected: string,
  value: unknown,
  path: Path,
  issues: Issues,
): undefined {
  issues.push({
    path,
    onKey: false,
    message: `expected ${expected}, found ${describe(value)}`,
  });
}

/** Text; `what` names it in messages. */
export function textShape(what = "text"): Shape<string> {
  return (value, path, issues) => {
    if (typeof value !== "string") {
      const hint = typeof value === "number" || typeof value === "boolean"
        ? ` in quotes`
        : "";
      return mismatch(what + hint, value, path, issues);
    }
    if (!value.isWellFormed() || value.includes("\0")) {
      return mismatch(
        `${what} without NUL or half surrogates`,
        value,
        path,
        issues,
      );
    }
    return value;
  };
}

/** Text that isn't empty. */
export function wordShape(what: string): Shape<string> {
  const shape = textShape(what);
  return (value, path, issues) => {
    const word = shape(value, path, issues);
    return word?.trim() === "" ? mismatch(what, value, path, issues) : word;
  };
}

/** One of `words`. */
export function oneOf<const W extends readonly string[]>(
  words: W,
): Shape<W[number]> {
  return (value, path, issues) => {
    if (typeof value === "string" && words.includes(value)) return value;
    const near = typeof value === "string" ? didYouMean(value, words) : "";
    issues.push({
      path,
      onKey: false,
      message: `expected one of ${words.join(", ")}, found ${
        describe(value)
      }${near}`,
    });
  };
}

/** A whole number from `least` to `most`; hexadecimal text (`"0x10"`) too. */
export function whole(
  what: string,
  least: number,
  most: number,
): Shape<number> {
  const range = most === Number.MAX_SAFE_INTEGER
    ? `of ${least} or more`
    : `from ${least} to ${most}`;
  return (value, path, issues) => {
    const number = typeof value === "string" && /^0x[\da-f]+$/i.test(value)
      ? Number(value)
      : value;
    return typeof number === "number" && Number.isSafeInteger(number) &&
        number >= least && number <= most
      ? number
      : mismatch(`${what}, a whole number ${range}`, value, path, issues);
  };
}

/** A list of items. */
export function list<T>(item: Shape<T>, what: string): Shape<T[]> {
  return (value, path, issues) => {
    if (!Array.isArray(value)) {
      return mismatch(`a list of ${what}`, value, path, issues);
    }
    const before = issues.length;
    const items = value.map((v, i) => item(v, [...path, i], issues));
    return issues.length === before ? items as T[] : undefined;
  };
}

/** Whether `value` is a plain map. */
export function isMap(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null &&
    !Array.isArray(value) && !(value instanceof Date) &&
    !(value instanceof Uint8Array);
}

/** A map of any keys that `key` accepts to values of `shape`. */
export function mapOf<T>(
  shape: Shape<T>,
  what: string,
  key: RegExp,
): Shape<Record<string, T>> {
  return (value, path, issues) => {
    if (!isMap(value)) return mismatch(`a map of ${what}`, value, path, issues);
    const before = issues.length;
    const out: [string, T][] = [];
    for (const [name, item] of Object.entries(value)) {
      if (!key.test(name)) {
        issues.push({
          path: [...path, name],
          onKey: true,
          message: `${JSON.stringify(name)} names no ${what.split(" ")[0]}`,
        });
        continue;
      }
      const read = shape(item, [...path, name], issues);
      if (read !== undefined) out.push([name, read]);
    }
    return issues.length === before ? Object.fromEntries(out) : undefined;
  };
}

/** Keys of a record, each with its shape. */
export type Keys = { readonly [key: string]: Shape<unknown> };
type Read<K extends Keys> = {
  [N in keyof K]?: K[N] extends Shape<infer T> ? T : never;
};

/** A map with exactly the keys that `keys` names, none of them required. */
export function record<K extends Keys>(
  keys: K,
  what: string,
): Shape<Read<K>> {
  const names = Object.keys(keys);
  return (value, path, issues) => {
    if (!isMap(value)) {
      return mismatch(
        `${what}, a map of ${names.join(", ")}`,
        value,
        path,
        issues,
      );
    }
    const before = issues.length;
    const out: Record<string, unknown> = {};
    for (const [name, item] of Object.entries(value)) {
      const at = [...path, name];
      if (!Object.hasOwn(keys, name)) {
        issues.push({
          path: at,
          onKey: true,
          message: `unknown key ${JSON.stringify(name)}: accepted are ${
            names.join(", ")
          }${didYouMean(name, names)}`,
        });
      } else if (item === null || item === undefined) {
        issues.push({
          path: at,
          onKey: true,
          message: `${name} has no value: give it one or delete the key`,
        });
      } else out[name] = keys[name](item, at, issues);
    }
    return issues.length === before ? out as Read<K> : undefined;
  };
}
