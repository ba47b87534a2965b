/**
 * What is known of single entries beyond their exit status: how many PASS lines
 * or tests of the guest's own summary make a pass, which are short enough for
 * the reference engine, which expect the processor that KVM presents where it
 * departs from the manual, and entries of ours that the checkout does not have.
 */
import type { Quirk } from "../../../cpu/arch/quirks.ts";
import type { CfgEntry } from "./unittests_cfg.ts";

/** One entry's expectations. */
export interface Known {
  /** PASS lines at least; none may be skipped. */
  readonly passes?: number;
  /** Tests in the guest's own SUMMARY line, none failed or skipped. */
  readonly summary?: number;
  /** Also run on the reference engine. */
  readonly short?: boolean;
  /**
   * What the image is told as TEST_DEVICE, 1 by default. With 1 the local APIC
   * tests call KVM's paravirtual send-IPI hypercall, which only KVM has.
   */
  readonly testDevice?: 0 | 1;
  /** Virtual nanoseconds of a step, where the entry does little but wait for time to pass. */
  readonly pace?: number;
  /** Quirks of the CPU model that it needs; the report names them. */
  readonly quirks?: readonly Quirk[];
  /** Plugins beside the default ones and testdev. */
  readonly plugins?: readonly (string | Record<string, unknown>)[];
}

/** They repeat something until 2^30 TSC ticks have gone by. */
const WAITING = [
  ...["cpuid", "mov_from_cr8", "mov_to_cr8", "inl_pmtimer", "cr0_wp"],
  ...["cr4_pge", "ipi", "ipi_halt", "ple_round_robin"],
  ...["tscdeadline", "tscdeadline_immed"],
];

/**
 * Both are written for guest hypervisors of KVM. Subtest `host_rflags` waits for
 * an instruction breakpoint on VMRUN, which a hypervisor executes with GIF = 0:
 * KVM's processor delivers it, the manual's discards it.
 */
const GUEST_HYPERVISOR: Known = {
  quirks: ["kvm-gif-breakpoints"],
  // svm_tsc_scale_test waits for 5 × 10^9 ticks, nine instructions a look.
  pace: 8,
};

/** By entry name. */
export const KNOWN: Readonly<Record<string, Known>> = {
  "x2apic": { testDevice: 0 },
  "xapic": { testDevice: 0, pace: 100 },
  ...Object.fromEntries(
    WAITING.map((name) => [`vmexit_${name}`, { pace: 100 }]),
  ),
  "svm": GUEST_HYPERVISOR,
  "svm_no_npt": GUEST_HYPERVISOR,
  // Its interrupts go through a BIOS's vectors.
  "realmode": { plugins: ["firmware"] },
  "setjmp": { passes: 10, short: true },
  "syscall": { passes: 2, short: true },
  "umip": { passes: 21, short: true },
  "memory": { passes: 7, short: true },
  "tsc": { passes: 3, short: true },
  "idt_test": { passes: 4, short: true },
  "smap": { passes: 18 },
  "rmap_chain": { passes: 1 },
  // With 52 physical address bits; each reserved one would add 216.
  "ept-mbec": { summary: 9568 },
  "ept-mbec emulated": {
    summary: 11648,
    plugins: ["hypervisor", { mbec: { exactness: "exact" } }],
  },
};

/** Our own: MBEC offered by the mbec plugin on a CPU without it. */
export const OURS: readonly OurEntry[] = [{
  name: "ept-mbec emulated",
  file: "vmx.flat",
  smp: 1,
  args: "ept_access*",
  params: ["-m", "2560"],
  groups: ["vmx"],
  arch: "x86_64",
  cpu: "haswell-server",
}];

/** An entry with its model. */
export interface OurEntry extends CfgEntry {
  readonly cpu: string;
}

/** Entries of the group `first-light`. */
export const FIRST_LIGHT: readonly string[] = Object.entries(KNOWN)
  .filter(([, { passes, summary }]) => (passes ?? summary) !== undefined)
  .map(([name]) => name);
