/**
 * Random programs for comparing engines (design law 2): chunks of instructions
 * from the silicon corpus, most of whose memory operands hit windows of RAM,
 * some the chunks themselves; branches, calls, page-table edits with and
 * without INVLPG, and CPL 3. Every fault leads to the next chunk, so that a
 * program never ends by itself (unless it destroys its own system).
 */
import { rowIndexOf, ROWS } from "../../cpu/isa/table.ts";
import type { CpuContext } from "../../cpu/context.ts";
import type { Hardware } from "../../cpu/hardware.ts";
import { readVectors, vectorFiles } from "../silicon/corpus.ts";
import { PLACE, SELECTOR, setGate } from "../support/machine.ts";

/** A seeded generator of small numbers. */
export class Random {
  constructor(private state: number) {}
  /** 0 … n − 1 */
  below(n: number): number {
    this.state = (Math.imul(this.state, 1664525) + 1013904223) >>> 0;
    return Math.floor(this.state / 2 ** 32 * n);
  }
  pick<T>(list: readonly T[]): T {
    return list[this.below(list.length)];
  }
  bits64(): bigint {
    let v = 0n;
    for (let i = 0; i < 4; i++) v = v << 16n | BigInt(this.below(65536));
    return v;
  }
}

/** Where the program's things lie. */
const DATA = 0x100000;
/** Pages whose entries programs edit, from their table of page entries. */
export const WINDOW = 0x40000000, WINDOW_PAGES = 16;
const DIRECTORY = 0x14000;
/** The page table of the window. */
export const TABLE = 0x15000;
const CHUNKS = 0x20000;
const CHUNK_BYTES = 512;

let pool: readonly string[] | undefined;
/** Instruction bytes of `emit` rows that don't branch, as db lists. */
function instructions(): readonly string[] {
  if (pool !== undefined) return pool;
  const found = new Set<string>();
  for (const file of vectorFiles()) {
    for (const { form, code } of readVectors(file)) {
      const row = ROWS[rowIndexOf(form)];
      if (row?.emit === undefined || row.endsBlock) continue;
      found.add(Array.from(code, (b) => `0x${b.toString(16)}`).join(","));
    }
  }
  return pool = [...found];
}

function pointer(random: Random): bigint {
  switch (random.below(8)) {
    case 0:
      return random.bits64();
    case 1:
      return BigInt(random.below(200));
    case 2: // the chunks themselves
      return BigInt(CHUNKS + random.below(CHUNK_BYTES * 16));
    case 3:
    case 4:
      return BigInt(WINDOW + random.below(WINDOW_PAGES * 4096));
    default:
      return BigInt(DATA + random.below(0x8000));
  }
}

const NAMES = [
  ...["ax", "cx", "dx", "bx", "sp", "bp", "si", "di"],
  ...["8", "9", "10", "11", "12", "13", "14", "15"],
];

function body(random: Random, long: boolean): string[] {
  const lines: string[] = [];
  const registers = long ? 16 : 8;
  const r = (n: number): string =>
    n < 8 ? (long ? "r" : "e") + NAMES[n] : "r" + NAMES[n];
  for (let n = 0; n < registers; n++) {
    if (n === 4) continue;
    const value = pointer(random);
    lines.push(`mov ${r(n)}, ${long ? value : value & 0xffff_ffffn}`);
  }
  for (let i = 0; i < 10; i++) {
    const label = `.l${i}`;
    switch (random.below(14)) {
      case 0:
        lines.push(
          `j${random.pick(["z", "nz", "c", "l", "g", "p", "s", "o"])} ${label}`,
          `db ${random.pick(instructions())}`,
          `${label}:`,
        );
        break;
      case 1:
        lines.push(`call ${label}`, `${label}: pop ${r(random.below(4))}`);
        break;
      case 2:
        lines.push(
          `mov ${r(1)}, ${1 + random.below(9)}`,
          random.pick(["rep movsb", "rep stosd", "repne scasb", "lodsb"]),
        );
        break;
      case 3:
        lines.push(
          `mov ${r(1)}, ${2 + random.below(20)}`,
          `${label}: add ${r(0)}, ${r(2)}`,
          random.pick([`loop ${label}`, `dec ${r(1)}\njnz ${label}`]),
        );
        break;
      case 4:
        lines.push(
          `lea ${r(0)}, [${long ? "rel " : ""}${label}]`,
          `jmp ${r(0)}`,
          `${label}:`,
        );
        break;
      default:
        lines.push(`db ${random.pick(instructions())}`);
    }
  }
  return lines;
}

