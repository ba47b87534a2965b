/**
 * A flat table of idioms: short assembly texts that use system instructions as a kernel would,
 * raise one exception on purpose, edit page tables or modify code, each for one
 * slot or several in a row. The random instances of instance.ts cover the rest.
 *
 * Texts may use the constants D (data that the zone may use), PTE (page-table
 * entry of a data page), PAGE (that page) and N (a random byte).
 * Invariant: what an idiom breaks for later slots, its last text repairs.
 */
import type { BodyMode } from "./runtime.ts";
import { AT, SELECTOR } from "./places.ts";

/** What an idiom does beside running instructions; counted by the coverage. */
export type Deed = "self-modification" | "page-table edit";

/** One idiom. */
export interface Idiom {
  readonly modes: readonly BodyMode[];
  readonly zone: "kernel" | "user" | "any";
  readonly deed?: Deed;
  /** One text a slot. */
  readonly texts: readonly string[];
}

const LONG: readonly BodyMode[] = ["long"];
const WIDE: readonly BodyMode[] = ["long", "protected"];
const LEGACY: readonly BodyMode[] = ["protected"];
const REAL: readonly BodyMode[] = ["real"];
const NOT_LONG: readonly BodyMode[] = ["protected", "real"];
const ALL: readonly BodyMode[] = ["long", "protected", "real"];

const kernel = (
  modes: readonly BodyMode[],
  ...texts: string[]
): Idiom => ({ modes, zone: "kernel", texts });
const user = (modes: readonly BodyMode[], ...texts: string[]): Idiom => ({
  modes,
  zone: "user",
  texts,
});
const any = (modes: readonly BodyMode[], ...texts: string[]): Idiom => ({
  modes,
  zone: "any",
  texts,
});
const smc = (
  modes: readonly BodyMode[],
  zone: Idiom["zone"],
  ...texts: string[]
): Idiom => ({ modes, zone, deed: "self-modification", texts });
const edits = (...texts: string[]): Idiom => ({
  modes: WIDE,
  zone: "kernel",
  deed: "page-table edit",
  texts,
});

/** A 64-byte aligned place of the zone's data. */
const AREA = "D + 64 - (D & 63)";

const SETS: readonly (readonly [msr: number, low: number, high: number])[] = [
  [0xc0000100, 0x00110010, 0],
  [0xc0000101, 0x00110020, 0],
  [0xc0000102, 0x00114000, 0],
  [0xc0000100, 0, 0x00010000],
  [0x277, 0x00070406, 0x00070406],
  [0x277, 0x02020202, 0],
  [0xc0000103, 0x1234, 0],
  [0x176, AT.runtime, 0],
  [0x1d9, 0, 0],
  [0x10, 0x1000, 0],
  [0x3b, 0x10, 0],
  [0x1234, 0, 0],
];
const READS = [
  0xc0000080,
  0xc0000100,
  0x1b,
  0x277,
  0xfe,
  0x200,
  0x1a0,
  0x10,
  0x174,
  0x3a,
  0x480,
  0x486,
  0x48c,
  0xc0000082,
  0x8b,
  0x1234,
];

