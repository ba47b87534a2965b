/**
 * Rows of the integer arithmetic, logic, multiply, divide, shift, rotate and
 * decimal instructions (SDM vol. 1 §7.3.2–7.3.6).
 */
import * as arithmetic from "../../semantics/arithmetic.ts";
import * as decimal from "../../semantics/decimal.ts";
import * as logic from "../../semantics/logic.ts";
import * as multiply from "../../semantics/multiply.ts";
import * as shift from "../../semantics/shift.ts";
import type { EmitFunction } from "../emitter.ts";
import type { Row } from "../row.ts";
import { sized, WIDE, WORDS } from "./names.ts";

/** The nine encodings of a two-operand ALU instruction. */
function alu(name: string, emit: EmitFunction, lockable = true): Row {
  const n = name[0] + name.slice(1).toLowerCase();
  return {
    name,
    codes: [
      ...sized(`${n}_rm{}_r{}`),
      ...sized(`${n}_r{}_rm{}`),
      `${n}_AL_imm8`,
      `${n}_AX_imm16`,
      `${n}_EAX_imm32`,
      `${n}_RAX_imm32`,
      `${n}_rm8_imm8`,
      `${n}_rm8_imm8_82`,
      ...sized(`${n}_rm{}_imm8`, WORDS),
      `${n}_rm16_imm16`,
      `${n}_rm32_imm32`,
      `${n}_rm64_imm32`,
    ],
    emit,
    lockable,
    manual: `SDM 2 ${name}`,
  };
}

/** D0–D3, C0, C1: by one, by CL, by an immediate. */
function shiftRows(
  name: string,
  make: (from: shift.Count) => EmitFunction,
  alias: string[] = [],
): Row[] {
  const prefixes = [name[0] + name.slice(1).toLowerCase(), ...alias];
  const manual = `SDM 2B ${name}`;
  return [
    {
      name,
      variant: "1",
      codes: prefixes.flatMap((n) => sized(`${n}_rm{}_1`)),
      emit: make("one"),
      manual,
    },
    {
      name,
      codes: prefixes.flatMap((n) => [
        ...sized(`${n}_rm{}_CL`),
        ...sized(`${n}_rm{}_imm8`),
      ]),
      emit: make("operand"),
      manual,
    },
  ];
}

