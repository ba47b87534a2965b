/**
 * Blocks of decoded records of one vCPU: built from physical pages, found by
 * page, offset, mode and RIP, dropped by page.
 *
 * Invariant: every page with a living block carries PageFlag.Code. Records are
 * never overwritten before the whole pool is dropped, so a block may be dropped
 * while it runs.
 */
import type { CpuContext } from "../../context.ts";
import type { InstructionDecoder } from "../../isa/decoder.ts";
import { type Insn, OperandKind } from "../../isa/insn.ts";
import { PAGE_SIZE, VCPU } from "../../layout.ts";
import type { Area } from "./area.ts";
import type { Form, Forms } from "./form.ts";
import { canFuse } from "./fused.ts";
import { deadFlags, type FlagUse } from "./liveness.ts";
import { linearOf, type Mode } from "./mode.ts";
import {
  BLOCK_LIMIT,
  NO_LINK,
  PSEUDO,
  RECORD,
  RECORD_BYTES,
  SLOT,
} from "./record.ts";

/** Straight-line code within one page. */
export interface Block {
  /** Absolute offset of the first record. */
  readonly record: number;
  readonly rip: bigint;
  readonly page: number;
  readonly mode: Mode;
  /** Instructions that count as steps of the block. */
  readonly length: number;
  /** By position; one more when the block ends in a `call` row. */
  readonly insns: readonly Insn[];
  /** Offsets in the page: the first byte and the one after the last. */
  readonly start: number;
  readonly end: number;
  /** Terminator that has chain slots; 0 for none. */
  readonly terminator: number;
  /** Another block with the same place and mode but another RIP. */
  sibling: Block | undefined;
  dropped: boolean;
}

const MAX_LENGTH = 15;
const MASK64 = (1n << 64n) - 1n;
const MASK32 = 0xffff_ffffn;
/** Writes beside its code after which a page's code is dropped. */
const DATA_WRITES = 16;
/** Units that the longest block needs. */
const LONGEST = BLOCK_LIMIT + 2;

/** See the file header. */
export class Blocks {
  private readonly pages = new Map<number, Map<number, Block>>();
  private readonly u8: Uint8Array;
  private readonly u16: Uint16Array;
  private readonly u32: Uint32Array;
  private readonly u64: BigUint64Array;
  /** Block of each unit of the pool. */
  private owners: (Block | undefined)[] = [];
  private free: number;
  /** Writes to bytes of a page that no block has. */
  private readonly plain: FlagUse[] = [];
  private readonly misses = new Map<number, number>();
  /** Pairs of instructions that have a fused form run as one. */
  fuse = true;
  /** Forms for it are made as blocks need them. */
  eager = false;

