/**
 * The second stage on AMD: nested page tables (APM 2 §15.25), which have the
 * format of the host's own paging at VMRUN, with the guest mode execute trap.
 *
 * All accesses of the guest count as the user's, and accesses to the guest's
 * paging structures as writes (§15.25.5); the host's CR0.WP and SMAP have no
 * say. With GMET, U/S ceases to restrict data accesses and instead keeps CPL 0–2
 * from executing what is the user's. Entries are checked top-down for presence
 * and reserved bits, then the access against the combined rights, and last A and
 * D are set. Results stay in fields.
 */
import type { CpuContext } from "../../cpu/context.ts";
import { PAGE_SIZE, Stage2Flags, VCPU } from "../../cpu/layout.ts";
import { Access } from "../../cpu/port.ts";
import type { WalkStep } from "./api.ts";
import { EntryReader } from "./entry.ts";
import {
  Attribute,
  Entry,
  ENTRY_XD_HIGH,
  Format,
  FORMATS,
  indexOf,
  Level,
  rootAddress,
} from "./formats.ts";
import { isUser, stage2Permits } from "./rights.ts";
import type { Stage2Request } from "./stage2.ts";

/** EXITINFO1 of a nested page fault (APM 2 §15.25.6). */
export const NpfInfo = {
  Present: 1n << 0n,
  Write: 1n << 1n,
  User: 1n << 2n,
  Reserved: 1n << 3n,
  Fetch: 1n << 4n,
  /** The guest's final physical address was translated. */
  Final: 1n << 32n,
  /** The address of a guest paging-structure entry was translated. */
  Table: 1n << 33n,
} as const;

/** See the file header. One walker serves all vCPUs. */
export class NestedWalker {
  /** After a walk: R2, W2, XS2 (CPL 0–2), XU2 (CPL 3) of all levels combined. */
  rights = 0;
  /** After a walk: 1 when a store needs no further dirty update. */
  dirty = 1;
  /** After a walk: Attribute size code of the nested page. */
  size = 0;

  private readonly entry = new EntryReader();
  private readonly addresses = new Float64Array(6);
  private readonly lows = new Uint32Array(6);

  /**
   * Translates one guest-physical page.
   * @param trace collects the entries read, when explaining
   * @returns host-physical page, or -2 with `cpu.v.stage2` set
   */
  translate(
    cpu: CpuContext,
    guestPage: number,
    offset: number,
    request: Stage2Request,
    trace: WalkStep[] | undefined,
  ): number {
    const { v, physical, model } = cpu;
    const { entry } = this;
    const flags = v.word(VCPU.stage2Flags);
    const format = (flags & Stage2Flags.NptFormatMask) >>>
      Stage2Flags.NptFormatShift;
    const layout = FORMATS[format];
    const { entryBytes, top, addressBits } = layout;
    const wide = entryBytes === 8;
    const nxe = (flags & Stage2Flags.HostNxe) !== 0;
    const pse = (flags & Stage2Flags.HostPse) !== 0;
    let { access } = request;
    if (!request.final) access = access & ~Access.ReadForWrite | Access.Write;
    // No entry can map what the format's linear address cannot name.
    if (guestPage >= 2 ** (addressBits - 12)) {
      return this.fault(cpu, guestPage, offset, request, access, 0n);
    }
    entry.of(model);
    let table = rootAddress(format, v.word(VCPU.stage2Root), v.word(ROOT_HIGH));
    let writable = true;
    let user = true;
    let executable = true;
    let depth = 0;
    for (let level = top; level >= Level.Pte; level--) {
      const at = table + indexOf(layout, level, guestPage) * entryBytes;
      const low = physical.readU32(at);
      const high = wide ? physical.readU32(at + 4) : 0;
      trace?.push({
        stage: 2,
        format,
        level,
        address: at,
        value: BigInt(high) << 32n | BigInt(low),
      });
      if (!(low & Entry.P)) {
        return this.fault(cpu, guestPage, offset, request, access, 0n);
      }
      entry.read(format, level, low, high, guestPage, nxe, pse);
      if (entry.reserved) {
        const bits = NpfInfo.Present | NpfInfo.Reserved;
        return this.fault(cpu, guestPage, offset, request, access, bits);
      }
      table = entry.page * PAGE_SIZE;
      // PDPTEs of PAE paging have no rights and no flags.
      if (format === Format.Pae && level === Level.Pdpte) continue;
      if (!(low & Entry.RW)) writable = false;
      if (!(low & Entry.US)) user = false;
      if (high & ENTRY_XD_HIGH) executable = false;
      this.addresses[depth] = at;
      this.lows[depth++] = low;
      if (entry.leaf) break;
    }
    const gmet = (flags & Stage2Flags.Gmet) !== 0;
    this.size = entry.size;
    this.rights = (writable ? Attribute.W2 : 0) |
      (executable ? Attribute.XU2 : 0) |
      (executable && !(gmet && user) ? Attribute.XS2 : 0) |
      (user || gmet ? Attribute.R2 : 0);
    if (
      !(this.rights & Attribute.R2) ||
      !stage2Permits(v, flags, this.rights, access)
    ) {
      return this.fault(
        cpu,
        guestPage,
        offset,
        request,
        access,
        NpfInfo.Present,
      );
    }
    this.update(cpu, access, depth);
    return entry.page;
  }

  /** Sets A in every entry used and D in the leaf of a write. */
  private update(cpu: CpuContext, access: number, depth: number): void {
    const write = (access & (Access.Write | Access.ReadForWrite)) !== 0;
    this.dirty = write || this.lows[depth - 1] & Entry.D ? 1 : 0;
    if (access & Access.Silent) return;
    for (let i = 0; i < depth; i++) {
      const want = Entry.A | (write && i === depth - 1 ? Entry.D : 0);
      if ((this.lows[i] & want) === want) continue;
      cpu.physical.writeU32(this.addresses[i], this.lows[i] | want);
    }
  }

  /** @param bits Present and Reserved, as the walk found */
  private fault(
    cpu: CpuContext,
    guestPage: number,
    offset: number,
    request: Stage2Request,
    access: number,
    bits: bigint,
  ): number {
    const { v } = cpu;
    const flags = v.word(VCPU.stage2Flags);
    const fetch = (access & Access.Fetch) !== 0;
    let info = bits | (request.final ? NpfInfo.Final : NpfInfo.Table);
    if (access & (Access.Write | Access.ReadForWrite)) info |= NpfInfo.Write;
    // Only a fetch under GMET has a privilege of its own.
    if (!(fetch && flags & Stage2Flags.Gmet) || isUser(v, access)) {
      info |= NpfInfo.User;
    }
    const nx = (flags & Stage2Flags.HostNxe) !== 0 &&
      (flags & Stage2Flags.NptFormatMask) !== 0;
    if (fetch && (nx || flags & Stage2Flags.HostSmep)) info |= NpfInfo.Fetch;
    v.stage2 = {
      misconfiguration: false,
      qualification: info,
      guestPhysicalAddress: guestPage * PAGE_SIZE + offset,
      guestLinearAddress: request.linear ?? 0n,
    };
    return -2;
  }
}

const ROOT_HIGH = VCPU.stage2Root + 4;