/** See the file header. */
export const INTEGER_ROWS: readonly Row[] = [
  alu("ADD", arithmetic.add),
  alu("OR", logic.or),
  alu("ADC", arithmetic.adc),
  alu("SBB", arithmetic.sbb),
  alu("AND", logic.and),
  alu("SUB", arithmetic.sub),
  alu("XOR", logic.xor),
  alu("CMP", arithmetic.cmp, false),
  {
    name: "TEST",
    codes: [
      ...sized("Test_rm{}_r{}"),
      "Test_AL_imm8",
      "Test_AX_imm16",
      "Test_EAX_imm32",
      "Test_RAX_imm32",
      "Test_rm8_imm8",
      "Test_rm8_imm8_F6r1",
      "Test_rm16_imm16",
      "Test_rm32_imm32",
      "Test_rm64_imm32",
      "Test_rm16_imm16_F7r1",
      "Test_rm32_imm32_F7r1",
      "Test_rm64_imm32_F7r1",
    ],
    emit: logic.test,
    manual: "SDM 2B TEST",
  },
  {
    name: "NOT",
    codes: sized("Not_rm{}"),
    emit: logic.not,
    lockable: true,
    manual: "SDM 2B NOT",
  },
  {
    name: "NEG",
    codes: sized("Neg_rm{}"),
    emit: arithmetic.neg,
    lockable: true,
    manual: "SDM 2B NEG",
  },
  {
    name: "INC",
    codes: [...sized("Inc_rm{}"), "Inc_r16", "Inc_r32"],
    emit: arithmetic.inc,
    lockable: true,
    manual: "SDM 2A INC",
  },
  {
    name: "DEC",
    codes: [...sized("Dec_rm{}"), "Dec_r16", "Dec_r32"],
    emit: arithmetic.dec,
    lockable: true,
    manual: "SDM 2A DEC",
  },
  {
    name: "XADD",
    codes: sized("Xadd_rm{}_r{}"),
    emit: arithmetic.xadd,
    lockable: true,
    manual: "SDM 2D XADD",
  },
  {
    name: "CMPXCHG",
    codes: sized("Cmpxchg_rm{}_r{}"),
    emit: arithmetic.cmpxchg,
    lockable: true,
    manual: "SDM 2A CMPXCHG",
  },
  {
    name: "CMPXCHG8B",
    codes: ["Cmpxchg8b_m64"],
    emit: arithmetic.cmpxchg8b,
    lockable: true,
    feature: "cx8",
    manual: "SDM 2A CMPXCHG8B/CMPXCHG16B",
  },
  {
    name: "ADCX",
    codes: sized("Adcx_r{}_rm{}", WIDE),
    emit: arithmetic.adcx,
    feature: "adx",
    manual: "SDM 2A ADCX",
  },
  {
    name: "ADOX",
    codes: sized("Adox_r{}_rm{}", WIDE),
    emit: arithmetic.adox,
    feature: "adx",
    manual: "SDM 2A ADOX",
  },
  {
    name: "MUL",
    codes: sized("Mul_rm{}"),
    emit: multiply.mul,
    manual: "SDM 2B MUL",
  },
  {
    name: "IMUL",
    variant: "1 operand",
    codes: sized("Imul_rm{}"),
    emit: multiply.imul1,
    manual: "SDM 2A IMUL",
  },
  {
    name: "IMUL",
    variant: "2 operands",
    codes: sized("Imul_r{}_rm{}", WORDS),
    emit: multiply.imul2,
    manual: "SDM 2A IMUL",
  },
  {
    name: "IMUL",
    variant: "3 operands",
    codes: [
      ...sized("Imul_r{}_rm{}_imm8", WORDS),
      "Imul_r16_rm16_imm16",
      "Imul_r32_rm32_imm32",
      "Imul_r64_rm64_imm32",
    ],
    emit: multiply.imul3,
    manual: "SDM 2A IMUL",
  },
  {
    name: "MULX",
    codes: sized("VEX_Mulx_r{}_r{}_rm{}", WIDE),
    emit: multiply.mulx,
    feature: "bmi2",
    manual: "SDM 2B MULX",
  },
  {
    name: "DIV",
    codes: sized("Div_rm{}"),
    emit: multiply.div,
    manual: "SDM 2A DIV",
  },
  {
    name: "IDIV",
    codes: sized("Idiv_rm{}"),
    emit: multiply.idiv,
    manual: "SDM 2A IDIV",
  },
  ...shiftRows("ROL", shift.rol),
  ...shiftRows("ROR", shift.ror),
  ...shiftRows("RCL", shift.rcl),
  ...shiftRows("RCR", shift.rcr),
  ...shiftRows("SHL", shift.shl, ["Sal"]),
  ...shiftRows("SHR", shift.shr),
  ...shiftRows("SAR", shift.sar),
  {
    name: "SHLD",
    codes: [
      ...sized("Shld_rm{}_r{}_imm8", WORDS),
      ...sized("Shld_rm{}_r{}_CL", WORDS),
    ],
    emit: shift.shld,
    manual: "SDM 2B SHLD",
  },
  {
    name: "SHRD",
    codes: [
      ...sized("Shrd_rm{}_r{}_imm8", WORDS),
      ...sized("Shrd_rm{}_r{}_CL", WORDS),
    ],
    emit: shift.shrd,
    manual: "SDM 2B SHRD",
  },
  ...[
    { name: "RORX", pattern: "VEX_Rorx_r{}_rm{}_imm8", emit: shift.rorx },
    { name: "SHLX", pattern: "VEX_Shlx_r{}_rm{}_r{}", emit: shift.shlx },
    { name: "SHRX", pattern: "VEX_Shrx_r{}_rm{}_r{}", emit: shift.shrx },
    { name: "SARX", pattern: "VEX_Sarx_r{}_rm{}_r{}", emit: shift.sarx },
  ].map(({ name, pattern, emit }): Row => ({
    name,
    codes: sized(pattern, WIDE),
    emit,
    feature: "bmi2",
    manual: `SDM 2B ${name}`,
  })),
  ...[
    { name: "DAA", emit: decimal.decimalAdjust("add") },
    { name: "DAS", emit: decimal.decimalAdjust("subtract") },
    { name: "AAA", emit: decimal.asciiAdjust("add") },
    { name: "AAS", emit: decimal.asciiAdjust("subtract") },
  ].map(({ name, emit }): Row => ({
    name,
    codes: [name[0] + name.slice(1).toLowerCase()],
    emit,
    legacyOnly: true,
    manual: `SDM 2A ${name}`,
  })),
  {
    name: "AAM",
    codes: ["Aam_imm8"],
    emit: decimal.aam,
    legacyOnly: true,
    manual: "SDM 2A AAM",
  },
  {
    name: "AAD",
    codes: ["Aad_imm8"],
    emit: decimal.aad,
    legacyOnly: true,
    manual: "SDM 2A AAD",
  },
];
