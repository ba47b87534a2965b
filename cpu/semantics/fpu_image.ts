/**
 * x87 environments and images (SDM vol. 1 §8.1.10, vol. 2); FXSAVE's image is
 * in fx_image.ts. x87 registers lie in physical order; ST(i) is
 * R[(TOP + i) mod 8]. An area is probed whole before anything is written.
 */
import { Vector } from "../arch/exceptions.ts";
import { Cr0, Rflags } from "../arch/flags.ts";
import type { CpuContext } from "../context.ts";
import type { Insn } from "../isa/insn.ts";
import { type CallFunction, Outcome, type OutcomeCode } from "../isa/row.ts";
import { VCPU } from "../layout.ts";
import { Access } from "../port.ts";
import {
  Fsw,
  initialize,
  pendingError,
  setControl,
  tagOf,
  unavailable,
} from "./fpu_control.ts";
import { effectiveOffset, memoryOf } from "./operands.ts";

const MASK64 = 0xffff_ffff_ffff_ffffn;
const MASK32 = 0xffff_ffffn;

// --- environments (SDM vol. 1 figures 8-9 to 8-12)

/** #AC for an x87 or FXSAVE area (SDM 3A §6.15, interrupt 17). */
export function misaligned(
  cpu: CpuContext,
  linear: bigint,
  by: number,
): boolean {
  const { v } = cpu;
  if ((linear & BigInt(by - 1)) === 0n || v.cpl !== 3) return false;
  if (!(v.rflags & Rflags.AC) || !(v.cr0 & Cr0.AM)) return false;
  cpu.access.outcome = v.raise(Vector.AC, 0);
  return true;
}

/**
 * Linear start of an environment of elements of `element` bytes, all of it
 * probed. The manual leaves the order open; as on AMD's processors the first
 * element comes first, then the last byte.
 */
function area(
  cpu: CpuContext,
  insn: Insn,
  bytes: number,
  element: number,
  write: boolean,
): bigint | undefined {
  const { access } = cpu;
  access.outcome = 0;
  const memory = memoryOf(insn);
  const offset = effectiveOffset(cpu, insn, memory);
  const linear = access.linear(memory.segment, offset, bytes, write);
  if (linear === undefined || misaligned(cpu, linear, element)) {
    return undefined;
  }
  const kind = write ? Access.Write : Access.Read;
  if (access.probe(linear, element, kind) !== 0) return undefined;
  return probeAll(cpu, linear, bytes, kind) ? linear : undefined;
}

/** Probes the last byte, then the whole. @returns whether neither faulted */
export function probeAll(
  cpu: CpuContext,
  linear: bigint,
  bytes: number,
  kind: number,
): boolean {
  const { access } = cpu;
  const last = (linear + BigInt(bytes - 1)) & MASK64;
  return access.probe(last, 1, kind) === 0 &&
    access.probe(linear, bytes, kind) === 0;
}

const realFormat = (cpu: CpuContext): boolean =>
  (cpu.v.cr0 & Cr0.PE) === 0 || (cpu.v.rflags & Rflags.VM) !== 0;

/** The seven environment words, in the format of mode and operand size. */
function environment(cpu: CpuContext, wide: boolean): number[] {
  const { v } = cpu;
  const fip = Number(v.quad(VCPU.fip) & MASK32);
  const fdp = Number(v.quad(VCPU.fdp) & MASK32);
  const fop = v.word(VCPU.fop) & 0x7ff;
  const words = [v.word(VCPU.fcw), v.word(VCPU.fsw), v.word(VCPU.ftw)];
  if (!realFormat(cpu)) {
    words.push(fip, v.word(VCPU.fcs), fdp, v.word(VCPU.fds));
    if (wide) words[4] |= fop << 16;
  } else if (wide) {
    words.push(fip & 0xffff, (fip >>> 16) << 12 | fop);
    words.push(fdp & 0xffff, (fdp >>> 16) << 12);
  } else {
    words.push(fip & 0xffff, ((fip >>> 16) & 0xf) << 12 | fop);
    words.push(fdp & 0xffff, ((fdp >>> 16) & 0xf) << 12);
  }
  // Reserved upper halves are stored as ones.
  if (wide) { for (const i of [0, 1, 2, 6]) words[i] |= 0xffff0000; }
  if (wide && realFormat(cpu)) {
    words[3] |= 0xffff0000;
    words[5] |= 0xffff0000;
    words[6] = (fdp >>> 16) << 12;
  }
  return words;
}

function storeEnvironment(
  cpu: CpuContext,
  linear: bigint,
  wide: boolean,
): void {
  const size = wide ? 4 : 2, mask = wide ? MASK32 : 0xffffn;
  environment(cpu, wide).forEach((word, i) => {
    const at = (linear + BigInt(i * size)) & MASK64;
    cpu.access.write(at, size, BigInt(word >>> 0) & mask);
  });
}

