/**
 * The toy machine for tests of core/: `makeToy` loads one, `toyConfig` gives
 * what `Kernel.load` takes (and what a replay rebuilds from a manifest).
 */
import { Kernel, sha256, toHex } from "../../core/mod.ts";
import type { KernelConfig, Plugin, PluginUse } from "../../core/mod.ts";
import { ToyExecutor } from "./executor.ts";
import {
  toyDice,
  toyExit,
  toyHotWatcher,
  toySerial,
  toyTally,
  toyTimer,
  toyWatcher,
} from "./plugins.ts";

export * from "./api.ts";
export * from "./executor.ts";
export * from "./plugins.ts";
export * from "./program.ts";

/** A toy machine to be. */
export interface ToyOptions {
  readonly program: Uint8Array;
  readonly seed?: bigint;
  readonly ramPages?: number;
  /** Executor returns to the kernel every so many steps; 0 never. */
  readonly chop?: number;
  /** Virtual nanoseconds of a step; default 1. */
  readonly pace?: number;
  /** Plugins beside the machine's own four. */
  readonly more?: readonly (Plugin | PluginUse)[];
  /** Instead of the machine's own four. */
  readonly plugins?: readonly (Plugin | PluginUse)[];
}

/** The participants of every toy machine unless told otherwise. */
export const TOY_PARTICIPANTS: readonly PluginUse[] = [
  { plugin: toySerial },
  { plugin: toyTimer, options: { jitter: 20 } },
  { plugin: toyExit },
  { plugin: toyTally },
];

/** All toy observers. */
export const TOY_OBSERVERS: readonly PluginUse[] = [
  { plugin: toyWatcher },
  { plugin: toyHotWatcher },
  { plugin: toyDice },
];

function asUse(one: Plugin | PluginUse): PluginUse {
  return "plugin" in one ? one : { plugin: one };
}

/** What `Kernel.load` takes. */
export function toyConfig(options: ToyOptions): KernelConfig {
  const { program, ramPages = 16 } = options;
  return {
    seed: options.seed ?? 1n,
    plugins: [
      ...(options.plugins ?? TOY_PARTICIPANTS),
      ...(options.more ?? []),
    ].map(asUse),
    executor: (port) => new ToyExecutor(port, options),
    machine: { toy: 1, ramPages, program: toHex(sha256(program)) },
  };
}

/** A loaded toy machine. */
export function makeToy(options: ToyOptions): Kernel {
  return Kernel.load(toyConfig(options));
}
