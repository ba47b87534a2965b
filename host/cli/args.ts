/**
 * Arguments of commands: each command declares its options once, and from
 * that come parsing, checking, the help page and the nearest spelling of an
 * unknown option. @std/cli's parseArgs does the reading.
 * Invariant: an option's value is text until a reader below turns it into
 * something; a bad one is a UsageError naming the option and what it accepts.
 */
import { parseArgs } from "@std/cli/parse-args";
import { ConfigError } from "../../core/errors.ts";
import { type Moment, parseMoment } from "../../core/moment.ts";
import { didYouMean } from "../scenario/spelling.ts";

/** A command line that can't be understood. */
export class UsageError extends ConfigError {}

/** One option of a command. */
export interface OptionSpec {
  readonly name: string;
  /** What its value is called in help; without one it is a flag. */
  readonly value?: string;
  readonly doc: string;
  /** May be given several times. */
  readonly many?: boolean;
}

/** One positional argument. */
export interface PositionalSpec {
  readonly name: string;
  readonly doc: string;
  readonly optional?: boolean;
}

/** What a command takes. */
export interface Usage {
  readonly name: string;
  readonly summary: string;
  readonly positionals: readonly PositionalSpec[];
  readonly options: readonly OptionSpec[];
  /** Exit statuses with their meanings. */
  readonly statuses: readonly (readonly [string, string])[];
  /** Command lines to try. */
  readonly examples: readonly string[];
}

/** Options that every command has. */
export const COMMON: readonly OptionSpec[] = [
  { name: "json", doc: "print the result as JSON" },
  { name: "quiet", doc: "no progress and no remarks on stderr" },
  { name: "help", doc: "print this page" },
];

/** Parsed arguments of one command. */
export class Arguments {
  constructor(
    readonly usage: Usage,
    readonly positionals: readonly string[],
    private readonly values: ReadonlyMap<string, readonly string[]>,
    private readonly flags: ReadonlySet<string>,
  ) {}

  /** Whether the flag was given. */
  has(name: string): boolean {
    return this.flags.has(this.known(name));
  }

  /** The option's value (the last one given). */
  text(name: string): string | undefined {
    return this.values.get(this.known(name))?.at(-1);
  }

  /** All values of an option that may be repeated. */
  all(name: string): readonly string[] {
    return this.values.get(this.known(name)) ?? [];
  }

  /** The option's value as a whole number (decimal, `_` allowed, or 0x…). */
  whole(
    name: string,
    least: number,
    most = Number.MAX_SAFE_INTEGER,
  ): number | undefined {
    const text = this.text(name);
    if (text === undefined) return undefined;
    const value = readWhole(text);
    if (value === undefined || value < least || value > most) {
      const range = most === Number.MAX_SAFE_INTEGER
        ? `of ${least} or more`
        : `from ${least} to ${most}`;
      throw new UsageError(
        `--${name} takes a whole number ${range}, found ${
          JSON.stringify(text)
        }`,
      );
    }
    return value;
  }

  /** The option's value as one of `words`. */
  oneOf<const W extends readonly string[]>(
    name: string,
    words: W,
  ): W[number] | undefined {
    const text = this.text(name);
    if (text === undefined || words.includes(text)) return text;
    throw new UsageError(
      `--${name} takes one of ${words.join(", ")}, found ${
        JSON.stringify(text)
      }${didYouMean(text, words)}`,
    );
  }

  /** The option's value as a moment. */
  moment(name: string): Moment | undefined {
    const text = this.text(name);
    return text === undefined ? undefined : readMoment(text, `--${name}`);
  }

  private known(name: string): string {
    const options = [...this.usage.options, ...COMMON];
    if (!options.some((option) => option.name === name)) {
      throw new TypeError(
        `command ${this.usage.name} declares no option ${name}`,
      );
    }
    return name;
  }
}

/** A whole number written in decimal (`_` between digits allowed) or as 0x…. */
export function readWhole(text: string): number | undefined {
  if (!/^(\d[\d_]*|0x[\da-f_]+)$/i.test(text)) return undefined;
  const value = Number(text.replaceAll("_", ""));
  return Number.isSafeInteger(value) ? value : undefined;
}

/** A u64 written in decimal or as 0x…. */
export function readU64(text: string, what: string): bigint {
  const digits = text.replaceAll("_", "");
  if (/^(\d+|0x[\da-f]+)$/i.test(digits)) {
    const value = BigInt(digits);
    if (value <= 0xffff_ffff_ffff_ffffn) return value;
  }
  throw new UsageError(
    `${what} takes a 64-bit number, as 0xffff800000001000, found ${
      JSON.stringify(text)
    }`,
  );
}

