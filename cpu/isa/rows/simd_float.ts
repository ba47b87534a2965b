/**
 * Rows of SSE, SSE2, SSE3 and SSE4.1 floating-point arithmetic, comparison and
 * conversion (SDM vol. 2). Code names are made from the mnemonic and the shape.
 * Invariant: every instruction here may raise #XM, but RCP and RSQRT.
 */
import type { Feature } from "../../arch/cpuid.ts";
import * as a from "../../semantics/simd/float_arithmetic.ts";
import {
  type Conversion,
  convert,
} from "../../semantics/simd/float_convert.ts";
import type { CallFunction, Row } from "../row.ts";

/** `ADDPS` → `Addps`, as iced-x86 begins its codes. */
const stem = (name: string): string => name[0] + name.slice(1).toLowerCase();

function row(
  name: string,
  shapes: readonly string[],
  call: CallFunction,
  feature: Feature,
): Row {
  const codes = shapes.map((shape) => `${stem(name)}_${shape}`);
  return {
    name,
    variant: "xmm",
    codes,
    call,
    feature,
    manual: `SDM 2 ${name}`,
  };
}

/** Suffix of the mnemonic, shape, memory operand's size, feature. */
const TYPES = [
  ["SS", a.Shape.Scalar32, 32, "sse"],
  ["SD", a.Shape.Scalar64, 64, "sse2"],
  ["PS", a.Shape.Packed32, 128, "sse"],
  ["PD", a.Shape.Packed64, 128, "sse2"],
] as const;
const PACKED = [["PS", true], ["PD", false]] as const;

const ARITHMETIC = [
  ["ADD", a.ADD],
  ["SUB", a.SUBTRACT],
  ["MUL", a.MULTIPLY],
  ["DIV", a.DIVIDE],
  ["SQRT", a.SQUARE_ROOT],
  ["MIN", a.MINIMUM],
  ["MAX", a.MAXIMUM],
] as const;

function typedRows(): Row[] {
  const rows: Row[] = [];
  for (const [type, shape, memory, feature] of TYPES) {
    const plain = [`xmm_xmmm${memory}`], imm = [`xmm_xmmm${memory}_imm8`];
    for (const [name, op] of ARITHMETIC) {
      rows.push(row(name + type, plain, a.arithmetic(op, shape), feature));
    }
    rows.push(row(`CMP${type}`, imm, a.compareMask(shape), feature));
    rows.push(row(`ROUND${type}`, imm, a.round(shape), "sse4.1"));
  }
  for (const [type, single] of PACKED) {
    const plain = ["xmm_xmmm128"], imm = ["xmm_xmmm128_imm8"];
    const [add, sub] = [a.ADD, a.SUBTRACT].map((op) =>
      a.horizontal(op, single)
    );
    rows.push(
      row(`HADD${type}`, plain, add, "pni"),
      row(`HSUB${type}`, plain, sub, "pni"),
      row(`ADDSUB${type}`, plain, a.alternating(single), "pni"),
      row(`DP${type}`, imm, a.dotProduct(single), "sse4.1"),
    );
  }
  for (const [name, root] of [["RCP", false], ["RSQRT", true]] as const) {
    const [scalar, packed] = [a.Shape.Scalar32, a.Shape.Packed32];
    rows.push(
      row(`${name}SS`, ["xmm_xmmm32"], a.estimate(root, scalar), "sse"),
      row(`${name}PS`, ["xmm_xmmm128"], a.estimate(root, packed), "sse"),
    );
  }
  for (
    const [type, memory, feature] of [
      ["SS", 32, "sse"],
      ["SD", 64, "sse2"],
    ] as const
  ) {
    const plain = [`xmm_xmmm${memory}`], single = memory === 32;
    rows.push(
      row(`COMI${type}`, plain, a.compareFlags(single, false), feature),
      row(`UCOMI${type}`, plain, a.compareFlags(single, true), feature),
    );
  }
  return rows;
}

