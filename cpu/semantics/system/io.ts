/**
 * Port I/O: IN, OUT, INS, OUTS (SDM 2A–2B, each by name; permission: SDM 1
 * §19.5, SDM 3A §5.9). One iteration of a repeated form is one step.
 */
import { Vector } from "../../arch/exceptions.ts";
import { Cr0, Cr4, Rflags } from "../../arch/flags.ts";
import { PENDING_BREAKPOINT } from "../../access.ts";
import type { CpuContext } from "../../context.ts";
import { PortAccessed } from "../../facts.ts";
import { type Insn, OperandKind, Rep } from "../../isa/insn.ts";
import { type CallFunction, Outcome, type OutcomeCode } from "../../isa/row.ts";
import { Gpr, Seg } from "../../layout.ts";
import { Access } from "../../port.ts";
import {
  failed,
  iopl,
  maskOf,
  readSystem,
  refuse,
  virtual8086,
} from "./common.ts";

type Bytes = 1 | 2 | 4;

/** Interception facts of port I/O. */
export const PortDetail = {
  SizeShift: 16,
  In: 1 << 24,
  String: 1 << 25,
  Repeat: 1 << 26,
  Immediate: 1 << 27,
} as const;

const IO_MAP_BASE = 0x66;

/** The TSS's permission bitmap (SDM 1 §19.5.2). @returns false with #GP(0) or #PF set */
function permitted(cpu: CpuContext, port: number, bytes: number): boolean {
  const { v } = cpu;
  if (!(v.cr0 & Cr0.PE)) return true;
  if (v.cpl <= iopl(v) && !virtual8086(v)) return true;
  const deny = (): boolean => {
    refuse(cpu, Vector.GP, 0);
    return false;
  };
  // Only a 32- or 64-bit TSS has a bitmap.
  const limit = v.segLimit(Seg.TR);
  if (!(v.segAttributes(Seg.TR) & 8) || limit < IO_MAP_BASE + 1) return deny();
  const base = v.segBase(Seg.TR);
  const map = readSystem(cpu, base + BigInt(IO_MAP_BASE), 2);
  if (map === undefined) return false;
  const at = Number(map) + (port >> 3);
  // The processor reads two bytes, so both must lie within the limit.
  if (at + 1 > limit) return deny();
  const bits = readSystem(cpu, base + BigInt(at), 2);
  if (bits === undefined) return false;
  const mask = ((1 << bytes) - 1) << (port & 7);
  return Number(bits) & mask ? deny() : true;
}

function portOf(cpu: CpuContext, insn: Insn, operand: number): number {
  const o = insn.operands[operand];
  return o.kind === OperandKind.Immediate
    ? Number(o.imm & 0xffn)
    : cpu.v.gpr32(Gpr.RDX) & 0xffff;
}

/** I/O breakpoints (R/W = 10b, CR4.DE) are traps after the access (SDM 3B §17.2.4). */
function breakpoints(cpu: CpuContext, port: number, bytes: number): void {
  const { v } = cpu;
  const dr7 = Number(v.dr(7) & 0xffff_ffffn);
  if (!(v.cr4 & Cr4.DE) || !(dr7 & 0xff)) return;
  for (let i = 0; i < 4; i++) {
    const control = (dr7 >>> (16 + i * 4)) & 0xf;
    if (((dr7 >>> (i * 2)) & 3) === 0 || (control & 3) !== 2) continue;
    const length = [1, 2, 8, 4][control >> 2];
    const at = Number(v.dr(i) & 0xffff_ffffn) & ~(length - 1);
    if (port < at + length && at < port + bytes) {
      v.pendingDebug |= (1 << i) | PENDING_BREAKPOINT;
      cpu.attention = true;
    }
  }
}

function read(cpu: CpuContext, port: number, size: Bytes): number {
  const value = cpu.devices.in(port, size) >>> 0;
  cpu.facts.emit(PortAccessed, {
    cpu: cpu.index,
    port,
    size,
    output: false,
    value,
  });
  breakpoints(cpu, port, size);
  return value;
}

function write(
  cpu: CpuContext,
  port: number,
  size: Bytes,
  value: number,
): void {
  cpu.facts.emit(PortAccessed, {
    cpu: cpu.index,
    port,
    size,
    output: true,
    value,
  });
  cpu.devices.out(port, size, value);
  breakpoints(cpu, port, size);
}

