/** PCI configuration space and the reset ports, against the 440FX and PIIX3 data sheets. */
import { assertEquals, assertThrows } from "@std/assert";
import { NotModelled } from "../../core/errors.ts";
import { DeviceBench } from "../../tests/support/devices.ts";
import { TestMachine } from "../../tests/support/machine.ts";
import { i440fx } from "./plugin.ts";

const bench = () => new DeviceBench([{ plugin: i440fx }]);
const address = (bus: number, device: number, fn: number, at: number): number =>
  (0x80000000 | bus << 16 | device << 11 | fn << 8 | at) >>> 0;

Deno.test("the host bridge is there, and nothing else on any bus", () => {
  const b = bench();
  const config = (bus: number, device: number, fn: number, at: number) => {
    b.out(0xcf8, address(bus, device, fn, at), 4);
    return b.in(0xcfc, 4);
  };
  assertEquals(config(0, 0, 0, 0), 0x12378086);
  assertEquals(config(0, 0, 0, 4), 0x02800006);
  assertEquals(config(0, 0, 0, 8), 0x06000002);
  assertEquals(config(0, 0, 0, 0x0c), 0);
  for (let at = 0x10; at < 0x40; at += 4) assertEquals(config(0, 0, 0, at), 0);
  for (let bus = 0; bus < 256; bus += 17) {
    for (let device = 0; device < 32; device++) {
      for (let fn = 0; fn < 8; fn++) {
        if (bus + device + fn === 0) continue;
        assertEquals(config(bus, device, fn, 0), 0xffffffff);
      }
    }
  }
});

Deno.test("CONFIG_ADDRESS: 32 bits only, reserved bits 0; without its enable bit nothing answers", () => {
  const b = bench();
  b.out(0xcf8, 0xffffffff, 4);
  assertEquals(b.in(0xcf8, 4), 0x80fffffc);
  b.out(0xcf8, 0x12, 1);
  b.out(0xcfa, 0x3456, 2);
  assertEquals(b.in(0xcf8, 4), 0x80fffffc);
  assertEquals(b.in(0xcf8, 2), 0xffff);
  b.out(0xcf8, 0, 4);
  assertEquals(b.in(0xcfc, 4), 0xffffffff);
});

Deno.test("parts of a register; identification is read-only, PAM registers are kept", () => {
  const b = bench();
  b.out(0xcf8, address(0, 0, 0, 0), 4);
  assertEquals(b.in(0xcfc, 2), 0x8086);
  assertEquals(b.in(0xcfe, 2), 0x1237);
  assertEquals(b.in(0xcfd, 1), 0x80);
  b.out(0xcfc, 0, 4);
  assertEquals(b.in(0xcfc, 4), 0x12378086);
  b.out(0xcf8, address(0, 0, 0, 0x58), 4);
  b.out(0xcfc, 0x33221100, 4);
  assertEquals(b.in(0xcfc, 4), 0x33221100);
  b.out(0xcfc, 0x44, 1);
  assertEquals(b.in(0xcfc, 4), 0x33221100, "58h is no PAM register");
});

Deno.test("resets end the machine with status 0: CF9h, port 92h, keyboard controller", () => {
  const ways: [string, boolean][] = [
    ["mov dx, 0xcf9\nmov al, 2\nout dx, al\nmov al, 6\nout dx, al", true],
    ["mov dx, 0xcf9\nmov al, 4\nout dx, al", true],
    ["mov dx, 0xcf9\nmov al, 2\nout dx, al", false],
    ["mov al, 3\nout 0x92, al", true],
    ["mov al, 2\nout 0x92, al", false],
    ["mov al, 0xfe\nout 0x64, al", true],
    ["mov al, 0xd1\nout 0x64, al", false],
  ];
  for (const [source, resets] of ways) {
    const m = new TestMachine(`${source}\nhlt`, {
      plugins: [{ plugin: i440fx }],
    });
    const stop = m.run(10);
    assertEquals(
      [stop.kind === "stopped", stop.exitCode],
      resets ? [true, 0] : [false, undefined],
      source,
    );
  }
});

Deno.test("what reads back: CF9h bit 1, A20 open, no keyboard; A20 can't be closed", () => {
  const b = bench();
  assertEquals(b.in(0xcf9), 0);
  b.out(0xcf9, 2);
  assertEquals(b.in(0xcf9), 2);
  assertEquals(b.in(0x92), 2);
  assertEquals(b.in(0x64), 0xff);
  assertThrows(() => b.out(0x92, 0), NotModelled);
});
