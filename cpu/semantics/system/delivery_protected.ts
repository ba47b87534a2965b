/**
 * Event delivery in protected mode outside IA-32e mode (SDM 3A §6.12; SDM 2A
 * INT n): 16- and 32-bit interrupt and trap gates, stack switch through the
 * TSS, task gates, events from virtual-8086 mode.
 */
import { Vector } from "../../arch/exceptions.ts";
import { Rflags, SegmentRights as R } from "../../arch/flags.ts";
import type { CpuContext } from "../../context.ts";
import { Outcome, type OutcomeCode } from "../../isa/row.ts";
import { Gpr, Seg } from "../../layout.ts";
import type { DeliveredEvent } from "../../port.ts";
import type { SegmentValue } from "../../vcpu.ts";
import { failed, readSystem, refuse, virtual8086 } from "./common.ts";
import { isSoftware, pushedFlags, returnRip } from "./events.ts";
import {
  dplOf,
  fetchDescriptor,
  isCode,
  isConforming,
  isNull,
  isPresent,
  isWritableData,
  limitOf,
  markAccessed,
  segmentOf,
  selectorError,
  SystemType,
} from "./descriptors.ts";
import { Stack } from "./stack.ts";
import { TaskSource, taskSwitch } from "./task.ts";
import { leaveVirtual8086 } from "./virtual8086.ts";

/** A stack that the TSS names for an inner privilege level. */
export interface InnerStack {
  /** SS, checked. */
  readonly ss: SegmentValue;
  /** SP or ESP. */
  readonly sp: bigint;
}

/**
 * SS:ESP for `cpl` from the 16- or 32-bit TSS, checked (SDM 2A INT n,
 * INTER-PRIVILEGE-LEVEL-INTERRUPT; CALL, MORE-PRIVILEGE).
 * @param ext EXT bit of every error code
 */
export function innerStack(
  cpu: CpuContext,
  cpl: number,
  ext: number,
): InnerStack | undefined {
  const { v } = cpu;
  const wide = (v.segAttributes(Seg.TR) & 8) !== 0;
  const at = wide ? 4 + cpl * 8 : 2 + cpl * 4;
  const last = at + (wide ? 7 : 3);
  if (last > v.segLimit(Seg.TR)) {
    return refuse(cpu, Vector.TS, selectorError(v.segSelector(Seg.TR)) | ext);
  }
  const base = v.segBase(Seg.TR) + BigInt(at);
  const sp = readSystem(cpu, base, wide ? 4 : 2);
  if (sp === undefined) return undefined;
  const raw = readSystem(cpu, base + (wide ? 4n : 2n), 2);
  if (raw === undefined) return undefined;
  const selector = Number(raw);
  if (isNull(selector)) return refuse(cpu, Vector.TS, ext);
  let d = fetchDescriptor(cpu, selector, Vector.TS, ext);
  if (d === undefined) return undefined;
  const error = selectorError(selector) | ext;
  if (
    (selector & 3) !== cpl || dplOf(d.attributes) !== cpl ||
    !isWritableData(d.attributes)
  ) return refuse(cpu, Vector.TS, error);
  if (!isPresent(d.attributes)) return refuse(cpu, Vector.SS, error);
  d = markAccessed(cpu, d);
  return d && { ss: segmentOf(d, selector), sp };
}

