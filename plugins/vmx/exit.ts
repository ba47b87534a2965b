/**
 * VM exits (SDM 3C ch. 28): recording exit information, saving guest state, the
 * MSR areas, loading host state, VMX aborts; then the root owner, if one holds
 * VMX root operation.
 *
 * Every exit-information field is written on every exit, with zero where the
 * manual leaves it undefined, so that a VMCS is a function of what happened.
 */
import { Vector } from "../../cpu/arch/exceptions.ts";
import { Rflags } from "../../cpu/arch/flags.ts";
import type { CpuContext } from "../../cpu/context.ts";
import {
  ActivityState,
  EventRequest,
  GuestMode,
  Interruptibility,
} from "../../cpu/layout.ts";
import type { DeliveredEvent } from "../../cpu/port.ts";
import { Flush } from "../mmu/api.ts";
import { VmxExited } from "./api.ts";
import { PREEMPTION_TIMER_SHIFT } from "./capabilities.ts";
import { type ControlWords, Exit, Pin, Secondary } from "./controls.ts";
import {
  ENTRY_FAILURE,
  ExitReason,
  Interruption,
  InterruptionType,
} from "./exit_reasons.ts";
import { saveGuestState } from "./guest_state.ts";
import { loadHostState } from "./host_state.ts";
import { loadMsrArea, storeMsrArea } from "./msr_areas.ts";
import { runOwner } from "./root.ts";
import {
  hasFlag,
  nmiUnblockedIn,
  setFlag,
  setNmiUnblockedIn,
  timerDeadline,
  VmxFlag,
} from "./scratch.ts";
import type { VmxUnit } from "./unit.ts";
import type { Vmcs } from "./vmcs.ts";
import { VmcsField as F } from "./vmcs_fields.ts";

/** What a VM exit reports; absent means 0. */
export interface ExitInformation {
  readonly reason: number;
  readonly qualification?: bigint;
  readonly instructionLength?: number;
  readonly instructionInformation?: number;
  readonly guestLinear?: bigint;
  readonly guestPhysical?: number;
  readonly interruptionInfo?: number;
  readonly interruptionErrorCode?: number;
  /** RFLAGS.RF of the saved image; by default as it is. */
  readonly resumeFlag?: boolean;
}

/** VMX-abort indicators (SDM 3C §28.7). */
const Abort = { SavingMsrs: 1, HostPdptes: 2, LoadingMsrs: 4 } as const;

const PREEMPTION_UNIT = 2 ** PREEMPTION_TIMER_SHIFT;

/** Exits that can happen while an event is being delivered (SDM 3C §28.2.4). */
const DURING_DELIVERY: ReadonlySet<number> = new Set([
  ExitReason.ExceptionOrNmi,
  ExitReason.EptViolation,
  ExitReason.EptMisconfiguration,
  ExitReason.TaskSwitch,
]);

/** An event in the format of interruption-information fields. */
export function interruptionInformation(event: DeliveredEvent): number {
  return (Interruption.Valid | event.type << Interruption.TypeShift |
    event.vector |
    (event.errorCode >= 0 ? Interruption.ErrorCodeValid : 0)) >>> 0;
}

