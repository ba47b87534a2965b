/**
 * One vCPU on T0: enters compiled code, serves its slow paths, finds and chains
 * blocks, and keeps step, RIP and RFLAGS canonical whenever anyone else can
 * look (design §7).
 *
 * Steps: compiled code subtracts a block's length from CELL.left at its entry;
 * whatever leaves in the middle gives back what was not executed. `end` is the
 * step count at which `left` would be zero.
 */
import type { CpuContext } from "../../context.ts";
import type { Insn } from "../../isa/insn.ts";
import { Outcome } from "../../isa/row.ts";
import { RING_BYTES } from "../../layout.ts";
import { RING_CURSOR, RING_RESERVE } from "../../ring.ts";
import { ExecReason } from "../backend.ts";
import { type Area, areaOf, CELL, Leave } from "./area.ts";
import type { Block } from "./block_store.ts";
import { Blocks } from "./blocks.ts";
import { jumpIndex } from "./codegen.ts";
import { targetOf } from "./generator.ts";
import { Grants } from "./grants.ts";
import { fetchPage, Links } from "./links.ts";
import { linearOf, type Mode } from "./mode.ts";
import { Code } from "./module.ts";
import { Patches } from "./patches.ts";
import { performRow } from "./procedures.ts";
import { FIRST_FORM, PSEUDO, RECORD_BYTES } from "./record.ts";
import type { Shared } from "./shared.ts";
import { DataPaths } from "./slow.ts";
import { StateCells } from "./state.ts";

/** Steps after which `run` returns, so that the host can replace its code by better. */
const SLICE = 1 << 18;
/** Taken from CELL.left to make the next block entry leave. */
const STOLEN = 1 << 30;

/** See the file header. */
export class Runner {
  insn: Insn | undefined;
  notModelled: string | undefined;
  private readonly area: Area;
  private readonly i32: Int32Array;
  private readonly u16: Uint16Array;
  private readonly u64: BigUint64Array;
  private readonly cells: number;
  private readonly grants: Grants;
  private readonly data: DataPaths;
  private readonly links: Links;
  private readonly blocks: Blocks;
  /** By HotFacts bits. */
  private readonly variants: (Code | undefined)[] = [];
  private observed = 0;
  private code: Code | undefined;
  private mode!: Mode;
  /** Step at which CELL.left is zero. */
  private end = 0;
  private running = false;
  /** Compiled code must leave after the current instruction. */
  private stolen = false;
  private readonly patches: Patches;
  private readonly state: StateCells;
  /** A slow access met a fused form: its first instruction runs alone. */
  private alone = 0;

  constructor(
    private readonly cpu: CpuContext,
    private readonly shared: Shared,
  ) {
    const { memory, decoded, forms } = shared;
    this.area = areaOf(cpu.layout, cpu.index);
    this.cells = this.area.cells >>> 2;
    this.i32 = new Int32Array(memory.buffer);
    this.u16 = new Uint16Array(memory.buffer);
    this.u64 = new BigUint64Array(memory.buffer);
    this.u64[(this.area.cells + CELL.pace) >>> 3] = BigInt(cpu.pace ?? 1);
    this.patches = new Patches(memory, forms);
    this.state = new StateCells(memory, this.area, cpu);
    this.grants = new Grants(memory, cpu.layout, this.area, cpu);
    this.data = new DataPaths(memory, this.area, cpu, this.grants, this);
    this.links = new Links(memory, this.area, cpu);
    this.blocks = new Blocks(memory, this.area, cpu, decoded, forms);
    this.blocks.eager = shared.eager;
    this.blocks.several = cpu.layout.cpus > 1;
  }

  // --- what the engine tells

  /** @param facts bits: 1 retired, 2 memory, 4 registers */
  observe(facts: number): void {
    const fuse = facts === 0;
    if (this.blocks.fuse !== fuse) {
      this.blocks.fuse = fuse;
      this.forget();
    }
    this.observed = facts;
    this.code = this.variants[facts];
    this.reserveForms();
  }

  /** Bytes of a physical page were written. @returns whether blocks of it live on */
  codeWritten(page: number, first: number, last: number): boolean {
    const { blocks } = this;
    if (blocks.dropBytes(page, first, last)) this.links.retire(page);
    if (this.running && blocks.owner(this.current).dropped) this.stop();
    return blocks.has(page);
  }

