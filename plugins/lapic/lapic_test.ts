/**
 * The local APIC against SDM 3A chapter 11: register file, priorities, IPIs,
 * LVT masks, errors, timer, base MSR, ExtINT.
 */
import { assert, assertEquals, assertThrows } from "@std/assert";
import { NotModelled } from "../../core/errors.ts";
import { EventRequest } from "../../cpu/layout.ts";
import { DeviceBench } from "../../tests/support/devices.ts";
import { pic8259 } from "../pic8259/plugin.ts";
import { LapicAccepted, LapicTimerExpired } from "./api.ts";
import { lapic } from "./plugin.ts";

const BASE = 0xfee00000;
const MSR = 0x1b;
const REG = {
  id: 0x20,
  version: 0x30,
  tpr: 0x80,
  ppr: 0xa0,
  eoi: 0xb0,
  ldr: 0xd0,
  dfr: 0xe0,
  svr: 0xf0,
  isr: 0x100,
  tmr: 0x180,
  irr: 0x200,
  esr: 0x280,
  icrLow: 0x300,
  icrHigh: 0x310,
  lvtTimer: 0x320,
  thermal: 0x330,
  performance: 0x340,
  lint0: 0x350,
  lint1: 0x360,
  lvtError: 0x370,
  initial: 0x380,
  current: 0x390,
  divide: 0x3e0,
} as const;
const SELF = 0x40000;
const MASKED = 0x10000;
const PERIODIC = 0x20000;

class Apic extends DeviceBench {
  constructor(model?: string) {
    super([{ plugin: pic8259 }, { plugin: lapic }], model);
  }
  get(register: number): number {
    return this.read(BASE + register);
  }
  set(register: number, value: number): void {
    this.write(BASE + register, value >>> 0);
  }
  self(...vectors: number[]): void {
    for (const vector of vectors) this.set(REG.icrLow, SELF | vector);
  }
  errors(): number {
    this.set(REG.esr, 0);
    return this.get(REG.esr);
  }
  bits(first: number): number[] {
    const out: number[] = [];
    for (let v = 0; v < 256; v++) {
      if (this.get(first + (v >> 5) * 16) >>> (v & 31) & 1) out.push(v);
    }
    return out;
  }
}

Deno.test("reset values, as firmware leaves them", () => {
  const a = new Apic();
  assertEquals(a.get(REG.version), 0x50014);
  assertEquals(a.get(REG.svr), 0x1ff);
  assertEquals(a.get(REG.dfr), 0xffffffff);
  assertEquals(a.get(REG.lint0), 0x700);
  assertEquals(a.get(REG.lint1), 0x400);
  for (
    const lvt of [REG.lvtTimer, REG.thermal, REG.performance, REG.lvtError]
  ) {
    assertEquals(a.get(lvt), MASKED);
  }
  assertEquals(a.get(REG.current), 0);
});

Deno.test("writable bits of every register", () => {
  const a = new Apic();
  a.set(REG.divide, 0xb);
  const rows: [number, number][] = [
    [REG.id, 0xff000000],
    [REG.ldr, 0xff000000],
    [REG.dfr, 0xffffffff],
    [REG.tpr, 0xff],
    [REG.svr, 0x3ff],
    [REG.lvtTimer, 0x700ff],
    [REG.thermal, 0x107ff],
    [REG.performance, 0x107ff],
    [REG.lint0, 0x1a7ff],
    [REG.lint1, 0x1a7ff],
    [REG.lvtError, 0x100ff],
    [REG.icrHigh, 0xff000000],
    [REG.divide, 0xb],
    [REG.version, 0x50014],
  ];
  for (const [register, ones] of rows) {
    a.set(register, 0xffffffff);
    assertEquals(a.get(register), ones, register.toString(16));
  }
  a.set(REG.dfr, 0);
  assertEquals(a.get(REG.dfr), 0x0fffffff);
  // Software-enabled: LVT mask bits can be cleared. Read-only ones stay.
  a.set(REG.lvtTimer, 0x30);
  assertEquals(a.get(REG.lvtTimer), 0x30);
  for (const register of [REG.isr, REG.irr, REG.tmr, REG.ppr, REG.current]) {
    a.set(register, 0xffffffff);
    assertEquals(a.get(register) & 0xfffff0ff, register === REG.ppr ? 0xff : 0);
  }
});