function loadEnvironment(cpu: CpuContext, linear: bigint, wide: boolean): void {
  const { v, access } = cpu;
  const size = wide ? 4 : 2;
  const word = (i: number): number =>
    Number(access.read((linear + BigInt(i * size)) & MASK64, size));
  const [fcw, fsw, ftw] = [word(0), word(1), word(2)];
  const [w3, w4, w5, w6] = [word(3), word(4), word(5), word(6)];
  if (realFormat(cpu)) {
    v.setWord(VCPU.fop, w4 & 0x7ff);
    v.setQuad(VCPU.fip, BigInt(((w3 & 0xffff) | (w4 >>> 12) << 16) >>> 0));
    v.setQuad(VCPU.fdp, BigInt(((w5 & 0xffff) | (w6 >>> 12) << 16) >>> 0));
    v.setWord(VCPU.fcs, 0);
    v.setWord(VCPU.fds, 0);
  } else {
    v.setWord(VCPU.fop, wide ? (w4 >>> 16) & 0x7ff : 0);
    v.setQuad(VCPU.fip, BigInt(w3 >>> 0));
    v.setQuad(VCPU.fdp, BigInt(w5 >>> 0));
    v.setWord(VCPU.fcs, w4 & 0xffff);
    v.setWord(VCPU.fds, w6 & 0xffff);
  }
  setControl(cpu, fcw, fsw);
  // Of the tags only "empty" is taken over; the rest follows from contents.
  let tags = 0;
  for (let i = 0; i < 8; i++) {
    const tag = (ftw >>> i * 2) & 3;
    tags |= (tag === 3 ? 3 : contentTag(cpu, i)) << i * 2;
  }
  v.setWord(VCPU.ftw, tags);
}

/** Tag of a non-empty register by its contents: valid 0, zero 1, special 2. */
export function contentTag(cpu: CpuContext, physical: number): number {
  const at = VCPU.x87 + physical * 16;
  return tagOf(cpu.v.quad(at), cpu.v.word(at + 8));
}

/** FNSTENV: stores, then masks every exception. */
export function fnstenv(wide: boolean): CallFunction {
  return (cpu: CpuContext, insn: Insn): OutcomeCode => {
    if (unavailable(cpu)) return Outcome.Fault;
    const linear = area(cpu, insn, wide ? 28 : 14, wide ? 4 : 2, true);
    if (linear === undefined) return cpu.access.outcome as OutcomeCode;
    storeEnvironment(cpu, linear, wide);
    const { v } = cpu;
    setControl(cpu, v.word(VCPU.fcw) | Fsw.exceptions, v.word(VCPU.fsw));
    return Outcome.Done;
  };
}

/** FLDENV. */
export function fldenv(wide: boolean): CallFunction {
  return (cpu: CpuContext, insn: Insn): OutcomeCode => {
    if (unavailable(cpu) || pendingError(cpu)) return Outcome.Fault;
    const linear = area(cpu, insn, wide ? 28 : 14, wide ? 4 : 2, false);
    if (linear === undefined) return cpu.access.outcome as OutcomeCode;
    loadEnvironment(cpu, linear, wide);
    return Outcome.Done;
  };
}

/** Byte offset of ST(i) in the register page. */
export function stackRegister(cpu: CpuContext, i: number): number {
  const top = (cpu.v.word(VCPU.fsw) >> 11) & 7;
  return VCPU.x87 + ((top + i) & 7) * 16;
}

/** FNSAVE: environment and ST(0)–ST(7), then FNINIT. */
export function fnsave(wide: boolean): CallFunction {
  return (cpu: CpuContext, insn: Insn): OutcomeCode => {
    if (unavailable(cpu)) return Outcome.Fault;
    const head = wide ? 28 : 14;
    const linear = area(cpu, insn, head + 80, wide ? 4 : 2, true);
    if (linear === undefined) return cpu.access.outcome as OutcomeCode;
    storeEnvironment(cpu, linear, wide);
    for (let i = 0; i < 8; i++) {
      const at = stackRegister(cpu, i);
      const to = (linear + BigInt(head + i * 10)) & MASK64;
      cpu.access.write(to, 8, cpu.v.quad(at));
      const exponent = BigInt(cpu.v.word(at + 8) & 0xffff);
      cpu.access.write((to + 8n) & MASK64, 2, exponent);
    }
    initialize(cpu);
    return Outcome.Done;
  };
}

/** FRSTOR. */
export function frstor(wide: boolean): CallFunction {
  return (cpu: CpuContext, insn: Insn): OutcomeCode => {
    if (unavailable(cpu) || pendingError(cpu)) return Outcome.Fault;
    const head = wide ? 28 : 14;
    const linear = area(cpu, insn, head + 80, wide ? 4 : 2, false);
    if (linear === undefined) return cpu.access.outcome as OutcomeCode;
    // TOP first: it places ST(i); tags last: they look at the contents.
    const size = wide ? 4n : 2n;
    const fsw = Number(cpu.access.read((linear + size) & MASK64, 2));
    cpu.v.setWord(VCPU.fsw, fsw);
    for (let i = 0; i < 8; i++) {
      const at = stackRegister(cpu, i);
      const from = (linear + BigInt(head + i * 10)) & MASK64;
      cpu.v.setQuad(at, cpu.access.read(from, 8));
      cpu.v.setQuad(at + 8, cpu.access.read((from + 8n) & MASK64, 2));
    }
    loadEnvironment(cpu, linear, wide);
    return Outcome.Done;
  };
}
