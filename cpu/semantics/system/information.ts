/**
 * CPUID, RDTSC, RDTSCP, RDPMC, RDPID, RDPRU, XGETBV, XSETBV, RDRAND and RDSEED
 * (SDM 2A–2B, APM 3, each by name). Time is virtual, randomness the machine's
 * seeded stream.
 */
import { cpuid as cpuidLeaf } from "../../arch/cpuid.ts";
import { Vector } from "../../arch/exceptions.ts";
import { Cr0, Cr4, Rflags } from "../../arch/flags.ts";
import { MsrSlot } from "../../arch/msr.ts";
import { supportedXcr0 } from "../../arch/xsave.ts";
import type { CpuContext } from "../../context.ts";
import type { Insn } from "../../isa/insn.ts";
import { Outcome, type OutcomeCode } from "../../isa/row.ts";
import { Gpr, GuestMode, VCPU } from "../../layout.ts";
import {
  gp,
  in64,
  longModeActive,
  MASK32,
  maskOf,
  refuse,
  setFlag,
  ud,
} from "./common.ts";
import { ARITHMETIC_FLAGS } from "../../arch/flags.ts";
import { xinuse } from "../xsave.ts";
import { controlWrote, XCR0_REGISTER } from "./control.ts";
import { hostTsc, readMsr, visibleTsc } from "./msr.ts";
import { Msr } from "../../arch/msr.ts";

const APIC_ENABLE = 1n << 11n;

/** CPUID. */
export function cpuid(cpu: CpuContext): OutcomeCode {
  const { v } = cpu;
  const base = readMsr(cpu, Msr.APIC_BASE);
  const [a, b, c, d] = cpuidLeaf(
    cpu.model,
    {
      cpuIndex: cpu.index,
      cpuCount: cpu.layout.cpus,
      cr4: v.cr4,
      xcr0: Number(v.quad(VCPU.xcr0)),
      xss: Number(v.msr(MsrSlot.Xss)),
      apicEnabled: base !== undefined && (base & APIC_ENABLE) !== 0n,
      longMode: longModeActive(v) && in64(v),
      virtualization: cpu.virtualization !== undefined,
    },
    v.gpr32(Gpr.RAX),
    v.gpr32(Gpr.RCX),
  );
  v.setGpr32(Gpr.RAX, a);
  v.setGpr32(Gpr.RBX, b);
  v.setGpr32(Gpr.RCX, c);
  v.setGpr32(Gpr.RDX, d);
  return Outcome.Done;
}

/** CR4.TSD outside CPL 0 is #GP(0), before interception. */
export function checkTsc(cpu: CpuContext): number | undefined {
  const { v } = cpu;
  if ((v.cr4 & Cr4.TSD) && v.cpl > 0 && (v.cr0 & Cr0.PE)) {
    return refuse(cpu, Vector.GP, 0);
  }
  return 0;
}

function setTsc(cpu: CpuContext, tsc: bigint): void {
  cpu.v.setGpr(Gpr.RAX, tsc & MASK32);
  cpu.v.setGpr(Gpr.RDX, tsc >> 32n);
}

/** RDTSC. */
export function rdtsc(cpu: CpuContext): OutcomeCode {
  setTsc(cpu, visibleTsc(cpu));
  return Outcome.Done;
}

/** RDTSCP. */
export function rdtscp(cpu: CpuContext): OutcomeCode {
  setTsc(cpu, visibleTsc(cpu));
  cpu.v.setGpr(Gpr.RCX, cpu.v.msr(MsrSlot.TscAux) & MASK32);
  return Outcome.Done;
}

/** RDPID: always 64 bits in 64-bit mode. */
export function rdpid(cpu: CpuContext, insn: Insn): OutcomeCode {
  const { v } = cpu;
  const aux = v.msr(MsrSlot.TscAux) & MASK32;
  v.setGprSized(insn.operands[0].reg, in64(v) ? 64 : 32, aux);
  return Outcome.Done;
}

/** RDPMC's privilege check: CR4.PCE outside CPL 0. */
export function checkPmc(cpu: CpuContext): number | undefined {
  const { v } = cpu;
  if (!(v.cr4 & Cr4.PCE) && v.cpl > 0 && (v.cr0 & Cr0.PE)) {
    return refuse(cpu, Vector.GP, 0);
  }
  return 0;
}

