/**
 * Makes blocks of decoded records from physical pages: one straight line of
 * code within a page, or a single instruction that crosses into the next.
 *
 * Invariant: a record of an instruction that has no code in the engine sends it
 * to the reference or to the loop; nothing of the machine changes here.
 */
import { Intercept } from "../../arch/intercepts.ts";
import type { CpuContext } from "../../context.ts";
import { type Insn, OperandKind } from "../../isa/insn.ts";
import type { Row } from "../../isa/row.ts";
import { PAGE_SIZE, SEGMENT, SEGMENT_SIZE, VCPU } from "../../layout.ts";
import type { Area } from "./area.ts";
import { Block, BlockStore, MAX_LENGTH } from "./block_store.ts";
import type { DecodeCache, Decoded } from "./decoded.ts";
import type { Form, Forms } from "./form.ts";
import { canFuse } from "./fused.ts";
import { deadFlags, type FlagUse } from "./liveness.ts";
import { linearOf, type Mode } from "./mode.ts";
import {
  BLOCK_LIMIT,
  CROSSING,
  PSEUDO,
  RECORD,
  RECORD_BYTES,
} from "./record.ts";
import { Wild } from "./wild_bytes.ts";

const WORDS = RECORD_BYTES / 4;
const MASK64 = (1n << 64n) - 1n;
const MASK32 = 0xffff_ffffn;
/** Of segment 0, in the vCPU page. */
const SELECTORS = VCPU.segments + SEGMENT.selector;
/** Units of a block whose instruction crosses pages: the check, it, the end. */
const CROSSING_UNITS = 1 + 2 + 2;

/** See the file header. */
export class Blocks extends BlockStore {
  private readonly bytes = new Uint8Array(2 * MAX_LENGTH);
  /** Instructions of the block that is built. */
  private readonly insns: Insn[] = new Array(BLOCK_LIMIT);
  /** What they mean to the flags. */
  private readonly plain: FlagUse[] = [];
  /** Of the block whose records are written. */
  private ripLow = 0;
  private ripHigh = 0;
  private mode!: Mode;
  /**
   * No hot fact is wanted: pairs of instructions that have a fused form run as
   * one, plain cases of procedures in compiled code.
   */
  fuse = true;
  /** Forms for it are made as blocks need them. */
  eager = false;
  /** There are several vCPUs: who yields may end its turn. */
  several = false;

  constructor(
    memory: WebAssembly.Memory,
    area: Area,
    cpu: CpuContext,
    private readonly decoded: DecodeCache,
    private readonly forms: Forms,
  ) {
    super(memory, area, cpu);
  }

  /**
   * Decodes a block. What begins here and is no whole instruction of this page
   * (it crosses the page, is invalid or not modelled) is one by itself.
   */
  build(page: number, rip: bigint, mode: Mode): Block {
    const { decoded, u16, cpu: { physical } } = this;
    this.setPlace(rip, mode);
    const { ripLow, ripHigh } = this;
    const start = Number(linearOf(mode, rip) & 0xfffn);
    const base = page * PAGE_SIZE;
    const record = this.free;
    const { insns } = this;
    let count = 0;
    let at = record, offset = start, length = 0;
    let ended = false, linked = 0;
    let before: Form | undefined;
    while (length < BLOCK_LIMIT && offset < PAGE_SIZE) {
      const room = this.roomAt(offset, start);
      if (room <= 0) break;
      const known = decoded.find(
        physical.ram,
        base + offset,
        room,
        ripLow + offset - start,
        ripHigh,
        mode,
      );
      if (typeof known === "number") break;
      const branch = known.wild.kind === Wild.Branch;
      const insn = known.own
        ? known.insn.at(this.ripAfter(offset - start), decoded.value)
        : known.insn;
      insns[count++] = insn;
      this.head(at, offset - start, length);
      const calls = insn.row.call !== undefined && !this.quick(insn.row);
      if (calls || (branch && !this.reachable())) {
        u16[at >>> 1] = calls ? PSEUDO.call : PSEUDO.reference;
        offset += insn.length;
        if (calls) {
          linked = at;
          this.links(at, offset - start, false);
          at += RECORD_BYTES;
        }
        at += RECORD_BYTES;
        ended = true;
        break;
      }
      const terminator = insn.row.endsBlock === true;
      const after = offset + insn.length - start;
      const local = branch && terminator && this.isLocal(after);
      const form = this.formOf(known, insn, local);
      this.fillFrom(at, form.id, known, length);
      if (terminator && length > 0 && this.fuse) {
        const pair = this.fused(before!, form, insns[length - 1], insn);
        if (pair) u16[(at - RECORD_BYTES) >>> 1] = pair.id;
      }
      before = form;
      length++;
      at += RECORD_BYTES;
      if (terminator) {
        linked = at - RECORD_BYTES;
        this.links(linked, after, branch);
        at += RECORD_BYTES;
        offset += insn.length;
        ended = true;
        break;
      }
      offset += insn.length;
    }
    const crosses = count === 0 && offset > PAGE_SIZE - MAX_LENGTH &&
      mode.codeSize === 64;
    if (count === 0) {
      // It is left for the reference; `cross` may make code of what crosses.
      this.head(at, 0, length);
      u16[at >>> 1] = PSEUDO.reference;
      at += (crosses ? CROSSING_UNITS : 1) * RECORD_BYTES;
      offset = PAGE_SIZE;
      ended = true;
    } else if (this.fuse) {
      this.kill(record, length);
      this.pair(record, length);
    }
    if (!ended) {
      this.head(at, offset - start, length);
      u16[at >>> 1] = offset < PAGE_SIZE ? PSEUDO.endLocal : PSEUDO.endFar;
      linked = at;
      this.links(at, offset - start, false);
      at += 2 * RECORD_BYTES;
    }
    const block = new Block(record, rip, page, mode, start, offset, crosses);
    block.length = length;
    block.insns = insns.slice(0, count);
    block.terminator = linked;
    this.keep(at, block, Math.max(count + (ended ? 0 : 1), 1));
    return block;
  }

