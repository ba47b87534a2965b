/**
 * Legacy prefixes and REX as bytes (SDM vol. 2A §2.1.1, §2.2.1): what iced-x86
 * does not tell, namely whether there is an address-size prefix, and whether an
 * instruction that did not decode is too long or undefined.
 */

import { isPrefix } from "../../cpu/isa/prefixes.ts";

/** Whether an address-size prefix (67h) stands before the opcode. */
export function hasAddressPrefix(
  bytes: Uint8Array,
  available: number,
  long: boolean,
): boolean {
  for (let i = 0; i < available; i++) {
    const byte = bytes[i];
    if (byte === 0x67) return true;
    if (!isPrefix(byte, long)) return false;
  }
  return false;
}

/** Segment overrides 26, 2E, 36, 3E, 64 and 65. */
function isSegment(byte: number): boolean {
  return (byte & 0xe7) === 0x26 || byte === 0x64 || byte === 0x65;
}

/**
 * `bytes` without the prefixes that matter neither to length nor to validity:
 * segment overrides, repeated prefixes, and REX prefixes that other prefixes
 * follow. What remains of any instruction fits 15 bytes.
 */
export function withoutIdlePrefixes(
  bytes: Uint8Array,
  long: boolean,
): Uint8Array {
  let end = 0;
  while (
    end < bytes.length && isPrefix(bytes[end], long)
  ) end++;
  const kept: number[] = [];
  for (let i = 0; i < end; i++) {
    const byte = bytes[i];
    const voidRex = !isPrefix(byte, false) && i < end - 1;
    const repeated = bytes.subarray(i + 1, end).includes(byte);
    if (!isSegment(byte) && !voidRex && !repeated) kept.push(byte);
  }
  return Uint8Array.from([...kept, ...bytes.subarray(end)]);
}
