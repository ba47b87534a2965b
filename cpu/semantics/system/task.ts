/**
 * Hardware task switch with 16- and 32-bit TSSs (SDM 3A §7.3, §7.6; SDM 2A CALL, JMP, IRET,
 * INT n "TASK-…"). Until the new TSS is read whole, faults belong to the old
 * task; afterwards (step 11 on) they belong to the new one.
 */
import { Vector } from "../../arch/exceptions.ts";
import { Cr0, Cr4, Rflags, SegmentRights as R } from "../../arch/flags.ts";
import type { CpuContext } from "../../context.ts";
import { Outcome, type OutcomeCode } from "../../isa/row.ts";
import { GuestMode, Seg } from "../../layout.ts";
import { Access, Control } from "../../port.ts";
import type { Vcpu } from "../../vcpu.ts";
import {
  failed,
  longModeActive,
  MASK16,
  MASK32,
  readSystem,
  refuse,
  virtual8086,
  writeSystem,
} from "./common.ts";
import {
  baseOf,
  type Descriptor,
  dplOf,
  fetchDescriptor,
  isCode,
  isConforming,
  isNull,
  isPresent,
  isSystem,
  isWritableData,
  limitOf,
  loadVirtual8086,
  markAccessed,
  nullSegment,
  segmentOf,
  selectorError,
  SystemType,
} from "./descriptors.ts";
import { Stack } from "./stack.ts";

/** What started the switch; numbers as in the VM-exit qualification (SDM 3C table 28-2). */
export const TaskSource = { Call: 0, Iret: 1, Jump: 2, Gate: 3 } as const;
/** One of TaskSource. */
export type TaskSourceCode = typeof TaskSource[keyof typeof TaskSource];

/** Details of a switch. */
export interface TaskSwitch {
  /** EXT bit of error codes. */
  readonly ext: number;
  /** EIP to save in the old TSS. */
  readonly returnRip: bigint;
  /** EFLAGS to save in the old TSS. */
  readonly flags: number;
  /** Error code to push on the new stack, or −1. */
  readonly errorCode: number;
}

/** Where a TSS of one kind has its dynamic fields; -1: it has none. */
interface TssFormat {
  readonly available: number;
  readonly busy: number;
  readonly minLimit: number;
  /** Bytes of a general register, EIP and EFLAGS. */
  readonly width: 2 | 4;
  readonly cr3: number;
  readonly ip: number;
  readonly flags: number;
  readonly gpr: number;
  readonly segments: number;
  /** Bytes from one selector to the next. */
  readonly stride: 2 | 4;
  /** Selectors: ES CS SS DS, and FS GS where they exist. */
  readonly count: 4 | 6;
  readonly ldt: number;
  readonly trap: number;
}

/** SDM 3A figure 7-2. */
const TSS32: TssFormat = {
  available: SystemType.Tss32,
  busy: SystemType.Tss32Busy,
  minLimit: 0x67,
  width: 4,
  cr3: 0x1c,
  ip: 0x20,
  flags: 0x24,
  gpr: 0x28,
  segments: 0x48,
  stride: 4,
  count: 6,
  ldt: 0x60,
  trap: 0x64,
};
/** SDM 3A figure 7-10. */
const TSS16: TssFormat = {
  available: SystemType.Tss16,
  busy: SystemType.Tss16Busy,
  minLimit: 0x2b,
  width: 2,
  cr3: -1,
  ip: 0x0e,
  flags: 0x10,
  gpr: 0x12,
  segments: 0x22,
  stride: 2,
  count: 4,
  ldt: 0x2a,
  trap: -1,
};
/** The format that a TSS descriptor or TR names. */
const formatOf = (attributes: number): TssFormat =>
  attributes & 8 ? TSS32 : TSS16;
const DR7_LOCAL = 0x155n;
const DR6_BT = 1 << 15;
const EFLAGS_WRITABLE = 0x3f7fd5;

