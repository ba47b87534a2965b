/** The assembler's syntax: one small program per feature, checked by bytes. */
import { assertEquals } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { asm, asmWith, assemble, type AssembleOptions, lineAt } from "./mod.ts";

const hex = (bytes: Uint8Array): string =>
  Array.from(bytes, (b) => b.toString(16).padStart(2, "0")).join(" ");

function bytesOf(source: string, options?: AssembleOptions): string {
  return hex(assemble(source, options).bytes);
}

describe("encodings", () => {
  const table: [string, string, AssembleOptions?][] = [
    ["add eax, 1", "83 c0 01"],
    ["add eax, 0x12345678", "05 78 56 34 12"],
    ["mov rax, -1", "48 c7 c0 ff ff ff ff"],
    ["mov rax, 0xffff800000000000", "48 b8 00 00 00 00 00 80 ff ff"],
    ["mov eax, 0xffffffff", "b8 ff ff ff ff"],
    ["mov qword [rdi], 3", "48 c7 07 03 00 00 00"],
    ["mov qword ptr [rdi], 3", "48 c7 07 03 00 00 00"],
    ["mov rax, [fs:0x10]", "64 48 8b 04 25 10 00 00 00"],
    ["mov rax, fs:[0x10]", "64 48 8b 04 25 10 00 00 00"],
    ["mov rax, [rbx+rcx*8-8]", "48 8b 44 cb f8"],
    ["mov rax, [rsp+rbx]", "48 8b 04 1c"],
    ["mov rax, [rbx+rsp]", "48 8b 04 1c"],
    ["mov eax, [rbx*3]", "8b 04 5b"],
    ["mov eax, [rbp]", "8b 45 00"],
    ["mov eax, [r13]", "41 8b 45 00"],
    ["mov eax, [dword rbx+4]", "8b 83 04 00 00 00"],
    ["mov eax, [ebx]", "67 8b 03"],
    ["mov eax, [bx+si+3]", "66 8b 40 03", { bits: 16 }],
    ["mov eax, [si+bx+3]", "66 8b 40 03", { bits: 16 }],
    ["mov ax, [0x1234]", "a1 34 12", { bits: 16 }],
    ["mov al, [0x1122334455]", "a0 55 44 33 22 11 00 00 00"],
    ["movabs rax, 5", "48 b8 05 00 00 00 00 00 00 00"],
    ["lea rax, [rip+8]", "48 8d 05 08 00 00 00"],
    ["lea rax, [rel 0x20]", "48 8d 05 19 00 00 00"],
    ["lock cmpxchg [rdi], rax", "f0 48 0f b1 07"],
    ["rep movsb", "f3 a4"],
    ["repe cmpsb", "f3 a6"],
    ["repne scasq", "f2 48 af"],
    ["fs lodsb", "64 ac"],
    ["lodsb byte ptr [rsi]", "ac"],
    ["movsb byte [edi], byte [esi]", "67 a4"],
    ["a32 stosd", "67 ab"],
    ["push 5", "6a 05"],
    ["push 0x1234", "68 34 12 00 00"],
    ["push word 5", "66 6a 05"],
    ["push qword [rax]", "ff 30"],
    ["push [rax]", "ff 30"],
    ["push fs", "0f a0"],
    ["pop qword [rax]", "8f 00"],
    ["call [rax]", "ff 10"],
    ["jmp far [rax]", "48 ff 28"],
    ["jmp dword far [rax]", "ff 28"],
    ["jmp 0x08:0x12345678", "ea 78 56 34 12 08 00", { bits: 32 }],
    ["jmp dword 8:0x12345678", "66 ea 78 56 34 12 08 00", { bits: 16 }],
    ["jmp far 8:0x1234", "ea 34 12 08 00", { bits: 16 }],
    ["retf", "cb"],
    ["iretq", "48 cf"],
    ["iret", "cf", { bits: 16 }],
    ["pushf", "9c"],
    ["pusha", "60", { bits: 32 }],
    ["sysretq", "48 0f 07"],
    ["in al, dx", "ec"],
    ["out 0x80, al", "e6 80"],
    ["int 0x21", "cd 21"],
    ["int3", "cc"],
    ["xchg rax, rbx", "48 87 c3"],
    ["mov eax, [rbx*1]", "8b 04 1d 00 00 00 00"],
    ["mov eax, [rbx*1+rcx]", "8b 04 19"],
    ["xchg eax, eax", "87 c0"],
    ["xchg [rbx], eax", "87 03"],
    ["xchg eax, [rbx]", "87 03"],
    ["test eax, [rbx]", "85 03"],
    ["imul eax, 5", "6b c0 05"],
    ["imul eax, ebx, 500", "69 c3 f4 01 00 00"],
    ["shl eax, 1", "d1 e0"],
    ["shl eax, cl", "d3 e0"],
    ["jz 0x10", "74 0e"],
    ["jnae near 0x10", "0f 82 0a 00 00 00"],
    ["setnz al", "0f 95 c0"],
    ["cmovc eax, ebx", "0f 42 c3"],
    ["jrcxz 0", "e3 fe"],
    ["loop 0", "e2 fe"],
    ["loop 0, ecx", "67 e2 fd"],
    ["mov cr3, rax", "0f 22 d8"],
    ["mov rax, cr8", "44 0f 20 c0"],
    ["mov dr7, rax", "0f 23 f8"],
    ["mov ds, eax", "8e d8"],
    ["mov ds, ax", "66 8e d8"],
    ["xchg rbx, rax", "48 93"],
    ["mov ax, ds", "66 8c d8"],
    ["lgdt [rax]", "0f 01 10"],
    ["lidt [0x1000]", "0f 01 1e 00 10", { bits: 16 }],
    ["ltr ax", "0f 00 d8"],
    ["vmxon [rax]", "f3 0f c7 30"],
    ["vmptrld [rax]", "0f c7 30"],
    ["vmwrite rax, rbx", "0f 79 c3"],
    ["vmread rax, rbx", "0f 78 d8"],
    ["vmlaunch", "0f 01 c2"],
    ["invept rax, [rbx]", "66 0f 38 80 03"],
    ["vmrun rax", "0f 01 d8"],
    ["vmrun eax", "67 0f 01 d8"],
    ["invlpg [rax]", "0f 01 38"],
    ["monitor rax, ecx, edx", "0f 01 c8"],
    ["fld st3", "d9 c3"],
    ["fld st(3)", "d9 c3"],
    ["fadd st3", "d8 c3"],
    ["fadd to st3", "dc c3"],
    ["faddp", "de c1"],
    ["fxch", "d9 c9"],
    ["fnstcw [rax]", "d9 38"],
    ["fstcw [rax]", "9b d9 38"],
    ["blendvps xmm1, xmm2, xmm0", "66 0f 38 14 ca"],
    ["cmpltps xmm1, xmm2", "0f c2 ca 01"],
    ["vcmpneqpd ymm1, ymm2, ymm3", "c5 ed c2 cb 04"],
    ["vpgatherdd xmm1, [rax+xmm2*4], xmm3", "c4 e2 61 90 0c 90"],
    ["aam", "d4 0a", { bits: 32 }],
    ["bnd jmp 0x10", "f2 e9 0a 00 00 00"],
    ["notrack jmp rax", "3e ff e0"],
    ["endbr64", "f3 0f 1e fa"],
    ["nop", "90"],
    ["nop dword [rax]", "0f 1f 00"],
  ];
  for (const [source, expected, options] of table) {
    it(`${source} (bits ${options?.bits ?? 64})`, () => {
      assertEquals(bytesOf(source, options), expected);
    });
  }
});

