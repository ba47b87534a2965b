/**
 * What virtual-8086 mode and its extensions change (SDM 3A ch. 20): sensitive
 * instructions by IOPL, CR4.VME and VIF, software interrupts by the TSS's
 * redirection bitmap, IRET into and out of the mode. Delivery of other events
 * from the mode is in delivery_protected.ts; CR4.PVI (§20.4) shares CLI and STI.
 *
 * Invariant: in the mode CPL is 3 and every segment is selector × 16.
 */
import { Cr4, Rflags, SegmentRights as R } from "../../arch/flags.ts";
import type { CpuContext } from "../../context.ts";
import { Outcome, type OutcomeCode } from "../../isa/row.ts";
import { Gpr, Seg } from "../../layout.ts";
import type { Vcpu } from "../../vcpu.ts";
import { failed, gp, iopl, MASK16, readSystem, virtual8086 } from "./common.ts";
import { loadVirtual8086 } from "./descriptors.ts";
import { Stack } from "./stack.ts";

const IO_MAP_BASE = 0x66;
/** Flags that a 16-bit image sets: all but IF and IOPL. */
const IMAGE16 = Rflags.CF | Rflags.PF | Rflags.AF | Rflags.ZF | Rflags.SF |
  Rflags.TF | Rflags.DF | Rflags.OF | Rflags.NT;
const IMAGE32 = IMAGE16 | Rflags.RF | Rflags.AC | Rflags.ID;
/** Of the image of an IRET that enters the mode (SDM 2A IRET). */
const ENTRY_IMAGE = IMAGE32 | Rflags.IF | Rflags.IOPL | Rflags.VM |
  Rflags.VIF | Rflags.VIP;

/** In the mode with IOPL < 3: sensitive instructions need VME or fault. */
export function sensitive(v: Vcpu): boolean {
  return virtual8086(v) && iopl(v) < 3;
}

/** CLI and STI act on VIF (SDM 3A tables 20-2; §20.4 for CR4.PVI). */
export function usesVirtualFlag(v: Vcpu): boolean {
  if (v.cpl !== 3 || iopl(v) === 3) return false;
  return (v.cr4 & (virtual8086(v) ? Cr4.VME : Cr4.PVI)) !== 0;
}

/** FLAGS as PUSHF and a redirected INT n store them with IOPL < 3. */
export function virtualFlags(v: Vcpu): number {
  const image = v.rflags & 0xffff & ~Rflags.IF | Rflags.IOPL;
  return v.rflags & Rflags.VIF ? image | Rflags.IF : image;
}

/**
 * POPF and IRET of 16 bits with IOPL < 3 and VME: the image's IF becomes VIF.
 * @returns false where it is #GP(0): TF, or interrupts on while one is pending
 */
export function loadVirtualFlags(v: Vcpu, image: number): boolean {
  if (image & Rflags.TF) return false;
  if (image & Rflags.IF && v.rflags & Rflags.VIP) return false;
  const kept = v.rflags & ~(IMAGE16 | Rflags.VIF | Rflags.RF);
  const vif = image & Rflags.IF ? Rflags.VIF : 0;
  v.rflags = (kept | (image & IMAGE16) | vif | Rflags.Fixed1) >>> 0;
  return true;
}

/** Where INT n goes: through the IDT, to the 8086 program, or it is #GP(0). */
export type Redirection = "idt" | "program" | "refused" | "faulted";

/** SDM 3A table 20-2. "faulted": reading the bitmap faulted. */
export function redirection(cpu: CpuContext, vector: number): Redirection {
  const { v } = cpu;
  const free = iopl(v) === 3;
  if (!(v.cr4 & Cr4.VME)) return free ? "idt" : "refused";
  const limit = v.segLimit(Seg.TR);
  if (!(v.segAttributes(Seg.TR) & 8) || limit < IO_MAP_BASE + 1) {
    return "refused";
  }
  const base = v.segBase(Seg.TR);
  const map = readSystem(cpu, base + BigInt(IO_MAP_BASE), 2);
  if (map === undefined) return "faulted";
  // The 32 bytes below the I/O permission bitmap.
  const at = Number(map) - 32 + (vector >> 3);
  if (at < 0 || at > limit) return "refused";
  const bits = readSystem(cpu, base + BigInt(at), 1);
  if (bits === undefined) return "faulted";
  if (!(Number(bits) & 1 << (vector & 7))) return "program";
  return free ? "idt" : "refused";
}

