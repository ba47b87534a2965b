/**
 * The architectural TLB and its invalidations (SDM 3A §4.10, 3C §29.4): what
 * may stay stale stays, what the manual says goes goes, exactly; grants end
 * with their entries. Every invalidation is judged over the same set of
 * entries: all tags, PCIDs, roots, global or not, data and code.
 */
import { assert, assertEquals } from "@std/assert";
import { Cr0, Cr4, Efer, Rflags } from "../../cpu/arch/flags.ts";
import { Stage2Flags, VCPU } from "../../cpu/layout.ts";
import { Access, Control, CR3_NO_FLUSH } from "../../cpu/port.ts";
import { MmuRig } from "../../tests/exhaustive/mmu_rig.ts";
import { Flush } from "./api.ts";
import { Attribute } from "./formats.ts";

const PML4 = 0x20000;
const PDPT = 0x21000;
const PD = 0x22000;
const PT = 0x23000;
const ALL = 0x67n;

/** 64-bit mode; PT maps 0–2 MiB one to one; PD[1] and PD[2] are 2-MiB pages. */
function machine(model?: string): MmuRig {
  const rig = new MmuRig(model);
  const { v } = rig;
  rig.put(PML4, BigInt(PDPT) | ALL);
  rig.put(PDPT, BigInt(PD) | ALL);
  rig.put(PD, BigInt(PT) | ALL);
  rig.put(PD + 8, 0x200000n | ALL | 0x80n);
  rig.put(PD + 16, 0x200000n | ALL | 0x80n);
  rig.put(PDPT + 8, ALL | 0x80n);
  for (let i = 0; i < 512; i++) rig.put(PT + i * 8, BigInt(i) << 12n | ALL);
  v.cr0 = (Cr0.PE | Cr0.PG | Cr0.WP) >>> 0;
  v.cr3 = PML4;
  v.cr4 = Cr4.PAE | Cr4.PGE;
  v.efer = Efer.LME | Efer.LMA | Efer.NXE;
  return rig;
}
const page = (rig: MmuRig, n: number, bits: bigint): void =>
  rig.put(PT + n * 8, bits);

Deno.test("a changed entry stays stale until invalidated, separately for code", () => {
  const rig = machine();
  assertEquals(rig.translate(0x5000n, Access.Read).frame, 5);
  assertEquals(rig.translate(0x5000n, Access.Fetch).frame, 5);
  page(rig, 5, 0x9000n | ALL);
  assertEquals(rig.translate(0x5000n, Access.Read).frame, 5);
  assertEquals(rig.translate(0x5000n, Access.Write).frame, 5);
  assertEquals(rig.translate(0x5000n, Access.Fetch).frame, 5);
  rig.mmu.invlpg(rig.cpu, 0x5fffn);
  assertEquals(rig.translate(0x5000n, Access.Read).frame, 9);
  assertEquals(rig.translate(0x5000n, Access.Fetch).frame, 9);
});

Deno.test("rights taken away stay stale; rights given are seen at once", () => {
  const rig = machine();
  rig.translate(0x5000n, Access.Write);
  page(rig, 5, 0x5061n);
  assertEquals(rig.translate(0x5000n, Access.Write).frame, 5);
  rig.v.cpl = 3;
  assertEquals(rig.translate(0x5000n, Access.Write).frame, 5);
  rig.mmu.invlpg(rig.cpu, 0x5000n);
  assertEquals(rig.translate(0x5000n, Access.Write).fault?.errorCode, 7);
  page(rig, 5, 0x5000n | ALL);
  assertEquals(rig.translate(0x5000n, Access.Write).frame, 5);
});

Deno.test("a hit without D is walked again for a store, and sets D", () => {
  const rig = machine();
  page(rig, 5, 0x5007n);
  rig.translate(0x5000n, Access.Read);
  assertEquals(rig.get(PT + 40) & 0x60n, 0x20n);
  page(rig, 5, 0x5007n);
  rig.translate(0x5000n, Access.Read);
  assertEquals(rig.get(PT + 40) & 0x60n, 0n, "a hit sets no A");
  rig.translate(0x5000n, Access.Write);
  assertEquals(rig.get(PT + 40) & 0x60n, 0x60n);
});