/** Performs a VM exit from VMX non-root operation. */
export function vmExit(
  unit: VmxUnit,
  cpu: CpuContext,
  info: ExitInformation,
): void {
  const { v } = cpu;
  const vmcs = unit.guest(cpu);
  const c = unit.controls(cpu);
  const rip = v.rip;
  const event = DURING_DELIVERY.has(info.reason) ? cpu.delivering : undefined;
  // An IRET that unblocked NMIs and then caused this exit (bit 12).
  const unblocked = event === undefined && nmiUnblockedIn(v) === v.step + 1;
  const recorded = record(vmcs, info, event, unblocked);
  saveGuestState(cpu, vmcs, c, savedFlags(v.rflags, info));
  if (c.exit & Exit.SavePreemptionTimer) saveTimer(unit, cpu, vmcs);
  unit.stopTimer(cpu);
  // With virtual NMIs the guest never blocked physical ones.
  if (c.pin & Pin.VirtualNmis) v.interruptibility &= ~Interruptibility.ByNmi;
  // SDM 3C §28.2: exits clear the valid bit of the entry field.
  const entryInfo = vmcs.read32(F.EntryInterruptionInformation);
  vmcs.write32(F.EntryInterruptionInformation, entryInfo & 0x7fff_ffff);
  const stored = storeMsrArea(
    unit,
    cpu,
    vmcs.read(F.ExitMsrStoreAddress),
    vmcs.read32(F.ExitMsrStoreCount),
  );
  if (!stored) {
    enterHost(unit, cpu, vmcs, c, false);
    abort(cpu, vmcs, Abort.SavingMsrs);
    return;
  }
  const nmi = info.reason === ExitReason.ExceptionOrNmi &&
    ((recorded.interruptionInfo >>> Interruption.TypeShift) & 7) ===
      InterruptionType.Nmi;
  if (!finish(unit, cpu, vmcs, c, nmi)) return;
  if (cpu.facts.wants(VmxExited)) {
    cpu.facts.emit(VmxExited, {
      cpu: cpu.index,
      vmcs: BigInt(vmcs.address),
      rip,
      ...recorded,
      owner: unit.owned(cpu),
    });
  }
  if (unit.owned(cpu)) runOwner(unit, cpu);
}

/**
 * Ends a VM entry that failed on guest state or MSR loading (SDM 3C §27.8):
 * guest state is not saved; host state and the exit MSR-load area are loaded.
 */
export function entryFailureExit(
  unit: VmxUnit,
  cpu: CpuContext,
  reason: number,
  qualification: bigint,
): void {
  const vmcs = unit.guest(cpu);
  vmcs.write32(F.ExitReason, (reason | ENTRY_FAILURE) >>> 0);
  vmcs.write(F.ExitQualification, qualification);
  if (!finish(unit, cpu, vmcs, unit.controls(cpu), false)) return;
  if (unit.owned(cpu)) runOwner(unit, cpu);
}

/** Loads host state and MSRs. @returns false after a VMX abort */
function finish(
  unit: VmxUnit,
  cpu: CpuContext,
  vmcs: Vmcs,
  c: ControlWords,
  nmi: boolean,
): boolean {
  if (!enterHost(unit, cpu, vmcs, c, nmi)) {
    abort(cpu, vmcs, Abort.HostPdptes);
    return false;
  }
  const failed = loadMsrArea(
    unit,
    cpu,
    vmcs.read(F.ExitMsrLoadAddress),
    vmcs.read32(F.ExitMsrLoadCount),
  );
  if (failed !== 0) {
    abort(cpu, vmcs, Abort.LoadingMsrs);
    return false;
  }
  return true;
}

function enterHost(
  unit: VmxUnit,
  cpu: CpuContext,
  vmcs: Vmcs,
  c: ControlWords,
  nmi: boolean,
): boolean {
  const { v } = cpu;
  const loaded = loadHostState(cpu, vmcs, c, nmi);
  // Without VPIDs a VM exit flushes linear and combined mappings of VPID 0.
  if (!(c.secondary & Secondary.Vpid)) {
    cpu.translator.flush(cpu, Flush.Tag, 0, 0, 0n);
  }
  setFlag(v, VmxFlag.VirtualNmiBlocking, false);
  setFlag(v, VmxFlag.MtfPending, false);
  setNmiUnblockedIn(v, 0);
  const mine = EventRequest.Virtualization | EventRequest.VirtualizationStep;
  v.eventRequest = v.eventRequest & ~mine;
  v.pending = undefined;
  v.stage2 = undefined;
  cpu.delivering = undefined;
  cpu.attention = true;
  unit.exits++;
  unit.port.dropGrants(cpu.index);
  return loaded;
}