/** Fetches and checks the TSS descriptor (SDM 3A §7.3 step 3). */
function tssDescriptor(
  cpu: CpuContext,
  selector: number,
  source: TaskSourceCode,
  ext: number,
): Descriptor | undefined {
  const iret = source === TaskSource.Iret;
  const vector = iret ? Vector.TS : Vector.GP;
  const error = selectorError(selector) | ext;
  if (isNull(selector) || (selector & 4)) return refuse(cpu, vector, error);
  const d = fetchDescriptor(cpu, selector, vector, ext);
  if (d === undefined) return undefined;
  const type = d.attributes & R.TypeMask;
  const format = formatOf(d.attributes);
  const wanted = iret ? format.busy : format.available;
  if (!isSystem(d.attributes) || type !== wanted) {
    return refuse(cpu, vector, error);
  }
  if (!isPresent(d.attributes)) return refuse(cpu, Vector.NP, error);
  if (limitOf(d) < format.minLimit) return refuse(cpu, Vector.TS, error);
  return d;
}

function setBusy(cpu: CpuContext, d: Descriptor, busy: boolean): OutcomeCode {
  const byte = (d.high >>> 8) & 0xff;
  const next = busy ? byte | 2 : byte & ~2;
  return writeSystem(cpu, d.address + 5n, 1, BigInt(next));
}

/** Saves the old task's dynamic fields. The TSS was probed: nothing can fault. */
function save(cpu: CpuContext, base: bigint, how: TaskSwitch, flags: number) {
  const { v } = cpu;
  const f = formatOf(v.segAttributes(Seg.TR));
  const mask = f.width === 4 ? MASK32 : MASK16;
  const put = (at: number, value: bigint, bytes: number = f.width): void => {
    writeSystem(cpu, base + BigInt(at), bytes, value & mask);
  };
  put(f.ip, how.returnRip);
  put(f.flags, BigInt(flags >>> 0));
  for (let i = 0; i < 8; i++) put(f.gpr + i * f.width, BigInt(v.gpr32(i)));
  for (let s = 0; s < f.count; s++) {
    put(f.segments + s * f.stride, BigInt(v.segSelector(s)), 2);
  }
}

interface NewTask {
  readonly format: TssFormat;
  /** undefined: a 16-bit TSS leaves CR3 alone. */
  readonly cr3: number | undefined;
  readonly eip: bigint;
  readonly eflags: number;
  readonly gpr: readonly number[];
  readonly segments: readonly number[];
  readonly ldt: number;
  readonly trap: boolean;
}

function load(
  cpu: CpuContext,
  base: bigint,
  f: TssFormat,
): NewTask | undefined {
  const word = (at: number, bytes: number = f.width): number => {
    const value = readSystem(cpu, base + BigInt(at), bytes);
    return value === undefined ? 0 : Number(value);
  };
  if (cpu.access.probe(base, f.minLimit + 1, Access.System) !== 0) {
    return undefined;
  }
  return {
    format: f,
    cr3: f.cr3 < 0 ? undefined : word(f.cr3),
    eip: BigInt(word(f.ip)),
    eflags: word(f.flags),
    gpr: Array.from({ length: 8 }, (_, i) => word(f.gpr + i * f.width)),
    // A 16-bit TSS makes FS and GS null.
    segments: Array.from(
      { length: 6 },
      (_, i) => i < f.count ? word(f.segments + i * f.stride, 2) : 0,
    ),
    ldt: word(f.ldt, 2),
    trap: f.trap >= 0 && (word(f.trap, 2) & 1) !== 0,
  };
}

/**
 * Switches tasks. @returns Done with everything committed (RIP too), Exit, or a
 * fault that belongs to the old or (RIP already replaced) to the new task
 */
