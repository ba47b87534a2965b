/**
 * Goes along a tape to the places that a session noted, in another order than
 * they were recorded in, and compares the machine with what it was then.
 */
import { FileSource, machines, TapeReader, Timeline } from "../../../mod.ts";
import type { Mark } from "./session.ts";

const timelines = new Map<string, Timeline>();

/** A tape's timeline on T0: one for all checks, so that its keyframes serve all. */
export function timelineOf(path: string): Timeline {
  let time = timelines.get(path);
  if (time === undefined) {
    const tape = TapeReader.open(new FileSource(path));
    time = Timeline.open(tape, machines.factory({ engine: "t0", uses: [] }));
    timelines.set(path, time);
  }
  return time;
}

/** Whether the console ends as it did then. */
function consoleIs({ kernel }: Timeline, shown: string): boolean {
  const tail = machines.serial(kernel)!.tail();
  return tail.length > 0 && shown.endsWith(String.fromCharCode(...tail));
}

/** @returns what was seen @throws Error if a state differs */
export function travelAlong(path: string, marks: readonly Mark[]): string {
  const time = timelineOf(path);
  // From the last to the first and up again, by every second one.
  const order = [...marks].reverse().concat(
    marks.filter((_, i) => i % 2 === 0),
  );
  for (const { step, state, shown } of order) {
    time.seek({ step, ordinal: 0 });
    if (time.kernel.stateDigest() !== state) {
      throw new Error(`at step ${step} the state is another than then`);
    }
    if (!consoleIs(time, shown)) {
      throw new Error(`at step ${step} the console is another than then`);
    }
    time.step();
    time.back();
    if (time.kernel.stateDigest() !== state) {
      throw new Error(`one step back to ${step} gives another state`);
    }
  }
  return `${order.length} seeks and steps back, state and console as they were`;
}