Deno.test("IRR to ISR by priority class; EOI ends the highest; PPR follows", () => {
  const a = new Apic();
  const accepted = a.collect(LapicAccepted);
  a.self(0x31, 0x55, 0x58);
  a.settle();
  assertEquals(accepted.map((e) => e.vector), [0x31, 0x55, 0x58]);
  assertEquals(a.bits(REG.irr), [0x31, 0x55, 0x58]);
  assert(a.interrupt);
  assertEquals(a.acknowledge(), 0x58);
  assertEquals(a.bits(REG.isr), [0x58]);
  assertEquals(a.get(REG.ppr), 0x50);
  assert(!a.interrupt, "the same class waits");
  a.self(0x61);
  assert(a.interrupt);
  assertEquals(a.acknowledge(), 0x61);
  assertEquals(a.get(REG.ppr), 0x60);
  a.set(REG.eoi, 0);
  assertEquals(a.bits(REG.isr), [0x58]);
  a.set(REG.eoi, 0);
  assertEquals(a.acknowledge(), 0x55);
  a.set(REG.eoi, 0);
  assertEquals(a.acknowledge(), 0x31);
  a.set(REG.eoi, 0);
  a.set(REG.eoi, 0);
  assertEquals(a.get(REG.ppr), 0);
  assertEquals([a.bits(REG.isr), a.bits(REG.irr)], [[], []]);
});

Deno.test("every vector: accepted once, in order of priority", () => {
  const a = new Apic();
  for (let v = 16; v < 256; v++) a.self(v, v);
  const order: number[] = [];
  while (a.interrupt) {
    order.push(a.acknowledge());
    a.set(REG.eoi, 0);
  }
  assertEquals(order, Array.from({ length: 240 }, (_, i) => 255 - i));
});

Deno.test("TPR and CR8: all combinations with a vector in service", () => {
  const a = new Apic();
  const { interrupts } = a.machine.cpu;
  for (let tpr = 0; tpr < 256; tpr += 5) {
    for (const serving of [0, 0x35, 0x80, 0xf1]) {
      a.set(REG.tpr, 0);
      if (serving) {
        a.self(serving);
        a.acknowledge();
      }
      a.set(REG.tpr, tpr);
      assertEquals(interrupts.readTpr(0), tpr >> 4);
      const tprClass = tpr >> 4;
      const isrClass = serving >> 4;
      const ppr = tprClass >= isrClass ? tpr : serving & 0xf0;
      assertEquals(a.get(REG.ppr), ppr);
      for (const vector of [0x20, 0x3f, 0x80, 0x90, 0xff]) {
        a.self(vector);
        assertEquals(a.interrupt, vector >> 4 > ppr >> 4);
        a.set(REG.tpr, 0);
        if (serving) a.set(REG.eoi, 0);
        assertEquals(a.acknowledge(), vector);
        a.set(REG.eoi, 0);
        if (serving) {
          a.self(serving);
          a.acknowledge();
        }
        a.set(REG.tpr, tpr);
      }
      a.set(REG.tpr, 0);
      a.set(REG.eoi, 0);
    }
  }
  interrupts.writeTpr(0, 9);
  assertEquals(a.get(REG.tpr), 0x90);
});

Deno.test("IPIs: shorthands, physical, flat and cluster destinations", () => {
  const a = new Apic();
  const reaches = (low: number, high = 0): boolean => {
    a.set(REG.icrHigh, high);
    a.set(REG.icrLow, low | 0x40);
    const hit = a.bits(REG.irr).includes(0x40);
    if (hit) {
      a.acknowledge();
      a.set(REG.eoi, 0);
    }
    return hit;
  };
  a.set(REG.id, 0x05000000);
  assert(reaches(SELF));
  assert(reaches(0x80000));
  assert(!reaches(0xc0000), "all but self");
  assert(reaches(0, 0x05000000));
  assert(!reaches(0, 0x04000000));
  assert(reaches(0, 0xff000000), "broadcast");
  a.set(REG.ldr, 0x12000000);
  assert(reaches(0x800, 0x02000000));
  assert(reaches(0x800, 0x10000000));
  assert(!reaches(0x800, 0x21000000 & 0xed000000));
  a.set(REG.dfr, 0x0fffffff);
  assert(reaches(0x800, 0x12000000), "cluster 1, member 2");
  assert(reaches(0x800, 0x13000000));
  assert(!reaches(0x800, 0x11000000));
  assert(!reaches(0x800, 0x22000000));
  assert(reaches(SELF | 0x100), "lowest priority");
  assertEquals(a.get(REG.icrLow) & 0x1000, 0, "delivery is immediate");
});

Deno.test("NMI, SMI, INIT and start-up by IPI; a level de-assert does nothing", () => {
  const a = new Apic();
  const { v } = a.machine;
  const sent: [number, number][] = [
    [0x80000 | 0x400, EventRequest.Nmi],
    [0x80000 | 0x200, EventRequest.Smi],
    [0x80000 | 0x8500, 0],
    [0x80000 | 0x4500, EventRequest.Init],
    [0x80000 | 0x608, EventRequest.Sipi],
    // Reserved, and ExtINT, which no IPI can be.
    [0x80000 | 0x320, 0],
    [0x80000 | 0x720, 0],
  ];
  for (const [low, requested] of sent) {
    v.eventRequest = 0;
    a.set(REG.icrLow, low);
    assertEquals(v.eventRequest, requested, low.toString(16));
  }
});

