/**
 * Vectors that no engine of ours reproduces, each with the manual's word on it.
 */
import type { SiliconCase } from "./vectors.ts";

/** Why a recorded case is not followed; undefined for all others. */
export function notFollowed(c: SiliconCase): string | undefined {
  if (c.form === "Int1" && c.fault?.vector === 1) {
    // The recording ran under a hypervisor that intercepts #DB and injects it
    // again with RIP at the instruction. By APM vol. 2 §8.2.2 and SDM 2A INT1
    // the saved RIP is that of the next instruction, as with any trap.
    return "INT1: recorded through a hypervisor's re-injection of #DB";
  }
  return undefined;
}

/** Features that no CPU model shows, so that their forms are #UD. */
export const ABSENT_FORMS = /^Xsaves|^Xrstors/;
