/**
 * CPUID: which feature lives in which bit, and the leaves computed from a model
 * and the little state they depend on (SDM 2A CPUID; APM 3 appendix E).
 *
 * FEATURES is the only place a feature bit is named; names are QEMU's. Leaves
 * never contradict what the machine does: bits come from the model's feature
 * set, counts and addresses from the model and CR4/APIC state.
 */
import type { CpuModel } from "./models.ts";
import {
  standardOffset,
  supportedXcr0,
  supportedXss,
  XSAVE_COMPONENTS,
  xsaveSize,
} from "./xsave.ts";

/** Registers of a CPUID leaf, in the order EAX EBX ECX EDX. */
export const CpuidRegister = { EAX: 0, EBX: 1, ECX: 2, EDX: 3 } as const;
const { EAX, EBX, ECX, EDX } = CpuidRegister;

/** Where one feature bit is reported. */
export interface FeatureBit {
  /** EAX of CPUID. */
  readonly leaf: number;
  /** ECX of CPUID. */
  readonly subleaf: number;
  /** A CpuidRegister. */
  readonly register: number;
  /** Bit of that register. */
  readonly bit: number;
}

const at = (
  leaf: number,
  register: number,
  bit: number,
  subleaf = 0,
): FeatureBit => ({ leaf, subleaf, register, bit });

