/**
 * What a vCPU does at a step boundary before its next instruction, in the
 * priority order of SDM 3A table 6-2: INIT, monitor trap and other boundary
 * conditions of guest mode, traps on the previous instruction, NMI, maskable
 * interrupts, HLT, instruction breakpoints. Shared by all engines.
 */
import { Vector } from "../arch/exceptions.ts";
import { Rflags } from "../arch/flags.ts";
import { resetVcpu } from "../arch/reset.ts";
import type { CpuContext } from "../context.ts";
import { ActivityChanged } from "../facts.ts";
import {
  ActivityState,
  EventRequest,
  GuestMode,
  Interruptibility,
  Seg,
  VCPU,
} from "../layout.ts";
import { Control, type DeliveredEvent } from "../port.ts";
import { codeAddress } from "../semantics/system/common.ts";
import { deliverEvent } from "../semantics/system/delivery.ts";
import { eventOf, EventType } from "../semantics/system/events.ts";

/** What the boundary came to. */
export const Boundary = {
  /** Execute the next instruction. */
  Execute: 0,
  /** Something was delivered or exited: look again. */
  Again: 1,
  /** Halted or waiting for its start-up IPI, and nothing wakes it. */
  Idle: 2,
  /** Shut down: the machine ends. */
  Shutdown: 3,
} as const;
/** One of Boundary. */
export type BoundaryCode = typeof Boundary[keyof typeof Boundary];

/** Pending-debug bits: B0–B3, BS (14), BT (15: task switch), see VCPU.pendingDebug. */
export const PENDING_BS = 1 << 14;
const DR6_BITS = 0xc00f;
const DR6_MATCHES = 0xf;
const SHADOW = Interruptibility.BySti | Interruptibility.ByMovSs;
const DR7 = VCPU.dr + 7 * 8;

function event(vector: number, type: number): DeliveredEvent {
  return { vector, type, errorCode: -1, instructionLength: 0 };
}

/** Delivers `v.pending`, or exits with it. @param length of the instruction that raised it */
export function deliverPending(cpu: CpuContext, length: number): void {
  const { v } = cpu;
  const pending = v.pending;
  if (pending === undefined) return;
  const taken = v.guestMode !== GuestMode.None
    ? cpu.virtualization?.interceptException(cpu)
    : cpu.exceptionFilter?.exception(cpu);
  if (taken) {
    v.pending = undefined;
    return;
  }
  deliverEvent(cpu, eventOf(pending, length), pending.payload);
}

/** B0–B3 of the instruction breakpoints that RIP meets (SDM 3B §17.2.4). */
function instructionBreakpoints(cpu: CpuContext): number {
  const { v } = cpu;
  const dr7 = v.word(DR7);
  const linear = codeAddress(v, v.rip);
  let met = 0;
  for (let i = 0; i < 4; i++) {
    if (((dr7 >>> (i * 2)) & 3) === 0) continue;
    // R/W = 00b needs LEN = 00b.
    if (((dr7 >>> (16 + i * 4)) & 0xf) !== 0) continue;
    if (v.dr(i) === linear) met |= 1 << i;
  }
  return met;
}

function external(cpu: CpuContext): boolean {
  const { v } = cpu;
  const vector = cpu.interrupts.acknowledge(cpu.index);
  // A request may be withdrawn between INTR and INTA.
  if (vector < 0) {
    v.eventRequest &= ~EventRequest.Interrupt;
    return false;
  }
  deliverEvent(cpu, event(vector, EventType.External), 0n);
  return true;
}

/** An INIT is latched and may act: VMX root operation and, in a guest, wait-for-SIPI block it (SDM 3C §25.2). */
function initArrives(cpu: CpuContext): boolean {
  const { v, virtualization } = cpu;
  if (!(v.eventRequest & EventRequest.Init)) return false;
  if (
    v.guestMode !== GuestMode.None && v.activity === ActivityState.WaitForSipi
  ) return false;
  return !virtualization?.initBlocked(cpu);
}

