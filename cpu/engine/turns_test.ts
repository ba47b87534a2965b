/**
 * Several vCPUs: turns, who is skipped, start-up IPI, INIT, events from one vCPU
 * to another, code written by another vCPU; the same on both engines and
 * wherever a run is cut. PAUSE and MWAIT have pause_test.ts.
 */
import { assert, assertEquals } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { Ipi } from "../../tests/support/ipi.ts";
import { setGate, TestMachine } from "../../tests/support/machine.ts";
import { ActivityChanged, InterruptDelivered } from "../facts.ts";
import { ActivityState, EventRequest, Gpr, MACHINE, Seg } from "../layout.ts";
import { BOTH, join, machine, send, turnsOf } from "./turns_testing.ts";

const SPIN_TWICE = "a: inc rbx\njmp a\nb: inc rcx\njmp b";

for (const { name, engine } of BOTH) {
  describe(`several vCPUs on ${name}`, () => {
    it("take turns of so many steps, round and round", () => {
      const m = machine(SPIN_TWICE + "\nc: jmp c", { engine, cpus: 3 });
      join(m, 1, "b");
      join(m, 2, "c");
      const turns = turnsOf(m);
      m.run(400);
      assertEquals(turns, [
        [0, 50],
        [1, 50],
        [2, 50],
        [0, 50],
        [1, 50],
        [2, 50],
        [0, 50],
        [1, 50],
      ]);
      assertEquals(m.v.gpr(Gpr.RBX), 75n);
      assertEquals(m.v.gpr(Gpr.RCX), 0n);
      assertEquals(m.hardware.cpus[1].v.gpr(Gpr.RCX), 75n);
    });

    it("wait for their start-up IPI, and begin at its vector in real mode", () => {
      const m = machine(
        `
        ${send(Ipi.Sipi, 1, 0x20)}
        wait:
          cmp dword [0x600], 7
          jne wait
          hlt
        `,
        { engine },
      );
      const seen = m.collect(ActivityChanged);
      m.hardware.physical.writeBytes(
        0x20000,
        // mov word [0x600], 7; hlt
        Uint8Array.from([0xc7, 0x06, 0x00, 0x06, 0x07, 0x00, 0xf4]),
      );
      assertEquals(m.hardware.cpus[1].v.activity, ActivityState.WaitForSipi);
      assertEquals(m.run(1000).kind, "waiting");
      const { v } = m.hardware.cpus[1];
      assertEquals(v.segSelector(Seg.CS), 0x2000);
      assertEquals(v.segBase(Seg.CS), 0x20000n);
      assertEquals(v.rip, 7n);
      assertEquals(v.activity, ActivityState.Hlt);
      assertEquals(seen, [
        { cpu: 1, activity: ActivityState.Active },
        { cpu: 1, activity: ActivityState.Hlt },
        { cpu: 0, activity: ActivityState.Hlt },
      ]);
    });

    it("ignore a start-up IPI when they run, and start again after INIT", () => {
      const m = machine(
        `
        ${send(Ipi.Sipi, 1, 0x20)}
        mov ecx, 40
        l1: loop l1
        ${send(Ipi.Sipi, 1, 0x21)}
        mov ecx, 40
        l2: loop l2
        mov rsi, [0x600]
        ${send(Ipi.Init, 1)}
        ${send(Ipi.Sipi, 1, 0x21)}
        mov ecx, 40
        l3: loop l3
        hlt
        `,
        { engine },
      );
      const count = (at: number): Uint8Array =>
        // inc word [at]; jmp $
        Uint8Array.from([0xff, 0x06, at & 255, at >> 8, 0xeb, 0xfe]);
      m.hardware.physical.writeBytes(0x20000, count(0x600));
      m.hardware.physical.writeBytes(0x21000, count(0x602));
      m.run(400);
      assertEquals(m.v.gpr(Gpr.RSI), 1n);
      assertEquals(m.word(0x600, 4), 0x10001n);
    });

    it("are skipped while halted; all halted is idle; an IPI wakes one", () => {
      const m = machine(
        `
        mov ecx, 200
        l: loop l
        ${send(Ipi.Fixed, 1, 0x40)}
        cli
        hlt
        other: sti
        hlt
        inc rbx
        cli
        hlt
        handler: inc r12
        iretq
        `,
        { engine },
      );
      setGate(m.hardware, 0x40, m.at("handler"));
      const { v } = m.hardware.cpus[1];
      const turns = turnsOf(m);
      join(m, 1, "other");
      const seen = m.collect(InterruptDelivered);
      assertEquals(m.run(1000).kind, "waiting");
      assertEquals(seen.map((e) => [e.cpu, e.vector]), [[1, 0x40]]);
      assertEquals(v.gpr(Gpr.R12), 1n);
      assertEquals(v.gpr(Gpr.RBX), 1n);
      assertEquals(turns[0], [0, 50]);
      assertEquals(turns[1], [1, 2], "STI, HLT");
      assertEquals(turns[2], [0, 156], "alone until it halts");
      // Delivery retires nothing; handler, INC, CLI, HLT.
      assertEquals(turns.slice(3), [[1, 5]]);
    });

    it("take an NMI from another at their own turn", () => {
      const m = machine(
        `
        ${send(Ipi.Nmi, 0xff)}
        a: jmp a
        b: inc rbx
        jmp b
        nmi: inc r13
        iretq
        `,
        { engine, cpus: 3 },
      );
      setGate(m.hardware, 2, m.at("nmi"));
      const one = join(m, 1, "b"), two = join(m, 2, "b");
      m.run(149);
      assertEquals(m.v.gpr(Gpr.R13), 0n);
      assertEquals(one.gpr(Gpr.R13), 1n);
      assertEquals(two.gpr(Gpr.R13), 1n);
    });

    it("run what another has written over their code", () => {
      const m = machine(
        `
        mov ecx, 100
        l: loop l
        mov byte [patch + 3], 5
        mov ecx, 100
        k: loop k
        hlt
        align 16
        patch: add r8, 1
        mov [0x600], r8
        jmp patch
        `,
        { engine },
      );
      const v = join(m, 1, "patch");
      assertEquals(m.word(m.at("patch") + 3, 1), 1n);
      m.run(100);
      assertEquals(v.gpr(Gpr.R8), 17n);
      m.run(300);
      // vCPU 0 patches in its third turn, after two turns of 50 steps here.
      assertEquals(v.gpr(Gpr.R8), 34n + 5n * 33n);
    });

    it("have their own TLB: a changed entry is seen after INVLPG", () => {
      // The page at 6 MiB is moved to 4 MiB by vCPU 0.
      const m = machine(
        `
        mov ecx, 60
        l: loop l
        mov qword [0x12000 + 3 * 8], 0x400087
        mov byte [0x600], 1
        hlt
        b: mov rbx, [0x600000]
        w: pause
        cmp byte [0x600], 0
        je w
        mov rsi, [0x600000]
        invlpg [0x600000]
        mov rdi, [0x600000]
        hlt
        `,
        { engine, ramBytes: 0x800000 },
      );
      m.hardware.physical.write(0x600000, 8, 6n);
      m.hardware.physical.write(0x400000, 8, 4n);
      const v = join(m, 1, "b");
      assertEquals(m.run(1000).kind, "waiting");
      assertEquals(v.gpr(Gpr.RBX), 6n);
      assertEquals(v.gpr(Gpr.RSI), 6n, "stale, as hardware may have it");
      assertEquals(v.gpr(Gpr.RDI), 4n);
    });

    it("see one virtual time, each with its own adjustment", () => {
      const m = machine(
        `
        rdtsc
        mov ebx, eax
        a: jmp a
        b: mov ecx, 0x3b
        xor edx, edx
        mov eax, 1000
        wrmsr
        rdtsc
        hlt
        `,
        { engine },
      );
      const v = join(m, 1, "b");
      m.run(200);
      assertEquals(m.v.gpr(Gpr.RBX), 0n);
      assertEquals(v.gpr(Gpr.RAX), 1054n);
    });

    it("the one stuck in faults is named, whoever else could run", () => {
      const m = machine(
        "a: jmp a\nb: ud2",
        { engine },
      );
      // An IDT whose #UD and #GP gates aren't present would be a triple fault;
      // a stuck loop needs somebody who takes each fault away.
      join(m, 1, "b");
      m.hardware.cpus.forEach((cpu) => {
        Object.assign(cpu, {
          exceptionFilter: {
            exception: () => true,
            returned: () => {},
            boundary: () => false,
          },
        });
      });
      const info = m.run(1000);
      assertEquals(info.kind, "stopped");
      assert(info.reason?.startsWith("stuck: vCPU 1: "), info.reason);
      assertEquals(info.step, 50);
    });
  });
}

