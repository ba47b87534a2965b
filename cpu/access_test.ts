/**
 * Linear and segmented access: page crossings, device memory, #AC, data
 * breakpoints and segment checks (SDM 3A §5.3, §6.15, 3B §18.2), judged on the
 * MMU alone. A store either happens whole or not at all.
 */
import { assertEquals } from "@std/assert";
import { MmuRig } from "../tests/exhaustive/mmu_rig.ts";
import { PENDING_BREAKPOINT } from "./access.ts";
import { Vector } from "./arch/exceptions.ts";
import { Cr0, Cr4, Efer, Rflags, SegmentRights } from "./arch/flags.ts";
import { Outcome } from "./isa/row.ts";
import { PageFlag, Seg } from "./layout.ts";
import { Access } from "./port.ts";

const CODE_64 = 0xa09b;
const DATA = 0xc093;

/** 64-bit mode; the first 2 MiB of RAM at 0, then what a test maps. */
function machine(): MmuRig {
  const rig = new MmuRig();
  const { v } = rig;
  rig.put(0x20000, 0x21067n);
  rig.put(0x21000, 0x22067n);
  rig.put(0x22000, 0x23067n);
  for (let i = 0; i < 512; i++) {
    rig.put(0x23000 + i * 8, BigInt(i) << 12n | 0x67n);
  }
  v.cr0 = (Cr0.PE | Cr0.PG | Cr0.WP | Cr0.AM) >>> 0;
  v.cr3 = 0x20000;
  v.cr4 = Cr4.PAE;
  v.efer = Efer.LME | Efer.LMA | Efer.NXE;
  v.rflags = 2;
  for (let s = 0; s < 6; s++) segment(rig, s, 0n, 0xffffffff, DATA);
  segment(rig, Seg.CS, 0n, 0xffffffff, CODE_64);
  return rig;
}
function segment(
  rig: MmuRig,
  s: number,
  base: bigint,
  limit: number,
  attributes: number,
): void {
  rig.v.setSegment(s, { selector: 0x10, base, limit, attributes });
}
const map = (rig: MmuRig, page: number, entry: bigint): void =>
  rig.put(0x23000 + page * 8, entry);

Deno.test("reads and writes cross pages byte by byte, at every offset and size", () => {
  const rig = machine();
  const { access } = rig.cpu;
  map(rig, 6, 0x9000n | 0x67n); // not next to page 5
  for (const size of [1, 2, 4, 8]) {
    for (let at = 0x5ff8; at < 0x6001; at++) {
      rig.mmu.flush(rig.cpu, 9, 0, 0, 0n);
      const value = 0x8877665544332211n & (1n << BigInt(size * 8)) - 1n;
      assertEquals(access.write(BigInt(at), size, value), 0);
      assertEquals(access.read(BigInt(at), size), value);
      for (let i = 0; i < size; i++) {
        const physical = at + i < 0x6000 ? at + i : at + i + 0x3000;
        assertEquals(
          rig.get(physical, 1),
          value >> BigInt(i * 8) & 0xffn,
          `byte ${i} of ${size} at ${at.toString(16)}`,
        );
      }
    }
  }
});

Deno.test("a store whose second page faults writes nothing, CR2 is that page", () => {
  const rig = machine();
  const { access } = rig.cpu;
  map(rig, 6, 0x6065n);
  rig.put(0x5ff8, 0x1111111111111111n);
  rig.put(0x6000, 0x2222222222222222n);
  assertEquals(access.write(0x5ffcn, 8, 0n), Outcome.Fault);
  assertEquals(rig.raised(), {
    vector: Vector.PF,
    errorCode: 3,
    payload: 0x6000n,
    software: false,
  });
  assertEquals(rig.get(0x5ff8), 0x1111111111111111n);
  assertEquals(rig.get(0x6000), 0x2222222222222222n);
  assertEquals(rig.stores, []);
  // The first page first: CR2 is the access's own address.
  map(rig, 5, 0x5065n);
  rig.mmu.invlpg(rig.cpu, 0x5000n);
  assertEquals(access.write(0x5ffcn, 8, 0n), Outcome.Fault);
  assertEquals(rig.raised()?.payload, 0x5ffcn);
  map(rig, 6, 0n);
  rig.mmu.invlpg(rig.cpu, 0x6000n);
  assertEquals(access.read(0x5fffn, 2), 0n);
  assertEquals([access.outcome, rig.raised()?.errorCode], [Outcome.Fault, 0]);
});