Deno.test("errors: illegal vectors sent, received and in the error LVT; illegal registers", () => {
  const a = new Apic();
  a.self(5);
  assertEquals(a.get(REG.esr), 0, "latched by a write only");
  assertEquals(a.errors(), 0x20);
  assertEquals(a.errors(), 0);
  a.set(REG.icrLow, 0xc0000 | 5);
  assertEquals(a.errors(), 0x20, "whoever is meant");
  a.set(REG.lvtError, 0x60);
  a.self(15);
  assertEquals(a.acknowledge(), 0x60);
  a.set(REG.eoi, 0);
  // A timer with an illegal vector: received illegal.
  a.set(REG.lvtTimer, 0x0f);
  a.set(REG.divide, 0xb);
  a.set(REG.initial, 10);
  a.pass(10);
  assertEquals(a.errors(), 0x60);
  a.acknowledge();
  a.set(REG.eoi, 0);
  // An illegal vector in the error LVT itself ends there.
  a.set(REG.lvtError, 0x03);
  a.self(1);
  assertEquals(a.errors(), 0x60);
  assert(!a.interrupt);
  a.set(REG.lvtError, MASKED);
  for (
    const offset of [
      0x0,
      0x10,
      0x40,
      0xc0,
      0x290,
      0x2f0,
      0x3a0,
      0x3f0,
      0x400,
      0xff0,
    ]
  ) {
    assertEquals(a.get(offset), 0, offset.toString(16));
    assertEquals(a.errors(), 0x80);
    a.set(offset, 1);
    assertEquals(a.errors(), 0x80);
  }
});

Deno.test("accesses: aligned words write, narrower ones read parts", () => {
  const a = new Apic();
  a.set(REG.tpr, 0x20);
  a.write(BASE + REG.tpr, 0x30, 2);
  a.write(BASE + REG.tpr + 4, 0x30, 4);
  assertEquals(a.get(REG.tpr), 0x20);
  a.write(BASE + REG.tpr, 0x40, 8);
  assertEquals(a.get(REG.tpr), 0x40);
  assertEquals(a.read(BASE + REG.version + 2, 1), 0x05);
  assertEquals(a.read(BASE + REG.version, 2), 0x14);
});

Deno.test("software disable: LVT masked, nothing delivered or accepted, no unmasking", () => {
  const a = new Apic();
  a.set(REG.lvtError, 0x50);
  a.self(0x44);
  a.set(REG.svr, 0xff);
  assert(!a.interrupt);
  a.self(0x45);
  for (const lvt of [REG.lvtTimer, REG.lint0, REG.lint1, REG.lvtError]) {
    assertEquals(a.get(lvt) & MASKED, MASKED);
    a.set(lvt, 0x20);
    assertEquals(a.get(lvt), MASKED | 0x20);
  }
  a.set(REG.svr, 0x1ff);
  assertEquals(a.bits(REG.irr), [0x44]);
  assertEquals(a.acknowledge(), 0x44);
});

Deno.test("one-shot timer: every divisor, exact to the nanosecond", () => {
  const codes = [2, 4, 8, 16, 32, 64, 128, 1];
  codes.forEach((divisor, code) => {
    const a = new Apic();
    const expired = a.collect(LapicTimerExpired);
    a.set(REG.lvtTimer, 0x40);
    a.set(REG.divide, (code & 3) | (code & 4) << 1);
    const start = a.now;
    a.set(REG.initial, 1000);
    assertEquals(a.get(REG.current), 1000);
    a.until(start + divisor);
    assertEquals(a.get(REG.current), 999);
    a.until(start + 1000 * divisor - 1);
    assertEquals(a.get(REG.current), 1);
    assertEquals(expired.length, 0);
    assert(!a.interrupt);
    a.until(start + 1000 * divisor);
    assertEquals(expired, [{ cpu: 0, lvt: 0x40 }]);
    assertEquals(a.acknowledge(), 0x40);
    a.pass(5000 * divisor);
    assertEquals(expired.length, 1);
    assertEquals(a.get(REG.current), 0);
  });
});

