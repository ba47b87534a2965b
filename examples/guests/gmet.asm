; An L1 on SVM with an execute policy by privilege (APM 2 ch. 15): a small 64-bit
; hypervisor that runs one L2 behind nested paging with the guest mode execute
; trap. User code is the user's in its nested entry (U = 1), so that CPL 0 to 2
; cannot execute it; kernel code is not (U = 0) and is read-only; data is NX.
;
; L1 logs each nested page fault, maps what was only absent, and else moves L2
; on to its next script line. Without GMET in CPUID it must leave U = 1
; everywhere, and kernel and user alike may execute what either may.

bits 64
section .text start=0x100000

VMCB      equ 0x110000
HOST_SAVE equ 0x111000
NPML4     equ 0x118000          ; L1's nested tables: one page of 2 MBytes in 4 KBytes
NPDPT     equ 0x119000
NPD       equ 0x11a000
NPT       equ 0x11b000
PML4      equ 0x120000          ; L2's own tables
PDPT      equ 0x121000
PD        equ 0x122000
PT        equ 0x123000
KSTACK    equ 0x126000
USTACK    equ 0x128000
KERNEL    equ 0x130000          ; code of L2's kernel
USER      equ 0x131000          ; code of L2's user
DATA      equ 0x132000          ; data of both, where an attacker puts code
LAZY      equ 0x133000          ; absent until it is touched
ALIAS     equ 0x141000          ; the user's code again, as a supervisor page
COM1      equ 0x3f8

; Nested entries.
P  equ 1
W  equ 2
U  equ 4
NX equ 1 << 63

%macro vmcb32 2                 ; offset, value
  mov dword [VMCB+%1], %2
%endmacro
%macro vmcb64 2
  mov rax, %2
  mov [VMCB+%1], rax
%endmacro
%macro segment_of 4             ; offset, selector, attributes, limit
  mov word [VMCB+%1], %2
  mov word [VMCB+%1+2], %3
  mov dword [VMCB+%1+4], %4
%endmacro

start:
  mov rsp, 0x108000
  mov ecx, 0xc0000080           ; EFER: SVME, NXE, SCE
  rdmsr
  or eax, 0x1801
  wrmsr
  mov ecx, 0xc0010117           ; VM_HSAVE_PA
  mov eax, HOST_SAVE
  xor edx, edx
  wrmsr
  mov eax, 0x8000000a
  cpuid
  bt edx, 17
  setc [gmet]
  call nested_tables
  call guest_tables

  vmcb32 0x010, 1 << 1 | 1 << 0 ; intercept VMMCALL, VMRUN
  vmcb32 0x00c, 1 << 31         ; shutdown
  vmcb32 0x058, 1               ; ASID
  movzx eax, byte [gmet]
  lea eax, [rax*8+1]            ; nested paging, GMET
  mov [VMCB+0x090], eax
  vmcb64 0x0b0, NPML4
  segment_of 0x410, 0x08, 0x29b, 0xffffffff       ; CS
  segment_of 0x420, 0x10, 0xc93, 0xffffffff       ; SS
  segment_of 0x430, 0x10, 0xc93, 0xffffffff       ; DS
  segment_of 0x400, 0x10, 0xc93, 0xffffffff       ; ES
  segment_of 0x490, 0x18, 0x08b, 0x67             ; TR
  vmcb64 0x4d0, 0x1d01          ; EFER: SVME, NXE, LMA, LME, SCE
  vmcb64 0x548, 0x20            ; CR4: PAE; no SMEP, that GMET stands alone
  vmcb64 0x550, PML4
  vmcb64 0x558, 0x80010031      ; CR0
  vmcb64 0x560, 0x400
  vmcb64 0x568, 0xffff0ff0
  vmcb64 0x570, 2
  vmcb64 0x578, dispatch
  vmcb64 0x5d8, KSTACK
  vmcb64 0x600, 0x18 << 48 | 8 << 32              ; STAR
  vmcb64 0x608, on_syscall                        ; LSTAR
  vmcb64 0x668, 0x0007040600070406                ; PAT
run:
  mov eax, VMCB
  vmload
  vmrun
  vmsave
  push rbx
  push rcx
  push rdx
  push rsi
  push rdi
  inc qword [exits]
  mov rax, [VMCB+0x070]
  cmp rax, 0x400
  je nested_fault
  cmp rax, 0x81
  je done
  mov rbx, rax
  mov esi, text_exit
  call print
  call print_hex4
  mov eax, 0x23
  out 0xf4, eax
  hlt
resume:
  pop rdi
  pop rsi
  pop rdx
  pop rcx
  pop rbx
  jmp run

