/** Physical memory and a page pool without a machine, for unit tests of L0. */
import { createLayout, PAGE_SIZE } from "../../cpu/layout.ts";
import { PhysicalMemory } from "../../cpu/physical.ts";
import type { DeviceBus } from "../../cpu/port.ts";
import { PagePool } from "./memory.ts";

/** What tests of L0's structures work on. */
export interface L0Rig {
  readonly physical: PhysicalMemory;
  readonly pool: PagePool;
  /** First page of the pool. */
  readonly first: number;
}

/** A pool of `pages` above `guestPages` of RAM. */
export function makeL0Rig(pages: number, guestPages = 64): L0Rig {
  const layout = createLayout(1, (guestPages + pages) * PAGE_SIZE, 0);
  const wasmPages = layout.totalBytes / 65536;
  const memory = new WebAssembly.Memory({ initial: wasmPages });
  const devices: Partial<DeviceBus> = {
    read: () => 0n,
    write: () => undefined,
  };
  const physical = new PhysicalMemory(memory, layout, devices as DeviceBus);
  const free: number[] = [];
  const pool = new PagePool(physical, { used: 0, free }, guestPages, pages);
  return { physical, pool, first: guestPages };
}
