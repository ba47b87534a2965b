/**
 * VM entries (SDM 3C ch. 27): basic checks, controls and host state, guest
 * state, loading, MSR area, then event injection and what is pending at once.
 */
import { Vector } from "../../cpu/arch/exceptions.ts";
import { Efer } from "../../cpu/arch/flags.ts";
import type { CpuContext } from "../../cpu/context.ts";
import {
  GuestMode,
  Interruptibility,
  Stage2Flags,
  VCPU,
} from "../../cpu/layout.ts";
import { Flush } from "../mmu/api.ts";
import {
  VMFAIL_INVALID,
  type VmResult,
  VmxEntered,
  VmxEntryFailed,
} from "./api.ts";
import { EptVpidCapability, PREEMPTION_TIMER_SHIFT } from "./capabilities.ts";
import { type ControlWords, Pin, Secondary } from "./controls.ts";
import {
  CheckGroup,
  effectiveControls,
  ENTRY_CHECKS,
  type EntryCheck,
  type EntryContext,
  errorOfGroup,
  firstFailure,
} from "./entry_checks.ts";
import { entryFailureExit } from "./exit.ts";
import {
  ENTRY_FAILURE,
  EntryFailureQualification,
  ExitReason,
  Interruption,
  InterruptionType,
  VmError,
} from "./exit_reasons.ts";
import { loadGuestState } from "./guest_state.ts";
import { loadMsrArea } from "./msr_areas.ts";
import { vmFail } from "./operations.ts";
import { retire } from "./root.ts";
import {
  setEntryStep,
  setFlag,
  setNmiUnblockedIn,
  setTimerDeadline,
  VmxFlag,
} from "./scratch.ts";
import type { VmxUnit } from "./unit.ts";
import type { Vmcs } from "./vmcs.ts";
import { LaunchState, VmcsField as F } from "./vmcs_fields.ts";

/**
 * VMLAUNCH and VMRESUME after their fault checks.
 * @param launch true VMLAUNCH, false VMRESUME, undefined whichever fits (root owner)
 * @param instruction RIP of the instruction, which retires on success; undefined for the owner
 * @returns 0 when the state was replaced: entered, or exited with an entry failure
 */
export function vmEntry(
  unit: VmxUnit,
  cpu: CpuContext,
  launch: boolean | undefined,
  instruction: bigint | undefined,
): VmResult {
  const { v } = cpu;
  const vmcs = unit.current(cpu);
  if (vmcs === undefined) return VMFAIL_INVALID;
  const owner = instruction === undefined;
  const fail = (error: number, check?: EntryCheck): VmResult => {
    entryFailed(cpu, vmcs, owner, { error, check });
    return vmFail(unit, cpu, error);
  };
  const shadow = owner ? v.interruptibility : cpu.shadow ?? 0;
  if (shadow & Interruptibility.ByMovSs) {
    return fail(VmError.EntryMovSsBlocking);
  }
  const clear = vmcs.launchState === LaunchState.Clear;
  if (launch === true && !clear) return fail(VmError.VmlaunchNonClear);
  if (launch === false && clear) return fail(VmError.VmresumeNonLaunched);
  const c = effectiveControls(vmcs);
  const context: EntryContext = {
    vmcs,
    capabilities: unit.capabilities,
    model: cpu.model,
    controls: c,
    longMode: (v.efer & Efer.LMA) !== 0,
    vmcsAddress: vmcs.address,
    readU32: (address) => cpu.physical.readU32(address),
    readU64: (address) => cpu.physical.readU64(address),
  };
  for (const group of [CheckGroup.Controls, CheckGroup.Host]) {
    const check = firstFailure(context, group);
    if (check !== undefined) return fail(errorOfGroup(group), check);
  }
  const check = firstFailure(context, CheckGroup.Guest);
  if (check !== undefined) {
    const qualification = check.qualification ?? EntryFailureQualification.None;
    const reason = ExitReason.EntryFailureGuestState;
    entryFailed(cpu, vmcs, owner, { reason, qualification, check });
    entryFailureExit(unit, cpu, reason, qualification);
    return 0;
  }
  const blocking = v.interruptibility;
  loadGuestState(cpu, vmcs, c);
  enterGuestMode(unit, cpu, vmcs, c);
  const failed = loadMsrArea(
    unit,
    cpu,
    vmcs.read(F.EntryMsrLoadAddress),
    vmcs.read32(F.EntryMsrLoadCount),
  );
  if (failed !== 0) {
    const reason = ExitReason.EntryFailureMsrLoading;
    const qualification = BigInt(failed);
    // The host's NMI blocking outlives a failed entry.
    v.interruptibility = blocking;
    entryFailed(cpu, vmcs, owner, { reason, qualification });
    entryFailureExit(unit, cpu, reason, qualification);
    return 0;
  }
  vmcs.launchState = LaunchState.Launched;
  const injected = vmcs.read32(F.EntryInterruptionInformation);
  if (cpu.facts.wants(VmxEntered)) {
    cpu.facts.emit(VmxEntered, {
      cpu: cpu.index,
      vmcs: BigInt(vmcs.address),
      launch: clear,
      rip: v.rip,
      injected: injected & Interruption.Valid ? injected : 0,
      owner,
    });
  }
  if (instruction !== undefined) retire(cpu, instruction);
  setEntryStep(v, v.step);
  if (c.pin & Pin.PreemptionTimer) startTimer(unit, cpu, vmcs);
  if (injected & Interruption.Valid) inject(unit, cpu, vmcs, c, injected);
  else unit.request(cpu, c.primary);
  return 0;
}

