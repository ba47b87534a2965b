/**
 * vmtape as a library: make a machine from a scenario, run and record it,
 * replay its tape, travel in time, watch events, write plugins.
 *
 * ```ts
 * import { defineScenario, machines } from "./mod.ts";
 * const scenario = defineScenario({ guest: { asm: "…" } });
 * const kernel = machines.create(scenario, new Map(), { uses: [] });
 * kernel.run({ budgetSteps: 1_000_000 });
 * ```
 *
 * This file re-exports only; each export is documented where it is declared.
 */
export * from "./core/mod.ts";
export * from "./cpu/facts.ts";
export { asm, assemble, AssemblyError } from "./host/asm/mod.ts";
export { machines } from "./host/machine.ts";
export type {
  CodeRow,
  Inspector,
  MachineOptions,
  Machines,
  RegisterRow,
  ScenarioFiles,
  SerialPort,
  WalkRow,
} from "./host/machines.ts";
export { Runner, type RunResult, type RunWorld } from "./host/runner.ts";
export { defineScenario } from "./host/scenario/define.ts";
export { parseScenario } from "./host/scenario/parse.ts";
export type { Scenario } from "./host/scenario/types.ts";
export { FileSink, FileSource } from "./host/store/file_store.ts";
