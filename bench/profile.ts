/**
 * Chooses the forms that T0's main function holds: samples what real guests
 * execute (instruction at RIP at random steps), adds the forms that compilers
 * emit most, and writes cpu/engine/t0/hot_forms.ts.
 *
 * Sampled are the boots that the system tests make of Debian's kernel, on one
 * vCPU and on two, our own kernels, and images that the user names.
 * Invariant: the list only says what is fast, never what happens.
 */
import { parseArgs } from "@std/cli/parse-args";
import type { Kernel } from "../core/kernel.ts";
import { NotModelled } from "../core/errors.ts";
import { assemble } from "../host/asm/mod.ts";
import { machines } from "../host/machine.ts";
import type { RegisterRow } from "../host/machines.ts";
import { parseModel } from "../cpu/arch/models.ts";
import { type Form, Forms, hasForm } from "../cpu/engine/t0/form.ts";
import { canFuse } from "../cpu/engine/t0/fused.ts";
import { LEAN, temporariesOf } from "../cpu/engine/t0/module.ts";
import { type Insn, OperandKind, Rep } from "../cpu/isa/insn.ts";
import { createDecoder } from "../plugins/decoder/decode.ts";
import { kernelImage, KERNELS } from "./kernels.ts";
import {
  linuxGuest,
  linuxMachine,
  MOST_STEPS,
  onPrompt,
  withTwoCpus,
} from "./linux_guest.ts";
import { guestMachine } from "./machine.ts";

const SAMPLES = 3000;
const STEPS_BETWEEN = 997;
/** Of a Linux boot, by its number of vCPUs: most of it is the same code. */
const BOOT_STEPS_BETWEEN: Readonly<Record<number, number>> = {
  1: 42_500,
  2: 170_000,
};
/** Pairs of forms that run without a dispatch between them, at most. */
const PAIRS = 300;
/** Samples of a form, of all guests, below which it stays outside. */
const LEAST = 3;

const HELP = `deno task profile [--linux DIR] [IMAGE …]

Samples what guests execute and writes cpu/engine/t0/hot_forms.ts. Sampled up to
their prompts are Linux boots on one and two vCPUs, of Debian's cloud kernel and
busybox (fetched by apt, kept in ~/.cache/vmtape) unless --linux names others,
then our own kernels, then each IMAGE.

  --linux DIR   a folder with vmlinux or vmlinuz*, and *.cpio
  IMAGE         a multiboot file, such as one of kvm-unit-tests'
  --help        this`;

const { linux, help, _: images } = parseArgs(Deno.args, {
  string: ["linux"],
  boolean: ["help"],
});
if (help) {
  console.log(HELP);
  Deno.exit(0);
}

const decoder = createDecoder(parseModel("max-intel"));

/** An instruction as the list shows it. */
interface Example {
  readonly insn: Insn;
  readonly hex: string;
  readonly local: boolean;
}

/** Decodes what begins at `hex`; undefined where there is no form. */
function example(
  codeSize: 16 | 32 | 64,
  rip: bigint,
  hex: string,
): Example | undefined {
  const bytes = Uint8Array.from(hex.match(/../g)!, (b) => parseInt(b, 16));
  const insn = decoder.decode(
    bytes,
    bytes.length,
    codeSize,
    rip,
    codeSize,
    false,
  );
  if (typeof insn === "number" || !hasForm(insn.row)) return undefined;
  const [first] = insn.operands;
  const local = first?.kind === OperandKind.NearBranch &&
    first.imm >> 12n === rip >> 12n;
  return { insn, hex: hex.slice(0, insn.length * 2), local };
}

