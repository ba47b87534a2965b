/**
 * Register state after power-up, RESET and INIT (SDM 3A table 9-1).
 */
import type { CpuModel } from "./models.ts";
import { signature } from "./cpuid.ts";
import { MSRS } from "./msr.ts";
import { Gpr, Seg, VCPU } from "../layout.ts";
import type { Vcpu } from "../vcpu.ts";

/** Present, read/write or execute/read, accessed, byte-granular. */
const CODE = 0x9b;
const DATA = 0x93;
const LDT = 0x82;
const BUSY_TSS32 = 0x8b;
const LIMIT = 0xffff;

/**
 * Brings a vCPU to its state after reset.
 * @param init INIT instead of power-up: MSRs, x87/SSE state and CR0's cache bits stay
 */
export function resetVcpu(v: Vcpu, model: CpuModel, init: boolean): void {
  for (let i = 0; i < 16; i++) v.setGpr(i, 0n);
  v.setGpr(Gpr.RDX, BigInt(signature(model)));
  v.rip = 0xfff0n;
  v.rflags = 2;
  const cache = init ? v.cr0 & 0x60000000 : 0x60000000;
  v.cr0 = (cache | 0x10) >>> 0;
  v.cr2 = 0n;
  v.cr3 = 0;
  v.cr4 = 0;
  v.efer = 0;
  v.cpl = 0;
  v.activity = 0;
  v.interruptibility = 0;
  v.pendingDebug = 0;
  for (let i = 0; i < 8; i++) v.setDr(i, 0n);
  v.setDr(6, 0xffff0ff0n);
  v.setDr(7, 0x400n);
  for (let s = 0; s < 6; s++) {
    v.setSegment(s, { selector: 0, base: 0n, limit: LIMIT, attributes: DATA });
  }
  v.setSegment(Seg.CS, {
    selector: 0xf000,
    base: 0xffff0000n,
    limit: LIMIT,
    attributes: CODE,
  });
  v.setSegment(Seg.LDTR, {
    selector: 0,
    base: 0n,
    limit: LIMIT,
    attributes: LDT,
  });
  v.setSegment(Seg.TR, {
    selector: 0,
    base: 0n,
    limit: LIMIT,
    attributes: BUSY_TSS32,
  });
  v.setGdtr(0n, LIMIT);
  v.setIdtr(0n, LIMIT);
  if (init) return;
  v.setQuad(VCPU.xcr0, 1n);
  v.setWord(VCPU.fcw, 0x40);
  v.setWord(VCPU.fsw, 0);
  v.setWord(VCPU.ftw, 0x5555);
  v.setWord(VCPU.mxcsr, 0x1f80);
  for (const m of MSRS) {
    const here = (m.vendor === undefined || m.vendor === model.vendor) &&
      (m.feature === undefined || model.has(m.feature));
    if (m.slot >= 0 && here) v.setMsr(m.slot, m.reset);
  }
}
