/**
 * The "did you mean" tail of the host's messages about an unknown key, word,
 * plugin, event, option or command. What counts as near is core/nearest.ts's.
 * Invariant: empty when nothing is near, so that it can always be appended.
 */
import { nearest } from "../../core/nearest.ts";

/** `; did you mean X?` or nothing. */
export function didYouMean(word: string, words: Iterable<string>): string {
  const meant = nearest(word, words);
  return meant === undefined ? "" : `; did you mean ${meant}?`;
}
