/**
 * The MMU: architectural TLBs in front of the walker, the invalidations that
 * the manuals prescribe (SDM 3A §4.10.4, 3C §29.4.3; APM 2 §15.16), and the
 * silent walk for observers. Implements the cpu's `Translator`.
 */
import { Cr0, Cr4, Efer } from "../../cpu/arch/flags.ts";
import type { CpuContext } from "../../cpu/context.ts";
import { type Layout, Stage2Flags, VCPU } from "../../cpu/layout.ts";
import { Access, Control, CR3_NO_FLUSH, Grant } from "../../cpu/port.ts";
import type { Vcpu } from "../../cpu/vcpu.ts";
import { Flush, type MmuService, MmuWalked, TlbFlushed } from "./api.ts";
import type { Walk, WalkStep } from "./api.ts";
import { Attribute } from "./formats.ts";
import { guestPermits, stage2InForce, stage2Permits } from "./rights.ts";
import { type EntryTest, Tlb } from "./tlb.ts";
import { Walker } from "./walk.ts";

const PAGING_CR0 = Cr0.PG | Cr0.WP | Cr0.PE;
const PAGING_CR4 = Cr4.PSE | Cr4.PAE | Cr4.PGE | Cr4.PCIDE | Cr4.SMEP |
  Cr4.SMAP | Cr4.LA57 | Cr4.PKE | Cr4.PKS;
/** Entries above which dropping all grants is cheaper than one by one. */
const MANY = 1024;
/** Tells the engine to drop grants of one page or all. */
export type GrantDropper = (cpu: number, linearPage?: number) => void;

/** See the file header. */
export class MmuModel implements MmuService {
  private readonly walker = new Walker();
  private readonly data: Tlb[] = [];
  private readonly code: Tlb[] = [];

  constructor(
    memory: WebAssembly.Memory,
    layout: Layout,
    private readonly dropGrants: GrantDropper,
  ) {
    for (let i = 0; i < layout.cpus; i++) {
      this.data.push(new Tlb(memory, layout, i, false));
      this.code.push(new Tlb(memory, layout, i, true));
    }
  }

  /** State pages were replaced. */
  restored(): void {
    for (const tlb of [...this.data, ...this.code]) tlb.restored();
  }

  translate(
    cpu: CpuContext,
    linearPage: number,
    offset: number,
    access: number,
  ): number {
    const { v } = cpu;
    const root = stage2RootPage(cpu);
    const paged = (v.cr0 & Cr0.PG) !== 0;
    if (!paged && root === 0) return linearPage;
    const tag = v.word(VCPU.tlbTag);
    const pcid = pcidOf(cpu);
    const silent = (access & Access.Silent) !== 0;
    const tlb = access & Access.Fetch
      ? this.code[cpu.index]
      : this.data[cpu.index];
    if (!silent) {
      const at = tlb.find(linearPage, tag, pcid, root);
      if (at >= 0) {
        if (this.hit(cpu, tlb.attributes(at), access, root)) {
          return tlb.frame(at);
        }
        // A forbidden or not-yet-dirty hit is walked again (§4.10.2.2).
        tlb.drop(at);
        this.dropGrants(cpu.index, linearPage);
      }
    }
    const { walker } = this;
    const frame = walker.walk(cpu, linearPage, offset, access);
    if (silent) return frame;
    if (cpu.facts.wants(MmuWalked)) {
      this.report(cpu, linearPage, access, frame);
    }
    if (frame < 0) {
      this.forget(cpu, linearPage, tag, pcid, root);
      return frame;
    }
    const evicted = tlb.fill(
      linearPage,
      tag,
      pcid,
      root,
      walker.attributes,
      frame,
      walker.guestFrame,
    );
    if (evicted >= 0) this.dropGrants(cpu.index, evicted);
    return frame;
  }

  /**
   * A page fault invalidates the address in all TLBs (SDM 3A §4.10.4.1), an EPT
   * violation its combined mappings (SDM 3C §29.4.3.1).
   */
  private forget(
    cpu: CpuContext,
    linearPage: number,
    tag: number,
    pcid: number,
    root: number,
  ): void {
    for (const tlb of [this.data[cpu.index], this.code[cpu.index]]) {
      const at = tlb.find(linearPage, tag, pcid, root);
      if (at < 0) continue;
      tlb.drop(at);
      this.dropGrants(cpu.index, linearPage);
    }
  }

