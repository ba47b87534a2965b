/**
 * Quirks: where a real processor, or the one that a hypervisor presents to its
 * guest, departs from the manual. CPUID tells none of them, so a CPU model has
 * one only if its words ask for it (`max-amd,+kvm-gif-breakpoints`); without,
 * the model does what the manual says.
 */
import type { Feature } from "./cpuid.ts";

/** Every quirk, with the feature without which it means nothing. */
export const QUIRKS = {
  /**
   * Breakpoint matches (instruction, data, I/O) raise #DB while GIF is 0, which
   * by APM 2 table 15-10 ignores and discards them. KVM's guest hypervisors see
   * this: KVM leaves debug registers to hardware, whose own GIF is 1 then, and a
   * virtual GIF of 0 holds no #DB either (Linux,
   * Documentation/virt/kvm/x86/errata.rst, nested virtualization features).
   */
  "kvm-gif-breakpoints": { needs: "svm" },
} as const satisfies Record<string, { readonly needs: Feature }>;

/** Name of a quirk. */
export type Quirk = keyof typeof QUIRKS;
