/**
 * Events on their way through the IDT: what they are and what of the
 * interrupted state they push (SDM 3A §6.12, SDM 3C table 25-17).
 */
import { Vector } from "../../arch/exceptions.ts";
import { Rflags } from "../../arch/flags.ts";
import type { CpuContext } from "../../context.ts";
import type { DeliveredEvent } from "../../port.ts";
import type { PendingException } from "../../vcpu.ts";

/** Interruption types (SDM 3C table 25-17). */
export const EventType = {
  External: 0,
  Nmi: 2,
  HardwareException: 3,
  SoftwareInterrupt: 4,
  PrivilegedSoftwareException: 5,
  SoftwareException: 6,
} as const;

/** General detect: the one #DB fault that pushes RF as 1. */
const DR6_BD = 1n << 13n;

/** The event that delivers a pending exception. @param length of the instruction, for software exceptions */
export function eventOf(p: PendingException, length = 0): DeliveredEvent {
  return {
    vector: p.vector,
    type: p.software
      ? EventType.SoftwareException
      : EventType.HardwareException,
    errorCode: p.errorCode,
    instructionLength: p.software ? length : 0,
    resumeFlag: p.vector === Vector.DB && (p.payload & DR6_BD) !== 0n,
  };
}

/** True for INT n, INT3 and INTO: gate DPL is checked and EXT is 0. */
export function isSoftware(event: DeliveredEvent): boolean {
  return event.type === EventType.SoftwareInterrupt ||
    event.type === EventType.SoftwareException;
}

/** RIP that the handler will return to. */
export function returnRip(cpu: CpuContext, event: DeliveredEvent): bigint {
  return event.type >= EventType.SoftwareInterrupt
    ? cpu.v.rip + BigInt(event.instructionLength)
    : cpu.v.rip;
}

/**
 * RFLAGS image to push: RF is one for fault-class exceptions other than
 * instruction-breakpoint #DB (SDM 3B §17.3.1.1).
 */
export function pushedFlags(cpu: CpuContext, event: DeliveredEvent): number {
  const flags = cpu.v.rflags;
  const fault = event.type === EventType.HardwareException &&
    event.vector !== Vector.DB && event.vector !== Vector.DF &&
    event.vector !== Vector.MC;
  return (fault || event.resumeFlag ? flags | Rflags.RF : flags) >>> 0;
}
