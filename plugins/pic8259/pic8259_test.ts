/**
 * The 8259 pair against its data sheet: initialization, priorities, every kind
 * of end of interrupt, rotation, special mask mode, cascade, spurious
 * interrupts, edge and level triggering.
 */
import { assert, assertEquals, assertThrows } from "@std/assert";
import { NotModelled } from "../../core/errors.ts";
import { DeviceBench } from "../../tests/support/devices.ts";
import { IrqLineChanged } from "./api.ts";
import { pic8259 } from "./plugin.ts";

const EOI = 0x20;

/** Initialized as a PC does: vectors 0x20 and 0x28, nothing masked. */
function pair(icw4 = 1): DeviceBench {
  const b = new DeviceBench([{ plugin: pic8259 }]);
  for (const [port, base, cascade] of [[0x20, 0x20, 4], [0xa0, 0x28, 2]]) {
    b.out(port, 0x11);
    b.out(port + 1, base);
    b.out(port + 1, cascade);
    b.out(port + 1, icw4);
  }
  return b;
}
const irr = (b: DeviceBench, port: number): number => {
  b.out(port, 0x0a);
  return b.in(port);
};
const isr = (b: DeviceBench, port: number): number => {
  b.out(port, 0x0b);
  return b.in(port);
};
/** Takes everything deliverable. */
function take(b: DeviceBench, most = 20): number[] {
  const out: number[] = [];
  while (b.pic.asserted && out.length < most) out.push(b.pic.acknowledge());
  return out;
}
const raise = (b: DeviceBench, ...lines: number[]): void => {
  for (const line of lines) b.lines.set(line, true);
};

Deno.test("priority: lowest line first, lower ones wait for the EOI", () => {
  const b = pair();
  raise(b, 7, 3, 5);
  assertEquals(irr(b, 0x20), 0xa8);
  assertEquals(take(b), [0x23]);
  assertEquals(isr(b, 0x20), 0x08);
  assertEquals(irr(b, 0x20), 0xa0);
  // A higher one nests, a lower one doesn't.
  raise(b, 1, 6);
  assertEquals(take(b), [0x21]);
  b.out(0x20, EOI);
  assertEquals(isr(b, 0x20), 0x08);
  b.out(0x20, EOI);
  assertEquals(take(b), [0x25]);
  b.out(0x20, EOI);
  assertEquals(take(b), [0x26]);
  b.out(0x20, EOI);
  assertEquals(take(b), [0x27]);
});

Deno.test("masks hold a request back, and let it through later", () => {
  const b = pair();
  b.out(0x21, 0x10);
  assertEquals(b.in(0x21), 0x10);
  raise(b, 4);
  assert(!b.pic.asserted);
  assertEquals(irr(b, 0x20), 0x10);
  b.out(0x21, 0);
  assertEquals(take(b), [0x24]);
});

Deno.test("edges: one request a rise, gone when the line falls before INTA", () => {
  const b = pair();
  raise(b, 4);
  assertEquals(take(b), [0x24]);
  b.out(0x20, EOI);
  assertEquals(take(b), [], "still high, no new edge");
  b.lines.set(4, false);
  raise(b, 4);
  assertEquals(take(b), [0x24]);
  b.out(0x20, EOI);
  b.lines.set(4, false);
  raise(b, 4);
  b.lines.set(4, false);
  assert(!b.pic.asserted);
});

Deno.test("levels: requests as long as the line is high (ELCR)", () => {
  const b = pair();
  b.out(0x4d0, 0xff);
  b.out(0x4d1, 0xff);
  assertEquals([b.in(0x4d0), b.in(0x4d1)], [0xf8, 0xde]);
  raise(b, 5);
  assertEquals(take(b), [0x25]);
  b.out(0x20, EOI);
  assertEquals(take(b), [0x25]);
  b.lines.set(5, false);
  b.out(0x20, EOI);
  assertEquals(take(b), []);
  // A line that becomes level-triggered while high requests.
  b.out(0x4d0, 0);
  raise(b, 6);
  take(b);
  b.out(0x20, EOI);
  assertEquals(take(b), []);
  b.out(0x4d0, 0x40);
  assertEquals(take(b), [0x26]);
});

Deno.test("cascade: slave lines through line 2, two EOIs", () => {
  const b = pair();
  raise(b, 12, 9);
  assertEquals(irr(b, 0xa0), 0x12);
  assertEquals(irr(b, 0x20), 0x04);
  assertEquals(take(b), [0x29]);
  assertEquals([isr(b, 0x20), isr(b, 0xa0)], [0x04, 0x02]);
  // Line 3 of the master is below the cascade, line 1 above.
  raise(b, 3, 1);
  assertEquals(take(b), [0x21]);
  b.out(0x20, EOI);
  b.out(0xa0, EOI);
  assertEquals(take(b), [], "the master still serves line 2");
  b.out(0x20, EOI);
  assertEquals(take(b), [0x2c]);
  b.out(0xa0, EOI);
  b.out(0x20, EOI);
  assertEquals(take(b), [0x23]);
  // Masking the cascade holds the slave back.
  b.out(0x20, EOI);
  b.out(0x21, 0x04);
  raise(b, 15);
  assert(!b.pic.asserted);
});

Deno.test("spurious: IR7 of the chip that has nothing, no ISR bit", () => {
  const b = pair();
  assertEquals(b.pic.acknowledge(), 0x27);
  assertEquals(isr(b, 0x20), 0);
  raise(b, 8);
  b.out(0xa1, 0);
  // The slave's request goes away between the two INTA cycles' decisions.
  assertEquals(b.pic.asserted, true);
  b.out(0xa1, 0x01);
  assertEquals(b.pic.acknowledge(), 0x27);
  assertEquals(isr(b, 0xa0), 0);
});

