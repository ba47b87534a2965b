; An L1 like HVCI's: a small 64-bit hypervisor that runs one L2 under an EPT
; whose execute rights depend on the mode of the address (SDM 3C ch. 24-32), and
; an L2 kernel whose user programs come from a table. hvci.ts adds what varies:
; VMCS fields, EPT and paging entries, the script and the user code.
;
; L1 logs each violation of its policy and moves L2 on to its next script line;
; a page whose EPT entry has bit 52 set is granted all rights instead.

bits 64
section .text start=0x100000

; Where hvci.ts puts tables.
controls equ 0x102000           ; MSR, field, wanted bits; dd each, ended by 0
fields   equ 0x102100           ; field, value; dq each, ended by -1
msrs     equ 0x102800           ; index, low, high; dd each, ended by 0
kernel_cs equ 0x102f00          ; access rights of L2's kernel CS
vmxon_region equ 0x108000
vmcs_region  equ 0x109000
EPTP     equ 0x10b01e
ept_pt   equ 0x10f000
line     equ 0x148000           ; offset of the current script line
counts   equ 0x148008
script   equ 0x148100
touched  equ 0x14c000
far_pointer equ 0x14c008
store    equ 0x14c010
STACK1   equ 0x108000
KSTACK   equ 0x14a000
USTACK   equ 0x14c000
APIC     equ 0x1a1000           ; the local APIC in L2's linear memory
COM1     equ 0x3f8
; VMCALL commands, in RAX
CMD_DONE    equ 0      ; RBX: exit code
CMD_SET     equ 1      ; EPT entry at RBX := RCX, then INVEPT
CMD_RAISE   equ 2      ; the same without INVEPT: only to add rights
CMD_INJECT  equ 3      ; inject the event RBX at the script's next line
CMD_USER    equ 4      ; enter user mode at RDI by VM entry

start:
  mov rsp, STACK1
  mov ecx, 0x3a                 ; IA32_FEATURE_CONTROL
  rdmsr
  test al, 1
  jnz .locked
  or eax, 5
  wrmsr
.locked:
  mov rax, cr4
  or eax, 1 << 13
  mov cr4, rax
  mov ecx, 0x480                ; IA32_VMX_BASIC: the revision
  rdmsr
  mov [vmxon_region], eax
  mov [vmcs_region], eax
  vmxon [vmxon_pointer]
  jbe failed
  vmclear [vmcs_pointer]
  jbe failed
  vmptrld [vmcs_pointer]
  jbe failed
  mov esi, controls
.control:
  mov ecx, [rsi]
  test ecx, ecx
  jz .controls_done
  rdmsr
  mov ebx, [rsi+8]
  or ebx, eax
  and ebx, edx
  mov eax, [rsi+4]
  vmwrite rax, rbx
  jbe failed
  add rsi, 12
  jmp .control
.controls_done:
  mov eax, 0x401e               ; secondary controls, as granted
  vmread rbx, rax
  bt ebx, 22
  jnc no_mbec
  mov esi, fields
.field:
  mov rax, [rsi]
  cmp rax, -1
  je .fields_done
  mov rbx, [rsi+8]
  vmwrite rax, rbx
  jbe failed
  add rsi, 16
  jmp .field
.fields_done:
  mov esi, msrs
.msr:
  mov ecx, [rsi]
  test ecx, ecx
  jz .msrs_done
  mov eax, [rsi+4]
  mov edx, [rsi+8]
  wrmsr
  add rsi, 12
  jmp .msr
.msrs_done:
  vmlaunch
failed:
  mov eax, 0x4400               ; VM-instruction error
  vmread rbx, rax
  mov esi, text_failed
  call print
  call print_hex2
  mov eax, 0x21
  out 0xf4, eax
  hlt
no_mbec:
  mov esi, text_no_mbec
  call print
  mov eax, 0x22
  out 0xf4, eax
  hlt

; --- VM exits
%macro vmr 2                    ; register, field
  mov eax, %2
  vmread %1, rax
%endmacro
%macro vmw 2                    ; field, register
  mov eax, %1
  vmwrite rax, %2
%endmacro

exit:
  push rax
  push rbx
  push rcx
  push rdx
  push rsi
  push rdi
  push rbp
  push r8
  inc qword [exits]
  vmr rbp, 0x4402               ; exit reason
  vmr r8, 0x6400                ; qualification
  cmp ebp, 48
  je violation
  cmp ebp, 49
  je violation
  cmp ebp, 18
  je hypercall
  cmp ebp, 0
  je event
  cmp ebp, 1
  je event
  cmp ebp, 37                   ; monitor trap flag
  je resume
  cmp ebp, 52                   ; preemption timer
  je resume
  cmp ebp, 7                    ; interrupt window
  je window
  cmp ebp, 10
  je skip
  cmp ebp, 46                   ; descriptor tables
  je skip
  cmp ebp, 47
  je skip
  mov esi, text_exit
  call print
  mov ebx, ebp
  call print_hex2
  mov rbx, r8
  call print_hex4
  mov eax, 0x23
  out 0xf4, eax
  hlt
