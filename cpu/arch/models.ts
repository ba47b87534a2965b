/**
 * CPU models as data (design §9): vendor, signature, address widths, features
 * and VMX capabilities, and the parser of `skylake-server,-pcid,+la57`.
 *
 * A model shows only what works: a flag that we know but do not model can't be
 * switched on, and the error says so.
 */
import { ConfigError } from "../../core/errors.ts";
import { nearest } from "../../core/nearest.ts";
import { type Feature, FEATURES } from "./cpuid.ts";
import { type Quirk, QUIRKS } from "./quirks.ts";

/** CPU vendors, as CPUID leaf 0 spells them. */
export type Vendor = "GenuineIntel" | "AuthenticAMD";

/**
 * VMX capabilities a model may lack, by QEMU's flag names, with the capability
 * MSR and the bit that reports each (SDM 3D appendix A). What the vmx plugin
 * models and the model allows is what the capability MSRs tell.
 */
export const VMX_FEATURES = {
  "vmx-preemption-timer": { msr: 0x481, bit: 32 + 6 },
  "vmx-vnmi": { msr: 0x481, bit: 32 + 5 },
  "vmx-monitor-trap-flag": { msr: 0x482, bit: 32 + 27 },
  "vmx-tsc-offset": { msr: 0x482, bit: 32 + 3 },
  "vmx-msr-bitmap": { msr: 0x482, bit: 32 + 28 },
  "vmx-io-bitmap": { msr: 0x482, bit: 32 + 25 },
  "vmx-secondary-ctls": { msr: 0x482, bit: 32 + 31 },
  "vmx-ept": { msr: 0x48b, bit: 32 + 1 },
  "vmx-desc-exit": { msr: 0x48b, bit: 32 + 2 },
  "vmx-rdtscp-exit": { msr: 0x48b, bit: 32 + 3 },
  "vmx-vpid": { msr: 0x48b, bit: 32 + 5 },
  "vmx-wbinvd-exit": { msr: 0x48b, bit: 32 + 6 },
  "vmx-unrestricted-guest": { msr: 0x48b, bit: 32 + 7 },
  "vmx-rdrand-exit": { msr: 0x48b, bit: 32 + 11 },
  "vmx-invpcid-exit": { msr: 0x48b, bit: 32 + 12 },
  "vmx-vmfunc": { msr: 0x48b, bit: 32 + 13 },
  "vmx-shadow-vmcs": { msr: 0x48b, bit: 32 + 14 },
  "vmx-rdseed-exit": { msr: 0x48b, bit: 32 + 16 },
  "vmx-pml": { msr: 0x48b, bit: 32 + 17 },
  "vmx-xsaves": { msr: 0x48b, bit: 32 + 20 },
  "vmx-mbec": { msr: 0x48b, bit: 32 + 22 },
  "vmx-tsc-scaling": { msr: 0x48b, bit: 32 + 25 },
  "vmx-ept-execonly": { msr: 0x48c, bit: 0 },
  "vmx-page-walk-5": { msr: 0x48c, bit: 7 },
  "vmx-ept-2mb": { msr: 0x48c, bit: 16 },
  "vmx-ept-1gb": { msr: 0x48c, bit: 17 },
  "vmx-eptad": { msr: 0x48c, bit: 21 },
  "vmx-ept-advanced-exitinfo": { msr: 0x48c, bit: 22 },
  "vmx-eptp-switching": { msr: 0x491, bit: 0 },
} as const satisfies Record<string, { msr: number; bit: number }>;

/** Name of an optional VMX capability. */
export type VmxFeature = keyof typeof VMX_FEATURES;

/** Everything about a CPU that does not change while it runs. */
export interface CpuModel {
  /** As the user wrote it, flags included. */
  readonly name: string;
  /** As CPUID leaf 0 tells. */
  readonly vendor: Vendor;
  /** Displayed family, model and stepping (extended parts included). */
  readonly family: number;
  readonly model: number;
  readonly stepping: number;
  /** Up to 48 characters for CPUID 80000002H–4H. */
  readonly brand: string;
  /** MAXPHYADDR. */
  readonly physicalAddressBits: number;
  /** Widest linear address: 57 with LA57, else 48. */
  readonly linearAddressBits: number;
  /** Highest basic CPUID leaf. */
  readonly maxLeaf: number;
  /** Highest extended CPUID leaf. */
  readonly maxExtendedLeaf: number;
  /** CPUID features. */
  readonly features: ReadonlySet<Feature>;
  /** Features that the processor has though CPUID does not show them. */
  readonly hidden: ReadonlySet<Feature>;
  /** Optional VMX capabilities. */
  readonly vmx: ReadonlySet<VmxFeature>;
  /** Departures from the manual (quirks.ts). */
  readonly quirks: ReadonlySet<Quirk>;
  /** VMCS revision identifier, bits 30:0 of IA32_VMX_BASIC. */
  readonly vmcsRevision: number;
  /** Whether the processor has the feature: shown by CPUID, or hidden. */
  has(feature: Feature): boolean;
  /** Whether the optional VMX capability is there. */
  hasVmx(feature: VmxFeature): boolean;
}

