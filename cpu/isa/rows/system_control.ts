/**
 * Flat table: rows of descriptor tables, control registers, MSRs, information, flags, port
 * I/O, TLB and virtualization instructions (SDM vol. 1 §7.3.13–17, §7.3.20; SDM
 * 3A ch. 2). All are procedures.
 */
import { Intercept } from "../../arch/intercepts.ts";
import { Seg } from "../../layout.ts";
import * as quick from "../../semantics/quick.ts";
import * as cache from "../../semantics/system/cache.ts";
import * as control from "../../semantics/system/control.ts";
import * as flags from "../../semantics/system/flags.ts";
import * as info from "../../semantics/system/information.ts";
import * as io from "../../semantics/system/io.ts";
import * as msr from "../../semantics/system/msr.ts";
import * as tables from "../../semantics/system/tables.ts";
import type { Row } from "../row.ts";

const { TableRegister } = tables;
const tableCodes = (n: string): string[] => [
  `${n}_m1632_16`,
  `${n}_m1632`,
  `${n}_m1664`,
];
const rm16 = (n: string): string[] => [
  `${n}_rm16`,
  `${n}_r32m16`,
  `${n}_r64m16`,
];
const words = (n: string): string[] => [
  `${n}_r16_rm16`,
  `${n}_r32_r32m16`,
  `${n}_r64_r64m16`,
];

const TABLE_ROWS: readonly Row[] = [
  ...([["GDT", TableRegister.Gdtr], ["IDT", TableRegister.Idtr]] as const)
    .flatMap(([name, at]): Row[] => [
      {
        name: `L${name}`,
        codes: tableCodes(`L${name.toLowerCase()}`),
        call: tables.loadTable(at),
        privileged: true,
        intercept: Intercept.GdtrIdtr,
        manual: "SDM 2A LGDT/LIDT",
      },
      {
        name: `S${name}`,
        codes: tableCodes(`S${name.toLowerCase()}`),
        call: tables.storeTable(at),
        intercept: Intercept.GdtrIdtr,
        detail: tables.checkUmip,
        manual: `SDM 2B S${name}`,
      },
    ]),
  {
    name: "LLDT",
    codes: rm16("Lldt"),
    call: tables.lldt,
    intercept: Intercept.LdtrTr,
    detail: tables.checkProtectedPrivileged,
    manual: "SDM 2A LLDT",
  },
  {
    name: "LTR",
    codes: rm16("Ltr"),
    call: tables.ltr,
    intercept: Intercept.LdtrTr,
    detail: tables.checkProtectedPrivileged,
    manual: "SDM 2A LTR",
  },
  {
    name: "SLDT",
    codes: rm16("Sldt"),
    call: tables.storeSelector(Seg.LDTR),
    intercept: Intercept.LdtrTr,
    detail: tables.checkProtectedUmip,
    manual: "SDM 2B SLDT",
  },
  {
    name: "STR",
    codes: rm16("Str"),
    call: tables.storeSelector(Seg.TR),
    intercept: Intercept.LdtrTr,
    detail: tables.checkProtectedUmip,
    manual: "SDM 2B STR",
  },
  { name: "LAR", codes: words("Lar"), call: tables.lar, manual: "SDM 2A LAR" },
  { name: "LSL", codes: words("Lsl"), call: tables.lsl, manual: "SDM 2A LSL" },
  {
    name: "VERR",
    codes: rm16("Verr"),
    call: tables.verify(false),
    manual: "SDM 2B VERR/VERW",
  },
  {
    name: "VERW",
    codes: rm16("Verw"),
    call: tables.verify(true),
    manual: "SDM 2B VERR/VERW",
  },
  {
    name: "ARPL",
    codes: ["Arpl_rm16_r16", "Arpl_r32m16_r32"],
    call: tables.arpl,
    legacyOnly: true,
    manual: "SDM 2A ARPL",
  },
];

