/**
 * Rows of SSE3 moves, SSSE3, SSE4.1, SSE4.2, AES-NI, PCLMULQDQ and SHA: integer
 * and shuffling ones (SDM vol. 2). Code names are made from the mnemonic and
 * the shape.
 * Invariant: one row per mnemonic and register file; none raises #XM.
 */
import type { Feature } from "../../arch/cpuid.ts";
import * as crypto from "../../semantics/simd/crypto.ts";
import * as lanes from "../../semantics/simd/lanes_sse4.ts";
import { Align } from "../../semantics/simd/operands.ts";
import {
  blendByRegister,
  combine,
  extract,
  insert,
  insertFloat,
  maskedStore,
  move,
  sha256TwoRounds,
  testBits,
} from "../../semantics/simd/shapes.ts";
import { compareStrings } from "../../semantics/simd/strings.ts";
import type { CallFunction, Row } from "../row.ts";

const stem = (name: string): string => name[0] + name.slice(1).toLowerCase();

function row(
  name: string,
  variant: string,
  shapes: readonly string[],
  call: CallFunction,
  feature: Feature,
): Row {
  const codes = shapes.map((shape) => `${stem(name)}_${shape}`);
  return { name, variant, codes, call, feature, manual: `SDM 2 ${name}` };
}

const WHOLE = ["xmm_xmmm128"], IMM = ["xmm_xmmm128_imm8"];

function tabled(): Row[] {
  const rows: Row[] = [];
  for (const [name, f] of lanes.SSSE3) {
    rows.push(row(name, "mm", ["mm_mmm64"], combine(f), "ssse3"));
    rows.push(row(name, "xmm", WHOLE, combine(f), "ssse3"));
  }
  for (const [name, f] of lanes.SSE4) {
    rows.push(row(name, "xmm", WHOLE, combine(f), "sse4.1"));
  }
  for (const [suffix, bits, signed, unsigned] of lanes.WIDENINGS) {
    const shape = [`xmm_xmmm${bits}`];
    const sx = combine(signed), zx = combine(unsigned);
    rows.push(row(`PMOVSX${suffix}`, "xmm", shape, sx, "sse4.1"));
    rows.push(row(`PMOVZX${suffix}`, "xmm", shape, zx, "sse4.1"));
  }
  for (const [name, bits, f] of lanes.DUPLICATES) {
    rows.push(row(name, "xmm", [`xmm_xmmm${bits}`], combine(f), "pni"));
  }
  for (const [name, f] of crypto.AES) {
    rows.push(row(name, "xmm", WHOLE, combine(f), "aes"));
  }
  for (const [name, f] of crypto.SHA) {
    rows.push(row(name, "xmm", WHOLE, combine(f, Align.Intel), "sha-ni"));
  }
  return rows;
}

/** See the file header. */
export const SIMD_SSE4_ROWS: readonly Row[] = [
  ...tabled(),
  row("MASKMOVQ", "mm", ["rDI_mm_mm"], maskedStore, "sse"),
  row("MASKMOVDQU", "xmm", ["rDI_xmm_xmm"], maskedStore, "sse2"),
  row("LDDQU", "xmm", ["xmm_m128"], move(Align.None), "pni"),
  row("MOVNTDQA", "xmm", ["xmm_m128"], move(Align.Strict), "sse4.1"),
  row("PALIGNR", "mm", ["mm_mmm64_imm8"], combine(lanes.PALIGNR), "ssse3"),
  row("PALIGNR", "xmm", IMM, combine(lanes.PALIGNR), "ssse3"),
  row("PCMPGTQ", "xmm", WHOLE, combine(lanes.PCMPGTQ), "sse4.2"),
  row("MPSADBW", "xmm", IMM, combine(lanes.MPSADBW), "sse4.1"),
  row("PBLENDW", "xmm", IMM, combine(lanes.blend(2)), "sse4.1"),
  row("BLENDPS", "xmm", IMM, combine(lanes.blend(4)), "sse4.1"),
  row("BLENDPD", "xmm", IMM, combine(lanes.blend(8)), "sse4.1"),
  row("PBLENDVB", "xmm", WHOLE, blendByRegister(1), "sse4.1"),
  row("BLENDVPS", "xmm", WHOLE, blendByRegister(4), "sse4.1"),
  row("BLENDVPD", "xmm", WHOLE, blendByRegister(8), "sse4.1"),
  row("PTEST", "xmm", WHOLE, testBits, "sse4.1"),
  row("INSERTPS", "xmm", ["xmm_xmmm32_imm8"], insertFloat, "sse4.1"),
  row(
    "EXTRACTPS",
    "xmm",
    ["rm32_xmm_imm8", "r64m32_xmm_imm8"],
    extract(4),
    "sse4.1",
  ),
  row(
    "PEXTRB",
    "xmm",
    ["r32m8_xmm_imm8", "r64m8_xmm_imm8"],
    extract(1),
    "sse4.1",
  ),
  row(
    "PEXTRW",
    "sse4.1",
    ["r32m16_xmm_imm8", "r64m16_xmm_imm8"],
    extract(2),
    "sse4.1",
  ),
  row("PEXTRD", "xmm", ["rm32_xmm_imm8"], extract(4), "sse4.1"),
  row("PEXTRQ", "xmm", ["rm64_xmm_imm8"], extract(8), "sse4.1"),
  row(
    "PINSRB",
    "xmm",
    ["xmm_r32m8_imm8", "xmm_r64m8_imm8"],
    insert(1),
    "sse4.1",
  ),
  row("PINSRD", "xmm", ["xmm_rm32_imm8"], insert(4), "sse4.1"),
  row("PINSRQ", "xmm", ["xmm_rm64_imm8"], insert(8), "sse4.1"),
  ...(["index", "mask"] as const).flatMap((result) => {
    const letter = result === "index" ? "I" : "M";
    const explicit = `PCMPESTR${letter}`, implicit = `PCMPISTR${letter}`;
    const wide = compareStrings("wide", result);
    return [
      row(explicit, "32", IMM, compareStrings("explicit", result), "sse4.2"),
      {
        ...row(explicit, "64", [], wide, "sse4.2"),
        codes: [`${stem(explicit)}64_xmm_xmmm128_imm8`],
      },
      row(implicit, "xmm", IMM, compareStrings("implicit", result), "sse4.2"),
    ];
  }),
  row("AESKEYGENASSIST", "xmm", IMM, combine(crypto.AESKEYGENASSIST), "aes"),
  row("PCLMULQDQ", "xmm", IMM, combine(crypto.PCLMULQDQ), "pclmulqdq"),
  row(
    "SHA1RNDS4",
    "xmm",
    IMM,
    combine(crypto.SHA1RNDS4, Align.Intel),
    "sha-ni",
  ),
  row("SHA256RNDS2", "xmm", WHOLE, sha256TwoRounds, "sha-ni"),
];
