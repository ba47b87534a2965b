/**
 * Little-endian bytes of firmware tables, and the header that all ACPI tables
 * but FACS and RSDP share (ACPI 6.5 §5.2.6). Invariant: the bytes of a table
 * sum to zero.
 */

/** Little-endian bytes of `value`. */
export function le(value: number | bigint, size: number): number[] {
  const bits = BigInt(value);
  return Array.from(
    { length: size },
    (_, i) => Number(bits >> BigInt(i * 8) & 0xffn),
  );
}
/** 8 bits. */
export const u8 = (value: number): number[] => le(value, 1);
/** 16 bits. */
export const u16 = (value: number): number[] => le(value, 2);
/** 32 bits. */
export const u32 = (value: number): number[] => le(value, 4);
/** 64 bits. */
export const u64 = (value: number): number[] => le(value, 8);
/** ASCII, padded with blanks or cut to `size`. */
export function text(value: string, size: number): number[] {
  return [...value.padEnd(size).slice(0, size)].map((c) => c.charCodeAt(0));
}

/** What byte makes the sum of `bytes` zero. */
export function checksum(bytes: readonly number[]): number {
  return -bytes.reduce((sum, byte) => sum + byte, 0) & 0xff;
}

/** Offset of a table's checksum. */
const CHECKSUM = 9;
/** Bytes of a table's header. */
export const HEADER_BYTES = 36;

/** A table: header and `body`. @param signature four letters */
export function table(
  signature: string,
  revision: number,
  body: readonly number[],
): number[] {
  const bytes = [
    ...text(signature, 4),
    ...u32(HEADER_BYTES + body.length),
    revision,
    0,
    ...text("VMTAPE", 6),
    ...text("VMTAPEPC", 8),
    ...u32(1),
    ...text("VMTP", 4),
    ...u32(1),
    ...body,
  ];
  bytes[CHECKSUM] = checksum(bytes);
  return bytes;
}
