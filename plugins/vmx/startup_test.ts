/**
 * A guest in wait-for-SIPI (SDM 3C §25.2, §27.7.2): a start-up IPI exits with
 * its vector and changes nothing else, INIT is blocked, NMI and interrupts
 * wait; another vCPU can't be woken by anything but these.
 */
import { assertEquals } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { asleep, Boundary, boundary } from "../../cpu/engine/boundary.ts";
import { ActivityState, EventRequest, VCPU } from "../../cpu/layout.ts";
import { ExitReason } from "./exit_reasons.ts";
import { enter, rigWith } from "./vmx_testing.ts";
import { VmcsField as F } from "./vmcs_fields.ts";

function waiting() {
  const rig = rigWith((d) => d.set(F.GuestActivity, ActivityState.WaitForSipi));
  enter(rig);
  assertEquals(rig.cpu.v.activity, ActivityState.WaitForSipi);
  // Through the loop's boundary, with the plugin's port.
  Object.assign(rig.cpu, { virtualization: rig.port });
  return rig;
}

describe("a guest that waits for a start-up IPI", () => {
  it("exits with the vector, still waiting", () => {
    const { cpu, vmcs } = waiting();
    assertEquals(asleep(cpu), true);
    cpu.v.setWord(VCPU.sipiVector, 0x9a);
    cpu.v.eventRequest |= EventRequest.Sipi;
    assertEquals(asleep(cpu), false);
    assertEquals(boundary(cpu), Boundary.Again);
    assertEquals(vmcs.read32(F.ExitReason), ExitReason.Sipi);
    assertEquals(vmcs.read(F.ExitQualification), 0x9an);
    assertEquals(vmcs.read32(F.GuestActivity), ActivityState.WaitForSipi);
    assertEquals(cpu.v.activity, ActivityState.Active, "the host runs");
    assertEquals(cpu.v.eventRequest & EventRequest.Sipi, 0);
  });

  for (const name of ["Init", "Nmi", "Interrupt"] as const) {
    it(`${name} waits`, () => {
      const { cpu, vmcs } = waiting();
      const reason = vmcs.read32(F.ExitReason);
      cpu.v.eventRequest |= EventRequest[name];
      assertEquals(asleep(cpu), true);
      assertEquals(boundary(cpu), Boundary.Idle);
      assertEquals(vmcs.read32(F.ExitReason), reason);
      assertEquals(cpu.v.eventRequest, EventRequest[name]);
    });
  }
});
