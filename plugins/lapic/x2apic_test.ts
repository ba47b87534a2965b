/**
 * x2APIC mode, IA32_APIC_BASE's transitions, TSC-deadline and several vCPUs,
 * against SDM 3A §11.5.4, §11.6 and §11.12. Tables here are the manual's, not
 * the plugin's.
 */
import { assert, assertEquals } from "@std/assert";
import { MsrSlot } from "../../cpu/arch/msr.ts";
import { EventRequest } from "../../cpu/layout.ts";
import { DeviceBench } from "../../tests/support/devices.ts";
import { pic8259 } from "../pic8259/plugin.ts";
import { type ApicMessage, Apics, LapicTimerExpired } from "./api.ts";
import { lapic } from "./plugin.ts";

const BASE = 0xfee00000n;
const EN = 0x800n;
const EXTD = 0x400n;
const MASKED = 0x10000;

class X2 extends DeviceBench {
  constructor(cpus = 1, model?: string) {
    super([{ plugin: pic8259 }, { plugin: lapic }], model, cpus);
  }
  msr(index: number, cpu = 0): bigint | undefined {
    const value = this.machine.cpu.interrupts.readMsr?.(cpu, index);
    this.settle();
    return value;
  }
  wrmsr(index: number, value: bigint | number, cpu = 0): boolean | undefined {
    const done = this.machine.cpu.interrupts
      .writeMsr?.(cpu, index, BigInt(value));
    this.settle();
    return done;
  }
  base(mode: bigint, cpu = 0): boolean | undefined {
    return this.wrmsr(0x1b, BASE | mode | (cpu === 0 ? 0x100n : 0n), cpu);
  }
  enter(cpu = 0): void {
    assert(this.base(EN | EXTD, cpu));
    assert(this.wrmsr(0x80f, 0x1ff, cpu));
  }
  irr(cpu: number): number[] {
    const out: number[] = [];
    for (let v = 0; v < 256; v++) {
      const word = this.msr(0x820 + (v >> 5), cpu) ?? 0n;
      if (word >> BigInt(v & 31) & 1n) out.push(v);
    }
    return out;
  }
  request(cpu: number): number {
    return this.machine.hardware.cpus[cpu].v.eventRequest;
  }
}

Deno.test("IA32_APIC_BASE: every transition between disabled, xAPIC, x2APIC and the invalid state", () => {
  const modes = { disabled: 0n, xapic: EN, x2apic: EN | EXTD, invalid: EXTD };
  const allowed: Record<string, string[]> = {
    disabled: ["disabled", "xapic"],
    xapic: ["disabled", "xapic", "x2apic"],
    x2apic: ["disabled", "x2apic"],
  };
  const reach: Record<string, bigint[]> = {
    disabled: [0n],
    xapic: [],
    x2apic: [EN | EXTD],
  };
  for (const from of Object.keys(allowed)) {
    for (const [to, bits] of Object.entries(modes)) {
      const x = new X2();
      for (const step of reach[from]) assert(x.base(step));
      const before = x.msr(0x1b);
      const may = allowed[from].includes(to);
      assertEquals(x.base(bits), may, `${from} to ${to}`);
      assertEquals(x.msr(0x1b), may ? BASE | bits | 0x100n : before);
    }
  }
  const without = new X2(1, "max-intel,-x2apic");
  assertEquals(without.base(EN | EXTD), false);
});

Deno.test("x2APIC registers: which exist, which can be read and written", () => {
  const x = new X2();
  const readable = new Set([0x802, 0x803, 0x808, 0x80a, 0x80d, 0x80f, 0x828]);
  const writable = new Set([0x808, 0x80b, 0x80f, 0x828, 0x830, 0x838, 0x83e]);
  for (let i = 0x810; i < 0x828; i++) readable.add(i);
  for (let i = 0x832; i <= 0x837; i++) {
    readable.add(i).add(0x839), writable.add(i);
  }
  for (const i of [0x830, 0x838, 0x83e]) readable.add(i);
  writable.add(0x83f);
  for (let i = 0x800; i < 0x900; i++) {
    assertEquals(x.msr(i), undefined, "in xAPIC mode");
    assertEquals(x.wrmsr(i, 0), false, "in xAPIC mode");
  }
  x.enter();
  for (let i = 0x800; i < 0x900; i++) {
    const name = i.toString(16);
    assertEquals(x.msr(i) !== undefined, readable.has(i), `RDMSR ${name}`);
    assertEquals(x.wrmsr(i, 0), writable.has(i), `WRMSR ${name}`);
  }
  assertEquals(x.read(Number(BASE) + 0x30), 0xffffffff, "no memory registers");
});

