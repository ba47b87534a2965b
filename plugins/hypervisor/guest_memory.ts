/**
 * L0's software walk of a guest's paging (SDM 3A §4.3–4.5), from the guest-state
 * fields of a VMCS: for memory operands of L1's VMX instructions and for what
 * extensions read of L2. Every table and page goes through `toHost`.
 *
 * Rights are not judged (the reader acts for code that already ran at CPL 0);
 * A and D flags are set where asked, as the instruction would have done.
 */
import { Cr0, Cr4, Efer } from "../../cpu/arch/flags.ts";
import { PAGE_SIZE } from "../../cpu/layout.ts";
import type { PhysicalMemory } from "../../cpu/physical.ts";

/** Paging state of a guest. */
export interface PagingState {
  readonly cr0: number;
  readonly cr3: number;
  readonly cr4: number;
  readonly efer: number;
}

/** Guest-physical to host-physical page, undefined where there is none. */
export type ToHost = (guestPage: number) => number | undefined;

/** How a linear page translates. */
export interface Translation {
  readonly guestPage: number;
  /** All entries have U/S = 1 (true with paging off). */
  readonly user: boolean;
  /** Some entry has XD = 1. */
  readonly executeDisable: boolean;
}

const P = 1;
const US = 4;
const A = 0x20;
const D = 0x40;
const PS = 0x80;

/** Translates a linear page to a guest-physical one. */
export function translateLinear(
  physical: PhysicalMemory,
  state: PagingState,
  linearPage: number,
  toHost: ToHost,
  mark: { accessed: boolean; dirty: boolean },
): Translation | undefined {
  if (!(state.cr0 & Cr0.PG)) {
    return { guestPage: linearPage, user: true, executeDisable: false };
  }
  const wide = (state.cr4 & Cr4.PAE) !== 0;
  const long = (state.efer & Efer.LMA) !== 0;
  const bits = wide ? 9 : 10;
  const top = !wide ? 2 : !long ? 3 : state.cr4 & Cr4.LA57 ? 5 : 4;
  let table = !wide || long
    ? Math.floor(state.cr3 % 2 ** 52 / PAGE_SIZE) * PAGE_SIZE
    : Math.floor(state.cr3 % 2 ** 32 / 32) * 32;
  let user = true;
  let executeDisable = false;
  for (let level = top; level >= 1; level--) {
    const span = 2 ** ((level - 1) * bits);
    const index = Math.floor(linearPage / span) % 2 ** bits;
    const guestAt = table + index * (wide ? 8 : 4);
    const host = toHost(Math.floor(guestAt / PAGE_SIZE));
    if (host === undefined) return undefined;
    const at = host * PAGE_SIZE + guestAt % PAGE_SIZE;
    const low = physical.readU32(at);
    const high = wide ? physical.readU32(at + 4) : 0;
    if (!(low & P)) return undefined;
    const pdpte = wide && !long && level === 3;
    if (!pdpte) {
      if (!(low & US)) user = false;
      if (high & 0x80000000) executeDisable = true;
    }
    const large = !pdpte && level > 1 && (low & PS) !== 0 &&
      (wide ? level <= 3 : (state.cr4 & Cr4.PSE) !== 0);
    const leaf = level === 1 || large;
    const want = (mark.accessed ? A : 0) | (leaf && mark.dirty ? D : 0);
    if (!pdpte && (low & want) !== want) physical.writeU32(at, low | want);
    const page = wide ? (high & 0xfffff) * 2 ** 20 + (low >>> 12) : low >>> 12;
    if (leaf) {
      const base = large && !wide
        ? (low >>> 22) * 1024 + ((low >>> 13) & 0xff) * 2 ** 20
        : page - page % span;
      return {
        guestPage: level === 1 ? page : base + linearPage % span,
        user,
        executeDisable,
      };
    }
    table = page * PAGE_SIZE;
  }
  return undefined;
}
