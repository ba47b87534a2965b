/**
 * Random programs for two to four vCPUs (design §6): bodies of idioms over
 * shared memory — locked instructions, locks, interrupts from one to another,
 * code that one writes and another runs, page-table entries changed with and
 * without telling the others, restarts by INIT — with turns of random length.
 * Invariant: the corpus is a function of its seed alone.
 */
import { RandomStream } from "../../core/mod.ts";
import type { PluginUse } from "../../core/plugin.ts";
import type { Scenario } from "../../host/scenario/types.ts";
import { debugexit } from "../../plugins/debugexit/plugin.ts";
import { Ipi, ipi } from "../support/ipi.ts";
import type { Subject } from "./run.ts";
import {
  at,
  type Controller,
  runtimeText,
  sendIpi,
  SHARED,
  SMP_AT,
  VECTOR,
  WINDOWS,
} from "./smp_runtime.ts";

/** Steps after which a program is cut off. */
export const SMP_STEPS = 4000;
const RAM_BYTES = 0x180000;
const MODELS = [
  "max-intel",
  "skylake-server",
  "max-amd",
  "haswell-server",
  "qemu64",
];
const QUANTA = [1, 3, 7, 16, 33, 64, 100, 250];

/** One program. */
export interface SmpProgram extends Subject {
  readonly cpus: number;
  readonly controller: Controller;
  readonly quantum: number;
}

/** What an idiom is made from. */
interface Draw {
  readonly random: RandomStream;
  /** vCPU whose body it is in. */
  readonly self: number;
  readonly cpus: number;
  readonly controller: Controller;
  /** Unique in the program. */
  readonly label: string;
}

/** Another vCPU than `self`. */
function other({ random, self, cpus }: Draw): number {
  return (self + 1 + random.below(cpus - 1)) % cpus;
}
const shared = ({ random }: Draw): number =>
  SMP_AT.shared + SHARED.words + random.below(64) * 8 +
  (random.below(4) === 0 ? random.below(8) : 0);
const pick = <T>({ random }: Draw, all: readonly T[]): T =>
  all[random.below(all.length)];
const entry = (window: number): number => SMP_AT.pt + window * 8;
const address = (window: number): number => SMP_AT.window + window * 0x1000;

/** Spins until `condition` (a jump past the loop), `times` at most. */
function spin(label: string, times: number, condition: string): string {
  return `mov ecx, ${times}
    ${label}_s: ${condition}
    pause
    dec ecx
    jnz ${label}_s`;
}

