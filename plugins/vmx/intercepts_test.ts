/**
 * Instruction exits from the table: each row without and with its control, and
 * the formats of qualification and instruction information (SDM 3C §26.1.3,
 * §28.2.1, §28.2.5).
 */
import { assert, assertEquals } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { Intercept, type InterceptId } from "../../cpu/arch/intercepts.ts";
import { MsrSlot } from "../../cpu/arch/msr.ts";
import { Gpr } from "../../cpu/layout.ts";
import { PortDetail } from "../../cpu/semantics/system/io.ts";
import { Primary, Secondary } from "./controls.ts";
import { validVmcs, type VmcsDraft } from "./entry_cases_testing.ts";
import { vmEntry } from "./entry.ts";
import { ExitReason } from "./exit_reasons.ts";
import { INTERCEPTS } from "./intercepts.ts";
import { RIG, VmxRig } from "./vmx_testing.ts";
import { VmcsField as F } from "./vmcs_fields.ts";

type Prepare = (d: VmcsDraft) => unknown;

function guest(prepare: Prepare): VmxRig {
  const draft = validVmcs().set(F.Eptp, RIG.eptPml4 | 0x1e);
  draft.set(F.GuestCr3, RIG.pml4);
  prepare(draft);
  const rig = new VmxRig().operation().load(draft);
  assertEquals(vmEntry(rig.unit, rig.cpu, true, 0n), 0);
  return rig;
}

const primary = (bits: number): Prepare => (d) => d.on(F.PrimaryControls, bits);
const secondary = (bits: number): Prepare => (d) =>
  d.on(F.SecondaryControls, bits);
const nothing: Prepare = () => {};

interface Case {
  readonly id: InterceptId;
  readonly bytes: readonly number[];
  /** Makes it exit; absent: it exits always. */
  readonly on?: Prepare;
  /** Makes it not exit, where "nothing" would. */
  readonly off?: Prepare;
  readonly registers?: Readonly<Record<number, bigint>>;
  readonly detail?: number;
  readonly qualification?: bigint;
  readonly information?: number;
  readonly linear?: bigint;
  /** IA32_XSS, set behind its reserved bits. */
  readonly xss?: bigint;
}

const I = Intercept;
const MSR_OFF: Prepare = (d) =>
  d.on(F.PrimaryControls, Primary.MsrBitmaps).set(F.MsrBitmaps, RIG.data);
/** Mask and shadow of CR0.TS and CR0.WP, the guest's view of both being `on`. */
const cr0 = (on: boolean): Prepare => (d) =>
  d.set(F.Cr0Mask, 0x1_0008).set(F.Cr0Shadow, on ? 0x1_0008 : 0);
const memory = (base: number, index: number, scale: number): number =>
  2 << 7 | 3 << 15 | base << 23 | (index < 0 ? 1 << 22 : index << 18 | scale);

const XSAVES: Prepare = (d) =>
  d.on(F.SecondaryControls, Secondary.EnableXsaves)
    .set(F.XssExitingBitmap, 0x100);

