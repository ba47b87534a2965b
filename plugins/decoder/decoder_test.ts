/** What the decoder makes of bytes, by CPU model and mode. */
import { assert, assertEquals, assertNotEquals } from "@std/assert";
import { parseModel } from "../../cpu/arch/models.ts";
import {
  type Insn,
  NO_REGISTER,
  OperandKind,
  Rep,
  RIP_RELATIVE,
} from "../../cpu/isa/insn.ts";
import { Seg } from "../../cpu/layout.ts";
import { DecodeFailure } from "./api.ts";
import { createDecoder } from "./decode.ts";

const { Invalid, NeedMoreBytes, NotModelled, TooLong } = DecodeFailure;
type Bits = 16 | 32 | 64;

function decode(
  hex: string,
  { model = "max-intel", bits = 64 as Bits, real = false } = {},
): Insn | number {
  const bytes = Uint8Array.from(hex.match(/../g)!, (b) => parseInt(b, 16));
  return createDecoder(parseModel(model))
    .decode(bytes, bytes.length, bits, 0x1000n, bits, real);
}

function insn(hex: string, options?: Parameters<typeof decode>[1]): Insn {
  const got = decode(hex, options);
  assert(typeof got === "object", `${hex} gave ${got}`);
  return got;
}

const nameOf = (hex: string, model: string): string => {
  const got = decode(hex, { model });
  return typeof got === "object" ? got.row.name : `failure ${got}`;
};

Deno.test("prefixes mean what the CPU model makes of them", () => {
  const old = "haswell-server,-bmi1,-abm,-bmi2,-movbe,-popcnt";
  const cases: [string, string, string][] = [
    ["f30fbcc1", "TZCNT", "BSF"],
    ["f30fbdc1", "LZCNT", "BSR"],
    ["f30fb8c1", "POPCNT", `failure ${Invalid}`],
    ["0f38f00100", "MOVBE", `failure ${Invalid}`],
    ["c4e2f1f7c3", "SHLX", `failure ${Invalid}`],
    ["c4e2f0f2c3", "ANDN", `failure ${Invalid}`],
    ["f390", "PAUSE", "PAUSE"],
    ["f30f1efa", "ENDBR", "ENDBR"],
  ];
  for (const [hex, now, then] of cases) {
    assertEquals(
      [nameOf(hex, "haswell-server"), nameOf(hex, old)],
      [now, then],
    );
  }
});

Deno.test("near branches with 66 keep 64 bits on Intel, 16 on AMD", () => {
  assertEquals(insn("66e900000000").length, 6);
  assertEquals(insn("66e90000", { model: "qemu64" }).length, 4);
});

Deno.test("what is missing in the model is #UD, what we lack is not", () => {
  assertEquals(decode("c5f058c2"), Invalid); // VADDPS
  const withoutSsse3 = { model: "max-intel,-ssse3" };
  assertEquals(decode("660f3800c1", withoutSsse3), Invalid); // PSHUFB
  assertEquals(insn("660f3800c1").row.name, "PSHUFB");
  // Models show only what has rows; one that showed AVX would lack its rows.
  const base = parseModel("max-intel");
  const decoder = createDecoder({
    ...base,
    has: (feature) => feature === "avx" || base.has(feature),
  });
  const vaddps = Uint8Array.of(0xc5, 0xf0, 0x58, 0xc2);
  const got = decoder.decode(vaddps, 4, 64, 0x1000n, 64, false);
  assertEquals(got, NotModelled);
  assertEquals(decoder.notModelled.includes("VADDPS"), true);
  assertEquals(decode("0f0b"), insn("0f0b")); // UD2 has a row
});

Deno.test("VEX forms do not exist in real-address mode", () => {
  const hex = "c4e270f2c3"; // ANDN
  assertEquals(insn(hex, { bits: 16 }).row.name, "ANDN");
  assertEquals(decode(hex, { bits: 16, real: true }), Invalid);
});

Deno.test("bytes that run out, lengths, nonsense", () => {
  assertEquals(decode("48"), NeedMoreBytes);
  assertEquals(decode("48b8112233"), NeedMoreBytes);
  assertEquals(decode("06"), Invalid);
  assertEquals(decode("0f04"), Invalid);
  assertEquals(decode("66".repeat(15)), TooLong);
  assertEquals(decode("66".repeat(14) + "06"), Invalid);
  assertEquals(insn("66".repeat(14) + "90").length, 15);
  const long = "2e".repeat(8) + "c7042500000000"; // 19 bytes in all
  assertEquals(decode(long), TooLong);
  assertEquals(decode(long.slice(0, 28)), NeedMoreBytes);
});

