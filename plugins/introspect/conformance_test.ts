/**
 * The conformance kit on introspect, and what must not depend on whether an L0
 * hypervisor or the bare machine carries it.
 */
import { assertEquals } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import {
  definePlugin,
  type EventToken,
  type PluginUse,
} from "../../core/mod.ts";
import {
  ExceptionDelivered,
  InterruptDelivered,
  MemWrote,
  RegWrote,
} from "../../cpu/facts.ts";
import { CpuRetired } from "../../cpu/facts.ts";
import { HardwareAccess } from "../../cpu/hardware.ts";
import { assertConforms, type TestInput } from "../../testing/mod.ts";
import { setGate, TestMachine } from "../../tests/support/machine.ts";
import { L0_RESERVE_BYTES } from "../hypervisor/api.ts";
import { hypervisor } from "../hypervisor/plugin.ts";
import { vmx } from "../vmx/plugin.ts";
import {
  Introspect,
  IntrospectListRequested,
  IntrospectModuleRegistered,
  IntrospectModuleReleased,
  IntrospectRequested,
  ModuleArmed,
  Policy,
  Reader,
  Verdict,
} from "./api.ts";
import { introspect } from "./plugin.ts";
import { EMITTED } from "./report.ts";
import {
  defaultsOf,
  LIST_FIELDS,
  MODULE_FIELDS,
  READ_FIELDS,
} from "./requests.ts";
import {
  mapWindow,
  PAGE_IN,
  PWU,
  setEntry,
  WINDOW,
} from "../../tests/support/introspect.ts";

/** Reads through a module, takes NMI-free interrupts, and pages in. */
const PROGRAM = `
    mov ebp, 6
  again:
    mov rsi, ${WINDOW + 0x3000n}
    call read
    mov rsi, ${WINDOW + 0x5000n}
    mov rdx, [rsi]
    mov qword [0x15000 + 5 * 8], 0
    invlpg [rsi]
    mov qword [0x15000 + 3 * 8], 0
    mov rsi, ${WINDOW + 0x3000n}
    invlpg [rsi]
    dec ebp
    jnz again
  spin: inc rbx
    jmp spin
  read: mov rdx, [rsi]
    xor eax, eax
    ret
  recover: inc r14
    ret
  read_end:
  ${PAGE_IN}`;

/** Names the handlers that the requests use. */
const pager = definePlugin({
  name: "pager",
  version: "1.0.0",
  doc: "Handlers for introspection's tests",
  role: "participant",
  needs: { introspect: Introspect, hardware: HardwareAccess },
  setup({ use: { introspect, hardware } }) {
    introspect.errorHandler("drop", () => Verdict.Drop);
    introspect.faultHandler("page-in", ({ linear }) => {
      setEntry(hardware, Number((linear - WINDOW) >> 12n), PWU);
      return Verdict.Again;
    });
    return undefined;
  },
});

function load(uses: readonly PluginUse[], ramBytes = 0x200000): TestMachine {
  const m: TestMachine = new TestMachine(PROGRAM, {
    plugins: uses,
    ramBytes,
    setup(_cpu, hardware) {
      mapWindow(hardware);
      setEntry(hardware, 0, PWU);
    },
  });
  setGate(m.hardware, 14, m.at("pagein"));
  return m;
}

function inputs(m: TestMachine): TestInput[] {
  const read = defaultsOf(READ_FIELDS);
  const at = (
    step: number,
    event: EventToken<unknown, "input">,
    payload: object,
  ): TestInput => ({
    at: step,
    event,
    payload,
  });
  const module = {
    ...defaultsOf(MODULE_FIELDS),
    name: "reader",
    start: BigInt(m.at("read")),
    end: BigInt(m.at("read_end")),
    recover: BigInt(m.at("recover")),
  };
  const edge = { ...read, linear: WINDOW + 0xff0n, length: 0x20 };
  return [
    at(3, IntrospectModuleRegistered, module),
    at(30, IntrospectRequested, edge),
    at(40, IntrospectRequested, {
      ...edge,
      policy: Policy.Handler,
      handler: "drop",
    }),
    at(60, IntrospectModuleRegistered, {
      ...module,
      policy: Policy.InjectAndRetry,
    }),
    at(70, IntrospectRequested, { ...edge, policy: Policy.InjectAndRetry }),
    at(90, IntrospectListRequested, {
      ...defaultsOf(LIST_FIELDS),
      head: WINDOW,
      nodeBytes: 8,
      reader: Reader.Walk,
    }),
    at(140, IntrospectRequested, {
      ...edge,
      linear: WINDOW + 0x7000n,
      policy: Policy.Forward,
      handler: "page-in",
    }),
    at(150, IntrospectModuleReleased, { name: "reader" }),
  ];
}

