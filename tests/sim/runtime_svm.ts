/**
 * The L1 of nested random programs on SVM, as assembly text of the 64-bit
 * runtime: it runs the program as its L2, reflects exceptions, opens pages that
 * nested paging refuses, takes off intercepts that would recur for ever, skips
 * what else exits by nRIP, and now and then injects an event.
 *
 * L1 runs with GIF = 0 but for one NMI; it shares tables and stacks with L2.
 */
import { AT, VAR } from "./places.ts";
import { V } from "./runtime_common.ts";

/** Exceptions that push an error code, as a bit mask of vectors. */
const WITH_CODE = 0x27d00;

/** VMCB fields are at their offsets of APM 2 appendix B from RAX. */
export const SVM_L1 = `
svm_start:
  mov ecx, 0xc0000080
  rdmsr
  or eax, 0x1000
  wrmsr
  mov ecx, 0xc0010117
  mov eax, ${AT.vmxon}
  xor edx, edx
  wrmsr
  mov rsp, ${AT.hostStack}
  clgi
  mov rax, ${AT.vmcs}
  vmsave rax
svm_run:
  mov rax, ${AT.vmcs}
  vmload rax
  vmrun rax
  vmsave rax
  push rbx
  push rcx
  push rdx
  push rsi
  inc dword [${V("exits")}]
  cmp dword [${V("exits")}], 400
  ja svm_end
  mov byte [rax + 0x5c], 0
  mov ebx, [rax + 0x70]
  cmp ebx, -1
  je svm_failed
  cmp ebx, 0x60
  je .interrupt
  cmp ebx, 0x61
  je .nmi
  cmp ebx, 0x63
  je svm_end
  cmp ebx, 0x64
  je .window
  cmp ebx, 0x74
  je .iret
  cmp ebx, 0x7f
  je svm_end
  cmp ebx, 0x81
  je .vmmcall
  cmp ebx, 0x400
  je .open
  mov ecx, ebx
  sub ecx, 0x40
  cmp ecx, 0x20
  jb .exception
.skip:
  mov rcx, [rax + 0xc8]
  test rcx, rcx
  jz svm_end
  mov [rax + 0x578], rcx
  and dword [rax + 0x68], -2
  mov ecx, [${V("exits")}]
  and ecx, 15
  jnz .inject
  or dword [rax + 0x60], 0x900
.inject:
  mov edx, [rcx * 8 + ${AT.vars + VAR.injected}]
  mov [rax + 0xa8], edx
  mov edx, [rcx * 8 + ${AT.vars + VAR.injected + 4}]
  mov [rax + 0xac], edx
.resume:
  pop rsi
  pop rdx
  pop rcx
  pop rbx
  jmp svm_run
.vmmcall:
  cmp dword [rax + 0x5f8], 0x600d
  je svm_end
  jmp .skip
.interrupt:
  and dword [rax + 0x0c], -2
  and dword [rax + 0x60], -0x1000001
  jmp .resume
.nmi:
  stgi
  nop
  clgi
  jmp .resume
.window:
  and dword [rax + 0x0c], -0x11
  jmp .resume
.iret:
  and dword [rax + 0x0c], -0x100001
  jmp .resume
.exception:
  mov ebx, ecx
  or ecx, 0x80000300
  mov edx, ${WITH_CODE}
  bt edx, ebx
  jnc .plain
  or ecx, 0x800
  mov edx, [rax + 0x78]
  mov [rax + 0xac], edx
.plain:
  mov [rax + 0xa8], ecx
  cmp ebx, 14
  jne .resume
  mov rcx, [rax + 0x80]
  mov [rax + 0x640], rcx
  jmp .resume
.open:
  mov rcx, [rax + 0x80]
  mov rdx, rcx
  shr rdx, 12
  cmp rdx, 512
  jae svm_end
  and rcx, -4096
  or rcx, [${V("open")}]
  mov [rdx * 8 + ${AT.eptPt}], rcx
  mov byte [rax + 0x5c], 3
  mov ecx, [rax + 0x88]
  ; INT n and INT3 run again
  mov edx, ecx
  shr edx, 8
  and edx, 7
  cmp edx, 4
  je .resume
  cmp cl, 3
  je .resume
  mov [rax + 0xa8], ecx
  mov ecx, [rax + 0x8c]
  mov [rax + 0xac], ecx
  jmp .resume
svm_end:
  mov al, 0x33
  out 0xf4, al
  hlt
svm_failed:
  mov al, 0x7e
  out 0xf4, al
  hlt
`;
