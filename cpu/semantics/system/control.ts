/**
 * Control and debug registers: MOV CR, MOV DR, LMSW, SMSW, CLTS (SDM 2B MOV—
 * Move to/from Control Registers, Debug Registers; SDM 3A §2.5, §4.1, §9.8.5;
 * debug registers §17.2). Every #GP condition of the manual is one line here.
 */
import { Vector } from "../../arch/exceptions.ts";
import { cr4Defined as cr4OfModel } from "../../arch/control_bits.ts";
import { Cr0, Cr3, Cr4, Efer, SegmentRights as R } from "../../arch/flags.ts";
import type { CpuContext } from "../../context.ts";
import { ControlWrote } from "../../facts.ts";
import { type Insn, OperandKind } from "../../isa/insn.ts";
import { Outcome, type OutcomeCode } from "../../isa/row.ts";
import { GuestMode, Seg } from "../../layout.ts";
import { Control, CR3_NO_FLUSH } from "../../port.ts";
import {
  failed,
  gp,
  in64,
  isMemory,
  longModeActive,
  MASK32,
  MASK64,
  readOperand,
  refuse,
  ud,
  writeMemory,
} from "./common.ts";
import { SystemType } from "./descriptors.ts";

/** ControlWrote's number of EFER. */
export const EFER_REGISTER = 16;
/** ControlWrote's number of XCR0. */
export const XCR0_REGISTER = 17;
/** ControlWrote's number of PKRU. */
export const PKRU_REGISTER = 18;

const CR0_WRITABLE = (Cr0.PE | Cr0.MP | Cr0.EM | Cr0.TS | Cr0.NE | Cr0.WP |
  Cr0.AM | Cr0.NW | Cr0.CD | Cr0.PG) >>> 0;

/** CR4 bits that this machine defines: VMXE needs a virtualization plugin too. */
export function cr4Defined(cpu: CpuContext): number {
  const bits = cr4OfModel(cpu.model);
  return (cpu.virtualization ? bits : bits & ~Cr4.VMXE) >>> 0;
}

/** States a control register's change, when somebody wants it. */
export function controlWrote(
  cpu: CpuContext,
  register: number,
  old: bigint,
  value: bigint,
): void {
  if (old === value) return;
  cpu.facts.emit(ControlWrote, { cpu: cpu.index, register, old, value });
}

/** Changes EFER.LMA or other bits: tells translator and observers. */
export function setEfer(cpu: CpuContext, value: number): void {
  const { v } = cpu;
  const old = v.efer;
  if (old === value >>> 0) return;
  v.efer = value >>> 0;
  cpu.translator.controlChanged(cpu, Control.Efer, old, v.efer);
  controlWrote(cpu, EFER_REGISTER, BigInt(old), BigInt(v.efer));
}

/** PAE paging is in force (not IA-32e). */
function paePaging(cr0: number, cr4: number, efer: number): boolean {
  return (cr0 & Cr0.PG) !== 0 && (cr4 & Cr4.PAE) !== 0 &&
    !(efer & Efer.LMA);
}

function pdptesFailed(cpu: CpuContext): OutcomeCode {
  return cpu.v.stage2 === undefined ? Outcome.Fault : Outcome.Stage2;
}

/**
 * MOV to CR0 and LMSW, after interception.
 * @param raw all 64 bits of the source
 */