Deno.test("LOCK needs a lockable instruction with a memory destination", () => {
  assertEquals(insn("f00100").lock, true);
  for (const hex of ["f001c0", "f03900", "f08b00", "f090", "f0c3"]) {
    assertEquals(decode(hex), Invalid, hex);
  }
});

Deno.test("memory operands", () => {
  const rip = insn("488b0500010000");
  assertEquals(rip.memory?.base, RIP_RELATIVE);
  assertEquals(rip.memory?.displacement, 0x1107n);
  const sib = insn("428b54b0f0"); // mov edx, [rax+r14*4-16]
  assertEquals(sib.memory, {
    base: 0,
    index: 14,
    scale: 4,
    displacement: 0xffff_ffff_ffff_fff0n,
    displacementLow: 0xffff_fff0,
    displacementHigh: 0xffff_ffff,
    segment: Seg.DS,
  });
  assertEquals([sib.operandSize, sib.addressSize], [32, 64]);
  assertEquals(insn("678b00").addressSize, 32);
  assertEquals(insn("8b0424").memory?.segment, Seg.SS);
  assertEquals(insn("658b00").memory?.segment, Seg.GS);
  assertEquals(insn("8b00", { bits: 16 }).memory, {
    base: 3,
    index: 6,
    scale: 1,
    displacement: 0n,
    displacementLow: 0,
    displacementHigh: 0,
    segment: Seg.DS,
  });
  assertEquals(insn("2e8b00", { bits: 32 }).memory?.segment, Seg.CS);
  assertEquals(insn("a144332211", { bits: 32 }).memory?.base, NO_REGISTER);
});

Deno.test("ES, CS, SS and DS overrides are ignored in 64-bit mode", () => {
  assertEquals(insn("368b00").memory?.segment, Seg.DS);
  assertEquals(insn("3e8b0424").memory?.segment, Seg.SS);
  assertEquals(insn("2ea4").segment, Seg.DS);
  assertEquals(insn("64a4").segment, Seg.FS);
});

Deno.test("operands: high bytes, immediates, far pointers", () => {
  const high = insn("88e0").operands;
  assertEquals(high[1].kind, OperandKind.HighByte);
  assertEquals(high[1].reg, 0);
  assertEquals(insn("4088e0").operands[1].kind, OperandKind.Gpr);
  assertEquals(insn("4088e0").operands[1].reg, 4);
  assertEquals(insn("4883c0ff").operands[1].imm, 0xffff_ffff_ffff_ffffn);
  assertEquals(insn("6683c0ff").operands[1].imm, 0xffffn);
  const far = insn("ea443322116655", { bits: 32 }).operands[0];
  assertEquals(far.kind, OperandKind.FarBranch);
  assertEquals([far.imm, far.selector], [0x11223344n, 0x5566]);
  assertEquals(insn("ebfe").operands[0].imm, 0x1000n);
});

Deno.test("repeat prefixes count on string instructions only", () => {
  assertEquals(insn("f3a4").rep, Rep.RepE);
  assertEquals(insn("f2a6").rep, Rep.RepNE);
  assertEquals(insn("f3c3").rep, Rep.None);
});

Deno.test("a form key stands for all but constants, length and place", () => {
  const key = (hex: string): string => insn(hex).formKey;
  assertEquals(key("8b4710"), key("8b8700010000")); // [rdi+disp8/disp32]
  assertEquals(key("83c001"), key("83c07f"));
  assertNotEquals(key("8b4710"), key("8b4f10"));
  assertNotEquals(key("8b4710"), key("8b4610"));
  assertNotEquals(key("8b4710"), key("678b4710"));
  assertNotEquals(key("8b4710"), key("648b4710"));
  assertNotEquals(key("8b07"), key("8b0437"));
  assertNotEquals(key("0100"), key("f00100"));
  assertNotEquals(key("a4"), key("f3a4"));
  assertNotEquals(key("88e0"), key("4088e0"));
  // Shapes, before the slash, do not tell registers apart.
  const shape = (hex: string): string => key(hex).split("/")[0];
  assertEquals(shape("8b4710"), shape("8b4e10"));
  assertNotEquals(shape("8b07"), shape("8bc7"));
});
