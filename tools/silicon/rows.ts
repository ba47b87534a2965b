/**
 * Which iced codes get vectors, and why the others do not. Two processors were
 * recorded: AMD's, on which every code that is valid in 64-bit mode and is not
 * EVEX is classified here, and Intel's for what the first lacks, its hypervisor
 * spoils, or only Intel decodes (INTEL).
 * Invariant: a row (mnemonic) either has forms to record or a reason.
 */
import {
  Code,
  CodeExt,
  CpuidFeature,
  EncodingKind,
  Instruction,
  Mnemonic,
  type OpCodeInfo,
  OpCodeOperandKind,
} from "iced-x86";
import type { Vendor } from "../../cpu/arch/models.ts";
import { LEGACY } from "./legacy_cases.ts";
import { floatFile, isFloat } from "./floats.ts";

/** One iced code with what the generator asks of it. */
export interface Form {
  readonly code: Code;
  readonly name: string;
  readonly mnemonic: string;
  readonly opCode: OpCodeInfo;
  readonly operands: readonly OpCodeOperandKind[];
  /** CPL 0 only: recorded at CPL 3 for its #GP or #UD. */
  readonly privileged: boolean;
  /** Whose processor records it. */
  readonly vendor: Vendor;
  /** It exists outside 64-bit mode alone (legacy_cases.ts). */
  readonly legacy: boolean;
  /** Vector file of a form whose cases state a seed instead of values. */
  readonly seededFile: string | undefined;
}

/** What becomes of a row. */
export interface Row {
  readonly mnemonic: string;
  /** Forms to record. */
  readonly forms: Form[];
  /** Form name and why it has no vectors. */
  readonly skipped: Map<string, string>;
  /** True when any form can be executed at CPL 3. */
  userMode: boolean;
}

const SIMD_OPERAND =
  /^(mm|xmm|ymm|zmm|k|kp1|tmm|bnd)_|xmmp3|zmmp3|vsib|^mem_mpx|_mpx$|sibmem|^mem_mib|tr_reg/;

// Features (CPUID or architecture generation) that the recording host has.
const HOST_FEATURES = new Set([
  "INTEL8086",
  "INTEL8086_ONLY",
  "INTEL186",
  "INTEL286",
  "INTEL386",
  "INTEL486",
  "X64",
  "CMOV",
  "CX8",
  "CMPXCHG16B",
  "FPU",
  "FPU287",
  "FPU387",
  "FXSR",
  "FSGSBASE",
  "BMI1",
  "BMI2",
  "ADX",
  "LZCNT",
  "POPCNT",
  "MOVBE",
  "SSE",
  "SSE2",
  "SSE3",
  "SSSE3",
  "SSE4_1",
  "SSE4_2",
  "AES",
  "PCLMULQDQ",
  "SHA",
  "PAUSE",
  "CLFSH",
  "CLFLUSHOPT",
  "CLWB",
  "CLZERO",
  "PREFETCHW",
  "MULTIBYTENOP",
  "CET_IBT",
  "CPUID",
  "TSC",
  "RDTSCP",
  "RDPID",
  "RDRAND",
  "RDSEED",
  "MSR",
  "SYSCALL",
  "SEP",
  "SMM",
  "RDPMC",
  "XSAVE",
  "XSAVEOPT",
  "XSAVEC",
  "XSAVES",
  "INVPCID",
  "SMAP",
  "SVM",
  "MMX",
  "AVX",
]);

/** Rows with no vectors whatever the form, and why. */
const ROW_REASONS: ReadonlyMap<string, string> = new Map([
  ...["Syscall", "Sysenter", "Rdpmc", "Monitor", "Mwait"]
    .map((m): [string, string] => [m, "its outcome is the host kernel's"]),
  ...[
    "Vmmcall",
    "Vmrun",
    "Vmload",
    "Vmsave",
    "Stgi",
    "Clgi",
    "Skinit",
    "Invlpga",
  ]
    .map((m): [string, string] => [m, "the host's hypervisor answers it"]),
  ...["Sgdt", "Sidt", "Sldt", "Str", "Smsw"]
    .map((m): [string, string] => [m, "the host kernel emulates it (UMIP)"]),
  ...[
    "Xsave",
    "Xsave64",
    "Xsaveopt",
    "Xsaveopt64",
    "Xsavec",
    "Xsavec64",
    "Xrstor",
    "Xrstor64",
    "Emms",
  ].map((m): [string, string] => [m, "recorded on Intel's processor alone"]),
  ["Int1", "the host's hypervisor injects its #DB again, as a fault"],
  ...["Vzeroupper", "Vzeroall", "Vldmxcsr", "Vstmxcsr", "Femms"]
    .map((m): [string, string] => [m, "not in the ISA table yet"]),
]);

