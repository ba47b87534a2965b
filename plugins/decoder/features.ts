/**
 * What a CPU model means to iced-x86: decoder options, and for codes without a
 * row of ours, whether the model has them at all (then they are NotModelled)
 * or not (then they are #UD).
 */
import { CpuidFeature, DecoderOptions } from "iced-x86";
import type { Feature } from "../../cpu/arch/cpuid.ts";
import type { CpuModel } from "../../cpu/arch/models.ts";

/**
 * Decoder options for a model. Where a prefix makes another instruction on
 * newer processors, a model without it gets the old meaning (SDM 2 LZCNT, TZCNT).
 */
export function decoderOptions(model: CpuModel): number {
  let options: number = DecoderOptions.None;
  if (model.vendor === "AuthenticAMD") options |= DecoderOptions.AMD;
  if (!model.has("bmi1")) options |= DecoderOptions.NoMPFX_0FBC;
  if (!model.has("abm")) options |= DecoderOptions.NoMPFX_0FBD;
  if (!model.has("wbnoinvd")) options |= DecoderOptions.NoWbnoinvd;
  if (!model.has("lahf-lm")) options |= DecoderOptions.NoLahfSahf64;
  if (model.has("mpx")) options |= DecoderOptions.MPX;
  if (model.has("pcommit")) options |= DecoderOptions.Pcommit;
  return options;
}

/** iced-x86 feature → ours; `true`: every model has it. Absent: no model has it. */
const KNOWN: Readonly<Record<string, Feature | true>> = {
  INTEL8086: true,
  INTEL186: true,
  INTEL286: true,
  INTEL386: true,
  INTEL486: true,
  CPUID: true,
  PAUSE: true,
  MULTIBYTENOP: true,
  PREFETCHW: true,
  RDPMC: true,
  SMM: true,
  FPU: "fpu",
  FPU287: "fpu",
  FPU387: "fpu",
  X64: "lm",
  ADX: "adx",
  AES: "aes",
  AVX: "avx",
  AVX2: "avx2",
  AVX512F: "avx512f",
  BMI1: "bmi1",
  BMI2: "bmi2",
  CET_IBT: "ibt",
  CET_SS: "shstk",
  CLFLUSHOPT: "clflushopt",
  CLFSH: "clflush",
  CLWB: "clwb",
  CLZERO: "clzero",
  CMOV: "cmov",
  CMPXCHG16B: "cx16",
  CX8: "cx8",
  D3NOW: "3dnow",
  D3NOWEXT: "3dnowext",
  F16C: "f16c",
  FMA: "fma",
  FSGSBASE: "fsgsbase",
  FXSR: "fxsr",
  GFNI: "gfni",
  HLE: "hle",
  INVEPT: "vmx",
  INVPCID: "invpcid",
  INVVPID: "vmx",
  LZCNT: "abm",
  MMX: "mmx",
  MONITOR: "monitor",
  MOVBE: "movbe",
  MOVDIR64B: "movdir64b",
  MOVDIRI: "movdiri",
  MPX: "mpx",
  MSR: "msr",
  PCLMULQDQ: "pclmulqdq",
  PCOMMIT: "pcommit",
  PKU: "pku",
  POPCNT: "popcnt",
  RDPID: "rdpid",
  RDPRU: "rdpru",
  RDRAND: "rdrand",
  RDSEED: "rdseed",
  RDTSCP: "rdtscp",
  RTM: "rtm",
  SEP: "sep",
  SERIALIZE: "serialize",
  SHA: "sha-ni",
  SKINIT: "skinit",
  SKINIT_or_SVM: "svm",
  SMAP: "smap",
  SMX: "smx",
  SSE: "sse",
  SSE2: "sse2",
  SSE3: "pni",
  SSE4_1: "sse4.1",
  SSE4_2: "sse4.2",
  SSE4A: "sse4a",
  SSSE3: "ssse3",
  SVM: "svm",
  SYSCALL: "syscall",
  TBM: "tbm",
  TSC: "tsc",
  VMX: "vmx",
  WAITPKG: "waitpkg",
  WBNOINVD: "wbnoinvd",
  XSAVE: "xsave",
  XSAVEC: "xsavec",
  XSAVEOPT: "xsaveopt",
  XSAVES: "xsaves",
};

/** Whether `model` has every feature that a code needs. */
export function modelHasAll(
  model: CpuModel,
  features: ArrayLike<number>,
): boolean {
  for (let i = 0; i < features.length; i++) {
    const ours = KNOWN[CpuidFeature[features[i]]];
    if (ours === undefined) return false;
    if (ours !== true && !model.has(ours)) return false;
  }
  return true;
}
