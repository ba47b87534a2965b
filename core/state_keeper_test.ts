/** State as a whole: digests, keyframes, blame, observers' cells. */
import {
  assert,
  assertEquals,
  assertNotEquals,
  assertThrows,
} from "@std/assert";
import {
  add,
  assemble,
  echoProgram,
  jmp,
  li,
  makeToy,
  randomProgram,
  st,
  TOY_OBSERVERS,
  TOY_PARTICIPANTS,
  ToySerialReceived,
} from "../tests/toy/mod.ts";
import { StateError } from "./errors.ts";
import type { Kernel } from "./kernel.ts";
import type { Keyframe } from "./keyframe.ts";
import { MemoryEdited } from "./machine_events.ts";

/** Loops for ever and stores a counter. */
const LOOP = assemble(li(1, 1), li(2, 0x1000), add(0, 0, 1), st(0, 2), jmp(-3));

Deno.test("digest: covers pages, cells, kernel; not observers, chops or sinks", () => {
  const program = randomProgram(5n);
  const options = { program, seed: 5n };
  const at = (kernel: Kernel) => {
    kernel.run({ untilStep: 500, budgetSteps: 1e6 });
    return kernel.stateDigest();
  };
  const plain = makeToy(options);
  const digest = at(plain);
  assertEquals(
    at(makeToy({ ...options, more: TOY_OBSERVERS, chop: 3 })),
    digest,
  );
  assertEquals(plain.digestParts().map(({ name }) => name), [
    "state",
    "ram",
    "kernel",
    "cells:toy-exit",
    "cells:toy-serial",
    "cells:toy-tally",
    "cells:toy-timer",
  ]);
  assertNotEquals(at(makeToy({ ...options, seed: 6n })), digest);
  // Each part on its own changes the digest.
  const changed = new Set<string>();
  const saved = plain.capture();
  const vary = (name: string, change: (keyframe: Keyframe) => Keyframe) => {
    const other = makeToy(options);
    other.restore(saved);
    assertEquals(other.stateDigest(), digest);
    other.restore(change(saved));
    const parts = new Map(plain.digestParts().map((p) => [p.name, p.digest]));
    for (const part of other.digestParts()) {
      if (parts.get(part.name) !== part.digest) changed.add(part.name);
    }
    assertNotEquals(other.stateDigest(), digest, name);
  };
  vary("kernel", (k) => {
    const kernel = k.kernel.slice();
    kernel[kernel.length - 1] ^= 1;
    return { ...k, kernel };
  });
  vary("cells", (k) => ({
    ...k,
    cells: k.cells.map((blob) =>
      blob.plugin !== "toy-timer"
        ? blob
        : { ...blob, bytes: blob.bytes.map((byte) => byte ^ 1) }
    ),
  }));
  const edited = makeToy(options);
  edited.restore(saved);
  edited.inject(MemoryEdited, {
    physicalAddress: 0x9000,
    bytes: Uint8Array.of(255),
  });
  edited.run({ stopWhen: (k) => k.queued === 0, untilStep: 501 });
  vary("ram", () => edited.capture());
  assertEquals([...changed].sort(), ["cells:toy-timer", "kernel", "ram"]);
});

Deno.test("explain names plugin, cell and field", () => {
  const kernel = makeToy({ program: echoProgram() });
  kernel.run({ untilStep: 4 });
  const before = kernel.capture();
  kernel.inject(ToySerialReceived, { bytes: Uint8Array.of(9, 8) });
  kernel.run({ untilStep: 5 });
  const found = kernel.explain(before, kernel.capture())
    .map(({ plugin, cell, field }) => `${plugin}/${cell}/${field}`);
  assert(found.includes("toy-serial/fifo/0"), found.join());
  assert(found.includes("toy-serial/fifo/1"));
  assert(found.includes("machine/pending/"));
  assertEquals(kernel.explain(before, before), []);
  kernel.run({ budgetSteps: 4000 });
  const later = kernel.explain(before, kernel.capture());
  assert(later.some((d) => d.plugin === "toy-timer" && d.cell === "count"));
  assert(later.some((d) => d.plugin === "kernel" && d.cell === "timers"));
  assert(
    later.some((d) => d.field === "toy-timer" && d.cell === "random"),
    "the timer's jitter drew from its stream",
  );
});

Deno.test("keyframes of other machines are refused, with the remedy", () => {
  const kernel = makeToy({ program: LOOP });
  kernel.run({ untilStep: 10 });
  const saved = kernel.capture();
  const refuse = (keyframe: Keyframe, message: string) =>
    assertThrows(
      () => makeToy({ program: LOOP }).restore(keyframe),
      StateError,
      message,
    );
  refuse(
    { ...saved, cells: saved.cells.slice(1) },
    "it has no cells of plugin",
  );
  refuse(
    { ...saved, cells: [...saved.cells, { ...saved.cells[0], plugin: "x" }] },
    "cells of plugin x, which is not loaded",
  );
  refuse(
    {
      ...saved,
      cells: saved.cells.map((c) => ({
        ...c,
        signature: "struct()",
        version: "9",
      })),
    },
    "the keyframe has version 9 with struct()",
  );
  refuse(
    {
      ...saved,
      cells: saved.cells.map((c) => ({
        ...c,
        bytes: Uint8Array.of(...c.bytes, 0),
      })),
    },
    "bytes are left over",
  );
  refuse({ ...saved, step: 11 }, "it is damaged");
  const small = makeToy({ program: LOOP, ramPages: 8 });
  assertThrows(() => small.restore(saved), StateError, "use the memory size");
  const fewer = makeToy({ program: LOOP, plugins: TOY_PARTICIPANTS.slice(1) });
  assertThrows(() => fewer.restore(saved), StateError, "load the plugins");
});

Deno.test("observers: their cells travel apart and come back", () => {
  const options = { program: randomProgram(9n), seed: 9n, more: TOY_OBSERVERS };
  const one = makeToy(options);
  one.run({ untilStep: 800, budgetSteps: 1e6 });
  const saved = one.capture();
  assertEquals(saved.observers.map(({ plugin }) => plugin), [
    "toy-dice",
    "toy-hot-watcher",
    "toy-watcher",
  ]);
  one.run({ untilStep: 1600, budgetSteps: 1e6 });
  const two = makeToy(options);
  two.restore(saved);
  assertEquals(two.captureObservers(), saved.observers);
  two.run({ untilStep: 1600, budgetSteps: 1e6 });
  assertEquals(two.captureObservers(), one.captureObservers());
  assertNotEquals(two.captureObservers(), saved.observers);
  // A machine without observers takes the same keyframe.
  const bare = makeToy({ ...options, more: [] });
  bare.restore(saved);
  bare.run({ untilStep: 1600, budgetSteps: 1e6 });
  assertEquals(bare.stateDigest(), one.stateDigest());
});