/** RDPMC: AMD's four counters stand still (their EN is not modelled); Intel models show none. */
export function rdpmc(cpu: CpuContext): OutcomeCode {
  const { v } = cpu;
  const index = v.gpr32(Gpr.RCX);
  const value = cpu.model.vendor === "AuthenticAMD" && index < 4
    ? readMsr(cpu, 0xc0010004 + index)
    : undefined;
  if (value === undefined) return gp(cpu);
  v.setGpr(Gpr.RAX, value & MASK32);
  v.setGpr(Gpr.RDX, (value >> 32n) & 0xffffn);
  return Outcome.Done;
}

/** RDPRU: MPERF (0) and APERF (1) both count virtual time. */
export function rdpru(cpu: CpuContext): OutcomeCode {
  const { v } = cpu;
  if ((v.cr4 & Cr4.TSD) && v.cpl > 0) return gp(cpu);
  const known = v.gpr32(Gpr.RCX) <= 1;
  setTsc(cpu, known ? hostTsc(cpu) : 0n);
  v.rflags &= ~ARITHMETIC_FLAGS;
  setFlag(v, Rflags.CF, known);
  return Outcome.Done;
}

/** XGETBV: XCR0, or with ECX = 1 its components in use (SDM 2D XGETBV). */
export function xgetbv(cpu: CpuContext): OutcomeCode {
  const { v } = cpu;
  if (!(v.cr4 & Cr4.OSXSAVE)) return ud(cpu);
  const index = v.gpr32(Gpr.RCX);
  if (index > 1 || (index === 1 && !cpu.model.has("xgetbv1"))) return gp(cpu);
  const xcr0 = v.quad(VCPU.xcr0);
  const value = index === 1 ? xcr0 & BigInt(xinuse(cpu, true)) : xcr0;
  v.setGpr(Gpr.RAX, value & MASK32);
  v.setGpr(Gpr.RDX, value >> 32n);
  return Outcome.Done;
}

/**
 * CR4.OSXSAVE clear is #UD, CPL above 0 #GP(0), both before interception; but
 * SVM's intercept comes before #GP (APM 2 table 15-7).
 */
export function checkXsetbv(cpu: CpuContext): number | undefined {
  const { v } = cpu;
  if (!(v.cr4 & Cr4.OSXSAVE)) return refuse(cpu, Vector.UD, -1);
  if (v.cpl !== 0 && v.guestMode !== GuestMode.Svm) {
    return refuse(cpu, Vector.GP, 0);
  }
  return v.gpr32(Gpr.RCX);
}

/** EDX:EAX where XSETBV may write it: x87 on, only what the model has (SDM 1 §13.3). */
export function xsetbvValue(cpu: CpuContext): bigint | undefined {
  const { v } = cpu;
  const value = BigInt(v.gpr32(Gpr.RDX)) << 32n | BigInt(v.gpr32(Gpr.RAX));
  const refused = v.gpr32(Gpr.RCX) !== 0 || !(value & 1n) ||
    (value & ~BigInt(supportedXcr0(cpu.model))) !== 0n;
  return refused ? undefined : value;
}

/** XSETBV. */
export function xsetbv(cpu: CpuContext): OutcomeCode {
  const { v } = cpu;
  const value = v.cpl === 0 ? xsetbvValue(cpu) : undefined;
  if (value === undefined) return gp(cpu);
  const old = v.quad(VCPU.xcr0);
  v.setQuad(VCPU.xcr0, value);
  controlWrote(cpu, XCR0_REGISTER, old, value);
  return Outcome.Done;
}

/** RDRAND and RDSEED: always succeed (CF = 1), other flags cleared. */
export function random(cpu: CpuContext, insn: Insn): OutcomeCode {
  const { v } = cpu;
  const o = insn.operands[0];
  v.setGprSized(o.reg, o.size, cpu.random() & maskOf(o.size));
  v.rflags = ((v.rflags & ~ARITHMETIC_FLAGS) | Rflags.CF) >>> 0;
  return Outcome.Done;
}
