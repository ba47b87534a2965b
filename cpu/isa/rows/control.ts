/**
 * Rows of near control transfer and of the string instructions (SDM vol. 1
 * §7.3.8, §7.3.9).
 */
import * as control from "../../semantics/control.ts";
import * as string from "../../semantics/string.ts";
import type { EmitFunction, Size } from "../emitter.ts";
import type { Row } from "../row.ts";
import { accumulator, ALL, CONDITIONS, sized, WORDS } from "./names.ts";

/** rel8, rel16 and rel32 forms of a branch. */
function relative(name: string): string[] {
  return [
    ...sized(`${name}_rel8_{}`, WORDS),
    `${name}_rel16`,
    `${name}_rel32_32`,
    `${name}_rel32_64`,
  ];
}

/** Operand-size × counter-size forms of LOOPcc. */
function loopCodes(name: string): string[] {
  return [
    ...["16_CX", "32_CX", "16_ECX", "32_ECX", "64_ECX", "16_RCX", "64_RCX"]
      .map((suffix) => `${name}_rel8_${suffix}`),
  ];
}

const SUFFIX = { 8: "b", 16: "w", 32: "d", 64: "q" } as const;

/** One row per element size: byte, word, doubleword, quadword. */
function strings(
  name: string,
  code: (size: Size) => string,
  make: (size: Size) => EmitFunction,
): Row[] {
  return ALL.map((size) => ({
    name: name + SUFFIX[size].toUpperCase(),
    variant: "string",
    codes: [name[0] + name.slice(1).toLowerCase() + SUFFIX[size] + code(size)],
    emit: make(size),
    manual: `SDM 2 ${name}`,
  }));
}

const near = (
  name: string,
  variant: string,
  codes: readonly string[],
  emit: EmitFunction,
): Row => ({
  name,
  variant,
  codes,
  emit,
  endsBlock: true,
  manual: `SDM 2 ${name}`,
});

/** See the file header. */
export const CONTROL_ROWS: readonly Row[] = [
  ...CONDITIONS.map((cc, i): Row =>
    near(`J${cc.toUpperCase()}`, "near", relative(`J${cc}`), control.jcc(i))
  ),
  near("JMP", "relative", relative("Jmp"), control.jmpRelative),
  near("JMP", "indirect", sized("Jmp_rm{}", WORDS), control.jmpIndirect),
  near("CALL", "rel16", ["Call_rel16"], control.callRelative(16)),
  near("CALL", "rel32", ["Call_rel32_32"], control.callRelative(32)),
  near("CALL", "rel64", ["Call_rel32_64"], control.callRelative(64)),
  near("CALL", "indirect", sized("Call_rm{}", WORDS), control.callIndirect),
  ...([[16, "w"], [32, "d"], [64, "q"]] as const).flatMap(([size, s]) => [
    near("RET", `near ${size}`, [`Retn${s}`], control.ret(size, false)),
    near(
      "RET",
      `near ${size} imm`,
      [`Retn${s}_imm16`],
      control.ret(size, true),
    ),
  ]),
  near("LOOP", "near", loopCodes("Loop"), control.loop("always")),
  near("LOOPE", "near", loopCodes("Loope"), control.loop("equal")),
  near("LOOPNE", "near", loopCodes("Loopne"), control.loop("notEqual")),
  near("JRCXZ", "near", [
    "Jcxz_rel8_16",
    "Jcxz_rel8_32",
    "Jecxz_rel8_16",
    "Jecxz_rel8_32",
    "Jecxz_rel8_64",
    "Jrcxz_rel8_16",
    "Jrcxz_rel8_64",
  ], control.jrcxz),
  {
    name: "BOUND",
    codes: ["Bound_r16_m1616", "Bound_r32_m3232"],
    emit: control.bound,
    legacyOnly: true,
    manual: "SDM 2A BOUND",
  },
  ...strings("MOVS", (s) => `_m${s}_m${s}`, string.movs),
  ...strings("CMPS", (s) => `_m${s}_m${s}`, string.cmps),
  ...strings("STOS", (s) => `_m${s}_${accumulator(s)}`, string.stos),
  ...strings("LODS", (s) => `_${accumulator(s)}_m${s}`, string.lods),
  ...strings("SCAS", (s) => `_${accumulator(s)}_m${s}`, string.scas),
];
