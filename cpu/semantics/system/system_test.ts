/** System instructions that succeed: tables, queries, flags, I/O, information. */
import { assertEquals } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { definePlugin } from "../../../core/mod.ts";
import { Devices } from "../../devices.ts";
import { CpuRetired, InterruptDelivered, PortAccessed } from "../../facts.ts";
import { HardwareAccess, Interrupts } from "../../hardware.ts";
import { Gpr, Seg } from "../../layout.ts";
import {
  runProgram,
  TO_USER_32,
  TO_USER_64,
} from "../../../tests/support/faults.ts";
import {
  PLACE,
  SELECTOR,
  setGate,
  TestMachine,
} from "../../../tests/support/machine.ts";

/** A port that answers 0x11223344 + count and keeps what it gets. */
function testPort(): {
  use: { plugin: ReturnType<typeof make> };
  out: number[];
} {
  const out: number[] = [];
  let count = 0;
  function make() {
    return definePlugin({
      name: "test-port",
      version: "1.0.0",
      doc: "A port for tests",
      role: "participant",
      needs: { devices: Devices },
      setup({ use }) {
        use.devices.ports("test-port", 0x300, 0x303, {
          in: () => 0x11223344 + count++,
          out: (_port, _size, value) => void out.push(value),
        });
        return undefined;
      },
    });
  }
  return { use: { plugin: make() }, out };
}

/** INTR is asserted from the start and answers vector 0x50 once. */
const oneInterrupt = definePlugin({
  name: "one-interrupt",
  version: "1.0.0",
  doc: "An interrupt controller for tests",
  role: "participant",
  needs: { hardware: HardwareAccess },
  provides: { interrupts: Interrupts },
  setup({ use, provide }) {
    let left = 1;
    provide.interrupts({
      acknowledge(cpu) {
        use.hardware.setInterruptLine(cpu, false);
        return left-- > 0 ? 0x50 : -1;
      },
      readTpr: () => 0,
      writeTpr: () => {},
    });
    use.hardware.onStart(() => use.hardware.setInterruptLine(0, true));
    return undefined;
  },
});

describe("interrupts", () => {
  it("STI holds an interrupt for one instruction", () => {
    const m = new TestMachine(
      `
      nop
      sti
      inc rbx
    after: hlt
    handler: mov rax, [rsp]
      hlt`,
      { plugins: [{ plugin: oneInterrupt }] },
    );
    setGate(m.hardware, 0x50, m.at("handler"));
    m.run();
    assertEquals(m.v.gpr(Gpr.RAX), BigInt(m.at("after")));
    assertEquals(m.v.gpr(Gpr.RBX), 1n);
    assertEquals(m.v.rflags & 0x200, 0);
  });

  it("wakes HLT", () => {
    const m = new TestMachine(
      `
      sti
      hlt
    after: ud2
    handler: mov rax, [rsp]
      inc r8
      hlt`,
      { plugins: [{ plugin: oneInterrupt }] },
    );
    setGate(m.hardware, 0x50, m.at("handler"));
    const seen = m.collect(InterruptDelivered);
    m.run();
    assertEquals(m.v.gpr(Gpr.RAX), BigInt(m.at("after")));
    assertEquals(seen.map((e) => [e.vector, e.nmi]), [[0x50, false]]);
  });
});