  constructor(
    memory: WebAssembly.Memory,
    private readonly area: Area,
    private readonly cpu: CpuContext,
    private readonly decoder: InstructionDecoder,
    private readonly forms: Forms,
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
  find(page: number, rip: bigint, mode: Mode): Block | undefined {
    const offset = Number(linearOf(mode, rip) & 0xfffn);
    let block = this.pages.get(page)?.get(mode.id * PAGE_SIZE + offset);
    while (block !== undefined && block.rip !== rip) block = block.sibling;
    return block;
  }

  /** Block and position of a record. */
  owner(record: number): Block {
    return this.owners[(record - this.area.pool) / RECORD_BYTES]!;
  }
  position(record: number): number {
    return this.u8[record + RECORD.position];
  }
  ripOf(record: number): bigint {
    return this.u64[(this.area.rips + (record - this.area.pool) / 4) >>> 3];
  }

  /** Whether a physical page has blocks. */
  has(page: number): boolean {
    return this.pages.has(page);
  }

  /**
   * Drops the blocks that bytes `first` to `last` of a physical page belong to;
   * all of the page when other bytes of it are written again and again (it
   * holds data too). The others lose their chains.
   * @returns whether any were dropped
   */
  dropBytes(page: number, first: number, last: number): boolean {
    const blocks = this.pages.get(page);
    if (blocks === undefined) return false;
    let hit = false;
    for (const [key, head] of blocks) {
      let left: Block | undefined;
      for (let b: Block | undefined = head, next; b !== undefined; b = next) {
        next = b.sibling;
        if (b.start <= last && first < b.end) {
          b.dropped = true;
          hit = true;
        } else {
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
    this.owners = [];
    this.free = this.area.pool;
  }

  /**
   * Decodes a block; undefined when the first instruction has to be executed
   * by the reference (it crosses the page, is invalid or not modelled).
   */
  build(page: number, rip: bigint, mode: Mode): Block | undefined {
    const { physical } = this.cpu;
    const start = Number(linearOf(mode, rip) & 0xfffn);
    const base = page * PAGE_SIZE;
    const linearPage = linearOf(mode, rip) >> 12n;
    const record = this.free;
    const insns: Insn[] = [];
    let at = record, offset = start, here = rip, length = 0;
    let ended = false, linked = 0;
    while (length < BLOCK_LIMIT && offset < PAGE_SIZE) {
      let room = Math.min(MAX_LENGTH, PAGE_SIZE - offset);
      if (mode.codeSize !== 64) {
        const left = mode.limit - here + 1n;
        if (left <= 0n) break;
        if (left < room) room = Number(left);
      }
      const bytes = physical.ram.subarray(
        base + offset,
        base + offset + room,
      );
      const insn = this.decoder.decode(
        bytes,
        room,
        mode.codeSize,
        here,
        mode.stackSize,
        mode.real,
      );
      if (typeof insn === "number") break;
      insns.push(insn);
      this.head(at, here, length);
      if (insn.row.call !== undefined || !this.reachable(insn, mode)) {
        this.u16[at >>> 1] = insn.row.call ? PSEUDO.call : PSEUDO.reference;
        at += RECORD_BYTES;
        offset += insn.length;
        ended = true;
        break;
      }
      const next = this.next(insn, mode);
      const terminator = insn.row.endsBlock === true;
      const local = terminator && this.isLocal(insn, next, mode, linearPage);
      const form = this.forms.of(insn, local);
      this.fill(at, form.id, insn);
      if (terminator && length > 0 && this.fuse) {
        const pair = this.fused(insns[length - 1], insn, local);
        if (pair) this.u16[(at - RECORD_BYTES) >>> 1] = pair.id;
      }
      length++;
      at += RECORD_BYTES;
      if (terminator) {
        linked = at - RECORD_BYTES;
        this.links(linked, next);
        at += RECORD_BYTES;
        offset += insn.length;
        ended = true;
        break;
      }
      offset += insn.length;
      here = next;
    }
    if (insns.length === 0) return undefined;
    if (this.fuse) {
      this.kill(record, length);
      this.pair(record, length);
    }
    if (!ended) {
      this.head(at, here, length);
      const near = offset < PAGE_SIZE;
      this.u16[at >>> 1] = near ? PSEUDO.endLocal : PSEUDO.endFar;
      linked = at;
      this.links(at, here);
      at += 2 * RECORD_BYTES;
    }
    const place = { start, end: offset, terminator: linked };
    return this.keep(
      at,
      { record, rip, page, mode, length, insns, ...place },
      insns.length + (ended ? 0 : 1),
    );
  }

  private fused(first: Insn, second: Insn, local: boolean): Form | undefined {
    return this.eager && canFuse(first, second)
      ? this.forms.fuse(first, second, local)
      : this.forms.findFused(first, second, local);
  }

  /** Gives instructions whose flags nobody sees the forms that leave them alone. */
  private kill(record: number, length: number): void {
    if (length < 2) return;
    const { forms, u16, plain } = this;
    for (let i = 0; i < length; i++) {
      plain[i] = forms.use(forms.byId(u16[(record + i * RECORD_BYTES) >>> 1]));
    }
    plain.length = length;
    deadFlags(plain).forEach((dead, i) => {
      if (!dead) return;
      const at = (record + i * RECORD_BYTES) >>> 1;
      const own = forms.byId(u16[at]);
      const form = this.eager ? forms.makeDead(own) : forms.findDead(own);
      if (form !== undefined) u16[at] = form.id;
    });
  }

  /** Runs instructions two by two where there is a form for both. */
  private pair(record: number, length: number): void {
    const { forms, u16 } = this;
    for (let i = 0; i + 1 < length; i++) {
      const at = (record + i * RECORD_BYTES) >>> 1;
      const first = u16[at], then = u16[at + RECORD_BYTES / 2];
      const pair = this.eager
        ? forms.makePair(forms.byId(first), forms.byId(then))?.id
        : forms.findPair(first, then);
      if (pair === undefined) continue;
      u16[at] = pair;
      i++;
    }
  }

  private keep(
    end: number,
    made: Omit<Block, "sibling" | "dropped">,
    records: number,
  ): Block {
    const { record, page, mode, length, start } = made;
    let blocks = this.pages.get(page);
    if (blocks === undefined) {
      blocks = new Map();
      this.pages.set(page, blocks);
      this.cpu.physical.markCode(page);
    }
    const key = mode.id * PAGE_SIZE + start;
    const block = { ...made, sibling: blocks.get(key), dropped: false };
    blocks.set(key, block);
    const unit = (record - this.area.pool) / RECORD_BYTES;
    const units = (end - record) / RECORD_BYTES;
    for (let i = 0; i < units; i++) this.owners[unit + i] = block;
    for (let i = 0; i < records; i++) {
      this.u8[record + i * RECORD_BYTES + RECORD.length] = length;
    }
    this.free = end;
    return block;
  }

  /** Writes what every record has. */
  private head(at: number, rip: bigint, position: number): void {
    this.u8[at + RECORD.position] = position;
    this.u64[(this.area.rips + (at - this.area.pool) / 4) >>> 3] = rip;
  }

  private fill(at: number, form: number, insn: Insn): void {
    const { u8, u16, u64 } = this;
    u16[at >>> 1] = form;
    let immediate = 0n;
    for (let i = 0; i < insn.operands.length && i < 3; i++) {
      const operand = insn.operands[i];
      let register: number = VCPU.zero;
      if (operand.kind === OperandKind.Gpr) register = operand.reg * 8;
      else if (operand.kind === OperandKind.HighByte) {
        register = operand.reg * 8 + 1;
      } else if (operand.kind === OperandKind.Immediate) {
        immediate = operand.imm;
      }
      u16[(at + RECORD.operands + i * 2) >>> 1] = register;
    }
    u64[(at + RECORD.immediate) >>> 3] = immediate;
    const { memory } = insn;
    if (memory !== undefined) {
      const { base, index, scale, displacement } = memory;
      u16[(at + RECORD.base) >>> 1] = base < 0 ? VCPU.zero : base * 8;
      u16[(at + RECORD.index) >>> 1] = index < 0 ? VCPU.zero : index * 8;
      u8[at + RECORD.scale] = 31 - Math.clz32(scale);
      u64[(at + RECORD.displacement) >>> 3] = displacement;
    }
  }

  /** Second unit of a terminator: empty chain slots and the RIP that follows. */
  private links(at: number, next: bigint): void {
    const { u64 } = this;
    this.unlink(at);
    u64[(at + RECORD.nextRip) >>> 3] = next;
  }

  /** Empties a terminator's chain slots. */
  private unlink(at: number): void {
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

  /** Where a terminator's chain slot leads to. */
  targetOf(record: number, slot: number): bigint {
    if (slot === RECORD.next) return this.u64[(record + RECORD.nextRip) >>> 3];
    const { insns } = this.owner(record);
    return nearTarget(insns[this.position(record)])!;
  }

  private next(insn: Insn, mode: Mode): bigint {
    return (insn.rip + BigInt(insn.length)) &
      (mode.codeSize === 64 ? MASK64 : MASK32);
  }

  /** Whether a direct branch's target passes the check that a taken branch makes. */
  private reachable(insn: Insn, mode: Mode): boolean {
    const target = nearTarget(insn);
    if (target === undefined) return true;
    return mode.codeSize === 64
      ? this.cpu.access.canonical(target)
      : target <= mode.limit;
  }

  /** Whether static successors lie in this page: chains then need no link number. */
  private isLocal(
    insn: Insn,
    next: bigint,
    mode: Mode,
    page: bigint,
  ): boolean {
    const inside = (rip: bigint): boolean =>
      linearOf(mode, rip) >> 12n === page && rip <= mode.limit;
    const target = nearTarget(insn);
    return target !== undefined && inside(target) && inside(next);
  }
}

function nearTarget(insn: Insn): bigint | undefined {
  const first = insn.operands[0];
  return first?.kind === OperandKind.NearBranch ? first.imm : undefined;
}
