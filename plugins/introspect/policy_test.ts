/** Policies of reads from outside: named handlers, forwarding, inject-and-retry. */
import { assertEquals } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { definePlugin } from "../../core/mod.ts";
import { ExceptionDelivered, InterruptDelivered } from "../../cpu/facts.ts";
import { HardwareAccess } from "../../cpu/hardware.ts";
import { EventRequest, Gpr } from "../../cpu/layout.ts";
import { setGate } from "../../tests/support/machine.ts";
import {
  Cause,
  type DroppedRead,
  Ending,
  type FaultFrame,
  FaultHandled,
  FaultInjected,
  Introspect,
  Policy,
  Reader,
  ReadFaulted,
  ReadRetried,
  Verdict,
} from "./api.ts";
import {
  PAGE_IN,
  PWU,
  Rig,
  setEntry,
  WINDOW,
} from "../../tests/support/introspect.ts";

/** A program that counts in RBX, with the demand-paging handler. */
const COUNTING = `spin: inc rbx
  jmp spin
${PAGE_IN}`;

function paging(source = COUNTING, options = {}): Rig {
  const m = new Rig(source, options);
  setGate(m.hardware, 14, m.at("pagein"));
  return m;
}

const INJECT = {
  linear: WINDOW + 0xff8n,
  length: 16,
  policy: Policy.InjectAndRetry,
};

describe("policy handler and forward", () => {
  const told: (DroppedRead | FaultFrame)[] = [];
  /** Maps the page that a read missed, as a pager outside the guest would. */
  const pager = definePlugin({
    name: "pager",
    version: "1.0.0",
    doc: "Error and fault handlers for tests",
    role: "participant",
    needs: { introspect: Introspect, hardware: HardwareAccess },
    setup({ use: { introspect, hardware } }) {
      introspect.errorHandler("note-it", (read) => {
        told.push(read);
        return Verdict.Drop;
      });
      introspect.errorHandler("never", () => Verdict.Again);
      introspect.faultHandler("page-in", (frame) => {
        told.push(frame);
        const page = Number((frame.linear - WINDOW) >> 12n);
        setEntry(hardware, page, PWU);
        return Verdict.Again;
      });
      return undefined;
    },
  });
  const machine = (): Rig => {
    told.length = 0;
    const m = new Rig("spin: jmp spin", {
      pages: [PWU],
      others: [{ plugin: pager }],
    });
    m.run(2);
    return m;
  };

  it("drops the read and calls the error handler, and nothing of the guest", () => {
    const m = machine();
    const { rip } = m.v;
    m.ask({ ...INJECT, policy: Policy.Handler, handler: "note-it" });
    m.settle();
    assertEquals(told, [{
      id: 1,
      cpu: 0,
      cause: Cause.PageFault,
      bytesOk: 8,
      faultVa: WINDOW + 0x1000n,
      attempts: 0,
    }]);
    assertEquals(m.reads[0].ending, Ending.Dropped);
    assertEquals(m.reads[0].bytesOk, 8);
    assertEquals(m.v.rip, rip);
  });

  it("ends a handler that always asks again at the budget", () => {
    const m = machine();
    const handled = m.collect(FaultHandled);
    m.ask({ ...INJECT, policy: Policy.Handler, handler: "never", budget: 3 });
    m.settle();
    assertEquals(m.reads[0].ending, Ending.OutOfBudget);
    assertEquals(handled.length, 4);
  });

  it("forwards the frame instead of using the guest's IDT, and reads again", () => {
    const m = machine();
    const delivered = m.collect(ExceptionDelivered);
    m.ask({ ...INJECT, policy: Policy.Forward, handler: "page-in" });
    m.settle();
    const [frame] = told as FaultFrame[];
    assertEquals(
      [frame.vector, frame.errorCode, frame.linear, frame.rip],
      [14, 0, WINDOW + 0x1000n, m.v.rip],
    );
    assertEquals(m.reads[0].ending, Ending.Read);
    assertEquals(m.reads[0].bytes, m.bytesAt(INJECT.linear, 16));
    assertEquals(delivered, []);
  });
});

