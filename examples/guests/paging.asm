; A guest with demand paging, for reads from outside. Linear addresses from
; WINDOW on have a page table of their own; its first page is present, the rest
; are paged in by the #PF handler on first use.
;
; In a loop the guest calls `read`, its in-guest module for introspection, on a
; word of the third page, and counts what came of it:
;   r12 words read, r13 statuses (RAX of `recover`), r14 calls of its handlers,
;   r15 page faults that it saw itself.
WINDOW equ 0x1_0000_0000
BOOT_PDPT equ 0x99000

start:
  mov qword [BOOT_PDPT + 4 * 8], window_directory + 3
  mov rdi, idt + 14 * 16
  mov rax, page_fault
  mov [rdi], ax
  mov word [rdi + 2], 8         ; code64 of the boot GDT
  mov word [rdi + 4], 0x8e00    ; present interrupt gate
  shr rax, 16
  mov [rdi + 6], ax
  lidt [idtr]
  mov rsp, stack_end
ready:

work:
  mov ecx, 20
pause_a_little:
  imul rbx, rbx, 17
  loop pause_a_little
  mov rsi, WINDOW + 0x2000
  call read
  jmp work

; --- the in-guest module: RDX = [RSI], RAX = 0 or a status
read:
  mov rdx, [rsi]
  xor eax, eax
  inc r12
  ret
recover:                        ; report: the status is in RAX
  inc r13
  ret
read_end:

error_handler:                  ; handler: the read is dropped
  inc r14
  ret
error_handler_end:

fault_handler:                  ; forward: page in and let it read again
  inc r14
  mov rax, [frame + 16]         ; linear address of the fault
  call page_in
  jmp [frame + 24]              ; RIP of the read
fault_handler_end:

; --- #PF
page_fault:
  push rax
  push rcx
  mov rax, cr2
  call page_in
  inc r15
  pop rcx
  pop rax
  add rsp, 8
  iretq

; Maps the page of the window in which address RAX lies.
page_in:
  shr rax, 12
  and eax, 511
  mov rcx, rax
  shl rcx, 12
  add rcx, pages + 3
  mov [window_table + rax * 8], rcx
  ret

align 16
idtr:
  dw 16 * 16 - 1
  dq idt
align 16
idt: times 32 dq 0
frame: times 6 dq 0
stack: times 256 dq 0
stack_end:

align 4096
window_directory:
  dq window_table + 3
  times 511 dq 0
window_table:
  dq pages + 3
  times 511 dq 0
pages:
  times 512 dq 0x1111111111111111
  times 512 dq 0x2222222222222222
  times 512 dq 0x3333333333333333
  times 512 dq 0x4444444444444444
