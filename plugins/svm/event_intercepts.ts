/**
 * Intercepts of what is no instruction (APM 2 §15.13, §15.14, table C-1): each
 * event with its intercept bit and what the #VMEXIT reports. One table; nothing
 * else decides whether such an event exits. The exit code is the bit's number.
 *
 * Exceptions are 32 rows of one shape: bit and code follow from the vector.
 */
import { EventRequest } from "../../cpu/layout.ts";
import type { Vcpu } from "../../cpu/vcpu.ts";
import { InterceptBit as B } from "./controls.ts";
import { intercepted } from "./scratch.ts";

/** One event. */
export interface EventIntercept {
  /** InterceptBit, the exit code too. */
  readonly bit: number;
  readonly manual: string;
  /** EXITINFO1 where it is the same each time. */
  readonly info1?: bigint;
  /** EventRequest bit that stays set: the event waits for the host's STGI. */
  readonly pending?: number;
}

/** The events. */
export const EVENT_INTERCEPTS = {
  /** Stays pending in the interrupt controller. */
  intr: { bit: B.Intr, manual: "APM 2 §15.13.1" },
  nmi: {
    bit: B.Nmi,
    manual: "APM 2 §15.13.2, table 15-13",
    pending: EventRequest.Nmi,
  },
  // Every SMI here is external: bit 0 of EXITINFO1.
  smi: {
    bit: B.Smi,
    manual: "APM 2 §15.13.3, table 15-14",
    pending: EventRequest.Smi,
    info1: 1n,
  },
  init: {
    bit: B.Init,
    manual: "APM 2 §15.13.4, table 15-12",
    pending: EventRequest.Init,
  },
  /** Stays pending in V_IRQ. */
  vintr: { bit: B.Vintr, manual: "APM 2 §15.13.5" },
  taskSwitch: { bit: B.TaskSwitch, manual: "APM 2 §15.14.1" },
  shutdown: { bit: B.Shutdown, manual: "APM 2 §15.14.3" },
} as const satisfies Record<string, EventIntercept>;

/** An event of the table. */
export type EventName = keyof typeof EVENT_INTERCEPTS;
/** The table, or a test's variant of it. */
export type EventTable = Readonly<Record<EventName, EventIntercept>>;

/** The event's row if the running guest's intercepts make an exit of it. */
export function eventExit(
  v: Vcpu,
  event: EventName,
  table: EventTable = EVENT_INTERCEPTS,
): EventIntercept | undefined {
  const row = table[event];
  return intercepted(v, row.bit) ? row : undefined;
}