window:                         ; seen once: closed again
  vmr rbx, 0x4002
  and ebx, ~4
  vmw 0x4002, rbx
  jmp resume
skip:
  vmr rbx, 0x681e
  vmr rcx, 0x440c
  add rbx, rcx
  vmw 0x681e, rbx
  xor ebx, ebx                  ; RF, and shadows of STI and MOV SS, end here
  vmr rbx, 0x4824
  and ebx, 8
  vmw 0x4824, rbx
resume:
  pop r8
  pop rbp
  pop rdi
  pop rsi
  pop rdx
  pop rcx
  pop rbx
  pop rax
  vmresume
  jmp failed

; An EPT violation or misconfiguration: log it; grant, or skip the line.
violation:
  vmr rdi, 0x2400               ; guest-physical address
  mov rbx, r8
%ifdef VERBOSE
  mov esi, text_violation
  call print
  call print_hex4
  mov esi, text_gpa
  call print
  mov rbx, rdi
  call print_hex8
  mov esi, text_gla
  call print
  vmr rbx, 0x640a
  call print_hex8
  mov esi, text_rip
  call print
  vmr rbx, 0x681e
  call print_hex8
%else
  vmr rcx, 0x640a
  call print_hex4
%endif
  inc qword [violations]
  mov rax, rdi
  shr rax, 21
  jnz .skip
  mov rbx, rdi
  shr rbx, 12
  lea rsi, [ept_pt+rbx*8]
  btr qword [rsi], 52
  jnc .skip
  ; Grant everything and let L2 go on; a delivery cut short starts again.
  or qword [rsi], 0x407
%ifdef VERBOSE
  mov esi, text_granted
  call print
%else
  mov al, '+'
  mov dx, COM1
  out dx, al
%endif
  vmr rbx, 0x4408               ; IDT-vectoring information
  bt ebx, 31
  jnc resume
  call reinject
  jmp resume
.skip:
%ifdef VERBOSE
  mov esi, text_skipped
  call print
%endif
  mov ebx, dispatch
kernel:                         ; L2 goes on at RBX at CPL 0
  vmw 0x681e, rbx
  mov ebx, KSTACK
  vmw 0x681c, rbx
  mov ebx, 8
  vmw 0x0802, rbx
  mov ebx, 0x10
  vmw 0x0804, rbx
  mov ebx, [kernel_cs]
  vmw 0x4816, rbx
  mov ebx, 0xc093
  vmw 0x4818, rbx
  call flat_stack
quiet:                          ; IF = 0, nothing blocked or pending
  mov ebx, 2
  vmw 0x6820, rbx
  xor ebx, ebx
  vmw 0x4824, rbx
  vmw 0x6822, rbx
  jmp resume

; RBX: interruption or IDT-vectoring information of an event to deliver again.
reinject:
  and ebx, 0x80000fff           ; not bit 12
  vmw 0x4016, rbx
  mov esi, ebx
  shr esi, 8
  and esi, 7
  cmp esi, 2
  jne .not_nmi
  vmr rcx, 0x4824               ; blocked by its first delivery already
  and ecx, 7
  vmw 0x4824, rcx
.not_nmi:
  bt ebx, 11
  jnc .no_code
  cmp ebp, 48
  je .vectoring
  vmr rcx, 0x4406
  jmp .code
.vectoring:
  vmr rcx, 0x440a
.code:
  vmw 0x4018, rcx
.no_code:
  vmr rcx, 0x440c
  vmw 0x401a, rcx
  ret

; An exception, NMI or interrupt that L1 intercepts goes on to L2.
event:
  vmr rbx, 0x4404               ; interruption information
  bt ebx, 31
  jnc failed
  mov ecx, ebx
  and ecx, 0x7ff
  cmp ecx, 0x30e                ; #PF: the exit left CR2 alone
  jne .no_cr2
  mov cr2, r8
.no_cr2:
  call reinject
  jmp resume

hypercall:
  mov rcx, [rsp+56]             ; RAX
  mov rbx, [rsp+48]
  cmp rcx, CMD_DONE
  je done
  cmp rcx, CMD_INJECT
  je inject
  cmp rcx, CMD_USER
  je user
  mov rdx, [rsp+40]
  mov [rbx], rdx
  cmp rcx, CMD_RAISE
  je skip
  mov ecx, 1
  invept rcx, [invept_descriptor]
  jbe failed
  jmp skip
inject:
  vmw 0x4016, rbx
  mov rcx, [rsp+40]
  vmw 0x4018, rcx
  mov ecx, 3
  vmw 0x401a, rcx
  jmp skip
