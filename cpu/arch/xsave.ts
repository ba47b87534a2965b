/**
 * XSAVE state components as data (SDM vol. 1 §13.1–13.5; APM 2 §11.5.2): which
 * a model has, and where each lies in the standard and the compacted format.
 * CPUID leaf 0DH, XSETBV and the XSAVE instructions all follow from this table.
 *
 * AVX and later components are shown by no model.
 */
import type { Feature } from "./cpuid.ts";
import type { CpuModel } from "./models.ts";

/** Bits of XCR0, IA32_XSS and of the masks in an XSAVE header. */
export const XState = { X87: 1 << 0, SSE: 1 << 1, PKRU: 1 << 9 } as const;

/** Bytes of legacy region and header. */
export const XSAVE_EXTENDED = 576;
/** Offset of the header: XSTATE_BV, XCOMP_BV, 48 reserved bytes. */
export const XSAVE_HEADER = 512;

/** One component of the extended region. */
export interface XsaveComponent {
  /** Bit number in the masks. */
  readonly index: number;
  readonly feature: Feature;
  readonly size: number;
  /** In the standard format, as processors of each vendor have it. */
  readonly standard: { readonly intel: number; readonly amd: number };
  /** Starts on a 64-byte boundary in the compacted format. */
  readonly aligned: boolean;
  /** Enabled by IA32_XSS instead of XCR0. */
  readonly supervisor: boolean;
}

/** The extended components, in order. */
export const XSAVE_COMPONENTS: readonly XsaveComponent[] = [
  {
    index: 9,
    feature: "pku",
    size: 8,
    standard: { intel: 0xa80, amd: 0x340 },
    aligned: false,
    supervisor: false,
  },
];

function extended(model: CpuModel, supervisor: boolean): number {
  let mask = 0;
  for (const c of XSAVE_COMPONENTS) {
    if (c.supervisor === supervisor && model.has(c.feature)) {
      mask |= 1 << c.index;
    }
  }
  return mask;
}

/** Bits that XCR0 may have. */
export function supportedXcr0(model: CpuModel): number {
  return XState.X87 | XState.SSE | extended(model, false);
}

/** Bits that IA32_XSS may have. */
export function supportedXss(model: CpuModel): number {
  return extended(model, true);
}

/** Offset of a component in the standard format. */
export function standardOffset(model: CpuModel, c: XsaveComponent): number {
  return model.vendor === "GenuineIntel" ? c.standard.intel : c.standard.amd;
}

/** Offset of component `index` in a compacted area with the components of `mask`. */
export function compactedOffset(mask: number, index: number): number {
  let at = XSAVE_EXTENDED;
  for (const c of XSAVE_COMPONENTS) {
    if (!(mask & 1 << c.index)) continue;
    if (c.aligned) at = Math.ceil(at / 64) * 64;
    if (c.index === index) return at;
    at += c.size;
  }
  return at;
}

/** Bytes of an area with the components of `mask`. */
export function xsaveSize(
  model: CpuModel,
  mask: number,
  compacted: boolean,
): number {
  if (compacted) return compactedOffset(mask, -1);
  let end = XSAVE_EXTENDED;
  for (const c of XSAVE_COMPONENTS) {
    if (mask & 1 << c.index) {
      end = Math.max(end, standardOffset(model, c) + c.size);
    }
  }
  return end;
}
