/**
 * The second stage: extended page tables (SDM 3C §29.3), with A/D flags and
 * mode-based execute control; nested page tables are handed to nested.ts.
 *
 * Order per translation: every entry of the walk is checked for misconfiguration
 * and presence, then the access against the ANDed rights, and only then A and D
 * flags are set. Results are left in the walker's fields so that no object is
 * made on a miss.
 */
import type { CpuContext } from "../../cpu/context.ts";
import { Cr0, Efer } from "../../cpu/arch/flags.ts";
import { PAGE_SIZE, Stage2Flags, VCPU } from "../../cpu/layout.ts";
import { Access } from "../../cpu/port.ts";
import type { WalkStep } from "./api.ts";
import {
  Attribute,
  EptEntry,
  Format,
  FORMATS,
  indexOf,
  Level,
  STAGE2_ALL,
} from "./formats.ts";
import { NestedWalker } from "./nested.ts";
import { stage2Permits } from "./rights.ts";

/** Exit qualification bits of an EPT violation (SDM 3C table 28-7). */
export const EptQualification = {
  Read: 1 << 0,
  Write: 1 << 1,
  Fetch: 1 << 2,
  /** R, W, XS, XU of the ANDed entries at bits 3–6. */
  RightsShift: 3,
  LinearValid: 1 << 7,
  /** Access to the translation of the linear address, not to a paging-structure entry. */
  Final: 1 << 8,
  UserMode: 1 << 9,
  ReadWrite: 1 << 10,
  ExecuteDisable: 1 << 11,
} as const;

/** What a stage-2 access is for. */
export interface Stage2Request {
  /** Access bits. */
  access: number;
  /** False for accesses to guest paging-structure entries. */
  final: boolean;
  /** Linear address whose translation needs this; undefined for MOV CR PDPTE loads. */
  linear: bigint | undefined;
  /** Guest attributes of the linear address, for bits 9–11 of a final access. */
  guestAttributes: number;
}

/** Stage-2 walker of all vCPUs. */
export class Stage2Walker {
  /** After a walk: R2, W2, XS2, XU2 of all levels ANDed. */
  rights = STAGE2_ALL;
  /** After a walk: 1 when a store needs no further dirty update. */
  dirty = 1;
  /** After a walk: Attribute size code of the stage-2 page. */
  size = 0;
  /** Collects entries when explaining. */
  trace: WalkStep[] | undefined;

  private readonly nested = new NestedWalker();
  private readonly addresses = new Float64Array(6);
  private readonly lows = new Uint32Array(6);

  /**
   * Translates one guest-physical page.
   * @returns host-physical page, or -2 with `cpu.v.stage2` set
   */
  translate(
    cpu: CpuContext,
    guestPage: number,
    offset: number,
    request: Stage2Request,
  ): number {
    const { v, physical } = cpu;
    const flags = v.word(VCPU.stage2Flags);
    if (flags & Stage2Flags.Npt) {
      const { nested } = this;
      const frame = nested.translate(
        cpu,
        guestPage,
        offset,
        request,
        this.trace,
      );
      this.rights = nested.rights;
      this.dirty = nested.dirty;
      this.size = nested.size;
      return frame;
    }
    const mbec = (flags & Stage2Flags.Mbec) !== 0;
    const present = EptEntry.R | EptEntry.W | EptEntry.X |
      (mbec ? EptEntry.XU : 0);
    const { model } = cpu;
    const executeOnly = model.hasVmx("vmx-ept-execonly");
    const maxPage = 2 ** (model.physicalAddressBits - 12);
    const format = FORMATS[Format.Ept];
    let access = request.access;
    const tracked = (flags & Stage2Flags.AccessedDirty) !== 0;
    // SDM 3C §29.3.3.2: with A/D flags, paging-structure accesses count as writes.
    if (tracked && !request.final && request.linear !== undefined) {
      access = access & ~Access.Read | Access.Write;
    }
    let table = Math.floor(Number(v.quad(VCPU.stage2Root)) / PAGE_SIZE);
    let rights = present;
    let depth = 0;
    let frame = -1;
    let leafLow = 0;
    this.size = 0;
    if (guestPage >= 2 ** 36) {
      return this.violation(cpu, guestPage, offset, request, access, 0);
    }
    for (let level = format.top; level >= Level.Pte; level--) {
      const at = table * PAGE_SIZE + indexOf(format, level, guestPage) * 8;
      const low = physical.readU32(at);
      const high = physical.readU32(at + 4);
      this.trace?.push({
        stage: 2,
        format: Format.Ept,
        level,
        address: at,
        value: BigInt(high) << 32n | BigInt(low),
      });
      if ((low & present) === 0) {
        return this.violation(cpu, guestPage, offset, request, access, 0);
      }
      const leaf = level === Level.Pte ||
        (level <= Level.Pdpte && (low & EptEntry.Leaf) !== 0);
      // Bit 7 is reserved where the model has no page of that size (§29.3.2).
      const unsized = leaf &&
        (level === Level.Pde && !model.hasVmx("vmx-ept-2mb") ||
          level === Level.Pdpte && !model.hasVmx("vmx-ept-1gb"));
      if (
        unsized ||
        misconfigured(low, high, level, leaf, executeOnly, mbec, maxPage)
      ) {
        v.stage2 = {
          misconfiguration: true,
          qualification: 0n,
          guestPhysicalAddress: guestPage * PAGE_SIZE + offset,
          guestLinearAddress: request.linear ?? 0n,
        };
        return -2;
      }
      rights &= low;
      this.addresses[depth] = at;
      this.lows[depth++] = low;
      table = (high & 0xfffff) * 2 ** 20 + (low >>> 12);
      if (leaf) {
        const size = format.pages[level];
        frame = table - table % size + guestPage % size;
        leafLow = low;
        this.size = level === Level.Pte ? 0 : level === Level.Pde ? 1 : 3;
        break;
      }
    }
    this.rights = toAttributes(rights, mbec);
    const attributes = this.rights | request.guestAttributes;
    if (!stage2Permits(v, flags, attributes, access)) {
      return this.violation(cpu, guestPage, offset, request, access, rights);
    }
    this.dirty = 1;
    if (tracked) {
      const write = (access & (Access.Write | Access.ReadForWrite)) !== 0;
      if (!(access & Access.Silent)) {
        for (let i = 0; i < depth; i++) {
          const want = EptEntry.A | (write && i === depth - 1 ? EptEntry.D : 0);
          if ((this.lows[i] & want) !== want) {
            physical.writeU32(this.addresses[i], this.lows[i] | want);
          }
        }
      }
      this.dirty = write || leafLow & EptEntry.D ? 1 : 0;
    }
    return frame;
  }

