/** Far transfers, task switches, fast system calls and mode changes that succeed. */
import { assertEquals } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { Gpr, Seg } from "../../layout.ts";
import { runProgram, TO_USER_64 } from "../../../tests/support/faults.ts";
import {
  PLACE,
  SELECTOR,
  setGate,
  TestMachine,
} from "../../../tests/support/machine.ts";

const wrmsr = (index: number, low: number | string, high: number): string =>
  `mov ecx, ${index}\nmov eax, ${low}\nmov edx, ${high}\nwrmsr\n`;

/** A call gate's low quadword. @param type 0xec 32-bit or 64-bit DPL 3, 0xe4 16-bit */
function callGate(selector: number, offset: number, parameters = 0): bigint {
  return BigInt(offset & 0xffff) | BigInt(selector) << 16n |
    BigInt(parameters) << 32n | 0xecn << 40n | BigInt(offset >>> 16) << 48n;
}

/** GDT index behind the TSS. */
const GATE = SELECTOR.tss + 16;

describe("far transfers", () => {
  it("CALL far and RETF in 64-bit mode", () => {
    const m = new TestMachine(`
      call far dword [p]
    back: mov rdx, rsp
      hlt
    target: mov rbx, [rsp]
      mov ecx, [rsp + 4]
      retf
    p: dd target
      dw ${SELECTOR.code64}`);
    m.run();
    assertEquals(m.v.gpr(Gpr.RBX) & 0xffff_ffffn, BigInt(m.at("back")));
    assertEquals(m.v.gpr(Gpr.RCX), BigInt(SELECTOR.code64));
    assertEquals(m.v.gpr(Gpr.RDX), BigInt(PLACE.stack));
  });

  it("JMP far into compatibility mode and back", () => {
    const { machine: m, fault } = runProgram(`
      jmp far dword [to32]
    back: mov edx, cs
      hlt
    to32: dd code32
      dw ${SELECTOR.code32}
    bits 32
    code32: mov ebx, cs
      mov ecx, 0x12345678
      inc ecx
      jmp ${SELECTOR.code64}:back
    bits 64`);
    assertEquals(fault, "none");
    assertEquals(m.v.gpr(Gpr.RBX), BigInt(SELECTOR.code32));
    assertEquals(m.v.gpr(Gpr.RDX), BigInt(SELECTOR.code64));
    assertEquals(m.v.gpr(Gpr.RCX), 0x12345679n);
  });

  it("a 64-bit call gate switches to RSP0 and RETF returns to CPL 3", () => {
    let handler = 0;
    const source = `${TO_USER_64}
      call far dword [gate]
    back: mov r12, rsp
      mov r13d, cs
      ud2
    inner: mov r8, rsp
      mov r9, [rsp]
      mov r10, [rsp + 16]
      mov r11d, ss
      retfq
    gate: dd 0
      dw ${GATE | 3}`;
    handler = Number(new TestMachine(source).at("inner"));
    const { machine: m, fault } = runProgram(source, {
      setup: (cpu, { physical }) => {
        physical.write(
          PLACE.gdt + GATE,
          8,
          callGate(SELECTOR.code64, handler),
        );
        physical.write(PLACE.gdt + GATE + 8, 8, 0n);
        cpu.v.setGdtr(BigInt(PLACE.gdt), GATE + 15);
      },
    });
    assertEquals(fault, "#UD");
    assertEquals(m.v.gpr(Gpr.R8), BigInt(PLACE.innerStack - 32));
    assertEquals(m.v.gpr(Gpr.R9), BigInt(m.at("back")));
    assertEquals(m.v.gpr(Gpr.R10), BigInt(PLACE.userStack));
    assertEquals(m.v.gpr(Gpr.R11), 0n);
    assertEquals(m.v.gpr(Gpr.R12), BigInt(PLACE.userStack));
    assertEquals(m.v.gpr(Gpr.R13), BigInt(SELECTOR.userCode64));
  });

  it("a 32-bit call gate copies its parameters; RETF n releases both stacks", () => {
    const source = `
      push ${SELECTOR.userData}
      push ${PLACE.userStack}
      push 0x202
      push ${SELECTOR.userCode32}
      push user
      iretd
    user: push 0x1111
      push 0x2222
      call ${GATE | 3}:0
    back: mov edi, esp
      ud2
    inner: mov ebx, [esp + 8]
      mov ecx, [esp + 12]
      mov edx, [esp + 16]
      retf 8`;
    const options = { mode: "protected" as const };
    const inner = new TestMachine(source, options).at("inner");
    const { machine: m, fault } = runProgram(source, {
      ...options,
      setup: (cpu, { physical }) => {
        physical.write(
          PLACE.gdt + GATE,
          8,
          callGate(SELECTOR.code32, inner, 2),
        );
        cpu.v.setGdtr(BigInt(PLACE.gdt), GATE + 7);
      },
    });
    assertEquals(fault, "#UD");
    assertEquals(m.v.gpr(Gpr.RBX), 0x2222n);
    assertEquals(m.v.gpr(Gpr.RCX), 0x1111n);
    assertEquals(m.v.gpr(Gpr.RDX), BigInt(PLACE.userStack - 8));
    assertEquals(m.v.gpr(Gpr.RDI), BigInt(PLACE.userStack));
  });
});

