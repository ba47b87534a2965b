/**
 * EPT rights × MBEC (reference §3.2 and §3.4, which is kvm-unit-tests'
 * `ept-mbec`): every entry × access × level of the entry × size of the page ×
 * execute-only capability, without MBEC too, and the gaps the reference lists:
 * SMEP = 0, paging off, U/S mixed over guest levels, XS/XU split over EPT
 * levels, qualification bits 9–11.
 */
import { assertEquals } from "@std/assert";
import { Cr0, Cr4, Efer } from "../../cpu/arch/flags.ts";
import {
  Access,
  E,
  EptRig,
  FULL,
  LEAVES,
  TARGET,
  textOf,
} from "./ept_setup.ts";

/** entry, read, write, fetch via supervisor LA, fetch via user LA. */
const TABLE = `
none     181 182 184 184
R        ok  18A 18C 18C
RW       ok  ok  19C 19C
XS       1A1 1A2 ok  1A4
XU       1C1 1C2 1C4 ok
XS+XU    1E1 1E2 ok  ok
R+XS     ok  1AA ok  1AC
R+XU     ok  1CA 1CC ok
R+XS+XU  ok  1EA ok  ok
RW+XS    ok  ok  ok  1BC
RW+XU    ok  ok  1DC ok
RW+XS+XU ok  ok  ok  ok`.trim().split("\n").map((line) => line.split(/\s+/));
/** The same without MBEC, where bit 10 is ignored and bit 6 is 0. */
const TABLE_PLAIN = `
none     181 182 184 184
R        ok  18A 18C 18C
RW       ok  ok  19C 19C
XS       1A1 1A2 ok  ok
XU       181 182 184 184
XS+XU    1A1 1A2 ok  ok
R+XS     ok  1AA ok  ok
R+XU     ok  18A 18C 18C
R+XS+XU  ok  1AA ok  ok
RW+XS    ok  ok  ok  ok
RW+XU    ok  ok  19C 19C
RW+XS+XU ok  ok  ok  ok`.trim().split("\n").map((line) => line.split(/\s+/));

function bitsOf(name: string): bigint {
  let bits = 0n;
  if (name === "none") return 0n;
  for (const word of name.split("+")) {
    bits |= word === "R"
      ? E.R
      : word === "RW"
      ? E.R | E.W
      : word === "XS"
      ? E.XS
      : E.XU;
  }
  return bits;
}

/** One outcome, and what must lie beside it. */
function probe(m: EptRig, access: number, cpl: number): string {
  const outcome = m.access(access, cpl);
  if (outcome.frame >= 0) assertEquals(outcome.frame, m.host);
  if (outcome.stage2 !== undefined) {
    assertEquals(outcome.stage2.guestPhysicalAddress, TARGET + 0x123);
    assertEquals(outcome.stage2.guestLinearAddress & 0xfffn, 0x123n);
    if (outcome.stage2.misconfiguration) {
      assertEquals(outcome.stage2.qualification, 0n);
    }
  }
  return textOf(outcome);
}

const WRITE_AND_READ = 1;
/** What RMW adds to a write's qualification: it reads too. */
function readToo(text: string): string {
  return text === "ok" || text === "misconfig"
    ? text
    : (parseInt(text, 16) | WRITE_AND_READ).toString(16).toUpperCase();
}

for (const mbec of [true, false]) {
  for (const executeOnly of [true, false]) {
    const what = `${mbec ? "MBEC" : "no MBEC"}, ` +
      `${executeOnly ? "with" : "without"} execute-only`;
    Deno.test(`EPT rights at every level and page size: ${what}`, () => {
      const m = new EptRig({ mbec, executeOnly });
      let cases = 0;
      for (const leaf of LEAVES) {
        for (let level = leaf; level <= 4; level++) {
          for (const row of mbec ? TABLE : TABLE_PLAIN) {
            const [name, ...table] = row;
            const bits = bitsOf(name);
            m.reset(leaf);
            m.rights(level, bits);
            const seen = mbec ? bits : bits & ~E.XU;
            // Without the capability any X without R is a misconfiguration.
            const mis = !executeOnly && seen !== 0n && !(seen & E.R);
            const due = mis ? table.map(() => "misconfig") : table;
            for (const user of [false, true]) {
              m.user(user);
              const about = `${name} level ${level} leaf ${leaf} user ${user}`;
              const [read, write, supervisorFetch, userFetch] = due;
              const fetch = user ? userFetch : supervisorFetch;
              const cpls = user ? [0, 3] : [0];
              for (const cpl of cpls) {
                const is = (access: number, wanted: string): void => {
                  cases++;
                  assertEquals(probe(m, access, cpl), wanted, about);
                };
                is(Access.Read, read);
                is(Access.Write, write);
                // RMW needs both rights: what a write or a read lacks.
                is(Access.ReadForWrite, readToo(write));
                // SMEP = 0 in these tests: CPL 0 fetches of a user LA use XU.
                is(Access.Fetch, fetch);
              }
            }
          }
        }
      }
      assertEquals(cases, 9 * 12 * 3 * 4);
    });
  }
}