interface Counted {
  readonly text: string;
  /** Its code may be in the main function. */
  readonly lean: boolean;
  count: number;
}
const counts = new Map<string, Counted>();
const forms = new Forms();
function add(found: Example | undefined, n: number): void {
  if (found === undefined) return;
  const { insn, hex, local } = found;
  count(
    forms.of(insn, local),
    `${insn.codeSize}:${hex}${local ? "l" : ""}`,
    n,
  );
}
function addPair(
  first: Example | undefined,
  second: Example | undefined,
  n: number,
): void {
  if (!first || !second || !canFuse(first.insn, second.insn)) return;
  const { local } = second;
  count(
    forms.fuse(first.insn, second.insn, local),
    `${first.insn.codeSize}:${first.hex}+${second.hex}${local ? "l" : ""}`,
    n,
  );
}
/** Instructions in a row, the second perhaps fused with the third. */
function addRow(
  first: Example | undefined,
  second: Example | undefined,
  third: Example | undefined,
): void {
  if (!first || !second || first.insn.row.endsBlock) return;
  if (first.insn.rep !== Rep.None || second.insn.rep !== Rep.None) return;
  if (canFuse(first.insn, second.insn)) return;
  const fused = third !== undefined && canFuse(second.insn, third.insn);
  const last = fused ? third : second;
  const then = fused
    ? forms.fuse(second.insn, third.insn, third.local)
    : forms.of(second.insn, second.local);
  const lean = [forms.of(first.insn, false), then]
    .every((form) => temporariesOf(form) <= LEAN);
  if (!lean) return;
  const key = `${forms.of(first.insn, false).key}~${then.key}`;
  const known = rows.get(key);
  if (known) known.count++;
  else {
    const text = `${first.insn.codeSize}:${first.hex}~${second.hex}` +
      `${fused ? `+${third.hex}` : ""}${last.local ? "l" : ""}`;
    rows.set(key, { text, lean: true, count: 1 });
  }
}
const rows = new Map<string, Counted>();
function count(form: Form, text: string, n: number): void {
  const known = counts.get(form.key);
  if (known) known.count += n;
  else {
    const lean = temporariesOf(form) <= LEAN;
    counts.set(form.key, { text, lean, count: n });
  }
}

const isActive = ({ name, meaning }: RegisterRow): boolean =>
  name === "activity" && meaning === "Active";

/**
 * Samples the vCPUs in turn, those that are active.
 * @param between steps between two samples, on average
 * @param goesOn asked before the i-th sample
 */
function sample(
  kernel: Kernel,
  between: number,
  goesOn: (i: number) => boolean,
  cpus = 1,
): void {
  const inspector = machines.inspector(kernel)!;
  let random = 1, step = 0;
  for (let i = 0; goesOn(i); i++) {
    const cpu = i % cpus;
    random = (Math.imul(random, 1103515245) + 12345) >>> 0;
    step += 1 + (random >>> 8) % (2 * between);
    try {
      if (kernel.run({ untilStep: step }).kind !== "step") break;
    } catch (error) {
      if (error instanceof NotModelled) break;
      throw error;
    }
    const registers = inspector.registers(cpu);
    if (!registers.some(isActive)) continue;
    const [{ meaning = "" }] = registers;
    const size = Number(/(\d+)-bit/.exec(meaning)?.[1]) as 16 | 32 | 64;
    const [first, second, third] = inspector.disassemble(cpu, 3)
      .map(({ address, bytes }) =>
        bytes ? example(size, BigInt(address), bytes) : undefined
      );
    add(first, 1);
    addPair(first, second, 1);
    addRow(first, second, third);
  }
}

