/**
 * Model-specific registers as a table (SDM vol. 4 ch. 2, APM 2 appendix A):
 * index, name, storage slot, what may be written, reset value, and on which
 * models the register exists. An index that is not here (or not on this model)
 * is #GP(0) for RDMSR and WRMSR.
 *
 * Registers that live elsewhere than in a slot (EFER, segment bases, TSC, APIC)
 * have a `special`; cpu/semantics/system/msr.ts answers those.
 */
import type { Feature } from "./cpuid.ts";
import type { CpuModel, Vendor } from "./models.ts";
import { MSR_SLOTS } from "../layout.ts";

/** Registers without a slot of their own meaning. */
export const MsrSpecial = {
  Tsc: 1,
  TscAdjust: 2,
  ApicBase: 3,
  FeatureControl: 4,
  Efer: 5,
  FsBase: 6,
  GsBase: 7,
  /**
   * AMD performance event select and counter. Under a hypervisor without a
   * virtual PMU (CPUID's bit says so) they read 0 and ignore writes; otherwise
   * they keep their value and EN is not modelled.
   */
  Performance: 9,
  /** Belongs to the interrupt controller. */
  Interrupts: 10,
  /** A write changes rights: the translator is told. */
  ProtectionKeys: 11,
} as const;

/** Bits of IA32_DEBUGCTL (SDM 3B §17.4.1). */
export const DebugCtl = { LBR: 1n, BTF: 2n } as const;

/** One register. */
export interface MsrInfo {
  /** ECX of RDMSR. */
  readonly index: number;
  /** The manual's name. */
  readonly name: string;
  /** Index into the vCPU's MSR slots, or -1. */
  readonly slot: number;
  /** Bits that may be set by WRMSR; setting another is #GP(0). 0n with `readOnly`. */
  readonly mask: bigint;
  /** WRMSR is #GP(0). */
  readonly readOnly: boolean;
  /** A non-canonical value is #GP(0) (SDM 3A §5.20, WRMSR). */
  readonly canonical: boolean;
  /** A MsrSpecial, or 0. */
  readonly special: number;
  /** Value after power-up. */
  readonly reset: bigint;
  /** CPUID feature without which it does not exist. */
  readonly feature: Feature | undefined;
  /** The only vendor that has it. */
  readonly vendor: Vendor | undefined;
  /** Further check of the value. */
  readonly valid: ((value: bigint, model: CpuModel) => boolean) | undefined;
}

const ALL = 0xffff_ffff_ffff_ffffn;
const LOW32 = 0xffff_ffffn;

let slots = 0;

type Extra = Partial<Omit<MsrInfo, "index" | "name">> & { stored?: boolean };

function msr(index: number, name: string, extra: Extra = {}): MsrInfo {
  const readOnly = extra.readOnly ?? false;
  const stored = extra.stored ?? !readOnly;
  return {
    index,
    name,
    slot: stored ? slots++ : -1,
    mask: readOnly ? 0n : extra.mask ?? ALL,
    readOnly,
    canonical: extra.canonical ?? false,
    special: extra.special ?? 0,
    reset: extra.reset ?? 0n,
    feature: extra.feature,
    vendor: extra.vendor,
    valid: extra.valid,
  };
}

const INTEL: Extra = { vendor: "GenuineIntel" };
const AMD: Extra = { vendor: "AuthenticAMD" };

/** PAT and MTRR memory types that exist (SDM 3A table 12-10; UC- only in the PAT). */
const isMemoryType = (t: bigint, pat: boolean): boolean =>
  t === 0n || t === 1n || t === 4n || t === 5n || t === 6n || (pat && t === 7n);

function everyByte(value: bigint, pat: boolean): boolean {
  for (let i = 0n; i < 64n; i += 8n) {
    if (!isMemoryType((value >> i) & 0xffn, pat)) return false;
  }
  return true;
}

const inPhysical = (value: bigint, model: CpuModel): boolean =>
  value >> BigInt(model.physicalAddressBits) === 0n;

/** Number of variable MTRR pairs, as IA32_MTRRCAP tells. */
export const MTRR_PAIRS = 8;

