/**
 * The MMU alone, for generated cases: one vCPU's registers, RAM and the MMU
 * model over a real layout, no kernel and no engine. What a case changes (table
 * entries, control registers) is set directly; what the MMU does to RAM, TLB,
 * grants and facts can be read back.
 */
import type { EventToken } from "../../core/event.ts";
import { type CpuModel, parseModel } from "../../cpu/arch/models.ts";
import { LinearAccess } from "../../cpu/access.ts";
import type { CpuContext } from "../../cpu/context.ts";
import { DeviceSpace } from "../../cpu/devices.ts";
import { createLayout, Stage2Flags, VCPU } from "../../cpu/layout.ts";
import { PhysicalMemory } from "../../cpu/physical.ts";
import {
  type PendingException,
  type Stage2Fault,
  Vcpu,
} from "../../cpu/vcpu.ts";
import { NotModelled } from "../../core/errors.ts";
import { MmuModel } from "../../plugins/mmu/mmu.ts";

/** A fact as emitted. */
export interface Stated {
  readonly name: string;
  readonly payload: unknown;
}

/** See the file header. */
export class MmuRig {
  readonly cpu: CpuContext;
  readonly v: Vcpu;
  readonly physical: PhysicalMemory;
  readonly devices: DeviceSpace;
  readonly mmu: MmuModel;
  /** Grants dropped: linear page, or undefined for all. */
  readonly dropped: (number | undefined)[] = [];
  readonly facts: Stated[] = [];
  /** Stores stated by `cpu.access`: linear, size, value, old. */
  readonly stores: [bigint, number, bigint, bigint][] = [];
  /** Whether facts are wanted. */
  observed = false;

  constructor(model: string | CpuModel = "max-intel", ramBytes = 1 << 22) {
    const layout = createLayout(1, ramBytes, 0);
    const pages = layout.totalBytes / 65536;
    const memory = new WebAssembly.Memory({ initial: pages, maximum: pages });
    this.devices = new DeviceSpace(ramBytes);
    this.physical = new PhysicalMemory(memory, layout, this.devices);
    this.v = new Vcpu(memory, layout, 0);
    this.mmu = new MmuModel(
      memory,
      layout,
      (_cpu, page) => void this.dropped.push(page),
    );
    const wants = (): boolean => this.observed;
    const cpu = {
      index: 0,
      layout,
      v: this.v,
      model: typeof model === "string" ? parseModel(model) : model,
      physical: this.physical,
      translator: this.mmu,
      devices: this.devices,
      interrupts: {
        acknowledge: () => -1,
        readTpr: () => 0,
        writeTpr: () => {},
      },
      virtualization: undefined,
      facts: {
        get observed() {
          return wants();
        },
        retired: () => {},
        memoryWrote: (
          _cpu: number,
          linear: bigint,
          _physical: number,
          size: number,
          value: bigint,
          old: bigint,
        ) => void this.stores.push([linear, size, value, old]),
        registerWrote: () => {},
        wants,
        emit: <P>(event: EventToken<P>, payload: P) =>
          void this.facts.push({ name: event.name, payload }),
      },
      time: () => 0,
      random: () => 0n,
      nextRip: 0n,
      attention: false,
      delivering: undefined,
      deliver() {
        throw new Error("deliver an event: the MMU rig has no IDT");
      },
      notModelled(what: string, manual: string): never {
        throw new NotModelled(what, manual);
      },
    };
    this.cpu = Object.assign(cpu, {
      access: new LinearAccess(cpu as unknown as CpuContext),
    });
  }

  /** Writes one table entry of 8 (or 4) bytes. */
  put(address: number, value: bigint, bytes = 8): void {
    this.physical.write(address, bytes, value);
  }
  get(address: number, bytes = 8): bigint {
    return this.physical.read(address, bytes);
  }

  /** Puts an EPT in force. @param flags Stage2Flags besides Ept */
  nested(root: number, flags = 0): void {
    this.v.setQuad(VCPU.stage2Root, BigInt(root));
    this.v.setWord(VCPU.stage2Flags, Stage2Flags.Ept | flags);
  }

  /** Puts nested page tables in force. @param flags of nestedPagingFlags */
  nestedPaging(root: number, flags: number): void {
    this.v.setQuad(VCPU.stage2Root, BigInt(root));
    this.v.setWord(VCPU.stage2Flags, flags);
  }

  /** Translates and takes what it left behind. */
  translate(linear: bigint, access: number): Translated {
    const { v } = this;
    v.pending = undefined;
    v.stage2 = undefined;
    const frame = this.mmu.translate(
      this.cpu,
      Number(linear >> 12n),
      Number(linear & 0xfffn),
      access,
    );
    return { frame, fault: this.raised(), stage2: v.stage2 };
  }
  /** The exception that the last access raised. */
  raised(): PendingException | undefined {
    return this.v.pending;
  }
}

/** Outcome of one translation. */
export interface Translated {
  readonly frame: number;
  readonly fault: PendingException | undefined;
  readonly stage2: Stage2Fault | undefined;
}
