/**
 * Translation and cache maintenance: INVLPG, INVPCID, INVD, WBINVD, WBNOINVD,
 * CLZERO, PCOMMIT, SERIALIZE (SDM 2A–2B, APM 3, each by name). Caches are not
 * modelled, which no instruction can tell; TLB effects are the translator's.
 */
import { Cr4 } from "../../arch/flags.ts";
import type { CpuContext } from "../../context.ts";
import type { Insn } from "../../isa/insn.ts";
import { Outcome, type OutcomeCode } from "../../isa/row.ts";
import { Gpr, Seg } from "../../layout.ts";
import {
  canonicalBase,
  effectiveAddress,
  failed,
  gp,
  in64,
  MASK32,
  MASK64,
  maskOf,
  memorySegment,
  protectedMode,
  readMemory,
  ud,
} from "./common.ts";

/** Linear address of the memory operand without any limit or type check. */
export function linearOperand(cpu: CpuContext, insn: Insn): bigint {
  const { v } = cpu;
  const segment = memorySegment(insn);
  const long = in64(v);
  const base = long && segment < Seg.FS ? 0n : v.segBase(segment);
  return (base + effectiveAddress(cpu, insn)) & (long ? MASK64 : MASK32);
}

/** INVLPG; a non-canonical address does nothing (SDM 2A INVLPG). */
export function invlpg(cpu: CpuContext, insn: Insn): OutcomeCode {
  const linear = linearOperand(cpu, insn);
  if (!in64(cpu.v) || cpu.access.canonical(linear)) {
    cpu.translator.invlpg(cpu, linear);
  }
  return Outcome.Done;
}

/** INVPCID (SDM 2A INVPCID). */
export function invpcid(cpu: CpuContext, insn: Insn): OutcomeCode {
  const { v } = cpu;
  const type = v.gpr(insn.operands[0].reg) & (in64(v) ? MASK64 : MASK32);
  const low = readMemory(cpu, insn, 8);
  if (low === undefined) return failed(cpu);
  const linear = readMemory(cpu, insn, 8, 8n);
  if (linear === undefined) return failed(cpu);
  if (type > 3n || low >> 12n) return gp(cpu);
  const pcid = Number(low);
  if (type <= 1n && pcid !== 0 && !(v.cr4 & Cr4.PCIDE)) return gp(cpu);
  if (type === 0n && !canonicalBase(cpu, linear)) return gp(cpu);
  cpu.translator.invpcid(cpu, Number(type), pcid, linear);
  return Outcome.Done;
}

/** INVD, WBINVD, WBNOINVD, PCOMMIT, SERIALIZE: nothing that can be seen. */
export function nothing(): OutcomeCode {
  return Outcome.Done;
}

/** CLZERO: 64 bytes at the line of rAX (APM 3 CLZERO). */
export function clzero(cpu: CpuContext, insn: Insn): OutcomeCode {
  const offset = cpu.v.gpr(Gpr.RAX) & maskOf(insn.addressSize) & ~63n;
  const { access } = cpu;
  for (let i = 0n; i < 64n; i += 8n) {
    if (access.writeSegment(insn.segment, offset + i, 8, 0n) !== 0) {
      return failed(cpu);
    }
  }
  return Outcome.Done;
}

/** VMX and SVM instructions: the plugin's, or #UD without one. */
export function virtualization(cpu: CpuContext, insn: Insn): OutcomeCode {
  return cpu.virtualization && protectedMode(cpu.v)
    ? cpu.virtualization.execute(cpu, insn)
    : ud(cpu);
}

/** VMMCALL: meant for every mode (APM 3 VMMCALL). */
export function vmmcall(cpu: CpuContext, insn: Insn): OutcomeCode {
  return cpu.virtualization ? cpu.virtualization.execute(cpu, insn) : ud(cpu);
}

/** GETSEC without CR4.SMXE, RSM outside SMM, SEAM: #UD. */
export function undefinedHere(cpu: CpuContext): OutcomeCode {
  return ud(cpu);
}
