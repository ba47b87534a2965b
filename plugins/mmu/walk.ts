/**
 * The walker (SDM 3A §4.3–4.5): one procedure for 32-bit, PAE, 4- and 5-level
 * paging, each table reached through stage 2 when that is on.
 *
 * Order: entries top-down with presence and reserved bits, the access against
 * the combined rights, the final stage-2 translation, and last the accessed and
 * dirty flags. A fault therefore leaves no flag behind. Results stay in fields;
 * nothing is allocated on a miss that succeeds.
 */
import { PageFaultError, Vector } from "../../cpu/arch/exceptions.ts";
import { Cr0, Cr4, Efer } from "../../cpu/arch/flags.ts";
import type { CpuContext } from "../../cpu/context.ts";
import { PAGE_SIZE } from "../../cpu/layout.ts";
import { Access } from "../../cpu/port.ts";
import type { WalkStep } from "./api.ts";
import {
  Attribute,
  Entry,
  ENTRY_XD_HIGH,
  Format,
  FORMATS,
  Level,
  STAGE2_ALL,
} from "./formats.ts";
import { guestPermits, pageFaultCode, stage2InForce } from "./rights.ts";
import { type Stage2Request, Stage2Walker } from "./stage2.ts";

/** Guest-paging attributes while CR0.PG = 0. */
const UNPAGED = Attribute.W | Attribute.U | Attribute.D;

/** Paging format in force, or -1 with paging off. */
export function formatOf(cr0: number, cr4: number, efer: number): number {
  if (!(cr0 & Cr0.PG)) return -1;
  if (!(cr4 & Cr4.PAE)) return Format.Legacy32;
  if (!(efer & Efer.LMA)) return Format.Pae;
  return cr4 & Cr4.LA57 ? Format.FiveLevel : Format.FourLevel;
}

/** See the file header. One walker serves all vCPUs. */
export class Walker {
  readonly stage2 = new Stage2Walker();
  /** After success: attributes for the TLB. */
  attributes = 0;
  /** After success. */
  guestFrame = 0;
  /** After a page fault. */
  errorCode = 0;

  private trace: WalkStep[] | undefined;
  private readonly request: Stage2Request = {
    access: 0,
    final: false,
    linear: 0n,
    guestAttributes: 0,
  };
  private readonly guestAddress = new Float64Array(6);
  private readonly hostAddress = new Float64Array(6);
  private readonly low = new Uint32Array(6);
  private depth = 0;

  /** Collects every entry read into `trace` until called with undefined. */
  explainTo(trace: WalkStep[] | undefined): void {
    this.trace = trace;
    this.stage2.trace = trace;
  }

  /**
   * Walks for one access.
   * @returns host-physical page; -1 with `cpu.v.pending` set to #PF; -2 with
   *   `cpu.v.stage2` set
   */
  walk(
    cpu: CpuContext,
    linearPage: number,
    offset: number,
    access: number,
  ): number {
    const { v } = cpu;
    const format = formatOf(v.cr0, v.cr4, v.efer);
    const nested = stage2InForce(v);
    let guest = UNPAGED;
    this.depth = 0;
    if (format < 0) {
      this.guestFrame = linearPage;
    } else {
      guest = this.guestWalk(cpu, format, linearPage, offset, access, nested);
      if (guest < 0) return guest;
    }
    let frame = this.guestFrame;
    let rights = STAGE2_ALL;
    let dirty2 = 1;
    let size = (guest & Attribute.SizeMask) >>> Attribute.SizeShift;
    if (nested) {
      const request = this.request;
      request.access = access;
      request.final = true;
      request.linear = linearOf(linearPage, offset);
      request.guestAttributes = guest;
      frame = this.stage2.translate(cpu, this.guestFrame, offset, request);
      if (frame < 0) return -2;
      rights = this.stage2.rights;
      dirty2 = this.stage2.dirty;
      if (format < 0) size = this.stage2.size;
    }
    if (format >= 0 && !(access & Access.Silent)) {
      const updated = this.markUsed(cpu, linearPage, offset, access, nested);
      if (updated < 0) return updated;
    }
    const write = (access & (Access.Write | Access.ReadForWrite)) !== 0;
    const clean = (!(guest & Attribute.D) && !write) || !dirty2;
    this.attributes = guest & ~(Attribute.D | Attribute.SizeMask) | rights |
      size << Attribute.SizeShift | (clean ? 0 : Attribute.D);
    return frame;
  }

