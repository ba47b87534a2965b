/**
 * Fault conditions of system instructions as one table: mode, program, first
 * exception. The manual reference of each is at the procedure that raises it.
 */
import { assertEquals } from "@std/assert";
import {
  runProgram,
  TO_USER_32,
  TO_USER_64,
} from "../../../tests/support/faults.ts";
import { type Mode, SELECTOR } from "../../../tests/support/machine.ts";

type Case = readonly [mode: Mode, program: string, fault: string];

const wrmsr = (index: number, low: number, high = 0): string =>
  `mov ecx, ${index}\nmov eax, ${low}\nmov edx, ${high}\nwrmsr`;
const cr = (n: number, change: string): string =>
  `mov rax, cr${n}\n${change}\nmov cr${n}, rax`;

const CASES: readonly Case[] = [
  // Privilege.
  ...[
    "hlt",
    "cli",
    "sti",
    "invd",
    "wbinvd",
    "clts",
    "mov rax, cr0",
    "mov cr0, rax",
    "mov rax, dr7",
    "mov dr0, rax",
    "lgdt [rsp]",
    "lidt [rsp]",
    "lldt ax",
    "ltr ax",
    "lmsw ax",
    "invlpg [rsp]",
    "rdmsr",
    "wrmsr",
    "swapgs",
    "in al, 0x60",
    "out 0x60, al",
    "insb",
    "outsb",
    "sysexit",
    "sysretq",
    "invpcid rax, [rsp]",
  ].map((i): Case => ["long", TO_USER_64 + i, "#GP(0)"]),
  ...[
    "stac",
    "clac",
    "monitor",
    "mwait",
    "ud2",
    "ud1 eax, eax",
    "rsm",
    "vmxoff",
  ]
    .map((i): Case => ["long", TO_USER_64 + i, "#UD"]),
  // Allowed at CPL 3: what faults is the HLT behind them.
  ...["smsw ax", "sgdt [rsp]", "sidt [rsp]", "sldt ax", "str ax", "rdtsc"].map(
    (i): Case => ["long", `${TO_USER_64}${i}\nmov eax, 1\nhlt`, "#GP(0)"],
  ),
  [
    "long",
    `${
      cr(0, "bts rax, 18")
    }\n${TO_USER_64}push 0x40202\npopfq\nsub rsp, 4\npushfq`,
    "#AC(0)",
  ],
  // CR0.
  ["long", cr(0, "bts rax, 32"), "#GP(0)"],
  ["long", cr(0, "btr rax, 31"), "#GP(0)"],
  ["long", cr(0, "btr rax, 0"), "#GP(0)"],
  ["long", cr(0, "bts rax, 29"), "#GP(0)"],
  ["long", cr(0, "bts rax, 30\nbts rax, 29"), "none"],
  ["long", cr(0, "bts rax, 6"), "none"],
  [
    "protected",
    "mov eax, cr0\nor eax, 0x80000000\nand al, 0xfe\nmov cr0, eax",
    "#GP(0)",
  ],
  // CR3, CR4.
  ["long", cr(3, "bts rax, 40"), "#GP(0)"],
  ["long", cr(3, "bts rax, 63"), "#GP(0)"],
  ["long", cr(4, "btr rax, 5"), "#GP(0)"],
  ["long", cr(4, "bts rax, 12"), "#GP(0)"],
  ["long", cr(4, "bts rax, 13"), "#GP(0)"],
  ["long", cr(4, "bts rax, 22"), "none"],
  ["long", cr(4, "bts rax, 23"), "#GP(0)"],
  ["long", cr(4, "bts rax, 31"), "#GP(0)"],
  ["long", cr(4, "bts rax, 33"), "#GP(0)"],
  ["long", cr(4, "bts rax, 17"), "none"],
  [
    "long",
    `mov rax, cr3\nor al, 8\nmov cr3, rax\n${cr(4, "bts rax, 17")}`,
    "#GP(0)",
  ],
  ["long", `${cr(4, "bts rax, 17")}\n${cr(3, "bts rax, 63")}`, "none"],
  ["long", `${cr(4, "bts rax, 17")}\n${cr(0, "btr rax, 31")}`, "#GP(0)"],
  ["long", "mov eax, 16\nmov cr8, rax", "#GP(0)"],
  ["long", "mov eax, 15\nmov cr8, rax", "none"],
  // Debug registers.
  ["long", "mov rax, dr4", "none"],
  ["long", `${cr(4, "bts rax, 3")}\nmov rax, dr4`, "#UD"],
  ["long", "mov rax, 1 << 32\nmov dr6, rax", "#GP(0)"],
  ["long", "mov rax, 1 << 32\nmov dr7, rax", "#GP(0)"],
  ["long", "mov eax, 0x2400\nmov dr7, rax\nmov rax, dr0", "#DB"],
  // MSRs.
  ["long", "mov ecx, 0x12345\nrdmsr", "#GP(0)"],
  ["long", wrmsr(0xc0000080, 0x0), "#GP(0)"],
  ["long", wrmsr(0xc0000080, 0xd01 | 1 << 12), "#GP(0)"],
  ["long", wrmsr(0xc0000080, 0x900), "none"],
  ["long", wrmsr(0xc0000082, 0, 0x80000000), "#GP(0)"],
  ["long", wrmsr(0xc0000100, 0, 0x80000000), "#GP(0)"],
  ["long", wrmsr(0x277, 2), "#GP(0)"],
  ["long", wrmsr(0x277, 0x01040506, 0), "none"],
  ["long", wrmsr(0xfe, 0), "#GP(0)"],
  ["long", wrmsr(0x200, 0xf06), "#GP(0)"],
  ["long", wrmsr(0x201, 0x800, 0x100), "#GP(0)"],
  ["long", wrmsr(0xc0000103, 0, 1), "#GP(0)"],
  ["long", `${wrmsr(0x3a, 5)}\n${wrmsr(0x3a, 5)}`, "#GP(0)"],
  // Segments.
  ["long", "mov eax, 0x100\nmov ds, eax", "#GP(100)"],
  ["long", `mov eax, ${SELECTOR.code64}\nmov ss, eax`, "#GP(8)"],
  ["long", `mov eax, ${SELECTOR.userData}\nmov ss, eax`, "#GP(38)"],
  ["long", `mov eax, ${SELECTOR.tss}\nmov ds, eax`, "#GP(48)"],
  ["long", "xor eax, eax\nmov ss, eax", "none"],
  ["long", "mov eax, 3\nmov ss, eax", "#GP(0)"],
  ["protected", "xor eax, eax\nmov ss, eax", "#GP(0)"],
  ["protected", "xor eax, eax\nmov ds, eax", "none"],
  ["protected", "xor eax, eax\nmov ds, eax\nmov al, [0]", "#GP(0)"],
  [
    "protected",
    `${TO_USER_32}mov eax, ${SELECTOR.data}\nmov es, eax`,
    "#GP(10)",
  ],
  [
    "protected",
    `and byte [0x500 + ${SELECTOR.data16} + 5], 0x7f\nmov eax, ${SELECTOR.data16}\nmov es, eax`,
    "#NP(28)",
  ],
  [
    "protected",
    `and byte [0x500 + ${SELECTOR.data16} + 5], 0x7f\nmov eax, ${SELECTOR.data16}\nmov ss, eax`,
    "#SS(28)",
  ],
  ["protected", "mov cs, eax", "#UD"],
  // Descriptor tables.
  ["long", "lgdt [bad]\nhlt\nbad: dw 0\ndq 0x8000000000000000", "#GP(0)"],
  ["long", "xor eax, eax\nltr ax", "#GP(0)"],
  ["long", `mov eax, ${SELECTOR.data}\nltr ax`, "#GP(10)"],
  ["long", `mov eax, ${SELECTOR.tss}\nltr ax\nltr ax`, "#GP(48)"],
  ["long", `mov eax, ${SELECTOR.data}\nlldt ax`, "#GP(10)"],
  ["long", "xor eax, eax\nlldt ax", "none"],
  ["real", "sldt ax", "#UD"],
  ["real", "lldt ax", "#UD"],
  ["real", "lar ax, bx", "#UD"],
  ["real", "verr ax", "#UD"],
  // Fast system calls.
  ["long", `${wrmsr(0xc0000080, 0x900)}\nsyscall`, "#UD"],
  ["long", "sysenter", "#GP(0)"],
  ["long", "sysexit", "#GP(0)"],
  ["long", "mov rcx, 1 << 63\nsysretq", "#GP(0)"],
  ["protected", "syscall", "#UD"],
  // Far transfers.
  ["long", "call far dword [p]\nhlt\np: dd 0\ndw 0", "#GP(0)"],
  ["long", `call far dword [p]\nhlt\np: dd 0\ndw ${SELECTOR.data}`, "#GP(10)"],
  [
    "long",
    `call far dword [p]\nhlt\np: dd 0\ndw ${SELECTOR.userCode64}`,
    "#GP(40)",
  ],
  ["long", `call far dword [p]\nhlt\np: dd 0\ndw 0x200`, "#GP(200)"],
  ["long", "push 0\npush 0\nretfq", "#GP(0)"],
  ["long", `push ${SELECTOR.data}\npush 0\nretfq`, "#GP(10)"],
  [
    "protected",
    `mov eax, ${SELECTOR.tss}\nltr ax\njmp ${SELECTOR.tss}:0`,
    "#GP(48)",
  ],
  // IRET.
  ["long", "pushfq\nor qword [rsp], 0x4000\npopfq\niretq", "#GP(0)"],
  // Others.
  ["long", "rdpmc", "#GP(0)"],
  ["long", "xgetbv", "#UD"],
  ["long", "rdfsbase rax", "#UD"],
  ["long", `${cr(4, "bts rax, 16")}\nmov rax, 1 << 63\nwrfsbase rax`, "#GP(0)"],
  ["long", `${cr(4, "bts rax, 11")}\n${TO_USER_64}sgdt [rsp]`, "#GP(0)"],
  ["long", `${cr(4, "bts rax, 2")}\n${TO_USER_64}rdtsc`, "#GP(0)"],
  ["long", "mov eax, 4\ninvpcid rax, [d]\nhlt\nalign 16\nd: dq 0, 0", "#GP(0)"],
  [
    "long",
    "xor eax, eax\ninvpcid rax, [d]\nhlt\nalign 16\nd: dq 1, 0",
    "#GP(0)",
  ],
  ["long", "mov eax, 2\ninvpcid rax, [d]\nhlt\nalign 16\nd: dq 0, 0", "none"],
  ["long", "vmcall", "#UD"],
  ["long", "into", "#UD"],
];

for (const [mode, program, fault] of CASES) {
  const title = program.replaceAll("\n", "; ").slice(-70);
  // INTO and far immediates do not assemble in 64-bit mode.
  if (mode === "long" && program === "into") continue;
  Deno.test(`${mode}: ${title} → ${fault}`, () => {
    assertEquals(runProgram(program, { mode }).fault, fault);
  });
}
