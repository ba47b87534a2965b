/**
 * The 32-bit and 16-bit runtimes as assembly text. They have no IST: handlers
 * load the segments and stacks that they need.
 */
import { AT, SELECTOR, VAR } from "./places.ts";
import { DEVICES, SERIAL, V } from "./runtime_common.ts";

/** Protected mode, with or without 32-bit paging. */
export const PROTECTED = `
boot:
  lgdt [gdtr]
  lidt [idtr]
  mov eax, ${AT.pml4}
  mov cr3, eax
  mov eax, cr4
  or eax, [cfg_cr4]
  mov cr4, eax
  mov eax, cr0
  or eax, [cfg_cr0]
  mov cr0, eax
  jmp ${SELECTOR.code32}:.flush
.flush:
  mov eax, ${SELECTOR.data}
  mov ds, eax
  mov es, eax
  mov ss, eax
  mov fs, eax
  mov gs, eax
  mov eax, ${SELECTOR.tss}
  ltr ax
  mov esp, ${AT.kernelStack}
  mov ecx, 0x174
  mov eax, [cfg_sysenter]
  xor edx, edx
  wrmsr
  inc ecx
  mov eax, ${AT.innerStack}
  wrmsr
  inc ecx
  mov eax, sysenter_entry
  wrmsr
${DEVICES}
  mov ecx, [cfg_timer]
  mov dword [0xfee003e0], 0
  mov dword [0xfee00320], 0x20030
  mov [0xfee00380], ecx
sysenter_entry:
  push 0
  jmp fault

; what was unmasked would fault for ever
fpu_fault:
  fninit
  jmp fault
simd_fault:
  ldmxcsr [ss:default_mxcsr]
  jmp fault
fault_code:
  add esp, 4
fault:
  mov [ss:${V("rax")}], eax
  mov eax, [ss:esp]
  mov [ss:${V("scratch")}], ecx
  mov ecx, ${SELECTOR.data}
  mov ss, ecx
  mov ds, ecx
  mov es, ecx
  mov esp, ${AT.faultStack}
  inc dword [${V("faults")}]
  mov ecx, eax
  sub ecx, ${AT.kernelBody}
  cmp ecx, 0x10000
  jae .wild
  and eax, -64
  cmp eax, [${V("last")}]
  jae .forward
.wild:
  mov eax, [${V("last")}]
.forward:
  add eax, 64
  cmp eax, [${V("kernelEnd")}]
  jb .kernel
  cmp eax, ${AT.userBody}
  jae .user
  mov eax, ${AT.userBody}
.user:
  cmp eax, [${V("userEnd")}]
  jae finish
  mov [${V("last")}], eax
  push ${SELECTOR.userData}
  push ${AT.userStack}
  pushfd
  and dword [esp], 0x8d5
  or dword [esp], 0x40202
  push ${SELECTOR.userCode32}
  push eax
  mov ecx, ${SELECTOR.userData}
  mov ds, ecx
  mov es, ecx
  jmp .return
.kernel:
  mov [${V("last")}], eax
  mov esp, ${AT.kernelStack}
  pushfd
  and dword [esp], 0x8d5
  or dword [esp], 0x202
  push ${SELECTOR.code32}
  push eax
.return:
  mov ecx, [ss:${V("scratch")}]
  mov eax, [ss:${V("rax")}]
  iretd

nmi:
  iretd
debug:
  dec dword [ss:${V("debugLeft")}]
  jg .keep
  and dword [esp + 8], ~0x100
  push eax
  xor eax, eax
  mov dr7, eax
  mov dword [ss:${V("debugLeft")}], 24
  pop eax
.keep:
  or dword [esp + 8], 0x10000
  iretd
timer:
  push eax
  mov al, 0x20
  out 0x20, al
  pop eax
  iretd
serial:
  push eax
  push edx
${SERIAL}
  pop edx
  pop eax
  iretd
apic:
  mov dword [ss:0xfee000b0], 0
  iretd
; a task: notes that it ran and goes back by IRET with NT
task:
  inc dword [${V("exits")}]
  iretd
  jmp task
finish:
  mov al, 0
  out 0xf4, al
  hlt
  jmp finish
gdtr: dw 0xff
  dd ${AT.gdt}
idtr: dw 0x7ff
  dd ${AT.idt}
default_mxcsr: dd 0x1f80
cfg_cr0: dd 0
cfg_cr4: dd 0
cfg_timer: dd 0
cfg_sysenter: dd 0
`;

/** In real mode addresses are offsets from AT_REAL. */
export const REAL = `
boot:
  cli
  xor ax, ax
  mov ds, ax
  mov es, ax
  mov ss, ax
  mov sp, REAL_STACK
  mov eax, cr0
  or al, 0x20
  mov cr0, eax
  cld
  mov si, REAL_VECTORS
  xor di, di
  mov cx, 256
  rep movsd
${DEVICES}
  push 0
  push 0
  push 0
fpu_fault:
  fninit
fault:
  cli
  pop ax
  xor cx, cx
  mov ds, cx
  mov es, cx
  mov ss, cx
  mov sp, REAL_STACK
  inc dword [REAL_VARS + ${VAR.faults}]
  movzx eax, ax
  mov ecx, eax
  sub ecx, REAL_BODY
  cmp ecx, 0x4000
  jae .wild
  and ax, -64
  cmp ax, [REAL_VARS + ${VAR.last}]
  jae .forward
.wild:
  mov ax, [REAL_VARS + ${VAR.last}]
.forward:
  add ax, 64
  mov [REAL_VARS + ${VAR.last}], ax
  cmp ax, [REAL_VARS + ${VAR.kernelEnd}]
  jae finish
  push 0x202
  push 0
  push ax
  xor eax, eax
  iret
nmi:
  iret
debug:
  push bp
  mov bp, sp
  and word [bp + 6], ~0x100
  push eax
  xor eax, eax
  mov dr7, eax
  pop eax
  pop bp
  iret
timer:
  push ax
  mov al, 0x20
  out 0x20, al
  pop ax
  iret
serial:
  push ax
  push dx
${SERIAL}
  pop dx
  pop ax
  iret
apic:
  iret
finish:
  mov al, 0
  out 0xf4, al
  hlt
  jmp finish
`;
