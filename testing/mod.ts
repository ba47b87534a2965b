/**
 * `vmtape/testing`: the conformance kit for plugin authors. Give it the plugin
 * and a machine in which it has something to do; it checks what the laws ask
 * of every plugin, so that authors need not test it themselves:
 *
 * - docs, event codecs, upcasts, cell codecs;
 * - options: every choice loads and is deterministic;
 * - twin run: two runs are equal fact by fact, with traps for clocks, entropy
 *   and the like;
 * - restore: from states along the way, in fresh and in used machines, the run
 *   goes on equally;
 * - tape: a full recording replays frame by frame on a fresh machine;
 * - load order: the list's order doesn't matter;
 * - observer: adding it changes no fact and no state;
 * - coverage: every declared event was emitted, so the machine tests something.
 *
 * ```ts
 * Deno.test("my plugin conforms", () => {
 *   assertConforms({ plugin: mine }, { load, plugins, steps: 10_000 });
 * });
 * ```
 */
import { messageOf, RandomStream } from "../core/mod.ts";
import type { Kernel, PluginUse } from "../core/mod.ts";
import { ConformanceError } from "./report.ts";
import type { CheckName, ConformanceReport, TestMachine } from "./report.ts";
import { difference, drive } from "./run.ts";
import type { Shown } from "./run.ts";
import {
  checkBlob,
  checkCells,
  checkDocs,
  checkEvents,
  checkUpcasts,
  collector,
} from "./static_checks.ts";

import { checkTape } from "./tape_check.ts";

export { CHECKS, ConformanceError } from "./report.ts";
export type {
  CheckName,
  ConformanceReport,
  Finding,
  TestInput,
  TestMachine,
} from "./report.ts";
export { ForbiddenCall, withTraps } from "./traps.ts";

/** Orders of the plugin list that are tried. */
const SHUFFLES = 4;
/** Values of one option that are tried. */
const CHOICES = 8;
const DEFAULT_RESTORES = 8;

type Add = (check: CheckName, message: string) => void;

/** Runs all checks on one plugin. */
export function checkPlugin(
  use: PluginUse,
  machine: TestMachine,
): ConformanceReport {
  const { plugin } = use;
  const { findings, add } = collector();
  checkDocs(plugin, add);
  checkEvents(plugin, add);
  checkUpcasts(plugin, machine.oldPayloads ?? {}, add);
  checkCells(plugin, add);
  const tried = attempt("twin-run", add, () => checkRuns(use, machine, add));
  attempt("tape", add, () => checkTape(use, machine, add));
  attempt("options", add, () => checkOptions(use, machine, add));
  attempt("load-order", add, () => checkLoadOrder(use, machine, add));
  if (plugin.role === "observer") {
    attempt("observer", add, () => checkObserver(use, machine, add));
  }
  const counts = tried?.straight.stream.counts ?? new Map<string, number>();
  const emitted = new Map(
    plugin.emits.map(({ name }) => [name, counts.get(name) ?? 0]),
  );
  for (const event of plugin.emits) {
    const rare = machine.rare?.includes(event) === true;
    if (emitted.get(event.name) === 0 && !rare) {
      add(
        "coverage",
        `event ${event.name}: never emitted in this machine, provoke it or ` +
          `list it as rare`,
      );
    }
  }
  return {
    plugin: plugin.name,
    findings,
    steps: tried?.straight.kernel.moment.step ?? 0,
    emitted,
    restores: tried?.restores ?? 0,
  };
}

/**
 * Runs all checks.
 * @throws ConformanceError listing everything found
 */
export function assertConforms(
  use: PluginUse,
  machine: TestMachine,
): ConformanceReport {
  const report = checkPlugin(use, machine);
  if (report.findings.length > 0) throw new ConformanceError(report);
  return report;
}

function attempt<T>(check: CheckName, add: Add, body: () => T): T | undefined {
  try {
    return body();
  } catch (thrown) {
    add(check, messageOf(thrown));
    return undefined;
  }
}

function load(machine: TestMachine, uses: readonly PluginUse[]): Kernel {
  return machine.load(uses);
}

