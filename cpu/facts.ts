/**
 * The facts that the CPU itself states (design §1), and the port by which
 * engines, loop and procedures state them. Order within one instruction: walks
 * and stores as they happen, then changed general registers in ascending
 * number, then `cpu.retired`; the same on every engine (design law 2).
 */
import { defineEvent, type EventToken } from "../core/event.ts";
import { bool, text, u32, u64, u8 } from "../core/fields.ts";

/** Hot: one retired instruction or REP iteration. */
export const CpuRetired = defineEvent({
  name: "cpu.retired",
  version: 1,
  kind: "fact",
  hot: true,
  doc: "An instruction, or one iteration of a REP instruction, retired",
  fields: { cpu: u8("vCPU"), rip: u64("Offset of the instruction in CS") },
});

/** Hot: one store. */
export const MemWrote = defineEvent({
  name: "mem.wrote",
  version: 1,
  kind: "fact",
  hot: true,
  doc: "Guest code stored to memory",
  fields: {
    cpu: u8("vCPU"),
    size: u8("Bytes stored, 1 to 8"),
    linear: u64("Linear address"),
    physical: u64("Host-physical address of the first byte"),
    value: u64("Bytes stored, little-endian, zero-extended"),
    old: u64("Bytes that were there; 0 for a device"),
  },
});

/** Hot: a general register changed. */
export const RegWrote = defineEvent({
  name: "reg.wrote",
  version: 1,
  kind: "fact",
  hot: true,
  doc: "An instruction changed a general register",
  fields: {
    cpu: u8("vCPU"),
    register: u8("Number as encoded: RAX 0 … R15 15"),
    value: u64("New 64-bit value"),
  },
});

/** An exception or software interrupt went through the IDT. */
export const ExceptionDelivered = defineEvent({
  name: "exception.delivered",
  version: 1,
  kind: "fact",
  doc: "An exception or software interrupt was delivered through the IDT",
  fields: {
    cpu: u8("vCPU"),
    vector: u8("Vector"),
    type: u8("Interruption type as in the VMCS (SDM 3C table 25-17)"),
    errorCode: u32("Error code pushed; 0xffffffff for none"),
    rip: u64("RIP of the interrupted code"),
    cpl: u8("CPL before delivery"),
    payload: u64("#PF: linear address (new CR2). #DB: DR6 bits. Else 0"),
  },
});

/** A hardware interrupt or NMI went through the IDT. */
export const InterruptDelivered = defineEvent({
  name: "interrupt.delivered",
  version: 1,
  kind: "fact",
  doc: "An external interrupt or NMI was delivered through the IDT",
  fields: {
    cpu: u8("vCPU"),
    vector: u8("Vector"),
    nmi: bool("It was the non-maskable interrupt"),
    rip: u64("RIP of the interrupted code"),
    cpl: u8("CPL before delivery"),
  },
});

/** CR0, CR3, CR4 or EFER changed. */
export const ControlWrote = defineEvent({
  name: "cpu.control-wrote",
  version: 1,
  kind: "fact",
  doc: "A control register, XCR0, EFER or PKRU was written",
  fields: {
    cpu: u8("vCPU"),
    register: u8("0, 2, 3, 4, 8: CRn; 16: EFER; 17: XCR0; 18: PKRU"),
    old: u64("Value before"),
    value: u64("Value after"),
  },
});

/** WRMSR retired. */
export const MsrWrote = defineEvent({
  name: "cpu.msr-wrote",
  version: 1,
  kind: "fact",
  doc: "WRMSR changed a model-specific register",
  fields: {
    cpu: u8("vCPU"),
    index: u32("MSR index"),
    value: u64("Value written"),
  },
});

/** Port input or output. */
export const PortAccessed = defineEvent({
  name: "io.port-accessed",
  version: 1,
  kind: "fact",
  doc: "IN or OUT reached a device or an unclaimed port",
  fields: {
    cpu: u8("vCPU"),
    port: u32("Port number"),
    size: u8("Bytes"),
    output: bool("OUT (else IN)"),
    value: u32("Value written or read"),
  },
});

/** HLT, shutdown, wait-for-SIPI and back. */
export const ActivityChanged = defineEvent({
  name: "cpu.activity-changed",
  version: 1,
  kind: "fact",
  doc: "The vCPU's activity state changed (SDM 3C §25.4.2)",
  fields: {
    cpu: u8("vCPU"),
    activity: u8("0 active, 1 HLT, 2 shutdown, 3 wait-for-SIPI"),
  },
});

/** What is not modelled ended the machine. */
export const NotModelledMet = defineEvent({
  name: "cpu.not-modelled",
  version: 1,
  kind: "fact",
  doc: "The guest used something that this machine does not model",
  fields: {
    cpu: u8("vCPU"),
    rip: u64("Where"),
    what: text("What is missing"),
    manual: text("Where the manual defines it"),
  },
});

/** Every fact declared here, for plugins' `emits`. */
export const CPU_FACTS = [
  CpuRetired,
  MemWrote,
  RegWrote,
  ExceptionDelivered,
  InterruptDelivered,
  ControlWrote,
  MsrWrote,
  PortAccessed,
  ActivityChanged,
  NotModelledMet,
] as const;

/** How the CPU states facts. Implemented by the executor over ring and bus. */
export interface FactPort {
  /** Hot facts are wanted. Constant within a slice. */
  readonly observed: boolean;
  retired(cpu: number, rip: bigint): void;
  memoryWrote(
    cpu: number,
    linear: bigint,
    physical: number,
    size: number,
    value: bigint,
    old: bigint,
  ): void;
  registerWrote(cpu: number, register: number, value: bigint): void;
  /** Whether anyone wants this event; ask before building a payload. */
  wants<P>(event: EventToken<P>): boolean;
  /** Drains the ring first, so that order is kept. */
  emit<P>(event: EventToken<P>, payload: P): void;
}
