/**
 * The toy machine's executor. It has what real engines have: registers cached
 * outside the canonical pages, a ring of hot facts, a quiet and an observed
 * path, dirty marks, and slices that can be chopped at random without effect.
 */
import { NotModelled, PAGE_SIZE } from "../../core/mod.ts";
import type {
  Edit,
  Executor,
  KernelPort,
  PagedState,
  RunOutcome,
} from "../../core/mod.ts";
import {
  ToyInterrupted,
  ToyInterruptsService,
  ToyMemoryService,
  ToyPortRead,
  ToyPortWritten,
  ToyReadMask,
  ToyReadPort,
  ToyRetired,
  ToyWritePort,
  ToyWrote,
} from "./api.ts";
import { MAGIC, OP } from "./program.ts";

const STATE_PAGES = 2;
const RING_WORDS = 1024;
const HALT = ((MAGIC << 8) | OP.halt) >>> 0;
const MAX_TRANSITIONS = 65_536;
/** Byte offsets in state page 0. */
const AT = {
  registers: 0,
  pc: 32,
  halted: 36,
  pending: 40,
  enabled: 44,
  vector: 48,
  savedPc: 52,
  step: 56,
  idle: 64,
} as const;

/** How to build one. */
export interface ToyConfig {
  readonly program: Uint8Array;
  /** RAM in 4-KiB pages, a power of two; default 16. */
  readonly ramPages?: number;
  /** Comes back to the kernel every so many steps; 0 never. */
  readonly chop?: number;
  /** Virtual nanoseconds of a step; default 1. */
  readonly pace?: number;
  readonly name?: string;
}