/** INIT: table 9-1 of SDM 3A; any vCPU but the bootstrap processor then waits for a start-up IPI. */
function initialize(cpu: CpuContext): void {
  const { v, translator } = cpu;
  const { cr0, cr4, efer } = v;
  resetVcpu(v, cpu.model, true);
  if (cpu.index !== 0) setActivity(cpu, ActivityState.WaitForSipi);
  translator.controlChanged(cpu, Control.Cr0, cr0, v.cr0);
  translator.controlChanged(cpu, Control.Cr4, cr4, v.cr4);
  translator.controlChanged(cpu, Control.Efer, efer, v.efer);
  cpu.interrupts.initialized?.(cpu.index);
}

/** A start-up IPI: real mode at vector << 12 (SDM 3A §8.4.3). */
function startUp(cpu: CpuContext, vector: number): void {
  const { v } = cpu;
  v.setSegment(Seg.CS, {
    ...v.segment(Seg.CS),
    selector: vector << 8,
    base: BigInt(vector) << 12n,
  });
  v.rip = 0n;
  setActivity(cpu, ActivityState.Active);
}

/** INIT and start-up IPI (SDM 3A §8.4). @returns undefined: go on */
function initialization(cpu: CpuContext): BoundaryCode | undefined {
  const { v, virtualization } = cpu;
  const guest = v.guestMode !== GuestMode.None;
  if (initArrives(cpu)) {
    v.eventRequest &= ~EventRequest.Init;
    if (!(guest && virtualization?.interceptInit(cpu))) initialize(cpu);
    return Boundary.Again;
  }
  const waits = v.activity === ActivityState.WaitForSipi;
  if (v.eventRequest & EventRequest.Sipi) {
    v.eventRequest &= ~EventRequest.Sipi;
    // Ignored outside wait-for-SIPI (SDM 3A §8.4.3).
    if (waits) {
      const vector = v.word(VCPU.sipiVector);
      if (!(guest && virtualization?.interceptSipi?.(cpu, vector))) {
        startUp(cpu, vector);
      }
      return Boundary.Again;
    }
  }
  return waits ? Boundary.Idle : undefined;
}

/** Whether `boundary` would answer Idle; asks only and changes nothing. */
export function asleep(cpu: CpuContext): boolean {
  const { v, virtualization } = cpu;
  const { activity, eventRequest: request, interruptibility: shadow } = v;
  if (
    activity !== ActivityState.Hlt && activity !== ActivityState.WaitForSipi
  ) return false;
  if (initArrives(cpu)) return false;
  if (activity === ActivityState.WaitForSipi) {
    return (request & EventRequest.Sipi) === 0;
  }
  const guest = v.guestMode !== GuestMode.None;
  if ((guest && request & WINDOWS) || request & EventRequest.Introspection) {
    return false;
  }
  if (v.pendingDebug !== 0) return false;
  if (virtualization?.eventsHeld?.(cpu)) return true;
  if (request & EventRequest.Smi) return false;
  const unblocked = (by: number): boolean => (shadow & by) === 0;
  if (
    request & EventRequest.Nmi &&
    unblocked(Interruptibility.ByNmi | Interruptibility.ByMovSs)
  ) return false;
  if (!(request & EventRequest.Interrupt) || !unblocked(SHADOW)) return true;
  return (v.rflags & Rflags.IF) === 0 &&
    !(guest && virtualization?.acceptsMaskedInterrupt?.(cpu));
}

const WINDOWS = EventRequest.Virtualization | EventRequest.VirtualizationStep;

