/**
 * SSE arithmetic in a machine: which exception control registers and MXCSR lead
 * to, and a guest's computation on both engines against the host's.
 */
import { assertEquals } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { setGate, TestMachine } from "../../../tests/support/machine.ts";
import { Cr0, Cr4 } from "../../arch/flags.ts";
import { T0Engine, t0EngineBytes } from "../../engine/t0/engine.ts";
import { Gpr, VCPU } from "../../layout.ts";
import { DecoderService } from "../../../plugins/decoder/api.ts";

const USABLE = Cr4.OSFXSR | Cr4.OSXMMEXCPT;
const UD = 6, NM = 7, MF = 16, XM = 19, NONE = 99;

/** Which vector `instruction` ends in, with MXCSR and the machine after it. */
function outcome(
  instruction: string,
  set: {
    cr0?: number;
    cr4?: number;
    mxcsr?: number;
    fsw?: number;
    fcw?: number;
  },
): { vector: number; m: TestMachine } {
  const vectors = [UD, NM, MF, XM];
  const m = new TestMachine(
    `
    ${instruction}
    mov eax, ${NONE}
    hlt
    ${vectors.map((n) => `v${n}: mov eax, ${n}\nhlt`).join("\n")}
    align 16
    data: dq 0x3ff0000000000000, 0`,
    {
      setup: ({ v }) => {
        v.cr0 = (v.cr0 | (set.cr0 ?? 0)) >>> 0;
        v.cr4 |= set.cr4 ?? USABLE;
        v.setWord(VCPU.mxcsr, set.mxcsr ?? 0x1f80);
        v.setWord(VCPU.fcw, set.fcw ?? 0x37f);
        v.setWord(VCPU.fsw, set.fsw ?? 0);
        // XMM0 = 1.0 ÷ 3.0 to come; the destination must survive a fault.
        v.setQuad(VCPU.vector, 0x3ff0000000000000n);
        v.setQuad(VCPU.vector + 64, 0x4008000000000000n);
      },
    },
  );
  for (const n of vectors) setGate(m.hardware, n, m.at(`v${n}`));
  m.run();
  return { vector: Number(m.v.gpr(Gpr.RAX)), m };
}

describe("which exception", () => {
  const cases: [string, string, Parameters<typeof outcome>[1], number][] = [
    ["all masked", "divsd xmm0, xmm1", {}, NONE],
    ["CR0.EM", "divsd xmm0, xmm1", { cr0: Cr0.EM }, UD],
    ["CR4.OSFXSR = 0", "divsd xmm0, xmm1", { cr4: Cr4.OSXMMEXCPT }, UD],
    ["CR0.TS", "divsd xmm0, xmm1", { cr0: Cr0.TS }, NM],
    ["CR0.EM before TS", "divsd xmm0, xmm1", { cr0: Cr0.EM | Cr0.TS }, UD],
    ["PE unmasked", "divsd xmm0, xmm1", { mxcsr: 0xf80 }, XM],
    [
      "PE unmasked, CR4.OSXMMEXCPT = 0",
      "divsd xmm0, xmm1",
      { mxcsr: 0xf80, cr4: Cr4.OSFXSR },
      UD,
    ],
    ["a flag that was set before", "addsd xmm0, xmm0", { mxcsr: 0xfa0 }, NONE],
    ["MMX source, x87 error pending", "cvtpi2ps xmm0, mm1", {
      fcw: 0x37e,
      fsw: 0x8081,
    }, MF],
    ["no MMX register, x87 error pending", "cvtpi2pd xmm0, [data]", {
      fcw: 0x37e,
      fsw: 0x8081,
    }, NONE],
    ["estimates have none", "rcpps xmm0, xmm1", { mxcsr: 0 }, NONE],
  ];
  for (const [name, instruction, set, expected] of cases) {
    it(name, () => {
      const { vector, m } = outcome(instruction, set);
      assertEquals(vector, expected);
      if (expected === XM) {
        assertEquals(m.v.quad(VCPU.vector), 0x3ff0000000000000n);
        assertEquals(m.v.word(VCPU.mxcsr), 0xfa0, "the flag is set");
      }
    });
  }

  it("an unmasked invalid operation hides the inexact lanes of a packed one", () => {
    // Lane 1 is 0 ÷ 0 (IE), lane 0 is 1 ÷ 3 (PE).
    const { vector, m } = outcome("divpd xmm0, xmm1", { mxcsr: 0x1f00 });
    assertEquals(vector, XM);
    assertEquals(m.v.word(VCPU.mxcsr) & 0x3f, 1);
  });
});

describe("a guest computes what the host computes", () => {
  const source = `
    mov ecx, 1000
    cvtsi2sd xmm0, ecx
    xorpd xmm1, xmm1
    mov eax, 1
    cvtsi2sd xmm3, eax
  again:
    movapd xmm2, xmm3
    divsd xmm2, xmm0
    sqrtsd xmm4, xmm2
    mulsd xmm4, xmm2
    addsd xmm1, xmm4
    cvtsd2ss xmm5, xmm1
    subsd xmm0, xmm3
    ucomisd xmm0, xmm3
    jae again
    hlt`;
  let sum = 0;
  for (let n = 1000; n >= 1; n--) sum += Math.sqrt(1 / n) * (1 / n);
  const view = new DataView(new ArrayBuffer(8));
  view.setFloat64(0, sum);
  const expected = view.getBigUint64(0);
  view.setFloat32(0, sum);
  const single = view.getUint32(0);

  for (const engine of ["reference", "t0"]) {
    it(engine, () => {
      const m = new TestMachine(source, {
        setup: ({ v }) => {
          v.cr4 |= USABLE;
          v.setWord(VCPU.mxcsr, 0x1f80);
        },
        ...(engine === "t0" && {
          engineBytes: t0EngineBytes(1),
          engine: ({ port, hardware }) =>
            new T0Engine(
              port.service(DecoderService).get()!.create(hardware.model),
              { threshold: 0 },
            ),
        }),
      });
      m.run();
      assertEquals(m.v.quad(VCPU.vector + 64), expected);
      assertEquals(m.v.word(VCPU.vector + 5 * 64), single);
      assertEquals(m.v.word(VCPU.mxcsr), 0x1fa0);
    });
  }
});
