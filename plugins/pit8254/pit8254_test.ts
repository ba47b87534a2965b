/**
 * The 8254 against its data sheet: every mode's output and count over time,
 * loading, latches, read-back, port 0x61's gate, and what IRQ0 does.
 */
import { assert, assertEquals, assertThrows } from "@std/assert";
import { NotModelled } from "../../core/errors.ts";
import { DeviceBench } from "../../tests/support/devices.ts";
import { pic8259 } from "../pic8259/plugin.ts";
import { nanosecondsFor, pit8254, ticksIn } from "./plugin.ts";

class Pit extends DeviceBench {
  /** Tick at which a test began. */
  base = 0;
  constructor() {
    super([{ plugin: pic8259 }, { plugin: pit8254 }]);
    for (const value of [0x20, 4, 3]) {
      if (value === 0x20) this.out(0x20, 0x11);
      this.out(0x21, value);
    }
    this.tick(ticksIn(this.now) + 10);
  }
  /** Lets time pass to the start of a tick of the input clock. */
  tick(n: number): void {
    this.until(nanosecondsFor(n));
    this.base = n;
  }
  /** Loads a count of both bytes, at a tick's start. */
  program(channel: number, mode: number, count: number): void {
    this.out(0x43, channel << 6 | 0x30 | mode << 1);
    this.out(0x40 + channel, count & 0xff);
    this.out(0x40 + channel, count >> 8);
  }
  /** Latched count. */
  count(channel: number): number {
    this.out(0x43, channel << 6);
    const low = this.in(0x40 + channel);
    return low | this.in(0x40 + channel) << 8;
  }
  status(channel: number): number {
    this.out(0x43, 0xe0 | 2 << channel);
    return this.in(0x40 + channel);
  }
  /** OUT by read-back. */
  high(channel: number): boolean {
    return (this.status(channel) & 0x80) !== 0;
  }
  gate(on: boolean): void {
    this.out(0x61, on ? 1 : 0);
  }
  /** OUT and count of channel 2 at the next `n` ticks. */
  trace(n: number): string {
    const seen: string[] = [];
    for (let i = 0; i < n; i++) {
      this.tick(this.base + (i === 0 ? 0 : 1));
      seen.push(`${this.count(2)}${this.high(2) ? "+" : "-"}`);
    }
    return seen.join(" ");
  }
}

Deno.test("ticks and nanoseconds convert exactly, for hours", () => {
  for (const tick of [0, 1, 2, 1193182, 1193183, 65536 * 1000, 1e10]) {
    const ns = nanosecondsFor(tick);
    assertEquals(ticksIn(ns), tick);
    if (tick > 0) assertEquals(ticksIn(ns - 1), tick - 1);
  }
});

Deno.test("at first channel 0 counts as firmware left it, without interrupts", () => {
  const p = new Pit();
  assertEquals(p.status(0) & 0x7f, 0x36, "loaded, both bytes, mode 3");
  const first = p.count(0);
  p.tick(p.base + 10);
  assertEquals(p.count(0), first - 20, "mode 3 counts by two");
  p.tick(p.base + 2 * 65536);
  p.out(0x20, 0x0a); // OCW3: read the request register
  assertEquals(p.in(0x20) & 1, 0);
  p.program(0, 2, 100);
  p.tick(p.base + 200);
  assertEquals(p.in(0x20) & 1, 1);
});

Deno.test("output and count of every mode, gate high", () => {
  const rows: [number, number, string][] = [
    [0, 3, "3- 2- 1- 0+ 65535+ 65534+"],
    [2, 3, "3+ 2+ 1- 3+ 2+ 1- 3+"],
    [3, 4, "4+ 2+ 4- 2- 4+ 2+ 4-"],
    [3, 5, "4+ 2+ 0+ 4- 2- 4+ 2+"],
    [4, 3, "3+ 2+ 1+ 0- 65535+"],
    // Modes 6 and 7 are 2 and 3.
    [6, 3, "3+ 2+ 1- 3+"],
    [7, 4, "4+ 2+ 4- 2- 4+"],
  ];
  for (const [mode, count, due] of rows) {
    const p = new Pit();
    p.gate(true);
    p.program(2, mode, count);
    assertEquals(p.trace(due.split(" ").length), due, `mode ${mode}`);
  }
});