export function taskSwitch(
  cpu: CpuContext,
  selector: number,
  source: TaskSourceCode,
  how: TaskSwitch,
): OutcomeCode {
  const { v } = cpu;
  if (longModeActive(v)) return v.raise(Vector.GP, selectorError(selector));
  const next = tssDescriptor(cpu, selector, source, how.ext);
  if (next === undefined) return failed(cpu);
  if (
    v.guestMode !== GuestMode.None &&
    cpu.virtualization?.interceptTaskSwitch(cpu, selector, source)
  ) return Outcome.Exit;
  const oldSelector = v.segSelector(Seg.TR);
  const oldBase = v.segBase(Seg.TR);
  const nextBase = baseOf(next);
  const { access } = cpu;
  // Step 4: both TSSs must be paged in before anything is written.
  const writable = Access.System | Access.Write;
  const oldBytes = formatOf(v.segAttributes(Seg.TR)).minLimit + 1;
  if (access.probe(oldBase, oldBytes, writable) !== 0) return failed(cpu);
  const format = formatOf(next.attributes);
  const task = load(cpu, nextBase, format);
  if (task === undefined) return failed(cpu);
  const nested = source === TaskSource.Call || source === TaskSource.Gate;
  if (nested && access.probe(nextBase, 4, writable) !== 0) return failed(cpu);

  // Steps 5–7: busy flag and state of the old task.
  if (!nested) {
    const old = fetchDescriptor(cpu, oldSelector, Vector.TS, how.ext);
    if (old === undefined) return failed(cpu);
    if (setBusy(cpu, old, false) !== Outcome.Done) return failed(cpu);
  }
  const flags = source === TaskSource.Iret ? how.flags & ~Rflags.NT : how.flags;
  save(cpu, oldBase, how, flags);
  // Steps 8–10: link, busy flag of the new task, TR, CR0.TS.
  if (nested) writeSystem(cpu, nextBase, 2, BigInt(oldSelector));
  if (source !== TaskSource.Iret) {
    if (setBusy(cpu, next, true) !== Outcome.Done) return failed(cpu);
  }
  v.setSegment(Seg.TR, {
    ...segmentOf(next, selector),
    attributes: (next.attributes & ~R.TypeMask) | format.busy,
  });
  const oldCr0 = v.cr0;
  v.cr0 = (oldCr0 | Cr0.TS) >>> 0;
  return enter(cpu, task, how, nested);
}

/** Steps 11–14: the new task's state; faults from here on are its own. */
function enter(
  cpu: CpuContext,
  task: NewTask,
  how: TaskSwitch,
  nested: boolean,
): OutcomeCode {
  const { v } = cpu;
  if (v.cr0 & Cr0.PG && task.cr3 !== undefined) {
    const old = v.cr3;
    v.cr3 = task.cr3;
    if (
      (v.cr4 & Cr4.PAE) && !cpu.translator.loadPdptes(cpu, task.cr3)
    ) return cpu.v.stage2 ? Outcome.Stage2 : Outcome.Fault;
    cpu.translator.controlChanged(cpu, Control.Cr3, old, task.cr3);
  }
  let eflags = (task.eflags & EFLAGS_WRITABLE) | Rflags.Fixed1;
  if (nested) eflags |= Rflags.NT;
  v.rflags = eflags >>> 0;
  v.rip = task.eip;
  for (let i = 0; i < 8; i++) v.setGpr32(i, task.gpr[i]);
  v.setDr(7, v.dr(7) & ~DR7_LOCAL);
  for (let s = 0; s < 6; s++) v.setSegment(s, nullSegment(task.segments[s]));
  v.setSegment(Seg.LDTR, nullSegment(task.ldt));
  v.cpl = task.segments[Seg.CS] & 3;
  if (!loadAll(cpu, task, how.ext)) return failed(cpu);
  if (how.errorCode >= 0) {
    const stack = Stack.current(cpu);
    const bits = task.format.width * 8;
    if (!stack.push(bits, BigInt(how.errorCode))) return failed(cpu);
    stack.commit();
  }
  if (v.rip > BigInt(v.segLimit(Seg.CS))) return v.raise(Vector.GP, 0);
  if (task.trap) {
    v.pendingDebug |= DR6_BT;
    cpu.attention = true;
  }
  return Outcome.Done;
}

