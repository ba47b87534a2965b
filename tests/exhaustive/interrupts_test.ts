/**
 * Interrupts end to end, in guest code on the whole machine: the 8254 through
 * the 8259 pair and the local APIC's ExtINT, the local APIC's own timer, the
 * serial port, and a calibration loop against the TSC (design §6).
 */
import { assert, assertEquals } from "@std/assert";
import type { PluginUse } from "../../core/plugin.ts";
import { InterruptDelivered } from "../../cpu/facts.ts";
import { Gpr } from "../../cpu/layout.ts";
import { debugexit } from "../../plugins/debugexit/plugin.ts";
import { lapic } from "../../plugins/lapic/plugin.ts";
import { pic8259 } from "../../plugins/pic8259/plugin.ts";
import { nanosecondsFor, pit8254 } from "../../plugins/pit8254/plugin.ts";
import { UartReceived } from "../../plugins/uart16550/api.ts";
import { uart16550 } from "../../plugins/uart16550/plugin.ts";
import { setGate, TestMachine } from "../support/machine.ts";

/** Ends the machine: devices' timers would tick on for ever in a HLT. */
const END = "out 0xf4, al";
const PC: readonly PluginUse[] = [
  { plugin: pic8259 },
  { plugin: pit8254 },
  { plugin: lapic },
  { plugin: uart16550 },
  { plugin: debugexit },
];
const APIC_PAGE = 0x1000_0000;

/** Long mode with the APIC's page mapped and gates at the given labels. */
function machine(
  source: string,
  gates: Readonly<Record<number, string>>,
): TestMachine {
  const m = new TestMachine(source, {
    plugins: PC,
    constants: { apic: BigInt(APIC_PAGE) },
    setup: (_cpu, hardware) => {
      // 2-MByte page at 256 MiB leads to 0xfee00000.
      hardware.physical.write(0x12000 + 128 * 8, 8, 0xfee0009fn);
    },
  });
  for (const [vector, label] of Object.entries(gates)) {
    setGate(m.hardware, Number(vector), m.at(label));
  }
  return m;
}

const PIC_SETUP = `
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
`;
const PIT_SETUP = `
  mov al, 0x34
  out 0x43, al
  mov al, 1000 & 0xff
  out 0x40, al
  mov al, 1000 >> 8
  out 0x40, al
`;

Deno.test("8254 through the 8259 pair and LINT0: HLT wakes at every tick", () => {
  const m = machine(
    `${PIC_SETUP}${PIT_SETUP}
      xor ebx, ebx
      sti
    wait:
      hlt
      cmp ebx, 5
      jb wait
      ${END}
    tick:
      inc ebx
      mov al, 0x20
      out 0x20, al
      iretq
      `,
    { 0x30: "tick" },
  );
  const seen = m.collect(InterruptDelivered);
  m.run(1000);
  assertEquals(m.v.gpr32(Gpr.RBX), 5);
  assertEquals(seen.map((e) => e.vector), Array(5).fill(0x30));
  // Five periods of 1000 ticks, and not one more.
  const now = m.executor.step() + m.executor.idle();
  assert(now >= nanosecondsFor(5000) && now < nanosecondsFor(5000) + 2000);
});

Deno.test("local APIC timer: one-shot and periodic, delivered at the exact step", () => {
  const m = machine(
    `
      mov rdi, apic
      mov dword ptr [rdi + 0x3e0], 0xb
      mov dword ptr [rdi + 0x320], 0x40
      mov dword ptr [rdi + 0x380], 1000
      xor ebx, ebx
      sti
    spin:
      cmp ebx, 1
      jb spin
      mov dword ptr [rdi + 0x320], 0x20041
      mov dword ptr [rdi + 0x380], 500
    more:
      cmp ebx, 4
      jb more
      ${END}
    once:
    again:
      inc ebx
      mov dword ptr [rdi + 0xb0], 0
      iretq
    `,
    { 0x40: "once", 0x41: "again" },
  );
  // The fourth instruction writes the count, which runs from its end.
  m.run(4 + 1000);
  assertEquals(m.v.gpr32(Gpr.RBX), 0);
  m.run(1);
  assertEquals(m.v.gpr32(Gpr.RBX), 1, "the handler's first instruction");
  const at: number[] = [];
  m.kernel.watch(InterruptDelivered, (e) => {
    at.push(e.vector, m.v.step);
    return undefined;
  });
  m.run(20_000);
  assertEquals([at[0], at[2], at[4]], [0x41, 0x41, 0x41]);
  assertEquals([at[3] - at[1], at[5] - at[3]], [500, 500]);
  assertEquals(at.length, 6);
});

Deno.test("self-IPIs nest by priority; the TPR by CR8 holds them back", () => {
  const m = machine(
    `
      mov rdi, apic
      mov eax, 7
      mov cr8, rax
      mov dword ptr [rdi + 0x300], 0x40051
      mov dword ptr [rdi + 0x300], 0x40091
      sti
      nop
      cli
      mov r8, rbx
      xor eax, eax
      sti
      mov cr8, rax
      nop
      ${END}
    low:
      shl rbx, 8
      or rbx, 0x51
      jmp done
    high:
      shl rbx, 8
      or rbx, 0x91
    done:
      mov dword ptr [rdi + 0xb0], 0
      iretq
    `,
    { 0x51: "low", 0x91: "high" },
  );
  m.v.setGpr(Gpr.RBX, 0n);
  m.run(20_000);
  assertEquals(m.v.gpr(8), 0x91n);
  assertEquals(m.v.gpr(Gpr.RBX), 0x9151n);
});

Deno.test("serial input interrupts a halted guest, which echoes it", () => {
  const m = machine(
    `${PIC_SETUP}
      mov dx, 0x3fc
      mov al, 8
      out dx, al
      mov dx, 0x3f9
      mov al, 1
      out dx, al
      xor ebx, ebx
      sti
    wait:
      hlt
      jmp wait
    serial:
      mov dx, 0x3f8
      in al, dx
      shl ebx, 8
      mov bl, al
      mov al, 0x20
      out 0x20, al
      iretq
    `,
    { 0x34: "serial" },
  );
  m.run(20_000);
  m.kernel.inject(UartReceived, { bytes: Uint8Array.of(0x41) });
  m.run(20_000);
  m.kernel.inject(UartReceived, { bytes: Uint8Array.of(0x42) });
  m.run(20_000);
  assertEquals(m.v.gpr32(Gpr.RBX), 0x4142);
});

Deno.test("calibration: 1193 ticks of channel 2 against the TSC are 1 ms", () => {
  const m = machine(
    `
      mov al, 1
      out 0x61, al
      mov al, 0xb0
      out 0x43, al
      mov al, 1193 & 0xff
      out 0x42, al
      mov al, 1193 >> 8
      out 0x42, al
      rdtsc
      mov esi, eax
    poll:
      in al, 0x61
      test al, 0x20
      jz poll
      rdtsc
      sub eax, esi
      mov ebx, eax
      ${END}
    `,
    {},
  );
  m.run(1_200_000);
  const measured = m.v.gpr32(Gpr.RBX);
  // One tick of phase and one turn of the loop at most.
  const due = nanosecondsFor(1193);
  assert(Math.abs(measured - due) < 850, `${measured} against ${due}`);
});
