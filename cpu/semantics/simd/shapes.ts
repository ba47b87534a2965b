/**
 * One procedure per shape of SIMD instruction (SDM vol. 2): what is read, which
 * lane function joins it, where the result goes.
 * Invariant: checks, then reads, then the one write.
 */
import { Rflags } from "../../arch/flags.ts";
import type { CpuContext } from "../../context.ts";
import { type Insn, OperandKind } from "../../isa/insn.ts";
import type { CallFunction, OutcomeCode } from "../../isa/row.ts";
import { Outcome } from "../../isa/row.ts";
import { Gpr, VCPU } from "../../layout.ts";
import { Access } from "../../port.ts";
import { sizeMask } from "../operands.ts";
import { sha256Rounds } from "./crypto.ts";
import { type LaneFunction, makeLanes, signMask } from "./lanes.ts";
import { INSERTPS } from "./lanes_sse4.ts";
import {
  Align,
  complete,
  isKind,
  load,
  simdUnavailable,
  store,
} from "./operands.ts";

const MASK32 = 0xffff_ffffn, MASK64 = 0xffff_ffff_ffff_ffffn;

/** Operands of the instruction at hand; nothing outlives it. */
const D = makeLanes(), S = makeLanes();

/** Outcome of the access that failed. */
function failed(cpu: CpuContext): OutcomeCode {
  return cpu.access.outcome as OutcomeCode;
}

/** Size of a register operand in bytes. */
function bytesOf(insn: Insn, i: number): number {
  return insn.operands[i].kind === OperandKind.Mmx ? 8 : 16;
}

/** Immediate of the last operand, or 0. */
export function immediate(insn: Insn): number {
  const last = insn.operands[insn.operands.length - 1];
  return last.kind === OperandKind.Immediate ? Number(last.imm & 0xffn) : 0;
}

/** op dst, src [, imm8]: dst = f(dst, src). Shift counts are sources too. */
export function combine(
  f: LaneFunction,
  align: number = Align.Operand,
): CallFunction {
  return (cpu, insn) => {
    if (simdUnavailable(cpu, insn)) return Outcome.Fault;
    if (!load(cpu, insn, 1, S, align)) return failed(cpu);
    load(cpu, insn, 0, D);
    f(D, S, bytesOf(insn, 0), immediate(insn));
    return store(cpu, insn, 0, D);
  };
}

/** Whole-register, 32- and 64-bit moves; shorter sources are zero-extended. */
export function move(align: number): CallFunction {
  return (cpu, insn) => {
    if (simdUnavailable(cpu, insn)) return Outcome.Fault;
    if (!load(cpu, insn, 1, S, align)) return failed(cpu);
    return store(cpu, insn, 0, S, align);
  };
}

/** MOVQ and its relatives: the low 64 bits, zero-extended. */
export function moveQuad(cpu: CpuContext, insn: Insn): OutcomeCode {
  if (simdUnavailable(cpu, insn)) return Outcome.Fault;
  if (!load(cpu, insn, 1, S)) return failed(cpu);
  S.u32[2] = S.u32[3] = 0;
  return store(cpu, insn, 0, S);
}

/** MOVSS, MOVSD: between registers the upper part stays, from memory it is 0. */
export function moveScalar(words: 1 | 2): CallFunction {
  return (cpu, insn) => {
    if (simdUnavailable(cpu, insn)) return Outcome.Fault;
    if (!load(cpu, insn, 1, S)) return failed(cpu);
    if (
      !isKind(insn, 0, OperandKind.Xmm) || !isKind(insn, 1, OperandKind.Xmm)
    ) return store(cpu, insn, 0, S);
    load(cpu, insn, 0, D);
    for (let i = 0; i < words; i++) D.u32[i] = S.u32[i];
    return store(cpu, insn, 0, D);
  };
}

/**
 * MOVLPS, MOVHPS, MOVHLPS, MOVLHPS: one half to one half, the other stays.
 * @param from, to 0 or 2: first word of the register's half
 */
export function moveHalf(from: 0 | 2, to: 0 | 2): CallFunction {
  return (cpu, insn) => {
    if (simdUnavailable(cpu, insn)) return Outcome.Fault;
    if (!load(cpu, insn, 1, S)) return failed(cpu);
    const low = S.u32[from], high = S.u32[from + 1];
    const register = isKind(insn, 0, OperandKind.Xmm);
    if (register) load(cpu, insn, 0, D);
    const at = register ? to : 0;
    D.u32[at] = low;
    D.u32[at + 1] = high;
    return store(cpu, insn, 0, D);
  };
}

/**
 * PMOVMSKB, MOVMSKPS, MOVMSKPD: sign bits to a general register.
 * @param width bytes of a lane
 */
export function moveMask(width: number): CallFunction {
  return (cpu, insn) => {
    if (simdUnavailable(cpu, insn)) return Outcome.Fault;
    load(cpu, insn, 1, S);
    const mask = signMask(S, bytesOf(insn, 1), width);
    cpu.v.setGpr32(insn.operands[0].reg, mask);
    return complete(cpu, insn);
  };
}

/**
 * PEXTRB/W/D/Q, EXTRACTPS: the lane that an immediate selects, zero-extended.
 * @param width bytes of a lane
 */
