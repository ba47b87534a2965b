/**
 * Whole guests: an assembled L1 runs an L2 that exits in many ways; the log of
 * its handler and the facts say what the hardware did.
 */
import { assert, assertEquals } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { Cr4, Efer } from "../../cpu/arch/flags.ts";
import { PLACE, SELECTOR } from "../../tests/support/machine.ts";
import { Pin, Primary, Secondary } from "./controls.ts";
import { ExitReason } from "./exit_reasons.ts";
import { VmcsField as F } from "./vmcs_fields.ts";
import { AT, type LogEntry, Run } from "./guest_testing.ts";

const R = ExitReason;

describe("an L1 with an L2", () => {
  it("sees CPUID, HLT, RDMSR, I/O and VMCALL exits", () => {
    const run = new Run(
      `
l2_cpuid:
  mov eax, 1
  cpuid
l2_hlt:
  hlt
l2_msr:
  mov ecx, 0x174
  rdmsr
l2_in:
  mov dx, 0x3fd
  in al, dx
l2_call:
  vmcall
`,
      {
        vmcs: (set) =>
          set(
            F.PrimaryControls,
            Primary.HltExiting | Primary.UnconditionalIoExiting,
          ),
      },
    );
    assertEquals(run.reasons, [R.Cpuid, R.Hlt, R.Rdmsr, R.Io, R.Vmcall]);
    assertEquals(run.log.map((e) => e.length), [2, 1, 2, 1, 3]);
    assertEquals(run.log[0].rip, run.label("l2_cpuid") + 5n);
    assertEquals(run.log[3].qualification, 0x03fd_0008n);
    assertEquals(run.exits.length, 5);
    assertEquals(run.entries.map((e) => e.launch), [
      true,
      false,
      false,
      false,
      false,
    ]);
    assertEquals(run.exits.every((e) => !e.owner), true);
  });

  it("runs without exits what the controls let pass", () => {
    const run = new Run(
      `
  mov ecx, 0x174
  mov eax, 0x1234
  xor edx, edx
  wrmsr
  xor eax, eax
  rdmsr
  mov r9, rax
  mov rax, cr3
  mov cr3, rax
  rdtsc
  pause
  sgdt [PROBE]
  vmcall
`,
      {
        vmcs: (set) => {
          set(F.PrimaryControls, Primary.MsrBitmaps);
          set(F.MsrBitmaps, AT.msrBitmap);
        },
      },
    );
    assertEquals(run.reasons, [R.Vmcall]);
    assertEquals(run.machine.v.gpr(9), 0x1234n);
  });

  it("takes EPT violations with their qualification and resumes", () => {
    const run = new Run(
      `
l2_write:
  mov byte ptr [PROBE + 0x123], 1
  mov al, [PROBE + 0x123]
  vmcall
`,
      { probe: 0x30n },
    );
    assertEquals(run.reasons, [R.EptViolation, R.Vmcall]);
    const [violation] = run.log;
    // Write, no rights, linear address valid, final; user and writable page.
    assertEquals(violation.qualification & 0x1ffn, 0x182n);
    assertEquals(violation.guestPhysical, BigInt(AT.probe + 0x123));
    assertEquals(violation.guestLinear, BigInt(AT.probe + 0x123));
    assertEquals(violation.rip, run.label("l2_write"));
    assertEquals(run.machine.word(AT.probe + 0x123, 1), 1n);
  });

  it("tells supervisor from user execution under MBEC", () => {
    const jump = `
  mov byte ptr [PROBE], 0xc3
  mov rax, PROBE
  call rax
  vmcall
`;
    const mbec = (set: (field: number, value: number) => void): void =>
      set(F.SecondaryControls, Secondary.ModeBasedExecute);
    const first = (probe: bigint, user: boolean): LogEntry => {
      const run = new Run(jump, {
        probe,
        vmcs: mbec,
        memory: ({ hardware }) => {
          if (user) return;
          // Supervisor linear addresses: clear U/S in the page directory entry.
          const pde = PLACE.tables + 0x2000;
          hardware.physical.writeU64(pde, 0x83n);
        },
      });
      return run.log[0];
    };
    // RW + XS: fetch from a user linear address, then from a supervisor one.
    const xs = first(0x37n, true);
    assertEquals(xs.reason, R.EptViolation);
    assertEquals(xs.qualification & 0x1ffn, 0x1bcn);
    assertEquals(first(0x37n, false).reason, R.Vmcall);
    // RW + XU: the other way round.
    const xu = first(0x433n, false);
    assertEquals(xu.qualification & 0x1ffn, 0x1dcn);
    assertEquals(first(0x433n, true).reason, R.Vmcall);
  });

  it("reports EPT misconfigurations", () => {
    const run = new Run(
      `
  mov al, [PROBE]
  vmcall
`,
      {
        probe: 0x2n,
        vmcs: (set) => set(F.HostRip, 0n),
      },
    );
    // Host RIP 0 stops the log: the fact tells.
    assertEquals(run.exits[0].reason, R.EptMisconfiguration);
    assertEquals(run.exits[0].guestPhysical, BigInt(AT.probe));
    assertEquals(run.exits[0].qualification, 0n);
  });

  it("steps by the monitor trap flag", () => {
    const run = new Run(
      `
m0: nop
m1: mov eax, 5
m2: inc eax
m3: vmcall
`,
      { vmcs: (set) => set(F.PrimaryControls, Primary.MonitorTrapFlag) },
    );
    assertEquals(run.reasons, [
      R.MonitorTrapFlag,
      R.MonitorTrapFlag,
      R.MonitorTrapFlag,
      R.Vmcall,
    ]);
    assertEquals(
      run.log.map((e) => e.rip),
      ["m1", "m2", "m3", "m3"].map((l) => run.label(l)),
    );
  });

  it("intercepts exceptions by the bitmap, or lets L2 have them", () => {
    const exits = new Run("ud2", {
      vmcs: (set) => set(F.ExceptionBitmap, 1 << 6),
    });
    assertEquals(exits.reasons, [R.ExceptionOrNmi]);
    assertEquals(exits.log[0].interruption, 0x8000_0306);
    // Not intercepted, and the IDT is empty: #GP, #DF, triple fault.
    const triple = new Run("ud2", {
      vmcs: (set) => set(F.HostRip, 0n),
    });
    assertEquals(triple.exits[0].reason, R.TripleFault);
  });

  it("reports the event whose delivery met an EPT violation", () => {
    // The IDT page itself is unmapped: INT 0x21 meets it.
    const run = new Run(
      `
soft: int 0x21
`,
      {
        memory: ({ hardware }) => {
          const pt = AT.ept + 0x3000;
          hardware.physical.writeU64(pt + (PLACE.idt >> 12) * 8, 0n);
        },
        vmcs: (set) => set(F.HostRip, 0n),
      },
    );
    const [exit] = run.exits;
    assertEquals(exit.reason, R.EptViolation);
    assertEquals(exit.idtVectoringInfo, 0x8000_0421);
    assertEquals(exit.instructionLength, 2);
    assertEquals(exit.rip, run.label("soft"));
  });

  it("injects into L2 through its IDT", () => {
    const run = new Run(
      `
  hlt
handler:
  vmcall
`,
      {
        vmcs: (set) => {
          set(F.EntryInterruptionInformation, 0x8000_0b0d);
          set(F.EntryExceptionErrorCode, 0x18);
        },
        memory: (m) => {
          const handler = m.at("handler");
          const at = PLACE.idt + 13 * 16;
          m.hardware.physical.writeU64(
            at,
            BigInt(handler & 0xffff) | BigInt(SELECTOR.code64) << 16n |
              0x8en << 40n | BigInt(handler >>> 16) << 48n,
          );
          m.hardware.physical.writeU64(at + 8, 0n);
        },
      },
    );
    assertEquals(run.reasons, [R.Vmcall]);
    assertEquals(run.log[0].rip, run.label("handler"));
    // The frame ends with the error code at the stack's top.
    assertEquals(run.machine.word(PLACE.innerStack - 48), 0x18n);
    assertEquals(run.entries[0].injected, 0x8000_0b0d);
  });

  it("switches EPTPs by VMFUNC without an exit", () => {
    const run = new Run(
      `
  mov byte ptr [PROBE], 1
  xor eax, eax
  mov ecx, 1
  vmfunc
  mov r9b, [PROBE]
  vmcall
`,
      {
        vmcs: (set) => {
          set(F.SecondaryControls, Secondary.VmFunctions);
          set(F.VmFunctionControls, 1);
          set(F.EptpListAddress, AT.eptList);
        },
        memory: ({ hardware: { physical } }) => {
          // A second hierarchy that maps the probe page elsewhere.
          const other = 0x70000;
          for (let i = 0; i < 4096 * 4; i += 8) {
            let entry = physical.readU64(AT.ept + i);
            if (i < 4096 * 3 && entry !== 0n) entry += BigInt(other - AT.ept);
            physical.writeU64(other + i, entry);
          }
          const pt = other + 0x3000;
          physical.writeU64(pt + (AT.probe >> 12) * 8, 0x61437n);
          physical.write(0x61000, 1, 0x5an);
          physical.writeU64(AT.eptList + 8, BigInt(other | 0x1e));
        },
      },
    );
    assertEquals(run.reasons, [R.Vmcall]);
    assertEquals(run.machine.v.gpr(9) & 0xffn, 0x5an);
  });

  it("fails VMLAUNCH on bad controls, and exits with bit 31 on bad state", () => {
    const bad = new Run("vmcall", { vmcs: (set) => set(F.PinControls, 0n) });
    assertEquals(bad.log, []);
    assertEquals(bad.machine.word(bad.machine.at("error")), 7n);
    assert(bad.machine.word(bad.machine.at("flags")) & 0x40n);
    const state = new Run("vmcall", {
      vmcs: (set) => set(F.GuestRflags, 0n),
    });
    assertEquals(state.log[0].reason, 0x8000_0021);
  });

  it("runs an unrestricted guest in real mode", () => {
    const run = new Run(
      `
bits 16
real:
  mov ax, 0x1234
  mov bp, ax
  cpuid
  vmcall
`,
      {
        vmcs: (set) => {
          set(F.SecondaryControls, Secondary.UnrestrictedGuest);
          set(F.EntryControls, BigInt(0x11fb));
          set(F.GuestCr0, 0x30n);
          set(F.GuestCr4, BigInt(Cr4.VMXE));
          for (
            const [sel, limit, rights] of [
              [F.GuestSsSelector, F.GuestSsLimit, F.GuestSsAttributes],
              [F.GuestDsSelector, F.GuestDsLimit, F.GuestDsAttributes],
              [F.GuestEsSelector, F.GuestEsLimit, F.GuestEsAttributes],
              [F.GuestFsSelector, F.GuestFsLimit, F.GuestFsAttributes],
              [F.GuestGsSelector, F.GuestGsLimit, F.GuestGsAttributes],
              [F.GuestCsSelector, F.GuestCsLimit, F.GuestCsAttributes],
            ]
          ) {
            set(sel, 0n);
            set(limit, 0xffffn);
            set(rights, rights === F.GuestCsAttributes ? 0x9bn : 0x93n);
          }
        },
      },
    );
    assertEquals(run.reasons, [R.Cpuid, R.Vmcall]);
    assertEquals(run.machine.v.gpr(5) & 0xffffn, 0x1234n);
    assertEquals(run.machine.v.efer & Efer.LMA, Efer.LMA);
  });

  it("ends by the preemption timer after virtual time", () => {
    const run = new Run(
      `
spin: jmp spin
`,
      {
        vmcs: (set) => {
          set(F.PinControls, Pin.PreemptionTimer);
          set(F.PreemptionTimer, 10);
          set(F.HostRip, 0n);
        },
      },
    );
    assertEquals(run.exits[0].reason, R.PreemptionTimer);
  });
});