function mtrrs(): MsrInfo[] {
  const rows: MsrInfo[] = [];
  for (let i = 0; i < MTRR_PAIRS; i++) {
    rows.push(msr(0x200 + 2 * i, `IA32_MTRR_PHYSBASE${i}`, {
      feature: "mtrr",
      mask: ALL & ~0xf00n,
      valid: (v, m) => inPhysical(v, m) && isMemoryType(v & 0xffn, false),
    }));
    rows.push(msr(0x201 + 2 * i, `IA32_MTRR_PHYSMASK${i}`, {
      feature: "mtrr",
      mask: ALL & ~0x7ffn,
      valid: inPhysical,
    }));
  }
  const fixed: [number, string][] = [
    [0x250, "64K_00000"],
    [0x258, "16K_80000"],
    [0x259, "16K_A0000"],
    ...Array.from({ length: 8 }, (_, i): [number, string] => [
      0x268 + i,
      `4K_${(0xc0000 + i * 0x8000).toString(16).toUpperCase()}`,
    ]),
  ];
  for (const [index, name] of fixed) {
    rows.push(msr(index, `IA32_MTRR_FIX${name}`, {
      feature: "mtrr",
      valid: (v) => everyByte(v, false),
    }));
  }
  rows.push(msr(0x2ff, "IA32_MTRR_DEF_TYPE", {
    feature: "mtrr",
    mask: 0xcffn,
    valid: (v) => isMemoryType(v & 0xffn, false),
  }));
  return rows;
}

/** Every register we model, in slot order. Slots are part of the state layout. */
export const MSRS: readonly MsrInfo[] = [
  msr(0x10, "IA32_TIME_STAMP_COUNTER", {
    feature: "tsc",
    special: MsrSpecial.Tsc,
    stored: false,
  }),
  // Holds TSC − virtual time on every model; readable only with its feature.
  msr(0x3b, "IA32_TSC_ADJUST", {
    feature: "tsc-adjust",
    special: MsrSpecial.TscAdjust,
  }),
  msr(0x17, "IA32_PLATFORM_ID", { ...INTEL, readOnly: true }),
  msr(0x1b, "IA32_APIC_BASE", {
    feature: "apic",
    special: MsrSpecial.ApicBase,
    reset: 0xfee00900n,
    mask: ALL & ~0x2ffn,
  }),
  msr(0x3a, "IA32_FEATURE_CONTROL", {
    ...INTEL,
    feature: "vmx",
    special: MsrSpecial.FeatureControl,
    mask: 5n,
  }),
  msr(0x8b, "IA32_BIOS_SIGN_ID", { ...INTEL, reset: 0x1_0000_0000n }),
  msr(0x8b, "PATCH_LEVEL", { ...AMD, readOnly: true, reset: 0x01000065n }),
  msr(0xfe, "IA32_MTRRCAP", {
    feature: "mtrr",
    readOnly: true,
    reset: BigInt(0x500 | MTRR_PAIRS),
  }),
  msr(0x174, "IA32_SYSENTER_CS", { feature: "sep", mask: LOW32 }),
  msr(0x175, "IA32_SYSENTER_ESP", { feature: "sep", canonical: true }),
  msr(0x176, "IA32_SYSENTER_EIP", { feature: "sep", canonical: true }),
  // No machine-check banks: the model promises none.
  msr(0x179, "IA32_MCG_CAP", { feature: "mca", readOnly: true }),
  msr(0x17a, "IA32_MCG_STATUS", { feature: "mca", mask: 7n }),
  msr(0x1a0, "IA32_MISC_ENABLE", {
    ...INTEL,
    mask: 0x4_00c5_1889n,
    reset: 0x1801n,
  }),
  // LBR records nothing that shows on Intel: no model has branch-record MSRs.
  // The machine loop looks at BTF.
  msr(0x1d9, "IA32_DEBUGCTL", { mask: DebugCtl.LBR | DebugCtl.BTF }),
  msr(0x277, "IA32_PAT", {
    feature: "pat",
    reset: 0x0007_0406_0007_0406n,
    valid: (v) => everyByte(v, true),
  }),
  ...mtrrs(),
  msr(0x6e1, "IA32_PKRS", {
    feature: "pks",
    special: MsrSpecial.ProtectionKeys,
    mask: LOW32,
  }),
  // No supervisor state component is modelled.
  msr(0xda0, "IA32_XSS", { feature: "xsaves", mask: 0n }),
  msr(0x6e0, "IA32_TSC_DEADLINE", {
    feature: "tsc-deadline",
    special: MsrSpecial.Interrupts,
    stored: false,
  }),
  msr(0xc0000080, "IA32_EFER", {
    feature: "lm",
    special: MsrSpecial.Efer,
    stored: false,
  }),
  msr(0xc0000081, "IA32_STAR", { feature: "syscall" }),
  msr(0xc0000082, "IA32_LSTAR", { feature: "syscall", canonical: true }),
  msr(0xc0000083, "IA32_CSTAR", { feature: "syscall", canonical: true }),
  msr(0xc0000084, "IA32_FMASK", { feature: "syscall", mask: LOW32 }),
  msr(0xc0000100, "IA32_FS_BASE", {
    feature: "lm",
    canonical: true,
    special: MsrSpecial.FsBase,
    stored: false,
  }),
  msr(0xc0000101, "IA32_GS_BASE", {
    feature: "lm",
    canonical: true,
    special: MsrSpecial.GsBase,
    stored: false,
  }),
  msr(0xc0000102, "IA32_KERNEL_GS_BASE", { feature: "lm", canonical: true }),
  msr(0xc0000103, "IA32_TSC_AUX", { feature: "rdtscp", mask: LOW32 }),
  ...[0, 1, 2, 3].map((i) =>
    msr(0xc0010000 + i, `PERF_CTL${i}`, {
      ...AMD,
      special: MsrSpecial.Performance,
    })
  ),
  ...[0, 1, 2, 3].map((i) =>
    msr(0xc0010004 + i, `PERF_CTR${i}`, {
      ...AMD,
      special: MsrSpecial.Performance,
    })
  ),
  msr(0xc0010010, "SYSCFG", { ...AMD, mask: 0x7ff_ffffn }),
  msr(0xc0010015, "HWCR", { ...AMD, mask: 0x7fff_ffffn }),
  msr(0xc001001f, "NB_CFG", AMD),
  msr(0xc0010055, "INTERRUPT_PENDING", { ...AMD, readOnly: true }),
  msr(0xc0011029, "DE_CFG", AMD),
];

