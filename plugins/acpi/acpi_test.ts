/**
 * ACPI's fixed hardware against ACPI 6.5 §4.8: PM timer, status, enable and
 * control, SCI, S5 and S3 with its way back through the waking vector.
 */
import { assert, assertEquals, assertThrows } from "@std/assert";
import { NotModelled } from "../../core/errors.ts";
import { ActivityState, Seg, VCPU } from "../../cpu/layout.ts";
import { DeviceBench } from "../../tests/support/devices.ts";
import { TestMachine } from "../../tests/support/machine.ts";
import { lapic } from "../lapic/plugin.ts";
import { pic8259 } from "../pic8259/plugin.ts";
import { rtc } from "../rtc/plugin.ts";
import { AcpiSlept, AcpiWoke } from "./api.ts";
import { acpi } from "./plugin.ts";
import { pmTicks, pmTimer, pmToggles, pmToggleTime } from "./pm_timer.ts";

const SECOND = 1_000_000_000;
const STATUS = 0x600;
const ENABLE = 0x602;
const CONTROL = 0x604;
const TIMER = 0x608;
const PLUGINS = [
  ...[pic8259, lapic, acpi].map((plugin) => ({ plugin })),
  { plugin: rtc, options: { phase: 0 } },
];

class Bench extends DeviceBench {
  constructor(cpus = 1) {
    super(PLUGINS, undefined, cpus);
  }
  /** Level of the SCI, as the 8259 pair's slave sees it (IRR of line 9). */
  get sci(): boolean {
    this.out(0xa0, 0x0a);
    return (this.in(0xa0) & 2) !== 0;
  }
}

Deno.test("PM timer: 3.579545 MHz, exact over any time, 24 bits", () => {
  assertEquals(pmTicks(0), 0);
  assertEquals(pmTicks(279), 0);
  assertEquals(pmTicks(280), 1);
  assertEquals(pmTicks(SECOND), 3_579_545);
  assertEquals(pmTicks(1_000_000 * SECOND + 280), 3_579_545_000_001);
  for (let i = 1; i < 2000; i++) {
    const ns = i * 1_234_567_891;
    const exact = BigInt(ns) * 3_579_545n / 1_000_000_000n;
    assertEquals(pmTicks(ns), Number(exact));
    assertEquals(pmTimer(ns), Number(exact & 0xff_ffffn));
  }
  for (let n = 1; n < 500; n++) {
    const at = pmToggleTime(n);
    assertEquals([pmToggles(at - 1), pmToggles(at)], [n - 1, n]);
  }
});

Deno.test("the timer's port: every size, read-only", () => {
  const b = new Bench();
  b.until(5 * SECOND);
  const value = pmTimer(b.now);
  assertEquals(b.in(TIMER, 4), value);
  assertEquals(b.in(TIMER, 2), value & 0xffff);
  assertEquals(b.in(TIMER, 1), value & 0xff);
  assertEquals(b.in(TIMER + 2, 1), value >> 16);
  b.out(TIMER, 0, 4);
  assertEquals(b.in(TIMER, 4), value);
});

Deno.test("TMR_STS: at each change of bit 23, cleared by writing it, SCI when enabled", () => {
  const b = new Bench();
  const first = pmToggleTime(1);
  b.until(first - 1);
  assertEquals(b.in(STATUS, 2), 0);
  b.until(first);
  assertEquals(b.in(STATUS, 2), 1);
  assert(!b.sci);
  b.out(ENABLE, 1, 2);
  assert(b.sci);
  b.out(STATUS, 0xfffe, 2);
  assert(b.sci, "zeros clear nothing");
  b.out(STATUS, 1, 2);
  assert(!b.sci);
  b.until(pmToggleTime(2) - 1);
  assert(!b.sci);
  b.until(pmToggleTime(2));
  assert(b.sci, "nobody polled");
  b.out(ENABLE, 0, 2);
  assert(!b.sci);
});

Deno.test("control: SCI_EN is always set, sleep type is kept, SLP_EN reads 0", () => {
  const b = new Bench();
  assertEquals(b.in(CONTROL, 2), 1);
  b.out(CONTROL, 0x1c02, 2);
  assertEquals(b.in(CONTROL, 2), 0x1c03);
  b.out(CONTROL + 1, 0x04, 1);
  assertEquals(b.in(CONTROL, 2), 0x0403);
  assertThrows(() => b.out(CONTROL, 0x2800, 2), NotModelled, "sleep type");
});