  dropGrants(page: number | undefined): void {
    if (page === undefined) {
      this.grants.dropAll();
      this.links.dropAll();
    } else {
      this.grants.dropPage(page);
      this.links.dropPage(page);
    }
  }

  /** Ends write grants: all, or those to one physical page. */
  dropWriteGrants(physicalPage?: number): void {
    if (physicalPage === undefined) this.grants.dropWrites();
    else this.grants.dropWritesTo(physicalPage);
  }

  reset(): void {
    this.forget();
    this.grants.dropAll();
  }

  /** Empties the record pool. */
  private forget(): void {
    this.blocks.clear();
    this.links.retireAll();
  }

  // --- execution

  /** As Backend.execute. */
  execute(limit: number): number {
    const { cpu } = this;
    const { v } = cpu;
    if (this.state.needsReference) return this.delegate(limit);
    if (this.observed !== 0 && this.ringNearlyFull()) return ExecReason.Ring;
    this.code ??= this.variants[this.observed] ??= this.makeCode();
    this.enterState();
    let record = 0;
    let rip = v.rip;
    let step = v.step;
    for (;;) {
      if (step >= limit) return this.settle(step, rip, ExecReason.Limit);
      if (record === 0) record = this.locate(rip);
      if (record === 0) {
        if (this.state.settle(step, rip)) return ExecReason.Attention;
        const failure = fetchPage(cpu, this.mode, rip);
        if (failure !== 0) return failure;
        record = this.locate(rip);
      }
      if (record === 0) {
        const reason = this.delegate(step + 1);
        if (reason !== ExecReason.Limit) return reason;
        this.enterState();
        rip = v.rip;
        step = v.step;
        continue;
      }
      this.run(record, step, limit);
      const reason = this.get(CELL.reason);
      const at = this.get(CELL.record);
      let left = this.get(CELL.left);
      record = 0;
      let outcome = -1;
      switch (reason) {
        case Leave.Ring:
          outcome = ExecReason.Ring;
          rip = this.blocks.ripOf(at);
          break;
        case Leave.Enter:
          rip = this.blocks.ripOf(at);
          // A chain inside a page may lead to a block that this page just lost.
          if (!this.blocks.owner(at).dropped) record = at;
          break;
        case Leave.Stop:
          left += this.unexecuted(at);
          rip = this.blocks.ripOf(at);
          break;
        case Leave.Again:
          left += this.unexecuted(at) - 1;
          rip = this.blocks.ripOf(at);
          if (this.observed !== 0 && this.ringNearlyFull()) {
            outcome = ExecReason.Ring;
          }
          break;
        case Leave.Miss: {
          const slot = this.get(CELL.detail);
          rip = this.blocks.targetOf(at, slot);
          step = this.end - left;
          if (step < limit && !cpu.attention) {
            record = this.link(at, slot, rip);
          }
          break;
        }
        case Leave.Jump:
          rip = this.u64[(this.area.cells + CELL.address) >>> 3];
          break;
        case Leave.Call:
          left += this.unexecuted(at);
          rip = this.blocks.ripOf(at);
          step = this.end - left;
          if (step >= limit) break;
          this.callRow(this.insnAt(at), step, rip);
          // falls through
        case Leave.Called:
          if (this.called >= 0) return this.called;
          rip = v.rip;
          step = v.step;
          continue;
        case Leave.Raise:
          left += this.unexecuted(at);
          rip = this.blocks.ripOf(at);
          v.raise(this.get(CELL.detail), this.get(CELL.errorCode));
          outcome = ExecReason.Fault;
          break;
        case Leave.Access:
          left += this.unexecuted(at);
          rip = this.blocks.ripOf(at);
          if (this.alone !== 0) {
            record = at;
            break;
          }
          outcome = cpu.access.outcome === Outcome.Stage2
            ? ExecReason.Stage2
            : ExecReason.Fault;
          break;
        case Leave.Reference:
          left += this.unexecuted(at);
          rip = this.blocks.ripOf(at);
          step = this.end - left;
          if (step >= limit) break;
          if (this.compileIfDue(at) || this.cross(at, rip)) {
            record = at;
            continue;
          }
          if (this.state.settle(step, rip)) return ExecReason.Attention;
          outcome = this.delegate(step + 1);
          if (outcome !== ExecReason.Limit) return outcome;
          this.enterState();
          rip = v.rip;
          step = v.step;
          record = this.following(at, rip);
          continue;
      }
      step = this.end - left;
      if (outcome >= 0) return this.settle(step, rip, outcome);
      if (cpu.attention) return this.settle(step, rip, ExecReason.Attention);
    }
  }

