/** The kernel: time, timers, inputs, stops, edits, state, digests, blame. */
import { assert, assertEquals, assertThrows } from "@std/assert";
import {
  add,
  assemble,
  echoProgram,
  hlt,
  hltHeld,
  irq,
  jmp,
  li,
  makeToy,
  out,
  PORT,
  randomProgram,
  st,
  ToyInterruptsService,
  ToyPortWritten,
  ToyRetired,
  ToySerialReceived,
  ToyTicked,
  toyTimer,
  ToyWritePort,
  vector,
} from "../tests/toy/mod.ts";
import { EventError, PluginError, StateError } from "./errors.ts";
import type { EventToken } from "./event.ts";
import { defineEvent } from "./event.ts";
import { u32 } from "./fields.ts";
import type { Kernel } from "./kernel.ts";
import {
  MachineIdled,
  MachineInterrupted,
  MemoryEdited,
  RegisterEdited,
} from "./machine_events.ts";
import { definePlugin } from "./plugin.ts";
import { BOUNDARY_STEPS } from "./sink.ts";
import type { FactSink } from "./sink.ts";

/** Loops for ever and stores a counter. */
const LOOP = assemble(li(1, 1), li(2, 0x1000), add(0, 0, 1), st(0, 2), jmp(-3));

function sink(
  lines: string[],
  wants: (event: EventToken) => boolean = (event) => !event.hot,
  boundary: (kernel: Kernel) => void = () => {},
): FactSink {
  const line = (step: number, event: EventToken, payload: unknown) =>
    void lines.push(`${step} ${event.name} ${event.toText(payload)}`.trim());
  return {
    input: (at, event, payload) => line(at.step, event, payload),
    fact: line,
    hot: () => {},
    note: line,
    boundary,
    wants,
  };
}

Deno.test("run stops exactly where told", () => {
  const kernel = makeToy({ program: LOOP });
  assertEquals(kernel.moment, { step: 0, time: 0 });
  assertEquals(kernel.run({ untilStep: 1234 }), {
    kind: "step",
    step: 1234,
    time: 1234,
  });
  assertEquals(kernel.run({ budgetSteps: 66 }).step, 1300);
  assertEquals(kernel.run({ untilStep: 5 }).step, 1300);
  let asked = 0;
  const info = kernel.run({
    stopWhen: () => ++asked > 1,
    untilStep: 3 * BOUNDARY_STEPS,
  });
  assertEquals([info.kind, info.step], ["predicate", BOUNDARY_STEPS]);
});

Deno.test("boundary: once at each multiple of 2^20, before what is due there", () => {
  const kernel = makeToy({ program: LOOP });
  const steps: number[] = [];
  const lines: string[] = [];
  const digests: string[] = [];
  kernel.sink = sink(lines, () => true, (k) => {
    steps.push(k.moment.step);
    digests.push(k.stateDigest());
    if (steps.length === 2) {
      k.inject(ToySerialReceived, { bytes: Uint8Array.of(1) });
    }
  });
  kernel.run({ untilStep: BOUNDARY_STEPS });
  kernel.run({ untilStep: BOUNDARY_STEPS });
  kernel.run({ untilStep: BOUNDARY_STEPS + 10 });
  assertEquals(steps, [0, BOUNDARY_STEPS]);
  assertEquals(lines, [`${BOUNDARY_STEPS} toy-serial.received bytes=01`]);
  const other = makeToy({ program: LOOP, chop: 999 });
  other.run({ untilStep: BOUNDARY_STEPS });
  assertEquals(other.stateDigest(), digests[1]);
});

Deno.test("timers: to the step, after arming in the middle of a slice", () => {
  const program = assemble(
    li(0, 100),
    out(0, PORT.timerPeriod),
    irq(0),
    add(1, 1, 1),
    jmp(-2),
  );
  for (const chop of [0, 1, 7]) {
    const kernel = makeToy({ program, chop, plugins: [toyTimer] });
    const ticks: number[] = [];
    kernel.watch(ToyTicked, (_payload, at) => void ticks.push(at.step));
    // The write is step 1: armed at time 1 for 101.
    kernel.run({ untilStep: 450 });
    assertEquals(ticks, [101, 201, 301, 401]);
  }
});

const Fired = defineEvent({
  name: "kernel-test.fired",
  version: 1,
  kind: "fact",
  doc: "A timer fired",
  fields: { n: u32("Which") },
});

/** Port 12 arms both timers for the written delay; port 13 spins one. */
function twoTimers(name: string) {
  return definePlugin({
    name,
    version: "1.0.0",
    doc: "Two timers",
    role: "participant",
    emits: [Fired],
    timers: ["late", "early"],
    needs: { interrupts: ToyInterruptsService },
    setup({ answer, timer, clock, emit, use }) {
      answer(ToyWritePort, ({ port, value }) => {
        if (port === 12) {
          timer.late.at(clock.now() + value);
          timer.early.at(clock.now() + value);
        }
        if (port === 13) timer.late.at(0);
        if (port === 14) timer.early.cancel();
      });
      const n = name.length;
      timer.late.run(() => {
        emit(Fired, { n: 10 * n });
        use.interrupts.raise(0);
      });
      timer.early.run(() => {
        emit(Fired, { n: 10 * n + 1 });
        if (timer.early.deadline === undefined) return;
        throw new Error("still armed");
      });
    },
  });
}

