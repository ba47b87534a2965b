/**
 * Linear-address masking (Intel ISE ch. on LAM): which pointers are masked and
 * how, exhaustively over metadata patterns; and in programs on both engines,
 * what is not masked (fetches, INVLPG, system structures) and what software
 * sees of a masked address (CR2).
 */
import { assertEquals } from "@std/assert";
import { MmuRig } from "../tests/exhaustive/mmu_rig.ts";
import { runProgram } from "../tests/support/faults.ts";
import { t0Engine } from "../tests/laws/compare_engines.ts";
import { t0EngineBytes } from "./engine/t0/engine.ts";
import { Cr4, Efer } from "./arch/flags.ts";
import { Seg, VCPU } from "./layout.ts";

const U57 = 1n << 61n, U48 = 1n << 62n;
const bit = (x: bigint, n: bigint): bigint => x >> n & 1n;

/** Address that is translated, or undefined for #GP(0), from ISE's tables. */
function oracle(
  x: bigint,
  cr3: bigint,
  sup: boolean,
  la57: boolean,
): bigint | undefined {
  const user = bit(x, 63n) === 0n;
  const top = user
    ? cr3 & U57 ? 57n : cr3 & U48 ? 48n : undefined
    : sup
    ? la57 ? 57n : 48n
    : undefined;
  let linear = x;
  if (top !== undefined) {
    // The bit below the metadata must be bit 63's equal.
    if (bit(x, top - 1n) !== bit(x, 63n)) return undefined;
    const metadata = (1n << 63n) - (1n << top);
    linear = user ? x & ~metadata : x | metadata;
  }
  const width = la57 ? 57n : 48n;
  const sign = BigInt.asIntN(64, linear) >> (width - 1n);
  return sign === 0n || sign === -1n ? linear : undefined;
}

Deno.test("LAM: every metadata pattern against the oracle", () => {
  const rig = new MmuRig();
  const { v } = rig;
  v.efer = Efer.LME | Efer.LMA;
  v.setSegment(Seg.CS, {
    selector: 8,
    base: 0n,
    limit: -1,
    attributes: 0xa09b,
  });
  const patterns: bigint[] = [];
  for (let n = 0n; n < 1024n; n++) {
    // Bits 63, 62:57 in three, 56, 55:48 in two, 47, and two below.
    patterns.push(
      bit(n, 0n) << 63n | bit(n, 1n) << 62n | bit(n, 2n) << 58n |
        bit(n, 3n) << 57n | bit(n, 4n) << 56n | bit(n, 5n) << 55n |
        bit(n, 6n) << 48n | bit(n, 7n) << 47n | bit(n, 8n) << 46n | n >> 9n,
      (bit(n, 0n) ? (1n << 64n) - (1n << 46n) : 0n) ^
        (bit(n, 1n) << 62n | bit(n, 2n) << 58n | bit(n, 3n) << 57n |
          bit(n, 4n) << 56n | bit(n, 5n) << 55n | bit(n, 6n) << 48n |
          bit(n, 7n) << 47n),
    );
  }
  let compared = 0;
  for (const control of [0n, U57, U48, U57 | U48]) {
    for (const sup of [false, true]) {
      for (const la57 of [false, true]) {
        v.cr3Full = 0x1000n | control;
        v.cr4 = Cr4.PAE | (la57 ? Cr4.LA57 : 0) | (sup ? Cr4.LAM_SUP : 0);
        for (const x of patterns) {
          v.pending = undefined;
          const got = rig.cpu.access.linear(Seg.DS, x, 1, false);
          assertEquals(
            got,
            oracle(x, control, sup, la57),
            `${x.toString(16)} ${control.toString(16)} ${sup} ${la57}`,
          );
          compared++;
        }
      }
    }
  }
  assertEquals(compared, 4 * 2 * 2 * 2048);
  assertEquals(v.cr3, 0x1000, "walks and PCIDs see no LAM bits");
});

const LAM_USER = (control: bigint): string =>
  `mov rax, cr3\nmov rcx, ${control}\nor rax, rcx\nmov cr3, rax\n`;
const LAM_SUP = "mov rax, cr4\nbts rax, 28\nmov cr4, rax\n";
const TAGGED = "mov rbx, 0x7e000000003000\nbts rbx, 62\n";