const CASES: readonly Case[] = [
  { id: I.Cpuid, bytes: [0x0f, 0xa2] },
  { id: I.Hlt, bytes: [0xf4], on: primary(Primary.HltExiting) },
  {
    id: I.Invlpg,
    bytes: [0x0f, 0x01, 0x7b, 0x10], // INVLPG [RBX + 16]
    on: primary(Primary.InvlpgExiting),
    registers: { [Gpr.RBX]: 0xffff_8000_0000_0000n },
    qualification: 0xffff_8000_0000_0010n,
  },
  { id: I.Invd, bytes: [0x0f, 0x08] },
  {
    id: I.Wbinvd,
    bytes: [0x0f, 0x09],
    on: secondary(Secondary.WbinvdExiting),
  },
  { id: I.Rdtsc, bytes: [0x0f, 0x31], on: primary(Primary.RdtscExiting) },
  {
    id: I.Rdtscp,
    bytes: [0x0f, 0x01, 0xf9],
    on: primary(Primary.RdtscExiting),
  },
  { id: I.Rdpmc, bytes: [0x0f, 0x33], on: primary(Primary.RdpmcExiting) },
  { id: I.Rdmsr, bytes: [0x0f, 0x32], off: MSR_OFF },
  { id: I.Wrmsr, bytes: [0x0f, 0x30], off: MSR_OFF },
  {
    id: I.PortIo, // IN AL, DX
    bytes: [0xec],
    on: primary(Primary.UnconditionalIoExiting),
    detail: 0x3f8 | 1 << PortDetail.SizeShift | PortDetail.In,
    qualification: 0x03f8_0008n,
  },
  {
    id: I.PortIo, // OUT 0x80, EAX
    bytes: [0xe7, 0x80],
    on: primary(Primary.UnconditionalIoExiting),
    detail: 0x80 | 4 << PortDetail.SizeShift | PortDetail.Immediate,
    qualification: 0x0080_0043n,
  },
  {
    id: I.PortIo, // REP OUTSW from GS:[ESI]
    bytes: [0x67, 0x65, 0xf3, 0x66, 0x6f],
    on: primary(Primary.UnconditionalIoExiting),
    detail: 0x1f0 | 2 << PortDetail.SizeShift | PortDetail.String |
      PortDetail.Repeat,
    registers: { [Gpr.RSI]: 0x7_0000_1234n },
    qualification: 0x01f0_0031n,
    information: 1 << 7 | 5 << 15,
    linear: 0x1234n,
  },
  {
    id: I.PortIo, // INSB to [RDI]
    bytes: [0x6c],
    on: primary(Primary.UnconditionalIoExiting),
    detail: 0x60 | 1 << PortDetail.SizeShift | PortDetail.String |
      PortDetail.In,
    registers: { [Gpr.RDI]: 0x5678n },
    qualification: 0x0060_0018n,
    information: 2 << 7 | 3 << 15,
    linear: 0x5678n,
  },
  {
    id: I.MovToCr, // MOV CR0, RBX: TS against its shadow
    bytes: [0x0f, 0x22, 0xc3],
    on: cr0(true),
    off: cr0(false),
    registers: { [Gpr.RBX]: 0x8000_0021n },
    qualification: 0x0300n,
  },
  {
    id: I.MovToCr, // MOV CR4, R9
    bytes: [0x41, 0x0f, 0x22, 0xe1],
    on: (d) => d.set(F.Cr4Mask, 0x2000),
    registers: { [Gpr.R9]: 0x2020n },
    qualification: 0x0904n,
  },
  {
    id: I.MovToCr, // MOV CR3, RAX: not one of the targets
    bytes: [0x0f, 0x22, 0xd8],
    on: (d) =>
      d.on(F.PrimaryControls, Primary.Cr3LoadExiting)
        .set(F.Cr3TargetCount, 2).set(F.Cr3Target2, 0x5000),
    off: (d) =>
      d.on(F.PrimaryControls, Primary.Cr3LoadExiting)
        .set(F.Cr3TargetCount, 3).set(F.Cr3Target2, 0x5000),
    registers: { [Gpr.RAX]: 0x5000n },
    qualification: 3n,
  },
  {
    id: I.MovToCr, // MOV CR8, RDX
    bytes: [0x44, 0x0f, 0x22, 0xc2],
    on: primary(Primary.Cr8LoadExiting),
    qualification: 0x0208n,
  },
  {
    id: I.MovFromCr, // MOV RCX, CR3
    bytes: [0x0f, 0x20, 0xd9],
    on: primary(Primary.Cr3StoreExiting),
    qualification: 0x0113n,
  },
  {
    id: I.MovFromCr, // MOV RBX, CR8
    bytes: [0x44, 0x0f, 0x20, 0xc3],
    on: primary(Primary.Cr8StoreExiting),
    qualification: 0x0318n,
  },
  {
    id: I.Clts,
    bytes: [0x0f, 0x06],
    on: cr0(true),
    off: cr0(false),
    qualification: 0x20n,
  },
  {
    id: I.Lmsw, // LMSW AX clearing TS
    bytes: [0x0f, 0x01, 0xf0],
    on: cr0(true),
    off: cr0(false),
    detail: 0x0021,
    qualification: 0x0021_0030n,
  },
  {
    id: I.Lmsw, // LMSW [RBX] setting TS
    bytes: [0x0f, 0x01, 0x33],
    on: cr0(false),
    off: cr0(true),
    detail: 0x1_0029,
    registers: { [Gpr.RBX]: 0x10000n },
    qualification: 0x0029_0070n,
    linear: 0x10000n,
  },
  {
    id: I.MovDr, // MOV DR7, RDI
    bytes: [0x0f, 0x23, 0xff],
    on: primary(Primary.MovDrExiting),
    qualification: 0x0707n,
  },
  {
    id: I.MovDr, // MOV RSI, DR6
    bytes: [0x0f, 0x21, 0xf6],
    on: primary(Primary.MovDrExiting),
    qualification: 0x0616n,
  },
  {
    id: I.GdtrIdtr, // LIDT [RAX + RCX*2 − 1]
    bytes: [0x0f, 0x01, 0x5c, 0x48, 0xff],
    on: secondary(Secondary.DescriptorTableExiting),
    qualification: 0xffff_ffff_ffff_ffffn,
    information: (memory(0, 1, 1) | 3 << 28) >>> 0,
  },
  {
    id: I.GdtrIdtr, // SGDT [RBX]
    bytes: [0x0f, 0x01, 0x03],
    on: secondary(Secondary.DescriptorTableExiting),
    information: memory(3, -1, 0),
  },
  {
    id: I.LdtrTr, // LTR DX
    bytes: [0x0f, 0x00, 0xda],
    on: secondary(Secondary.DescriptorTableExiting),
    information: (2 << 3 | 1 << 10 | 3 << 28) >>> 0,
  },
  {
    id: I.LdtrTr, // STR [RDI]
    bytes: [0x0f, 0x00, 0x0f],
    on: secondary(Secondary.DescriptorTableExiting),
    information: memory(7, -1, 0) | 1 << 28,
  },
  {
    id: I.Monitor,
    bytes: [0x0f, 0x01, 0xc8],
    on: primary(Primary.MonitorExiting),
  },
  {
    id: I.Mwait,
    bytes: [0x0f, 0x01, 0xc9],
    on: primary(Primary.MwaitExiting),
  },
  { id: I.Pause, bytes: [0xf3, 0x90], on: primary(Primary.PauseExiting) },
  {
    id: I.Rdrand, // RDRAND R10W
    bytes: [0x66, 0x41, 0x0f, 0xc7, 0xf2],
    on: secondary(Secondary.RdrandExiting),
    information: 10 << 3,
  },
  {
    id: I.Rdseed, // RDSEED RAX
    bytes: [0x48, 0x0f, 0xc7, 0xf8],
    on: secondary(Secondary.RdseedExiting),
    information: 2 << 11,
  },
  {
    id: I.Invpcid, // INVPCID R8, [RDX]
    bytes: [0x66, 0x44, 0x0f, 0x38, 0x82, 0x02],
    on: (d) =>
      d.on(F.SecondaryControls, Secondary.Invpcid)
        .on(F.PrimaryControls, Primary.InvlpgExiting),
    off: secondary(Secondary.Invpcid),
    information: (memory(2, -1, 0) | 8 << 28) >>> 0,
  },
  { id: I.Xsetbv, bytes: [0x0f, 0x01, 0xd1] },
  ...([[I.Xsaves, 0x6b], [I.Xrstors, 0x5b]] as const).map(([id, modrm]) => ({
    id, // [RBX + 64]
    bytes: [0x0f, 0xc7, modrm, 0x40],
    on: XSAVES,
    // A bit that the bitmap lacks.
    off: (d: VmcsDraft) =>
      d.on(F.SecondaryControls, Secondary.EnableXsaves)
        .set(F.XssExitingBitmap, 0x1000),
    registers: { [Gpr.RAX]: 0xffff_ffffn, [Gpr.RDX]: 0n },
    xss: 0x900n,
    qualification: 0x40n,
    information: memory(3, -1, 0),
  })),
  { id: I.Getsec, bytes: [0x0f, 0x37] },
];