  private hit(
    cpu: CpuContext,
    attributes: number,
    access: number,
    root: number,
  ): boolean {
    const write = access & (Access.Write | Access.ReadForWrite);
    if (write && !(attributes & Attribute.D)) return false;
    if (!guestPermits(cpu.v, attributes, access)) return false;
    return root === 0 ||
      stage2Permits(cpu.v, cpu.v.word(VCPU.stage2Flags), attributes, access);
  }

  private report(
    cpu: CpuContext,
    linearPage: number,
    access: number,
    frame: number,
  ): void {
    const ok = frame >= 0;
    cpu.facts.emit(MmuWalked, {
      cpu: cpu.index,
      access,
      outcome: ok ? 0 : -frame,
      linear: BigInt(linearPage) << 12n,
      guestPhysical: ok ? BigInt(this.walker.guestFrame) << 12n : 0n,
      physical: ok ? BigInt(frame) << 12n : 0n,
      attributes: ok ? this.walker.attributes : 0,
    });
  }

  grantable(cpu: CpuContext, linearPage: number, access: number): boolean {
    const { v } = cpu;
    if (breakpointsEnabled(v)) return false;
    const root = stage2RootPage(cpu);
    if (!(v.cr0 & Cr0.PG) && root === 0) return true;
    const tlb = access & Access.Fetch
      ? this.code[cpu.index]
      : this.data[cpu.index];
    const at = tlb.find(linearPage, v.word(VCPU.tlbTag), pcidOf(cpu), root);
    return at >= 0 && this.hit(cpu, tlb.attributes(at), access, root);
  }

  grants(cpu: CpuContext, linearPage: number): number {
    const { v } = cpu;
    if (breakpointsEnabled(v)) return 0;
    const root = stage2RootPage(cpu);
    if (!(v.cr0 & Cr0.PG) && root === 0) {
      return linearPage * Grant.Size + Grant.Read + Grant.Write;
    }
    const tlb = this.data[cpu.index];
    const at = tlb.find(linearPage, v.word(VCPU.tlbTag), pcidOf(cpu), root);
    if (at < 0) return 0;
    const attributes = tlb.attributes(at);
    const read = this.hit(cpu, attributes, Access.Read, root) ? Grant.Read : 0;
    const write = this.hit(cpu, attributes, Access.Write, root)
      ? Grant.Write
      : 0;
    return tlb.frame(at) * Grant.Size + read + write;
  }

  controlChanged(
    cpu: CpuContext,
    what: number,
    old: number,
    now: number,
  ): void {
    const { v } = cpu;
    const changed = old ^ now;
    if (what === Control.Cr3) {
      // `old` carries bit 63 of the source as 1 (MOV to CR3, §4.10.4.1).
      if ((v.cr4 & Cr4.PCIDE) !== 0 && old === CR3_NO_FLUSH) {
        this.dropGrants(cpu.index);
        return;
      }
      this.loadedCr3(cpu);
    } else if (what === Control.Cr0 && changed & PAGING_CR0) {
      if (changed & Cr0.PG) {
        this.flush(cpu, Flush.Tag, v.word(VCPU.tlbTag), 0, 0n);
      } else this.dropGrants(cpu.index);
    } else if (what === Control.Cr4 && changed & PAGING_CR4) {
      // §4.10.4.1: PGE changes; PCIDE 1→0; SMEP 0→1; PAE, PSE and LA57 change how entries read.
      const flushing = Cr4.PGE | Cr4.PAE | Cr4.PSE | Cr4.LA57;
      if (
        changed & flushing || (changed & Cr4.PCIDE && !(now & Cr4.PCIDE)) ||
        (changed & Cr4.SMEP && now & Cr4.SMEP)
      ) this.flush(cpu, Flush.Tag, v.word(VCPU.tlbTag), 0, 0n);
      else this.dropGrants(cpu.index);
    } else if (what === Control.ProtectionKeys) {
      this.dropGrants(cpu.index);
    } else if (what === Control.Efer && changed & (Efer.NXE | Efer.LMA)) {
      this.flush(cpu, Flush.Tag, v.word(VCPU.tlbTag), 0, 0n);
    }
  }