/** Every feature bit we know, by QEMU's flag name; knowing is not modelling. */
export const FEATURES = {
  "fpu": at(1, EDX, 0),
  "vme": at(1, EDX, 1),
  "de": at(1, EDX, 2),
  "pse": at(1, EDX, 3),
  "tsc": at(1, EDX, 4),
  "msr": at(1, EDX, 5),
  "pae": at(1, EDX, 6),
  "mce": at(1, EDX, 7),
  "cx8": at(1, EDX, 8),
  "apic": at(1, EDX, 9),
  "sep": at(1, EDX, 11),
  "mtrr": at(1, EDX, 12),
  "pge": at(1, EDX, 13),
  "mca": at(1, EDX, 14),
  "cmov": at(1, EDX, 15),
  "pat": at(1, EDX, 16),
  "pse36": at(1, EDX, 17),
  "clflush": at(1, EDX, 19),
  "mmx": at(1, EDX, 23),
  "fxsr": at(1, EDX, 24),
  "sse": at(1, EDX, 25),
  "sse2": at(1, EDX, 26),
  "ss": at(1, EDX, 27),
  "ht": at(1, EDX, 28),
  "pni": at(1, ECX, 0),
  "pclmulqdq": at(1, ECX, 1),
  "monitor": at(1, ECX, 3),
  "vmx": at(1, ECX, 5),
  "smx": at(1, ECX, 6),
  "ssse3": at(1, ECX, 9),
  "fma": at(1, ECX, 12),
  "cx16": at(1, ECX, 13),
  "pdcm": at(1, ECX, 15),
  "pcid": at(1, ECX, 17),
  "sse4.1": at(1, ECX, 19),
  "sse4.2": at(1, ECX, 20),
  "x2apic": at(1, ECX, 21),
  "movbe": at(1, ECX, 22),
  "popcnt": at(1, ECX, 23),
  "tsc-deadline": at(1, ECX, 24),
  "aes": at(1, ECX, 25),
  "xsave": at(1, ECX, 26),
  "avx": at(1, ECX, 28),
  "f16c": at(1, ECX, 29),
  "rdrand": at(1, ECX, 30),
  "hypervisor": at(1, ECX, 31),
  "fsgsbase": at(7, EBX, 0),
  "tsc-adjust": at(7, EBX, 1),
  "bmi1": at(7, EBX, 3),
  "hle": at(7, EBX, 4),
  "avx2": at(7, EBX, 5),
  "smep": at(7, EBX, 7),
  "bmi2": at(7, EBX, 8),
  "erms": at(7, EBX, 9),
  "invpcid": at(7, EBX, 10),
  "rtm": at(7, EBX, 11),
  "mpx": at(7, EBX, 14),
  "avx512f": at(7, EBX, 16),
  "rdseed": at(7, EBX, 18),
  "adx": at(7, EBX, 19),
  "smap": at(7, EBX, 20),
  "pcommit": at(7, EBX, 22),
  "clflushopt": at(7, EBX, 23),
  "clwb": at(7, EBX, 24),
  "sha-ni": at(7, EBX, 29),
  "umip": at(7, ECX, 2),
  "pku": at(7, ECX, 3),
  "waitpkg": at(7, ECX, 5),
  "shstk": at(7, ECX, 7),
  "gfni": at(7, ECX, 8),
  "la57": at(7, ECX, 16),
  "rdpid": at(7, ECX, 22),
  "movdiri": at(7, ECX, 27),
  "movdir64b": at(7, ECX, 28),
  "pks": at(7, ECX, 31),
  "fsrm": at(7, EDX, 4),
  "serialize": at(7, EDX, 14),
  "ibt": at(7, EDX, 20),
  "spec-ctrl": at(7, EDX, 26),
  "arch-capabilities": at(7, EDX, 29),
  "lam": at(7, EAX, 26, 1),
  "xsaveopt": at(0xd, EAX, 0, 1),
  "xsavec": at(0xd, EAX, 1, 1),
  "xgetbv1": at(0xd, EAX, 2, 1),
  "xsaves": at(0xd, EAX, 3, 1),
  "lahf-lm": at(0x80000001, ECX, 0),
  "cmp-legacy": at(0x80000001, ECX, 1),
  "svm": at(0x80000001, ECX, 2),
  "cr8legacy": at(0x80000001, ECX, 4),
  "abm": at(0x80000001, ECX, 5),
  "sse4a": at(0x80000001, ECX, 6),
  "misalignsse": at(0x80000001, ECX, 7),
  "3dnowprefetch": at(0x80000001, ECX, 8),
  "skinit": at(0x80000001, ECX, 12),
  "tbm": at(0x80000001, ECX, 21),
  "syscall": at(0x80000001, EDX, 11),
  "nx": at(0x80000001, EDX, 20),
  "mmxext": at(0x80000001, EDX, 22),
  "fxsr-opt": at(0x80000001, EDX, 25),
  "pdpe1gb": at(0x80000001, EDX, 26),
  "rdtscp": at(0x80000001, EDX, 27),
  "lm": at(0x80000001, EDX, 29),
  "3dnowext": at(0x80000001, EDX, 30),
  "3dnow": at(0x80000001, EDX, 31),
  "invtsc": at(0x80000007, EDX, 8),
  "clzero": at(0x80000008, EBX, 0),
  "rdpru": at(0x80000008, EBX, 4),
  "wbnoinvd": at(0x80000008, EBX, 9),
  "npt": at(0x8000000a, EDX, 0),
  "lbrv": at(0x8000000a, EDX, 1),
  "svm-lock": at(0x8000000a, EDX, 2),
  "nrip-save": at(0x8000000a, EDX, 3),
  "tsc-scale": at(0x8000000a, EDX, 4),
  "vmcb-clean": at(0x8000000a, EDX, 5),
  "flushbyasid": at(0x8000000a, EDX, 6),
  "decodeassists": at(0x8000000a, EDX, 7),
  "pause-filter": at(0x8000000a, EDX, 10),
  "pfthreshold": at(0x8000000a, EDX, 12),
  "avic": at(0x8000000a, EDX, 13),
  "v-vmsave-vmload": at(0x8000000a, EDX, 15),
  "vgif": at(0x8000000a, EDX, 16),
  "gmet": at(0x8000000a, EDX, 17),
  "vnmi": at(0x8000000a, EDX, 25),
} as const satisfies Record<string, FeatureBit>;

/** Name of a CPUID feature, as QEMU spells it. */
export type Feature = keyof typeof FEATURES;

/** What leaves depend on beyond the model. */
export interface CpuidState {
  /** Index of the vCPU, also its APIC id. */
  readonly cpuIndex: number;
  /** vCPUs of the machine. */
  readonly cpuCount: number;
  /** CR4, for OSXSAVE. */
  readonly cr4: number;
  /** XCR0 and IA32_XSS, for the sizes of leaf 0DH. */
  readonly xcr0: number;
  readonly xss: number;
  /** IA32_APIC_BASE.EN: the APIC bit follows it (SDM 3A §11.4.3). */
  readonly apicEnabled: boolean;
  /** EFER.LMA and CS.L: Intel shows SYSCALL only in 64-bit mode. */
  readonly longMode: boolean;
  /** A virtualization plugin is there: VMX and SVM bits are shown only then. */
  readonly virtualization: boolean;
}