/** Translation context and mode (SDM 3C §27.3.2, §29.4.3.3). */
function enterGuestMode(
  unit: VmxUnit,
  cpu: CpuContext,
  vmcs: Vmcs,
  c: ControlWords,
): void {
  const { v } = cpu;
  v.guestMode = GuestMode.Vmx;
  const vpid = (c.secondary & Secondary.Vpid) !== 0;
  v.setWord(VCPU.tlbTag, vpid ? vmcs.read32(F.Vpid) : 0);
  if (c.secondary & Secondary.Ept) {
    setStage2(unit, cpu, vmcs.read(F.Eptp), c.secondary);
  } else {
    v.setQuad(VCPU.stage2Root, 0n);
    v.setWord(VCPU.stage2Flags, 0);
  }
  if (!vpid) cpu.translator.flush(cpu, Flush.Tag, 0, 0, 0n);
  setNmiUnblockedIn(v, 0);
  setFlag(v, VmxFlag.MtfPending, false);
  unit.port.dropGrants(cpu.index);
}

/** Puts an EPT pointer in force. */
export function setStage2(
  unit: VmxUnit,
  cpu: CpuContext,
  eptp: bigint,
  secondary: number,
): void {
  let flags = Stage2Flags.Ept as number;
  if (eptp & 0x40n) flags |= Stage2Flags.AccessedDirty;
  if (secondary & Secondary.ModeBasedExecute) flags |= Stage2Flags.Mbec;
  if (unit.capabilities.eptVpid & EptVpidCapability.AdvancedInformation) {
    flags |= Stage2Flags.AdvancedInformation;
  }
  cpu.v.setQuad(VCPU.stage2Root, eptp & ~0xfffn);
  cpu.v.setWord(VCPU.stage2Flags, flags);
}

function startTimer(unit: VmxUnit, cpu: CpuContext, vmcs: Vmcs): void {
  const unit2 = 2 ** PREEMPTION_TIMER_SHIFT;
  const ticks = Math.floor(cpu.time() / unit2) + vmcs.read32(F.PreemptionTimer);
  setTimerDeadline(cpu.v, ticks * unit2);
  setFlag(cpu.v, VmxFlag.TimerRunning, true);
  unit.armTimer();
}

/** Event injection (SDM 3C §27.6). */
function inject(
  unit: VmxUnit,
  cpu: CpuContext,
  vmcs: Vmcs,
  c: ControlWords,
  info: number,
): void {
  const { v } = cpu;
  const type = (info >>> Interruption.TypeShift) & 7;
  const vector = info & Interruption.VectorMask;
  if (type === InterruptionType.Other) {
    setFlag(v, VmxFlag.MtfPending, true);
    unit.request(cpu, c.primary);
    return;
  }
  unit.request(cpu, c.primary);
  const virtualNmi = type === InterruptionType.Nmi &&
    (c.pin & Pin.VirtualNmis) !== 0;
  if (virtualNmi) setFlag(v, VmxFlag.VirtualNmiBlocking, true);
  const exits = unit.exits;
  const dr6 = v.dr(6);
  const dr7 = v.dr(7);
  // SDM 3C §27.6.1.1: injection changes neither CR2 nor DR6, DR7.
  cpu.deliver({
    vector,
    type,
    errorCode: info & Interruption.ErrorCodeValid
      ? vmcs.read32(F.EntryExceptionErrorCode)
      : -1,
    instructionLength: type >= InterruptionType.SoftwareInterrupt
      ? vmcs.read32(F.EntryInstructionLength)
      : 0,
  }, vector === Vector.PF ? v.cr2 : 0n);
  if (unit.exits !== exits) return;
  if (vector === Vector.DB) {
    v.setDr(6, dr6);
    v.setDr(7, dr7);
  }
  if (virtualNmi) v.interruptibility &= ~Interruptibility.ByNmi;
}

interface Failure {
  readonly error?: number;
  readonly reason?: number;
  readonly qualification?: bigint;
  readonly check?: EntryCheck;
}

function entryFailed(
  cpu: CpuContext,
  vmcs: Vmcs,
  owner: boolean,
  failure: Failure,
): void {
  if (!cpu.facts.wants(VmxEntryFailed)) return;
  const { check, reason } = failure;
  cpu.facts.emit(VmxEntryFailed, {
    cpu: cpu.index,
    vmcs: BigInt(vmcs.address),
    error: failure.error ?? 0,
    reason: reason === undefined ? 0 : (reason | ENTRY_FAILURE) >>> 0,
    qualification: failure.qualification ?? 0n,
    check: check === undefined ? 0 : ENTRY_CHECKS.indexOf(check) + 1,
    owner,
  });
}
