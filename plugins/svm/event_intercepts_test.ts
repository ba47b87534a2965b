/**
 * Intercepts of events and exceptions (APM 2 §15.12–15.14): each row with and
 * without its bit, what it reports and leaves pending, and that a row whose bit
 * or report were another would be noticed. Then every exception that software
 * can raise, through the whole machine.
 */
import { assert, assertEquals } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { EXCEPTIONS, Vector } from "../../cpu/arch/exceptions.ts";
import { Cr0, Cr4, Rflags } from "../../cpu/arch/flags.ts";
import { EventRequest, Gpr, GuestMode, Seg } from "../../cpu/layout.ts";
import type { CpuContext } from "../../cpu/context.ts";
import type { VirtualizationPort } from "../../cpu/port.ts";
import { TaskSource } from "../../cpu/semantics/system/task.ts";
import {
  PLACE,
  SELECTOR,
  setGate,
  type TestMachine,
} from "../../tests/support/machine.ts";
import { IntCtl, InterceptBit as B } from "./controls.ts";
import {
  EVENT_INTERCEPTS,
  type EventIntercept,
  type EventName,
  type EventTable,
} from "./event_intercepts.ts";
import { ExitCode as X } from "./exit_codes.ts";
import { AT, SvmGuest } from "./guest_testing.ts";
import { SCRATCH } from "./scratch.ts";
import { SvmUnit } from "./unit.ts";
import type { VmcbDraft } from "./vmcb_testing.ts";
import { Control, Save } from "./vmcb.ts";
import { SvmVirtualization } from "./virtualization.ts";

interface EventCase {
  /** Appendix C. */
  readonly code: number;
  readonly info1: bigint;
  /** EventRequest bits that stay set when it exits. */
  readonly request: number;
  /** Asks the port. @returns whether it exited */
  readonly happens: (port: VirtualizationPort, cpu: CpuContext) => boolean;
}

const exits = (cpu: CpuContext, act: () => unknown): boolean => {
  act();
  return cpu.v.guestMode === GuestMode.None;
};

const EVENTS: Readonly<Record<EventName, EventCase>> = {
  intr: {
    code: 0x60,
    info1: 0n,
    request: 0,
    happens: (port, cpu) => port.interceptInterrupt(cpu),
  },
  nmi: {
    code: 0x61,
    info1: 0n,
    request: EventRequest.Nmi,
    happens: (port, cpu) => port.interceptNmi(cpu),
  },
  smi: {
    code: 0x62,
    info1: 1n,
    request: EventRequest.Smi,
    happens: (port, cpu) => port.interceptSmi!(cpu),
  },
  init: {
    code: 0x63,
    info1: 0n,
    request: EventRequest.Init,
    happens: (port, cpu) => port.interceptInit(cpu),
  },
  vintr: {
    code: 0x64,
    info1: 0n,
    request: 0,
    happens: (port, cpu) =>
      exits(cpu, () => {
        const irq = IntCtl.Irq | 15 << IntCtl.PriorityShift;
        cpu.v.setWord(SCRATCH.intCtl, irq);
        port.boundary(cpu, 3);
      }),
  },
  taskSwitch: {
    code: 0x7d,
    info1: 0x38n,
    request: 0,
    happens: (port, cpu) =>
      port.interceptTaskSwitch(cpu, 0x38, TaskSource.Call),
  },
  shutdown: {
    code: 0x7f,
    info1: 0n,
    request: 0,
    happens: (port, cpu) => exits(cpu, () => port.tripleFault(cpu)),
  },
};
const NAMES = Object.keys(EVENTS) as EventName[];

/** A guest that spins, with one intercept beside VMRUN's, or all others. */
function spinning(bit: number, on: boolean): SvmGuest {
  return new SvmGuest("jmp guest", {
    vmcb: (d) => {
      for (let i = 0; i < 6; i++) d.set32(i * 4, on ? 0 : -1);
      for (const quiet of [B.Intr, B.Nmi, B.Vmmcall]) d.intercept(quiet, !on);
      d.intercept(bit, on).intercept(B.Vmrun);
    },
    // A virtual interrupt that nothing intercepts.
    setup: (m) => setGate(m.hardware, 0, m.at("guest")),
  });
}

/** What is wrong with an event's row. */
function eventFaults(name: EventName, table: EventTable): string[] {
  const c = EVENTS[name];
  const { bit } = EVENT_INTERCEPTS[name];
  const wrong: string[] = [];
  for (const on of [true, false]) {
    const run = spinning(bit, on);
    const { cpu, v } = run.machine;
    v.eventRequest = 0;
    const unit = new SvmUnit(cpu.model, { dropGrants() {} });
    const port = new SvmVirtualization(unit, table);
    if (c.happens(port, cpu) !== on) wrong.push(`${name} ${on}: exits`);
    else if (on) {
      if (run.code !== c.code) wrong.push(`${name}: code ${run.code}`);
      if (run.info1 !== c.info1) wrong.push(`${name}: info1 ${run.info1}`);
      if (v.eventRequest !== c.request) wrong.push(`${name}: pending`);
    }
  }
  return wrong;
}

