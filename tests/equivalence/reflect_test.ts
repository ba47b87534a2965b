/**
 * Giving an exit of L2 to L1 (SDM 3C ch. 28 on vmcs12), seen on a whole
 * machine: what vmcs12 then holds and in which state L1 goes on.
 */
import { assert, assertEquals } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { definePlugin } from "../../core/mod.ts";
import { type Hardware, HardwareAccess } from "../../cpu/hardware.ts";
import { Gpr, Seg } from "../../cpu/layout.ts";
import {
  type HvciGuest,
  hvciGuest,
  ORIGIN,
  PAGE,
  Right,
  strictPolicy,
} from "../../examples/guests/hvci.ts";
import { machines } from "../../host/machine.ts";
import { defineScenario } from "../../host/scenario/define.ts";
import { ExitReason, Vmcs, VmcsField as F } from "../../plugins/vmx/api.ts";
import { NestedReflected } from "../../plugins/hypervisor/api.ts";
import { hypervisor } from "../../plugins/hypervisor/plugin.ts";

const VMCS12 = 0x109000;

interface Reflection {
  readonly hardware: Hardware;
  readonly vmcs12: Vmcs;
  readonly guest: HvciGuest;
  readonly reason: number;
}

/** Runs until L0 gives L1 the n-th exit, and stops before L1's next step. */
function untilReflected(guest: HvciGuest, n = 1): Reflection {
  let hardware: Hardware | undefined;
  const peek = definePlugin({
    name: "peek",
    version: "1.0.0",
    doc: "Lends the test the hardware",
    role: "participant",
    needs: { hardware: HardwareAccess },
    setup({ use }) {
      hardware = use.hardware;
      return undefined;
    },
  });
  const kernel = machines.create(
    defineScenario({
      machine: { cpu: "skylake-server", memory: "2MiB" },
      guest: { flat: "guest", at: ORIGIN, mode: "long" },
    }),
    new Map([["guest", guest.image]]),
    {
      engine: "reference",
      uses: [{ plugin: peek }, { plugin: hypervisor }],
    },
  );
  let reason = -1;
  let seen = 0;
  kernel.watch(NestedReflected, (payload) => {
    if (++seen === n) {
      reason = payload.reason;
      kernel.pause();
    }
    return undefined;
  });
  const { kind } = kernel.run({ untilStep: 100_000 });
  assertEquals(kind, "paused");
  const { physical } = hardware!;
  return {
    hardware: hardware!,
    vmcs12: new Vmcs(physical, VMCS12),
    guest,
    reason,
  };
}

/** L2 writes a page that L1's policy gives no write right. */
function forbiddenWrite(): HvciGuest {
  const policy = strictPolicy();
  policy.set(PAGE.D0, Right.R);
  const code = "mov rbx, 0x1122334455667788\nmov [0x14d018], rbx\nsyscall";
  return hvciGuest({ policy, script: [{ page: 0, code }] });
}

describe("an EPT violation given to L1", () => {
  it("leaves L2's state in vmcs12", () => {
    const { vmcs12, guest, reason } = untilReflected(forbiddenWrite());
    assertEquals(reason, ExitReason.EptViolation);
    assertEquals(vmcs12.read32(F.ExitReason), ExitReason.EptViolation);
    // Write, L1's rights R, linear valid, final access, user-mode, writable page.
    assertEquals(vmcs12.read(F.ExitQualification), 0x78an);
    assertEquals(vmcs12.read(F.GuestPhysicalAddress), 0x14d018n);
    assertEquals(vmcs12.read(F.GuestLinearAddress), 0x14d018n);
    // The store after a ten-byte MOV.
    const line = guest.symbols.get("line_0")!;
    assertEquals(vmcs12.read(F.GuestRip), line + 10n);
    assertEquals(vmcs12.read32(F.GuestCsSelector), 0x2b);
    assertEquals(vmcs12.read32(F.GuestRflags), 0x10202);
    assertEquals(vmcs12.read32(F.IdtVectoringInformation), 0);
  });
  it("has L1 go on at its host state (SDM 3C §28.5)", () => {
    const { hardware, guest } = untilReflected(forbiddenWrite());
    const { v } = hardware.cpus[0];
    assertEquals(v.rip, guest.symbols.get("exit"));
    assertEquals(v.gpr(Gpr.RSP), guest.symbols.get("STACK1"));
    assertEquals(v.rflags, 2);
    assertEquals(v.cpl, 0);
    assertEquals(v.segment(Seg.CS).selector, 8);
    assertEquals(v.segment(Seg.CS).attributes & 0x2000, 0x2000);
    assertEquals(v.segment(Seg.TR).limit, 0x67);
    assertEquals(v.cr3, 0x98000);
    assertEquals(v.dr(7), 0x400n);
    // L2's general registers are L1's to save.
    assertEquals(v.gpr(Gpr.RBX), 0x1122334455667788n);
  });
  it("changes no control of vmcs12", () => {
    const { vmcs12 } = untilReflected(forbiddenWrite());
    assertEquals(vmcs12.read32(F.ExceptionBitmap), 0);
    assertEquals(vmcs12.read(F.Eptp), 0x10b01en);
    assertEquals(vmcs12.read32(F.Vpid), 1);
    assertEquals(vmcs12.read(F.HostRsp), 0x108000n);
  });
});

describe("a misconfigured entry of L1's", () => {
  it("is a misconfiguration for L1, without qualification or linear address", () => {
    const policy = strictPolicy();
    policy.set(PAGE.D0, Right.W);
    const { vmcs12, reason } = untilReflected(hvciGuest({
      policy,
      script: [{ page: 0, code: "mov rax, [0x14d020]\nsyscall" }],
    }));
    assertEquals(reason, ExitReason.EptMisconfiguration);
    assertEquals(vmcs12.read(F.ExitQualification), 0n);
    assertEquals(vmcs12.read(F.GuestLinearAddress), 0n);
    assertEquals(vmcs12.read(F.GuestPhysicalAddress), 0x14d020n);
  });
});

describe("an instruction's exit", () => {
  it("carries its length", () => {
    const { vmcs12 } = untilReflected(hvciGuest({
      script: [{ page: 0, code: "cpuid\nsyscall" }],
    }));
    assertEquals(vmcs12.read32(F.ExitReason), ExitReason.Cpuid);
    assertEquals(vmcs12.read32(F.ExitInstructionLength), 2);
  });
});

describe("an event whose delivery the policy stops", () => {
  it("is in the IDT-vectoring field", () => {
    const policy = strictPolicy();
    // Without its IDT L2 can deliver nothing.
    policy.set(0x147, 0);
    const { vmcs12 } = untilReflected(hvciGuest({
      policy,
      script: [{ page: 0, code: "ud2" }],
    }));
    assertEquals(vmcs12.read32(F.ExitReason), ExitReason.EptViolation);
    const vectoring = vmcs12.read32(F.IdtVectoringInformation);
    assert(vectoring & 0x8000_0000);
    assertEquals(vectoring & 0x7ff, 3 << 8 | 6);
    assertEquals(vmcs12.read(F.GuestPhysicalAddress), 0x147060n);
  });
});
