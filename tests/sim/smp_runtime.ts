/**
 * What every random program for several vCPUs has beside its bodies: page
 * tables, the application processors' way from a start-up IPI to 64-bit mode,
 * handlers, and the macros by which bodies send interrupts. One 64-bit address
 * space: the first 2 MiB onto themselves, eight windows of 4 KiB at WINDOW.
 */
import { Ipi, IPI_PORT, ipiWord } from "../support/ipi.ts";

/** Which interrupt controller a program's machine has. */
export type Controller = "port" | "lapic";

/** Where things lie. */
export const SMP_AT = {
  /** 16-bit code at the start-up IPI's vector. */
  trampoline: 0x8000,
  runtime: 0x100000,
  gdt: 0x120000,
  idt: 0x121000,
  pml4: 0x122000,
  pdpt: 0x123000,
  pd: 0x124000,
  pdHigh: 0x125000,
  pt: 0x126000,
  /** Words for all: locks, counters. */
  shared: 0x128000,
  /** Frames that windows lead to. */
  frames: 0x130000,
  /** One page for each vCPU. */
  own: 0x138000,
  /** One page of code for each vCPU, written by all. */
  patches: 0x140000,
  stacks: 0x150000,
  window: 0x200000,
} as const;
/** Windows, and frames behind them. */
export const WINDOWS = 8;
/** Offsets of words from SMP_AT.shared. */
export const SHARED = {
  started: 0x00,
  done: 0x08,
  lock: 0x10,
  ticketNext: 0x18,
  ticketServed: 0x1c,
  tableLock: 0x20,
  acknowledged: 0x28,
  flushAt: 0x30,
  interrupts: 0x38,
  nmis: 0x40,
  faults: 0x48,
  debugs: 0x50,
  guarded: 0x58,
  /** Words that locked instructions are aimed at. */
  words: 0x100,
} as const;
/** Address of a shared word. */
export const at = (word: keyof typeof SHARED): number =>
  SMP_AT.shared + SHARED[word];

/** Vectors of fixed interrupts. */
export const VECTOR = { count: 0x41, flush: 0x42, reply: 0x43 } as const;
const APIC = 0xfee00000;
const KINDS: Readonly<Record<number, number>> = {
  [Ipi.Fixed]: 0x4000,
  [Ipi.Nmi]: 0x4400,
  [Ipi.Init]: 0x4500,
  [Ipi.Sipi]: 0x4600,
};

/** Text that sends an IPI; changes RAX, RDX. */
export function sendIpi(
  controller: Controller,
  kind: number,
  target: number,
  vector = 0,
): string {
  if (controller === "port") {
    return `mov dx, ${IPI_PORT}
      mov eax, ${ipiWord(kind, target, vector)}
      out dx, eax`;
  }
  const all = target === 0xff ? 0xc0000 : 0;
  return `mov eax, ${APIC}
    mov dword [rax + 0x310], ${target === 0xff ? 0 : target << 24}
    mov dword [rax + 0x300], ${KINDS[kind] | all | vector}`;
}

/** Text that sends VECTOR.count to the vCPU whose number is in ECX. */
function reply(controller: Controller): string {
  return controller === "port"
    ? `mov eax, ecx
       shl eax, 8
       or eax, ${ipiWord(Ipi.Fixed, 0, VECTOR.count)}
       mov dx, ${IPI_PORT}
       out dx, eax`
    : `shl ecx, 24
       mov eax, ${APIC}
       mov [rax + 0x310], ecx
       mov dword [rax + 0x300], ${0x4000 | VECTOR.count}`;
}

const gate = (label: string): string =>
  `dw ${label} & 0xffff
   dw 8
   dw 0x8e00
   dw ${label} >> 16
   dq 0`;

/** Interrupt descriptors: 256 of them, those without a handler at `stray`. */
function idt(): string {
  const handlers: Record<number, string> = {
    1: "debug",
    2: "nmi",
    14: "page_fault",
    [VECTOR.count]: "count",
    [VECTOR.flush]: "flush",
    [VECTOR.reply]: "reply",
  };
  const last = VECTOR.reply;
  return Array.from(
    { length: last + 1 },
    (_, vector) => gate(handlers[vector] ?? "stray"),
  ).join("\n");
}

const zeros = (bytes: number): string => `times ${bytes} db 0`;

