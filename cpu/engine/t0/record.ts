/**
 * One pre-decoded instruction in linear memory: 32 bytes, and a second unit of
 * 32 for terminators (instructions and pseudo records that end a block).
 *
 * Registers are byte offsets into the vCPU page (AH is RAX + 1; VCPU.zero
 * stands for none), so that a form's code serves every register.
 */

/** Offsets in a record. */
export const RECORD = {
  /** u16: form number, the dispatch index. */
  form: 0,
  /** u8: instructions of the block before this one. */
  position: 2,
  /** u8: instructions in the block. */
  length: 3,
  /** u16 × 3: register operands 0–2. */
  operands: 4,
  /** u16 */ base: 10,
  /** u16 */ index: 12,
  /** u8: log2 of the scale. */ scale: 14,
  /** i64: displacement, absolute when RIP-relative. */
  displacement: 16,
  /** i64: the immediate, as Operand.imm. */
  immediate: 24,
  /** Terminators: chain slot of the branch taken, see SLOT. */
  taken: 32,
  /** Terminators: likewise: fall-through. */
  next: 44,
  /** Terminators: u64 RIP of the next instruction. */
  nextRip: 56,
} as const;
/** A chain slot, relative to its start. */
export const SLOT = {
  /** u32: record it leads to, 0 for none. */
  record: 0,
  /** u32: to another page: link number it is valid with, NO_LINK for none. */
  number: 4,
  /** u32: absolute offset of the fetch grant that must show the number. */
  place: 8,
} as const;
/** Where a `crossing` record has the number and place of its slot. */
export const CROSSING = { number: 8, place: 12 } as const;
/** Number that no place shows. */
export const NO_LINK = 0xffff_ffff;
export const RECORD_BYTES = 32;
/** Most instructions of a block; with the longest records of facts they fit RING_RESERVE. */
export const BLOCK_LIMIT = 32;

/** Forms with fixed numbers: pseudo records. */
export const PSEUDO = {
  /** Leave before executing: patched over a record. */
  stop: 0,
  /** Block goes on elsewhere; chain slot `next` in the same page. */
  endLocal: 1,
  /** Likewise, in another page. */
  endFar: 2,
  /** A call row. */
  call: 3,
  /** An instruction that only the reference executes. */
  reference: 4,
  /** Goes on if the next page is granted as when the record was made. */
  crossing: 5,
} as const;
/** First number of real forms. */
export const FIRST_FORM = 8;
