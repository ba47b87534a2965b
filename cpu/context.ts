/**
 * Everything one vCPU's procedures and engines work with: registers, memory,
 * model, port. One CpuContext per vCPU, made by the machine; procedures get it
 * as their first argument and keep nothing themselves.
 */
import type { LinearAccess } from "./access.ts";
import type { CpuModel } from "./arch/models.ts";
import type { FactPort } from "./facts.ts";
import type { Layout } from "./layout.ts";
import type { PhysicalMemory } from "./physical.ts";
import type {
  DeliveredEvent,
  DeviceBus,
  ExceptionFilter,
  InterruptController,
  Translator,
  VirtualizationPort,
} from "./port.ts";
import type { Vcpu } from "./vcpu.ts";

/** See the file header. */
export interface CpuContext {
  readonly index: number;
  readonly layout: Layout;
  /** Registers. */
  readonly v: Vcpu;
  readonly model: CpuModel;
  /** Linear and segmented access with faults. */
  readonly access: LinearAccess;
  /** RAM and memory-mapped devices by host-physical address. */
  readonly physical: PhysicalMemory;
  readonly translator: Translator;
  readonly devices: DeviceBus;
  readonly interrupts: InterruptController;
  /** The virtualization plugin in use, if the machine has one. */
  readonly virtualization: VirtualizationPort | undefined;
  /** Who looks at exceptions before the guest does, if somebody does. */
  readonly exceptionFilter?: ExceptionFilter;
  readonly facts: FactPort;
  /** Virtual nanoseconds of a step; 1 if not given. */
  readonly pace?: number;
  /** Virtual time in ns now (steps × pace + idle). */
  time(): number;
  /** Next 64 random bits of the machine's seeded stream (RDRAND, RDSEED). */
  random(): bigint;

  // --- within one instruction or delivery
  /** Blocking by STI or MOV SS with which the running `call` row began. */
  shadow?: number;
  /** RIP after this instruction; procedures may replace it. Set by the loop before a call. */
  nextRip: bigint;
  /** Makes engines return to the loop at the next boundary. */
  attention: boolean;
  /** Event being delivered through the IDT, for double faults and IDT-vectoring. */
  delivering: DeliveredEvent | undefined;
  /** Delivers `v.pending` or an explicit event through the IDT; used by VM entry injection. */
  deliver(event: DeliveredEvent, payload: bigint): void;
  /** Ends the machine with a message naming what is missing and where the manual defines it. */
  notModelled(what: string, manual: string): never;
}