Deno.test("timers due together fire in load order, then declared order", () => {
  const program = assemble(li(0, 50), out(0, 12), irq(0), hltHeld());
  const kernel = makeToy({
    program,
    plugins: [twoTimers("bbb"), twoTimers("aa")],
  });
  const lines: string[] = [];
  kernel.sink = sink(lines, ({ name }) => name !== "toy.port-written");
  const end = kernel.run();
  // Steps 0 to 3 ran, the timers were armed at time 1 for 51.
  assertEquals(end, { kind: "waiting", step: 4, time: 51 });
  assertEquals(lines, [
    "4 machine.idled from=4 to=0x33",
    ...[20, 21, 30, 31].map((n) => `4 kernel-test.fired n=0x${n.toString(16)}`),
  ]);
});

Deno.test("a step of several nanoseconds: timers at the first boundary, idling to the nanosecond", () => {
  const busy = assemble(
    li(0, 1050),
    out(0, PORT.timerPeriod),
    irq(0),
    add(1, 1, 1),
    jmp(-2),
  );
  for (const chop of [0, 1, 7]) {
    const kernel = makeToy({
      program: busy,
      chop,
      pace: 100,
      plugins: [toyTimer],
    });
    const ticks: string[] = [];
    kernel.watch(
      ToyTicked,
      (_payload, at) => void ticks.push(`${at.step} ${at.time}`),
    );
    const times: number[] = [];
    kernel.watch(
      ToyRetired,
      (_payload, at) => void times.push(at.time - at.step * 100),
    );
    // Armed in step 1, at time 100, for 1150; each period begins at its tick.
    kernel.run({ untilStep: 40 });
    assertEquals(ticks, ["12 1200", "23 2300", "34 3400"]);
    assertEquals(times, new Array(40).fill(0));
    assertEquals(kernel.moment, { step: 40, time: 4000 });
  }
  const idled: number[] = [];
  for (const [delay, time] of [[123, 400], [777, 877]]) {
    const kernel = makeToy({
      program: assemble(li(0, delay), out(0, 12), irq(0), hltHeld()),
      pace: 100,
      plugins: [twoTimers("idle")],
    });
    kernel.watch(MachineIdled, ({ from, to }) => void idled.push(from, to));
    // Armed at time 100. The first comes before the machine halts.
    assertEquals(kernel.run(), { kind: "waiting", step: 4, time });
  }
  assertEquals(idled, [400, 877]);
});

Deno.test("a deadline in the past fires at the next boundary; spinning is refused", () => {
  const kernel = makeToy({
    program: assemble(out(0, 13), jmp(-1)),
    plugins: [twoTimers("past")],
  });
  const steps: number[] = [];
  kernel.watch(Fired, (_payload, at) => void steps.push(at.step));
  kernel.run({ untilStep: 3 });
  assertEquals(steps, [1]);
  const spinning = makeToy({
    program: LOOP,
    plugins: [definePlugin({
      name: "spinning",
      version: "1.0.0",
      doc: "Re-arms for now",
      role: "participant",
      timers: ["now"],
      setup({ timer }) {
        timer.now.at(5);
        timer.now.run(() => timer.now.at(0) as undefined);
      },
    })],
  });
  assertThrows(
    () => spinning.run({ untilStep: 100 }),
    PluginError,
    "plugin spinning, timer now: fired 65536 times at virtual time 5",
  );
  assertThrows(() => spinning.run(), StateError, "restore a keyframe first");
});

Deno.test("halted: time jumps to timers, waits for inputs, and says so", () => {
  const kernel = makeToy({
    program: assemble(
      vector(4),
      irq(1),
      hlt(0),
      jmp(-2),
      add(6, 6, 7),
      jmp(-4),
    ),
  });
  const idled: number[] = [];
  kernel.watch(MachineIdled, ({ to }) => void idled.push(to));
  assertEquals(kernel.run().kind, "waiting");
  const { step } = kernel.moment;
  assertEquals(kernel.run({ untilStep: 100 }), {
    kind: "waiting",
    step,
    time: step,
  });
  kernel.inject(ToySerialReceived, { bytes: Uint8Array.of(1) });
  assertEquals(kernel.queued, 1);
  kernel.run({ untilStep: 100 });
  assertEquals([kernel.queued, idled.length], [0, 0]);
  assert(kernel.moment.step > step);
});

