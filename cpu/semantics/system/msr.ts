/**
 * RDMSR and WRMSR (SDM 2B, each by name; SDM 4) over the table of
 * cpu/arch/msr.ts. `readMsr` and `writeMsr` serve VM-entry and VM-exit MSR
 * areas too, which follow the same rules.
 */
import { Efer } from "../../arch/flags.ts";
import {
  findMsr,
  type MsrInfo,
  MsrSlot,
  MsrSpecial,
  X2APIC_FIRST,
  X2APIC_LAST,
} from "../../arch/msr.ts";
import { Cr0 } from "../../arch/flags.ts";
import type { CpuContext } from "../../context.ts";
import { MsrWrote } from "../../facts.ts";
import { Outcome, type OutcomeCode } from "../../isa/row.ts";
import { Gpr, GuestMode, Seg } from "../../layout.ts";
import { canonicalBase, gp, MASK32, MASK64 } from "./common.ts";
import { Control } from "../../port.ts";
import { setEfer } from "./control.ts";

/** TSC without a guest's offset: virtual time plus adjustment. */
export function hostTsc(cpu: CpuContext): bigint {
  return (BigInt(cpu.time()) + cpu.v.msr(MsrSlot.TscAdjust)) & MASK64;
}

/** TSC as the running software sees it. */
export function visibleTsc(cpu: CpuContext): bigint {
  const tsc = hostTsc(cpu);
  return cpu.v.guestMode !== GuestMode.None && cpu.virtualization
    ? cpu.virtualization.tscOffset(cpu, tsc) & MASK64
    : tsc;
}

/** Value of a register, or undefined where RDMSR is #GP(0). */
export function readMsr(cpu: CpuContext, index: number): bigint | undefined {
  const { v, model } = cpu;
  const info = findMsr(model, index);
  if (info === undefined) return foreignRead(cpu, index);
  switch (info.special) {
    case MsrSpecial.Tsc:
      return visibleTsc(cpu);
    case MsrSpecial.Efer:
      return BigInt(v.efer);
    case MsrSpecial.FsBase:
      return v.segBase(Seg.FS);
    case MsrSpecial.GsBase:
      return v.segBase(Seg.GS);
    case MsrSpecial.ApicBase:
      return cpu.interrupts.readMsr?.(cpu.index, index) ?? v.msr(info.slot);
    case MsrSpecial.Interrupts:
      return cpu.interrupts.readMsr?.(cpu.index, index);
    default:
      return info.slot >= 0 ? v.msr(info.slot) : info.reset;
  }
}

function foreignRead(cpu: CpuContext, index: number): bigint | undefined {
  if (index >= X2APIC_FIRST && index <= X2APIC_LAST) {
    return cpu.interrupts.readMsr?.(cpu.index, index);
  }
  return cpu.virtualization?.readMsr?.(cpu, index);
}

const FEATURE_CONTROL_LOCK = 1n;
const PERF_EVENT_ENABLE = 1n << 22n;
/** PERF_CTR0; the event selects lie below. */
const PERF_COUNTERS = 0xc0010004;

/** Writes a register. @returns false where WRMSR is #GP(0) */
export function writeMsr(
  cpu: CpuContext,
  index: number,
  value: bigint,
): boolean {
  const { v, model } = cpu;
  const info = findMsr(model, index);
  if (info === undefined) {
    if (index >= X2APIC_FIRST && index <= X2APIC_LAST) {
      return cpu.interrupts.writeMsr?.(cpu.index, index, value) ?? false;
    }
    return cpu.virtualization?.writeMsr?.(cpu, index, value) ?? false;
  }
  if (info.readOnly) return false;
  if (value & ~info.mask) return false;
  if (info.canonical && !canonicalBase(cpu, value)) return false;
  if (info.valid && !info.valid(value, model)) return false;
  if (info.special !== 0) return writeSpecial(cpu, info, value);
  v.setMsr(info.slot, value);
  return true;
}