describe("task switch", () => {
  const NEW_TSS = 0x900;
  /** Puts an available TSS at selector GATE whose task starts at `entry`. */
  const withTask = (entry: number, eflags = 2) =>
  (
    cpu: import("../../context.ts").CpuContext,
    { physical }: import("../../hardware.ts").Hardware,
  ): void => {
    const at = PLACE.gdt + GATE;
    physical.write(at, 8, 0x0000890000000067n | BigInt(NEW_TSS) << 16n);
    physical.write(PLACE.gdt + SELECTOR.tss + 5, 1, 0x8bn);
    cpu.v.setGdtr(BigInt(PLACE.gdt), GATE + 7);
    const put = (offset: number, value: number): void =>
      physical.write(NEW_TSS + offset, 4, BigInt(value));
    put(0x20, entry);
    put(0x24, eflags);
    put(0x38, PLACE.innerStack);
    put(0x28, 0xaaaa);
    [
      SELECTOR.data,
      SELECTOR.code32,
      SELECTOR.data,
      SELECTOR.data,
      0,
      0,
    ].forEach((s, i) => put(0x48 + i * 4, s));
  };

  const source = `
    mov ebx, 0x1234
    call ${GATE}:0
    back: mov edx, [0x900]
    str cx
    hlt
  task: mov esi, ebx
    mov edi, eax
    pushfd
    pop ebp
    mov [0x6f00], ebp
    mov [0x6f04], esi
    mov [0x6f08], edi
    str ax
    mov [0x6f0c], ax
    mov eax, cr0
    mov [0x6f10], eax
    iretd`;

  it("CALL nests, IRET returns, busy flags and link follow", () => {
    const options = { mode: "protected" as const };
    const task = new TestMachine(source, options).at("task");
    const { machine: m, fault } = runProgram(source, {
      ...options,
      setup: withTask(task),
    });
    assertEquals(fault, "none");
    assertEquals(m.word(0x6f00, 4) & 0x4000n, 0x4000n);
    assertEquals(m.word(0x6f04, 4), 0n);
    assertEquals(m.word(0x6f08, 4), 0xaaaan);
    assertEquals(m.word(0x6f0c, 2), BigInt(GATE));
    assertEquals(m.word(0x6f10, 4) & 8n, 8n);
    assertEquals(m.v.gpr(Gpr.RBX), 0x1234n);
    assertEquals(m.v.gpr(Gpr.RDX) & 0xffffn, BigInt(SELECTOR.tss));
    assertEquals(m.v.gpr(Gpr.RCX) & 0xffffn, BigInt(SELECTOR.tss));
    // Old task busy again, new one available.
    assertEquals(m.word(PLACE.gdt + GATE + 5, 1), 0x89n);
    assertEquals(m.word(PLACE.gdt + SELECTOR.tss + 5, 1), 0x8bn);
    assertEquals(m.v.rflags & 0x4000, 0);
  });

  it("an exception through a task gate pushes its error code on the new stack", () => {
    const options = { mode: "protected" as const };
    const program = `
      mov eax, 0x100
    bad: mov ds, eax
      hlt
    task: pop ebx
      mov ecx, [${PLACE.tss} + 0x20]
      hlt`;
    const task = new TestMachine(program, options).at("task");
    const { machine: m } = runProgram(program, {
      ...options,
      setup: (cpu, hardware) => {
        withTask(task)(cpu, hardware);
        hardware.physical.write(
          PLACE.idt + 13 * 8,
          8,
          BigInt(GATE) << 16n | 0x85n << 40n,
        );
      },
    });
    assertEquals(m.v.gpr(Gpr.RBX), 0x100n);
    assertEquals(m.v.gpr(Gpr.RCX), BigInt(m.at("bad")));
    assertEquals(m.v.segSelector(Seg.TR), GATE);
  });

  it("JMP leaves the old task available; the T flag traps in the new one", () => {
    const options = { mode: "protected" as const };
    const program = `jmp ${GATE}:0\ntask: nop\nhlt`;
    const task = new TestMachine(program, options).at("task");
    const { machine: m, fault } = runProgram(program, {
      ...options,
      setup: (cpu, hardware) => {
        withTask(task)(cpu, hardware);
        hardware.physical.write(NEW_TSS + 0x64, 2, 1n);
      },
    });
    assertEquals(fault, "#DB");
    assertEquals(m.v.dr(6) & 0x8000n, 0x8000n);
    assertEquals(m.word(PLACE.gdt + SELECTOR.tss + 5, 1), 0x89n);
  });
});

