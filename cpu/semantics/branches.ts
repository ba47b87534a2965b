/**
 * Which instructions are branches, for what looks at taken branches only:
 * single-step on branches (SDM 3B §17.4.3, APM 2 §13.1.2) and branch records.
 */
import type { CpuContext } from "../context.ts";
import { Seg } from "../layout.ts";
import { Access } from "../port.ts";
import { in64 } from "./system/common.ts";

const PREFIXES = new Set([
  ...[0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65, 0x66, 0x67, 0xf0, 0xf2, 0xf3],
]);

/**
 * Whether the instruction at `rip`, which has just been executed by an `emit`
 * row, was a near branch that was taken. Near branches change neither mode nor
 * translation, so its bytes are still where they were.
 */
export function tookNearBranch(cpu: CpuContext, rip: bigint): boolean {
  const { v, access } = cpu;
  const long = in64(v);
  const base = long ? 0n : v.segBase(Seg.CS);
  const { pending, stage2 } = v;
  const { outcome } = access;
  const byte = (i: number): number => {
    const at = BigInt.asUintN(long ? 64 : 32, base + rip + BigInt(i));
    const value = access.read(at, 1, Access.Silent | Access.Fetch);
    return access.outcome === 0 ? Number(value) : -1;
  };
  let i = 0;
  let narrow = false;
  let code = byte(0);
  while (i < 14 && (PREFIXES.has(code) || (long && (code & 0xf0) === 0x40))) {
    if (code === 0x66) narrow = true;
    code = byte(++i);
  }
  const second = code === 0x0f || code === 0xff ? byte(i + 1) : 0;
  v.pending = pending;
  v.stage2 = stage2;
  access.outcome = outcome;
  // A conditional branch was taken unless RIP is what follows it.
  const taken = (length: number): boolean =>
    v.rip !== BigInt.asUintN(64, rip + BigInt(length));
  if ((code & 0xf0) === 0x70 || (code >= 0xe0 && code <= 0xe3)) {
    return taken(i + 2);
  }
  if (code === 0x0f) {
    return (second & 0xf0) === 0x80 && taken(i + (narrow && !long ? 4 : 6));
  }
  if (code === 0xff) {
    const operation = second >>> 3 & 7;
    return operation === 2 || operation === 4;
  }
  return code === 0xe8 || code === 0xe9 || code === 0xeb || code === 0xc2 ||
    code === 0xc3;
}

/** Names of `call` rows that transfer control without the IDT. */
const TRANSFERS: ReadonlySet<string> = new Set([
  ...["JMP", "CALL", "RET", "IRET"],
  ...["SYSCALL", "SYSRET", "SYSENTER", "SYSEXIT"],
]);
/** Whether a `call` row of this name is a branch. */
export function isFarTransfer(name: string): boolean {
  return TRANSFERS.has(name);
}