/** Edits a page-table entry of the window; CPL 0 and 64-bit only. */
function edit(random: Random): string[] {
  const page = random.below(WINDOW_PAGES);
  const frames = [DATA >> 12, (DATA >> 12) + 3, CHUNKS >> 12, 0x180];
  const flags = random.pick([7, 7, 7, 5, 3, 0x67, 1, 0]);
  const value = random.pick(frames) * 4096 + flags;
  const lines = [`mov dword [${TABLE + page * 8}], ${value}`];
  if (random.below(2)) lines.push(`invlpg [${WINDOW + page * 4096}]`);
  if (random.below(6) === 0) lines.push("mov rax, cr3", "mov cr3, rax");
  return lines;
}

/** A program and what must be set up around it. */
export interface RandomProgram {
  readonly source: string;
  readonly setup: (cpu: CpuContext, hardware: Hardware) => void;
}

/** Repeated string instructions over the window: overlaps, aliases, holes, both directions. */
function strings(random: Random): string[] {
  const place = (): string =>
    `${
      WINDOW + random.below(WINDOW_PAGES) * 4096 +
      random.pick([0, random.below(4096), -random.below(64)])
    }`;
  // A whole page, and nothing left over; the second time without a miss.
  const page = [`mov rdi, ${WINDOW}`, "mov ecx, 4096", "cld", "rep stosb"];
  const lines = [...page, ...page];
  for (let i = 0; i < 6; i++) {
    const to = place();
    const near = `${to} ${random.pick(["+", "-"])} ${random.below(20)}`;
    lines.push(
      `mov rdi, ${to}`,
      `mov rsi, ${random.below(2) ? near : place()}`,
      `mov ecx, ${random.pick([0, 1, 2, 3, 40, 511, 4095, 4096, 4097, 9000])}`,
      `mov rax, ${random.bits64()}`,
      random.below(8) ? "cld" : "std",
      `rep ${random.pick(["movs", "stos"])}${random.pick([..."bwdq"])}`,
    );
  }
  return [...lines, "cld"];
}

/** As randomProgram, of `strings`. */
export function stringProgram(seed: number): RandomProgram {
  return randomProgram(seed, "long", strings);
}

/**
 * Calls of `mov eax, imm32` and a near JMP that begin at a page's end, while the
 * page after it is written, mapped elsewhere, and read through the TLB.
 */
export function crossingProgram(seed: number): RandomProgram {
  const random = new Random(seed);
  const frame = (n: number): number => DATA + n * 4096;
  const operations: readonly (() => string[])[] = [
    () => {
      const end = random.pick([4096 - 3, 2 * 4096 - 2]);
      return [`mov ecx, ${random.pick([1, 2, 40])}`, `.again:`].concat(
        [`mov rdx, ${WINDOW + end}`, "call rdx", "add rbx, rax"],
        ["dec ecx", "jnz .again"],
      );
    },
    () => [
      `mov byte [${frame(random.pick([1, 2])) + random.below(2)}], ` +
      random.below(90),
    ],
    () => [
      `mov dword [${TABLE + 8}], ${frame(random.pick([1, 2])) + 7}`,
      random.pick([`invlpg [${WINDOW + 4096}]`, "nop"]),
      random.pick(["mov rax, cr3\nmov cr3, rax", "nop"]),
    ],
  ];
  const lines = ["bits 64", `start: mov esp, ${PLACE.stack}`, "xor ebx, ebx"];
  for (let i = 0; i < 120; i++) {
    lines.push(`step${i}:`, ...random.pick(operations)());
  }
  return {
    source: [...lines, "jmp start"].join("\n"),
    setup(_cpu, { physical }): void {
      physical.writeU64(PLACE.tables + 0x1000 + 8, BigInt(DIRECTORY | 7));
      physical.writeU64(DIRECTORY, BigInt(TABLE | 7));
      for (let i = 0; i < 3; i++) {
        physical.writeU64(TABLE + i * 8, BigInt(frame(i) + 7));
      }
      const put = (at: number, bytes: readonly number[]): void =>
        physical.writeBytes(at, Uint8Array.from(bytes));
      put(frame(0) + 4096 - 3, [0xb8, 0x10, 0x20]);
      for (const n of [1, 2]) {
        put(frame(n), [n, 3 * n, 0x90, 0x90, 0xc3]);
        // JMP to the RET in front of it.
        put(frame(n) + 4096 - 8, [0xc3]);
        put(frame(n) + 4096 - 2, [0xe9, 0xf5]);
      }
      put(frame(3), [0xff, 0xff, 0xff]);
      physical.writeU64(TABLE + 16, BigInt(frame(3) + 7));
    },
  };
}