Deno.test("x2APIC registers: each reserved bit is #GP", () => {
  const x = new X2();
  x.enter();
  const defined: [number, bigint][] = [
    [0x808, 0xffn],
    [0x80b, 0n],
    [0x80f, 0x3ffn],
    [0x828, 0n],
    [0x830, 0xffffffff_000ccfffn],
    [0x832, 0x750ffn],
    [0x833, 0x157ffn],
    [0x834, 0x157ffn],
    [0x835, 0x1f7ffn],
    [0x836, 0x1f7ffn],
    [0x837, 0x150ffn],
    [0x838, 0xffffffffn],
    [0x83e, 0xbn],
    [0x83f, 0xffn],
  ];
  for (const [index, bits] of defined) {
    for (let bit = 0n; bit < 64n; bit++) {
      // Low priority of what an accepted value would do: a NMI to nobody.
      const base = index === 0x830 ? 0x5_0000_0400n : 0n;
      assertEquals(
        x.wrmsr(index, base | 1n << bit),
        (bits >> bit & 1n) === 1n,
        `${index.toString(16)} bit ${bit}`,
      );
    }
  }
});

Deno.test("IDs: the vCPU's number, logical ID by cluster, both back after a reset", () => {
  const x = new X2(8);
  for (let cpu = 0; cpu < 8; cpu++) {
    x.enter(cpu);
    assertEquals(x.msr(0x802, cpu), BigInt(cpu));
    assertEquals(x.msr(0x80d, cpu), BigInt(1 << cpu));
    assert(!x.wrmsr(0x802, 3, cpu));
    assert(x.base(0n, cpu));
    assert(x.base(EN, cpu));
  }
  assertEquals(x.read(Number(BASE) + 0x20), 0);
  x.write(Number(BASE) + 0x20, 0x09000000);
  assertEquals(x.read(Number(BASE) + 0x20), 0x09000000);
  x.base(0n);
  x.base(EN);
  assertEquals(x.read(Number(BASE) + 0x20), 0);
});

Deno.test("x2APIC IPIs: physical, logical, broadcast, shorthands, self-IPI", () => {
  const x = new X2(4);
  for (let cpu = 0; cpu < 4; cpu++) x.enter(cpu);
  const hits = (icr: bigint): number[] => {
    assert(x.wrmsr(0x830, icr, 1));
    const out: number[] = [];
    for (let cpu = 0; cpu < 4; cpu++) {
      if (x.irr(cpu).length === 0) continue;
      assertEquals(x.irr(cpu), [0x51]);
      assert(x.request(cpu) & EventRequest.Interrupt);
      out.push(cpu);
      assertEquals(x.machine.cpu.interrupts.acknowledge(cpu), 0x51);
      assert(x.wrmsr(0x80b, 0, cpu));
      assertEquals(x.request(cpu) & EventRequest.Interrupt, 0);
    }
    return out;
  };
  assertEquals(hits(0x2_0000_0051n), [2]);
  assertEquals(hits(0x7_0000_0051n), []);
  assertEquals(hits(0xff_0000_0051n), [], "8 bits are no broadcast here");
  assertEquals(hits(0xffffffff_0000_0051n), [0, 1, 2, 3]);
  assertEquals(hits(0xd_0000_0851n), [0, 2, 3]);
  assertEquals(hits(0x1000d_0000_0851n), [], "another cluster");
  assertEquals(hits(0xffffffff_0000_0851n), [0, 1, 2, 3]);
  assertEquals(hits(0x0004_0051n), [1]);
  assertEquals(hits(0x0008_0051n), [0, 1, 2, 3]);
  assertEquals(hits(0x000c_0051n), [0, 2, 3]);
  assert(x.wrmsr(0x83f, 0x51, 3));
  assertEquals(x.irr(3), [0x51]);
  assert(x.wrmsr(0x83f, 3, 3));
  assert(x.wrmsr(0x828, 0, 3));
  assertEquals(x.msr(0x828, 3), 0x20n);
  assertEquals(x.msr(0x830, 1), 0x000c_0051n);
});

