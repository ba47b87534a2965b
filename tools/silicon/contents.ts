/**
 * What lies in the explicit memory operand of a random case: plain values for
 * most, images that mean something for FXRSTOR, FLDENV, FRSTOR, far pointers,
 * selectors, and the compare-and-exchange family.
 * Invariant: a value is written only where a page is; the rest is the fault.
 */
import type { Work } from "./cases.ts";
import { put } from "./put.ts";
import { littleEndian, type Random } from "./random.ts";
import { codeTarget, selector } from "./shape.ts";
import { XSAVE_AREA, xsaveContents } from "./xsave_cases.ts";

const RAX = 0, RDX = 2;

function fxImage(rng: Random): Uint8Array {
  const image = new Uint8Array(512);
  image.set(
    littleEndian(
      rng.chance(50) ? 0x37fn : BigInt(rng.below(0x1000) & 0xf3f | 0x40),
      2,
    ),
  );
  image.set(littleEndian(BigInt(rng.below(8) << 11), 2), 2);
  image[4] = rng.below(256);
  const mxcsr = rng.chance(10) ? rng.u32() : rng.below(0x10000);
  image.set(littleEndian(BigInt(mxcsr), 4), 24);
  if (rng.chance(50)) {
    image.set(
      littleEndian(0x3fff_8000_0000_0000_0000n + rng.u64() / 2n, 10),
      32 + 16 * rng.below(8),
    );
  }
  if (rng.chance(50)) image.set(rng.bytes(16), 160 + 16 * rng.below(16));
  return image;
}

function environmentImage(rng: Random, length: number): Uint8Array {
  const image = new Uint8Array(length);
  const step = length === 14 || length === 94 ? 2 : 4;
  const control = BigInt(
    rng.chance(60) ? 0x37f : rng.below(0x1000) & 0xf3f | 0x40,
  );
  const status = BigInt(
    rng.below(8) << 11 | (rng.chance(30) ? rng.below(64) : 0) |
      (rng.below(16) & 7) << 8,
  );
  [
    control,
    status,
    BigInt(rng.below(0x10000)),
    BigInt(rng.below(0x10000)),
    0n,
    BigInt(rng.below(0x10000)),
    0n,
  ]
    .forEach((v, i) => image.set(littleEndian(v, step), i * step));
  for (let at = 7 * step; at + 10 <= length; at += 10) {
    if (rng.chance(25)) {
      image.set(littleEndian(rng.u64() | 0x3fff_8000_0000_0000_0000n, 10), at);
    }
  }
  return image;
}

/** Fills the explicit memory operand of `size` bytes. */
export function contents(w: Work, size: number): void {
  const { rng, form, state } = w;
  const at = w.effectiveAddress!;
  const name = form.name;
  if (
    form.mnemonic === "Lea" ||
    /^(Prefetch|Nop|Clflush|Clwb|Cldemote)/.test(form.mnemonic)
  ) return;
  if (XSAVE_AREA.test(form.mnemonic)) return xsaveContents(w);
  if (/^Fxrstor/.test(name)) return put(w, at, fxImage(rng));
  if (/^Fldenv|^Frstor/.test(name)) {
    return put(w, at, environmentImage(rng, size));
  }
  if (/^(Fxsave|Fnsave|Fnstenv)/.test(name)) return;
  if (/^(Call|Jmp)_m16/.test(name)) {
    const offset = size - 2;
    const bytes = new Uint8Array(size);
    bytes.set(littleEndian(codeTarget(rng), offset));
    bytes.set(littleEndian(rng.chance(75) ? 0x33n : selector(rng), 2), offset);
    return put(w, at, bytes);
  }
  if (/^L[sfg]s_/.test(name)) {
    const bytes = rng.bytes(size);
    bytes.set(
      littleEndian(rng.pick([0x2bn, 0x2bn, 0x23n, 0x10n, 0x83n]), 2),
      size - 2,
    );
    return put(w, at, bytes);
  }
  if (/^(Call|Jmp)_/.test(name)) {
    return put(w, at, littleEndian(codeTarget(rng), 8));
  }
  if (/^(Lar|Lsl|Verr|Verw)/.test(name)) {
    return put(w, at, littleEndian(selector(rng), 2));
  }
  if (/^Mov_Sreg/.test(name)) {
    return put(w, at, littleEndian(rng.pick([0x2bn, 0x23n, 0x10n, 0x83n]), 2));
  }
  const bytes = rng.bytes(Math.max(1, size));
  if (/^Ldmxcsr/.test(name)) {
    bytes.set(
      littleEndian(BigInt(rng.chance(85) ? rng.below(0x10000) : rng.u32()), 4),
    );
  }
  if (/^Fldcw/.test(name)) {
    bytes.set(littleEndian(BigInt(rng.below(0x10000)) | 0x40n, 2));
  }
  // Half of the compare-and-exchange cases succeed.
  if (/^Cmpxchg_/.test(name) && rng.chance(50)) {
    bytes.set(littleEndian(state.gpr[RAX], size));
  } else if (/^Cmpxchg(8|16)b/.test(name) && rng.chance(50)) {
    const half = size / 2;
    bytes.set(littleEndian(state.gpr[RAX], half));
    bytes.set(littleEndian(state.gpr[RDX], half), half);
  }
  put(w, at, bytes);
}
