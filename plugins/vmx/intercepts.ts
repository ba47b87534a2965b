/**
 * Instructions that cause VM exits (SDM 3C §26.1): each InterceptId with its
 * exit reason, what makes it exit, and how qualification and instruction
 * information are formed (SDM 3C §28.2.1, §28.2.5). One table; nothing else
 * decides whether an instruction exits.
 */
import { Intercept, type InterceptId } from "../../cpu/arch/intercepts.ts";
import { Cr0 } from "../../cpu/arch/flags.ts";
import { MsrSlot } from "../../cpu/arch/msr.ts";
import type { CpuContext } from "../../cpu/context.ts";
import { type Insn, OperandKind } from "../../cpu/isa/insn.ts";
import { Gpr, Seg } from "../../cpu/layout.ts";
import { linearOperand } from "../../cpu/semantics/system/cache.ts";
import { PortDetail } from "../../cpu/semantics/system/io.ts";
import { ioExits, msrExits } from "./bitmaps.ts";
import { type ControlWords, Primary, Secondary } from "./controls.ts";
import type { VmcsView } from "./entry_checks.ts";
import type { ExitInformation } from "./exit.ts";
import { ExitReason } from "./exit_reasons.ts";
import {
  displacement,
  gdtrIdtrInformation,
  invalidateInformation,
  ldtrTrInformation,
  memoryInformation,
  randomInformation,
  stringIoInformation,
  vmreadInformation,
} from "./instruction_information.ts";
import { VmcsField as F } from "./vmcs_fields.ts";

/** What a row of the table sees. */
export interface InterceptQuestion {
  readonly cpu: CpuContext;
  readonly insn: Insn;
  readonly vmcs: VmcsView;
  readonly controls: ControlWords;
  /** Operand facts that the procedure gathered (PortDetail, LMSW source …). */
  readonly detail: number;
}

/** What an exiting instruction reports besides reason and length. */
export type Report = Pick<
  ExitInformation,
  "qualification" | "instructionInformation" | "guestLinear"
>;

/** One row. */
export interface InterceptRow {
  readonly id: InterceptId;
  readonly reason: number;
  /** Whether it exits. */
  readonly exits: (q: InterceptQuestion) => boolean;
  readonly report?: (q: InterceptQuestion) => Report;
}

const always = (): boolean => true;
const primary = (bit: number) => (q: InterceptQuestion): boolean =>
  (q.controls.primary & bit) !== 0;
const secondary = (bit: number) => (q: InterceptQuestion): boolean =>
  (q.controls.secondary & bit) !== 0;

/** Types of access in control-register qualifications (table 28-3). */
const CrAccess = { MovTo: 0, MovFrom: 1, Clts: 2, Lmsw: 3 } as const;

interface CrOperands {
  readonly cr: number;
  readonly gpr: number;
}

/** Control and general register of MOV CR, MOV DR. */
function crOperands(insn: Insn): CrOperands {
  let cr = 0;
  let gpr = 0;
  for (const o of insn.operands) {
    if (o.kind === OperandKind.Gpr) gpr = o.reg;
    if (o.kind === OperandKind.Control || o.kind === OperandKind.Debug) {
      cr = o.reg;
    }
  }
  return { cr, gpr };
}

/** Value that MOV to CR writes. */
function source(q: InterceptQuestion): bigint {
  const value = q.cpu.v.gpr(crOperands(q.insn).gpr);
  return q.insn.codeSize === 64 ? value : value & 0xffff_ffffn;
}

/** Some host-owned bit would get another value than its shadow (SDM 3C §26.1.3). */
function differsFromShadow(
  q: InterceptQuestion,
  mask: number,
  shadow: number,
  value: bigint,
): boolean {
  return ((value ^ q.vmcs.read(shadow)) & q.vmcs.read(mask)) !== 0n;
}

