/**
 * Virtual-8086 mode, its extensions and CR4.PVI, 16-bit task switches
 * (SDM 3A ch. 20, §7.6), as programs: each case says how its 8086 code ended.
 */
import { assertEquals } from "@std/assert";
import { Rflags, SegmentRights as R } from "../../arch/flags.ts";
import type { CpuContext } from "../../context.ts";
import type { Hardware } from "../../hardware.ts";
import { Gpr, Seg } from "../../layout.ts";
import { type Ran, runProgram } from "../../../tests/support/faults.ts";
import {
  PLACE,
  SELECTOR,
  TestMachine,
} from "../../../tests/support/machine.ts";
import { SystemType } from "./descriptors.ts";

const GATE = SELECTOR.tss + 16;
const VIF = Rflags.VIF, VIP = Rflags.VIP, IOPL3 = 3 << 12, VM = Rflags.VM;
/** Real-mode segment and stack of the 8086 program. */
const CS = 0x800, SS = 0x40;
/** I/O permission bitmap in the TSS; the redirection bitmap lies 32 bytes below. */
const IO_MAP = 0xa0;

/** Enters the mode with `flags`; `code` begins at label `program`, CS:0. */
const enter = (flags: number, code: string, cr4 = 0): string => `
  mov eax, cr4
  or eax, ${cr4}
  mov cr4, eax
  push 0x55
  push 0x44
  push 0x33
  push 0x22
  push ${SS}
  push 0x200
  push ${(flags | VM | 2) >>> 0}
  push ${CS}
  push program - ${CS * 16}
  iretd
bits 16
program:
${code}
bits 32`;

interface World {
  /** Vectors that go to the protected-mode handler (bit set). */
  readonly redirect?: readonly number[];
  /** Real-mode vector to an offset in CS. */
  readonly vectors?: Readonly<Record<number, string>>;
}

function run(flags: number, code: string, cr4 = 0, world: World = {}): Ran {
  const source = enter(flags, code, cr4);
  const { symbols } = new TestMachine(source, { mode: "protected" });
  return runProgram(source, {
    mode: "protected",
    setup: (cpu: CpuContext, { physical }: Hardware) => {
      const tr = cpu.v.segment(Seg.TR);
      cpu.v.setSegment(Seg.TR, { ...tr, limit: 0x1ff });
      physical.write(PLACE.tss + 0x66, 2, BigInt(IO_MAP));
      for (const n of world.redirect ?? []) {
        const at = PLACE.tss + IO_MAP - 32 + (n >> 3);
        const old = physical.read(at, 1);
        physical.write(at, 1, old | 1n << BigInt(n & 7));
      }
      for (const [n, label] of Object.entries(world.vectors ?? {})) {
        const offset = (symbols.get(label) ?? 0n) - BigInt(CS * 16);
        physical.write(Number(n) * 4, 4, BigInt(CS) << 16n | offset);
      }
      // Software may use vectors 16 to 31.
      for (let i = 16; i < 32; i++) {
        physical.write(PLACE.idt + i * 8 + 5, 1, 0xeen);
      }
    },
  });
}
/** Word `i` of the frame that the first event left on the inner stack. */
const frame = (r: Ran, i: number): number =>
  Number(r.machine.word(PLACE.innerStack - 4 - 4 * i, 4));