describe("event intercepts", () => {
  it("exit with their bit, and not with all others", () => {
    assertEquals(NAMES.toSorted(), Object.keys(EVENT_INTERCEPTS).toSorted());
    const wrong = NAMES.flatMap((n) => eventFaults(n, EVENT_INTERCEPTS));
    assertEquals(wrong, []);
  });

  it("are noticed when a row's bit or report is another", () => {
    for (const name of NAMES) {
      const row: EventIntercept = EVENT_INTERCEPTS[name];
      const variants: [string, EventIntercept][] = [
        ["bit", { ...row, bit: row.bit ^ 1 }],
      ];
      if (name !== "taskSwitch") {
        variants.push(["info1", { ...row, info1: (row.info1 ?? 0n) ^ 1n }]);
        const pending = (row.pending ?? 0) ^ EventRequest.Sipi;
        variants.push(["pending", { ...row, pending }]);
      }
      for (const [how, variant] of variants) {
        const table = { ...EVENT_INTERCEPTS, [name]: variant };
        assert(eventFaults(name, table).length > 0, `${name} ${how}`);
      }
    }
  });

  it("leave a virtual interrupt in V_IRQ", () => {
    const run = spinning(B.Vintr, true);
    EVENTS.vintr.happens(run.machine.cpu.virtualization!, run.machine.cpu);
    const intCtl = run.vmcb.read32(Control.intCtl);
    assertEquals(intCtl & IntCtl.Irq, IntCtl.Irq);
  });
});

const FAULT_ADDRESS = 0x1234_5000n;
/** NMI is no exception here. */
const VECTORS = EXCEPTIONS.filter(({ vector }) => vector !== Vector.NMI);

