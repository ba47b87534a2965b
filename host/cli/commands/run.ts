/**
 * `vmtape run`: runs a scenario, or an image with QEMU's familiar words, and
 * records it. The guest's serial port goes to standard output, piped standard
 * input to the guest, progress to stderr; Ctrl-C closes the tape properly.
 * Invariant: the exit status tells a guest's verdict (odd) from ours (even).
 */
import { ConfigError, VmtapeError } from "../../../core/errors.ts";
import type { Kernel } from "../../../core/kernel.ts";
import { readOptions } from "../../../core/options.ts";
import type { PluginUse } from "../../../core/plugin.ts";
import { loadForTape } from "../../../core/replay_machine.ts";
import { TapeReader } from "../../../core/tape/reader.ts";
import { type Mark, Timeline } from "../../../core/timeline.ts";
import { AssemblyError } from "../../asm/mod.ts";
import { hostInfo } from "../../host_info.ts";
import {
  type GuestSymbol,
  type MachineOptions,
  type Machines,
  MisfitError,
  type ScenarioFiles,
} from "../../machines.ts";
import { loadPlugin } from "../../plugin_loader.ts";
import { Runner, type RunResult } from "../../runner.ts";
import { defineScenario } from "../../scenario/define.ts";
import type { ScenarioFile } from "../../scenario/parse.ts";
import { fileProblem, readFilesOf } from "../../scenario/files.ts";
import { MAX_PACE, readSeed, readSize } from "../../scenario/schema.ts";
import {
  PLATFORMS,
  RECORD_POLICIES,
  type Scenario,
} from "../../scenario/types.ts";
import { type Arguments, UsageError } from "../args.ts";
import {
  type Command,
  type Context,
  createTape,
  engineOf,
  grouped,
  openFile,
  pathOf,
  printJson,
  sizeText,
  urlOf,
} from "../command.ts";
import { Exit, RUN_STATUSES } from "../exit.ts";
import { Interactive, type Past } from "../interactive.ts";
import { DEFAULT_ESCAPE, readEscape } from "../keyboard.ts";
import { Progress } from "../progress.ts";
import { TerminalWorld } from "../terminal_world.ts";

/** Options that say what the machine and guest are, when there is no scenario. */
const IMAGE_OPTIONS = ["kernel", "append", "initrd"] as const;

/** `vmtape run` */
export const runCommand: Command = {
  usage: {
    name: "run",
    summary: "run a scenario or an image, and record it on a tape",
    positionals: [
      {
        name: "FILE",
        doc: "a scenario (.yml, .yaml) or an image",
        optional: true,
      },
    ],
    options: [
      {
        name: "kernel",
        value: "FILE",
        doc:
          "the image: multiboot, Linux (bzImage, vmlinux), ELF or assembly (.asm)",
      },
      { name: "append", value: "TEXT", doc: "the guest's command line" },
      {
        name: "initrd",
        value: "FILES",
        doc: "multiboot modules (`a ARGS,b ARGS`) or Linux's initrd",
      },
      {
        name: "memory",
        value: "SIZE",
        doc: "RAM, as 256MiB; a bare number counts MiB",
      },
      { name: "cpus", value: "N", doc: "number of vCPUs" },
      { name: "pace", value: "NS", doc: "virtual nanoseconds of a step (1)" },
      {
        name: "cpu",
        value: "MODEL",
        doc: "CPU model with flags, as skylake-server,-pcid",
      },
      {
        name: "platform",
        value: "NAME",
        doc: `default devices: ${PLATFORMS.join(", ")}`,
      },
      {
        name: "seed",
        value: "N",
        doc: "where all randomness of the machine comes from",
      },
      {
        name: "plugin",
        value: "SOURCE",
        doc: "add a plugin: its name, path or npm: specifier",
        many: true,
      },
      {
        name: "engine",
        value: "NAME",
        doc: "how to execute: t0 (fast) or reference",
      },
      { name: "max-steps", value: "N", doc: "stop after so many steps" },
      {
        name: "timeout",
        value: "SECONDS",
        doc: "stop after so much real time",
      },
      {
        name: "tape",
        value: "FILE",
        doc: "where to record (default: the input's name with .tape)",
      },
      { name: "no-tape", doc: "record nothing" },
      {
        name: "no-keys",
        doc: "at a terminal: type nothing at the guest, Ctrl-C ends the run",
      },
      {
        name: "escape",
        value: "KEY",
        doc:
          `at a terminal, keys go to the guest's serial port; this one, then q, leaves, then h lists more (default ${DEFAULT_ESCAPE})`,
      },
      {
        name: "record",
        value: "POLICY",
        doc: `what is stored: ${RECORD_POLICIES.join(", ")}`,
      },
    ],
    statuses: RUN_STATUSES,
    examples: [
      "run examples/hello.yml",
      "run --kernel setjmp.flat --memory 256MiB --cpu max-intel --tape setjmp.tape",
      "run --kernel access.flat --initrd env.txt --record inputs",
      "run shell.yml < typed.txt",
      "run --kernel vmlinuz --initrd initrd --append console=ttyS0 --escape ^A",
    ],
  },
  run: runRun,
};

