/** Facts of ACPI power management. */
import { defineEvent, u32, u8 } from "../../core/mod.ts";

/** The guest asked for a sleep state. */
export const AcpiSlept = defineEvent({
  name: "acpi.slept",
  version: 1,
  kind: "fact",
  doc: "The guest wrote SLP_EN: the machine goes to sleep or off",
  fields: { type: u8("SLP_TYP: 0 off (S5), 1 suspend to RAM (S3)") },
});

/** The machine woke from S3. */
export const AcpiWoke = defineEvent({
  name: "acpi.woke",
  version: 1,
  kind: "fact",
  doc: "The machine woke from S3 and starts at the waking vector",
  fields: { vector: u32("Physical address from the FACS") },
});