const CONTROL_REGISTER_ROWS: readonly Row[] = [
  {
    name: "MOV",
    variant: "to CR",
    codes: ["Mov_cr_r32", "Mov_cr_r64"],
    call: control.movToCr,
    intercept: Intercept.MovToCr,
    detail: control.movCrDetail,
    manual: "SDM 2B MOV—Move to/from Control Registers",
  },
  {
    name: "MOV",
    variant: "from CR",
    codes: ["Mov_r32_cr", "Mov_r64_cr"],
    call: control.movFromCr,
    intercept: Intercept.MovFromCr,
    detail: control.movCrDetail,
    manual: "SDM 2B MOV—Move to/from Control Registers",
  },
  {
    name: "MOV",
    variant: "to DR",
    codes: ["Mov_dr_r32", "Mov_dr_r64"],
    call: control.movToDr,
    intercept: Intercept.MovDr,
    detail: control.movDrDetail,
    manual: "SDM 2B MOV—Move to/from Debug Registers",
  },
  {
    name: "MOV",
    variant: "from DR",
    codes: ["Mov_r32_dr", "Mov_r64_dr"],
    call: control.movFromDr,
    intercept: Intercept.MovDr,
    detail: control.movDrDetail,
    manual: "SDM 2B MOV—Move to/from Debug Registers",
  },
  {
    name: "LMSW",
    codes: rm16("Lmsw"),
    call: control.lmsw,
    intercept: Intercept.Lmsw,
    detail: control.lmswDetail,
    manual: "SDM 2A LMSW",
  },
  {
    name: "SMSW",
    codes: rm16("Smsw"),
    call: control.smsw,
    intercept: Intercept.Smsw,
    detail: tables.checkUmip,
    manual: "SDM 2B SMSW",
  },
  {
    name: "CLTS",
    codes: ["Clts"],
    call: control.clts,
    privileged: true,
    intercept: Intercept.Clts,
    manual: "SDM 2A CLTS",
  },
  {
    name: "RDMSR",
    codes: ["Rdmsr"],
    call: msr.rdmsr,
    privileged: true,
    feature: "msr",
    intercept: Intercept.Rdmsr,
    detail: msr.msrDetail,
    manual: "SDM 2B RDMSR",
  },
  {
    name: "WRMSR",
    codes: ["Wrmsr"],
    call: msr.wrmsr,
    privileged: true,
    feature: "msr",
    intercept: Intercept.Wrmsr,
    detail: msr.msrDetail,
    manual: "SDM 2B WRMSR",
  },
  {
    name: "XGETBV",
    codes: ["Xgetbv"],
    call: info.xgetbv,
    feature: "xsave",
    manual: "SDM 2C XGETBV",
  },
  {
    name: "XSETBV",
    codes: ["Xsetbv"],
    call: info.xsetbv,
    feature: "xsave",
    intercept: Intercept.Xsetbv,
    detail: info.checkXsetbv,
    manual: "SDM 2C XSETBV",
  },
];

const INFORMATION_ROWS: readonly Row[] = [
  {
    name: "CPUID",
    codes: ["Cpuid"],
    call: info.cpuid,
    intercept: Intercept.Cpuid,
    manual: "SDM 2A CPUID",
  },
  {
    name: "RDTSC",
    codes: ["Rdtsc"],
    call: info.rdtsc,
    quick: quick.rdtsc,
    feature: "tsc",
    intercept: Intercept.Rdtsc,
    detail: info.checkTsc,
    manual: "SDM 2B RDTSC",
  },
  {
    name: "RDTSCP",
    codes: ["Rdtscp"],
    call: info.rdtscp,
    feature: "rdtscp",
    intercept: Intercept.Rdtscp,
    detail: info.checkTsc,
    manual: "SDM 2B RDTSCP",
  },
  {
    name: "RDPMC",
    codes: ["Rdpmc"],
    call: info.rdpmc,
    intercept: Intercept.Rdpmc,
    detail: info.checkPmc,
    manual: "SDM 2B RDPMC",
  },
  {
    name: "RDPID",
    codes: ["Rdpid_r32", "Rdpid_r64"],
    call: info.rdpid,
    intercept: Intercept.Rdpid,
    feature: "rdpid",
    manual: "SDM 2B RDPID",
  },
  {
    name: "RDPRU",
    codes: ["Rdpru"],
    call: info.rdpru,
    intercept: Intercept.Rdpru,
    detail: info.checkTsc,
    feature: "rdpru",
    manual: "APM 3 RDPRU",
  },
  {
    name: "RDRAND",
    codes: ["Rdrand_r16", "Rdrand_r32", "Rdrand_r64"],
    call: info.random,
    feature: "rdrand",
    intercept: Intercept.Rdrand,
    manual: "SDM 2B RDRAND",
  },
  {
    name: "RDSEED",
    codes: ["Rdseed_r16", "Rdseed_r32", "Rdseed_r64"],
    call: info.random,
    feature: "rdseed",
    intercept: Intercept.Rdseed,
    manual: "SDM 2B RDSEED",
  },
];