describe("policy inject-and-retry", () => {
  it("lets the guest page in and reads when its IRET came back", () => {
    const m = paging();
    const faulted = m.collect(ReadFaulted);
    const injected = m.collect(FaultInjected);
    const retried = m.collect(ReadRetried);
    const delivered = m.collect(ExceptionDelivered);
    m.run(5);
    const { rip } = m.v;
    const flags = m.v.rflags;
    m.ask(INJECT);
    m.run(60);
    // Two pages are absent: two faults, two injections, one read of both.
    assertEquals(faulted.length, 2);
    assertEquals(injected.map((i) => [i.linear, i.rip]), [
      [INJECT.linear, rip],
      [WINDOW + 0x1000n, rip],
    ]);
    assertEquals(retried.length, 2);
    assertEquals(delivered.map((d) => [d.vector, d.payload, d.rip]), [
      [14, INJECT.linear, rip],
      [14, WINDOW + 0x1000n, rip],
    ]);
    assertEquals(m.reads.length, 1);
    assertEquals(m.reads[0].ending, Ending.Read);
    assertEquals(m.reads[0].bytes, m.bytesAt(INJECT.linear, 16));
    assertEquals(m.v.gpr(Gpr.R15), 2n);
    assertEquals(m.v.rflags & 0x8d5, flags & 0x8d5);
    assertEquals(m.v.eventRequest, 0);
    assertEquals(m.kernel.run({ untilStep: m.v.step + 5 }).kind, "step");
  });

  it("suppresses a page that the guest can't provide", () => {
    const m = paging(`spin: inc rbx
      jmp spin
      pagein: add rsp, 8
      iretq`);
    const injected = m.collect(FaultInjected);
    m.run(5);
    m.ask({ ...INJECT, budget: 2 });
    m.run(40);
    assertEquals(injected.length, 2);
    assertEquals(m.reads[0].ending, Ending.OutOfBudget);
    assertEquals(m.reads[0].bytesOk, 0);
  });

  it("times out on a guest that doesn't come back", () => {
    const m = paging(
      `spin: inc rbx
      jmp spin
      pagein: jmp pagein`,
      { introspect: { patience: 50 } },
    );
    m.run(5);
    m.ask(INJECT);
    m.run(200);
    assertEquals(m.reads[0].ending, Ending.TimedOut);
    assertEquals(m.reads[0].faultVa, INJECT.linear);
  });

  it("aborts to report when the fault can't be delivered (depth one)", () => {
    const m = new Rig(`spin: inc rbx
      jmp spin
    double: add rsp, 8
      jmp spin`);
    // The #PF gate lies, so its delivery raises #GP: a double fault.
    setGate(m.hardware, 14, 0, { type: 0x05 });
    setGate(m.hardware, 8, m.at("double"));
    const delivered = m.collect(ExceptionDelivered);
    m.run(5);
    m.ask(INJECT);
    m.run(20);
    assertEquals(delivered.map((d) => d.vector), [8]);
    assertEquals(m.reads[0].ending, Ending.Aborted);
    assertEquals(m.reads[0].cause, Cause.PageFault);
  });

  it("gives what is no page fault no injection", () => {
    const m = paging();
    const delivered = m.collect(ExceptionDelivered);
    m.run(2);
    m.ask({ ...INJECT, linear: 0x8000_0000_0000n });
    m.settle();
    assertEquals(m.reads[0].ending, Ending.Reported);
    m.run(5);
    assertEquals(delivered, []);
  });

  it("holds back in the shadow of STI, and while another one is out", () => {
    const m = paging(`nop
      sti
      nop
    spin: inc rbx
      jmp spin
      ${PAGE_IN}`);
    const injected = m.collect(FaultInjected);
    m.run(2);
    assertEquals(m.v.interruptibility, 1);
    m.ask({ ...INJECT, length: 4 });
    m.ask({ ...INJECT, linear: WINDOW + 0x3000n, length: 4 });
    m.run(80);
    assertEquals(
      injected.map((i) => [i.id, i.rip]),
      [[1, BigInt(m.at("spin"))], [2, BigInt(m.at("spin"))]],
    );
    assertEquals(m.reads.map((r) => [r.id, r.ending]), [
      [1, Ending.Read],
      [2, Ending.Read],
    ]);
  });

  it("waits for the declared privilege and address space", () => {
    const m = paging();
    const injected = m.collect(FaultInjected);
    m.run(2);
    m.ask({ ...INJECT, cpl: 3 });
    m.run(50);
    assertEquals(injected, []);
    assertEquals(m.reads, []);
  });

  it("lets an NMI go first inside the guest's handler without confusion", () => {
    const m = paging(`spin: inc rbx
      jmp spin
    nmi: inc r14
      iretq
      ${PAGE_IN}`);
    setGate(m.hardware, 2, m.at("nmi"));
    const nmis = m.collect(InterruptDelivered);
    m.run(5);
    m.ask({ ...INJECT, length: 4 });
    m.run(3);
    m.hardware.request(0, EventRequest.Nmi);
    m.run(40);
    assertEquals(nmis.length, 1);
    assertEquals(m.v.gpr(Gpr.R14), 1n);
    assertEquals(m.reads.map((r) => r.ending), [Ending.Read]);
    assertEquals(m.v.gpr(Gpr.R15), 1n);
  });

  it("also serves the software walk, which itself leaves no trace", () => {
    const m = paging();
    m.run(2);
    m.ask({ ...INJECT, reader: Reader.Walk });
    m.run(60);
    assertEquals(m.reads[0].bytes, m.bytesAt(INJECT.linear, 16));
    assertEquals([m.accessed(0), m.accessed(1)], [false, false]);
  });

  it("goes on from a keyframe taken while the guest pages in", () => {
    const run = (restore: boolean): [string, number] => {
      const m = paging();
      m.run(5);
      m.ask(INJECT);
      m.run(6);
      assertEquals(m.reads, []);
      const keyframe = m.kernel.capture();
      const other = restore ? paging() : m;
      if (restore) other.kernel.restore(keyframe);
      other.run(60);
      assertEquals(other.reads.map((r) => r.ending), [Ending.Read]);
      return [other.kernel.stateDigest(), other.v.step];
    };
    assertEquals(run(true), run(false));
  });
});