describe("turns", () => {
  const SOURCE = `
    ${send(Ipi.Init, 1)}
    ${send(Ipi.Sipi, 1, 0x20)}
    a: lock inc dword [0x600]
    pause
    jmp a
  `;
  const AP = Uint8Array.from([
    // lock inc dword [0x600]; jmp −9 … in real mode: f0 66 ff 06 00 06, eb f8
    ...[0xf0, 0x66, 0xff, 0x06, 0x00, 0x06],
    ...[0xeb, 0xf8],
  ]);
  const run = (engine: number, cut: () => number): string => {
    const m = machine(SOURCE, { engine: BOTH[engine].engine });
    m.hardware.physical.writeBytes(0x20000, AP);
    while (m.v.step < 1500) {
      m.run(Math.min(cut(), 1500 - m.v.step));
    }
    return m.kernel.stateDigest();
  };

  it("are the same wherever the run is cut, on every engine", () => {
    const whole = run(0, () => 1500);
    let seed = 1;
    const random = (): number => {
      seed = (seed * 1103515245 + 12345) & 0x7fffffff;
      return 1 + (seed >> 8) % 90;
    };
    assertEquals(run(1, () => 1500), whole);
    for (let i = 0; i < 5; i++) {
      assertEquals(run(0, random), whole);
      assertEquals(run(1, random), whole);
    }
  });

  it("lie in the machine page; one vCPU writes nothing there", () => {
    const word = (m: TestMachine, at: number): number => {
      const { memory, layout } = m.hardware;
      return new Uint32Array(memory.buffer)[(layout.state + at) >>> 2];
    };
    const m = machine(SPIN_TWICE);
    join(m, 1, "b");
    m.run(130);
    assertEquals(m.hardware.turn(), 0);
    assertEquals(word(m, MACHINE.turnEnd), 150);
    m.run(20);
    assertEquals([m.hardware.turn(), m.hardware.nextTurn()], [0, 1]);
    assertEquals(
      m.executor.state.describe(0, MACHINE.turnEnd + 7),
      "machine.turnEnd",
    );
    assertEquals(
      m.executor.state.describe(0, MACHINE.turnPause + 7),
      "machine.turnPause",
    );
    const one = new TestMachine(`pause\n${SPIN_TWICE}`);
    one.run(100);
    const { turn, turnEnd, turnPause } = MACHINE;
    assertEquals(
      [turn, turnEnd, turnPause].map((at) => word(one, at)),
      [0, 0, 0],
    );
  });

  it("a blocked INIT waits and a start-up IPI before it is void", () => {
    const m = machine("hlt");
    m.hardware.startUp(1, 0x20);
    m.hardware.request(1, EventRequest.Init);
    m.run(10);
    assertEquals(m.hardware.cpus[1].v.activity, ActivityState.WaitForSipi);
    assertEquals(m.hardware.cpus[1].v.eventRequest, 0);
  });
});