  /**
   * MOV to CR3 without bit 63. Rights stay as they are, so that without PCIDs
   * grants end with their entries: those of global pages go on.
   */
  private loadedCr3(cpu: CpuContext): void {
    const { v, index } = cpu;
    const tag = v.word(VCPU.tlbTag);
    const pcid = pcidOf(cpu);
    const dropped = this.data[index].flushLocal(tag, pcid);
    dropped.push(...this.code[index].flushLocal(tag, pcid));
    this.dropPages(index, v.cr4 & Cr4.PCIDE ? undefined : dropped);
    if (cpu.facts.wants(TlbFlushed)) {
      cpu.facts.emit(TlbFlushed, {
        cpu: index,
        kind: Flush.Pcid,
        tag,
        linear: 0n,
      });
    }
  }

  invlpg(cpu: CpuContext, linear: bigint): void {
    this.flush(cpu, Flush.Address, cpu.v.word(VCPU.tlbTag), 0, linear);
  }

  invpcid(
    cpu: CpuContext,
    type: number,
    pcid: number,
    linear: bigint,
  ): void {
    const tag = cpu.v.word(VCPU.tlbTag);
    const page = Number(linear >> 12n);
    const own = (tlb: Tlb, at: number): boolean => tlb.tag(at) === tag;
    const test: EntryTest = [
      (t: Tlb, at: number): boolean =>
        own(t, at) && t.pcid(at) === pcid && t.covers(at, page) &&
        !(t.attributes(at) & Attribute.G),
      (t: Tlb, at: number): boolean =>
        own(t, at) && t.pcid(at) === pcid && !(t.attributes(at) & Attribute.G),
      own,
      (t: Tlb, at: number): boolean =>
        own(t, at) && !(t.attributes(at) & Attribute.G),
    ][type];
    this.drop(cpu, test, Flush.Pcid, tag, linear);
  }

  flush(
    cpu: CpuContext,
    kind: number,
    tag: number,
    root: number,
    linear: bigint,
  ): void {
    const page = Number(linear >> 12n);
    const rootPage = Math.floor(root / 4096) + ROOT_IN_FORCE;
    const test = entriesOf(kind, tag, pcidOf(cpu), page, rootPage);
    this.drop(cpu, test, kind, tag, linear);
  }

  private drop(
    cpu: CpuContext,
    test: EntryTest,
    kind: number,
    tag: number,
    linear: bigint,
  ): void {
    const data = this.data[cpu.index], code = this.code[cpu.index];
    if (kind === Flush.Address || kind === Flush.VpidAddress) {
      const page = Number(linear >> 12n);
      this.dropPages(cpu.index, data.flushAround(page, test));
      this.dropPages(cpu.index, code.flushAround(page, test));
    } else {
      data.flush(test);
      code.flush(test);
      this.dropGrants(cpu.index);
    }
    if (cpu.facts.wants(TlbFlushed)) {
      cpu.facts.emit(TlbFlushed, { cpu: cpu.index, kind, tag, linear });
    }
  }

  /** Ends the grants of the pages whose entries are gone; of all, if not known. */
  private dropPages(cpu: number, pages: readonly number[] | undefined): void {
    if (pages === undefined || pages.length > MANY) this.dropGrants(cpu);
    else for (const page of pages) this.dropGrants(cpu, page);
  }

  loadPdptes(cpu: CpuContext, cr3: number): boolean {
    return this.walker.loadPdptes(cpu, cr3);
  }

  translatePhysical(
    cpu: CpuContext,
    guestPhysicalPage: number,
    access: number,
  ): number {
    if (stage2RootPage(cpu) === 0) return guestPhysicalPage;
    return this.walker.stage2.translate(cpu, guestPhysicalPage, 0, {
      access,
      final: true,
      linear: undefined,
      guestAttributes: Attribute.U | Attribute.W,
    });
  }