describe("fast system calls", () => {
  it("SYSCALL and SYSRET keep RIP, RFLAGS and selectors", () => {
    const { machine: m, fault } = runProgram(`
      ${wrmsr(0xc0000082, "entry", 0)}
      ${wrmsr(0xc0000081, 0, (SELECTOR.userCode32 - 3) << 16 | 8)}
      ${wrmsr(0xc0000084, 0x200, 0)}
      ${TO_USER_64}
      stc
      syscall
    back: mov r14d, cs
      mov r15d, ss
      pushfq
      pop r13
      ud2
    entry: mov r8, rcx
      mov r9, r11
      mov r10d, cs
      mov ebx, ss
      pushfq
      pop r12
      sysretq`);
    assertEquals(fault, "#UD");
    assertEquals(m.v.gpr(Gpr.R8), BigInt(m.at("back")));
    assertEquals(m.v.gpr(Gpr.R9), 0x203n);
    assertEquals(m.v.gpr(Gpr.R10), 8n);
    assertEquals(m.v.gpr(Gpr.RBX), 16n);
    assertEquals(m.v.gpr(Gpr.R12), 3n);
    assertEquals(m.v.gpr(Gpr.R13), 0x203n);
    assertEquals(m.v.gpr(Gpr.R14), BigInt(SELECTOR.userCode64));
    assertEquals(m.v.gpr(Gpr.R15), BigInt(SELECTOR.userData));
  });

  it("SYSENTER and SYSEXIT", () => {
    // SYSEXIT's selectors lie 16 to 40 above the kernel's CS: a GDT of its own.
    const { machine: m, fault } = runProgram(`
      lgdt [gdtr]
      ${wrmsr(0x174, 8, 0)}
      ${wrmsr(0x175, PLACE.innerStack, 0)}
      ${wrmsr(0x176, "entry", 0)}
      ${TO_USER_64}
      sysenter
    back: mov r14d, cs
      mov r15d, ss
      ud2
    entry: mov r8, rsp
      mov r9d, cs
      mov rcx, ${PLACE.userStack}
      lea rdx, [back]
      sysexitq
    gdtr: dw 0x6f
      dq ${PLACE.gdt}`);
    assertEquals(fault, "#UD");
    assertEquals(m.v.gpr(Gpr.R8), BigInt(PLACE.innerStack));
    assertEquals(m.v.gpr(Gpr.R9), 8n);
    assertEquals(m.v.gpr(Gpr.R14), 8n + 32n + 3n);
    assertEquals(m.v.gpr(Gpr.R15), 8n + 40n + 3n);
  });
});

