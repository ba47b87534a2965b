/**
 * Random programs of `call` rows for comparing engines (design law 2): STI and
 * what its shadow covers, IRETQ to itself with every kind of image, port and
 * MSR accesses, procedures that write code, descriptors and translations that
 * change under them, while the local APIC's timer ticks.
 */
import { lapic } from "../../plugins/lapic/plugin.ts";
import type { PluginUse } from "../../core/plugin.ts";
import { PLACE, SELECTOR, setGate } from "../support/machine.ts";
import {
  type Random,
  type RandomProgram,
  randomProgram,
  TABLE,
} from "./random_programs.ts";

/** What such a program's machine has beside decoder and MMU. */
export const PROCEDURE_PLUGINS: readonly PluginUse[] = [{ plugin: lapic }];

/** Code behind the chunks of randomProgram: set-up, the timer's handler, NMI's. */
const CHUNK_BYTES = 1024;
const BOOT = 0x26000, TICK = BOOT + 128, NMI = TICK + 64;
const VECTOR = 0x50;
/** The APIC's page, by a 2-MiB page at 256 MiB. */
const APIC = 0x1000_0000;
/** Selector of descriptors that programs change. */
const SPARE = SELECTOR.tss + 16;
/**
 * Code of two pages, of which the second has two versions: an STI at the end of
 * a page, then INVLPG, perhaps of the page that runs, whose versions differ.
 */
const TWO_PAGES = 0x4000_8000;
const WINDOW_FRAMES = 0x100000;
/** Readable memory that nothing has touched before. */
const FAR = 0x180000;

/** Code and data descriptors: plain, with AVL, not accessed, conforming, 32-bit, absent, with a base, short. */
const CODE = "0x00af9b000000ffff", DATA = "0x00cf93000000ffff";
const DESCRIPTORS = [
  ...[CODE, CODE, "0x00bf9b000000ffff", "0x00af9a000000ffff"],
  ...["0x00af9f000000ffff", "0x00cf9b000000ffff", "0x00af1b000000ffff"],
  ...[DATA, DATA, "0x00df93000000ffff", "0x00cf92000000ffff"],
  ...["0x00cf93001000ffff", "0x00c093000000ffff", "0x00af9b000000fffe"],
];
const put = (at: number, descriptor: string): string =>
  `mov rax, ${descriptor}\nmov [${PLACE.gdt + at}], rax`;

/** What an IRETQ returns with. */
export interface Frame {
  readonly before?: string;
  readonly cs?: number;
  readonly ss?: number;
  readonly flags?: string;
  readonly rip?: string;
  /** Pointer above the frame. */
  readonly stack?: number;
  readonly name?: string;
}

/** IRETQ to the instruction behind it. */
export function iretText(frame: Frame): string {
  const { before, cs, ss, flags, rip, stack, name } = frame;
  return [
    ...(before === undefined ? [] : [before]),
    "lea rbp, [rsp - 16]",
    ...(stack === undefined ? [] : [`mov rsp, ${stack}`]),
    `push ${ss ?? 0}`,
    "push rbp",
    flags === undefined ? "pushfq" : `mov rdx, ${flags}\npush rdx`,
    `push ${cs ?? SELECTOR.code64}`,
    `mov rdx, ${rip ?? ".back"}`,
    "push rdx",
    name ?? "iretq",
    ".back: inc r12",
  ].join("\n");
}

/** Where the pages of the window that follow each other in memory end. */
const SEAM = 0x4000_5000;
const FRAMES: readonly ((random: Random) => Frame)[] = [
  () => ({}),
  () => ({ ss: SELECTOR.data }),
  (random) => ({ flags: random.pick(["0x102", "0x302", "0x102"]) }),
  (random) => ({ flags: random.pick(["0x10002", "0x10202", "0x10002"]) }),
  (random) => ({ flags: random.pick(["0x4002", "0x40002", "0x3ed7"]) }),
  (random) => ({ flags: random.pick(["0x180002", "0x20002", "0x200002"]) }),
  () => ({ flags: "0x202" }),
  (random) => ({ flags: random.pick(["0", "0x8d7", "0xffffffff00000246"]) }),
  (random) => ({ cs: random.pick([0, SELECTOR.data, SPARE | 4, SPARE]) }),
  (random) => ({ ss: random.pick([SPARE + 8, SELECTOR.code64, 3, SPARE | 4]) }),
  () => ({ rip: "0x123456789abcdef0" }),
  () => ({ name: "iretd" }),
  () => ({ cs: SELECTOR.userCode64, ss: SELECTOR.userData }),
  (random) => ({ stack: SEAM + random.pick([0, 4, 8, 16, 20, 32]) }),
  // Flags as they are: NT, or TF and what it traps behind.
  (random) => ({
    before: `push ${random.pick([0x4002, 0x102])}\npopfq`,
    flags: random.pick(["0x2", "0x202"]),
  }),
  // Beyond the table's limit.
  () => ({
    before: `${put(SPARE, CODE)}\n${put(SPARE + 8, DATA)}\nlgdt [short]`,
    ss: SPARE + 8,
  }),
  // Descriptors where low bits of a selector would lead, and in place of null.
  () => ({ before: put(SPARE + 12, DATA), ss: SPARE + 8 | 4 }),
  () => ({ before: put(0, CODE), cs: 0 }),
];

