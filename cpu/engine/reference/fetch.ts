/**
 * Instruction fetch (SDM vol. 3A §4.6, §5.3, vol. 2A §2.3.11): CS limit or
 * canonical check, translation of at most two pages, decode, and a cache of
 * decoded instructions by physical page, offset and mode.
 *
 * Invariant: a cached page carries PageFlag.Code, so that the first write to it
 * drops its instructions. Instructions that cross a page are not cached.
 */
import { Vector } from "../../arch/exceptions.ts";
import { Cr0, Rflags, SegmentRights } from "../../arch/flags.ts";
import type { CpuContext } from "../../context.ts";
import { DecodeFailure, type InstructionDecoder } from "../../isa/decoder.ts";
import type { Insn } from "../../isa/insn.ts";
import { Seg } from "../../layout.ts";
import type { PhysicalMemory } from "../../physical.ts";
import { Access } from "../../port.ts";

const PAGE = 4096;
const MAX_LENGTH = 15;
/** Not an outcome: the decoder knows the form and we have no row. */
export const NOT_MODELLED = -1;

/** What the decoding of bytes depends on besides them. */
interface Mode {
  readonly codeSize: 16 | 32 | 64;
  readonly stackSize: 16 | 32 | 64;
  readonly real: boolean;
  /** Small number standing for the three. */
  readonly key: number;
}

const MODES: Mode[] = [];
for (const codeSize of [16, 32, 64] as const) {
  for (const stackSize of [16, 32, 64] as const) {
    for (const real of [false, true]) {
      MODES.push({ codeSize, stackSize, real, key: MODES.length });
    }
  }
}
const rank = (size: number): number => size === 16 ? 0 : size === 32 ? 1 : 2;

/** The decoding mode of a vCPU now. */
export function decodeMode(cpu: CpuContext): Mode {
  const { v, access } = cpu;
  if (access.long) return MODES[rank(64) * 6 + rank(64) * 2];
  const big = SegmentRights.DefaultBig;
  const code = v.segAttributes(Seg.CS) & big ? 32 : 16;
  const stack = v.segAttributes(Seg.SS) & big ? 32 : 16;
  const real = (v.cr0 & Cr0.PE) === 0 || (v.rflags & Rflags.VM) !== 0;
  return MODES[rank(code) * 6 + rank(stack) * 2 + (real ? 1 : 0)];
}

/** Its bytes are compared on each fetch, so that it need not be told of writes. */
interface Crossing {
  readonly insn: Insn;
  readonly bytes: Uint8Array;
}

/** Fetches and decodes for all vCPUs of a machine. */
export class Fetcher {
  /** After NOT_MODELLED. */
  notModelled = "";
  /** The instruction, when `fetch` returned 0. */
  insn: Insn | undefined;
  private readonly bytes = new Uint8Array(MAX_LENGTH);
  /** By frame × MODES + mode: instructions by offset (sparse). */
  private readonly pages = new Map<number, Insn[]>();
  /** By frame × MODES + mode: the last instruction that began there and ended in another page. */
  private readonly crossing = new Map<number, Crossing>();
  private recentKey = -1;
  private recent: Insn[] | undefined;

  constructor(private readonly decoder: InstructionDecoder) {}