const VME = 1, PVI = 2;
/** Flags, CR4 bits, code → first event. HLT is #GP(0) at CPL 3. */
const CASES: readonly (readonly [number, number, string, string])[] = [
  [0, 0, "mov ax, cs\nud2", "#UD"],
  [0, 0, "hlt", "#GP(0)"],
  [0, 0, "int 0x20", "#GP(0)"],
  [0, 0, "pushf\nud2", "#GP(0)"],
  [0, 0, "popf\nud2", "#GP(0)"],
  [0, 0, "cli\nud2", "#GP(0)"],
  [0, 0, "sti\nud2", "#GP(0)"],
  [0, 0, "iret\nud2", "#GP(0)"],
  [0, 0, "int3\nud2", "#GP(1a)"],
  [0, 0, "lar ax, ax", "#UD"],
  [0, 0, "mov eax, cr0", "#GP(0)"],
  [0, 0, "in al, 0x60\nud2", "#UD"],
  [IOPL3, 0, "in al, 0x60\nud2", "#UD"],
  [IOPL3, 0, "pushf\npopf\ncli\nsti\nud2", "#UD"],
  [IOPL3, 0, "int 0x1f", "vector 31"],
  [IOPL3, 0, "int 0x1e", "vector 30"],
  [IOPL3, 0, "int 0xd", "#GP(6a)"],
  // VME: sensitive 16-bit forms act on VIF, 32-bit forms fault.
  [0, VME, "cli\nsti\npushf\npopf\nud2", "#UD"],
  [0, VME, "pushfd\nud2", "#GP(0)"],
  [0, VME, "popfd\nud2", "#GP(0)"],
  [0, VME, "iretd\nud2", "#GP(0)"],
  [VIP, VME, "sti\nud2", "#GP(0)"],
  [VIP, VME, "cli\nud2", "#UD"],
  [VIP, VME, "push 0x202\npopf\nud2", "#GP(0)"],
  [VIP, VME, "push 2\npopf\nud2", "#UD"],
  [0, VME, "push 0x102\npopf\nud2", "#GP(0)"],
  [0, VME, "push 0x102\npush 0x800\npush 0x100\niret", "#GP(0)"],
  [0, PVI, "cli\nud2", "#GP(0)"],
];
for (const [flags, cr4, code, event] of CASES) {
  const name = `${flags.toString(16)}/${cr4}: ${code.replaceAll("\n", "; ")}`;
  Deno.test(`virtual-8086 ${name} → ${event}`, () => {
    assertEquals(run(flags, code, cr4).fault, event);
  });
}

Deno.test("an event leaves the mode with ten words and null data segments", () => {
  const r = run(IOPL3, "mov ax, 0x1234\nmov ds, ax\nud2");
  assertEquals(r.fault, "#UD");
  // SS came as 40H, then ES 22H, DS, FS 44H, GS 55H.
  assertEquals([0, 1, 2, 3].map((i) => frame(r, i)), [
    0x55,
    0x44,
    0x1234,
    0x22,
  ]);
  assertEquals([frame(r, 4), frame(r, 5)], [SS, 0x200]);
  assertEquals(frame(r, 6), VM | IOPL3 | Rflags.RF | 2);
  assertEquals(frame(r, 7), CS);
  const { v } = r.machine;
  assertEquals(v.rflags & VM, 0);
  assertEquals(v.cpl, 0);
  for (const s of [Seg.ES, Seg.DS, Seg.FS, Seg.GS]) {
    assertEquals(v.segSelector(s), 0);
    assertEquals(v.segAttributes(s) & R.Unusable, R.Unusable);
  }
  assertEquals(v.segSelector(Seg.SS), SELECTOR.data);
});

Deno.test("IRETD enters the mode with its six segments and flags", () => {
  const r = run(IOPL3 | VIF, "ud2");
  assertEquals(frame(r, 6), VM | IOPL3 | VIF | Rflags.RF | 2);
  assertEquals([2, 1, 0, 3].map((i) => frame(r, i)), [0x33, 0x44, 0x55, 0x22]);
});

Deno.test("CLI and STI move VIF, PUSHF shows it as IF with IOPL 3", () => {
  const flagsAfter = (flags: number, code: string): number =>
    frame(run(flags, `${code}\nud2`, VME), 6);
  assertEquals(flagsAfter(VIF, "cli") & VIF, 0);
  assertEquals(flagsAfter(0, "sti") & (VIF | Rflags.IF), VIF);
  const pushed = (flags: number): number => {
    const r = run(flags, "pushf\npop ax\nud2", VME);
    return r.machine.v.gpr32(Gpr.RAX) & 0xffff;
  };
  assertEquals(pushed(VIF | Rflags.CF), 0x3203);
  assertEquals(pushed(Rflags.CF), 0x3003);
  assertEquals(
    flagsAfter(0, "push 0x203\npopf") & 0xfffff,
    VIF | VM | Rflags.RF | 3,
  );
});