Deno.test("guest rights come first: SMEP, U/S, XD and R/W fault as #PF", () => {
  const m = new EptRig();
  m.rights(1, 0n);
  m.user(true);
  m.rig.v.cr4 |= Cr4.SMEP;
  assertEquals(textOf(m.access(Access.Fetch, 0)), "#PF(17)");
  m.user(false);
  assertEquals(textOf(m.access(Access.Fetch, 3)), "#PF(21)");
  assertEquals(textOf(m.access(Access.Read, 3)), "#PF(5)");
  m.guest(1, BigInt(TARGET) | 0x61n);
  assertEquals(textOf(m.access(Access.Write, 0)), "#PF(3)");
  m.guest(1, BigInt(TARGET) | 0x63n | 1n << 63n);
  assertEquals(textOf(m.access(Access.Fetch, 0)), "#PF(17)");
  // Nothing else stands before the violation.
  m.guest(1, BigInt(TARGET) | 0x63n);
  assertEquals(textOf(m.access(Access.Fetch, 0)), "184");
});

Deno.test("SMEP = 0: supervisor fetches of a user address use XU at every CPL", () => {
  const m = new EptRig();
  m.user(true);
  for (const cpl of [0, 1, 2, 3]) {
    m.rights(1, E.R | E.XU);
    assertEquals(textOf(m.access(Access.Fetch, cpl)), "ok");
    m.rights(1, E.R | E.XS);
    assertEquals(textOf(m.access(Access.Fetch, cpl)), "1AC");
  }
});

Deno.test("CR0.PG = 0: every address is the user's, at every CPL", () => {
  for (const advanced of [false, true]) {
    const m = new EptRig({ advanced });
    const { v } = m.rig;
    v.cr0 = Cr0.PE;
    v.efer = 0;
    // Linear = guest-physical: the target lies above 4 GiB, so use a low page.
    const linear = 0x5123n;
    const entry = m.tablePage(0x5000);
    const at = (bits: bigint): void => m.rig.put(entry, 0x5000n | E.WB | bits);
    const upper = advanced ? 0x600 : 0;
    const hex = (n: number): string => (n | upper).toString(16).toUpperCase();
    for (const cpl of [0, 3]) {
      at(E.R | E.XU);
      assertEquals(textOf(m.access(Access.Fetch, cpl, linear)), "ok");
      at(E.R | E.XS);
      assertEquals(textOf(m.access(Access.Fetch, cpl, linear)), hex(0x1ac));
      assertEquals(textOf(m.access(Access.Write, cpl, linear)), hex(0x1aa));
      assertEquals(textOf(m.access(Access.Read, cpl, linear)), "ok");
      at(0n);
      assertEquals(textOf(m.access(Access.Read, cpl, linear)), hex(0x181));
    }
    // Without MBEC bit 2 alone decides.
    m.options({ mbec: false, advanced });
    at(E.R | E.XS);
    assertEquals(textOf(m.access(Access.Fetch, 0, linear)), "ok");
    at(E.R | E.XU);
    assertEquals(textOf(m.access(Access.Fetch, 0, linear)), hex(0x18c));
  }
});

Deno.test("U/S mixed over the guest's levels: the AND decides between XS and XU", () => {
  const m = new EptRig();
  for (let n = 0; n < 16; n++) {
    for (let level = 4; level >= 1; level--) {
      const to = level === 1
        ? TARGET
        : [0, 0, 0x23000, 0x22000, 0x21000][level];
      m.guest(
        level,
        BigInt(to) | 0x63n | (n >> (level - 1) & 1 ? 4n : 0n),
      );
    }
    const user = n === 15;
    m.rights(1, E.R | E.XU);
    assertEquals(textOf(m.access(Access.Fetch, 0)), user ? "ok" : "1CC");
    m.rights(1, E.R | E.XS);
    assertEquals(textOf(m.access(Access.Fetch, 0)), user ? "1AC" : "ok");
    if (user) assertEquals(textOf(m.access(Access.Fetch, 3)), "1AC");
    else assertEquals(textOf(m.access(Access.Fetch, 3)), "#PF(21)");
  }
});

