/**
 * Expands families of iced-x86 code names: `{}` stands for an operand size, so
 * that a row's list of codes reads like the manual's opcode table.
 */

/** Operand sizes of most families. */
export const ALL = [8, 16, 32, 64] as const;
/** The sizes of families without a byte form. */
export const WORDS = [16, 32, 64] as const;
/** 32 and 64 bits. */
export const WIDE = [32, 64] as const;

/** Each `{}` of `pattern` replaced by each size. */
export function sized(
  pattern: string,
  sizes: readonly number[] = ALL,
): string[] {
  return sizes.map((size) => pattern.replaceAll("{}", String(size)));
}

/** Accumulator register of a size. */
export function accumulator(size: number): string {
  return size === 8 ? "AL" : size === 16 ? "AX" : size === 32 ? "EAX" : "RAX";
}

/** Suffixes of condition codes 0–15 as iced-x86 spells them. */
export const CONDITIONS = [
  "o",
  "no",
  "b",
  "ae",
  "e",
  "ne",
  "be",
  "a",
  "s",
  "ns",
  "p",
  "np",
  "l",
  "ge",
  "le",
  "g",
] as const;
