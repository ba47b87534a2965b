/**
 * Guest kernels for measurements, as multiboot images that vmtape and QEMU boot
 * alike: long mode, 4-KiB pages, RAM mapped low and in the high half. Each does
 * a fixed amount of work, leaves a checksum in RAX and writes its low byte,
 * shifted right, to the debug-exit port.
 *
 * k1: 64-bit ALU loop · k2: sieve, copy and random read-modify-write over
 * 8 MiB · k3: recursion with a jump-table switch · k4: k2 over 512 KiB ·
 * empty: only boots, to subtract start-up.
 */
import { assemble } from "../host/asm/mod.ts";

const BOOT = `
ORG_ equ 0x100000
TABLES equ 0x200000
HIGH equ 0xffff800000000000
DATA equ 0x400000
bits 32
start:
  jmp entry
  align 4
header:
  dd 0x1badb002, 0x10000, -(0x1badb002 + 0x10000)
  dd header, ORG_, image_end, image_end, entry
  align 8
gdt:
  dq 0, 0x00af9b000000ffff, 0x00cf93000000ffff
gdtr:
  dw 23
  dd gdt
entry:
  mov esp, 0x1ff000
  mov edi, TABLES
  mov ecx, 0x20000 / 4
  xor eax, eax
  cld
  rep stosd
  mov dword [TABLES], TABLES + 0x1003
  mov dword [TABLES + 0x800], TABLES + 0x1003
  mov dword [TABLES + 0x1000], TABLES + 0x2003
  mov edi, TABLES + 0x2000
  mov eax, TABLES + 0x3003
  mov ecx, 16
.directory:
  mov [edi], eax
  add edi, 8
  add eax, 0x1000
  dec ecx
  jnz .directory
  mov edi, TABLES + 0x3000
  mov eax, 3
  mov ecx, 8192
.table:
  mov [edi], eax
  add edi, 8
  add eax, 0x1000
  dec ecx
  jnz .table
  mov eax, TABLES
  mov cr3, eax
  mov eax, 0x20
  mov cr4, eax
  mov ecx, 0xc0000080
  rdmsr
  or eax, 0x100
  wrmsr
  mov eax, cr0
  or eax, 0x80000001
  mov cr0, eax
  lgdt [gdtr]
  jmp 0x08:long
bits 64
long:
  mov eax, 0x10
  mov ds, eax
  mov es, eax
  mov ss, eax
  mov rsp, 0x1ff000
  call work
  mov rbx, rax
  shr al, 1
  out 0xf4, al
.halt:
  hlt
  jmp .halt
`;

const K1 = `
work:
  mov rcx, ROUNDS
  mov rax, 0x123456789abcdef1
  mov rbx, 0x0fedcba987654321
  mov rdx, 3
  xor r8d, r8d
.loop:
  add rax, rbx
  adc rdx, rax
  rol rbx, 7
  sbb rax, rdx
  xor rbx, rcx
  test al, 1
  jz .even
  lea r8, [r8 + rax*2 + 5]
  sub rdx, r8
  jmp .next
.even:
  add r8, rdx
  imul rdx, rdx, 0x1d
.next:
  dec rcx
  jnz .loop
  xor rax, rdx
  xor rax, r8
  ret
`;

/** BYTES of array at DATA in the high half; ROUNDS times. */
const K2 = `
work:
  mov r12, ROUNDS
  xor r15d, r15d
.round:
  ; sieve: one byte a number
  mov rdi, HIGH + DATA
  mov rcx, BYTES
  xor eax, eax
.clear:
  mov [rdi + rax], al
  inc rax
  cmp rax, rcx
  jb .clear
  mov rax, 2
.prime:
  cmp byte [rdi + rax], 0
  jne .composite
  inc r15
  mov rbx, rax
  add rbx, rax
.mark:
  cmp rbx, rcx
  jae .composite
  mov byte [rdi + rbx], 1
  add rbx, rax
  jmp .mark
.composite:
  inc rax
  cmp rax, BYTES / 16
  jb .prime
  ; copy the lower half up, eight bytes at a time
  mov rsi, HIGH + DATA
  mov rdi, HIGH + DATA + BYTES / 2
  mov rcx, BYTES / 16
.copy:
  mov rax, [rsi]
  mov [rdi], rax
  add rsi, 8
  add rdi, 8
  dec rcx
  jnz .copy
  ; random read-modify-write
  mov rdi, HIGH + DATA
  mov rcx, BYTES / 8
  mov rbx, 0x9e3779b97f4a7c15
  mov rsi, 6364136223846793005
.random:
  imul rbx, rsi
  add rbx, 1442695041
  mov rax, rbx
  shr rax, 40
  and eax, BYTES / 8 - 1
  add [rdi + rax*8], rbx
  add r15, [rdi + rax*8]
  dec rcx
  jnz .random
  dec r12
  jnz .round
  mov rax, r15
  ret
`;

