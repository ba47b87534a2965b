/**
 * Random programs about loads and stores, for comparing engines (design law 2):
 * every size and kind of access at page ends, across pages, beside canonical
 * edges, through FS and GS, to devices, to RAM under several linear addresses,
 * and to the very code that runs; first alone, then again, so that whatever an
 * engine remembers of the first time serves the second.
 */
import { Cr4 } from "../../cpu/arch/flags.ts";
import {
  type Random,
  type RandomProgram,
  randomProgram,
  TABLE,
  WINDOW,
  WINDOW_PAGES,
} from "./random_programs.ts";

/** Frame of `mov eax, imm32; ret` and data, under three linear addresses. */
const SHARED = 0x180;
/** Behind RAM. */
const DEVICE = 0x300;
/** Pages of the window: SHARED twice, and the device. */
const FIRST = 12, SECOND = 13, BEHIND = 14;

const ACCESSES = [
  ...[
    "mov rax, M",
    "mov eax, M",
    "mov ax, M",
    "mov al, M",
    "movzx eax, word M",
  ],
  ...[
    "mov M, rdx",
    "mov M, edx",
    "mov M, dx",
    "mov M, dl",
    "movsx rax, byte M",
  ],
  ...["add M, rdx", "xor M, edx", "inc byte M", "neg word M", "xchg M, rdx"],
  ...[
    "add rdx, M",
    "cmp M, rdx",
    "cmp byte M, 3",
    "push qword M",
    "pop qword M",
  ],
];

function place(random: Random): bigint {
  const page = BigInt(WINDOW + random.below(WINDOW_PAGES) * 4096);
  const near = BigInt(random.below(20)) - 10n;
  switch (random.below(8)) {
    case 0:
      return (1n << BigInt(random.pick([47, 63]))) + near & ONES;
    case 1:
      return 0xffff_8000_0000_0000n + near;
    case 2:
      return near & ONES;
    case 3:
      return page + BigInt(random.below(4096));
    default:
      return page + near & ONES;
  }
}
const ONES = (1n << 64n) - 1n;

/** One or two accesses, twice over. */
function accesses(random: Random, label: string): string[] {
  const address = place(random);
  const segment = random.pick(["", "", "", "fs", "gs"]);
  // RBP means SS: #SS where others raise #GP.
  const base = random.pick(["rbx", "rbp"]);
  const lines = [`mov ${base}, ${address}`];
  if (segment !== "") {
    const start = random.pick([BigInt(random.below(9000)), place(random)]);
    lines.push(`mov rax, ${start}`, `wr${segment}base rax`);
    lines.push(`mov ${base}, ${address - start & ONES}`);
  }
  const memory = `[${segment && segment + ":"}${base}]`;
  const body = Array.from(
    { length: 1 + random.below(2) },
    () => random.pick(ACCESSES).replace("M", memory),
  );
  if (random.below(2)) body.push(`jz ${label}`, `inc r9`, `${label}:`);
  return [...lines, ...body, "add r9, rax", ...body.filter(isAccess)];
}
const isAccess = (line: string): boolean => line.includes("[");

/** A store into the instruction after it, which makes it another. */
function intoNext(random: Random, label: string): string[] {
  if (random.below(3) === 0) { // JZ becomes JNZ, or comes back
    return [
      ...[`lea rdi, [rel ${label}]`, "xor byte [rdi], 1"],
      ...[`${label}: jz ${label}end`, "inc r9", `${label}end:`],
    ];
  }
  const store = random.pick([
    "mov [rdi], al",
    "add [rdi], al",
    "xchg [rdi], al",
  ]);
  return [
    `lea rdi, [rel ${label} + 1]`,
    `mov eax, ${random.below(256)}`,
    store,
    `${label}: mov edx, 0x11`,
    "add r9, rdx",
  ];
}

/** Code and data in one page, written and called by any of its addresses. */
function sharedPage(random: Random, label: string): string[] {
  const address = (): number =>
    random.pick([
      WINDOW + FIRST * 4096,
      WINDOW + SECOND * 4096,
      SHARED * 4096,
    ]);
  const write = (): string[] => [
    `mov rbx, ${address()}`,
    `mov byte [rbx + ${random.pick([1, 2, 100])}], ${random.below(256)}`,
  ];
  switch (random.below(3)) {
    case 0:
      return [...write(), `mov rax, ${address()}`, "call rax", "add r9, rax"];
    case 1: // enough data that an engine gives the page's code up
      return [
        ...[`mov rbx, ${address()}`, "mov ecx, 20"],
        ...[`${label}: mov [rbx + rcx*8 + 64], rcx`, "dec ecx", `jnz ${label}`],
      ];
    default:
      return [...write(), ...write(), ...write()];
  }
}

function body(random: Random): string[] {
  const lines = [`mov rdx, ${random.bits64()}`];
  for (let i = 0; i < 5; i++) {
    const kind = random.below(8);
    const make = kind < 4 ? accesses : kind < 6 ? intoNext : sharedPage;
    lines.push(...make(random, `.d${i}`));
  }
  return lines;
}

/** Program number `seed`. */
export function dataProgram(seed: number): RandomProgram {
  const { source, setup } = randomProgram(seed, "long", body);
  return {
    source,
    setup(cpu, hardware): void {
      setup(cpu, hardware);
      cpu.v.cr4 |= Cr4.FSGSBASE;
      const { physical } = hardware;
      for (
        const [page, frame] of [
          [FIRST, SHARED],
          [SECOND, SHARED],
          [BEHIND, DEVICE],
        ]
      ) physical.writeU64(TABLE + page * 8, BigInt(frame * 4096 + 7));
      physical.writeBytes(
        SHARED * 4096,
        Uint8Array.of(0xb8, 1, 2, 3, 4, 0xc3),
      );
    },
  };
}
