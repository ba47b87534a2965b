/**
 * Legacy and REX prefixes (SDM 2A §2.1.1, §2.2.1), for those who look at bytes
 * without decoding them.
 */

/** Whether a byte in front of an opcode is a prefix. @param long in 64-bit mode */
export function isPrefix(byte: number, long: boolean): boolean {
  if (long && (byte & 0xf0) === 0x40) return true;
  return byte === 0x66 || byte === 0x67 || byte === 0xf0 || byte === 0xf2 ||
    byte === 0xf3 || byte === 0x2e || byte === 0x36 || byte === 0x3e ||
    byte === 0x26 || byte === 0x64 || byte === 0x65;
}