/** INT n to the 8086 program's own handler (SDM 3A §20.3.3, methods 5 and 6). */
export function toProgram(
  cpu: CpuContext,
  vector: number,
): OutcomeCode {
  const { v } = cpu;
  const entry = readSystem(cpu, BigInt(vector * 4), 4);
  if (entry === undefined) return failed(cpu);
  const free = iopl(v) === 3;
  const stack = Stack.current(cpu);
  const image = free ? v.rflags & 0xffff : virtualFlags(v);
  const pushed = stack.push(16, BigInt(image)) &&
    stack.push(16, BigInt(v.segSelector(Seg.CS))) &&
    stack.push(16, cpu.nextRip & MASK16);
  if (!pushed) return failed(cpu);
  stack.commit();
  v.rflags &= ~(Rflags.TF | (free ? Rflags.IF : Rflags.VIF));
  loadVirtual8086(v, Seg.CS, Number(entry >> 16n) & 0xffff);
  cpu.nextRip = entry & MASK16;
  return Outcome.Done;
}

/** IRET inside the mode (SDM 2A IRET, RETURN-FROM-VIRTUAL-8086-MODE). */
export function iretInside(cpu: CpuContext, bits: number): OutcomeCode {
  const { v } = cpu;
  const virtual = sensitive(v);
  if (virtual && (!(v.cr4 & Cr4.VME) || bits !== 16)) return gp(cpu);
  const stack = Stack.current(cpu);
  const rip = stack.pop(bits);
  if (rip === undefined) return failed(cpu);
  const cs = stack.pop(bits);
  if (cs === undefined) return failed(cpu);
  const flags = stack.pop(bits);
  if (flags === undefined) return failed(cpu);
  if (rip > MASK16) return gp(cpu);
  const image = Number(flags & 0xffff_ffffn);
  if (virtual) {
    if (!loadVirtualFlags(v, image)) return gp(cpu);
  } else {
    const mask = (bits === 16 ? IMAGE16 : IMAGE32) | Rflags.IF;
    v.rflags = ((v.rflags & ~mask) | (image & mask) | Rflags.Fixed1) >>> 0;
  }
  stack.commit();
  loadVirtual8086(v, Seg.CS, Number(cs & MASK16));
  cpu.nextRip = rip;
  return Outcome.Done;
}

/**
 * IRETD at CPL 0 with VM in its image (SDM 2A IRET, RETURN-TO-VIRTUAL-8086-
 * MODE). `stack` stands behind EIP, CS and EFLAGS.
 */
export function enterVirtual8086(
  cpu: CpuContext,
  stack: Stack,
  rip: bigint,
  cs: number,
  image: number,
): OutcomeCode {
  const { v } = cpu;
  const words: bigint[] = [];
  for (let i = 0; i < 6; i++) {
    const word = stack.pop(32);
    if (word === undefined) return failed(cpu);
    words.push(word);
  }
  if (rip > MASK16) return gp(cpu);
  const [esp, ss, es, ds, fs, gs] = words;
  v.rflags = ((image & ENTRY_IMAGE) | Rflags.Fixed1) >>> 0;
  v.cpl = 3;
  loadVirtual8086(v, Seg.CS, cs);
  const segments: readonly (readonly [number, bigint])[] = [
    [Seg.SS, ss],
    [Seg.ES, es],
    [Seg.DS, ds],
    [Seg.FS, fs],
    [Seg.GS, gs],
  ];
  for (const [s, value] of segments) {
    loadVirtual8086(v, s, Number(value & MASK16));
  }
  v.setGpr32(Gpr.RSP, Number(esp));
  cpu.nextRip = rip;
  return Outcome.Done;
}

/** After an event left the mode: data segments are null (SDM 2A INT n). */
export function leaveVirtual8086(v: Vcpu): void {
  for (const s of [Seg.ES, Seg.DS, Seg.FS, Seg.GS]) {
    v.setSegment(s, {
      selector: 0,
      base: 0n,
      limit: 0,
      attributes: R.Unusable,
    });
  }
}
