/**
 * The civil calendar as integer arithmetic: days since 1970-01-01 to year,
 * month and day of the proleptic Gregorian calendar, and back.
 * Invariant: no host clock, no Date: results follow from the argument alone.
 */

/** A date and a time of day. */
export interface CivilTime {
  readonly year: number;
  /** 1 to 12. */
  readonly month: number;
  /** 1 to 31. */
  readonly day: number;
  readonly hour: number;
  readonly minute: number;
  readonly second: number;
}

const DAY = 86_400;
/** Days of the 400-year cycle. */
const CYCLE = 146_097;
/** Days from 0000-03-01 to 1970-01-01. */
const EPOCH = 719_468;

/** Days from 0000-03-01: years counted from March have their leap day last. */
function daysOf(year: number, month: number, day: number): number {
  const y = month <= 2 ? year - 1 : year;
  const m = (month + 9) % 12;
  return y * 365 + Math.floor(y / 4) - Math.floor(y / 100) +
    Math.floor(y / 400) + Math.floor((153 * m + 2) / 5) + day - 1;
}

/** Seconds since 1970-01-01 00:00 UTC; fields out of range count on. */
export function secondsOf(time: CivilTime): number {
  const days = daysOf(time.year, time.month, time.day) - EPOCH;
  return days * DAY + time.hour * 3600 + time.minute * 60 + time.second;
}

/** The date and time that many seconds after 1970; `weekDay` 1 is Sunday. */
export function civil(seconds: number): CivilTime & { weekDay: number } {
  const days = Math.floor(seconds / DAY);
  const rest = seconds - days * DAY;
  const from = days + EPOCH;
  const cycle = Math.floor(from / CYCLE);
  const dayOfCycle = from - cycle * CYCLE;
  const yearOfCycle = Math.floor(
    (dayOfCycle - Math.floor(dayOfCycle / 1460) +
      Math.floor(dayOfCycle / 36_524) - Math.floor(dayOfCycle / 146_096)) / 365,
  );
  const dayOfYear = dayOfCycle -
    (365 * yearOfCycle + Math.floor(yearOfCycle / 4) -
      Math.floor(yearOfCycle / 100));
  const m = Math.floor((5 * dayOfYear + 2) / 153);
  const month = m < 10 ? m + 3 : m - 9;
  return {
    year: cycle * 400 + yearOfCycle + (month <= 2 ? 1 : 0),
    month,
    day: dayOfYear - Math.floor((153 * m + 2) / 5) + 1,
    hour: Math.floor(rest / 3600),
    minute: Math.floor(rest / 60) % 60,
    second: rest % 60,
    // 1970-01-01 was a Thursday.
    weekDay: (days + 4) % 7 + 1,
  };
}
