/**
 * What the walker and the TLB say of single pages: which entries translate an
 * address (SDM 3A §4.5), and what an engine may do silently afterwards.
 */
import { assert, assertEquals } from "@std/assert";
import { Cr0, Cr4, Efer, Rflags } from "../../cpu/arch/flags.ts";
import { Access, Grant } from "../../cpu/port.ts";
import { MmuRig } from "../../tests/exhaustive/mmu_rig.ts";

Deno.test("grants: only cached, permitted, dirty for stores, and without breakpoints", () => {
  const rig = new MmuRig();
  const { cpu, v, mmu } = rig;
  v.cr0 = (Cr0.PE | Cr0.PG | Cr0.WP) >>> 0;
  v.cr3 = 0x20000;
  v.cr4 = Cr4.PAE;
  v.efer = Efer.LME | Efer.LMA;
  for (const table of [0x20000, 0x21000, 0x22000]) {
    rig.put(table, BigInt(table + 0x1000) | 0x67n);
  }
  // The answer for data, in one, is that of each.
  const agree = (linearPage = 5): void => {
    const granted = mmu.grants(cpu, linearPage);
    const read = mmu.grantable(cpu, linearPage, Access.Read);
    const write = mmu.grantable(cpu, linearPage, Access.Write);
    assertEquals((granted & Grant.Read) !== 0, read);
    assertEquals((granted & Grant.Write) !== 0, write);
    if (read) assertEquals(Math.floor(granted / Grant.Size), linearPage);
  };
  rig.put(0x23000 + 5 * 8, 0x5027n);
  assert(!mmu.grantable(cpu, 5, Access.Read));
  agree();
  rig.translate(0x5000n, Access.Read);
  assert(mmu.grantable(cpu, 5, Access.Read));
  agree();
  assert(!mmu.grantable(cpu, 5, Access.Write), "D not cached");
  agree();
  assert(!mmu.grantable(cpu, 5, Access.Fetch), "not in the code TLB");
  rig.translate(0x5000n, Access.Write);
  assert(mmu.grantable(cpu, 5, Access.Write));
  agree();
  v.cr4 |= Cr4.SMAP;
  assert(!mmu.grantable(cpu, 5, Access.Read), "SMAP");
  agree();
  v.rflags = Rflags.AC;
  assert(mmu.grantable(cpu, 5, Access.Read));
  agree();
  v.setDr(7, 0x402n);
  assert(!mmu.grantable(cpu, 5, Access.Read), "a breakpoint is enabled");
  agree();
  v.setDr(7, 0x400n);
  assert(mmu.grantable(cpu, 5, Access.Read));
  agree();
  v.cr0 = Cr0.PE;
  assert(mmu.grantable(cpu, 0x77, Access.Write), "no paging, no stage 2");
  agree(0x77);
});

Deno.test("every bit of a linear page number selects an entry, at each level", () => {
  for (const wide of [false, true]) {
    for (let bit = 12; bit < (wide ? 57 : 48); bit++) {
      const rig = new MmuRig();
      const { v } = rig;
      v.cr0 = (Cr0.PE | Cr0.PG) >>> 0;
      v.cr3 = 0x10000;
      v.cr4 = Cr4.PAE | (wide ? Cr4.LA57 : 0);
      v.efer = Efer.LME | Efer.LMA;
      const top = wide ? 5 : 4;
      for (let level = top; level >= 1; level--) {
        const at = 0x10000 + (top - level) * 0x1000;
        const inTable = bit - (12 + (level - 1) * 9);
        const index = inTable >= 0 && inTable < 9 ? 1 << inTable : 0;
        const next = level === 1 ? 0x99000n : BigInt(at + 0x1000);
        rig.put(at + index * 8, next | 7n);
      }
      const sign = bit === (wide ? 56 : 47) ? -1n << BigInt(bit) : 0n;
      const linear = (sign | 1n << BigInt(bit)) & (1n << 64n) - 1n;
      assertEquals(
        rig.translate(linear, Access.Read).frame,
        0x99,
        `bit ${bit}`,
      );
    }
  }
});
