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
import { Cr4, Efer } from "../../cpu/arch/flags.ts";
import type { CpuContext } from "../../cpu/context.ts";
import { PAGE_SIZE, Stage2Flags, VCPU } from "../../cpu/layout.ts";
import { Access } from "../../cpu/port.ts";
import type { Vcpu } from "../../cpu/vcpu.ts";
import type { WalkStep } from "./api.ts";
import { EntryReader } from "./entry.ts";
import {
  Attribute,
  Entry,
  ENTRY_XD_HIGH,
  Format,
  formatOf,
  FORMATS,
  indexOf,
  Level,
  rootAddress,
  STAGE2_ALL,
} from "./formats.ts";
import {
  guestPermits,
  keyDenies,
  pageFaultCode,
  stage2InForce,
} from "./rights.ts";
import { type Stage2Request, Stage2Walker } from "./stage2.ts";

/** Guest-paging attributes while CR0.PG = 0. */
const UNPAGED = Attribute.W | Attribute.U | Attribute.D;

/** See the file header. One walker serves all vCPUs. */
export class Walker {
  readonly stage2 = new Stage2Walker();
  /** After success: attributes for the TLB. */
  attributes = 0;
  /** After success. */
  guestFrame = 0;
  /** After a page fault. */
  errorCode = 0;

  private readonly entry = new EntryReader();
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
    const { v, physical } = cpu;
    const { entry } = this;
    const format = FORMATS[formatId];
    const { entryBytes, top: root } = format;
    const wide = entryBytes === 8;
    const nxe = (v.efer & Efer.NXE) !== 0;
    const pse = (v.cr4 & Cr4.PSE) !== 0;
    entry.of(cpu.model);
    let top = root;
    let table: number;
    if (formatId === Format.Pae && !pdptesOnDemand(v)) {
      const pdpte = v.pdpte(Math.floor(linearPage / 2 ** 18) & 3);
      if (!(pdpte & 1n)) return this.fault(cpu, linearPage, offset, access, 0);
      table = Number(pdpte & 0xf_ffff_ffff_f000n);
      top = Level.Pde;
    } else {
      table = rootAddress(formatId, v.word(VCPU.cr3), v.word(VCPU.cr3 + 4));
    }
    let all = Attribute.W | Attribute.U;
    let nx = 0;
    for (let level = top; level >= Level.Pte; level--) {
      const guestAt = table + indexOf(format, level, linearPage) * entryBytes;
      const at = nested
        ? this.tableAddress(cpu, guestAt, linearPage, offset, access, false)
        : guestAt;
      if (at < 0) return -2;
      const low = physical.readU32(at);
      const high = wide ? physical.readU32(at + 4) : 0;
      this.trace?.push({
        stage: 1,
        format: formatId,
        level,
        address: guestAt,
        value: BigInt(high) << 32n | BigInt(low),
      });
      if (!(low & Entry.P)) {
        return this.fault(cpu, linearPage, offset, access, 0);
      }
      entry.read(formatId, level, low, high, linearPage, nxe, pse);
      if (entry.reserved) {
        return this.fault(
          cpu,
          linearPage,
          offset,
          access,
          PageFaultError.Present | PageFaultError.Reserved,
        );
      }
      table = entry.page * PAGE_SIZE;
      // PDPTEs of PAE paging have no rights and no flags.
      if (formatId === Format.Pae && level === Level.Pdpte) continue;
      if (!(low & Entry.RW)) all &= ~Attribute.W;
      if (!(low & Entry.US)) all &= ~Attribute.U;
      if (high & ENTRY_XD_HIGH) nx = Attribute.NX;
      this.guestAddress[this.depth] = guestAt;
      this.hostAddress[this.depth] = at;
      this.low[this.depth++] = low;
      if (entry.leaf) {
        let attributes = all | nx | entry.size << Attribute.SizeShift;
        if (low & Entry.G && v.cr4 & Cr4.PGE) attributes |= Attribute.G;
        if (low & Entry.D) attributes |= Attribute.D;
        if (formatId >= Format.FourLevel) {
          attributes |= ((high >>> 27) & 15) << Attribute.KeyShift;
        }
        if (!guestPermits(v, attributes, access)) {
          // The bit tells of the key whatever else forbids the access.
          const key = keyDenies(v, attributes, access)
            ? PageFaultError.ProtectionKey
            : 0;
          const bits = PageFaultError.Present | key;
          return this.fault(cpu, linearPage, offset, access, bits);
        }
        this.guestFrame = entry.page;
        return attributes;
      }
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
    if (pdptesOnDemand(v)) return true;
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

/** Behind nested paging, walks read PDPTEs from memory (APM 2 §15.25.10). */
function pdptesOnDemand(v: Vcpu): boolean {
  return (v.word(VCPU.stage2Flags) & Stage2Flags.Npt) !== 0;
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
