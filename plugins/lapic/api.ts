/** Facts of the local APIC. */
import { bool, defineEvent, u32, u8 } from "../../core/mod.ts";

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
