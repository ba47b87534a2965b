/**
 * The two readers outside the guest. *L0* goes through the vCPU's own
 * translation at a declared privilege (SDM 3A §4.6): TLB hits, fills and A bits
 * are those of a guest's read. *Walk* only looks. Both go page by page in
 * ascending order and publish no byte beyond a fault.
 *
 * Invariant: registers, pending exceptions and stage-2 faults of the vCPU are
 * afterwards what they were; only the L0 reader changes TLB and A bits. Data
 * breakpoints don't trigger, and devices are never read.
 */
import { Vector } from "../../cpu/arch/exceptions.ts";
import { Cr4, Efer, Rflags } from "../../cpu/arch/flags.ts";
import type { CpuContext } from "../../cpu/context.ts";
import { PAGE_SIZE, VCPU } from "../../cpu/layout.ts";
import { Access } from "../../cpu/port.ts";
import type { MmuService } from "../mmu/api.ts";
import { Cause, type CauseWord, Reader, type ReaderWord } from "./words.ts";

/** Why bytes ended. */
export interface Fault {
  readonly cause: CauseWord;
  /** 14, 13, or 0 for what is no fault of the guest. */
  readonly vector: number;
  readonly errorCode: number;
  /** Linear address of the first byte not read. */
  readonly linear: bigint;
}

/** What a read gave. */
export interface Bytes {
  /** Everything in front of the fault. */
  readonly bytes: Uint8Array;
  readonly fault: Fault | undefined;
}

/** Reads consecutive bytes of one address space. */
export type ReadBytes = (linear: bigint, length: number) => Bytes;

/** As whom the guest's memory is read. */
export interface ReadAs {
  readonly cpl: number;
  readonly ac: boolean;
  readonly cr3: bigint;
}

/** Runs `body` with the vCPU's privilege and address space replaced. */
function asGuest<T>(
  cpu: CpuContext,
  as: ReadAs,
  loadPdptes: boolean,
  body: () => T,
): T {
  const { v } = cpu;
  const { cpl, rflags, pending, stage2 } = v;
  const cr3 = v.quad(VCPU.cr3);
  const pdptes = [0, 1, 2, 3].map((i) => v.pdpte(i));
  try {
    v.cpl = as.cpl;
    v.rflags = (as.ac ? rflags | Rflags.AC : rflags & ~Rflags.AC) >>> 0;
    v.setQuad(VCPU.cr3, as.cr3);
    if (loadPdptes) cpu.translator.loadPdptes(cpu, Number(as.cr3));
    return body();
  } finally {
    v.cpl = cpl;
    v.rflags = rflags;
    v.setQuad(VCPU.cr3, cr3);
    pdptes.forEach((value, i) => v.setPdpte(i, value));
    v.pending = pending;
    v.stage2 = stage2;
  }
}

/** #GP(0): not canonical, or beyond 4 GiB outside IA-32e mode. */
export function readable(cpu: CpuContext, linear: bigint): boolean {
  return cpu.v.efer & Efer.LMA
    ? cpu.access.canonical(linear)
    : linear < 0x1_0000_0000n;
}

/** Host-physical address, or the fault. */
type Translate = (cpu: CpuContext, linear: bigint) => number | Fault;

function stage2Denied(linear: bigint): Fault {
  return { cause: Cause.Stage2Denied, vector: 0, errorCode: 0, linear };
}

/** As the guest's own read: TLB, walks, A bits. */
function throughCpu(cpu: CpuContext, linear: bigint): number | Fault {
  const { v, translator } = cpu;
  const offset = Number(linear & 0xfffn);
  v.pending = undefined;
  v.stage2 = undefined;
  const frame = translator.translate(
    cpu,
    Number(linear >> 12n),
    offset,
    Access.Read,
  );
  if (frame >= 0) return frame * PAGE_SIZE + offset;
  // TypeScript does not see that translate sets it.
  const pending = v.pending as CpuContext["v"]["pending"];
  if (frame === -1 && pending !== undefined) {
    const { vector, errorCode } = pending;
    return { cause: Cause.PageFault, vector, errorCode, linear };
  }
  return stage2Denied(linear);
}

/** Without any effect. */
function byWalk(mmu: MmuService): Translate {
  return (cpu, linear) => {
    const walk = mmu.explain(cpu, linear, Access.Read);
    if (walk.physical !== undefined) return walk.physical;
    if (walk.outcome !== 1) return stage2Denied(linear);
    return {
      cause: Cause.PageFault,
      vector: Vector.PF,
      errorCode: walk.errorCode,
      linear,
    };
  };
}

function readPages(
  cpu: CpuContext,
  linear: bigint,
  length: number,
  translate: Translate,
): Bytes {
  const out = new Uint8Array(length);
  let done = 0;
  while (done < length) {
    const at = BigInt.asUintN(64, linear + BigInt(done));
    const fault = (why: Fault): Bytes => ({
      bytes: out.slice(0, done),
      fault: why,
    });
    if (!readable(cpu, at)) {
      return fault({
        cause: Cause.GeneralProtection,
        vector: Vector.GP,
        errorCode: 0,
        linear: at,
      });
    }
    const physical = translate(cpu, at);
    if (typeof physical !== "number") return fault(physical);
    if (!cpu.physical.isRam(physical)) {
      return fault({
        cause: Cause.NoMemory,
        vector: 0,
        errorCode: 0,
        linear: at,
      });
    }
    const n = Math.min(length - done, PAGE_SIZE - Number(at & 0xfffn));
    out.set(cpu.physical.readBytes(physical, n), done);
    done += n;
  }
  return { bytes: out, fault: undefined };
}

/**
 * Runs `body` with a function that reads as `as` says.
 *
 * The L0 reader works in the vCPU's own address space only: with another CR3
 * its TLB fills would be wrong entries. The walk takes any.
 */
export function withReader<T>(
  cpu: CpuContext,
  mmu: MmuService,
  reader: ReaderWord,
  as: ReadAs,
  body: (read: ReadBytes) => T,
): T {
  const foreign = as.cr3 !== cpu.v.quad(VCPU.cr3);
  if (foreign && reader === Reader.L0) {
    return body((linear) => ({
      bytes: new Uint8Array(0),
      fault: { cause: Cause.AddressSpace, vector: 0, errorCode: 0, linear },
    }));
  }
  const { v } = cpu;
  const pae = (v.cr4 & Cr4.PAE) !== 0 && (v.efer & Efer.LMA) === 0;
  const translate = reader === Reader.L0 ? throughCpu : byWalk(mmu);
  return asGuest(
    cpu,
    as,
    foreign && pae,
    () => body((linear, n) => readPages(cpu, linear, n, translate)),
  );
}