Deno.test("IRET inside the mode: IOPL 3 takes IF, VME takes VIF", () => {
  const after = (flags: number, cr4: number): number => {
    const code = `push 0x203\npush ${CS}\npush next - ${CS * 16}\niret\n` +
      "hlt\nnext: ud2";
    const r = run(flags, code, cr4);
    assertEquals(r.fault, "#UD");
    return frame(r, 6) & ~(VM | Rflags.RF);
  };
  assertEquals(after(IOPL3, 0), IOPL3 | 0x203);
  assertEquals(after(0, VME), VIF | 3);
});

Deno.test("INT n is redirected to the program where the bitmap says so", () => {
  const code = "int 0x14\nback: ud2\nhandler: mov bp, sp\nmov cx, [bp]\n" +
    "mov dx, [bp + 4]\nmov bx, [bp + 2]\niret";
  for (
    const [flags, image, left] of [
      [VIF, 0x3202, VIF],
      [0, 0x3002, 0],
      [IOPL3 | Rflags.IF, 0x3202, IOPL3 | Rflags.IF],
    ]
  ) {
    const r = run(flags, code, VME, { vectors: { 20: "handler" } });
    assertEquals(r.fault, "#UD");
    const { v } = r.machine;
    const back = r.machine.at("back") - CS * 16;
    assertEquals(v.gpr32(Gpr.RCX) & 0xffff, back);
    assertEquals(v.gpr32(Gpr.RDX) & 0xffff, image);
    assertEquals(v.gpr32(Gpr.RBX) & 0xffff, CS);
    assertEquals(frame(r, 6) & ~(VM | Rflags.RF), (left | 2) >>> 0);
  }
  // Inside the handler VIF (or IF) is off.
  const inside = run(VIF, "int 0x14\nhandler: ud2", VME, {
    vectors: { 20: "handler" },
  });
  assertEquals(frame(inside, 6) & VIF, 0);
  const redirect = [20];
  assertEquals(run(0, code, VME, { redirect }).fault, "#GP(0)");
  assertEquals(run(IOPL3, code, VME, { redirect }).fault, "#VE");
});

Deno.test("CR4.PVI: CLI and STI at CPL 3 move VIF", () => {
  const user = (code: string, flags = 0, cr4 = PVI): Ran =>
    runProgram(
      `mov eax, cr4\nor eax, ${cr4}\nmov cr4, eax\npush ${SELECTOR.userData}
      push ${PLACE.userStack}\npush ${flags | 2}\npush ${SELECTOR.userCode32}
      push user\niretd\nuser: ${code}\nud2`,
      { mode: "protected" },
    );
  // Behind SS and ESP.
  const flags = (r: Ran): number => frame(r, 2) & ~Rflags.RF;
  assertEquals(user("cli", 0, 0).fault, "#GP(0)");
  assertEquals(user("cli", VIF).fault, "#UD");
  assertEquals(flags(user("cli", VIF)), 2);
  assertEquals(flags(user("sti")), VIF | 2);
  assertEquals(user("sti", VIP).fault, "#GP(0)");
  assertEquals(flags(user("sti", IOPL3)), IOPL3 | Rflags.IF | 2);
});

const NEW_TSS = 0x900;
type Setup = (cpu: CpuContext, hardware: Hardware) => void;
function withTss(
  type: number,
  words: (put: (at: number, value: number, bytes?: number) => void) => void,
): Setup {
  return (cpu, { physical }) => {
    const low = BigInt(0x80 | type) << 40n | 0x67n | BigInt(NEW_TSS) << 16n;
    physical.write(PLACE.gdt + GATE, 8, low);
    physical.write(PLACE.gdt + SELECTOR.tss + 5, 1, 0x8bn);
    cpu.v.setGdtr(BigInt(PLACE.gdt), GATE + 7);
    words((at, value, bytes = 2) =>
      physical.write(NEW_TSS + at, bytes, BigInt(value))
    );
  };
}

