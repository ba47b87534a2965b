/**
 * Data grant caches of one vCPU (design §7): permission to access pages
 * silently, in linear memory, apart by privilege. They derive from the
 * architectural TLB and RAM's page flags and may be dropped at any time without
 * a fact.
 */
import { Cr4, Rflags } from "../../arch/flags.ts";
import type { CpuContext } from "../../context.ts";
import { type Layout, PAGE_SIZE, PageFlag } from "../../layout.ts";
import { Access } from "../../port.ts";
import { type Area, GRANT_ENTRIES, GRANT_HALF, GRANT_NONE } from "./area.ts";

const WORDS = GRANT_ENTRIES * 4;
/** Entries filled up to which they are emptied one by one. */
const FEW = 256;

/** See the file header. */
export class Grants {
  private readonly words: Uint32Array;
  /** Indices of the entries filled since all were empty. */
  private readonly filled = new Uint32Array(FEW);
  private count = FEW + 1;

  constructor(
    memory: WebAssembly.Memory,
    private readonly layout: Layout,
    private readonly area: Area,
    private readonly cpu: CpuContext,
  ) {
    this.words = new Uint32Array(memory.buffer);
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
    const { words, layout: { ram } } = this;
    const host = (ram + physicalPage * PAGE_SIZE) >>> 0;
    const start = this.area.write >>> 2;
    for (let at = start; at < start + 2 * WORDS; at += 4) {
      if (words[at] === GRANT_NONE && words[at + 1] === GRANT_NONE) continue;
      if ((words[at] + words[at + 2]) >>> 0 === host) this.none(at);
    }
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
   * After a successful access: grants what may be granted.
   * @param linear address whose page was accessed without crossing
   */
  fill(linear: bigint, write: boolean): void {
    const { cpu } = this;
    const { v, translator, physical } = cpu;
    const user = v.cpl === 3;
    // RFLAGS.AC may change without a word to the translator (SDM 3A §4.6.1).
    if (!user && v.cr4 & Cr4.SMAP && v.rflags & Rflags.AC) return;
    const page = Number(linear >> 12n);
    const access = write ? Access.Write : Access.Read;
    if (!translator.grantable(cpu, page, access)) return;
    const frame = translator.translate(cpu, page, 0, access);
    if (frame < 0 || frame >= physical.ramPages) return;
    if (
      write &&
      (physical.pageFlags(frame) & (PageFlag.Dirty | PageFlag.Code)) !==
        PageFlag.Dirty
    ) return;
    const low = (page * PAGE_SIZE) >>> 0;
    const at = ((write ? this.area.write : this.area.read) +
      (user ? GRANT_HALF : 0) + (page & (GRANT_ENTRIES - 1)) * 16) >>> 2;
    if (this.count < FEW) this.filled[this.count] = at;
    if (this.count <= FEW) this.count++;
    this.words[at] = low;
    this.words[at + 1] = Math.floor(page / 2 ** 20);
    this.words[at + 2] = this.layout.ram + frame * PAGE_SIZE - low;
  }
}