/** Program number `seed`. */
export function randomProgram(
  seed: number,
  mode: "long" | "protected",
  bodyOf = body,
  chunkBytes = CHUNK_BYTES,
): RandomProgram {
  const chunks = 24;
  const random = new Random(seed * 7919 + 1);
  const long = mode === "long";
  const a = long ? "rax" : "eax", sp = long ? "rsp" : "esp";
  const lines = [
    `bits ${long ? 64 : 32}`,
    `start: mov esp, ${PLACE.stack}`,
    "handler:", // faults, INT 0x80 and the end of a chunk
    `mov ${sp}, ${PLACE.stack}`,
    `mov ecx, ${SELECTOR.userData}`,
    "mov ds, ecx",
    "mov es, ecx",
    "inc dword [counter]",
    "mov eax, [counter]",
    `imul eax, eax, ${random.pick([5, 7, 11])}`,
    "xor edx, edx",
    `mov ecx, ${chunks}`,
    "div ecx",
    `mov ${a}, [table + ${long ? "rdx*8" : "edx*4"}]`,
    `jmp ${a}`,
    "counter: dd 0",
    "align 8",
    "table:",
  ];
  const d = long ? "dq" : "dd";
  for (let i = 0; i < chunks; i++) lines.push(`${d} chunk${i}`);
  let at = CHUNKS;
  for (let i = 0; i < chunks; i++) {
    const user = random.below(3) === 0;
    lines.push(`times ${at}-PLACE_CODE-($-$$) db 0x90`, `chunk${i}:`);
    if (random.below(3) === 0 && long) lines.push(...edit(random));
    if (user) {
      const size = long ? "qword" : "dword";
      const code = long ? SELECTOR.userCode64 : SELECTOR.userCode32;
      lines.push(
        `push ${size} ${SELECTOR.userData}`,
        `push ${size} ${PLACE.userStack}`,
        `push ${size} ${random.pick([2, 0x46, 0xd7, 0x893])}`,
        `push ${size} ${code}`,
        `push ${size} chunk${i}.user`,
        long ? "iretq" : "iretd",
        ".user:",
      );
    }
    lines.push(...bodyOf(random, long), "int 0x80");
    at += chunkBytes;
  }
  return {
    source: lines.join("\n"),
    setup(_cpu, hardware): void {
      const { physical } = hardware;
      const handler = PLACE.code + 5; // after `mov esp, imm32`
      for (let vector = 0; vector < 33; vector++) {
        const at = vector === 32 ? 0x80 : vector;
        setGate(hardware, at, handler, {
          type: 0xee,
          wide: long,
          ist: long ? 1 : 0,
          selector: long ? SELECTOR.code64 : SELECTOR.code32,
        });
      }
      physical.writeU64(PLACE.tss + 0x24, BigInt(PLACE.innerStack));
      physical.writeU64(PLACE.tables + 0x1000 + 8, BigInt(DIRECTORY | 7));
      physical.writeU64(DIRECTORY, BigInt(TABLE | 7));
      for (let i = 0; i < WINDOW_PAGES; i++) {
        physical.writeU64(TABLE + i * 8, BigInt(DATA + i % 5 * 4096 + 7));
      }
    },
  };
}