Deno.test("a task switch can enter virtual-8086 mode, and leave it", () => {
  const source = `jmp ${GATE}:0\nbits 16\ntask: mov ax, ds\nud2\nbits 32`;
  const options = { mode: "protected" as const };
  const task = new TestMachine(source, options).at("task");
  const setup = withTss(SystemType.Tss32, (put) => {
    put(0x20, task - CS * 16, 4);
    put(0x24, VM | 2, 4);
    put(0x38, 0x200, 4);
    [0x11, CS, SS, 0x22, 0x33, 0x44].forEach((s, i) => put(0x48 + 4 * i, s));
    put(4, PLACE.innerStack, 4);
    put(8, SELECTOR.data);
  });
  const r = runProgram(source, { ...options, setup });
  assertEquals(r.fault, "#UD");
  assertEquals(r.machine.v.gpr32(Gpr.RAX) & 0xffff, 0x22);
  assertEquals([0, 1, 2, 3].map((i) => frame(r, i)), [0x44, 0x33, 0x22, 0x11]);
  assertEquals(frame(r, 6) & VM, VM);
});

Deno.test("16-bit TSS: CALL nests, IRET returns, 14 words are kept", () => {
  const source = `mov ebx, 0x12345678\ncall ${GATE}:0\nback: str cx
    mov dx, [${NEW_TSS}]\nhlt
    task: mov [0x6f00], eax\nmov [0x6f04], ebx\nmov ax, fs\nmov [0x6f08], ax
    str ax\nmov [0x6f0c], ax\nmov eax, cr3\nmov ebp, 0x99990001\niretd`;
  const options = { mode: "protected" as const };
  const task = new TestMachine(source, options).at("task");
  const tss = withTss(SystemType.Tss16, (put) => {
    put(0x0e, task);
    put(0x10, 2);
    put(0x12, 0xaaaa);
    put(0x1a, PLACE.innerStack);
    put(0x22, SELECTOR.data);
    put(0x24, SELECTOR.code32);
    put(0x26, SELECTOR.data);
    put(0x28, SELECTOR.data);
  });
  const r = runProgram(source, { ...options, setup: tss });
  assertEquals(r.fault, "none");
  const { machine: m } = r;
  assertEquals(m.word(0x6f00, 4), 0xaaaan);
  assertEquals(m.word(0x6f04, 4), 0n);
  assertEquals(m.word(0x6f08, 2), 0n);
  assertEquals(m.word(0x6f0c, 2), BigInt(GATE));
  assertEquals(m.v.gpr(Gpr.RBX), 0x12345678n, "the 32-bit TSS kept all of it");
  assertEquals(m.v.gpr32(Gpr.RCX) & 0xffff, SELECTOR.tss);
  assertEquals(m.v.gpr32(Gpr.RDX) & 0xffff, SELECTOR.tss);
  assertEquals(m.word(PLACE.gdt + GATE + 5, 1), 0x81n, "available again");
  assertEquals(m.word(NEW_TSS + 0x1c, 2), 1n, "BP is a word");
  assertEquals(m.word(NEW_TSS + 0x2c), 0n, "nothing behind the TSS");
});

Deno.test("an exception through a 16-bit task gate pushes a word", () => {
  const source = "mov eax, 0x100\nmov ds, eax\nhlt\ntask: pop bx\nhlt";
  const options = { mode: "protected" as const };
  const task = new TestMachine(source, options).at("task");
  const tss = withTss(SystemType.Tss16, (put) => {
    put(0x0e, task);
    put(0x1a, PLACE.innerStack);
    put(0x22, SELECTOR.data);
    put(0x24, SELECTOR.code32);
    put(0x26, SELECTOR.data);
    put(0x28, SELECTOR.data);
  });
  const r = runProgram(source, {
    ...options,
    setup: (cpu, hardware) => {
      tss(cpu, hardware);
      const gate = BigInt(GATE) << 16n | 0x85n << 40n;
      hardware.physical.write(PLACE.idt + 13 * 8, 8, gate);
    },
  });
  assertEquals(r.machine.v.gpr32(Gpr.RBX) & 0xffff, 0x100);
  assertEquals(r.machine.v.gpr32(Gpr.RSP), PLACE.innerStack);
  assertEquals(r.machine.v.segAttributes(Seg.TR) & 15, SystemType.Tss16Busy);
});
