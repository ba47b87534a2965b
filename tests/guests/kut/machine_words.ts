/**
 * QEMU's words of an entry as a machine of ours: CPU model and flags, memory.
 * Tables: QEMU's model names onto our models; flags that say nothing about the
 * guest's machine. Memory above what a machine can have is cut to that.
 */
import { type Feature, FEATURES } from "../../../cpu/arch/cpuid.ts";
import { MODELLED_FEATURES, VMX_FEATURES } from "../../../cpu/arch/models.ts";
import type { Quirk } from "../../../cpu/arch/quirks.ts";
import { NotModelled } from "../../../mod.ts";
import { MAX_RAM_BYTES } from "../../../cpu/layout.ts";
import type { CfgEntry } from "./unittests_cfg.ts";

/**
 * QEMU's model, and which of ours stands for it: with `svm` on, and without.
 * KVM's AMD processor never shows RDPRU, and unittests.cfg relies on it.
 */
const MODELS: Readonly<Record<string, { plain: string; svm?: string }>> = {
  "qemu64": { plain: "qemu64" },
  "max": { plain: "max-intel", svm: "max-amd,-rdpru" },
  "host": { plain: "max-intel", svm: "max-amd,-rdpru" },
  "IvyBridge": { plain: "haswell-server" },
  "Skylake-Server": { plain: "skylake-server" },
  "Opteron_G1": { plain: "qemu64" },
};
/** The guest's addresses are as wide as the host's. */
const HOST_WIDTH = /^host-phys-bits(=on)?$/;
/**
 * What QEMU takes when `-cpu` is not given. KVM gives it the host's vendor;
 * `emulator` needs Intel's: AMD has no far JMP to a 64-bit offset (APM 3 JMP).
 */
const DEFAULT_MODEL = "qemu64,vendor=GenuineIntel";
/** Words about QEMU's host, not about the guest's CPU. */
const HOST_WORD = /^(host-phys-bits|migratable|hv_passthrough)(=|$)/;
/** MiB when `-m` is not given. */
const DEFAULT_MEMORY = 128;
const MIB = 2 ** 20;

/** What an entry runs on. */
export interface Machine {
  /** As `--cpu` takes it. */
  readonly cpu: string;
  /** MiB. */
  readonly memory: number;
}

function after(params: readonly string[], option: string): string | undefined {
  const at = params.indexOf(option);
  return at < 0 ? undefined : params[at + 1];
}

const known = (flag: string): boolean => {
  const name = flag.replaceAll("_", "-");
  return Object.hasOwn(FEATURES, name) || Object.hasOwn(VMX_FEATURES, name);
};

/** Refuses what we know of and do not model. */
function check(flag: string): void {
  const name = flag.slice(1).replaceAll("_", "-");
  if (!flag.startsWith("+") || !Object.hasOwn(FEATURES, name)) return;
  if (MODELLED_FEATURES.has(name as Feature)) return;
  throw new NotModelled(`CPU feature ${name}`, "SDM 2A CPUID");
}

/**
 * @param quirks of the CPU model, beyond the entry's words
 * @throws Error if QEMU's CPU model has no counterpart
 * @throws NotModelled if a feature is not modelled
 */
export function machineOf(
  { params }: CfgEntry,
  quirks: readonly Quirk[] = [],
): Machine {
  const [model, ...flags] = (after(params, "-cpu") ?? DEFAULT_MODEL).split(",");
  if (!Object.hasOwn(MODELS, model)) {
    throw new Error(`no model of ours stands for QEMU's ${model}`);
  }
  const { plain, svm } = MODELS[model];
  const kept = flags.filter((flag) =>
    !HOST_WORD.test(flag) &&
    // What we have no name for is off in any case.
    !(flag.startsWith("-") && !known(flag.slice(1)))
  );
  // Hosts of today have 52 bits; a test with reserved address bits is longer without.
  if (flags.some((f) => HOST_WIDTH.test(f))) kept.unshift("phys-bits=52");
  kept.forEach(check);
  const base = flags.includes("+svm") && svm !== undefined ? svm : plain;
  const size = /^(\d+)([mMgG]?)$/.exec(after(params, "-m") ?? "");
  const asked = size === null
    ? DEFAULT_MEMORY
    : Number(size[1]) * (/g/i.test(size[2]) ? 1024 : 1);
  return {
    cpu: [base, ...kept, ...quirks.map((quirk) => `+${quirk}`)].join(","),
    memory: Math.min(asked, MAX_RAM_BYTES / MIB),
  };
}