describe("labels and jumps", () => {
  it("relaxes jumps to the shortest form that reaches", () => {
    const program = (n: number): string =>
      bytesOf(`jmp end\ntimes ${n} nop\nend:`).slice(0, 5);
    assertEquals(program(127), "eb 7f");
    assertEquals(program(128), "e9 80");
  });

  it("keeps growing jumps consistent", () => {
    // Each jump reaches only if the ones between stay short.
    const body = Array.from({ length: 60 }, (_, i) => `l${i}: jz l${i + 30}`);
    const tail = Array.from({ length: 30 }, (_, i) => `l${i + 60}: nop`);
    const image = assemble([...body, ...tail].join("\n"));
    for (const [name, value] of image.symbols) {
      const line = Number(name.slice(1)) + 1;
      assertEquals(lineAt(image, value)?.line, line);
    }
  });

  it("scopes local labels by the last global one", () => {
    const image = assemble("a:\n.x: jmp .x\nb:\n.x: jmp .x\njmp a.x");
    assertEquals(hex(image.bytes), "eb fe eb fe eb fa");
    assertEquals([...image.symbols.keys()], ["a", "a.x", "b", "b.x"]);
  });

  it("knows $ and $$", () => {
    assertEquals(bytesOf("nop\njmp $\ndb $-$$"), "90 eb fe 03");
  });

  it("takes labels without colon before data", () => {
    const image = assemble("msg db 'ab', 0\nlen equ $-msg\nmov ecx, len");
    assertEquals(hex(image.bytes), "61 62 00 b9 03 00 00 00");
    assertEquals(image.symbols.get("len"), 3n);
    assertEquals([...image.labels], ["msg"]);
  });
});