Deno.test("EOI: non-specific ends the highest, specific the named line", () => {
  const b = pair();
  raise(b, 5);
  take(b);
  raise(b, 1);
  take(b);
  assertEquals(isr(b, 0x20), 0x22);
  b.out(0x20, 0x60 | 5);
  assertEquals(isr(b, 0x20), 0x02);
  b.out(0x20, 0x60 | 4);
  assertEquals(isr(b, 0x20), 0x02, "a line not in service");
  b.out(0x20, EOI);
  assertEquals(isr(b, 0x20), 0);
  b.out(0x20, EOI);
  assertEquals(isr(b, 0x20), 0);
});

Deno.test("rotation: on non-specific and specific EOI, and set priority", () => {
  const b = pair();
  raise(b, 3);
  take(b);
  b.out(0x20, 0xa0);
  // Line 3 is the lowest now: 4 is the highest.
  raise(b, 0, 4, 7);
  assertEquals(take(b, 1), [0x24]);
  b.out(0x20, EOI);
  assertEquals(take(b, 1), [0x27]);
  b.out(0x20, EOI);
  assertEquals(take(b, 1), [0x20]);
  b.out(0x20, 0xe0);
  // Specific rotation: 0 is the lowest, 1 the highest.
  b.lines.set(0, false);
  b.lines.set(7, false);
  raise(b, 0, 7);
  assertEquals(take(b, 1), [0x27]);
  b.out(0x20, EOI);
  assertEquals(take(b, 1), [0x20]);
  b.out(0x20, EOI);
  b.out(0x20, 0xc0 | 5);
  b.lines.set(0, false);
  b.lines.set(7, false);
  raise(b, 0, 5, 6);
  assertEquals(take(b, 1), [0x26]);
});

Deno.test("automatic EOI: no ISR bit; with rotation the served line becomes the lowest", () => {
  const b = pair(3);
  raise(b, 3, 6);
  assertEquals(take(b), [0x23, 0x26]);
  assertEquals(isr(b, 0x20), 0);
  b.out(0x20, 0x80);
  for (const line of [3, 6]) b.lines.set(line, false);
  raise(b, 3);
  assertEquals(take(b), [0x23]);
  b.lines.set(3, false);
  raise(b, 3, 6);
  assertEquals(take(b, 1), [0x26]);
  // Rotation off: the order stays as it is.
  b.out(0x20, 0x00);
  assertEquals(take(b), [0x23]);
  b.lines.set(3, false);
  raise(b, 3);
  take(b);
});

Deno.test("special mask mode: a masked line in service blocks nobody, nor ends by EOI", () => {
  const b = pair();
  raise(b, 1);
  take(b);
  raise(b, 4);
  assertEquals(take(b), []);
  b.out(0x20, 0x68);
  assertEquals(take(b), [], "line 1 isn't masked yet");
  b.out(0x21, 0x02);
  assertEquals(take(b), [0x24]);
  b.out(0x20, EOI);
  assertEquals(isr(b, 0x20), 0x02);
  b.out(0x20, EOI);
  assertEquals(isr(b, 0x20), 0x02, "masked: out of reach");
  b.out(0x20, 0x61);
  assertEquals(isr(b, 0x20), 0);
  b.out(0x20, 0x48);
  raise(b, 3);
  take(b);
  raise(b, 6);
  b.out(0x21, 0x08);
  assertEquals(take(b), [], "mode off again");
});

Deno.test("ICW1 clears requests, masks and modes; sequences with and without ICW3, ICW4", () => {
  const b = pair(3);
  b.out(0x21, 0xff);
  raise(b, 3);
  b.out(0x20, 0x13); // single, ICW4
  b.out(0x21, 0x45);
  b.out(0x21, 0x01);
  assertEquals(b.in(0x21), 0, "mask cleared, ICW4 taken");
  assert(!b.pic.asserted, "an edge before ICW1 is forgotten");
  b.lines.set(3, false);
  raise(b, 3);
  assertEquals(take(b), [0x43]);
  assertEquals(isr(b, 0x20), 0x08, "no automatic EOI any more");
  b.out(0x20, 0x10); // cascade, no ICW4
  b.out(0x21, 0x50);
  b.out(0x21, 0x04);
  b.out(0x21, 0xf0);
  assertEquals(b.in(0x21), 0xf0, "the fourth byte is OCW1");
  assertEquals(b.in(0x20), 0, "reads are of IRR after ICW1");
  // A level-triggered line that is high requests at once.
  b.out(0x4d0, 0x20);
  raise(b, 5);
  b.out(0x20, 0x13);
  b.out(0x21, 0x40);
  b.out(0x21, 0x01);
  assertEquals(take(b, 1), [0x45]);
});

Deno.test("the poll command and special fully nested mode say that they are missing", () => {
  const b = pair();
  assertThrows(() => b.out(0x20, 0x0c), NotModelled, "poll");
  b.out(0x20, 0x11);
  b.out(0x21, 0x20);
  b.out(0x21, 0x04);
  assertThrows(() => b.out(0x21, 0x11), NotModelled, "fully nested");
});

Deno.test("line changes are facts, repeats are not", () => {
  const b = pair();
  const seen = b.collect(IrqLineChanged);
  raise(b, 4, 4);
  b.lines.set(4, false);
  b.settle();
  assertEquals(seen, [{ line: 4, level: true }, { line: 4, level: false }]);
});
