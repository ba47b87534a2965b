/**
 * Per-vCPU VMX state that is not in the VMCS: the virtualization scratch of the
 * register page (layout VCPU.virtualization), so that it is digested, kept in
 * keyframes and restored like every register.
 */
import { VCPU } from "../../cpu/layout.ts";
import type { Vcpu } from "../../cpu/vcpu.ts";

/** Bits of the flags word. */
export const VmxFlag = {
  /** In VMX operation (between VMXON and VMXOFF). */
  Operation: 1,
  /** The current-VMCS pointer is valid. */
  Current: 2,
  /** VM exits go to the root owner instead of HOST_RIP. */
  RootOwned: 4,
  /** Virtual-NMI blocking in this guest. */
  VirtualNmiBlocking: 8,
  /** An MTF VM exit was injected and is pending. */
  MtfPending: 16,
  /** The VMX-preemption timer is counting. */
  TimerRunning: 32,
} as const;

const FLAGS = VCPU.virtualization;
const VMXON = VCPU.virtualization + 0x08;
const CURRENT = VCPU.virtualization + 0x10;
const DEADLINE = VCPU.virtualization + 0x18;
const ENTRY_STEP = VCPU.virtualization + 0x20;
const NMI_UNBLOCKED = VCPU.virtualization + 0x28;

export function hasFlag(v: Vcpu, flag: number): boolean {
  return (v.word(FLAGS) & flag) !== 0;
}
export function setFlag(v: Vcpu, flag: number, on: boolean): void {
  const flags = v.word(FLAGS);
  v.setWord(FLAGS, on ? flags | flag : flags & ~flag);
}

/** Physical address of the VMXON region. */
export function vmxonPointer(v: Vcpu): number {
  return Number(v.quad(VMXON));
}
export function setVmxonPointer(v: Vcpu, address: number): void {
  v.setQuad(VMXON, BigInt(address));
}

/** Physical address of the current VMCS; undefined when there is none. */
export function currentVmcs(v: Vcpu): number | undefined {
  return hasFlag(v, VmxFlag.Current) ? Number(v.quad(CURRENT)) : undefined;
}
export function setCurrentVmcs(v: Vcpu, address: number | undefined): void {
  setFlag(v, VmxFlag.Current, address !== undefined);
  v.setQuad(CURRENT, BigInt(address ?? 0));
}

/** Virtual time at which the preemption timer expires. */
export function timerDeadline(v: Vcpu): number {
  return Number(v.quad(DEADLINE));
}
export function setTimerDeadline(v: Vcpu, time: number): void {
  v.setQuad(DEADLINE, BigInt(time));
}

/** Step count at which the last VM entry ended (its first boundary). */
export function entryStep(v: Vcpu): number {
  return Number(v.quad(ENTRY_STEP));
}
export function setEntryStep(v: Vcpu, step: number): void {
  v.setQuad(ENTRY_STEP, BigInt(step));
}

/** 1 + the step in which an IRET that has not retired unblocked NMIs; 0 none. */
export function nmiUnblockedIn(v: Vcpu): number {
  return Number(v.quad(NMI_UNBLOCKED));
}
export function setNmiUnblockedIn(v: Vcpu, mark: number): void {
  v.setQuad(NMI_UNBLOCKED, BigInt(mark));
}
