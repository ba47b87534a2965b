/**
 * The effects of VMXON, VMXOFF, VMCLEAR, VMPTRLD, INVEPT and INVVPID on the
 * processor (SDM 3C ch. 31), after privilege and operand checks. Instructions
 * and the root owner share them.
 *
 * Results: 0 VMsucceed, −1 VMfailInvalid, n > 0 VMfail(n): VMfailValid with
 * error n when there is a current VMCS, else VMfailInvalid.
 */
import { MsrSlot } from "../../cpu/arch/msr.ts";
import type { CpuContext } from "../../cpu/context.ts";
import { Flush } from "../mmu/api.ts";
import { VMFAIL_INVALID, type VmResult } from "./api.ts";
import { EptVpidCapability, FeatureControl } from "./capabilities.ts";
import { canonical, physicalAddress } from "./check_values.ts";
import { controlsAllowed } from "./controls.ts";
import { eptpValidFor } from "./entry_checks_controls.ts";
import { VmError } from "./exit_reasons.ts";
import {
  currentVmcs,
  setCurrentVmcs,
  setFlag,
  setVmxonPointer,
  VmxFlag,
  vmxonPointer,
} from "./scratch.ts";
import type { VmxUnit } from "./unit.ts";
import { Vmcs } from "./vmcs.ts";
import { LaunchState, VMCS_REGION, VmcsField } from "./vmcs_fields.ts";

/** VMfail(error), with the error stored in the current VMCS. */
export function vmFail(
  unit: VmxUnit,
  cpu: CpuContext,
  error: number,
): VmResult {
  const vmcs = unit.current(cpu);
  if (vmcs === undefined) return VMFAIL_INVALID;
  vmcs.write32(VmcsField.InstructionError, error);
  return error;
}

/** Fixed CR0 and CR4 bits and IA32_FEATURE_CONTROL (SDM 3C §24.7, §24.8). */
export function vmxonAllowed(unit: VmxUnit, cpu: CpuContext): boolean {
  const { v } = cpu;
  const { cr0, cr4 } = unit.capabilities;
  const lock = FeatureControl.Lock | FeatureControl.VmxonOutsideSmx;
  return controlsAllowed(v.cr0, cr0) && controlsAllowed(v.cr4, cr4) &&
    (Number(v.msr(MsrSlot.FeatureControl)) & lock) === lock;
}

/** VMXON after its fault checks. */
export function enterOperation(
  unit: VmxUnit,
  cpu: CpuContext,
  region: number,
): VmResult {
  const { v, model, physical } = cpu;
  if (!physicalAddress(BigInt(region), 12, unit.capabilities.model)) {
    return VMFAIL_INVALID;
  }
  if (physical.readU32(region + VMCS_REGION.revision) !== model.vmcsRevision) {
    return VMFAIL_INVALID;
  }
  setFlag(v, VmxFlag.Operation, true);
  setVmxonPointer(v, region);
  setCurrentVmcs(v, undefined);
  return 0;
}

/** VMXOFF after its fault checks. */
export function leaveOperation(cpu: CpuContext): void {
  setCurrentVmcs(cpu.v, undefined);
  setFlag(cpu.v, VmxFlag.Operation, false);
  setFlag(cpu.v, VmxFlag.RootOwned, false);
}

/** VMCLEAR. */
export function vmclear(
  unit: VmxUnit,
  cpu: CpuContext,
  region: bigint,
): VmResult {
  if (!physicalAddress(region, 12, cpu.model)) {
    return vmFail(unit, cpu, VmError.VmclearInvalidAddress);
  }
  const address = Number(region);
  if (address === vmxonPointer(cpu.v)) {
    return vmFail(unit, cpu, VmError.VmclearVmxonPointer);
  }
  if (cpu.physical.isRam(address)) {
    new Vmcs(cpu.physical, address).launchState = LaunchState.Clear;
  }
  if (currentVmcs(cpu.v) === address) setCurrentVmcs(cpu.v, undefined);
  return 0;
}

/** VMPTRLD. */
export function vmptrld(
  unit: VmxUnit,
  cpu: CpuContext,
  region: bigint,
): VmResult {
  if (!physicalAddress(region, 12, cpu.model)) {
    return vmFail(unit, cpu, VmError.VmptrldInvalidAddress);
  }
  const address = Number(region);
  if (address === vmxonPointer(cpu.v)) {
    return vmFail(unit, cpu, VmError.VmptrldVmxonPointer);
  }
  // Bit 31 (shadow VMCS) is refused too: shadowing is not advertised.
  const revision = cpu.physical.readU32(address + VMCS_REGION.revision);
  if (!cpu.physical.isRam(address) || revision !== cpu.model.vmcsRevision) {
    return vmFail(unit, cpu, VmError.VmptrldIncorrectRevision);
  }
  setCurrentVmcs(cpu.v, address);
  return 0;
}

/** INVEPT types (SDM 3C ch. 31, INVEPT). */
const InveptType = { Single: 1, All: 2 } as const;
/** INVVPID types. */
const InvvpidType = {
  Address: 0,
  Single: 1,
  All: 2,
  RetainGlobals: 3,
} as const;

/** INVEPT. @param high bits 127:64 of the descriptor, which must be 0 */
export function invept(
  unit: VmxUnit,
  cpu: CpuContext,
  type: number,
  eptp: bigint,
  high = 0n,
): VmResult {
  const bad = (): VmResult =>
    vmFail(unit, cpu, VmError.InvalidInveptInvvpidOperand);
  const { eptVpid } = unit.capabilities;
  if (
    type === InveptType.Single &&
    (eptVpid & EptVpidCapability.InveptSingle) !== 0n
  ) {
    if (high !== 0n || !eptpValidFor(eptp, eptVpid, cpu.model)) return bad();
    const root = Number(eptp >> 12n) * 4096;
    cpu.translator.flush(cpu, Flush.Root, 0, root, 0n);
    return 0;
  }
  if (
    type === InveptType.All && (eptVpid & EptVpidCapability.InveptAll) !== 0n
  ) {
    cpu.translator.flush(cpu, Flush.AllRoots, 0, 0, 0n);
    return 0;
  }
  return bad();
}

/** INVVPID. @param vpid bits 63:0 of the descriptor; bits 63:16 must be 0 */
export function invvpid(
  unit: VmxUnit,
  cpu: CpuContext,
  type: number,
  vpid: number,
  linear: bigint,
  reserved = false,
): VmResult {
  const bad = (): VmResult =>
    vmFail(unit, cpu, VmError.InvalidInveptInvvpidOperand);
  if (reserved || type > InvvpidType.RetainGlobals) return bad();
  const { translator } = cpu;
  if (type !== InvvpidType.All && vpid === 0) return bad();
  switch (type) {
    case InvvpidType.Address:
      if (!canonical(linear, cpu.model)) return bad();
      translator.flush(cpu, Flush.VpidAddress, vpid, 0, linear);
      return 0;
    case InvvpidType.Single:
      translator.flush(cpu, Flush.VpidAll, vpid, 0, 0n);
      return 0;
    case InvvpidType.All:
      translator.flush(cpu, Flush.AllVpids, 0, 0, 0n);
      return 0;
    default:
      translator.flush(cpu, Flush.VpidNonGlobal, vpid, 0, 0n);
      return 0;
  }
}