function run(c: Case, prepare: Prepare): { rig: VmxRig; exited: boolean } {
  const rig = guest(prepare);
  const { v } = rig.cpu;
  for (const [r, value] of Object.entries(c.registers ?? {})) {
    v.setGpr(Number(r), value);
  }
  if (c.xss !== undefined) v.setMsr(MsrSlot.Xss, c.xss);
  const insn = rig.decode(c.bytes);
  const exited = rig.port.intercept(rig.cpu, c.id, insn, c.detail ?? 0);
  return { rig, exited };
}

describe("instruction exits", () => {
  it("have a case for each row", () => {
    const covered = new Set<number>(CASES.map((c) => c.id));
    assertEquals(INTERCEPTS.filter((r) => !covered.has(r.id)), []);
    assertEquals(new Set(INTERCEPTS.map((r) => r.id)).size, INTERCEPTS.length);
  });

  for (const c of CASES) {
    const row = INTERCEPTS.find((r) => r.id === c.id);
    assert(row !== undefined);
    const name = Object.entries(Intercept).find(([, id]) => id === c.id)?.[0];
    it(`${name} ${c.bytes.map((b) => b.toString(16))}`, () => {
      const off = c.off ?? (c.on === undefined ? undefined : nothing);
      if (off !== undefined) assertEquals(run(c, off).exited, false);
      const { rig, exited } = run(c, c.on ?? nothing);
      assertEquals(exited, true);
      const { vmcs } = rig;
      assertEquals(vmcs.read32(F.ExitReason), row.reason);
      assertEquals(vmcs.read32(F.ExitInstructionLength), c.bytes.length);
      assertEquals(vmcs.read(F.ExitQualification), c.qualification ?? 0n);
      assertEquals(
        vmcs.read32(F.ExitInstructionInformation),
        c.information ?? 0,
      );
      assertEquals(vmcs.read(F.GuestLinearAddress), c.linear ?? 0n);
      assertEquals(vmcs.read(F.GuestRip), 0x1000n);
    });
  }
});

