/**
 * The blocks of decoded records of one vCPU: found by page, offset, mode and
 * RIP, dropped by the bytes of a page that were written. blocks.ts makes them.
 *
 * Invariant: every page with a living block carries PageFlag.Code. Records are
 * never overwritten before the whole pool is dropped, so a block may be dropped
 * while it runs.
 */
import type { CpuContext } from "../../context.ts";
import type { Insn } from "../../isa/insn.ts";
import { PAGE_SIZE, VCPU } from "../../layout.ts";
import type { Vcpu } from "../../vcpu.ts";
import type { Area } from "./area.ts";
import type { Mode } from "./mode.ts";
import { BLOCK_LIMIT, NO_LINK, RECORD, RECORD_BYTES, SLOT } from "./record.ts";

/** Straight-line code within one page. */
export class Block {
  /** Instructions that count as steps of the block. */
  length = 0;
  /**
   * By position; one more when the block ends in a `call` row. Their `rip` and
   * the numbers that wild bytes give hold only where the row has no `emit`
   * (decoded.ts).
   */
  insns: readonly Insn[] = [];
  /** Physical page of the rest of an instruction that crosses, once known. */
  rest = -1;
  /** Terminator that has chain slots; 0 for none. */
  terminator = 0;
  /** Another block with the same place and mode but another RIP. */
  sibling: Block | undefined = undefined;
  dropped = false;

  /**
   * @param record absolute offset of the first record
   * @param start offset in the page of the first byte
   * @param end likewise of the one after the last
   * @param crosses it is one instruction that goes on in the next page
   */
  constructor(
    readonly record: number,
    readonly rip: bigint,
    readonly page: number,
    readonly mode: Mode,
    readonly start: number,
    readonly end: number,
    readonly crosses: boolean,
  ) {}
}

/** Bytes of the longest instruction. */
export const MAX_LENGTH = 15;
/** Writes beside its code after which a page's code is dropped. */
const DATA_WRITES = 16;
/** Units that the longest block needs. */
const LONGEST = BLOCK_LIMIT + 2;

/** See the file header. */
export class BlockStore {
  private readonly pages = new Map<number, Map<number, Block>>();
  /** By physical page: blocks of the page before that end in it. */
  private readonly rests = new Map<number, Set<Block>>();
  protected readonly u8: Uint8Array;
  protected readonly u16: Uint16Array;
  protected readonly u32: Uint32Array;
  protected readonly u64: BigUint64Array;
  /** Block of each unit of the pool. */
  private owners: Block[] = [];
  protected free: number;
  /** Writes to bytes of a page that no block has. */
  private readonly misses = new Map<number, number>();

  constructor(
    memory: WebAssembly.Memory,
    protected readonly area: Area,
    protected readonly cpu: CpuContext,
  ) {
    this.u8 = new Uint8Array(memory.buffer);
    this.u16 = new Uint16Array(memory.buffer);
    this.u32 = new Uint32Array(memory.buffer);
    this.u64 = new BigUint64Array(memory.buffer);
    this.free = area.pool;
  }

  /** Whether another block may not fit; then `clear` before building. */
  get full(): boolean {
    return this.free + LONGEST * RECORD_BYTES > this.area.poolEnd;
  }

  /** The living block at a place, if there is one. */
  find(
    page: number,
    offset: number,
    rip: bigint,
    mode: Mode,
  ): Block | undefined {
    let block = this.pages.get(page)?.get(mode.id * PAGE_SIZE + offset);
    while (block !== undefined && block.rip !== rip) block = block.sibling;
    return block;
  }

  /** Block and position of a record. */
  owner(record: number): Block {
    return this.owners[(record - this.area.pool) / RECORD_BYTES];
  }

  /** Length of a record's block. */
  lengthOf(record: number): number {
    return this.u8[record + RECORD.length];
  }

  position(record: number): number {
    return this.u8[record + RECORD.position];
  }

  ripOf(record: number): bigint {
    return this.u64[(this.area.rips + (record - this.area.pool) / 4) >>> 3];
  }

  /** Whether RIP is behind a `call` row's record. */
  precedes(record: number): boolean {
    const { u32, cpu: { v } } = this;
    const next = (record + RECORD.nextRip) >>> 2;
    return v.word(VCPU.rip) === u32[next] &&
      v.word(VCPU.rip + 4) === u32[next + 1];
  }

  /** Puts a record's RIP into the vCPU, by halves: that makes no BigInt. */
  setRip(record: number, v: Vcpu): void {
    const at = (this.area.rips + (record - this.area.pool) / 4) >>> 2;
    v.setWord(VCPU.rip, this.u32[at]);
    v.setWord(VCPU.rip + 4, this.u32[at + 1]);
  }

  /** Whether a physical page has blocks. */
  has(page: number): boolean {
    return this.pages.has(page) || this.rests.has(page);
  }

