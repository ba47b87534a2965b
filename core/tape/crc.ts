/**
 * The tape's checksum: CRC-32 (IEEE 802.3), the one that node:zlib computes
 * natively. It finds every burst error of up to 32 bits, hence every flipped
 * byte (law 7). It detects damage, not forgery; the SHA-256 chain detects
 * frames that were dropped, repeated or reordered.
 */
import { crc32 as zlibCrc32 } from "node:zlib";

/** CRC-32 of `bytes`, continuing from `seed` (the CRC of what came before). */
export function crc32(bytes: Uint8Array, seed = 0): number {
  return zlibCrc32(bytes, seed) >>> 0;
}