  /** After `callRow`: reason to return; −1 to go on. */
  private called = -1;

  private callRow(insn: Insn, step: number, rip: bigint): void {
    this.settle(step, rip, 0);
    this.insn = insn;
    this.called = performRow(this.cpu, this.shared.callRows, this.state, insn);
    if (this.called < 0) this.enterState();
  }

  /** Enters compiled code at a record; afterwards CELL.left is undisturbed. */
  private run(record: number, step: number, limit: number): void {
    const { i32, cells } = this;
    const budget = Math.min(limit - step, SLICE);
    const rest = this.unexecuted(record);
    this.end = step + budget;
    this.stolen = false;
    if (this.alone !== 0) this.patches.unfuse(this.alone);
    this.alone = 0;
    if (budget < rest) {
      const end = record + budget * RECORD_BYTES;
      this.patches.revive(record, end);
      if (budget > 0) this.patches.unfuse(end - RECORD_BYTES);
      this.patches.put(end, PSEUDO.stop);
    }
    i32[cells + (CELL.left >> 2)] = budget - rest;
    this.state.setEnd(this.end);
    this.current = record;
    this.running = true;
    try {
      this.code!.run(record);
    } catch (error) {
      // Something that is not modelled ended the machine in a slow path.
      if (this.running) this.settle(this.cpu.v.step, this.cpu.v.rip, 0);
      throw error;
    } finally {
      this.running = false;
      this.patches.undo();
      if (this.stolen) i32[cells + (CELL.left >> 2)] += STOLEN;
    }
  }

  /** As SlowHost: makes compiled code leave after the instruction in a slow path. */
  stop(): void {
    if (this.stolen) return;
    this.stolen = true;
    this.i32[this.cells + (CELL.left >> 2)] -= STOLEN;
    const { current, blocks } = this;
    const block = blocks.owner(current);
    if (this.terminates(block, blocks.position(current))) return;
    this.patches.put(current + RECORD_BYTES, PSEUDO.stop);
  }

  private terminates({ insns }: Block, position: number): boolean {
    return insns[position]?.row.endsBlock === true;
  }

  /** Instructions of the block from the record on. */
  private unexecuted(record: number): number {
    return this.blocks.lengthOf(record) - this.blocks.position(record);
  }
  insnAt(record: number): Insn {
    return this.blocks.owner(record).insns[this.blocks.position(record)];
  }

  /** Puts step, RIP and RFLAGS into the layout. @returns `reason` */
  private settle(step: number, rip: bigint, reason: number): number {
    this.state.settle(step, rip);
    return reason;
  }

  /** Takes RFLAGS, mode, privilege and segments from the layout. */
  private enterState(): void {
    const { cpu } = this;
    this.mode = this.shared.modes.of(cpu);
    this.state.enter(this.mode.codeSize === 64);
    this.links.enter(this.mode);
  }

  // --- finding code

  /** After `locate`: the place of the page's link number. */
  private place = 0;

  /** First record of the block at RIP; 0 when the reference must execute there. */
  private locate(rip: bigint): number {
    const { cpu, mode, blocks, links, area, i32 } = this;
    const low = Number(BigInt.asUintN(32, rip));
    const entry = (area.jump + jumpIndex(low)) >>> 2;
    const linear = linearOf(mode, rip);
    const page = Number(linear >> 12n);
    const place = links.place(page);
    this.place = place;
    if (
      i32[entry + 3] === links.numberAt(place) &&
      this.u64[entry >>> 1] === rip
    ) return i32[entry + 2];
    if (mode.codeSize === 64 ? !cpu.access.canonical(rip) : rip > mode.limit) {
      return 0;
    }
    const frame = links.physicalPage(page);
    if (frame < 0) return 0;
    // A grant given again has the number it had.
    if (
      i32[entry + 3] === links.numberAt(place) &&
      this.u64[entry >>> 1] === rip
    ) return i32[entry + 2];
    const offset = (mode.codeSize === 64 ? low : Number(linear)) & 0xfff;
    let block = blocks.find(frame, offset, rip, mode);
    if (block === undefined) {
      if (blocks.full) {
        this.forget();
        links.grant(page, frame);
      }
      block = blocks.build(frame, rip, mode);
      this.reserveForms();
    }
    this.u64[entry >>> 1] = rip;
    i32[entry + 2] = block.record;
    i32[entry + 3] = links.numberAt(place);
    return block.record;
  }

