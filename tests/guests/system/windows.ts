/**
 * Design law 2 on windows of a guest's run: the reference engine takes over T0's
 * state at places of the run and goes on beside it.
 * Invariant: in each window both make the same facts, in `full` detail, and
 * T0, quiet, comes to the reference's state.
 */
import {
  type EventAt,
  Feeder,
  formatEvent,
  Listener,
  loadForTape,
  machines,
  sameEvent,
} from "../../../mod.ts";
import { timelineOf } from "./travel.ts";

/** Steps of a window. */
const WINDOW = 20_000;

/** What the windows held. */
export interface Windows {
  readonly text: string;
  /** Names of the facts, with how many of each. */
  readonly facts: ReadonlyMap<string, number>;
  /** vCPUs that retired instructions. */
  readonly cpus: ReadonlySet<number>;
}

/** The first difference of two lists of events. */
function difference(
  one: readonly EventAt[],
  other: readonly EventAt[],
): string | undefined {
  const show = (event?: EventAt): string =>
    event === undefined ? "nothing" : formatEvent(event);
  for (let i = 0; i < Math.max(one.length, other.length); i++) {
    const [a, b] = [one[i], other[i]];
    if (a !== undefined && b !== undefined && sameEvent(a, b)) continue;
    return `t0 has ${show(a)}, reference has ${show(b)}`;
  }
  return undefined;
}

/**
 * Compares the engines on the windows that begin at these steps.
 * @throws Error with the first difference, or when there is no window
 */
export function compareWindows(
  path: string,
  starts: readonly number[],
): Windows {
  const time = timelineOf(path);
  const { tape } = time;
  const loaded = loadForTape(
    tape,
    machines.factory({ engine: "reference", uses: [] }),
  );
  if ("incompatible" in loaded) throw new Error(loaded.incompatible);
  const { kernel } = loaded;
  const feeder = new Feeder(kernel, tape);
  const facts = new Map<string, number>();
  const cpus = new Set<number>();
  let windows = 0;
  for (const start of new Set(starts)) {
    const end = start + WINDOW;
    if (end > time.end) continue;
    time.seek({ step: start, ordinal: 0 });
    kernel.restore(time.state());
    feeder.next = tape.inputs.filter(({ step }) => step < start).length;
    const made = time.events(start, end);
    const again: EventAt[] = [];
    kernel.sink = new Listener((event) => void again.push(event));
    feeder.run({ untilStep: end });
    kernel.sink = undefined;
    const wrong = difference(made, again);
    if (wrong !== undefined) throw new Error(`window at ${start}: ${wrong}`);
    time.seek({ step: end, ordinal: 0 });
    if (time.kernel.stateDigest() !== kernel.stateDigest()) {
      throw new Error(`${WINDOW} steps from ${start} the states differ`);
    }
    for (const { event, payload } of made) {
      facts.set(event.name, (facts.get(event.name) ?? 0) + 1);
      if (event.name === "cpu.retired") {
        cpus.add((payload as { readonly cpu: number }).cpu);
      }
    }
    windows++;
  }
  if (windows === 0) throw new Error("no window lies within the run");
  const all = [...facts.values()].reduce((sum, n) => sum + n, 0);
  return {
    text: `${windows} windows of ${WINDOW} steps, ${all} facts equal on both`,
    facts,
    cpus,
  };
}
