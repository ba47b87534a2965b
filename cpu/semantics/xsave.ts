/**
 * The XSAVE feature set: XSAVE, XSAVEOPT, XSAVEC, XSAVES, XRSTOR, XRSTORS
 * (SDM vol. 1 ch. 13, each by name in vol. 2D) and XINUSE for XGETBV.
 *
 * The init optimization always happens and looks at the state itself: a
 * component is in use exactly when it differs from its initial configuration.
 * The modified optimization, which XSAVEOPT and XSAVES may make, never happens.
 * Everything that an instruction touches is probed before anything changes; of
 * the header, which lies in one page, that byte first which Intel's do.
 */
import { Vector } from "../arch/exceptions.ts";
import { Cr0, Cr4 } from "../arch/flags.ts";
import { MsrSlot } from "../arch/msr.ts";
import {
  compactedOffset,
  standardOffset,
  XSAVE_COMPONENTS,
  XSAVE_EXTENDED,
  XSAVE_HEADER,
  type XsaveComponent,
  xsaveSize,
  XState,
} from "../arch/xsave.ts";
import type { CpuContext } from "../context.ts";
import type { Insn } from "../isa/insn.ts";
import { type CallFunction, Outcome, type OutcomeCode } from "../isa/row.ts";
import { Gpr, VCPU } from "../layout.ts";
import { Access } from "../port.ts";
import { initialize } from "./fpu_control.ts";
import {
  Area,
  imageMxcsr,
  loadX87,
  loadXmm,
  storeMxcsr,
  storeX87,
  storeXmm,
} from "./fx_image.ts";
import { misaligned } from "./fpu_image.ts";
import { effectiveOffset, memoryOf } from "./operands.ts";
import { setPkru } from "./protection_keys.ts";

/** Which of the saving instructions runs. */
export const SaveKind = {
  Xsave: 0,
  Xsaveopt: 1,
  Xsavec: 2,
  Xsaves: 3,
} as const;

const MASK64 = 0xffff_ffff_ffff_ffffn;
const LOW63 = MASK64 >> 1n;
const COMPACTED = 1n << 63n;
/** Ends of the x87 part and of the XMM registers in the legacy region. */
const X87_END = 160, XMM_END = 416;
const MXCSR_INIT = 0x1f80, FCW_INIT = 0x37f;

/**
 * Components outside their initial configuration (SDM vol. 1 §13.6).
 * @param withMxcsr counts MXCSR to SSE, as the compacting forms do (§13.10)
 *   and XGETBV on Intel's processors
 */
export function xinuse(cpu: CpuContext, withMxcsr: boolean): number {
  const { v } = cpu;
  let mask = 0;
  const zero = (from: number, bytes: number): boolean => {
    for (let at = from; at < from + bytes; at += 4) {
      if (v.word(at) !== 0) return false;
    }
    return true;
  };
  const x87 = v.word(VCPU.fcw) === FCW_INIT && v.word(VCPU.ftw) === 0xffff &&
    v.word(VCPU.fsw) === 0 && v.word(VCPU.fop) === 0 &&
    v.quad(VCPU.fip) === 0n && v.quad(VCPU.fdp) === 0n &&
    v.word(VCPU.fcs) === 0 && v.word(VCPU.fds) === 0 && zero(VCPU.x87, 128);
  if (!x87) mask |= XState.X87;
  if (withMxcsr && v.word(VCPU.mxcsr) !== MXCSR_INIT) mask |= XState.SSE;
  for (let i = 0; i < 16; i++) {
    if (!zero(VCPU.vector + i * 64, 16)) mask |= XState.SSE;
  }
  if (v.word(VCPU.pkru) !== 0) mask |= XState.PKRU;
  return mask;
}

/** CR4.OSXSAVE clear is #UD; XSAVES and XRSTORS above CPL 0 are #GP(0): before interception. */
export function checkSupervisor(cpu: CpuContext): number | undefined {
  const { v } = cpu;
  if (!(v.cr4 & Cr4.OSXSAVE)) cpu.access.outcome = v.raise(Vector.UD);
  else if (v.cpl !== 0) cpu.access.outcome = v.raise(Vector.GP, 0);
  else return 0;
  return undefined;
}

/** #UD and #NM. */
function unavailable(cpu: CpuContext): boolean {
  const { v } = cpu;
  if (!(v.cr4 & Cr4.OSXSAVE)) v.raise(Vector.UD);
  else if (v.cr0 & Cr0.TS) v.raise(Vector.NM);
  else return false;
  return true;
}