describe("expressions", () => {
  const table: [string, bigint][] = [
    ["1 + 2*3", 7n],
    ["(1+2)*3", 9n],
    ["1 << 4 | 3", 19n],
    ["0xff & ~0x0f", 0xf0n],
    ["-8 >> 1", -4n],
    ["7 % 4 + 9 / 2", 7n],
    ["6 ^ 3", 5n],
    ["'A'", 65n],
    ["'AB'", 0x4241n],
    ["0b101 + 101b + 0o17 + 1fh + 1_000", 1056n],
    ["2 > 1 && 1 == 1", 1n],
    ["later + 1", 6n],
  ];
  for (const [text, value] of table) {
    it(text, () => {
      const image = assemble(`x equ ${text}\nlater equ 5`);
      assertEquals(image.symbols.get("x"), value);
    });
  }
});

describe("data", () => {
  const table: [string, string][] = [
    ["db 1, -1, 'ab', \"c\", `\\n\\x41`", "01 ff 61 62 63 0a 41"],
    ["dw 0x1234, 'a'", "34 12 61 00"],
    ["dd 1.5", "00 00 c0 3f"],
    ["dq -2.0", "00 00 00 00 00 00 00 c0"],
    ["dq 0x1122334455667788", "88 77 66 55 44 33 22 11"],
    ["times 3 db 7", "07 07 07"],
    ["db 5\ntimes 2 db 1, 2\ndb 6", "05 01 02 01 02 06"],
    ["times 3 db $", "00 01 02"],
    ["times 4-($-$$) db 9", "09 09 09 09"],
    ["db 1\nalign 4\ndb 2", "01 90 90 90 02"],
    ["db 1\nalign 4, db 0\ndb 2", "01 00 00 00 02"],
    ["db 1\nresb 2\ndb 2", "01 00 00 02"],
    ["db 'caf\\'", "63 61 66 5c"],
    ["db 'é€'", "c3 a9 e2 82 ac"],
    ["dw ?, 1", "00 00 01 00"],
  ];
  for (const [source, expected] of table) {
    it(source.replaceAll("\n", " / "), () => {
      assertEquals(bytesOf(source), expected);
    });
  }
});

describe("sections and directives", () => {
  it("places sections one after the other, .bss last", () => {
    const image = assemble(
      "org 0x1000\nsection .bss\nbuf: resb 100\nsection .text\nnop\n" +
        "section .data align=64\nx: dq buf",
    );
    const rows = image.sections.map((s) => [s.name, s.address, s.size]);
    // .text doesn't exist before `section .bss` is opened by org.
    assertEquals(rows, [
      [".text", 0x1000, 1],
      [".data", 0x1040, 8],
      [".bss", 0x1050, 100],
    ]);
    assertEquals(image.symbols.get("buf"), 0x1050n);
    assertEquals(image.origin, 0x1000);
    assertEquals(image.bytes.length, 0x48);
  });

  it("links for a virtual address and loads at a physical one", () => {
    const image = assemble(
      "section .high start=0x200000 vstart=0xffffffff80000000\n" +
        "f: mov rax, f\njmp f",
    );
    assertEquals(image.sections[0].address, 0x200000);
    assertEquals(image.symbols.get("f"), 0xffffffff80000000n);
    assertEquals(hex(image.bytes), "48 c7 c0 00 00 00 80 eb f7");
  });

  it("starts a new block at every further org", () => {
    const image = assemble("org 0x100\nnop\norg 0x200\nx: jmp x");
    assertEquals(image.sections.map((s) => s.address), [0x100, 0x200]);
    assertEquals(image.symbols.get("x"), 0x200n);
  });

  it("switches modes", () => {
    assertEquals(
      bytesOf(
        "bits 16\nmov eax, ebx\nbits 32\nmov eax, ebx\n[bits 64]\npush rax",
      ),
      "66 89 d8 89 d8 50",
    );
  });

  it("finds the entry", () => {
    const start = assemble("nop\nbits 32\n_start: nop", { origin: 0x10 });
    assertEquals([start.entry, start.entryBits], [0x11n, 32]);
    const named = assemble("_start: nop\nmain: nop\nentry main\nglobal main");
    assertEquals([named.entry, named.globals], [1n, ["main"]]);
    assertEquals(assemble("nop", { origin: 0x20 }).entry, 0x20n);
  });

  it("makes [label] RIP-relative on demand", () => {
    assertEquals(
      bytesOf("default rel\nmov eax, [x]\nmov eax, [abs x]\nx:"),
      "8b 05 07 00 00 00 8b 04 25 0d 00 00 00",
    );
  });

  it("maps addresses to lines", () => {
    const image = assemble("nop\n\nmov eax, 1 ; one\nx: dd 5", {
      origin: 0x100,
    });
    assertEquals(image.lines, [
      { address: 0x100n, length: 1, line: 1, bits: 64 },
      { address: 0x101n, length: 5, line: 3, bits: 64 },
      { address: 0x106n, length: 4, line: 4 },
    ]);
    assertEquals(lineAt(image, 0x103n)?.line, 3);
    assertEquals(lineAt(image, 0x10an), undefined);
  });
});

