; A guest that keeps a circular, doubly linked list and inserts a node into it.
; Node: dq next, prev, value. Between `torn` and `whole` the list is torn: the
; new node is linked from the front but not yet from behind. At the end a link
; points into an absent page.
BOOT_PDPT equ 0x99000
ABSENT equ 0x1_0000_0000

start:
  mov ecx, 3
settle:
  loop settle
  mov rdi, fresh
  mov qword [rdi + 16], 0x2b
  mov rsi, first                ; insert `fresh` behind `first`
  mov rdx, [rsi]
  mov [rdi], rdx                ; fresh.next = second
  mov [rdi + 8], rsi            ; fresh.prev = first
  mov [rsi], rdi                ; first.next = fresh
torn:
  mov [rdx + 8], rdi            ; second.prev = fresh
whole:
  nop
  mov rax, ABSENT
  mov [rdx], rax                ; second.next is garbage now
wild:
  jmp wild

align 8
head: dq first, third, 0
first: dq second, head, 0x2a
second: dq third, first, 0x2c
third: dq head, second, 0x2d
fresh: dq 0, 0, 0
