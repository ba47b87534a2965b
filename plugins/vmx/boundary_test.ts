/**
 * What happens between instructions of a guest: MTF, windows, the preemption
 * timer, interrupts and NMIs (SDM 3C §26.5); and exceptions that exit
 * (§26.2, §25.6.3).
 */
import { assert, assertEquals } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { EventRequest, Interruptibility } from "../../cpu/layout.ts";
import { Exit, Pin, Primary } from "./controls.ts";
import { vmExit } from "./exit.ts";
import { ExitReason } from "./exit_reasons.ts";
import { enter, rigWith } from "./vmx_testing.ts";
import { VmcsField as F } from "./vmcs_fields.ts";

describe("boundary conditions", () => {
  it("MTF exits after one step, not before", () => {
    const rig = rigWith((d) =>
      d.on(F.PrimaryControls, Primary.MonitorTrapFlag)
    );
    enter(rig);
    const { v } = rig.cpu;
    assert(v.eventRequest & EventRequest.VirtualizationStep);
    assertEquals(rig.port.boundary(rig.cpu, 0), false);
    v.step += 1;
    assertEquals(rig.port.boundary(rig.cpu, 0), true);
    assertEquals(rig.vmcs.read32(F.ExitReason), ExitReason.MonitorTrapFlag);
    assertEquals(v.eventRequest, 0);
  });

  it("an injected MTF exits at once", () => {
    const rig = rigWith((d) =>
      d.set(F.EntryInterruptionInformation, 0x8000_0700)
    );
    enter(rig);
    assertEquals(rig.delivered, []);
    assertEquals(rig.port.boundary(rig.cpu, 0), true);
    assertEquals(rig.vmcs.read32(F.EntryInterruptionInformation), 0x700);
  });

  it("windows open by RFLAGS.IF and blocking", () => {
    const open = (rflags: number, blocking: number): boolean => {
      const rig = rigWith((d) =>
        d.on(F.PrimaryControls, Primary.InterruptWindowExiting)
          .set(F.GuestRflags, rflags).set(F.GuestInterruptibility, blocking)
      );
      enter(rig);
      return rig.port.boundary(rig.cpu, 2);
    };
    assertEquals(open(0x202, 0), true);
    assertEquals(open(2, 0), false);
    assertEquals(open(0x202, Interruptibility.BySti), false);
    assertEquals(open(0x202, Interruptibility.ByMovSs), false);
    const nmi = (blocking: number): boolean => {
      const rig = rigWith((d) =>
        d.on(F.PrimaryControls, Primary.NmiWindowExiting)
          .on(F.PinControls, Pin.NmiExiting | Pin.VirtualNmis)
          .set(F.GuestInterruptibility, blocking)
      );
      enter(rig);
      return rig.port.boundary(rig.cpu, 1);
    };
    assertEquals(nmi(0), true);
    assertEquals(nmi(Interruptibility.ByNmi), false);
    assertEquals(nmi(Interruptibility.ByMovSs), false);
  });

  it("the preemption timer counts virtual time", () => {
    const rig = rigWith((d) =>
      d.on(F.PinControls, Pin.PreemptionTimer)
        .on(F.ExitControls, Exit.SavePreemptionTimer)
        .set(F.PreemptionTimer, 10)
    );
    rig.now = 100;
    enter(rig);
    assertEquals(rig.timer, 110);
    rig.now = 109;
    rig.unit.timerFired();
    assertEquals(rig.port.boundary(rig.cpu, 0), false);
    rig.now = 110;
    rig.unit.timerFired();
    assert(rig.cpu.v.eventRequest & EventRequest.Virtualization);
    assertEquals(rig.port.boundary(rig.cpu, 0), true);
    assertEquals(rig.vmcs.read32(F.ExitReason), ExitReason.PreemptionTimer);
    assertEquals(rig.vmcs.read32(F.PreemptionTimer), 0);
    assertEquals(rig.timer, undefined);
    const early = rigWith((d) =>
      d.on(F.PinControls, Pin.PreemptionTimer)
        .on(F.ExitControls, Exit.SavePreemptionTimer)
        .set(F.PreemptionTimer, 10)
    );
    enter(early);
    early.now = 4;
    vmExit(early.unit, early.cpu, { reason: ExitReason.Hlt });
    assertEquals(early.vmcs.read32(F.PreemptionTimer), 6);
  });

  it("external interrupts exit, acknowledged or not", () => {
    for (const acknowledge of [false, true]) {
      const rig = rigWith((d) => {
        d.on(F.PinControls, Pin.ExternalInterruptExiting);
        if (acknowledge) d.on(F.ExitControls, Exit.AcknowledgeInterrupt);
      });
      enter(rig);
      rig.vector = 0x31;
      assertEquals(rig.port.acceptsMaskedInterrupt(rig.cpu), true);
      assertEquals(rig.port.interceptInterrupt(rig.cpu), true);
      assertEquals(rig.vmcs.read32(F.ExitReason), ExitReason.ExternalInterrupt);
      assertEquals(
        rig.vmcs.read32(F.ExitInterruptionInformation),
        acknowledge ? 0x8000_0031 : 0,
      );
    }
    const none = rigWith();
    enter(none);
    assertEquals(none.port.interceptInterrupt(none.cpu), false);
  });

  it("NMIs exit and stay blocked", () => {
    const rig = rigWith((d) => d.on(F.PinControls, Pin.NmiExiting));
    enter(rig);
    assertEquals(rig.port.interceptNmi(rig.cpu), true);
    assertEquals(
      rig.vmcs.read32(F.ExitInterruptionInformation),
      0x8000_0202,
    );
    assertEquals(rig.cpu.v.interruptibility, Interruptibility.ByNmi);
  });
});