  /** SDM 3C table 28-7. @param rights ANDed low bits of the entries, 0 when one was not present */
  private violation(
    cpu: CpuContext,
    guestPage: number,
    offset: number,
    request: Stage2Request,
    access: number,
    rights: number,
  ): number {
    const { v } = cpu;
    const Q = EptQualification;
    const flags = v.word(VCPU.stage2Flags);
    let q = 0;
    if (access & Access.Fetch) q |= Q.Fetch;
    else if (access & Access.ReadForWrite) q |= Q.Read | Q.Write;
    else if (access & Access.Write) q |= Q.Write;
    else q |= Q.Read;
    // A paging-structure access that counts as a write reads the entry too.
    if (!request.final) q |= Q.Read;
    q |= (rights & 7) << Q.RightsShift;
    if (flags & Stage2Flags.Mbec && rights & EptEntry.XU) q |= 1 << 6;
    if (request.linear !== undefined) {
      q |= Q.LinearValid;
      if (request.final) {
        q |= Q.Final;
        if (flags & Stage2Flags.AdvancedInformation) {
          q |= advanced(v.cr0, v.efer, request.guestAttributes);
        }
      }
    }
    v.stage2 = {
      misconfiguration: false,
      qualification: BigInt(q),
      guestPhysicalAddress: guestPage * PAGE_SIZE + offset,
      guestLinearAddress: request.linear ?? 0n,
    };
    return -2;
  }
}

/** Qualification bits 9–11 (SDM 3C table 28-7). */
function advanced(cr0: number, efer: number, attributes: number): number {
  const Q = EptQualification;
  if (!(cr0 & Cr0.PG)) return Q.UserMode | Q.ReadWrite;
  let q = 0;
  if (attributes & Attribute.U) q |= Q.UserMode;
  if (attributes & Attribute.W) q |= Q.ReadWrite;
  if (attributes & Attribute.NX && efer & Efer.NXE) q |= Q.ExecuteDisable;
  return q;
}

/** R, W, XS, XU of entry bits as TLB attributes; without MBEC bit 2 is both. */
function toAttributes(low: number, mbec: boolean): number {
  let a = 0;
  if (low & EptEntry.R) a |= Attribute.R2;
  if (low & EptEntry.W) a |= Attribute.W2;
  if (low & EptEntry.X) a |= Attribute.XS2;
  if (low & (mbec ? EptEntry.XU : EptEntry.X)) a |= Attribute.XU2;
  return a;
}

/** SDM 3C §29.3.3.1, for an entry that is present. */
function misconfigured(
  low: number,
  high: number,
  level: number,
  leaf: boolean,
  executeOnly: boolean,
  mbec: boolean,
  maxPage: number,
): boolean {
  if (!(low & EptEntry.R)) {
    if (low & EptEntry.W) return true;
    const execute = EptEntry.X | (mbec ? EptEntry.XU : 0);
    if (low & execute && !executeOnly) return true;
  }
  const page = (high & 0xfffff) * 2 ** 20 + (low >>> 12);
  if (page >= maxPage) return true;
  if (leaf) {
    const type = (low & EptEntry.TypeMask) >>> EptEntry.TypeShift;
    if (type === 2 || type === 3 || type === 7) return true;
    return page % 2 ** ((level - 1) * 9) !== 0;
  }
  // Bits 6:3 of an entry that references a table, and bit 7 of a PML4E.
  return (low & 0x78) !== 0 || (level === Level.Pml4e && (low & 0x80) !== 0);
}
