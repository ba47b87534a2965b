/**
 * Types of `@std/cli/parse-args`'s `parseArgs` as vmtape uses it;
 * deps/parse_args.js is the code (std's own).
 * Invariant: weaker than JSR's inferred types (values are `unknown`), so that
 * sources compile unchanged when the door is replaced by JSR.
 */

/** How arguments are read. */
export interface ParseOptions {
  /** Names that never take a value. */
  boolean?: readonly string[];
  /** Names whose value stays a string. */
  string?: readonly string[];
  /** Names that may be repeated; each value is kept, in order. */
  collect?: readonly string[];
  /** Names that `--no-NAME` sets to false. */
  negatable?: readonly string[];
  /** Other names of a name. */
  alias?: Record<string, string | readonly string[]>;
  /** Values of names that were not given. */
  default?: Record<string, unknown>;
  /** Leave everything from the first positional argument on in `_`. */
  stopEarly?: boolean;
  /** Keep what follows `--` apart, under the key `--`. */
  "--"?: boolean;
  /** Called for each argument that no name declares; false leaves it out. */
  unknown?: (arg: string, key?: string, value?: unknown) => unknown;
}

/** Arguments by name; `_` holds the positional ones. */
export interface Args {
  [name: string]: unknown;
  _: Array<string | number>;
}

/** Reads command-line arguments (without the program's own name). */
export declare function parseArgs(
  args: string[],
  options?: ParseOptions,
): Args;
