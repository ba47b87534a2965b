/**
 * What system procedures share: mode tests, operand access, raising faults.
 *
 * Convention: a helper that can fail answers `undefined` (or a negative or
 * false value) and leaves the Outcome in `cpu.access.outcome`; `failed(cpu)`
 * returns it. Nothing of an instruction is committed before its last check.
 */
import { Vector } from "../../arch/exceptions.ts";
import { Cr0, Efer, Rflags, SegmentRights } from "../../arch/flags.ts";
import type { CpuContext } from "../../context.ts";
import {
  type Insn,
  type Operand,
  OperandKind,
  RIP_RELATIVE,
} from "../../isa/insn.ts";
import { Outcome, type OutcomeCode } from "../../isa/row.ts";
import { Seg } from "../../layout.ts";
import { Access } from "../../port.ts";
import type { Vcpu } from "../../vcpu.ts";

/** 64 ones. */
export const MASK64 = 0xffff_ffff_ffff_ffffn;
/** 32 ones. */
export const MASK32 = 0xffff_ffffn;
/** 16 ones. */
export const MASK16 = 0xffffn;

/** Mask of an operand, address or stack size in bits. */
export function maskOf(bits: number): bigint {
  return bits === 64
    ? MASK64
    : bits === 32
    ? MASK32
    : bits === 16
    ? MASK16
    : 0xffn;
}

/** CR0.PE = 1 and not virtual-8086 mode. */
export function protectedMode(v: Vcpu): boolean {
  return (v.cr0 & Cr0.PE) !== 0 && (v.rflags & Rflags.VM) === 0;
}

/** CR0.PE = 1 and RFLAGS.VM = 1. */
export function virtual8086(v: Vcpu): boolean {
  return (v.rflags & Rflags.VM) !== 0;
}

/** IA-32e mode: 64-bit or compatibility. */
export function longModeActive(v: Vcpu): boolean {
  return (v.efer & Efer.LMA) !== 0;
}

/** 64-bit mode: EFER.LMA and CS.L. */
export function in64(v: Vcpu): boolean {
  return longModeActive(v) &&
    (v.segAttributes(Seg.CS) & SegmentRights.Long) !== 0;
}

/** Linear address of an offset in CS. */
export function codeAddress(v: Vcpu, rip: bigint): bigint {
  return in64(v) ? rip : (v.segBase(Seg.CS) + rip) & 0xffff_ffffn;
}

/** RFLAGS.IOPL. */
export function iopl(v: Vcpu): number {
  return (v.rflags & Rflags.IOPL) >> 12;
}

/** #GP(errorCode). */
export function gp(cpu: CpuContext, errorCode = 0): OutcomeCode {
  return cpu.v.raise(Vector.GP, errorCode);
}

/** #UD. */
export function ud(cpu: CpuContext): OutcomeCode {
  return cpu.v.raise(Vector.UD);
}

/** Records a fault where a helper must answer `undefined`. */
export function refuse(
  cpu: CpuContext,
  vector: number,
  errorCode: number,
): undefined {
  cpu.access.outcome = cpu.v.raise(vector, errorCode);
  return undefined;
}

/** Outcome of the helper that just failed. */
export function failed(cpu: CpuContext): OutcomeCode {
  return cpu.access.outcome as OutcomeCode;
}

/** Offset of the memory operand, truncated to the address size (SDM 1 §3.7.5). */
export function effectiveAddress(cpu: CpuContext, insn: Insn): bigint {
  const m = insn.memory;
  if (m === undefined) return 0n;
  const mask = maskOf(insn.addressSize);
  if (m.base === RIP_RELATIVE) return m.displacement & mask;
  let at = m.displacement;
  if (m.base >= 0) at += cpu.v.gpr(m.base);
  if (m.index >= 0) at += cpu.v.gpr(m.index) * BigInt(m.scale);
  return at & mask;
}

/** Segment of the memory operand. */
export function memorySegment(insn: Insn): number {
  return insn.memory === undefined ? Seg.DS : insn.memory.segment;
}

