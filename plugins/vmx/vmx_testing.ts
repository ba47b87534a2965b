/**
 * Test companion: one vCPU with RAM, the real MMU and the real VMX unit, but no
 * engine: tests perform VM entries, exits and VMX instructions directly. The
 * vCPU starts in 64-bit mode at CPL 0, outside VMX operation, unpaged VMCS
 * regions at fixed addresses.
 */
import { NotModelled } from "../../core/errors.ts";
import type { EventToken } from "../../core/event.ts";
import { LinearAccess } from "../../cpu/access.ts";
import { Cr0, Cr4, Efer } from "../../cpu/arch/flags.ts";
import { Intercept } from "../../cpu/arch/intercepts.ts";
import { parseModel } from "../../cpu/arch/models.ts";
import { MsrSlot } from "../../cpu/arch/msr.ts";
import type { CpuContext } from "../../cpu/context.ts";
import type { Insn } from "../../cpu/isa/insn.ts";
import { Outcome } from "../../cpu/isa/row.ts";
import { createLayout, Seg, VCPU } from "../../cpu/layout.ts";
import { PhysicalMemory } from "../../cpu/physical.ts";
import type { DeliveredEvent } from "../../cpu/port.ts";
import { readMsr, writeMsr } from "../../cpu/semantics/system/msr.ts";
import { Vcpu } from "../../cpu/vcpu.ts";
import { createDecoder } from "../decoder/decode.ts";
import { MmuModel } from "../mmu/mmu.ts";
import { VMCS_FIELDS } from "./api.ts";
import { validVmcs, type VmcsDraft } from "./entry_cases_testing.ts";
import { vmEntry } from "./entry.ts";
import { VmxUnit } from "./unit.ts";
import { VmxVirtualization } from "./virtualization.ts";
import { Vmcs } from "./vmcs.ts";
import { VmcsField as F } from "./vmcs_fields.ts";

/** Where the rig keeps things in RAM. */
export const RIG = {
  /** Identity-mapping page tables of the first 2 MiB. */
  pml4: 0x1000,
  pdpt: 0x2000,
  pd: 0x3000,
  /** EPT of the same shape. */
  eptPml4: 0x4000,
  vmxon: 0x8000,
  vmcs: 0x9000,
  other: 0xa000,
  /** Scratch data. */
  data: 0x10000,
} as const;

/** A fact as emitted. */
export interface RigFact {
  readonly event: EventToken<never>;
  readonly payload: unknown;
}

/** See the file header. */
export class VmxRig {
  readonly cpu: CpuContext;
  readonly unit: VmxUnit;
  readonly port: VmxVirtualization;
  readonly facts: RigFact[] = [];
  /** Events handed to delivery by VM entries. */
  readonly delivered: { event: DeliveredEvent; payload: bigint }[] = [];
  /** Called instead of recording a delivery. */
  onDeliver: (() => void) | undefined;
  timer: number | undefined;
  now = 0;
  vector = 0x20;
  private readonly decoder;

  constructor(model = "max-intel") {
    const layout = createLayout(1, 2 << 20, 1 << 16);
    const pages = layout.totalBytes / 65536;
    const memory = new WebAssembly.Memory({ initial: pages, maximum: pages });
    const parsed = parseModel(model);
    const v = new Vcpu(memory, layout, 0);
    const devices = {
      in: () => 0,
      out: () => {},
      claims: () => false,
      read: () => 0xffff_ffff_ffff_ffffn,
      write: () => {},
    };
    const physical = new PhysicalMemory(memory, layout, devices);
    const mmu = new MmuModel(memory, layout, () => {});
    const facts = this.facts;
    const cpu = {
      index: 0,
      layout,
      v,
      model: parsed,
      physical,
      translator: mmu,
      devices,
      interrupts: {
        acknowledge: () => this.vector,
        readTpr: () => 0,
        writeTpr: () => {},
      },
      virtualization: undefined as VmxVirtualization | undefined,
      facts: {
        observed: false,
        retired: () => {},
        memoryWrote: () => {},
        registerWrote: () => {},
        wants: () => true,
        emit: <P>(event: EventToken<P>, payload: P): void => {
          facts.push({ event: event as EventToken<never>, payload });
        },
      },
      time: () => this.now,
      random: () => 0n,
      nextRip: 0n,
      shadow: 0,
      attention: false,
      delivering: undefined,
      deliver: (event: DeliveredEvent, payload: bigint): void => {
        this.delivered.push({ event, payload });
        this.onDeliver?.();
      },
      notModelled(what: string, manual: string): never {
        throw new NotModelled(what, manual);
      },
    };
    this.cpu = Object.assign(cpu, {
      access: new LinearAccess(cpu as unknown as CpuContext),
    });
    this.unit = new VmxUnit(parsed, [this.cpu], {
      msrs: { read: readMsr, write: writeMsr },
      dropGrants: () => {},
      arm: (time) => this.timer = time,
    });
    this.port = new VmxVirtualization(this.unit);
    cpu.virtualization = this.port;
    this.decoder = createDecoder(parsed);
    this.reset();
  }

