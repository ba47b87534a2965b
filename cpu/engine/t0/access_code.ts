/**
 * Code of guest loads and stores: probe of the grant cache, the access itself,
 * and the call of the slow path in slow.ts (performance.md §TLB).
 *
 * Invariant: a grant hit means that translation, rights, A/D bits, dirty flag
 * and RAM have been seen to; everything else goes slow. The comparison with
 * (address + size − 1) of the page sends crossings there too.
 */
import { Seg, SEGMENT, SEGMENT_SIZE, VCPU } from "../../layout.ts";
import { I32, I64, Mem, Op } from "../wasm.ts";
import { CELL } from "./area.ts";
import { Generator, loadOf, storeOf } from "./generator.ts";
import { PSEUDO } from "./record.ts";
import type { AccessPlace, Load, Peek, Store } from "./statement.ts";
import { Leave } from "./area.ts";

/** The second parameter of the slow functions. */
export const SlowInfo = {
  sizeMask: 0xf,
  segmentShift: 4,
  segmentMask: 0xf,
  /** A load judged as a write. */
  write: 0x100,
  /** No load: the linear address shall be readable silently, if it may. */
  peek: 0x200,
} as const;

/** Locals that a probed load leaves for the store to the same place. */
interface Probed {
  /** Host offset, 0 when the load went slow. */
  readonly host: number;
  readonly linear: number;
}

/** See the file header. */
export class AccessGenerator extends Generator {
  private readonly probed = new Map<Load, Probed>();
  /** The form loaded or stored. */
  private accesses = false;
  /** 64-bit code: no limits, bases only for FS and GS. */
  protected long = true;

  /** Forgets the places of the last form. */
  protected forget(): void {
    this.probed.clear();
    this.accesses = false;
  }

  /** Leaves the linear address in a local; goes to block `slow` outside the limit. */
  private linear(place: AccessPlace, write: boolean, slow: number): number {
    const { body, target } = this;
    const { segment, offset, size } = place;
    const linear = this.locals.take(I64);
    const base = target.vcpu + VCPU.segments + segment * SEGMENT_SIZE +
      SEGMENT.base;
    if (!this.long) {
      const limit = target.area.cells + CELL.limits + segment * 16 +
        (write ? 8 : 0);
      this.push(offset);
      if (size > 1) body.i64(BigInt(size - 1)).op(Op.i64_add);
      body.i32(0).mem(Mem.i64_load, limit).op(Op.i64_gt_s);
      body.brIf(body.level() - slow);
    }
    this.push(offset);
    if (!this.long || segment >= Seg.FS) {
      body.i32(0).mem(Mem.i64_load, base).op(Op.i64_add);
    }
    if (!this.long) body.i64(0xffff_ffffn).op(Op.i64_and);
    body.set(linear);
    return linear;
  }

  /** Leaves the host offset in a local; goes to block `slow` without a grant. */
  protected probe(
    linear: number,
    size: number,
    write: boolean,
    slow: number,
  ): number {
    const { body, target: { area } } = this;
    const cache = write ? area.write : area.read;
    const entry = this.locals.take(I32), host = this.locals.take(I32);
    body.get(linear).i64(8n).op(Op.i64_shr_u).op(Op.i32_wrap_i64);
    body.i32(0xfff0).op(Op.i32_and);
    body.i32(0).mem(Mem.i32_load, area.cells + CELL.privilege);
    body.op(Op.i32_add).tee(entry).mem(Mem.i64_load, cache);
    body.get(linear);
    if (size > 1) body.i64(BigInt(size - 1)).op(Op.i64_add);
    body.i64(~0xfffn).op(Op.i64_and).op(Op.i64_ne);
    body.brIf(body.level() - slow);
    body.get(linear).op(Op.i32_wrap_i64);
    body.get(entry).mem(Mem.i32_load, cache + 8).op(Op.i32_add).set(host);
    this.locals.give(entry);
    return host;
  }

  /** Calls a slow function for `place`; leaves when it fails. */
  private slow(place: AccessPlace, function_: number, info: number): void {
    const { body, target: { area } } = this;
    body.i32(0);
    this.push(place.offset);
    body.mem(Mem.i64_store, area.cells + CELL.address);
    body.get(this.record);
    body.i32(place.size | place.segment << SlowInfo.segmentShift | info);
    body.call(function_).if();
    this.leaveFor(Leave.Access);
    body.end();
  }

