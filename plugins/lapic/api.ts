/** Facts of the local APICs, and the bus by which the IOAPIC reaches them. */
import { bool, defineEvent, defineService, u32, u8 } from "../../core/mod.ts";

/** An interrupt became pending in the IRR. */
export const LapicAccepted = defineEvent({
  name: "lapic.accepted",
  version: 1,
  kind: "fact",
  doc: "The local APIC accepted an interrupt into its IRR",
  fields: {
    cpu: u8("vCPU"),
    vector: u8("Vector"),
    level: bool("Level-triggered"),
  },
});

/** The timer expired. */
export const LapicTimerExpired = defineEvent({
  name: "lapic.timer-expired",
  version: 1,
  kind: "fact",
  doc: "The local APIC timer reached zero",
  fields: { cpu: u8("vCPU"), lvt: u32("LVT timer register then") },
});

/** Delivery modes of LVT, ICR and redirection entries (SDM 3A §11.5.1). */
export const DeliveryMode = {
  Fixed: 0,
  LowestPriority: 1,
  Smi: 2,
  Nmi: 4,
  Init: 5,
  StartUp: 6,
  ExtInt: 7,
} as const;

/** An interrupt message to local APICs (SDM 3A §11.6.2, §11.10). */
export interface ApicMessage {
  /** 8 bits of xAPIC and IOAPIC, 32 of x2APIC. */
  readonly destination: number;
  /** The destination has 32 bits: only all of them set mean everybody. */
  readonly wide: boolean;
  /** Destination mode: logical, else physical. */
  readonly logical: boolean;
  /** A DeliveryMode. */
  readonly mode: number;
  readonly vector: number;
  readonly level: boolean;
}

/** What the IOAPIC sees of the local APICs. */
export interface ApicBus {
  send(message: ApicMessage): void;
  /** Calls `handler` when a level-triggered interrupt was ended by EOI. */
  onEndOfInterrupt(handler: (vector: number) => void): void;
}
/** Token of the bus. */
export const Apics = defineService<ApicBus>("lapic.bus", {
  doc: "Interrupt messages to the local APICs, and their EOI broadcasts",
});
