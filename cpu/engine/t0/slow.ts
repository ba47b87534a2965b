/**
 * Loads and stores that compiled code does not do itself: no grant yet, page
 * crossings, devices, code pages, faults. They go through the accessors that
 * procedures use (cpu/access.ts) and then fill the grant caches.
 */
import type { CpuContext } from "../../context.ts";
import type { Insn } from "../../isa/insn.ts";
import { Access } from "../../port.ts";
import { SlowInfo } from "./access_code.ts";
import { type Area, CELL } from "./area.ts";
import { OPERAND_SEGMENT } from "./form.ts";
import type { Grants } from "./grants.ts";
import type { SlowPaths } from "./module.ts";

/** What the slow paths ask of the runner. */
export interface SlowHost {
  /** Makes step and RIP exact for whoever is asked. @returns the instruction */
  open(record: number): Insn;
  /** Whether the record has a fused form; its first instruction then runs alone. */
  single(record: number): boolean;
  /** Compiled code must leave after this instruction. */
  stop(): void;
}

/** See the file header. */
export class DataPaths implements SlowPaths {
  private readonly u64: BigUint64Array;
  private readonly address: number;
  private readonly value: number;

  constructor(
    memory: WebAssembly.Memory,
    { cells }: Area,
    private readonly cpu: CpuContext,
    private readonly grants: Grants,
    private readonly host: SlowHost,
  ) {
    this.u64 = new BigUint64Array(memory.buffer);
    this.address = (cells + CELL.address) >>> 3;
    this.value = (cells + CELL.value) >>> 3;
  }

  /** Slow load into CELL.value. @returns 0, or not 0 after a fault */
  load(record: number, info: number): number {
    const { cpu, host, u64 } = this;
    const { access } = cpu;
    if (host.single(record)) return 1;
    const segment = this.segmentOf(host.open(record), info);
    const size = info & SlowInfo.sizeMask;
    const offset = u64[this.address];
    const write = (info & SlowInfo.write) !== 0;
    const kind = write ? Access.ReadForWrite : Access.Read;
    const value = access.readSegment(segment, offset, size, kind);
    if (access.outcome !== 0) return 1;
    u64[this.value] = value;
    if (!write) this.grant(segment, offset, size, false);
    if (cpu.attention) host.stop();
    return 0;
  }

  /** Slow store of CELL.value. @returns 0, or not 0 after a fault */
  store(record: number, info: number): number {
    const { cpu, host, u64 } = this;
    if (host.single(record)) return 1;
    const segment = this.segmentOf(host.open(record), info);
    const size = info & SlowInfo.sizeMask;
    const offset = u64[this.address];
    const value = u64[this.value];
    if (cpu.access.writeSegment(segment, offset, size, value) !== 0) return 1;
    this.grant(segment, offset, size, true);
    if (cpu.attention) host.stop();
    return 0;
  }

  private segmentOf(insn: Insn, info: number): number {
    const segment = (info >> SlowInfo.segmentShift) & SlowInfo.segmentMask;
    return segment === OPERAND_SEGMENT ? insn.memory!.segment : segment;
  }

  private grant(
    segment: number,
    offset: bigint,
    size: number,
    write: boolean,
  ): void {
    const linear = this.cpu.access.linear(segment, offset, size, write);
    if (linear === undefined) return;
    if (Number(linear & 0xfffn) + size <= 4096) this.grants.fill(linear, write);
  }
}
