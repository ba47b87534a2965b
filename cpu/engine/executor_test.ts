/** The executor: restore anywhere, observers change nothing, names, edits. */
import { assert, assertEquals, assertThrows } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { ConfigError } from "../../core/errors.ts";
import {
  CpuRetired,
  ExceptionDelivered,
  MemWrote,
  RegWrote,
} from "../facts.ts";
import { Gpr, PAGE_SIZE, VCPU } from "../layout.ts";
import {
  PLACE,
  setGate,
  TestMachine,
  type TestMachineOptions,
} from "../../tests/support/machine.ts";
import { TO_USER_64 } from "../../tests/support/faults.ts";

/** Faults, interrupts of all kinds, TF, REP, CPL changes, CR and MSR writes. */
const PROGRAM = `
  mov ecx, 5
  lea rdi, [buffer]
  mov eax, 0x1234
  rep stosd
  int3
  ud2
  pushfq
  or qword [rsp], 0x100
  popfq
  nop
  mov rbx, cr4
  bts rbx, 9
  mov cr4, rbx
  pushfq
  and qword [rsp], ~0x100
  popfq
  mov rax, [0x40000000]
  mov ecx, 0x277
  rdmsr
  wrmsr
  ${TO_USER_64}
  mov ebx, 3
again: dec ebx
  jnz again
  int 0x40
  hlt
skip: add qword [rsp], 2
  iretq
trap: inc r15
  iretq
page: add rsp, 8
  add qword [rsp], 8
  iretq
done: hlt
align 16
buffer: dq 0, 0, 0, 0`;

function machine(options: TestMachineOptions = {}): TestMachine {
  const m = new TestMachine(PROGRAM, options);
  setGate(m.hardware, 6, m.at("skip"));
  setGate(m.hardware, 1, m.at("trap"));
  setGate(m.hardware, 3, m.at("trap"));
  setGate(m.hardware, 14, m.at("page"));
  setGate(m.hardware, 0x40, m.at("done"), { type: 0xee });
  return m;
}

describe("executor", () => {
  it("restore at any step, then run, equals run (law 4)", () => {
    const whole = machine();
    whole.run();
    const end = whole.v.step;
    const digest = whole.kernel.stateDigest();
    assert(end > 40);
    assert(whole.v.gpr(Gpr.R15) > 3n, "traps were taken");
    for (let step = 0; step <= end; step++) {
      const first = machine();
      first.run(step);
      const keyframe = first.kernel.capture();
      const second = machine();
      second.kernel.restore(keyframe);
      assertEquals(second.v.step, step);
      second.run();
      assertEquals(second.kernel.stateDigest(), digest, `from step ${step}`);
    }
  });

  it("observers change no state (law 3), and facts are in order", () => {
    const quiet = machine();
    quiet.run();
    const watched = machine();
    const retired = watched.collect(CpuRetired);
    const stores = watched.collect(MemWrote);
    const registers = watched.collect(RegWrote);
    const exceptions = watched.collect(ExceptionDelivered);
    watched.run();
    assertEquals(watched.kernel.stateDigest(), quiet.kernel.stateDigest());
    // Every step is a retire or a delivery; INT n and INT3 are both in one.
    const both = exceptions.filter((e) => e.type === 4 || e.type === 6).length;
    assertEquals(
      retired.length + exceptions.length - both,
      watched.v.step,
    );
    assertEquals(
      stores.slice(0, 5).map((s) => Number(s.linear) - watched.at("buffer")),
      [0, 4, 8, 12, 16],
    );
    assert(registers.every((r) => r.register < 16));
  });

  it("names every byte of state", () => {
    const { state, layout } = machine().executor;
    assertEquals(state.describe(0, 0), "machine.step");
    assertEquals(state.describe(1, VCPU.rip), "vcpu0.rip");
    assertEquals(state.describe(1, VCPU.gpr + 8), "vcpu0.gpr.rcx");
    assertEquals(state.describe(1, VCPU.cr4 + 3), "vcpu0.cr4");
    assertEquals(state.describe(2, 32), "vcpu0.itlb[1]+0");
    const dtlb = (layout.dtlb(0) - layout.state) / PAGE_SIZE;
    assertEquals(state.describe(dtlb, 33), "vcpu0.dtlb[1]+1");
    assertEquals(state.describe(layout.statePages + 1, 5), "ram 0x1005");
  });

  it("edits registers and memory, and says what can't be", () => {
    const m = machine();
    const edit = (register: string, value: bigint): void =>
      m.executor.edit({ kind: "register", vcpu: 0, register, value });
    edit("gpr.r9", 77n);
    edit("rip", 0x9000n);
    assertEquals([m.v.gpr(Gpr.R9), m.v.rip], [77n, 0x9000n]);
    m.executor.edit({
      kind: "memory",
      physicalAddress: PLACE.stack,
      bytes: Uint8Array.of(1, 2),
    });
    assertEquals(m.word(PLACE.stack, 2), 0x201n);
    const e = assertThrows(() => edit("rax", 1n), RangeError);
    assert(e.message.includes("gpr.rax"));
    assertThrows(() =>
      m.executor.edit({
        kind: "memory",
        physicalAddress: 2 ** 31,
        bytes: Uint8Array.of(1),
      }), RangeError);
  });

  it("harvests each written page once", () => {
    const m = machine();
    const pages = (): number[] => {
      const out: number[] = [];
      m.executor.state.harvestDirty((p) => out.push(p));
      return out;
    };
    pages();
    m.hardware.physical.write(0x5008, 8, 1n);
    m.hardware.physical.write(0x5010, 8, 1n);
    assertEquals(pages(), [m.executor.layout.statePages + 5]);
    assertEquals(pages(), []);
  });

  it("refuses memory that can't be", () => {
    assertThrows(() => machine({ ramBytes: 4097 }), ConfigError, "4096");
    assertThrows(() => machine({ ramBytes: 2 ** 33 }), ConfigError, "3GiB");
  });
});