/** VMX abort: the indicator is written and the processor shuts down. */
function abort(cpu: CpuContext, vmcs: Vmcs, indicator: number): void {
  vmcs.abortIndicator = indicator;
  cpu.v.guestMode = GuestMode.None;
  cpu.v.activity = ActivityState.Shutdown;
}

/** Writes every exit-information field. @returns them, for the fact */
function record(
  vmcs: Vmcs,
  info: ExitInformation,
  event: DeliveredEvent | undefined,
  nmiUnblocked: boolean,
): RecordedExit {
  let interruptionInfo = info.interruptionInfo ?? 0;
  let qualification = info.qualification ?? 0n;
  if (nmiUnblocked) {
    if (
      (interruptionInfo & Interruption.Valid) !== 0 &&
      ((interruptionInfo >>> Interruption.TypeShift) & 7) ===
        InterruptionType.HardwareException &&
      (interruptionInfo & Interruption.VectorMask) !== Vector.DF
    ) interruptionInfo = (interruptionInfo | Interruption.NmiUnblocking) >>> 0;
    if (info.reason === ExitReason.EptViolation) {
      qualification |= BigInt(Interruption.NmiUnblocking);
    }
  }
  const recorded = {
    reason: info.reason,
    qualification,
    instructionLength: info.instructionLength ?? event?.instructionLength ?? 0,
    instructionInformation: info.instructionInformation ?? 0,
    guestLinear: info.guestLinear ?? 0n,
    guestPhysical: BigInt(info.guestPhysical ?? 0),
    interruptionInfo,
    interruptionErrorCode: info.interruptionErrorCode ?? 0,
    idtVectoringInfo: event === undefined ? 0 : interruptionInformation(event),
    idtVectoringErrorCode: event === undefined || event.errorCode < 0
      ? 0
      : event.errorCode,
  };
  vmcs.write32(F.ExitReason, recorded.reason);
  vmcs.write(F.ExitQualification, recorded.qualification);
  vmcs.write32(F.ExitInstructionLength, recorded.instructionLength);
  vmcs.write32(F.ExitInstructionInformation, recorded.instructionInformation);
  vmcs.write(F.GuestLinearAddress, recorded.guestLinear);
  vmcs.write(F.GuestPhysicalAddress, recorded.guestPhysical);
  vmcs.write32(F.ExitInterruptionInformation, recorded.interruptionInfo);
  vmcs.write32(F.ExitInterruptionErrorCode, recorded.interruptionErrorCode);
  vmcs.write32(F.IdtVectoringInformation, recorded.idtVectoringInfo);
  vmcs.write32(F.IdtVectoringErrorCode, recorded.idtVectoringErrorCode);
  return recorded;
}

interface RecordedExit {
  readonly reason: number;
  readonly qualification: bigint;
  readonly instructionLength: number;
  readonly instructionInformation: number;
  readonly guestLinear: bigint;
  readonly guestPhysical: bigint;
  readonly interruptionInfo: number;
  readonly interruptionErrorCode: number;
  readonly idtVectoringInfo: number;
  readonly idtVectoringErrorCode: number;
}

/** RFLAGS to save (SDM 3C §28.3.3). */
function savedFlags(rflags: number, info: ExitInformation): number {
  if (info.resumeFlag === undefined) return rflags;
  return (info.resumeFlag ? rflags | Rflags.RF : rflags & ~Rflags.RF) >>> 0;
}

function saveTimer(unit: VmxUnit, cpu: CpuContext, vmcs: Vmcs): void {
  if (!hasFlag(cpu.v, VmxFlag.TimerRunning)) return;
  const left = unit.timerExpired(cpu)
    ? 0
    : Math.floor(timerDeadline(cpu.v) / PREEMPTION_UNIT) -
      Math.floor(cpu.time() / PREEMPTION_UNIT);
  vmcs.write32(F.PreemptionTimer, left);
}
