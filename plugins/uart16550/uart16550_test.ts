/**
 * The 16550 against its data sheet: registers, divisor latch, FIFO, interrupt
 * identification, loopback; and that nothing from outside is lost but what a
 * FIFO reset by the guest drops.
 */
import { assert, assertEquals } from "@std/assert";
import { DeviceBench } from "../../tests/support/devices.ts";
import { pic8259 } from "../pic8259/plugin.ts";
import {
  CONSOLE_BYTES,
  UartConsole,
  UartConsumed,
  UartReceived,
  UartSent,
} from "./api.ts";
import { uart16550 } from "./plugin.ts";

const COM1 = 0x3f8;
const [DATA, IER, IIR, LCR, MCR, LSR, MSR, SCR] = [0, 1, 2, 3, 4, 5, 6, 7];
const OUT2 = 8;

class Uart extends DeviceBench {
  constructor(readonly port = COM1, readonly irq = 4) {
    super([{ plugin: pic8259 }, {
      plugin: uart16550,
      options: { port, irq },
    }]);
    this.out(0x20, 0x11);
    for (const value of [0x20, 4, 3]) this.out(0x21, value);
  }
  get(register: number): number {
    return this.in(this.port + register);
  }
  set(register: number, value: number): void {
    this.out(this.port + register, value);
  }
  arrive(...bytes: number[]): void {
    this.machine.kernel.inject(UartReceived, {
      bytes: Uint8Array.from(bytes),
    });
    this.machine.run(1);
  }
  /** INTR, taken at once. */
  interrupted(): boolean {
    if (!this.pic.asserted) return false;
    assertEquals(this.pic.acknowledge(), 0x20 + this.irq);
    return true;
  }
}

Deno.test("bytes out are facts, in order; the transmitter is always empty", () => {
  const u = new Uart();
  const sent = u.collect(UartSent);
  for (const byte of [0x48, 0x69, 0xff, 0]) {
    assertEquals(u.get(LSR), 0x60);
    u.set(DATA, byte);
  }
  assertEquals(sent.map((e) => e.byte), [0x48, 0x69, 0xff, 0]);
});

Deno.test("bytes in: data ready until the last is read; reading is a fact", () => {
  const u = new Uart();
  const read = u.collect(UartConsumed);
  u.arrive(1, 2);
  u.arrive(3);
  assertEquals(u.get(LSR), 0x61);
  assertEquals([u.get(DATA), u.get(DATA)], [1, 2]);
  assertEquals(u.get(LSR), 0x61);
  assertEquals(u.get(DATA), 3);
  assertEquals(u.get(LSR), 0x60);
  assertEquals(u.get(DATA), 0);
  assertEquals(read.map((e) => e.byte), [1, 2, 3]);
});

Deno.test("divisor latch: DLAB switches the first two registers, nothing is sent", () => {
  const u = new Uart();
  const sent = u.collect(UartSent);
  u.set(IER, 5);
  u.set(LCR, 0x83);
  assertEquals([u.get(DATA), u.get(IER)], [12, 0]);
  u.set(DATA, 0x34);
  u.set(IER, 0x12);
  assertEquals([u.get(DATA), u.get(IER)], [0x34, 0x12]);
  u.arrive(9);
  assertEquals(u.get(DATA), 0x34);
  u.set(LCR, 3);
  assertEquals(u.get(IER), 5);
  assertEquals(u.get(DATA), 9);
  assertEquals(sent, []);
});

Deno.test("register bits: IER, MCR, scratch, read-only LSR and MSR, FCR by IIR", () => {
  const u = new Uart();
  u.set(IER, 0xff);
  assertEquals(u.get(IER), 0x0f);
  u.set(MCR, 0xef);
  assertEquals(u.get(MCR), 0x0f);
  u.set(SCR, 0x5a);
  assertEquals(u.get(SCR), 0x5a);
  u.set(LSR, 0);
  u.set(MSR, 0);
  assertEquals([u.get(LSR), u.get(MSR)], [0x60, 0xb0]);
  u.set(IER, 0);
  assertEquals(u.get(IIR), 0x01);
  u.set(IIR, 0x01);
  assertEquals(u.get(IIR), 0xc1);
  u.set(IIR, 0xc0);
  assertEquals(u.get(IIR), 0x01, "FIFO off");
});

Deno.test("received-data interrupt: identified, and gone with the last byte", () => {
  const u = new Uart();
  u.set(MCR, OUT2);
  u.set(IER, 1);
  assert(!u.interrupted());
  u.arrive(1, 2);
  assert(u.interrupted());
  assertEquals(u.get(IIR), 0x04);
  u.out(0x20, 0x20);
  u.get(DATA);
  assertEquals(u.get(IIR), 0x04);
  u.get(DATA);
  assertEquals(u.get(IIR), 0x01);
  assert(!u.interrupted());
  // Without OUT2 the PC's gate keeps the line low.
  u.set(MCR, 0);
  u.arrive(3);
  assert(!u.interrupted());
  u.set(MCR, OUT2);
  assert(u.interrupted());
});

Deno.test("FIFO trigger levels: data at the level, character timeout below", () => {
  const u = new Uart();
  u.set(IER, 1);
  for (const [code, level] of [[0, 1], [1, 4], [2, 8], [3, 14]]) {
    u.set(IIR, code << 6 | 3);
    for (let n = 1; n <= 16; n++) {
      u.arrive(n);
      assertEquals(u.get(IIR), 0xc0 | (n >= level ? 4 : 0xc), `${n} ${level}`);
    }
    for (let n = 1; n <= 16; n++) assertEquals(u.get(DATA), n);
  }
});

