/**
 * The VMCB of a nested random program on SVM: the long-mode runtime as L1, the
 * same runtime and body as its L2, intercepts and virtual interrupts drawn at
 * random from what the model has, with or without nested paging and GMET.
 */
import type { RandomStream } from "../../core/mod.ts";
import { Efer } from "../../cpu/arch/flags.ts";
import { parseModel } from "../../cpu/arch/models.ts";
import {
  IntCtl,
  InterceptBit as B,
  NestedControl,
  VirtualExtension,
} from "../../plugins/svm/controls.ts";
import { Control, Save, SaveSegment } from "../../plugins/svm/vmcb.ts";
import type { Image, Settings } from "./memory.ts";
import { addInjected, addNestedTables } from "./nested.ts";
import { AT, SELECTOR, VAR } from "./places.ts";
import { runtimeOf } from "./runtime.ts";

/** Intercepts that a program may have, each with one chance in so many. */
const INTERCEPTS: readonly (readonly [bit: number, chance: number])[] = [
  ...[0, 3, 4, 8].flatMap((cr) =>
    [[B.ReadCr + cr, 3], [B.WriteCr + cr, 3]] as const
  ),
  [B.Intr, 3],
  [B.Nmi, 3],
  [B.Vintr, 3],
  [B.SelectiveCr0, 3],
  [B.ReadIdtr, 4],
  [B.ReadGdtr, 4],
  [B.ReadLdtr, 4],
  [B.ReadTr, 4],
  [B.WriteIdtr, 4],
  [B.WriteGdtr, 4],
  [B.WriteLdtr, 4],
  [B.WriteTr, 4],
  [B.Rdtsc, 3],
  [B.Rdpmc, 2],
  [B.Pushf, 5],
  [B.Popf, 5],
  [B.Cpuid, 2],
  [B.Rsm, 2],
  [B.Iret, 5],
  [B.SoftwareInterrupt, 4],
  [B.Invd, 3],
  [B.Pause, 3],
  [B.Hlt, 2],
  [B.Invlpg, 3],
  [B.Invlpga, 3],
  [B.Ioio, 4],
  [B.Msr, 3],
  [B.Vmload, 3],
  [B.Vmsave, 3],
  [B.Stgi, 3],
  [B.Clgi, 3],
  [B.Rdtscp, 3],
  [B.Icebp, 3],
  [B.Wbinvd, 3],
  [B.Monitor, 3],
  [B.Mwait, 3],
  [B.MwaitArmed, 3],
  [B.Xsetbv, 3],
  [B.Rdpru, 3],
  [B.Invpcid, 3],
];
/** Without these a program could not end, or would reset the machine. */
const ALWAYS = [B.Vmrun, B.Vmmcall, B.Shutdown, B.Init];

