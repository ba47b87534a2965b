/**
 * Keyframe pages, stored once each by content: a PAGE frame holds the SHA-256
 * of up to 63 pages, then the pages. Pages are numbered from 1 in the order
 * they are stored; the frame's position is the number of its first page; page
 * 0 is the page of zeros and is never stored.
 * Invariants: the same run numbers the same pages the same; the memory of the
 * store is bounded (one frame of pages, a bounded table of hashes).
 */
import { toHex } from "../bytes.ts";
import { PAGE_SIZE } from "../executor.ts";
import { isZeroPage, type Page, ZERO_PAGE } from "../keyframe.ts";
import { FrameType, MAX_RAW_BYTES } from "./frames.ts";
import type { FrameOut } from "./writer.ts";

const HASH_BYTES = 32;
/** Pages in a full PAGE frame. */
export const PAGES_PER_FRAME = Math.floor(
  MAX_RAW_BYTES / (PAGE_SIZE + HASH_BYTES),
);
/** Hashes remembered for finding equal pages; the oldest goes first. */
const REMEMBERED = 1 << 16;

/** Numbers pages by content and writes those not yet on the tape. */
export class PageStore {
  readonly #out: FrameOut;
  readonly #known = new Map<string, number>();
  #next = 1;
  #held: Page[] = [];
  /** A frame's payload; what takes it does not keep it. */
  readonly #raw = new Uint8Array(PAGES_PER_FRAME * (HASH_BYTES + PAGE_SIZE));

  constructor(out: FrameOut) {
    this.#out = out;
  }

  /** The number of `page`; stores it if it is new. */
  add(page: Page): number {
    if (page === ZERO_PAGE || isZeroPage(page.bytes)) return 0;
    const key = toHex(page.hash);
    const known = this.#known.get(key);
    if (known !== undefined) return known;
    const id = this.#next++;
    if (this.#known.size >= REMEMBERED) {
      for (const oldest of this.#known.keys()) {
        this.#known.delete(oldest);
        break;
      }
    }
    this.#known.set(key, id);
    this.#held.push(page);
    if (this.#held.length >= PAGES_PER_FRAME) this.flush();
    return id;
  }

  /** Writes the pages held back; call before the keyframe that names them. */
  flush(): void {
    const held = this.#held;
    if (held.length === 0) return;
    const raw = this.#raw.subarray(0, held.length * (HASH_BYTES + PAGE_SIZE));
    held.forEach(({ hash, bytes }, i) => {
      raw.set(hash, i * HASH_BYTES);
      raw.set(bytes, held.length * HASH_BYTES + i * PAGE_SIZE);
    });
    this.#held = [];
    this.#out.frame(
      FrameType.page,
      this.#next - held.length,
      held.length,
      raw,
    );
  }
}

/** Page `slot` of a PAGE payload of `count` pages. Throws RangeError. */
export function pageOf(
  raw: Uint8Array,
  count: number,
  slot: number,
): Uint8Array {
  if (raw.length !== count * (HASH_BYTES + PAGE_SIZE) || slot >= count) {
    throw new RangeError(
      `Cannot read page ${slot} of a PAGE frame: it holds ${count} pages ` +
        `in ${raw.length} bytes`,
    );
  }
  const at = count * HASH_BYTES + slot * PAGE_SIZE;
  return raw.subarray(at, at + PAGE_SIZE);
}