describe("exception intercepts", () => {
  it("exit with the bit of their vector, and not with all others", () => {
    for (const { vector, hasErrorCode } of VECTORS) {
      for (const on of [true, false]) {
        const run = spinning(B.Exception + vector, on);
        const { cpu, v } = run.machine;
        const errorCode = hasErrorCode ? 0x10 : -1;
        const payload = vector === Vector.PF ? FAULT_ADDRESS : 0n;
        v.raise(vector, errorCode, payload);
        const exited = cpu.virtualization?.interceptException(cpu);
        assertEquals(exited, on, String(vector));
        if (!on) continue;
        assertEquals(run.code, 0x40 + vector);
        assertEquals(run.info1, hasErrorCode ? 0x10n : 0n);
        assertEquals(run.info2, payload);
        assertEquals(run.vmcb.read(Control.nextRip), 0n);
      }
    }
  });

  interface Raised {
    readonly vector: number;
    /** Guest code; the fault is at `at`, or at the first instruction. */
    readonly text: string;
    readonly error?: bigint;
    readonly vmcb?: (d: VmcbDraft) => unknown;
    readonly setup?: (m: TestMachine) => void;
  }
  const compatibility = (d: VmcbDraft): VmcbDraft =>
    d.segment(Save.cs, SELECTOR.code32, 0xc9b);
  const flags = (bits: number) => (d: VmcbDraft): VmcbDraft =>
    d.set(Save.rflags, 2 | bits);
  const user = (d: VmcbDraft): VmcbDraft =>
    d.segment(Save.cs, SELECTOR.userCode64, 0xafb)
      .segment(Save.ss, SELECTOR.userData, 0xcf3).set32(Save.cpl - 3, 3 << 24);
  /** Bounds 1 … 2 at AT.data; EAX is 0. */
  const bounds = ({ hardware: { physical } }: TestMachine): void =>
    physical.writeU64(AT.data, 2n << 32n | 1n);
  const gdt = (selector: number, descriptor: bigint) => (m: TestMachine) =>
    m.hardware.physical.writeU64(PLACE.gdt + selector, descriptor);
  const RAISED: readonly Raised[] = [
    { vector: Vector.DE, text: "xor ecx, ecx\nat: div ecx" },
    { vector: Vector.DB, text: "nop\nat: nop", vmcb: flags(Rflags.TF) },
    { vector: Vector.BP, text: "int3" },
    {
      vector: Vector.OF,
      text: "db 0xce",
      vmcb: (d) => flags(Rflags.OF)(compatibility(d)),
    },
    {
      vector: Vector.BR,
      text: "db 0x62, 0x05\ndd DATA",
      vmcb: compatibility,
      setup: bounds,
    },
    { vector: Vector.UD, text: "ud2" },
    {
      vector: Vector.NM,
      text: "fnop",
      vmcb: (d) => d.set(Save.cr0, d.read(Save.cr0) | BigInt(Cr0.TS)),
    },
    {
      vector: Vector.DF,
      text: "ud2",
      error: 0n,
      // The IDT is at an address that is not mapped.
      vmcb: (d) => d.set(Save.idtr + 8, 0x4000_0000),
      setup: ({ hardware: { physical } }) =>
        physical.writeU64(PLACE.tables + 0x1008, 0n),
    },
    {
      vector: Vector.TS,
      text: "int 0x30",
      error: BigInt(SELECTOR.tss),
      // The gate wants a stack from beyond the TSS's limit.
      setup: ({ hardware: { physical }, v }) => {
        physical.writeU64(PLACE.idt + 0x300, 0x8e01_0008_0000n);
        v.setSegment(Seg.TR, { ...v.segment(Seg.TR), limit: 0 });
      },
    },
    {
      vector: Vector.NP,
      text: "mov ecx, 0x10\nat: mov fs, cx",
      error: 0x10n,
      setup: gdt(0x10, 0x00cf_1300_0000_ffffn),
    },
    {
      vector: Vector.SS,
      text: "mov rbp, 0x8000000000000000\nat: mov [rbp], eax",
      error: 0n,
    },
    {
      vector: Vector.GP,
      text: "mov ecx, 0x7f8\nat: mov ds, cx",
      error: 0x7f8n,
    },
    { vector: Vector.PF, text: "mov rcx, [0x40000000]", error: 0n },
    {
      vector: Vector.MF,
      text: "fninit\nfldcw [rip + word]\nfldz\nfld1\nfdivrp st1, st0\n" +
        "at: fwait\nword: dw 0x340",
    },
    {
      vector: Vector.AC,
      text: "mov eax, [DATA + 1]",
      error: 0n,
      vmcb: (d) => {
        flags(Rflags.AC)(user(d));
        d.set(Save.cr0, d.read(Save.cr0) | BigInt(Cr0.AM));
      },
    },
    {
      vector: Vector.XM,
      text: "ldmxcsr [rip + word]\nxorps xmm0, xmm0\n" +
        "at: divss xmm0, xmm0\nword: dd 0",
      vmcb: (d) => {
        const bits = Cr4.OSFXSR | Cr4.OSXMMEXCPT;
        d.set(Save.cr4, d.read(Save.cr4) | BigInt(bits));
      },
    },
  ];

  it("exit for every exception that software can raise", () => {
    const raised = RAISED.map(({ vector }) => vector);
    const others = [Vector.MC, Vector.VE, Vector.CP];
    assertEquals(
      [...raised, ...others].toSorted((a, b) => a - b),
      VECTORS.map(({ vector }) => vector),
    );
    for (const c of RAISED) {
      const { vector } = c;
      const guest = (on: boolean) =>
        new SvmGuest(`${c.text}\nhlt\nhandler: hlt`, {
          vmcb: (d) => {
            c.vmcb?.(d);
            d.intercept(B.Hlt).intercept(B.Exception + vector, on);
          },
          setup: (m) => {
            // User code and its stack.
            for (let table = 0; table < 3; table++) {
              const at = PLACE.tables + table * 0x1000;
              for (let i = 0; i < (table < 2 ? 2 : 4); i++) {
                const old = m.hardware.physical.readU64(at + i * 8);
                m.hardware.physical.writeU64(at + i * 8, old | 4n);
              }
            }
            setGate(m.hardware, vector, m.at("handler"));
            c.setup?.(m);
          },
        });
      const run = guest(true);
      assertEquals(run.code, X.Exception + vector, String(vector));
      assertEquals(run.info1, c.error ?? 0n, String(vector));
      const at = c.text.includes("at:") ? run.label("at") : run.label("guest");
      assertEquals(run.vmcb.read(Save.rip), at, String(vector));
      // Without the bit the guest's own IDT has it, or nothing can.
      const free = guest(false);
      if (vector === Vector.DF) assertEquals(free.code, X.Shutdown);
      else {
        assertEquals(free.code, X.Hlt, String(vector));
        assertEquals(free.vmcb.read(Save.rip), free.label("handler"));
      }
    }
  });

  it("of #DB do not take INT1's", () => {
    const run = new SvmGuest("int1\nvmmcall\nhandler: pop rcx\nvmmcall", {
      vmcb: (d) => d.intercept(B.Exception + Vector.DB),
      setup: (m) => setGate(m.hardware, Vector.DB, m.at("handler")),
    });
    assertEquals(run.code, X.Vmmcall);
    assertEquals(run.machine.v.gpr(Gpr.RCX), run.label("guest") + 1n);
  });
});
