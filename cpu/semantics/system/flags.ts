/**
 * Instructions on RFLAGS' system bits and on the activity state: CLI, STI,
 * PUSHF, POPF, STAC, CLAC, HLT, MONITOR, MWAIT (SDM 2A–2B, each by name).
 * What CR4.VME and CR4.PVI make of them is in virtual8086.ts.
 */
import { Vector } from "../../arch/exceptions.ts";
import { Cr4, Rflags } from "../../arch/flags.ts";
import type { CpuContext } from "../../context.ts";
import type { Insn } from "../../isa/insn.ts";
import { type CallFunction, Outcome, type OutcomeCode } from "../../isa/row.ts";
import { Gpr, Interruptibility } from "../../layout.ts";
import {
  failed,
  gp,
  iopl,
  maskOf,
  refuse,
  setFlag,
  ud,
  virtual8086,
} from "./common.ts";
import { Stack } from "./stack.ts";
import {
  loadVirtualFlags,
  sensitive,
  usesVirtualFlag,
  virtualFlags,
} from "./virtual8086.ts";

/** CLI: #GP(0) when CPL > IOPL, unless VME or PVI make it clear VIF. */
export function cli(cpu: CpuContext): OutcomeCode {
  const { v } = cpu;
  if (usesVirtualFlag(v)) {
    v.rflags &= ~Rflags.VIF;
    return Outcome.Done;
  }
  if (v.cpl > iopl(v)) return gp(cpu);
  v.rflags &= ~Rflags.IF;
  return Outcome.Done;
}

/** STI: as CLI; holds maskable interrupts for one instruction when IF was 0. */
export function sti(cpu: CpuContext): OutcomeCode {
  const { v } = cpu;
  if (usesVirtualFlag(v)) {
    if (v.rflags & Rflags.VIP) return gp(cpu);
    v.rflags |= Rflags.VIF;
    return Outcome.Done;
  }
  if (v.cpl > iopl(v)) return gp(cpu);
  if (!(v.rflags & Rflags.IF)) {
    v.interruptibility |= Interruptibility.BySti;
    v.rflags |= Rflags.IF;
  }
  return Outcome.Done;
}

/** Virtual-8086 mode with IOPL < 3: only the 16-bit forms exist, and with VME. */
function refusedByIopl(cpu: CpuContext, insn: Insn): boolean {
  const { v } = cpu;
  return sensitive(v) && (!(v.cr4 & Cr4.VME) || insn.operandSize !== 16);
}

/** PUSHF, PUSHFD, PUSHFQ: the image has VM and RF clear. */
export function pushf(cpu: CpuContext, insn: Insn): OutcomeCode {
  const { v } = cpu;
  if (refusedByIopl(cpu, insn)) return gp(cpu);
  const stack = Stack.current(cpu);
  const image = sensitive(v)
    ? virtualFlags(v)
    : v.rflags & ~(Rflags.VM | Rflags.RF);
  if (!stack.push(insn.operandSize, BigInt(image >>> 0))) return failed(cpu);
  stack.commit();
  return Outcome.Done;
}

const POPPED = Rflags.CF | Rflags.PF | Rflags.AF | Rflags.ZF | Rflags.SF |
  Rflags.TF | Rflags.DF | Rflags.OF | Rflags.NT;

/** POPF, POPFD, POPFQ: IF by IOPL, IOPL at CPL 0; RF is cleared. */
export function popf(cpu: CpuContext, insn: Insn): OutcomeCode {
  const { v } = cpu;
  if (refusedByIopl(cpu, insn)) return gp(cpu);
  const stack = Stack.current(cpu);
  const popped = stack.pop(insn.operandSize);
  if (popped === undefined) return failed(cpu);
  const image = Number(popped & 0xffff_ffffn);
  if (sensitive(v) && !loadVirtualFlags(v, image)) return gp(cpu);
  stack.commit();
  if (sensitive(v)) return Outcome.Done;
  let mask: number = POPPED;
  if (insn.operandSize !== 16) mask |= Rflags.AC | Rflags.ID;
  if (v.cpl <= iopl(v)) mask |= Rflags.IF;
  if (v.cpl === 0 && !virtual8086(v)) mask |= Rflags.IOPL;
  v.rflags = ((v.rflags & ~(mask | Rflags.RF)) | (image & mask) |
    Rflags.Fixed1) >>> 0;
  return Outcome.Done;
}

/** STAC and CLAC: #UD outside CPL 0. */
export function setAc(on: boolean): CallFunction {
  return (cpu) => {
    if (cpu.v.cpl !== 0) return ud(cpu);
    setFlag(cpu.v, Rflags.AC, on);
    return Outcome.Done;
  };
}

/** HLT. */
export function hlt(): OutcomeCode {
  return Outcome.Halt;
}

/** MONITOR and MWAIT are #UD outside CPL 0, before interception. */
export function checkMonitor(cpu: CpuContext): number | undefined {
  return cpu.v.cpl === 0 ? 0 : refuse(cpu, Vector.UD, -1);
}

/** MONITOR: the address is checked as a byte load; nothing is armed. */
export function monitor(cpu: CpuContext, insn: Insn): OutcomeCode {
  const { v } = cpu;
  if (v.gpr32(Gpr.RCX) !== 0) return gp(cpu);
  const offset = v.gpr(Gpr.RAX) & maskOf(insn.addressSize);
  cpu.access.readSegment(insn.segment, offset, 1);
  return cpu.access.outcome === 0 ? Outcome.Done : failed(cpu);
}

/** MWAIT may end at any time (SDM 2B MWAIT): here when another vCPU has had its turn. */
export function mwait(cpu: CpuContext): OutcomeCode {
  if (cpu.v.gpr32(Gpr.RCX) & ~1) return gp(cpu);
  return Outcome.Yield;
}