  /** Makes code of an instruction that crosses pages. @returns whether it may be entered */
  private cross(record: number, rip: bigint): boolean {
    const { blocks, links, mode } = this;
    const block = blocks.owner(record);
    if (!block.crosses || record !== block.record) return false;
    const page = Number(linearOf(mode, rip) >> 12n) + 1;
    const rest = links.physicalPage(page);
    if (rest < 0) return false;
    const place = links.place(page);
    const made = blocks.cross(block, rest, links.numberAt(place), place);
    this.reserveForms();
    return made;
  }

  /** Blocks may have forms that were new: dispatch needs a place for each. */
  private reserveForms(): void {
    this.code?.reserve(this.shared.forms.count + FIRST_FORM);
  }

  /** Resolves a chain slot. @returns the record it leads to, or 0 */
  private link(from: number, slot: number, rip: bigint): number {
    const { blocks, links } = this;
    const owner = blocks.owner(from);
    const record = this.locate(rip);
    if (record === 0 || owner.dropped) return record;
    if (blocks.owner(from) !== owner) return record; // the pool was emptied
    const { place } = this;
    blocks.link(from + slot, record, links.numberAt(place), place);
    return record;
  }

  /** The record after one that the reference executed, if RIP went there. */
  private following(record: number, rip: bigint): number {
    const { blocks } = this;
    const block = blocks.owner(record);
    if (block === undefined || block.dropped) return 0;
    const position = blocks.position(record);
    const next = record + RECORD_BYTES;
    return position < block.length && !block.crosses &&
        !this.terminates(block, position) &&
        blocks.ripOf(next) === rip
      ? next
      : 0;
  }

  // --- the reference

  private delegate(limit: number): number {
    const { reference } = this.shared;
    const reason = reference.execute(this.cpu, limit);
    this.insn = reference.insn;
    this.notModelled = reference.notModelled;
    return reason;
  }

  /** Compiles the form of a record that the reference has executed often enough. */
  private compileIfDue(record: number): boolean {
    const { forms, threshold } = this.shared;
    const id = this.u16[record >>> 1];
    const code = this.code!;
    if (id < FIRST_FORM) return false;
    const form = forms.byId(id);
    if (code.has(form) || ++form.misses <= threshold) return false;
    code.compile(form);
    return true;
  }

  private makeCode(): Code {
    const { cpu, shared, area, observed } = this;
    const target = targetOf(cpu, area, observed);
    const code = new Code(shared.memory, target, this.data, shared.hot);
    code.reserve(shared.forms.count + FIRST_FORM);
    return code;
  }

  private ringNearlyFull(): boolean {
    const used = this.i32[(this.cpu.layout.ring - RING_CURSOR) >>> 2];
    return used > RING_BYTES - RING_RESERVE;
  }

  // --- what slow paths ask

  /** Record whose slow path runs, or the one that was entered last. */
  private current = 0;

  /** As SlowHost. */
  single(record: number): boolean {
    if (!this.patches.isFused(record)) return false;
    this.alone = record;
    return true;
  }

  /** As SlowHost. */
  open(record: number): void {
    const { blocks, cpu: { v } } = this;
    this.current = record;
    const left = this.get(CELL.left) + (this.stolen ? STOLEN : 0);
    v.step = this.end - left - this.unexecuted(record);
    blocks.setRip(record, v);
  }

  /** As SlowPaths. Goes on only in the mode that it was, and where RIP is behind the row. */
  procedure(record: number): number {
    const { mode, cpu: { v }, blocks } = this;
    if (this.get(CELL.left) <= 0) return this.state.leave(record, Leave.Call);
    this.open(record);
    const insn = this.insnAt(record);
    this.running = false;
    this.callRow(insn, v.step, v.rip);
    this.running = true;
    if (this.called >= 0 || this.mode !== mode || !blocks.precedes(record)) {
      return this.state.leave(record, Leave.Called);
    }
    this.i32[this.cells + (CELL.left >> 2)]--;
    return 0;
  }

  private get(cell: number): number {
    return this.i32[this.cells + (cell >> 2)];
  }
}
