/**
 * Introspection for other plugins: the service, kept results, named handlers;
 * paging formats other than 4-level; and the limit towards L0's memory.
 */
import { assertEquals, assertThrows } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { ConfigError, definePlugin, RandomStream } from "../../core/mod.ts";
import { Cr0, Cr4, Efer } from "../../cpu/arch/flags.ts";
import type { CpuContext } from "../../cpu/context.ts";
import type { Hardware } from "../../cpu/hardware.ts";
import { PortAccessed } from "../../cpu/facts.ts";
import {
  mapWindow,
  PWU,
  Rig,
  setEntry,
  WINDOW,
} from "../../tests/support/introspect.ts";
import { L0_RESERVE_BYTES } from "../hypervisor/api.ts";
import { hypervisor } from "../hypervisor/plugin.ts";
import { Flush } from "../mmu/api.ts";
import { vmx } from "../vmx/plugin.ts";
import {
  type AskModule,
  type AskRead,
  Cause,
  Ending,
  Introspect,
  type IntrospectService,
  ReadCompleted,
  Reader,
  ReadRequested,
} from "./api.ts";

describe("introspect service", () => {
  const results: unknown[] = [];
  let service: IntrospectService | undefined;
  let ask: AskRead = { linear: WINDOW, length: 4 };
  /** Asks whenever the guest writes a port. */
  const asker = definePlugin({
    name: "asker",
    version: "1.0.0",
    doc: "Asks for reads in tests",
    role: "participant",
    needs: { introspect: Introspect },
    setup({ use: { introspect }, on }) {
      service = introspect;
      on(PortAccessed, () => {
        const id = introspect.request(ask);
        results.push(["asked", id, introspect.result(id)]);
        return undefined;
      });
      on(ReadCompleted, ({ id }) => {
        results.push(["done", id, introspect.result(id)?.ending]);
        return undefined;
      });
      return undefined;
    },
  });
  const machine = (program = "out 0x80, al\nout 0x80, al\nhlt"): Rig =>
    new Rig(program, {
      pages: [PWU],
      introspect: { keep: 1 },
      others: [{ plugin: asker }],
    });

  it("answers with an id, later with a fact and a kept result", () => {
    results.length = 0;
    const m = machine();
    const requested = m.collect(ReadRequested);
    m.run();
    assertEquals(results, [
      ["asked", 1, undefined],
      ["done", 1, Ending.Read],
      ["asked", 2, undefined],
      ["done", 2, Ending.Read],
    ]);
    assertEquals(requested.map((r) => r.id), [1, 2]);
    assertEquals(service?.result(1), undefined);
    assertEquals(service?.result(2)?.bytes, m.bytesAt(WINDOW, 4));
  });

  it("refuses nonsense with an error that names it", () => {
    const m = machine();
    ask = { linear: WINDOW, length: 0 };
    const error = assertThrows(() => m.run());
    assertEquals(
      /length 0: write 1 to 65536/.test(String(error)),
      true,
      String(error),
    );
    ask = { linear: WINDOW, length: 4 };
    const module: AskModule = { name: "m", start: 8n, end: 8n, recover: 1n };
    assertThrows(
      () => service!.register(module),
      ConfigError,
      "register module m with introspect: end 0x8: it must follow start",
    );
    service!.errorHandler("twice", () => 0);
    assertThrows(
      () => service!.errorHandler("twice", () => 0),
      ConfigError,
      "there is one of that name",
    );
    assertThrows(
      () =>
        new Rig("hlt", {
          introspect: { modules: [{ name: "m", end: 4, recover: 0 }] },
        }),
      ConfigError,
      "recover: give the RIP",
    );
  });
});