/** Two that are plain, so that their memory is granted, then one of all kinds until its is. */
function iret(random: Random): string {
  const frame = random.pick(FRAMES)(random);
  return [{}, {}, frame, frame, frame].map((frame, i) =>
    iretText(frame).replaceAll(".back", `.back${"abcde"[i]}`)
  ).join("\n");
}

/** Runs both versions of the second page; INVLPG of the other page lets its link last. */
function versions(): string[] {
  const runs = [[1, 8], [2, 9], [2, 8], [1, 9], [2, 9], [1, 8]];
  return runs.map(([version, page]) =>
    `mov dword [${TABLE + 9 * 8}], ${
      WINDOW_FRAMES + 7 + 4096 * version
    }\nmov r9d, ${0x4000_0000 + page * 4096}\n` +
    `mov eax, ${TWO_PAGES + 0xfff}\ncall rax\nadd r10, rax`
  );
}
const FLUSH = "cli\nmov rax, cr3\nmov cr3, rax";

/** One text each; those of `after` may follow an STI at once. */
const AFTER: readonly ((random: Random) => string)[] = [
  () => "inc rbx",
  () => "cli",
  () => "sti",
  () => "pushfq\npop rax",
  () => "in al, 0x21",
  () => "out 0x80, al",
  () => "ud2",
  () => "fld1\nfyl2x\nfninit",
  () => "cpuid",
  (random) => `mov rax, [${FAR + random.below(0x40) * 0x1000}]`,
  (random) => `mov [${FAR + random.below(0x40) * 0x1000}], rbx`,
  () => `mov ecx, 3\nmov edi, ${FAR}\nrep stosb`,
  () => `mov eax, ${SELECTOR.data}\nmov ss, eax`,
  () => "int 0x80",
];
const OTHERS: readonly ((random: Random) => string)[] = [
  ...[iret, iret, iret, iret, iret, iret],
  (random) => `push ${random.pick([2, 0x202, 0x602, 0x40202])}\npopfq`,
  (random) => put(SPARE + 8 * random.below(2), random.pick(DESCRIPTORS)),
  () => "mov rax, cr3\nmov cr3, rax",
  () => `invlpg [${PLACE.gdt}]`,
  () => "rdtsc\nadd r13, rax",
  (random) =>
    `mov ecx, ${random.pick([0x10, 0x3b])}\nmov eax, ${
      random.below(1e6)
    }\nxor edx, edx\nwrmsr\nrdtsc\nadd r13, rax`,
  (random) => `mov eax, ${random.pick([0, SELECTOR.data])}\nmov es, eax`,
  () => "swapgs",
  () => "clts",
  // A procedure writes into the code behind it, which has run before.
  () =>
    [
      "mov ecx, 4",
      ".again: sldt [rel .patch + 1]",
      ".patch: mov eax, 0x1234567",
      "add r14, rax",
      "str [rel .patch + 1]",
      "dec ecx",
      "jnz .again",
    ].join("\n"),
  (random) => [random.pick(["nop", FLUSH]), ...versions()].join("\n"),
  // To CPL 3, by another procedure, in front of the same code.
  () =>
    `push ${SELECTOR.userData}\nmov rax, rsp\npush rax\n` +
    `push ${SELECTOR.userCode64}\nlea rax, [rel .next]\npush rax\n` +
    "retfq\n.next: inc r8",
  (random) =>
    `mov ecx, 0x1d9\nmov eax, ${random.below(2)}\nxor edx, edx\nwrmsr`,
  () => "mov ecx, 6\n.more: in al, 0x80\nadd r15, rax\ndec ecx\njnz .more",
];