/** Forms that compiled code of 64-bit guests is full of. */
function* common(): Generator<string> {
  const memory = ["[rbx+8]", "[rbx+rcx*8+8]", "[rel x]"];
  const sizes: [string, string, string][] = [
    ["rax", "rdx", "qword"],
    ["eax", "edx", "dword"],
  ];
  for (const [a, b, word] of sizes) {
    for (const op of ["add", "sub", "and", "or", "xor", "cmp"]) {
      yield `${op} ${a}, ${b}`;
      yield `${op} ${a}, 5`;
      yield `${op} ${a}, 0x12345`;
      yield `${op} ${b}, 0x12345`;
      for (const m of memory.slice(0, 2)) yield `${op} ${a}, ${m}`;
      yield `${op} ${memory[0]}, ${a}`;
      yield `${op} ${word} ${memory[0]}, 5`;
    }
    for (const m of memory) {
      yield `mov ${a}, ${m}`;
      yield `mov ${m}, ${a}`;
      yield `lea ${a}, ${m}`;
      yield `movzx ${a}, byte ${m}`;
      yield `movzx ${a}, word ${m}`;
    }
    yield `mov ${a}, ${b}`;
    yield `mov ${word} ${memory[0]}, 5`;
    yield `mov ${a}, 5`;
    yield `test ${a}, ${a}`;
    yield `test ${a}, 0x12345`;
    yield `test ${b}, 0x12345`;
    for (const op of ["shl", "shr", "sar", "rol"]) {
      yield `${op} ${a}, 5`;
      yield `${op} ${a}, 1`;
      yield `${op} ${a}, cl`;
    }
    for (const op of ["inc", "dec", "neg", "not"]) yield `${op} ${a}`;
    for (const op of ["add", "sub", "cmp", "mov", "test"]) {
      yield `${op} ${word} ${memory[0]}, 0x12345`;
    }
    yield `imul ${a}, ${b}`;
    yield `imul ${a}, ${b}, 5`;
    yield `movzx ${a}, dl`;
    yield `movzx ${a}, dx`;
    yield `movsx ${a}, dl`;
    yield `movsx ${a}, byte ${memory[0]}`;
    yield `bt ${a}, 5`;
    yield `cmove ${a}, ${b}`;
    yield `cmovne ${a}, ${b}`;
    yield `mul ${b}`;
    yield `div ${b}`;
  }
  for (const r of ["al", "dl", "ax"]) {
    yield `mov ${r}, ${memory[0]}`;
    yield `mov ${memory[0]}, ${r}`;
    yield `cmp ${r}, 5`;
    yield `test ${r}, ${r}`;
    yield `test ${r}, 5`;
    yield `mov ${memory[1]}, ${r}`;
  }
  for (const word of ["byte", "word"]) {
    yield `cmp ${word} ${memory[0]}, 5`;
    yield `mov ${word} ${memory[0]}, 5`;
    yield `test ${word} ${memory[0]}, 5`;
  }
  yield "cmp byte [rel x], 5";
  yield "cmp al, dl";
  yield "xor al, al";
  yield "and al, 5";
  yield "or al, dl";
  yield "movsxd rax, edx";
  yield "movsxd rax, [rbx+8]";
  yield "mov rax, 0x123456789abcdef";
  yield "mov rax, [gs:8]";
  yield "mov rax, [fs:8]";
  yield "cdqe";
  yield "cdq";
  yield "cqo";
  yield "nop";
  yield "nop dword [rax]";
  yield "push rax";
  yield "push 5";
  yield "push qword [rbx+8]";
  yield "pop rax";
  yield "ret";
  yield "leave";
  yield "jmp rax";
  yield "jmp [rbx+rcx*8]";
  yield "call rax";
  yield "call [rbx+8]";
  yield "rep movsb";
  yield "rep movsq";
  yield "rep stosb";
  yield "rep stosq";
  yield "jmp near x";
  yield "call x";
  for (const cc of CONDITIONS) yield `j${cc} near x`;
  for (const cc of ["b", "ae", "e", "ne", "l", "g"]) yield `set${cc} al`;
}
const CONDITIONS = "o no b ae e ne be a s ns p np l ge le g".split(" ");

function addCommon(): void {
  for (const text of common()) {
    const near = text.includes(" x") || text.startsWith("call x");
    for (const distance of near ? [0x40, 0x40000] : [0x40]) {
      const { bytes } = assemble(
        `bits 64\nstart: ${text}\ntimes ${distance} nop\nx: nop\n`,
        { origin: 0x400000 },
      );
      const hex = Array.from(
        bytes.subarray(0, 15),
        (b) => b.toString(16).padStart(2, "0"),
      ).join("");
      add(example(64, 0x400000n, hex), LEAST);
    }
  }
}

