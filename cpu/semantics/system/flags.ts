/**
 * Instructions on RFLAGS' system bits and on the activity state: CLI, STI,
 * PUSHF, POPF, STAC, CLAC, HLT, MONITOR, MWAIT (SDM 2A–2B, each by name).
 * VME and PVI are never shown by a model.
 */
import { Vector } from "../../arch/exceptions.ts";
import { Rflags } from "../../arch/flags.ts";
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

/** CLI: #GP(0) when CPL > IOPL. */
export function cli(cpu: CpuContext): OutcomeCode {
  const { v } = cpu;
  if (v.cpl > iopl(v)) return gp(cpu);
  v.rflags &= ~Rflags.IF;
  return Outcome.Done;
}

/** STI: holds maskable interrupts for one instruction when IF was 0. */
export function sti(cpu: CpuContext): OutcomeCode {
  const { v } = cpu;
  if (v.cpl > iopl(v)) return gp(cpu);
  if (!(v.rflags & Rflags.IF)) {
    v.interruptibility |= Interruptibility.BySti;
    v.rflags |= Rflags.IF;
  }
  return Outcome.Done;
}

/** PUSHF, PUSHFD, PUSHFQ: the image has VM and RF clear. */
export function pushf(cpu: CpuContext, insn: Insn): OutcomeCode {
  const { v } = cpu;
  if (virtual8086(v) && iopl(v) < 3) return gp(cpu);
  const stack = Stack.current(cpu);
  const image = v.rflags & ~(Rflags.VM | Rflags.RF);
  if (!stack.push(insn.operandSize, BigInt(image >>> 0))) return failed(cpu);
  stack.commit();
  return Outcome.Done;
}

const POPPED = Rflags.CF | Rflags.PF | Rflags.AF | Rflags.ZF | Rflags.SF |
  Rflags.TF | Rflags.DF | Rflags.OF | Rflags.NT;

/** POPF, POPFD, POPFQ: IF by IOPL, IOPL at CPL 0; RF is cleared. */
export function popf(cpu: CpuContext, insn: Insn): OutcomeCode {
  const { v } = cpu;
  if (virtual8086(v) && iopl(v) < 3) return gp(cpu);
  const stack = Stack.current(cpu);
  const popped = stack.pop(insn.operandSize);
  if (popped === undefined) return failed(cpu);
  stack.commit();
  const image = Number(popped & 0xffff_ffffn);
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

/** MWAIT may end at any time (SDM 2B MWAIT): here at once. */
export function mwait(cpu: CpuContext): OutcomeCode {
  if (cpu.v.gpr32(Gpr.RCX) & ~1) return gp(cpu);
  return Outcome.Done;
}
