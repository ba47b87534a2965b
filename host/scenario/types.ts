/**
 * What a scenario is (design §9): data that fixes one run completely, apart
 * from the bytes of the files it names. Written by hand in YAML (parse.ts) or
 * given as an object by a program; both pass the same schema (schema.ts).
 * Invariant: every value here is checked and has its default filled in.
 */

/** How much the tape stores (design §5). */
export const RECORD_POLICIES = ["inputs", "boundaries", "full"] as const;
/** One of {@link RECORD_POLICIES}. */
export type RecordPolicy = typeof RECORD_POLICIES[number];

/** Which plugins a machine has before the scenario adds its own. */
export const PLATFORMS = ["pc", "lean", "none"] as const;
/** One of {@link PLATFORMS}. */
export type Platform = typeof PLATFORMS[number];

/** What the guest's main file is; `image` looks at the file to find out. */
export const GUEST_FORMATS = [
  "asm",
  "multiboot",
  "elf",
  "linux",
  "flat",
  "image",
] as const;
/** One of {@link GUEST_FORMATS}. */
export type GuestFormat = typeof GUEST_FORMATS[number];

/** Processor mode at the first instruction of `asm` and `flat` guests. */
export const START_MODES = ["real", "protected", "long"] as const;
/** One of {@link START_MODES}. */
export type StartMode = typeof START_MODES[number];

/** The machine itself. */
export interface MachineSpec {
  /** CPU model with flags, as `skylake-server,-pcid`. */
  readonly cpu: string;
  /** Bytes of RAM, a multiple of 4096. */
  readonly memory: number;
  readonly cpus: number;
  /** Steps of a vCPU's turn, where a machine has several; if not the usual. */
  readonly quantum?: number;
  /** Virtual nanoseconds of a step, if not 1. */
  readonly pace?: number;
  readonly platform: Platform;
  /** u64 from which every plugin's random stream is derived. */
  readonly seed: bigint;
}

/** A file handed to the guest beside its image. */
export interface ModuleSpec {
  readonly path: string;
  /** The module's own command line. */
  readonly append: string;
}

/** What runs on the machine. */
export interface GuestSpec {
  readonly format: GuestFormat;
  /** The image or source file, as written; undefined if `text` holds the source. */
  readonly path?: string;
  /** Assembly source. */
  readonly text?: string;
  /** The guest's command line. */
  readonly append: string;
  readonly modules: readonly ModuleSpec[];
  /** Physical load address of `asm` and `flat` guests, where given. */
  readonly address?: number;
  readonly mode?: StartMode;
}

/** A value of a plugin's option before the plugin's own schema reads it. */
export type OptionValue =
  | null
  | boolean
  | number
  | string
  | readonly OptionValue[]
  | { readonly [key: string]: OptionValue };

/** One plugin added to the platform's. */
export interface PluginSpec {
  /** Name of one of ours, a path (`./x.ts`, `/x.ts`) or an `npm:` specifier. */
  readonly source: string;
  readonly options: { readonly [name: string]: OptionValue };
}

/** An input that arrives at a step. */
export interface ScheduledInput {
  readonly at: number;
  /** Bytes on the first serial port … */
  readonly serial?: Uint8Array;
  /** … or any input event, its payload in JSON form. */
  readonly event?: { readonly name: string; readonly payload: OptionValue };
}

/** How a count of events is judged. */
export const COMPARISONS = ["==", "!=", ">=", "<=", ">", "<"] as const;
/** A bound on how often an event occurs. */
export interface CountBound {
  readonly comparison: typeof COMPARISONS[number];
  readonly count: number;
}

/** What must hold at the end; nothing is judged that isn't given. */
export interface Expectation {
  /** Exit status, as the command line gives it. */
  readonly exit?: number;
  readonly events: { readonly [name: string]: CountBound };
  /** Texts that the serial output must contain. */
  readonly serial: readonly string[];
}

/** One run. */
export interface Scenario {
  /** What it shows, for people. */
  readonly doc: string;
  readonly machine: MachineSpec;
  /** Undefined: the machine starts with empty memory. */
  readonly guest?: GuestSpec;
  readonly plugins: readonly PluginSpec[];
  readonly record: RecordPolicy;
  /** Most steps to run, if bounded. */
  readonly steps?: number;
  readonly inputs: readonly ScheduledInput[];
  readonly expect: Expectation;
}

/** Where a value lies in a scenario: keys and list indices from the root. */
export type Path = readonly (string | number)[];
