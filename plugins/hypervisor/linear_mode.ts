/**
 * Whether L2's linear address is a user-mode one: the AND of U/S over its
 * paging-structure entries, true with paging off (reference §3.2).
 */
import { l2ToHost, pagingState } from "./context.ts";
import { translateLinear } from "./guest_memory.ts";
import type { L0 } from "./nested_state.ts";

/** @returns false too when the address does not translate */
export function linearIsUser(l0: L0, linear: bigint): boolean {
  const translation = translateLinear(
    l0.cpu.physical,
    pagingState(l0),
    Number(linear >> 12n),
    (page) => l2ToHost(l0, page),
    { accessed: false, dirty: false },
  );
  return translation?.user ?? false;
}