/** The text around the bodies, which have the labels body0, body1 … */
export function runtimeText(cpus: number, controller: Controller): string {
  const eoi = controller === "port"
    ? ""
    : `mov eax, ${APIC}\nmov dword [rax + 0xb0], 0`;
  return `
section .trampoline start=${SMP_AT.trampoline}
bits 16
  cli
  lgdt [gdtr16]
  mov eax, cr4
  or eax, 0x20
  mov cr4, eax
  mov eax, ${SMP_AT.pml4}
  mov cr3, eax
  mov ecx, 0xc0000080
  rdmsr
  or eax, 0x100
  wrmsr
  mov eax, cr0
  or eax, 0x80000001
  mov cr0, eax
  jmp dword 8:enter
gdtr16: dw 23
  dd ${SMP_AT.gdt}

section .runtime start=${SMP_AT.runtime}
bits 64
boot:
  lgdt [gdtr64]
  mov eax, ${SMP_AT.pml4}
  mov cr3, rax
enter:
  mov eax, 16
  mov ds, eax
  mov es, eax
  mov ss, eax
  lidt [idtr64]
  ${
    controller === "lapic"
      ? `mov eax, ${APIC}\nmov dword [rax + 0xf0], 0x1ff`
      : ""
  }
  mov eax, 1
  cpuid
  shr ebx, 24
  mov r15d, ebx
  mov eax, ebx
  shl eax, 12
  lea rsp, [rax + ${SMP_AT.stacks + 0x1000}]
  lea rbp, [rax + ${SMP_AT.own}]
  mov r14d, ${SMP_AT.shared}
  lock inc dword [${at("started")}]
  sti
  jmp [bodies + r15 * 8]
bodies: ${Array.from({ length: cpus }, (_, i) => `\n  dq body${i}`).join("")}
gdtr64: dw 23
  dq ${SMP_AT.gdt}
idtr64: dw ${(VECTOR.reply + 1) * 16 - 1}
  dq ${SMP_AT.idt}

finish:
  lock inc dword [${at("done")}]
  test r15d, r15d
  jnz rest
  mov ecx, 200
wait_done:
  pause
  cmp dword [${at("done")}], ${cpus}
  jae end
  dec ecx
  jnz wait_done
end:
  mov eax, [${at("guarded")}]
  and eax, 0x3f
  mov dx, 0xf4
  out dx, eax
rest:
  sti
  hlt
  jmp rest

stray:
  lock inc dword [${at("faults")}]
  jmp finish
debug:
  push rax
  xor eax, eax
  mov dr6, rax
  lock inc dword [${at("debugs")}]
  pop rax
  and qword [rsp + 16], ~0x100
  iretq
nmi:
  lock inc dword [${at("nmis")}]
  iretq
; makes the window's entry present again, whoever cleared it
page_fault:
  lock inc dword [${at("faults")}]
  push rax
  mov rax, cr2
  sub rax, ${SMP_AT.window}
  jb stray
  shr rax, 12
  cmp rax, ${WINDOWS}
  jae stray
  lock bts dword [${SMP_AT.pt} + rax * 8], 0
  pop rax
  add rsp, 8
  iretq
count:
  lock inc dword [${at("interrupts")}]
  push rax
  ${eoi}
  pop rax
  iretq
flush:
  push rax
  mov rax, [${at("flushAt")}]
  invlpg [rax]
  lock inc dword [${at("acknowledged")}]
  ${eoi}
  pop rax
  iretq
; answers whoever left its number in its mailbox here
reply:
  push rax
  push rcx
  push rdx
  mov ecx, [rbp + 0x20]
  ${reply(controller)}
  ${eoi}
  pop rdx
  pop rcx
  pop rax
  iretq

section .gdt start=${SMP_AT.gdt}
  dq 0, 0x00af9b000000ffff, 0x00cf93000000ffff
section .idt start=${SMP_AT.idt}
${idt()}
section .pml4 start=${SMP_AT.pml4}
  dq ${SMP_AT.pdpt + 3}
section .pdpt start=${SMP_AT.pdpt}
  dq ${SMP_AT.pd + 3}, 0, 0, ${SMP_AT.pdHigh + 3}
section .pd start=${SMP_AT.pd}
  dq 0x83, ${SMP_AT.pt + 3}
section .pdhigh start=${SMP_AT.pdHigh}
  ${zeros(503 * 8)}
  dq ${APIC + 0x93}
section .pt start=${SMP_AT.pt}
${
    Array.from(
      { length: WINDOWS },
      (_, i) => `  dq ${SMP_AT.frames + i * 0x1000 + 3}`,
    ).join("\n")
  }
section .patches start=${SMP_AT.patches}
${`  mov eax, 1\n  ret\n  nop\n  nop\n  ${zeros(0x1000 - 8)}\n`.repeat(cpus)}
section .bodies start=${SMP_AT.runtime + 0x2000}
`;
}
