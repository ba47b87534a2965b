/**
 * The image of a random program: descriptor tables, task segments, page
 * tables and variables around runtime and body, as bytes to be loaded.
 */
import type { RandomStream } from "../../core/mod.ts";
import { AT, DATA_BYTES, SELECTOR, VAR } from "./places.ts";
import { type BodyMode, REAL_AT, runtimeOf } from "./runtime.ts";

/** Bytes at physical addresses, from `base`. */
export class Image {
  readonly bytes: Uint8Array;
  readonly #view: DataView;

  constructor(readonly base: number, end: number) {
    this.bytes = new Uint8Array(end - base);
    this.#view = new DataView(this.bytes.buffer);
  }

  put(address: number, bytes: Uint8Array | readonly number[]): void {
    this.bytes.set(bytes, address - this.base);
  }
  u32(address: number, value: number): void {
    this.#view.setUint32(address - this.base, value, true);
  }
  u64(address: number, value: bigint): void {
    this.#view.setBigUint64(address - this.base, value, true);
  }
}

/** Vectors that push an error code (SDM 3A table 6-1). */
const WITH_CODE = new Set([8, 10, 11, 12, 13, 14, 17, 21]);

function label(mode: BodyMode, name: string): number {
  const value = runtimeOf(mode).symbols.get(name);
  if (value === undefined) throw new RangeError(`no label ${name}`);
  return Number(value);
}

/** Which handler a vector has. */
function handlerOf(vector: number, mode: BodyMode): string {
  if (vector === 1) return "debug";
  if (vector === 2) return "nmi";
  if (vector === 16) return "fpu_fault";
  if (vector === 19 && mode !== "real") return "simd_fault";
  if (vector === 0x20) return "timer";
  if (vector === 0x24) return "serial";
  if (vector >= 0x30 && vector < 0x40) return "apic";
  return mode === "protected" && WITH_CODE.has(vector) ? "fault_code" : "fault";
}

function longGate(image: Image, vector: number): void {
  const handler = BigInt(label("long", handlerOf(vector, "long")));
  const ist = vector === 1
    ? 3n
    : vector === 2
    ? 2n
    : vector === 0x20 || vector === 0x24 || vector >= 0x30 && vector < 0x40
    ? 4n
    : 1n;
  // 3, 4 and the software interrupts of the idioms may come from CPL 3.
  const type = vector === 3 || vector === 4 || vector === 0x21 ? 0xeen : 0x8en;
  const present = vector === 0x41 ? type & 0x7fn : type;
  image.u64(
    AT.idt + vector * 16,
    handler & 0xffffn | BigInt(SELECTOR.code64) << 16n | ist << 32n |
      present << 40n | (handler >> 16n) << 48n,
  );
}

function protectedGate(image: Image, vector: number): void {
  const handler = BigInt(label("protected", handlerOf(vector, "protected")));
  let type = vector === 3 || vector === 4 || vector === 0x21 ? 0xeen : 0x8en;
  let selector = BigInt(SELECTOR.code32);
  if (vector === 0x41 || vector === 0x42) type &= 0x7fn;
  if (vector === 0x43) {
    type = 0x85n;
    selector = BigInt(SELECTOR.tss2);
  }
  image.u64(
    AT.idt + vector * 8,
    handler & 0xffffn | selector << 16n | type << 40n | (handler >> 16n) << 48n,
  );
}

