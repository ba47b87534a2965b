/** What the assembler says about mistakes: place, finding, what is accepted. */
import { assert, assertEquals, assertThrows } from "@std/assert";
import { assemble, type AssembleOptions, AssemblyError } from "./mod.ts";

/** Source, then the parts that the message must contain. */
const MISTAKES: [string, string[], AssembleOptions?][] = [
  ["nop\n  mvo eax, 1", ["t.asm:2:3:", "`mvo`", "nearest is `mov`"]],
  ["mov eax, rbx", ["t.asm:1:5:", "64-bit register rbx", "`mov r32, r/m32`"]],
  ["mov al, 300", ["immediate 300", "`mov r8, imm8`"]],
  ["inc [rax]", ["t.asm:1:5:", "size", "byte, word, dword, qword"]],
  ["jmp short x\ntimes 200 nop\nx:", ["t.asm:1:5:", "200 bytes", "-128"]],
  ["popa", ["`popa`", "64-bit mode", "`bits 16` or `bits 32`"]],
  ["push rax", ["`push`", "32-bit mode"], { bits: 32 }],
  ["lea rax, [rbx*3+rcx*2]", ["t.asm:1:", "scale"]],
  ["mov rax, [rbx*5+rcx]", ["scale 5", "1, 2, 4 and 8"]],
  ["mov eax, [al]", ["`al` can't address memory"]],
  ["mov eax, cout\ncount equ 1", ["t.asm:1:10:", "nearest name is `count`"]],
  ["foo:\nfoo:", ["t.asm:2:1:", "already defined at line 1"]],
  ["lock mov eax, [rbx]", ["t.asm:1:1:", "lock"]],
  ["lock add eax, ebx", ["lock", "memory destination"]],
  ["rep add eax, ebx", ["rep", "`add`"]],
  ["db 256", ["t.asm:1:4:", "256 doesn't fit 8 bits"]],
  ["times 2-3 nop", ["count of -1"]],
  ["times 510-($-$$) db 0\ntimes 4-($-$$) db 0", ["t.asm:2:1:", "too long"]],
  ["mov eax, 1 2", ["t.asm:1:12:", "`2` after the statement"]],
  ["mov ah, r8b", ["REX prefix"]],
  ["db 'abc", ["t.asm:1:4:", "isn't closed"]],
  ["db 0x12g", ["t.asm:1:4:", "isn't a number"]],
  ["bits 17", ["t.asm:1:6:", "17", "16, 32 and 64"]],
  ["section .data aling=4", ["t.asm:1:15:", "align"]],
  ["vaddps zmm1, zmm2, zmm3", ["zmm1", "EVEX"]],
  ["rep", ["t.asm:1:4:", "expected an instruction"]],
  ["mov rax, [rbx+0x123456789]", ["exceeds 32 bits"]],
  ["eax: nop", ["`eax` is a register"]],
  ["x equ 1/0", ["division by zero"]],
  ["align 3", ["alignment 3", "powers of two"]],
  ["entry man\nmain: nop", ["t.asm:1:7:", "nearest name is `main`"]],
  ["mov eax, [rax+\n", ["t.asm:1:15:", "the line's end"]],
  ["mov eax, #1", ["t.asm:1:10:", '"#"']],
  ["mov cr0, 1", ["`mov cr, r64`"]],
  ["%macro m 1\nmov al, %1\n%endmacro\nnop\nm 999", [
    "t.asm:2:5:",
    "in macro m, used at line 5",
  ]],
  ["%macro m 1\n%endmacro\nm 1, 2", ["t.asm:3:", "found 2 arguments"]],
  ["%if 1\nnop", ["t.asm:1:", "%endif"]],
  ["%rep later\nnop\n%endrep\nlater:", ["`later` isn't known here"]],
  ["%define\n", ["%define needs a name"]],
  ["%macro r 0\nr\n%endmacro\nr", ["expand without end"]],
  ["section .a start=0\ntimes 9 nop\nsection .b start=8\nnop", ["overlap"]],
  ["a: times b-a+1 nop\nb:", ["don't settle"]],
  ["mov eax{k1}, ebx", ["`mov`", "decorators", "`cpu knc`"]],
  ["cpu knc\nvaddps zmm1{k9}, zmm2, zmm3", [
    "t.asm:2:12:",
    "{k9}",
    "{k0}–{k7}",
  ]],
  ["vaddps ymm1{k1, ymm2, ymm3", ["t.asm:1:12:", "`}` is missing"]],
  ["cpu 486", ["t.asm:1:5:", "accepted are x64 and knc"]],
  ["nop\nmvo", ["t.asm:41:1:"], { firstLine: 40 }],
  ["times 1 << 24 nop", ["t.asm:1:1:", "2^20"]],
  ["org -1", ["-1", "load addresses"]],
];

for (const [source, parts, options] of MISTAKES) {
  Deno.test(`error: ${source.replaceAll("\n", " / ")}`, () => {
    const error = assertThrows(
      () => assemble(source, { file: "t.asm", ...options }),
      AssemblyError,
    );
    for (const part of parts) {
      assert(
        error.message.includes(part),
        `expected ${JSON.stringify(part)} in:\n${error.message}`,
      );
    }
  });
}

Deno.test("all mistakes are reported together, in order, with their text", () => {
  const error = assertThrows(
    () => assemble("mov eax, rbx\nnop\n  mov al, 300", { file: "t.asm" }),
    AssemblyError,
  );
  assertEquals(
    error.issues.map((i) => [i.line, i.column, i.text]),
    [[1, 5, "mov eax, rbx"], [3, 7, "  mov al, 300"]],
  );
  assertEquals(error.code, "config");
  assert(error.message.includes("\n      mov al, 300\n          ^"));
});