/** Every idiom; each leaves R14, R15, RBP, RSP as they were. */
const IDIOMS: readonly ((d: Draw) => string)[] = [
  // --- locked instructions
  (d) => `lock ${pick(d, ["inc", "dec", "not", "neg"])} dword [${shared(d)}]`,
  (d) =>
    `lock ${pick(d, ["add", "sub", "and", "or", "xor", "adc", "sbb"])} qword [${
      shared(d)
    }], ${d.random.below(100)}`,
  (d) => `mov rbx, ${d.random.below(1000)}\nlock xadd [${shared(d)}], rbx`,
  (d) => `xchg [${shared(d)}], rbx\nxchg [${shared(d)}], cl`,
  (d) =>
    `lock ${pick(d, ["bts", "btr", "btc"])} dword [${shared(d)}], ${
      d.random.below(32)
    }\nsetc bl`,
  () =>
    `mov rax, [${at("guarded")}]
     lea rbx, [rax + 3]
     lock cmpxchg [${at("guarded")}], rbx
     setz cl`,
  (d) =>
    `mov edx, 0
     mov eax, [${shared(d)}]
     mov ecx, 7
     lock cmpxchg8b [${SMP_AT.shared + SHARED.words + 8 * d.random.below(60)}]`,
  (d) =>
    `mov rax, rsi\nlock cmpxchg16b [${
      SMP_AT.shared + SHARED.words + 16 * d.random.below(30)
    }]`,
  // --- plain accesses that race
  (d) => `inc qword [${shared(d)}]\nmov rsi, [${shared(d)}]`,
  (d) =>
    `mov rdi, ${shared(d)}\nmov rax, rsi\nmov ecx, ${
      1 + d.random.below(20)
    }\nrep stosb`,
  (d) =>
    `mov rsi, ${shared(d)}\nlea rdi, [rbp + 0x100]\nmov ecx, ${
      1 + d.random.below(20)
    }\nrep movsq`,
  // --- locks
  (d) => `
    ${
    spin(
      d.label,
      40,
      `lock bts dword [${at("lock")}], 0\njnc ${d.label}_in`,
    )
  }
    jmp ${d.label}_out
    ${d.label}_in:
    mov rax, [${at("guarded")}]
    inc rax
    mov [${at("guarded")}], rax
    mov dword [${at("lock")}], 0
    ${d.label}_out:`,
  (d) => `
    mov ebx, 1
    lock xadd [${at("ticketNext")}], ebx
    ${
    spin(
      d.label,
      30,
      `cmp ebx, [${at("ticketServed")}]\nje ${d.label}_in`,
    )
  }
    ${d.label}_in:
    add qword [${at("guarded")}], 2
    lock inc dword [${at("ticketServed")}]`,
  // --- interrupts
  (d) => sendIpi(d.controller, Ipi.Fixed, other(d), VECTOR.count),
  (d) => sendIpi(d.controller, Ipi.Fixed, 0xff, VECTOR.count),
  (d) => sendIpi(d.controller, Ipi.Fixed, d.self, VECTOR.count),
  (d) => sendIpi(d.controller, Ipi.Nmi, other(d)),
  (d) =>
    `cli
     ${sendIpi(d.controller, Ipi.Fixed, 0xff, VECTOR.count)}
     mov ecx, ${1 + d.random.below(40)}
     ${d.label}_l: loop ${d.label}_l
     sti`,
  (d) => {
    const to = other(d);
    return `mov dword [${SMP_AT.own + to * 0x1000 + 0x20}], ${d.self}
      ${sendIpi(d.controller, Ipi.Fixed, to, VECTOR.reply)}
      ${d.self === 0 ? "pause" : "hlt"}`;
  },
  // --- code
  (d) =>
    `mov dword [${SMP_AT.patches + d.self * 0x1000 + 1}], ${
      d.random.below(1000)
    }
     call ${SMP_AT.patches + d.self * 0x1000}
     add rsi, rax`,
  (d) =>
    `mov byte [${SMP_AT.patches + other(d) * 0x1000 + 1}], ${
      d.random.below(256)
    }`,
  (d) => {
    const code = pick(d, [
      0x90c3_0000_0005_b890n, // nop; mov eax, 5; ret
      0x90c3_c0ff_c0ff_c0ffn, // inc eax three times; ret
      0xc3c3_c3c3_c3c3_c3c3n,
      0x9090_c300_0000_02b8n, // mov eax, 2; ret
    ]);
    return `mov rbx, ${code}
      mov [${SMP_AT.patches + other(d) * 0x1000}], rbx`;
  },
  (d) =>
    `mov ecx, ${2 + d.random.below(10)}
     ${d.label}_l: call ${SMP_AT.patches + d.random.below(d.cpus) * 0x1000}
     add rsi, rax
     loop ${d.label}_l`,
  // --- page tables
  (d) => {
    const window = d.random.below(WINDOWS);
    return `mov rax, [${address(window)}]
      mov qword [${entry(window)}], ${
      SMP_AT.frames + d.random.below(WINDOWS) * 0x1000 + 3
    }
      ${d.random.below(2) ? `invlpg [${address(window)}]` : ""}
      add [${address(window)}], rax`;
  },
  (d) => {
    const window = d.random.below(WINDOWS);
    return `mov qword [${at("flushAt")}], ${address(window)}
      mov dword [${at("acknowledged")}], 0
      mov qword [${entry(window)}], ${
      SMP_AT.frames + d.random.below(WINDOWS) * 0x1000 + 3
    }
      invlpg [${address(window)}]
      ${sendIpi(d.controller, Ipi.Fixed, 0xff, VECTOR.flush)}
      ${
      spin(
        d.label,
        20,
        `cmp dword [${at("acknowledged")}], ${d.cpus - 1}\njae ${d.label}_done`,
      )
    }
      ${d.label}_done: inc qword [${address(window)}]`;
  },
  (d) => {
    const window = d.random.below(WINDOWS);
    return `lock btr dword [${entry(window)}], 0
      invlpg [${address(window)}]
      mov rbx, [${address(window)} + 8]`;
  },
  (d) =>
    `mov rbx, [${address(d.random.below(WINDOWS))}]
     add [${address(d.random.below(WINDOWS))} + ${
      d.random.below(0x1f0) * 8
    }], rbx`,
  () => "mov rax, cr3\nmov cr3, rax",
  // --- what is each vCPU's own
  () => "rdtsc\nmov [rbp + 0x30], rax",
  () => "mov eax, 1\nxor ecx, ecx\ncpuid\nmov [rbp + 0x38], ebx",
  () => "mov eax, 11\nmov ecx, 1\ncpuid\nmov [rbp + 0x3c], edx",
  (d) =>
    `mov ecx, 0xc0000102\nrdmsr\nadd eax, ${
      d.random.below(99)
    }\nmov edx, 0\nwrmsr\nswapgs\nadd rsi, [gs:rbp]\nswapgs`,
  (d) =>
    `mov rax, ${shared(d) & ~7}
     mov dr0, rax
     mov eax, 0xd0001
     mov dr7, rax
     inc qword [${shared(d)}]
     mov rbx, [${shared(d)}]
     xor eax, eax
     mov dr7, rax`,
  () =>
    `pushfq
     or qword [rsp], 0x100
     popfq
     inc rsi
     inc rsi`,
  (d) =>
    `mov ecx, ${3 + d.random.below(60)}
     ${d.label}_l: lea rsi, [rsi + rcx * 2 + 1]
     ror rsi, 3
     loop ${d.label}_l`,
  // --- PAUSE on the way to something else, and in a loop over two of them
  (d) =>
    `pause
     inc qword [${shared(d)}]
     pause
     mov rbx, [${shared(d)}]`,
  (d) =>
    `mov ecx, ${1 + d.random.below(6)}
     ${d.label}_l: pause
     add rsi, [${shared(d)}]
     pause
     loop ${d.label}_l`,
];

