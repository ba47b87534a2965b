/** Fact of the IOAPIC. */
import { bool, defineEvent, u8 } from "../../core/mod.ts";

/** The IOAPIC sent an interrupt message. */
export const IoapicSent = defineEvent({
  name: "ioapic.sent",
  version: 1,
  kind: "fact",
  doc: "The IOAPIC sent an interrupt message to the local APICs",
  fields: {
    pin: u8("0 to 23"),
    vector: u8("Vector"),
    mode: u8("Delivery mode"),
    level: bool("Level-triggered"),
  },
});