Deno.test("a page fault invalidates the address for data and code", () => {
  const rig = machine();
  rig.translate(0x5000n, Access.Read);
  rig.translate(0x5000n, Access.Fetch);
  rig.translate(0x6000n, Access.Read);
  page(rig, 5, 0x9067n & ~4n | 1n << 63n);
  page(rig, 6, 0x9067n);
  rig.v.cpl = 3;
  assertEquals(rig.translate(0x5000n, Access.Fetch).frame, 5, "stale");
  rig.v.cpl = 0;
  rig.v.cr4 |= Cr4.SMEP;
  rig.dropped.length = 0;
  assertEquals(rig.translate(0x5000n, Access.Fetch).fault?.errorCode, 0x11);
  assert(rig.dropped.includes(5), "grants of the page end");
  assertEquals(rig.translate(0x5000n, Access.Read).frame, 9, "data too");
  assertEquals(rig.translate(0x6000n, Access.Read).frame, 6, "others stay");
});

Deno.test("an EPT violation invalidates the combined mapping of the address", () => {
  const rig = machine();
  // EPT maps 0–1 GiB one to one by a 1-GiB page, read/execute.
  rig.put(0x30000, 0x31007n);
  rig.put(0x31000, 0xb7n);
  rig.nested(0x30000);
  rig.translate(0x5000n, Access.Read);
  rig.translate(0x5000n, Access.Fetch);
  rig.put(0x31000, 0xb5n);
  page(rig, 5, 0x9000n | ALL);
  assertEquals(rig.translate(0x5000n, Access.Read).frame, 5, "stale");
  rig.v.setWord(VCPU.stage2Flags, Stage2Flags.Ept);
  // A store to a page whose D is not cached walks and violates.
  page(rig, 6, 0x6027n);
  rig.translate(0x6000n, Access.Read);
  assert(rig.mmu.cached(rig.cpu, 0x6000n, false) !== undefined);
  assertEquals(rig.translate(0x6000n, Access.Write).frame, -2);
  assertEquals(rig.mmu.cached(rig.cpu, 0x6000n, false), undefined);
});

Deno.test("silent walks neither use nor fill the TLB, nor set flags, nor state facts", () => {
  const rig = machine();
  rig.observed = true;
  page(rig, 5, 0x5007n);
  const one = rig.translate(0x5000n, Access.Write | Access.Silent);
  assertEquals(one.frame, 5);
  assertEquals(rig.get(PT + 40), 0x5007n);
  assertEquals(rig.mmu.cached(rig.cpu, 0x5000n, false), undefined);
  rig.translate(0x5000n, Access.Read);
  rig.facts.length = 0;
  page(rig, 5, 0x9000n | ALL);
  assertEquals(rig.translate(0x5000n, Access.Silent).frame, 9);
  const walk = rig.mmu.explain(rig.cpu, 0x5abcn, Access.Write);
  assertEquals(walk.physical, 0x9abc);
  assertEquals(walk.steps.map((s) => s.level), [4, 3, 2, 1]);
  assertEquals(rig.facts, []);
  assertEquals(rig.translate(0x5000n, Access.Read).frame, 5, "still stale");
});

Deno.test("explain tells the fault it would be, and leaves nothing behind", () => {
  const rig = machine();
  page(rig, 5, 0n);
  const walk = rig.mmu.explain(rig.cpu, 0x5abcn, Access.Write | Access.User);
  assertEquals([walk.outcome, walk.errorCode], [1, 6]);
  assertEquals(walk.physical, undefined);
  assertEquals(rig.raised(), undefined);
  rig.put(0x30000, 0n);
  rig.nested(0x30000);
  const second = rig.mmu.explain(rig.cpu, 0x5abcn, Access.Read);
  assertEquals([second.outcome, second.qualification], [2, 0x81n]);
  assertEquals(rig.v.stage2, undefined);
});

Deno.test("facts: one mmu.walked a miss, none a hit, flushes stated", () => {
  const rig = machine();
  rig.observed = true;
  rig.translate(0x5000n, Access.Read);
  rig.translate(0x5000n, Access.Read);
  rig.mmu.invlpg(rig.cpu, 0x5000n);
  page(rig, 5, 0n);
  rig.translate(0x5000n, Access.Fetch);
  assertEquals(rig.facts.map((f) => f.name), [
    "mmu.walked",
    "mmu.flushed",
    "mmu.walked",
  ]);
  assertEquals(rig.facts[0].payload, {
    cpu: 0,
    access: 0,
    outcome: 0,
    linear: 0x5000n,
    guestPhysical: 0x5000n,
    physical: 0x5000n,
    attributes: Attribute.W | Attribute.U | Attribute.D | 0xf000,
  });
  assertEquals(
    (rig.facts[2].payload as { outcome: number }).outcome,
    1,
  );
});