/** @returns Done with state committed, Exit, or a fault with nothing committed */
export function deliverProtected(
  cpu: CpuContext,
  event: DeliveredEvent,
): OutcomeCode {
  const { v } = cpu;
  const software = isSoftware(event);
  const ext = software ? 0 : 1;
  const idtError = event.vector * 8 + 2 + ext;
  if (event.vector * 8 + 7 > v.idtrLimit) return v.raise(Vector.GP, idtError);
  const gate = readSystem(cpu, v.idtrBase + BigInt(event.vector * 8), 8);
  if (gate === undefined) return failed(cpu);
  const rights = Number(gate >> 40n) & 0xff;
  const type = rights & 0x1f;
  const wide = type === SystemType.InterruptGate32 ||
    type === SystemType.TrapGate32;
  const task = type === SystemType.TaskGate;
  const narrow = type === SystemType.InterruptGate16 ||
    type === SystemType.TrapGate16;
  if (!wide && !narrow && !task) return v.raise(Vector.GP, idtError);
  if (software && dplOf(rights) < v.cpl) return v.raise(Vector.GP, idtError);
  if (!isPresent(rights)) return v.raise(Vector.NP, idtError);
  const selector = Number(gate >> 16n) & 0xffff;
  if (task) {
    return taskSwitch(cpu, selector, TaskSource.Gate, {
      ext,
      returnRip: returnRip(cpu, event),
      flags: pushedFlags(cpu, event),
      errorCode: event.errorCode,
    });
  }
  const offset = wide
    ? (gate & 0xffffn) | ((gate >> 32n) & 0xffff_0000n)
    : gate & 0xffffn;

  if (isNull(selector)) return v.raise(Vector.GP, ext);
  let code = fetchDescriptor(cpu, selector, Vector.GP, ext);
  if (code === undefined) return failed(cpu);
  const a = code.attributes;
  const codeError = selectorError(selector) | ext;
  if (!isCode(a) || dplOf(a) > v.cpl) return v.raise(Vector.GP, codeError);
  if (!isPresent(a)) return v.raise(Vector.NP, codeError);
  const from8086 = virtual8086(v);
  // Handlers of virtual-8086 mode run at CPL 0 (SDM 3A §20.3.1).
  if (from8086 && (isConforming(a) || dplOf(a) !== 0)) {
    return v.raise(Vector.GP, codeError);
  }
  const inner = !isConforming(a) && dplOf(a) < v.cpl;
  const oldCpl = v.cpl;
  const cpl = inner ? dplOf(a) : oldCpl;
  let next: InnerStack | undefined;
  if (inner) {
    next = innerStack(cpu, cpl, ext);
    if (next === undefined) return failed(cpu);
  }
  if (offset > BigInt(limitOf(code))) return v.raise(Vector.GP, ext);
  code = markAccessed(cpu, code);
  if (code === undefined) return failed(cpu);

  const error = next ? selectorError(next.ss.selector) | ext : ext;
  const stack = next
    ? new Stack(cpu, next.ss, next.sp, error)
    : new Stack(cpu, v.segment(Seg.SS), v.gpr(Gpr.RSP), error);
  const frame: bigint[] = [];
  if (from8086) {
    for (const s of [Seg.GS, Seg.FS, Seg.DS, Seg.ES]) {
      frame.push(BigInt(v.segSelector(s)));
    }
  }
  if (next) frame.push(BigInt(v.segSelector(Seg.SS)), v.gpr(Gpr.RSP));
  frame.push(
    BigInt(pushedFlags(cpu, event)),
    BigInt(v.segSelector(Seg.CS)),
    returnRip(cpu, event),
  );
  if (event.errorCode >= 0) frame.push(BigInt(event.errorCode));
  v.cpl = cpl;
  for (const value of frame) {
    if (!stack.push(wide ? 32 : 16, value)) {
      v.cpl = oldCpl;
      return failed(cpu);
    }
  }
  if (from8086) leaveVirtual8086(v);
  if (next) v.setSegment(Seg.SS, next.ss);
  stack.commit();
  v.setSegment(Seg.CS, segmentOf(code, (selector & ~3) | cpl));
  v.rip = offset;
  let flags = v.rflags & ~(Rflags.TF | Rflags.NT | Rflags.RF | Rflags.VM);
  const trap = type === SystemType.TrapGate16 || type === SystemType.TrapGate32;
  if (!trap) flags &= ~Rflags.IF;
  v.rflags = flags >>> 0;
  return Outcome.Done;
}

/** Bits of a code segment that decide its mode: used by far transfers too. */
export const CODE_MODE = R.Long | R.DefaultBig;
