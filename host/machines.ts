/**
 * What the host needs in order to make machines, as an interface between the
 * command line (and any other front end) and host/machine.ts, which knows CPUs
 * and loaders. Everything a front end does with a machine starts from a
 * Kernel, so that a machine from a scenario and one from a tape are alike.
 * Invariant: nothing here reads a file, a clock or a terminal.
 */
import { ConfigError } from "../core/errors.ts";
import type { Kernel } from "../core/kernel.ts";
import type { Plugin, PluginUse } from "../core/plugin.ts";
import type { MachineFactory } from "../core/replay_machine.ts";
import type { GuestSpec, Path, Scenario } from "./scenario/types.ts";

/** A machine can't be made of a scenario because of the value at one place of it. */
export class MisfitError extends ConfigError {
  constructor(readonly at: Path, cause: ConfigError) {
    super(cause.message, cause);
  }
}

/** Contents of the files that a scenario names, by path as written. */
export type ScenarioFiles = ReadonlyMap<string, Uint8Array>;

/** Choices that no tape depends on, and plugins already loaded. */
export interface MachineOptions {
  /** `reference`, `t0` …; the fastest by default. */
  readonly engine?: string;
  /** The scenario's plugins (or a tape's foreign ones) and added observers. */
  readonly uses: readonly PluginUse[];
}

/** The console of a machine. */
export interface SerialPort {
  /** Queues bytes from outside: an input. */
  send(bytes: Uint8Array): void;
  /** Calls `handler` with each byte that the guest sends. */
  listen(handler: (byte: number) => undefined): () => void;
  /** The last bytes that the guest sent, oldest first (a few KiB at most). */
  tail(): Uint8Array;
  /** Whether a byte from outside could wake a halted machine. */
  hears(): boolean;
}

/** One register or group of flags, for display. */
export interface RegisterRow {
  readonly name: string;
  /** Value as 0x…. */
  readonly value: string;
  /** Its bits by name, where they have names. */
  readonly meaning?: string;
}

/** One entry that a walk read. */
export interface WalkRow {
  /** `guest` or `ept`, and the level's manual name, as `guest PML4E`. */
  readonly level: string;
  readonly address: string;
  readonly entry: string;
  /** Rights and flags in words. */
  readonly meaning: string;
}

/** A name of an address in the guest. */
export interface GuestSymbol {
  readonly name: string;
  readonly address: bigint;
}

/** One instruction. */
export interface CodeRow {
  readonly address: string;
  readonly bytes: string;
  readonly text: string;
  /** `symbol+0x12`, where known. */
  readonly symbol?: string;
}

/** Looks into a stopped machine without changing it. */
export interface Inspector {
  /** vCPUs by index. */
  readonly cpus: number;
  /** Which of them has the turn: runs next. */
  readonly turn: number;
  registers(cpu: number): readonly RegisterRow[];
  /** Walks a linear address as the hardware would; sets no flag, fills no TLB. */
  walk(cpu: number, linear: bigint): {
    readonly rows: readonly WalkRow[];
    /** `0x1234 (rw-x, user)` or the fault it would be. */
    readonly result: string;
  };
  /** Disassembles `count` instructions from `linear`, RIP by default. */
  disassemble(cpu: number, count: number, linear?: bigint): readonly CodeRow[];
  /** Bytes at a physical address; fewer where there is no memory. */
  memory(physical: number, length: number): Uint8Array;
  /**
   * Symbols that the guest itself holds in memory at this moment (Linux's
   * kallsyms); none if it has none. Takes a while: it looks through all RAM.
   */
  guestSymbols(): readonly GuestSymbol[];
  /** Uses these symbols from now on. */
  name(symbols: readonly GuestSymbol[]): void;
}

/** Makes machines. */
export interface Machines {
  /** Our own plugins by name. */
  readonly catalog: ReadonlyMap<string, Plugin>;
  readonly engines: readonly string[];
  /**
   * Loads guest and plugins; the machine stands at step 0.
   * @throws {ConfigError} naming what doesn't fit and the remedy; a
   *   {@link MisfitError} where one place of the scenario is to blame
   */
  create(
    scenario: Scenario,
    files: ScenarioFiles,
    options: MachineOptions,
  ): Kernel;
  /** Makes machines as manifests describe them. */
  factory(options: MachineOptions): MachineFactory;
  serial(kernel: Kernel): SerialPort | undefined;
  /** The symbols of a guest's image or source. */
  symbols(
    guest: Pick<GuestSpec, "format" | "path">,
    bytes: Uint8Array,
  ): readonly GuestSymbol[];
  /**
   * The symbols of a file that a user names for them: an ELF image, or text as
   * System.map and /proc/kallsyms have it.
   * @throws {ConfigError} saying what the file is instead
   */
  symbolFile(path: string, bytes: Uint8Array): readonly GuestSymbol[];
  /** Reads a kernel's CPUs; undefined if it drives no CPU of ours. */
  inspector(
    kernel: Kernel,
    symbols?: readonly GuestSymbol[],
  ): Inspector | undefined;
}
