/** Pages: sharing, restoring and hashing agree with doing it all from scratch. */
import { Buffer } from "node:buffer";
import { assert, assertEquals, assertThrows } from "@std/assert";
import { toHex } from "./bytes.ts";
import { PAGE_SIZE } from "./executor.ts";
import type { PagedState } from "./executor.ts";
import { GROUP_PAGES, Page, PageTable, ZERO_PAGE } from "./keyframe.ts";
import { PageStore } from "./pages.ts";
import { RandomStream } from "./random.ts";

class Memory implements PagedState {
  readonly statePages = 2;
  readonly bytes: Uint8Array;
  readonly dirty = new Set<number>();
  restores = 0;
  constructor(readonly pageCount: number) {
    this.bytes = new Uint8Array(pageCount * PAGE_SIZE);
  }
  page(i: number): Uint8Array {
    return this.bytes.subarray(i * PAGE_SIZE, (i + 1) * PAGE_SIZE);
  }
  write(page: number, offset: number, value: number): void {
    this.page(page)[offset] = value;
    if (page >= this.statePages) this.dirty.add(page);
  }
  harvestDirty(visit: (page: number) => void): void {
    for (const page of this.dirty) visit(page);
    this.dirty.clear();
  }
  restored(): void {
    this.restores++;
  }
  describe(page: number, offset: number): string {
    return `${page}:${offset}`;
  }
}

const COUNT = GROUP_PAGES + 40;

Deno.test("tables share what did not change", () => {
  const zero = PageTable.zero(COUNT);
  const page = new Page(new Uint8Array(PAGE_SIZE).fill(1));
  const one = zero.with([[3, page]]);
  assert(one.groups[1] === zero.groups[1]);
  assert(one.page(3) === page && one.page(4) === ZERO_PAGE);
  assert(zero.page(3) === ZERO_PAGE);
  assert(one.with([]) === one);
  const found: number[] = [];
  const two = one.with([[COUNT - 1, page]]);
  two.differences(zero, (index) => found.push(index));
  assertEquals(found, [3, COUNT - 1]);
  assertThrows(() => zero.with([[COUNT, page]]), RangeError, `${COUNT} pages`);
});

Deno.test("random writes, captures, restores, digests: as from scratch", () => {
  const random = new RandomStream(1n, "pages");
  const memory = new Memory(COUNT);
  const store = new PageStore(memory);
  const saved: { table: PageTable; bytes: Uint8Array }[] = [];
  const fresh = () => {
    const copy = new Memory(COUNT);
    copy.bytes.set(memory.bytes);
    for (let i = copy.statePages; i < COUNT; i++) copy.dirty.add(i);
    const other = new PageStore(copy);
    return [toHex(other.stateDigest()), toHex(other.ramDigest())];
  };
  const digests = new Map<string, string>();
  for (let turn = 0; turn < 150; turn++) {
    for (let n = random.below(6); n > 0; n--) {
      // Zeroes too, so that pages become zero pages again.
      memory.write(random.below(COUNT), random.below(3), random.below(3));
    }
    const what = random.below(4);
    if (what === 0) {
      const table = store.capture();
      for (let i = 0; i < COUNT; i++) {
        const { bytes, hash } = table.page(i);
        assertEquals(Buffer.compare(bytes, memory.page(i)), 0);
        if (turn % 10 === 0) {
          assertEquals(toHex(hash), toHex(new Page(bytes).hash));
        }
      }
      saved.push({ table, bytes: memory.bytes.slice() });
    } else if (what === 1 && saved.length > 0) {
      const { table, bytes } = saved[random.below(saved.length)];
      store.restore(table);
      assertEquals(Buffer.compare(memory.bytes, bytes), 0, `turn ${turn}`);
    } else if (what === 2) {
      const both = [toHex(store.stateDigest()), toHex(store.ramDigest())];
      assertEquals(both, fresh(), `turn ${turn}`);
      const contents = toHex(new Page(memory.bytes).hash);
      assertEquals(digests.get(contents) ?? both.join(), both.join());
      digests.set(contents, both.join());
    }
  }
  assert(saved.length > 20 && digests.size > 20 && memory.restores > 10);
  assert(new Set(digests.values()).size > 20);
});

Deno.test("dirty sets count for themselves", () => {
  const memory = new Memory(COUNT);
  memory.write(5, 0, 1);
  const store = new PageStore(memory);
  const one = store.track();
  memory.write(0, 0, 1);
  memory.write(7, 0, 1);
  memory.write(64, 0, 1);
  const two = store.track();
  store.capture();
  store.ramDigest();
  memory.write(7, 0, 2);
  const visited: number[] = [];
  one.forEach((index) => visited.push(index));
  assertEquals([visited, one.count, two.count], [[7, 64], 2, 1]);
  one.clear();
  two.close();
  memory.write(9, 0, 2);
  assertEquals([one.count, two.count], [1, 1]);
});

Deno.test("a keyframe of another memory size is refused", () => {
  const store = new PageStore(new Memory(COUNT));
  assertThrows(
    () => store.restore(PageTable.zero(COUNT + 1)),
    Error,
    "use the memory size of the recording",
  );
});
