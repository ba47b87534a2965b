/**
 * The 64-bit runtime as assembly text: boot, handlers on stacks of their own
 * (IST), and an L1 that runs the program as its L2, reflects its exceptions,
 * opens pages that violate EPT, skips what else exits, and now and then injects
 * an event. L1 on SVM: runtime_svm.ts.
 */
import { AT, SELECTOR, VAR } from "./places.ts";
import { DEVICES, SERIAL, V } from "./runtime_common.ts";
import { SVM_L1 } from "./runtime_svm.ts";

/** RIP's place in a fault's frame: an error code lies below it. */
const FRAME = AT.faultStack - 40;

/** Long mode, with the L1 at its end. CR4_BITS, CR0_BITS, TIMER vary: read from data. */
export const LONG = `
boot:
  lgdt [gdtr]
  lidt [idtr]
  mov rax, ${AT.pml4}
  mov cr3, rax
  mov ecx, 0xc0000080
  rdmsr
  or eax, [cfg_efer]
  wrmsr
  mov rax, cr0
  or eax, [cfg_cr0]
  mov cr0, rax
  mov rax, cr4
  or eax, [cfg_cr4]
  mov cr4, rax
  mov eax, ${SELECTOR.data}
  mov ds, eax
  mov es, eax
  mov ss, eax
  mov eax, ${SELECTOR.tss}
  ltr ax
  mov rsp, ${AT.kernelStack}
  mov ecx, 0xc0000081
  xor eax, eax
  mov edx, 0x00330008
  wrmsr
  inc ecx
  mov eax, syscall_entry
  xor edx, edx
  wrmsr
  mov ecx, 0xc0000084
  mov eax, 0x47700
  wrmsr
  mov ecx, 0x174
  mov eax, [cfg_sysenter]
  wrmsr
  inc ecx
  mov eax, ${AT.innerStack}
  wrmsr
  inc ecx
  mov eax, sysenter_entry
  wrmsr
${DEVICES}
  mov eax, 0xfee00000
  mov ecx, [cfg_timer]
  mov dword [rax + 0x3e0], 0
  mov dword [rax + 0x320], 0x20030
  mov [rax + 0x380], ecx
  cmp dword [${V("nested")}], 1
  je vmx_start
  ja svm_start
begin:
  mov qword [${FRAME}], 0
  jmp resume

; what was unmasked would fault for ever
fpu_fault:
  fninit
  jmp fault
simd_fault:
  ldmxcsr [default_mxcsr]
fault:
  mov [${V("rax")}], rax
  mov [${V("rcx")}], rcx
resume:
  inc dword [${V("faults")}]
  mov rax, [${FRAME}]
  mov rcx, rax
  sub rcx, ${AT.kernelBody}
  cmp rcx, 0x10000
  jae .wild
  and eax, -64
  cmp rax, [${V("last")}]
  jae .forward
.wild:
  mov rax, [${V("last")}]
.forward:
  add rax, 64
  cmp rax, [${V("kernelEnd")}]
  jb .kernel
  cmp rax, ${AT.userBody}
  jae .user
  mov eax, ${AT.userBody}
.user:
  cmp rax, [${V("userEnd")}]
  jae finish
  mov qword [${FRAME + 8}], ${SELECTOR.userCode64}
  mov qword [${FRAME + 24}], ${AT.userStack}
  mov qword [${FRAME + 32}], ${SELECTOR.userData}
  jmp .return
.kernel:
  mov qword [${FRAME + 8}], ${SELECTOR.code64}
  mov qword [${FRAME + 24}], ${AT.kernelStack}
  mov qword [${FRAME + 32}], ${SELECTOR.data}
.return:
  mov [${V("last")}], rax
  mov [${FRAME}], rax
  mov rcx, [${FRAME + 16}]
  and ecx, 0x408d5
  or ecx, 0x202
  mov [${FRAME + 16}], rcx
  mov rcx, [${V("rcx")}]
  mov rax, [${V("rax")}]
  mov rsp, ${FRAME}
  iretq

syscall_entry:
  mov [${V("rax")}], rax
  mov [${FRAME}], rcx
  mov [${V("rcx")}], rcx
  mov [${FRAME + 16}], r11
  jmp resume
sysenter_entry:
  mov [${V("rax")}], rax
  mov [${V("rcx")}], rcx
  mov qword [${FRAME}], 0
  jmp resume

nmi:
  iretq
debug:
  dec dword [${V("debugLeft")}]
  jg .keep
  and dword [rsp + 16], ~0x100
  push rax
  xor eax, eax
  mov dr7, rax
  mov dword [${V("debugLeft")}], 24
  pop rax
.keep:
  or dword [rsp + 16], 0x10000
  iretq
timer:
  push rax
  mov al, 0x20
  out 0x20, al
  pop rax
  iretq
serial:
  push rax
  push rdx
${SERIAL}
  pop rdx
  pop rax
  iretq
apic:
  push rax
  mov eax, 0xfee00000
  mov dword [rax + 0xb0], 0
  pop rax
  iretq

finish:
  mov eax, 0x600d
  cmp dword [${V("nested")}], 1
  jb .out
  ja .svm
  vmcall
.svm:
  vmmcall
.out:
  mov al, 0
  out 0xf4, al
  hlt
  jmp finish

vmx_start:
  mov ecx, 0x3a
  mov eax, 5
  xor edx, edx
  wrmsr
  mov rax, cr4
  or eax, 0x2000
  mov cr4, rax
  vmxon [${V("vmxonPointer")}]
  jbe vmx_failed
  vmclear [${V("vmcsPointer")}]
  jbe vmx_failed
  vmptrld [${V("vmcsPointer")}]
  jbe vmx_failed
  vmptrst [${V("scratch")}]
  mov rsi, ${AT.fields}
.field:
  mov rax, [rsi]
  cmp eax, -1
  je .launch
  vmwrite rax, [rsi + 8]
  jbe vmx_failed
  add rsi, 16
  jmp .field
.launch:
  mov eax, 1
  invept rax, [${AT.fields - 0}]
  mov eax, 2
  invvpid rax, [${V("zeros")}]
  vmlaunch
vmx_failed:
  mov eax, 0x4400
  vmread rbx, rax
  vmxoff
  mov eax, 0x7e
  out 0xf4, al
  hlt

exit:
  push rax
  push rbx
  push rcx
  push rdx
  push rsi
  inc dword [${V("exits")}]
  mov eax, 0x4402
  vmread rbx, rax
  test ebx, ebx
  js vmx_failed
  cmp dword [${V("exits")}], 400
  ja vmx_end
  cmp ebx, 0
  je .exception
  cmp ebx, 1
  je .interrupt
  cmp ebx, 2
  je vmx_end
  cmp ebx, 7
  je .window
  cmp ebx, 8
  je .window
  cmp ebx, 18
  je .vmcall
  cmp ebx, 37
  je .trap
  cmp ebx, 48
  je .open
  cmp ebx, 49
  je .open
  cmp ebx, 52
  je .preempted
  cmp ebx, 62
  je .logged
.skip:
  mov eax, 0x681e
  vmread rcx, rax
  mov edx, 0x440c
  vmread rsi, rdx
  add rcx, rsi
  vmwrite rax, rcx
  mov eax, 0x4824
  xor ecx, ecx
  vmwrite rax, rcx
  mov ecx, [${V("exits")}]
  and ecx, 15
  mov edx, [rcx * 8 + ${AT.vars + VAR.injected}]
  test edx, edx
  jz .resume
  mov eax, 0x4016
  vmwrite rax, rdx
  mov edx, [rcx * 8 + ${AT.vars + VAR.injected + 4}]
  mov eax, 0x4018
  vmwrite rax, rdx
  mov eax, 0x401a
  vmwrite rax, rsi
.resume:
  pop rsi
  pop rdx
  pop rcx
  pop rbx
  pop rax
  vmresume
  jmp vmx_failed
.vmcall:
  cmp qword [rsp + 32], 0x600d
  je vmx_end
  jmp .skip
.exception:
  mov edx, 0x4404
  mov esi, 0x4406
  jmp .again
.vectoring:
  mov edx, 0x4408
  mov esi, 0x440a
.again:
  vmread rcx, rdx
  test ecx, ecx
  jns .resume
  and ecx, ~0x1000
  mov eax, 0x4016
  vmwrite rax, rcx
  vmread rcx, rsi
  mov eax, 0x4018
  vmwrite rax, rcx
  mov edx, 0x440c
  vmread rcx, rdx
  mov eax, 0x401a
  vmwrite rax, rcx
  mov eax, 0x4824
  xor ecx, ecx
  vmwrite rax, rcx
  jmp .resume
.interrupt:
  mov eax, 0xfee00000
  mov dword [rax + 0xb0], 0
  mov al, 0x20
  out 0x20, al
  mov dx, 0x3f8
  in al, dx
  jmp .resume
.window:
  mov eax, 0x4002
  vmread rcx, rax
  and ecx, ~0x400004
  vmwrite rax, rcx
  jmp .resume
.trap:
  test dword [${V("exits")}], 7
  jnz .resume
  mov eax, 0x4002
  vmread rcx, rax
  and ecx, ~0x8000000
  vmwrite rax, rcx
  jmp .resume
.preempted:
  mov eax, 0x482e
  mov ecx, 9
  vmwrite rax, rcx
  jmp .vectoring
.logged:
  mov eax, 0x812
  jmp .resume
.open:
  mov eax, 0x2400
  vmread rcx, rax
  mov rax, rcx
  shr rax, 12
  cmp rax, 512
  jae vmx_end
  and rcx, -4096
  or rcx, 0x437
  mov [rax * 8 + ${AT.eptPt}], rcx
  mov eax, 2
  invept rax, [${V("zeros")}]
  jmp .vectoring
vmx_end:
  vmptrst [${V("scratch")}]
  vmclear [${V("scratch")}]
  vmcall
  vmxoff
  mov eax, 0x33
  out 0xf4, al
  hlt

${SVM_L1}

gdtr: dw 0xff
  dq ${AT.gdt}
idtr: dw 0xfff
  dq ${AT.idt}
default_mxcsr: dd 0x1f80
cfg_efer: dd 0
cfg_cr0: dd 0
cfg_cr4: dd 0
cfg_timer: dd 0
cfg_sysenter: dd 0
`;