  /** Where the block is whose records are written. */
  private setPlace(rip: bigint, mode: Mode): void {
    this.mode = mode;
    this.ripLow = Number(rip & MASK32);
    this.ripHigh = Number(rip >> 32n);
  }

  /** Bytes that an instruction at `offset` may have in this page and code segment. */
  private roomAt(offset: number, start: number): number {
    const { mode: { codeSize, limit } } = this;
    const room = Math.min(MAX_LENGTH, PAGE_SIZE - offset);
    if (codeSize === 64) return room;
    return Math.min(room, Number(limit - this.ripAfter(offset - start) + 1n));
  }

  /** Whether a `call` row's plain case may run in compiled code. */
  private quick({ quick, yields, feature, intercept }: Row): boolean {
    if (quick === undefined || !this.fuse) return false;
    if (yields && this.several) return false;
    // It is told of every IRET.
    if (intercept === Intercept.Iret && this.cpu.exceptionFilter) return false;
    return feature === undefined || this.cpu.model.has(feature);
  }

  /** The fused form of two instructions of the forms given. */
  private fused(
    form: Form,
    branch: Form,
    first: Insn,
    second: Insn,
  ): Form | undefined {
    return this.eager && canFuse(first, second)
      ? this.forms.fuse(first, second, branch.local)
      : this.forms.findFused(form, branch);
  }

  private formOf(known: Decoded, insn: Insn, local: boolean): Form {
    return local
      ? known.near ??= this.forms.of(insn, true)
      : known.far ??= this.forms.of(insn, false);
  }