Deno.test("evictions: direct-mapped by page number, and grants end with them", () => {
  const rig = machine();
  // 0x5000 and 0x5000 + 16 MiB share a slot of the data TLB (4096 entries).
  rig.put(PD + 64, BigInt(PT) | ALL);
  rig.translate(0x5000n, Access.Read);
  rig.dropped.length = 0;
  assertEquals(rig.translate(0x100_5000n, Access.Read).frame, 5);
  assertEquals(rig.dropped, [5]);
  assertEquals(rig.mmu.cached(rig.cpu, 0x5000n, false), undefined);
  assert(!rig.mmu.grantable(rig.cpu, 5, Access.Read));
  assert(rig.mmu.grantable(rig.cpu, 0x1005, Access.Read));
  // The code TLB has 2048 entries: 8 MiB apart.
  rig.put(PD + 32, BigInt(PT) | ALL);
  rig.translate(0x5000n, Access.Fetch);
  rig.dropped.length = 0;
  rig.translate(0x80_5000n, Access.Fetch);
  assertEquals(rig.dropped, [5]);
});

/** One entry of the set over which invalidations are judged. */
interface Made {
  readonly tag: number;
  readonly pcid: number;
  readonly root: number;
  readonly global: boolean;
  readonly linear: bigint;
  readonly fetch: boolean;
}
const ROOTS = [0, 0x30000, 0x32000];
/** 4-KiB page 5 (G) or 6; 2-MiB fragments at two places; a 1-GiB fragment. */
const PAGES: readonly [bigint, boolean][] = [
  [0x5000n, true],
  [0x6000n, false],
  [0x20_7000n, true],
  [0x40_8000n, false],
  [0x40_9000n, false],
  [0x4000_a000n, false],
];

function context(rig: MmuRig, tag: number, pcid: number, root: number): void {
  const { v } = rig;
  v.setWord(VCPU.tlbTag, tag);
  v.cr3 = PML4 | pcid;
  v.setQuad(VCPU.stage2Root, BigInt(root));
  v.setWord(VCPU.stage2Flags, root === 0 ? 0 : Stage2Flags.Ept);
}

/** Fills every combination. Slots differ, since all pages but one tag each do. */
function filled(): { rig: MmuRig; all: Made[] } {
  const rig = machine();
  rig.v.cr4 |= Cr4.PCIDE;
  for (const root of ROOTS.slice(1)) {
    rig.put(root, BigInt(root + 0x1000) | 7n);
    rig.put(root + 0x1000, 0xb7n);
  }
  page(rig, 5, 0x5167n);
  rig.put(PD + 8, 0x2001e7n);
  const all: Made[] = [];
  return { rig, all };
}

/**
 * Makes one entry alone, invalidates in a context, and asks whether it is
 * gone: entries of one page would evict each other in a direct-mapped TLB.
 */
function survivors(
  invalidate: (rig: MmuRig) => void,
  now: { tag: number; pcid: number; root: number },
): (made: Made) => boolean {
  const { rig } = filled();
  return (made) => {
    rig.mmu.flush(rig.cpu, Flush.Everything, 0, 0, 0n);
    context(rig, made.tag, made.pcid, made.root);
    const access = made.fetch ? Access.Fetch : Access.Read;
    assert(rig.translate(made.linear, access).frame >= 0);
    context(rig, now.tag, now.pcid, now.root);
    invalidate(rig);
    context(rig, made.tag, made.pcid, made.root);
    return rig.mmu.cached(rig.cpu, made.linear, made.fetch) !== undefined;
  };
}

function* everyEntry(): Generator<Made> {
  for (const tag of [0, 1, 2]) {
    for (const pcid of [0, 1, 2]) {
      for (const root of ROOTS) {
        for (const [linear, global] of PAGES) {
          for (const fetch of [false, true]) {
            yield { tag, pcid, root, global, linear, fetch };
          }
        }
      }
    }
  }
}

