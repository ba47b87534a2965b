/**
 * Lays bytes into a random case's memory. In a file of its own, since whoever
 * shapes cases needs it.
 * Invariant: only data pages are written; bytes that lie in no page are dropped.
 */
import {
  DATA,
  PAGE_SIZE,
  READ_ONLY,
  STACK,
} from "../../tests/silicon/environment.ts";
import type { Work } from "./cases.ts";

/** Lays `bytes` at `address`, as far as that lies in a data page. */
export function put(w: Work, address: bigint, bytes: Uint8Array): void {
  const a = Number(address);
  const pages = [DATA, READ_ONLY, STACK];
  const page = pages.find((p) => a >= p && a < p + PAGE_SIZE);
  if (page === undefined) return;
  const whole = bytes.subarray(0, page + PAGE_SIZE - a);
  if (whole.length <= 64) {
    w.memory.push({ address: a, bytes: whole });
    return;
  }
  // Long images are mostly zero, and so are the pages.
  for (let at = 0; at < whole.length; at += 16) {
    const piece = whole.subarray(at, at + 16);
    let end = piece.length;
    while (end > 0 && piece[end - 1] === 0) end--;
    if (end) w.memory.push({ address: a + at, bytes: piece.subarray(0, end) });
  }
}
