/**
 * The machine's state as the kernel sees it: state pages, then RAM, over the
 * layout (design §5). Dirty marks are the page-flag bytes; harvesting them ends
 * every engine's permission to write silently.
 */
import type { PagedState } from "../../core/executor.ts";
import {
  DTLB_ENTRIES,
  ITLB_ENTRIES,
  type Layout,
  MACHINE,
  PAGE_SIZE,
  PageFlag,
  TLB_ENTRY_SIZE,
  VCPU_STATE_BYTES,
} from "../layout.ts";
import { describeRegister } from "./registers.ts";

/** What replaced or cleared state means to the machine. */
export interface StateOwner {
  /** Dirty marks were cleared. */
  dropWriteGrants(): void;
  /** Pages were replaced from outside. */
  restored(): void;
}

const CLEAN_WORD = (PageFlag.Dirty | PageFlag.Dirty << 8 |
  PageFlag.Dirty << 16 | PageFlag.Dirty << 24) >>> 0;

/** See the file header. */
export class LayoutState implements PagedState {
  readonly pageCount: number;
  readonly statePages: number;
  private readonly flags: Uint8Array;
  private readonly words: Uint32Array;
  private readonly ramPages: number;

  constructor(
    private readonly memory: WebAssembly.Memory,
    private readonly layout: Layout,
    private readonly owner: StateOwner,
  ) {
    this.statePages = layout.statePages;
    this.ramPages = layout.ramBytes / PAGE_SIZE;
    this.pageCount = this.statePages + this.ramPages;
    this.flags = new Uint8Array(
      memory.buffer,
      layout.pageFlags,
      this.ramPages,
    );
    this.words = new Uint32Array(
      memory.buffer,
      layout.pageFlags,
      this.ramPages >>> 2,
    );
  }

  page(i: number): Uint8Array {
    const at = i < this.statePages
      ? this.layout.state + i * PAGE_SIZE
      : this.layout.ram + (i - this.statePages) * PAGE_SIZE;
    return new Uint8Array(this.memory.buffer, at, PAGE_SIZE);
  }

  harvestDirty(visit: (pageIndex: number) => void): void {
    const { flags, words, statePages } = this;
    const tail = words.length * 4;
    let any = false;
    const take = (page: number): void => {
      if (flags[page] & PageFlag.Dirty) {
        any = true;
        flags[page] &= ~PageFlag.Dirty;
        visit(statePages + page);
      }
    };
    for (let w = 0; w < words.length; w++) {
      if ((words[w] & CLEAN_WORD) === 0) continue;
      for (let i = 0; i < 4; i++) take(w * 4 + i);
    }
    for (let page = tail; page < this.ramPages; page++) take(page);
    // Silent writes are granted to dirty pages only.
    if (any) this.owner.dropWriteGrants();
  }

  restored(): void {
    const { flags } = this;
    for (let i = 0; i < flags.length; i++) flags[i] &= ~PageFlag.Code;
    this.owner.restored();
  }

  describe(page: number, offset: number): string {
    const at = page * PAGE_SIZE + offset;
    if (page >= this.statePages) {
      const address = at - this.statePages * PAGE_SIZE;
      return `ram 0x${address.toString(16)}`;
    }
    if (at < PAGE_SIZE) {
      for (const [name, place] of Object.entries(MACHINE)) {
        const wide = place === MACHINE.step || place === MACHINE.idle ||
          place === MACHINE.turnEnd || place === MACHINE.turnPause;
        const bytes = wide ? 8 : 4;
        if (at >= place && at < place + bytes) return `machine.${name}`;
      }
      return `machine page +0x${at.toString(16)}`;
    }
    const inCpus = at - PAGE_SIZE;
    const cpu = Math.floor(inCpus / VCPU_STATE_BYTES);
    const rest = inCpus % VCPU_STATE_BYTES;
    if (rest < PAGE_SIZE) return `vcpu${cpu}.${describeRegister(rest)}`;
    const entry = Math.floor((rest - PAGE_SIZE) / TLB_ENTRY_SIZE);
    const field = (rest - PAGE_SIZE) % TLB_ENTRY_SIZE;
    const [name, index] = entry < ITLB_ENTRIES
      ? ["itlb", entry]
      : ["dtlb", (entry - ITLB_ENTRIES) % DTLB_ENTRIES];
    return `vcpu${cpu}.${name}[${index}]+${field}`;
  }
}
