/**
 * Event delivery in IA-32e mode (SDM 3A §6.14; SDM 2A INT n, IA-32e parts):
 * 16-byte gates, stack switch through RSPn or IST, frame of five quadwords.
 */
import { Vector } from "../../arch/exceptions.ts";
import { Rflags, SegmentRights as R } from "../../arch/flags.ts";
import type { CpuContext } from "../../context.ts";
import { Outcome, type OutcomeCode } from "../../isa/row.ts";
import { Gpr, Seg } from "../../layout.ts";
import type { DeliveredEvent } from "../../port.ts";
import { failed, readSystem, refuse } from "./common.ts";
import { isSoftware, pushedFlags, returnRip } from "./events.ts";
import {
  dplOf,
  fetchDescriptor,
  isCode,
  isConforming,
  isNull,
  isPresent,
  markAccessed,
  nullStack,
  segmentOf,
  selectorError,
  SystemType,
} from "./descriptors.ts";
import { Stack } from "./stack.ts";

/** A stack pointer field of the 64-bit TSS (SDM 3A §7.7), or undefined with #TS. */
export function stackFromTss64(
  cpu: CpuContext,
  offset: number,
  ext: number,
): bigint | undefined {
  const { v } = cpu;
  const selector = v.segSelector(Seg.TR);
  if (offset + 7 > v.segLimit(Seg.TR)) {
    return refuse(cpu, Vector.TS, selectorError(selector) | ext);
  }
  return readSystem(cpu, v.segBase(Seg.TR) + BigInt(offset), 8);
}

/** @returns Done with state committed, or a fault with nothing committed */
export function deliverLong(
  cpu: CpuContext,
  event: DeliveredEvent,
): OutcomeCode {
  const { v } = cpu;
  const software = isSoftware(event);
  const ext = software ? 0 : 1;
  const idtError = event.vector * 8 + 2 + ext;
  // Gate within the IDT's limit; descriptor type; DPL for software interrupts.
  if (event.vector * 16 + 15 > v.idtrLimit) {
    return v.raise(Vector.GP, idtError);
  }
  const at = v.idtrBase + BigInt(event.vector * 16);
  const low = readSystem(cpu, at, 8);
  if (low === undefined) return failed(cpu);
  const high = readSystem(cpu, at + 8n, 8);
  if (high === undefined) return failed(cpu);
  const rights = Number(low >> 40n) & 0xff;
  const type = rights & 0x1f;
  const trap = type === SystemType.TrapGate32;
  if (!trap && type !== SystemType.InterruptGate32) {
    return v.raise(Vector.GP, idtError);
  }
  if (software && dplOf(rights) < v.cpl) return v.raise(Vector.GP, idtError);
  if (!isPresent(rights)) return v.raise(Vector.NP, idtError);
  const offset = (low & 0xffffn) | ((low >> 32n) & 0xffff_0000n) |
    ((high & 0xffff_ffffn) << 32n);
  const selector = Number(low >> 16n) & 0xffff;
  const ist = Number(low >> 32n) & 7;

  // Code segment of the handler.
  if (isNull(selector)) return v.raise(Vector.GP, ext);
  let code = fetchDescriptor(cpu, selector, Vector.GP, ext);
  if (code === undefined) return failed(cpu);
  const a = code.attributes;
  const codeError = selectorError(selector) | ext;
  if (!isCode(a) || dplOf(a) > v.cpl) return v.raise(Vector.GP, codeError);
  if (!isPresent(a)) return v.raise(Vector.NP, codeError);
  if (!(a & R.Long) || (a & R.DefaultBig)) {
    return v.raise(Vector.GP, codeError);
  }
  const inner = !isConforming(a) && dplOf(a) < v.cpl;
  const oldCpl = v.cpl;
  const cpl = inner ? dplOf(a) : oldCpl;

  // Stack: IST, RSPn, or the current one; aligned to 16 bytes.
  let rsp: bigint | undefined = v.gpr(Gpr.RSP);
  if (ist !== 0) rsp = stackFromTss64(cpu, 28 + ist * 8, ext);
  else if (inner) rsp = stackFromTss64(cpu, 4 + cpl * 8, ext);
  if (rsp === undefined) return failed(cpu);
  code = markAccessed(cpu, code);
  if (code === undefined) return failed(cpu);

  const stack = new Stack(cpu, undefined, rsp & ~0xfn, ext);
  const frame = [
    BigInt(v.segSelector(Seg.SS)),
    v.gpr(Gpr.RSP),
    BigInt(pushedFlags(cpu, event)),
    BigInt(v.segSelector(Seg.CS)),
    returnRip(cpu, event),
  ];
  if (event.errorCode >= 0) frame.push(BigInt(event.errorCode));
  // The pushes are judged at the handler's privilege.
  v.cpl = cpl;
  for (const value of frame) {
    if (!stack.push(64, value)) {
      v.cpl = oldCpl;
      return failed(cpu);
    }
  }
  if (!cpu.access.canonical(offset)) {
    v.cpl = oldCpl;
    return v.raise(Vector.GP, ext);
  }
  if (inner) v.setSegment(Seg.SS, nullStack(cpl, cpl));
  v.setGpr(Gpr.RSP, stack.sp);
  v.setSegment(Seg.CS, segmentOf(code, (selector & ~3) | cpl));
  v.rip = offset;
  let flags = v.rflags & ~(Rflags.TF | Rflags.NT | Rflags.RF | Rflags.VM);
  if (!trap) flags &= ~Rflags.IF;
  v.rflags = flags >>> 0;
  return Outcome.Done;
}
