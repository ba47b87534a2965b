/** The machine loop on the reference engine: steps, interrupts, traps, shutdown. */
import { assertEquals } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { ExceptionDelivered, InterruptDelivered } from "../facts.ts";
import { EventRequest, Gpr } from "../layout.ts";
import { setGate, TestMachine } from "../../tests/support/machine.ts";

describe("machine loop", () => {
  it("runs to HLT and counts its step", () => {
    const m = new TestMachine("mov eax, 5\nadd eax, 7\nhlt");
    const stop = m.run();
    assertEquals(stop.kind, "waiting");
    assertEquals(m.v.gpr(Gpr.RAX), 12n);
    assertEquals(m.v.step, 3);
    assertEquals(m.v.activity, 1);
  });

  it("delivers #UD through a 64-bit gate with RF in the image", () => {
    const m = new TestMachine(`
      mov ebx, 1
    bad: ud2
      hlt
    handler:
      mov rax, [rsp]
      mov rcx, [rsp + 16]
      hlt`);
    setGate(m.hardware, 6, m.at("handler"));
    const seen = m.collect(ExceptionDelivered);
    m.run();
    assertEquals(m.v.gpr(Gpr.RAX), BigInt(m.at("bad")));
    assertEquals(m.v.gpr(Gpr.RCX) & 0x10000n, 0x10000n);
    assertEquals(seen.map((e) => e.vector), [6]);
    // mov, delivery, mov, mov, hlt
    assertEquals(m.v.step, 5);
  });

  it("shuts down on a triple fault with exit code 6", () => {
    const m = new TestMachine("lidt [empty]\nud2\nempty: dw 0\ndq 0");
    const stop = m.run();
    assertEquals(stop.kind, "stopped");
    assertEquals(stop.exitCode, 6);
  });

  it("takes an NMI at a boundary and blocks the next until IRET", () => {
    const m = new TestMachine(`
    spin: inc rbx
      cmp rbx, 10
      jb spin
      hlt
    handler:
      inc r8
      iretq`);
    setGate(m.hardware, 2, m.at("handler"));
    const seen = m.collect(InterruptDelivered);
    m.hardware.request(0, EventRequest.Nmi);
    m.run(2);
    m.hardware.request(0, EventRequest.Nmi);
    m.run();
    assertEquals(m.v.gpr(Gpr.R8), 2n);
    assertEquals(seen.length, 2);
    assertEquals(seen.every((e) => e.nmi), true);
  });

  it("single-steps with TF: a trap after each instruction", () => {
    const m = new TestMachine(`
      pushfq
      or qword [rsp], 0x100
      popfq
    a: nop
    b: nop
    c: hlt
    handler:
      mov rax, [rsp]
      mov [trace + r9 * 8], rax
      inc r9
      cmp r9, 2
      jb back
      and qword [rsp + 16], ~0x100
    back: iretq
    align 8
    trace: dq 0, 0, 0, 0`);
    setGate(m.hardware, 1, m.at("handler"));
    m.run();
    assertEquals(m.v.gpr(Gpr.R9), 2n);
    assertEquals(m.word(m.at("trace")), BigInt(m.at("b")));
    assertEquals(m.word(m.at("trace") + 8), BigInt(m.at("c")));
    assertEquals(m.v.dr(6) & 0x4000n, 0x4000n);
  });

  it("an instruction breakpoint faults before, RF passes it", () => {
    const m = new TestMachine(`
      lea rax, [target]
      mov dr0, rax
      mov eax, 0x401
      mov dr7, rax
    target: inc rbx
      hlt
    handler:
      inc r8
      or qword [rsp + 16], 0x10000
      iretq`);
    setGate(m.hardware, 1, m.at("handler"));
    m.run();
    assertEquals([m.v.gpr(Gpr.R8), m.v.gpr(Gpr.RBX)], [1n, 1n]);
    assertEquals(m.v.dr(6) & 0xfn, 1n);
    assertEquals(m.v.rflags & 0x10000, 0);
  });

  it("a data breakpoint traps after the store", () => {
    const m = new TestMachine(`
      lea rax, [cell]
      mov dr1, rax
      mov eax, 0x00d00404
      mov dr7, rax
      mov dword [cell], 5
    next: hlt
    handler: mov rax, [rsp]
      hlt
    align 8
    cell: dq 0`);
    setGate(m.hardware, 1, m.at("handler"));
    m.run();
    assertEquals(m.v.gpr(Gpr.RAX), BigInt(m.at("next")));
    assertEquals(m.v.dr(6) & 0xfn, 2n);
    assertEquals(m.word(m.at("cell"), 4), 5n);
  });

  it("MOV SS holds the trap of the instruction after it", () => {
    const m = new TestMachine(`
      mov ecx, ss
      pushfq
      or qword [rsp], 0x100
      popfq
      mov ss, ecx
      nop
    after: hlt
    handler:
      mov rax, [rsp]
      and qword [rsp + 16], ~0x100
      iretq`);
    setGate(m.hardware, 1, m.at("handler"));
    m.run();
    assertEquals(m.v.gpr(Gpr.RAX), BigInt(m.at("after")));
  });

  it("RF lasts for all iterations of a repeated instruction", () => {
    const m = new TestMachine(`
      lea rax, [target]
      mov dr0, rax
      mov eax, 0x401
      mov dr7, rax
      mov ecx, 4
      lea rdi, [cell]
    target: rep stosb
      hlt
    handler:
      inc r8
      or qword [rsp + 16], 0x10000
      iretq
    cell: dq 0`);
    setGate(m.hardware, 1, m.at("handler"));
    m.run();
    assertEquals([m.v.gpr(Gpr.R8), m.v.gpr(Gpr.RCX)], [1n, 0n]);
    assertEquals(m.v.rflags & 0x10000, 0);
  });

  it("general detect pushes RF, an instruction breakpoint does not", () => {
    const m = new TestMachine(`
      mov eax, 0x2400
      mov dr7, rax
      mov rbx, dr0
      hlt
    handler: mov r8, [rsp + 16]
      mov r9, dr7
      hlt`);
    setGate(m.hardware, 1, m.at("handler"));
    m.run();
    assertEquals(m.v.gpr(Gpr.R8) & 0x10000n, 0x10000n);
    // DR7.GD was cleared, so that the handler may use the registers.
    assertEquals(m.v.gpr(Gpr.R9), 0x400n);
    assertEquals(m.v.dr(6) & 0x2000n, 0x2000n);
  });

  it("MOV SS holds an instruction breakpoint on Intel's models only", () => {
    for (const model of ["max-intel", "max-amd"]) {
      const m = new TestMachine(
        `
        lea rax, [target]
        mov dr0, rax
        mov eax, 0x402
        mov dr7, rax
        mov ax, ss
        mov ss, ax
      target: nop
        hlt
      db: mov ebx, 1
        hlt`,
        { model },
      );
      setGate(m.hardware, 1, m.at("db"));
      m.run();
      assertEquals(m.v.gpr(Gpr.RBX), model === "max-amd" ? 1n : 0n, model);
    }
  });

  it("BTF: TF traps after taken branches only, and ends with #DB", () => {
    for (
      const code of [
        "nop\njmp there\nnop\nthere: nop\nhlt",
        "xor eax, eax\njnz never\njz there\nnever: nop\nthere: nop\nhlt",
        "nop\ncall there\nnop\nthere: nop\nhlt",
        "lea rax, [there]\nnop\njmp rax\nnop\nthere: nop\nhlt",
        "lea rax, [there]\npush rax\nnop\nret\nnop\nthere: nop\nhlt",
        "mov ecx, 0x1d9\nloop there\nnop\nthere: nop\nhlt",
      ]
    ) {
      const m = new TestMachine(`
        mov ecx, 0x1d9
        mov eax, 2
        xor edx, edx
        wrmsr
        pushfq
        or qword [rsp], 0x100
        popfq
        ${code}
      db: mov rbx, [rsp]
        mov ecx, 0x1d9
        rdmsr
        hlt`);
      setGate(m.hardware, 1, m.at("db"));
      m.run();
      assertEquals(m.v.gpr(Gpr.RBX), BigInt(m.at("there")), code);
      assertEquals(m.v.gpr(Gpr.RAX) & 2n, 0n, "the exception clears BTF");
      assertEquals(m.v.dr(6) & 0x4000n, 0x4000n);
    }
  });

  it("65,536 transitions without a step are stuck (design law 8)", () => {
    // Requests for INIT that never end stand for an endless exit loop.
    const m = new TestMachine("hlt");
    Object.defineProperty(m.v, "eventRequest", {
      get: () => EventRequest.Init,
      set: () => {},
    });
    const stop = m.run();
    assertEquals(stop.kind, "stopped");
    assertEquals(stop.reason?.startsWith("stuck"), true);
    assertEquals(m.v.step, 0);
  });
});
