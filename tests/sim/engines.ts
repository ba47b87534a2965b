/**
 * Every engine as the law tests want it: those of host/machine.ts, and T0 in a
 * setting that compiles each form at its first execution, so that programs of a
 * thousand steps run compiled code.
 */
import type { Json } from "../../core/fields.ts";
import { Kernel } from "../../core/kernel.ts";
import type { PluginUse } from "../../core/plugin.ts";
import type { MachineFactory } from "../../core/replay_machine.ts";
import { parseModel } from "../../cpu/arch/models.ts";
import { MachineExecutor } from "../../cpu/engine/executor.ts";
import { T0Engine, t0EngineBytes } from "../../cpu/engine/t0/engine.ts";
import { machines } from "../../host/machine.ts";
import { platformUses } from "../../host/catalog.ts";
import { DecoderService } from "../../plugins/decoder/api.ts";

/** An engine under test. */
export interface EngineUnderTest {
  readonly name: string;
  /** Makes machines for tapes with that engine. */
  factory(uses?: readonly PluginUse[]): MachineFactory;
}

/** T0 that compiles at once, for tapes of platform machines without foreign plugins. */
function eagerT0(): MachineFactory {
  return (manifest) => {
    const recorded = manifest.machine as unknown as {
      readonly seed: string;
      readonly machine: { readonly cpu: string; readonly ramBytes: number };
    };
    const { cpu, ramBytes } = recorded.machine;
    const model = parseModel(cpu);
    return Kernel.load({
      plugins: platformUses(model, "pc", []),
      seed: BigInt(recorded.seed),
      machine: recorded.machine as unknown as Json,
      executor: (port) =>
        new MachineExecutor(port, {
          model,
          ramBytes,
          engineBytes: t0EngineBytes(1),
          engine: (world) => {
            const decoder = world.port.service(DecoderService).get()!;
            return new T0Engine(decoder.create(model), {
              threshold: 0,
              hot: [],
            });
          },
        }),
    });
  };
}

/** All engines; those that serve random programs only come last. */
export const ENGINES: readonly EngineUnderTest[] = [
  ...machines.engines.map((engine): EngineUnderTest => ({
    name: engine,
    factory: (uses = []) => machines.factory({ engine, uses }),
  })),
];

/** T0 compiling eagerly; for random programs only. */
export const EAGER_T0: EngineUnderTest = {
  name: "t0, compiling at once",
  factory: eagerT0,
};
