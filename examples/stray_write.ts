/**
 * The run that two examples look back on: examples/guests/stray-write.asm,
 * recorded into memory. Not an example itself.
 */
import {
  assemble,
  defineScenario,
  machines,
  MemoryStore,
  Recorder,
  TapeReader,
  tapeWriter,
  Timeline,
} from "../mod.ts";

const path = new URL("./guests/stray-write.asm", import.meta.url);
/** The guest's source. */
export const source: string = Deno.readTextFileSync(path);
const address = 0x100000;
/** Addresses of its labels. */
export const symbols: ReadonlyMap<string, bigint> =
  assemble(source, { bits: 64, origin: address }).symbols;

/** Runs the guest to its end under recording and opens the tape. */
export function recordStrayWrite(): { time: Timeline; reason: string } {
  const scenario = defineScenario({
    machine: { cpu: "qemu64", memory: "2MiB" },
    guest: { asm: source, at: address },
  });
  const kernel = machines.create(scenario, new Map(), { uses: [] });
  const store = new MemoryStore();
  const recorder = Recorder.start(kernel, tapeWriter(store), {
    detail: "boundaries",
  });
  const end = kernel.run({ budgetSteps: 1_000_000 });
  recorder.finish();
  const factory = machines.factory({ uses: [] });
  return {
    time: Timeline.open(TapeReader.open(store), factory),
    reason: end.reason ?? end.kind,
  };
}