/** The executor of one toy machine. */
export class ToyExecutor implements Executor, PagedState {
  readonly name: string;
  readonly state: PagedState = this;
  readonly pace: number;
  readonly statePages = STATE_PAGES;
  readonly pageCount: number;
  readonly #port: KernelPort;
  readonly #memory: Uint8Array;
  readonly #view: DataView;
  readonly #mask: number;
  readonly #dirty: Uint8Array;
  readonly #chop: number;
  readonly #r = new Uint32Array(8);
  readonly #ring = new Uint32Array(RING_WORDS);
  readonly #readPort: (args: { readonly port: number }) => number | undefined;
  readonly #readMask: (args: { readonly port: number }) => number;
  readonly #writePort: (
    args: { readonly port: number; readonly value: number },
  ) => true | undefined;
  #ringEnd = 0;
  #pc = 0;
  #halted = 0;
  #pending = 0;
  #enabled = 0;
  #vector = 0;
  #savedPc = 0;
  #step = 0;
  #idle = 0;
  #limit = 0;
  #wantRetired = false;
  #wantWrote = false;
  #perStep = false;

  constructor(port: KernelPort, config: ToyConfig) {
    this.#port = port;
    this.name = config.name ?? "toy";
    this.pace = config.pace ?? 1;
    const ramPages = config.ramPages ?? 16;
    this.pageCount = STATE_PAGES + ramPages;
    this.#memory = new Uint8Array(this.pageCount * PAGE_SIZE);
    this.#view = new DataView(this.#memory.buffer);
    this.#mask = ramPages * PAGE_SIZE - 1;
    this.#dirty = new Uint8Array(ramPages);
    this.#chop = config.chop ?? 0;
    this.#memory.set(config.program, STATE_PAGES * PAGE_SIZE);
    this.#dirty.fill(1, 0, Math.ceil(config.program.length / PAGE_SIZE));
    port.declare([
      ToyRetired,
      ToyWrote,
      ToyPortRead,
      ToyPortWritten,
      ToyInterrupted,
    ]);
    this.#readPort = port.ask(ToyReadPort);
    this.#writePort = port.ask(ToyWritePort);
    this.#readMask = port.ask(ToyReadMask);
    port.provide(ToyInterruptsService, {
      raise: (line: number) => {
        this.#pending = (this.#pending | (1 << line)) >>> 0;
      },
    });
    port.provide(ToyMemoryService, {
      read32: (address: number) => this.#load(address),
    });
  }

  step(): number {
    return this.#step;
  }
  idle(): number {
    return this.#idle;
  }
  setIdle(nanoseconds: number): void {
    this.#idle = nanoseconds;
  }
  interest(hot: Uint32Array, perStep: boolean): void {
    const wants = (id: number) => (hot[id >>> 5] & (1 << (id & 31))) !== 0;
    this.#wantRetired = wants(ToyRetired.id);
    this.#wantWrote = wants(ToyWrote.id);
    this.#perStep = perStep;
  }
  shorten(limitStep: number): void {
    if (limitStep < this.#limit) this.#limit = limitStep;
  }

  run(limitStep: number): RunOutcome {
    this.#limit = limitStep;
    const chopAt = this.#chop > 0 ? this.#step + this.#chop : Infinity;
    for (let transitions = 0;;) {
      const interrupt = this.#enabled !== 0 && this.#pending !== 0;
      if (this.#halted !== 0 && !interrupt) return { kind: "idle" };
      if (this.#step >= this.#limit) return { kind: "limit" };
      if (this.#step >= chopAt) return { kind: "yield" };
      const before = this.#step;
      if (interrupt) this.#interrupt();
      else {
        const code = this.#load(this.#pc);
        if (code === HALT) return { kind: "stopped", reason: "toy halted" };
        this.#execute();
      }
      if (this.#perStep) this.drain();
      if (this.#port.pending()) {
        this.drain();
        this.#port.pump();
      }
      if (this.#step !== before) transitions = 0;
      else if (++transitions === MAX_TRANSITIONS) {
        return { kind: "stuck", loop: `spin at ${this.#pc}` };
      }
    }
  }

  #interrupt(): void {
    const line = 31 - Math.clz32(this.#pending & -this.#pending);
    this.#emit(() => this.#port.emit(ToyInterrupted, { line, pc: this.#pc }));
    this.#pending &= ~(1 << line);
    this.#enabled = 0;
    this.#halted = 0;
    this.#savedPc = this.#pc;
    this.#pc = this.#vector;
    this.#r[7] = line;
    this.#step++;
  }

  #execute(): void {
    const r = this.#r;
    const pc = this.#pc;
    const code = this.#view.getUint32(STATE_PAGES * PAGE_SIZE + pc, true);
    const op = code & 255;
    const a = code >>> 8 & 7;
    const b = code >>> 16 & 7;
    const c = code >>> 24;
    const wide = code >> 16;
    let next = pc + 4;
    switch (op) {
      case OP.li:
        r[a] = wide;
        break;
      case OP.add:
        r[a] = r[b] + r[c & 7];
        break;
      case OP.xor:
        r[a] = r[b] ^ r[c & 7];
        break;
      case OP.mul:
        r[a] = Math.imul(r[b], r[c & 7]);
        break;
      case OP.shl:
        r[a] = r[b] << (c & 31);
        break;
      case OP.ld:
        r[a] = this.#load(r[b] + 4 * c);
        break;
      case OP.st:
        this.#store(r[b] + 4 * c, r[a]);
        break;
      case OP.jnz:
        if (r[a] !== 0) next += 4 * wide;
        break;
      case OP.jmp:
        next += 4 * wide;
        break;
      case OP.out:
        this.#out(c & 15, r[a]);
        break;
      case OP.in:
        r[a] = this.#in(c & 15);
        break;
      case OP.hlt:
        this.#halted = 1;
        this.#enabled = 1;
        break;
      case OP.hltHeld:
        if (code >>> 8 === MAGIC) this.#halted = 1;
        break;
      case OP.rnd:
        r[a] = this.#port.random.u32();
        break;
      case OP.iret:
        next = this.#savedPc;
        this.#enabled = 1;
        break;
      case OP.irq:
        this.#enabled = a & 1;
        break;
      case OP.time:
        r[a] = this.#step + this.#idle;
        break;
      case OP.vector:
        this.#vector = (4 * wide & this.#mask & ~3) >>> 0;
        break;
      case OP.spin:
        if (code >>> 8 === MAGIC) return;
        break;
      case OP.mystery:
        if (code >>> 8 !== MAGIC) break;
        throw new NotModelled("MYSTERY", "toy manual, section 7");
    }
    if (this.#wantRetired) {
      const at = this.#reserve(ToyRetired.id, 2);
      this.#ring[at] = pc;
      this.#ring[at + 1] = op;
    }
    this.#pc = (next & this.#mask & ~3) >>> 0;
    this.#step++;
  }

  #load(address: number): number {
    const at = (address & this.#mask & ~3) >>> 0;
    return this.#view.getUint32(STATE_PAGES * PAGE_SIZE + at, true);
  }

  #store(address: number, value: number): void {
    const at = (address & this.#mask & ~3) >>> 0;
    if (this.#wantWrote) {
      const ring = this.#reserve(ToyWrote.id, 3);
      this.#ring[ring] = at;
      this.#ring[ring + 1] = this.#load(at);
      this.#ring[ring + 2] = value;
    }
    this.#view.setUint32(STATE_PAGES * PAGE_SIZE + at, value, true);
    this.#dirty[at >>> 12] = 1;
  }

  #out(port: number, value: number): void {
    this.#emit(() => this.#port.emit(ToyPortWritten, { port, value }));
    this.#writePort({ port, value });
  }

  #in(port: number): number {
    const answer = this.#readPort({ port }) ?? 0xffff_ffff;
    const value = (answer ^ this.#readMask({ port })) >>> 0;
    this.#emit(() => this.#port.emit(ToyPortRead, { port, value }));
    return value;
  }

  /** What goes to the bus directly must not overtake the ring. */
  #emit(emit: () => void): void {
    if (this.#ringEnd > 0) this.drain();
    emit();
  }

  /** Room for a hot fact: id, step (two words), payload. */
  #reserve(id: number, words: number): number {
    if (this.#ringEnd + 3 + words > RING_WORDS) this.drain();
    const at = this.#ringEnd;
    this.#ring[at] = id;
    this.#ring[at + 1] = this.#step >>> 0;
    this.#ring[at + 2] = Math.floor(this.#step / 0x1_0000_0000);
    this.#ringEnd = at + 3 + words;
    return at + 3;
  }

  drain(): void {
    const end = this.#ringEnd;
    this.#ringEnd = 0;
    for (let at = 0; at < end;) {
      const id = this.#ring[at];
      const step = this.#ring[at + 2] * 0x1_0000_0000 + this.#ring[at + 1];
      this.#port.appendHot(step, id, this.#ring, at + 3);
      at += 3 + (id === ToyRetired.id ? ToyRetired.words : ToyWrote.words);
    }
  }

  canEdit(change: Edit): string | undefined {
    if (change.kind === "memory") {
      const end = change.physicalAddress + change.bytes.length;
      return end <= this.#mask + 1
        ? undefined
        : `RAM ends at ${this.#mask + 1}`;
    }
    return /^(r[0-7]|pc)$/.test(change.register)
      ? undefined
      : `no register ${change.register}: use r0 to r7 or pc`;
  }

  edit(change: Edit): void {
    const wrong = this.canEdit(change);
    if (wrong !== undefined) throw new RangeError(wrong);
    if (change.kind === "memory") {
      const { physicalAddress, bytes } = change;
      if (bytes.length === 0) return;
      this.#memory.set(bytes, STATE_PAGES * PAGE_SIZE + physicalAddress);
      const last = physicalAddress + bytes.length - 1;
      for (let p = physicalAddress >>> 12; p <= last >>> 12; p++) {
        this.#dirty[p] = 1;
      }
    } else if (change.register === "pc") {
      this.#pc = Number(change.value & BigInt(this.#mask & ~3));
    } else {
      this.#r[Number(change.register[1])] = Number(change.value & 0xffff_ffffn);
    }
  }

  page(index: number): Uint8Array {
    return this.#memory.subarray(index * PAGE_SIZE, (index + 1) * PAGE_SIZE);
  }

  harvestDirty(visit: (pageIndex: number) => void): void {
    this.#sync();
    for (let i = 0; i < this.#dirty.length; i++) {
      if (this.#dirty[i] === 0) continue;
      this.#dirty[i] = 0;
      visit(STATE_PAGES + i);
    }
  }

  #sync(): void {
    const view = this.#view;
    for (let i = 0; i < 8; i++) view.setUint32(4 * i, this.#r[i], true);
    view.setUint32(AT.pc, this.#pc, true);
    view.setUint32(AT.halted, this.#halted, true);
    view.setUint32(AT.pending, this.#pending, true);
    view.setUint32(AT.enabled, this.#enabled, true);
    view.setUint32(AT.vector, this.#vector, true);
    view.setUint32(AT.savedPc, this.#savedPc, true);
    view.setFloat64(AT.step, this.#step, true);
    view.setFloat64(AT.idle, this.#idle, true);
  }

  restored(): void {
    const view = this.#view;
    for (let i = 0; i < 8; i++) this.#r[i] = view.getUint32(4 * i, true);
    this.#pc = view.getUint32(AT.pc, true);
    this.#halted = view.getUint32(AT.halted, true);
    this.#pending = view.getUint32(AT.pending, true);
    this.#enabled = view.getUint32(AT.enabled, true);
    this.#vector = view.getUint32(AT.vector, true);
    this.#savedPc = view.getUint32(AT.savedPc, true);
    this.#step = view.getFloat64(AT.step, true);
    this.#idle = view.getFloat64(AT.idle, true);
    this.#ringEnd = 0;
  }

  describe(page: number, offset: number): string {
    if (page >= STATE_PAGES) {
      const address = (page - STATE_PAGES) * PAGE_SIZE + offset;
      return `ram 0x${address.toString(16)}`;
    }
    if (page === 0 && offset < AT.pc) return `r${offset >>> 2}`;
    let name = `state ${page}:${offset}`;
    if (page !== 0) return name;
    for (const [key, at] of Object.entries(AT)) if (offset >= at) name = key;
    return name;
  }
}