Deno.test("a crossing store dirties both pages and ends the code in both", () => {
  const rig = machine();
  const { physical, cpu: { access } } = rig;
  map(rig, 6, 0x9000n | 0x67n);
  const written: [number, number, number][] = [];
  physical.onCodeWritten((...what) => void written.push(what));
  const dirty = [5, 9].map((page) => physical.pageFlags(page));
  assertEquals(dirty, [0, 0]);
  for (const page of [5, 9]) physical.markCode(page);
  assertEquals(access.write(0x5ffdn, 8, ~0n), 0);
  assertEquals(written, [[5, 0xffd, 0xfff], [9, 0, 4]]);
  for (const page of [5, 9]) {
    assertEquals(physical.pageFlags(page), PageFlag.Dirty | PageFlag.Code);
  }
});

Deno.test("the fact of a crossing store has the old bytes of both pages", () => {
  const rig = machine();
  map(rig, 6, 0x9067n);
  rig.put(0x5ffc, 0xaaaaaaaan, 4);
  rig.put(0x9000, 0xbbbbbbbbn, 4);
  rig.observed = true;
  rig.cpu.access.write(0x5ffcn, 8, 0x1234n);
  assertEquals(rig.stores, [[0x5ffcn, 8, 0x1234n, 0xbbbbbbbbaaaaaaaan]]);
});

Deno.test("probe: every page of a range, nothing written", () => {
  const rig = machine();
  map(rig, 7, 0x7065n);
  const { access } = rig.cpu;
  assertEquals(access.probe(0x5ff0n, 0x1010, Access.Write), 0);
  assertEquals(access.probe(0x5ff0n, 0x1011, Access.Write), Outcome.Fault);
  assertEquals(rig.raised()?.payload, 0x7000n);
});

Deno.test("linear addresses wrap: 4 GiB outside 64-bit mode, never for its tables", () => {
  const rig = machine();
  const { access } = rig.cpu;
  // Last page below 4 GiB and the first above it.
  rig.put(0x21018, 0x24067n);
  rig.put(0x24ff8, 0x25067n);
  rig.put(0x25ff8, 0x30067n);
  rig.put(0x21020, 0x26067n);
  rig.put(0x26000, 0x27067n);
  rig.put(0x27000, 0x31067n);
  rig.put(0x30ffe, 0x2211n, 2);
  rig.put(0x31000, 0x4433n, 2);
  rig.put(0x0, 0x6655n, 2);
  assertEquals(access.read(0xffff_fffen, 4), 0x44332211n, "64-bit mode");
  segment(rig, Seg.CS, 0n, 0xffffffff, 0xc09b);
  assertEquals(access.read(0xffff_fffen, 4), 0x66552211n, "compatibility");
  assertEquals(
    access.read(0xffff_fffen, 4, Access.System),
    0x44332211n,
    "tables",
  );
});