/** Comparisons and tests with the branches that most often follow them. */
function addCommonPairs(): void {
  const firsts = [
    ...["rax, rdx", "eax, edx", "rax, 5", "eax, 5"].map((o) => `cmp ${o}`),
    ...["rax, [rbx+8]", "eax, [rbx+8]"].map((o) => `cmp ${o}`),
    ...["byte", "dword", "qword"].map((w) => `cmp ${w} [rbx+8], 5`),
    ...["al, 5", "al, dl"].map((o) => `cmp ${o}`),
    ...["rax, rax", "eax, eax", "al, al", "al, 5"].map((o) => `test ${o}`),
    ...["dec eax", "dec rax", "sub rax, 5", "add rax, 5", "and eax, 5"],
  ];
  for (const first of firsts) {
    const few = /^(test|dec|sub|add|and)/.test(first);
    for (const cc of few ? ["e", "ne"] : ["e", "ne", "b", "ae", "be", "a"]) {
      for (const distance of few ? [0x40] : [0x40, 0x40000]) {
        const { bytes } = assemble(
          `bits 64\nstart: ${first}\nb: j${cc} x\n` +
            `times ${distance} nop\nx: nop\n`,
          { origin: 0x400000 },
        );
        const hex = Array.from(
          bytes.subarray(0, 24),
          (b) => b.toString(16).padStart(2, "0"),
        ).join("");
        const a = example(64, 0x400000n, hex.slice(0, 30));
        if (a === undefined) continue;
        const next = hex.slice(a.insn.length * 2);
        addPair(
          a,
          example(64, 0x400000n + BigInt(a.insn.length), next),
          LEAST,
        );
      }
    }
  }
}

const few = (i: number): boolean => i < SAMPLES;
const scratch = Deno.makeTempDirSync({ prefix: "vmtape-profile-" });
try {
  const folder = linux === undefined ? undefined : String(linux);
  const one = linuxGuest(folder, scratch);
  for (const guest of [one, withTwoCpus(one)]) {
    console.error(`sample ${guest.kernel}, vCPUs: ${guest.cpus}`);
    const kernel = linuxMachine(guest);
    let there = false;
    onPrompt(kernel, guest, () => there = true);
    const between = BOOT_STEPS_BETWEEN[guest.cpus];
    const most = MOST_STEPS / between;
    sample(kernel, between, (i) => !there && i < most, guest.cpus);
    if (!there) {
      throw new Error(
        `sample ${guest.kernel}: it did not come to its prompt in ` +
          `${kernel.moment.step} steps`,
      );
    }
  }
} finally {
  Deno.removeSync(scratch, { recursive: true });
}
for (const kernel of KERNELS) {
  console.error(`sample ${kernel.name}`);
  sample(guestMachine(kernelImage(kernel, 60)), STEPS_BETWEEN, few);
}
for (const path of images) {
  console.error(`sample ${path}`);
  const memory = 256 << 20;
  const kernel = guestMachine(Deno.readFileSync(String(path)), { memory });
  sample(kernel, STEPS_BETWEEN, few);
}
const sampled = counts.size;
addCommon();
addCommonPairs();
const list = [...counts.values()].filter((f) => f.count >= LEAST && f.lean)
  .sort((a, b) => b.count - a.count).map((f) => f.text);
const paired = [...rows.values()].sort((a, b) => b.count - a.count)
  .slice(0, PAIRS).map((f) => f.text);
console.error(`${sampled} forms sampled, ${list.length} kept`);
Deno.writeTextFileSync(
  new URL("../cpu/engine/t0/hot_forms.ts", import.meta.url),
  `/**
 * Instructions whose forms lie inside T0's main function, most frequent first,
 * as "codeSize:bytes", with "l" for branches inside their page; any example of
 * a form will do, "+" between two that are fused and "~" between two that run
 * without a dispatch between them. From samples of real guests.
 * @generated by bench/profile.ts
 */
export const HOT: readonly string[] = [
${[...list, ...paired].map((text) => `  "${text}",`).join("\n")}
];
`,
);