function movToCrExits(q: InterceptQuestion): boolean {
  switch (crOperands(q.insn).cr) {
    case 0:
      return differsFromShadow(q, F.Cr0Mask, F.Cr0Shadow, source(q));
    case 3: {
      if (!(q.controls.primary & Primary.Cr3LoadExiting)) return false;
      const count = q.vmcs.read32(F.Cr3TargetCount);
      const value = source(q);
      for (let i = 0; i < count; i++) {
        if (q.vmcs.read(F.Cr3Target0 + 2 * i) === value) return false;
      }
      return true;
    }
    case 4:
      return differsFromShadow(q, F.Cr4Mask, F.Cr4Shadow, source(q));
    default:
      return (q.controls.primary & Primary.Cr8LoadExiting) !== 0;
  }
}

function movFromCrExits(q: InterceptQuestion): boolean {
  switch (crOperands(q.insn).cr) {
    case 3:
      return (q.controls.primary & Primary.Cr3StoreExiting) !== 0;
    case 8:
      return (q.controls.primary & Primary.Cr8StoreExiting) !== 0;
    default:
      return false;
  }
}

const crReport = (access: number) => (q: InterceptQuestion): Report => {
  const { cr, gpr } = crOperands(q.insn);
  return { qualification: BigInt(cr | access << 4 | gpr << 8) };
};

const LMSW_BITS = Cr0.PE | Cr0.MP | Cr0.EM | Cr0.TS;

function lmswExits(q: InterceptQuestion): boolean {
  const value = q.detail & 0xffff;
  const mask = q.vmcs.read32(F.Cr0Mask);
  const shadow = q.vmcs.read32(F.Cr0Shadow);
  // PE can only be set by LMSW, so a 0 for it changes nothing.
  const changes = ((value ^ shadow) & mask & LMSW_BITS & ~Cr0.PE) |
    (value & ~shadow & mask & Cr0.PE);
  return changes !== 0;
}

function lmswReport(q: InterceptQuestion): Report {
  const memory = q.insn.memory !== undefined;
  return {
    qualification: BigInt(CrAccess.Lmsw << 4 | (memory ? 1 << 6 : 0)) |
      BigInt(q.detail & 0xffff) << 16n,
    guestLinear: memory ? linearOperand(q.cpu, q.insn) : 0n,
  };
}

const portOf = (detail: number): number => detail & 0xffff;
/** Bytes: 1, 2 or 4. */
const sizeOf = (detail: number): number =>
  (detail >>> PortDetail.SizeShift) & 0xff;

function ioReport(q: InterceptQuestion): Report {
  const { cpu, insn } = q;
  const { detail } = q;
  const input = (detail & PortDetail.In) !== 0;
  let qualification = (sizeOf(detail) - 1) | portOf(detail) << 16;
  if (input) qualification |= 1 << 3;
  if (detail & PortDetail.String) qualification |= 1 << 4;
  if (detail & PortDetail.Repeat) qualification |= 1 << 5;
  if (detail & PortDetail.Immediate) qualification |= 1 << 6;
  const report: Report = { qualification: BigInt(qualification >>> 0) };
  if (!(detail & PortDetail.String)) return report;
  const index = cpu.v.gpr(input ? Gpr.RDI : Gpr.RSI);
  const mask = (1n << BigInt(insn.addressSize)) - 1n;
  const segment = input ? Seg.ES : insn.segment;
  const base = insn.codeSize === 64 && segment < Seg.FS
    ? 0n
    : cpu.v.segBase(segment);
  const width = insn.codeSize === 64 ? 0xffff_ffff_ffff_ffffn : 0xffff_ffffn;
  return {
    ...report,
    instructionInformation: stringIoInformation(insn),
    guestLinear: (base + (index & mask)) & width,
  };
}

const withDisplacement =
  (information: (insn: Insn) => number) => (q: InterceptQuestion): Report => ({
    qualification: displacement(q.insn),
    instructionInformation: information(q.insn),
  });

const msr = (write: boolean) => (q: InterceptQuestion): boolean =>
  msrExits(q.cpu, q.vmcs, q.controls, q.cpu.v.gpr32(Gpr.RCX), write);