  private reset(): void {
    const { v, physical, model } = this.cpu;
    v.cr0 = (Cr0.PE | Cr0.NE | Cr0.ET | Cr0.PG) >>> 0;
    v.cr3 = RIG.pml4;
    v.cr4 = Cr4.PAE | Cr4.VMXE;
    v.efer = Efer.LMA | Efer.LME;
    v.rflags = 2;
    v.rip = 0x20000n;
    for (let s = 0; s < 6; s++) {
      v.setSegment(s, {
        selector: s === Seg.CS ? 8 : 0x10,
        base: 0n,
        limit: 0xffff_ffff,
        attributes: s === Seg.CS ? 0xa09b : 0xc093,
      });
    }
    v.setSegment(Seg.TR, {
      selector: 0x18,
      base: 0n,
      limit: 0x67,
      attributes: 0x8b,
    });
    v.setMsr(MsrSlot.FeatureControl, 5n);
    v.setMsr(MsrSlot.Pat, 0x0007_0406_0007_0406n);
    v.setDr(7, 0x400n);
    physical.writeU64(RIG.pml4, BigInt(RIG.pdpt | 7));
    physical.writeU64(RIG.pdpt, BigInt(RIG.pd | 7));
    physical.writeU64(RIG.pd, 0x87n);
    physical.writeU64(RIG.eptPml4, BigInt(0x5000 | 7));
    physical.writeU64(0x5000, BigInt(0x6000 | 7));
    physical.writeU64(0x6000, 0xb7n);
    for (const region of [RIG.vmxon, RIG.vmcs, RIG.other]) {
      physical.writeU32(region, model.vmcsRevision);
    }
  }

  /** Decodes one instruction from bytes at RIP. */
  decode(bytes: readonly number[], codeSize: 16 | 32 | 64 = 64): Insn {
    const all = Uint8Array.from([...bytes, ...new Array(15).fill(0x90)]);
    const { rip } = this.cpu.v;
    const insn = this.decoder.decode(
      all,
      15,
      codeSize,
      rip,
      codeSize,
      false,
    );
    if (typeof insn === "number") {
      throw new RangeError(`cannot decode ${bytes}: failure ${insn}`);
    }
    this.cpu.nextRip = rip + BigInt(insn.length);
    return insn;
  }

  /** Decodes and executes a VMX instruction. @returns outcome */
  execute(bytes: readonly number[], codeSize: 32 | 64 = 64): number {
    const insn = this.decode(bytes, codeSize);
    // As the loop does: in a guest the port is asked first.
    if (this.port.intercept(this.cpu, Intercept.Virtualization, insn, 0)) {
      return Outcome.Exit;
    }
    return this.port.execute(this.cpu, insn);
  }

  /** Enters VMX operation and makes RIG.vmcs current. */
  operation(): this {
    const { v } = this.cpu;
    v.setQuad(VCPU.virtualization + 0x08, BigInt(RIG.vmxon));
    v.setWord(VCPU.virtualization, 3);
    v.setQuad(VCPU.virtualization + 0x10, BigInt(RIG.vmcs));
    return this;
  }

  /** The current VMCS region. */
  get vmcs(): Vmcs {
    return new Vmcs(this.cpu.physical, RIG.vmcs);
  }

  /** Copies a draft into the current VMCS. */
  load(draft: VmcsDraft): this {
    const { vmcs } = this;
    for (const row of VMCS_FIELDS) {
      vmcs.write(row.encoding, draft.read(row.encoding));
    }
    return this;
  }

  /** Payloads of facts of one kind. */
  of<P>(event: EventToken<P>): P[] {
    return this.facts.filter((f) =>
      f.event.id === (event as EventToken<never>).id
    ).map((f) => f.payload as P);
  }
}

/** A rig in VMX operation whose VMCS enters a 64-bit guest under EPT. */
export function rigWith(
  prepare: (d: VmcsDraft) => unknown = () => {},
  model?: string,
): VmxRig {
  const draft = validVmcs("long", model);
  draft.set(F.Eptp, RIG.eptPml4 | 0x1e);
  prepare(draft);
  return new VmxRig(model).operation().load(draft);
}

/** VMLAUNCH. @returns 0, or what failed */
export function enter(rig: VmxRig): number {
  return vmEntry(rig.unit, rig.cpu, true, 0x20000n);
}
