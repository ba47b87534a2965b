/**
 * The scenario's schema (design §9): which keys there are, what each accepts,
 * and the defaults. `checkScenario` reads any plain value, be it out of YAML
 * or from a program, into a complete {@link Scenario} or a list of issues.
 * Invariant: one rule in one place; parse.ts only adds where things stand.
 */
import {
  isMap,
  type Issues,
  list,
  mapOf,
  mismatch,
  oneOf,
  record,
  type Shape,
  textShape,
  whole,
  wordShape,
} from "./shape.ts";
import {
  COMPARISONS,
  type CountBound,
  type Expectation,
  GUEST_FORMATS,
  type GuestSpec,
  type MachineSpec,
  type ModuleSpec,
  type OptionValue,
  type Path,
  PLATFORMS,
  type PluginSpec,
  RECORD_POLICIES,
  type Scenario,
  type ScheduledInput,
  START_MODES,
} from "./types.ts";

const KIB = 1024;
const PAGE = 4 * KIB;
const UNITS: Readonly<Record<string, number>> = {
  KiB: KIB,
  MiB: KIB * KIB,
  GiB: KIB * KIB * KIB,
};
/** Least and most memory a scenario can ask for, in bytes (3 GiB: MMIO lies above). */
export const MEMORY_LIMITS: readonly [number, number] = [
  64 * KIB,
  3 * UNITS.GiB,
];
/** Most vCPUs a scenario can name; what a machine supports it says itself. */
const MAX_CPUS = 64;
/** Most nanoseconds of a step: a virtual timer may fire so often in one. */
export const MAX_PACE = 1000;
/** Most steps of a vCPU's turn. */
const MAX_QUANTUM = 2 ** 20;
const MAX_U64 = 0xffff_ffff_ffff_ffffn;
const ANY_STEP = Number.MAX_SAFE_INTEGER;

/** Defaults of `machine:`. */
export const DEFAULT_MACHINE: MachineSpec = {
  cpu: "max-intel",
  memory: 64 * UNITS.MiB,
  cpus: 1,
  platform: "pc",
  seed: 0n,
};

/** Reads a size such as `64MiB`; a bare number means `bareUnit`. @returns bytes, or what is wrong */
export function readSize(text: string, bareUnit?: "MiB"): number | string {
  const match = /^(\d+) ?(KiB|MiB|GiB|[KMG])?$/.exec(text.trim());
  const unit = match?.[2] ?? bareUnit;
  if (match === null || unit === undefined) {
    return "expected a size with unit, as 64MiB (KiB, MiB, GiB)";
  }
  const bytes = Number(match[1]) *
    UNITS[unit.length === 1 ? `${unit}iB` : unit];
  const [least, most] = MEMORY_LIMITS;
  if (bytes < least || bytes > most || bytes % PAGE !== 0) {
    return `expected ${least / KIB}KiB to ${
      most / UNITS.GiB
    }GiB in pages of 4KiB`;
  }
  return bytes;
}

const size: Shape<number> = (value, path, issues) => {
  const bytes = readSize(String(value));
  if (typeof value === "string" && typeof bytes === "number") return bytes;
  const rule = typeof bytes === "string"
    ? bytes
    : "expected a size with unit, as 64MiB";
  return mismatch(rule.replace(/^expected /, ""), value, path, issues);
};

/** Reads a u64 written as a number or as decimal or hexadecimal text. */
export function readSeed(value: unknown): bigint | undefined {
  if (typeof value === "bigint") {
    return value >= 0n && value <= MAX_U64 ? value : undefined;
  }
  if (typeof value === "number") {
    return Number.isSafeInteger(value) && value >= 0
      ? BigInt(value)
      : undefined;
  }
  if (typeof value !== "string" || !/^(0x[\da-fA-F]+|\d+)$/.test(value)) {
    return undefined;
  }
  const seed = BigInt(value);
  return seed <= MAX_U64 ? seed : undefined;
}

const seed: Shape<bigint> = (value, path, issues) =>
  readSeed(value) ?? mismatch(
    'a seed from 0 to 2^64 - 1 (quoted, as "0x1234", when above 2^53)',
    value,
    path,
    issues,
  );

const machine = record({
  cpu: wordShape("a CPU model with flags, as skylake-server,-pcid"),
  memory: size,
  cpus: whole("how many vCPUs", 1, MAX_CPUS),
  quantum: whole("the steps of a vCPU's turn", 1, MAX_QUANTUM),
  pace: whole("the virtual nanoseconds of a step", 1, MAX_PACE),
  platform: oneOf(PLATFORMS),
  seed,
}, "machine");

/**
 * Reads QEMU's `-initrd` word for multiboot: modules between commas, each a
 * path and its command line (`,,` stands for a comma).
 */
