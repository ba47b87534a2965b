/**
 * Instructions decoded before, found again by their bytes: kernels execute the
 * same few thousand instructions at ever new places, and decoding costs more
 * than all else that makes a block. A relative displacement (of a near branch
 * or a RIP-relative operand) is no part of what is compared; its bytes give the
 * target of each place.
 *
 * Invariant: an entry holds only what its bytes and the mode's sizes say. No
 * instruction's bytes are the beginning of another's, so the first match is it.
 */
import type { InstructionDecoder } from "../../isa/decoder.ts";
import { type Insn, OperandKind, RIP_RELATIVE } from "../../isa/insn.ts";
import { isPrefix } from "../../isa/prefixes.ts";
import type { Form } from "./form.ts";
import type { Mode } from "./mode.ts";

/** What is known of some bytes. */
export interface Decoded {
  /** As it was at the place where it was met first. */
  readonly insn: Insn;
  /** Of the sizes that decoding depends on. */
  readonly key: number;
  /** Bytes up to the relative displacement; all where there is none. */
  readonly head: Uint8Array;
  /** Bytes of the relative displacement; 0 for none. */
  readonly wild: number;
  /** Bytes after it. */
  readonly tail: Uint8Array;
  /** Bits of a target. */
  readonly targetSize: number;
  /** A procedure may ask for RIP or operands: each place needs an instruction of its own. */
  readonly own: boolean;
  /** Its forms by Form.local, once known. */
  far: Form | undefined;
  near: Form | undefined;
  /** Contents of its record, once made. */
  words: Uint32Array | undefined;
}

const MAX_LENGTH = 15;
/** Entries of the table; one that hashes to the same place replaces another. */
const ENTRIES = 1 << 15;
const VEX2 = 0xc5, VEX3 = 0xc4;
const FNV_PRIME = 0x01000193;

const keyOf = ({ codeSize, stackSize, real }: Mode): number =>
  codeSize | stackSize << 8 | (real ? 1 << 16 : 0);

/** See the file header. One per decoder. */
export class DecodeCache {
  /** After `find`: the target, where there is a relative displacement. */
  target = 0n;
  private readonly table: (Decoded | undefined)[] = new Array(ENTRIES).fill(
    undefined,
  );
  /** By first two bytes: bit n set when an entry with a head of n bytes is known. */
  private readonly heads = new Uint16Array(1 << 16);

  constructor(private readonly decoder: InstructionDecoder) {}

  /**
   * What begins at `at`, of which `room` bytes may belong to it.
   * @param rip and `further` bytes after it: where that is
   * @returns a DecodeFailure code if that is no instruction
   */
  find(
    ram: Uint8Array,
    at: number,
    room: number,
    rip: bigint,
    further: number,
    mode: Mode,
  ): Decoded | number {
    const key = keyOf(mode);
    // A second byte that belongs to the next instruction says nothing.
    const heads = this.heads[ram[at] << 8 | (room > 1 ? ram[at + 1] : 0)];
    let hash = key;
    for (let n = 1; n <= room && heads >>> n !== 0; n++) {
      hash = Math.imul(hash ^ ram[at + n - 1], FNV_PRIME);
      if ((heads >>> n & 1) === 0) continue;
      const known = this.table[placeOf(hash)];
      if (known === undefined || known.key !== key) continue;
      if (known.insn.length > room || known.head.length !== n) continue;
      if (!same(known.head, ram, at)) continue;
      if (known.wild === 0) return known;
      if (!same(known.tail, ram, at + n + known.wild)) continue;
      this.target = targetOf(known, ram, at + n, rip, further);
      return known;
    }
    const bits = mode.codeSize === 64 ? 64 : 32;
    const here = BigInt.asUintN(bits, rip + BigInt(further));
    return this.decode(ram, at, room, here, mode);
  }