describe("port I/O", () => {
  it("IN and OUT by size, with facts", () => {
    const port = testPort();
    const m = new TestMachine(
      `
      mov dx, 0x300
      mov rax, -1
      in eax, dx
      mov rbx, rax
      mov rax, -1
      in al, dx
      mov rcx, rax
      mov eax, 0x55667788
      out dx, ax
      in al, 0x42
      hlt`,
      { plugins: [port.use] },
    );
    const seen = m.collect(PortAccessed);
    m.run();
    assertEquals(m.v.gpr(Gpr.RBX), 0x11223344n);
    assertEquals(m.v.gpr(Gpr.RCX), 0xffffffffffffff45n);
    assertEquals(port.out, [0x7788]);
    assertEquals(m.v.gpr(Gpr.RAX) & 0xffn, 0xffn);
    assertEquals(seen.map((e) => [e.port, e.size, e.output]), [
      [0x300, 4, false],
      [0x300, 1, false],
      [0x300, 2, true],
      [0x42, 1, false],
    ]);
  });

  it("REP OUTSB and INSW: one iteration a step", () => {
    const port = testPort();
    const m = new TestMachine(
      `
      mov dx, 0x300
      lea rsi, [text]
      mov ecx, 3
      rep outsb
      std
      lea rdi, [buffer + 2]
      mov ecx, 2
      rep insw
      hlt
    text: db 1, 2, 3
    buffer: dw 0, 0`,
      { plugins: [port.use] },
    );
    const retired = m.collect(CpuRetired);
    m.run();
    assertEquals(port.out, [1, 2, 3]);
    assertEquals(m.word(m.at("buffer") + 2, 2), 0x3344n);
    assertEquals(m.word(m.at("buffer"), 2), 0x3345n);
    assertEquals(m.v.step, 3 + 3 + 3 + 2 + 1);
    assertEquals(retired.length, m.v.step);
  });

  it("the TSS's bitmap permits ports at CPL 3", () => {
    const program = (port: number): string =>
      `${TO_USER_32}mov dx, ${port}\nin al, dx\nud2`;
    const run = (port: number): string =>
      runProgram(program(port), {
        mode: "protected",
        setup: (cpu, { physical }) => {
          const tr = cpu.v.segment(Seg.TR);
          cpu.v.setSegment(Seg.TR, { ...tr, limit: 0x67 + 8 });
          physical.write(PLACE.tss + 0x66, 2, 0x68n);
          physical.write(PLACE.tss + 0x68, 8, 0xffff_ffff_ffff_fffbn);
        },
      }).fault;
    assertEquals(run(2), "#UD");
    assertEquals(run(3), "#GP(0)");
    assertEquals(run(0x100), "#GP(0)");
  });
});

describe("descriptor queries", () => {
  const program = (s: number): string => `
    mov eax, ${s}
    xor ebx, ebx
    xor ecx, ecx
    lar ebx, eax
    setz r8b
    lsl ecx, eax
    setz r9b
    verr ax
    setz r10b
    verw ax
    setz r11b`;
  const ask = (s: number): (bigint | number)[] => {
    const { v } = runProgram(program(s)).machine;
    return [
      v.gpr(Gpr.RBX),
      v.gpr(Gpr.RCX),
      ...[Gpr.R8, Gpr.R9, Gpr.R10, Gpr.R11].map((r) => Number(v.gpr(r) & 1n)),
    ];
  };
  it("LAR, LSL, VERR, VERW", () => {
    assertEquals(ask(SELECTOR.data), [0xcf9300n, 0xffffffffn, 1, 1, 1, 1]);
    assertEquals(ask(SELECTOR.code64), [0xaf9b00n, 0xffffffffn, 1, 1, 1, 0]);
    assertEquals(ask(SELECTOR.tss), [0x8900n, 0x67n, 1, 1, 0, 0]);
    assertEquals(ask(0), [0n, 0n, 0, 0, 0, 0]);
    assertEquals(ask(0x1000), [0n, 0n, 0, 0, 0, 0]);
    // RPL 3 sees no DPL 0 segment.
    assertEquals(ask(SELECTOR.data | 3), [0n, 0n, 0, 0, 0, 0]);
  });

  it("ARPL raises RPL", () => {
    const { machine: { v } } = runProgram(
      "mov eax, 0x10\nmov ecx, 3\narpl ax, cx\nsetz bl\narpl ax, cx\nsetz bh",
      { mode: "protected" },
    );
    assertEquals(v.gpr(Gpr.RAX), 0x13n);
    assertEquals(v.gpr(Gpr.RBX) & 0xffffn, 1n);
  });

  it("SGDT, SIDT, SLDT, STR, SMSW", () => {
    const { machine: m } = runProgram(`
      sgdt [b]
      sidt [b + 16]
      mov rax, -1
      str eax
      mov rbx, -1
      sldt bx
      smsw rcx
      mov rdx, cr0
      hlt
    b: dq 0, 0, 0, 0`);
    assertEquals(m.word(m.at("b"), 2), 0x57n);
    assertEquals(m.word(m.at("b") + 2), BigInt(PLACE.gdt));
    assertEquals(m.word(m.at("b") + 18), BigInt(PLACE.idt));
    assertEquals(m.v.gpr(Gpr.RAX), BigInt(SELECTOR.tss));
    assertEquals(m.v.gpr(Gpr.RBX), 0xffffffffffff0000n);
    assertEquals(m.v.gpr(Gpr.RCX), m.v.gpr(Gpr.RDX));
  });
});