Deno.test("device memory: whole accesses, bytes where a page is crossed, ones elsewhere", () => {
  const rig = machine();
  const { access } = rig.cpu;
  const seen: string[] = [];
  rig.devices.memory("test", 0xfee00000, 4096, {
    read(address, size) {
      seen.push(`r${(address & 0xfff).toString(16)}.${size}`);
      return 0x11n;
    },
    write(address, size, value) {
      seen.push(`w${(address & 0xfff).toString(16)}.${size}=${value}`);
    },
  });
  map(rig, 5, 0xfee00067n);
  map(rig, 6, 0xfef00067n);
  assertEquals(access.read(0x5020n, 4), 0x11n);
  access.write(0x5300n, 8, 7n);
  access.write(0x5fffn, 2, 0x0908n);
  assertEquals(seen, ["r20.4", "w300.8=7", "wfff.1=8"]);
  assertEquals(access.read(0x6000n, 8), 0xffff_ffff_ffff_ffffn);
  // The old value of a device store is not read: reads may have effects.
  seen.length = 0;
  rig.observed = true;
  access.write(0x5010n, 4, 1n);
  assertEquals(seen, ["w10.4=1"]);
  assertEquals(rig.stores, [[0x5010n, 4, 1n, 0n]]);
});

Deno.test("#AC: CPL 3, CR0.AM and RFLAGS.AC, by size and address; not for system accesses", () => {
  const rig = machine();
  const { v, cpu: { access } } = rig;
  for (let n = 0; n < 8; n++) {
    v.cpl = n & 1 ? 3 : 0;
    v.rflags = 2 | (n & 2 ? Rflags.AC : 0);
    v.cr0 = (Cr0.PE | Cr0.PG | Cr0.WP | (n & 4 ? Cr0.AM : 0)) >>> 0;
    for (const size of [1, 2, 4, 8]) {
      for (let offset = 0; offset < 8; offset++) {
        const due = n === 7 && offset % size !== 0;
        const at = 0x5000n + BigInt(offset);
        v.pending = undefined;
        access.readSegment(Seg.DS, at, size);
        assertEquals(access.outcome !== 0, due, `read ${size} at +${offset}`);
        access.writeSegment(Seg.DS, at, size, 0n);
        assertEquals(access.outcome !== 0, due);
        if (due) {
          assertEquals(rig.raised()?.vector, Vector.AC);
          assertEquals(rig.raised()?.errorCode, 0);
        }
        access.read(at, size, Access.System);
        assertEquals(access.outcome, 0);
      }
    }
  }
});

Deno.test("data breakpoints: type, length, overlap and enable bits", () => {
  const rig = machine();
  const { v, cpu } = rig;
  const lengths = [1, 2, 8, 4];
  let met = 0;
  for (let register = 0; register < 4; register++) {
    for (const type of [1, 3]) {
      for (let code = 0; code < 4; code++) {
        for (let enable = 0; enable < 4; enable++) {
          v.setDr(register, 0x5013n);
          const control = BigInt(type | code << 2) << BigInt(16 + register * 4);
          v.setDr(7, 0x400n | control | BigInt(enable) << BigInt(register * 2));
          const length = lengths[code];
          const start = 0x5013 & ~(length - 1);
          for (const size of [1, 2, 4, 8]) {
            for (let at = 0x5008; at < 0x5020; at++) {
              const overlap = at < start + length && start < at + size;
              for (const write of [false, true]) {
                v.pendingDebug = 0;
                if (write) cpu.access.write(BigInt(at), size, 0n);
                else cpu.access.read(BigInt(at), size);
                const due = enable !== 0 && overlap && (type === 3 || write);
                if (due) met++;
                assertEquals(
                  v.pendingDebug,
                  due ? 1 << register | PENDING_BREAKPOINT : 0,
                );
              }
            }
          }
        }
      }
      v.setDr(7, 0x400n);
    }
  }
  assertEquals(met > 1000, true);
  // A faulting access meets none; a silent one neither.
  v.setDr(0, 0x5000n);
  v.setDr(7, 0x30401n);
  v.pendingDebug = 0;
  map(rig, 5, 0x5065n);
  rig.mmu.invlpg(cpu, 0x5000n);
  assertEquals(cpu.access.write(0x5000n, 1, 0n), Outcome.Fault);
  cpu.access.read(0x5000n, 1, Access.Silent);
  assertEquals(v.pendingDebug, 0);
});