function writeSpecial(
  cpu: CpuContext,
  info: MsrInfo,
  value: bigint,
): boolean {
  const { v } = cpu;
  switch (info.special) {
    case MsrSpecial.Tsc:
      // SDM 3B §17.17.3: writing the TSC moves IA32_TSC_ADJUST alike.
      v.setMsr(MsrSlot.TscAdjust, (value - BigInt(cpu.time())) & MASK64);
      cpu.interrupts.tscChanged?.(cpu.index);
      return true;
    case MsrSpecial.TscAdjust:
      v.setMsr(info.slot, value);
      cpu.interrupts.tscChanged?.(cpu.index);
      return true;
    case MsrSpecial.Efer:
      return writeEfer(cpu, value);
    case MsrSpecial.FsBase:
      v.setSegBase(Seg.FS, value);
      return true;
    case MsrSpecial.GsBase:
      v.setSegBase(Seg.GS, value);
      return true;
    case MsrSpecial.ApicBase: {
      if (value >> BigInt(cpu.model.physicalAddressBits)) return false;
      const answer = cpu.interrupts.writeMsr?.(cpu.index, info.index, value);
      if (answer === false) return false;
      v.setMsr(info.slot, value);
      return true;
    }
    case MsrSpecial.FeatureControl:
      // SDM 3C §23.7: no write once locked.
      if (v.msr(info.slot) & FEATURE_CONTROL_LOCK) return false;
      v.setMsr(info.slot, value);
      return true;
    case MsrSpecial.ProtectionKeys: {
      const old = Number(v.msr(info.slot));
      v.setMsr(info.slot, value);
      const keys = Control.ProtectionKeys;
      cpu.translator.controlChanged(cpu, keys, old, Number(value));
      return true;
    }
    case MsrSpecial.Performance:
      if (cpu.model.has("hypervisor")) return true;
      if (info.index < PERF_COUNTERS && value & PERF_EVENT_ENABLE) {
        cpu.notModelled("performance-monitoring counters", "APM 2 §13.2");
      }
      v.setMsr(info.slot, value);
      return true;
    default:
      return cpu.interrupts.writeMsr?.(cpu.index, info.index, value) ?? false;
  }
}

/** EFER bits that this model has. */
export function eferDefined(cpu: CpuContext): number {
  const { model } = cpu;
  let mask = 0;
  if (model.has("syscall")) mask |= Efer.SCE;
  if (model.has("lm")) mask |= Efer.LME | Efer.LMA;
  if (model.has("nx")) mask |= Efer.NXE;
  if (model.has("svm") && cpu.virtualization) mask |= Efer.SVME;
  if (model.has("fxsr-opt")) mask |= Efer.FFXSR;
  return mask;
}

/** SDM 3A §2.2.1: LMA is read-only, LME can't change while paging is on. */
function writeEfer(cpu: CpuContext, value: bigint): boolean {
  const { v } = cpu;
  const next = Number(value & MASK32);
  if (value >> 32n || next & ~eferDefined(cpu)) return false;
  if (((next ^ v.efer) & Efer.LME) && (v.cr0 & Cr0.PG)) return false;
  if (cpu.virtualization?.eferRefused?.(cpu, next)) return false;
  setEfer(cpu, (next & ~Efer.LMA) | (v.efer & Efer.LMA));
  return true;
}

/** ECX, told to the port on interception. */
export function msrDetail(cpu: CpuContext): number {
  return cpu.v.gpr32(Gpr.RCX);
}

/** RDMSR. */
export function rdmsr(cpu: CpuContext): OutcomeCode {
  const { v } = cpu;
  const value = readMsr(cpu, v.gpr32(Gpr.RCX));
  if (value === undefined) return gp(cpu);
  v.setGpr(Gpr.RAX, value & MASK32);
  v.setGpr(Gpr.RDX, value >> 32n);
  return Outcome.Done;
}

/** WRMSR. */
export function wrmsr(cpu: CpuContext): OutcomeCode {
  const { v } = cpu;
  const index = v.gpr32(Gpr.RCX);
  const value = BigInt(v.gpr32(Gpr.RDX)) << 32n | BigInt(v.gpr32(Gpr.RAX));
  if (!writeMsr(cpu, index, value)) return gp(cpu);
  cpu.facts.emit(MsrWrote, { cpu: cpu.index, index, value });
  return Outcome.Done;
}
