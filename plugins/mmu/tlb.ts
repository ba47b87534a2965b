/**
 * The architectural TLB (design §7; SDM 3A §4.10): direct-mapped, no recency
 * bits, instruction and data apart, tagged by VPID/ASID, PCID and stage-2 root.
 *
 * It is machine state. Stale policy: an entry stays until an instruction that
 * the manual lists invalidates it or a fill evicts it; an access that the entry
 * does not permit is walked again. Large pages are kept as 4-KiB fragments that
 * remember their size.
 */
import {
  DTLB_ENTRIES,
  ITLB_ENTRIES,
  type Layout,
  TLB_ENTRY,
  TLB_ENTRY_SIZE,
} from "../../cpu/layout.ts";
import { Attribute } from "./formats.ts";

const W = TLB_ENTRY_SIZE >>> 2;
const PAGE_LOW = TLB_ENTRY.pageLow >>> 2;
const PAGE_HIGH = TLB_ENTRY.pageHigh >>> 2;
const TAG = TLB_ENTRY.tag >>> 2;
const ROOT = TLB_ENTRY.root >>> 2;
const ROOT_HIGH = TLB_ENTRY.rootHigh >>> 2;
const ATTRIBUTES = TLB_ENTRY.attributes >>> 2;
const FRAME = TLB_ENTRY.frame >>> 2;
const GUEST_FRAME = TLB_ENTRY.guestFrame >>> 2;
const VALID = 0x80000000;
/** In the word at PAGE_HIGH: valid bit and page, above the page the frame. */
const PAGE_HIGH_MASK = 0x800fffff, FRAME_HIGH_SHIFT = 20;
const TWO32 = 2 ** 32;
const PCID_SHIFT = 16;

/** Pages (of 4 KiB) in a page of each Attribute size. */
export const SIZE_PAGES: readonly number[] = [1, 512, 1024, 512 * 512];

/** Most slots to remember as not global. */
const LOCALS = 2048;

/** Selects entries for a flush. */
export type EntryTest = (tlb: Tlb, at: number) => boolean;

/** One TLB of one vCPU, over the layout. */
export class Tlb {
  private readonly words: Uint32Array;
  private readonly start: number;
  private readonly mask: number;
  /** Groups of 64 entries that may hold a valid one: skips empty ones in flushes. */
  private readonly groups: Uint8Array;
  /**
   * Slots that may hold a valid entry that is not global, so that a flush by
   * MOV to CR3 need not look at others; undefined when that is not known.
   */
  private locals: number[] | undefined;
  /** Largest size code that a valid entry can have: bounds address flushes. */
  private largest = 3;

  constructor(
    memory: WebAssembly.Memory,
    layout: Layout,
    cpu: number,
    fetch: boolean,
  ) {
    this.words = new Uint32Array(memory.buffer);
    this.start = (fetch ? layout.itlb(cpu) : layout.dtlb(cpu)) >>> 2;
    const entries = fetch ? ITLB_ENTRIES : DTLB_ENTRIES;
    this.mask = entries - 1;
    this.groups = new Uint8Array(entries / 64).fill(1);
  }

  /** The layout was overwritten by a restore. */
  restored(): void {
    this.groups.fill(1);
    this.locals = undefined;
    this.largest = 3;
  }

  /**
   * Word index of the entry for `page`, or -1.
   * @param root stage-2 root page number, 0 for none
   */
  find(page: number, tag: number, pcid: number, root: number): number {
    const { words } = this;
    const at = this.start + (page & this.mask) * W;
    if (
      words[at + PAGE_LOW] !== page >>> 0 ||
      (words[at + PAGE_HIGH] & PAGE_HIGH_MASK) >>> 0 !==
        (page / TWO32 | VALID) >>> 0
    ) return -1;
    const own = words[at + TAG];
    if ((own & 0xffff) !== tag) return -1;
    if (
      own >>> PCID_SHIFT !== pcid && !(words[at + ATTRIBUTES] & Attribute.G)
    ) return -1;
    if (
      words[at + ROOT] !== root >>> 0 ||
      words[at + ROOT_HIGH] !== Math.floor(root / TWO32)
    ) return -1;
    return at;
  }

  attributes(at: number): number {
    return this.words[at + ATTRIBUTES];
  }
  frame(at: number): number {
    const high = this.words[at + PAGE_HIGH] >>> FRAME_HIGH_SHIFT & 0xff;
    return this.words[at + FRAME] + high * TWO32;
  }
  tag(at: number): number {
    return this.words[at + TAG] & 0xffff;
  }
  pcid(at: number): number {
    return this.words[at + TAG] >>> PCID_SHIFT;
  }
  root(at: number): number {
    return this.words[at + ROOT] + this.words[at + ROOT_HIGH] * TWO32;
  }
  page(at: number): number {
    return this.words[at + PAGE_LOW] +
      (this.words[at + PAGE_HIGH] & 0xfffff) * TWO32;
  }