/**
 * Forms that Intel's processor records; of x87 those whose pointers AMD's
 * signal frames hide and whose C1 the vendors' manuals tell differently.
 */
const INTEL = new RegExp(
  "^((Xsave(opt|c)?|Xrstor)(64)?_mem|Xgetbv|Emms|Int1|Serialize|Cldemote_m8|" +
    "Rdssp[dq]_r(32|64)|Prefetch(wt1|it[01])_m8|Getsec[dq]|Rdpmc|" +
    "Monitor[qd]|Mwait|(Call|Jmp)_m1664|L[sfg]s_r64_m1664|" +
    "Fnop|F(inc|dec)stp|Ffreep?_sti|Fu?comip?_st0_sti|Ud0_r(16|32|64)_rm(16|32|64))$",
);

// Codes of x87 that are control instructions (SDM vol. 1 §8.3.11).
const X87_CONTROL = new Set([
  "Wait",
  "Fldenv",
  "Fnstenv",
  "Fldcw",
  "Fnstcw",
  "Fnclex",
  "Fninit",
  "Fnstsw",
  "Fnsave",
  "Frstor",
  "Fnop",
  "Fdecstp",
  "Fincstp",
  "Ffree",
  "Fneni",
  "Fndisi",
  "Fnsetpm",
]);

// Forms that would leave the sandbox or whose selectors the host may change.
const FORM_REASONS: readonly [RegExp, string][] = [
  [/^Bswap_r16$/, "the manuals leave the result undefined"],
];

function reasonFor(form: Form, instruction: Instruction): string {
  const { name, mnemonic, opCode, operands } = form;
  const row = ROW_REASONS.get(mnemonic);
  if (row) return row;
  for (const [pattern, why] of FORM_REASONS) {
    if (pattern.test(name)) return why;
  }
  if (opCode.fwait) return "an assembler's pair of WAIT and another row";
  const features = [...instruction.cpuidFeatures()].map((f) => CpuidFeature[f]);
  const missing = features.filter((f) => !HOST_FEATURES.has(f));
  if (missing.length) return `the host lacks ${missing.join(", ")}`;
  if (name.startsWith("Reservednop")) return "a reserved hint, not decoded";
  if (!opCode.amdDecoder64) return "AMD CPUs do not decode it";
  if (
    operands.some((k) =>
      k === OpCodeOperandKind.farbr2_2 || k === OpCodeOperandKind.farbr4_2
    )
  ) return "not valid in 64-bit mode";
  return "";
}

/** Features whose cases state seeds (tests/silicon/seeded.ts). */
const SEEDED: ReadonlyMap<string, string> = new Map([
  ["SSE3", "simd_ssse3"],
  ["SSSE3", "simd_ssse3"],
  ["SSE4_1", "simd_sse4"],
  ["SSE4_2", "simd_sse4"],
  ["AES", "simd_crypto"],
  ["PCLMULQDQ", "simd_crypto"],
  ["SHA", "simd_crypto"],
]);

const isX87Data = (mnemonic: string): boolean =>
  /^F(?!xsave|xrstor|emms)/.test(mnemonic) && !X87_CONTROL.has(mnemonic);

function seededFileOf(
  mnemonic: string,
  name: string,
  i: Instruction,
): string | undefined {
  if (isFloat({ mnemonic, name })) return floatFile(mnemonic);
  if (mnemonic.startsWith("Maskmov")) return "simd_ssse3";
  const features = [...i.cpuidFeatures()].map((f) => CpuidFeature[f]);
  const file = features.map((f) => SEEDED.get(f)).find((f) => f !== undefined);
  // Packed integers of MMX, SSE and SSE2.
  return file ?? (mnemonic.startsWith("P") ? "simd_integer" : undefined);
}

/**
 * A set of rows that is recorded at once: AMD's without and with MMX or XMM
 * operands, and Intel's.
 */
export type Scope = "general" | "simd" | "intel";

