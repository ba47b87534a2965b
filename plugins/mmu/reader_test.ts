/** Reading guest memory from outside: through EPT, nested paging and neither. */
import { assertEquals } from "@std/assert";
import { VCPU } from "../../cpu/layout.ts";
import { EptRig, LINEAR, TARGET } from "../../tests/exhaustive/ept_setup.ts";
import type { MmuRig } from "../../tests/exhaustive/mmu_rig.ts";
import {
  FULL,
  N,
  NptRig,
  wideModel,
} from "../../tests/exhaustive/npt_setup.ts";
import { MODES } from "../../tests/exhaustive/paging_oracle.ts";
import type { GuestMemoryRead } from "./api.ts";
import { guestMemoryReader } from "./reader.ts";

function readerOf({ mmu, physical, cpu }: MmuRig): GuestMemoryRead {
  return guestMemoryReader(mmu, physical, [cpu]);
}
const text = (bytes: Uint8Array): string => new TextDecoder().decode(bytes);
function write({ physical }: MmuRig, at: number, words: string): void {
  [...words].forEach((c, i) =>
    physical.write(at + i, 1, BigInt(c.charCodeAt(0)))
  );
}

Deno.test("read: guest-physical addresses go through EPT, page by page", () => {
  const ept = new EptRig({ mbec: false, ad: true });
  const { rig } = ept;
  const reader = readerOf(rig);
  write(rig, ept.host * 4096 + 0x123, "host page of the target");
  write(rig, TARGET % 2 ** 21 + 0x123, "nobody reads this");
  assertEquals(text(reader.read(0, BigInt(TARGET + 0x123), 9)), "host page");
  assertEquals(text(reader.readLinear(0, LINEAR, 9)), "host page");
  // The next guest-physical page is absent.
  assertEquals(reader.read(0, BigInt(TARGET + 0xffe), 9).length, 2);
  const before = rig.get(ept.at(1));
  assertEquals(before & 0x300n, 0n, "no accessed flag");
  rig.v.stage2 = undefined;
  ept.rights(1, 0n);
  assertEquals(reader.read(0, BigInt(TARGET), 4).length, 0);
  assertEquals(rig.v.stage2, undefined);
});

Deno.test("read: guest-physical addresses go through nested tables", () => {
  const npt = new NptRig(MODES.pae, wideModel());
  const { rig } = npt;
  // Into our RAM: the target's nested page is page 0x300.
  rig.put(npt.at(1), 0x300000n | FULL);
  write(rig, 0x300040, "nested");
  const reader = readerOf(rig);
  assertEquals(text(reader.read(0, BigInt(npt.target + 0x40), 6)), "nested");
  assertEquals(rig.get(npt.at(1)), 0x300000n | FULL);
  rig.put(npt.at(1), 0x300000n | N.P);
  assertEquals(reader.read(0, BigInt(npt.target + 0x40), 6).length, 0);
});

Deno.test("read: without stage 2 the address is host-physical", () => {
  const npt = new NptRig(MODES.four, "qemu64");
  const { rig } = npt;
  rig.v.setWord(VCPU.stage2Flags, 0);
  write(rig, 0x300ffc, "across the page");
  assertEquals(text(readerOf(rig).read(0, 0x300ffcn, 15)), "across the page");
  // Short at the end of RAM.
  assertEquals(readerOf(rig).read(0, 0x3f_fffen, 8).length, 2);
});