  /** Writes an instruction's record, from a copy if there is one. */
  private fillFrom(
    at: number,
    form: number,
    known: Decoded,
    position: number,
  ): void {
    const { u32, decoded, decoded: { words } } = this;
    const first = at >>> 2, from = known.words;
    if (!known.filled) {
      this.fill(at, form, known.insn);
      for (let i = 0; i < WORDS; i++) words[from + i] = u32[first + i];
      known.filled = true;
    } else {
      for (let i = 0; i < WORDS; i++) u32[first + i] = words[from + i];
      u32[first] = form | position << (8 * RECORD.position);
    }
    const { kind } = known.wild;
    if (kind > Wild.Branch) {
      const number = kind === Wild.Immediate
        ? RECORD.immediate
        : RECORD.displacement;
      this.put(at + number, decoded.low, decoded.high);
    }
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

  /**
   * Makes the block of an instruction that crosses into physical page `rest`,
   * or makes it valid again.
   * @param number of the link to that page, in force at `place`
   * @returns whether its first record may be entered
   */
  cross(block: Block, rest: number, number: number, place: number): boolean {
    const { u32, u16 } = this;
    const { record } = block;
    if (block.dropped || block.rest !== rest) {
      if (!this.decodeCrossing(block, rest)) return false;
    }
    u16[record >>> 1] = PSEUDO.crossing;
    u32[(record + CROSSING.number) >>> 2] = number;
    u32[(record + CROSSING.place) >>> 2] = place;
    return true;
  }

  private decodeCrossing(block: Block, rest: number): boolean {
    const { bytes, u8, cpu: { physical } } = this;
    const { record, page, start, rip, mode } = block;
    const here = PAGE_SIZE - start;
    const at = page * PAGE_SIZE + start, next = rest * PAGE_SIZE;
    bytes.set(physical.ram.subarray(at, at + here));
    bytes.set(physical.ram.subarray(next, next + MAX_LENGTH - here), here);
    this.setPlace(rip, mode);
    const known = this.decoded.find(
      bytes,
      0,
      MAX_LENGTH,
      this.ripLow,
      this.ripHigh,
      mode,
    );
    if (typeof known === "number" || known.own) return false;
    const { insn } = known;
    if (insn.length <= here) return false;
    const branch = known.wild.kind === Wild.Branch;
    if (branch && !this.reachable()) return false;
    block.insns = [insn];
    block.length = 1;
    const own = record + RECORD_BYTES, end = own + RECORD_BYTES;
    this.head(own, 0, 0);
    this.fillFrom(own, this.formOf(known, insn, false).id, known, 0);
    if (insn.row.endsBlock === true) block.terminator = own;
    else {
      this.head(end, insn.length, 1);
      this.u16[end >>> 1] = PSEUDO.endFar;
      block.terminator = end;
    }
    this.links(block.terminator, insn.length, branch);
    for (let unit = record; unit <= end; unit += RECORD_BYTES) {
      if (unit <= block.terminator) u8[unit + RECORD.length] = 1;
    }
    if (block.dropped) {
      block.dropped = false;
      this.register(block);
    }
    this.enterRest(block, rest);
    return true;
  }

  /** Writes what every record has. @param further bytes after the block's RIP */
  private head(at: number, further: number, position: number): void {
    this.u8[at + RECORD.position] = position;
    this.putRip(this.area.rips + (at - this.area.pool) / 4, further);
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
      } else if (operand.kind === OperandKind.Segment) {
        register = SELECTORS + operand.reg * SEGMENT_SIZE;
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

  /**
   * Second unit of a terminator: empty chain slots and the RIPs they lead to,
   * that of a branch taken among the RIPs of units.
   * @param after bytes from the block's RIP to the next instruction's
   * @param branch whether the decoder's number is a target
   */
  private links(at: number, after: number, branch: boolean): void {
    this.unlink(at);
    this.putRip(at + RECORD.nextRip, after);
    if (!branch) return;
    this.put(this.takenRip(at), this.decoded.low, this.decoded.high);
  }

  private put(at: number, low: number, high: number): void {
    this.u32[at >>> 2] = low;
    this.u32[(at >>> 2) + 1] = high;
  }

  /** Writes the RIP `further` bytes after the block's. */
  private putRip(at: number, further: number): void {
    const low = this.ripLow + further;
    let high = this.ripHigh;
    if (low > 0xffff_ffff && this.mode.codeSize === 64) high++;
    this.put(at, low, high);
  }

  private ripAfter(further: number): bigint {
    const rip = (BigInt(this.ripHigh) << 32n) + BigInt(this.ripLow + further);
    return rip & (this.mode.codeSize === 64 ? MASK64 : MASK32);
  }

  /** Whether a direct branch's target passes the check that a taken branch makes. */
  private reachable(): boolean {
    const { mode, decoded } = this;
    if (mode.codeSize !== 64) return decoded.value <= mode.limit;
    // Canonical addresses are the same in all but 2^32-byte pieces, and RIP is one.
    return decoded.high === this.ripHigh ||
      this.cpu.access.canonical(decoded.value);
  }

  /** Whether a branch's successors lie in this page: chains then need no link number. */
  private isLocal(after: number): boolean {
    const { decoded } = this;
    const low = this.ripLow + after;
    return low <= 0xffff_ffff && this.inside(low, this.ripHigh) &&
      this.inside(decoded.low, decoded.high);
  }

  private inside(low: number, high: number): boolean {
    const { mode, ripLow } = this;
    if (high !== this.ripHigh) return false;
    if (mode.codeSize === 64) return low >>> 12 === ripLow >>> 12;
    const base = Number(mode.base);
    return low <= mode.limit && (base + low) >>> 12 === (base + ripLow) >>> 12;
  }
}