export function extract(width: number): CallFunction {
  return (cpu, insn) => {
    if (simdUnavailable(cpu, insn)) return Outcome.Fault;
    load(cpu, insn, 1, S);
    const at = (immediate(insn) & (bytesOf(insn, 1) / width - 1)) * width;
    D.u32.fill(0);
    for (let i = 0; i < width; i++) D.u8[i] = S.u8[at + i];
    return store(cpu, insn, 0, D);
  };
}

/** PINSRB/W/D/Q: one lane from a general register or memory. */
export function insert(width: number): CallFunction {
  return (cpu, insn) => {
    if (simdUnavailable(cpu, insn)) return Outcome.Fault;
    if (!load(cpu, insn, 1, S)) return failed(cpu);
    load(cpu, insn, 0, D);
    const at = (immediate(insn) & (bytesOf(insn, 0) / width - 1)) * width;
    for (let i = 0; i < width; i++) D.u8[at + i] = S.u8[i];
    return store(cpu, insn, 0, D);
  };
}

/** INSERTPS: from memory the source is one word. */
export function insertFloat(cpu: CpuContext, insn: Insn): OutcomeCode {
  if (simdUnavailable(cpu, insn)) return Outcome.Fault;
  if (!load(cpu, insn, 1, S)) return failed(cpu);
  load(cpu, insn, 0, D);
  const register = isKind(insn, 1, OperandKind.Xmm);
  INSERTPS(D, S, 16, immediate(insn) & (register ? 0xff : 0x3f));
  return store(cpu, insn, 0, D);
}

/** The implicit operand XMM0 of SSE4.1 blends and SHA256RNDS2. */
const IMPLICIT = makeLanes();
function loadImplicit({ v }: CpuContext): void {
  for (let i = 0; i < 4; i++) {
    IMPLICIT.u32[i] = v.word(VCPU.vector + i * 4);
  }
}

/**
 * PBLENDVB, BLENDVPS, BLENDVPD: lanes whose top bit is set in XMM0.
 * @param width bytes of a lane
 */
export function blendByRegister(width: number): CallFunction {
  return (cpu, insn) => {
    if (simdUnavailable(cpu, insn)) return Outcome.Fault;
    if (!load(cpu, insn, 1, S)) return failed(cpu);
    load(cpu, insn, 0, D);
    loadImplicit(cpu);
    for (let i = 0; i < 16; i++) {
      if (IMPLICIT.u8[i | width - 1] & 0x80) D.u8[i] = S.u8[i];
    }
    return store(cpu, insn, 0, D);
  };
}

/** SHA256RNDS2. */
export function sha256TwoRounds(cpu: CpuContext, insn: Insn): OutcomeCode {
  if (simdUnavailable(cpu, insn)) return Outcome.Fault;
  if (!load(cpu, insn, 1, S, Align.Intel)) return failed(cpu);
  load(cpu, insn, 0, D);
  loadImplicit(cpu);
  sha256Rounds(D.u32, S.u32, IMPLICIT.u32);
  return store(cpu, insn, 0, D);
}

/** PTEST: ZF for source AND destination, CF for source AND NOT destination. */
export function testBits(cpu: CpuContext, insn: Insn): OutcomeCode {
  if (simdUnavailable(cpu, insn)) return Outcome.Fault;
  if (!load(cpu, insn, 1, S)) return failed(cpu);
  load(cpu, insn, 0, D);
  let both = 0, only = 0;
  for (let i = 0; i < 4; i++) {
    both |= S.u32[i] & D.u32[i];
    only |= S.u32[i] & ~D.u32[i];
  }
  const { v } = cpu;
  const all = Rflags.CF | Rflags.PF | Rflags.AF | Rflags.ZF | Rflags.SF |
    Rflags.OF;
  v.rflags = ((v.rflags & ~all) | (both === 0 ? Rflags.ZF : 0) |
    (only === 0 ? Rflags.CF : 0)) >>> 0;
  return Outcome.Done;
}

/**
 * MASKMOVQ, MASKMOVDQU: bytes whose mask has the top bit set go to DS:rDI. The
 * whole range is checked for writing first, even with no byte selected (SDM 2B
 * leaves that to the implementation; as seen on silicon, where the MMX state is
 * entered before a fault too).
 */
export function maskedStore(cpu: CpuContext, insn: Insn): OutcomeCode {
  if (simdUnavailable(cpu, insn)) return Outcome.Fault;
  load(cpu, insn, 1, D);
  load(cpu, insn, 2, S);
  const { access, v } = cpu;
  const bytes = bytesOf(insn, 1);
  const selected = signMask(S, bytes, 1);
  complete(cpu, insn);
  const offset = v.gpr(Gpr.RDI) & sizeMask(insn.addressSize);
  access.outcome = 0;
  const linear = access.linear(insn.segment, offset, bytes, true);
  if (linear === undefined) return failed(cpu);
  if (!access.aligned(linear, bytes)) return failed(cpu);
  if (access.probe(linear, bytes, Access.Write) !== 0) return failed(cpu);
  for (let i = 0; i < bytes; i++) {
    if (!(selected >> i & 1)) continue;
    const at = (linear + BigInt(i)) & (access.long ? MASK64 : MASK32);
    if (access.write(at, 1, BigInt(D.u8[i])) !== 0) return failed(cpu);
  }
  return Outcome.Done;
}
