/**
 * The IOAPIC against the 82093AA data sheet: registers, which bits can be
 * written, edges and levels, masks, polarity, remote IRR and EOI, destinations
 * and delivery modes, wiring of the PC's lines.
 */
import { assert, assertEquals, assertThrows } from "@std/assert";
import { NotModelled } from "../../core/errors.ts";
import { EventRequest } from "../../cpu/layout.ts";
import { DeviceBench } from "../../tests/support/devices.ts";
import { lapic } from "../lapic/plugin.ts";
import { pic8259 } from "../pic8259/plugin.ts";
import { IoapicSent } from "./api.ts";
import { ioapic } from "./plugin.ts";

const BASE = 0xfec00000;
const LAPIC = 0xfee00000;
const MASKED = 0x10000;
const LEVEL = 0x8000;
const REMOTE_IRR = 0x4000;
const LOW = 0x2000;

class Bench extends DeviceBench {
  constructor(cpus = 1) {
    super(
      [{ plugin: pic8259 }, { plugin: lapic }, { plugin: ioapic }],
      undefined,
      cpus,
    );
  }
  get(register: number): number {
    this.write(BASE, register);
    return this.read(BASE + 0x10);
  }
  set(register: number, value: number): void {
    this.write(BASE, register);
    this.write(BASE + 0x10, value >>> 0);
  }
  entry(pin: number, low: number, destination = 0): void {
    this.set(0x11 + pin * 2, destination << 24);
    this.set(0x10 + pin * 2, low);
  }
  low(pin: number): number {
    return this.get(0x10 + pin * 2);
  }
  line(line: number, ...levels: number[]): void {
    for (const level of levels) this.lines.set(line, level !== 0);
    this.settle();
  }
  /** Vectors pending in the IRR of the vCPU whose turn it is. */
  irr(): number[] {
    const out: number[] = [];
    for (let v = 0; v < 256; v++) {
      const word = this.read(LAPIC + 0x200 + (v >> 5) * 16);
      if (word >>> (v & 31) & 1) out.push(v);
    }
    return out;
  }
  /** Takes the interrupt and ends it. */
  take(): number {
    const vector = this.acknowledge();
    this.write(LAPIC + 0xb0, 0);
    return vector;
  }
}

Deno.test("identification: ID, version, arbitration; what can be written", () => {
  const b = new Bench();
  assertEquals([0, 1, 2].map((i) => b.get(i)), [0, 0x170020, 0]);
  b.set(0, 0xffffffff);
  b.set(1, 0xffffffff);
  b.set(2, 0);
  assertEquals([0, 1, 2].map((i) => b.get(i)), [
    0x0f000000,
    0x170020,
    0x0f000000,
  ]);
  for (let i = 3; i < 0x100; i++) {
    if (i >= 0x10 && i < 0x40) continue;
    b.set(i, 0xffffffff);
    assertEquals(b.get(i), 0, i.toString(16));
  }
});

Deno.test("redirection entries: masked at reset; reserved and read-only bits stay 0", () => {
  const b = new Bench();
  for (let pin = 0; pin < 24; pin++) {
    assertEquals(b.low(pin), MASKED);
    assertEquals(b.get(0x11 + pin * 2), 0);
    b.set(0x10 + pin * 2, 0xffffffff);
    b.set(0x11 + pin * 2, 0xffffffff);
    assertEquals(b.low(pin), 0x1afff);
    assertEquals(b.get(0x11 + pin * 2), 0xff000000);
  }
});

Deno.test("index and data: the index reads back; narrow data writes are ignored", () => {
  const b = new Bench();
  b.write(BASE, 0x14, 1);
  assertEquals(b.read(BASE), 0x14);
  b.write(BASE + 0x10, 0x55, 1);
  assertEquals(b.low(2), MASKED);
  b.set(0x14, MASKED | 0x1234);
  assertEquals(b.read(BASE + 0x11, 1), 0x02);
  assertEquals(b.read(BASE + 0x40), 0);
  assertEquals(b.read(BASE + 0x20), 0xffffffff);
});

Deno.test("every line reaches its pin; the timer's is 2, the cascade has none", () => {
  for (let line = 0; line < 24; line++) {
    const b = new Bench();
    const sent = b.collect(IoapicSent);
    for (let pin = 0; pin < 24; pin++) b.entry(pin, 0x40 + pin);
    b.line(line, 1);
    const pin = line === 0 ? 2 : line;
    assertEquals(
      sent,
      line === 2 ? [] : [{ pin, vector: 0x40 + pin, mode: 0, level: false }],
    );
    assertEquals(b.irr(), line === 2 ? [] : [0x40 + pin]);
  }
});

Deno.test("edges: one interrupt a rise, none while masked and none kept", () => {
  const b = new Bench();
  b.entry(14, 0x76);
  b.line(14, 1, 1, 0);
  assertEquals(b.take(), 0x76);
  assertEquals(b.irr(), []);
  b.entry(14, MASKED | 0x76);
  b.line(14, 1, 0);
  b.entry(14, 0x76);
  assertEquals(b.irr(), [], "lost");
  b.line(14, 1);
  assertEquals(b.irr(), [0x76]);
  assertEquals(b.low(14), 0x76, "no remote IRR");
});

