/**
 * The types between the kernel, its host and whoever records.
 */
import type { EventToken } from "./event.ts";
import type { Executor, KernelPort } from "./executor.ts";
import type { Json } from "./fields.ts";
import type { Kernel } from "./kernel.ts";
import type { At } from "./moment.ts";
import type { PluginUse } from "./plugin.ts";

/** Steps between the boundaries at which digests and keyframes may be due. */
export const BOUNDARY_STEPS = 2 ** 20;

/** Gets the stream as it is made: the recorder, or a replayer's comparer. */
export interface FactSink {
  /** Write-ahead: must have flushed when it returns. */
  input(at: At, event: EventToken, payload: unknown): void;
  /** A fact of step `step`. */
  fact(step: number, event: EventToken, payload: unknown): void;
  /** A hot fact as `n` ring words at `words[at]`. */
  hot(
    step: number,
    eventId: number,
    words: Uint32Array,
    at: number,
    n: number,
  ): void;
  /** An observer's remark. */
  note(step: number, event: EventToken, payload: unknown, plugin: string): void;
  /**
   * Reached a multiple of 2^20 steps, before timers and inputs of that step.
   * May ask the kernel for digests, keyframes and dirty counts.
   */
  boundary(kernel: Kernel): void;
  /** Steps between boundaries, if not 2^20: a finer cadence in tests. */
  readonly boundarySteps?: number;
  /** By detail policy; asked once per event type when installed. */
  wants(event: EventToken): boolean;
}

/** What a kernel is loaded from. */
export interface KernelConfig {
  /** Participants and observers, in any order. */
  readonly plugins: readonly PluginUse[];
  /** Seed of all random streams. */
  readonly seed: bigint;
  /** Makes the executor; may declare events, provide services, subscribe. */
  readonly executor: (port: KernelPort) => Executor;
  /** What else describes the machine (CPU model, memory, images by hash). */
  readonly machine?: Json;
}

/** How far `run` shall go; whatever comes first. */
export interface RunOptions {
  /** Stop on arrival at this step, before its timers and inputs. */
  readonly untilStep?: number;
  /** With `untilStep`: let virtual time pass there up to this, if idle. */
  readonly untilTime?: number;
  /** At most so many steps (an idle jump counts 64), so the host gets polled. */
  readonly budgetSteps?: number;
  /** Asked at each turn of the kernel's loop, not at each step. */
  readonly stopWhen?: (kernel: Kernel) => boolean;
}

/** Why `run` came back. */
export interface StopInfo {
  /**
   * step: arrived at `untilStep`; budget: used up; predicate: `stopWhen`;
   * paused: `pause()` was called; waiting: halted, no timer armed, no input
   * queued; stopped: the machine ended.
   */
  readonly kind:
    | "step"
    | "budget"
    | "predicate"
    | "paused"
    | "waiting"
    | "stopped";
  /** Steps completed. */
  readonly step: number;
  /** Virtual time, ns. */
  readonly time: number;
  /** Of a stopped machine. */
  readonly reason?: string;
  /** What the guest wants the process to exit with. */
  readonly exitCode?: number;
}

/** What a participant contributes to the manifest. */
export interface ManifestPlugin {
  /** Name. */
  readonly name: string;
  /** Version. */
  readonly version: string;
  /** Values of all options. */
  readonly options: Json;
  /** Layout of its cells. */
  readonly state: string;
  /** SHA-256 of its code, when known. */
  readonly digest?: string;
}

/** One event type's schema. */
export interface ManifestEvent {
  /** Name. */
  readonly name: string;
  /** Version. */
  readonly version: number;
  /** input or fact. */
  readonly kind: string;
  /** Layout of the payload. */
  readonly signature: string;
  /** Computed from the rest. */
  readonly fingerprint: string;
}

/** Everything that a replay must match; plain data, no observers, no engine. */
export interface Manifest {
  /** Layout of this manifest. */
  readonly format: 1;
  /** The machine's seed, as 0x… */
  readonly seed: string;
  /** As given in `KernelConfig.machine`. */
  readonly machine: Json;
  /** Participants in load order. */
  readonly participants: readonly ManifestPlugin[];
  /** Inputs and facts, sorted by name. */
  readonly events: readonly ManifestEvent[];
}

/** A difference between two states, for blame. */
export interface StateDifference {
  /** `machine`, `kernel` or the plugin's name. */
  readonly plugin: string;
  /** Cell, or the executor's name of the byte. */
  readonly cell: string;
  /** Path inside the cell, or empty. */
  readonly field: string;
  /** Value in the first state. */
  readonly before: string;
  /** Value in the second. */
  readonly after: string;
}
