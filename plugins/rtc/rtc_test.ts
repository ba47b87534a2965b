/**
 * The clock against the data sheet: date and time over virtual time, data
 * modes, SET, CMOS RAM, and IRQ8 by its three sources; the calendar against
 * the host's.
 */
import { assertEquals } from "@std/assert";
import { DeviceBench } from "../../tests/support/devices.ts";
import { pic8259 } from "../pic8259/plugin.ts";
import { civil, secondsOf } from "./calendar.ts";
import { rtc } from "./plugin.ts";

const SECOND = 1_000_000_000;
/** 2023-12-31 23:59:58, a Sunday. */
const DATE = 1_704_067_198;

class Clock extends DeviceBench {
  constructor(date = DATE) {
    super([{ plugin: pic8259 }, { plugin: rtc, options: { date, phase: 0 } }]);
    // 8259 pair: initialized, only the cascade and IRQ8 unmasked.
    for (const [base, id] of [[0x20, 4], [0xa0, 2]]) {
      this.out(base, 0x11);
      this.out(base + 1, base === 0x20 ? 0x20 : 0x28);
      this.out(base + 1, id);
      this.out(base + 1, 3);
    }
  }
  get(register: number): number {
    this.out(0x70, register);
    return this.in(0x71);
  }
  set(register: number, value: number): void {
    this.out(0x70, register);
    this.out(0x71, value);
  }
  /** Year, month, day, weekday, hours, minutes, seconds as the registers hold them. */
  shown(): string {
    return [0x32, 9, 8, 7, 6, 4, 2, 0].map((r) =>
      this.get(r).toString(16).padStart(2, "0")
    ).join(" ");
  }
  /** IRQ8 waits in the second 8259. */
  get requested(): boolean {
    this.out(0xa0, 0x0a);
    return (this.in(0xa0) & 1) !== 0;
  }
}

Deno.test("date and time follow virtual time, BCD and 24 hours at first", () => {
  const c = new Clock();
  assertEquals(c.shown(), "20 23 12 31 01 23 59 58");
  c.until(SECOND);
  assertEquals(c.shown(), "20 23 12 31 01 23 59 59");
  c.until(2 * SECOND - 1);
  assertEquals(c.get(0), 0x59);
  c.until(2 * SECOND);
  assertEquals(c.shown(), "20 24 01 01 02 00 00 00");
  assertEquals(c.get(0x0a) & 0x80, 0, "UIP");
  assertEquals(c.get(0x0d), 0x80, "VRT");
});

Deno.test("binary and 12-hour modes (register B)", () => {
  const c = new Clock();
  c.set(0x0b, 0x06);
  assertEquals(c.shown(), "14 17 0c 1f 01 17 3b 3a");
  c.set(0x0b, 0x00);
  assertEquals(c.get(4), 0x11 | 0x80);
  c.set(0x0b, 0x04);
  assertEquals(c.get(4), 11 | 0x80);
  c.until(2 * SECOND);
  assertEquals(c.get(4), 12, "midnight is 12 AM");
});

Deno.test("SET holds the registers; the clock goes on from what was written", () => {
  const c = new Clock();
  c.set(0x0b, 0x82);
  c.until(5 * SECOND);
  assertEquals(c.get(0), 0x58);
  const written = [[0x32, 0x20], [9, 0x30], [8, 2], [7, 0x28], [4, 0x23], [
    2,
    0x59,
  ], [0, 0x59]];
  for (const [register, value] of written) c.set(register, value);
  c.until(6 * SECOND);
  c.set(0x0b, 0x02);
  assertEquals(c.shown(), "20 30 02 28 05 23 59 59");
  c.pass(SECOND);
  assertEquals(c.shown(), "20 30 03 01 06 00 00 00");
});

Deno.test("a write to a running clock moves it by that much", () => {
  const c = new Clock();
  c.set(2, 0x30);
  c.pass(3 * SECOND);
  assertEquals(c.shown(), "20 23 12 31 01 23 31 01");
});

