/**
 * Random state, masks and areas for the XSAVE family and XGETBV (SDM vol. 1
 * ch. 13). The recording processor has components that no model of ours shows:
 * masks and headers never name one of them, so that what is judged is x87, SSE,
 * the header and its rules.
 * Invariant: nothing here looks at what the CPU answers.
 */
import { DATA, PAGE_SIZE, READ_ONLY } from "../../tests/silicon/environment.ts";
import type { Draft, Work } from "./cases.ts";
import { put } from "./put.ts";
import { littleEndian, type Random } from "./random.ts";

/** The instructions with an XSAVE area (iced's mnemonics). */
export const XSAVE_AREA = /^(Xsave|Xrstor)(opt|c)?(64)?$/;
/** Legacy region and header; no component of ours lies behind them. */
export const AREA_BYTES = 576;
const HEADER = 512;
/** The area's boundary. */
const ALIGNMENT = 64;
const RAX = 0, RCX = 1, RDX = 2;
const LOW_HALF = 0xffff_ffffn;
const AC = 0x40000;

/** XCR0's bits of the recording processor beyond x87 and SSE (CPUID 0DH). */
const FOREIGN = 0x600e4n;
/** Components that neither processor enables: in EDX:EAX without effect. */
const ABSENT = [3, 4, 8, 9, 10, 16, 19, 31];

/** Whether EAX names a component that only the host has. */
export function namesForeign(d: Draft): boolean {
  return XSAVE_AREA.test(d.form.mnemonic) &&
    (d.before.gpr[RAX] & FOREIGN) !== 0n;
}

/** Where an area goes: mostly on its boundary in the data page. */
export function areaAddress(rng: Random): bigint {
  const dice = rng.below(100);
  const lines = (PAGE_SIZE - AREA_BYTES) / ALIGNMENT;
  const inside = ALIGNMENT * rng.below(lines + 1);
  if (dice < 5) return BigInt(DATA + inside + 1 + rng.below(63));
  // Its end, and at times its header, lies in no page.
  if (dice < 9) {
    const last = 1 + rng.below(AREA_BYTES / ALIGNMENT - 1);
    return BigInt(DATA + PAGE_SIZE - ALIGNMENT * last);
  }
  if (dice < 12) return BigInt(READ_ONLY + inside);
  if (dice < 15) return BigInt(DATA + 0x5000 + inside);
  if (dice < 17) return 0x0000_9000_0000_0000n + BigInt(inside);
  return BigInt(DATA + inside);
}

function x87(w: Work): void {
  const { rng, state: { fpu } } = w;
  if (rng.chance(40)) return;
  const flags = rng.chance(70) ? 0 : rng.below(0x80);
  fpu.fcw = rng.chance(50) ? 0x37f : (rng.below(0x1000) & 0xf3f) | 0x40;
  // ES and B follow from the unmasked exceptions (SDM vol. 1 §8.1.3).
  const pending = (flags & ~fpu.fcw & 0x3f) !== 0;
  fpu.fsw = flags | (rng.chance(50) ? 0 : rng.below(256) << 8 & 0x7f00) |
    (pending ? 0x8080 : 0);
  fpu.ftw = rng.chance(50) ? 0 : rng.below(256);
  if (rng.chance(50)) {
    fpu.st[rng.below(8)] = 0x3fff_8000_0000_0000_0000n + (rng.u64() >> 1n);
  }
  if (rng.chance(30)) {
    fpu.fip = rng.u64() & 0x7fff_ffff_ffffn;
    fpu.fdp = rng.u64() & 0x7fff_ffff_ffffn;
    fpu.fop = rng.below(0x800);
  }
}

function sse(w: Work): void {
  const { rng, state: { fpu } } = w;
  if (rng.chance(50)) fpu.mxcsr = 0x1f80 ^ (rng.below(0x10000) & 0xe07f);
  if (rng.chance(55)) {
    fpu.xmm[rng.below(16)] = (rng.u64() << 64n) | rng.u64();
  }
}

