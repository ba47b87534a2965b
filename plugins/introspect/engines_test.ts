/**
 * Law 2 over introspection: the same requests at the same steps give the same
 * facts and states on every engine, quiet or watched, and from any keyframe.
 * The guest goes up and down between kernel and user, masks interrupts and
 * pages in and out, so that faults are held back, queued, injected and retried.
 */
import { assertEquals } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { type EventToken, RandomStream } from "../../core/mod.ts";
import { T0Engine, t0EngineBytes } from "../../cpu/engine/t0/engine.ts";
import {
  CpuRetired,
  ExceptionDelivered,
  InterruptDelivered,
} from "../../cpu/facts.ts";
import { DecoderService } from "../decoder/api.ts";
import {
  mapWindow,
  PAGE_IN,
  PWU,
  setEntry,
  WINDOW,
} from "../../tests/support/introspect.ts";
import {
  setGate,
  TestMachine,
  type TestMachineOptions,
} from "../../tests/support/machine.ts";
import { L0_RESERVE_BYTES } from "../hypervisor/api.ts";
import { hypervisor } from "../hypervisor/plugin.ts";
import { vmx } from "../vmx/plugin.ts";
import {
  Ending,
  introspectModule,
  IntrospectModuleRegistered,
  introspectRequest,
  IntrospectRequested,
  Policy,
  ReadCompleted,
  Reader,
} from "./api.ts";
import { introspect } from "./plugin.ts";
import { EMITTED } from "./report.ts";

const PROGRAM = `
    lea rax, [rel switch]
  kernel:
    cli
    inc r8
    mov rsi, ${WINDOW + 0x3000n}
    call read
    sti
    nop
    push 0x3b
    push 0x5000
    pushfq
    push 0x43
    push user
    iretq
  user:
    mov ecx, 9
  more:
    imul rbx, rbx, 13
    inc rbx
    loop more
    int 0x30
  switch:                       ; from the user: drop the frame, page out
    add rsp, 40
    mov edx, r8d
    and edx, 3
    mov qword [rdx * 8 + 0x15000], 0
    shl rdx, 12
    mov rdi, ${WINDOW}
    invlpg [rdi + rdx]
    jmp kernel
  read:
    mov rdx, [rsi]
    xor eax, eax
    ret
  recover:
    inc r14
    ret
  read_end:
  ${PAGE_IN}`;

type EngineOptions = Pick<TestMachineOptions, "engine" | "engineBytes">;
const REFERENCE: EngineOptions = {};
const T0: EngineOptions = {
  engine: ({ port, hardware }) =>
    new T0Engine(
      port.service(DecoderService).get()!.create(hardware.model),
      { threshold: 0 },
    ),
  engineBytes: t0EngineBytes(1),
};

function machine(engine: EngineOptions, l0: boolean): TestMachine {
  const m = new TestMachine(PROGRAM, {
    ...engine,
    plugins: [
      { plugin: introspect, options: { patience: 300 } },
      ...(l0 ? [{ plugin: vmx }, { plugin: hypervisor }] : []),
    ],
    ramBytes: 0x200000 + (l0 ? L0_RESERVE_BYTES : 0),
    setup(_cpu, hardware) {
      mapWindow(hardware);
      setEntry(hardware, 0, PWU);
    },
  });
  setGate(m.hardware, 14, m.at("pagein"));
  setGate(m.hardware, 0x30, m.at("switch"), { type: 0xee });
  m.kernel.inject(
    IntrospectModuleRegistered,
    introspectModule({
      name: "reader",
      start: BigInt(m.at("read")),
      end: BigInt(m.at("read_end")),
      recover: BigInt(m.at("recover")),
      policy: Policy.InjectAndRetry,
    }),
  );
  return m;
}

interface Story {
  readonly facts: string[];
  readonly digest: string;
  readonly endings: string[];
}

const STEPS = 1500;
/** Where a run may be cut and go on in another machine. */
const CUT = 400;

/** Runs with seeded requests. @param hot also watches every step; @param cut restores */
function story(m: TestMachine, seed: bigint, hot: boolean, cut = false): Story {
  const random = new RandomStream(seed, "introspect-engines");
  const facts: string[] = [];
  const endings: string[] = [];
  const watched: EventToken[] = [
    ...EMITTED,
    ExceptionDelivered,
    InterruptDelivered,
  ];
  const watch = (machine: TestMachine): void => {
    for (const event of watched) {
      machine.kernel.watch(event, (payload, at) => {
        facts.push(`${at.step} ${event.name} ${event.toText(payload)}`);
        return undefined;
      });
    }
    machine.kernel.watch(
      ReadCompleted,
      ({ ending }) => void endings.push(ending),
    );
    if (hot) machine.kernel.watch(CpuRetired, () => undefined);
  };
  watch(m);
  let now = m;
  let passed = false;
  for (let at = 20; at < STEPS; at += 1 + random.below(120)) {
    now.kernel.run({ untilStep: at });
    for (let n = random.below(3); n >= 0; n--) {
      now.kernel.inject(
        IntrospectRequested,
        introspectRequest({
          linear: WINDOW + BigInt(random.below(0x4000)),
          length: 1 + random.below(0x1800),
          cpl: random.below(2) * 3,
          budget: 1 + random.below(4),
          policy: random.below(4) === 0 ? Policy.Report : Policy.InjectAndRetry,
          reader: random.below(3) === 0 ? Reader.Walk : Reader.L0,
        }),
      );
    }
    if (at < CUT || passed) continue;
    passed = true;
    now.kernel.run({ untilStep: at + 3 });
    if (!cut) continue;
    const keyframe = now.kernel.capture();
    now = machine(REFERENCE, false);
    watch(now);
    now.kernel.restore(keyframe);
  }
  now.kernel.run({ untilStep: STEPS });
  return { facts, digest: now.kernel.stateDigest(), endings };
}

describe("introspection on every engine", () => {
  for (const l0 of [false, true]) {
    it(`${l0 ? "under L0" : "bare"}: equal facts and states`, () => {
      const met = new Map<string, number>();
      for (let seed = 1n; seed <= (l0 ? 4n : 7n); seed++) {
        const one = story(machine(REFERENCE, l0), seed, true);
        for (const e of one.endings) met.set(e, (met.get(e) ?? 0) + 1);
        const others = [
          story(machine(REFERENCE, l0), seed, false),
          story(machine(T0, l0), seed, false),
          story(machine(T0, l0), seed, true),
        ];
        for (const other of others) {
          assertEquals(other.facts, one.facts);
          assertEquals(other.digest, one.digest);
        }
      }
      for (const e of [Ending.Read, Ending.Reported, Ending.OutOfBudget]) {
        assertEquals((met.get(e) ?? 0) > 2, true, `${e}: ${met.get(e)}`);
      }
    });
  }

  it("L0 is invisible to the guest and to introspection", () => {
    for (let seed = 21n; seed <= 24n; seed++) {
      const bare = story(machine(T0, false), seed, false);
      const under = story(machine(T0, true), seed, false);
      assertEquals(under.facts, bare.facts);
    }
  });

  it("restored at any place, the story goes on equally", () => {
    for (let seed = 1n; seed <= 6n; seed++) {
      const one = story(machine(REFERENCE, false), seed, false);
      const cut = story(machine(REFERENCE, false), seed, false, true);
      assertEquals(cut, one);
    }
  });
});