/** All rows of a set, in iced's order of codes. */
export function allRows(scope: Scope = "general"): Row[] {
  const simd = scope === "simd";
  const rows = new Map<string, Row>();
  const codes = Object.keys(Code).filter((k) => /^\d+$/.test(k)).map(Number);
  for (const code of codes) {
    const opCode = CodeExt.opCode(code);
    const legacy = scope === "intel" && LEGACY.test(Code[code]);
    if (!opCode.isInstruction || !(opCode.mode64 || legacy)) continue;
    if (
      opCode.encoding !== EncodingKind.Legacy &&
      opCode.encoding !== EncodingKind.VEX
    ) continue;
    const name = Code[code];
    if (scope === "intel" && !legacy && !INTEL.test(name)) continue;
    if (/^(VEX_)?KNC_|^VEX_KNC|^MVEX/.test(name)) continue;
    const operands = Array.from(
      { length: opCode.opCount },
      (_, i) => opCode.opKind(i),
    );
    if (
      operands.some((k) => SIMD_OPERAND.test(OpCodeOperandKind[k])) !== simd
    ) continue;
    const instruction = Instruction.create(code);
    const mnemonic = Mnemonic[instruction.mnemonic];
    const row: Row = rows.get(mnemonic) ??
      { mnemonic, forms: [] as Form[], skipped: new Map(), userMode: false };
    rows.set(mnemonic, row);
    row.userMode ||= opCode.cpl3;
    const form: Form = {
      code,
      name,
      mnemonic,
      opCode,
      operands,
      privileged: !opCode.cpl3,
      legacy,
      vendor: scope === "intel" ? "GenuineIntel" : "AuthenticAMD",
      seededFile: simd
        ? seededFileOf(mnemonic, name, instruction)
        : isX87Data(mnemonic)
        ? "x87_data"
        : undefined,
    };
    const why = scope === "intel" ? "" : reasonFor(form, instruction);
    instruction.free();
    if (why) row.skipped.set(name, why);
    else row.forms.push(form);
  }
  return [...rows.values()];
}

/** File (without extension) that holds a row's vectors. */
export function fileOf(
  mnemonic: string,
  privileged: boolean,
  scope: Scope,
): string {
  if (scope === "intel") {
    return /^X/.test(mnemonic) ? "intel_xsave" : "intel_misc";
  }
  if (scope === "simd") {
    return /^Mov(?!msk)/.test(mnemonic) ? "simd_move" : "simd_integer";
  }
  if (privileged) return "privileged";
  for (const [file, pattern] of FILES) if (pattern.test(mnemonic)) return file;
  return "misc";
}

const FILES: readonly [string, RegExp][] = [
  ["alu-add", /^(Add|Adc|Sub|Sbb|Cmp)$/],
  ["alu-logic", /^(And|Or|Xor|Test|Not|Neg|Inc|Dec)$/],
  ["shift", /^(Shl|Sal|Shr|Sar|Shld|Shrd)$/],
  ["rotate", /^(Rol|Ror|Rcl|Rcr)$/],
  ["muldiv", /^(Mul|Imul|Div|Idiv)$/],
  ["bits", /^(Bt|Bts|Btr|Btc|Bsf|Bsr|Bswap|Popcnt|Lzcnt|Tzcnt|Crc32)$/],
  ["bmi", /^(Andn|Bl|Bzhi|Pext|Pdep|Mulx|Bextr|Sh.x|Sarx|Rorx|Adcx|Adox)/],
  [
    "string",
    /^((Movs|Cmps|Stos|Lods|Scas|Ins|Outs)[bwdq])$/,
  ],
  ["move", /^(Mov|Movzx|Movsx|Movsxd|Movbe|Movnti|Lea|Xlatb|Bswap)$/],
  ["exchange", /^(Xchg|Xadd|Cmpxchg|Cmpxchg8b|Cmpxchg16b)$/],
  ["cmov", /^Cmov/],
  ["setcc", /^Set/],
  ["stack", /^(Push|Pop|Enter|Leave)/],
  ["x87", /^(F(?!xsave|xrstor)|Wait)/],
  ["fxsave", /^(Fxsave|Fxrstor|Ldmxcsr|Stmxcsr)/],
  ["far", /^(Retf|Iret|L[a-z]s|Lar|Lsl|Ver[rw]|Int)/],
  ["jcc", /^J(?!mp)|^Loop/],
  ["branch", /^(Jmp|Call|Ret)$/],
];