/** See the file header. At most one thing happens for each call. */
export function boundary(cpu: CpuContext): BoundaryCode {
  const { v } = cpu;
  const { virtualization } = cpu;
  if (v.activity === ActivityState.Shutdown) return Boundary.Shutdown;
  const request = v.eventRequest;
  if (request !== 0 || v.activity === ActivityState.WaitForSipi) {
    const started = initialization(cpu);
    if (started !== undefined) return started;
  }
  const guest = v.guestMode !== GuestMode.None && virtualization !== undefined;
  const held = virtualization?.eventsHeld?.(cpu) === true;
  // APM 2 §15.17: GIF = 0 discards breakpoint matches, single-step traps go on.
  const discards = held && !cpu.model.quirks.has("kvm-gif-breakpoints");
  const windows = guest && !held && (request & WINDOWS) !== 0;
  if (windows && virtualization.boundary(cpu, 0)) return Boundary.Again;

  if (request & EventRequest.Smi && !held) {
    // There is no firmware: its SMM handler is an RSM, which shows nowhere.
    v.eventRequest &= ~EventRequest.Smi;
    if (guest && virtualization.interceptSmi?.(cpu)) return Boundary.Again;
  }

  const shadow = v.interruptibility;
  if (v.pendingDebug !== 0 && !(shadow & Interruptibility.ByMovSs)) {
    const told = discards ? DR6_BITS & ~DR6_MATCHES : DR6_BITS;
    const bits = v.pendingDebug & told;
    v.pendingDebug = 0;
    if (bits !== 0) {
      v.raise(Vector.DB, -1, BigInt(bits));
      deliverPending(cpu, 0);
      return Boundary.Again;
    }
  }
  if (
    request & EventRequest.Introspection && cpu.exceptionFilter?.boundary(cpu)
  ) return Boundary.Again;
  const nmiBlocks = Interruptibility.ByNmi | Interruptibility.ByMovSs;
  if (!held && !(shadow & nmiBlocks)) {
    if (windows && virtualization.boundary(cpu, 1)) return Boundary.Again;
    if (request & EventRequest.Nmi) {
      v.eventRequest &= ~EventRequest.Nmi;
      if (!(guest && virtualization.interceptNmi(cpu))) {
        deliverEvent(cpu, event(Vector.NMI, EventType.Nmi), 0n);
      }
      return Boundary.Again;
    }
  }
  if (!held && !(shadow & SHADOW)) {
    const open = (v.rflags & Rflags.IF) !== 0;
    const inward = guest ? virtualization.interruptsOpen?.(cpu) ?? open : open;
    if (open && windows && virtualization.boundary(cpu, 2)) {
      return Boundary.Again;
    }
    if (request & EventRequest.Interrupt) {
      const offered = inward || (guest &&
        virtualization.acceptsMaskedInterrupt?.(cpu) === true);
      if (guest && offered && virtualization.interceptInterrupt(cpu)) {
        return Boundary.Again;
      }
      if (inward && external(cpu)) return Boundary.Again;
    }
    if (open && windows && virtualization.boundary(cpu, 3)) {
      return Boundary.Again;
    }
  }
  if (v.activity === ActivityState.Hlt) return Boundary.Idle;
  if (
    (v.word(DR7) & 0xff) !== 0 && !discards && !(v.rflags & Rflags.RF) &&
    // MOV SS holds instruction breakpoints on Intel's processors only.
    (!(shadow & Interruptibility.ByMovSs) ||
      cpu.model.vendor === "AuthenticAMD")
  ) {
    const met = instructionBreakpoints(cpu);
    if (met !== 0) {
      v.raise(Vector.DB, -1, BigInt(met));
      deliverPending(cpu, 0);
      return Boundary.Again;
    }
  }
  return Boundary.Execute;
}

/** HLT retired. */
export function halt(cpu: CpuContext): void {
  setActivity(cpu, ActivityState.Hlt);
}

function setActivity(cpu: CpuContext, activity: number): void {
  cpu.v.activity = activity;
  cpu.facts.emit(ActivityChanged, { cpu: cpu.index, activity });
}
