/**
 * The kernel's own events: the machine's life and the inputs that every
 * machine understands.
 */
import { bytes, text, u32, u53, u64, u8 } from "./fields.ts";
import { maybe } from "./composite.ts";
import { defineEvent } from "./event.ts";
import type { EventToken } from "./event.ts";

/** First input of every tape. */
export const MachineStarted = defineEvent({
  name: "machine.started",
  version: 1,
  kind: "input",
  doc: "The machine described by the manifest began to run",
  fields: { manifestHash: bytes("SHA-256 of the manifest's canonical bytes") },
});

/** The host's user pressed Ctrl-C; ends the run. */
export const MachineInterrupted = defineEvent({
  name: "machine.interrupted",
  version: 1,
  kind: "input",
  doc: "The user asked the machine to stop (Ctrl-C)",
  fields: {},
});

/** A debugger or script wrote memory. */
export const MemoryEdited = defineEvent({
  name: "machine.edited-memory",
  version: 1,
  kind: "input",
  doc: "A debugger, script or fork wrote physical memory",
  fields: {
    physicalAddress: u53("First byte written"),
    bytes: bytes("What was written"),
  },
});

/** A debugger or script wrote a register. */
export const RegisterEdited = defineEvent({
  name: "machine.edited-register",
  version: 1,
  kind: "input",
  doc: "A debugger, script or fork wrote a register",
  fields: {
    vcpu: u8("Index of the vCPU"),
    register: text("Register, as gpr.rax or rip"),
    value: u64("New value"),
  },
});

/** The run ended; nothing runs after it. */
export const MachineStopped = defineEvent({
  name: "machine.stopped",
  version: 1,
  kind: "fact",
  doc: "The machine ended",
  fields: {
    reason: text("Why, in words"),
    exitCode: maybe(u32(), "What the guest wants the process to exit with"),
  },
});

/** Law 8. */
export const MachineStuck = defineEvent({
  name: "machine.stuck",
  version: 1,
  kind: "fact",
  doc: "65,536 faults or exits happened without a step; the machine stops",
  fields: { loop: text("What goes round") },
});

/** Time passed while every vCPU was halted. */
export const MachineIdled = defineEvent({
  name: "machine.idled",
  version: 1,
  kind: "fact",
  doc: "All vCPUs were halted and virtual time jumped to the next timer",
  fields: {
    from: u53("Virtual time before, ns"),
    to: u53("Virtual time after, ns"),
  },
});

/** All of the kernel's events. */
export const MACHINE_EVENTS: readonly EventToken[] = [
  MachineStarted,
  MachineInterrupted,
  MemoryEdited,
  RegisterEdited,
  MachineStopped,
  MachineStuck,
  MachineIdled,
];
