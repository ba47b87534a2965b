/**
 * Inputs at awkward places, and runs that end badly: a machine that waits with
 * no timer armed, several inputs in one waiting, Ctrl-C, loops without a step,
 * what isn't modelled. Each is recorded, replayed and travelled.
 */
import { assert, assertEquals, assertThrows } from "@std/assert";
import { drive, TOY_CADENCE, toyFactory } from "../tests/laws/toy_runs.ts";
import {
  add,
  assemble,
  halt,
  hlt,
  inp,
  irq,
  jmp,
  jnz,
  li,
  makeToy,
  mystery,
  out,
  PORT,
  spin,
  st,
  ToySerialReceived,
  ToySerialSent,
  vector,
} from "../tests/toy/mod.ts";
import { NotModelled } from "./errors.ts";
import type { Kernel } from "./kernel.ts";
import { ZERO_PAGE } from "./keyframe.ts";
import {
  MachineInterrupted,
  MemoryEdited,
  RegisterEdited,
} from "./machine_events.ts";
import { Recorder, type RecordOptions, tapeWriter } from "./recorder.ts";
import { verifyTape } from "./replayer.ts";
import { TapeReader } from "./tape/reader.ts";
import { MemoryStore } from "./tape/store.ts";
import { Timeline } from "./timeline.ts";

/** Records `act` on a machine with that program. */
function record(
  program: Uint8Array,
  act: (kernel: Kernel) => void,
  options: RecordOptions = {},
): { tape: TapeReader; kernel: Kernel } {
  const kernel = makeToy({ program, ramPages: 4 });
  const sink = new MemoryStore();
  const recorder = Recorder.start(kernel, tapeWriter(sink), {
    detail: "full",
    cadence: TOY_CADENCE,
    ...options,
  });
  try {
    act(kernel);
  } catch (error) {
    if (!(error instanceof NotModelled)) throw error;
  }
  recorder.finish();
  const tape = TapeReader.open(sink, { verify: true });
  assertEquals([tape.state, tape.lost()], ["clean", []]);
  return { tape, kernel };
}

function checkReplay(tape: TapeReader): Timeline {
  for (const chop of [0, 1, 3]) {
    const found = verifyTape(tape, toyFactory({ chop }));
    assertEquals([found.status, found.unchecked], [0, 0]);
  }
  return Timeline.open(tape, toyFactory());
}

const send = (kernel: Kernel, ...bytes: number[]): void =>
  kernel.inject(ToySerialReceived, { bytes: Uint8Array.from(bytes) });

/** Echoes every byte, asleep in between; no timer. */
const SLEEPER = assemble(
  vector(4),
  irq(1),
  hlt(0),
  jmp(-2),
  inp(6, PORT.serialIn),
  out(6, PORT.serialOut),
  inp(6, PORT.serialCount),
  jnz(6, -4),
  [13, 0, 0, 0], // iret
);
/** Asleep for ever, as long as only memory is edited. */
const DEAF = assemble(hlt(0), jmp(-2));
const edit = (kernel: Kernel, byte: number): void =>
  kernel.inject(MemoryEdited, {
    physicalAddress: 0x1000 + byte,
    bytes: Uint8Array.of(byte),
  });

Deno.test("inputs to a waiting machine replay where they were consumed", () => {
  const { tape } = record(SLEEPER, (kernel) => {
    for (const byte of [1, 2, 3, 4]) {
      assertEquals(kernel.run().kind, "waiting");
      send(kernel, byte);
      if (byte === 3) send(kernel, 9, 9);
    }
    assertEquals(kernel.run().kind, "waiting");
  });
  assertEquals(tape.inputs.length, 5);
  assert(tape.inputs.some(({ waiting }) => waiting));
  assert(tape.end.waiting);
  const timeline = checkReplay(tape);
  timeline.seekEnd();
  const sent: number[] = [];
  const event = ToySerialSent;
  while (timeline.reverseTo({ event }) !== undefined) {
    const { step, ordinal } = timeline.moment;
    const found = timeline.events(step, step + 1)[ordinal];
    sent.unshift((found.payload as { byte: number }).byte);
  }
  assertEquals(sent, [1, 2, 3, 9, 9, 4]);
});

Deno.test("many inputs at one step and time keep their order", () => {
  for (const together of [true, false]) {
    const { tape, kernel } = record(DEAF, (kernel) => {
      assertEquals(kernel.run().kind, "waiting");
      for (let byte = 1; byte <= 6; byte++) {
        edit(kernel, byte);
        if (!together) assertEquals(kernel.run().kind, "waiting");
      }
      kernel.run();
    });
    assertEquals(new Set(tape.inputs.map(({ step }) => step)).size, 1);
    assertEquals(tape.inputs.length, 6);
    const timeline = checkReplay(tape);
    timeline.seekEnd();
    assertEquals(timeline.kernel.stateDigest(), kernel.stateDigest());
    const end = timeline.moment;
    timeline.back();
    assertEquals(timeline.moment.step, end.step);
    assert(timeline.kernel.stateDigest() !== kernel.stateDigest());
  }
});