  private decode(
    ram: Uint8Array,
    at: number,
    room: number,
    rip: bigint,
    mode: Mode,
  ): Decoded | number {
    const { codeSize, stackSize, real } = mode;
    const data = ram.subarray(at, at + Math.min(room, MAX_LENGTH));
    const insn = this.decoder.decode(
      data,
      data.length,
      codeSize,
      rip,
      stackSize,
      real,
    );
    if (typeof insn === "number") return insn;
    const made = describe(insn, data.slice(0, insn.length), keyOf(mode));
    if (made.wild !== 0) {
      this.target = insn.memory?.displacement ?? insn.operands[0].imm;
      const found = targetOf(made, ram, at + made.head.length, rip, 0);
      if (found !== this.target) {
        throw new Error(
          `decode ${insn.row.name}: its target is ${this.target}, not ` +
            `${found}; correct where decoded.ts looks for displacements`,
        );
      }
    }
    let hash = made.key;
    for (const byte of made.head) hash = Math.imul(hash ^ byte, FNV_PRIME);
    this.table[placeOf(hash)] = made;
    const [first, second] = made.head;
    const bit = 1 << made.head.length;
    if (second !== undefined) this.heads[first << 8 | second] |= bit;
    else for (let i = 0; i < 256; i++) this.heads[first << 8 | i] |= bit;
    return made;
  }
}

/** What an entry holds of an instruction. */
function describe(insn: Insn, bytes: Uint8Array, key: number): Decoded {
  const { row, operands, memory } = insn;
  let start = bytes.length, wild = 0, targetSize = 64;
  if (operands[0]?.kind === OperandKind.NearBranch) {
    targetSize = operands[0].size;
    start = beforeTarget(bytes, insn.codeSize);
    wild = bytes.length - start;
  } else if (memory?.base === RIP_RELATIVE) {
    targetSize = insn.addressSize;
    start = beforeDisplacement(bytes);
    wild = 4;
  }
  return {
    ...{ insn, key, wild, targetSize, own: row.emit === undefined },
    head: bytes.subarray(0, start),
    tail: bytes.subarray(start + wild),
    ...{ far: undefined, near: undefined, words: undefined },
  };
}

/** Where the opcode begins. */
function opcodeAt(bytes: Uint8Array, codeSize: number): number {
  let at = 0;
  while (isPrefix(bytes[at], codeSize === 64)) at++;
  return at;
}

/** Bytes before a RIP-relative displacement: it follows ModR/M (SDM 2A §2.2.1.6, §2.3.5). */
function beforeDisplacement(bytes: Uint8Array): number {
  const at = opcodeAt(bytes, 64);
  if (bytes[at] === VEX2) return at + 4;
  if (bytes[at] === VEX3) return at + 5;
  if (bytes[at] !== 0x0f) return at + 2;
  const third = bytes[at + 1] === 0x38 || bytes[at + 1] === 0x3a;
  return at + (third ? 4 : 3);
}

/** Bytes before a near branch's displacement, which ends it (SDM 2 appendix A). */
function beforeTarget(bytes: Uint8Array, codeSize: number): number {
  const at = opcodeAt(bytes, codeSize);
  const two = bytes[at] === 0x0f || bytes[at] === 0xc7;
  return at + (two ? 2 : 1);
}

function targetOf(
  { wild, targetSize, insn }: Decoded,
  ram: Uint8Array,
  at: number,
  rip: bigint,
  further: number,
): bigint {
  let relative = ram[at] << 24 >> 24;
  if (wild > 1) relative = ram[at + 1] << 24 >> 16 | ram[at];
  if (wild > 2) {
    relative = ram[at] | ram[at + 1] << 8 | ram[at + 2] << 16 |
      ram[at + 3] << 24;
  }
  return BigInt.asUintN(
    targetSize,
    rip + BigInt(further + insn.length + relative),
  );
}

function placeOf(hash: number): number {
  return (hash ^ hash >>> 15) & (ENTRIES - 1);
}

function same(bytes: Uint8Array, ram: Uint8Array, at: number): boolean {
  for (let i = 0; i < bytes.length; i++) {
    if (bytes[i] !== ram[at + i]) return false;
  }
  return true;
}