const FROM_GENERAL = ["xmm_rm32", "xmm_rm64"] as const;

/** Mnemonic, shape, feature, conversion. */
const CONVERSIONS: readonly (readonly [string, string, Feature, Conversion])[] =
  [
    ["CVTPI2PS", "xmm_mmm64", "sse", { from: "i32", to: "f32", count: 2 }],
    ["CVTPI2PD", "xmm_mmm64", "sse2", { from: "i32", to: "f64", count: 2 }],
    ["CVTPS2PI", "mm_xmmm64", "sse", { from: "f32", to: "i32", count: 2 }],
    ["CVTTPS2PI", "mm_xmmm64", "sse", {
      from: "f32",
      to: "i32",
      count: 2,
      truncate: true,
    }],
    ["CVTPD2PI", "mm_xmmm128", "sse2", { from: "f64", to: "i32", count: 2 }],
    ["CVTTPD2PI", "mm_xmmm128", "sse2", {
      from: "f64",
      to: "i32",
      count: 2,
      truncate: true,
    }],
    ["CVTDQ2PS", "xmm_xmmm128", "sse2", { from: "i32", to: "f32", count: 4 }],
    ["CVTPS2DQ", "xmm_xmmm128", "sse2", { from: "f32", to: "i32", count: 4 }],
    ["CVTTPS2DQ", "xmm_xmmm128", "sse2", {
      from: "f32",
      to: "i32",
      count: 4,
      truncate: true,
    }],
    ["CVTDQ2PD", "xmm_xmmm64", "sse2", { from: "i32", to: "f64", count: 2 }],
    ["CVTPD2DQ", "xmm_xmmm128", "sse2", {
      from: "f64",
      to: "i32",
      count: 2,
      clears: true,
    }],
    ["CVTTPD2DQ", "xmm_xmmm128", "sse2", {
      from: "f64",
      to: "i32",
      count: 2,
      clears: true,
      truncate: true,
    }],
    ["CVTPS2PD", "xmm_xmmm64", "sse2", { from: "f32", to: "f64", count: 2 }],
    ["CVTPD2PS", "xmm_xmmm128", "sse2", {
      from: "f64",
      to: "f32",
      count: 2,
      clears: true,
    }],
    ["CVTSS2SD", "xmm_xmmm32", "sse2", { from: "f32", to: "f64", count: 1 }],
    ["CVTSD2SS", "xmm_xmmm64", "sse2", { from: "f64", to: "f32", count: 1 }],
  ];

/** Conversions between a scalar and a general register: one row for each width. */
function generalRows(): Row[] {
  const rows: Row[] = [];
  for (
    const [suffix, from, memory, feature] of [
      ["SS", "f32", 32, "sse"],
      ["SD", "f64", 64, "sse2"],
    ] as const
  ) {
    for (
      const [bits, integer, shape] of [
        [32, "i32", FROM_GENERAL[0]],
        [64, "i64", FROM_GENERAL[1]],
      ] as const
    ) {
      const name = `CVTSI2${suffix}`, back = `${suffix}2SI`;
      const in_ = convert({ from: integer, to: from, count: 1 });
      rows.push({ ...row(name, [shape], in_, feature), variant: `r${bits}` });
      for (const truncate of [false, true]) {
        const call = convert({ from, to: integer, count: 1, truncate });
        const out = `CVT${truncate ? "T" : ""}${back}`;
        rows.push({
          ...row(out, [`r${bits}_xmmm${memory}`], call, feature),
          variant: `r${bits}`,
        });
      }
    }
  }
  return rows;
}

/** See the file header. */
export const SIMD_FLOAT_ROWS: readonly Row[] = [
  ...typedRows(),
  ...CONVERSIONS.map(([name, shape, feature, what]) =>
    row(name, [shape], convert(what), feature)
  ),
  ...generalRows(),
];
