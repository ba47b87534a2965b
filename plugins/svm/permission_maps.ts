/**
 * I/O and MSR permission maps (APM 2 §15.10.1, §15.11). They are read at each
 * access from the physical addresses that VMRUN loaded; a map outside memory
 * reads as all ones and so intercepts.
 */
import type { CpuContext } from "../../cpu/context.ts";
import { SCRATCH } from "./scratch.ts";

/** Whether the I/O permission map intercepts an access of `bytes` at `port`. */
export function ioIntercepted(
  cpu: CpuContext,
  port: number,
  bytes: number,
): boolean {
  const base = Number(cpu.v.quad(SCRATCH.iopm));
  // Ports beyond FFFFh are judged by the bits after the map's 8 KiB.
  const at = base + (port >>> 3);
  const low = Number(cpu.physical.read(at, 1));
  const high = Number(cpu.physical.read(at + 1, 1));
  const mask = ((1 << bytes) - 1) << (port & 7);
  return ((low | high << 8) & mask) !== 0;
}

/** First MSR of each range and its 2-KiB vector. */
const RANGES: readonly (readonly [first: number, offset: number])[] = [
  [0x0000_0000, 0x0000],
  [0xc000_0000, 0x0800],
  [0xc001_0000, 0x1000],
];
const RANGE_LENGTH = 0x2000;

/** Whether the MSR permission map intercepts an access; MSRs in no range always are. */
export function msrIntercepted(
  cpu: CpuContext,
  index: number,
  write: boolean,
): boolean {
  const base = Number(cpu.v.quad(SCRATCH.msrpm));
  for (const [first, offset] of RANGES) {
    const number = index - first;
    if (number < 0 || number >= RANGE_LENGTH) continue;
    const byte = Number(
      cpu.physical.read(base + offset + (number >>> 2), 1),
    );
    return (byte >>> ((number & 3) * 2 + (write ? 1 : 0)) & 1) !== 0;
  }
  return true;
}