Deno.test("periodic timer: no drift; stop by zero; masked it still expires", () => {
  const a = new Apic();
  const expired = a.collect(LapicTimerExpired);
  a.set(REG.divide, 0xb);
  a.set(REG.lvtTimer, PERIODIC | 0x41);
  const start = a.now;
  a.set(REG.initial, 700);
  for (let i = 1; i <= 20; i++) {
    a.until(start + i * 700 - 1);
    assertEquals(expired.length, i - 1);
    a.until(start + i * 700);
    assertEquals(expired.length, i);
    assertEquals(a.get(REG.current), 700);
  }
  assertEquals(a.acknowledge(), 0x41);
  a.set(REG.eoi, 0);
  assert(!a.interrupt, "the IRR has one place a vector");
  a.set(REG.lvtTimer, PERIODIC | MASKED | 0x41);
  a.pass(700);
  assertEquals(expired.length, 21);
  assert(!a.interrupt);
  a.set(REG.initial, 0);
  a.pass(10_000);
  assertEquals(expired.length, 21);
});

Deno.test("a new divisor counts on from where it was; after expiry it starts nothing", () => {
  const a = new Apic();
  const expired = a.collect(LapicTimerExpired);
  a.set(REG.lvtTimer, 0x40);
  a.set(REG.divide, 0xb);
  const start = a.now;
  a.set(REG.initial, 1000);
  a.until(start + 400);
  a.set(REG.divide, 0);
  assertEquals(a.get(REG.current), 600);
  a.until(start + 400 + 1199);
  assertEquals(expired.length, 0);
  a.until(start + 400 + 1200);
  assertEquals(expired.length, 1);
  a.set(REG.divide, 0xb);
  a.pass(10_000);
  assertEquals(expired.length, 1);
});

Deno.test("ExtINT: the 8259 pair through LINT0, masked or not, or straight", () => {
  const a = new Apic();
  for (const value of [0x11, 0x20, 4, 1]) {
    a.out(value === 0x11 ? 0x20 : 0x21, value);
  }
  a.lines.set(3, true);
  assert(a.interrupt);
  a.set(REG.lint0, MASKED | 0x700);
  assert(!a.interrupt);
  a.set(REG.lint0, 0x700);
  assert(a.interrupt);
  // A fixed interrupt in the IRR goes first.
  a.self(0x31);
  assertEquals(a.acknowledge(), 0x31);
  assertEquals(a.acknowledge(), 0x23);
  assertEquals(a.bits(REG.isr), [0x31], "ExtINT sets no ISR bit");
  assert(!a.interrupt);
  assertEquals(a.acknowledge(), 0xff, "spurious vector of SVR");
  // Globally disabled, the pair reaches the vCPU directly.
  a.out(0x20, 0x20);
  a.lines.set(3, false);
  a.lines.set(3, true);
  const { interrupts } = a.machine.cpu;
  a.set(REG.lint0, MASKED);
  assert(!a.interrupt);
  assertEquals(interrupts.writeMsr?.(0, MSR, BigInt(BASE) | 0x100n), true);
  assert(a.interrupt);
  assertEquals(a.acknowledge(), 0x23);
});

Deno.test("IA32_APIC_BASE: reserved bits, relocation, disable resets", () => {
  const a = new Apic();
  const { interrupts } = a.machine.cpu;
  const write = (value: bigint): boolean | undefined =>
    interrupts.writeMsr?.(0, MSR, value);
  const on = BigInt(BASE) | 0x900n;
  assertEquals(interrupts.readMsr?.(0, MSR), on);
  assertEquals(interrupts.readMsr?.(0, 0x1c), undefined);
  assertEquals(interrupts.writeMsr?.(0, 0x1c, 0n), undefined);
  for (let bit = 0n; bit < 64n; bit++) {
    if (bit === 8n || (bit >= 10n && bit < 40n)) continue;
    assertEquals(write(on | 1n << bit), false, `bit ${bit}`);
  }
  a.set(REG.tpr, 0x30);
  assertEquals(write(0xfed40900n), true);
  assertEquals(a.get(REG.version), 0xffffffff, "moved away");
  assertEquals(a.read(0xfed40000 + REG.tpr), 0x30);
  assertEquals(write(on), true);
  const expired = a.collect(LapicTimerExpired);
  a.set(REG.lvtTimer, 0x40);
  a.set(REG.initial, 1000);
  assertEquals(write(BigInt(BASE) | 0x100n), true);
  assertEquals(a.get(REG.tpr), 0xffffffff, "no registers while disabled");
  a.set(REG.tpr, 0x10);
  a.pass(10_000);
  assertEquals(expired.length, 0);
  assertEquals(write(on), true);
  assertEquals(a.get(REG.tpr), 0);
  assertEquals(a.get(REG.svr), 0xff, "the state of power-up");
  assertEquals(a.get(REG.lint0), MASKED);
  assertThrows(() => write(0x1900n), NotModelled);
});

Deno.test("a CPU without APIC: no registers, no MSR", () => {
  const a = new Apic("max-intel,-apic");
  assertEquals(a.get(REG.version), 0xffffffff);
  assertEquals(a.machine.cpu.interrupts.readMsr?.(0, MSR), undefined);
});