describe("exceptions", () => {
  it("exit by bitmap, #PF by mask and match", () => {
    const exits = (bitmap: number, mask: number, match: number): boolean => {
      const rig = rigWith((d) =>
        d.set(F.ExceptionBitmap, bitmap).set(F.PageFaultErrorMask, mask)
          .set(F.PageFaultErrorMatch, match)
      );
      enter(rig);
      rig.cpu.v.raise(14, 7, 0x1234_5678_9abcn);
      const exited = rig.port.interceptException(rig.cpu);
      if (exited) {
        assertEquals(rig.vmcs.read(F.ExitQualification), 0x1234_5678_9abcn);
        assertEquals(rig.vmcs.read32(F.ExitInterruptionErrorCode), 7);
        assertEquals(
          rig.vmcs.read32(F.ExitInterruptionInformation),
          0x8000_0b0e,
        );
      }
      return exited;
    };
    const PF = 1 << 14;
    assertEquals(exits(PF, 0, 0), true);
    assertEquals(exits(0, 0, 0), false);
    assertEquals(exits(PF, 1, 1), true);
    assertEquals(exits(PF, 1, 0), false);
    assertEquals(exits(0, 1, 0), true);
    assertEquals(exits(0, 16, 16), true);
    assertEquals(exits(0, 7, 7), false);
  });

  it("of software carry type and instruction length", () => {
    const rig = rigWith((d) => d.set(F.ExceptionBitmap, 1 << 3));
    enter(rig);
    rig.decode([0xcc]);
    rig.cpu.v.raise(3, -1, 0n, true);
    assertEquals(rig.port.interceptException(rig.cpu), true);
    assertEquals(rig.vmcs.read32(F.ExitInterruptionInformation), 0x8000_0603);
    assertEquals(rig.vmcs.read32(F.ExitInstructionLength), 1);
  });

  it("after an IRET that unblocked NMIs set bit 12", () => {
    const rig = rigWith((d) =>
      d.on(F.PinControls, Pin.NmiExiting | Pin.VirtualNmis)
        .set(F.GuestInterruptibility, Interruptibility.ByNmi)
        .set(F.ExceptionBitmap, 1 << 13)
    );
    enter(rig);
    assertEquals(rig.port.keepsNmiBlocking(rig.cpu), true);
    rig.cpu.v.raise(13, 0);
    rig.port.interceptException(rig.cpu);
    assertEquals(rig.vmcs.read32(F.ExitInterruptionInformation), 0x8000_1b0d);
    assertEquals(rig.vmcs.read32(F.GuestInterruptibility), 0);
  });
});