/** EDX:EAX. */
const requested = (cpu: CpuContext): bigint =>
  BigInt(cpu.v.gpr32(Gpr.RDX)) << 32n | BigInt(cpu.v.gpr32(Gpr.RAX));

/** XCR0, with IA32_XSS for the supervisor instructions. */
function enabled(cpu: CpuContext, supervisor: boolean): bigint {
  const { v } = cpu;
  const xss = supervisor ? v.msr(MsrSlot.Xss) : 0n;
  return v.quad(VCPU.xcr0) | xss;
}

/** The area of `bytes`, on its 64-byte boundary and not yet probed. */
function place(
  cpu: CpuContext,
  insn: Insn,
  bytes: number,
  write: boolean,
): bigint | undefined {
  const { access } = cpu;
  access.outcome = 0;
  const memory = memoryOf(insn);
  const offset = effectiveOffset(cpu, insn, memory);
  const linear = access.linear(memory.segment, offset, bytes, write);
  if (linear === undefined) return undefined;
  if (linear & 63n) {
    // Intel's prefer #AC below 4-byte alignment; the manual leaves it open.
    const checked = cpu.model.vendor === "GenuineIntel" &&
      misaligned(cpu, linear, 4);
    if (!checked) access.outcome = cpu.v.raise(Vector.GP, 0);
    return undefined;
  }
  return linear;
}

/** Probes the legacy region and the extended components of `mask`. */
function probeComponents(
  cpu: CpuContext,
  linear: bigint,
  mask: number,
  offsetOf: (c: XsaveComponent) => number,
  kind: number,
): boolean {
  const probe = (from: number, bytes: number): boolean => {
    const at = (linear + BigInt(from)) & MASK64;
    return cpu.access.probe(at, bytes, kind) === 0;
  };
  if (mask & XState.X87 && !probe(0, X87_END)) return false;
  if (mask & XState.SSE && !probe(0, XMM_END)) return false;
  return XSAVE_COMPONENTS.every((c) =>
    !(mask & 1 << c.index) || probe(offsetOf(c), c.size)
  );
}

/**
 * XSAVE, XSAVEOPT, XSAVEC and XSAVES (SDM vol. 1 §13.7–13.11).
 * @param kind a SaveKind @param long REX.W: 64-bit FIP and FDP
 */
export function save(kind: number, long: boolean): CallFunction {
  const compacted = kind >= SaveKind.Xsavec;
  const optimized = kind !== SaveKind.Xsave;
  return (cpu: CpuContext, insn: Insn): OutcomeCode => {
    if (unavailable(cpu)) return Outcome.Fault;
    const { access, model } = cpu;
    const supervisor = kind === SaveKind.Xsaves;
    const rfbm = Number(requested(cpu) & enabled(cpu, supervisor));
    const size = xsaveSize(model, rfbm, compacted);
    const linear = place(cpu, insn, size, true);
    if (linear === undefined) return access.outcome as OutcomeCode;
    const inUse = xinuse(cpu, compacted) & rfbm;
    const saved = optimized ? inUse : rfbm;
    const offsetOf = (c: XsaveComponent): number =>
      compacted ? compactedOffset(rfbm, c.index) : standardOffset(model, c);
    const last = (linear + BigInt(XSAVE_EXTENDED - 1)) & MASK64;
    const kindOf = compacted ? Access.Write : Access.ReadForWrite;
    if (access.probe(last, 1, kindOf) !== 0) {
      return access.outcome as OutcomeCode;
    }
    const mxcsr = compacted ? saved & XState.SSE : rfbm & XState.SSE;
    const touched = saved | (mxcsr ? XState.X87 : 0);
    if (!probeComponents(cpu, linear, touched, offsetOf, Access.Write)) {
      return access.outcome as OutcomeCode;
    }
    const area = new Area(cpu, linear);
    if (saved & XState.X87) storeX87(cpu, area, long);
    if (mxcsr) storeMxcsr(cpu, area);
    if (saved & XState.SSE) storeXmm(cpu, insn, area);
    for (const c of XSAVE_COMPONENTS) {
      if (saved & 1 << c.index) area.put(offsetOf(c), 8, component(cpu, c));
    }
    if (compacted) {
      area.put(XSAVE_HEADER, 8, BigInt(inUse));
      area.put(XSAVE_HEADER + 8, 8, BigInt(rfbm) | COMPACTED);
    } else {
      const old = area.get(XSAVE_HEADER, 8);
      const next = (old & ~BigInt(rfbm)) | BigInt(inUse);
      area.put(XSAVE_HEADER, 8, next);
    }
    return Outcome.Done;
  };
}