const FLAG_ROWS: readonly Row[] = [
  {
    name: "CLI",
    codes: ["Cli"],
    call: flags.cli,
    quick: quick.cli,
    manual: "SDM 2A CLI",
  },
  {
    name: "STI",
    codes: ["Sti"],
    call: flags.sti,
    quick: quick.sti,
    manual: "SDM 2B STI",
  },
  {
    name: "PUSHF",
    codes: ["Pushfw", "Pushfd", "Pushfq"],
    call: flags.pushf,
    quick: quick.pushf,
    intercept: Intercept.Pushf,
    manual: "SDM 2B PUSHF/PUSHFD/PUSHFQ",
  },
  {
    name: "POPF",
    codes: ["Popfw", "Popfd", "Popfq"],
    call: flags.popf,
    intercept: Intercept.Popf,
    manual: "SDM 2B POPF/POPFD/POPFQ",
  },
  {
    name: "STAC",
    codes: ["Stac"],
    call: flags.setAc(true),
    feature: "smap",
    manual: "SDM 2B STAC",
  },
  {
    name: "CLAC",
    codes: ["Clac"],
    call: flags.setAc(false),
    feature: "smap",
    manual: "SDM 2A CLAC",
  },
  {
    name: "HLT",
    codes: ["Hlt"],
    call: flags.hlt,
    privileged: true,
    intercept: Intercept.Hlt,
    manual: "SDM 2A HLT",
  },
  {
    name: "MONITOR",
    codes: ["Monitorw", "Monitord", "Monitorq"],
    call: flags.monitor,
    feature: "monitor",
    intercept: Intercept.Monitor,
    detail: flags.checkMonitor,
    manual: "SDM 2B MONITOR",
  },
  {
    name: "MWAIT",
    codes: ["Mwait"],
    call: flags.mwait,
    feature: "monitor",
    intercept: Intercept.Mwait,
    detail: flags.checkMonitor,
    manual: "SDM 2B MWAIT",
  },
];

const SIZES = [[1, "AL", "b", 8], [2, "AX", "w", 16], [
  4,
  "EAX",
  "d",
  32,
]] as const;

const IO_ROWS: readonly Row[] = SIZES.flatMap(
  ([size, reg, letter, bits]): Row[] => [
    {
      name: "IN",
      variant: `${bits}`,
      codes: [`In_${reg}_imm8`, `In_${reg}_DX`],
      call: io.input(size),
      intercept: Intercept.PortIo,
      detail: io.portDetail(size, true),
      manual: "SDM 2A IN",
    },
    {
      name: "OUT",
      variant: `${bits}`,
      codes: [`Out_imm8_${reg}`, `Out_DX_${reg}`],
      call: io.output(size),
      intercept: Intercept.PortIo,
      detail: io.portDetail(size, false),
      manual: "SDM 2B OUT",
    },
    {
      name: "INS",
      variant: `${bits}`,
      codes: [`Ins${letter}_m${bits}_DX`],
      call: io.inputString(size),
      intercept: Intercept.PortIo,
      detail: io.stringDetail(size, true),
      manual: "SDM 2A INS",
    },
    {
      name: "OUTS",
      variant: `${bits}`,
      codes: [`Outs${letter}_DX_m${bits}`],
      call: io.outputString(size),
      intercept: Intercept.PortIo,
      detail: io.stringDetail(size, false),
      manual: "SDM 2B OUTS",
    },
  ],
);

