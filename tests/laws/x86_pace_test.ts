/**
 * A machine whose step lasts several virtual nanoseconds (`machine.pace`): the
 * TSC, the local APIC's timer and waiting in loops are as much longer, on every
 * engine and in replay; the tape's manifest says so, and a step of one
 * nanosecond leaves no trace there.
 */
import { assert, assertEquals } from "@std/assert";
import { tapeWriter } from "../../core/recorder.ts";
import { verifyTape } from "../../core/replayer.ts";
import { Recorder } from "../../core/recorder.ts";
import { TapeReader } from "../../core/tape/reader.ts";
import { MemoryStore } from "../../core/tape/store.ts";
import { InterruptDelivered } from "../../cpu/facts.ts";
import { machines } from "../../host/machine.ts";
import { defineScenario } from "../../mod.ts";

const ROUNDS = 3000;
/** Timer ticks that the guest waits, first spinning, then halted. */
const TICKS = 54_321;

/** RDTSC at both ends of a loop, then two one-shot timers; exit status 3. */
const GUEST = `
APIC equ 0xfee00000
VECTOR equ 0x20
start:
  mov rsp, 0x8000
  mov rax, handler
  mov word [0x1000 + VECTOR * 16], ax
  mov word [0x1002 + VECTOR * 16], cs
  mov word [0x1004 + VECTOR * 16], 0x8e00
  shr rax, 16
  mov word [0x1006 + VECTOR * 16], ax
  mov dword [0x1008 + VECTOR * 16], 0
  mov word [0x900], 0xfff
  mov qword [0x902], 0x1000
  lidt [0x900]
  mov ecx, ${ROUNDS}
  rdtsc
  mov [0xa00], eax
  mov [0xa04], edx
again:
  pause
  rdtsc
  dec ecx
  jnz again
  mov [0xa08], eax
  mov [0xa0c], edx
  mov rbx, APIC
  mov dword [rbx + 0xf0], 0x1ff
  mov dword [rbx + 0x3e0], 0xb
  mov dword [rbx + 0x320], VECTOR
  sti
  rdtsc
  mov [0xa10], eax
  mov dword [rbx + 0x380], ${TICKS}
spin:
  pause
  cmp byte [0xa30], 1
  jne spin
  rdtsc
  mov [0xa18], eax
  mov dword [rbx + 0x380], ${TICKS}
  hlt
  mov al, 1
  out 0xf4, al
handler:
  inc byte [0xa30]
  mov dword [rbx + 0xb0], 0
  iretq
`;

const scenario = (pace?: number) =>
  defineScenario({
    machine: {
      cpu: "qemu64",
      memory: "2MiB",
      ...(pace === undefined ? {} : { pace }),
    },
    guest: { asm: GUEST, mode: "long" },
  });

interface Ran {
  readonly tape: TapeReader;
  readonly digest: string;
  readonly time: number;
  readonly step: number;
  readonly delivered: readonly string[];
  word(at: number): number;
}

function record(pace: number | undefined, engine: string): Ran {
  const kernel = machines.create(scenario(pace), new Map(), {
    uses: [],
    engine,
  });
  const delivered: string[] = [];
  kernel.watch(
    InterruptDelivered,
    (_payload, at) => void delivered.push(`${at.step} ${at.time}`),
  );
  const store = new MemoryStore();
  const recorder = Recorder.start(kernel, tapeWriter(store), {
    detail: "boundaries",
  });
  const end = kernel.run({ budgetSteps: 1_000_000 });
  recorder.finish();
  assertEquals([end.kind, end.exitCode], ["stopped", 3]);
  const inspector = machines.inspector(kernel, [])!;
  return {
    tape: TapeReader.open(store),
    digest: kernel.stateDigest(),
    ...kernel.moment,
    delivered,
    word: (at) =>
      new DataView(inspector.memory(at, 4).buffer).getUint32(0, true),
  };
}

for (const pace of [1, 7, 100, 1000]) {
  Deno.test(`a step of ${pace} ns: TSC and timers, on every engine`, () => {
    const [first, ...others] = machines.engines.map((engine) =>
      record(pace, engine)
    );
    for (const other of others) {
      assertEquals(
        [other.digest, other.step, other.time, other.delivered],
        [first.digest, first.step, first.time, first.delivered],
      );
    }
    // Two stores of the first TSC, then four instructions a round; the last
    // RDTSC is the second of its round.
    const looped = first.word(0xa08) - first.word(0xa00);
    assertEquals(looped, (2 + 4 * (ROUNDS - 1) + 2) * pace);
    // Spinning: interrupted at the first boundary at or after the deadline.
    const waited = first.word(0xa18) - first.word(0xa10);
    assert(waited >= TICKS, `${waited}`);
    assert(waited < TICKS + 12 * pace, `${waited}`);
    // Halted: woken at the deadline itself, or where a step ends after it.
    assertEquals(first.delivered.length, 2);
  });
}

Deno.test("a tape says how long a step lasts, unless it is a nanosecond", () => {
  for (const pace of [undefined, 1, 100]) {
    const { tape } = record(pace, machines.engines[0]);
    const { machine } = tape.requireManifest().machine as unknown as {
      readonly machine: { readonly pace?: number };
    };
    assertEquals(machine.pace, pace === 100 ? 100 : undefined);
    for (const engine of machines.engines) {
      const found = verifyTape(tape, machines.factory({ engine, uses: [] }));
      assertEquals([found.status, found.complete], [0, true], engine);
    }
  }
});