export function writeCr0(cpu: CpuContext, raw: bigint): OutcomeCode {
  const { v } = cpu;
  if (raw >> 32n) return gp(cpu);
  const old = v.cr0;
  let value = ((Number(raw) & CR0_WRITABLE) | Cr0.ET) >>> 0;
  if (v.guestMode !== GuestMode.None && cpu.virtualization?.writeCr) {
    value = cpu.virtualization.writeCr(cpu, 0, value) >>> 0;
  }
  if ((value & Cr0.PG) && !(value & Cr0.PE)) return gp(cpu);
  if ((value & Cr0.NW) && !(value & Cr0.CD)) return gp(cpu);
  const pgOn = !(old & Cr0.PG) && (value & Cr0.PG) !== 0;
  const pgOff = (old & Cr0.PG) !== 0 && !(value & Cr0.PG);
  let efer = v.efer;
  if (pgOn && (efer & Efer.LME)) {
    // SDM 3A §9.8.5: PAE must be on, CS.L off, and TR no 16-bit TSS.
    if (!(v.cr4 & Cr4.PAE)) return gp(cpu);
    if (v.segAttributes(Seg.CS) & R.Long) return gp(cpu);
    const tr = v.segAttributes(Seg.TR) & R.TypeMask;
    if (tr === SystemType.Tss16Busy || tr === SystemType.Tss16) return gp(cpu);
    efer |= Efer.LMA;
  }
  if (pgOff) {
    if (in64(v)) return gp(cpu);
    if (v.cr4 & Cr4.PCIDE) return gp(cpu);
    efer &= ~Efer.LMA;
  }
  if (cpu.virtualization?.crRefused(cpu, 0, value)) return gp(cpu);
  // SDM 3A §4.4.1: CD, NW or PG changes reload the PDPTEs.
  const changed = (old ^ value) & (Cr0.CD | Cr0.NW | Cr0.PG);
  if (changed !== 0 && paePaging(value, v.cr4, efer)) {
    if (!cpu.translator.loadPdptes(cpu, v.cr3)) return pdptesFailed(cpu);
  }
  v.cr0 = value;
  setEfer(cpu, efer);
  if (old !== value) {
    cpu.translator.controlChanged(cpu, Control.Cr0, old, value);
    controlWrote(cpu, 0, BigInt(old), BigInt(value));
  }
  return Outcome.Done;
}

/** MOV to CR3, after interception. */
export function writeCr3(cpu: CpuContext, raw: bigint): OutcomeCode {
  const { v } = cpu;
  let value = raw;
  let noFlush = false;
  if (v.cr4 & Cr4.PCIDE) {
    noFlush = (raw >> 63n) === 1n;
    value &= MASK64 >> 1n;
  }
  if (longModeActive(v)) {
    const lam = cpu.model.has("lam") ? Cr3.LAM_U48 | Cr3.LAM_U57 : 0n;
    const address = value & ~lam;
    if (address >> BigInt(cpu.model.physicalAddressBits)) return gp(cpu);
  } else value &= MASK32;
  const next = Number(value & Cr3.ADDRESS);
  if (paePaging(v.cr0, v.cr4, v.efer)) {
    if (!cpu.translator.loadPdptes(cpu, next)) return pdptesFailed(cpu);
  }
  const old = v.cr3;
  const oldFull = v.cr3Full;
  v.cr3Full = value;
  const told = noFlush ? CR3_NO_FLUSH : old === CR3_NO_FLUSH ? 0 : old;
  cpu.translator.controlChanged(cpu, Control.Cr3, told, next);
  controlWrote(cpu, 3, oldFull, value);
  return Outcome.Done;
}

/** MOV to CR4, after interception. */
export function writeCr4(cpu: CpuContext, raw: bigint): OutcomeCode {
  const { v } = cpu;
  if (raw >> 32n) return gp(cpu);
  let value = Number(raw);
  if (value & ~cr4Defined(cpu)) return gp(cpu);
  if (v.guestMode !== GuestMode.None && cpu.virtualization?.writeCr) {
    value = cpu.virtualization.writeCr(cpu, 4, value) >>> 0;
  }
  const old = v.cr4;
  const long = longModeActive(v);
  if (long && !(value & Cr4.PAE)) return gp(cpu);
  if (long && ((old ^ value) & Cr4.LA57)) return gp(cpu);
  if (!(old & Cr4.PCIDE) && (value & Cr4.PCIDE)) {
    if (!long || (v.cr3 & 0xfff) !== 0) return gp(cpu);
  }
  if (cpu.virtualization?.crRefused(cpu, 4, value)) return gp(cpu);
  const paging = (old ^ value) & (Cr4.PAE | Cr4.PSE | Cr4.PGE | Cr4.SMEP);
  if (paging && paePaging(v.cr0, value, v.efer)) {
    if (!cpu.translator.loadPdptes(cpu, v.cr3)) return pdptesFailed(cpu);
  }
  v.cr4 = value >>> 0;
  if (old !== v.cr4) {
    cpu.translator.controlChanged(cpu, Control.Cr4, old, v.cr4);
    controlWrote(cpu, 4, BigInt(old), BigInt(v.cr4));
  }
  return Outcome.Done;
}

