/**
 * Services between the simulated CPU and its plugins. The executor provides
 * `HardwareAccess`; the others are provided by plugins (mmu, decoder, vmx or
 * svm, lapic or pic8259) and bound late by the executor into each CpuContext.
 */
import { defineService } from "../core/service.ts";
import type { CpuContext } from "./context.ts";
import type { CpuModel } from "./arch/models.ts";
import type { Layout } from "./layout.ts";
import type { PhysicalMemory } from "./physical.ts";
import type {
  ExceptionFilter,
  InterruptController,
  Translator,
  VirtualizationPort,
} from "./port.ts";

/** The machine's hardware as participants get it. */
export interface Hardware {
  readonly memory: WebAssembly.Memory;
  readonly layout: Layout;
  readonly model: CpuModel;
  readonly physical: PhysicalMemory;
  readonly cpus: readonly CpuContext[];
  /** Ends the engine's silent-access grants of one linear page or of all. */
  dropGrants(cpu: number, linearPage?: number): void;
  /** Level of the INTR line from the interrupt controller to a vCPU. */
  setInterruptLine(cpu: number, asserted: boolean): void;
  /** vCPU that has the turn: whose instruction runs, whose access a device sees. */
  turn(): number;
  /** vCPU whose turn is next at this boundary: `turn()`, unless that one's is over. */
  nextTurn(): number;
  /**
   * Latches an NMI or INIT (bits of EventRequest). Another vCPU than the one
   * that has the turn takes it when its turn comes.
   */
  request(cpu: number, event: number): void;
  /**
   * Sends a start-up IPI (SDM 3A §8.4): a vCPU that waits for one starts at
   * `vector` << 12 in its next turn; any other ignores it.
   */
  startUp(cpu: number, vector: number): void;
  /**
   * Called once, in load order, when the guest image lies in RAM and the vCPUs
   * hold their initial state, before the first step of a fresh machine.
   */
  onStart(handler: () => void): void;
  /** Called after state pages were replaced: drop what was derived from them. */
  onRestored(handler: () => void): void;
}
/** Capability to the hardware: everything a participant of the CPU may touch. */
export const HardwareAccess = defineService<Hardware>("cpu.hardware", {
  doc: "Memory, vCPUs and request lines",
});

/** Provided by the mmu plugin. */
export const Translation = defineService<Translator>("cpu.translation", {
  doc: "Address translation for the CPU",
});
/** Provided by vmx or svm. */
export const Virtualization = defineService<VirtualizationPort>(
  "cpu.virtualization",
  { doc: "The CPU's virtualization extensions" },
);
/** Provided by the interrupt controller next to the vCPU (lapic; else pic8259). */
export const Interrupts = defineService<InterruptController>("cpu.interrupts", {
  doc: "The interrupt controller next to the vCPU",
});
/** Provided by who stands outside the guest and filters its exceptions. */
export const ExceptionFiltering = defineService<ExceptionFilter>(
  "cpu.exception-filter",
  { doc: "Looks at the bare machine's exceptions before the guest does" },
);