const NOW = { tag: 1, pcid: 2, root: 0x30000 };
/** Addresses in one page, at the size of the page. */
const together = (a: bigint, b: bigint): boolean => {
  const size = a < 0x20_0000n ? 12n : a < 0x4000_0000n ? 21n : 30n;
  return a >> size === b >> size && (a < 0x20_0000n) === (b < 0x20_0000n);
};

/** Each invalidation, and which entries it must leave. */
const INVALIDATIONS: readonly [
  string,
  (rig: MmuRig) => void,
  (m: Made) => boolean,
][] = [
  ...[0x5000n, 0x40_0000n, 0x5fff_ffffn].map((linear) =>
    [
      `INVLPG ${linear.toString(16)}`,
      (rig: MmuRig) => rig.mmu.invlpg(rig.cpu, linear),
      (m: Made) =>
        !(m.tag === 1 && (m.pcid === 2 || m.global) &&
          together(m.linear, linear)),
    ] as [string, (rig: MmuRig) => void, (m: Made) => boolean]
  ),
  [
    "MOV CR3",
    (rig) => rig.mmu.controlChanged(rig.cpu, Control.Cr3, 0, rig.v.cr3),
    (m) => !(m.tag === 1 && m.pcid === 2 && !m.global),
  ],
  [
    "MOV CR3 with bit 63",
    (rig) =>
      rig.mmu.controlChanged(rig.cpu, Control.Cr3, CR3_NO_FLUSH, rig.v.cr3),
    () => true,
  ],
  [
    "INVPCID 0",
    (rig) => rig.mmu.invpcid(rig.cpu, 0, 1, 0x40_0123n),
    (m) =>
      !(m.tag === 1 && m.pcid === 1 && !m.global &&
        together(m.linear, 0x40_0123n)),
  ],
  [
    "INVPCID 1",
    (rig) => rig.mmu.invpcid(rig.cpu, 1, 1, 0n),
    (m) => !(m.tag === 1 && m.pcid === 1 && !m.global),
  ],
  [
    "INVPCID 2",
    (rig) => rig.mmu.invpcid(rig.cpu, 2, 0, 0n),
    (m) => m.tag !== 1,
  ],
  [
    "INVPCID 3",
    (rig) => rig.mmu.invpcid(rig.cpu, 3, 0, 0n),
    (m) => m.tag !== 1 || m.global,
  ],
  [
    "INVVPID address",
    (rig) => rig.mmu.flush(rig.cpu, Flush.VpidAddress, 2, 0, 0x5123n),
    (m) => !(m.tag === 2 && m.linear === 0x5000n),
  ],
  [
    "INVVPID single",
    (rig) => rig.mmu.flush(rig.cpu, Flush.VpidAll, 2, 0, 0n),
    (m) => m.tag !== 2,
  ],
  [
    "INVVPID all",
    (rig) => rig.mmu.flush(rig.cpu, Flush.AllVpids, 0, 0, 0n),
    (m) => m.tag === 0,
  ],
  [
    "INVVPID retaining globals",
    (rig) => rig.mmu.flush(rig.cpu, Flush.VpidNonGlobal, 2, 0, 0n),
    (m) => m.tag !== 2 || m.global,
  ],
  [
    "INVEPT single",
    (rig) => rig.mmu.flush(rig.cpu, Flush.Root, 0, 0x32000, 0n),
    (m) => m.root !== 0x32000,
  ],
  [
    "INVEPT all",
    (rig) => rig.mmu.flush(rig.cpu, Flush.AllRoots, 0, 0, 0n),
    (m) => m.root === 0,
  ],
  [
    "CR4.PGE changes",
    (rig) =>
      rig.mmu.controlChanged(rig.cpu, Control.Cr4, rig.v.cr4, rig.v.cr4 ^ 0x80),
    (m) => m.tag !== 1,
  ],
  [
    "CR0.PG falls",
    (rig) => rig.mmu.controlChanged(rig.cpu, Control.Cr0, 0x80000001, 1),
    (m) => m.tag !== 1,
  ],
  [
    "CR0.WP changes",
    (rig) => rig.mmu.controlChanged(rig.cpu, Control.Cr0, 0x10001, 1),
    () => true,
  ],
  [
    "CR4.SMEP falls",
    (rig) => rig.mmu.controlChanged(rig.cpu, Control.Cr4, Cr4.SMEP, 0),
    () => true,
  ],
  [
    "CR4.SMAP changes",
    (rig) => rig.mmu.controlChanged(rig.cpu, Control.Cr4, 0, Cr4.SMAP),
    () => true,
  ],
  [
    "CR4.PCIDE falls",
    (rig) => rig.mmu.controlChanged(rig.cpu, Control.Cr4, Cr4.PCIDE, 0),
    (m) => m.tag !== 1,
  ],
];

