/**
 * The intercept table: each row with and without its bit (APM 2 §15.9, table
 * B-1), what it reports (appendix C), and that a row whose bit or condition were
 * another would be noticed. Then the same instructions through the whole machine.
 */
import { assert, assertEquals } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { Vector } from "../../cpu/arch/exceptions.ts";
import { Cr0, Cr4 } from "../../cpu/arch/flags.ts";
import { Intercept } from "../../cpu/arch/intercepts.ts";
import { parseModel } from "../../cpu/arch/models.ts";
import type { Insn } from "../../cpu/isa/insn.ts";
import { Gpr, GuestMode, Seg } from "../../cpu/layout.ts";
import { assemble } from "../../host/asm/mod.ts";
import { TestMachine } from "../../tests/support/machine.ts";
import { createDecoder } from "../decoder/decode.ts";
import { InterceptBit as B, SvmMsr } from "./controls.ts";
import { ExitCode as X, exitCodeTitle } from "./exit_codes.ts";
import { AT, SvmGuest } from "./guest_testing.ts";
import { interceptExit, type InterceptRow, INTERCEPTS } from "./intercepts.ts";
import { svm } from "./plugin.ts";
import { SCRATCH, SvmFlag } from "./scratch.ts";
import { Save } from "./vmcb.ts";
import type { VmcbDraft } from "./vmcb_testing.ts";

interface Case {
  readonly text: string;
  readonly bit: number;
  /** A second InterceptBit set with the first. */
  readonly also?: number;
  /** Exit code with the bits set; undefined: none. */
  readonly code: number | undefined;
  readonly info1?: bigint;
  /** EXITINFO2 is the next RIP (IOIO). */
  readonly next?: boolean;
  /** Sets registers or maps before the instruction. */
  readonly prepare?: (m: TestMachine) => void;
  /** Not through the whole machine: it needs what a guest at CPL 0 lacks. */
  readonly rigOnly?: boolean;
}

const MOV = 1n << 63n;
const set = (reg: number, value: bigint) => (m: TestMachine): void =>
  m.v.setGpr(reg, value);
const ioMap =
  (port: number, bits: number, rcx = 0n) => (m: TestMachine): void => {
    m.hardware.physical.write(AT.iopm + (port >> 3), 1, BigInt(bits));
    m.v.setGpr(Gpr.RDX, BigInt(port));
    m.v.setGpr(Gpr.RCX, rcx);
  };
const msrMap =
  (index: number, offset: number, bits: number) => (m: TestMachine): void => {
    m.hardware.physical.write(AT.msrpm + offset, 1, BigInt(bits));
    m.v.setGpr(Gpr.RCX, BigInt(index));
  };
const simple = (text: string, bit: number, code: number): Case => ({
  text,
  bit,
  code,
});