const words = <T extends string>(text: string): readonly T[] =>
  text.trim().split(/\s+/) as T[];

/** Features whose every instruction, bit and fault is modelled (or which promise nothing). */
export const MODELLED_FEATURES: ReadonlySet<Feature> = new Set(words<Feature>(`
  fpu vme de pse tsc msr pae mce cx8 apic x2apic tsc-deadline sep mtrr pge mca cmov
  pat pse36 clflush mmx fxsr sse sse2 ss monitor vmx cx16 pcid movbe popcnt rdrand hypervisor
  fsgsbase tsc-adjust bmi1 smep bmi2 erms invpcid rdseed adx smap pcommit
  clflushopt clwb umip la57 rdpid fsrm serialize lahf-lm cmp-legacy cr8legacy
  abm 3dnowprefetch syscall nx pdpe1gb rdtscp lm invtsc clzero rdpru wbnoinvd
  xsave xsaveopt xsavec xgetbv1 xsaves pku pks lam
  svm npt lbrv nrip-save tsc-scale vmcb-clean flushbyasid decodeassists
  pause-filter pfthreshold v-vmsave-vmload vgif vnmi gmet
  pni ssse3 sse4.1 sse4.2 aes pclmulqdq sha-ni`));

/** What any CPU with long mode has. */
const BASE = words<Feature>(`
  fpu vme de pse tsc msr pae mce cx8 apic sep mtrr pge mca cmov pat pse36 clflush
  mmx fxsr sse sse2 cx16 hypervisor syscall nx lm lahf-lm`);

const HASWELL = words<Feature>(`
  x2apic tsc-deadline ss vmx pcid movbe popcnt rdrand fsgsbase tsc-adjust bmi1 smep bmi2 erms
  invpcid abm rdtscp pdpe1gb xsave xsaveopt
  pni ssse3 sse4.1 sse4.2 aes pclmulqdq`);

const SKYLAKE = words<Feature>(`
  rdseed adx smap clflushopt clwb 3dnowprefetch xsavec xgetbv1 xsaves pku`);

/** Ice Lake server beside Skylake's; what is not modelled yet is left out. */
const ICELAKE = words<Feature>(`
  umip la57 rdpid fsrm wbnoinvd sha-ni`);

/** Zen (family 17H), as APM 3 and its CPUID tables list it. */
const ZEN1 = words<Feature>(`
  pni pclmulqdq monitor ssse3 sse4.1 sse4.2 movbe popcnt aes xsave rdrand
  fsgsbase bmi1 smep bmi2 rdseed adx smap clflushopt sha-ni xsaveopt xsavec
  xgetbv1 xsaves cmp-legacy svm cr8legacy abm sse4a misalignsse 3dnowprefetch
  mmxext fxsr-opt pdpe1gb rdtscp invtsc clzero npt nrip-save ht lbrv tsc-scale
  vmcb-clean flushbyasid decodeassists pause-filter pfthreshold
  v-vmsave-vmload vgif`);

/** Zen 3 (family 19H) beside Zen's. */
const ZEN3 = words<Feature>(`
  x2apic pcid invpcid umip pku rdpid erms fsrm clwb wbnoinvd rdpru gmet`);

/** Of what a processor has, what we model: a model shows only that. */
const modelled = (...lists: readonly (readonly Feature[])[]): Feature[] =>
  lists.flat().filter((f) => MODELLED_FEATURES.has(f));

