/**
 * Data grants of T0: nothing is silent that the translator or RAM's page flags
 * do not allow, and what leads to a page ends with it, however many lead there.
 */
import { assertEquals } from "@std/assert";
import { Cr4, Rflags } from "../../arch/flags.ts";
import type { CpuContext } from "../../context.ts";
import { createLayout, PageFlag } from "../../layout.ts";
import { Grant } from "../../port.ts";
import { areaOf, GRANT_HALF, t0EngineBytes } from "./area.ts";
import { Grants } from "./grants.ts";

const RAM_PAGES = 16;
const BOTH = Grant.Read + Grant.Write;
/** A page of the upper half. */
const HIGH = 0xf_fff8_0000_0007;

/** Grants over a translator and page flags that a test sets. */
function rig() {
  const layout = createLayout(1, RAM_PAGES * 4096, t0EngineBytes(1));
  const pages = layout.totalBytes / 65536;
  const memory = new WebAssembly.Memory({ initial: pages, maximum: pages });
  const table = new Map<number, number>();
  const flags = new Uint8Array(RAM_PAGES).fill(PageFlag.Dirty);
  const v = { cpl: 0, cr4: 0, rflags: 2 };
  const cpu = {
    v,
    translator: { grants: (_: unknown, page: number) => table.get(page) ?? 0 },
    physical: { ramPages: RAM_PAGES, pageFlags: (page: number) => flags[page] },
  } as unknown as CpuContext;
  const area = areaOf(layout, 0);
  const grants = new Grants(memory, layout, area, cpu);
  const words = new Uint32Array(memory.buffer);
  const map = (page: number, frame: number, rights: number): void =>
    void table.set(page, frame * Grant.Size + rights);
  /** Frames that a linear page may be read and written at; −1 for not. */
  const granted = (page: number): [read: number, write: number] => {
    const half = v.cpl === 3 ? GRANT_HALF : 0;
    const at = (start: number): number => {
      const i = (start + half + (page & 4095) * 16) >>> 2;
      const own = words[i] === (page * 4096) >>> 0 &&
        words[i + 1] === Math.floor(page / 2 ** 20);
      return own ? ((words[i] + words[i + 2] >>> 0) - layout.ram) / 4096 : -1;
    };
    return [at(area.read), at(area.write)];
  };
  return { grants, map, flags, v, granted, layout };
}

Deno.test("a fill grants what the translator and the page's flags allow", () => {
  for (const rights of [0, Grant.Read, Grant.Write, BOTH]) {
    for (const flags of [0, 1, 2, 3]) {
      for (const frame of [3, RAM_PAGES]) {
        const r = rig();
        r.map(HIGH, frame, rights);
        r.flags[3] = flags;
        const host = r.grants.fill(HIGH);
        const inRam = frame < RAM_PAGES;
        const read = inRam && (rights & Grant.Read) !== 0;
        const write = inRam && (rights & Grant.Write) !== 0 &&
          flags === PageFlag.Dirty;
        assertEquals(r.granted(HIGH), [
          read ? 3 : -1,
          write ? 3 : -1,
        ]);
        assertEquals(host, write ? r.layout.ram + 3 * 4096 : 0);
      }
    }
  }
});

Deno.test("grants are the privilege's own, and none where RFLAGS.AC decides", () => {
  const r = rig();
  r.map(7, 3, BOTH);
  r.v.cr4 = Cr4.SMAP;
  r.v.rflags |= Rflags.AC;
  r.grants.fill(7);
  assertEquals(r.granted(7), [-1, -1]);
  r.v.cpl = 3;
  r.grants.fill(7);
  assertEquals(r.granted(7), [3, 3]);
  r.v.cpl = 0;
  assertEquals(r.granted(7), [-1, -1]);
});

Deno.test("write grants that lead to a page end together, others stay", () => {
  for (const count of [1, 2, 5]) {
    const r = rig();
    const pages = Array.from({ length: count }, (_, i) => 100 + i * 3);
    for (const page of pages) r.map(page, 3, BOTH);
    r.map(50, 4, BOTH);
    for (const page of [50, ...pages, ...pages]) r.grants.fill(page);
    r.grants.dropWritesTo(3);
    for (const page of pages) assertEquals(r.granted(page), [3, -1]);
    assertEquals(r.granted(50), [4, 4]);
    // And once more, from the last alone.
    r.grants.fill(pages[count - 1]);
    r.grants.dropWritesTo(3);
    assertEquals(r.granted(pages[count - 1]), [3, -1]);
  }
});

Deno.test("an entry that another page took over is left to it", () => {
  const r = rig();
  r.map(7, 3, BOTH);
  r.map(7 + 4096, 5, BOTH);
  r.map(9, 3, BOTH);
  r.grants.fill(7);
  r.grants.fill(7 + 4096);
  r.grants.dropWritesTo(3);
  assertEquals(r.granted(7 + 4096), [5, 5]);
  r.grants.fill(7);
  r.grants.fill(7 + 4096);
  r.grants.fill(9);
  r.grants.dropWritesTo(3);
  assertEquals(r.granted(9), [3, -1]);
  assertEquals(r.granted(7 + 4096), [5, 5]);
});