describe("bitmaps", () => {
  it("of I/O: every byte of the access, and the wrap", () => {
    const exits = (port: number, size: number, marked: number): boolean => {
      const rig = guest((d) =>
        d.on(F.PrimaryControls, Primary.IoBitmaps)
          .set(F.IoBitmapA, RIG.data).set(F.IoBitmapB, RIG.data + 0x1000)
      );
      const { physical } = rig.cpu;
      physical.write(RIG.data + (marked >> 3), 1, 1n << BigInt(marked & 7));
      const detail = port | size << PortDetail.SizeShift;
      const insn = rig.decode([0xee]);
      return rig.port.intercept(rig.cpu, I.PortIo, insn, detail);
    };
    assertEquals(exits(0x60, 1, 0x60), true);
    assertEquals(exits(0x60, 1, 0x61), false);
    assertEquals(exits(0x60, 4, 0x63), true);
    assertEquals(exits(0x60, 4, 0x64), false);
    assertEquals(exits(0x7fff, 2, 0x8000), true);
    assertEquals(exits(0x8000, 1, 0x8000), true);
    assertEquals(exits(0xffff, 1, 0), false);
    assertEquals(exits(0xffff, 2, 0), true);
  });

  it("of MSRs: four quarters, exits outside them", () => {
    const exits = (index: number, write: boolean, mark: number): boolean => {
      const rig = guest(MSR_OFF);
      const { physical, v } = rig.cpu;
      physical.write(RIG.data + (mark >> 3), 1, 1n << BigInt(mark & 7));
      v.setGpr(Gpr.RCX, BigInt(index) | 7n << 32n);
      return rig.port.intercept(
        rig.cpu,
        write ? I.Wrmsr : I.Rdmsr,
        rig.decode([0x0f, write ? 0x30 : 0x32]),
        0,
      );
    };
    const quarter = 0x400 * 8;
    assertEquals(exits(0x174, false, 0x174), true);
    assertEquals(exits(0x174, true, 0x174), false);
    assertEquals(exits(0x174, true, 2 * quarter + 0x174), true);
    assertEquals(exits(0xc000_0082, false, quarter + 0x82), true);
    assertEquals(exits(0xc000_0082, true, quarter + 0x82), false);
    assertEquals(exits(0xc000_0082, true, 3 * quarter + 0x82), true);
    assertEquals(exits(0x2000, false, 0), true);
    assertEquals(exits(0xc000_2000, true, 0), true);
    assertEquals(exits(0x1fff, false, 0), false);
  });
});

