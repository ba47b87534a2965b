/**
 * Integer SIMD in a machine: which exception control registers, alignment and
 * paging lead to, that a fault changes nothing, and guests' computations on
 * both engines against the host's (AES by FIPS 197's example, SHA-256, CRC32C,
 * strings). Single instructions are judged by tests/cases/silicon/simd_*.txt.
 */
import { assertEquals } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { createHash } from "node:crypto";
import {
  PLACE,
  setGate,
  TestMachine,
  type TestMachineOptions,
} from "../../../tests/support/machine.ts";
import { DecoderService } from "../../../plugins/decoder/api.ts";
import { Cr0, Cr4 } from "../../arch/flags.ts";
import { T0Engine, t0EngineBytes } from "../../engine/t0/engine.ts";
import { Gpr, VCPU } from "../../layout.ts";
import type { Vcpu } from "../../vcpu.ts";

const UD = 6, NM = 7, GP = 13, PF = 14, MF = 16, NONE = 99;
const MARK = 0x0123_4567_89ab_cdefn;

interface Settings {
  readonly cr0?: number;
  readonly cr4?: number;
  readonly fsw?: number;
  readonly fcw?: number;
  readonly model?: string;
}

/** Which vector `instruction` ends in; XMM2, XMM3, MM2 and MM3 hold marks. */
function outcome(instruction: string, set: Settings = {}) {
  const vectors = [UD, NM, GP, PF, MF];
  const m = new TestMachine(
    `
    mov edi, last
    ${instruction}
    mov eax, ${NONE}
    hlt
    ${vectors.map((n) => `v${n}: mov eax, ${n}\nhlt`).join("\n")}
    align 16
    data: dq 0x1111111111111111, 0x2222222222222222, 3
    last equ 0x1ffff8`,
    {
      model: set.model,
      setup: ({ v, physical }) => {
        v.cr0 = (v.cr0 | (set.cr0 ?? 0)) >>> 0;
        v.cr4 |= set.cr4 ?? Cr4.OSFXSR;
        v.setWord(VCPU.fcw, set.fcw ?? 0x37f);
        v.setWord(VCPU.fsw, set.fsw ?? 0);
        v.setWord(VCPU.ftw, 0xffff);
        v.setWord(VCPU.mxcsr, 0x1f80);
        for (const r of [2, 3]) {
          v.setQuad(VCPU.vector + r * 64, MARK);
          v.setQuad(VCPU.vector + r * 64 + 8, ~MARK & 0xffff_ffff_ffff_ffffn);
          v.setQuad(VCPU.x87 + r * 16, MARK);
        }
        // The page after `last` is not present: 4-KiB pages in the last 2 MiB.
        const table = 0x1f0000;
        for (let i = 0; i < 511; i++) {
          physical.writeU64(table + i * 8, BigInt(i << 12 | 3));
        }
        const directory = PLACE.tables + 0x2000;
        physical.writeU64(directory, BigInt(table | 3));
        physical.writeU64(table + 511 * 8, 0x1ff003n);
        physical.writeU64(directory + 8, 0n);
      },
    },
  );
  for (const n of vectors) setGate(m.hardware, n, m.at(`v${n}`));
  m.run();
  return { vector: Number(m.v.gpr(Gpr.RAX)), m };
}

