/** The test devices: register by parts, flush port, lines, memory window. */
import { assertEquals } from "@std/assert";
import { DeviceBench } from "../../tests/support/devices.ts";
import { IrqLineChanged } from "../pic8259/api.ts";
import { pic8259 } from "../pic8259/plugin.ts";
import { testdev } from "./plugin.ts";

const bench = () => new DeviceBench([{ plugin: pic8259 }, { plugin: testdev }]);

Deno.test("the register: every size at every place keeps the other bytes", () => {
  for (const size of [1, 2, 4] as const) {
    for (let at = 0; at + size <= 4; at++) {
      const b = bench();
      b.out(0xe0, 0x44332211, 4);
      assertEquals(
        b.in(0xe0 + at, size),
        Number(0x44332211n >> BigInt(at * 8) & (1n << BigInt(size * 8)) - 1n),
      );
      b.out(
        0xe0 + at,
        size === 4 ? 0xddccbbaa : 0xbbaa & (1 << size * 8) - 1,
        size,
      );
      const bytes = [0x11, 0x22, 0x33, 0x44];
      [0xaa, 0xbb, 0xcc, 0xdd].slice(0, size).forEach((x, i) =>
        bytes[at + i] = x
      );
      assertEquals(
        b.in(0xe0, 4),
        new DataView(Uint8Array.from(bytes).buffer).getUint32(0, true),
      );
    }
  }
});

Deno.test("the flush port takes any address and leaves everything as it was", () => {
  const b = bench();
  b.out(0xe0, 0x12345678, 4);
  b.out(0xe4, 0xfffff000, 4);
  assertEquals(b.in(0xe0, 4), 0x12345678);
  assertEquals(b.in(0xe4, 4), 0);
});

Deno.test("lines: zero lowers, anything else raises, 24 of them", () => {
  const b = bench();
  const seen = b.collect(IrqLineChanged);
  for (let line = 0; line < 24; line++) {
    b.out(0x2000 + line, 1);
    b.out(0x2000 + line, 0x80);
    b.out(0x2000 + line, 0);
  }
  assertEquals(
    seen,
    Array.from({ length: 24 }, (_, line) => [
      { line, level: true },
      { line, level: false },
    ]).flat(),
  );
  assertEquals(b.in(0x2000), 0xff);
  assertEquals(b.in(0x2018), 0xff);
});

Deno.test("the memory window: every size, to its last byte", () => {
  const b = bench();
  for (const at of [0xff000000, 0xff008000, 0xff00fff8]) {
    b.write(at, 0x11223344, 4);
    b.write(at + 4, 0x55, 1);
    b.write(at + 6, 0x6677, 2);
    assertEquals(
      b.machine.executor.devices.read(at, 8),
      0x6677_0055_1122_3344n,
    );
    assertEquals(b.read(at + 1, 2), 0x2233);
  }
  assertEquals(b.read(0xff010000), 0xffffffff);
});
