/**
 * Rights of guest paging, by counter: R/W, U/S and XD of every level, times
 * CR0.WP, SMEP, SMAP with RFLAGS.AC, NXE, times every access at CPL 0 and 3
 * and implicit supervisor accesses (SDM 3A §4.6.1, §4.7, §4.8).
 */
import { assert, assertEquals } from "@std/assert";
import { type Mode, MODES } from "./paging_oracle.ts";
import { AS_USER, CASES, Chain, controlsOf } from "./paging_setup.ts";

/** Entries with the rights numbered by `n`, mapping a page at level `leaf`. */
function entriesOf(chain: Chain, n: number, leaf: number): bigint[] {
  const { levels, entryBytes } = chain.mode;
  const digits = entryBytes === 8 ? 3 : 2;
  return levels.map((level, i) => {
    if (i > leaf) return 0n;
    const rights = n >> (digits * i);
    const at = i < leaf
      ? BigInt(chain.table(i + 1))
      : level === "PTE"
      ? 0x123000n
      : level === "PDPTE"
      ? 0x4000_0000n
      : 0x0080_0000n;
    return at | 1n | BigInt(rights & 3) << 1n |
      (i === leaf && level !== "PTE" ? 0x80n : 0n) |
      (digits === 3 && rights & 4 ? 1n << 63n : 0n);
  });
}

/** @param stride over the rights, coprime to their number */
function judge(mode: Mode, leaf: number, stride: number): number {
  const chain = new Chain(mode);
  const digits = mode.entryBytes === 8 ? 3 : 2;
  const combinations = 1 << (digits * (leaf + 1));
  for (let n = 0; n < combinations; n += stride) {
    chain.set(entriesOf(chain, n, leaf));
    for (let c = 0; c < 32; c++) {
      // The first half alternates with the second, so that NXE = 0 stays cheap.
      if (stride > 1 && ((c ^ n) & 1) !== 0) continue;
      chain.control(controlsOf(c));
      chain.read();
      for (const one of CASES) {
        const wrong = chain.compare(one);
        if (wrong) assertEquals(wrong, undefined);
      }
      const wrong = chain.compare(AS_USER);
      if (wrong) assertEquals(wrong, undefined);
    }
  }
  return chain.compared;
}

Deno.test("rights: 32-bit paging, 4-KByte and 4-MByte pages", () => {
  assertEquals(judge(MODES.legacy, 1, 1), 16 * 32 * 14);
  assertEquals(judge(MODES.legacy, 0, 1), 4 * 32 * 14);
});

Deno.test("rights: PAE paging, 4-KByte and 2-MByte pages", () => {
  assertEquals(judge(MODES.pae, 1, 1), 64 * 32 * 14);
  assertEquals(judge(MODES.pae, 0, 1), 8 * 32 * 14);
});

Deno.test("rights: 4-level paging, every page size", () => {
  assertEquals(judge(MODES.four, 3, 1), 4096 * 32 * 14);
  assertEquals(judge(MODES.four, 2, 1), 512 * 32 * 14);
  assertEquals(judge(MODES.four, 1, 1), 64 * 32 * 14);
});

Deno.test("rights: 5-level paging, every page size", () => {
  assert(judge(MODES.five, 4, 31) > 100_000);
  assert(judge(MODES.five, 3, 5) > 100_000);
  assertEquals(judge(MODES.five, 2, 1), 512 * 32 * 14);
});
