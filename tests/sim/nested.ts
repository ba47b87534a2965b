/**
 * The VMCS of a nested random program: the long-mode runtime as L1, the same
 * runtime and body as its L2, controls drawn at random from what the model
 * allows. L1 writes the fields from a list in memory (runtime.ts).
 */
import type { RandomStream } from "../../core/mod.ts";
import { Cr4 } from "../../cpu/arch/flags.ts";
import { parseModel } from "../../cpu/arch/models.ts";
import { capabilitiesOf } from "../../plugins/vmx/capabilities.ts";
import {
  Entry,
  Exit,
  Pin,
  Primary,
  Secondary,
} from "../../plugins/vmx/controls.ts";
import { VmcsField as F } from "../../plugins/vmx/vmcs_fields.ts";
import type { Image, Settings } from "./memory.ts";
import { AT, SELECTOR, VAR } from "./places.ts";
import { runtimeOf } from "./runtime.ts";

/** Controls that a program may have, each with one chance in so many. */
const PIN: readonly (readonly [number, number])[] = [
  [Pin.ExternalInterruptExiting, 3],
  [Pin.NmiExiting, 3],
  [Pin.PreemptionTimer, 4],
];
const PRIMARY: readonly (readonly [number, number])[] = [
  [Primary.InterruptWindowExiting, 4],
  [Primary.TscOffsetting, 3],
  [Primary.HltExiting, 2],
  [Primary.InvlpgExiting, 3],
  [Primary.MwaitExiting, 2],
  [Primary.RdpmcExiting, 2],
  [Primary.RdtscExiting, 3],
  [Primary.Cr3LoadExiting, 3],
  [Primary.Cr3StoreExiting, 3],
  [Primary.Cr8LoadExiting, 3],
  [Primary.Cr8StoreExiting, 3],
  [Primary.MovDrExiting, 3],
  [Primary.UnconditionalIoExiting, 4],
  [Primary.IoBitmaps, 4],
  [Primary.MonitorTrapFlag, 5],
  [Primary.MsrBitmaps, 2],
  [Primary.MonitorExiting, 2],
  [Primary.PauseExiting, 3],
];
const SECONDARY: readonly (readonly [number, number])[] = [
  [Secondary.DescriptorTableExiting, 3],
  [Secondary.Rdtscp, 2],
  [Secondary.Vpid, 2],
  [Secondary.WbinvdExiting, 3],
  [Secondary.UnrestrictedGuest, 3],
  [Secondary.RdrandExiting, 3],
  [Secondary.Invpcid, 2],
  [Secondary.VmFunctions, 2],
  [Secondary.RdseedExiting, 3],
  [Secondary.ModeBasedExecute, 4],
];

/** INT3, which is a software exception to VMX and a plain one to SVM. */
const VMX_INT3 = 0x8000_0603, SVM_INT3 = 0x8000_0303;
/**
 * Events that L1 may inject beside what it reflects (SDM 3C table 25-17, APM 2
 * figure 15-5).
 */
const INJECTED: readonly (readonly [information: number, code: number])[] = [
  [0x8000_0312, 0], // #MC
  [0x8000_0313, 0], // #XM, #XF
  [0x8000_0306, 0],
  [0x8000_0b0d, 0x18],
  [0x8000_0b0b, 0x20],
  [0x8000_0b0a, 0x28],
  [0x8000_0b0c, 0],
  [0x8000_0b08, 0],
  [0x8000_0b11, 0],
  [0x8000_0202, 0], // NMI
  [0x8000_0030, 0], // interrupt
  [0x8000_0421, 0], // INT 21H
  [VMX_INT3, 0],
  [0x8000_0300, 0],
  [0x8000_0310, 0],
];