/** A moment, as `1234` or `1234.5`. */
export function readMoment(text: string, what: string): Moment {
  try {
    return parseMoment(text);
  } catch {
    throw new UsageError(
      `${what} takes a moment, STEP or STEP.EVENT (as 1234 or 1234.5), found ${
        JSON.stringify(text)
      }`,
    );
  }
}

/**
 * Reads a command's arguments.
 * @throws {UsageError} naming what is not understood, and the nearest spelling
 */
export function readArguments(
  usage: Usage,
  args: readonly string[],
): Arguments {
  const options = [...usage.options, ...COMMON];
  const names = options.map((o) => o.name);
  const valued = options.filter((o) => o.value !== undefined).map((o) =>
    o.name
  );
  const plain = options.filter((o) => o.value === undefined).map((o) => o.name);
  const parsed = parseArgs(joinValues(args, options), {
    string: [...valued, "_"],
    boolean: plain,
    collect: valued,
    alias: { help: "h" },
    unknown(arg, key) {
      if (key === undefined) return true;
      const words = names.map((name) => `--${name}`);
      throw new UsageError(
        `${usage.name} has no option ${arg.split("=")[0]}${
          didYouMean(arg.split("=")[0], words)
        }`,
      );
    },
  });
  const values = new Map<string, readonly string[]>();
  for (const { name, value, many } of options) {
    if (value === undefined) continue;
    const given = (parsed[name] ?? []) as string[];
    if (given.length > 1 && many !== true) {
      throw new UsageError(
        `--${name} is given ${given.length} times, once is allowed`,
      );
    }
    if (given.length > 0) values.set(name, given);
  }
  const flags = new Set(plain.filter((name) => parsed[name] === true));
  const positionals = parsed._.map(String);
  if (!flags.has("help")) checkPositionals(usage, positionals);
  return new Arguments(usage, positionals, values, flags);
}

/**
 * `--append -x` as `--append=-x`: a value may be empty or start with a dash
 * (QEMU's and kvm-unit-tests' words do), unless it is an option of this
 * command: then the value was forgotten.
 */
function joinValues(
  args: readonly string[],
  options: readonly OptionSpec[],
): string[] {
  const out: string[] = [];
  const known = new Set(options.map(({ name }) => `--${name}`));
  const valued = new Map(
    options.filter((o) => o.value !== undefined).map((o) => [`--${o.name}`, o]),
  );
  for (let i = 0; i < args.length; i++) {
    if (args[i] === "--") return [...out, ...args.slice(i)];
    const option = valued.get(args[i]);
    if (option === undefined) {
      out.push(args[i]);
      continue;
    }
    const next = args[++i];
    if (next === undefined || known.has(next.split("=")[0])) {
      const { name, value } = option;
      throw new UsageError(
        `--${name} needs a value: --${name} ${value} (if it is the name of an option, --${name}=${value})`,
      );
    }
    out.push(`--${option.name}=${next}`);
  }
  return out;
}

function checkPositionals(usage: Usage, given: readonly string[]): void {
  const { name, positionals } = usage;
  const line = usageLine(usage);
  if (given.length > positionals.length) {
    throw new UsageError(
      `${name} does not know what to do with ${
        JSON.stringify(given[positionals.length])
      }: usage: ${line}`,
    );
  }
  const missing = positionals[given.length];
  if (missing !== undefined && missing.optional !== true) {
    throw new UsageError(
      `${name} needs ${missing.name} (${missing.doc}): usage: ${line}`,
    );
  }
}

/** `vmtape seek TAPE MOMENT [options]` */
export function usageLine(usage: Usage): string {
  const words = usage.positionals.map((p) =>
    p.optional ? `[${p.name}]` : p.name
  );
  return ["vmtape", usage.name, ...words, "[options]"].join(" ");
}

/** Columns of left words and right texts. */
export function columns(rows: readonly (readonly [string, string])[]): string {
  const width = Math.max(...rows.map(([left]) => left.length));
  return rows.map(([left, right]) => `  ${left.padEnd(width)}  ${right}\n`)
    .join("");
}

/** A command's help page. */
export function helpPage(usage: Usage): string {
  const option = (o: OptionSpec): [string, string] => [
    `--${o.name}${o.value === undefined ? "" : ` ${o.value}`}`,
    o.doc + (o.many ? " (may be repeated)" : ""),
  ];
  const parts = [
    `${usage.summary}\n\nusage: ${usageLine(usage)}\n`,
    columns(usage.positionals.map((p) => [p.name, p.doc])),
    "options:\n" + columns([...usage.options, ...COMMON].map(option)),
    "exit status:\n" + columns(usage.statuses),
    "examples:\n" + usage.examples.map((e) => `  vmtape ${e}\n`).join(""),
  ];
  return parts.filter((part) => part !== "").join("\n");
}