/** EDX:EAX, IA32_XSS and the XSS-exiting bitmap have a bit in common (SDM 3C §26.1.3). */
function xsavesExits(q: InterceptQuestion): boolean {
  const { v } = q.cpu;
  const asked = BigInt(v.gpr32(Gpr.RDX)) << 32n | BigInt(v.gpr32(Gpr.RAX));
  const bitmap = q.vmcs.read(F.XssExitingBitmap);
  return (asked & v.msr(MsrSlot.Xss) & bitmap) !== 0n;
}

/** Rows for instructions with an InterceptId of their own. */
export const INTERCEPTS: readonly InterceptRow[] = [
  { id: Intercept.Cpuid, reason: ExitReason.Cpuid, exits: always },
  {
    id: Intercept.Hlt,
    reason: ExitReason.Hlt,
    exits: primary(Primary.HltExiting),
  },
  {
    id: Intercept.Invlpg,
    reason: ExitReason.Invlpg,
    exits: primary(Primary.InvlpgExiting),
    report: (q) => ({ qualification: linearOperand(q.cpu, q.insn) }),
  },
  { id: Intercept.Invd, reason: ExitReason.Invd, exits: always },
  {
    id: Intercept.Wbinvd,
    reason: ExitReason.Wbinvd,
    exits: secondary(Secondary.WbinvdExiting),
  },
  {
    id: Intercept.Rdtsc,
    reason: ExitReason.Rdtsc,
    exits: primary(Primary.RdtscExiting),
  },
  {
    id: Intercept.Rdtscp,
    reason: ExitReason.Rdtscp,
    exits: primary(Primary.RdtscExiting),
  },
  {
    id: Intercept.Rdpmc,
    reason: ExitReason.Rdpmc,
    exits: primary(Primary.RdpmcExiting),
  },
  { id: Intercept.Rdmsr, reason: ExitReason.Rdmsr, exits: msr(false) },
  { id: Intercept.Wrmsr, reason: ExitReason.Wrmsr, exits: msr(true) },
  {
    id: Intercept.PortIo,
    reason: ExitReason.Io,
    exits: (q) =>
      ioExits(
        q.cpu,
        q.vmcs,
        q.controls,
        portOf(q.detail),
        sizeOf(q.detail),
      ),
    report: ioReport,
  },
  {
    id: Intercept.MovToCr,
    reason: ExitReason.ControlRegister,
    exits: movToCrExits,
    report: crReport(CrAccess.MovTo),
  },
  {
    id: Intercept.MovFromCr,
    reason: ExitReason.ControlRegister,
    exits: movFromCrExits,
    report: crReport(CrAccess.MovFrom),
  },
  {
    id: Intercept.Clts,
    reason: ExitReason.ControlRegister,
    exits: (q) =>
      (q.vmcs.read32(F.Cr0Mask) & q.vmcs.read32(F.Cr0Shadow) & Cr0.TS) !== 0,
    report: () => ({ qualification: BigInt(CrAccess.Clts << 4) }),
  },
  {
    id: Intercept.Lmsw,
    reason: ExitReason.ControlRegister,
    exits: lmswExits,
    report: lmswReport,
  },
  {
    id: Intercept.MovDr,
    reason: ExitReason.MovDr,
    exits: primary(Primary.MovDrExiting),
    report: (q) => {
      const { cr, gpr } = crOperands(q.insn);
      const from = q.insn.operands[0]?.kind === OperandKind.Gpr;
      return { qualification: BigInt(cr | (from ? 1 << 4 : 0) | gpr << 8) };
    },
  },
  {
    id: Intercept.GdtrIdtr,
    reason: ExitReason.GdtrIdtr,
    exits: secondary(Secondary.DescriptorTableExiting),
    report: withDisplacement(gdtrIdtrInformation),
  },
  {
    id: Intercept.LdtrTr,
    reason: ExitReason.LdtrTr,
    exits: secondary(Secondary.DescriptorTableExiting),
    report: withDisplacement(ldtrTrInformation),
  },
  {
    id: Intercept.Monitor,
    reason: ExitReason.Monitor,
    exits: primary(Primary.MonitorExiting),
  },
  {
    id: Intercept.Mwait,
    reason: ExitReason.Mwait,
    exits: primary(Primary.MwaitExiting),
    // Bit 0: address-range monitoring hardware was armed; ours never is.
    report: () => ({ qualification: 0n }),
  },
  {
    id: Intercept.Pause,
    reason: ExitReason.Pause,
    exits: primary(Primary.PauseExiting),
  },
  { id: Intercept.Xsetbv, reason: ExitReason.Xsetbv, exits: always },
  {
    id: Intercept.Rdrand,
    reason: ExitReason.Rdrand,
    exits: secondary(Secondary.RdrandExiting),
    report: (q) => ({ instructionInformation: randomInformation(q.insn) }),
  },
  {
    id: Intercept.Rdseed,
    reason: ExitReason.Rdseed,
    exits: secondary(Secondary.RdseedExiting),
    report: (q) => ({ instructionInformation: randomInformation(q.insn) }),
  },
  {
    id: Intercept.Invpcid,
    reason: ExitReason.Invpcid,
    // Exits by "INVLPG exiting"; without "enable INVPCID" it is #UD before.
    exits: primary(Primary.InvlpgExiting),
    report: withDisplacement(invalidateInformation),
  },
  {
    id: Intercept.Xsaves,
    reason: ExitReason.Xsaves,
    exits: xsavesExits,
    report: withDisplacement(memoryInformation),
  },
  {
    id: Intercept.Xrstors,
    reason: ExitReason.Xrstors,
    exits: xsavesExits,
    report: withDisplacement(memoryInformation),
  },
  { id: Intercept.Getsec, reason: ExitReason.Getsec, exits: always },
  // RSM exits in SMM only, which no guest of ours enters (SDM 3C §26.1.2).
];