const CASES: readonly Case[] = [
  {
    text: "mov r9, cr3",
    bit: B.ReadCr + 3,
    code: X.ReadCr0 + 3,
    info1: MOV | 9n,
  },
  { text: "mov r9, cr4", bit: B.ReadCr + 3, code: undefined },
  {
    text: "mov cr3, rbx",
    bit: B.WriteCr + 3,
    code: X.WriteCr0 + 3,
    info1: MOV | 3n,
    prepare: (m) => m.v.setGpr(Gpr.RBX, BigInt(m.v.cr3)),
  },
  {
    text: "mov cr0, rbx",
    bit: B.SelectiveCr0,
    code: X.SelectiveCr0,
    info1: MOV | 3n,
    prepare: (m) => m.v.setGpr(Gpr.RBX, BigInt((m.v.cr0 | Cr0.AM) >>> 0)),
  },
  {
    text: "mov cr0, rbx",
    bit: B.SelectiveCr0,
    code: undefined,
    prepare: (m) =>
      m.v.setGpr(Gpr.RBX, BigInt((m.v.cr0 | Cr0.MP | Cr0.TS) >>> 0)),
  },
  {
    text: "mov cr3, rbx",
    bit: B.SelectiveCr0,
    code: undefined,
    prepare: (m) => m.v.setGpr(Gpr.RBX, BigInt(m.v.cr3)),
  },
  simple("smsw rbx", B.ReadCr, X.ReadCr0),
  simple("clts", B.WriteCr, X.WriteCr0),
  { text: "clts", bit: B.SelectiveCr0, code: undefined },
  { text: "lmsw bx", bit: B.WriteCr, code: X.WriteCr0 },
  {
    text: "lmsw bx",
    bit: B.SelectiveCr0,
    code: X.SelectiveCr0,
    prepare: set(Gpr.RBX, 3n),
  },
  {
    text: "mov rbx, dr6",
    bit: B.ReadDr + 6,
    code: X.ReadDr0 + 6,
    info1: 3n,
  },
  {
    text: "mov dr0, rbx",
    bit: B.WriteDr,
    code: X.WriteDr0,
    info1: 3n,
  },
  {
    text: "mov rbx, dr4",
    bit: B.ReadDr + 4,
    code: undefined,
    prepare: (m) => m.v.cr4 |= Cr4.DE,
    rigOnly: true,
  },
  {
    text: "mov rbx, dr0",
    bit: B.ReadDr,
    code: undefined,
    prepare: (m) => m.v.cpl = 3,
    rigOnly: true,
  },
  simple("sidt [DATA]", B.ReadIdtr, X.ReadIdtr),
  simple("sgdt [DATA]", B.ReadGdtr, X.ReadGdtr),
  simple("sldt bx", B.ReadLdtr, X.ReadLdtr),
  simple("str bx", B.ReadTr, X.ReadTr),
  simple("lidt [DATA]", B.WriteIdtr, X.WriteIdtr),
  simple("lgdt [DATA]", B.WriteGdtr, X.WriteGdtr),
  { ...simple("lldt bx", B.WriteLdtr, X.WriteLdtr), prepare: set(3, 0n) },
  { ...simple("ltr bx", B.WriteTr, X.WriteTr), prepare: set(3, 0n) },
  simple("rdtsc", B.Rdtsc, X.Rdtsc),
  { ...simple("rdpmc", B.Rdpmc, X.Rdpmc), prepare: set(Gpr.RCX, 0n) },
  simple("pushfq", B.Pushf, X.Pushf),
  simple("popfq", B.Popf, X.Popf),
  simple("cpuid", B.Cpuid, X.Cpuid),
  simple("rsm", B.Rsm, X.Rsm),
  simple("iretq", B.Iret, X.Iret),
  {
    text: "int 0x80",
    bit: B.SoftwareInterrupt,
    code: X.SoftwareInterrupt,
    info1: 0x80n,
  },
  simple("invd", B.Invd, X.Invd),
  simple("pause", B.Pause, X.Pause),
  simple("hlt", B.Hlt, X.Hlt),
  {
    text: "invlpg [rbx + 16]",
    bit: B.Invlpg,
    code: X.Invlpg,
    info1: 0xffff_8000_0000_0010n,
    prepare: set(Gpr.RBX, 0xffff_8000_0000_0000n),
  },
  {
    text: "in eax, dx",
    bit: B.Ioio,
    code: X.Ioio,
    info1: 0x1234_0241n,
    next: true,
    prepare: ioMap(0x1234, 0x10),
  },
  {
    text: "out dx, al",
    bit: B.Ioio,
    code: X.Ioio,
    info1: 0x1234_0210n,
    next: true,
    prepare: ioMap(0x1234, 0x10),
  },
  {
    text: "rep outsb",
    bit: B.Ioio,
    code: X.Ioio,
    info1: BigInt(0x1234_0000 | 1 << 9 | 1 << 4 | 1 << 3 | 1 << 2) |
      BigInt(Seg.DS << 10),
    next: true,
    prepare: ioMap(0x1234, 0x10, 1n),
  },
  {
    text: "in ax, dx",
    bit: B.Ioio,
    code: undefined,
    prepare: ioMap(0x1234, 0xcf),
  },
  {
    text: "rdmsr",
    bit: B.Msr,
    code: X.Msr,
    info1: 0n,
    prepare: msrMap(0xc0000081, 0x820, 4),
  },
  {
    text: "rdmsr",
    bit: B.Msr,
    code: undefined,
    prepare: msrMap(0xc0000081, 0x820, 0xfb),
  },
  {
    text: "wrmsr",
    bit: B.Msr,
    code: X.Msr,
    info1: 1n,
    prepare: msrMap(0x174, 0x5d, 2),
  },
  {
    text: "wrmsr",
    bit: B.Msr,
    code: undefined,
    prepare: msrMap(0x174, 0x5d, 0xfd),
  },
  {
    text: "rdmsr",
    bit: B.Msr,
    code: X.Msr,
    prepare: msrMap(0x4000_0000, 0, 0),
  },
  {
    text: "rdmsr",
    bit: B.Msr,
    code: X.Msr,
    prepare: msrMap(SvmMsr.VmCr, 0x1045, 1),
  },
  simple("rdtscp", B.Rdtscp, X.Rdtscp),
  simple("int1", B.Icebp, X.Icebp),
  simple("wbinvd", B.Wbinvd, X.Wbinvd),
  {
    ...simple("monitor", B.Monitor, X.Monitor),
    prepare: set(Gpr.RCX, 0n),
  },
  { ...simple("mwait", B.Mwait, X.Mwait), prepare: set(Gpr.RCX, 0n) },
  { text: "mwait", bit: B.MwaitArmed, code: undefined },
  {
    ...simple("mwait", B.MwaitArmed, X.MwaitArmed),
    prepare: (m) => m.v.setWord(SCRATCH.flags, SvmFlag.MonitorArmed),
    rigOnly: true,
  },
  {
    ...simple("mwait", B.MwaitArmed, X.Mwait),
    also: B.Mwait,
  },
  {
    ...simple("mwait", B.MwaitArmed, X.MwaitArmed),
    also: B.Mwait,
    prepare: (m) => m.v.setWord(SCRATCH.flags, SvmFlag.MonitorArmed),
    rigOnly: true,
  },
  {
    text: "mov cr0, rbx",
    bit: B.SelectiveCr0,
    also: B.WriteCr,
    code: X.WriteCr0,
    info1: MOV | 3n,
    prepare: (m) => m.v.setGpr(Gpr.RBX, BigInt((m.v.cr0 | Cr0.AM) >>> 0)),
  },
  {
    text: "lmsw bx",
    bit: B.SelectiveCr0,
    also: B.WriteCr,
    code: X.WriteCr0,
    prepare: set(Gpr.RBX, 3n),
  },
  {
    ...simple("xsetbv", B.Xsetbv, X.Xsetbv),
    rigOnly: true,
  },
  simple("rdpru", B.Rdpru, X.Rdpru),
  { ...simple("invpcid rbx, [DATA]", B.Invpcid, X.Invpcid) },
];