; EXITINFO1 and EXITINFO2 tell what was tried and where.
nested_fault:
  mov esi, text_fault
  call print
  mov ebx, [VMCB+0x07c]
  call print_hex1
  mov al, '_'
  out dx, al
  mov ebx, [VMCB+0x078]
  call print_hex8
  mov esi, text_gpa
  call print
  mov rbx, [VMCB+0x080]
  call print_hex8
  mov esi, text_cpl
  call print
  movzx ebx, byte [VMCB+0x4cb]
  call print_hex1
  mov esi, text_rip
  call print
  mov rbx, [VMCB+0x578]
  call print_hex8
  inc qword [faults]
  test dword [VMCB+0x078], 1
  jnz .violation
  mov rdi, [VMCB+0x080]
  shr rdi, 12
  or qword [NPT+rdi*8], P       ; absent translations are not cached
  mov esi, text_mapped
  call print
  jmp resume
.violation:
  inc qword [violations]
  mov esi, text_skipped
  call print
  segment_of 0x410, 0x08, 0x29b, 0xffffffff
  segment_of 0x420, 0x10, 0xc93, 0xffffffff
  mov byte [VMCB+0x4cb], 0
  vmcb64 0x570, 2
  vmcb64 0x578, dispatch
  jmp resume

done:
  mov esi, text_done
  call print
  mov rbx, [hijacked]
  call print_hex1
  mov al, 10
  out dx, al
  mov eax, 0x10
  out 0xf4, eax
  hlt

; The policy: nested entries of 2 MBytes, then the pages that differ.
nested_tables:
  mov qword [NPML4], NPDPT+P+W+U
  mov qword [NPDPT], NPD+P+W+U
  mov qword [NPD], NPT+P+W+U
  mov rax, NX | U | W | P
  mov edi, NPT
.page:
  mov [rdi], rax
  add rax, 0x1000
  add edi, 8
  cmp edi, NPT+4096
  jne .page
  mov qword [NPT+(KERNEL>>12)*8], KERNEL+P
  mov qword [NPT+(USER>>12)*8], USER+U+P
  mov rax, LAZY + (NX | U | W)
  mov [NPT+(LAZY>>12)*8], rax
  cmp byte [gmet], 0
  jne .done
  mov esi, text_no_gmet
  call print
  or qword [NPT+(KERNEL>>12)*8], U
.done:
  ret

; L2's paging: 0x120000 to 0x13ffff as it is, the user's from USTACK - 4096 on
; except its kernel.
guest_tables:
  mov qword [PML4], PDPT+7
  mov qword [PDPT], PD+7
  mov qword [PD], PT+7
  mov eax, 0x120000+7
  mov edi, PT+0x120*8
.page:
  mov [rdi], rax
  add eax, 0x1000
  add edi, 8
  cmp edi, PT+0x140*8
  jne .page
  and qword [PT+(KERNEL>>12)*8], ~U
  mov qword [PT+(ALIAS>>12)*8], USER+P+W
  ret

print:                          ; text at RSI, ended by 0; leaves DX = COM1
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
print_hex1:
  mov ecx, 4
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
text_no_gmet: db "L1: this processor has no guest mode execute trap", 10, 0
text_exit: db "unexpected exit ", 0
text_fault: db "L1: nested page fault, EXITINFO1 ", 0
text_gpa: db " at GPA ", 0
text_cpl: db ", CPL ", 0
text_rip: db ", RIP ", 0
text_mapped: db ": mapped", 10, 0
text_skipped: db ": skipped", 10, 0
text_done: db "L1: L2 is done, times that its kernel ran user code: ", 0
gmet: db 0
align 8
exits: dq 0
faults: dq 0
violations: dq 0

; --- L2's kernel, at CPL 0
section .kernel start=0x130000
dispatch:
  mov rsp, KSTACK
  mov rbx, [line]
  inc qword [line]
  jmp [script+rbx*8]
on_syscall:
  mov rsp, KSTACK
  jmp dispatch
to_user:                        ; at RCX
  mov r11d, 2
  mov rsp, USTACK
  o64 sysret

; The script, a routine a line.
script:
  dq touch_lazy, user_works, call_user, call_alias, user_jumps, call_data
  dq patch_kernel, user_works, finish
touch_lazy:                     ; 1_00000006: absent, and L1 maps it
  mov dword [LAZY], 1
  jmp dispatch
user_works:                     ; allowed: U = 1 for CPL 3
  mov ecx, user_entry
  jmp to_user
call_user:                      ; 1_00000011: CPL 0 may not execute U = 1
  call user_routine
  inc qword [hijacked]
  jmp dispatch
call_alias:                     ; the same: L2's own U/S has no say
  call user_routine-USER+ALIAS
  inc qword [hijacked]
  jmp dispatch
user_jumps:                     ; 1_00000015: NX, for CPL 3 as well
  mov ecx, user_attack
  jmp to_user
call_data:                      ; 1_00000011: NX at CPL 0
  mov eax, payload
  call rax
  inc qword [hijacked]
  jmp dispatch
patch_kernel:                   ; 1_00000007: read-only although L2's own tables allow it
  mov byte [dispatch], 0xcc
  jmp dispatch
finish:
  vmmcall

section .user start=0x131000
user_entry:
  inc qword [touched]
  syscall
user_routine:
  ret
user_attack:
  mov eax, payload
  jmp rax

section .data start=0x132000
payload: ret
align 8
line: dq 0
touched: dq 0
hijacked: dq 0