  /**
   * The instruction at RIP.
   * @returns 0 with `insn` set; Outcome.Fault or Outcome.Stage2; NOT_MODELLED
   */
  fetch(cpu: CpuContext): number {
    const { v, access, physical } = cpu;
    const rip = v.rip;
    const mode = decodeMode(cpu);
    let linear = rip, room = MAX_LENGTH;
    if (mode.codeSize === 64) {
      if (!access.canonical(rip)) return v.raise(Vector.GP, 0);
    } else {
      const left = BigInt(v.segLimit(Seg.CS)) - rip + 1n;
      if (left <= 0n) return v.raise(Vector.GP, 0);
      if (left < MAX_LENGTH) room = Number(left);
      linear = (v.segBase(Seg.CS) + rip) & 0xffff_ffffn;
    }
    const offset = Number(linear & 0xfffn);
    const page = Number(linear >> 12n);
    access.outcome = 0;
    const frame = access.frame(page, offset, Access.Fetch);
    if (frame < 0) return access.outcome;
    const key = frame * MODES.length + mode.key;
    if (key !== this.recentKey) {
      this.recentKey = key;
      this.recent = this.pages.get(key);
    }
    const cached = this.recent?.[offset];
    if (
      cached !== undefined && cached.rip === rip && cached.length <= room
    ) {
      this.insn = cached;
      return 0;
    }
    const here = Math.min(room, PAGE - offset);
    this.take(physical, frame * PAGE + offset, 0, here);
    const { codeSize, stackSize, real } = mode;
    const known = this.crossing.get(key);
    let result = known?.insn.rip === rip && this.sameBytes(known, here)
      ? DecodeFailure.NeedMoreBytes
      : this.decoder.decode(
        this.bytes,
        here,
        codeSize,
        rip,
        stackSize,
        real,
      );
    if (typeof result === "object") {
      this.remember(cpu, frame, key, offset, result);
      this.insn = result;
      return 0;
    }
    if (result === DecodeFailure.NeedMoreBytes) {
      // The rest lies beyond the segment limit, or on the next page.
      if (here === room) return v.raise(Vector.GP, 0);
      const next = access.frame(
        this.following(page, codeSize),
        0,
        Access.Fetch,
      );
      if (next < 0) return access.outcome;
      this.take(physical, next * PAGE, here, room);
      const crossing = this.crossing.get(key);
      if (crossing?.insn.rip === rip && this.sameBytes(crossing)) {
        this.insn = crossing.insn;
        return 0;
      }
      result = this.decoder.decode(
        this.bytes,
        room,
        codeSize,
        rip,
        stackSize,
        real,
      );
      if (typeof result === "object") {
        const bytes = this.bytes.slice(0, result.length);
        this.crossing.set(key, { insn: result, bytes });
        this.insn = result;
        return 0;
      }
    }
    switch (result) {
      case DecodeFailure.Invalid:
        return v.raise(Vector.UD);
      case DecodeFailure.NotModelled:
        this.notModelled = this.decoder.notModelled;
        return NOT_MODELLED;
      default: // too long, or cut off by the segment limit
        return v.raise(Vector.GP, 0);
    }
  }

  /** Fetches bytes `first` to before `end` of an instruction. */
  private take(
    physical: PhysicalMemory,
    address: number,
    first: number,
    end: number,
  ): void {
    const { bytes } = this;
    const { ram } = physical;
    const inRam = address + end - first <= ram.length;
    for (let i = first; i < end; i++) {
      const at = address + i - first;
      bytes[i] = inRam ? ram[at] : Number(physical.read(at, 1));
    }
  }

  /** Whether the bytes fetched, up to `count`, are those of an instruction. */
  private sameBytes({ insn, bytes }: Crossing, count = MAX_LENGTH): boolean {
    const length = Math.min(insn.length, count);
    for (let i = 0; i < length; i++) {
      if (bytes[i] !== this.bytes[i]) return false;
    }
    return true;
  }

  /** Next linear page: wraps at 4 GiB outside 64-bit mode. */
  private following(page: number, codeSize: number): number {
    return codeSize === 64 ? (page + 1) % 2 ** 52 : (page + 1) & 0xfffff;
  }

  private remember(
    cpu: CpuContext,
    frame: number,
    key: number,
    offset: number,
    insn: Insn,
  ): void {
    if (frame >= cpu.physical.ramPages) return;
    let page = this.pages.get(key);
    if (page === undefined) {
      page = [];
      this.pages.set(key, page);
      this.recentKey = -1;
    }
    cpu.physical.markCode(frame);
    page[offset] = insn;
  }

  /** Drops a page's instructions. */
  drop(physicalPage: number): void {
    const first = physicalPage * MODES.length;
    for (let i = 0; i < MODES.length; i++) this.pages.delete(first + i);
    this.recentKey = -1;
  }

  /** Drops all instructions. */
  clear(): void {
    this.pages.clear();
    this.crossing.clear();
    this.recentKey = -1;
  }
}
