/**
 * Per-vCPU SVM state in the virtualization scratch of the register page, so
 * that it is digested, kept in keyframes and restored like every register:
 * GIF, the unit's MSRs, and the control fields that VMRUN read from the VMCB.
 *
 * The processor may cache a VMCB while its guest runs (APM 2 §15.5.1); ours
 * always does: writes to the VMCB in memory take effect at the next VMRUN, which
 * reloads everything whatever the clean bits say (§15.15.1 allows it).
 */
import { VCPU } from "../../cpu/layout.ts";
import type { Vcpu } from "../../cpu/vcpu.ts";

/** Bits of the flags word. */
export const SvmFlag = {
  /** GIF is 0. */
  GifClear: 1,
  /** Host RFLAGS.IF as VMRUN found it. */
  HostIf: 2,
  /** Nested paging is on. */
  NestedPaging: 4,
  /** LBR virtualization is on. */
  LbrVirtual: 8,
  /** VMLOAD and VMSAVE are virtualized. */
  VmloadVirtual: 16,
  /** TSC_RATIO was written; until then it is 1.0. */
  TscRatioSet: 32,
  /** MONITOR was executed in the running guest; no event came since. */
  MonitorArmed: 64,
  /** #VMEXITs go to the root owner instead of the host's code. */
  RootOwned: 128,
} as const;

const at = VCPU.virtualization;
/** Offsets in the register page. */
export const SCRATCH = {
  /** u32: SvmFlag. */ flags: at,
  /** u32: IntCtl bits in force. */ intCtl: at + 0x04,
  /** u32 */ intVector: at + 0x08,
  /** u32: PAUSE executions left. */ pauseLeft: at + 0x0c,
  /** u64 */ vmcb: at + 0x10,
  /** 6 × u32 */ intercepts: at + 0x18,
  /** u64 */ iopm: at + 0x30,
  /** u64 */ msrpm: at + 0x38,
  /** u64 */ tscOffset: at + 0x40,
  /** u64: host TSC of the last PAUSE. */ lastPause: at + 0x48,
  /** u32: PAUSE filter count as loaded. */ pauseCount: at + 0x50,
  /** u32 */ pauseThreshold: at + 0x54,
  /** u64 */ vmCr: at + 0x58,
  /** u64 */ hsave: at + 0x60,
  /** u64: 8.32 fixed point, valid with SvmFlag.TscRatioSet. */
  tscRatio: at + 0x68,
  /** 4 × u64: LastBranchFrom, LastBranchTo, LastIntFrom, LastIntTo. */
  lastBranch: at + 0x70,
} as const;

export function hasFlag(v: Vcpu, flag: number): boolean {
  return (v.word(SCRATCH.flags) & flag) !== 0;
}
export function setFlag(v: Vcpu, flag: number, on: boolean): void {
  const flags = v.word(SCRATCH.flags);
  v.setWord(SCRATCH.flags, on ? flags | flag : flags & ~flag);
}

/** Whether an InterceptBit is set in the running guest's control area. */
export function intercepted(v: Vcpu, bit: number): boolean {
  const word = v.word(SCRATCH.intercepts + (bit >>> 5) * 4);
  return (word >>> (bit & 31) & 1) !== 0;
}

/** Physical address of the VMCB that the last VMRUN named. */
export function currentVmcb(v: Vcpu): number {
  return Number(v.quad(SCRATCH.vmcb));
}

/** TSC ratio as 8.32 fixed point. */
export const TSC_RATIO_ONE = 1n << 32n;
export function tscRatio(v: Vcpu): bigint {
  return hasFlag(v, SvmFlag.TscRatioSet)
    ? v.quad(SCRATCH.tscRatio)
    : TSC_RATIO_ONE;
}
