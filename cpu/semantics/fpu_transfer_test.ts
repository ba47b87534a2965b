/** FILD: exact values, tags, pointers, stack overflow. */
import { assertEquals } from "@std/assert";
import { TestMachine } from "../../tests/support/machine.ts";
import { VCPU } from "../layout.ts";

/** x87 register R(i), sign and exponent first. */
const register = ({ v }: TestMachine, i: number): [number, bigint] => [
  v.word(VCPU.x87 + 16 * i + 8) & 0xffff,
  v.quad(VCPU.x87 + 16 * i),
];

Deno.test("each operand size pushes a signed integer; tags and pointers follow", () => {
  const m = new TestMachine(`
    fninit
    fild word [a]
    fild dword [a]
    last: fild qword [a]
    fild word [zero]
    hlt
    align 8
    a: dq 0x80000000fffe8001
    zero: dw 0`);
  m.run();
  assertEquals(register(m, 7), [0xc00d, 0xfffe000000000000n], "-32767");
  assertEquals(register(m, 6), [0xc00f, 0xbfff800000000000n], "-98303");
  assertEquals(
    register(m, 5),
    [0xc03d, 0xfffffffe0002fffen],
    "-9223372032559906815",
  );
  assertEquals(register(m, 4), [0, 0n]);
  assertEquals(m.v.word(VCPU.fsw) >> 11 & 7, 4);
  assertEquals(m.v.word(VCPU.ftw), 0x01ff);
});

Deno.test("a ninth push overflows the stack: masked gives the indefinite, unmasked keeps it", () => {
  for (const masked of [true, false]) {
    const m = new TestMachine(`
      fninit
      ${masked ? "" : "fldcw [control]"}
      ${"fild word [one]\n".repeat(9)}
      hlt
      one: dw 1
      control: dw 0x37e`);
    m.run();
    const fsw = m.v.word(VCPU.fsw);
    assertEquals(fsw & 0x241, 0x241, "IE, SF, C1");
    assertEquals(fsw >> 11 & 7, masked ? 7 : 0);
    assertEquals(
      register(m, 7),
      masked ? [0xffff, 3n << 62n] : [0x3fff, 1n << 63n],
    );
    assertEquals(fsw & 0x8080, masked ? 0 : 0x8080, "ES, B");
  }
});
