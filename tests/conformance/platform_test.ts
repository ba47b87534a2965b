/**
 * The conformance kit on decoder, mmu and every device of the PC platform, over
 * one guest that uses them all: timer and serial interrupts, self-IPIs, paging
 * edits, port 0x61, and the debug-exit port at the end.
 */
import { assertEquals } from "@std/assert";
import type { EventToken } from "../../core/event.ts";
import type { Kernel } from "../../core/kernel.ts";
import type { Plugin, PluginUse } from "../../core/plugin.ts";
import { acpi } from "../../plugins/acpi/plugin.ts";
import { debugexit } from "../../plugins/debugexit/plugin.ts";
import { decoder } from "../../plugins/decoder/plugin.ts";
import { i440fx } from "../../plugins/i440fx/plugin.ts";
import { ioapic } from "../../plugins/ioapic/plugin.ts";
import { lapic } from "../../plugins/lapic/plugin.ts";
import { mmu } from "../../plugins/mmu/plugin.ts";
import { pic8259 } from "../../plugins/pic8259/plugin.ts";
import { pit8254 } from "../../plugins/pit8254/plugin.ts";
import { rtc } from "../../plugins/rtc/plugin.ts";
import { testdev } from "../../plugins/testdev/plugin.ts";
import { UartReceived } from "../../plugins/uart16550/api.ts";
import { uart16550 } from "../../plugins/uart16550/plugin.ts";
import { assertConforms } from "../../testing/mod.ts";
import { setGate, TestMachine } from "../support/machine.ts";

const PLUGINS: readonly Plugin[] = [
  decoder,
  mmu,
  acpi,
  debugexit,
  i440fx,
  ioapic,
  lapic,
  pic8259,
  pit8254,
  rtc,
  testdev,
  uart16550,
];

const GUEST = `
  ; 8259 pair at 0x30, serial and timer lines open
  mov al, 0x11
  out 0x20, al
  out 0xa0, al
  mov al, 0x30
  out 0x21, al
  mov al, 0x38
  out 0xa1, al
  mov al, 4
  out 0x21, al
  mov al, 2
  out 0xa1, al
  mov al, 1
  out 0x21, al
  out 0xa1, al
  ; clock: periodic interrupts, requested but masked; the date is read
  mov al, 0x0b
  out 0x70, al
  mov al, 0x42
  out 0x71, al
  mov al, 9
  out 0x70, al
  in al, 0x71
  ; 8254: channel 0 every 37 ticks, channel 2 running
  mov al, 0x34
  out 0x43, al
  mov al, 37
  out 0x40, al
  xor eax, eax
  out 0x40, al
  mov al, 1
  out 0x61, al
  mov al, 0xb6
  out 0x43, al
  mov al, 9
  out 0x42, al
  xor eax, eax
  out 0x42, al
  ; 16550: received and transmitter interrupts, OUT2
  mov dx, 0x3fc
  mov al, 8
  out dx, al
  mov dx, 0x3f9
  mov al, 3
  out dx, al
  ; local APIC: periodic timer, 5 µs
  mov rdi, 0x10000000
  mov dword ptr [rdi + 0x3e0], 0xb
  mov dword ptr [rdi + 0x320], 0x20050
  mov dword ptr [rdi + 0x380], 5000
  ; IOAPIC: line 17, an edge
  mov rsi, 0x10200000
  mov dword ptr [rsi], 0x32
  mov dword ptr [rsi + 0x10], 0x60
  xor ebx, ebx
  xor ebp, ebp
  sti
again:
  hlt
  ; test devices: an edge on line 17, register, memory
  mov dx, 0x2011
  mov al, 1
  out dx, al
  xor eax, eax
  out dx, al
  mov eax, ebx
  out 0xe0, eax
  mov [rsi + 0x200000], ebx
  ; ACPI: timer read, its status cleared, SCI enabled; PCI: the host bridge
  mov dx, 0x608
  in eax, dx
  mov dx, 0x600
  mov eax, 0x00010001
  out dx, eax
  mov dx, 0xcf8
  mov eax, 0x80000058
  out dx, eax
  mov dx, 0xcfc
  mov eax, ebx
  out dx, eax
  in eax, dx
  mov dword ptr [rdi + 0x300], 0x40060
  ; move a page back and forth
  mov rax, [0x12000 + 16]
  xor rax, 0x200000
  mov [0x12000 + 16], rax
  mov rcx, [0x400000]
  invlpg [0x400000]
  mov rcx, [0x400000]
  mov rcx, cr3
  mov cr3, rcx
  in al, 0x61
  mov al, 0x80
  out 0x43, al
  in al, 0x42
  in al, 0x42
  inc ebx
  cmp ebx, 40
  jb again
  mov al, 3
  out 0xf4, al
tick:
  push rax
  mov al, 0x20
  out 0x20, al
  pop rax
  iretq
serial:
  push rax
  push rdx
  mov dx, 0x3fa
  in al, dx
  test al, 4
  jz sent
  mov dx, 0x3f8
  in al, dx
  out dx, al
sent:
  mov al, 0x20
  out 0x20, al
  pop rdx
  pop rax
  iretq
local:
  inc ebp
  mov dword ptr [rdi + 0xb0], 0
  iretq
`;