/** A scenario with where it came from. */
interface Source {
  readonly scenario: Scenario;
  /** Set if it came from a file: makes errors with their place. */
  readonly file?: ScenarioFile;
  /** Where its relative paths start. */
  readonly folder: URL;
  /** What the tape is called by default. */
  readonly name: string;
}

async function runRun(args: Arguments, context: Context): Promise<number> {
  const { io, machines } = context;
  const source = await readSource(args, context);
  const { scenario, folder, file } = source;
  const files = readFilesOf(
    scenario,
    folder,
    file && ((at, message, cause) => file.errorAt(at, message, cause)),
  );
  const places = {
    catalog: machines.catalog,
    folders: [folder, context.folder],
  };
  const uses: PluginUse[] = [];
  for (const [i, spec] of scenario.plugins.entries()) {
    try {
      const use = await loadPlugin(spec, places);
      readOptions(use);
      if (uses.some(({ plugin }) => plugin.name === use.plugin.name)) {
        throw new ConfigError(
          `plugin ${use.plugin.name} stands there twice, list it once`,
        );
      }
      uses.push(use);
    } catch (error) {
      if (!(error instanceof ConfigError)) throw error;
      throw inPlace(new MisfitError(["plugins", i], error), source);
    }
  }
  const engine = engineOf(args, machines);
  const kernel = createMachine(source, files, machines, {
    ...(engine === undefined ? {} : { engine }),
    uses,
  });
  const tapePath = args.has("no-tape")
    ? undefined
    : args.text("tape") ?? `${source.name}.tape`;
  const timeout = args.whole("timeout", 1);

  const escape = readEscape(args.text("escape") ?? DEFAULT_ESCAPE);
  const port = machines.serial(kernel);
  const { keys } = io;
  const person = keys === undefined || port === undefined ||
      args.has("no-keys") || args.has("json")
    ? undefined
    : new Interactive({
      io,
      keys,
      machines,
      kernel,
      port,
      escape,
      hint: !args.has("quiet"),
      symbols: () => imageSymbols(scenario, files, machines),
      past: tapePath === undefined
        ? undefined
        : (marks) => pastOf(tapePath, kernel, marks, { engine, uses }, context),
    });
  // a person's screen belongs to the guest
  const progress = new Progress(io, args.has("quiet") || person !== undefined);
  const world = new TerminalWorld(args, context, progress, timeout, person);
  const runner = new Runner(kernel, scenario, port, world);
  const sink = tapePath === undefined
    ? undefined
    : createTape(tapePath, context);
  let result: RunResult;
  try {
    world.takeTerminal();
    result = await runner.run(
      sink &&
        {
          sink,
          detail: scenario.record,
          host: { ...hostInfo(scenario, files, uses) },
        },
    );
  } catch (error) {
    if (tapePath !== undefined) tellOfTape(error, tapePath, context);
    throw error;
  } finally {
    progress.done();
    world.close();
    sink?.close();
  }
  const status = statusOf(result);
  const size = tapePath === undefined
    ? 0
    : Deno.statSync(pathOf(tapePath, context)).size;
  if (args.has("json")) {
    printJson(io, {
      status,
      ...result,
      serial: new TextDecoder().decode(result.serial),
      ...(tapePath === undefined ? {} : { tape: tapePath, tapeBytes: size }),
    });
  } else if (!args.has("quiet")) {
    io.err(summary(result, tapePath, size));
  }
  if (!args.has("json")) {
    for (const line of result.unmet) {
      io.err(`vmtape run: not as expected: ${line}\n`);
    }
  }
  return status;
}