/** Contents of an extended component of at most 8 bytes. */
function component(cpu: CpuContext, c: XsaveComponent): bigint {
  if (c.feature === "pku") return BigInt(cpu.v.word(VCPU.pkru));
  throw new Error(`XSAVE component ${c.index} has no state; see arch/xsave.ts`);
}

function setComponent(cpu: CpuContext, c: XsaveComponent, value: bigint): void {
  if (c.feature === "pku") setPkru(cpu, Number(value & 0xffff_ffffn));
}

/** Header of an area to be restored. */
interface Header {
  /** Components that the area has. */
  readonly present: number;
  /** Its layout: undefined for the standard format. */
  readonly layout: number | undefined;
}

/** The header's #GP(0) rules (SDM vol. 1 §13.8.1, §13.12). */
function headerOf(
  cpu: CpuContext,
  area: Area,
  supervisor: boolean,
): Header | undefined {
  const stateBv = area.get(XSAVE_HEADER, 8);
  const compBv = area.get(XSAVE_HEADER + 8, 8);
  const may = enabled(cpu, supervisor);
  if (!(compBv & COMPACTED)) {
    // Standard format: bytes 23:8 are reserved, the rest is ignored.
    if (supervisor || compBv || area.get(XSAVE_HEADER + 16, 8)) {
      return undefined;
    }
    if (stateBv & ~may) return undefined;
    return { present: Number(stateBv), layout: undefined };
  }
  if (!supervisor && !cpu.model.has("xsavec")) return undefined;
  const layout = compBv & LOW63;
  if (layout & ~may || stateBv & ~layout) return undefined;
  for (let at = XSAVE_HEADER + 16; at < XSAVE_EXTENDED; at += 8) {
    if (area.get(at, 8)) return undefined;
  }
  return { present: Number(stateBv), layout: Number(layout) };
}

/**
 * XRSTOR and XRSTORS (SDM vol. 1 §13.8, §13.12): what is asked for and present
 * is loaded, what is asked for and absent gets its initial configuration.
 */
export function restore(supervisor: boolean, long: boolean): CallFunction {
  return (cpu: CpuContext, insn: Insn): OutcomeCode => {
    if (unavailable(cpu)) return Outcome.Fault;
    const { v, access, model } = cpu;
    const rfbm = Number(requested(cpu) & enabled(cpu, supervisor));
    const linear = place(cpu, insn, XSAVE_EXTENDED, false);
    if (linear === undefined) return access.outcome as OutcomeCode;
    const compBv = (linear + BigInt(XSAVE_HEADER + 8)) & MASK64;
    if (access.probe(compBv, 8, Access.Read) !== 0) {
      return access.outcome as OutcomeCode;
    }
    const area = new Area(cpu, linear);
    const header = headerOf(cpu, area, supervisor);
    if (header === undefined) return v.raise(Vector.GP, 0);
    const { present, layout } = header;
    const standard = layout === undefined;
    const offsetOf = (c: XsaveComponent): number =>
      standard ? standardOffset(model, c) : compactedOffset(layout, c.index);
    const loaded = rfbm & present;
    const cleared = rfbm & ~present;
    // The standard format loads MXCSR whatever XSTATE_BV says.
    const mxcsr = (standard ? rfbm : loaded) & XState.SSE;
    const touched = loaded | (mxcsr ? XState.X87 : 0);
    if (!probeComponents(cpu, linear, touched, offsetOf, Access.Read)) {
      return access.outcome as OutcomeCode;
    }
    const value = mxcsr ? imageMxcsr(cpu, area) : MXCSR_INIT;
    // The compacted format has its XMM registers loaded before that is seen.
    if (value === undefined && standard) return v.raise(Vector.GP, 0);
    if (loaded & XState.X87) loadX87(cpu, area, long);
    else if (cleared & XState.X87) clearX87(cpu);
    if (loaded & XState.SSE) loadXmm(cpu, insn, area);
    else if (cleared & XState.SSE) loadXmm(cpu, insn, undefined);
    if (value === undefined) return v.raise(Vector.GP, 0);
    if ((mxcsr | cleared) & XState.SSE) v.setWord(VCPU.mxcsr, value);
    // PKRU last: its new rights do not concern this instruction's accesses.
    for (const c of XSAVE_COMPONENTS) {
      const bit = 1 << c.index;
      if (loaded & bit) setComponent(cpu, c, area.get(offsetOf(c), c.size));
      else if (cleared & bit) setComponent(cpu, c, 0n);
    }
    return Outcome.Done;
  };
}

function clearX87(cpu: CpuContext): void {
  initialize(cpu);
  for (let i = 0; i < 16; i++) cpu.v.setQuad(VCPU.x87 + i * 8, 0n);
}
