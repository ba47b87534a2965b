/**
 * Rules that every engine keeps (design §7, brief "order of facts"), as tests
 * over a bare machine: self-modifying code, precise faults, facts in order, step
 * limits, hand-over of call rows. An engine's test file registers them.
 */
import { assertEquals } from "@std/assert";
import { type CpuModel, parseModel } from "../../cpu/arch/models.ts";
import { type Backend, ExecReason } from "../../cpu/engine/backend.ts";
import type { InstructionDecoder } from "../../cpu/isa/decoder.ts";
import { assemble } from "../../host/asm/mod.ts";
import { createDecoder } from "../../plugins/decoder/decode.ts";
import { BareMachine } from "./bare_machine.ts";

const CODE = 0x1000, DATA = 0x3000, STACK = 0x5000;

const MODEL = parseModel("max-intel");
const AVX: CpuModel = {
  ...MODEL,
  has: (feature) => feature === "avx" || MODEL.has(feature),
};

/** Registers the tests for one engine. */
export function engineRules(
  name: string,
  engine: (decoder: InstructionDecoder) => Backend,
  engineBytes?: number,
): void {
  const start = (
    source: string,
    observed = false,
    model = MODEL,
  ): BareMachine => {
    const machine = new BareMachine(engine(createDecoder(model)), {
      model,
      engineBytes,
      observed,
    });
    for (const page of [CODE, DATA, STACK]) machine.map(page);
    const { v } = machine.cpu;
    machine.poke(CODE, assemble(source, { bits: 64, origin: CODE }).bytes);
    v.rip = BigInt(CODE);
    v.setGpr(4, BigInt(STACK + 0x800));
    return machine;
  };
  const run = (machine: BareMachine, steps: number): number =>
    machine.backend.execute(machine.cpu, machine.cpu.v.step + steps);

  Deno.test(`${name}: a store into the next instruction takes effect at once`, () => {
    const machine = start(`
      mov byte [next + 1], 7
      next: mov al, 1
      mov byte [next + 1], 9
      jmp next`);
    assertEquals(run(machine, 2), ExecReason.Limit);
    assertEquals(machine.cpu.v.gpr(0), 7n);
    run(machine, 3);
    assertEquals(machine.cpu.v.gpr(0), 9n);
  });

  Deno.test(`${name}: … and through an alias of the page`, () => {
    const machine = start(`
      mov rbx, 0x9000
      next: mov al, 1
      mov byte [rbx + next - 0x1000 + 1], 9
      jmp next`);
    machine.alias(0x9000, CODE);
    run(machine, 2);
    assertEquals(machine.cpu.v.gpr(0), 1n);
    run(machine, 3);
    assertEquals(machine.cpu.v.gpr(0), 9n);
  });

  Deno.test(`${name}: … also from outside the engine`, () => {
    const machine = start("next: mov al, 1\njmp next");
    run(machine, 2);
    machine.poke(CODE + 1, Uint8Array.of(5));
    run(machine, 1);
    assertEquals(machine.cpu.v.gpr(0), 5n);
  });

  Deno.test(`${name}: … by a CALL whose push overwrites its target`, () => {
    // The fourth time, the pushed address 0x100a reads OR DL, [RAX] there.
    const machine = start(`
      mov eax, ${DATA}
      again: call target
      nop
      align 32
      target: times 16 nop
      mov rsp, rbx
      jmp again`);
    const { v } = machine.cpu;
    machine.poke(DATA, Uint8Array.of(5));
    v.setGpr(3, BigInt(STACK + 0x800));
    run(machine, 1 + 2 * (1 + 16 + 2) + 1);
    const target = v.rip;
    run(machine, 16);
    v.setGpr(3, target + 8n);
    run(machine, 2 + 1 + 1);
    assertEquals(v.gpr(2), 5n);
  });

  Deno.test(`${name}: REP that overwrites itself stops at the next iteration`, () => {
    // The second STOSB turns the REP prefix into a NOP.
    const machine = start(`
      lea rdi, [rel rep1 - 1]
      mov ecx, 8
      mov al, 0x90
      nop
      rep1: rep stosb
      nop`);
    run(machine, 4);
    const { v } = machine.cpu;
    const at = v.gpr(7) + 1n;
    run(machine, 1);
    assertEquals([v.gpr(1), v.rip], [7n, at]);
    run(machine, 1); // writes 90 over F3
    assertEquals([v.gpr(1), v.rip], [6n, at]);
    run(machine, 1); // the NOP that stands there now
    assertEquals([v.gpr(1), v.rip], [6n, at + 1n]);
  });

  Deno.test(`${name}: an instruction across a page is fetched from both`, () => {
    const machine = start("nop");
    machine.map(CODE + 0x1000);
    machine.poke(CODE + 0xffe, Uint8Array.of(0xb8, 1, 2, 3, 4));
    machine.cpu.v.rip = BigInt(CODE + 0xffe);
    run(machine, 1);
    assertEquals(machine.cpu.v.gpr(0), 0x04030201n);
    machine.poke(CODE + 0x1000, Uint8Array.of(9));
    machine.cpu.v.rip = BigInt(CODE + 0xffe);
    run(machine, 1);
    assertEquals(machine.cpu.v.gpr(0), 0x04030901n);
  });

  Deno.test(`${name}: a fault commits no register, flag or RIP`, () => {
    const machine = start("add rax, 1\nxadd [rbx], rax\nnop");
    const { v } = machine.cpu;
    v.setGpr(0, 0x7fff_ffff_ffff_ffffn);
    v.setGpr(3, 0x7000n);
    assertEquals(run(machine, 10), ExecReason.Fault);
    assertEquals(v.step, 1);
    assertEquals(v.pending?.vector, 14);
    assertEquals(v.pending?.payload, 0x7000n);
    assertEquals(v.gpr(0), 1n << 63n);
    assertEquals(v.rip, BigInt(CODE + 4));
    assertEquals(v.rflags & 0x8d5, 0x894);
  });

  Deno.test(`${name}: facts come as stores, registers ascending, retire`, () => {
    const machine = start(
      "push rax\npop rbx\nxchg rbx, rax\nmov rcx, rcx",
      true,
    );
    const { v } = machine.cpu;
    v.setGpr(0, 5n);
    run(machine, 4);
    const sp = BigInt(STACK + 0x800), rip = BigInt(CODE);
    assertEquals(machine.facts, [
      { kind: "memory", linear: sp - 8n, size: 8, value: 5n },
      { kind: "register", register: 4, value: sp - 8n },
      { kind: "retired", rip },
      { kind: "register", register: 3, value: 5n },
      { kind: "register", register: 4, value: sp },
      { kind: "retired", rip: rip + 1n },
      { kind: "retired", rip: rip + 2n },
      { kind: "retired", rip: rip + 4n },
    ]);
  });

  Deno.test(`${name}: stops exactly at any step limit`, () => {
    const source = "mov ecx, 100\nl: add rax, rcx\ndec ecx\njnz l\nnop";
    for (const limit of [1, 2, 3, 50, 63, 64, 65, 200, 301]) {
      const machine = start(source);
      assertEquals(run(machine, limit), ExecReason.Limit);
      assertEquals(machine.cpu.v.step, limit);
      const single = start(source);
      for (let i = 0; i < limit; i++) run(single, 1);
      const regs = (m: BareMachine): bigint[] =>
        [0, 1].map((r) => m.cpu.v.gpr(r)).concat(m.cpu.v.rip);
      assertEquals(regs(machine), regs(single));
    }
  });

  Deno.test(`${name}: hands a call row over untouched`, () => {
    const machine = start("inc eax\ncpuid\nnop");
    assertEquals(run(machine, 10), ExecReason.Call);
    const { v } = machine.cpu;
    assertEquals(machine.backend.insn?.row.name, "CPUID");
    assertEquals([v.step, v.rip, v.gpr(0)], [1, BigInt(CODE + 2), 1n]);
  });

  Deno.test(`${name}: names a form that is not modelled`, () => {
    // Models show only what has rows; this one claims AVX, which has none.
    const machine = start("vzeroupper", false, AVX);
    assertEquals(run(machine, 10), ExecReason.NotModelled);
    assertEquals(machine.backend.notModelled?.startsWith("VZEROUPPER"), true);
  });

  Deno.test(`${name}: returns at once when attention is called for`, () => {
    const machine = start("mov [0x3000], eax\nnop\nnop");
    const { v } = machine.cpu;
    v.setDr(0, 0x3000n);
    v.setDr(7, 0xd0401n); // DR0: write, 4 bytes
    assertEquals(run(machine, 3), ExecReason.Attention);
    assertEquals(v.step, 1);
    assertEquals(v.pendingDebug & 1, 1);
  });
}