describe("introspect conforms", () => {
  for (const kind of ["bare", "under L0"]) {
    it(kind, () => {
      const l0 = kind === "bare"
        ? []
        : [{ plugin: vmx }, { plugin: hypervisor }];
      const ram = 0x200000 + (l0.length > 0 ? L0_RESERVE_BYTES : 0);
      const report = assertConforms({ plugin: introspect }, {
        load: (uses) => load(uses, ram).kernel,
        plugins: [{ plugin: pager }, ...l0],
        inputs: inputs(load([{ plugin: introspect }])),
        steps: 260,
        restores: kind === "bare" ? 8 : 2,
      });
      assertEquals(report.findings, []);
    });
  }
});

/** Every guest-visible and introspection fact of a run, as text. */
function story(
  program: string,
  l0: boolean,
  setup: (m: TestMachine) => void,
): string[] {
  const m = new TestMachine(program, {
    plugins: [
      { plugin: introspect },
      { plugin: pager },
      ...(l0 ? [{ plugin: vmx }, { plugin: hypervisor }] : []),
    ],
    ramBytes: 0x200000 + (l0 ? L0_RESERVE_BYTES : 0),
    setup(_cpu, hardware) {
      mapWindow(hardware);
      setEntry(hardware, 0, PWU);
    },
  });
  setup(m);
  const lines: string[] = [];
  const watched: EventToken[] = [
    CpuRetired,
    MemWrote,
    RegWrote,
    ExceptionDelivered,
    InterruptDelivered,
    ...EMITTED,
  ];
  for (const event of watched) {
    m.kernel.watch(event, (payload, at) => {
      lines.push(`${at.step} ${event.name} ${event.toText(payload)}`);
      return undefined;
    });
  }
  m.run(300);
  return lines;
}

describe("L0 changes nothing that the guest or introspection sees", () => {
  it("over modules and requests of every policy", () => {
    const both = [false, true].map((l0) =>
      story(PROGRAM, l0, (m) => {
        setGate(m.hardware, 14, m.at("pagein"));
        for (const { event, payload } of inputs(m)) {
          m.kernel.inject(event, payload);
        }
      })
    );
    assertEquals(both[0], both[1]);
    assertEquals(both[0].length > 300, true);
  });

  it("over faults met while an event is delivered (SDM 3A table 6-5)", () => {
    // #UD on an absent stack: #PF; its delivery too: #DF, which has an IST.
    const program = `
      mov rsp, ${WINDOW + 0x2008n}
      ud2
    double: inc r15
      hlt
    ud: hlt`;
    const both = [false, true].map((l0) =>
      story(program, l0, (m) => {
        m.hardware.physical.writeU64(0x700 + 0x24, 0x6000n);
        setGate(m.hardware, 6, m.at("ud"));
        setGate(m.hardware, 14, m.at("ud"));
        setGate(m.hardware, 8, m.at("double"), { ist: 1 });
        m.kernel.inject(IntrospectModuleRegistered, {
          ...defaultsOf(MODULE_FIELDS),
          name: "all",
          start: 1n,
          end: 2n,
          recover: 1n,
        });
      })
    );
    const without = (lines: string[]): string[] =>
      lines.filter((line) => !line.includes("introspect."));
    assertEquals(without(both[0]), without(both[1]));
    assertEquals(
      both[0].some((line) => /exception.delivered .*vector=8/.test(line)),
      true,
    );
    assertEquals(both[0].some((line) => line.includes(ModuleArmed.name)), true);
  });
});
