/**
 * The 512-byte image of FXSAVE, which is also the legacy region of an XSAVE
 * area, and the MXCSR pair (SDM vol. 1 §10.5, §13.4.1, vol. 2 FXSAVE tables
 * 3-43 to 3-46). Each part is stored and loaded by a function of its own, since
 * XSAVE takes them apart. An area is probed whole before anything is written.
 */
import { Vector } from "../arch/exceptions.ts";
import { Cr0, Cr4 } from "../arch/flags.ts";
import type { CpuContext } from "../context.ts";
import type { Insn } from "../isa/insn.ts";
import { type CallFunction, Outcome, type OutcomeCode } from "../isa/row.ts";
import { VCPU } from "../layout.ts";
import { Access } from "../port.ts";
import { setControl, unavailable } from "./fpu_control.ts";
import {
  contentTag,
  misaligned,
  probeAll,
  stackRegister,
} from "./fpu_image.ts";
import {
  effectiveOffset,
  memoryOf,
  readOperand,
  writeOperand,
} from "./operands.ts";

const MASK64 = 0xffff_ffff_ffff_ffffn;
const MASK32 = 0xffff_ffffn;
const FX_BYTES = 512;

/** Bits of MXCSR that exist: DAZ always, MM on AMD (APM vol. 1 §4.2.2). */
export function mxcsrMask(cpu: CpuContext): number {
  return cpu.model.has("misalignsse") ? 0x2ffff : 0xffff;
}

/** An area that was probed: reads and writes of it cannot fault. */
export class Area {
  constructor(
    private readonly cpu: CpuContext,
    private readonly linear: bigint,
  ) {}
  get(offset: number, size: number): bigint {
    return this.cpu.access.read((this.linear + BigInt(offset)) & MASK64, size);
  }
  put(offset: number, size: number, value: bigint): void {
    const at = (this.linear + BigInt(offset)) & MASK64;
    this.cpu.access.write(at, size, value);
  }
}

/** XMM registers in the image: 16 in 64-bit mode, else 8. */
const vectorCount = (insn: Insn): number => insn.codeSize === 64 ? 16 : 8;

/** Stores the x87 part; `long`: pointers have 64 bits and no selectors. */
export function storeX87(cpu: CpuContext, area: Area, long: boolean): void {
  const { v } = cpu;
  let abridged = 0;
  const ftw = v.word(VCPU.ftw);
  for (let i = 0; i < 8; i++) {
    if (((ftw >>> i * 2) & 3) !== 3) abridged |= 1 << i;
  }
  area.put(0, 2, BigInt(v.word(VCPU.fcw)));
  area.put(2, 2, BigInt(v.word(VCPU.fsw)));
  area.put(4, 2, BigInt(abridged));
  area.put(6, 2, BigInt(v.word(VCPU.fop) & 0x7ff));
  if (long) {
    area.put(8, 8, v.quad(VCPU.fip));
    area.put(16, 8, v.quad(VCPU.fdp));
  } else {
    area.put(8, 4, v.quad(VCPU.fip) & MASK32);
    area.put(12, 4, BigInt(v.word(VCPU.fcs) & 0xffff));
    area.put(16, 4, v.quad(VCPU.fdp) & MASK32);
    area.put(20, 4, BigInt(v.word(VCPU.fds) & 0xffff));
  }
  for (let i = 0; i < 8; i++) {
    const at = stackRegister(cpu, i);
    area.put(32 + i * 16, 8, v.quad(at));
    area.put(40 + i * 16, 8, v.quad(at + 8) & 0xffffn);
  }
}

/** Loads the x87 part. */
export function loadX87(cpu: CpuContext, area: Area, long: boolean): void {
  const { v } = cpu;
  const abridged = Number(area.get(4, 1));
  setControl(cpu, Number(area.get(0, 2)), Number(area.get(2, 2)));
  v.setWord(VCPU.fop, Number(area.get(6, 2)) & 0x7ff);
  if (long) {
    v.setQuad(VCPU.fip, area.get(8, 8));
    v.setQuad(VCPU.fdp, area.get(16, 8));
  } else {
    v.setQuad(VCPU.fip, area.get(8, 4));
    v.setWord(VCPU.fcs, Number(area.get(12, 2)));
    v.setQuad(VCPU.fdp, area.get(16, 4));
    v.setWord(VCPU.fds, Number(area.get(20, 2)));
  }
  for (let i = 0; i < 8; i++) {
    const at = stackRegister(cpu, i);
    v.setQuad(at, area.get(32 + i * 16, 8));
    v.setQuad(at + 8, area.get(40 + i * 16, 2));
  }
  let tags = 0;
  for (let i = 0; i < 8; i++) {
    const empty = (abridged & 1 << i) === 0;
    tags |= (empty ? 3 : contentTag(cpu, i)) << i * 2;
  }
  v.setWord(VCPU.ftw, tags);
}