describe("modes", () => {
  it("goes from real mode through protected mode to long mode", () => {
    const { machine: m, fault } = runProgram(
      `
      cli
      lgdt [gdtr]
      mov eax, cr0
      or al, 1
      mov cr0, eax
      jmp ${SELECTOR.code32}:p32
    gdtr: dw 0x5f
      dd ${PLACE.gdt}
    bits 32
    p32: mov ax, ${SELECTOR.data}
      mov ds, ax
      mov es, ax
      mov ss, ax
      mov esp, 0x7000
      mov dword [0x10000], 0x11007
      mov dword [0x11000], 0x12007
      mov dword [0x12000], 0x87
      mov eax, 0x10000
      mov cr3, eax
      mov eax, 0x20
      mov cr4, eax
      mov ecx, 0xc0000080
      rdmsr
      or eax, 0x100
      wrmsr
      mov eax, cr0
      or eax, 0x80000000
      mov cr0, eax
      rdmsr
      mov ebx, eax
      jmp ${SELECTOR.code64}:p64
    bits 64
    p64: mov r8, 0x1122334455667788
      mov r9d, cs
      hlt`,
      {
        mode: "real",
        setup: (_cpu, { physical }) => {
          [0n, 0x00af9b000000ffffn, 0x00cf93000000ffffn, 0x00cf9b000000ffffn]
            .forEach((d, i) => physical.write(PLACE.gdt + i * 8, 8, d));
        },
      },
    );
    assertEquals(fault, "none");
    assertEquals(m.v.gpr(Gpr.RBX) & 0x500n, 0x500n);
    assertEquals(m.v.gpr(Gpr.R8), 0x1122334455667788n);
    assertEquals(m.v.gpr(Gpr.R9), 8n);
  });

  it("unreal mode keeps the limit of a protected-mode segment", () => {
    const { machine: m, fault } = runProgram(
      `
      lgdt [gdtr]
      mov eax, cr0
      or al, 1
      mov cr0, eax
      mov bx, ${SELECTOR.data}
      mov ds, bx
      and al, 0xfe
      mov cr0, eax
      xor bx, bx
      mov ds, bx
      mov edi, 0x100000
      mov dword [edi], 0x5566
      hlt
    gdtr: dw 0x1f
      dd ${PLACE.gdt}`,
      {
        mode: "real",
        setup: (_cpu, { physical }) => {
          physical.write(
            PLACE.gdt + SELECTOR.data,
            8,
            0x00cf93000000ffffn,
          );
        },
      },
    );
    assertEquals(fault, "none");
    assertEquals(m.word(0x100000, 4), 0x5566n);
  });
});

describe("interrupts that fault", () => {
  it("INT n with a bad stack keeps the old state", () => {
    const m = new TestMachine(`
      mov rsp, 0x8000000000000000
    here: int 0x40
    stack_fault: mov rbx, [rsp + 8]
      hlt`);
    setGate(m.hardware, 0x40, 0);
    // The #SS handler has a stack of its own.
    setGate(m.hardware, 12, m.at("stack_fault"), { ist: 1 });
    m.hardware.physical.write(PLACE.tss + 36, 8, 0x5000n);
    m.run();
    assertEquals(m.v.gpr(Gpr.RBX), BigInt(m.at("here")));
  });
});