Deno.test("CMOS RAM keeps bytes, bit 7 of the index is no part of it", () => {
  const c = new Clock();
  for (let i = 0x0e; i < 0x80; i++) if (i !== 0x32) c.set(i, i ^ 0xff);
  for (let i = 0x0e; i < 0x80; i++) {
    if (i !== 0x32) assertEquals(c.get(0x80 | i), i ^ 0xff);
  }
});

Deno.test("periodic interrupts come at the rate of register A until C is read", () => {
  const c = new Clock();
  c.set(0x0a, 0x26); // 1024 Hz
  c.set(0x0b, 0x42);
  assertEquals(c.requested, false);
  const period = SECOND / 1024;
  c.until(Math.ceil(3 * period) - 1);
  c.get(0x0c);
  c.until(Math.ceil(3 * period));
  assertEquals(c.requested, true);
  assertEquals(c.get(0x0c), 0xc0);
  assertEquals(c.get(0x0c), 0x00);
  c.set(0x0b, 0x02);
  c.pass(SECOND);
  assertEquals(c.get(0x0c), 0x00);
});

Deno.test("UIP announces each update by 244 µs, but not while SET holds", () => {
  const c = new Clock();
  const uip = (): number => c.get(0xa) >> 7;
  for (let second = 1; second <= 3; second++) {
    c.until(second * SECOND - 244_001);
    assertEquals(uip(), 0);
    c.until(second * SECOND - 244_000);
    assertEquals(uip(), 1);
    c.until(second * SECOND - 1);
    assertEquals(uip(), 1);
    c.until(second * SECOND);
    assertEquals(uip(), 0);
  }
  c.set(0xb, 0x82);
  c.until(4 * SECOND - 1000);
  assertEquals(uip(), 0);
});

Deno.test("the phase: how much of the first second had passed", () => {
  const c = new DeviceBench([
    { plugin: rtc, options: { date: DATE, phase: 990_000_000 } },
  ]);
  const second = (): number => {
    c.out(0x70, 0);
    return c.in(0x71);
  };
  c.until(9_999_999);
  assertEquals(second(), 0x58);
  c.until(10_000_000);
  assertEquals(second(), 0x59);
  c.until(1_010_000_000);
  assertEquals(second(), 0x00);
});

Deno.test("update-ended interrupt each second", () => {
  const c = new Clock();
  c.set(0x0b, 0x12);
  c.until(SECOND - 1);
  assertEquals(c.get(0x0c), 0);
  c.until(SECOND);
  assertEquals([c.requested, c.get(0x0c)], [true, 0x90]);
  c.until(2 * SECOND);
  // The alarm at 00:00:00 matched too, but isn't enabled.
  assertEquals(c.get(0x0c), 0xb0);
});

Deno.test("the alarm compares, values from 0xc0 match anything", () => {
  const c = new Clock();
  c.set(1, 0x01);
  c.set(3, 0xff);
  c.set(5, 0x00);
  c.set(0x0b, 0x22);
  c.until(3 * SECOND - 1); // 00:00:00 passed
  assertEquals(c.get(0x0c) & 0xa0, 0);
  c.until(3 * SECOND);
  assertEquals(c.get(0x0c) & 0xa0, 0xa0);
  c.until(60 * SECOND);
  assertEquals(c.get(0x0c) & 0xa0, 0);
  c.until(63 * SECOND);
  assertEquals(c.get(0x0c) & 0xa0, 0xa0);
});

Deno.test("the calendar agrees with another", () => {
  for (let day = -200_000; day < 200_000; day += 37) {
    const seconds = day * 86_400 + (day * 7919 % 86_400 + 86_400) % 86_400;
    const date = new Date(seconds * 1000);
    const got = civil(seconds);
    assertEquals([
      got.year,
      got.month,
      got.day,
      got.hour,
      got.minute,
      got.second,
    ], [
      date.getUTCFullYear(),
      date.getUTCMonth() + 1,
      date.getUTCDate(),
      date.getUTCHours(),
      date.getUTCMinutes(),
      date.getUTCSeconds(),
    ]);
    if (day >= 0) assertEquals(got.weekDay, date.getUTCDay() + 1);
    assertEquals(secondsOf(got), seconds);
  }
});