const HASWELL_VMX = words<VmxFeature>(`
  vmx-preemption-timer vmx-vnmi vmx-monitor-trap-flag vmx-tsc-offset
  vmx-msr-bitmap vmx-io-bitmap vmx-secondary-ctls vmx-ept vmx-desc-exit
  vmx-rdtscp-exit vmx-vpid vmx-wbinvd-exit vmx-unrestricted-guest
  vmx-rdrand-exit vmx-invpcid-exit vmx-vmfunc vmx-eptp-switching
  vmx-ept-execonly vmx-ept-2mb vmx-ept-1gb vmx-eptad`);

const SKYLAKE_VMX = words<VmxFeature>(`
  vmx-mbec vmx-xsaves vmx-rdseed-exit vmx-pml vmx-tsc-scaling vmx-ept-advanced-exitinfo`);

interface ModelData {
  readonly vendor: Vendor;
  readonly family: number;
  readonly model: number;
  readonly stepping: number;
  readonly brand: string;
  readonly physicalAddressBits: number;
  readonly maxLeaf: number;
  readonly maxExtendedLeaf: number;
  readonly features: readonly Feature[];
  readonly hidden?: readonly Feature[];
  readonly vmx: readonly VmxFeature[];
}

const AMD_ONLY = new Set<Feature>(
  words(`
  cmp-legacy cr8legacy clzero rdpru svm npt nrip-save gmet sse4a misalignsse
  lbrv svm-lock tsc-scale vmcb-clean flushbyasid decodeassists pause-filter
  pfthreshold avic v-vmsave-vmload vgif vnmi
  mmxext fxsr-opt 3dnow 3dnowext skinit tbm`),
);
const INTEL_ONLY = new Set<Feature>(
  words(`vmx smx tsc-deadline pks lam pcommit ss`),
);

/** The architecture's limit (SDM 3A §4.1.4). */
const MAX_PHYSICAL_BITS = 52;

/** The models, by name. */
export const CPU_MODELS: Readonly<Record<string, ModelData>> = {
  "qemu64": {
    vendor: "AuthenticAMD",
    family: 15,
    model: 107,
    stepping: 1,
    brand: "vmtape virtual CPU (qemu64)",
    physicalAddressBits: 40,
    maxLeaf: 0xd,
    maxExtendedLeaf: 0x8000000a,
    features: BASE,
    vmx: [],
  },
  "haswell-server": {
    vendor: "GenuineIntel",
    family: 6,
    model: 60,
    stepping: 4,
    brand: "vmtape virtual CPU (Haswell)",
    physicalAddressBits: 40,
    maxLeaf: 0xd,
    maxExtendedLeaf: 0x80000008,
    features: [...BASE, ...HASWELL],
    vmx: HASWELL_VMX,
  },
  "skylake-server": {
    vendor: "GenuineIntel",
    family: 6,
    model: 85,
    stepping: 4,
    brand: "vmtape virtual CPU (Skylake)",
    physicalAddressBits: 40,
    maxLeaf: 0xd,
    maxExtendedLeaf: 0x80000008,
    features: [...BASE, ...HASWELL, ...SKYLAKE],
    vmx: [...HASWELL_VMX, ...SKYLAKE_VMX],
  },
  "icelake-server": {
    vendor: "GenuineIntel",
    family: 6,
    model: 106,
    stepping: 6,
    brand: "vmtape virtual CPU (Ice Lake)",
    physicalAddressBits: 46,
    maxLeaf: 0xd,
    maxExtendedLeaf: 0x80000008,
    features: modelled(BASE, HASWELL, SKYLAKE, ICELAKE),
    vmx: [...HASWELL_VMX, ...SKYLAKE_VMX],
  },
  "zen1": {
    vendor: "AuthenticAMD",
    family: 23,
    model: 1,
    stepping: 2,
    brand: "vmtape virtual CPU (Zen)",
    physicalAddressBits: 48,
    maxLeaf: 0xd,
    maxExtendedLeaf: 0x8000001f,
    features: modelled(BASE, ZEN1),
    vmx: [],
  },
  "zen3": {
    vendor: "AuthenticAMD",
    family: 25,
    model: 1,
    stepping: 1,
    brand: "vmtape virtual CPU (Zen 3)",
    physicalAddressBits: 48,
    maxLeaf: 0xd,
    maxExtendedLeaf: 0x8000001f,
    features: modelled(BASE, ZEN1, ZEN3),
    vmx: [],
  },
  // The ten features with which Linux still boots, and no more. It uses RDTSC
  // and CR4.PGE unasked, which every processor with long mode has.
  "minimal": {
    vendor: "GenuineIntel",
    family: 6,
    model: 15,
    stepping: 1,
    brand: "vmtape virtual CPU (minimal)",
    physicalAddressBits: 40,
    maxLeaf: 0xd,
    maxExtendedLeaf: 0x80000008,
    features: words<Feature>(`
      fpu msr pae cx8 cmov fxsr sse sse2 syscall lm`),
    hidden: ["tsc", "de", "pse", "mce", "pge", "mmx"],
    vmx: [],
  },
  "max-amd": {
    vendor: "AuthenticAMD",
    family: 25,
    model: 1,
    stepping: 1,
    brand: "vmtape virtual CPU (max-amd)",
    physicalAddressBits: 40,
    maxLeaf: 0xd,
    maxExtendedLeaf: 0x8000001f,
    features: [...MODELLED_FEATURES].filter((f) => !INTEL_ONLY.has(f)),
    vmx: [],
  },
  "max-intel": {
    vendor: "GenuineIntel",
    family: 6,
    model: 106,
    stepping: 6,
    brand: "vmtape virtual CPU (max-intel)",
    physicalAddressBits: 40,
    maxLeaf: 0xd,
    maxExtendedLeaf: 0x80000008,
    features: [...MODELLED_FEATURES].filter((f) => !AMD_ONLY.has(f)),
    vmx: Object.keys(VMX_FEATURES) as VmxFeature[],
  },
};