Deno.test("modes 1 and 5 wait for the gate and restart with it", () => {
  for (const [mode, due] of [[1, "3- 2- 1- 0+"], [5, "3+ 2+ 1+ 0- 65535+"]]) {
    const p = new Pit();
    p.program(2, Number(mode), 3);
    assertEquals(p.trace(3), "3+ 3+ 3+");
    p.gate(true);
    assertEquals(p.trace(String(due).split(" ").length), due);
    p.gate(false);
    p.gate(true);
    assertEquals(p.trace(2), String(due).split(" ").slice(0, 2).join(" "));
  }
});

Deno.test("gate low: modes 0 and 4 stand still, 2 and 3 are high and start anew", () => {
  for (const mode of [0, 4]) {
    const p = new Pit();
    p.program(2, mode, 9);
    assertEquals(p.count(2), 9, "loaded with the gate low");
    p.tick(p.base + 4);
    assertEquals(p.count(2), 9);
    p.gate(true);
    p.tick(p.base + 4);
    p.gate(false);
    assertEquals(p.count(2), 5);
    p.tick(p.base + 100);
    assertEquals(p.count(2), 5);
    p.gate(true);
    p.tick(p.base + 4);
    assertEquals(p.count(2), 1);
    assertEquals(p.high(2), mode === 4);
    p.tick(p.base + 1);
    assertEquals(p.high(2), mode === 0);
  }
  for (const mode of [2, 3]) {
    const p = new Pit();
    p.gate(true);
    p.program(2, mode, 4);
    p.tick(p.base + 3);
    assert(!p.high(2));
    p.gate(false);
    assert(p.high(2));
    p.tick(p.base + 2);
    assert(p.high(2));
    p.gate(true);
    assertEquals(p.count(2), 4);
    p.tick(p.base + 3);
    assert(!p.high(2));
  }
});

Deno.test("loading: low, high, both bytes; zero is 65536; mode 0 stops on the first", () => {
  const p = new Pit();
  p.gate(true);
  p.out(0x43, 0x90 | 4); // low byte only, mode 2
  p.out(0x42, 7);
  assertEquals(p.in(0x42), 7);
  p.out(0x43, 0xa0 | 4); // high byte only
  p.out(0x42, 7);
  assertEquals(p.in(0x42), 7);
  p.tick(p.base + 1);
  assertEquals(p.in(0x42), 6);
  p.program(2, 2, 0);
  assertEquals(p.count(2), 0);
  p.tick(p.base + 1);
  assertEquals(p.count(2), 65535);
  p.program(2, 0, 0x1234);
  p.tick(p.base + 4);
  p.out(0x42, 0x10);
  p.tick(p.base + 4);
  assertEquals(p.status(2) & 0x40, 0x40, "null count");
  p.out(0x42, 0);
  assertEquals(p.status(2) & 0x40, 0);
  assertEquals(p.count(2), 0x10);
  // Without a latch, low and high byte alternate on the running count.
  p.program(2, 0, 0x1200);
  assertEquals([p.in(0x42), p.in(0x42)], [0x00, 0x12]);
});

Deno.test("latches hold until read; a second latch command is ignored", () => {
  const p = new Pit();
  p.gate(true);
  p.program(2, 2, 1000);
  p.tick(p.base + 10);
  p.out(0x43, 0x80);
  p.tick(p.base + 10);
  p.out(0x43, 0x80);
  p.tick(p.base + 10);
  assertEquals(p.in(0x42) | p.in(0x42) << 8, 990);
  assertEquals(p.count(2), 970);
});