describe("which exception", () => {
  const pending = { fcw: 0x37e, fsw: 0x8081 };
  const cases: [string, string, Settings, number][] = [
    ["nothing", "pxor xmm2, xmm3", {}, NONE],
    ["CR0.EM", "pxor xmm2, xmm3", { cr0: Cr0.EM }, UD],
    ["CR0.EM, MMX", "pxor mm2, mm3", { cr0: Cr0.EM }, UD],
    ["OSFXSR = 0", "pxor xmm2, xmm3", { cr4: 0 }, UD],
    ["OSFXSR = 0 is nothing to MMX", "pxor mm2, mm3", { cr4: 0 }, NONE],
    ["OSFXSR = 0, MMX and XMM", "movq2dq xmm2, mm3", { cr4: 0 }, UD],
    ["OSFXSR = 0 is nothing to CRC32", "crc32 eax, ecx", { cr4: 0 }, NONE],
    ["CR0.TS", "movdqa xmm2, xmm3", { cr0: Cr0.TS }, NM],
    ["CR0.TS, MMX", "psadbw mm2, mm3", { cr0: Cr0.TS }, NM],
    ["TS before #GP", "movdqa xmm2, [data + 1]", { cr0: Cr0.TS }, NM],
    ["x87 error pending, MMX", "paddb mm2, mm3", pending, MF],
    ["x87 error pending, MMX and XMM", "movdq2q mm2, xmm3", pending, MF],
    ["x87 error pending, XMM", "paddb xmm2, xmm3", pending, NONE],
    ["misaligned operand", "paddb xmm2, [data + 1]", {}, GP],
    ["misaligned move", "movaps [data + 8], xmm2", {}, GP],
    ["misaligned string move", "lddqu xmm2, [data + 1]", {}, NONE],
    ["misaligned string", "pcmpistri xmm2, [data + 1], 0", {}, NONE],
    ["misaligned duplicate", "movshdup xmm2, [data + 4]", {}, GP],
    ["misaligned scalar", "movddup xmm2, [data + 1]", {}, NONE],
    ["misaligned MMX operand", "paddb mm2, [data + 1]", {}, NONE],
    ["misaligned SHA, Intel", "sha1msg1 xmm2, [data + 1]", {}, GP],
    ["load into no page", "movdqu xmm2, [last]", {}, PF],
    ["store into no page", "movdqu [last], xmm2", {}, PF],
    ["masked store into no page", "maskmovdqu xmm2, xmm3", {}, PF],
    ["the model lacks SSSE3", "pshufb xmm2, xmm3", {
      model: "max-intel,-ssse3",
    }, UD],
    ["the model lacks AES", "aesenc xmm2, xmm3", { model: "qemu64" }, UD],
  ];
  for (const [name, instruction, set, expected] of cases) {
    it(`${name}: ${instruction}`, () => {
      const { vector, m } = outcome(instruction, set);
      assertEquals(vector, expected);
      if (expected === NONE) return;
      for (const r of [2, 3]) {
        assertEquals(m.v.quad(VCPU.vector + r * 64), MARK);
        assertEquals(m.v.quad(VCPU.x87 + r * 16), MARK);
      }
      assertEquals(m.v.word(VCPU.ftw), 0xffff, "no MMX state");
      assertEquals(m.cpu.physical.readU64(m.at("data")), 0x1111111111111111n);
      assertEquals(m.cpu.physical.readU64(0x1ffff8), 0n, "nothing stored");
    });
  }

  it("an MMX instruction makes all tags valid and TOP 0", () => {
    const { m } = outcome("paddb mm2, mm3", { fsw: 5 << 11 });
    assertEquals(m.v.word(VCPU.fsw), 0);
    assertEquals(m.v.word(VCPU.ftw), 0);
    assertEquals(m.v.quad(VCPU.x87 + 2 * 16 + 8), 0xffffn);
  });
});

const ENGINES: readonly (readonly [string, Partial<TestMachineOptions>])[] = [
  ["reference", {}],
  ["t0", {
    engineBytes: t0EngineBytes(1),
    engine: ({ port, hardware }) =>
      new T0Engine(
        port.service(DecoderService).get()!.create(hardware.model),
        { threshold: 0 },
      ),
  }],
];

/** Runs a guest on both engines. */
function compute(source: string, check: (v: Vcpu, m: TestMachine) => void) {
  for (const [name, options] of ENGINES) {
    it(name, () => {
      const m = new TestMachine(source, {
        ...options,
        setup: ({ v }) => {
          v.cr4 |= Cr4.OSFXSR;
        },
      });
      m.run();
      check(m.v, m);
    });
  }
}

function xmm(v: Vcpu, r: number): bigint {
  const at = VCPU.vector + r * 64;
  return v.quad(at) | v.quad(at + 8) << 64n;
}

/** `db` lines of hexadecimal bytes. */
const bytes = (hex: string): string =>
  `db ${hex.match(/../g)!.map((b) => `0x${b}`).join(", ")}`;

describe("AES-128 of FIPS 197 appendix B", () => {
  const rounds = [1, 2, 4, 8, 0x10, 0x20, 0x40, 0x80, 0x1b, 0x36];
  // Key expansion as the manual's white paper does it: XMM1 is the round key.
  const expand = (constant: number) => `
    aeskeygenassist xmm2, xmm1, ${constant}
    pshufd xmm2, xmm2, 0xff
    movdqa xmm3, xmm1
    pslldq xmm3, 4
    pxor xmm1, xmm3
    pslldq xmm3, 4
    pxor xmm1, xmm3
    pslldq xmm3, 4
    pxor xmm1, xmm3
    pxor xmm1, xmm2`;
  compute(
    `
    movdqa xmm1, [key]
    movdqa xmm0, [text]
    pxor xmm0, xmm1
    ${
      rounds.map((c, i) =>
        `${expand(c)}\n${i < 9 ? "aesenc" : "aesenclast"} xmm0, xmm1`
      ).join("\n")
    }
    hlt
    align 16
    key: ${bytes("2b7e151628aed2a6abf7158809cf4f3c")}
    text: ${bytes("3243f6a8885a308d313198a2e0370734")}`,
    (v) => {
      assertEquals(xmm(v, 0), 0x320b6a19978511dcfb09dc021d842539n);
    },
  );
});

