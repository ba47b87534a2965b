/**
 * Instruction intercepts (APM 2 §15.9, tables 15-7 and B-1): each InterceptId
 * with its intercept bit, exit code and exit information. One table; nothing
 * else decides whether an instruction other than SVM's own exits.
 *
 * The loop asks after the exceptions that take precedence (APM 2 table 15-7);
 * where SVM's order differs from the ISA row's, the predicate looks again.
 */
import { Cr0, Cr4 } from "../../cpu/arch/flags.ts";
import { Intercept, type InterceptId } from "../../cpu/arch/intercepts.ts";
import type { CpuContext } from "../../cpu/context.ts";
import type { Insn } from "../../cpu/isa/insn.ts";
import { Gpr } from "../../cpu/layout.ts";
import { linearOperand } from "../../cpu/semantics/system/cache.ts";
import { PortDetail } from "../../cpu/semantics/system/io.ts";
import { InterceptBit as B } from "./controls.ts";
import { specialMove } from "./decode_assists.ts";
import type { ExitInformation } from "./exit.ts";
import { pauseExits } from "./pause_filter.ts";
import { ioIntercepted, msrIntercepted } from "./permission_maps.ts";
import { hasFlag, intercepted, SvmFlag } from "./scratch.ts";

/** What a row sees. */
export interface InterceptQuestion {
  readonly cpu: CpuContext;
  readonly insn: Insn;
  /** Operand facts that the procedure gathered (PortDetail, MSR index …). */
  readonly detail: number;
}

/** One row: the first whose `bit` is set and whose `when` holds decides. */
export interface InterceptRow {
  readonly id: InterceptId;
  /** Mnemonics that the row is for; all of the id by default. */
  readonly names?: readonly string[];
  /** InterceptBit, or how it follows from the operands: the exit code too. */
  readonly bit: number | ((q: InterceptQuestion) => number);
  /** Further condition. */
  readonly when?: (q: InterceptQuestion) => boolean;
  readonly info?: (
    q: InterceptQuestion,
  ) => Pick<ExitInformation, "info1" | "info2">;
}

const MOV_CR = 1n << 63n;
/** CR0 bits whose change the selective intercept ignores. */
const CR0_UNSELECTED = Cr0.TS | Cr0.MP;

const assists = (q: InterceptQuestion): boolean =>
  q.cpu.model.has("decodeassists");
/** With decode assists: general register of MOV CR (bit 63 tells it from LMSW …). */
const movCrInfo = (q: InterceptQuestion) => ({
  info1: assists(q) ? MOV_CR | BigInt(specialMove(q.insn).gpr) : 0n,
});
const movDrInfo = (q: InterceptQuestion) => ({
  info1: assists(q) ? BigInt(specialMove(q.insn).gpr) : 0n,
});
const register = (q: InterceptQuestion): number => specialMove(q.insn).register;

/** MOV DR: #UD for DR4 and DR5 under CR4.DE and #GP by privilege come first. */
function drAccessible(q: InterceptQuestion): boolean {
  const { v } = q.cpu;
  const dr = register(q);
  if (dr > 7 || ((dr === 4 || dr === 5) && v.cr4 & Cr4.DE)) return false;
  return v.cpl === 0;
}

/** MOV to CR0 changes a bit other than TS and MP. */
function changesSelected(q: InterceptQuestion): boolean {
  const { v } = q.cpu;
  const value = v.gpr(specialMove(q.insn).gpr);
  const now = q.insn.codeSize === 64 ? value : value & 0xffff_ffffn;
  return ((now ^ BigInt(v.cr0)) & ~BigInt(CR0_UNSELECTED)) !== 0n;
}

const port = (detail: number): number => detail & 0xffff;
const portBytes = (detail: number): number =>
  (detail >>> PortDetail.SizeShift) & 0xff;

/** EXITINFO1 of IOIO (APM 2 figure 15-2); EXITINFO2 is the next RIP. */
function ioInfo(q: InterceptQuestion): { info1: bigint; info2: bigint } {
  const { detail, insn } = q;
  const input = (detail & PortDetail.In) !== 0;
  let info = port(detail) * 0x1_0000 + (portBytes(detail) << 4);
  if (input) info += 1;
  if (detail & PortDetail.String) {
    info += 1 << 2;
    if (assists(q)) info += (input ? 0 : insn.segment) << 10;
  }
  if (detail & PortDetail.Repeat) info += 1 << 3;
  info += insn.addressSize === 64
    ? 1 << 9
    : insn.addressSize === 32
    ? 1 << 8
    : 1 << 7;
  return { info1: BigInt(info), info2: q.cpu.nextRip };
}

const table = (
  id: InterceptId,
  name: string,
  bit: number,
): InterceptRow => ({ id, names: [name], bit });

