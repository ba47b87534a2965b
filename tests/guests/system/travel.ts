/**
 * Goes along a tape to the places that a session noted, in another order than
 * they were recorded in, and compares the machine with what it was then.
 */
import { machines, Timeline } from "../../../mod.ts";
import { withTape } from "./guest.ts";
import type { Mark } from "./session.ts";

/** @returns what was seen @throws Error if a state differs */
export function travelAlong(path: string, marks: readonly Mark[]): string {
  return withTape(path, (tape) => {
    const time = Timeline.open(tape, machines.factory({ uses: [] }));
    // From the last to the first and up again, by every second one.
    const order = [...marks].reverse().concat(
      marks.filter((_, i) => i % 2 === 0),
    );
    for (const { step, state } of order) {
      time.seek({ step, ordinal: 0 });
      if (time.kernel.stateDigest() !== state) {
        throw new Error(`at step ${step} the state is another than then`);
      }
      time.step();
      time.back();
      if (time.kernel.stateDigest() !== state) {
        throw new Error(`one step back to ${step} gives another state`);
      }
    }
    return `${order.length} seeks and steps back, each to the state as it was`;
  });
}