  /** Guest tables only. @returns attributes, or -1 / -2 */
  private guestWalk(
    cpu: CpuContext,
    formatId: number,
    linearPage: number,
    offset: number,
    access: number,
    nested: boolean,
  ): number {
    const { v, physical, model } = cpu;
    const format = FORMATS[formatId];
    const wide = format.entryBytes === 8;
    const nxe = (v.efer & Efer.NXE) !== 0;
    const maxPage = 2 ** (model.physicalAddressBits - 12);
    let table: number;
    if (formatId === Format.Pae) {
      const pdpte = v.pdpte(Math.floor(linearPage / 2 ** 18) & 3);
      if (!(pdpte & 1n)) return this.fault(cpu, linearPage, offset, access, 0);
      table = Number((pdpte & 0xf_ffff_ffff_f000n) >> 12n);
    } else {
      // 32-bit paging ignores CR3[63:32] (SDM 3A table 4-3).
      table = Math.floor(v.cr3 % (wide ? 2 ** 52 : TWO32) / PAGE_SIZE);
    }
    let all = Attribute.W | Attribute.U;
    let nx = 0;
    for (let level = format.top; level >= Level.Pte; level--) {
      const shift = (level - 1) * format.indexBits;
      const index = Math.floor(linearPage / 2 ** shift) &
        ((1 << format.indexBits) - 1);
      const guestAt = table * PAGE_SIZE + index * format.entryBytes;
      const at = nested
        ? this.tableAddress(cpu, guestAt, linearPage, offset, access, false)
        : guestAt;
      if (at < 0) return -2;
      const low = physical.readU32(at);
      const high = wide ? physical.readU32(at + 4) : 0;
      this.trace?.push({
        stage: 1,
        level,
        address: guestAt,
        value: BigInt(high) << 32n | BigInt(low),
      });
      if (!(low & Entry.P)) {
        return this.fault(cpu, linearPage, offset, access, 0);
      }
      const large = level > Level.Pte && (low & Entry.PS) !== 0 &&
        (wide ? level <= Level.Pdpte : (v.cr4 & Cr4.PSE) !== 0);
      const next = wide
        ? (high & 0xfffff) * 2 ** 20 + (low >>> 12)
        : low >>> 12;
      let reserved = wide && next >= maxPage;
      if (wide) {
        if (high & ENTRY_XD_HIGH && !nxe) reserved = true;
        if (formatId === Format.Pae && high & 0x7ff00000) reserved = true;
        if (low & Entry.PS) {
          if (level >= Level.Pml4e) reserved = true;
          if (level === Level.Pdpte && !model.has("pdpe1gb")) reserved = true;
        }
      }
      let frame = next;
      if (large) {
        if (wide) {
          // Bit 12 is PAT; the other address bits below the page are reserved.
          const below = 2 ** shift;
          if ((next - (next & 1)) % below !== 0) reserved = true;
          frame = next - next % below + linearPage % below;
        } else {
          // PSE-36 (SDM 3A §4.3): bits 20:13 are address bits 39:32.
          if (low & (model.has("pse36") ? 1 << 21 : 0x3fe000)) reserved = true;
          frame = (low >>> 22) * 1024 + ((low >>> 13) & 0xff) * 2 ** 20 +
            linearPage % 1024;
          if (frame >= maxPage) reserved = true;
        }
      }
      if (reserved) {
        return this.fault(
          cpu,
          linearPage,
          offset,
          access,
          PageFaultError.Present | PageFaultError.Reserved,
        );
      }
      if (!(low & Entry.RW)) all &= ~Attribute.W;
      if (!(low & Entry.US)) all &= ~Attribute.U;
      if (high & ENTRY_XD_HIGH) nx = Attribute.NX;
      this.guestAddress[this.depth] = guestAt;
      this.hostAddress[this.depth] = at;
      this.low[this.depth++] = low;
      if (level === Level.Pte || large) {
        let attributes = all | nx;
        if (low & Entry.G && v.cr4 & Cr4.PGE) attributes |= Attribute.G;
        if (low & Entry.D) attributes |= Attribute.D;
        if (large) {
          const size = level === Level.Pdpte ? 3 : wide ? 1 : 2;
          attributes |= size << Attribute.SizeShift;
        }
        if (!guestPermits(v, attributes, access)) {
          return this.fault(
            cpu,
            linearPage,
            offset,
            access,
            PageFaultError.Present,
          );
        }
        this.guestFrame = frame;
        return attributes;
      }
      table = next;
    }
    throw new Error("paging format without a leaf level");
  }

