/**
 * The tape check: a recording of the machine replays, frame by frame, on a
 * freshly loaded one; for a participant all its facts are on it in full, for
 * an observer the tape is the same as without it.
 */
import {
  formatDivergence,
  MemoryStore,
  Recorder,
  TapeReader,
  tapeWriter,
  verifyTape,
} from "../core/mod.ts";
import type { CheckName, TestMachine } from "./report.ts";
import type { PluginUse } from "../core/mod.ts";
import { feed } from "./run.ts";
import { withTraps } from "./traps.ts";

/** Tight, so that short runs have digests and keyframes to compare. */
const CADENCE = {
  interval: 256,
  digestStepsPerPage: 1,
  keyframeStepsPerPage: 4,
};

function record(
  machine: TestMachine,
  uses: readonly PluginUse[],
): MemoryStore {
  const kernel = machine.load(uses);
  const store = new MemoryStore();
  const recorder = Recorder.start(kernel, tapeWriter(store), {
    detail: "full",
    cadence: CADENCE,
  });
  withTraps(() => feed(kernel, machine, machine.inputs ?? []));
  recorder.finish();
  return store;
}

/** Records and replays. */
export function checkTape(
  use: PluginUse,
  machine: TestMachine,
  add: (check: CheckName, message: string) => void,
): void {
  const uses = [...machine.plugins, use];
  const store = record(machine, uses);
  const tape = TapeReader.open(store, { verify: true });
  const result = verifyTape(tape, () => machine.load(uses));
  if (result.status !== 0) {
    const why = result.incompatible ??
      (result.divergence === undefined
        ? `status ${result.status} ${result.lost.join(", ")}`
        : formatDivergence(result.divergence));
    add("tape", `a recording doesn't replay: ${why}`);
  }
  if (use.plugin.role !== "observer") return;
  const without = verifyTape(tape, () => machine.load(machine.plugins));
  if (without.status !== 0) {
    add("tape", "a recording made while watched doesn't replay unwatched");
  }
}
