/**
 * Where and when. A *moment* addresses a place on one tape; an *instant* is
 * what a handler is told. State exists only at step boundaries; the events of
 * step s are those from boundary s up to boundary s + 1.
 */

/** A place on a tape: before event `ordinal` of step `step`. */
export interface Moment {
  /** Steps completed before it. */
  readonly step: number;
  /** Index among the events of that step, in stream order; notes don't count. */
  readonly ordinal: number;
}

/** When something happened, in the machine's own clocks. */
export interface At {
  /** Steps completed before it. */
  readonly step: number;
  /** Virtual time in nanoseconds: steps plus idle time. */
  readonly time: number;
}

/** Negative, zero or positive as `a` is before, at or after `b`. */
export function compareMoments(a: Moment, b: Moment): number {
  return a.step - b.step || a.ordinal - b.ordinal;
}

/** `1234` for a boundary, `1234.5` for event 5 of step 1234. */
export function formatMoment(moment: Moment): string {
  return moment.ordinal === 0
    ? String(moment.step)
    : `${moment.step}.${moment.ordinal}`;
}

/**
 * Reads what `formatMoment` writes; underscores may group digits.
 * @throws RangeError when `text` is no moment
 */
export function parseMoment(text: string): Moment {
  const match = /^([0-9_]+)(?:\.([0-9_]+))?$/.exec(text.trim());
  const step = Number(match?.[1].replaceAll("_", "") || Number.NaN);
  const ordinal = Number(match?.[2]?.replaceAll("_", "") ?? 0);
  if (!Number.isSafeInteger(step) || !Number.isSafeInteger(ordinal)) {
    throw new RangeError(
      `expected a moment such as 1234 or 1234.5, found ${JSON.stringify(text)}`,
    );
  }
  return { step, ordinal };
}
