/**
 * The same guest as in 03 on a CPU without mode-based execute control, where
 * the `mbec` plugin carries it: L0 runs L2 on shadow hierarchies, one for each
 * privilege, and switches between them. Both strategies, side by side.
 *
 *   deno run --allow-read=. examples/04-mbec-emulated.ts
 *
 * `trap-all` makes every way into the kernel exit; `entry-page-nx` withholds
 * the pages of the kernel's entry points from the user view, so that the first
 * fetch of one exits. The guest can't tell them apart.
 */
import { SWITCH_PATH_TITLES } from "../plugins/mbec/api.ts";
import { hvciScene, runScene, type SceneRun, table } from "./guests/scene.ts";

/** The strategies of the plugin. */
export const STRATEGIES = ["trap-all", "entry-page-nx"] as const;

/** Runs the scene under both strategies. */
export function runEmulated(): readonly SceneRun[] {
  const guest = hvciScene(2);
  return STRATEGIES.map((strategy) =>
    runScene(guest, { mbec: strategy, cpu: "haswell-server" })
  );
}

/** Exits and view switches of runs, side by side. */
export function sideBySide(
  titles: readonly string[],
  runs: readonly SceneRun[],
): string {
  const total = (map: ReadonlyMap<number, number>): number =>
    [...map.values()].reduce((sum, n) => sum + n, 0);
  const counted: [string, (run: SceneRun) => number][] = [
    ["steps of the guest", (run) => run.end.step],
    ["VM exits in hardware", (run) => run.seen.hardwareExits],
    ["of them given to L1", (run) => run.seen.exits.length],
    ["dealt with by L0", (run) => run.seen.handled],
    ["modelled cost, host cycles", (run) => run.seen.cost],
    ["view switches", (run) => total(run.seen.switches)],
  ];
  const rows = counted.map(([title, value]) => [
    title,
    ...runs.map((run) => value(run).toString()),
  ]);
  SWITCH_PATH_TITLES.forEach((title, path) => {
    const counts = runs.map((run) => run.seen.switches.get(path) ?? 0);
    if (counts.some((n) => n > 0)) {
      rows.push([`  by ${title}`, ...counts.map(String)]);
    }
  });
  return table([["", ...titles], ...rows]);
}

if (import.meta.main) {
  const runs = runEmulated();
  console.log(runs[0].serial);
  console.log(sideBySide(STRATEGIES, runs));
}