/** Flags that bring others along when switched off (they need this one). */
const NEEDS: Partial<Record<Feature, readonly Feature[]>> = {
  "npt": ["svm"],
  "gmet": ["svm", "npt"],
  "v-vmsave-vmload": ["svm", "npt"],
  "lbrv": ["svm"],
  "nrip-save": ["svm"],
  "tsc-scale": ["svm"],
  "vmcb-clean": ["svm"],
  "flushbyasid": ["svm"],
  "decodeassists": ["svm"],
  "pause-filter": ["svm"],
  "pfthreshold": ["svm", "pause-filter"],
  "vgif": ["svm"],
  "vnmi": ["svm"],
  "rdtscp": ["tsc"],
  "pdpe1gb": ["lm"],
  "la57": ["lm"],
  "lam": ["lm"],
  "pku": ["lm", "xsave"],
  "pks": ["lm"],
  "xsaveopt": ["xsave"],
  "x2apic": ["apic"],
  "tsc-deadline": ["apic"],
  "xsavec": ["xsave"],
  "xgetbv1": ["xsave"],
  "xsaves": ["xsave", "xsavec"],
  "pcid": ["lm"],
  "nx": ["pae"],
  "lm": ["pae", "msr"],
  "syscall": ["msr"],
};

/** `; did you mean "x"?`, or what is known when nothing is close. */
function hint(word: string, known: readonly string[]): string {
  const near = nearest(word, known);
  return near === undefined
    ? `; known are ${known.join(", ")}`
    : `; did you mean "${near}"?`;
}

const isFeature = (s: string): s is Feature => Object.hasOwn(FEATURES, s);
const isVmx = (s: string): s is VmxFeature => Object.hasOwn(VMX_FEATURES, s);
const isQuirk = (s: string): s is Quirk => Object.hasOwn(QUIRKS, s);

interface Draft extends Omit<ModelData, "features" | "hidden" | "vmx"> {
  features: Set<Feature>;
  hidden: Set<Feature>;
  vmx: Set<VmxFeature>;
  quirks: Set<Quirk>;
}

/** Refuses a flag that needs a feature which is off. */
function checkNeeds(draft: Draft, spec: string, name: Feature | Quirk): void {
  const needs = isQuirk(name) ? [QUIRKS[name].needs] : NEEDS[name] ?? [];
  const off = needs.find((feature) => !draft.features.has(feature));
  if (off === undefined) return;
  throw new ConfigError(
    `read CPU model "${spec}": flag "${name}" needs "${off}", which is off; ` +
      `add "+${off}" before it`,
  );
}