Deno.test("lowest priority: the least PPR takes it, the first of equals", () => {
  const x = new X2(4);
  for (let cpu = 0; cpu < 4; cpu++) x.enter(cpu);
  const tprs = [[0x40, 0x30, 0x30, 0x90], [0, 0, 0, 0], [0x90, 0x80, 0x70, 0]];
  [1, 0, 3].forEach((taker, i) => {
    tprs[i].forEach((tpr, cpu) => x.wrmsr(0x808, tpr, cpu));
    assert(x.wrmsr(0x830, 0xffffffff_0000_0951n));
    for (let cpu = 0; cpu < 4; cpu++) {
      x.wrmsr(0x808, 0, cpu);
      assertEquals(x.irr(cpu), cpu === taker ? [0x51] : []);
    }
    assertEquals(x.machine.cpu.interrupts.acknowledge(taker), 0x51);
    x.wrmsr(0x80b, 0, taker);
  });
});

Deno.test("xAPIC among vCPUs: all but self, IDs the guest gave, disabled ones", () => {
  const x = new X2(3);
  const low = (value: number, destination = 0): void => {
    x.write(Number(BASE) + 0x310, destination << 24);
    x.write(Number(BASE) + 0x300, value);
  };
  low(0xc0400);
  assertEquals([0, 1, 2].map((cpu) => x.request(cpu)), [0, 2, 2]);
  low(0x400, 0xff);
  assertEquals([0, 1, 2].map((cpu) => x.request(cpu)), [2, 2, 2]);
  x.machine.hardware.cpus.forEach(({ v }) => v.eventRequest = 0);
  low(0x4500, 1);
  low(0x609, 2);
  assertEquals([0, 1, 2].map((cpu) => x.request(cpu)), [
    0,
    EventRequest.Init,
    EventRequest.Sipi,
  ]);
  // Fixed: the application processors are software-disabled after power-up.
  low(0x4051, 1);
  x.enter(1);
  assertEquals(x.irr(1), []);
  assert(x.base(0n, 1));
  x.machine.hardware.cpus[1].v.eventRequest = 0;
  low(0x400, 1);
  assertEquals(x.request(1), 0, "globally disabled: nothing arrives");
});

Deno.test("INIT resets all but ID, base and mode", () => {
  const x = new X2(2);
  x.enter(1);
  x.wrmsr(0x808, 0x20, 1);
  x.wrmsr(0x83f, 0x77, 1);
  x.wrmsr(0x83e, 0xb, 1);
  x.wrmsr(0x838, 5000, 1);
  x.machine.hardware.cpus[1].interrupts.initialized?.(1);
  assertEquals(x.msr(0x1b, 1), BASE | EN | EXTD);
  assertEquals(x.msr(0x802, 1), 1n);
  assertEquals(x.msr(0x80f, 1), 0xffn);
  assertEquals(x.msr(0x808, 1), 0n);
  assertEquals(x.msr(0x835, 1), BigInt(MASKED));
  assertEquals(x.irr(1), []);
  const expired = x.collect(LapicTimerExpired);
  x.pass(10_000);
  assertEquals(expired, []);
});

Deno.test("messages of 8 bits (IOAPIC): physical, broadcast, logical to both modes", () => {
  const x = new X2(4);
  x.enter(2);
  x.enter(3);
  const bus = x.machine.executor.port.service(Apics).get();
  assert(bus);
  const nmi = (message: Partial<ApicMessage>): number[] => {
    x.machine.hardware.cpus.forEach(({ v }) => v.eventRequest = 0);
    bus.send({
      destination: 0,
      wide: false,
      logical: false,
      mode: 4,
      vector: 0,
      level: false,
      ...message,
    });
    return [0, 1, 2, 3].filter((cpu) => x.request(cpu) === EventRequest.Nmi);
  };
  for (let cpu = 0; cpu < 4; cpu++) {
    assertEquals(nmi({ destination: cpu }), [cpu]);
  }
  assertEquals(nmi({ destination: 0xff }), [0, 1, 2, 3]);
  x.write(Number(BASE) + 0xd0, 0x08000000);
  assertEquals(nmi({ destination: 0xc, logical: true }), [0, 2, 3]);
});

