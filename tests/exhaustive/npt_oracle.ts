/**
 * What APM 2 §15.25 and the reference's §3.7 say of one guest-physical access,
 * written from their tables and not from plugins/mmu: the nested entries are
 * read as paging_oracle.ts reads any, then judged as nested paging and GMET
 * judge, and EXITINFO1 is put together bit by bit.
 */
import type { Mode, Reading } from "./paging_oracle.ts";

/** What the host had in force at VMRUN, and VMCB offset 90h bit 3. */
export interface Host {
  readonly nxe: boolean;
  readonly smep: boolean;
  readonly gmet: boolean;
}

/** One access of the guest. */
export interface GuestAccess {
  /** `table`: the guest walk's own access to a paging-structure entry. */
  readonly kind: "read" | "write" | "fetch" | "table";
  readonly cpl: number;
}

/** §3.7's table "NPT leaf × GMET". */
export function nestedAllowed(
  page: { w: boolean; u: boolean; xd: boolean },
  { kind, cpl }: GuestAccess,
  host: Host,
): boolean {
  if ((kind === "write" || kind === "table") && !page.w) return false;
  if (kind === "fetch" && page.xd) return false;
  if (!host.gmet) return page.u;
  return kind !== "fetch" || !page.u || cpl === 3;
}

/** §3.7's table "EXITINFO1"; undefined when nothing faults. */
export function exitInfo1(
  mode: Mode,
  reading: Reading,
  access: GuestAccess,
  host: Host,
): bigint | undefined {
  const { kind, cpl } = access;
  if (reading.kind === "page" && nestedAllowed(reading, access, host)) {
    return undefined;
  }
  let info = kind === "table" ? 0x2_0000_0000n : 0x1_0000_0000n;
  if (reading.kind !== "absent") info |= 0x01n;
  if (kind === "write" || kind === "table") info |= 0x02n;
  if (kind !== "fetch" || !host.gmet || cpl === 3) info |= 0x04n;
  if (reading.kind === "reserved") info |= 0x08n;
  const nx = host.nxe && mode.entryBytes === 8;
  if (kind === "fetch" && (nx || host.smep)) info |= 0x10n;
  return info;
}