user:                           ; VM entry straight to CPL 3
  mov rbx, [rsp+16]             ; RDI
  vmw 0x681e, rbx
  mov ebx, USTACK
  vmw 0x681c, rbx
  mov ebx, 0x2b
  vmw 0x0802, rbx
  mov ebx, 0x33
  vmw 0x0804, rbx
  mov ebx, 0xa0fb
  vmw 0x4816, rbx
  mov ebx, 0xc0f3
  vmw 0x4818, rbx
  call flat_stack
  mov ebx, 0x202
  vmw 0x6820, rbx
  xor ebx, ebx
  vmw 0x4824, rbx
  jmp resume
done:
%ifdef VERBOSE
  mov esi, text_done
  call print
%endif
  mov eax, ebx
  out 0xf4, eax
  hlt

flat_stack:                     ; an interrupt may have left SS null
  mov ebx, 0xffffffff
  vmw 0x4804, rbx
  xor ebx, ebx
  vmw 0x6808, rbx
  ret

print:                          ; text at RSI, ended by 0
  mov dx, COM1
.next:
  lodsb
  test al, al
  jz .done
  out dx, al
  jmp .next
.done:
  ret
print_hex8:
  mov ecx, 32
  jmp print_hex
print_hex4:
  mov ecx, 16
  jmp print_hex
print_hex2:
  mov ecx, 8
print_hex:                      ; ECX low bits of RBX
  mov dx, COM1
.next:
  sub ecx, 4
  mov rax, rbx
  shr rax, cl
  and eax, 15
  mov al, [digits+rax]
  out dx, al
  test ecx, ecx
  jnz .next
  ret

digits: db "0123456789abcdef"
text_failed: db "VMX instruction failed, error ", 0
text_no_mbec: db "this processor has no mode-based execute control", 10, 0
text_exit: db "unexpected exit ", 0
text_violation: db "L1: EPT violation, qualification ", 0
text_gpa: db " at GPA ", 0
text_gla: db ", linear ", 0
text_rip: db ", RIP ", 0
text_skipped: db ": skipped", 10, 0
text_granted: db ": granted", 10, 0
text_done: db "L1: L2 is done", 10, 0
align 16
exits: dq 0
violations: dq 0
vmxon_pointer: dq vmxon_region
vmcs_pointer: dq vmcs_region
invept_descriptor: dq EPTP, 0

; --- L2's kernel, at CPL 0. Nothing returns where it came from: every way into
; the kernel ends in `dispatch`, which goes to the script's next line.
; A line: address, way to user mode, RFLAGS, address to call at CPL 0 or 0.
%macro arrived 1                ; which counter
  mov rsp, KSTACK
  inc qword [counts+%1*8]
  mov rbx, [line]
  xor eax, eax
  xchg rax, [script+rbx+24]
  test rax, rax
  jz %%done
  call rax
%%done:
  jmp dispatch
%endmacro

; Page K0: what must always be executable by the kernel.
section .kernel start=0x150000
dispatch:
  mov rsp, KSTACK
  mov dword [APIC+0xb0], 0       ; end of interrupt
  mov rbx, [line]
  add rbx, 32
  mov [line], rbx
  mov rdi, [script+rbx]
  test rdi, rdi
  jz .end
  mov rax, [script+rbx+8]
  inc qword [counts+64+rax*8]
  jmp [.ways+rax*8]
.iret:
  push 0x33
  push USTACK
  push qword [script+rbx+16]
  push 0x2b
  push rdi
  iretq
.sysret:
  mov rcx, rdi
  mov r11, [script+rbx+16]
  mov rsp, USTACK
  sysretq
.sysexit:
  mov rdx, rdi
  mov ecx, USTACK
  o64 sysexit
.far:
  push 0x33
  push USTACK
  push 0x2b
  push rdi
  o64 retf
.entry:
  mov eax, CMD_USER
  vmcall
.end:
  mov eax, CMD_DONE
  mov ebx, 0x10
  vmcall
.ways: dq .iret, .sysret, .sysexit, .far, .entry

; To be called: halts until the local APIC's timer interrupts.
kernel_wait:
  mov dword [APIC+0x3e0], 0xb   ; divide by 1
  mov dword [APIC+0x320], 0x50
  mov dword [APIC+0x380], 50
  sti
  hlt
  cli
  ret

; Pages K1 to K7: one way into the kernel each.
align 4096, 0xcc
on_syscall: arrived 0
user_K1: inc qword [touched]
  syscall
align 4096, 0xcc
on_sysenter: arrived 1
user_K2: inc qword [touched]
  syscall
align 4096, 0xcc
on_exception: arrived 2
user_K3: inc qword [touched]
  syscall
align 4096, 0xcc
on_int: arrived 3
user_K4: inc qword [touched]
  syscall
align 4096, 0xcc
on_interrupt: arrived 4
user_K5: inc qword [touched]
  syscall
align 4096, 0xcc
on_nmi: arrived 5
user_K6: inc qword [touched]
  syscall
align 4096, 0xcc
on_gate: arrived 6
user_K7: inc qword [touched]
  syscall
