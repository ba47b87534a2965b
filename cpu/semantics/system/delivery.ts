/**
 * Delivery of an event through the IDT with everything that can go wrong on the
 * way (SDM 3A ch. 6; double and triple faults: §6.15 interrupt 8, tables 6-4
 * and 6-5). One call delivers one event, or the event into which it turned.
 *
 * Invariant: registers change only when the delivery that succeeds commits;
 * CR2, DR6 and NMI blocking change when their event begins. A delivered event
 * is one step (design §1).
 */
import { ExceptionClass, EXCEPTIONS, Vector } from "../../arch/exceptions.ts";
import { Cr0 } from "../../arch/flags.ts";
import { DebugCtl, MsrSlot } from "../../arch/msr.ts";
import type { CpuContext } from "../../context.ts";
import {
  ActivityChanged,
  ExceptionDelivered,
  InterruptDelivered,
} from "../../facts.ts";
import { Outcome, type OutcomeCode } from "../../isa/row.ts";
import { ActivityState, GuestMode, Interruptibility } from "../../layout.ts";
import type { DeliveredEvent } from "../../port.ts";
import type { PendingException } from "../../vcpu.ts";
import { longModeActive } from "./common.ts";
import { eventOf, EventType } from "./events.ts";
import { deliverLong } from "./delivery_long.ts";
import { deliverProtected } from "./delivery_protected.ts";
import { deliverReal } from "./delivery_real.ts";

/** DR6 bits that are always one (SDM 3B §17.2.3). */
export const DR6_FIXED = 0xffff0ff0n;
const DR6_B = 0xfn;
/** ExceptionDelivered's errorCode where none was pushed. */
const NO_ERROR_CODE = 0xffffffff;
const DR7_GD = 1n << 13n;

const CLASS: number[] = [];
for (const e of EXCEPTIONS) CLASS[e.vector] = e.class;

/** Double-fault class of an event: only processor-detected exceptions have one. */
function classOf(event: DeliveredEvent): number {
  return event.type === EventType.HardwareException
    ? CLASS[event.vector] ?? ExceptionClass.Benign
    : ExceptionClass.Benign;
}

/** CR2, DR6 and DR7.GD, NMI blocking: what happens though delivery may yet fail. */
function begin(cpu: CpuContext, event: DeliveredEvent, payload: bigint): void {
  const { v } = cpu;
  if (event.type === EventType.Nmi) {
    v.interruptibility |= Interruptibility.ByNmi;
  }
  const debug = event.vector === Vector.DB &&
    (event.type === EventType.HardwareException ||
      event.type === EventType.PrivilegedSoftwareException);
  if (debug) {
    v.setDr(6, (v.dr(6) & ~DR6_B) | DR6_FIXED | payload);
    v.setDr(7, v.dr(7) & ~DR7_GD);
    // SDM 3B §17.4.2, §17.4.3: a debug exception ends recording and BTF.
    const recording = DebugCtl.LBR | DebugCtl.BTF;
    v.setMsr(MsrSlot.DebugCtl, v.msr(MsrSlot.DebugCtl) & ~recording);
  } else if (
    event.vector === Vector.PF && event.type === EventType.HardwareException
  ) v.cr2 = payload;
}

function throughIdt(cpu: CpuContext, event: DeliveredEvent): OutcomeCode {
  const { v } = cpu;
  if (!(v.cr0 & Cr0.PE)) return deliverReal(cpu, event);
  return longModeActive(v)
    ? deliverLong(cpu, event)
    : deliverProtected(cpu, event);
}

function vectoring(cpu: CpuContext, event: DeliveredEvent | undefined): void {
  cpu.delivering = event;
  if (cpu.v.guestMode !== GuestMode.None) {
    cpu.virtualization?.delivering(cpu, event);
  }
}

/** Processor shutdown after a third fault (SDM 3A §6.15, interrupt 8). */
function shutdown(cpu: CpuContext): void {
  const { v } = cpu;
  if (v.guestMode !== GuestMode.None && cpu.virtualization) {
    cpu.virtualization.tripleFault(cpu);
    return;
  }
  v.activity = ActivityState.Shutdown;
  cpu.attention = true;
  cpu.facts.emit(ActivityChanged, {
    cpu: cpu.index,
    activity: ActivityState.Shutdown,
  });
}