function descriptors(image: Image, mode: BodyMode): void {
  const flat: readonly (readonly [number, bigint])[] = [
    [SELECTOR.code64, 0x00af9b000000ffffn],
    [SELECTOR.data, 0x00cf93000000ffffn],
    [SELECTOR.code32, 0x00cf9b000000ffffn],
    [SELECTOR.code16, 0x00009b000000ffffn],
    [SELECTOR.data16, 0x000093000000ffffn],
    [SELECTOR.userCode32, 0x00cffb000000ffffn],
    [SELECTOR.userData, 0x00cff3000000ffffn],
    [SELECTOR.userCode64, 0x00affb000000ffffn],
    [SELECTOR.notPresent, 0x00cf73000000ffffn],
  ];
  for (const [selector, value] of flat) {
    image.u64(AT.gdt + (selector & ~7), value);
  }
  const system = (at: number, base: number, limit: number, type: bigint) =>
    image.u64(
      AT.gdt + at,
      BigInt(limit) | BigInt(base & 0xffffff) << 16n | type << 40n |
        BigInt(base >>> 24) << 56n,
    );
  system(SELECTOR.tss, AT.tss, 0x67, 0x89n);
  system(SELECTOR.ldt, AT.gdt + 0x400, 0xf, 0x82n);
  image.u64(AT.gdt + 0x408, 0x00cff3000000ffffn);
  const gate = BigInt(
    label(mode, mode === "long" ? "begin" : "sysenter_entry"),
  );
  const low = gate & 0xffffn | (gate >> 16n) << 48n;
  if (mode === "long") {
    image.u64(
      AT.gdt + SELECTOR.callGate,
      low | BigInt(SELECTOR.code64) << 16n | 0xecn << 40n,
    );
    image.u64(AT.tss + 4, BigInt(AT.innerStack));
    [AT.faultStack, AT.nmiStack, AT.debugStack, AT.interruptStack]
      .forEach((top, i) => image.u64(AT.tss + 0x24 + i * 8, BigInt(top)));
    return;
  }
  image.u64(
    AT.gdt + SELECTOR.callGate,
    low | BigInt(SELECTOR.code32) << 16n | 0xecn << 40n,
  );
  system(SELECTOR.tss2, AT.tss2, 0x67, 0x89n);
  image.u64(
    AT.gdt + SELECTOR.taskGate,
    BigInt(SELECTOR.tss2) << 16n | 0x85n << 40n,
  );
  image.u32(AT.tss + 0x1c, AT.pml4);
  image.u32(AT.tss + 4, AT.innerStack);
  image.u32(AT.tss + 8, SELECTOR.data);
  const task = AT.tss2;
  const words: readonly (readonly [number, number])[] = [
    [0x1c, AT.pml4],
    [0x20, label("protected", "task")],
    [0x24, 2],
    [0x38, AT.nmiStack],
    [0x48, SELECTOR.data],
    [0x4c, SELECTOR.code32],
    [0x50, SELECTOR.data],
    [0x54, SELECTOR.data],
    [0x58, SELECTOR.data],
    [0x5c, SELECTOR.data],
  ];
  for (const [at, value] of words) image.u32(task + at, value);
}

const isUser = (address: number): boolean =>
  address >= AT.userData && address < AT.userStack + 0x800 ||
  address >= AT.userBody && address < AT.end;

/** Where the bodies appear a second time, kernel only. */
export const ALIAS_OFFSET = 0x40000;

/** Entry for the page of a linear address below 2 MiB, and whether it is data. */
function pageEntry(address: number, long: boolean): bigint {
  const frame = address >= AT.kernelBody + ALIAS_OFFSET &&
      address < AT.end + ALIAS_OFFSET
    ? address - ALIAS_OFFSET
    : address;
  if (address < AT.runtime) return 0n;
  const data = address >= AT.kernelData && address < AT.userData + DATA_BYTES;
  const executable = !data || (address & 0x2000) === 0x2000;
  return BigInt(frame) | 3n | (isUser(address) ? 4n : 0n) |
    (long && !executable ? 1n << 63n : 0n);
}