describe("decorators", () => {
  const table: [string, string][] = [
    ["vaddps zmm2{k3}, zmm4, zmm1", "62 f1 58 0b 58 d1"],
    ["vaddps zmm2, zmm4, zmm1{cdab}", "62 f1 58 18 58 d1"],
    ["vaddps zmm2, zmm4, [rax]{1to16}", "62 f1 58 18 58 10"],
    ["vaddps zmm2, zmm4, zmm1, {rz-sae}", "62 f1 58 f8 58 d1"],
  ];
  for (const [source, expected] of table) {
    it(source, () => {
      assertEquals(bytesOf("cpu knc\n" + source), expected);
    });
  }
});

describe("macros", () => {
  it("expands parameters and unique labels", () => {
    const source = `
%macro wait_until 2
%%again: in al, %1
  test al, %2
  jz %%again
%endmacro
  wait_until 0x64, 1
  wait_until 0x64, 2`;
    assertEquals(
      bytesOf(source),
      "e4 64 a8 01 74 fa e4 64 a8 02 74 fa",
    );
  });

  it("defines, assigns, repeats and decides", () => {
    const source = `
%define PRESENT 1
%define ENTRY(base, flags) (base) | flags | PRESENT
%assign i 0
%rep 3
  dw ENTRY(i*0x1000, 2)
  %assign i i+1
%endrep
N equ 2
%if N == 1
  db 1
%elif N == 2
  %ifdef PRESENT
  db 2 ; "PRESENT" stays in strings: 
  db 'PRESENT'
  %endif
%else
  db 3
%endif`;
    assertEquals(
      bytesOf(source),
      "03 00 03 10 03 20 02 50 52 45 53 45 4e 54",
    );
  });

  it("takes braces around arguments with commas", () => {
    assertEquals(
      bytesOf(
        "%macro d 1-2 7\n%endmacro\n".replace(" 7", "") +
          "%macro e 2\ndb %1\ndw %2\n%endmacro\ne {1, 2}, 3",
      ),
      "01 02 03 00",
    );
  });
});

describe("the asm template", () => {
  it("interpolates numbers, bigints and text", () => {
    const port = 0x3f8;
    const image = asm`
      mov dx, ${port}
      mov rax, ${0xffff_8000_0000_0000n}
      mov ecx, ${-1}
      ${"nop"}
      db "a\n"`;
    assertEquals(
      hex(image.bytes),
      "66 ba f8 03 48 b8 00 00 00 00 00 80 ff ff b9 ff ff ff ff 90 61 5c 6e",
    );
  });

  it("takes options and constants", () => {
    const at = asmWith({ origin: 0x7c00, bits: 16, constants: { N: 3 } });
    const image = at`x: times N nop
      jmp x`;
    assertEquals(image.symbols.get("x"), 0x7c00n);
    assertEquals(hex(image.bytes).slice(0, 8), "90 90 90");
  });
});