  /** Whether the entry's page, at its size, covers linear page `page`. */
  covers(at: number, page: number): boolean {
    const pages = SIZE_PAGES[
      (this.attributes(at) & Attribute.SizeMask) >>> Attribute.SizeShift
    ];
    return Math.floor(this.page(at) / pages) === Math.floor(page / pages);
  }

  /** Stores an entry. @returns linear page that was evicted, or -1 */
  fill(
    page: number,
    tag: number,
    pcid: number,
    root: number,
    attributes: number,
    frame: number,
    guestFrame: number,
  ): number {
    const { words } = this;
    const slot = page & this.mask;
    const at = this.start + slot * W;
    const evicted = words[at + PAGE_HIGH] & VALID ? this.page(at) : -1;
    words[at + PAGE_LOW] = page >>> 0;
    words[at + PAGE_HIGH] = page / TWO32 | VALID |
      Math.floor(frame / TWO32) << FRAME_HIGH_SHIFT;
    words[at + TAG] = tag | pcid << PCID_SHIFT;
    words[at + ROOT] = root >>> 0;
    words[at + ROOT_HIGH] = Math.floor(root / TWO32);
    words[at + ATTRIBUTES] = attributes;
    words[at + FRAME] = frame >>> 0;
    words[at + GUEST_FRAME] = guestFrame >>> 0;
    this.groups[slot >>> 6] = 1;
    if (!(attributes & Attribute.G) && this.locals !== undefined) {
      if (this.locals.length < LOCALS) this.locals.push(slot);
      else this.locals = undefined;
    }
    const size = (attributes & Attribute.SizeMask) >>> Attribute.SizeShift;
    if (size > this.largest) this.largest = size;
    return evicted;
  }

  /** Drops one entry by word index: all its words become zero, so that equal contents digest equally. */
  drop(at: number): void {
    this.words.fill(0, at, at + W);
  }

  /**
   * Drops the entries that `test` selects among those that can cover a linear
   * page: fragments of one large page lie in consecutive slots.
   * @returns their linear pages
   */
  flushAround(page: number, test: EntryTest): number[] {
    const span = Math.min(SIZE_PAGES[this.largest], this.mask + 1);
    const dropped: number[] = [];
    // As many as there are slots cover every slot once, wherever they begin.
    const first = page - page % span;
    for (let i = 0; i < span; i++) {
      const slot = (first + i) & this.mask;
      // A span of several pages starts at a multiple of 64: skip empty groups.
      if (!this.groups[slot >>> 6]) {
        i += 63;
        continue;
      }
      const at = this.start + slot * W;
      if (this.words[at + PAGE_HIGH] & VALID && test(this, at)) {
        dropped.push(this.page(at));
        this.drop(at);
      }
    }
    return dropped;
  }

  /**
   * Drops the entries of a tag and PCID that are not global (§4.10.4.1, MOV to
   * CR3). @returns their linear pages
   */
  flushLocal(tag: number, pcid: number): number[] {
    const { words, start, locals } = this;
    const own = (tag | pcid << PCID_SHIFT) >>> 0;
    const dropped: number[] = [];
    const left: number[] = [];
    const visit = (slot: number): void => {
      const at = start + slot * W;
      if (!(words[at + PAGE_HIGH] & VALID)) return;
      if (words[at + ATTRIBUTES] & Attribute.G) return;
      if (words[at + TAG] === own) {
        dropped.push(this.page(at));
        this.drop(at);
      } else if (left.length < LOCALS) left.push(slot);
    };
    if (locals !== undefined) locals.forEach(visit);
    else for (let slot = 0; slot <= this.mask; slot++) visit(slot);
    this.locals = left.length < LOCALS ? left : undefined;
    return dropped;
  }

  /** Drops every entry that `test` selects. */
  flush(test: EntryTest): void {
    const { words } = this;
    let largest = 0;
    for (let group = 0; group < this.groups.length; group++) {
      if (!this.groups[group]) continue;
      let left = 0;
      const end = this.start + (group + 1) * 64 * W;
      for (let at = this.start + group * 64 * W; at < end; at += W) {
        if (!(words[at + PAGE_HIGH] & VALID)) continue;
        if (test(this, at)) this.drop(at);
        else {
          left = 1;
          const size = (words[at + ATTRIBUTES] & Attribute.SizeMask) >>>
            Attribute.SizeShift;
          if (size > largest) largest = size;
        }
      }
      this.groups[group] = left;
    }
    this.largest = largest;
  }
}