  explain(cpu: CpuContext, linear: bigint, access: number): Walk {
    const { v } = cpu;
    const steps: WalkStep[] = [];
    const pending = v.pending;
    const stage2 = v.stage2;
    this.walker.explainTo(steps);
    try {
      const frame = this.walker.walk(
        cpu,
        Number(linear >> 12n),
        Number(linear & 0xfffn),
        access | Access.Silent,
      );
      const ok = frame >= 0;
      return {
        linear,
        steps,
        outcome: ok ? 0 : -frame,
        guestPhysical: ok
          ? this.walker.guestFrame * 4096 + Number(linear & 0xfffn)
          : undefined,
        physical: ok ? frame * 4096 + Number(linear & 0xfffn) : undefined,
        attributes: ok ? this.walker.attributes : 0,
        errorCode: frame === -1 ? this.walker.errorCode : 0,
        qualification: frame === -2 ? v.stage2?.qualification ?? 0n : 0n,
      };
    } finally {
      this.walker.explainTo(undefined);
      v.pending = pending;
      v.stage2 = stage2;
    }
  }

  cached(
    cpu: CpuContext,
    linear: bigint,
    fetch: boolean,
  ): { frame: number; attributes: number } | undefined {
    const tlb = fetch ? this.code[cpu.index] : this.data[cpu.index];
    const at = tlb.find(
      Number(linear >> 12n),
      cpu.v.word(VCPU.tlbTag),
      pcidOf(cpu),
      stage2RootPage(cpu),
    );
    return at < 0
      ? undefined
      : { frame: tlb.frame(at), attributes: tlb.attributes(at) };
  }
}

/**
 * What decides how nested entries read: entries made in one such mode serve no
 * other, so that what is cached are the rights in force.
 */
const NESTED_MODE = Stage2Flags.Npt | Stage2Flags.NptFormatMask |
  Stage2Flags.HostNxe | Stage2Flags.HostPse | Stage2Flags.Gmet;
/** Tells a root at physical page 0 from stage 2 being off. */
const ROOT_IN_FORCE = 2 ** 40;

/** Page number of the stage-2 root in force, with its mode above; 0 when it is off. */
function stage2RootPage(cpu: CpuContext): number {
  const at = (cpu.v.base + VCPU.stage2Root) >>> 2;
  const { u32 } = cpu.v;
  if (!stage2InForce(cpu.v)) return 0;
  const mode = (cpu.v.word(VCPU.stage2Flags) & NESTED_MODE) /
    Stage2Flags.Npt;
  return (u32[at] >>> 12) + (u32[at + 1] & 0xfffff) * 2 ** 20 +
    (mode * 2 + 1) * ROOT_IN_FORCE;
}

/** DR7 enables a breakpoint (SDM 3B §18.2.4). */
function breakpointsEnabled(v: Vcpu): boolean {
  return (v.word(VCPU.dr + 7 * 8) & 0xff) !== 0;
}

/** PCID in force; 0 while CR4.PCIDE = 0 (SDM 3A §4.10.1). */
function pcidOf(cpu: CpuContext): number {
  const { v } = cpu;
  return v.cr4 & Cr4.PCIDE ? v.word(VCPU.cr3) & 0xfff : 0;
}

/** The entries that a flush is about (SDM 3A §4.10.4, 3C §28.4.3; APM 2 §15.16). */
function entriesOf(
  kind: number,
  tag: number,
  pcid: number,
  page: number,
  rootPage: number,
): EntryTest {
  const global = (t: Tlb, at: number): boolean =>
    (t.attributes(at) & Attribute.G) !== 0;
  switch (kind) {
    case Flush.Address:
      return (t, at) =>
        t.tag(at) === tag && (t.pcid(at) === pcid || global(t, at)) &&
        t.covers(at, page);
    case Flush.Pcid:
      return (t, at) =>
        t.tag(at) === tag && t.pcid(at) === pcid && !global(t, at);
    case Flush.VpidAddress:
      return (t, at) => t.tag(at) === tag && t.covers(at, page);
    case Flush.AllVpids:
      return (t, at) => t.tag(at) !== 0;
    case Flush.VpidNonGlobal:
      return (t, at) => t.tag(at) === tag && !global(t, at);
    case Flush.Root:
      return (t, at) => t.root(at) === rootPage;
    case Flush.AllRoots:
      return (t, at) => t.root(at) !== 0;
    case Flush.Everything:
      return () => true;
    default: // Tag, VpidAll
      return (t, at) => t.tag(at) === tag;
  }
}