  /**
   * Drops the blocks that bytes `first` to `last` of a physical page belong to;
   * all of the page when other bytes of it are written again and again (it
   * holds data too). The others lose their chains.
   * @returns whether any were dropped
   */
  dropBytes(page: number, first: number, last: number): boolean {
    const rest = this.dropRests(page, first);
    const blocks = this.pages.get(page);
    if (blocks === undefined) return rest;
    let hit = rest;
    for (const [key, head] of blocks) {
      if (!holds(head, first, last)) continue;
      hit = true;
      let left: Block | undefined;
      for (let b: Block | undefined = head, next; b !== undefined; b = next) {
        next = b.sibling;
        if (b.start <= last && first < b.end) b.dropped = true;
        else {
          b.sibling = left;
          left = b;
        }
      }
      if (left === undefined) blocks.delete(key);
      else blocks.set(key, left);
    }
    if (!hit) {
      const misses = (this.misses.get(page) ?? 0) + 1;
      if (misses > DATA_WRITES) return this.drop(page);
      this.misses.set(page, misses);
      return false;
    }
    if (blocks.size === 0) this.pages.delete(page);
    for (let b of blocks.values()) {
      for (;;) {
        if (b.terminator !== 0) this.unlink(b.terminator);
        if (b.sibling === undefined) break;
        b = b.sibling;
      }
    }
    return true;
  }

  /**
   * Drops the blocks that end in a page, if bytes from `first` on are theirs.
   * Whoever gets to one still finds its link number gone, and then `cross`.
   */
  private dropRests(page: number, first: number): boolean {
    const blocks = this.rests.get(page);
    if (blocks === undefined || first >= MAX_LENGTH) return false;
    this.rests.delete(page);
    for (const block of blocks) {
      block.dropped = true;
      this.remove(block);
    }
    return true;
  }

  /** Takes a block out of its page. */
  private remove(block: Block): void {
    const blocks = this.pages.get(block.page);
    const key = block.mode.id * PAGE_SIZE + block.start;
    const kept: Block[] = [];
    for (let b = blocks?.get(key); b !== undefined; b = b.sibling) {
      if (b !== block) kept.push(b);
    }
    kept.forEach((b, i) => b.sibling = kept[i + 1]);
    if (kept.length > 0) blocks!.set(key, kept[0]);
    else blocks?.delete(key);
  }

  /** Drops a physical page's blocks. @returns whether there were any */
  drop(page: number): boolean {
    const blocks = this.pages.get(page);
    if (blocks === undefined) return false;
    for (const first of blocks.values()) {
      for (let b: Block | undefined = first; b; b = b.sibling) b.dropped = true;
    }
    this.pages.delete(page);
    this.misses.delete(page);
    return true;
  }

  /** Drops everything and makes the pool empty. */
  clear(): void {
    for (const page of [...this.pages.keys()]) this.drop(page);
    this.rests.clear();
    this.misses.clear();
    this.owners = [];
    this.free = this.area.pool;
  }

  /** Enters a block whose first `records` records carry its length. @param end of its units */
  protected keep(end: number, block: Block, records: number): void {
    this.register(block);
    const { record, length } = block;
    const { owners, u8 } = this;
    const units = (end - record) / RECORD_BYTES;
    for (let i = 0; i < units; i++) owners.push(block);
    for (let i = 0; i < records; i++) {
      u8[record + i * RECORD_BYTES + RECORD.length] = length;
    }
    this.free = end;
  }

  /** Enters a block where `find` looks. */
  protected register(block: Block): void {
    const { page, mode, start } = block;
    let blocks = this.pages.get(page);
    if (blocks === undefined) {
      blocks = new Map();
      this.pages.set(page, blocks);
      this.cpu.physical.markCode(page);
    }
    const key = mode.id * PAGE_SIZE + start;
    block.sibling = blocks.get(key);
    blocks.set(key, block);
  }

  /** Writes to the page where a block ends concern it. */
  protected enterRest(block: Block, rest: number): void {
    this.rests.get(block.rest)?.delete(block);
    block.rest = rest;
    let blocks = this.rests.get(rest);
    if (blocks === undefined) {
      blocks = new Set();
      this.rests.set(rest, blocks);
    }
    blocks.add(block);
    this.cpu.physical.markCode(rest);
  }

  /** Empties a terminator's chain slots. */
  protected unlink(at: number): void {
    this.link(at + RECORD.taken, 0, NO_LINK, 0);
    this.link(at + RECORD.next, 0, NO_LINK, 0);
  }

  /** Fills a chain slot. */
  link(slot: number, record: number, number: number, place: number): void {
    const { u32 } = this;
    u32[(slot + SLOT.record) >>> 2] = record;
    u32[(slot + SLOT.number) >>> 2] = number;
    u32[(slot + SLOT.place) >>> 2] = place;
  }

  /** Absolute offset of a terminator's target, once it is a direct branch. */
  protected takenRip(record: number): number {
    return this.area.rips + (record + RECORD_BYTES - this.area.pool) / 4;
  }

  /** Where a terminator's chain slot leads to. */
  targetOf(record: number, slot: number): bigint {
    if (slot === RECORD.next) return this.u64[(record + RECORD.nextRip) >>> 3];
    return this.u64[this.takenRip(record) >>> 3];
  }
}

/** Whether bytes `first` to `last` of the page belong to a block or its siblings. */
function holds(
  block: Block | undefined,
  first: number,
  last: number,
): boolean {
  for (let b = block; b !== undefined; b = b.sibling) {
    if (b.start <= last && first < b.end) return true;
  }
  return false;
}