/** Fills in VMX regions, EPT and the list of fields. */
export function addNested(
  image: Image,
  cpu: string,
  settings: Settings,
  random: RandomStream,
): void {
  const model = parseModel(cpu);
  const c = capabilitiesOf(model);
  const symbols = runtimeOf("long").symbols;
  const pick = (
    list: readonly (readonly [number, number])[],
    allowed: { must1: number; may1: number },
  ): number => {
    let word = allowed.must1;
    for (const [bit, chance] of list) {
      const wanted = random.below(chance) === 0;
      if (wanted && (bit & allowed.may1) !== 0) word |= bit;
    }
    return word >>> 0;
  };
  const pin = pick(PIN, c.pin);
  const primary = pick(PRIMARY, c.primary) | Primary.SecondaryControls;
  const ept = (c.secondary.may1 & Secondary.Ept) !== 0;
  const secondary = pick(SECONDARY, c.secondary) | (ept ? Secondary.Ept : 0);
  let exit = c.exit.must1 | Exit.HostAddressSpaceSize;
  if (pin & Pin.ExternalInterruptExiting) exit |= Exit.AcknowledgeInterrupt;
  const entry = c.entry.must1 | Entry.Ia32eModeGuest;
  const fields = new Map<number, bigint>();
  const set = (field: number, value: number | bigint): void => {
    fields.set(
      field,
      typeof value === "bigint" ? value : BigInt(value >>> 0),
    );
  };
  set(F.PinControls, pin);
  set(F.PrimaryControls, primary);
  set(F.SecondaryControls, secondary);
  set(F.ExitControls, exit);
  set(F.EntryControls, entry);
  set(
    F.Eptp,
    AT.ept | (random.below(2) && model.hasVmx("vmx-eptad") ? 0x5e : 0x1e),
  );
  if (secondary & Secondary.Vpid) set(F.Vpid, 1 + random.below(9));
  set(F.VmcsLinkPointer, 0xffff_ffff_ffff_ffffn);
  set(F.MsrBitmaps, AT.msrBitmap);
  set(F.IoBitmapA, AT.ioBitmaps);
  set(F.IoBitmapB, AT.ioBitmaps + 0x1000);
  set(F.TscOffset, 0x1234_5678);
  if (pin & Pin.PreemptionTimer) set(F.PreemptionTimer, 9);
  if (secondary & Secondary.VmFunctions) {
    set(F.VmFunctionControls, model.hasVmx("vmx-eptp-switching") ? 1 : 0);
    set(F.EptpListAddress, AT.eptList);
  }
  set(
    F.ExceptionBitmap,
    random.below(3) === 0 ? random.u32() & ~(1 << 14) : 0,
  );
  const cr0 = (0x8000_0011 | settings.cr0) >>> 0;
  const cr4 = (0x20 | settings.cr4 | Cr4.VMXE) >>> 0;
  for (const f of [F.HostCr0, F.GuestCr0]) set(f, cr0);
  for (const f of [F.HostCr4, F.GuestCr4]) set(f, cr4);
  for (const f of [F.HostCr3, F.GuestCr3]) set(f, AT.pml4);
  if (random.below(2) === 0) {
    set(F.Cr0Mask, 1 << random.below(6));
    set(F.Cr4Mask, 0x2000 | 1 << random.below(12));
    set(F.Cr4Shadow, 0x20);
  }
  set(F.HostCsSelector, SELECTOR.code64);
  set(F.HostSsSelector, SELECTOR.data);
  set(F.HostTrSelector, SELECTOR.tss);
  set(F.HostTrBase, AT.tss);
  set(F.HostGdtrBase, AT.gdt);
  set(F.HostIdtrBase, AT.idt);
  set(F.HostRsp, AT.hostStack);
  set(F.HostRip, symbols.get("exit")!);
  const segments = [
    [F.GuestCsSelector, F.GuestCsLimit, F.GuestCsAttributes],
    [F.GuestSsSelector, F.GuestSsLimit, F.GuestSsAttributes],
    [F.GuestDsSelector, F.GuestDsLimit, F.GuestDsAttributes],
    [F.GuestEsSelector, F.GuestEsLimit, F.GuestEsAttributes],
    [F.GuestFsSelector, F.GuestFsLimit, F.GuestFsAttributes],
    [F.GuestGsSelector, F.GuestGsLimit, F.GuestGsAttributes],
  ];
  segments.forEach(([selector, limit, attributes], i) => {
    set(selector, i === 0 ? SELECTOR.code64 : SELECTOR.data);
    set(limit, 0xffff_ffff);
    set(attributes, i === 0 ? 0xa09b : 0xc093);
  });
  set(F.GuestLdtrAttributes, 0x1_0000);
  set(F.GuestTrSelector, SELECTOR.tss);
  set(F.GuestTrBase, AT.tss);
  set(F.GuestTrLimit, 0x67);
  set(F.GuestTrAttributes, 0x8b);
  set(F.GuestGdtrBase, AT.gdt);
  set(F.GuestGdtrLimit, 0xff);
  set(F.GuestIdtrBase, AT.idt);
  set(F.GuestIdtrLimit, 0xfff);
  set(F.GuestRsp, AT.kernelStack);
  set(F.GuestRip, symbols.get("begin")!);
  set(F.GuestRflags, 2);
  set(F.GuestDr7, 0x400);
  set(F.GuestSysenterCs, SELECTOR.code64);
  set(F.GuestSysenterEsp, AT.innerStack);
  set(F.GuestSysenterEip, symbols.get("sysenter_entry")!);
  // A few guests that no VM entry accepts.
  if (random.below(12) === 0) {
    const bad: readonly (readonly [number, number])[] = [
      [F.GuestRflags, 0],
      [F.PinControls, 0],
      [F.HostCr4, 0],
      [F.GuestCsAttributes, 0xc09a],
      [F.Eptp, 0x1f],
    ];
    const [field, value] = bad[random.below(bad.length)];
    set(field, value);
  }
  let at: number = AT.fields;
  for (const [field, value] of fields) {
    image.u64(at, BigInt(field));
    image.u64(at + 8, value);
    at += 16;
  }
  image.u64(at, 0xffff_ffffn);
  addNestedTables(image, random);
  for (const region of [AT.vmxon, AT.vmcs]) {
    image.u32(region, model.vmcsRevision);
  }
  image.u32(AT.vars + VAR.nested, 1);
  addInjected(image, random, false);
}