Deno.test("64-bit mode: canonical addresses, #SS for the stack, FS and GS bases only", () => {
  const rig = machine();
  const { v, cpu: { access } } = rig;
  segment(rig, Seg.DS, 0x1000n, 0, DATA);
  segment(rig, Seg.FS, 0x1000n, 0, 0x10000);
  assertEquals(access.linear(Seg.DS, 0x5000n, 8, true), 0x5000n);
  assertEquals(access.linear(Seg.FS, 0x5000n, 8, true), 0x6000n);
  const faults: [bigint, number, boolean][] = [
    [0x7fff_ffff_fff8n, 8, false],
    [0x7fff_ffff_fff9n, 8, true],
    [0x8000_0000_0000n, 1, true],
    [0xffff_7fff_ffff_ffffn, 1, true],
    [0xffff_8000_0000_0000n, 1, false],
    [0xffff_ffff_ffff_fffcn, 8, false],
  ];
  for (const [offset, size, due] of faults) {
    for (const s of [Seg.DS, Seg.SS]) {
      v.pending = undefined;
      const linear = access.linear(s, offset, size, false);
      assertEquals(linear === undefined, due, offset.toString(16));
      if (!due) continue;
      assertEquals(rig.raised()?.vector, s === Seg.SS ? Vector.SS : Vector.GP);
      assertEquals(rig.raised()?.errorCode, 0);
    }
  }
  v.cr4 |= Cr4.LA57;
  assertEquals(access.canonical(0x00ff_ffff_ffff_ffffn), true);
  assertEquals(access.canonical(0x0100_0000_0000_0000n), false);
});

Deno.test("segments outside 64-bit mode: limit, expand-down, type, unusable", () => {
  const rig = machine();
  const { v, cpu: { access } } = rig;
  v.efer = 0;
  segment(rig, Seg.CS, 0n, 0xffffffff, 0xc09b);
  const R = SegmentRights;
  const base = R.Present | R.CodeData;
  // type bits, limit, offset, size, write, allowed
  const rows: [number, number, number, number, boolean, boolean][] = [
    [R.WritableReadable, 0xfff, 0xff8, 8, true, true],
    [R.WritableReadable, 0xfff, 0xff9, 8, true, false],
    [R.WritableReadable, 0, 0, 1, false, true],
    [0, 0xfff, 0, 4, false, true],
    [0, 0xfff, 0, 4, true, false],
    [R.Code, 0xfff, 0, 4, false, false],
    [R.Code | R.WritableReadable, 0xfff, 0, 4, false, true],
    [R.Code | R.WritableReadable, 0xfff, 0, 4, true, false],
    // Expand-down: above the limit, up to 64 KiB or 4 GiB.
    [R.WritableReadable | 4, 0xfff, 0xfff, 1, true, false],
    [R.WritableReadable | 4, 0xfff, 0x1000, 8, true, true],
    [R.WritableReadable | 4, 0xfff, 0xfff9, 8, true, false],
    [R.WritableReadable | 4, 0xfff, 0x10000, 1, true, false],
    [R.WritableReadable | 4 | R.DefaultBig, 0xfff, 0x10000, 8, true, true],
    [R.WritableReadable | R.Unusable, 0xfff, 0, 1, false, false],
  ];
  for (const [bits, limit, offset, size, write, fine] of rows) {
    for (const s of [Seg.DS, Seg.SS]) {
      segment(rig, s, 0x4000n, limit, base | bits);
      v.pending = undefined;
      const linear = access.linear(s, BigInt(offset), size, write);
      const about = `type ${bits.toString(16)} ${offset.toString(16)}+${size}`;
      assertEquals(linear, fine ? 0x4000n + BigInt(offset) : undefined, about);
      if (fine) continue;
      assertEquals(rig.raised()?.vector, s === Seg.SS ? Vector.SS : Vector.GP);
    }
  }
  // The sum of base and offset wraps at 4 GiB.
  segment(rig, Seg.DS, 0xffff_f000n, 0xffffffff, DATA);
  assertEquals(access.linear(Seg.DS, 0x2000n, 4, false), 0x1000n);
});
