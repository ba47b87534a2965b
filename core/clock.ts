/**
 * Virtual time: steps plus idle time, in nanoseconds. The only clock that
 * plugins see; nothing here looks at the host's.
 */
import { defineService } from "./service.ts";
import type { ServiceToken } from "./service.ts";

/** The machine's own clocks. */
export interface Clock {
  /** Virtual time in nanoseconds: steps plus idle time. */
  now(): number;
  /** Steps completed. */
  step(): number;
}

/** The kernel provides it; `context.clock` is the same without a need. */
export const ClockService: ServiceToken<Clock, true> = defineService<Clock>(
  "kernel.clock",
  {
    doc: "Virtual time and the step counter",
    observable: true,
  },
);