/** Fills in events that L1 injects now and then. */
export function addInjected(
  image: Image,
  random: RandomStream,
  svm: boolean,
): void {
  for (let i = 0; i < 4; i++) {
    const [information, code] = INJECTED[random.below(INJECTED.length)];
    const slot = AT.vars + VAR.injected + random.below(16) * 8;
    image.u32(slot, svm && information === VMX_INT3 ? SVM_INT3 : information);
    image.u32(slot + 4, code);
  }
}

/**
 * Identity, with some pages of data that violate or are misconfigured, and
 * bitmaps of ports and MSRs. Entries mean the same as EPT and as nested page
 * tables of SVM: readable is present, executable is user.
 */
export function addNestedTables(image: Image, random: RandomStream): void {
  for (let i = 0; i < 4096; i += 4) {
    if (random.below(4) === 0) image.u32(AT.msrBitmap + i, random.u32());
    if (random.below(4) === 0) image.u32(AT.ioBitmaps + i, random.u32());
  }
  const { ept } = AT;
  for (let i = 0; i < 3; i++) {
    image.u64(ept + i * 0x1000, BigInt(ept + (i + 1) * 0x1000) | 0x407n);
  }
  image.u64(ept + 0x1000 + 24, BigInt(AT.eptHigh) | 0x407n);
  image.u64(AT.eptHigh + 0x1f7 * 8, 0xfee00000n | 0x4b7n);
  for (let i = 0; i < 512; i++) {
    const address = i << 12;
    let rights = 0x437n;
    const data = address >= AT.kernelData && address < AT.userStack ||
      address >= AT.kernelBody;
    if (data && random.below(4) === 0) {
      rights = [0x430n, 0x431n, 0x33n, 0x37n, 0x433n, 0x432n, 0x43fn][
        random.below(7)
      ];
    }
    image.u64(AT.eptPt + i * 8, BigInt(address) | rights);
  }
  image.u64(AT.eptList, BigInt(ept | 0x1e));
}