/** Names in the guest's own image or source. */
function imageSymbols(
  { guest }: Scenario,
  files: ScenarioFiles,
  machines: Machines,
): readonly GuestSymbol[] {
  if (guest === undefined) return [];
  const bytes = guest.path === undefined
    ? new TextEncoder().encode(guest.text ?? "")
    : files.get(guest.path);
  return bytes === undefined ? [] : machines.symbols(guest, bytes);
}

/** The run up to where `kernel` stands, out of the tape that is being written. */
function pastOf(
  path: string,
  kernel: Kernel,
  marks: readonly Mark[],
  made: { engine: string | undefined; uses: readonly PluginUse[] },
  context: Context,
): Past {
  const { machines } = context;
  const source = openFile(path, context);
  const tape = TapeReader.open(source);
  const factory = machines.factory({
    ...(made.engine === undefined ? {} : { engine: made.engine }),
    uses: made.uses.filter(({ plugin }) => plugin.role === "participant"),
  });
  const loaded = loadForTape(tape, factory);
  if ("incompatible" in loaded) throw new ConfigError(loaded.incompatible);
  const timeline = new Timeline(tape, factory, loaded.kernel, {
    inputs: loaded.inputs,
    end: kernel.moment.step,
    marks,
  });
  return { timeline, close: () => source.close() };
}

/** Says where the run is kept that an error ended. */
function tellOfTape(error: unknown, tape: string, { io }: Context): void {
  if (error instanceof VmtapeError && error.code === "store") return;
  io.err(`vmtape run: tape ${tape} holds the run up to the error below\n`);
}

/** Makes the machine; what it refuses is shown at its place in the scenario. */
function createMachine(
  source: Source,
  files: ScenarioFiles,
  machines: Machines,
  options: MachineOptions,
): Kernel {
  try {
    return machines.create(source.scenario, files, options);
  } catch (error) {
    if (error instanceof MisfitError) throw inPlace(error, source);
    if (error instanceof AssemblyError) throw inBlock(error, source);
    throw error;
  }
}

/** The same complaint with the place in the scenario's file, if it comes from there. */
function inPlace(error: MisfitError, { scenario, file }: Source): ConfigError {
  const valueOf = (root: Scenario): unknown =>
    error.at.reduce(
      (value: unknown, key) => (value as Record<string, unknown>)?.[key],
      root as unknown,
    );
  // an option of the command line may have replaced the file's value
  return file !== undefined && valueOf(file.scenario) === valueOf(scenario)
    ? file.errorAt(error.at, error.message, error)
    : error;
}

/** Mistakes in assembly that a scenario holds, at their places in its file. */
function inBlock(error: AssemblyError, source: Source): AssemblyError {
  const { scenario, file } = source;
  if (file === undefined || scenario.guest?.text === undefined) return error;
  const block = file.blockAt(["guest", "asm"]);
  return new AssemblyError(error.issues.map((issue) => ({
    ...issue,
    ...(block === undefined
      ? { file: `${file.file}: guest.asm` }
      : { file: file.file, line: issue.line + block.line - 1 }),
    ...(block === undefined ? {} : {
      column: issue.column + block.column - 1,
      text: " ".repeat(block.column - 1) + issue.text,
    }),
  })));
}

/** The exit status of a run (design §9). */
export function statusOf(result: RunResult): number {
  if (result.kind === "interrupt") return Exit.interrupted;
  if (result.kind === "timeout") return Exit.timeout;
  if (result.kind === "not-modelled") return Exit.notModelled;
  if (result.unmet.length > 0) return Exit.unexpected;
  return result.exitCode ?? Exit.ok;
}