/** EAX, EBX, ECX, EDX as unsigned numbers. */
export type CpuidResult = [number, number, number, number];

const CR4_OSXSAVE = 1 << 18;
const OSXSAVE_BIT = 1 << 27;

/** Feature bits of one leaf (subleaf 0 where ECX isn't looked at), from the table. */
function featureBits(
  model: CpuModel,
  leaf: number,
  subleaf: number,
  state: CpuidState,
): CpuidResult {
  const out: CpuidResult = [0, 0, 0, 0];
  for (const name of model.features) {
    const f = FEATURES[name];
    if (f.leaf !== leaf || f.subleaf !== subleaf) continue;
    if (name === "apic" && !state.apicEnabled) continue;
    if ((name === "vmx" || name === "svm") && !state.virtualization) continue;
    if (name === "syscall" && model.vendor === "GenuineIntel") {
      if (!state.longMode) continue;
    }
    out[f.register] = (out[f.register] | (1 << f.bit)) >>> 0;
  }
  return out;
}

/** Three registers holding the twelve characters of a vendor name. */
function vendorLeaf(max: number, vendor: string): CpuidResult {
  const word = (i: number): number =>
    (vendor.charCodeAt(i) | vendor.charCodeAt(i + 1) << 8 |
      vendor.charCodeAt(i + 2) << 16 | vendor.charCodeAt(i + 3) << 24) >>> 0;
  return [max, word(0), word(8), word(4)];
}

/** Signature in EAX of leaf 1 (SDM 2A figure 3-6). */
export function signature(model: CpuModel): number {
  const extendedFamily = model.family > 15 ? model.family - 15 : 0;
  const family = Math.min(model.family, 15);
  return (extendedFamily << 20 | (model.model >> 4) << 16 | family << 8 |
    (model.model & 15) << 4 | model.stepping) >>> 0;
}

function brandLeaf(model: CpuModel, part: number): CpuidResult {
  const text = model.brand.padEnd(48, "\0");
  const word = (i: number): number => {
    const p = part * 16 + i * 4;
    return (text.charCodeAt(p) | text.charCodeAt(p + 1) << 8 |
      text.charCodeAt(p + 2) << 16 | text.charCodeAt(p + 3) << 24) >>> 0;
  };
  return [word(0), word(1), word(2), word(3)];
}

/** Deterministic cache parameters (SDM 2A, leaf 4): type, level, ways, sets. */
const CACHES: readonly (readonly [number, number, number, number])[] = [
  [1, 1, 8, 64],
  [2, 1, 8, 64],
  [3, 2, 8, 512],
];

function cacheLeaf(state: CpuidState, subleaf: number): CpuidResult {
  const c = CACHES[subleaf];
  if (c === undefined) return [0, 0, 0, 0];
  const [type, level, ways, sets] = c;
  return [
    // Bits 31:26: numbers that cores of the package can have, less one.
    (type | level << 5 | 1 << 8 | ((1 << coreBits(state)) - 1) << 26) >>> 0,
    (63 | (ways - 1) << 22) >>> 0,
    sets - 1,
    0,
  ];
}

/**
 * Computes one leaf.
 * @param leaf EAX @param subleaf ECX
 * @returns EAX, EBX, ECX, EDX
 */