function applyFlag(
  draft: Draft,
  spec: string,
  on: boolean,
  flag: string,
): void {
  // Linux and the manuals write underscores and other names for a few.
  const name = flag.replaceAll("_", "-");
  if (isVmx(name)) {
    if (on) draft.vmx.add(name);
    else draft.vmx.delete(name);
    return;
  }
  if (isQuirk(name)) {
    if (on) checkNeeds(draft, spec, name);
    draft.quirks[on ? "add" : "delete"](name);
    return;
  }
  if (!isFeature(name)) {
    const known = [FEATURES, VMX_FEATURES, QUIRKS].flatMap(Object.keys);
    throw new ConfigError(
      `read CPU model "${spec}": no CPU flag is called "${flag}"` +
        hint(name, known),
    );
  }
  if (!on) {
    draft.features.delete(name);
    draft.hidden.delete(name);
    for (const [dependent, needs] of Object.entries(NEEDS)) {
      if (needs?.includes(name)) draft.features.delete(dependent as Feature);
    }
    for (const q of draft.quirks) {
      if (QUIRKS[q].needs === name) draft.quirks.delete(q);
    }
    return;
  }
  if (!MODELLED_FEATURES.has(name)) {
    throw new ConfigError(
      `read CPU model "${spec}": flag "${name}" is known but not modelled; ` +
        `leave out "+${flag}" (docs/DEVIATIONS.md lists what is missing)`,
    );
  }
  checkNeeds(draft, spec, name);
  draft.features.add(name);
}

const SETTINGS = ["phys-bits", "vendor", "family", "model", "stepping"];

function applySetting(
  draft: Draft,
  spec: string,
  key: string,
  value: string,
): Draft {
  const number = (low: number, high: number): number => {
    const n = Number(value);
    if (!Number.isInteger(n) || n < low || n > high) {
      throw new ConfigError(
        `read CPU model "${spec}": ${key}=${value} is no number from ${low} ` +
          `to ${high}; write for example ${key}=${low}`,
      );
    }
    return n;
  };
  switch (key) {
    case "phys-bits":
      return { ...draft, physicalAddressBits: number(32, MAX_PHYSICAL_BITS) };
    case "family":
      return { ...draft, family: number(0, 270) };
    case "model":
      return { ...draft, model: number(0, 255) };
    case "stepping":
      return { ...draft, stepping: number(0, 15) };
    case "vendor":
      if (value === "GenuineIntel" || value === "AuthenticAMD") {
        return { ...draft, vendor: value };
      }
      throw new ConfigError(
        `read CPU model "${spec}": vendor "${value}" is not known; write ` +
          `vendor=GenuineIntel or vendor=AuthenticAMD`,
      );
    default:
      throw new ConfigError(
        `read CPU model "${spec}": no setting is called "${key}"` +
          hint(key, SETTINGS),
      );
  }
}

/**
 * Reads a model with flags, as `--cpu` and scenarios write it.
 * @param spec e.g. `skylake-server,-pcid,+la57` or `qemu64,phys-bits=36`
 * @throws ConfigError naming the word at fault and the nearest spelling
 */
export function parseModel(spec: string): CpuModel {
  const [name, ...rest] = spec.split(",").map((s) => s.trim());
  if (!Object.hasOwn(CPU_MODELS, name)) {
    const known = Object.keys(CPU_MODELS);
    throw new ConfigError(
      `read CPU model "${spec}": no model is called "${name}"` +
        hint(name, known),
    );
  }
  const data = CPU_MODELS[name];
  let draft: Draft = {
    ...data,
    features: new Set(data.features),
    hidden: new Set(data.hidden),
    vmx: new Set(data.vmx),
    quirks: new Set(),
  };
  for (const word of rest) {
    if (word.startsWith("+")) applyFlag(draft, spec, true, word.slice(1));
    else if (word.startsWith("-")) applyFlag(draft, spec, false, word.slice(1));
    else if (word.includes("=")) {
      const [key, value] = word.split("=", 2);
      if (value === "on" || value === "off") {
        applyFlag(draft, spec, value === "on", key);
      } else draft = applySetting(draft, spec, key, value);
    } else {
      throw new ConfigError(
        `read CPU model "${spec}": "${word}" has no sign; write "+${word}" ` +
          `or "-${word}"`,
      );
    }
  }
  const { features, hidden, vmx } = draft;
  if (!features.has("vmx")) vmx.clear();
  return {
    ...draft,
    name: spec,
    linearAddressBits: features.has("la57") ? 57 : 48,
    features,
    vmx,
    vmcsRevision: 0x564d5400 >>> 1,
    hidden,
    has: (f) => features.has(f) || hidden.has(f),
    hasVmx: (f) => vmx.has(f),
  };
}
