/**
 * Register names and classes, read off iced-x86's own register list.
 * Invariant: a class is a contiguous range of that list, so classifying a
 * register is two comparisons.
 */
import { Register } from "iced-x86";

/** Register classes as they appear in operand kinds. */
export type RegisterClass =
  | "r8"
  | "r16"
  | "r32"
  | "r64"
  | "seg"
  | "mm"
  | "xmm"
  | "ymm"
  | "zmm"
  | "k"
  | "bnd"
  | "cr"
  | "dr"
  | "tr"
  | "st"
  | "tmm"
  | "ip";

const RANGES: readonly (readonly [RegisterClass, Register, Register])[] = [
  ["r8", Register.AL, Register.R15L],
  ["r16", Register.AX, Register.R15W],
  ["r32", Register.EAX, Register.R15D],
  ["r64", Register.RAX, Register.R15],
  ["ip", Register.EIP, Register.RIP],
  ["seg", Register.ES, Register.GS],
  ["mm", Register.MM0, Register.MM7],
  ["xmm", Register.XMM0, Register.XMM31],
  ["ymm", Register.YMM0, Register.YMM31],
  ["zmm", Register.ZMM0, Register.ZMM31],
  ["k", Register.K0, Register.K7],
  ["bnd", Register.BND0, Register.BND3],
  ["cr", Register.CR0, Register.CR15],
  ["dr", Register.DR0, Register.DR15],
  ["tr", Register.TR0, Register.TR7],
  ["st", Register.ST0, Register.ST7],
  ["tmm", Register.TMM0, Register.TMM7],
];

const byName = new Map<string, Register>();
for (const [, first, last] of RANGES) {
  for (let r = first; r <= last; r++) {
    byName.set(Register[r].toLowerCase(), r);
  }
}
for (let i = 8; i < 16; i++) {
  byName.set(`r${i}b`, Register.R8L + i - 8);
}
byName.set("st", Register.ST0);

/** The register of a lower-case name, or undefined. */
export function registerByName(name: string): Register | undefined {
  return byName.get(name);
}

/** Lower-case name of a register. */
export function registerName(register: Register): string {
  return Register[register].toLowerCase();
}

/** The class a register belongs to. */
export function registerClass(register: Register): RegisterClass {
  for (const [name, first, last] of RANGES) {
    if (register >= first && register <= last) return name;
  }
  return "r8";
}

/** All register names, for spelling suggestions. */
export function registerNames(): Iterable<string> {
  return byName.keys();
}

const CLASS_BITS: Partial<Record<RegisterClass, number>> = {
  r8: 8,
  r16: 16,
  r32: 32,
  r64: 64,
};

/** Width of a general register in bits, 0 for other registers. */
export function generalBits(register: Register): number {
  return CLASS_BITS[registerClass(register)] ?? 0;
}