export function cpuid(
  model: CpuModel,
  state: CpuidState,
  leaf: number,
  subleaf: number,
): CpuidResult {
  const intel = model.vendor === "GenuineIntel";
  const maxBasic = model.maxLeaf;
  const extended = leaf >= 0x80000000;
  if (
    extended ? leaf > model.maxExtendedLeaf : leaf > maxBasic
  ) {
    // SDM 2A CPUID: beyond the maximum, Intel answers with the highest basic
    // leaf; AMD (APM 3 §E.3) with zeros.
    if (!intel || maxBasic === 0) return [0, 0, 0, 0];
    leaf = maxBasic;
  }
  const indexed = leaf === 7 || leaf === 0xd;
  const bits = featureBits(model, leaf, indexed ? subleaf : 0, state);
  switch (leaf) {
    case 0:
      return vendorLeaf(maxBasic, model.vendor);
    case 1: {
      const threads = state.cpuCount > 1 ? state.cpuCount << 16 : 0;
      const flush = model.has("clflush") ? 8 << 8 : 0;
      bits[EAX] = signature(model);
      bits[EBX] = (state.cpuIndex << 24 | threads | flush) >>> 0;
      if (state.cr4 & CR4_OSXSAVE) bits[ECX] = (bits[ECX] | OSXSAVE_BIT) >>> 0;
      if (state.cpuCount > 1) bits[EDX] = (bits[EDX] | 1 << 28) >>> 0;
      return bits;
    }
    case 2:
      return intel ? [0x00feff01, 0, 0, 0] : [0, 0, 0, 0];
    case 4:
      return intel ? cacheLeaf(state, subleaf) : [0, 0, 0, 0];
    case 5:
      return model.has("monitor") ? [64, 64, 3, 0] : [0, 0, 0, 0];
    case 7:
      if (subleaf === 0) bits[EAX] = model.has("lam") ? 1 : 0;
      return bits;
    case 0xb:
      return topologyLeaf(state, subleaf);
    case 0xd:
      return xsaveLeaf(model, state, bits, subleaf);
    case 0x80000000:
      return intel
        ? [model.maxExtendedLeaf, 0, 0, 0]
        : vendorLeaf(model.maxExtendedLeaf, model.vendor);
    case 0x80000001:
      bits[EAX] = signature(model);
      if (!intel) {
        // APM 3 §E.4.2: EDX repeats leaf 1's bits under this mask.
        const low = featureBits(model, 1, 0, state)[EDX];
        bits[EDX] = (bits[EDX] | (low & 0x0183f3ff)) >>> 0;
        // CmpLegacy: leaf 1's count is of cores, not of threads.
        if (state.cpuCount > 1) bits[ECX] = (bits[ECX] | 2) >>> 0;
      }
      return bits;
    case 0x80000002:
    case 0x80000003:
    case 0x80000004:
      return brandLeaf(model, leaf - 0x80000002);
    case 0x80000005:
      return intel ? [0, 0, 0, 0] : [0, 0, 0x40020140, 0x40020140];
    case 0x80000006:
      return [0, 0, 0x02006040, 0];
    case 0x80000007:
      return bits;
    case 0x80000008:
      bits[EAX] = model.physicalAddressBits |
        model.linearAddressBits << 8;
      if (!intel && state.cpuCount > 1) {
        bits[ECX] = coreBits(state) << 12 | state.cpuCount - 1;
      }
      return bits;
    case 0x8000000a:
      if (!model.has("svm") || !state.virtualization) return [0, 0, 0, 0];
      bits[EAX] = 1;
      bits[EBX] = 16;
      return bits;
    default:
      return bits;
  }
}

/** Bits of an APIC id that number the cores of the one package. */
function coreBits(state: CpuidState): number {
  return 32 - Math.clz32(state.cpuCount - 1);
}

/** Extended topology (SDM 2A, leaf 0BH): threads, then cores. */
function topologyLeaf(state: CpuidState, subleaf: number): CpuidResult {
  const shift = coreBits(state);
  if (subleaf === 0) return [0, 1, 1 << 8, state.cpuIndex];
  if (subleaf === 1) {
    return [shift, state.cpuCount, 2 << 8 | 1, state.cpuIndex];
  }
  return [0, 0, subleaf & 0xff, state.cpuIndex];
}

/** XSAVE areas (SDM 2A, leaf 0DH). */
function xsaveLeaf(
  model: CpuModel,
  state: CpuidState,
  bits: CpuidResult,
  subleaf: number,
): CpuidResult {
  if (!model.has("xsave")) return [0, 0, 0, 0];
  if (subleaf === 0) {
    const all = supportedXcr0(model);
    return [
      all,
      xsaveSize(model, state.xcr0, false),
      xsaveSize(model, all, false),
      0,
    ];
  }
  if (subleaf === 1) {
    if (model.has("xsavec") || model.has("xsaves")) {
      bits[EBX] = xsaveSize(model, state.xcr0 | state.xss, true);
    }
    if (model.has("xsaves")) bits[ECX] = supportedXss(model);
    return bits;
  }
  const c = XSAVE_COMPONENTS.find((x) => x.index === subleaf);
  if (c === undefined || !model.has(c.feature)) return [0, 0, 0, 0];
  return [
    c.size,
    c.supervisor ? 0 : standardOffset(model, c),
    (c.supervisor ? 1 : 0) | (c.aligned ? 2 : 0),
    0,
  ];
}