if (slots > MSR_SLOTS) {
  throw new RangeError(`layout.ts: MSR_SLOTS is ${MSR_SLOTS}, need ${slots}`);
}

/** First and last x2APIC register: the interrupt controller's. */
export const X2APIC_FIRST = 0x800;
/** See X2APIC_FIRST. */
export const X2APIC_LAST = 0x8ff;
/** VMX capability MSRs: the vmx plugin's. */
export const VMX_CAPABILITY_FIRST = 0x480;
/** See VMX_CAPABILITY_FIRST. */
export const VMX_CAPABILITY_LAST = 0x491;

const BY_INDEX = new Map<number, MsrInfo[]>();
for (const row of MSRS) {
  const rows = BY_INDEX.get(row.index);
  if (rows === undefined) BY_INDEX.set(row.index, [row]);
  else rows.push(row);
}

/** The register as this model has it, or undefined (#GP). */
export function findMsr(model: CpuModel, index: number): MsrInfo | undefined {
  return BY_INDEX.get(index)?.find((m) =>
    (m.vendor === undefined || m.vendor === model.vendor) &&
    (m.feature === undefined || model.has(m.feature))
  );
}

function slotOf(index: number): number {
  const row = BY_INDEX.get(index)?.find((m) => m.slot >= 0);
  if (row === undefined) throw new RangeError(`no slot for MSR ${index}`);
  return row.slot;
}

/** Slots that procedures and plugins read directly. */
export const MsrSlot = {
  /** TSC minus virtual time, whether or not the model shows TSC_ADJUST. */
  TscAdjust: slotOf(0x3b),
  ApicBase: slotOf(0x1b),
  FeatureControl: slotOf(0x3a),
  SysenterCs: slotOf(0x174),
  SysenterEsp: slotOf(0x175),
  SysenterEip: slotOf(0x176),
  DebugCtl: slotOf(0x1d9),
  Pat: slotOf(0x277),
  Pkrs: slotOf(0x6e1),
  Xss: slotOf(0xda0),
  MtrrDefType: slotOf(0x2ff),
  Star: slotOf(0xc0000081),
  Lstar: slotOf(0xc0000082),
  Cstar: slotOf(0xc0000083),
  Fmask: slotOf(0xc0000084),
  KernelGsBase: slotOf(0xc0000102),
  TscAux: slotOf(0xc0000103),
} as const;

/** MSR indices used by name elsewhere. */
export const Msr = {
  TSC: 0x10,
  APIC_BASE: 0x1b,
  FEATURE_CONTROL: 0x3a,
  SYSENTER_CS: 0x174,
  SYSENTER_ESP: 0x175,
  SYSENTER_EIP: 0x176,
  DEBUGCTL: 0x1d9,
  PAT: 0x277,
  EFER: 0xc0000080,
  STAR: 0xc0000081,
  LSTAR: 0xc0000082,
  CSTAR: 0xc0000083,
  FMASK: 0xc0000084,
  FS_BASE: 0xc0000100,
  GS_BASE: 0xc0000101,
  KERNEL_GS_BASE: 0xc0000102,
  TSC_AUX: 0xc0000103,
} as const;
