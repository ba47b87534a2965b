/**
 * Rows of MMX, SSE and SSE2 integer, logical and shuffling instructions (SDM
 * vol. 2). Code names are made from the mnemonic and the shape.
 * Invariant: one row per mnemonic and register file; none raises #XM.
 */
import type { Feature } from "../../arch/cpuid.ts";
import * as lanes from "../../semantics/simd/lanes.ts";
import {
  combine,
  extract,
  insert,
  moveMask,
} from "../../semantics/simd/shapes.ts";
import type { CallFunction, Row } from "../row.ts";

/** `PADDB` → `Paddb`, as iced-x86 begins its codes. */
const stem = (name: string): string => name[0] + name.slice(1).toLowerCase();

function row(
  name: string,
  variant: "mm" | "xmm",
  shapes: readonly string[],
  call: CallFunction,
  feature: Feature,
): Row {
  const codes = shapes.map((shape) => `${stem(name)}_${shape}`);
  return { name, variant, codes, call, feature, manual: `SDM 2 ${name}` };
}

function integerRows(): Row[] {
  const rows: Row[] = [];
  for (const [name, mmx, f] of lanes.INTEGER) {
    const call = combine(f);
    if (mmx) rows.push(row(name, "mm", ["mm_mmm64"], call, mmx));
    rows.push(row(name, "xmm", ["xmm_xmmm128"], call, "sse2"));
  }
  for (const [name, f] of lanes.UNPACK_LOW) {
    rows.push(row(name, "mm", ["mm_mmm32"], combine(f), "mmx"));
    rows.push(row(name, "xmm", ["xmm_xmmm128"], combine(f), "sse2"));
  }
  for (const [name, f] of lanes.SHIFTS) {
    const call = combine(f);
    rows.push(row(name, "mm", ["mm_mmm64", "mm_imm8"], call, "mmx"));
    rows.push(row(name, "xmm", ["xmm_xmmm128", "xmm_imm8"], call, "sse2"));
  }
  for (const [name, f] of lanes.BYTE_SHIFTS) {
    rows.push(row(name, "xmm", ["xmm_imm8"], combine(f), "sse2"));
  }
  return rows;
}

function floatRows(): Row[] {
  const rows: Row[] = [];
  for (const [name, f] of lanes.FLOAT_MOVES) {
    for (const [type, feature] of [["PS", "sse"], ["PD", "sse2"]] as const) {
      rows.push(
        row(name + type, "xmm", ["xmm_xmmm128"], combine(f), feature),
      );
    }
  }
  for (const [name, f] of lanes.FLOAT_UNPACKS) {
    const feature = name.endsWith("PS") ? "sse" : "sse2";
    rows.push(row(name, "xmm", ["xmm_xmmm128"], combine(f), feature));
  }
  return rows;
}

const IMM = ["xmm_xmmm128_imm8"];

/** See the file header. */
export const SIMD_INTEGER_ROWS: readonly Row[] = [
  ...integerRows(),
  ...floatRows(),
  row("PSHUFW", "mm", ["mm_mmm64_imm8"], combine(lanes.PSHUFLW), "sse"),
  row("PSHUFD", "xmm", IMM, combine(lanes.PSHUFD), "sse2"),
  row("PSHUFLW", "xmm", IMM, combine(lanes.PSHUFLW), "sse2"),
  row("PSHUFHW", "xmm", IMM, combine(lanes.PSHUFHW), "sse2"),
  row("SHUFPS", "xmm", IMM, combine(lanes.SHUFPS), "sse"),
  row("SHUFPD", "xmm", IMM, combine(lanes.SHUFPD), "sse2"),
  row("PMOVMSKB", "mm", ["r32_mm", "r64_mm"], moveMask(1), "sse"),
  row("PMOVMSKB", "xmm", ["r32_xmm", "r64_xmm"], moveMask(1), "sse2"),
  row("MOVMSKPS", "xmm", ["r32_xmm", "r64_xmm"], moveMask(4), "sse"),
  row("MOVMSKPD", "xmm", ["r32_xmm", "r64_xmm"], moveMask(8), "sse2"),
  row("PEXTRW", "mm", ["r32_mm_imm8", "r64_mm_imm8"], extract(2), "sse"),
  row("PEXTRW", "xmm", ["r32_xmm_imm8", "r64_xmm_imm8"], extract(2), "sse2"),
  row("PINSRW", "mm", ["mm_r32m16_imm8", "mm_r64m16_imm8"], insert(2), "sse"),
  row(
    "PINSRW",
    "xmm",
    ["xmm_r32m16_imm8", "xmm_r64m16_imm8"],
    insert(2),
    "sse2",
  ),
];
