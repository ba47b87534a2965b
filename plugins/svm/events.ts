/**
 * Events in the formats of EVENTINJ and EXITINTINFO (APM 2 §15.20, §15.7.2) and
 * injection.
 */
import { Vector } from "../../cpu/arch/exceptions.ts";
import type { CpuContext } from "../../cpu/context.ts";
import type { DeliveredEvent } from "../../cpu/port.ts";
import { EventType } from "../../cpu/semantics/system/events.ts";
import { EventInfo, EventInfoType, IntCtl } from "./controls.ts";
import { SCRATCH } from "./scratch.ts";
import type { SvmUnit } from "./unit.ts";
import { Control, type Vmcb } from "./vmcb.ts";

/** An event that was being delivered, as EXITINTINFO tells it; 0 for none. */
export function eventInfo(event: DeliveredEvent | undefined): number {
  if (event === undefined) return 0;
  // INT3, INTO and INT1 count as exceptions.
  const type = event.type === EventType.External
    ? EventInfoType.Interrupt
    : event.type === EventType.Nmi
    ? EventInfoType.Nmi
    : event.type === EventType.SoftwareInterrupt
    ? EventInfoType.SoftwareInterrupt
    : EventInfoType.Exception;
  return (EventInfo.Valid | type << EventInfo.TypeShift | event.vector |
    (event.errorCode >= 0 ? EventInfo.ErrorCodeValid : 0)) >>> 0;
}

/** Delivers EVENTINJ, which passed its checks, before the first instruction. */
export function inject(
  unit: SvmUnit,
  cpu: CpuContext,
  vmcb: Vmcb,
  info: number,
): void {
  const { v } = cpu;
  let vector = info & EventInfo.VectorMask;
  const kind = (info & EventInfo.TypeMask) >>> EventInfo.TypeShift;
  let type: number = EventType.External;
  if (kind === EventInfoType.Nmi) {
    type = EventType.Nmi;
    vector = Vector.NMI;
  } else if (kind === EventInfoType.SoftwareInterrupt) {
    type = EventType.SoftwareInterrupt;
  } else if (kind === EventInfoType.Exception) {
    // §15.20: vectors 3 and 4 behave as if INT3 and INTO had raised them.
    type = vector === Vector.BP || vector === Vector.OF
      ? EventType.SoftwareException
      : EventType.HardwareException;
  }
  // Software interrupts return to nRIP; without NRIP save, to RIP.
  const software = type >= EventType.SoftwareInterrupt &&
    cpu.model.has("nrip-save");
  const instructionLength = software
    ? Number(BigInt.asIntN(64, vmcb.read(Control.nextRip) - v.rip))
    : 0;
  const virtualNmi = type === EventType.Nmi &&
    (v.word(SCRATCH.intCtl) & IntCtl.NmiEnable) !== 0;
  const exits = unit.exits;
  const dr6 = v.dr(6);
  const dr7 = v.dr(7);
  cpu.deliver({
    vector,
    type,
    errorCode: info & EventInfo.ErrorCodeValid
      ? vmcb.read32(Control.eventInjectionError)
      : -1,
    instructionLength,
  }, vector === Vector.PF ? v.cr2 : 0n);
  if (unit.exits !== exits) return;
  // Injection changes neither CR2 nor DR6 and DR7.
  if (vector === Vector.DB) {
    v.setDr(6, dr6);
    v.setDr(7, dr7);
  }
  if (virtualNmi) unit.virtualNmiTaken(cpu);
}