describe("masked registers and time", () => {
  it("show shadows and keep host-owned bits", () => {
    const rig = guest((d) => d.set(F.Cr4Mask, 0x2000).set(F.Cr4Shadow, 0));
    const { cpu, port } = rig;
    assertEquals(port.readCr(cpu, 4, cpu.v.cr4), cpu.v.cr4 & ~0x2000);
    assertEquals(port.writeCr(cpu, 4, 0x20), 0x2020);
    assertEquals(port.readCr(cpu, 3, 5), 5);
  });

  it("scale and offset the TSC", () => {
    const rig = guest((d) =>
      d.on(F.PrimaryControls, Primary.TscOffsetting)
        .on(F.SecondaryControls, Secondary.TscScaling)
        .set(F.TscOffset, 0xffff_ffff_ffff_ff00n)
        .set(F.TscMultiplier, 3n << 47n)
    );
    assertEquals(rig.port.tscOffset(rig.cpu, 1000n), 1500n - 256n);
  });

  it("disable RDTSCP, INVPCID, XSAVES and XRSTORS without their controls", () => {
    const off = guest(nothing);
    assertEquals(off.port.disabled(off.cpu, I.Rdtscp), true);
    assertEquals(off.port.disabled(off.cpu, I.Invpcid), true);
    assertEquals(off.port.disabled(off.cpu, I.Xsaves), true);
    assertEquals(off.port.disabled(off.cpu, I.Cpuid), false);
    const xsaves = guest(XSAVES);
    assertEquals(xsaves.port.disabled(xsaves.cpu, I.Xsaves), false);
    assertEquals(xsaves.port.disabled(xsaves.cpu, I.Xrstors), false);
    const on = guest(secondary(Secondary.Rdtscp | Secondary.Invpcid));
    assertEquals(on.port.disabled(on.cpu, I.Rdtscp), false);
    assertEquals(on.port.disabled(on.cpu, I.Invpcid), false);
  });

  it("show nothing outside guest mode", () => {
    const rig = new VmxRig().operation();
    const { cpu, port } = rig;
    assertEquals(
      port.intercept(cpu, I.Cpuid, rig.decode([0x0f, 0xa2]), 0),
      false,
    );
    assertEquals(port.readCr(cpu, 0, 7), 7);
    assertEquals(port.tscOffset(cpu, 7n), 7n);
    assertEquals(port.boundary(cpu, 0), false);
    assertEquals(ExitReason.Cpuid, 10);
  });
});
