/** Reads from outside: both readers, partial reads, rights, side effects, cost. */
import { assertEquals } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { RandomStream } from "../../core/mod.ts";
import { Cr4 } from "../../cpu/arch/flags.ts";
import { ExceptionDelivered } from "../../cpu/facts.ts";
import { Flush, MmuWalked } from "../mmu/api.ts";
import { Cause, Ending, Reader, ReadFaulted } from "./api.ts";
import { PWU, Rig, setEntry, WINDOW } from "../../tests/support/introspect.ts";

const IDLE = "spin: jmp spin";

describe("l0 reader", () => {
  it("reads across pages, with the A bits and TLB entries of a guest's read", () => {
    const m = new Rig(IDLE, { pages: [PWU, PWU] });
    const walked = m.collect(MmuWalked);
    m.run(3);
    const before = walked.length;
    const step = m.v.step;
    m.ask({ linear: WINDOW + 0xff0n, length: 0x30 });
    m.settle();
    assertEquals(m.v.step, step);
    const [read] = m.reads;
    assertEquals(read.ending, Ending.Read);
    assertEquals(read.cause, Cause.None);
    assertEquals(read.bytes, m.bytesAt(WINDOW + 0xff0n, 0x30));
    assertEquals([m.accessed(0), m.accessed(1), m.accessed(2)], [
      true,
      true,
      false,
    ]);
    assertEquals(walked.length - before, 2);
    // Cached now: a second read walks no more.
    m.ask({ linear: WINDOW, length: 8 });
    m.settle();
    assertEquals(walked.length - before, 2);
  });

  it("publishes nothing beyond an absent page, and the guest sees nothing", () => {
    const m = new Rig(IDLE, { pages: [PWU, 0n, PWU] });
    const delivered = m.collect(ExceptionDelivered);
    const faulted = m.collect(ReadFaulted);
    m.run(3);
    const { cr2, rflags, cpl } = m.v;
    m.ask({ linear: WINDOW + 0x800n, length: 0x2000 });
    m.settle();
    const [read] = m.reads;
    assertEquals(read.bytesOk, 0x800);
    assertEquals(read.bytes, m.bytesAt(WINDOW + 0x800n, 0x800));
    assertEquals(read.faultVa, WINDOW + 0x1000n);
    assertEquals(read.cause, Cause.PageFault);
    assertEquals(read.ending, Ending.Reported);
    assertEquals(faulted.length, 1);
    assertEquals(faulted[0].vector, 14);
    m.run(10);
    assertEquals(delivered, []);
    assertEquals([m.v.cr2, m.v.rflags, m.v.cpl], [cr2, rflags, cpl]);
    assertEquals(m.v.pending, undefined);
  });

  it("arms #GP: a read into the canonical hole ends there", () => {
    const m = new Rig(IDLE);
    m.run(1);
    m.ask({ linear: 0x7fff_ffff_fff8n, length: 16 });
    m.ask({ linear: 0x8000_0000_0000n, length: 1 });
    m.settle();
    // The last canonical page is not mapped: its page fault comes first.
    assertEquals(m.reads[0].cause, Cause.PageFault);
    assertEquals(m.reads[1].cause, Cause.GeneralProtection);
    assertEquals(m.reads[1].bytesOk, 0);
  });

  it("judges rights at the declared CPL and AC", () => {
    const supervisor = 3n;
    const m = new Rig(IDLE, { pages: [supervisor, PWU] });
    m.run(1);
    m.v.cr4 |= Cr4.SMAP;
    const causes = (): string[] => m.reads.map((r) => r.cause);
    m.ask({ linear: WINDOW, length: 4, cpl: 3 });
    m.ask({ linear: WINDOW, length: 4, cpl: 0 });
    m.ask({ linear: WINDOW + 0x1000n, length: 4, cpl: 3 });
    m.ask({ linear: WINDOW + 0x1000n, length: 4, cpl: 0 });
    m.ask({ linear: WINDOW + 0x1000n, length: 4, cpl: 0, ac: true });
    m.settle();
    assertEquals(causes(), [
      Cause.PageFault,
      Cause.None,
      Cause.None,
      Cause.PageFault,
      Cause.None,
    ]);
    // P, U/S as the guest would have got them.
    assertEquals(m.reads[0].errorCode, 5);
    assertEquals(m.reads[3].errorCode, 1);
  });

  it("never reads a device, and refuses another address space", () => {
    const m = new Rig(IDLE);
    m.run(1);
    m.ask({ linear: 0x1f_fffcn, length: 8 });
    m.ask({ linear: 0n, length: 8, cr3: 0x7000n });
    m.settle();
    assertEquals(m.reads[0].cause, Cause.NoMemory);
    assertEquals(m.reads[0].bytesOk, 4);
    assertEquals(m.reads[1].cause, Cause.AddressSpace);
  });

  it("refuses what makes no sense, with the reason", () => {
    const m = new Rig(IDLE);
    m.ask({ linear: 0n, length: 0 });
    m.ask({ linear: 0n, length: 1, cpu: 7 });
    m.ask({ linear: 0n, length: 1, policy: "handler", handler: "nobody" });
    m.settle();
    assertEquals(m.reads.map((r) => [r.id, r.ending, r.why]), [
      [0, Ending.Refused, "length 0: write 1 to 65536"],
      [0, Ending.Refused, "vCPU 7: the machine has 1"],
      [
        0,
        Ending.Refused,
        'error handler "nobody": no plugin registered it (known: none)',
      ],
    ]);
  });

  it("costs a guest that asks for nothing nothing", () => {
    const program = `mov rsi, 0x40000000
      mov ecx, 20
    again: mov rax, [rsi]
      dec ecx
      jnz again
      hlt`;
    const m = new Rig(program, { pages: [PWU] });
    const delivered = m.collect(ExceptionDelivered);
    const faulted = m.collect(ReadFaulted);
    m.run();
    assertEquals(m.v.step, 2 + 20 * 3 + 1);
    assertEquals([delivered, faulted, m.reads], [[], [], []]);
    assertEquals(m.v.eventRequest, 0);
  });
});