function summary(
  result: RunResult,
  tape: string | undefined,
  size: number,
): string {
  const parts = [
    `${grouped(result.step)} steps`,
    `${grouped(result.inputs)} input${result.inputs === 1 ? "" : "s"}`,
    ...(tape === undefined ? [] : [`tape ${tape} (${sizeText(size)})`]),
  ];
  const why = result.kind === "ended"
    ? `ended: ${result.reason}`
    : result.kind === "not-modelled"
    ? result.reason
    : `stopped: ${result.reason}`;
  return `vmtape run: ${why}; ${parts.join(", ")}\n`;
}

/** Reads the scenario that the arguments name or spell out. */
async function readSource(
  args: Arguments,
  context: Context,
): Promise<Source> {
  const [path] = args.positionals;
  if (path !== undefined && /\.ya?ml$/i.test(path)) {
    for (const name of IMAGE_OPTIONS) {
      if (args.text(name) !== undefined) {
        throw new UsageError(
          `--${name} and a scenario (${path}) both name a guest: give one of them`,
        );
      }
    }
    const url = urlOf(path, context);
    let text: string;
    try {
      text = Deno.readTextFileSync(url);
    } catch (error) {
      throw new ConfigError(`run ${path}: ${fileProblem(error)}`, error);
    }
    // Loaded here: images need no YAML parser.
    const { parseScenario } = await import("../../scenario/parse.ts");
    const file = parseScenario(text, path);
    return {
      scenario: override(file.scenario, args),
      file,
      folder: new URL(".", url),
      name: baseName(path),
    };
  }
  const kernel = args.text("kernel") ?? path;
  if (kernel === undefined) {
    throw new UsageError(
      "run needs a scenario (FILE.yml) or an image (--kernel FILE)",
    );
  }
  if (path !== undefined && args.text("kernel") !== undefined) {
    throw new UsageError(
      `${path} and --kernel ${kernel} both name an image: give one of them`,
    );
  }
  const key = /\.(asm|s)$/i.test(kernel) ? "asm" : "image";
  const append = args.text("append"), initrd = args.text("initrd");
  for (const name of ["append", "initrd"] as const) {
    if (key === "asm" && args.text(name) !== undefined) {
      throw new UsageError(
        `--${name} is for multiboot and ELF images, ${kernel} is assembly: leave it out`,
      );
    }
  }
  const plain = defineScenario({
    guest: {
      [key]: kernel,
      ...(append === undefined ? {} : { append }),
      ...(initrd === undefined ? {} : { initrd }),
    },
  });
  return {
    scenario: override(plain, args),
    folder: context.folder,
    name: baseName(kernel),
  };
}

/** `a/b.c.yml` → `b.c` */
function baseName(path: string): string {
  const name = path.split("/").at(-1) ?? path;
  return name.replace(/(?<=.)\.[^.]*$/, "");
}

/** The scenario with the options' values in place of its own. */
function override(scenario: Scenario, args: Arguments): Scenario {
  const size = args.text("memory");
  const memory = size === undefined ? undefined : readSize(size, "MiB");
  if (typeof memory === "string") {
    throw new UsageError(`--memory: ${memory}, found ${JSON.stringify(size)}`);
  }
  const seedText = args.text("seed");
  const seed = seedText === undefined ? undefined : readSeed(seedText);
  if (seedText !== undefined && seed === undefined) {
    throw new UsageError(
      `--seed takes a number from 0 to 2^64 - 1, found ${
        JSON.stringify(seedText)
      }`,
    );
  }
  const cpu = args.text("cpu");
  const cpus = args.whole("cpus", 1, 64);
  const pace = args.whole("pace", 1, MAX_PACE);
  const platform = args.oneOf("platform", PLATFORMS);
  const record = args.oneOf("record", RECORD_POLICIES);
  const steps = args.whole("max-steps", 1);
  return {
    ...scenario,
    machine: {
      ...scenario.machine,
      ...(cpu === undefined ? {} : { cpu }),
      ...(memory === undefined ? {} : { memory }),
      ...(cpus === undefined ? {} : { cpus }),
      ...(pace === undefined ? {} : { pace }),
      ...(platform === undefined ? {} : { platform }),
      ...(seed === undefined ? {} : { seed }),
    },
    plugins: [
      ...scenario.plugins,
      ...args.all("plugin").map((source) => ({ source, options: {} })),
    ],
    ...(record === undefined ? {} : { record }),
    ...(steps === undefined ? {} : { steps }),
  };
}
