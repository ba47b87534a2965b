/**
 * L0's own memory: pages at the top of simulated RAM, outside the guest's map
 * (design §8). A bump allocator with a free list, both cells, so that keyframes
 * hold it; pages are handed out zeroed and in a deterministic order.
 */
import { PAGE_SIZE } from "../../cpu/layout.ts";
import type { PhysicalMemory } from "../../cpu/physical.ts";

/** Cells of the allocator. */
export interface PoolState {
  /** Pages handed out by bumping. */
  used: number;
  readonly free: {
    readonly length: number;
    push(page: number): void;
    pop(): number | undefined;
  };
}

/** See the file header. */
export class PagePool {
  private readonly zero = new Uint8Array(PAGE_SIZE);

  constructor(
    private readonly physical: PhysicalMemory,
    private readonly state: PoolState,
    private readonly first: number,
    private readonly pages: number,
  ) {}

  /** Physical address of a zeroed page, or undefined when none is left. */
  take(): number | undefined {
    let page = this.state.free.pop();
    if (page === undefined) {
      if (this.state.used >= this.pages) return undefined;
      page = this.first + this.state.used++;
    }
    this.physical.writeBytes(page * PAGE_SIZE, this.zero);
    return page * PAGE_SIZE;
  }

  give(address: number): void {
    this.state.free.push(address / PAGE_SIZE);
  }

  /** Pages that `take` can still hand out. */
  get left(): number {
    return this.pages - this.state.used + this.state.free.length;
  }
}