export function readInitrd(words: string): ModuleSpec[] {
  const parts = words.split(/(?<!,),(?!,)/).map((part) =>
    part.replaceAll(",,", ",").trim()
  );
  return parts.filter((part) => part !== "").map((part) => {
    const space = part.search(/\s/);
    return space < 0
      ? { path: part, append: "" }
      : { path: part.slice(0, space), append: part.slice(space).trim() };
  });
}

const moduleRecord = record({
  path: wordShape("a file's path"),
  append: textShape("the module's command line"),
}, "a module");
const moduleShape: Shape<ModuleSpec> = (value, path, issues) => {
  if (typeof value === "string" && value.trim() !== "") {
    return { path: value, append: "" };
  }
  if (!isMap(value)) {
    return mismatch(
      "a module: a path, or a map of path, append",
      value,
      path,
      issues,
    );
  }
  const read = moduleRecord(value, path, issues);
  if (read === undefined) return undefined;
  if (read.path === undefined) {
    return mismatch("a module with a path", value, path, issues);
  }
  return { path: read.path, append: read.append ?? "" };
};

const guestRecord = record({
  asm: wordShape("an assembly file's path, or its text in a block (asm: |)"),
  multiboot: wordShape("a multiboot image's path"),
  elf: wordShape("an ELF image's path"),
  linux: wordShape("a Linux kernel's path: bzImage or vmlinux"),
  flat: wordShape("a flat image's path"),
  image: wordShape("an image's path"),
  append: textShape("the guest's command line"),
  initrd: wordShape("modules, or a Linux initrd, as QEMU's -initrd takes them"),
  modules: list(moduleShape, "modules"),
  at: whole("a physical load address", 0, 0xffff_ffff),
  mode: oneOf(START_MODES),
}, "guest");

const guest: Shape<GuestSpec> = (value, path, issues) => {
  const read = guestRecord(value, path, issues);
  if (read === undefined) return undefined;
  const formats = GUEST_FORMATS.filter((f) => read[f] !== undefined);
  if (formats.length !== 1) {
    const found = formats.length === 0 ? "none" : formats.join(" and ");
    issues.push({
      path,
      onKey: false,
      message: `expected exactly one of ${
        GUEST_FORMATS.join(", ")
      }, found ${found}`,
    });
    return undefined;
  }
  const [format] = formats;
  const before = issues.length;
  const forbid = (key: string, reason: string): void => {
    if (read[key as keyof typeof read] !== undefined) {
      issues.push({
        path: [...path, key],
        onKey: true,
        message: `${key} ${reason}: delete it`,
      });
    }
  };
  if (format !== "asm" && format !== "flat") {
    for (const key of ["at", "mode"]) {
      forbid(key, `is for asm and flat guests, this is ${format}`);
    }
  } else {
    for (const key of ["initrd", "modules", "append"]) {
      forbid(
        key,
        `is for multiboot, elf, linux and image guests, this is ${format}`,
      );
    }
  }
  if (read.initrd !== undefined) forbid("modules", "says the same as initrd");
  if (issues.length > before) return undefined;
  const source = read[format] as string;
  const isText = format === "asm" && source.includes("\n");
  return {
    format,
    ...(isText ? { text: source } : { path: source }),
    append: read.append ?? "",
    modules: read.modules ?? readInitrd(read.initrd ?? ""),
    ...(read.at === undefined ? {} : { address: read.at }),
    ...(read.mode === undefined ? {} : { mode: read.mode }),
  };
};

const option: Shape<OptionValue> = (value, path, issues) => {
  if (
    value === null || typeof value === "boolean" || typeof value === "string"
  ) return value;
  if (typeof value === "number" && Number.isFinite(value)) return value;
  if (Array.isArray(value)) return list(option, "values")(value, path, issues);
  if (isMap(value)) {
    return mapOf(option, "option values", /./)(value, path, issues);
  }
  return mismatch(
    "an option's value: text, number, true or false, list or map",
    value,
    path,
    issues,
  );
};

const PLUGIN =
  "a plugin: a name, a path (./x.ts), an npm: specifier, or one of these with its options, as { mbec: { strategy: trap-all } }";
const plugin: Shape<PluginSpec> = (value, path, issues) => {
  if (typeof value === "string" && value.trim() !== "") {
    return pluginSource(value, {}, path, issues);
  }
  const names = isMap(value) ? Object.keys(value) : [];
  if (names.length !== 1) return mismatch(PLUGIN, value, path, issues);
  const [source] = names;
  const options = (value as Record<string, unknown>)[source];
  const at = [...path, source];
  if (options === null) return pluginSource(source, {}, at, issues);
  if (!isMap(options)) {
    return mismatch(`a map of ${source}'s options`, options, at, issues);
  }
  const read = mapOf(option, "option values", /./)(options, at, issues);
  return read === undefined
    ? undefined
    : pluginSource(source, read, at, issues);
};

