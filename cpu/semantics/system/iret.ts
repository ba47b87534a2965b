/**
 * IRET, IRETD and IRETQ (SDM 2A IRET): real mode, same and outer privilege,
 * nested task, IA-32e mode, and by virtual8086.ts virtual-8086 mode.
 */
import { Rflags, SegmentRights as R } from "../../arch/flags.ts";
import type { CpuContext } from "../../context.ts";
import type { Insn } from "../../isa/insn.ts";
import { Outcome, type OutcomeCode } from "../../isa/row.ts";
import { Interruptibility, Seg } from "../../layout.ts";
import {
  failed,
  gp,
  in64,
  iopl,
  longModeActive,
  protectedMode,
  readSystem,
  virtual8086,
} from "./common.ts";
import {
  dropInnerSegments,
  loadReal,
  markAccessed,
  segmentOf,
} from "./descriptors.ts";
import {
  offsetAllowed,
  returnCode,
  returnStack,
  setStackPointer,
} from "./far.ts";
import { Stack } from "./stack.ts";
import { TaskSource, taskSwitch } from "./task.ts";
import { enterVirtual8086, iretInside } from "./virtual8086.ts";

const STATUS = Rflags.CF | Rflags.PF | Rflags.AF | Rflags.ZF | Rflags.SF |
  Rflags.TF | Rflags.DF | Rflags.OF | Rflags.NT;
const WIDE = Rflags.RF | Rflags.AC | Rflags.ID;

/** RFLAGS after a return whose image is `image`, judged at the CPL before it. */
function flagsAfter(cpu: CpuContext, image: number, bits: number): number {
  const { v } = cpu;
  let mask: number = STATUS;
  if (bits !== 16) mask |= WIDE;
  if (v.cpl <= iopl(v)) mask |= Rflags.IF;
  if (v.cpl === 0) {
    mask |= Rflags.IOPL;
    if (bits !== 16) mask |= Rflags.VIF | Rflags.VIP;
  }
  return ((v.rflags & ~mask) | (image & mask) | Rflags.Fixed1) >>> 0;
}

function realIret(cpu: CpuContext, bits: number): OutcomeCode {
  const { v } = cpu;
  const stack = Stack.current(cpu);
  const rip = stack.pop(bits);
  if (rip === undefined) return failed(cpu);
  const cs = stack.pop(bits);
  if (cs === undefined) return failed(cpu);
  const flags = stack.pop(bits);
  if (flags === undefined) return failed(cpu);
  if (rip > BigInt(v.segLimit(Seg.CS))) return gp(cpu);
  stack.commit();
  const image = Number(flags);
  // SDM 2A IRET, REAL-ADDRESS-MODE.
  v.rflags = bits === 32
    ? ((image & 0x257fd5) | (v.rflags & 0x1a0000) | Rflags.Fixed1) >>> 0
    : ((v.rflags & ~0x7fd5) | (image & 0x7fd5) | Rflags.Fixed1) >>> 0;
  loadReal(v, Seg.CS, Number(cs & 0xffffn));
  cpu.nextRip = rip;
  return Outcome.Done;
}

function nestedTask(cpu: CpuContext): OutcomeCode {
  const { v } = cpu;
  const link = readSystem(cpu, v.segBase(Seg.TR), 2);
  if (link === undefined) return failed(cpu);
  const outcome = taskSwitch(cpu, Number(link), TaskSource.Iret, {
    ext: 0,
    returnRip: cpu.nextRip,
    flags: v.rflags,
    errorCode: -1,
  });
  if (outcome !== Outcome.Done) return outcome;
  v.step += 1;
  return Outcome.Completed;
}

/** See the file header. */
export function iret(cpu: CpuContext, insn: Insn): OutcomeCode {
  const { v } = cpu;
  // IRET ends blocking by NMI, even when it faults (SDM 3A §6.7.1).
  if (!cpu.virtualization?.keepsNmiBlocking?.(cpu)) {
    v.interruptibility &= ~Interruptibility.ByNmi;
  }
  const bits = insn.operandSize;
  if (virtual8086(v)) return iretInside(cpu, bits);
  if (!protectedMode(v)) return realIret(cpu, bits);
  const long = longModeActive(v);
  if (v.rflags & Rflags.NT) return long ? gp(cpu) : nestedTask(cpu);

  const stack = Stack.current(cpu);
  // The manuals leave the order of reads open; this is what silicon does.
  const bytes = bits >> 3;
  const flags = stack.peek(bits, 2 * bytes);
  if (flags === undefined) return failed(cpu);
  const cs = stack.peek(bits, bytes);
  if (cs === undefined) return failed(cpu);
  const rip = stack.peek(bits);
  if (rip === undefined) return failed(cpu);
  stack.drop(3 * bytes);
  const image = Number(flags & 0xffff_ffffn);
  if (!long && bits === 32 && (image & Rflags.VM) && v.cpl === 0) {
    return enterVirtual8086(cpu, stack, rip, Number(cs & 0xffffn), image);
  }
  const selector = Number(cs & 0xffffn);
  const d = returnCode(cpu, selector);
  if (d === undefined) return failed(cpu);
  const rpl = selector & 3;
  const outer = rpl !== v.cpl;
  const from64 = in64(v);
  if (!outer && !from64) {
    const code = markAccessed(cpu, d);
    if (code === undefined) return failed(cpu);
    if (!offsetAllowed(cpu, code, rip)) return gp(cpu);
    stack.commit();
    v.rflags = flagsAfter(cpu, image, bits);
    v.setSegment(Seg.CS, segmentOf(code, selector));
    cpu.nextRip = rip;
    return Outcome.Done;
  }
  const ssPopped = stack.peek(bits, bytes);
  if (ssPopped === undefined) return failed(cpu);
  const sp = stack.peek(bits);
  if (sp === undefined) return failed(cpu);
  const to64 = long && (d.attributes & R.Long) !== 0;
  const ss = returnStack(cpu, Number(ssPopped & 0xffffn), rpl, to64);
  if (ss === undefined) return failed(cpu);
  const code = markAccessed(cpu, d);
  if (code === undefined) return failed(cpu);
  if (!offsetAllowed(cpu, code, rip)) return gp(cpu);
  v.rflags = flagsAfter(cpu, image, bits);
  v.setSegment(Seg.CS, segmentOf(code, selector));
  v.setSegment(Seg.SS, ss);
  v.cpl = rpl;
  setStackPointer(cpu, sp, bits);
  if (outer) dropInnerSegments(v);
  cpu.nextRip = rip;
  return Outcome.Done;
}
