/**
 * What a command is, and what commands share: opening tapes, building the
 * machines they describe, printing results as text or JSON.
 * Invariant: a command returns its exit status and writes only through its
 * Io; it never calls Deno.exit.
 */
import { toHex } from "../../core/bytes.ts";
import { ConfigError, messageOf } from "../../core/errors.ts";
import type { Kernel } from "../../core/kernel.ts";
import type { PluginUse } from "../../core/plugin.ts";
import { loadForTape, type MachineFactory } from "../../core/replay_machine.ts";
import { Timeline } from "../../core/timeline.ts";
import type { TapeManifest } from "../../core/tape/manifest.ts";
import { TapeReader } from "../../core/tape/reader.ts";
import { decodePreamble, PREAMBLE_BYTES } from "../../core/tape/frames.ts";
import { readHostInfo } from "../host_info.ts";
import type { Machines } from "../machines.ts";
import { loadPlugin } from "../plugin_loader.ts";
import { encodePath, fileProblem } from "../scenario/files.ts";
import { FileSink, FileSource, StoreError } from "../store/file_store.ts";
import type { Arguments, OptionSpec, Usage } from "./args.ts";
import type { Io } from "./io.ts";

/** What a command runs in. */
export interface Context {
  readonly io: Io;
  readonly machines: Machines;
  /** The folder that relative paths start from, as a URL ending in `/`. */
  readonly folder: URL;
}

/** One command of the command line. */
export interface Command {
  readonly usage: Usage;
  /** Runs it. @returns the exit status */
  run(args: Arguments, context: Context): number | Promise<number>;
}

/** Options of every command that makes a tape's machine. */
export const MACHINE_OPTIONS: readonly OptionSpec[] = [
  {
    name: "engine",
    value: "NAME",
    doc: "how to execute: t0 (fast) or reference",
  },
  {
    name: "plugin",
    value: "SOURCE",
    doc: "add an observer: its name, path or npm: specifier",
    many: true,
  },
];

/** A file's path as a URL below the context's folder. */
export function urlOf(path: string, context: Context): URL {
  return new URL(encodePath(path), context.folder);
}

/** A file's path for the operating system. */
export function pathOf(path: string, context: Context): string {
  return decodeURIComponent(urlOf(path, context).pathname);
}

/** A value as one line of JSON: big numbers and bytes in hexadecimal. */
export function jsonLine(value: unknown): string {
  const shown = (_key: string, v: unknown): unknown =>
    typeof v === "bigint"
      ? `0x${v.toString(16)}`
      : v instanceof Uint8Array
      ? toHex(v)
      : v;
  return JSON.stringify(value, shown) + "\n";
}

/** Writes a value as JSON, one line. */
export function printJson(io: Io, value: unknown): void {
  io.out(jsonLine(value));
}

/** Opens a tape to read. */
export function openTape(
  path: string,
  context: Context,
  verify = false,
): TapeReader {
  const source = openFile(path, context);
  if (source.size === 0) {
    throw new ConfigError(
      `open tape ${path}: the file is empty, name a tape that \`vmtape run\` wrote`,
    );
  }
  try {
    return TapeReader.open(source, { verify });
  } catch (error) {
    throw new ConfigError(`${path}: ${messageOf(error)}`, error);
  }
}

/**
 * Opens a file to read as a tape.
 * @throws {ConfigError} if it can't be read, naming it as the user did
 */
export function openFile(path: string, context: Context): FileSource {
  try {
    const source = new FileSource(pathOf(path, context));
    if (Deno.statSync(source.path).isDirectory) {
      source.close();
      throw new Deno.errors.IsADirectory();
    }
    return source;
  } catch (error) {
    const cause = error instanceof StoreError ? error.cause : error;
    throw new ConfigError(`open tape ${path}: ${fileProblem(cause)}`, error);
  }
}

/**
 * Creates a tape's file, or replaces the tape that is there.
 * @throws {ConfigError} if a file that is no tape is there: it would be lost
 */
