/**
 * Last-branch and last-exception records (APM 2 §13.1.1.5) and their
 * virtualization (§15.23): while DebugCtl.LBR is set, a taken branch moves its
 * address and target into LastBranchFromIP and LastBranchToIP; an interrupt or
 * exception first copies them into LastIntFromIP and LastIntToIP.
 *
 * The machine loop tells each step while LBR is set. Addresses are RIPs plus
 * the CS base, as in 64-bit mode where the base is 0.
 */
import { DebugCtl, MsrSlot } from "../../cpu/arch/msr.ts";
import { VCPU } from "../../cpu/layout.ts";
import type { Vcpu } from "../../cpu/vcpu.ts";
import { SCRATCH } from "./scratch.ts";
import { Save, type Vmcb } from "./vmcb.ts";

/** The four record registers, in the order of SCRATCH.lastBranch and of the VMCB. */
const RECORDS = [
  Save.branchFrom,
  Save.branchTo,
  Save.lastExceptionFrom,
  Save.lastExceptionTo,
];
/** DebugCtl bits that a VMCB's DBGCTL holds. */
const LBR = Number(DebugCtl.LBR);
const DEBUGCTL_MASK = DebugCtl.LBR | DebugCtl.BTF;

/** Record register `i` (0 branch from, 1 branch to, 2 exception from, 3 exception to). */
export function record(v: Vcpu, i: number): bigint {
  return v.quad(SCRATCH.lastBranch + i * 8);
}
export function setRecord(v: Vcpu, i: number, value: bigint): void {
  v.setQuad(SCRATCH.lastBranch + i * 8, value);
}

/** Stores DebugCtl and the records. */
export function saveRecords(vmcb: Vmcb, v: Vcpu): void {
  vmcb.write(Save.debugCtl, v.msr(MsrSlot.DebugCtl));
  RECORDS.forEach((at, i) => vmcb.write(at, record(v, i)));
}

/** Loads DebugCtl and the records. */
export function loadRecords(vmcb: Vmcb, v: Vcpu): void {
  v.setMsr(MsrSlot.DebugCtl, vmcb.read(Save.debugCtl) & DEBUGCTL_MASK);
  RECORDS.forEach((at, i) => setRecord(v, i, vmcb.read(at)));
}

/** Whether records are being made. */
export function recording(v: Vcpu): boolean {
  return (v.word(VCPU.msrs + MsrSlot.DebugCtl * 8) & LBR) !== 0;
}

/** A branch was taken. */
export function recordBranch(v: Vcpu, from: bigint, to: bigint): void {
  setRecord(v, 0, from);
  setRecord(v, 1, to);
}

/** An interrupt or exception was taken. */
export function recordException(v: Vcpu, from: bigint, to: bigint): void {
  setRecord(v, 2, record(v, 0));
  setRecord(v, 3, record(v, 1));
  recordBranch(v, from, to);
}

export { isFarTransfer, tookNearBranch } from "../../cpu/semantics/branches.ts";
