/**
 * Rows of the bit instructions (SDM vol. 1 §7.3.7; vol. 2 BT to LZCNT, BMI1,
 * BMI2, CRC32).
 */
import type { Feature } from "../../arch/cpuid.ts";
import * as bits from "../../semantics/bits.ts";
import type { EmitFunction } from "../emitter.ts";
import type { Row } from "../row.ts";
import { sized, WIDE, WORDS } from "./names.ts";

function bitTest(name: string, action: bits.BitAction): Row {
  const n = name[0] + name.slice(1).toLowerCase();
  return {
    name,
    codes: [
      ...sized(`${n}_rm{}_r{}`, WORDS),
      ...sized(`${n}_rm{}_imm8`, WORDS),
    ],
    emit: bits.bitTest(action),
    lockable: action !== "test",
    manual: `SDM 2A ${name}`,
  };
}

function scan(name: string, emit: EmitFunction, feature?: Feature): Row {
  const n = name[0] + name.slice(1).toLowerCase();
  return {
    name,
    codes: sized(`${n}_r{}_rm{}`, WORDS),
    emit,
    feature,
    manual: `SDM 2 ${name}`,
  };
}

function vex(
  name: string,
  pattern: string,
  emit: EmitFunction,
  feature: Feature,
): Row {
  return {
    name,
    codes: sized(`VEX_${pattern}`, WIDE),
    emit,
    feature,
    manual: `SDM 2 ${name}`,
  };
}

/** See the file header. */
export const BIT_ROWS: readonly Row[] = [
  bitTest("BT", "test"),
  bitTest("BTS", "set"),
  bitTest("BTR", "reset"),
  bitTest("BTC", "complement"),
  scan("BSF", bits.bsf),
  scan("BSR", bits.bsr),
  scan("TZCNT", bits.tzcnt, "bmi1"),
  scan("LZCNT", bits.lzcnt, "abm"),
  scan("POPCNT", bits.popcnt, "popcnt"),
  vex("ANDN", "Andn_r{}_r{}_rm{}", bits.andn, "bmi1"),
  vex("BEXTR", "Bextr_r{}_rm{}_r{}", bits.bextr, "bmi1"),
  vex("BLSI", "Blsi_r{}_rm{}", bits.blsi, "bmi1"),
  vex("BLSMSK", "Blsmsk_r{}_rm{}", bits.blsmsk, "bmi1"),
  vex("BLSR", "Blsr_r{}_rm{}", bits.blsr, "bmi1"),
  vex("BZHI", "Bzhi_r{}_rm{}_r{}", bits.bzhi, "bmi2"),
  vex("PDEP", "Pdep_r{}_r{}_rm{}", bits.pdep, "bmi2"),
  vex("PEXT", "Pext_r{}_r{}_rm{}", bits.pext, "bmi2"),
  {
    name: "CRC32",
    codes: [
      ...sized("Crc32_r32_rm{}", [8, 16, 32]),
      "Crc32_r64_rm8",
      "Crc32_r64_rm64",
    ],
    emit: bits.crc32,
    feature: "sse4.2",
    manual: "SDM 2A CRC32",
  },
];