function load(plugins: readonly PluginUse[]): Kernel {
  const m = new TestMachine(GUEST, {
    plugins,
    exactly: true,
    ramBytes: 0x800000,
    setup: (_cpu, { physical }) => {
      physical.write(0x12000 + 128 * 8, 8, 0xfee0009fn);
      physical.write(0x12000 + 129 * 8, 8, 0xfec0009fn);
      physical.write(0x12000 + 130 * 8, 8, 0xff00009fn);
      physical.write(0x200000, 8, 0x1111n);
      physical.write(0x400000, 8, 0x2222n);
    },
  });
  setGate(m.hardware, 0x30, m.at("tick"));
  setGate(m.hardware, 0x34, m.at("serial"));
  setGate(m.hardware, 0x50, m.at("local"));
  setGate(m.hardware, 0x60, m.at("local"));
  return m.kernel;
}

// ACPI's events take a machine of their own, below.
for (const plugin of PLUGINS.filter((p) => p !== acpi)) {
  Deno.test(`${plugin.name} conforms`, () => {
    const at = (step: number, ...bytes: number[]) => ({
      at: step,
      event: UartReceived as EventToken<unknown, "input">,
      payload: { bytes: Uint8Array.from(bytes) },
    });
    const inputs = [at(150, 0x41), at(400, 0x42, 0x43, 0x44)];
    const report = assertConforms({ plugin }, {
      load,
      plugins: PLUGINS.filter((p) => p !== plugin).map((p) => ({ plugin: p })),
      inputs,
      steps: 5000,
      restores: 6,
    });
    assertEquals(report.findings, []);
    // The guest came to its own end.
    assertEquals(report.steps < 5000, true);
  });
}

/** Sleeps until the clock's next second, and switches off when awake again. */
const SLEEPER = `
  mov dx, 0x602
  mov ax, 0x400
  out dx, ax
${
  [[0x0b, 0x22], [1, 0xc0], [3, 0xc0], [5, 0xc0]].map(([register, value]) => `
  mov al, ${register}
  out 0x70, al
  mov al, ${value}
  out 0x71, al`).join("")
}
  mov dx, 0x604
  mov ax, 0x2400
  out dx, ax
  ud2
`;
/** Real mode: mov dx, 604h; mov ax, 2000h; out dx, ax */
const OFF = [0xba, 0x04, 0x06, 0xb8, 0x00, 0x20, 0xef];

Deno.test("acpi conforms, asleep and off", () => {
  const report = assertConforms({ plugin: acpi }, {
    load: (plugins) => {
      const m = new TestMachine(SLEEPER, {
        plugins,
        exactly: true,
        setup: (_cpu, { physical }) =>
          physical.writeBytes(0x1000, Uint8Array.from(OFF)),
      });
      // The waking vector, where the tables' FACS will lie.
      m.hardware.onStart(() => m.hardware.physical.writeU32(0xf004c, 0x1000));
      return m.kernel;
    },
    plugins: [decoder, mmu, lapic, pic8259, rtc].map((p) => ({ plugin: p })),
    steps: 500,
    restores: 6,
  });
  assertEquals(report.findings, []);
  assertEquals(report.steps < 100, true);
});