describe("flags and segments", () => {
  it("POPF honours CPL and IOPL", () => {
    const { machine: { v } } = runProgram(`${TO_USER_64}
      push 0x3202 | 0x240000
      popfq
      pushfq
      pop rbx
      ud2`);
    // IF stays as it was (IOPL 0), IOPL stays 0, AC and ID change.
    assertEquals(v.gpr(Gpr.RBX), 0x240202n);
  });

  it("PUSH and POP of segments, LSS", () => {
    const { machine: m } = runProgram(
      `
      push ds
      pop es
      mov eax, 0xffffffff
      mov [0x6ff0], eax
      mov esp, 0x6ff4
      push ds
      mov ebx, [0x6ff0]
      lss esp, [p]
      mov ecx, ss
      hlt
    p: dd 0x6f00
      dw ${SELECTOR.data16}`,
      { mode: "protected" },
    );
    // Intel stores only 16 bits of the slot.
    assertEquals(m.v.gpr(Gpr.RBX), 0xffff0000n | BigInt(SELECTOR.data));
    assertEquals(m.v.gpr(Gpr.RSP), 0x6f00n);
    assertEquals(m.v.gpr(Gpr.RCX), BigInt(SELECTOR.data16));
  });

  it("SWAPGS, WRFSBASE, RDGSBASE", () => {
    const { machine: { v } } = runProgram(`
      mov rax, cr4
      bts rax, 16
      mov cr4, rax
      mov ecx, 0xc0000102
      mov eax, 0x1000
      mov edx, 0xffff8000
      wrmsr
      mov ebx, 0x2000
      wrgsbase rbx
      swapgs
      rdgsbase rsi
      rdmsr
      mov rdi, 0x123456789
      wrfsbase edi
      rdfsbase r8`);
    assertEquals(v.gpr(Gpr.RSI), 0xffff800000001000n);
    assertEquals(v.gpr(Gpr.RAX), 0x2000n);
    assertEquals(v.gpr(Gpr.R8), 0x23456789n);
  });
});

describe("information", () => {
  it("the TSC is virtual time and can be set", () => {
    const { machine: { v } } = runProgram(`
      rdtsc
      mov rbx, rax
      rdtsc
      sub rax, rbx
      mov r8, rax
      mov ecx, 0x10
      mov eax, 1000
      xor edx, edx
      wrmsr
      rdtscp
      mov r9, rax
      mov ecx, 0x3b
      rdmsr`);
    assertEquals(v.gpr(Gpr.R8), 2n);
    // WRMSR was step 8: RDTSCP comes one step later.
    assertEquals(v.gpr(Gpr.R9), 1001n);
    assertEquals(v.gpr(Gpr.RAX), 992n);
  });

  it("CPUID shows vendor and features of the model", () => {
    const program = `
      xor eax, eax
      cpuid
      mov r8d, ebx
      mov eax, 1
      cpuid
      mov r9d, ecx
      mov r10d, edx
      mov eax, 7
      xor ecx, ecx
      cpuid`;
    const on = (model: string) => runProgram(program, { model }).machine.v;
    const intel = on("skylake-server,-pcid");
    assertEquals(intel.gpr(Gpr.R8), 0x756e6547n);
    assertEquals(intel.gpr(Gpr.R9) >> 17n & 1n, 0n);
    assertEquals(intel.gpr(Gpr.RBX) >> 20n & 1n, 1n);
    // No VMX without a plugin that does it.
    assertEquals(intel.gpr(Gpr.R9) >> 5n & 1n, 0n);
    assertEquals(on("qemu64").gpr(Gpr.R8), 0x68747541n);
  });
});
