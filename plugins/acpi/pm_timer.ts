/**
 * The ACPI power-management timer (ACPI 6.5 §4.8.3.3): 3.579545 MHz, 24 bits,
 * a function of virtual time in integer arithmetic. TMR_STS says that bit 23
 * has changed since it was cleared; only that is remembered.
 */

/** Frequency in Hz. */
export const PM_TIMER_HZ = 3_579_545;
const SECOND = 1_000_000_000;
const HALF = 1 << 23;

/** Ticks in `ns`, rounded down, exact. */
export function pmTicks(ns: number): number {
  const seconds = Math.floor(ns / SECOND);
  const rest = ns - seconds * SECOND;
  // 10^9 × 3.6·10^6 < 2^53
  return seconds * PM_TIMER_HZ + Math.floor(rest * PM_TIMER_HZ / SECOND);
}

/** The counter at virtual time `ns`. */
export function pmTimer(ns: number): number {
  return pmTicks(ns) % (2 * HALF);
}

/** How many times bit 23 has changed until `ns`. */
export function pmToggles(ns: number): number {
  return Math.floor(pmTicks(ns) / HALF);
}

/** Virtual time at which it changes for the `n`-th time. */
export function pmToggleTime(n: number): number {
  const ticks = n * HALF;
  const seconds = Math.floor(ticks / PM_TIMER_HZ);
  return seconds * SECOND +
    Math.ceil((ticks - seconds * PM_TIMER_HZ) * SECOND / PM_TIMER_HZ);
}
