/**
 * Protection keys, by counter (SDM 3A §4.6.2, §4.7): U/S, R/W, key, CR0.WP,
 * CR4.PKE, CR4.PKS, both rights of both registers, every kind of access at
 * CPL 0 and 3 — once walked, and once judged on a translation that was cached
 * while the keys permitted everything. The oracle is written from the manual's
 * sentences and knows nothing of the MMU's code.
 */
import { assert, assertEquals } from "@std/assert";
import { Cr0, Cr4, Efer } from "../../cpu/arch/flags.ts";
import { MsrSlot } from "../../cpu/arch/msr.ts";
import { VCPU } from "../../cpu/layout.ts";
import { Access, Control } from "../../cpu/port.ts";
import { MmuRig } from "./mmu_rig.ts";

const TABLE = 0x10000;
const LINEAR = 0x8_0123_4567n;
const FRAME = 0x123;

interface Kind {
  readonly access: number;
  readonly write: boolean;
  readonly fetch: boolean;
  readonly implicit: boolean;
}
const KINDS: readonly Kind[] = [
  [Access.Read, false, false, false],
  [Access.Write, true, false, false],
  [Access.ReadForWrite, true, false, false],
  [Access.Fetch, false, true, false],
  [Access.System, false, false, true],
  [Access.System | Access.Write, true, false, true],
].map(([access, write, fetch, implicit]) => ({
  access: access as number,
  write: write as boolean,
  fetch: fetch as boolean,
  implicit: implicit as boolean,
}));

interface Page {
  readonly user: boolean;
  readonly writable: boolean;
  readonly key: number;
}
interface State {
  readonly wp: boolean;
  readonly pke: boolean;
  readonly pks: boolean;
  readonly pkru: number;
  readonly pkrs: number;
  readonly cpl: number;
}

/** #PF error code, or undefined when the access is allowed. */
function due(page: Page, s: State, k: Kind): number | undefined {
  const user = s.cpl === 3 && !k.implicit;
  let key = false;
  if (!k.fetch && (page.user ? s.pke : s.pks)) {
    const register = page.user ? s.pkru : s.pkrs;
    const ad = (register & 1 << 2 * page.key) !== 0;
    const wd = (register & 2 << 2 * page.key) !== 0;
    key = ad || (wd && k.write && (user || s.wp));
  }
  const mode = user && !page.user;
  const readOnly = k.write && !page.writable && (user || s.wp);
  if (!key && !mode && !readOnly) return undefined;
  return 1 | (k.write ? 2 : 0) | (user ? 4 : 0) | (k.fetch ? 16 : 0) |
    (key ? 32 : 0);
}

/** The page at `leaf` (1 PTE, 2 PDE, 3 PDPTE) of a chain of tables. */
function map(rig: MmuRig, levels: number, leaf: number, page: Page): void {
  for (let level = levels; level >= leaf; level--) {
    const shift = BigInt(12 + 9 * (level - 1));
    const index = Number(LINEAR >> shift & 0x1ffn);
    const table = TABLE + (levels - level) * 0x1000;
    const at = level > leaf
      ? BigInt(table + 0x1000)
      : leaf === 1
      ? BigInt(FRAME) << 12n
      : 0x80n;
    // Keys in entries that map no page mean nothing.
    const key = level === leaf ? page.key : page.key ^ 15;
    const rights = (page.writable ? 2n : 0n) | (page.user ? 4n : 0n);
    rig.put(table + index * 8, BigInt(key) << 59n | at | rights | 0x61n);
  }
}

function apply(rig: MmuRig, five: boolean, s: State): void {
  const { v } = rig;
  v.cr0 = (Cr0.PE | Cr0.PG | (s.wp ? Cr0.WP : 0)) >>> 0;
  v.cr4 = Cr4.PAE | (five ? Cr4.LA57 : 0) | (s.pke ? Cr4.PKE : 0) |
    (s.pks ? Cr4.PKS : 0);
  v.setWord(VCPU.pkru, s.pkru);
  v.setMsr(MsrSlot.Pkrs, BigInt(s.pkrs >>> 0));
  v.cpl = s.cpl;
}