/** Twin run and restores. */
function checkRuns(
  use: PluginUse,
  machine: TestMachine,
  add: Add,
): { readonly straight: Shown; readonly restores: number } {
  const uses = [...machine.plugins, use];
  const count = machine.restores ?? DEFAULT_RESTORES;
  // Odd distances, so that periodic behaviour is met at all its phases.
  const saveAt = Array.from(
    { length: count },
    (_, i) => Math.floor(((i + 0.37) * machine.steps) / count),
  );
  const straight = drive(load(machine, uses), machine);
  const twin = drive(load(machine, uses), machine, undefined, saveAt);
  const differs = difference(straight, twin);
  if (differs !== undefined) {
    add(
      "twin-run",
      `two runs of the same machine differ: ${differs}, keep all state in ` +
        `cells and take nothing from outside`,
    );
  }
  for (const { keyframe } of twin.saved) {
    const blobs = [...keyframe.cells, ...keyframe.observers];
    const blob = blobs.find(({ plugin }) => plugin === use.plugin.name);
    if (blob === undefined || use.plugin.role === "observer") continue;
    checkBlob(
      use.plugin.state,
      blob.bytes,
      `cells at step ${keyframe.step}`,
      add,
    );
  }
  attempt("restore", add, () => checkRestores(uses, machine, twin, add));
  return { straight, restores: 2 * twin.saved.length };
}

/** Into a fresh machine, and into one that has been elsewhere. */
function checkRestores(
  uses: readonly PluginUse[],
  machine: TestMachine,
  twin: Shown,
  add: Add,
): void {
  const used = load(machine, uses);
  drive(used, machine);
  for (const saved of twin.saved) {
    for (const kind of ["fresh", "used"] as const) {
      const kernel = kind === "fresh" ? load(machine, uses) : used;
      kernel.restore(saved.keyframe);
      const differs = difference(
        twin,
        drive(kernel, machine, saved.inputs),
        saved,
      );
      if (differs !== undefined) {
        add(
          "restore",
          `restored at step ${saved.keyframe.step} into a ${kind} machine, ` +
            `the run goes on differently: ${differs}, keep all state in cells ` +
            `and drop what derives from them in onRestored`,
        );
        return;
      }
    }
  }
}

/** Every word of a choice, both truth values, edges of numbers. */
function checkOptions(use: PluginUse, machine: TestMachine, add: Add): void {
  for (const [name, field] of Object.entries(use.plugin.options)) {
    const words = field.signature === "bool" ||
      field.signature.startsWith("oneOf(");
    if (!words) continue;
    for (const value of field.samples.slice(0, CHOICES)) {
      const subject = `option ${name} = ${field.toText(value)}`;
      const options = { ...use.options, [name]: field.toJson(value) };
      const uses = [...machine.plugins, { ...use, options }];
      attempt(
        "options",
        (check, message) => add(check, `${subject}: ${message}`),
        () => {
          const one = drive(load(machine, uses), machine);
          const differs = difference(one, drive(load(machine, uses), machine));
          if (differs !== undefined) {
            add("options", `${subject}: two runs differ: ${differs}`);
          }
        },
      );
    }
  }
}

function checkLoadOrder(use: PluginUse, machine: TestMachine, add: Add): void {
  const uses = [...machine.plugins, use];
  const plain = drive(load(machine, uses), machine);
  const random = new RandomStream(1n, "load-order");
  for (let n = 0; n < SHUFFLES; n++) {
    const shuffled = [...uses];
    for (let i = shuffled.length - 1; i > 0; i--) {
      const j = random.below(i + 1);
      [shuffled[i], shuffled[j]] = [shuffled[j], shuffled[i]];
    }
    const kernel = load(machine, shuffled);
    const list = shuffled.map(({ plugin }) => plugin.name).join(", ");
    const order = (one: Kernel) => one.plugins.map((p) => p.name).join(", ");
    const wanted = order(plain.kernel);
    if (order(kernel) !== wanted) {
      add("load-order", `listed as ${list}: loads as ${order(kernel)}`);
    }
    const differs = difference(plain, drive(kernel, machine));
    if (differs !== undefined) {
      add("load-order", `listed as ${list}: ${differs}`);
      return;
    }
  }
}

function checkObserver(use: PluginUse, machine: TestMachine, add: Add): void {
  const without = drive(load(machine, machine.plugins), machine);
  const watched = drive(load(machine, [...machine.plugins, use]), machine);
  const differs = difference(without, watched, undefined, false);
  if (differs !== undefined) {
    add(
      "observer",
      `the machine runs differently when watched: ${differs}, use observable ` +
        `services only to read`,
    );
  }
}
