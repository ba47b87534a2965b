/**
 * The event ring in linear memory: hot facts as u32 words (design §4).
 *
 * A record is one kind word followed by the event's payload words in the order
 * of `EventToken.toWords`. The byte cursor of the next record lies just before
 * the ring, so that compiled code and TypeScript append to the same place. The
 * ring is linear, not circular: a drain empties it. Compiled code must leave
 * with ExecReason.Ring when fewer than RING_RESERVE bytes are free.
 */
import type { EventToken } from "../core/event.ts";
import { CpuRetired, MemWrote, RegWrote } from "./facts.ts";
import { type Layout, RING_BYTES } from "./layout.ts";

/** Kind words, and the events they stand for. */
export const RING_EVENTS = [CpuRetired, MemWrote, RegWrote] as const;
export const RingKind = { Retired: 0, Memory: 1, Register: 2 } as const;

/** u32 at `layout.ring - RING_CURSOR`: bytes used. */
export const RING_CURSOR = 8;
/** Room that must be free before an instruction starts. */
export const RING_RESERVE = 16 * 1024;

/** Receives drained records. */
export type RingSink = (
  step: number,
  event: EventToken<never>,
  words: Uint32Array,
  at: number,
  count: number,
) => void;

/** Appender and drainer over the layout. */
export class EventRing {
  private readonly words: Uint32Array;
  private readonly start: number;
  private readonly cursor: number;
  /** Step that the next drained record belongs to. */
  private base = 0;

  constructor(memory: WebAssembly.Memory, layout: Layout) {
    this.words = new Uint32Array(memory.buffer);
    this.start = layout.ring >>> 2;
    this.cursor = (layout.ring - RING_CURSOR) >>> 2;
  }

  /** Steps completed when the ring is empty; set at slice start and after restores. */
  rebase(step: number): void {
    this.base = step;
  }

  get empty(): boolean {
    return this.words[this.cursor] === 0;
  }
  get nearlyFull(): boolean {
    return this.words[this.cursor] > RING_BYTES - RING_RESERVE;
  }

  retired(cpu: number, rip: bigint): void {
    const at = this.take(RingKind.Retired, 4);
    this.words[at] = cpu;
    this.quad(at + 1, rip);
  }

  register(cpu: number, register: number, value: bigint): void {
    const at = this.take(RingKind.Register, 5);
    this.words[at] = cpu;
    this.words[at + 1] = register;
    this.quad(at + 2, value);
  }

  memory(
    cpu: number,
    linear: bigint,
    physical: number,
    size: number,
    value: bigint,
    old: bigint,
  ): void {
    const at = this.take(RingKind.Memory, 11);
    this.words[at] = cpu;
    this.words[at + 1] = size;
    this.quad(at + 2, linear);
    this.words[at + 4] = physical >>> 0;
    this.words[at + 5] = Math.floor(physical / 2 ** 32);
    this.quad(at + 6, value);
    this.quad(at + 8, old);
  }

  /** Hands every record to `sink` in order and empties the ring. */
  drain(sink: RingSink): void {
    const used = this.words[this.cursor] >>> 2;
    if (used === 0) return;
    this.words[this.cursor] = 0;
    const end = this.start + used;
    for (let at = this.start; at < end;) {
      const kind = this.words[at];
      const event = RING_EVENTS[kind] as EventToken<never>;
      sink(this.base, event, this.words, at + 1, event.words);
      at += 1 + event.words;
      if (kind === RingKind.Retired) this.base++;
    }
  }

  private take(kind: number, words: number): number {
    const used = this.words[this.cursor];
    this.words[this.cursor] = used + words * 4;
    const at = this.start + (used >>> 2);
    this.words[at] = kind;
    return at + 1;
  }

  private quad(at: number, value: bigint): void {
    this.words[at] = Number(value & 0xffff_ffffn);
    this.words[at + 1] = Number((value >> 32n) & 0xffff_ffffn);
  }
}