function states(key: number): State[] {
  const out: State[] = [];
  for (let n = 0; n < 256; n++) {
    const bit = (i: number): boolean => (n >> i & 1) !== 0;
    // The other keys have the opposite rights.
    const register = (i: number): number => {
      const own = (n >> i & 3) << 2 * key;
      const others = ~(3 << 2 * key) & (0x55555555 * (~(n >> i) & 3));
      return (own | others) >>> 0;
    };
    out.push({
      wp: bit(0),
      pke: bit(1),
      pks: bit(2),
      pkru: register(3),
      pkrs: register(5),
      cpl: bit(7) ? 3 : 0,
    });
  }
  return out;
}

function judge(five: boolean, leaf: number): number {
  const rig = new MmuRig();
  rig.v.cr3 = TABLE;
  rig.v.efer = Efer.LME | Efer.LMA | Efer.NXE;
  let compared = 0;
  for (const key of [0, 1, 6, 15]) {
    for (let p = 0; p < 4; p++) {
      const page = { user: (p & 1) !== 0, writable: (p & 2) !== 0, key };
      map(rig, five ? 5 : 4, leaf, page);
      for (const s of states(key)) {
        for (const k of KINDS) {
          const code = due(page, s, k);
          const say = (how: string): string =>
            JSON.stringify({ how, five, leaf, page, s, k });
          const check = (how: string): void => {
            const { frame, fault } = rig.translate(LINEAR, k.access);
            if (code === undefined ? frame >= 0 : fault?.errorCode === code) {
              return;
            }
            assertEquals(fault?.errorCode, code, say(how));
            assert(frame >= 0, say(how));
          };
          apply(rig, five, s);
          rig.mmu.invlpg(rig.cpu, LINEAR);
          check("walked");
          // Cached with all rights, then the registers change alone.
          apply(rig, five, { ...s, pkru: 0, pkrs: 0 });
          rig.mmu.invlpg(rig.cpu, LINEAR);
          rig.translate(LINEAR, k.access);
          apply(rig, five, s);
          check("cached");
          compared += 2;
        }
      }
    }
  }
  return compared;
}

for (const five of [false, true]) {
  for (const leaf of [1, 2, 3]) {
    Deno.test(`protection keys: ${five ? 5 : 4}-level, leaf ${leaf}`, () => {
      assertEquals(judge(five, leaf), 4 * 4 * 256 * 6 * 2);
    });
  }
}

Deno.test("grants end when rights change, translations stay", () => {
  const rig = new MmuRig();
  rig.v.cr3 = TABLE;
  rig.v.efer = Efer.LME | Efer.LMA;
  map(rig, 4, 1, { user: true, writable: true, key: 3 });
  apply(rig, false, {
    wp: true,
    pke: true,
    pks: false,
    pkru: 0,
    pkrs: 0,
    cpl: 3,
  });
  assertEquals(rig.translate(LINEAR, Access.Write).frame, FRAME);
  const page = Number(LINEAR >> 12n);
  assert(rig.mmu.grantable(rig.cpu, page, Access.Write));
  rig.dropped.length = 0;
  rig.v.setWord(VCPU.pkru, 2 << 6);
  rig.mmu.controlChanged(rig.cpu, Control.ProtectionKeys, 0, 2 << 6);
  assertEquals(rig.dropped, [undefined]);
  assert(!rig.mmu.grantable(rig.cpu, page, Access.Write));
  assert(rig.mmu.grantable(rig.cpu, page, Access.Read));
  assert(rig.mmu.cached(rig.cpu, LINEAR, false) !== undefined);
});

Deno.test("PAE and 32-bit paging know no keys", () => {
  const rig = new MmuRig();
  const { v } = rig;
  v.cr0 = (Cr0.PE | Cr0.PG) >>> 0;
  v.cr4 = Cr4.PSE | Cr4.PKE | Cr4.PKS;
  v.cr3 = TABLE;
  v.setWord(VCPU.pkru, 0xffff_ffff);
  v.setMsr(MsrSlot.Pkrs, 0xffff_ffffn);
  rig.put(TABLE, 0x87n, 4);
  assertEquals(rig.translate(0x123n, Access.Write).frame, 0);
  assertEquals(rig.mmu.cached(rig.cpu, 0x123n, false)!.attributes >>> 24, 0);
});