/** Every idiom. */
export const IDIOMS: readonly Idiom[] = [
  // --- SVM, with EFER.SVME on half the programs of models that have it
  kernel(LONG, "mov eax, PAGE\nvmsave rax\nvmload rax\nclgi\nnop\nstgi"),
  kernel(LONG, "mov eax, PAGE\nmov ecx, N & 1\ninvlpga rax, ecx"),
  kernel(
    LONG,
    `mov ecx, 0xc0010117\nmov eax, ${AT.vmxon}\nxor edx, edx\nwrmsr`,
    "mov eax, PAGE\nvmrun rax\nstgi",
  ),
  // --- control and debug registers
  kernel(
    WIDE,
    `mov eax, 8
     %if BITS == 64
     mov rcx, cr0
     or rcx, rax
     mov cr0, rcx
     %else
     mov ecx, cr0
     or ecx, eax
     mov cr0, ecx
     %endif
     fnop`,
    "clts\nfnop",
  ),
  kernel(WIDE, "smsw ax\nor al, 8\nlmsw ax\nwait\nfninit", "clts"),
  kernel(LONG, "mov rax, cr3\nmov cr3, rax\nmov rcx, cr2\nmov cr2, rbx"),
  kernel(LEGACY, "mov eax, cr3\nmov cr3, eax\nmov ecx, cr2\nmov cr2, ebx"),
  kernel(LONG, "mov rax, cr4\nxor eax, 0x80\nmov cr4, rax\nmov eax, [D]"),
  kernel(LEGACY, "mov eax, cr4\nxor eax, 0x80\nmov cr4, eax\nmov eax, [D]"),
  kernel(
    LONG,
    "mov rax, cr8\nmov ecx, 2\nmov cr8, rcx\nxor ecx, ecx\nmov cr8, rcx",
  ),
  kernel(LONG, "mov rax, cr0\nbtr rax, 0\nmov cr0, rax"),
  kernel(LONG, "mov rax, cr4\nbts rax, 60\nmov cr4, rax"),
  kernel(
    LONG,
    "mov rax, cr4\nor eax, 4\nmov cr4, rax\nrdtsc",
    "mov rax, cr4\nand eax, ~4\nmov cr4, rax\nrdtsc",
  ),
  kernel(
    WIDE,
    "xor ecx, ecx\nxgetbv",
    "mov eax, 3\nxor edx, edx\nxor ecx, ecx\nxsetbv",
  ),
  kernel(
    LONG,
    "lea rax, [rel .here]\nmov dr0, rax\nmov eax, 0x402\nmov dr7, rax\nnop\n.here: inc ecx\nmov rax, dr6\nmov dr6, rax",
    "mov rax, dr7\nxor eax, eax\nmov dr7, rax",
  ),
  kernel(
    LONG,
    "mov eax, D + 8\nmov dr1, rax\nmov eax, 0x00d00408\nmov dr7, rax\nmov [D + 9], cl\nmov eax, [D + 8]\nmov dr2, rax\nmov rcx, dr3",
    "mov edi, D\nmov ecx, 5\nrep stosd\nxor eax, eax\nmov dr7, rax",
  ),
  kernel(
    LEGACY,
    "mov eax, D + 8\nmov dr1, eax\nmov eax, 0x00d00408\nmov dr7, eax\nmov [D + 9], cl\nmov eax, dr6\nxor eax, eax\nmov dr7, eax",
  ),
  kernel(
    LONG,
    "mov eax, 0x2400\nmov dr7, rax\nmov rax, dr0\nxor eax, eax\nmov dr7, rax",
  ),
  kernel(
    LONG,
    "pushfq\nor dword [rsp], 0x100\npopfq\ninc eax\nnop\ndec ecx\npushfq\npop rax",
  ),
  user(
    LONG,
    "pushfq\nor dword [rsp], 0x100\npopfq\ninc eax\nmov edi, D\nmov ecx, 3\nrep stosb",
  ),
  any(LEGACY, "pushfd\nor dword [esp], 0x100\npopfd\ninc eax\nnop\ndec ecx"),
  kernel(
    REAL,
    "pushf\npop ax\nor ax, 0x100\npush ax\npopf\ninc ax\nnop\nxor bx, bx",
  ),
  kernel(
    REAL,
    "mov eax, dr7\nmov dr6, eax\nmov eax, cr0\nmov cr0, eax\nsmsw ax\nlmsw ax\nmov ecx, cr4",
  ),
  // --- far transfers
  kernel(
    LONG,
    `mov eax, ss
     push rax
     push rsp
     pushfq
     push 8
     lea rax, [rel .on]
     push rax
     iretq
     .on: inc eax`,
  ),
  kernel(LONG, "push 8\nlea rax, [rel .on]\npush rax\no64 retf\n.on: inc eax"),
  kernel(LEGACY, "pushfd\npush 0x18\npush .on\niretd\n.on: inc eax"),
  kernel(
    LEGACY,
    "push 0x18\npush .on\nretf\n.on: push 1\npush 2\npush 0x18\npush .to\nretf 8\n.to: jmp 0x18:.last\n.last: inc eax",
  ),
  kernel(
    REAL,
    "pushf\npush 0\npush .on\niret\n.on: push 0\npush .to\nretf\n.to: jmp 0:.last\n.last: inc ax",
  ),
  kernel(REAL, "call 0:.on\n.on: pushf\npush 0\npush .to\niret\n.to: nop"),
  kernel(
    LONG,
    "lea rax, [rel .on]\nmov [D], eax\nmov word [D + 4], 8\ncall far [D]\n.on: mov ecx, [D]\njmp far [D - 8]",
  ),
  kernel(
    LEGACY,
    "mov dword [D], .on\nmov word [D + 4], 0x18\ncall far [D]\n.on: nop",
  ),
  any(LONG, `mov word [D + 4], ${SELECTOR.callGate | 3}\ncall far [D]`),
  any(LEGACY, `call ${SELECTOR.callGate | 3}:0`),
  kernel(
    LONG,
    `mov word [D + 4], ${SELECTOR.code32}\nlea rax, [rel .x]\nmov [D], eax\njmp far [D]\n.x: inc eax`,
  ),
  kernel(LONG, "lea rcx, [rel $ + 64]\nmov r11d, 0x202\no64 sysret"),
  kernel(LONG, `mov ecx, ${AT.userBody}\nmov r11d, 0x202\no64 sysret`),
  kernel(LONG, `mov ecx, ${AT.userBody}\nmov r11d, 0x202\nsysret`),
  kernel(
    LONG,
    `mov edx, ${AT.userBody}\nmov ecx, ${AT.userStack}\no64 sysexit`,
  ),
  kernel(LONG, `mov edx, ${AT.userBody}\nmov ecx, ${AT.userStack}\nsysexit`),
  kernel(LEGACY, `mov edx, ${AT.userBody}\nmov ecx, ${AT.userStack}\nsysexit`),
  any(WIDE, "sysenter"),
  any(LONG, "syscall"),
  any(LONG, "mov eax, N\nsyscall\ninc ecx"),
  any(ALL, "int 0x41"),
  any(ALL, "int3"),
  any(ALL, "int1"),
  any(ALL, "int 0x21"),
  any(ALL, "ud2"),
  // --- segments
  kernel(
    WIDE,
    "mov ax, 0x10\nmov ds, ax\nmov es, ax\nmov fs, ax\nmov gs, ax\nmov cx, ds\nmov edx, ss",
  ),
  kernel(
    REAL,
    "mov ax, es\nmov fs, ax\nmov gs, ax\nmov es, ax\npush ds\npop es\npush ss\npop ss\npush fs\npop fs",
  ),
  user(
    WIDE,
    "mov ax, 0x3b\nmov ds, ax\nmov es, ax\nmov fs, ax\nmov ss, ax\ninc eax",
  ),
  any(WIDE, `mov ax, ${SELECTOR.notPresent}\nmov es, ax`),
  kernel(WIDE, `mov ax, ${SELECTOR.notPresent}\nmov ss, ax`),
  any(WIDE, "mov ax, 0x123\nmov fs, ax"),
  kernel(
    WIDE,
    "mov dword [D], 0x1234\nmov word [D + 4], 0x10\nlfs eax, [D]\nlgs ecx, [D]\nlss eax, [D]",
  ),
  kernel(
    LEGACY,
    "mov dword [D], 0x1234\nmov word [D + 4], 0x10\nles eax, [D]\nlds ecx, [D]",
  ),
  kernel(
    REAL,
    "mov word [D], 0x1234\nmov word [D + 2], 0\nles ax, [D]\nlds cx, [D]\nlfs dx, [D]\nlss bx, [D]\nlgs di, [D]",
  ),
  any(LONG, "push fs\npop fs\npush gs\npop gs\no16 push fs\no16 pop gs"),
  any(
    LEGACY,
    "push fs\npop fs\npush ds\npop ds\npush es\npop es\npush ss\npop ss\nnop",
  ),
  kernel(LONG, "swapgs\nmov eax, [D]\nswapgs"),
  any(
    LONG,
    "mov eax, D\nwrfsbase rax\nrdgsbase rcx\nmov ecx, [fs:4]\nrdfsbase eax\nwrgsbase ecx",
  ),
  kernel(WIDE, "sgdt [D]\nlgdt [D]\nsidt [D + 16]\nlidt [D + 16]"),
  kernel(REAL, "sgdt [D]\nlgdt [D]\nsidt [D + 16]\nlidt [D + 16]"),
  kernel(
    WIDE,
    `mov ax, ${SELECTOR.ldt}\nlldt ax\nsldt [D]\nmov ax, 12\nmov fs, ax\nmov eax, [fs:N]\nsldt eax`,
  ),
  kernel(
    WIDE,
    `and byte [${
      AT.gdt + SELECTOR.tss + 5
    }], ~2\nmov ax, ${SELECTOR.tss}\nltr ax\nstr ecx\nstr [D]`,
  ),
  kernel(WIDE, `mov ax, ${SELECTOR.tss}\nltr ax`),
  any(WIDE, "mov ecx, N\nlar eax, ecx\nlsl edx, ecx\nverr cx\nverw cx"),
  any(WIDE, "mov ecx, 0x3b\nlar eax, ecx\nlsl edx, ecx\nverr cx\nverw cx"),
  // --- exceptions
  any(ALL, "xor ecx, ecx\ndiv cx"),
  any(NOT_LONG, "mov al, 0x7f\nadd al, 1\ninto"),
  any(
    NOT_LONG,
    "mov cx, 9\nmov word [D], 1\nmov word [D + 2], 5\nmov word [D + 4], 3\nbound cx, [D]",
  ),
  any(
    NOT_LONG,
    "mov cx, 4\nmov word [D], 1\nmov word [D + 2], 5\nbound cx, [D]\ninc cx",
  ),
  any(LONG, "xor eax, eax\nxor ecx, ecx\nvmfunc\ninc ecx"),
  any(LONG, "mov rbp, 0x8000000000000000\nmov rax, [rbp]"),
  any(LONG, "mov rsi, 0x8000000000000000\nmov rax, [rsi]"),
  kernel(
    LONG,
    `and byte [${AT.idt + 5}], 0x7f\nxor ecx, ecx\ndiv ecx`,
    `or byte [${AT.idt + 5}], 0x80`,
  ),
  kernel(
    LEGACY,
    `and byte [${AT.idt + 5}], 0x7f\nxor ecx, ecx\ndiv ecx`,
    `or byte [${AT.idt + 5}], 0x80`,
  ),
  any(
    ALL,
    "mov word [D], 0x340\nmov word [D + 4], 0x8081\nmov word [D + 8], 0xffff\nfldenv [D]\nwait",
    "fnclex\nfninit\nfnstsw ax",
  ),
  user(
    WIDE,
    "%if BITS == 64\npushfq\nor dword [rsp], 0x40000\npopfq\n%else\npushfd\nor dword [esp], 0x40000\npopfd\n%endif\nmov eax, [D + 1]\ninc eax",
  ),
  user(WIDE, `mov eax, [${AT.kernelData}]`),
  user(LONG, `mov eax, ${AT.kernelBody}\njmp rax`),
  user(LEGACY, `mov eax, ${AT.kernelBody}\njmp eax`),
  kernel(
    LEGACY,
    `mov dword [${AT.tss}], 0x20\npushfd\nor dword [esp], 0x4000\npopfd\niretd`,
    "pushfd\nand dword [esp], ~0x4000\npopfd",
  ),
  kernel(
    LEGACY,
    `mov dword [${AT.tss}], 0x20\npushfd\nor dword [esp], 0x4000\npopfd\npush eax\niretd`,
    "pushfd\nand dword [esp], ~0x4000\npopfd",
  ),
  user(LEGACY, `mov ebp, 0\nint 0x42`),
  // --- tasks (32-bit)
  kernel(LEGACY, `call ${SELECTOR.tss2}:0\ninc eax`),
  kernel(LEGACY, `int 0x43\ninc eax`),
  kernel(LEGACY, `call ${SELECTOR.taskGate}:0`),
  // --- interrupts
  kernel(ALL, "sti\nnop\nhlt\nnop"),
  kernel(ALL, "cli\ninc ax\nsti\nnop\nnop"),
  any(ALL, "cli\nsti"),
  kernel(
    WIDE,
    "mov eax, 0xfee00000\nmov dword [eax + 0x310], 0\nmov dword [eax + 0x300], 0x44400\nnop",
  ),
  kernel(
    WIDE,
    "mov eax, 0xfee00000\nmov dword [eax + 0x300], 0x44031\nmov ecx, [eax + 0x390]\nmov edx, [eax + 0x20]",
  ),
  kernel(
    WIDE,
    "mov eax, D\nxor ecx, ecx\nxor edx, edx\nmonitor\nmov [D], edx\nmwait",
  ),
  kernel(LONG, "mov eax, ss\nmov ss, eax\nint 0x30\npushfq\npopfq"),
  // --- MSRs, time, identification
  ...SETS.map(([msr, low, high]) =>
    kernel(
      WIDE,
      `mov ecx, ${msr}\nrdmsr\nmov eax, ${low}\nmov edx, ${high}\nwrmsr\nrdmsr`,
    )
  ),
  ...READS.map((msr) => kernel(ALL, `mov ecx, ${msr}\nrdmsr\nxor esi, eax`)),
  kernel(
    LONG,
    "mov ecx, 0xc0000080\nrdmsr\nwrmsr\nxor eax, 0x800\nwrmsr\nxor eax, 0x800\nwrmsr",
  ),
  any(ALL, "mov eax, N\nxor ecx, ecx\ncpuid\nrdtsc"),
  any(LONG, "rdtscp\nrdpid rcx"),
  any(LEGACY, "rdtscp\nrdpid ecx"),
  any(ALL, "rdrand ax\nrdseed cx\nrdrand edx\nlfence\nmfence\nsfence\npause"),
  any(WIDE, "mov ecx, 1\nrdpru\nxor ecx, ecx\nrdpmc"),
  // --- caches and TLBs
  kernel(WIDE, "wbinvd\ninvd\nwbnoinvd\ninvlpg [D]\nserialize"),
  kernel(
    LONG,
    "mov dword [D], 0\nmov dword [D + 4], 0\nmov dword [D + 8], D\nmov dword [D + 12], 0\nmov ecx, N & 3\ninvpcid rcx, [D]",
  ),
  kernel(
    LEGACY,
    "mov dword [D], 0\nmov dword [D + 4], 0\nmov ecx, N & 3\ninvpcid ecx, [D]",
  ),
  any(
    LONG,
    "mov eax, D\nclzero\nclflush [D]\nclwb [D]\nclflushopt [D]\nprefetcht0 [D]",
  ),
  // --- ports
  kernel(
    ALL,
    "mov dx, 0x3fd\nin al, dx\nin al, 0x61\nout 0x80, al\nin ax, 0x80\nin eax, 0x80\nout 0x80, ax\nout 0x80, eax\nmov dx, 0x84\nout dx, ax",
  ),
  kernel(
    ALL,
    "mov dx, 0x3f8\nmov al, N\nout dx, al\nin eax, dx\nin ax, dx\nmov dx, 0x3ff\nout dx, al\nin al, dx",
  ),
  kernel(
    WIDE,
    "cld\nmov edi, D\nmov dx, 0x80\nmov ecx, 3\nrep insb\ninsw\ninsd\nmov esi, D\noutsb\noutsw\nmov cl, 2\nrep outsd",
  ),
  kernel(
    REAL,
    "cld\nmov di, D\nmov dx, 0x80\nmov cx, 3\nrep insb\ninsw\ninsd\nmov si, D\noutsb\noutsw\noutsd",
  ),
  user(WIDE, "mov dx, 0x80\nin al, dx"),
  kernel(
    ALL,
    "mov al, 0\nout 0x43, al\nin al, 0x40\nin al, 0x40\nmov al, 0x0b\nout 0x20, al\nin al, 0x20\nin al, 0x21",
  ),
  // --- near transfers
  any(
    LONG,
    "lea rax, [rel .on]\njmp rax\n.on: lea rax, [rel .to]\nmov [D], rax\ncall [D]\n.to: pop rcx",
  ),
  any(
    LONG,
    "call .on\njmp .to\n.on: ret\n.to: push rax\npush rax\ncall .off\n.off: lea rcx, [rel .last]\nmov [rsp], rcx\nret 8\n.last: nop",
  ),
  any(
    LEGACY,
    "mov eax, .on\njmp eax\n.on: mov dword [D], .to\ncall dword [D]\n.to: call .off\njmp .last\n.off: ret 4\n.last: nop",
  ),
  any(
    LEGACY,
    "push dword 0\npush word .lo & 0xffff\n.lo: mov ecx, 3\n.l: loop .l",
  ),
  any(
    REAL,
    "mov ax, .on\njmp ax\n.on: mov word [D], .to\ncall word [D]\n.to: call .off\njmp .last\n.off: ret\n.last: push 1\ncall .e\n.e: pop ax",
  ),
  any(
    WIDE,
    "mov ecx, 3\n.a: inc ax\nloop .a\nmov cl, 2\n.b: loopne .b\nmov cl, 2\n.c: loope .c\njecxz .d\n.d: nop",
  ),
  any(
    REAL,
    "mov cx, 3\n.a: inc ax\nloop .a\nmov cl, 2\n.b: loopne .b\nmov cl, 2\n.c: loope .c\njcxz .d\n.d: nop",
  ),
  // --- FPU and SSE state
  any(
    ALL,
    "fninit\nfxsave [D + 16 - (D & 15)]\nfxrstor [D + 16 - (D & 15)]\nfnstenv [D]\nfldenv [D]",
  ),
  any(
    WIDE,
    "stmxcsr [D]\nldmxcsr [D]\nfnstcw [D]\nfldcw [D]\nfnstsw [D + 4]\nemms\nfincstp\nfdecstp\nffree st3",
  ),
  any(LONG, "fxsave64 [D + 16 - (D & 15)]\nfxrstor64 [D + 16 - (D & 15)]"),
  any(WIDE, "fninit\nfnsave [D]\nfrstor [D]\nmov word [D + 4], 0x81"),
  // --- extended state: the header's reserved bytes must be zero to be restored
  ...([[WIDE, ""], [LONG, "64"]] as const).map(([modes, suffix]) =>
    any(
      modes,
      `mov edi, ${AREA} + 512\nxor eax, eax\nmov ecx, 16\nrep stosd`,
      `mov eax, N & 7\nxor edx, edx\nxsave${suffix} [${AREA}]\nxrstor${suffix} [${AREA}]`,
    )
  ),
  ...([[WIDE, ""], [LONG, "64"]] as const).map(([modes, suffix]) =>
    kernel(
      modes,
      `mov edi, ${AREA} + 512\nxor eax, eax\nmov ecx, 16\nrep stosd`,
      `mov eax, N & 7\nxor edx, edx\nxsaves${suffix} [${AREA}]\nxrstors${suffix} [${AREA}]`,
    )
  ),
  any(WIDE, "xor ecx, ecx\nrdpkru\nwrpkru"),
  // --- stack frames
  any(LONG, "enter 16, N & 3\nmov eax, [rbp]\nleave"),
  any(NOT_LONG, "enter 16, N & 3\nleave\npusha\npopa\npushad\npopad"),
  any(ALL, "mov eax, [D]\ncmp eax, eax\nlahf\nsahf\ncmc\nstc\nclc\nstd\ncld"),
  any(
    WIDE,
    "mov ebx, D\nxlatb\nmov esi, D\nlodsd\nlea eax, [esi + 3]\nmovbe [D + 2], eax",
  ),
  // --- page tables
  edits(
    "and byte [PTE], ~1\ninvlpg [PAGE]\nmov eax, [PAGE + N]",
    "or byte [PTE], 1\nmov eax, [PAGE]",
  ),
  edits(
    "and byte [PTE], ~2\ninvlpg [PAGE]\nmov [PAGE + N], eax",
    "or byte [PTE], 2\nmov [PAGE + N], eax",
  ),
  edits(
    "and byte [PTE], ~2\nmov [PAGE + N], eax",
    "or byte [PTE], 2\ninvlpg [PAGE]",
  ),
  edits(
    "and byte [PTE], ~0x60\ninvlpg [PAGE]\nmov eax, [PAGE]\nmov [PAGE], cl\nmov edx, [PTE]",
  ),
  edits("and byte [PTE], ~0x60\nmov [PAGE], cl\nmov edx, [PTE]"),
  edits(
    "xor byte [PTE], 4\ninvlpg [PAGE]\nmov eax, [PAGE]",
    "xor byte [PTE], 4\ninvlpg [PAGE]",
  ),
  edits(
    "xor byte [PTE + 6], 8\ninvlpg [PAGE]\nmov eax, [PAGE]",
    "xor byte [PTE + 6], 8\ninvlpg [PAGE]",
  ),
  edits(
    "mov eax, [PTE]\nxor eax, 0x1000\nmov [PTE], eax\ninvlpg [PAGE]\nmov ecx, [PAGE + N]\nmov [PAGE], ecx",
    "mov eax, [PTE]\nxor eax, 0x1000\nmov [PTE], eax\ninvlpg [PAGE]",
  ),
  {
    ...edits(
      "mov rax, [PTE]\nxor eax, 0x1000\nmov [PTE], rax\nmov rax, cr3\nmov cr3, rax\nmov ecx, [PAGE + N]",
      "mov rax, [PTE]\nxor eax, 0x1000\nmov [PTE], rax\nmov rax, cr3\nmov cr3, rax",
    ),
    modes: LONG,
  },
  {
    ...edits(
      "bts qword [PTE], 63\nmov dword [PAGE], 0xc3\ninvlpg [PAGE]\nmov eax, PAGE\ncall rax",
      "btr qword [PTE], 63\ninvlpg [PAGE]\nmov eax, PAGE\nmov byte [rax], 0xc3\ncall rax",
    ),
    modes: LONG,
  },
  // --- self-modification
  smc(LONG, "any", "mov byte [rel .x + 1], N\n.x: mov al, 0\ninc eax"),
  smc(
    LONG,
    "any",
    "mov ecx, 3\n.x: inc eax\nxor byte [rel .x + 1], 8\ndec ecx\njnz .x",
  ),
  smc(
    LONG,
    "any",
    "mov byte [rel .x], 0x48\n.x: nop\ninc eax\nmov byte [rel .x], 0x90",
  ),
  smc(
    LONG,
    "any",
    "cld\nlea rsi, [rel .a]\nlea rdi, [rel .b]\nmov ecx, 2\nrep movsb\n.a: inc eax\n.b: nop\nnop",
  ),
  smc(
    LONG,
    "kernel",
    "lea rdx, [rel .x]\nmov byte [rdx + ALIAS + 1], N\n.x: mov al, 0\ninc eax",
  ),
  smc(
    LONG,
    "any",
    "lea rax, [rel .x]\nmov dword [rax], 0xc3c0ff40\ncall .x\njmp .y\n.x: nop\nnop\nnop\nnop\nret\n.y: inc ecx",
  ),
  smc(
    LONG,
    "any",
    "mov rax, 0x90909090_c3c0ff48\nmov [D + 0x100], rax\nmov ecx, D + 0x100\ncall rcx\ninc byte [D + 0x102]\ncall rcx",
  ),
  smc(LEGACY, "any", "mov byte [.x + 1], N\n.x: mov al, 0\ninc eax"),
  smc(
    LEGACY,
    "any",
    "mov ecx, 3\n.x: inc eax\nxor byte [.x], 8\ndec ecx\njnz .x",
  ),
  smc(
    REAL,
    "kernel",
    "mov byte [.x + 1], N\n.x: mov al, 0\nmov cx, 3\n.y: inc ax\nxor byte [.y], 8\ndec cx\njnz .y",
  ),
];

/** Page-table entry size and base of the mode that PTE points into. */
export const PTE_BYTES: Readonly<Record<BodyMode, number>> = {
  long: 8,
  protected: 4,
  real: 0,
};