export function createTape(path: string, context: Context): FileSink {
  const file = pathOf(path, context);
  let head: Uint8Array | undefined;
  try {
    using old = Deno.openSync(file);
    // a device or pipe holds nothing that could be lost
    if (!old.statSync().isCharDevice) {
      const bytes = new Uint8Array(PREAMBLE_BYTES);
      head = bytes.subarray(0, old.readSync(bytes) ?? 0);
    }
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) {
      throw new ConfigError(
        `create tape ${path}: ${fileProblem(error)}`,
        error,
      );
    }
  }
  const preamble = head === undefined || head.length === 0
    ? undefined
    : decodePreamble(head);
  if (preamble !== undefined && "error" in preamble && preamble.foreign) {
    throw new ConfigError(
      `create tape ${path}: the file there is no tape and would be lost, name another file`,
    );
  }
  try {
    return new FileSink(file, { overwrite: true });
  } catch (error) {
    if (!(error instanceof StoreError)) throw error;
    const { NotFound } = Deno.errors;
    const why = error.cause instanceof NotFound
      ? "there is no such folder, make it or name another"
      : fileProblem(error.cause);
    throw new ConfigError(`create tape ${path}: ${why}`, error);
  }
}

/** Checks the engine's name. */
export function engineOf(
  args: Arguments,
  machines: Machines,
): string | undefined {
  return args.oneOf("engine", machines.engines);
}

/** Loads the observers given with --plugin. */
export async function observersOf(
  args: Arguments,
  context: Context,
): Promise<PluginUse[]> {
  const places = {
    catalog: context.machines.catalog,
    folders: [context.folder],
  };
  const uses = await Promise.all(
    args.all("plugin").map((source) =>
      loadPlugin({ source, options: {} }, places)
    ),
  );
  for (const { plugin, from } of uses) {
    if (plugin.role !== "observer") {
      throw new ConfigError(
        `--plugin ${from}: ${plugin.name} is part of a machine, only observers can join a recorded run; use it in a scenario and record that`,
      );
    }
  }
  return uses;
}

/** What a tape says of its run. @throws {ConfigError} if that is lost */
export function requireManifest(tape: TapeReader, path: string): TapeManifest {
  if (tape.manifest !== undefined) return tape.manifest;
  throw new ConfigError(
    `open tape ${path}: its first frame, the manifest, is lost, so what to run is unknown; use another copy of the tape`,
  );
}

/** The tape's machine can't be made here (status 6 of the tape commands). */
export class IncompatibleError extends ConfigError {}

/**
 * How to make the machine that a tape describes, with added observers.
 * @throws {IncompatibleError} if a plugin that recorded it is missing
 */
export async function factoryFor(
  tape: TapeReader,
  tapePath: string,
  args: Arguments,
  context: Context,
): Promise<MachineFactory> {
  const { machines, folder } = context;
  const places = {
    catalog: machines.catalog,
    folders: [folder, new URL(".", urlOf(tapePath, context))],
  };
  const engine = engineOf(args, machines);
  const observers = await observersOf(args, context);
  const foreign = readHostInfo(requireManifest(tape, tapePath).host).plugins;
  try {
    const uses = await Promise.all(
      Object.values(foreign).map((source) =>
        loadPlugin({ source, options: {} }, places)
      ),
    );
    return machines.factory({
      ...(engine === undefined ? {} : { engine }),
      uses: [...uses, ...observers],
    });
  } catch (error) {
    throw new IncompatibleError(
      `replay ${tapePath}: ${messageOf(error)}`,
      error,
    );
  }
}

/**
 * Opens a timeline over a tape.
 * @throws {IncompatibleError} if this build can't make the tape's machine
 */
export async function openTimeline(
  tape: TapeReader,
  tapePath: string,
  args: Arguments,
  context: Context,
): Promise<{ timeline: Timeline; factory: MachineFactory }> {
  const factory = await factoryFor(tape, tapePath, args, context);
  const loaded = loadForTape(tape, factory);
  if ("incompatible" in loaded) {
    throw new IncompatibleError(`replay ${tapePath}: ${loaded.incompatible}`);
  }
  return { timeline: new Timeline(tape, factory, loaded.kernel), factory };
}

/** Prints what the guest of a machine sends; `before` is called before that. */
export function echoSerial(
  machines: Machines,
  kernel: Kernel,
  io: Io,
  before: () => void = () => {},
): void {
  machines.serial(kernel)?.listen((byte) => {
    before();
    io.out(Uint8Array.of(byte));
  });
}

/** `1,234,567` */
export function grouped(value: number): string {
  return String(value).replace(/\B(?=(\d{3})+$)/g, ",");
}

/** `1.2 MB` */
export function sizeText(bytes: number): string {
  if (bytes < 1000) return `${bytes} bytes`;
  if (bytes < 1e6) return `${(bytes / 1e3).toFixed(1)} kB`;
  if (bytes < 1e9) return `${(bytes / 1e6).toFixed(1)} MB`;
  return `${(bytes / 1e9).toFixed(2)} GB`;
}