Deno.test("inputs: each delivered alone, refused when nobody takes them", () => {
  const kernel = makeToy({ program: LOOP });
  const lines: string[] = [];
  kernel.sink = sink(lines);
  kernel.run({ untilStep: 10 });
  kernel.inject(ToySerialReceived, { bytes: Uint8Array.of(1) });
  kernel.inject(ToySerialReceived, { bytes: Uint8Array.of(2) });
  assertEquals(lines, []);
  kernel.run({ untilStep: 20 });
  assertEquals(lines, [
    "10 toy-serial.received bytes=01",
    "10 toy-serial.received bytes=02",
  ]);
  assertThrows(
    () =>
      makeToy({ program: LOOP, plugins: [] }).inject(ToySerialReceived, {
        bytes: Uint8Array.of(1),
      }),
    EventError,
    "no plugin of this machine takes it, load the plugin toy-serial",
  );
  assertThrows(
    () =>
      kernel.inject(ToySerialReceived, { bytes: [1] as unknown as Uint8Array }),
    EventError,
    "bytes: expected bytes",
  );
  assertThrows(
    () =>
      kernel.inject(
        ToyTicked as unknown as typeof ToySerialReceived,
        {} as never,
      ),
    EventError,
    "only inputs come from outside",
  );
});

Deno.test("edits are inputs: applied by the executor, checked before the tape", () => {
  const kernel = makeToy({ program: LOOP });
  const lines: string[] = [];
  kernel.sink = sink(lines);
  kernel.run({ untilStep: 4 });
  const before = kernel.capture();
  kernel.inject(RegisterEdited, { vcpu: 0, register: "r5", value: 0x77n });
  kernel.inject(MemoryEdited, {
    physicalAddress: 0x1ffe,
    bytes: Uint8Array.of(1, 2, 3, 4),
  });
  // Delivered on arrival; the step after is a jump that changes nothing else.
  kernel.run({ untilStep: 5 });
  const names = kernel.explain(before, kernel.capture())
    .map(({ plugin, cell }) => `${plugin} ${cell}`);
  assert(names.includes("machine r5"), names.join());
  assert(names.includes("machine ram 0x1ffe"));
  assert(names.includes("machine ram 0x2000"));
  assertEquals(lines.length, 2);
  assertThrows(
    () =>
      kernel.inject(RegisterEdited, { vcpu: 0, register: "rax", value: 1n }),
    EventError,
    "no register rax",
  );
  assertThrows(
    () =>
      kernel.inject(MemoryEdited, {
        physicalAddress: 16 * 4096 - 1,
        bytes: Uint8Array.of(1, 2),
      }),
    EventError,
    "RAM ends",
  );
  assertEquals(kernel.queued, 0);
});

Deno.test("Ctrl-C is an input; the end is state and is announced once", () => {
  const kernel = makeToy({ program: LOOP });
  const lines: string[] = [];
  kernel.sink = sink(lines);
  kernel.run({ untilStep: 9 });
  kernel.inject(MachineInterrupted, {});
  const end = kernel.run({ untilStep: 50 });
  assertEquals(end, {
    kind: "stopped",
    step: 9,
    time: 9,
    reason: "interrupted",
    exitCode: 130,
  });
  assertEquals(lines, [
    "9 machine.interrupted",
    '9 machine.stopped reason="interrupted" exitCode=0x82',
  ]);
  assertEquals(kernel.stopped, end);
  assertEquals(kernel.run(), end);
  const copy = makeToy({ program: LOOP });
  assertEquals(copy.stopped, undefined);
  copy.restore(kernel.capture());
  assertEquals(copy.stopped, end);
});

Deno.test("pause and watch change nothing", () => {
  const program = randomProgram(77n);
  const plain = makeToy({ program });
  plain.run({ untilStep: 2000, budgetSteps: 1e6 });
  const kernel = makeToy({ program });
  let writes = 0;
  const end = kernel.watch(ToyPortWritten, () => {
    writes++;
    kernel.pause();
  });
  const retired: number[] = [];
  const endRetired = kernel.watch(ToyRetired, (_payload, at) => {
    retired.push(at.step);
    if (at.step % 100 === 10) kernel.pause();
  });
  let pauses = 0;
  while (kernel.run({ untilStep: 2000, budgetSteps: 1e6 }).kind === "paused") {
    if (pauses++ === 0) assertEquals(kernel.moment.step, writes > 0 ? 3 : 11);
    if (retired.length > 500) endRetired();
    if (writes > 20) end();
  }
  assert(pauses > 5 && retired.length > 500, `${pauses} ${retired.length}`);
  assertEquals(kernel.stateDigest(), plain.stateDigest());
});

Deno.test("an observer that throws stops the run at a boundary, not the machine", () => {
  const clumsy = definePlugin({
    name: "clumsy",
    version: "1.0.0",
    doc: "Throws at the second tick",
    role: "observer",
    state: { ticks: u32("Ticks seen") },
    setup({ on, state }) {
      on(ToyTicked, () => {
        if (++state.ticks === 2) throw new Error("clumsy me");
      });
    },
  });
  const program = echoProgram();
  const kernel = makeToy({ program, more: [clumsy] });
  assertThrows(
    () => kernel.run({ budgetSteps: 10_000 }),
    PluginError,
    "plugin clumsy, handler of toy-timer.ticked",
  );
  const plain = makeToy({ program });
  const untilStep = kernel.moment.step + 50;
  const budgetSteps = 1e5;
  assertEquals(kernel.run({ untilStep, budgetSteps }).kind, "step");
  plain.run({ untilStep, budgetSteps });
  assertEquals(plain.stateDigest(), kernel.stateDigest());
});
