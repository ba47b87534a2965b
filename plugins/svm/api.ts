/**
 * What the svm plugin shows: facts of VMRUN, #VMEXIT and failed VMRUNs, the
 * `SvmRoot` service by which a root owner (a hypervisor model) takes the host's
 * place, and its tables for tools that explain a recording.
 */
import {
  bool,
  defineEvent,
  defineService,
  u32,
  u64,
  u8,
} from "../../core/mod.ts";
import type { CpuContext } from "../../cpu/context.ts";

/** VMRUN succeeded. */
export const SvmEntered = defineEvent({
  name: "svm.entered",
  version: 1,
  kind: "fact",
  doc: "VMRUN loaded guest state: guest mode begins",
  fields: {
    cpu: u8("vCPU"),
    vmcb: u64("Physical address of the VMCB"),
    asid: u32("Address-space identifier"),
    nestedCr3: u64("nCR3, 0 without nested paging"),
    rip: u64("Guest RIP loaded"),
    injected: u32("EVENTINJ if valid, else 0"),
    owner: bool("Of the root owner, not of guest software"),
  },
});

/** A #VMEXIT happened. */
export const SvmExited = defineEvent({
  name: "svm.exited",
  version: 1,
  kind: "fact",
  doc: "A #VMEXIT saved guest state and restored host state",
  fields: {
    cpu: u8("vCPU"),
    vmcb: u64("Physical address of the VMCB"),
    code: u64("EXITCODE"),
    info1: u64("EXITINFO1"),
    info2: u64("EXITINFO2"),
    intInfo: u32("EXITINTINFO, 0 if not valid"),
    intInfoError: u32("Error code of EXITINTINFO"),
    rip: u64("Guest RIP saved"),
    nextRip: u64("nRIP, 0 if not valid"),
    owner: bool("Of the root owner, not of guest software"),
  },
});

/** VMRUN ended in VMEXIT_INVALID. */
export const SvmEntryFailed = defineEvent({
  name: "svm.entry-failed",
  version: 1,
  kind: "fact",
  doc: "VMRUN ended in VMEXIT_INVALID: the VMCB failed a consistency check",
  fields: {
    cpu: u8("vCPU"),
    vmcb: u64("Physical address of the VMCB"),
    check: u32("1 + position of the failed row in VMRUN_CHECKS"),
    owner: bool("Of the root owner, not of guest software"),
  },
});

/** SVM operations of the root owner on one vCPU. */
export interface SvmRootOperations {
  /**
   * VMRUN with every check; VM_HSAVE_PA must be set. On success the guest's
   * state is loaded when this returns and the owner must return at once;
   * VMEXIT_INVALID comes as another `onExit` after the owner returned.
   * @param vmcb 4-KiB-aligned physical address
   */
  vmrun(vmcb: number): void;
  vmload(vmcb: number): void;
  vmsave(vmcb: number): void;
  invlpga(asid: number, linear: bigint): void;
  /** RDMSR and WRMSR. @returns undefined / false where they would raise #GP */
  rdmsr(index: number): bigint | undefined;
  wrmsr(index: number, value: bigint): boolean;
  /**
   * Says that the owner completed the guest's instruction on its behalf:
   * general registers that it changed since `onExit` are stated, it counts as
   * one step and retires at `rip`, as natively.
   */
  retired(rip: bigint): void;
}

/** A root owner. */
export interface SvmRootOwner {
  /** A #VMEXIT (or VMEXIT_INVALID) of the VMCB that the owner ran. */
  onExit(cpu: CpuContext, operations: SvmRootOperations): void;
}

/** Access to the host's side of SVM. */
export interface SvmRootService {
  /** Becomes the root owner. @throws ConfigError when there is one already */
  bind(owner: SvmRootOwner): void;
  /** Operations outside `onExit`: before the first step. */
  operations(cpu: CpuContext): SvmRootOperations;
}
/** Token of the host's side of SVM. */
export const SvmRoot = defineService<SvmRootService>("svm.root", {
  doc: "Binds the owner of the host's side of SVM",
});

export { Control, Save, SaveSegment, Vmcb, type VmcbView } from "./vmcb.ts";
export {
  EventInfo,
  EventInfoType,
  IntCtl,
  InterceptBit,
  NestedControl,
  SvmMsr,
  TlbControl,
  VirtualExtension,
  VmCr,
} from "./controls.ts";
export { ExitCode, exitCodeTitle } from "./exit_codes.ts";
export {
  firstFailure,
  VMRUN_CHECKS,
  type VmrunCheck,
  type VmrunContext,
} from "./entry_checks.ts";