Deno.test("transmitter interrupt: on enabling and after each byte; IIR read ends it", () => {
  const u = new Uart();
  u.set(MCR, OUT2);
  u.set(IER, 2);
  assert(u.interrupted());
  assertEquals(u.get(IIR), 0x02);
  assertEquals(u.get(IIR), 0x01);
  u.out(0x20, 0x20);
  assert(!u.interrupted());
  u.set(DATA, 0x41);
  assert(u.interrupted());
  u.out(0x20, 0x20);
  // Data comes first; reading its identification leaves this one pending.
  u.set(IER, 3);
  u.arrive(1);
  assertEquals(u.get(IIR), 0x04);
  u.get(DATA);
  assertEquals(u.get(IIR), 0x02);
  assertEquals(u.get(IIR), 0x01);
  u.set(IER, 0);
  u.set(DATA, 1);
  assertEquals(u.get(IIR), 0x01, "not enabled");
});

Deno.test("FIFO reset drops at most what the FIFO holds", () => {
  const u = new Uart();
  u.arrive(...Array.from({ length: 40 }, (_, i) => i));
  u.set(IIR, 0x03);
  assertEquals(u.get(DATA), 1, "a FIFO that was off holds one");
  u.set(IIR, 0x03);
  assertEquals(u.get(DATA), 18, "then sixteen");
  u.set(IIR, 0x05);
  assertEquals(u.get(DATA), 19, "a transmitter reset drops nothing");
});

Deno.test("loopback: sent bytes come back, host bytes wait, modem lines follow MCR", () => {
  const u = new Uart();
  const sent = u.collect(UartSent);
  const read = u.collect(UartConsumed);
  u.arrive(0x99);
  u.set(MCR, 0x10);
  assertEquals(u.get(LSR), 0x60);
  u.set(DATA, 0x11);
  u.set(DATA, 0x22);
  assertEquals(u.get(LSR), 0x61);
  assertEquals([u.get(DATA), u.get(DATA)], [0x11, 0x22]);
  assertEquals(u.get(DATA), 0);
  assertEquals([sent, read], [[], []]);
  for (let mcr = 0; mcr < 16; mcr++) {
    u.set(MCR, 0x10 | mcr);
    const due = (mcr & 1 ? 0x20 : 0) | (mcr & 2 ? 0x10 : 0) |
      (mcr & 4 ? 0x40 : 0) | (mcr & 8 ? 0x80 : 0);
    assertEquals(u.get(MSR), due);
  }
  u.set(MCR, 0);
  assertEquals(u.get(MSR), 0xb0);
  assertEquals(u.get(DATA), 0x99);
  assertEquals(read.map((e) => e.byte), [0x99]);
});

Deno.test("options: another port and line", () => {
  const u = new Uart(0x2f8, 3);
  const sent = u.collect(UartSent);
  assertEquals(u.in(COM1 + LSR), 0xff);
  u.set(DATA, 7);
  assertEquals(sent.length, 1);
  u.set(MCR, OUT2);
  u.set(IER, 2);
  assert(u.interrupted());
});

Deno.test("without a controller the port works by polling", () => {
  const b = new DeviceBench([{ plugin: uart16550 }]);
  const sent = b.collect(UartSent);
  b.out(COM1 + IER, 2);
  b.out(COM1, 0x41);
  assertEquals(sent, [{ byte: 0x41 }]);
});

Deno.test("the console keeps the last bytes sent, in keyframes too; loopback sends none", () => {
  const u = new Uart();
  const { kernel, executor } = u.machine;
  const console = executor.port.service(UartConsole).get()!;
  assertEquals([console.tail().length, console.sent], [0, 0]);
  for (const byte of [1, 2, 3]) u.set(DATA, byte);
  assertEquals([...console.tail()], [1, 2, 3]);
  const early = kernel.capture();
  const all = Array.from({ length: CONSOLE_BYTES + 5 }, (_, i) => i * 7 & 0xff);
  for (const byte of all) u.set(DATA, byte);
  assertEquals([...console.tail()], all.slice(-CONSOLE_BYTES));
  assertEquals(console.sent, all.length + 3);
  u.set(MCR, 0x10);
  u.set(DATA, 0x55);
  assertEquals([...console.tail()], all.slice(-CONSOLE_BYTES));
  kernel.restore(early);
  assertEquals([...console.tail()], [1, 2, 3]);
});

Deno.test("it hears bytes from outside only when they can interrupt", () => {
  const u = new Uart();
  const console = u.machine.executor.port.service(UartConsole).get()!;
  for (
    const [ier, mcr, hears] of [
      [1, OUT2, true],
      [0, OUT2, false],
      [2, OUT2, false],
      [1, 0, false],
      [1, OUT2 | 0x10, false],
    ] as const
  ) {
    u.set(IER, ier);
    u.set(MCR, mcr);
    assertEquals(console.hears, hears, `IER ${ier}, MCR ${mcr}`);
    if (mcr === OUT2) {
      u.interrupted();
      u.arrive(7);
      assertEquals(u.pic.asserted && ier === 1, hears);
    }
    u.set(IIR, 3);
  }
});