Deno.test("invalidations drop what the manual says and nothing else", async (t) => {
  for (const [name, invalidate, stays] of INVALIDATIONS) {
    await t.step(name, () => {
      const survives = survivors(invalidate, NOW);
      for (const made of everyEntry()) {
        assertEquals(
          survives(made),
          stays(made),
          `${name}: ${JSON.stringify({ ...made, linear: `${made.linear}` })}`,
        );
      }
    });
  }
});

Deno.test("every invalidation ends the grants of what it drops, or all", () => {
  for (const [name, invalidate, stays] of INVALIDATIONS) {
    const { rig } = filled();
    const dropped = (): typeof rig.dropped => {
      rig.dropped.length = 0;
      context(rig, NOW.tag, NOW.pcid, NOW.root);
      invalidate(rig);
      return rig.dropped;
    };
    const gone = [...everyEntry()].filter((made) => !stays(made));
    // What changes rights alone drops no entry.
    if (gone.length === 0) assert(dropped().includes(undefined), name);
    for (const { tag, pcid, root, fetch, linear } of gone) {
      context(rig, tag, pcid, root);
      const access = fetch ? Access.Fetch : Access.Read;
      assert(rig.translate(linear, access).frame >= 0);
      const page = Number(linear >> 12n);
      const found = dropped().some((p) => p === undefined || p === page);
      assert(found, `${name} 0x${linear.toString(16)}`);
    }
  }
});

Deno.test("tags: PCID, VPID and root keep contexts apart; globals cross PCIDs only", () => {
  const { rig } = filled();
  context(rig, 1, 1, 0);
  rig.translate(0x5000n, Access.Read);
  const seen = (tag: number, pcid: number, root: number): boolean => {
    context(rig, tag, pcid, root);
    return rig.mmu.cached(rig.cpu, 0x5000n, false) !== undefined;
  };
  assert(seen(1, 1, 0));
  assert(seen(1, 2, 0), "global");
  assert(!seen(2, 1, 0));
  assert(!seen(0, 1, 0));
  assert(!seen(1, 1, 0x30000));
  context(rig, 1, 1, 0);
  rig.translate(0x6000n, Access.Read);
  context(rig, 1, 2, 0);
  assertEquals(rig.mmu.cached(rig.cpu, 0x6000n, false), undefined);
  // Without PCIDE every CR3 has PCID 0.
  rig.v.cr4 &= ~Cr4.PCIDE;
  rig.translate(0x6000n, Access.Read);
  rig.v.cr3 = PML4 | 0x18;
  assert(rig.mmu.cached(rig.cpu, 0x6000n, false) !== undefined);
});

Deno.test("WP, SMEP, SMAP and AC judge cached entries at each access", () => {
  const rig = machine();
  const { v } = rig;
  page(rig, 5, 0x5065n);
  v.cr0 &= ~Cr0.WP;
  v.cr0 >>>= 0;
  assertEquals(rig.translate(0x5000n, Access.Write).frame, 5);
  v.cr0 = (v.cr0 | Cr0.WP) >>> 0;
  assertEquals(rig.translate(0x5000n, Access.Write).fault?.errorCode, 3);
  assertEquals(rig.translate(0x5000n, Access.Read).frame, 5);
  v.cr4 |= Cr4.SMAP;
  assertEquals(rig.translate(0x5000n, Access.Read).fault?.errorCode, 1);
  v.rflags = 2 | Rflags.AC;
  assertEquals(rig.translate(0x5000n, Access.Read).frame, 5);
  assertEquals(rig.translate(0x5000n, Access.System).fault?.errorCode, 1);
});

Deno.test("equal contents digest equally: dropped entries leave no trace", () => {
  const rig = machine();
  const { layout } = rig.cpu;
  const bytes = (): Uint8Array =>
    new Uint8Array(rig.v.memory.buffer, layout.itlb(0), 4608 * 32).slice();
  const empty = bytes();
  rig.translate(0x5000n, Access.Write);
  rig.translate(0x5000n, Access.Fetch);
  rig.mmu.invlpg(rig.cpu, 0x5000n);
  assertEquals(bytes(), empty);
});