const programs: readonly [string, string][] = [
  [`${TAGGED}mov rax, [rbx]`, "#GP(0)"],
  [`${LAM_USER(U48)}${TAGGED}mov rax, [rbx]`, "none"],
  [`${LAM_USER(U57)}${TAGGED}mov rax, [rbx]`, "#GP(0)"],
  [`${LAM_USER(U57)}mov rbx, 0x3000\nbts rbx, 62\nmov [rbx], rax`, "none"],
  [`${LAM_USER(U48)}${TAGGED}push qword ptr [rbx]`, "none"],
  [`${LAM_USER(U48)}${TAGGED}mov rsp, rbx\npush rax\npop rcx`, "none"],
  [`${LAM_USER(U48)}${TAGGED}mov rsi, rbx\nmov rdi, rbx\nmovsq`, "none"],
  [`${LAM_USER(U48)}${TAGGED}cmpxchg16b [rbx]`, "none"],
  [`${LAM_USER(U48)}${TAGGED}fxsave [rbx]`, "none"],
  // Fetches are not masked.
  [`${LAM_USER(U48)}${TAGGED}jmp rbx`, "#GP(0)"],
  [
    `${LAM_USER(U48)}${TAGGED}mov [rbx], rax\nmov qword ptr [0x3000], 0\n` +
    "lidt [rbx]\nlgdt [rbx]",
    "none",
  ],
  // A segment base is part of the pointer.
  [
    `${
      LAM_USER(U48)
    }mov ecx, 0xc0000100\nmov eax, 0x3000\nmov edx, 0\nwrmsr\n` +
    "mov rbx, 1 << 62\nmov rax, fs:[rbx]",
    "none",
  ],
  // Supervisor pointers have their own control.
  [`${LAM_USER(U48)}mov rbx, 0xbfff800000000000\nmov rax, [rbx]`, "#GP(0)"],
  [`${LAM_SUP}mov rbx, 0xbfff800000000000\nmov rax, [rbx]`, "#PF(0)"],
  [`${LAM_SUP}${TAGGED}mov rax, [rbx]`, "#GP(0)"],
];
for (const [program, fault] of programs) {
  const title = program.replaceAll("\n", "; ").slice(-70);
  Deno.test(`LAM: ${title} → ${fault}`, () => {
    for (const engine of [undefined, t0Engine(0)]) {
      const r = runProgram(program, {
        engine,
        engineBytes: engine && t0EngineBytes(1),
      });
      assertEquals(r.fault, fault, engine ? "T0" : "reference");
    }
  });
}

Deno.test("LAM: a tagged store reaches the page again and again on T0", () => {
  const r = runProgram(
    `${LAM_USER(U48)}${TAGGED}mov ecx, 1000\nagain: inc qword ptr [rbx]\n` +
      "dec ecx\njnz again\nmov rax, [0x3000]",
    {
      engine: t0Engine(0),
      engineBytes: t0EngineBytes(1),
      setup: (cpu) => cpu.physical.write(0x3000, 8, 0n),
    },
  );
  assertEquals(r.machine.word(0x3000), 1000n);
  assertEquals(r.machine.v.gpr(0), 1000n);
});

Deno.test("LAM: CR2 has no metadata, MOV from CR3 shows the control", () => {
  const r = runProgram(
    `${LAM_USER(U57)}mov rdx, cr3\nmov rbx, 0x40000123\nbts rbx, 60\n` +
      "mov rax, [rbx]",
  );
  assertEquals(r.fault, "#PF(0)");
  assertEquals(r.machine.v.cr2, 0x40000123n);
  assertEquals(r.machine.v.gpr(2) & U57, U57);
  assertEquals(r.machine.v.quad(VCPU.cr3) >> 52n, U57 >> 52n);
});

Deno.test("LAM bits are reserved without the feature, and in CR4", () => {
  const model = "max-intel,-lam";
  assertEquals(runProgram(LAM_USER(U48), { model }).fault, "#GP(0)");
  assertEquals(runProgram(LAM_SUP, { model }).fault, "#GP(0)");
  assertEquals(runProgram(LAM_USER(U48)).fault, "none");
});
