/**
 * Virtual time: steps, each of `pace` nanoseconds, plus idle time. The only
 * clock that plugins see; nothing here looks at the host's.
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

/** What keeps the time of a machine: its executor. */
interface TimeKeeper {
  readonly pace?: number;
  step(): number;
  idle(): number;
  setIdle(nanoseconds: number): void;
}

/** An executor's time; zero as long as there is none. */
export class VirtualTime implements Clock {
  executor: TimeKeeper | undefined;

  now(): number {
    return this.timeOf(this.step());
  }
  step(): number {
    return this.executor?.step() ?? 0;
  }
  /** Virtual time of a step since the machine last idled. */
  timeOf(step: number): number {
    const { executor } = this;
    return step * (executor?.pace ?? 1) + (executor?.idle() ?? 0);
  }
  /** The first step at or after a virtual time if the machine doesn't idle. */
  stepOf(time: number): number {
    const { executor } = this;
    return Math.ceil((time - (executor?.idle() ?? 0)) / (executor?.pace ?? 1));
  }
  /** Lets virtual time pass between two steps up to `time`. */
  idleUntil(time: number): void {
    const { executor } = this;
    executor?.setIdle(executor.idle() + time - this.now());
  }
}

/** The kernel provides it; `context.clock` is the same without a need. */
export const ClockService: ServiceToken<Clock, true> = defineService<Clock>(
  "kernel.clock",
  {
    doc: "Virtual time and the step counter",
    observable: true,
  },
);