/** Stores MXCSR and its mask. */
export function storeMxcsr(cpu: CpuContext, area: Area): void {
  area.put(24, 4, BigInt(cpu.v.word(VCPU.mxcsr)));
  area.put(28, 4, BigInt(mxcsrMask(cpu)));
}

/** MXCSR of the image, or undefined when it has reserved bits. */
export function imageMxcsr(cpu: CpuContext, area: Area): number | undefined {
  const mxcsr = Number(area.get(24, 4));
  return (mxcsr & ~mxcsrMask(cpu)) === 0 ? mxcsr : undefined;
}

/** Stores the XMM registers that the mode has. */
export function storeXmm(cpu: CpuContext, insn: Insn, area: Area): void {
  for (let i = 0; i < vectorCount(insn); i++) {
    const at = VCPU.vector + i * 64;
    area.put(160 + i * 16, 8, cpu.v.quad(at));
    area.put(168 + i * 16, 8, cpu.v.quad(at + 8));
  }
}

/** Loads the XMM registers that the mode has; without an area, zeros. */
export function loadXmm(
  cpu: CpuContext,
  insn: Insn,
  area: Area | undefined,
): void {
  for (let i = 0; i < vectorCount(insn); i++) {
    const at = VCPU.vector + i * 64;
    cpu.v.setQuad(at, area === undefined ? 0n : area.get(160 + i * 16, 8));
    cpu.v.setQuad(at + 8, area === undefined ? 0n : area.get(168 + i * 16, 8));
  }
}

function fxArea(
  cpu: CpuContext,
  insn: Insn,
  write: boolean,
): Area | undefined {
  const { v, access } = cpu;
  if (unavailable(cpu)) {
    access.outcome = Outcome.Fault;
    return undefined;
  }
  access.outcome = 0;
  const memory = memoryOf(insn);
  const offset = effectiveOffset(cpu, insn, memory);
  const linear = access.linear(memory.segment, offset, FX_BYTES, write);
  if (linear === undefined) return undefined;
  if (linear & 15n) {
    // With alignment checking on, #AC takes its place (SDM 2A FXSAVE).
    if (!misaligned(cpu, linear, 16)) access.outcome = v.raise(Vector.GP, 0);
    return undefined;
  }
  const kind = write ? Access.Write : Access.Read;
  return probeAll(cpu, linear, FX_BYTES, kind)
    ? new Area(cpu, linear)
    : undefined;
}

/** FXSAVE; `long` is FXSAVE64. */
export function fxsave(long: boolean): CallFunction {
  return (cpu: CpuContext, insn: Insn): OutcomeCode => {
    const area = fxArea(cpu, insn, true);
    if (area === undefined) return cpu.access.outcome as OutcomeCode;
    storeX87(cpu, area, long);
    storeMxcsr(cpu, area);
    if (cpu.v.cr4 & Cr4.OSFXSR) storeXmm(cpu, insn, area);
    return Outcome.Done;
  };
}

/** FXRSTOR: #GP(0) for reserved MXCSR bits, before anything changes. */
export function fxrstor(long: boolean): CallFunction {
  return (cpu: CpuContext, insn: Insn): OutcomeCode => {
    const area = fxArea(cpu, insn, false);
    if (area === undefined) return cpu.access.outcome as OutcomeCode;
    const { v } = cpu;
    const vectors = (v.cr4 & Cr4.OSFXSR) !== 0;
    const mxcsr = imageMxcsr(cpu, area);
    if (vectors && mxcsr === undefined) return v.raise(Vector.GP, 0);
    loadX87(cpu, area, long);
    if (!vectors || mxcsr === undefined) return Outcome.Done;
    v.setWord(VCPU.mxcsr, mxcsr);
    loadXmm(cpu, insn, area);
    return Outcome.Done;
  };
}

/** #UD and #NM rules of SSE state instructions (SDM 3A table 2-2, §13.1). */
function sseUnavailable(cpu: CpuContext): boolean {
  const { v } = cpu;
  if ((v.cr0 & Cr0.EM) !== 0 || (v.cr4 & Cr4.OSFXSR) === 0) {
    v.raise(Vector.UD);
    return true;
  }
  if (v.cr0 & Cr0.TS) {
    v.raise(Vector.NM);
    return true;
  }
  return false;
}

/** LDMXCSR. */
export function ldmxcsr(cpu: CpuContext, insn: Insn): OutcomeCode {
  if (sseUnavailable(cpu)) return Outcome.Fault;
  const value = Number(readOperand(cpu, insn, 0, 32));
  if (cpu.access.outcome !== 0) return cpu.access.outcome as OutcomeCode;
  if ((value & ~mxcsrMask(cpu)) !== 0) return cpu.v.raise(Vector.GP, 0);
  cpu.v.setWord(VCPU.mxcsr, value);
  return Outcome.Done;
}

/** STMXCSR. */
export function stmxcsr(cpu: CpuContext, insn: Insn): OutcomeCode {
  if (sseUnavailable(cpu)) return Outcome.Fault;
  return writeOperand(cpu, insn, 0, BigInt(cpu.v.word(VCPU.mxcsr)), 32);
}
