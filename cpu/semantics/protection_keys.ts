/**
 * RDPKRU and WRPKRU (SDM vol. 2B, 2D, each by name; vol. 3A §4.6.2). What PKRU
 * forbids is the mmu plugin's; it is told of every change.
 */
import { Cr4 } from "../arch/flags.ts";
import type { CpuContext } from "../context.ts";
import { Outcome, type OutcomeCode } from "../isa/row.ts";
import { Gpr, VCPU } from "../layout.ts";
import { Control } from "../port.ts";
import { gp, ud } from "./system/common.ts";
import { controlWrote, PKRU_REGISTER } from "./system/control.ts";

/** Writes PKRU and tells the translator and observers. */
export function setPkru(cpu: CpuContext, value: number): void {
  const old = cpu.v.word(VCPU.pkru);
  if (old === value) return;
  cpu.v.setWord(VCPU.pkru, value);
  cpu.translator.controlChanged(cpu, Control.ProtectionKeys, old, value);
  controlWrote(cpu, PKRU_REGISTER, BigInt(old), BigInt(value));
}

/** RDPKRU: #UD without CR4.PKE, #GP(0) unless ECX = 0. */
export function rdpkru(cpu: CpuContext): OutcomeCode {
  const { v } = cpu;
  if (!(v.cr4 & Cr4.PKE)) return ud(cpu);
  if (v.gpr32(Gpr.RCX) !== 0) return gp(cpu);
  v.setGpr32(Gpr.RAX, v.word(VCPU.pkru));
  v.setGpr32(Gpr.RDX, 0);
  return Outcome.Done;
}

/** WRPKRU: as RDPKRU, and #GP(0) unless EDX = 0. */
export function wrpkru(cpu: CpuContext): OutcomeCode {
  const { v } = cpu;
  if (!(v.cr4 & Cr4.PKE)) return ud(cpu);
  if (v.gpr32(Gpr.RCX) !== 0 || v.gpr32(Gpr.RDX) !== 0) return gp(cpu);
  setPkru(cpu, v.gpr32(Gpr.RAX));
  return Outcome.Done;
}