const MODEL = parseModel("max-amd");
const decoder = createDecoder(MODEL);

function encode(text: string): Uint8Array {
  return assemble(text, {
    bits: 64,
    constants: { DATA: BigInt(AT.data) },
  }).bytes;
}

/** A vCPU in guest mode without intercepts. */
function rig(c: Case): TestMachine {
  const m = new TestMachine("hlt", {
    model: "max-amd",
    plugins: [{ plugin: svm }],
  });
  const { v } = m;
  v.guestMode = GuestMode.Svm;
  v.setQuad(SCRATCH.iopm, BigInt(AT.iopm));
  v.setQuad(SCRATCH.msrpm, BigInt(AT.msrpm));
  c.prepare?.(m);
  return m;
}

/** The InterceptId that the ISA row of an instruction names. */
function idOf(insn: Insn) {
  assert(insn.row.intercept !== undefined, insn.row.name);
  return insn.row.intercept;
}

interface Prepared {
  readonly c: Case;
  readonly m: TestMachine;
  readonly insn: Insn;
  readonly detail: number;
}

function prepared(c: Case): Prepared {
  const m = rig(c);
  const bytes = encode(c.text);
  const padded = Uint8Array.from([...bytes, ...new Array(15).fill(0x90)]);
  const insn = decoder.decode(padded, 15, 64, 0x8000n, 64, false);
  if (typeof insn === "number") throw new RangeError(`cannot decode ${c.text}`);
  m.cpu.nextRip = 0x8000n + BigInt(insn.length);
  const cpl = m.v.cpl;
  m.v.cpl = 0;
  const detail = insn.row.detail?.(m.cpu, insn) ?? 0;
  m.v.cpl = cpl;
  return { c, m, insn, detail };
}

function setIntercept(m: TestMachine, bit: number, on: boolean): void {
  const at = SCRATCH.intercepts + (bit >>> 5) * 4;
  const old = m.v.word(at);
  m.v.setWord(at, on ? old | 1 << (bit & 31) : old & ~(1 << (bit & 31)));
}

/** What is wrong with a table, judged by all cases. */
function faults(
  all: readonly Prepared[],
  rows: readonly InterceptRow[],
): string[] {
  const wrong: string[] = [];
  for (const { c, m, insn, detail } of all) {
    const ask = () =>
      interceptExit(idOf(insn), { cpu: m.cpu, insn, detail }, rows);
    const bits = c.also === undefined ? [c.bit] : [c.bit, c.also];
    for (const bit of bits) setIntercept(m, bit, true);
    const exit = ask();
    for (const bit of bits) setIntercept(m, bit, false);
    if (exit?.code !== c.code) wrong.push(`${c.text}: code ${exit?.code}`);
    if (exit !== undefined) {
      if (exit.nextRip !== m.cpu.nextRip) wrong.push(`${c.text}: nRIP`);
      if (c.info1 !== undefined && exit.info1 !== c.info1) {
        wrong.push(`${c.text}: EXITINFO1 ${exit.info1?.toString(16)}`);
      }
      if (c.next && exit.info2 !== m.cpu.nextRip) {
        wrong.push(`${c.text}: EXITINFO2`);
      }
    }
    if (ask() !== undefined) wrong.push(`${c.text}: exits without its bit`);
  }
  return wrong;
}