describe("software walk", () => {
  it("gives the bytes without A bit, TLB fill or walk fact", () => {
    const m = new Rig(IDLE, { pages: [PWU, 0n] });
    const walked = m.collect(MmuWalked);
    m.run(3);
    const before = walked.length;
    const digest = m.kernel.digestParts().filter((p) =>
      p.name !== "cells:introspect"
    );
    m.ask({ linear: WINDOW + 0xf00n, length: 0x200, reader: Reader.Walk });
    m.settle();
    assertEquals(m.reads[0].bytes, m.bytesAt(WINDOW + 0xf00n, 0x100));
    assertEquals(m.reads[0].faultVa, WINDOW + 0x1000n);
    assertEquals(m.accessed(0), false);
    assertEquals(walked.length, before);
    const after = m.kernel.digestParts().filter((p) =>
      p.name !== "cells:introspect"
    );
    assertEquals(after, digest);
  });

  it("walks any address space", () => {
    const m = new Rig(IDLE, { pages: [PWU] });
    const other = 0x20000;
    // Same upper levels, but the first PDPT entry leads to the window's PD.
    m.hardware.physical.writeU64(other, BigInt(other + 0x1000) | PWU);
    m.hardware.physical.writeU64(other + 0x1000, 0x14000n | PWU);
    m.run(1);
    const cr3 = m.v.cr3;
    m.ask({
      linear: 0x10n,
      length: 8,
      reader: Reader.Walk,
      cr3: BigInt(other),
    });
    m.settle();
    assertEquals(m.reads[0].bytes, m.bytesAt(WINDOW + 0x10n, 8));
    assertEquals(m.v.cr3, cr3);
  });

  it("agrees with the l0 reader on seeded page tables and rights", () => {
    const random = new RandomStream(7n, "introspect-differential");
    const m = new Rig(IDLE);
    m.run(1);
    const causes = new Map<string, number>();
    for (let n = 0; n < 400; n++) {
      for (let page = 0; page < 4; page++) {
        const bits = [
          0n,
          PWU,
          PWU,
          3n,
          5n,
          PWU | 1n << 63n,
          PWU | 1n << 51n,
          PWU | 0x20n,
        ][random.below(8)];
        setEntry(m.hardware, page, bits);
      }
      m.v.cr4 = (m.v.cr4 & ~Cr4.SMAP) | (random.below(2) ? Cr4.SMAP : 0);
      m.cpu.translator.flush(m.cpu, Flush.Everything, 0, 0, 0n);
      const linear = WINDOW + BigInt(random.below(0x2000));
      const read = {
        linear,
        length: 1 + random.below(0x2000),
        cpl: random.below(4),
        ac: random.below(2) === 1,
      };
      m.ask({ ...read, reader: Reader.Walk });
      m.ask({ ...read, reader: Reader.L0 });
      m.settle();
      const [walk, l0] = m.reads.splice(0);
      causes.set(l0.cause, (causes.get(l0.cause) ?? 0) + 1);
      const { bytes, cause, faultVa, errorCode, bytesOk } = l0;
      assertEquals(
        [walk.bytes, walk.cause, walk.faultVa, walk.errorCode, walk.bytesOk],
        [bytes, cause, faultVa, errorCode, bytesOk],
      );
      assertEquals(l0.bytes, m.bytesAt(linear, bytesOk));
    }
    assertEquals((causes.get(Cause.PageFault) ?? 0) > 50, true);
    assertEquals((causes.get(Cause.None) ?? 0) > 50, true);
  });
});