function loadAll(cpu: CpuContext, task: NewTask, ext: number): boolean {
  const { v } = cpu;
  if (!loadLdt(cpu, v, task.ldt, ext)) return false;
  if (virtual8086(v)) {
    v.cpl = 3;
    task.segments.forEach((s, i) => loadVirtual8086(v, i, s));
    return true;
  }
  // CS first: it gives the CPL by which the others are judged.
  const [es, cs, ss, ds, fs, gs] = task.segments;
  return loadCode(cpu, cs, ext) && loadStack(cpu, ss, ext) &&
    loadData(cpu, Seg.ES, es, ext) && loadData(cpu, Seg.DS, ds, ext) &&
    loadData(cpu, Seg.FS, fs, ext) && loadData(cpu, Seg.GS, gs, ext);
}

function loadLdt(
  cpu: CpuContext,
  v: Vcpu,
  selector: number,
  ext: number,
): boolean {
  if (isNull(selector)) return true;
  const error = selectorError(selector) | ext;
  const d = selector & 4
    ? refuse(cpu, Vector.TS, error)
    : fetchDescriptor(cpu, selector, Vector.TS, ext);
  if (d === undefined) return false;
  const type = d.attributes & (R.CodeData | R.TypeMask);
  if (type !== SystemType.Ldt || !isPresent(d.attributes)) {
    refuse(cpu, Vector.TS, error);
    return false;
  }
  v.setSegment(Seg.LDTR, segmentOf(d, selector));
  return true;
}

function commit(cpu: CpuContext, segment: number, d: Descriptor): boolean {
  const marked = markAccessed(cpu, d);
  if (marked === undefined) return false;
  cpu.v.setSegment(segment, segmentOf(marked, d.selector));
  return true;
}

function loadCode(cpu: CpuContext, selector: number, ext: number): boolean {
  const error = selectorError(selector) | ext;
  const d = isNull(selector)
    ? refuse(cpu, Vector.TS, error)
    : fetchDescriptor(cpu, selector, Vector.TS, ext);
  if (d === undefined) return false;
  const a = d.attributes;
  const dpl = dplOf(a);
  const rpl = selector & 3;
  if (!isCode(a) || (isConforming(a) ? dpl > rpl : dpl !== rpl)) {
    refuse(cpu, Vector.TS, error);
    return false;
  }
  if (!isPresent(a)) {
    refuse(cpu, Vector.NP, error);
    return false;
  }
  return commit(cpu, Seg.CS, d);
}

function loadStack(cpu: CpuContext, selector: number, ext: number): boolean {
  const error = selectorError(selector) | ext;
  const d = isNull(selector)
    ? refuse(cpu, Vector.TS, error)
    : fetchDescriptor(cpu, selector, Vector.TS, ext);
  if (d === undefined) return false;
  const a = d.attributes;
  const { cpl } = cpu.v;
  if (!isWritableData(a) || dplOf(a) !== cpl || (selector & 3) !== cpl) {
    refuse(cpu, Vector.TS, error);
    return false;
  }
  if (!isPresent(a)) {
    refuse(cpu, Vector.SS, error);
    return false;
  }
  return commit(cpu, Seg.SS, d);
}

function loadData(
  cpu: CpuContext,
  segment: number,
  selector: number,
  ext: number,
): boolean {
  if (isNull(selector)) return true;
  const d = fetchDescriptor(cpu, selector, Vector.TS, ext);
  if (d === undefined) return false;
  const a = d.attributes;
  const error = selectorError(selector) | ext;
  const readable = !isSystem(a) && (!isCode(a) || (a & R.WritableReadable));
  const dpl = dplOf(a);
  const allowed = isConforming(a) ||
    ((selector & 3) <= dpl && cpu.v.cpl <= dpl);
  if (!readable || !allowed) {
    refuse(cpu, Vector.TS, error);
    return false;
  }
  if (!isPresent(a)) {
    refuse(cpu, Vector.NP, error);
    return false;
  }
  return commit(cpu, segment, d);
}
