/**
 * L0's state of one vCPU and what its parts share: physical memory, the two
 * VMCSs that hardware runs (vmcs01 for L1, vmcs02 for L2), the VMCS that L1
 * believes in (vmcs12), and L1's view of the capabilities.
 */
import type { CpuContext } from "../../cpu/context.ts";
import type { RootOperations, VmxCapabilities } from "../vmx/api.ts";
import { Vmcs } from "../vmx/api.ts";
import type { ExceptionWatcher, NestedExtension } from "./api.ts";
import type { PagePool } from "./memory.ts";
import type { ShadowTables } from "./shadow.ts";

/** No VMXON region or current VMCS of L1. */
export const NO_POINTER = 0xffff_ffff_ffff_ffffn;

/** Cells of one vCPU. */
export interface L0Cells {
  /** Physical addresses of L0's own structures. */
  vmxonRegion: number;
  vmcs01: number;
  vmcs02: number;
  ept01: number;
  msrBitmap01: number;
  msrBitmap02: number;
  /** Exceptions of L1 that exit, for their watcher. */
  exceptionBitmap: number;
  /** L1's VMXON region, NO_POINTER outside VMX operation. */
  vmxon12: bigint;
  /** L1's current VMCS, NO_POINTER for none. */
  vmptr12: bigint;
  /** L1's IA32_FEATURE_CONTROL. */
  featureControl: bigint;
  /** L2 runs (or its exit is being dealt with). */
  inL2: boolean;
  /** View in force for L2. */
  view: number;
  /** Step at which L2 was entered last, and RFLAGS.RF then. */
  entryStep: number;
  entryRf: boolean;
}

/** Everything that L0's parts work with, for one vCPU. */
export interface L0 {
  readonly cpu: CpuContext;
  readonly cells: L0Cells;
  readonly pool: PagePool;
  readonly shadows: ShadowTables;
  /** What L1 is offered. */
  readonly capabilities: VmxCapabilities;
  readonly extension: NestedExtension | undefined;
  /** Who looks at L1's exceptions, if somebody does. */
  readonly watcher: ExceptionWatcher | undefined;
  /** Bytes of memory that L1 has. */
  readonly guestBytes: number;
  /** Host-physical page that L1's accesses to L0's memory land on: unclaimed. */
  readonly nowhere: number;
  readonly operations: RootOperations;
  /** Ends the machine. */
  stop(reason: string, exitCode?: number): void;
}

/** L1's current VMCS. */
export function vmcs12Of(l0: L0): Vmcs {
  return new Vmcs(l0.cpu.physical, Number(l0.cells.vmptr12));
}

/**
 * L1's guest-physical page as a host-physical one. Identity, except that L0's
 * memory does not exist for L1 (reads all ones, as natively above RAM).
 */
export function hostPage(l0: L0, page: number): number {
  const { ramPages } = l0.cpu.physical;
  return page >= l0.guestBytes / 4096 && page < ramPages ? l0.nowhere : page;
}