Deno.test("levels: remote IRR holds until the EOI, which looks again", () => {
  const b = new Bench();
  b.entry(14, LEVEL | 0x77);
  b.line(14, 1);
  assertEquals(b.low(14), LEVEL | REMOTE_IRR | 0x77);
  assertEquals(b.take(), 0x77);
  assertEquals(b.irr(), [0x77], "still up");
  assertEquals(b.acknowledge(), 0x77);
  b.line(14, 0, 1, 0);
  assertEquals(b.irr(), [], "one is in service");
  b.write(LAPIC + 0xb0, 0);
  assertEquals(b.irr(), []);
  assertEquals(b.low(14), LEVEL | 0x77);
  // Masked: waits, and comes when unmasked.
  b.entry(14, MASKED | LEVEL | 0x77);
  b.line(14, 1);
  assertEquals(b.irr(), []);
  b.entry(14, LEVEL | 0x77);
  assertEquals(b.irr(), [0x77]);
});

Deno.test("the EOI register ends a vector; becoming an edge clears remote IRR", () => {
  const b = new Bench();
  b.entry(9, LEVEL | 0x66);
  b.entry(10, LEVEL | 0x67);
  b.line(9, 1, 0);
  b.line(10, 1, 0);
  b.write(BASE + 0x40, 0x66);
  assertEquals(b.low(9), LEVEL | 0x66);
  assertEquals(b.low(10), LEVEL | REMOTE_IRR | 0x67);
  b.set(0x10 + 20, 0x67);
  b.set(0x10 + 20, LEVEL | 0x67);
  assertEquals(b.low(10), LEVEL | 0x67);
});

Deno.test("an EOI of an edge-triggered vector is no broadcast", () => {
  const b = new Bench();
  b.entry(9, LEVEL | 0x66);
  b.line(9, 1);
  assertEquals(b.acknowledge(), 0x66);
  // The same vector as an edge on top of it: TMR is 0 now.
  b.write(LAPIC + 0x300, 0x40066);
  b.write(LAPIC + 0xb0, 0);
  assertEquals(b.low(9), LEVEL | REMOTE_IRR | 0x66);
});

Deno.test("polarity: active low inverts levels and edges", () => {
  const b = new Bench();
  b.line(5, 1);
  b.entry(5, LOW | 0x45);
  b.line(5, 0);
  assertEquals(b.take(), 0x45);
  b.line(5, 1);
  assertEquals(b.irr(), []);
  b.entry(5, LOW | LEVEL | 0x46);
  assertEquals(b.irr(), []);
  b.line(5, 0);
  assertEquals(b.irr(), [0x46]);
});

Deno.test("destinations: physical, broadcast, logical flat; a vector for several", () => {
  const b = new Bench(4);
  const hardware = b.machine.hardware;
  const hit = (low: number, destination: number): number[] => {
    hardware.cpus.forEach(({ v }) => v.eventRequest = 0);
    b.entry(4, low, destination);
    b.line(4, 1, 0);
    return hardware.cpus.filter(({ v }) => v.eventRequest !== 0)
      .map(({ index }) => index);
  };
  const NMI = 0x400;
  for (let cpu = 0; cpu < 4; cpu++) assertEquals(hit(NMI, cpu), [cpu]);
  assertEquals(hit(NMI, 0xff), [0, 1, 2, 3]);
  assertEquals(hit(NMI, 9), []);
  b.write(LAPIC + 0xd0, 0x02000000);
  assertEquals(hit(NMI | 0x800, 0x06), [0]);
  assertEquals(hit(NMI | 0x800, 0x04), []);
});

Deno.test("delivery modes: lowest priority, NMI, INIT, SMI; level does not hold for those", () => {
  const b = new Bench();
  const { v } = b.machine;
  const sent: [number, number][] = [
    [0x400, EventRequest.Nmi],
    [0x500, EventRequest.Init],
    [0x200, EventRequest.Smi],
  ];
  for (const [low, requested] of sent) {
    v.eventRequest = 0;
    b.entry(7, LEVEL | low);
    b.line(7, 1, 0);
    assertEquals(v.eventRequest, requested);
    assertEquals(b.low(7), LEVEL | low);
  }
  v.eventRequest = 0;
  b.entry(7, LEVEL | 0x100 | 0x58);
  b.line(7, 1);
  assertEquals(b.irr(), [0x58]);
  assertEquals(b.low(7), LEVEL | REMOTE_IRR | 0x158);
  b.entry(8, 0x700);
  assertThrows(() => b.line(8, 1), NotModelled);
});

Deno.test("the 8259 pair gets the ISA lines as well", () => {
  const b = new Bench();
  for (
    const [port, value] of [[0x20, 0x11], [0x21, 0x20], [0x21, 4], [0x21, 1]]
  ) {
    b.out(port, value);
  }
  b.entry(4, 0x44);
  b.line(4, 1);
  assert(b.pic.asserted);
  assertEquals(b.irr(), [0x44]);
  b.line(20, 1);
  b.out(0x20, 0x0a);
  assertEquals(b.in(0x20), 0x10);
});
