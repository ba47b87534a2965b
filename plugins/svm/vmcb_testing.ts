/**
 * Test companion: a VMCB as plain bytes with the changes a test wants, and a
 * context that passes every VMRUN check.
 */
import { Cr0, Cr4, Efer } from "../../cpu/arch/flags.ts";
import { parseModel } from "../../cpu/arch/models.ts";
import type { PhysicalMemory } from "../../cpu/physical.ts";
import { InterceptBit } from "./controls.ts";
import type { VmrunContext } from "./entry_checks.ts";
import { Control, Save, SaveSegment, type VmcbView } from "./vmcb.ts";

/** A VMCB outside any machine. */
export class VmcbDraft implements VmcbView {
  readonly bytes = new Uint8Array(4096);
  private readonly data = new DataView(this.bytes.buffer);

  read(offset: number): bigint {
    return this.data.getBigUint64(offset, true);
  }
  read32(offset: number): number {
    return this.data.getUint32(offset, true);
  }
  /** Sets a u64 field. */
  set(offset: number, value: bigint | number): this {
    this.data.setBigUint64(offset, BigInt.asUintN(64, BigInt(value)), true);
    return this;
  }
  set32(offset: number, value: number): this {
    this.data.setUint32(offset, value >>> 0, true);
    return this;
  }
  /** Sets or clears bits of a u32. */
  on(offset: number, bits: number): this {
    return this.set32(offset, this.read32(offset) | bits);
  }
  off(offset: number, bits: number): this {
    return this.set32(offset, this.read32(offset) & ~bits);
  }
  /** Sets an InterceptBit. */
  intercept(bit: number, on = true): this {
    const at = Control.intercepts + (bit >>> 5) * 4;
    return on ? this.on(at, 1 << (bit & 31)) : this.off(at, 1 << (bit & 31));
  }
  /** @param attributes twelve bits, as the VMCB keeps them */
  segment(
    offset: number,
    selector: number,
    attributes: number,
    base = 0n,
    limit = 0xffff_ffff,
  ): this {
    this.set32(offset + SaveSegment.selector, selector | attributes << 16);
    this.set32(offset + SaveSegment.limit, limit);
    return this.set(offset + SaveSegment.base, base);
  }
  /** Copies the draft into memory. */
  store(physical: PhysicalMemory, address: number): void {
    physical.writeBytes(address, this.bytes);
  }
}

/** A 64-bit guest that VMRUN accepts. @param cr3 its page tables */
export function longGuest(cr3 = 0x1000): VmcbDraft {
  const d = new VmcbDraft();
  d.intercept(InterceptBit.Vmrun).intercept(InterceptBit.Vmmcall);
  d.intercept(InterceptBit.Shutdown);
  d.set32(Control.asid, 1);
  d.set(Control.iopmBase, 0x20000).set(Control.msrpmBase, 0x24000);
  const efer = Efer.SVME | Efer.LME | Efer.LMA | Efer.NXE | Efer.SCE;
  d.set(Save.efer, efer);
  d.set(Save.cr0, (Cr0.PE | Cr0.PG | Cr0.ET | Cr0.NE | Cr0.WP) >>> 0);
  d.set(Save.cr3, cr3).set(Save.cr4, Cr4.PAE);
  d.set(Save.dr6, 0xffff0ff0).set(Save.dr7, 0x400);
  d.set(Save.rflags, 2).set(Save.rip, 0x8000).set(Save.rsp, 0x7000);
  d.set(Save.guestPat, 0x0007_0406_0007_0406n);
  d.segment(Save.cs, 0x08, 0xa9b);
  for (const at of [Save.es, Save.ss, Save.ds]) d.segment(at, 0x10, 0xc93);
  return d;
}

/** The checks' view of a draft on a 64-bit host with paging. */
export function contextOf(
  d: VmcbView,
  overrides: Partial<VmrunContext> = {},
): VmrunContext {
  const model = overrides.model ?? parseModel("max-amd");
  return {
    vmcb: d,
    model,
    hostCr0: (Cr0.PE | Cr0.PG) >>> 0,
    hostLong: true,
    eferDefined: Efer.SCE | Efer.LME | Efer.LMA | Efer.NXE | Efer.SVME,
    readU64: () => 0n,
    ...overrides,
  };
}