/** Reads `bytes` at the memory operand plus `displacement`; check `access.outcome`. */
export function readMemory(
  cpu: CpuContext,
  insn: Insn,
  bytes: number,
  displacement = 0n,
): bigint | undefined {
  const at = (effectiveAddress(cpu, insn) + displacement) &
    maskOf(insn.addressSize);
  const value = cpu.access.readSegment(memorySegment(insn), at, bytes);
  return cpu.access.outcome === 0 ? value : undefined;
}

/** Writes `bytes` at the memory operand plus `displacement`. @returns outcome */
export function writeMemory(
  cpu: CpuContext,
  insn: Insn,
  bytes: number,
  value: bigint,
  displacement = 0n,
): OutcomeCode {
  const at = (effectiveAddress(cpu, insn) + displacement) &
    maskOf(insn.addressSize);
  return cpu.access.writeSegment(
    memorySegment(insn),
    at,
    bytes,
    value,
  ) as OutcomeCode;
}

/** Reads operand `i` at `bits` (default: its own size); undefined when memory faulted. */
export function readOperand(
  cpu: CpuContext,
  insn: Insn,
  i: number,
  bits?: number,
): bigint | undefined {
  const o: Operand = insn.operands[i];
  const size = bits ?? o.size;
  switch (o.kind) {
    case OperandKind.Gpr:
      return cpu.v.gpr(o.reg) & maskOf(size);
    case OperandKind.HighByte:
      return (cpu.v.gpr(o.reg) >> 8n) & 0xffn;
    case OperandKind.Memory:
      return readMemory(cpu, insn, size >> 3);
    default:
      return o.imm & maskOf(size);
  }
}

/** Writes operand `i` at `bits` (default: its own size). @returns outcome */
export function writeOperand(
  cpu: CpuContext,
  insn: Insn,
  i: number,
  value: bigint,
  bits?: number,
): OutcomeCode {
  const o = insn.operands[i];
  const size = bits ?? o.size;
  if (o.kind === OperandKind.Memory) {
    return writeMemory(cpu, insn, size >> 3, value & maskOf(size));
  }
  cpu.v.setGprSized(o.reg, size, value);
  return Outcome.Done;
}

/** Whether operand `i` is memory. */
export function isMemory(insn: Insn, i: number): boolean {
  return insn.operands[i].kind === OperandKind.Memory;
}

/** Reads a table entry or TSS field as the processor does (SDM 3A §4.6.1, implicit supervisor access). */
export function readSystem(
  cpu: CpuContext,
  linear: bigint,
  bytes: number,
): bigint | undefined {
  const mask = longModeActive(cpu.v) ? MASK64 : MASK32;
  const value = cpu.access.read(linear & mask, bytes, Access.System);
  return cpu.access.outcome === 0 ? value : undefined;
}

/** Writes a table entry or TSS field as the processor does. @returns outcome */
export function writeSystem(
  cpu: CpuContext,
  linear: bigint,
  bytes: number,
  value: bigint,
): OutcomeCode {
  const mask = longModeActive(cpu.v) ? MASK64 : MASK32;
  return cpu.access.write(
    linear & mask,
    bytes,
    value,
    Access.System | Access.Write,
  ) as OutcomeCode;
}

/**
 * Whether the CPU could use `linear` in its widest paging mode: the check of
 * base registers and MSRs, whatever CR4.LA57 says (SDM 3A §4.5.2; SDM 2 WRMSR).
 */
export function canonicalBase(cpu: CpuContext, linear: bigint): boolean {
  const top = BigInt.asIntN(64, linear) >>
    BigInt(cpu.model.linearAddressBits - 1);
  return top === 0n || top === -1n;
}

/** Sets or clears bits of RFLAGS. */
export function setFlag(v: Vcpu, mask: number, on: boolean): void {
  v.rflags = (on ? v.rflags | mask : v.rflags & ~mask) >>> 0;
}