describe("SVM instruction intercepts", () => {
  const all = CASES.map(prepared);

  it("exit with their bit and report what appendix C says", () => {
    assertEquals(faults(all, INTERCEPTS), []);
  });

  it("are noticed when a row is dropped, its bit or condition another", () => {
    INTERCEPTS.forEach((row, i) => {
      const other = (x: InterceptRow["bit"]): InterceptRow["bit"] => (q) =>
        (typeof x === "number" ? x : x(q)) ^ 1;
      const variants: [string, readonly InterceptRow[]][] = [
        ["dropped", INTERCEPTS.filter((r) => r !== row)],
        ["bit", INTERCEPTS.with(i, { ...row, bit: other(row.bit) })],
      ];
      if (row.info) {
        const other = { ...row, info: () => ({ info1: -1n }) };
        variants.push(["report", INTERCEPTS.with(i, other)]);
      }
      const next = INTERCEPTS[i + 1];
      if (next?.id === row.id && !row.names) {
        variants.push(["order", INTERCEPTS.with(i, next).with(i + 1, row)]);
      }
      const { when } = row;
      if (when) {
        const flipped = {
          ...row,
          when: (q: Parameters<typeof when>[0]) => !when(q),
        };
        variants.push(["condition", INTERCEPTS.with(i, flipped)]);
      }
      for (const [how, rows] of variants) {
        assert(faults(all, rows).length > 0, `row ${i} ${how}: unnoticed`);
      }
    });
  });

  it("exit through the whole machine", () => {
    for (const c of CASES) {
      if (c.rigOnly || c.code === undefined) continue;
      const run = new SvmGuest(`${c.text}\nafter: vmmcall`, {
        vmcb: (d, m) => {
          d.intercept(c.bit);
          if (c.also !== undefined) d.intercept(c.also);
          c.prepare?.(m);
        },
      });
      assertEquals(run.code, c.code, c.text);
      assertEquals(run.vmcb.read(0x578), run.label("guest"), c.text);
      assertEquals(run.vmcb.read(0xc8), run.label("after"), c.text);
      assertEquals(run.info1, c.info1 ?? 0n, c.text);
    }
  });

  it("of XSETBV comes before #GP for its privilege", () => {
    const at = (cpl: number, on: boolean) =>
      new SvmGuest("xsetbv", {
        vmcb: (d) => {
          d.intercept(B.Xsetbv, on).intercept(B.Exception + Vector.GP);
          d.set(Save.cr4, d.read(Save.cr4) | BigInt(Cr4.OSXSAVE));
          if (cpl === 0) return;
          d.segment(Save.cs, 0x43, 0xafb);
          d.segment(Save.ss, 0x3b, 0xcf3);
          d.set32(Save.cpl - 3, cpl << 24);
        },
        setup: (m) => m.v.setGpr(Gpr.RCX, 7n),
      }).code;
    for (const cpl of [0, 3]) {
      assertEquals(at(cpl, true), X.Xsetbv);
      assertEquals(at(cpl, false), X.Exception + Vector.GP);
    }
  });

  it("of MWAIT, armed by MONITOR in the guest", () => {
    const vmcb = (d: VmcbDraft) => d.intercept(B.MwaitArmed);
    const text = "xor ecx, ecx\nmov rax, DATA\nmonitor\nmwait\nvmmcall";
    assertEquals(new SvmGuest(text, { vmcb }).code, X.MwaitArmed);
    const bare = text.replace("monitor", "nop");
    assertEquals(new SvmGuest(bare, { vmcb }).code, X.Vmmcall);
  });

  it("have the numbers of their bits", () => {
    for (const [name, bit] of Object.entries(B)) {
      const code = (X as Readonly<Record<string, number>>)[name] ??
        (X as Readonly<Record<string, number>>)[`${name}0`];
      if (code !== undefined) assertEquals(code, bit, name);
    }
  });

  it("have titles", () => {
    assertEquals(exitCodeTitle(X.Cpuid), "VMEXIT_CPUID");
    assertEquals(exitCodeTitle(0x13), "VMEXIT_CR3_WRITE");
    assertEquals(exitCodeTitle(0x26), "VMEXIT_DR6_READ");
    assertEquals(exitCodeTitle(0x4e), "VMEXIT_EXCP_PF");
    assertEquals(exitCodeTitle(X.Invalid), "VMEXIT_INVALID");
    assertEquals(exitCodeTitle(0x401), "VMEXIT_0x401");
  });

  it("never names an id that no ISA row carries", () => {
    const used = new Set(all.map(({ insn }) => idOf(insn)));
    for (const row of INTERCEPTS) assert(used.has(row.id), String(row.id));
    assert(used.has(Intercept.Cpuid));
  });
});
