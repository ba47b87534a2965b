/**
 * Where a result may differ from what silicon did, each with the manual's word
 * on it. Whatever is not listed here must be equal, bit for bit.
 */

/** Differences that are no disagreement. */
export const ALLOWANCES = {
  flags: {
    what: "flags that the instruction leaves undefined",
    manual: 'SDM 2 and APM 3, "Flags Affected" of each instruction',
  },
  "last-bit": {
    what: "the last bit of a transcendental result, with C1 and PE: the " +
      "manual bounds the error by one unit in the last place",
    manual: "SDM 1 §8.3.10",
  },
  host: {
    what: "clock, entropy, CPUID and XCR0 of the recording host",
    manual: "SDM 2A CPUID, 2B RDPID, RDRAND, RDSEED, RDTSC, 2D XGETBV",
  },
  pointers: {
    what: "x87's last-instruction pointers, which AMD's signal frames hold " +
      "only while an exception is pending: the recording does not know them",
    manual: "APM 3 FXSAVE",
  },
  kernel: {
    what: "P of a page fault's error code in the upper half of the address " +
      "space: what the recording host's kernel has mapped there",
    manual: "SDM 3A §4.7",
  },
} as const;

/** Key of an allowance. */
export type Allowance = keyof typeof ALLOWANCES;