Deno.test("S5 ends the machine with status 0", () => {
  const m = new TestMachine(
    "mov dx, 0x604\nmov ax, 0x2000\nout dx, ax\nud2",
    { plugins: PLUGINS },
  );
  const slept = m.collect(AcpiSlept);
  const stop = m.run();
  assertEquals([stop.kind, stop.exitCode], ["stopped", 0]);
  assertEquals(slept, [{ type: 0 }]);
});

/** Sleeps with the clock's alarm set; FACS and code at 0x1000 are given. */
const SUSPEND = `
  mov dx, 0x602
  mov ax, 0x400
  out dx, ax
  mov al, 0x0c
  out 0x70, al
  in al, 0x71
%ALARM%
  mov al, 0x0b
  out 0x70, al
  mov al, 0x22
  out 0x71, al
  mov dword ptr [0x3000], 0x1111
  mov eax, 0x12345678
  mov dx, 0x604
  mov ax, 0x2400
  out dx, ax
  mov dword ptr [0x3000], 0x2222
  hlt
`.replace(
  "%ALARM%",
  [1, 3, 5].map((r) =>
    `  mov al, ${r}\n out 0x70, al\n mov al, 0xc0\n out 0x71, al`
  )
    .join("\n"),
);

Deno.test("S3: the machine stands still until the clock's alarm, then starts at the waking vector", () => {
  const m = new TestMachine(SUSPEND, { plugins: PLUGINS, cpus: 2 });
  const slept = m.collect(AcpiSlept);
  const woke = m.collect(AcpiWoke);
  const { physical } = m.hardware;
  // Real mode: mov [0x3008], ax; mov [0x300c], cs; jmp $
  const CODE = [0xa3, 0x08, 0x30, 0x8c, 0x0e, 0x0c, 0x30, 0xeb, 0xfe];
  const VECTOR = 0x12345;
  physical.writeBytes(VECTOR, Uint8Array.from(CODE));
  m.run(20);
  // In x2APIC mode before; RESET means xAPIC.
  const apic = m.cpu.interrupts;
  apic.writeMsr?.(0, 0x1b, 0xfee00d00n);
  apic.writeMsr?.(0, 0x80f, 0x1ffn);
  const facs = facsOf(m);
  physical.writeU32(facs + 12, VECTOR);
  m.run(10_000);
  assertEquals(slept, [{ type: 1 }]);
  assertEquals(woke, [{ vector: VECTOR }]);
  assertEquals(m.word(0x3000, 4), 0x1111n, "nothing ran behind the OUT");
  assertEquals(m.word(0x300c, 2), 0x1234n);
  assertEquals(m.word(0x3008, 2), 0n, "registers are as after RESET");
  assertEquals(apic.readMsr?.(0, 0x1b), 0xfee00900n);
  assertEquals(m.executor.devices.read(0xfee000f0, 4), 0xffn);
  assertEquals(m.v.cr0 & 0x80000001, 0);
  assertEquals(m.v.segBase(Seg.CS), 0x12340n);
  assertEquals(m.v.word(VCPU.fcw), 0x37f, "firmware executed FNINIT");
  assertEquals(m.v.activity, ActivityState.Active);
  assertEquals(
    m.hardware.cpus[1].v.activity,
    ActivityState.WaitForSipi,
  );
  // One second of the clock passed, asleep.
  const time = m.executor.step() + m.executor.idle();
  assert(time >= SECOND && time < SECOND + 12_000, `${time}`);
  const status = m.executor.devices.in(STATUS, 2);
  assertEquals(status & 0x8400, 0x8400, "WAK_STS and RTC_STS");
});

/** Address of the FACS, as a guest finds it. */
function facsOf(m: TestMachine): number {
  const { physical } = m.hardware;
  for (let at = 0xe0000; at < 0x100000; at += 16) {
    if (physical.read(at, 8) !== 0x2052_5450_2044_5352n) continue;
    const rsdt = physical.readU32(at + 16);
    const fadt = physical.readU32(rsdt + 36);
    return physical.readU32(fadt + 36);
  }
  throw new RangeError("no RSDP");
}

Deno.test("tables are left out where the guest lies or RAM is too small", () => {
  const taken = new TestMachine("hlt", {
    plugins: PLUGINS,
    setup: (_cpu, { physical }) => physical.writeU32(0xf0100, 1),
  });
  taken.run(5);
  assertEquals(taken.word(0xf0000), 0n);
  const small = new TestMachine("hlt", { plugins: PLUGINS, ramBytes: 0x80000 });
  small.run(5);
  assertThrows(() => facsOf(small), RangeError);
});