function body(random: Random): string[] {
  const lines: string[] = [];
  for (let i = 0; i < 5; i++) {
    let text: string;
    if (random.below(2)) {
      text = random.pick(OTHERS)(random);
      if (random.below(4) === 0) text = `sti\n${text}`;
    } else {
      text = `${random.pick(["sti", "cli\nsti", "inc rbx", "cli"])}\n` +
        random.pick(AFTER)(random);
    }
    // Labels of one text are known in it only.
    lines.push(
      text.replaceAll(/\.(back[a-e]|next|again|patch|more)\b/g, `.$1${i}`),
    );
  }
  return lines;
}

/** Program number `seed`; it never ends. */
export function procedureProgram(seed: number): RandomProgram {
  const base = randomProgram(seed, "long", body, CHUNK_BYTES);
  const tail = [
    `times ${BOOT}-PLACE_CODE-($-$$) db 0x90`,
    "boot:",
    `mov edi, ${APIC}`,
    "mov dword [rdi + 0x3e0], 0xb",
    `mov dword [rdi + 0x320], ${0x20000 | VECTOR}`,
    "mov dword [rdi + 0xf0], 0x1ff",
    `mov dword [rdi + 0x380], ${[61, 450, 3000][seed % 3] + seed}`,
    "jmp start",
    ...[`full: dw ${SPARE + 15}`, `dq ${PLACE.gdt}`],
    ...[`short: dw ${SPARE + 11}`, `dq ${PLACE.gdt}`],
    `times ${TICK}-PLACE_CODE-($-$$) db 0x90`,
    `push rdi\nmov edi, ${APIC}\nmov dword [rdi + 0xb0], 0\npop rdi`,
    "inc r11",
    "lgdt [full]",
    "iretq",
    // An NMI in that handler would leave the APIC waiting.
    `times ${NMI}-PLACE_CODE-($-$$) db 0x90`,
    `mov edi, ${APIC}\nmov dword [rdi + 0xb0], 0\njmp handler`,
  ];
  return {
    source: [base.source, ...tail].join("\n"),
    setup(cpu, hardware): void {
      base.setup(cpu, hardware);
      // Trap gates in place of its interrupt gates: IF stays.
      for (let vector = 0; vector < 33; vector++) {
        const at = vector === 32 ? 0x80 : vector;
        setGate(hardware, at, PLACE.code + 5, { type: 0xef, ist: 1 });
      }
      const { physical } = hardware;
      // In place of the identity of this address; user pages, as all are.
      physical.writeU64(PLACE.tables + 0x2000 + 128 * 8, 0xfee0_009fn);
      // sti, then: 4 nops; invlpg [r9], one of them; mov eax, 1 or 2; ret
      physical.writeBytes(WINDOW_FRAMES + 3 * 4096 + 4095, Uint8Array.of(0xfb));
      for (const n of [1, 2]) {
        const rest = [0x41, 0x0f, 0x01, 0x39, 0xb8, n, 0, 0, 0, 0xc3];
        const code = [0x90, 0x90, 0x90, 0x90, ...rest];
        physical.writeBytes(WINDOW_FRAMES + n * 4096, Uint8Array.from(code));
      }
      setGate(hardware, VECTOR, TICK);
      setGate(hardware, 2, NMI, { ist: 1 });
      cpu.v.setGdtr(BigInt(PLACE.gdt), SPARE + 15);
      cpu.v.rip = BigInt(BOOT);
    },
  };
}

/** IRETs alone; so is the handler of NMIs. */
export function iretProgram(): RandomProgram {
  const NMI_AT = PLACE.code + 0x200;
  const texts = ["a", "b", "c", "d"].map((label) =>
    iretText({}).replaceAll(".back", `.back${label}`)
  );
  return {
    source: [
      `start: mov rsp, ${PLACE.stack}`,
      ...texts,
      "jmp start",
      "times 0x200-($-$$) db 0x90",
      "inc rdi",
      "iretq",
    ].join("\n"),
    setup: (_cpu, hardware) => setGate(hardware, 2, NMI_AT),
  };
}

/** The pages of `procedureProgram` with versions, alone. */
export function versionsProgram(): RandomProgram {
  const base = procedureProgram(0);
  const source = [
    `start: ${FLUSH}`,
    ...versions(),
    "jmp start",
  ].join("\n");
  return {
    source,
    setup(cpu, hardware): void {
      base.setup(cpu, hardware);
      cpu.v.rip = BigInt(PLACE.code);
    },
  };
}
