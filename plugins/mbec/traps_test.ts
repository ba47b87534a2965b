/** Arming and disarming the escalation traps: what exits, and that nothing stays behind. */
import { assert, assertEquals } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { Efer, Rflags } from "../../cpu/arch/flags.ts";
import { Interruptibility } from "../../cpu/layout.ts";
import { Pin, Primary, Secondary, VmcsField as F } from "../vmx/api.ts";
import { makeRig, type Rig } from "./mbec_rig.ts";
import {
  arm,
  disarm,
  holdInterrupts,
  setStep,
  type TrapCells,
} from "./traps.ts";

const CONTROLS = [
  F.PinControls,
  F.PrimaryControls,
  F.SecondaryControls,
  F.ExceptionBitmap,
  F.PageFaultErrorMask,
  F.PageFaultErrorMatch,
];

function cells(): TrapCells {
  return { armed: false, idtrLimit: 0, efer: 0, sysenterCs: 0 };
}

/** L1's controls, in vmcs12 and so in vmcs02. */
function rigWith(change: Readonly<Record<number, number>> = {}): Rig {
  const rig = makeRig();
  const controls: Record<number, number> = {
    [F.PinControls]: 0x16,
    [F.PrimaryControls]: Number(Primary.SecondaryControls),
    [F.SecondaryControls]: Secondary.Ept | Secondary.ModeBasedExecute,
    [F.ExceptionBitmap]: 1 << 6,
    [F.PageFaultErrorMask]: 5,
    [F.PageFaultErrorMatch]: 4,
    ...change,
  };
  for (const field of CONTROLS) {
    rig.fields12.set(field, BigInt(controls[field]));
    rig.fields.set(field, BigInt(controls[field]));
  }
  rig.fields.set(F.GuestIdtrLimit, 0xfffn);
  rig.fields.set(F.GuestEfer, 0xd01n);
  rig.fields.set(F.GuestSysenterCs, 8n);
  rig.fields.set(F.GuestRflags, BigInt(Rflags.IF));
  return rig;
}

const bits = (rig: Rig, field: number): number =>
  Number(rig.fields.get(field) ?? 0n);

describe("escalation traps", () => {
  it("make every way into supervisor mode exit", () => {
    const rig = rigWith();
    arm(rig.context, cells());
    assertEquals(bits(rig, F.GuestIdtrLimit), 0);
    assertEquals(bits(rig, F.GuestSysenterCs), 0);
    assertEquals(bits(rig, F.GuestEfer) & Efer.SCE, 0);
    assertEquals(bits(rig, F.ExceptionBitmap), 0xffffffff);
    // Bit 14 set with mask and match 0: every #PF exits (SDM 3C §25.6.3).
    assertEquals(bits(rig, F.PageFaultErrorMask), 0);
    assertEquals(bits(rig, F.PageFaultErrorMatch), 0);
    assert(bits(rig, F.PinControls) & Pin.ExternalInterruptExiting);
    assert(bits(rig, F.PinControls) & Pin.NmiExiting);
    assert(bits(rig, F.SecondaryControls) & Secondary.DescriptorTableExiting);
  });
  for (
    const [what, change] of [
      ["a plain L1", {}],
      ["an L1 that takes interrupts", { [F.PinControls]: 0x1f }],
      ["an L1 that takes descriptor-table accesses", {
        [F.SecondaryControls]: Secondary.Ept | Secondary.DescriptorTableExiting,
      }],
      ["an L1 with an open window", {
        [F.PrimaryControls]: (Primary.SecondaryControls |
          Primary.InterruptWindowExiting) >>> 0,
      }],
    ] as const
  ) {
    it(`leave nothing behind: ${what}`, () => {
      const rig = rigWith(change);
      const before = new Map(rig.fields);
      const state = cells();
      arm(rig.context, state);
      holdInterrupts(rig.context);
      disarm(rig.context, state);
      assertEquals(rig.fields, before);
      assertEquals(state.armed, false);
    });
  }
  it("are armed once: a second time does not take trap state for L2's own", () => {
    const rig = rigWith();
    const state = cells();
    arm(rig.context, state);
    arm(rig.context, state);
    disarm(rig.context, state);
    assertEquals(bits(rig, F.GuestIdtrLimit), 0xfff);
    disarm(rig.context, state);
    assertEquals(bits(rig, F.GuestIdtrLimit), 0xfff);
  });
  it("keep an L2 without SYSCALL without it", () => {
    const rig = rigWith();
    rig.fields.set(F.GuestEfer, 0xd00n);
    const state = cells();
    arm(rig.context, state);
    disarm(rig.context, state);
    assertEquals(bits(rig, F.GuestEfer), 0xd00);
  });
  it("leave NMIs alone while L2 has them blocked", () => {
    const rig = rigWith();
    rig.fields.set(F.GuestInterruptibility, BigInt(Interruptibility.ByNmi));
    arm(rig.context, cells());
    assertEquals(bits(rig, F.PinControls) & Pin.NmiExiting, 0);
    assert(bits(rig, F.PinControls) & Pin.ExternalInterruptExiting);
  });
  it("wait for the window when L2 masks the interrupt", () => {
    const rig = rigWith();
    arm(rig.context, cells());
    holdInterrupts(rig.context);
    assertEquals(bits(rig, F.PinControls) & Pin.ExternalInterruptExiting, 0);
    assert(bits(rig, F.PrimaryControls) & Primary.InterruptWindowExiting);
    assert(bits(rig, F.PinControls) & Pin.NmiExiting);
  });
});

describe("the single step", () => {
  it("is L0's while wanted, and L1's afterwards", () => {
    for (const own of [0, Primary.MonitorTrapFlag]) {
      const rig = rigWith({
        [F.PrimaryControls]: (Primary.SecondaryControls | own) >>> 0,
      });
      setStep(rig.context, true);
      assert(bits(rig, F.PrimaryControls) & Primary.MonitorTrapFlag);
      setStep(rig.context, false);
      assertEquals(bits(rig, F.PrimaryControls) & Primary.MonitorTrapFlag, own);
    }
  });
});