/** Rows, by id in the order in which they are judged. */
export const INTERCEPTS: readonly InterceptRow[] = [
  {
    id: Intercept.MovFromCr,
    bit: (q) => B.ReadCr + register(q),
    info: movCrInfo,
  },
  {
    id: Intercept.MovToCr,
    bit: (q) => B.WriteCr + register(q),
    info: movCrInfo,
  },
  {
    id: Intercept.MovToCr,
    bit: B.SelectiveCr0,
    when: (q) => register(q) === 0 && changesSelected(q),
    info: movCrInfo,
  },
  { id: Intercept.Smsw, bit: B.ReadCr },
  { id: Intercept.Clts, bit: B.WriteCr },
  { id: Intercept.Lmsw, bit: B.WriteCr },
  // The selective intercept takes every LMSW (§15.9).
  { id: Intercept.Lmsw, bit: B.SelectiveCr0 },
  {
    id: Intercept.MovDr,
    bit: (q) =>
      (specialMove(q.insn).write ? B.WriteDr : B.ReadDr) + register(q),
    when: drAccessible,
    info: movDrInfo,
  },
  table(Intercept.GdtrIdtr, "SIDT", B.ReadIdtr),
  table(Intercept.GdtrIdtr, "SGDT", B.ReadGdtr),
  table(Intercept.LdtrTr, "SLDT", B.ReadLdtr),
  table(Intercept.LdtrTr, "STR", B.ReadTr),
  table(Intercept.GdtrIdtr, "LIDT", B.WriteIdtr),
  table(Intercept.GdtrIdtr, "LGDT", B.WriteGdtr),
  table(Intercept.LdtrTr, "LLDT", B.WriteLdtr),
  table(Intercept.LdtrTr, "LTR", B.WriteTr),
  { id: Intercept.Rdtsc, bit: B.Rdtsc },
  { id: Intercept.Rdpmc, bit: B.Rdpmc },
  { id: Intercept.Pushf, bit: B.Pushf },
  { id: Intercept.Popf, bit: B.Popf },
  { id: Intercept.Cpuid, bit: B.Cpuid },
  { id: Intercept.Rsm, bit: B.Rsm },
  { id: Intercept.Iret, bit: B.Iret },
  {
    id: Intercept.SoftwareInterrupt,
    bit: B.SoftwareInterrupt,
    info: (q) => ({
      info1: assists(q) ? q.insn.operands[0].imm & 0xffn : 0n,
    }),
  },
  { id: Intercept.Invd, bit: B.Invd },
  {
    id: Intercept.Pause,
    bit: B.Pause,
    when: (q) => pauseExits(q.cpu),
  },
  { id: Intercept.Hlt, bit: B.Hlt },
  {
    id: Intercept.Invlpg,
    bit: B.Invlpg,
    info: (q) => ({
      info1: assists(q) ? linearOperand(q.cpu, q.insn) : 0n,
    }),
  },
  {
    id: Intercept.PortIo,
    bit: B.Ioio,
    when: (q) => ioIntercepted(q.cpu, port(q.detail), portBytes(q.detail)),
    info: ioInfo,
  },
  {
    id: Intercept.Rdmsr,
    bit: B.Msr,
    when: (q) => msrIntercepted(q.cpu, q.cpu.v.gpr32(Gpr.RCX), false),
    info: () => ({ info1: 0n }),
  },
  {
    id: Intercept.Wrmsr,
    bit: B.Msr,
    when: (q) => msrIntercepted(q.cpu, q.cpu.v.gpr32(Gpr.RCX), true),
    info: () => ({ info1: 1n }),
  },
  { id: Intercept.Rdtscp, bit: B.Rdtscp },
  { id: Intercept.Icebp, bit: B.Icebp },
  { id: Intercept.Wbinvd, bit: B.Wbinvd },
  { id: Intercept.Monitor, bit: B.Monitor },
  // The conditional intercept is checked first (table 15-7).
  {
    id: Intercept.Mwait,
    bit: B.MwaitArmed,
    when: (q) => hasFlag(q.cpu.v, SvmFlag.MonitorArmed),
  },
  { id: Intercept.Mwait, bit: B.Mwait },
  { id: Intercept.Xsetbv, bit: B.Xsetbv },
  { id: Intercept.Rdpru, bit: B.Rdpru },
  { id: Intercept.Invpcid, bit: B.Invpcid },
];

const BY_ID = byId(INTERCEPTS);

function byId(table: readonly InterceptRow[]): readonly InterceptRow[][] {
  const rows: InterceptRow[][] = [];
  for (const row of table) (rows[row.id] ??= []).push(row);
  return rows;
}

/** The exit that the running guest's intercepts make of an instruction. */
export function interceptExit(
  id: InterceptId,
  q: InterceptQuestion,
  table = INTERCEPTS,
): ExitInformation | undefined {
  const rows = (table === INTERCEPTS ? BY_ID : byId(table))[id];
  if (rows === undefined) return undefined;
  for (const row of rows) {
    if (row.names && !row.names.includes(q.insn.row.name)) continue;
    const bit = typeof row.bit === "number" ? row.bit : row.bit(q);
    if (!intercepted(q.cpu.v, bit)) continue;
    if (row.when && !row.when(q)) continue;
    return {
      code: bit,
      nextRip: q.cpu.nextRip,
      ...row.info?.(q),
    };
  }
  return undefined;
}