/** Operand facts of MOV CR for interception: number | general register << 8. */
export function movCrDetail(cpu: CpuContext, insn: Insn): number | undefined {
  const to = insn.operands[0].kind !== OperandKind.Gpr;
  const cr = insn.operands[to ? 0 : 1].reg;
  const gpr = insn.operands[to ? 1 : 0].reg;
  // #UD and #GP by privilege come first; CR8 exists in 64-bit mode only.
  if (cr === 1 || (cr > 4 && cr !== 8)) return refuse(cpu, Vector.UD, -1);
  if (cpu.v.cpl !== 0) return refuse(cpu, Vector.GP, 0);
  return cr | gpr << 8;
}

/** MOV CRn, r. */
export function movToCr(cpu: CpuContext, insn: Insn): OutcomeCode {
  const { v } = cpu;
  const raw = in64(v)
    ? v.gpr(insn.operands[1].reg)
    : BigInt(v.gpr32(insn.operands[1].reg));
  switch (insn.operands[0].reg) {
    case 0:
      return writeCr0(cpu, raw);
    case 2: {
      const old = v.cr2;
      v.cr2 = raw;
      controlWrote(cpu, 2, old, raw);
      return Outcome.Done;
    }
    case 3:
      return writeCr3(cpu, raw);
    case 4:
      return writeCr4(cpu, raw);
    case 8: {
      if (raw > 15n) return gp(cpu);
      if (cpu.virtualization?.writeCr8?.(cpu, Number(raw))) return Outcome.Done;
      const old = cpu.interrupts.readTpr(cpu.index);
      cpu.interrupts.writeTpr(cpu.index, Number(raw));
      controlWrote(cpu, 8, BigInt(old), raw);
      return Outcome.Done;
    }
    default:
      return ud(cpu);
  }
}

/** CR0 or CR4 as the running software sees it. */
export function visibleCr(cpu: CpuContext, which: 0 | 4): number {
  const { v } = cpu;
  const value = which === 0 ? v.cr0 : v.cr4;
  return v.guestMode !== GuestMode.None && cpu.virtualization
    ? cpu.virtualization.readCr(cpu, which, value) >>> 0
    : value;
}

/** MOV r, CRn. */
export function movFromCr(cpu: CpuContext, insn: Insn): OutcomeCode {
  const { v } = cpu;
  let value: bigint;
  switch (insn.operands[1].reg) {
    case 0:
      value = BigInt(visibleCr(cpu, 0));
      break;
    case 2:
      value = v.cr2;
      break;
    case 3:
      value = v.cr3Full;
      break;
    case 4:
      value = BigInt(visibleCr(cpu, 4));
      break;
    case 8:
      value = BigInt(
        cpu.virtualization?.readCr8?.(cpu) ?? cpu.interrupts.readTpr(cpu.index),
      );
      break;
    default:
      return ud(cpu);
  }
  v.setGprSized(insn.operands[0].reg, in64(v) ? 64 : 32, value);
  return Outcome.Done;
}

/** LMSW's interception facts: source | memory operand << 16. */
export function lmswDetail(cpu: CpuContext, insn: Insn): number | undefined {
  if (cpu.v.cpl !== 0) return refuse(cpu, Vector.GP, 0);
  const source = readOperand(cpu, insn, 0, 16);
  if (source === undefined) return undefined;
  return Number(source) | (isMemory(insn, 0) ? 1 << 16 : 0);
}

/** LMSW: PE, MP, EM and TS; PE can't be cleared. */
export function lmsw(cpu: CpuContext, insn: Insn): OutcomeCode {
  const source = readOperand(cpu, insn, 0, 16);
  if (source === undefined) return failed(cpu);
  const { cr0 } = cpu.v;
  const low = (Number(source) & 0xf) | (cr0 & Cr0.PE);
  return writeCr0(cpu, BigInt(((cr0 & ~0xf) | low) >>> 0));
}

