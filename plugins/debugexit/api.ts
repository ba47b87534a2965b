/** Event of the debug-exit port. */
import { defineEvent, u32 } from "../../core/mod.ts";

/** The guest ended the machine. */
export const DebugExitWritten = defineEvent({
  name: "debugexit.written",
  version: 1,
  kind: "fact",
  doc: "The guest wrote to the debug-exit port, which ends the machine",
  fields: { value: u32("Value written; the exit code is (value << 1) | 1") },
});
