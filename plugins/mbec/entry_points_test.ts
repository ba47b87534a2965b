/** Finding the pages by which user code can enter supervisor code. */
import { assertEquals } from "@std/assert";
import { beforeEach, describe, it } from "@std/testing/bdd";
import { Msr } from "../../cpu/arch/msr.ts";
import { VmcsField as F } from "../vmx/api.ts";
import { entryPages } from "./entry_points.ts";
import { makeRig, type Rig } from "./mbec_rig.ts";

const IDT = 0x1000;
const GDT = 0x2000;
const LDT = 0x2800;
const CALL_GATE = 0xc;
const INTERRUPT_GATE = 0xe;
const TSS = 0xb;
const PRESENT = 0x80;
const DPL3 = 0x60;
const UNUSABLE = 0x1_0000n;

let rig: Rig;
beforeEach(() => {
  rig = makeRig();
  rig.fields.set(F.GuestIdtrBase, BigInt(IDT));
  rig.fields.set(F.GuestGdtrBase, BigInt(GDT));
  rig.fields.set(F.GuestLdtrAttributes, UNUSABLE);
});

/** Writes a gate (SDM 3A §5.8.3, §6.11). */
function gate(at: number, type: number, target: number): void {
  const view = new DataView(rig.memory.buffer);
  view.setUint16(at, target & 0xffff, true);
  view.setUint16(at + 2, 8, true);
  view.setUint8(at + 5, type);
  view.setUint16(at + 6, target >>> 16, true);
}

function protectedMode(): void {
  Object.assign(rig.context.paging(), { efer: 0 });
}

function pages(which: {
  interrupts?: boolean;
  fastCalls?: boolean;
  callGates?: boolean;
}): number[] {
  const found = entryPages(rig.context, {
    interrupts: false,
    fastCalls: false,
    callGates: false,
    ...which,
  });
  return [...found].sort((a, b) => a - b);
}

describe("gates of the IDT", () => {
  it("are 16 bytes wide in long mode, within the limit, and present", () => {
    rig.fields.set(F.GuestIdtrLimit, 3n * 16n - 1n);
    gate(IDT, PRESENT | INTERRUPT_GATE, 0x3010);
    gate(IDT + 16, INTERRUPT_GATE, 0x4010);
    gate(IDT + 32, PRESENT | DPL3 | INTERRUPT_GATE, 0x5010);
    gate(IDT + 48, PRESENT | INTERRUPT_GATE, 0x6010);
    assertEquals(pages({ interrupts: true }), [3, 5]);
  });
  it("are 8 bytes wide otherwise", () => {
    protectedMode();
    rig.fields.set(F.GuestIdtrLimit, 15n);
    gate(IDT, PRESENT | INTERRUPT_GATE, 0x3010);
    gate(IDT + 8, PRESENT | INTERRUPT_GATE, 0x4010);
    assertEquals(pages({ interrupts: true }), [3, 4]);
  });
  it("are none where the table doesn't translate", () => {
    rig.fields.set(F.GuestIdtrBase, 0x10_0000n);
    rig.fields.set(F.GuestIdtrLimit, 0xfffn);
    assertEquals(pages({ interrupts: true }), []);
  });
});

describe("fast calls", () => {
  it("enter at LSTAR, CSTAR and SYSENTER_EIP", () => {
    rig.msrs.set(Msr.LSTAR, 0x3000n);
    rig.msrs.set(Msr.CSTAR, 0x4fffn);
    rig.fields.set(F.GuestSysenterEip, 0x5000n);
    assertEquals(pages({ fastCalls: true }), [3, 4, 5]);
  });
  it("enter nowhere while the registers are zero", () => {
    assertEquals(pages({ fastCalls: true }), []);
  });
});

describe("call gates", () => {
  it("are found behind 16-byte system descriptors in long mode", () => {
    rig.fields.set(F.GuestGdtrLimit, 0x37n);
    gate(GDT + 8, PRESENT | TSS, 0x3000);
    // The upper half of the TSS descriptor is no descriptor, whatever it holds.
    gate(GDT + 16, PRESENT | CALL_GATE, 0x4000);
    gate(GDT + 24, PRESENT | DPL3 | CALL_GATE, 0x5000);
    assertEquals(pages({ callGates: true }), [5]);
  });
  it("are not code segments, absent gates, or the null descriptor", () => {
    rig.fields.set(F.GuestGdtrLimit, 0x2fn);
    gate(GDT, PRESENT | CALL_GATE, 0x3000);
    gate(GDT + 8, PRESENT | 0x10 | CALL_GATE, 0x4000);
    gate(GDT + 16, CALL_GATE, 0x5000);
    assertEquals(pages({ callGates: true }), []);
  });
  it("cut off by the limit don't count", () => {
    rig.fields.set(F.GuestGdtrLimit, 0x0fn);
    gate(GDT + 8, PRESENT | CALL_GATE, 0x3000);
    assertEquals(pages({ callGates: true }), []);
  });
  it("lie in the LDT too, if there is one", () => {
    protectedMode();
    rig.fields.set(F.GuestLdtrBase, BigInt(LDT));
    rig.fields.set(F.GuestLdtrLimit, 0x17n);
    gate(LDT + 8, PRESENT | CALL_GATE, 0x3000);
    gate(LDT + 16, PRESENT | CALL_GATE, 0x4000);
    assertEquals(pages({ callGates: true }), []);
    rig.fields.set(F.GuestLdtrAttributes, 0x82n);
    assertEquals(pages({ callGates: true }), [3, 4]);
  });
});