/** Permission check and interception facts of IN and OUT. */
export function portDetail(
  size: Bytes,
  input: boolean,
): (cpu: CpuContext, insn: Insn) => number | undefined {
  return (cpu, insn) => {
    const operand = input ? 1 : 0;
    const port = portOf(cpu, insn, operand);
    if (!permitted(cpu, port, size)) return undefined;
    const immediate = insn.operands[operand].kind === OperandKind.Immediate;
    return port + size * 2 ** PortDetail.SizeShift +
      (input ? PortDetail.In : 0) + (immediate ? PortDetail.Immediate : 0);
  };
}

/** IN. The permission check was made by `detail`. */
export function input(size: Bytes): CallFunction {
  return (cpu, insn) => {
    const value = read(cpu, portOf(cpu, insn, 1), size);
    cpu.v.setGprSized(Gpr.RAX, size * 8, BigInt(value));
    return Outcome.Done;
  };
}

/** OUT. */
export function output(size: Bytes): CallFunction {
  return (cpu, insn) => {
    const value = Number(cpu.v.gpr(Gpr.RAX) & maskOf(size * 8));
    write(cpu, portOf(cpu, insn, 0), size, value);
    return Outcome.Done;
  };
}

const finished = (cpu: CpuContext, insn: Insn): boolean =>
  insn.rep !== Rep.None &&
  (cpu.v.gpr(Gpr.RCX) & maskOf(insn.addressSize)) === 0n;

/** Permission check and facts of INS and OUTS; none when the count is zero. */
export function stringDetail(
  size: Bytes,
  input: boolean,
): (cpu: CpuContext, insn: Insn) => number | undefined {
  return (cpu, insn) => {
    const port = cpu.v.gpr32(Gpr.RDX) & 0xffff;
    if (!permitted(cpu, port, size)) return undefined;
    return port + size * 2 ** PortDetail.SizeShift + PortDetail.String +
      (input ? PortDetail.In : 0) +
      (insn.rep !== Rep.None ? PortDetail.Repeat : 0);
  };
}

/** Moves the index register and counts; Again while iterations remain. */
function advance(
  cpu: CpuContext,
  insn: Insn,
  register: number,
  size: Bytes,
): OutcomeCode {
  const { v } = cpu;
  const bits = insn.addressSize;
  const by = BigInt(v.rflags & Rflags.DF ? -size : size);
  const mask = maskOf(bits);
  v.setGprSized(register, bits, (v.gpr(register) + by) & mask);
  if (insn.rep === Rep.None) return Outcome.Done;
  const left = (v.gpr(Gpr.RCX) - 1n) & mask;
  v.setGprSized(Gpr.RCX, bits, left);
  return left === 0n ? Outcome.Done : Outcome.Again;
}

/** INS: ES:rDI is checked for writing before the port is read. */
export function inputString(size: Bytes): CallFunction {
  return (cpu, insn) => {
    if (finished(cpu, insn)) return Outcome.Done;
    const { v, access } = cpu;
    const offset = v.gpr(Gpr.RDI) & maskOf(insn.addressSize);
    const linear = access.linear(Seg.ES, offset, size, true);
    if (linear === undefined) return failed(cpu);
    if (access.probe(linear, size, Access.Write) !== 0) return failed(cpu);
    const value = read(cpu, v.gpr32(Gpr.RDX) & 0xffff, size);
    const outcome = access.writeSegment(Seg.ES, offset, size, BigInt(value));
    if (outcome !== Outcome.Done) return outcome as OutcomeCode;
    return advance(cpu, insn, Gpr.RDI, size);
  };
}

/** OUTS: from the segment of the prefix, DS by default. */
export function outputString(size: Bytes): CallFunction {
  return (cpu, insn) => {
    if (finished(cpu, insn)) return Outcome.Done;
    const { v, access } = cpu;
    const offset = v.gpr(Gpr.RSI) & maskOf(insn.addressSize);
    const value = access.readSegment(insn.segment, offset, size);
    if (access.outcome !== 0) return failed(cpu);
    write(cpu, v.gpr32(Gpr.RDX) & 0xffff, size, Number(value));
    return advance(cpu, insn, Gpr.RSI, size);
  };
}