Deno.test("read-back: status first, then count; several channels at once", () => {
  const p = new Pit();
  p.gate(true);
  p.program(0, 2, 500);
  p.program(2, 3, 700);
  p.tick(p.base + 20);
  p.out(0x43, 0xc0 | 2 | 8); // status and count of 0 and 2
  p.tick(p.base + 20);
  assertEquals(p.in(0x40), 0x80 | 0x30 | 4);
  assertEquals(p.in(0x40) | p.in(0x40) << 8, 480);
  assertEquals(p.in(0x42), 0x80 | 0x30 | 6);
  assertEquals(p.in(0x42) | p.in(0x42) << 8, 660);
  p.out(0x43, 0x54); // channel 1: low byte, mode 2, not loaded
  p.out(0x43, 0xe0 | 4);
  assertEquals(p.in(0x41), 0x80 | 0x40 | 0x10 | 4);
  p.out(0x43, 0xd0 | 8); // count only
  assertEquals(p.in(0x42) | p.in(0x42) << 8, 620);
  assertEquals(p.in(0x43), 0xff);
});

Deno.test("port 0x61: gate and speaker bits, channel 2's output, the refresh toggle", () => {
  const p = new Pit();
  p.out(0x61, 0xff);
  assertEquals(p.in(0x61) & 0xf, 3);
  p.program(2, 0, 100);
  assertEquals(p.in(0x61) & 0x20, 0);
  p.tick(p.base + 99);
  assertEquals(p.in(0x61) & 0x20, 0);
  p.tick(p.base + 1);
  assertEquals(p.in(0x61) & 0x20, 0x20);
  const seen = new Set<number>();
  for (let i = 0; i < 40; i++) {
    p.pass(1000);
    seen.add(p.in(0x61) & 0x10);
  }
  assertEquals(seen.size, 2);
});

/** Moments, in ticks since the load, at which IRQ0 was requested. */
function requests(p: Pit, from: number, ticks: number): number[] {
  const out: number[] = [];
  const start = p.base;
  for (let t = from; t <= ticks; t++) {
    p.tick(start + t);
    if (!p.pic.asserted) continue;
    out.push(t);
    p.pic.acknowledge();
  }
  return out;
}

Deno.test("IRQ0: periodic modes at every period, one-shot modes once, no edge on setting up", () => {
  const rows: [number, number[]][] = [
    [0, [7]],
    [2, [7, 14, 21, 28]],
    [3, [7, 14, 21, 28]],
    [4, [8]],
    [1, []],
    [5, []],
  ];
  for (const [mode, due] of rows) {
    const p = new Pit();
    p.program(0, mode, 7);
    assertEquals(requests(p, 0, 30), due, `mode ${mode}`);
  }
  // OUT low in mode 0, then a mode that sets it high: an edge.
  const p = new Pit();
  p.program(0, 0, 1000);
  p.tick(p.base + 1);
  assert(!p.pic.asserted);
  p.out(0x43, 0x34);
  assert(p.pic.asserted);
  p.pic.acknowledge();
  // Reloading mode 0 starts it again.
  const q = new Pit();
  q.program(0, 0, 7);
  assertEquals(requests(q, 0, 10), [7]);
  q.out(0x40, 5);
  q.out(0x40, 0);
  assertEquals(requests(q, 0, 10), [5]);
});

Deno.test("periodic interrupts don't drift over 10,000 periods", () => {
  const p = new Pit();
  const start = p.base;
  p.program(0, 2, 1193);
  let seen = 0;
  for (let n = 1; n <= 10_000; n++) {
    p.until(nanosecondsFor(start + n * 1193));
    if (!p.pic.asserted) continue;
    seen++;
    p.pic.acknowledge();
  }
  assertEquals(seen, 10_000);
});

Deno.test("BCD counting says that it is missing", () => {
  assertThrows(() => new Pit().out(0x43, 0x35), NotModelled);
});