/** Fills in VMCB, nested page tables and permission maps. */
export function addNestedSvm(
  image: Image,
  cpu: string,
  settings: Settings,
  random: RandomStream,
): void {
  const model = parseModel(cpu);
  const symbols = runtimeOf("long").symbols;
  const chance = (n: number): boolean => random.below(n) === 0;
  const words = new Uint32Array(6);
  const intercept = (bit: number): void => {
    words[bit >>> 5] |= 1 << (bit & 31);
  };
  for (const [bit, n] of INTERCEPTS) if (chance(n)) intercept(bit);
  if (chance(3)) words[B.ReadDr >>> 5] |= random.u32();
  if (chance(3)) words[B.Exception >>> 5] |= random.u32();
  for (const bit of ALWAYS) intercept(bit);

  let intCtl = 3 << IntCtl.PriorityShift;
  if (chance(4)) intCtl |= IntCtl.IntrMasking;
  if (chance(4)) intCtl |= IntCtl.Irq;
  if (model.has("vgif") && chance(3)) {
    intCtl |= IntCtl.GifEnable | (chance(2) ? IntCtl.Gif : 0);
  }
  if (model.has("vnmi") && chance(4)) {
    intCtl |= IntCtl.NmiEnable | IntCtl.Nmi;
    intercept(B.Nmi);
  }
  const nested = !chance(4);
  const gmet = nested && model.has("gmet") && chance(3);

  const at = AT.vmcs;
  const set = (offset: number, value: number | bigint): void =>
    image.u64(at + offset, BigInt(value));
  const set32 = (offset: number, value: number): void =>
    image.u32(at + offset, value >>> 0);
  words.forEach((word, i) => set32(Control.intercepts + i * 4, word));
  set32(
    Control.pauseThreshold,
    random.below(3) * 4 | random.below(3) << 16,
  );
  set(Control.iopmBase, AT.ioBitmaps);
  set(Control.msrpmBase, AT.msrBitmap);
  set(Control.tscOffset, 0x1234_5678);
  set32(Control.asid, 1 + random.below(9));
  set32(Control.tlbControl, [0, 1, 3, 7][random.below(4)]);
  set32(Control.intCtl, intCtl);
  set32(Control.intVector, 0x33);
  set(
    Control.nestedControl,
    (nested ? NestedControl.Enable : 0) | (gmet ? NestedControl.Gmet : 0),
  );
  set(Control.nestedCr3, AT.ept);
  set(
    Control.virtualExtensions,
    (chance(3) ? VirtualExtension.Lbr : 0) |
      (nested && chance(2) ? VirtualExtension.VmloadVmsave : 0),
  );
  const segment = (offset: number, selector: number, attributes: number) => {
    set32(offset + SaveSegment.selector, selector | attributes << 16);
    set32(offset + SaveSegment.limit, 0xffff_ffff);
  };
  segment(Save.cs, SELECTOR.code64, 0xa9b);
  for (const offset of [Save.es, Save.ss, Save.ds]) {
    segment(offset, SELECTOR.data, 0xc93);
  }
  set32(Save.gdtr + SaveSegment.limit, 0xff);
  set(Save.gdtr + SaveSegment.base, AT.gdt);
  set32(Save.idtr + SaveSegment.limit, 0xfff);
  set(Save.idtr + SaveSegment.base, AT.idt);
  set(Save.efer, settings.efer | Efer.LME | Efer.LMA | Efer.SVME);
  set(Save.cr0, (0x8000_0011 | settings.cr0) >>> 0);
  set(Save.cr3, AT.pml4);
  set(Save.cr4, 0x20 | settings.cr4);
  set(Save.dr6, 0xffff_0ff0);
  set(Save.dr7, 0x400);
  set(Save.rflags, 2);
  set(Save.rip, symbols.get("begin")!);
  set(Save.rsp, AT.kernelStack);
  set(Save.guestPat, 0x0007_0406_0007_0406n);
  set(Save.debugCtl, random.below(2));
  // A few guests that VMRUN does not accept.
  if (chance(12)) {
    const bad: readonly (readonly [number, number])[] = [
      [Control.asid, 0],
      [Save.efer, 0x500],
      [Save.cr0, 0xa000_0011],
      [Save.dr7 + 4, 1],
      [Save.cr4, 0],
    ];
    const [offset, value] = bad[random.below(bad.length)];
    set32(offset, value);
  }
  addNestedTables(image, random);
  if (gmet) supervisorCode(image, random);
  image.u32(AT.vars + VAR.nested, 2);
  image.u32(AT.vars + VAR.open, gmet ? 0x33 : 0x37);
  addInjected(image, random, true);
}

/** With GMET only leaves with U = 0 hold supervisor code; some user pages keep U = 1. */
function supervisorCode(image: Image, random: RandomStream): void {
  for (let i = 0; i < 512; i++) {
    const address = i << 12;
    const user = address >= AT.userBody && random.below(2) === 0;
    image.u64(AT.eptPt + i * 8, BigInt(address | (user ? 0x37 : 0x33)));
  }
}