describe("SHA-256 of one block", () => {
  const message = new TextEncoder().encode("vmtape looks both ways");
  const block = new Uint8Array(64);
  block.set(message);
  block[message.length] = 0x80;
  new DataView(block.buffer).setUint32(60, message.length * 8);
  const view = new DataView(block.buffer);
  const words = Array.from({ length: 16 }, (_, i) => view.getUint32(i * 4));
  // Round constants: cube roots of the first 64 primes (FIPS 180-4 §4.2.2).
  const primes: number[] = [];
  for (let n = 2; primes.length < 64; n++) {
    if (primes.every((p) => n % p !== 0)) primes.push(n);
  }
  const root = (p: number, power: bigint): bigint => {
    // Whole part of p^(1/power) × 2^32, by bisection.
    let low = 0n, high = 1n << 40n;
    while (high - low > 1n) {
      const middle = (low + high) >> 1n;
      if (middle ** power > BigInt(p) << 32n * power) high = middle;
      else low = middle;
    }
    return low & 0xffff_ffffn;
  };
  const k = primes.map((p) => root(p, 3n));
  const h = primes.slice(0, 8).map((p) => root(p, 2n));
  const dd = (list: readonly (number | bigint)[]): string =>
    `dd ${list.map(String).join(", ")}`;
  const schedule = Array.from({ length: 12 }, (_, i) => {
    const at = (i + 4) * 16;
    return `
    movdqa xmm4, [w + ${at - 64}]
    sha256msg1 xmm4, [w + ${at - 48}]
    movdqa xmm5, [w + ${at - 16}]
    palignr xmm5, [w + ${at - 32}], 4
    paddd xmm4, xmm5
    sha256msg2 xmm4, [w + ${at - 16}]
    movdqa [w + ${at}], xmm4`;
  }).join("\n");
  compute(
    `
    ${schedule}
    movdqa xmm1, [abef]
    movdqa xmm2, [cdgh]
    mov esi, w
    mov edi, k
    mov ecx, 16
  again:
    movdqa xmm0, [rsi]
    paddd xmm0, [rdi]
    sha256rnds2 xmm2, xmm1
    pshufd xmm0, xmm0, 0x0e
    sha256rnds2 xmm1, xmm2
    add esi, 16
    add edi, 16
    dec ecx
    jnz again
    paddd xmm1, [abef]
    paddd xmm2, [cdgh]
    hlt
    align 16
    abef: ${dd([h[5], h[4], h[1], h[0]])}
    cdgh: ${dd([h[7], h[6], h[3], h[2]])}
    k: ${dd(k)}
    w: ${dd(words)}
    times 192 db 0`,
    (v) => {
      const digest = createHash("sha256").update(message).digest("hex");
      const hex = (value: bigint, at: bigint): string =>
        (value >> at & 0xffff_ffffn).toString(16).padStart(8, "0");
      const one = xmm(v, 1), two = xmm(v, 2);
      assertEquals(
        [
          [hex(one, 96n), hex(one, 64n), hex(two, 96n), hex(two, 64n)],
          [hex(one, 32n), hex(one, 0n), hex(two, 32n), hex(two, 0n)],
        ].flat().join(""),
        digest,
      );
    },
  );
});

describe("strlen and strchr as C libraries write them", () => {
  const text = "the tape travels in both directions, and forks";
  compute(
    `
    ; length by PCMPEQB and PMOVMSKB
    mov esi, text
    pxor xmm1, xmm1
    mov rax, rsi
  next:
    movdqu xmm0, [rax]
    pcmpeqb xmm0, xmm1
    pmovmskb edx, xmm0
    add rax, 16
    test edx, edx
    jz next
    bsf edx, edx
    lea rbx, [rax + rdx - 16]
    sub rbx, rsi
    ; place of the first of a set by PCMPISTRI
    movdqa xmm2, [set]
    mov r8, rsi
  scan:
    movdqu xmm0, [r8]
    pcmpistri xmm2, xmm0, 0
    jc found
    add r8, 16
    jmp scan
  found:
    lea r8, [r8 + rcx]
    sub r8, rsi
    hlt
    align 16
    set: db ",;.!", 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0
    text: db "${text}", 0
    times 32 db 0`,
    (v) => {
      assertEquals(v.gpr(Gpr.RBX), BigInt(text.length));
      assertEquals(v.gpr(8), BigInt(text.indexOf(",")));
    },
  );
});

describe("carry-less multiplication agrees with CRC32", () => {
  // CRC32C of 8 bytes two ways: the instruction, and reduction by definition.
  const data = 0x1122_3344_5566_7788n;
  let crc = 0n;
  for (let i = 0n; i < 64n; i++) {
    const bit = (crc ^ data >> i) & 1n;
    crc = crc >> 1n ^ (bit ? 0x82f63b78n : 0n);
  }
  compute(
    `
    xor eax, eax
    mov rcx, ${data}
    crc32 rax, rcx
    movq xmm0, rcx
    movq xmm1, rcx
    pclmulqdq xmm0, xmm1, 0
    hlt`,
    (v) => {
      assertEquals(v.gpr(Gpr.RAX), crc);
      let product = 0n;
      for (let i = 0n; i < 64n; i++) {
        if (data >> i & 1n) product ^= data << i;
      }
      assertEquals(xmm(v, 0), product);
    },
  );
});
