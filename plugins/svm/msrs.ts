/**
 * The SVM unit's MSRs (APM 2 §15.30, §15.30.5, §13.1.1.5) as rows: VM_CR,
 * VM_HSAVE_PA, TSC_RATIO and the last-branch records.
 */
import { Efer } from "../../cpu/arch/flags.ts";
import type { CpuContext } from "../../cpu/context.ts";
import type { Feature } from "../../cpu/arch/cpuid.ts";
import { SvmMsr, VmCr } from "./controls.ts";
import { record, setRecord } from "./lbr.ts";
import { SCRATCH, setFlag, SvmFlag, tscRatio } from "./scratch.ts";

/** One register. */
export interface SvmMsrRow {
  readonly index: number;
  readonly feature: Feature;
  readonly read: (cpu: CpuContext) => bigint;
  /** @returns false for #GP(0) */
  readonly write: (cpu: CpuContext, value: bigint) => boolean;
}

/** VM_CR: LOCK freezes LOCK and SVMDIS; SVMDIS can't be set under EFER.SVME. */
function writeVmCr(cpu: CpuContext, value: bigint): boolean {
  const { v } = cpu;
  if (value & ~VmCr.Defined) return false;
  if (value & VmCr.SvmDisable && v.efer & Efer.SVME) return false;
  if (value & VmCr.RInit) cpu.notModelled("VM_CR.R_INIT", "APM 2 §15.28");
  const old = v.quad(SCRATCH.vmCr);
  const frozen = VmCr.Lock | VmCr.SvmDisable;
  const next = old & VmCr.Lock ? (value & ~frozen) | (old & frozen) : value;
  v.setQuad(SCRATCH.vmCr, next);
  return true;
}

function writeHsave(cpu: CpuContext, value: bigint): boolean {
  if (value & 0xfffn) return false;
  if (value >> BigInt(cpu.model.physicalAddressBits)) return false;
  cpu.v.setQuad(SCRATCH.hsave, value);
  return true;
}

function writeTscRatio(cpu: CpuContext, value: bigint): boolean {
  if (value >> 40n) return false;
  cpu.v.setQuad(SCRATCH.tscRatio, value);
  setFlag(cpu.v, SvmFlag.TscRatioSet, true);
  return true;
}

const recordRow = (index: number, i: number): SvmMsrRow => ({
  index,
  feature: "lbrv",
  read: (cpu) => record(cpu.v, i),
  write: (cpu, value) => {
    setRecord(cpu.v, i, value);
    return true;
  },
});

/** The registers. */
export const SVM_MSRS: readonly SvmMsrRow[] = [
  {
    index: SvmMsr.VmCr,
    feature: "svm",
    read: (cpu) => cpu.v.quad(SCRATCH.vmCr),
    write: writeVmCr,
  },
  {
    index: SvmMsr.VmHsavePa,
    feature: "svm",
    read: (cpu) => cpu.v.quad(SCRATCH.hsave),
    write: writeHsave,
  },
  {
    index: SvmMsr.TscRatio,
    feature: "tsc-scale",
    read: (cpu) => tscRatio(cpu.v),
    write: writeTscRatio,
  },
  recordRow(SvmMsr.LastBranchFromIp, 0),
  recordRow(SvmMsr.LastBranchToIp, 1),
  recordRow(SvmMsr.LastIntFromIp, 2),
  recordRow(SvmMsr.LastIntToIp, 3),
];

const BY_INDEX = new Map(SVM_MSRS.map((row) => [row.index, row]));

/** The register as this model has it; undefined = no such MSR. */
export function svmMsr(cpu: CpuContext, index: number): SvmMsrRow | undefined {
  const row = BY_INDEX.get(index);
  return row !== undefined && cpu.model.has(row.feature) ? row : undefined;
}
