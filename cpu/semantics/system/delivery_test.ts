/** Event delivery: gates, stack switches, error codes, double and triple faults. */
import { assertEquals } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { ExceptionDelivered } from "../../facts.ts";
import { Gpr, Seg } from "../../layout.ts";
import {
  PLACE,
  SELECTOR,
  setGate,
  TestMachine,
} from "../../../tests/support/machine.ts";

/** Code that goes to CPL 3 at `user`, in 64-bit mode. */
const TO_USER = `
  push ${SELECTOR.userData}
  push ${PLACE.userStack}
  push 0x202
  push ${SELECTOR.userCode64}
  lea rax, [user]
  push rax
  iretq
`;

describe("long mode", () => {
  it("switches to RSP0 from CPL 3 and back", () => {
    const m = new TestMachine(`${TO_USER}
    user: mov ebx, 7
      int 0x40
    after: mov ecx, cs
      int 0x41
    h40: mov r8, rsp
      mov r9, [rsp + 24]
      mov r10d, ss
      mov r11d, cs
      iretq
    h41: hlt`);
    setGate(m.hardware, 0x40, m.at("h40"), { type: 0xee });
    setGate(m.hardware, 0x41, m.at("h41"), { type: 0xee });
    m.run();
    assertEquals(m.v.gpr(Gpr.R8), BigInt(PLACE.innerStack - 40));
    assertEquals(m.v.gpr(Gpr.R9), BigInt(PLACE.userStack));
    assertEquals(m.v.gpr(Gpr.R10), 0n);
    assertEquals(m.v.gpr(Gpr.R11), BigInt(SELECTOR.code64));
    assertEquals(m.v.gpr(Gpr.RCX), BigInt(SELECTOR.userCode64));
    assertEquals(m.v.gpr(Gpr.RBX), 7n);
  });

  it("uses IST and aligns the stack", () => {
    const m = new TestMachine(`
      sub rsp, 8
      ud2
    h: hlt`);
    setGate(m.hardware, 6, m.at("h"), { ist: 3 });
    m.hardware.physical.write(PLACE.tss + 28 + 24, 8, 0x4ff8n);
    m.run();
    assertEquals(m.v.gpr(Gpr.RSP), 0x4ff0n - 40n);
    assertEquals(m.v.segSelector(Seg.SS), SELECTOR.data);
  });

  it("a software interrupt through a DPL 0 gate from CPL 3 is #GP with IDT bit", () => {
    const m = new TestMachine(`${TO_USER}
    user: int 0x40
    h40: hlt
    gp: pop rax
      hlt`);
    setGate(m.hardware, 0x40, m.at("h40"));
    setGate(m.hardware, 13, m.at("gp"));
    m.run();
    assertEquals(m.v.gpr(Gpr.RAX), BigInt(0x40 * 8 + 2));
  });

  it("a fault while delivering a fault has EXT, and #GP twice is #DF", () => {
    const m = new TestMachine(`
      mov rax, 0x123456789abcdef0
      mov rbx, [rax]
    df: pop r8
      mov r9, [rsp]
      hlt`);
    // No gate for #GP: its delivery is #NP, contributory after contributory.
    setGate(m.hardware, 13, 0, { type: 0x0e });
    setGate(m.hardware, 8, m.at("df"));
    const seen = m.collect(ExceptionDelivered);
    m.run();
    assertEquals(seen.map((e) => [e.vector, e.errorCode]), [[8, 0]]);
    assertEquals(m.v.gpr(Gpr.R8), 0n);
  });

  it("#NP for an absent gate names vector, IDT and EXT", () => {
    const m = new TestMachine(`
      ud2
    np: pop r8
      hlt`);
    setGate(m.hardware, 6, 0, { type: 0x0e });
    setGate(m.hardware, 11, m.at("np"));
    m.run();
    assertEquals(m.v.gpr(Gpr.R8), BigInt(6 * 8 + 3));
  });

  it("#PF puts its address into CR2", () => {
    const m = new TestMachine(`
      mov rbx, [0x40000000]
    pf: pop r8
      mov r9, cr2
      hlt`);
    setGate(m.hardware, 14, m.at("pf"));
    m.run();
    assertEquals(m.v.gpr(Gpr.R8), 0n);
    assertEquals(m.v.gpr(Gpr.R9), 0x40000000n);
  });

  it("INT n is one step in all; INT3 pushes the next RIP", () => {
    const m = new TestMachine(`
      int3
    next: hlt
    h: pop rax
      hlt`);
    setGate(m.hardware, 3, m.at("h"));
    m.run();
    assertEquals(m.v.gpr(Gpr.RAX), BigInt(m.at("next")));
    assertEquals(m.v.step, 3);
  });
});

describe("protected mode", () => {
  it("delivers through 32-bit gates with a stack switch", () => {
    const m = new TestMachine(
      `
      push ${SELECTOR.userData}
      push ${PLACE.userStack}
      push 0x202
      push ${SELECTOR.userCode32}
      push user
      iretd
    user: mov ax, ds
      int 0x30
    back: int 0x31
    h30: mov ebx, esp
      mov edx, ss
      iretd
    h31: mov ecx, [esp + 12]
      hlt`,
      { mode: "protected" },
    );
    const wide = { type: 0xee, selector: SELECTOR.code32, wide: false };
    setGate(m.hardware, 0x30, m.at("h30"), wide);
    setGate(m.hardware, 0x31, m.at("h31"), wide);
    m.run();
    assertEquals(m.v.gpr(Gpr.RBX), BigInt(PLACE.innerStack - 20));
    assertEquals(m.v.gpr(Gpr.RDX), BigInt(SELECTOR.data));
    assertEquals(m.v.gpr(Gpr.RCX), BigInt(PLACE.userStack));
    // DS held a DPL 0 segment: the return to CPL 3 made it null.
    assertEquals(m.v.gpr(Gpr.RAX) & 0xffffn, 0n);
  });

  it("16-bit gates push words", () => {
    const m = new TestMachine(
      `
      int 0x30
    h30: mov ebx, esp
      hlt`,
      { mode: "protected" },
    );
    setGate(m.hardware, 0x30, m.at("h30"), {
      type: 0x86,
      selector: SELECTOR.code32,
      wide: false,
    });
    m.run();
    assertEquals(m.v.gpr(Gpr.RBX), BigInt(PLACE.stack - 6));
  });
});

describe("real mode", () => {
  it("goes through the vector table and IRET", () => {
    const m = new TestMachine(
      `
      mov ax, 0
      mov ds, ax
      mov word [0x40 * 4], handler
      mov word [0x40 * 4 + 2], 0
      sti
      int 0x40
      mov cx, 2
      hlt
    handler: mov bx, sp
      pushf
      pop dx
      iret`,
      { mode: "real" },
    );
    m.run(8);
    m.run(100);
    assertEquals(m.v.gpr(Gpr.RBX), BigInt(PLACE.stack - 6));
    assertEquals(m.v.gpr(Gpr.RDX) & 0x200n, 0n);
    assertEquals(m.v.gpr(Gpr.RCX), 2n);
    assertEquals(m.v.rflags & 0x200, 0x200);
  });
});
