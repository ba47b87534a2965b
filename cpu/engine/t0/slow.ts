/**
 * Loads and stores that compiled code does not do itself: no grant yet, page
 * crossings, devices, code pages, faults. They go through the accessors that
 * procedures use (cpu/access.ts) and then fill the grant caches.
 */
import type { CpuContext } from "../../context.ts";
import type { Insn } from "../../isa/insn.ts";
import { PAGE_SIZE, Seg } from "../../layout.ts";
import { Access } from "../../port.ts";
import { SlowInfo } from "./access_code.ts";
import { type Area, CELL } from "./area.ts";
import { OPERAND_SEGMENT } from "./form.ts";
import type { Grants } from "./grants.ts";
import type { SlowPaths } from "./module.ts";

/** What the slow paths ask of the runner. */
export interface SlowHost {
  /** Makes step and RIP exact for whoever is asked. */
  open(record: number): void;
  insnAt(record: number): Insn;
  /** Whether the record has a fused form; its first instruction then runs alone. */
  single(record: number): boolean;
  /** Compiled code must leave after this instruction. */
  stop(): void;
  /** As SlowPaths. */
  procedure(record: number): number;
}

/** See the file header. */
export class DataPaths implements SlowPaths {
  private readonly u32: Uint32Array;
  private readonly address: number;
  private readonly value: number;
  /** Index of CELL.place. */
  private readonly place: number;

  constructor(
    memory: WebAssembly.Memory,
    { cells }: Area,
    private readonly cpu: CpuContext,
    private readonly grants: Grants,
    private readonly host: SlowHost,
  ) {
    this.u32 = new Uint32Array(memory.buffer);
    this.address = (cells + CELL.address) >>> 2;
    this.value = (cells + CELL.value) >>> 2;
    this.place = (cells + CELL.place) >>> 2;
  }

  /**
   * Slow load into CELL.value; CELL.place is then where a store to the same
   * bytes may go, or 0. @returns 0, or not 0 after a fault
   */
  load(record: number, info: number): number {
    const { cpu, host, u32, address, value } = this;
    const { access } = cpu;
    if (info & SlowInfo.peek) {
      this.grants.fill(u32[address + 1] * 2 ** 20 + (u32[address] >>> 12));
      return 1;
    }
    if (host.single(record)) return 1;
    const write = (info & SlowInfo.write) !== 0;
    if (!this.locate(record, info, write)) return 1;
    const { page, byte } = access;
    const size = info & SlowInfo.sizeMask;
    const kind = write ? Access.ReadForWrite : Access.Read;
    if (access.readAt(page, byte, size, kind) !== 0) return 1;
    u32[value] = access.low;
    u32[value + 1] = access.high;
    u32[this.place] = this.grant(page, byte, size);
    if (cpu.attention) host.stop();
    return 0;
  }

  /** Slow store of CELL.value. @returns 0, or not 0 after a fault */
  store(record: number, info: number): number {
    const { cpu, host, u32, value } = this;
    const { access } = cpu;
    if (host.single(record)) return 1;
    if (!this.locate(record, info, true)) return 1;
    const { page, byte } = access;
    const size = info & SlowInfo.sizeMask;
    const low = u32[value], high = u32[value + 1];
    if (access.writeAt(page, byte, size, low, high, Access.Write) !== 0) {
      return 1;
    }
    this.grant(page, byte, size);
    if (cpu.attention) host.stop();
    return 0;
  }

  procedure(record: number): number {
    return this.host.procedure(record);
  }

  /** Takes the place that CELL.address means. @returns false after a fault */
  private locate(record: number, info: number, write: boolean): boolean {
    const { cpu: { access }, host, u32, address } = this;
    host.open(record);
    const segment = (info >> SlowInfo.segmentShift) & SlowInfo.segmentMask;
    const size = info & SlowInfo.sizeMask;
    const low = u32[address], high = u32[address + 1];
    if (segment !== OPERAND_SEGMENT) {
      return access.locate(segment, low, high, size, write);
    }
    // Which segment it is tells only who refuses an address.
    if (access.locate(Seg.DS, low, high, size, write)) return true;
    const { memory } = host.insnAt(record);
    return access.locate(memory!.segment, low, high, size, write);
  }

  /** @returns host offset of the bytes, if they may now be written silently */
  private grant(page: number, byte: number, size: number): number {
    const start = this.grants.fill(page);
    return start === 0 || byte + size > PAGE_SIZE ? 0 : start + byte;
  }
}
