/**
 * The lean machine of `platform.md`, in words: Debian's cloud kernel on one
 * vCPU that shows no local APIC. System tests and benches boot the same one.
 */
export const LEAN = {
  cpu: "qemu64,-apic",
  megabytes: 128,
  /**
   * Console on the serial port; a reboot is a triple fault; addresses as in
   * kallsyms; no self-tests of the crypto code, a third of a boot.
   */
  append: "console=ttyS0 reboot=t nokaslr cryptomgr.notests",
  /** busybox ash's. */
  prompt: "/ # ",
} as const;

/** Exit status of a machine that `reboot=t` ended. */
export const TRIPLE_FAULT = 6;
