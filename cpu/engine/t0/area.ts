/**
 * Where T0 keeps its private things inside the layout's engine area, per vCPU:
 * control cells, grant caches, jump cache, record pool and the RIPs of records.
 * Nothing here is machine state: all of it may be dropped at any time.
 *
 * Grant caches (performance.md §TLB): direct-mapped, 16-byte entries
 * {tag u64, delta u32}; tag = linear address of the page, or GRANT_NONE;
 * delta = host offset − linear address, modulo 2^32.
 */
import { ITLB_ENTRIES, type Layout } from "../../layout.ts";

/** Control cells, relative to a vCPU's part of the area. */
export const CELL = {
  /** i64, i64: arithmetic flags as FR and FC (flags.ts). */
  fr: 0x00,
  fc: 0x08,
  /** i32: steps that may still be started (after the block entered last). */
  left: 0x10,
  /** i32, Leave: why compiled code returned. */
  reason: 0x14,
  /** u32: record the reason is about. */
  record: 0x18,
  /** i32: chain slot offset of Miss, vector of Raise. */
  detail: 0x1c,
  /** i32: error code of Raise, −1 for none. */
  errorCode: 0x20,
  /** u32: absolute offset of the fetch grants in force (links.ts). */
  fetch: 0x24,
  /** i32: added to grant-cache entry offsets: 0 or GRANT_HALF by privilege. */
  privilege: 0x28,
  /** i64: bits to shift out in the canonical check, 16 or 7. */
  canonicalShift: 0x30,
  /** i64: offset of a slow access, or target of Jump. */
  address: 0x38,
  /** i64: value loaded or to be stored by a slow access. */
  value: 0x40,
  /** i64: step at which `left` is zero. */
  end: 0x48,
  /** 6 × {i64 last readable, i64 last writable offset; −1 for none}: legacy segments. */
  limits: 0x50,
  /** i64: virtual nanoseconds of a step. */
  pace: 0xb0,
  /** i64: idle virtual nanoseconds. */
  idle: 0xb8,
  /** i64: boundary at which maskable interrupts are held by an STI of this run; −1 for none. */
  shadow: 0xc0,
  /** u32: after a slow load, host offset for a store to the same bytes, or 0. */
  place: 0xc8,
} as const;
const CELL_BYTES = 0x100;

export const GRANT_ENTRIES = 4096;
const GRANT_BYTES = GRANT_ENTRIES * 16;
/** Distance from supervisor to user entries of one cache. */
export const GRANT_HALF = GRANT_BYTES;
/** Tag that no address has: its low bits are not zero. */
export const GRANT_NONE = 0xffff_ffff;
/** Jump cache: {u64 RIP, u32 record, u32 link number}. */
export const JUMP_ENTRIES = 16384;
const JUMP_BYTES = JUMP_ENTRIES * 16;

/** Room for records, per vCPU. */
export const POOL_BYTES = 24 << 20;
const RIP_BYTES = POOL_BYTES / 4;

const READ = CELL_BYTES;
const WRITE = READ + 2 * GRANT_BYTES;
const JUMP = WRITE + 2 * GRANT_BYTES;
const FETCH = JUMP + JUMP_BYTES;
const POOL = FETCH + 2 * ITLB_ENTRIES * 4;
const RIPS = POOL + POOL_BYTES;
const CPU_BYTES = RIPS + RIP_BYTES;

/** Bytes of engine area that T0 needs. */
export function t0EngineBytes(cpus: number): number {
  return cpus * CPU_BYTES + 64;
}

/** Absolute offsets of one vCPU's part of the engine area. */
export interface Area {
  readonly cells: number;
  /** Supervisor read grants; user ones follow at GRANT_HALF. */
  readonly read: number;
  readonly write: number;
  readonly jump: number;
  /** Supervisor fetch grants; user ones follow (links.ts). */
  readonly fetch: number;
  readonly pool: number;
  readonly poolEnd: number;
  /** u64 RIP of each 32-byte unit of the pool. */
  readonly rips: number;
}

/** @throws Error when the layout gave the engine too little room */
export function areaOf(layout: Layout, cpu: number): Area {
  if (layout.engineBytes < t0EngineBytes(layout.cpus)) {
    throw new Error(
      `attach T0: the layout gives engines ${layout.engineBytes} bytes; ` +
        `create it with t0EngineBytes(${layout.cpus})`,
    );
  }
  const at = Math.ceil(layout.engine / 64) * 64 + cpu * CPU_BYTES;
  return {
    cells: at,
    read: at + READ,
    write: at + WRITE,
    jump: at + JUMP,
    fetch: at + FETCH,
    pool: at + POOL,
    poolEnd: at + POOL + POOL_BYTES,
    rips: at + RIPS,
  };
}

/** Why compiled code returned, and what CELL.record then is. */
export const Leave = {
  /** The block starting at the record does not fit into `left`. */
  Enter: 0,
  /** At a patched record, before executing it. */
  Stop: 1,
  /** A REP iteration retired; RIP stays on the record. */
  Again: 2,
  /** Direct branch of the record whose chain slot (CELL.detail) is not valid. */
  Miss: 3,
  /** Indirect branch of the record to CELL.address, not in the jump cache. */
  Jump: 4,
  /** The record stands for a `call` row. */
  Call: 5,
  /** The record raises CELL.detail with CELL.errorCode. */
  Raise: 6,
  /** A slow access of the record failed: pending or stage2 is set. */
  Access: 7,
  /** The reference shall execute the record's instruction. */
  Reference: 8,
  /** The event ring is nearly full; as Enter. */
  Ring: 9,
  /** The procedure of the record's `call` row has been executed; RIP and step are in the layout. */
  Called: 10,
} as const;