/** Whether the pending exception exits instead of being delivered. */
function exits(cpu: CpuContext): boolean {
  return cpu.v.guestMode !== GuestMode.None &&
    cpu.virtualization !== undefined &&
    cpu.virtualization.interceptException(cpu);
}

/** What two events in a row come to (SDM 3A table 6-5): the second, a double fault, or shutdown. */
export function combine(
  first: DeliveredEvent,
  second: PendingException,
): DeliveredEvent | "double" | "triple" {
  const a = classOf(first);
  const b = CLASS[second.vector] ?? ExceptionClass.Benign;
  const { Contributory, PageFault, DoubleFault } = ExceptionClass;
  if (a === DoubleFault && (b === Contributory || b === PageFault)) {
    return "triple";
  }
  if (a === Contributory && b === Contributory) return "double";
  if (a === PageFault && (b === Contributory || b === PageFault)) {
    return "double";
  }
  return eventOf(second);
}

/**
 * Delivers `first`. When it answers, the event was delivered (one step), or a
 * VM exit happened, or the vCPU shut down: nothing remains for the caller.
 * Interception of `first` itself is the caller's.
 * @param payload #PF: linear address; #DB: DR6 bits; else 0
 * @returns whether it was `first` that reached its handler
 */
export function deliverEvent(
  cpu: CpuContext,
  first: DeliveredEvent,
  payload: bigint,
): boolean {
  const { v } = cpu;
  let event = first;
  let load = payload;
  v.pending = undefined;
  begin(cpu, event, load);
  for (;;) {
    vectoring(cpu, event);
    const rip = v.rip;
    const cpl = v.cpl;
    const outcome = throughIdt(cpu, event);
    if (outcome === Outcome.Done) {
      delivered(cpu, event, load, rip, cpl);
      cpu.virtualization?.eventDelivered?.(cpu, rip);
      return event === first;
    }
    if (outcome === Outcome.Stage2) {
      cpu.virtualization?.stage2Fault(cpu);
      break;
    }
    if (outcome !== Outcome.Fault) break;
    const second = v.pending as PendingException | undefined;
    if (second === undefined || exits(cpu)) break;
    load = second.payload;
    const next = combine(event, second);
    begin(cpu, eventOf(second), load);
    if (next === "triple") {
      vectoring(cpu, undefined);
      shutdown(cpu);
      break;
    }
    if (next !== "double") {
      event = next;
      v.pending = undefined;
      continue;
    }
    // SDM 3C §28.2.4: a #DF that exits directly has no vectoring information.
    vectoring(cpu, undefined);
    v.raise(Vector.DF, 0);
    if (exits(cpu)) break;
    event = eventOf({
      vector: Vector.DF,
      errorCode: 0,
      payload: 0n,
      software: false,
    });
    load = 0n;
    v.pending = undefined;
  }
  v.pending = undefined;
  cpu.delivering = undefined;
  return false;
}

function delivered(
  cpu: CpuContext,
  event: DeliveredEvent,
  payload: bigint,
  rip: bigint,
  cpl: number,
): void {
  const { v, facts, index } = cpu;
  vectoring(cpu, undefined);
  v.pending = undefined;
  v.interruptibility &= ~(Interruptibility.BySti | Interruptibility.ByMovSs);
  if (v.activity === ActivityState.Hlt) {
    v.activity = ActivityState.Active;
    facts.emit(ActivityChanged, { cpu: index, activity: ActivityState.Active });
  }
  const nmi = event.type === EventType.Nmi;
  if (nmi || event.type === EventType.External) {
    facts.emit(InterruptDelivered, {
      cpu: index,
      vector: event.vector,
      nmi,
      rip,
      cpl,
    });
  } else {
    const shown = event.vector === Vector.PF || event.vector === Vector.DB;
    facts.emit(ExceptionDelivered, {
      cpu: index,
      vector: event.vector,
      type: event.type,
      errorCode: v.cr0 & Cr0.PE ? event.errorCode >>> 0 : NO_ERROR_CODE,
      rip,
      cpl,
      payload: shown ? payload : 0n,
    });
  }
  v.step += 1;
}
