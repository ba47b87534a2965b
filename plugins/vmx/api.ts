/**
 * What the vmx plugin shows: its facts, and the `VmxRoot` service by which a
 * root owner (the L0 hypervisor model) takes the place of HOST_RIP.
 *
 * On a VM exit the hardware saves guest state and loads host state by the
 * manual, then calls the owner. The owner runs to completion between steps;
 * its only doors are the VMX operations here, physical memory and MSRs. It ends
 * in `resume` (or a stop of the machine).
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

/** A VM entry succeeded. */
export const VmxEntered = defineEvent({
  name: "vmx.entered",
  version: 1,
  kind: "fact",
  doc: "A VM entry loaded guest state: VMX non-root operation begins",
  fields: {
    cpu: u8("vCPU"),
    vmcs: u64("Physical address of the VMCS"),
    launch: bool("VMLAUNCH (else VMRESUME)"),
    rip: u64("Guest RIP loaded"),
    injected: u32("VM-entry interruption-information field"),
    owner: bool("Entered by the root owner, not by guest software"),
  },
});

/** A VM exit happened. */
export const VmxExited = defineEvent({
  name: "vmx.exited",
  version: 1,
  kind: "fact",
  doc: "A VM exit saved guest state and loaded host state",
  fields: {
    cpu: u8("vCPU"),
    vmcs: u64("Physical address of the VMCS"),
    reason: u32("Exit-reason field; basic reason in bits 15:0"),
    qualification: u64("Exit qualification"),
    rip: u64("Guest RIP saved"),
    instructionLength: u32("VM-exit instruction length, 0 if not valid"),
    instructionInformation: u32("VM-exit instruction information, 0 if none"),
    guestLinear: u64("Guest linear address, 0 if not valid"),
    guestPhysical: u64("Guest-physical address, 0 if not valid"),
    interruptionInfo: u32("VM-exit interruption information, 0 if not valid"),
    interruptionErrorCode: u32("VM-exit interruption error code"),
    idtVectoringInfo: u32("IDT-vectoring information, 0 if not valid"),
    idtVectoringErrorCode: u32("IDT-vectoring error code"),
    owner: bool("Goes to the root owner, not to guest software"),
  },
});

/** A VM entry failed after the checks on controls and host state. */
export const VmxEntryFailed = defineEvent({
  name: "vmx.entry-failed",
  version: 1,
  kind: "fact",
  doc:
    "A VM entry failed: VMfail (error set) or an exit with bit 31 (reason set)",
  fields: {
    cpu: u8("vCPU"),
    vmcs: u64("Physical address of the VMCS"),
    error: u32("VM-instruction error number, 0 for a VM-entry failure exit"),
    reason: u32("Exit-reason field of a VM-entry failure, else 0"),
    qualification: u64("Exit qualification of a VM-entry failure"),
    check: u32("1 + position of the failed row in ENTRY_CHECKS, 0 if none"),
    owner: bool("Entered by the root owner, not by guest software"),
  },
});

/** The current EPTP changed without a VM entry. */
export const VmxEptpSwitched = defineEvent({
  name: "vmx.eptp-switched",
  version: 1,
  kind: "fact",
  doc: "VMFUNC leaf 0 switched the EPT pointer",
  fields: {
    cpu: u8("vCPU"),
    index: u32("Entry of the EPTP list"),
    eptp: u64("New EPT pointer"),
  },
});

/** What a root operation answers: 0 success, −1 VMfailInvalid, else the VM-instruction error. */
export type VmResult = number;
/** VMfailInvalid: there is no current VMCS to hold an error number. */
export const VMFAIL_INVALID = -1;

/** VMX operations of the root owner on one vCPU. */
export interface RootOperations {
  /** Enters VMX operation. Needs CR4.VMXE and valid fixed bits, as VMXON does. */
  vmxon(region: number): VmResult;
  vmxoff(): VmResult;
  vmclear(region: number): VmResult;
  vmptrld(region: number): VmResult;
  /** Physical address of the current VMCS, undefined when there is none. */
  vmptrst(): number | undefined;
  /** @throws RangeError when the field does not exist or there is no VMCS */
  vmread(field: number): bigint;
  /** @throws RangeError when the field can't be written */
  vmwrite(field: number, value: bigint): void;
  /** @param type 1 single context, 2 all */
  invept(type: number, eptp: bigint): VmResult;
  /** @param type 0 address, 1 single context, 2 all, 3 single but globals */
  invvpid(type: number, vpid: number, linear: bigint): VmResult;
  /**
   * VMLAUNCH or VMRESUME, by the VMCS's launch state, with every check. On
   * success the guest's state is loaded when this returns and the owner must
   * return at once. A VM-entry failure comes as another `onExit` after the
   * owner returned.
   */
  resume(): VmResult;
  /** RDMSR and WRMSR. @returns undefined / false where they would raise #GP */
  rdmsr(index: number): bigint | undefined;
  wrmsr(index: number, value: bigint): boolean;
  /**
   * Says that the owner completed the guest's instruction (CPUID, RDMSR …) on
   * its behalf: general registers that the owner changed since `onExit` are
   * stated, it counts as one step and retires at `rip`, as natively.
   */
  retired(rip: bigint): void;
}

/** A root owner. */
export interface RootOwner {
  /** A VM exit (or VM-entry failure) of the current VMCS. See the file header. */
  onExit(cpu: CpuContext, operations: RootOperations): void;
}

/** Access to VMX root operation. */
export interface VmxRootService {
  /** Becomes the root owner. @throws ConfigError when there is one already */
  bind(owner: RootOwner): void;
  /** Root operations outside `onExit`: before the first step. */
  operations(cpu: CpuContext): RootOperations;
}
/** Token of VMX root operation. */
export const VmxRoot = defineService<VmxRootService>("vmx.root", {
  doc: "Binds the owner of VMX root operation",
});

export type { EntryCheck, EntryContext, VmcsView } from "./entry_checks.ts";
export {
  CheckGroup,
  effectiveControls,
  ENTRY_CHECKS,
  errorOfGroup,
  firstFailure,
} from "./entry_checks.ts";
export {
  findField,
  LaunchState,
  VMCS_FIELDS,
  VMCS_REGION,
  VmcsField,
} from "./vmcs_fields.ts";
export {
  ENTRY_FAILURE,
  EXIT_REASONS,
  ExitReason,
  exitReasonTitle,
  Interruption,
  InterruptionType,
  VmError,
} from "./exit_reasons.ts";
export {
  Entry,
  Exit,
  Pin,
  Primary,
  Secondary,
  VmFunction,
} from "./controls.ts";
export {
  capabilitiesOf,
  EptVpidCapability,
  FeatureControl,
  type VmxCapabilities,
  VmxMsr,
} from "./capabilities.ts";
export { Vmcs } from "./vmcs.ts";