/** Registers and EDX:EAX of an instruction of the family. */
export function xsaveState(w: Work): void {
  const { rng, state, pinned } = w;
  x87(w);
  sse(w);
  let mask = BigInt(rng.pick([0, 1, 1, 2, 2, 3, 3, 3, 3]));
  if (rng.chance(25)) mask |= 1n << BigInt(rng.pick(ABSENT));
  if (!pinned.has(RAX)) {
    state.gpr[RAX] = rng.chance(20) ? rng.u64() & ~LOW_HALF | mask : mask;
  }
  // Alignment checking decides between #AC and #GP.
  const off = w.effectiveAddress! % BigInt(ALIGNMENT) !== 0n;
  if (off && rng.chance(60)) state.rflags |= AC;
  // XCR0 has no bit there.
  if (!pinned.has(RDX)) state.gpr[RDX] = rng.chance(30) ? rng.u64() : 0n;
}

/** ECX of XGETBV: XCR0, XCR0 & XINUSE, or no register. */
export function xgetbvState(w: Work): void {
  const { rng, state } = w;
  x87(w);
  sse(w);
  const index = rng.chance(60) ? 1n : rng.chance(50) ? 0n : BigInt(
    2 + rng.below(1000),
  );
  state.gpr[RCX] = rng.u64() & ~LOW_HALF | index;
}

/** XSTATE_BV or XCOMP_BV: of x87 and SSE, rarely with an absent component. */
function components(rng: Random): bigint {
  const bits = BigInt(rng.pick([0, 1, 2, 3, 3]));
  return rng.chance(8) ? bits | 1n << BigInt(rng.pick(ABSENT)) : bits;
}

function restored(rng: Random): Uint8Array {
  const image = new Uint8Array(AREA_BYTES);
  const set = (at: number, value: bigint, bytes: number): void =>
    image.set(littleEndian(value, bytes), at);
  if (rng.chance(70)) {
    set(0, rng.chance(50) ? 0x37fn : BigInt(rng.below(0x1000)) | 0x40n, 2);
    set(2, BigInt(rng.below(8) << 11 | (rng.chance(20) ? 1 : 0)), 2);
    image[4] = rng.below(256);
  }
  if (rng.chance(20)) set(6, BigInt(rng.below(0x10000)), 2);
  if (rng.chance(20)) set(8, rng.u64() & 0x7fff_ffff_ffffn, 8);
  if (rng.chance(20)) set(16, rng.u64() & 0x7fff_ffff_ffffn, 8);
  const mxcsr = rng.chance(6) ? rng.u32() : rng.below(0x10000);
  if (rng.chance(80)) set(24, BigInt(mxcsr), 4);
  if (rng.chance(60)) {
    const st = 0x3fff_8000_0000_0000_0000n + rng.u64() / 2n;
    set(32 + 16 * rng.below(8), st, 10);
  }
  if (rng.chance(60)) image.set(rng.bytes(16), 160 + 16 * rng.below(16));
  set(HEADER, components(rng), 8);
  if (rng.chance(35)) set(HEADER + 8, 1n << 63n | components(rng) | 2n, 8);
  else if (rng.chance(12)) {
    // Without bit 63 any bit is wrong; with it, those outside XCR0 are.
    set(HEADER + 8, rng.chance(50) ? components(rng) : 1n << 63n, 8);
  }
  if (rng.chance(12)) image[HEADER + 16 + rng.below(48)] = 1 + rng.below(255);
  return image;
}

/** What lay there before: some of it must stay. */
function background(rng: Random): Uint8Array {
  const image = new Uint8Array(AREA_BYTES);
  for (let i = 0; i < 3; i++) {
    image.set(
      littleEndian(rng.u64(), 6),
      rng.pick([rng.below(26), 32 + rng.below(120), 160 + rng.below(300)]),
    );
  }
  if (rng.chance(50)) image.set(littleEndian(rng.u64(), 8), HEADER);
  if (rng.chance(30)) image.set(littleEndian(rng.u64(), 8), HEADER + 8);
  if (rng.chance(30)) image[HEADER + 16 + rng.below(48)] = 0x5a;
  return image;
}

/** Fills the area. */
export function xsaveContents(w: Work): void {
  const { rng, form } = w;
  const loads = form.mnemonic.startsWith("Xrstor");
  put(w, w.effectiveAddress!, loads ? restored(rng) : background(rng));
}
