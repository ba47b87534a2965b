/**
 * Data grant caches of one vCPU (design §7): permission to access pages
 * silently, in linear memory, apart by privilege. They derive from the
 * architectural TLB and RAM's page flags and may be dropped at any time without
 * a fact.
 */
import { Cr4, Rflags } from "../../arch/flags.ts";
import type { CpuContext } from "../../context.ts";
import { type Layout, PAGE_SIZE, PageFlag } from "../../layout.ts";
import { Grant } from "../../port.ts";
import { type Area, GRANT_ENTRIES, GRANT_HALF, GRANT_NONE } from "./area.ts";

const WORDS = GRANT_ENTRIES * 4;
/** Entries filled up to which they are emptied one by one. */
const FEW = 256;
/** In `writers`. */
const NOBODY = 0, SEVERAL = 0xffff_ffff;

/** See the file header. */
export class Grants {
  private readonly words: Uint32Array;
  /** Indices of the entries filled since all were empty. */
  private readonly filled = new Uint32Array(FEW);
  private count = FEW + 1;
  /**
   * By physical page: index of the write grant that leads to it, so that pages
   * that come to hold code need no search. It may have ended since.
   */
  private readonly writers: Uint32Array;

  constructor(
    memory: WebAssembly.Memory,
    private readonly layout: Layout,
    private readonly area: Area,
    private readonly cpu: CpuContext,
  ) {
    this.words = new Uint32Array(memory.buffer);
    this.writers = new Uint32Array(cpu.physical.ramPages);
    this.dropAll();
  }

  /** Ends every grant. */
  dropAll(): void {
    this.clear(this.area.read, 4 * WORDS);
    this.count = 0;
  }

  /** Ends every write grant. */
  dropWrites(): void {
    this.clear(this.area.write, 2 * WORDS);
  }

  /** Ends the grants of a linear page. */
  dropPage(page: number): void {
    const at = (page & (GRANT_ENTRIES - 1)) * 16;
    const { read, write } = this.area;
    for (const start of [read, read + GRANT_HALF, write, write + GRANT_HALF]) {
      this.none((start + at) >>> 2);
    }
  }

  /** Ends write grants that lead to a physical page. */
  dropWritesTo(physicalPage: number): void {
    const { words, writers, area } = this;
    const writer = writers[physicalPage];
    if (writer === NOBODY) return;
    writers[physicalPage] = NOBODY;
    if (writer !== SEVERAL) {
      if (this.leads(writer, physicalPage)) this.none(writer);
      return;
    }
    const start = area.write >>> 2;
    for (let at = start; at < start + 2 * WORDS; at += 4) {
      if (words[at] === GRANT_NONE && words[at + 1] === GRANT_NONE) continue;
      if (this.leads(at, physicalPage)) this.none(at);
    }
  }

  /** Whether the entry at `at`, if it is one, is of a physical page. */
  private leads(at: number, physicalPage: number): boolean {
    const { words, layout: { ram } } = this;
    const host = (ram + physicalPage * PAGE_SIZE) >>> 0;
    return (words[at] + words[at + 2]) >>> 0 === host;
  }

  private clear(start: number, words: number): void {
    const first = start >>> 2, end = first + words;
    if (this.count > FEW) {
      // Tags alone matter, but filling all is what the host does fastest.
      this.words.fill(GRANT_NONE, first, end);
      return;
    }
    for (let i = 0; i < this.count; i++) {
      const at = this.filled[i];
      if (at >= first && at < end) this.none(at);
    }
  }

  private none(at: number): void {
    this.words[at] = GRANT_NONE;
    this.words[at + 1] = GRANT_NONE;
  }

  /**
   * After a successful access to a linear page: grants what may be granted,
   * whatever the access was, so that the first store after a load stays silent.
   * @returns host offset of the page's start if it may be written; else 0
   */
  fill(page: number): number {
    const { cpu, area, words } = this;
    const { v, translator, physical } = cpu;
    const user = v.cpl === 3;
    // RFLAGS.AC may change without a word to the translator (SDM 3A §4.6.1).
    if (!user && v.cr4 & Cr4.SMAP && v.rflags & Rflags.AC) return 0;
    const granted = translator.grants(cpu, page);
    const frame = Math.floor(granted / Grant.Size);
    if (frame >= physical.ramPages) return 0;
    const index = (user ? GRANT_HALF : 0) + (page & (GRANT_ENTRIES - 1)) * 16;
    if (granted & Grant.Read) {
      this.enter((area.read + index) >>> 2, page, frame);
    }
    if (!(granted & Grant.Write)) return 0;
    const flags = physical.pageFlags(frame);
    if ((flags & (PageFlag.Dirty | PageFlag.Code)) !== PageFlag.Dirty) return 0;
    const at = (area.write + index) >>> 2;
    this.enter(at, page, frame);
    const { writers } = this;
    const writer = writers[frame];
    writers[frame] = writer === NOBODY || writer === at ||
        (writer !== SEVERAL && !this.leads(writer, frame))
      ? at
      : SEVERAL;
    return words[at] + words[at + 2] >>> 0;
  }

  private enter(at: number, page: number, frame: number): void {
    const { words } = this;
    const low = (page * PAGE_SIZE) >>> 0;
    if (this.count < FEW) this.filled[this.count] = at;
    if (this.count <= FEW) this.count++;
    words[at] = low;
    words[at + 1] = Math.floor(page / 2 ** 20);
    words[at + 2] = this.layout.ram + frame * PAGE_SIZE - low;
  }
}