const BY_ID: (InterceptRow | undefined)[] = [];
for (const row of INTERCEPTS) BY_ID[row.id] = row;

/** The row of an InterceptId; undefined for what VMX never intercepts. */
export function interceptRow(id: InterceptId): InterceptRow | undefined {
  return BY_ID[id];
}

/** VMX instructions in VMX non-root operation: all exit (SDM 3C §26.1.2). */
export const VMX_INSTRUCTION_EXITS: Readonly<
  Record<string, { reason: number; report?: (insn: Insn) => Report }>
> = {
  VMCALL: { reason: ExitReason.Vmcall },
  VMCLEAR: { reason: ExitReason.Vmclear, report: memoryReport },
  VMLAUNCH: { reason: ExitReason.Vmlaunch },
  VMPTRLD: { reason: ExitReason.Vmptrld, report: memoryReport },
  VMPTRST: { reason: ExitReason.Vmptrst, report: memoryReport },
  VMREAD: { reason: ExitReason.Vmread, report: vmreadReport },
  VMRESUME: { reason: ExitReason.Vmresume },
  VMWRITE: { reason: ExitReason.Vmwrite, report: vmreadReport },
  VMXOFF: { reason: ExitReason.Vmxoff },
  VMXON: { reason: ExitReason.Vmxon, report: memoryReport },
  INVEPT: { reason: ExitReason.Invept, report: invalidateReport },
  INVVPID: { reason: ExitReason.Invvpid, report: invalidateReport },
  VMFUNC: { reason: ExitReason.Vmfunc },
};

function memoryReport(insn: Insn): Report {
  return {
    qualification: displacement(insn),
    instructionInformation: memoryInformation(insn),
  };
}
function vmreadReport(insn: Insn): Report {
  return {
    qualification: displacement(insn),
    instructionInformation: vmreadInformation(insn),
  };
}
function invalidateReport(insn: Insn): Report {
  return {
    qualification: displacement(insn),
    instructionInformation: invalidateInformation(insn),
  };
}