Deno.test("inputs at once and one after another are one tape", () => {
  const tapes = [true, false].map((together) =>
    record(DEAF, (kernel) => {
      kernel.run();
      for (const byte of [1, 2, 3]) {
        edit(kernel, byte);
        if (!together) kernel.run();
      }
      kernel.run();
    }).tape
  );
  assertEquals(tapes[0].chainHead, tapes[1].chainHead);
});

Deno.test("Ctrl-C is an input and the stop replays", () => {
  const { tape } = record(
    assemble(li(1, 1), add(2, 2, 1), jmp(-2)),
    (kernel) => {
      kernel.run({ budgetSteps: 1000 });
      kernel.inject(MachineInterrupted, {});
      assertEquals(kernel.run().exitCode, 130);
    },
  );
  assert(tape.end.stopped);
  checkReplay(tape).seekEnd();
});

Deno.test("edits are inputs: memory and registers", () => {
  const program = assemble(li(1, 1), add(2, 2, 1), st(2, 3, 200), jmp(-3));
  const { tape } = record(program, (kernel) => {
    kernel.run({ untilStep: 300 });
    kernel.inject(RegisterEdited, { vcpu: 0, register: "r2", value: 77n });
    kernel.inject(MemoryEdited, {
      physicalAddress: 0x1000,
      bytes: Uint8Array.of(1, 2, 3),
    });
    kernel.run({ untilStep: 600 });
  });
  const timeline = checkReplay(tape);
  timeline.seek({ step: 301, ordinal: 0 });
  const { pages } = timeline.state();
  assertEquals([...pages.page(3).bytes.subarray(0, 3)], [1, 2, 3]);
  timeline.back(1);
  assertEquals(timeline.state().pages.page(3).bytes[0], 0);
});

Deno.test("runs that end badly are closed tapes that replay", () => {
  const stuck = record(assemble(jmp(0), spin()), (kernel) => void kernel.run());
  assert(stuck.tape.end.stopped);
  checkReplay(stuck.tape);
  const halted = record(
    assemble(jmp(0), halt()),
    (kernel) => void kernel.run(),
  );
  assert(halted.tape.end.stopped);
  checkReplay(halted.tape);
  for (const detail of ["inputs", "full"] as const) {
    const program = assemble(li(1, 5), jnz(1, 0), mystery());
    const { tape, kernel } = record(program, (kernel) => void kernel.run(), {
      detail,
    });
    assert(tape.end.failed && kernel.failure instanceof NotModelled);
    const timeline = checkReplay(tape);
    timeline.seekEnd();
    timeline.seek({ step: 1, ordinal: 0 });
    assertEquals(timeline.state().step, 1);
  }
});

Deno.test("a machine that goes another way is said to, not followed", () => {
  const { tape } = record(SLEEPER, (kernel) => {
    kernel.run();
    send(kernel, 1);
    kernel.run();
    send(kernel, 2);
    kernel.run();
  }, { detail: "inputs" });
  // The same manifest over another program: the state is not from the tape.
  const other = toyFactory({ program: DEAF });
  const timeline = Timeline.open(tape, (manifest) => {
    const kernel = other(manifest);
    const restore = kernel.restore.bind(kernel);
    kernel.restore = (keyframe) =>
      restore({
        ...keyframe,
        pages: keyframe.step === 0 ? kernel.capture().pages : keyframe.pages,
      });
    return kernel;
  }, { tapeKeyframes: false });
  assertThrows(() => timeline.seekEnd(), Error, "where the tape has input");
});

Deno.test("nothing recorded: the shortest tape", () => {
  const { tape } = record(SLEEPER, () => {});
  assertEquals([tape.end.step, tape.inputs.length], [0, 0]);
  checkReplay(tape);
  const kernel = makeToy({ program: SLEEPER });
  drive(kernel, { program: SLEEPER, steps: 0, inputs: [] });
});

Deno.test("the first keyframe is whole, even that of a machine of zeros", () => {
  const { tape } = record(new Uint8Array(0), () => {});
  const [first] = tape.keyframes;
  assertEquals(tape.keyframeRecord(first)!.pages, []);
  const { pages } = tape.keyframe(first)!.keyframe;
  assert(pages.groups.flat().every((page) => page === ZERO_PAGE));
});
