/**
 * #VMEXIT (APM 2 §15.6): exit information, guest state, then host state. GIF is
 * 0 afterwards; a host RFLAGS.TF traps at once (§15.5.1).
 *
 * Every exit-information field is written on every exit, with zero where the
 * manual leaves it undefined, so that a VMCB is a function of what happened.
 */
import { Rflags } from "../../cpu/arch/flags.ts";
import type { CpuContext } from "../../cpu/context.ts";
import {
  ActivityState,
  EventRequest,
  GuestMode,
  VCPU,
} from "../../cpu/layout.ts";
import { PENDING_BS } from "../../cpu/engine/boundary.ts";
import { SvmExited } from "./api.ts";
import { instructionBytes } from "./decode_assists.ts";
import { eventInfo } from "./events.ts";
import { ExitCode } from "./exit_codes.ts";
import { saveGuestState } from "./guest_state.ts";
import { loadHostState } from "./host_state.ts";
import { saveRecords } from "./lbr.ts";
import { runOwner } from "./root.ts";
import { currentVmcb, hasFlag, setFlag, SvmFlag } from "./scratch.ts";
import type { SvmUnit } from "./unit.ts";
import { Control, Vmcb } from "./vmcb.ts";

/** What a #VMEXIT reports; absent means 0. */
export interface ExitInformation {
  readonly code: number;
  readonly info1?: bigint;
  readonly info2?: bigint;
  /** RIP after the intercepted instruction, where the manual has it saved. */
  readonly nextRip?: bigint;
  /** Save the instruction's bytes (data page faults, §15.8.4). */
  readonly bytes?: boolean;
}

const MINE = EventRequest.Virtualization | EventRequest.VirtualizationStep;

/** Exits that can happen while an event is being delivered. */
function duringDelivery(code: number): boolean {
  return (code >= ExitCode.Exception && code < ExitCode.Exception + 32) ||
    code === ExitCode.Npf || code === ExitCode.TaskSwitch;
}

/** Performs a #VMEXIT from guest mode. */
export function vmExit(
  unit: SvmUnit,
  cpu: CpuContext,
  info: ExitInformation,
): void {
  const { v, model } = cpu;
  const vmcb = new Vmcb(cpu.physical, currentVmcb(v));
  const rip = v.rip;
  const event = duringDelivery(info.code) ? cpu.delivering : undefined;
  const intInfo = eventInfo(event);
  const intInfoError = event === undefined || event.errorCode < 0
    ? 0
    : event.errorCode;
  const code = BigInt.asUintN(64, BigInt(info.code));
  const info1 = info.info1 ?? 0n;
  const info2 = info.info2 ?? 0n;
  const nextRip = info.nextRip ?? 0n;
  if (model.has("decodeassists")) {
    const bytes = info.bytes ? instructionBytes(cpu) : [];
    vmcb.write8(Control.instructionBytes, bytes.length);
    bytes.forEach((b, i) => vmcb.write8(Control.instructionBytes + 1 + i, b));
  }
  vmcb.write(Control.exitCode, code);
  vmcb.write(Control.exitInfo1, info1);
  vmcb.write(Control.exitInfo2, info2);
  vmcb.write32(Control.exitIntInfo, intInfo);
  vmcb.write32(Control.exitIntInfoError, intInfoError);
  if (model.has("nrip-save")) vmcb.write(Control.nextRip, nextRip);
  saveGuestState(cpu, vmcb);
  if (hasFlag(v, SvmFlag.LbrVirtual)) saveRecords(vmcb, v);
  leave(unit, cpu, vmcb);
  if (cpu.facts.wants(SvmExited)) {
    cpu.facts.emit(SvmExited, {
      cpu: cpu.index,
      vmcb: BigInt(vmcb.address),
      code,
      info1,
      info2,
      intInfo,
      intInfoError,
      rip,
      nextRip,
      owner: unit.owned(cpu),
    });
  }
  if (unit.owned(cpu)) runOwner(unit, cpu);
}

/** VMEXIT_INVALID: guest state was never loaded. Host state is in the area. */
export function invalidExit(
  unit: SvmUnit,
  cpu: CpuContext,
  vmcb: Vmcb,
): void {
  vmcb.write(Control.exitCode, 0xffff_ffff_ffff_ffffn);
  vmcb.write(Control.exitInfo1, 0n);
  vmcb.write(Control.exitInfo2, 0n);
  vmcb.write32(Control.exitIntInfo, 0);
  leave(unit, cpu, vmcb);
  if (unit.owned(cpu)) runOwner(unit, cpu);
}

/** Ends guest mode without a #VMEXIT: the processor is about to be reset. */
export function abandonGuest(unit: SvmUnit, cpu: CpuContext): void {
  const { v } = cpu;
  v.guestMode = GuestMode.None;
  v.setWord(VCPU.tlbTag, 0);
  v.setQuad(VCPU.stage2Root, 0n);
  v.setWord(VCPU.stage2Flags, 0);
  forgetGuest(unit, cpu);
}

/** Drops what belongs to the guest that ran. */
function forgetGuest(unit: SvmUnit, cpu: CpuContext): void {
  const { v } = cpu;
  setFlag(v, SvmFlag.NestedPaging, false);
  setFlag(v, SvmFlag.LbrVirtual, false);
  setFlag(v, SvmFlag.MonitorArmed, false);
  v.eventRequest &= ~MINE;
  unit.port.dropGrants(cpu.index);
}

/** Clears EVENTINJ.V, restores the host, clears GIF. */
function leave(unit: SvmUnit, cpu: CpuContext, vmcb: Vmcb): void {
  const { v } = cpu;
  const injection = vmcb.read32(Control.eventInjection);
  vmcb.write32(Control.eventInjection, injection & 0x7fff_ffff);
  const loaded = loadHostState(cpu);
  setFlag(v, SvmFlag.GifClear, true);
  forgetGuest(unit, cpu);
  v.pending = undefined;
  v.stage2 = undefined;
  cpu.delivering = undefined;
  cpu.attention = true;
  unit.exits++;
  if (!loaded) {
    v.guestMode = GuestMode.None;
    v.activity = ActivityState.Shutdown;
    return;
  }
  if (v.rflags & Rflags.TF) v.pendingDebug |= PENDING_BS;
}