/** The bootstrap processor's opening: the others are started and waited for. */
function opening(cpus: number, controller: Controller): string {
  const lines: string[] = [];
  for (let target = 1; target < cpus; target++) {
    lines.push(sendIpi(controller, Ipi.Init, target));
    lines.push(
      sendIpi(controller, Ipi.Sipi, target, SMP_AT.trampoline >> 12),
    );
  }
  lines.push(
    spin(
      "opening",
      400,
      `cmp dword [${at("started")}], ${cpus}\njae opening_done`,
    ),
    "opening_done:",
  );
  return lines.join("\n");
}

function bodyOf(draw: Omit<Draw, "label">, idioms: number): string {
  const { random, self, cpus, controller } = draw;
  const lines = [`body${self}:`];
  if (self === 0) lines.push(opening(cpus, controller));
  lines.push("mov r13d, 3", `round${self}:`);
  const restart = self === 0 && random.below(3) === 0
    ? random.below(idioms)
    : -1;
  for (let i = 0; i < idioms; i++) {
    const label = `b${self}_${i}`;
    const d = { ...draw, label };
    lines.push(IDIOMS[random.below(IDIOMS.length)](d));
    if (i === restart) {
      const target = other(d);
      lines.push(
        sendIpi(controller, Ipi.Init, target),
        random.below(2) ? "pause" : "",
        sendIpi(controller, Ipi.Sipi, target, SMP_AT.trampoline >> 12),
      );
    }
  }
  lines.push("dec r13d", `jnz near round${self}`, "jmp near finish");
  return lines.join("\n");
}

/** The plugins of a machine with the test's interrupt controller. */
const PORT_USES: readonly PluginUse[] = [
  { plugin: debugexit },
  { plugin: ipi },
];

function programOf(
  random: RandomStream,
  index: number,
  controller: Controller,
): SmpProgram {
  const cpus = 2 + (index % 5 === 4 ? 2 : index % 3 === 2 ? 1 : 0);
  const quantum = QUANTA[index % QUANTA.length];
  const cpu = MODELS[random.below(MODELS.length)];
  const bodies = Array.from(
    { length: cpus },
    (_, self) =>
      bodyOf({ random, self, cpus, controller }, 12 + random.below(20)),
  );
  const name =
    `smp ${index} (${cpu}, ${cpus} vCPUs, turns of ${quantum}, ${controller})`;
  const scenario: Scenario = {
    doc: name,
    machine: {
      cpu,
      memory: RAM_BYTES,
      cpus,
      quantum,
      platform: controller === "port" ? "none" : "pc",
      seed: BigInt(index),
    },
    guest: {
      format: "asm",
      text: `entry boot\n${runtimeText(cpus, controller)}${
        bodies.join("\n")
      }\n`,
      append: "",
      modules: [],
      mode: "long",
    },
    plugins: [],
    record: "full",
    steps: SMP_STEPS,
    inputs: [],
    expect: { events: {}, serial: [] },
  };
  return {
    name,
    cpus,
    controller,
    quantum,
    scenario,
    files: new Map(),
    uses: controller === "port" ? PORT_USES : [],
  };
}

/** The programs of a seed. */
export function makeSmpCorpus(
  seed: bigint,
  count: number,
  controller: Controller,
): SmpProgram[] {
  const random = new RandomStream(seed, `smp-program ${controller}`);
  return Array.from(
    { length: count },
    (_, index) => programOf(random, index, controller),
  );
}