describe("other paging formats", () => {
  const FORMATS = {
    pae(cpu: CpuContext, hardware: Hardware): void {
      const { physical } = hardware;
      // PDPT at 0x20000 → PD at 0x21000 (identity 2 MiB, and the window's PT).
      for (const root of [0x20000, 0x20040]) {
        physical.writeU64(root, 0x21001n);
        physical.writeU64(root + 8, 0x14001n);
      }
      physical.writeU64(0x20040, 0x14001n);
      physical.writeU64(0x21000, 0x83n);
      cpu.v.cr3 = 0x20000;
      cpu.v.cr4 = Cr4.PAE;
      cpu.v.efer = Efer.NXE;
      cpu.v.setPdpte(0, 0x21001n);
      cpu.v.setPdpte(1, 0x14001n);
    },
    legacy(cpu: CpuContext, hardware: Hardware): void {
      const { physical } = hardware;
      physical.writeU32(0x20000, 0x83);
      physical.writeU32(0x20000 + 0x100 * 4, 0x21003 | 4);
      for (let page = 0; page < 4; page++) {
        const bits = [7, 0, 3, 5][page];
        const entry = bits === 0 ? 0 : (0x100000 + page * 4096) | bits;
        physical.writeU32(0x21000 + page * 4, entry);
      }
      cpu.v.cr3 = 0x20000;
      cpu.v.cr4 = Cr4.PSE;
    },
  };
  for (const [name, paging] of Object.entries(FORMATS)) {
    it(`${name}: both readers agree`, () => {
      const m = new Rig("spin: jmp spin", {
        mode: "protected",
        pages: [PWU, 0n, 3n, 5n],
        setup(cpu, hardware) {
          mapWindow(hardware);
          paging(cpu, hardware);
          cpu.v.cr0 = (cpu.v.cr0 | Cr0.PG | Cr0.WP) >>> 0;
        },
      });
      m.run(2);
      const random = new RandomStream(3n, name);
      const causes = new Set<string>();
      for (let n = 0; n < 60; n++) {
        const read = {
          linear: WINDOW + BigInt(random.below(0x3000)),
          length: 1 + random.below(0x1000),
          cpl: random.below(2) * 3,
        };
        m.ask({ ...read, reader: Reader.Walk });
        m.ask({ ...read, reader: Reader.L0 });
        m.settle();
        const [walk, l0] = m.reads.splice(0);
        assertEquals({ ...walk, id: 0 }, { ...l0, id: 0, reader: Reader.Walk });
        causes.add(l0.cause);
      }
      assertEquals([...causes].sort(), [Cause.None, Cause.PageFault]);
      m.ask({ linear: 0xffff_fffcn, length: 8 });
      m.settle();
      // Not mapped there; 4 GiB is beyond every segment.
      assertEquals(m.reads[0].cause, Cause.PageFault);
      m.ask({ linear: 0x1_0000_0000n, length: 1 });
      m.settle();
      assertEquals(m.reads[1].cause, Cause.GeneralProtection);
    });
  }

  it("pae: the walk of another CR3 loads its PDPTEs and puts ours back", () => {
    const m = new Rig("spin: jmp spin", {
      mode: "protected",
      pages: [PWU],
      setup(cpu, hardware) {
        mapWindow(hardware);
        FORMATS.pae(cpu, hardware);
        cpu.v.cr0 = (cpu.v.cr0 | Cr0.PG | Cr0.WP) >>> 0;
      },
    });
    m.run(2);
    m.ask({ linear: 8n, length: 8, reader: Reader.Walk, cr3: 0x20040n });
    m.settle();
    assertEquals(m.reads[0].bytes, m.bytesAt(WINDOW + 8n, 8));
    assertEquals(m.v.pdpte(0), 0x21001n);
  });
});

describe("towards L0", () => {
  it("a guest's tables can't make a reader show L0's memory", () => {
    const m = new Rig("spin: jmp spin", {
      ramBytes: 0x200000 + L0_RESERVE_BYTES,
      others: [{ plugin: vmx }, { plugin: hypervisor }],
      setup(_cpu, hardware) {
        setEntry(hardware, 0, PWU);
        // Page 1 of the window: the first frame of L0's memory.
        hardware.physical.writeU64(0x15008, 0x200000n | PWU);
      },
    });
    m.run(3);
    m.cpu.translator.flush(m.cpu, Flush.Everything, 0, 0, 0n);
    for (const reader of [Reader.L0, Reader.Walk]) {
      m.ask({ linear: WINDOW + 0xff8n, length: 16, reader });
    }
    m.settle();
    for (const { bytesOk, cause, faultVa } of m.reads) {
      assertEquals(bytesOk, 8);
      assertEquals(faultVa, WINDOW + 0x1000n);
      assertEquals(
        cause === Cause.NoMemory || cause === Cause.Stage2Denied,
        true,
      );
    }
    assertEquals(m.reads.length, 2);
  });
});