/** SMSW: 16 bits to memory; a register gets its operand size of CR0. */
export function smsw(cpu: CpuContext, insn: Insn): OutcomeCode {
  const value = BigInt(visibleCr(cpu, 0));
  if (isMemory(insn, 0)) return writeMemory(cpu, insn, 2, value & 0xffffn);
  cpu.v.setGprSized(insn.operands[0].reg, insn.operandSize, value);
  return Outcome.Done;
}

/** CLTS. */
export function clts(cpu: CpuContext): OutcomeCode {
  const { v } = cpu;
  const old = v.cr0;
  let value = (old & ~Cr0.TS) >>> 0;
  if (v.guestMode !== GuestMode.None && cpu.virtualization?.writeCr) {
    value = cpu.virtualization.writeCr(cpu, 0, value) >>> 0;
  }
  v.cr0 = value;
  if (old !== value) {
    cpu.translator.controlChanged(cpu, Control.Cr0, old, value);
    controlWrote(cpu, 0, BigInt(old), BigInt(value));
  }
  return Outcome.Done;
}

const DR7_GD = 1n << 13n;
const DR6_BD = 1n << 13n;
const DR6_WRITABLE = 0xe00fn;
const DR6_ONES = 0xffff0ff0n;
const DR7_WRITABLE = 0xffff23ffn;
const DR7_ONES = 0x400n;

/**
 * MOV DR's interception comes before its privilege check (SDM 3C §26.1.3).
 * Facts: number | general register << 8 | from DR << 16.
 */
export function movDrDetail(_cpu: CpuContext, insn: Insn): number | undefined {
  const to = insn.operands[0].kind !== OperandKind.Gpr;
  const dr = insn.operands[to ? 0 : 1].reg;
  const gpr = insn.operands[to ? 1 : 0].reg;
  return dr | gpr << 8 | (to ? 0 : 1 << 16);
}

/** Shared checks. @returns register number with the DR4/5 alias resolved */
function debugRegister(cpu: CpuContext, number: number): number | undefined {
  const { v } = cpu;
  let dr = number;
  if (dr > 7) return refuse(cpu, Vector.UD, -1);
  if (dr === 4 || dr === 5) {
    // SDM 3B §17.2.2.
    if (v.cr4 & Cr4.DE) return refuse(cpu, Vector.UD, -1);
    dr += 2;
  }
  if (v.cpl !== 0) return refuse(cpu, Vector.GP, 0);
  if (v.dr(7) & DR7_GD) {
    // SDM 3B §17.2.4: general detect is a fault before the access.
    cpu.access.outcome = v.raise(Vector.DB, -1, DR6_BD);
    return undefined;
  }
  return dr;
}

/** MOV DRn, r. */
export function movToDr(cpu: CpuContext, insn: Insn): OutcomeCode {
  const { v } = cpu;
  const dr = debugRegister(cpu, insn.operands[0].reg);
  if (dr === undefined) return failed(cpu);
  const value = in64(v)
    ? v.gpr(insn.operands[1].reg)
    : BigInt(v.gpr32(insn.operands[1].reg));
  if (dr >= 6 && value >> 32n) return gp(cpu);
  if (dr === 6) v.setDr(6, (value & DR6_WRITABLE) | DR6_ONES);
  else if (dr === 7) v.setDr(7, (value & DR7_WRITABLE) | DR7_ONES);
  else v.setDr(dr, value);
  return Outcome.Done;
}

/** MOV r, DRn. */
export function movFromDr(cpu: CpuContext, insn: Insn): OutcomeCode {
  const { v } = cpu;
  const dr = debugRegister(cpu, insn.operands[1].reg);
  if (dr === undefined) return failed(cpu);
  v.setGprSized(insn.operands[0].reg, in64(v) ? 64 : 32, v.dr(dr));
  return Outcome.Done;
}