function pageTables(image: Image, mode: BodyMode): void {
  if (mode === "long") {
    image.u64(AT.pml4, BigInt(AT.pdpt) | 7n);
    image.u64(AT.pdpt, BigInt(AT.pd) | 7n);
    image.u64(AT.pdpt + 24, BigInt(AT.pdHigh) | 7n);
    image.u64(AT.pd, BigInt(AT.pt) | 7n);
    image.u64(AT.pdHigh + 0x1f7 * 8, 0xfee00083n);
    for (let i = 0; i < 512; i++) {
      image.u64(AT.pt + i * 8, pageEntry(i << 12, true));
    }
    return;
  }
  image.u32(AT.pml4, AT.pt | 7);
  image.u32(AT.pml4 + 0x3fb * 4, 0xfec00083);
  for (let i = 0; i < 512; i++) {
    image.u32(AT.pt + i * 4, Number(pageEntry(i << 12, false)));
  }
}

/** What of a long or protected program varies beside its body. */
export interface Settings {
  readonly cr0: number;
  readonly cr4: number;
  readonly efer: number;
  /** Initial count of the APIC timer; 0: none. */
  readonly timer: number;
  readonly kernelEnd: number;
  readonly userEnd: number;
}

function fill(image: Image, at: number, bytes: number, random: RandomStream) {
  for (let i = 0; i < bytes; i += 4) {
    // Small numbers and selectors more often than chance has them.
    const kind = random.below(4);
    const value = kind === 0
      ? random.below(16)
      : kind === 1
      ? random.below(17) * 8 | random.below(4)
      : random.u32();
    image.u32(at + i, value);
  }
}

const INT3 = 0xcc;

/** An image with everything but the body. */
export function makeImage(
  mode: BodyMode,
  settings: Settings,
  random: RandomStream,
): Image {
  const runtime = runtimeOf(mode);
  if (mode === "real") {
    const image = new Image(REAL_AT.runtime, REAL_AT.end);
    image.bytes.fill(INT3);
    image.bytes.fill(
      0,
      REAL_AT.vars - REAL_AT.runtime,
      REAL_AT.stack - REAL_AT.runtime,
    );
    image.put(REAL_AT.runtime, runtime.bytes);
    for (let vector = 0; vector < 256; vector++) {
      const handler = label("real", handlerOf(vector, "real"));
      image.u32(REAL_AT.vectors + vector * 4, handler);
    }
    fill(image, REAL_AT.data, 0x800, random);
    image.u32(REAL_AT.vars + VAR.last, REAL_AT.body - 64);
    image.u32(REAL_AT.vars + VAR.kernelEnd, settings.kernelEnd);
    return image;
  }
  const image = new Image(AT.runtime, AT.end);
  // What a stray jump meets.
  image.bytes.fill(INT3, AT.vars + 0x1000 - AT.runtime);
  image.bytes.fill(0, AT.vmxon - AT.runtime, AT.kernelBody - AT.runtime);
  image.put(AT.runtime, runtime.bytes);
  descriptors(image, mode);
  for (let vector = 0; vector < 256; vector++) {
    if (mode === "long") longGate(image, vector);
    else protectedGate(image, vector);
  }
  pageTables(image, mode);
  fill(image, AT.kernelData, DATA_BYTES, random);
  fill(image, AT.userData, DATA_BYTES, random);
  const v = AT.vars;
  image.u32(v + VAR.last, AT.kernelBody - 64);
  image.u32(v + VAR.kernelEnd, settings.kernelEnd);
  image.u32(v + VAR.userEnd, settings.userEnd);
  image.u32(v + VAR.debugLeft, 24);
  image.u32(v + VAR.vmxonPointer, AT.vmxon);
  image.u32(v + VAR.vmcsPointer, AT.vmcs);
  image.u32(label(mode, "cfg_cr0"), settings.cr0);
  image.u32(label(mode, "cfg_cr4"), settings.cr4);
  image.u32(label(mode, "cfg_timer"), settings.timer);
  image.u32(
    label(mode, "cfg_sysenter"),
    mode === "long" ? SELECTOR.code64 : SELECTOR.code32,
  );
  if (mode === "long") image.u32(label(mode, "cfg_efer"), settings.efer);
  return image;
}