Deno.test("TSC-deadline: at the deadline, once; past ones at once; other modes ignore it", () => {
  const x = new X2();
  x.enter();
  const expired = x.collect(LapicTimerExpired);
  assert(x.wrmsr(0x6e0, 12345));
  assertEquals(x.msr(0x6e0), 0n, "not in one-shot mode");
  assert(x.wrmsr(0x832, 0x40044));
  assert(x.wrmsr(0x838, 100));
  assertEquals(x.msr(0x839), 0n);
  x.pass(1000);
  assertEquals(expired.length, 0, "the count does not run in this mode");
  const due = x.now + 500;
  assert(x.wrmsr(0x6e0, due));
  assertEquals(x.msr(0x6e0), BigInt(due));
  x.until(due - 1);
  assertEquals(expired.length, 0);
  x.until(due);
  assertEquals(expired.length, 1);
  assertEquals(x.msr(0x6e0), 0n);
  assertEquals(x.irr(0), [0x44]);
  x.pass(10_000);
  assertEquals(expired.length, 1);
  assert(x.wrmsr(0x6e0, x.now));
  assertEquals(expired.length, 2, "at once");
  assert(x.wrmsr(0x6e0, x.now + 100));
  assert(x.wrmsr(0x6e0, 0));
  x.pass(1000);
  assertEquals(expired.length, 2, "disarmed");
  assert(x.wrmsr(0x6e0, 0xffff_ffff_ffff_ffffn));
  x.pass(1_000_000);
  assertEquals(expired.length, 2);
  assert(x.wrmsr(0x832, 0x44));
  assertEquals(x.msr(0x6e0), 0n, "leaving the mode disarms");
});

Deno.test("TSC-deadline follows a write to the TSC, forwards and back", () => {
  const x = new X2();
  x.enter();
  const { cpu } = x.machine;
  const expired = x.collect(LapicTimerExpired);
  x.wrmsr(0x832, 0x40044);
  x.pass(5000);
  const adjust = (by: bigint): void => {
    x.machine.v.setMsr(MsrSlot.TscAdjust, by & 0xffff_ffff_ffff_ffffn);
    cpu.interrupts.tscChanged?.(0);
    x.settle();
  };
  x.wrmsr(0x6e0, x.now + 1000);
  const start = x.now;
  adjust(-500n);
  x.until(start + 1499);
  assertEquals(expired.length, 0);
  x.until(start + 1500);
  assertEquals(expired.length, 1);
  adjust(0n);
  x.wrmsr(0x6e0, x.now + 1000);
  adjust(2000n);
  assertEquals(expired.length, 2);
});

Deno.test("LINT0 as fixed: a rising INTR is one interrupt; level waits for its EOI", () => {
  const x = new X2();
  x.enter();
  for (
    const [port, value] of [[0x20, 0x11], [0x21, 0x20], [0x21, 4], [0x21, 1]]
  ) {
    x.out(port, value);
  }
  assert(x.wrmsr(0x835, 0x61));
  x.lines.set(3, true);
  assertEquals(x.irr(0), [0x61]);
  assertEquals(x.acknowledge(), 0x61);
  x.wrmsr(0x80b, 0);
  assertEquals(x.irr(0), [], "an edge only");
  // Level: requested again by each EOI while the line is up.
  assert(x.wrmsr(0x835, 0x8061));
  for (let i = 0; i < 3; i++) {
    assertEquals(x.irr(0), [0x61]);
    assertEquals(x.msr(0x835), 0xc061n, "remote IRR");
    assertEquals(x.acknowledge(), 0x61);
    if (i === 2) {
      x.lines.set(3, false);
      assert(!x.pic.asserted);
    }
    x.wrmsr(0x80b, 0);
  }
  assertEquals(x.irr(0), []);
  assertEquals(x.msr(0x835), 0x8061n);
  assert(x.wrmsr(0x835, 0x400));
  x.lines.set(3, true);
  assertEquals(x.request(0), EventRequest.Nmi);
});