const K3 = `
work:
  mov r12, ROUNDS
  xor r15d, r15d
.round:
  mov edi, 22
  call fib
  add r15, rax
  dec r12
  jnz .round
  mov rax, r15
  ret
fib:
  push rbx
  push rbp
  mov ebx, edi
  mov eax, edi
  and eax, 7
  lea rdx, [rel table]
  jmp [rdx + rax*8]
case0: inc r15
  jmp switched
case1: add r15, 2
  jmp switched
case2: xor r15, 5
  jmp switched
case3: sub r15, 3
  jmp switched
case4: lea r15, [r15 + r15*2]
  jmp switched
case5: rol r15, 1
  jmp switched
case6: not r15
  jmp switched
case7: neg r15
switched:
  cmp ebx, 2
  jb .base
  lea edi, [rbx - 1]
  call fib
  mov rbp, rax
  lea edi, [rbx - 2]
  call fib
  add rax, rbp
  pop rbp
  pop rbx
  ret
.base:
  mov eax, ebx
  pop rbp
  pop rbx
  ret
  align 8
table: dq case0, case1, case2, case3, case4, case5, case6, case7
`;

const EMPTY = `
work:
  xor eax, eax
  ret
`;

/** One kernel. */
export interface BenchKernel {
  readonly name: string;
  readonly doc: string;
  readonly source: string;
  /** Rounds for about the wanted millions of instructions. */
  rounds(millions: number): number;
  readonly bytes: number;
}

const MIB = 2 ** 20;

/** Instructions a round takes, for choosing rounds; measured. */
const K1_ROUND = 10.5;
const K2_ROUND = 8.9; // a byte of the array
const K3_ROUND = 960_000;

/** See the file header. */
export const KERNELS: readonly BenchKernel[] = [
  {
    name: "k1",
    doc: "64-bit ALU loop with carries and branches",
    source: K1,
    rounds: (m) => Math.ceil(m * 1e6 / K1_ROUND),
    bytes: MIB,
  },
  {
    name: "k2",
    doc: "sieve, copy and random read-modify-write over 8 MiB",
    source: K2,
    rounds: (m) => Math.ceil(m * 1e6 / (K2_ROUND * 8 * MIB)),
    bytes: 8 * MIB,
  },
  {
    name: "k3",
    doc: "recursive Fibonacci with a jump-table switch",
    source: K3,
    rounds: (m) => Math.ceil(m * 1e6 / K3_ROUND),
    bytes: MIB,
  },
  {
    name: "k4",
    doc: "k2 over 512 KiB",
    source: K2,
    rounds: (m) => Math.ceil(m * 1e6 / (K2_ROUND * MIB / 2)),
    bytes: MIB / 2,
  },
  {
    name: "empty",
    doc: "boots and ends",
    source: EMPTY,
    rounds: () => 1,
    bytes: MIB,
  },
];

/** A kernel's multiboot image for about `millions` of instructions. */
export function kernelImage(kernel: BenchKernel, millions: number): Uint8Array {
  const image = assemble(`${BOOT}${kernel.source}\nimage_end:\n`, {
    file: kernel.name,
    bits: 32,
    origin: 0x100000,
    constants: { ROUNDS: kernel.rounds(millions), BYTES: kernel.bytes },
  });
  return image.bytes;
}
