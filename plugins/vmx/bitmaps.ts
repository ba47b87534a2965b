/**
 * I/O and MSR bitmaps (SDM 3C §25.6.4, §25.6.9) and the unconditional cases
 * around them (SDM 3C §26.1.3).
 */
import type { CpuContext } from "../../cpu/context.ts";
import { type ControlWords, Primary } from "./controls.ts";
import type { VmcsView } from "./entry_checks.ts";
import { VmcsField as F } from "./vmcs_fields.ts";

function bit(cpu: CpuContext, base: bigint, index: number): boolean {
  const byte = cpu.physical.read(Number(base) + (index >>> 3), 1);
  return (Number(byte) >>> (index & 7) & 1) !== 0;
}

/** Whether an access to `size` ports from `port` exits. */
export function ioExits(
  cpu: CpuContext,
  vmcs: VmcsView,
  c: ControlWords,
  port: number,
  size: number,
): boolean {
  if (!(c.primary & Primary.IoBitmaps)) {
    return (c.primary & Primary.UnconditionalIoExiting) !== 0;
  }
  // An access that wraps around the 16-bit port space exits.
  if (port + size > 0x10000) return true;
  const a = vmcs.read(F.IoBitmapA);
  const b = vmcs.read(F.IoBitmapB);
  for (let p = port; p < port + size; p++) {
    if (p < 0x8000 ? bit(cpu, a, p) : bit(cpu, b, p - 0x8000)) return true;
  }
  return false;
}

/** Byte offsets of the four quarters of the MSR bitmaps. */
const READ_LOW = 0;
const READ_HIGH = 0x400;
const WRITE_LOW = 0x800;
const WRITE_HIGH = 0xc00;

/** Whether RDMSR or WRMSR of `index` exits. */
export function msrExits(
  cpu: CpuContext,
  vmcs: VmcsView,
  c: ControlWords,
  index: number,
  write: boolean,
): boolean {
  if (!(c.primary & Primary.MsrBitmaps)) return true;
  const base = vmcs.read(F.MsrBitmaps);
  if (index < 0x2000) {
    return bit(cpu, base + BigInt(write ? WRITE_LOW : READ_LOW), index);
  }
  if (index >= 0xc000_0000 && index < 0xc000_2000) {
    const quarter = write ? WRITE_HIGH : READ_HIGH;
    return bit(cpu, base + BigInt(quarter), index - 0xc000_0000);
  }
  return true;
}
