/**
 * Rows of MMX, SSE and SSE2 data moves (SDM vol. 1 §10.4.1.1, §11.4.1, vol. 2).
 * Non-temporal hints have no effect on what is stored.
 * Invariant: one row per mnemonic and register file.
 */
import type { Feature } from "../../arch/cpuid.ts";
import { Align } from "../../semantics/simd/operands.ts";
import {
  move,
  moveHalf,
  moveQuad,
  moveScalar,
} from "../../semantics/simd/shapes.ts";
import type { CallFunction, Row } from "../row.ts";

function row(
  name: string,
  variant: string,
  codes: readonly string[],
  call: CallFunction,
  feature: Feature,
): Row {
  return { name, variant, codes, call, feature, manual: `SDM 2 ${name}` };
}

function whole(name: string, align: number, feature: Feature): Row {
  const stem = name[0] + name.slice(1).toLowerCase();
  const codes = [`${stem}_xmm_xmmm128`, `${stem}_xmmm128_xmm`];
  return row(name, "xmm", codes, move(align), feature);
}

function half(name: string, to: 0 | 2, feature: Feature): Row[] {
  const stem = name[0] + name.slice(1).toLowerCase();
  return [
    row(name, "load", [`${stem}_xmm_m64`], moveHalf(0, to), feature),
    row(name, "store", [`${stem}_m64_xmm`], moveHalf(to, 0), feature),
  ];
}

const strict = move(Align.Strict);

/** See the file header. */
export const SIMD_MOVE_ROWS: readonly Row[] = [
  whole("MOVAPS", Align.Strict, "sse"),
  whole("MOVAPD", Align.Strict, "sse2"),
  whole("MOVDQA", Align.Strict, "sse2"),
  whole("MOVUPS", Align.None, "sse"),
  whole("MOVUPD", Align.None, "sse2"),
  whole("MOVDQU", Align.None, "sse2"),
  row("MOVNTPS", "xmm", ["Movntps_m128_xmm"], strict, "sse"),
  row("MOVNTPD", "xmm", ["Movntpd_m128_xmm"], strict, "sse2"),
  row("MOVNTDQ", "xmm", ["Movntdq_m128_xmm"], strict, "sse2"),
  row("MOVNTQ", "mm", ["Movntq_m64_mm"], moveQuad, "sse"),
  row(
    "MOVSS",
    "xmm",
    ["Movss_xmm_xmmm32", "Movss_xmmm32_xmm"],
    moveScalar(1),
    "sse",
  ),
  row(
    "MOVSD",
    "xmm",
    ["Movsd_xmm_xmmm64", "Movsd_xmmm64_xmm"],
    moveScalar(2),
    "sse2",
  ),
  ...half("MOVLPS", 0, "sse"),
  ...half("MOVHPS", 2, "sse"),
  ...half("MOVLPD", 0, "sse2"),
  ...half("MOVHPD", 2, "sse2"),
  row("MOVHLPS", "xmm", ["Movhlps_xmm_xmm"], moveHalf(2, 0), "sse"),
  row("MOVLHPS", "xmm", ["Movlhps_xmm_xmm"], moveHalf(0, 2), "sse"),
  row("MOVD", "mm", ["Movd_mm_rm32", "Movd_rm32_mm"], moveQuad, "mmx"),
  row("MOVD", "xmm", ["Movd_xmm_rm32", "Movd_rm32_xmm"], moveQuad, "sse2"),
  row(
    "MOVQ",
    "mm",
    ["Movq_mm_rm64", "Movq_rm64_mm", "Movq_mm_mmm64", "Movq_mmm64_mm"],
    moveQuad,
    "mmx",
  ),
  row(
    "MOVQ",
    "xmm",
    ["Movq_xmm_rm64", "Movq_rm64_xmm", "Movq_xmm_xmmm64", "Movq_xmmm64_xmm"],
    moveQuad,
    "sse2",
  ),
  row("MOVQ2DQ", "xmm", ["Movq2dq_xmm_mm"], moveQuad, "sse2"),
  row("MOVDQ2Q", "mm", ["Movdq2q_mm_xmm"], moveQuad, "sse2"),
];
