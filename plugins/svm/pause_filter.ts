/**
 * The PAUSE filter (APM 2 §15.14.4): with a filter count, that many executions
 * of PAUSE pass before one is intercepted; with a threshold, a PAUSE that comes
 * more than that many TSC cycles after the last one starts the count anew.
 */
import type { CpuContext } from "../../cpu/context.ts";
import { hostTsc } from "../../cpu/semantics/system/msr.ts";
import { SCRATCH } from "./scratch.ts";

/** Counts one PAUSE under the PAUSE intercept. @returns whether it exits */
export function pauseExits(cpu: CpuContext): boolean {
  const { v } = cpu;
  const count = v.word(SCRATCH.pauseCount);
  if (count === 0) return true;
  const threshold = v.word(SCRATCH.pauseThreshold);
  let left = v.word(SCRATCH.pauseLeft);
  if (threshold !== 0) {
    const now = hostTsc(cpu);
    const last = v.quad(SCRATCH.lastPause);
    v.setQuad(SCRATCH.lastPause, now);
    if (BigInt.asUintN(64, now - last) > BigInt(threshold)) left = count;
  }
  if (left === 0) return true;
  v.setWord(SCRATCH.pauseLeft, left - 1);
  return false;
}
