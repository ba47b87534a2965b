; A guest with a classic bug: a loop fills one entry more than its table has,
; and so overwrites the pointer that lies behind the table. Much later the
; pointer is used, and the machine dies of a triple fault far from the cause.
ENTRIES equ 8
COM1 equ 0x3f8
EXIT equ 0xf4

start:
  mov rdi, table
  mov rax, 0x6666666666666666   ; not a canonical address
  mov ecx, ENTRIES + 1          ; the bug
fill:
  mov [rdi], rax
stored:
  add rdi, 8
  dec ecx
  jnz fill

  mov ecx, 200                  ; other work
work:
  imul rbx, rbx, 17
  add rbx, rcx
  loop work

  mov rsi, [pointer]
  mov dx, COM1
print:
  lodsb                         ; #GP, and there is no IDT
  test al, al
  jz done
  out dx, al
  jmp print
done:
  mov al, 0
  out EXIT, al

align 8
table: times ENTRIES dq 0
pointer: dq message
message: db "all is well", 10, 0