Deno.test("PAE paging: PDPTEs have no U/S; PDE and PTE decide", () => {
  const m = new EptRig();
  const { v } = m.rig;
  v.efer = Efer.NXE;
  v.cr4 = Cr4.PAE;
  v.setPdpte(0, 0x22001n);
  const linear = 0xe06123n; // PDE 7, PTE 6
  for (let n = 0; n < 4; n++) {
    m.guest(2, 0x23063n | (n & 2 ? 4n : 0n));
    m.guest(1, BigInt(TARGET) | 0x63n | (n & 1 ? 4n : 0n));
    m.rights(1, E.R | E.XU);
    assertEquals(
      textOf(m.access(Access.Fetch, 0, linear)),
      n === 3 ? "ok" : "1CC",
    );
    m.rights(1, E.R | E.XS);
    assertEquals(
      textOf(m.access(Access.Fetch, 0, linear)),
      n === 3 ? "1AC" : "ok",
    );
  }
});

Deno.test("XS and XU split over the EPT's levels: each is ANDed by itself", () => {
  const m = new EptRig();
  let cases = 0;
  for (const leaf of LEAVES) {
    m.reset(leaf);
    const levels = 5 - leaf;
    for (let n = 0; n < 1 << (2 * levels); n++) {
      let xs = true;
      let xu = true;
      for (let i = 0; i < levels; i++) {
        const s = (n >> (2 * i) & 1) !== 0;
        const u = (n >> (2 * i) & 2) !== 0;
        xs &&= s;
        xu &&= u;
        m.rights(leaf + i, E.R | (s ? E.XS : 0n) | (u ? E.XU : 0n));
      }
      const rights = 0x188 | (xs ? 0x20 : 0) | (xu ? 0x40 : 0);
      const hex = (bit: number): string =>
        (rights | bit).toString(16).toUpperCase();
      for (const user of [false, true]) {
        m.user(user);
        cases += 3;
        assertEquals(
          textOf(m.access(Access.Fetch, user ? 3 : 0)),
          (user ? xu : xs) ? "ok" : hex(4),
        );
        assertEquals(textOf(m.access(Access.Write, 0)), hex(2));
        assertEquals(textOf(m.access(Access.Read, 0)), "ok");
      }
    }
  }
  assertEquals(cases, (256 + 64 + 16) * 6);
});

Deno.test("R and W split over the EPT's levels", () => {
  const m = new EptRig({ executeOnly: true });
  // 0 none, 1 X, 2 R, 3 RX, 4 RW, 5 RWX at each of the four levels.
  const kinds = [0n, 0x404n, 1n, 0x405n, 3n, FULL];
  for (let n = 0; n < 6 ** 4; n++) {
    let and = FULL;
    let absent = false;
    for (let level = 4, left = n; level >= 1; level--) {
      const bits = kinds[left % 6];
      left = Math.floor(left / 6);
      m.rights(level, bits);
      if (bits === 0n) absent = true;
      and &= bits;
    }
    const seen = absent ? 0n : and;
    const q = (bit: number): string =>
      (0x180 | bit | Number(seen & 7n) << 3 | Number(seen >> 10n) << 6)
        .toString(16).toUpperCase();
    assertEquals(textOf(m.access(Access.Read)), seen & E.R ? "ok" : q(1));
    assertEquals(textOf(m.access(Access.Write)), seen & E.W ? "ok" : q(2));
    assertEquals(textOf(m.access(Access.Fetch)), seen & E.XS ? "ok" : q(4));
  }
});

Deno.test("bits 9–11: user-mode, read/write and XD of the guest's walk", () => {
  for (const advanced of [false, true]) {
    const m = new EptRig({ advanced });
    const { v } = m.rig;
    m.rights(1, 0n);
    v.cr0 &= ~Cr0.WP;
    v.cr0 >>>= 0;
    for (let n = 0; n < 4096; n++) {
      let u = true;
      let w = true;
      let xd = false;
      for (let level = 4; level >= 1; level--) {
        const bits = n >> (3 * (level - 1)) & 7;
        u &&= (bits & 1) !== 0;
        w &&= (bits & 2) !== 0;
        xd ||= (bits & 4) !== 0;
        const to = level === 1
          ? TARGET
          : [0, 0, 0x23000, 0x22000, 0x21000][level];
        m.guest(
          level,
          BigInt(to) | 0x61n | (bits & 1 ? 4n : 0n) | (bits & 2 ? 2n : 0n) |
            (bits & 4 ? 1n << 63n : 0n),
        );
      }
      const upper = !advanced
        ? 0
        : (u ? 0x200 : 0) | (w ? 0x400 : 0) | (xd ? 0x800 : 0);
      const hex = (q: number): string => (q | upper).toString(16).toUpperCase();
      assertEquals(textOf(m.access(Access.Read)), hex(0x181));
      assertEquals(textOf(m.access(Access.Write)), hex(0x182));
      assertEquals(textOf(m.access(Access.Fetch)), xd ? "#PF(17)" : hex(0x184));
    }
    // Accesses to paging-structure entries have none of the three.
    m.rig.put(m.tablePage(0x22000), 0n);
    assertEquals(textOf(m.access(Access.Read)), "81");
  }
});
