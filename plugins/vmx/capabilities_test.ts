/** Capability MSRs: only what is modelled, by CPU model (SDM 3D appendix A). */
import { assert, assertEquals } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { parseModel } from "../../cpu/arch/models.ts";
import {
  capabilitiesOf,
  EptVpidCapability as E,
  VmxMsr,
} from "./capabilities.ts";
import {
  DEFAULT1,
  Entry,
  Exit,
  Pin,
  Primary,
  Secondary,
  TRUE_ALLOWED_ZERO,
} from "./controls.ts";

const of = (model: string) => capabilitiesOf(parseModel(model));
const may1 = (value: bigint | undefined): number =>
  Number((value ?? 0n) >> 32n);
const must1 = (value: bigint | undefined): number =>
  Number((value ?? 0n) & 0xffff_ffffn);

/** Secondary controls that nothing here models. */
const UNMODELLED_SECONDARY = ~(Secondary.Ept |
  Secondary.DescriptorTableExiting | Secondary.Rdtscp | Secondary.Vpid |
  Secondary.WbinvdExiting | Secondary.UnrestrictedGuest |
  Secondary.RdrandExiting | Secondary.Invpcid | Secondary.VmFunctions |
  Secondary.RdseedExiting | Secondary.EnableXsaves |
  Secondary.ModeBasedExecute |
  Secondary.TscScaling) >>> 0;

describe("VMX capabilities", () => {
  it("show MBEC by CPU model", () => {
    const mbec = (model: string): boolean =>
      (of(model).secondary.may1 & Secondary.ModeBasedExecute) !== 0;
    assertEquals(mbec("haswell-server"), false);
    assertEquals(mbec("skylake-server"), true);
    assertEquals(mbec("skylake-server,-vmx-mbec"), false);
    assertEquals(mbec("skylake-server,-vmx-ept"), false);
  });

  it("never show what is not modelled", () => {
    for (const model of ["haswell-server", "skylake-server", "max-intel"]) {
      const c = of(model);
      assertEquals((c.secondary.may1 & UNMODELLED_SECONDARY) >>> 0, 0);
      assertEquals(c.secondary.must1, 0);
      // TPR shadow, tertiary controls.
      assertEquals(c.primary.may1 & (Primary.TprShadow | 1 << 17), 0);
      // Posted interrupts.
      assertEquals(c.pin.may1 & 1 << 7, 0);
      // IA32_PERF_GLOBAL_CTRL, BNDCFGS, processor trace, CET, PKRS.
      assertEquals(c.exit.may1 & (1 << 12 | 1 << 23 | 1 << 24 | 3 << 28), 0);
      assertEquals(c.entry.may1 & (3 << 10 | 1 << 13 | 1 << 16 | 1 << 20), 0);
      for (const index of [0x492, 0x493]) assertEquals(c.msr(index), undefined);
      assertEquals(c.vmFunctions & ~1, 0);
    }
  });

  it("agree between true and default MSRs", () => {
    const c = of("max-intel");
    const pairs = [
      [VmxMsr.PinControls, VmxMsr.TruePinControls, "pin"],
      [VmxMsr.PrimaryControls, VmxMsr.TruePrimaryControls, "primary"],
      [VmxMsr.ExitControls, VmxMsr.TrueExitControls, "exit"],
      [VmxMsr.EntryControls, VmxMsr.TrueEntryControls, "entry"],
    ] as const;
    for (const [plain, exact, word] of pairs) {
      assertEquals(may1(c.msr(plain)), may1(c.msr(exact)), word);
      assertEquals(must1(c.msr(plain)), DEFAULT1[word] >>> 0, word);
      assertEquals(
        must1(c.msr(exact)),
        (DEFAULT1[word] & ~TRUE_ALLOWED_ZERO[word]) >>> 0,
        word,
      );
      // What must be 1 may be 1.
      assertEquals(must1(c.msr(plain)) & ~may1(c.msr(plain)), 0, word);
      assertEquals(c[word].may1, may1(c.msr(exact)), word);
      assertEquals(c[word].must1, must1(c.msr(exact)), word);
    }
  });

  it("show the basics that software relies on", () => {
    const c = of("skylake-server");
    const basic = c.msr(VmxMsr.Basic) ?? 0n;
    assertEquals(Number(basic & 0x7fff_ffffn), c.model.vmcsRevision);
    assertEquals(basic >> 32n & 0x1fffn, 4096n);
    assertEquals(basic >> 50n & 0xfn, 6n);
    assertEquals(basic >> 54n & 3n, 3n);
    assertEquals(c.msr(VmxMsr.Cr0Fixed0), 0x8000_0021n);
    assertEquals(c.msr(VmxMsr.Cr4Fixed0), 0x2000n);
    assertEquals((c.msr(VmxMsr.Cr4Fixed1) ?? 0n) & 0x10_2000n, 0x10_2000n);
    assert((c.msr(VmxMsr.Misc) ?? 0n) & 1n << 5n);
    for (
      const bits of [
        Pin.ExternalInterruptExiting | Pin.NmiExiting | Pin.VirtualNmis |
        Pin.PreemptionTimer,
      ]
    ) assertEquals(c.pin.may1 & bits, bits);
    for (
      const bits of [
        Primary.MonitorTrapFlag,
        Primary.MsrBitmaps,
        Primary.IoBitmaps,
        Primary.SecondaryControls,
      ]
    ) assert(c.primary.may1 & bits);
    assert(c.exit.may1 & Exit.LoadEfer && c.exit.may1 & Exit.SavePat);
    assert(c.entry.may1 & Entry.LoadEfer);
  });

  it("follow EPT flags of the model", () => {
    assertEquals(
      of("max-intel").eptVpid & (E.ExecuteOnly | E.AccessedDirty),
      E.ExecuteOnly | E.AccessedDirty,
    );
    assertEquals(of("max-intel,-vmx-eptad").eptVpid & E.AccessedDirty, 0n);
    assertEquals(
      of("max-intel,-vmx-ept-execonly").eptVpid & E.ExecuteOnly,
      0n,
    );
    assertEquals(of("haswell-server").eptVpid & E.AdvancedInformation, 0n);
    assert(of("skylake-server").eptVpid & E.AdvancedInformation);
    const none = of("max-intel,-vmx-ept,-vmx-vpid");
    assertEquals(none.eptVpid, 0n);
    assertEquals(none.msr(VmxMsr.EptVpid), undefined);
    assertEquals(none.vmFunctions, 0);
    assertEquals(
      none.secondary.may1 &
        (Secondary.UnrestrictedGuest | Secondary.VmFunctions),
      0,
    );
    assertEquals(
      of("max-intel,-vmx-secondary-ctls").secondary.may1,
      0,
    );
  });
});