  /** Two ways to one end: `fast` may branch to the level it is given. */
  private either(fast: (slow: number) => void, slow: () => void): void {
    const { body } = this;
    body.block();
    const done = body.level();
    body.block();
    const miss = body.level();
    fast(miss);
    body.br(body.level() - done);
    body.end();
    slow();
    body.end();
  }

  protected load(load: Load): void {
    const { body, target: { area } } = this;
    this.accesses = true;
    this.settle(load.offset);
    const value = this.locals.take(I64);
    let probed: Probed | undefined;
    this.either((slow) => {
      const linear = this.linear(load, load.write, slow);
      const host = this.probe(linear, load.size, load.write, slow);
      body.get(host).mem(loadOf(load.size), 0, true).set(value);
      probed = { host, linear };
    }, () => {
      this.slow(load, this.functions.load, load.write ? SlowInfo.write : 0);
      body.i32(0).mem(Mem.i64_load, area.cells + CELL.value).set(value);
      if (load.reused) this.reuse(probed!);
    });
    this.bind(load.value, value);
    if (load.reused) this.probed.set(load, probed!);
    else this.drop(probed!);
    this.consume(load.offset);
  }

  /** @param miss writes what happens without a grant, which is asked for; it leaves */
  protected peek(peek: Peek, miss: () => void): void {
    const { body, target: { area } } = this;
    const linear = this.hold(peek.linear), value = this.locals.take(I64);
    this.either((slow) => {
      const host = this.probe(linear, peek.size, false, slow);
      body.get(host).mem(loadOf(peek.size), 0, true).set(value);
      this.locals.give(host);
    }, () => {
      body.i32(0).get(linear).mem(Mem.i64_store, area.cells + CELL.address);
      body.get(this.record).i32(SlowInfo.peek).call(this.functions.load);
      body.op(Op.drop);
      miss();
    });
    this.bind(peek.value, value);
    this.consume(peek.linear);
  }

  /** After a slow load: where the store to the same place may go, if anywhere. */
  private reuse({ host, linear }: Probed): void {
    const { body, target: { area, memory } } = this;
    if (memory) {
      // The fact needs the linear address, which the slow path knows.
      body.i32(0).set(host).i64(0n).set(linear);
      return;
    }
    body.i32(0).mem(Mem.i32_load, area.cells + CELL.place).set(host);
  }

  protected store(store: Store): void {
    const { body, target: { area } } = this;
    this.accesses = true;
    this.settle(store.offset);
    this.settle(store.value);
    let at = store.probe && this.probed.get(store.probe);
    this.either((slow) => {
      if (at === undefined) {
        const linear = this.linear(store, true, slow);
        const host = this.probe(linear, store.size, true, slow);
        at = { linear, host };
      } else {
        body.get(at.host).op(Op.i32_eqz).brIf(body.level() - slow);
      }
      if (this.target.memory) {
        body.get(at.linear).get(at.host).i32(store.size);
        this.push(store.value);
        body.get(at.host).mem(loadOf(store.size), 0, true);
        body.call(this.functions.helpers.memory());
      }
      body.get(at.host);
      this.push(store.value);
      body.mem(storeOf(store.size), 0, true);
    }, () => {
      body.i32(0);
      this.push(store.value);
      body.mem(Mem.i64_store, area.cells + CELL.value);
      this.slow(store, this.functions.store, 0);
    });
    if (at !== undefined) this.drop(at);
    this.consume(store.offset);
    this.consume(store.value);
  }

  /** Between two forms in one: a slow access of the first may have asked to stop. */
  protected unlessStopped(): void {
    if (!this.accesses) return;
    const { body } = this;
    body.get(this.head).op(Op.i32_wrap_i64).i32(0xffff).op(Op.i32_and);
    body.i32(PSEUDO.stop).op(Op.i32_eq).if();
    this.leaveFor(Leave.Stop);
    body.end();
  }

  private drop({ host, linear }: Probed): void {
    this.locals.give(host);
    this.locals.give(linear);
  }
}