const CACHE_ROWS: readonly Row[] = [
  {
    name: "INVLPG",
    codes: ["Invlpg_m"],
    call: cache.invlpg,
    privileged: true,
    intercept: Intercept.Invlpg,
    manual: "SDM 2A INVLPG",
  },
  {
    name: "INVPCID",
    codes: ["Invpcid_r32_m128", "Invpcid_r64_m128"],
    call: cache.invpcid,
    privileged: true,
    feature: "invpcid",
    intercept: Intercept.Invpcid,
    manual: "SDM 2A INVPCID",
  },
  {
    name: "INVD",
    codes: ["Invd"],
    call: cache.nothing,
    privileged: true,
    intercept: Intercept.Invd,
    manual: "SDM 2A INVD",
  },
  {
    name: "WBINVD",
    codes: ["Wbinvd"],
    call: cache.nothing,
    privileged: true,
    intercept: Intercept.Wbinvd,
    manual: "SDM 2C WBINVD",
  },
  {
    name: "WBNOINVD",
    codes: ["Wbnoinvd"],
    call: cache.nothing,
    privileged: true,
    feature: "wbnoinvd",
    intercept: Intercept.Wbinvd,
    manual: "SDM 2C WBNOINVD",
  },
  {
    name: "CLZERO",
    codes: ["Clzerow", "Clzerod", "Clzeroq"],
    call: cache.clzero,
    feature: "clzero",
    manual: "APM 3 CLZERO",
  },
  {
    name: "PCOMMIT",
    codes: ["Pcommit"],
    call: cache.nothing,
    feature: "pcommit",
    manual: "Intel ISA Extensions reference 319433-023 PCOMMIT",
  },
  {
    name: "SERIALIZE",
    codes: ["Serialize"],
    call: cache.nothing,
    feature: "serialize",
    manual: "SDM 2B SERIALIZE",
  },
];

const vmx = (name: string, codes: string[]): Row => ({
  name,
  codes,
  call: cache.virtualization,
  intercept: Intercept.Virtualization,
  feature: "vmx",
  manual: `SDM 3C ch. 31 ${name}`,
});
const svm = (name: string, codes: string[]): Row => ({
  name,
  codes,
  call: cache.virtualization,
  feature: "svm",
  manual: `APM 3 ${name}`,
});
const never = (name: string, codes: string[], manual: string): Row => ({
  name,
  codes,
  call: cache.undefinedHere,
  manual,
});
const pair = (n: string): string[] => [`${n}_r32_m128`, `${n}_r64_m128`];
const wide = (n: string): string[] => [`${n}w`, `${n}d`, `${n}q`];

const VIRTUALIZATION_ROWS: readonly Row[] = [
  vmx("VMXON", ["Vmxon_m64"]),
  vmx("VMXOFF", ["Vmxoff"]),
  vmx("VMCLEAR", ["Vmclear_m64"]),
  vmx("VMPTRLD", ["Vmptrld_m64"]),
  vmx("VMPTRST", ["Vmptrst_m64"]),
  vmx("VMREAD", ["Vmread_rm32_r32", "Vmread_rm64_r64"]),
  vmx("VMWRITE", ["Vmwrite_r32_rm32", "Vmwrite_r64_rm64"]),
  vmx("VMLAUNCH", ["Vmlaunch"]),
  vmx("VMRESUME", ["Vmresume"]),
  vmx("VMCALL", ["Vmcall"]),
  vmx("VMFUNC", ["Vmfunc"]),
  vmx("INVEPT", pair("Invept")),
  vmx("INVVPID", pair("Invvpid")),
  svm("VMRUN", wide("Vmrun")),
  { ...svm("VMMCALL", ["Vmmcall"]), call: cache.vmmcall },
  svm("VMLOAD", wide("Vmload")),
  svm("VMSAVE", wide("Vmsave")),
  svm("STGI", ["Stgi"]),
  svm("CLGI", ["Clgi"]),
  { ...svm("SKINIT", ["Skinit"]), feature: "skinit" },
  svm("INVLPGA", wide("Invlpga")),
  never("GETSEC", ["Getsecd", "Getsecq"], "SDM 2D ch. 7"),
  {
    ...never("RSM", ["Rsm"], "SDM 2B RSM"),
    intercept: Intercept.Rsm,
  },
];

/** See the file header. */
export const SYSTEM_CONTROL_ROWS: readonly Row[] = [
  ...TABLE_ROWS,
  ...CONTROL_REGISTER_ROWS,
  ...INFORMATION_ROWS,
  ...FLAG_ROWS,
  ...IO_ROWS,
  ...CACHE_ROWS,
  ...VIRTUALIZATION_ROWS,
];