  /** Host-physical address of a guest paging-structure entry, or -2. */
  private tableAddress(
    cpu: CpuContext,
    guestAt: number,
    linearPage: number,
    offset: number,
    access: number,
    write: boolean,
  ): number {
    const request = this.request;
    request.access = (write ? Access.ReadForWrite : Access.Read) |
      access & Access.Silent;
    request.final = false;
    request.linear = linearOf(linearPage, offset);
    request.guestAttributes = 0;
    const inPage = guestAt % PAGE_SIZE;
    const frame = this.stage2.translate(
      cpu,
      Math.floor(guestAt / PAGE_SIZE),
      inPage,
      request,
    );
    return frame < 0 ? -2 : frame * PAGE_SIZE + inPage;
  }

  /** Sets A in every entry used and D in the leaf of a write (SDM 3A §4.8). */
  private markUsed(
    cpu: CpuContext,
    linearPage: number,
    offset: number,
    access: number,
    nested: boolean,
  ): number {
    const write = (access & (Access.Write | Access.ReadForWrite)) !== 0;
    for (let i = 0; i < this.depth; i++) {
      const want = Entry.A | (write && i === this.depth - 1 ? Entry.D : 0);
      if ((this.low[i] & want) === want) continue;
      let at = this.hostAddress[i];
      if (nested) {
        at = this.tableAddress(
          cpu,
          this.guestAddress[i],
          linearPage,
          offset,
          access,
          true,
        );
        if (at < 0) return -2;
      }
      cpu.physical.writeU32(at, this.low[i] | want);
    }
    return 0;
  }

  private fault(
    cpu: CpuContext,
    linearPage: number,
    offset: number,
    access: number,
    bits: number,
  ): number {
    this.errorCode = pageFaultCode(cpu.v, access, bits);
    cpu.v.raise(Vector.PF, this.errorCode, linearOf(linearPage, offset));
    return -1;
  }

  /** PDPTE load of MOV CR0/CR3/CR4 and VM entry (SDM 3A §4.4.1). */
  loadPdptes(cpu: CpuContext, cr3: number): boolean {
    const { v, physical } = cpu;
    const nested = stage2InForce(v);
    let at = Math.floor(cr3 % TWO32 / 32) * 32;
    if (nested) {
      const request = this.request;
      request.access = Access.Read;
      request.final = false;
      request.linear = undefined;
      request.guestAttributes = 0;
      const frame = this.stage2.translate(
        cpu,
        Math.floor(at / PAGE_SIZE),
        at % PAGE_SIZE,
        request,
      );
      if (frame < 0) return false;
      at = frame * PAGE_SIZE + at % PAGE_SIZE;
    }
    const values: bigint[] = [];
    for (let i = 0; i < 4; i++) {
      const value = physical.readU64(at + i * 8);
      if (
        value & 1n && value & reservedPdpteBits(cpu.model.physicalAddressBits)
      ) {
        v.raise(Vector.GP, 0);
        return false;
      }
      values.push(value);
    }
    for (let i = 0; i < 4; i++) v.setPdpte(i, values[i]);
    return true;
  }
}

const TWO32 = 2 ** 32;

/** Bits 2:1, 8:5 and those above MAXPHYADDR (SDM 3A table 4-8). */
export function reservedPdpteBits(physicalBits: number): bigint {
  return 0x1e6n | (0xffff_ffff_ffff_ffffn << BigInt(physicalBits)) &
      0xffff_ffff_ffff_ffffn;
}

function linearOf(page: number, offset: number): bigint {
  return BigInt(page) << 12n | BigInt(offset);
}