function pluginSource(
  source: string,
  options: PluginSpec["options"],
  path: Path,
  issues: Issues,
): PluginSpec | undefined {
  if (/^(\.{0,2}\/|npm:.)/.test(source) || /^[a-z][a-z0-9-]*$/.test(source)) {
    return { source, options };
  }
  const jsr = /^(jsr|https?):/.test(source)
    ? "; download it and give its path"
    : "";
  issues.push({
    path,
    onKey: false,
    message: `expected ${PLUGIN}, found ${JSON.stringify(source)}${jsr}`,
  });
}

const inputRecord = record({
  at: whole("the step at which it arrives", 0, ANY_STEP),
  serial: (value, path, issues) => {
    if (typeof value === "string") return new TextEncoder().encode(value);
    if (Array.isArray(value)) {
      const bytes = list(whole("a byte", 0, 255), "bytes")(value, path, issues);
      return bytes && Uint8Array.from(bytes);
    }
    return mismatch("text or a list of bytes", value, path, issues);
  },
  event: wordShape("an input event's name"),
  payload: option,
}, "an input");

const input: Shape<ScheduledInput> = (value, path, issues) => {
  const read = inputRecord(value, path, issues);
  if (read === undefined) return undefined;
  const { at, serial, event, payload } = read;
  if (at === undefined) {
    return mismatch(
      'an input with a step, as { at: 120000, serial: "ls\\n" }',
      value,
      path,
      issues,
    );
  }
  if ((serial === undefined) === (event === undefined)) {
    return mismatch(
      "an input with exactly one of serial, event",
      value,
      path,
      issues,
    );
  }
  if (serial !== undefined) {
    if (payload === undefined) return { at, serial };
    issues.push({
      path: [...path, "payload"],
      onKey: true,
      message: "payload belongs to event: delete it",
    });
    return undefined;
  }
  return { at, event: { name: event!, payload: payload ?? {} } };
};

const BOUND = `a count, as 2 or ">= 2" (${COMPARISONS.join(" ")})`;
const bound: Shape<CountBound> = (value, path, issues) => {
  if (typeof value === "number" && Number.isSafeInteger(value) && value >= 0) {
    return { comparison: "==", count: value };
  }
  const match = typeof value === "string"
    ? /^\s*(==|!=|>=|<=|>|<)?\s*(\d+)\s*$/.exec(value)
    : null;
  if (match === null) return mismatch(BOUND, value, path, issues);
  return {
    comparison: (match[1] ?? "==") as CountBound["comparison"],
    count: Number(match[2]),
  };
};

const expectRecord = record({
  exit: whole("an exit status", 0, 255),
  events: mapOf(
    bound,
    'event counts, as { vmx.exited: ">= 1" }',
    /^[a-z][\w-]*(\.[\w-]+)+$/,
  ),
  serial: (value, path, issues) =>
    typeof value === "string" ? [value] : list(
      textShape("text in the serial output"),
      "texts in the serial output",
    )(value, path, issues),
}, "expect");

const root = record({
  doc: textShape("what the scenario shows"),
  machine,
  guest,
  plugins: list(plugin, "plugins"),
  record: oneOf(RECORD_POLICIES),
  steps: whole("most steps to run", 1, ANY_STEP),
  inputs: list(input, "inputs"),
  expect: expectRecord,
}, "a scenario");

/** Reads a plain value; a scenario comes back only if there is no issue. */
export function checkScenario(
  value: unknown,
): { scenario?: Scenario; issues: Issues } {
  const issues: Issues = [];
  const read = root(value, [], issues);
  if (read === undefined || issues.length > 0) return { issues };
  const { doc = "", plugins = [], record = "boundaries", inputs = [] } = read;
  const expect = (read.expect ?? {}) as Partial<Expectation>;
  const scenario: Scenario = {
    doc,
    machine: { ...DEFAULT_MACHINE, ...(read.machine as Partial<MachineSpec>) },
    ...(read.guest === undefined ? {} : { guest: read.guest as GuestSpec }),
    plugins: plugins as PluginSpec[],
    record,
    ...(read.steps === undefined ? {} : { steps: read.steps }),
    inputs: [...inputs as ScheduledInput[]].sort((a, b) => a.at - b.at),
    expect: {
      ...(expect.exit === undefined ? {} : { exit: expect.exit }),
      events: expect.events ?? {},
      serial: expect.serial ?? [],
    },
  };
  return { scenario, issues };
}
