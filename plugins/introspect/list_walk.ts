/**
 * Bounded walks of linked lists in memory that nobody promises to be sound:
 * at most so many nodes and bytes, every entry once, aligned and canonical
 * before it is touched, and its back link checked before its contents are
 * taken. Pure over the read function; every entry met is a step.
 */
import type { ListRequest } from "./requests.ts";
import type { Fault, ReadBytes } from "./reader.ts";
import { Outcome, type OutcomeWord } from "./words.ts";

/** An entry that the walk came to. */
export interface WalkStep {
  readonly entry: bigint;
  readonly next: bigint;
  readonly prev: bigint;
  readonly outcome: OutcomeWord;
  /** Contents of a sound node. */
  readonly bytes: Uint8Array;
}

/** What the walk came to. */
export interface ListWalk {
  readonly outcome: OutcomeWord;
  /** Every entry, the last one that on which the walk ended. */
  readonly steps: readonly WalkStep[];
  /** Linear addresses of the sound nodes. */
  readonly nodes: readonly bigint[];
  readonly bytes: Uint8Array;
  readonly fault: Fault | undefined;
  /** Entry or address at which it stopped early; 0 otherwise. */
  readonly stoppedAt: bigint;
}

const NOTHING = new Uint8Array(0);

function pointer(bytes: Uint8Array): bigint {
  let value = 0n;
  for (let i = bytes.length - 1; i >= 0; i--) {
    value = value << 8n | BigInt(bytes[i]);
  }
  return value;
}

/** See the file header. */
export function walkList(
  request: ListRequest,
  read: ReadBytes,
  readable: (linear: bigint) => boolean,
): ListWalk {
  const { head, pointerBytes, maxNodes, maxBytes, nodeBytes } = request;
  const steps: WalkStep[] = [];
  const nodes: bigint[] = [];
  const parts: Uint8Array[] = [];
  const visited = new Set<bigint>();
  let spent = 0;
  let fault: Fault | undefined;
  const mask = pointerBytes === 8 ? 64 : 32;
  const at = (base: bigint, offset: number): bigint =>
    BigInt.asUintN(mask, base + BigInt(offset));
  const link = (entry: bigint, offset: number): bigint | undefined => {
    spent += pointerBytes;
    const got = read(at(entry, offset), pointerBytes);
    fault = got.fault;
    return fault === undefined ? pointer(got.bytes) : undefined;
  };
  const end = (
    outcome: OutcomeWord,
    entry: bigint,
    next = 0n,
    prev = 0n,
  ): ListWalk => {
    steps.push({ entry, next, prev, outcome, bytes: NOTHING });
    const fine = outcome === Outcome.Closed || outcome === Outcome.Ended;
    const bytes = new Uint8Array(parts.reduce((n, p) => n + p.length, 0));
    let done = 0;
    for (const part of parts) {
      bytes.set(part, done);
      done += part.length;
    }
    const stoppedAt = fine ? 0n : fault?.linear ?? entry;
    return { outcome, steps, nodes, bytes, fault, stoppedAt };
  };

  let before = head;
  let entry = link(head, request.nextOffset);
  if (entry === undefined) return end(Outcome.Faulted, head);
  const perNode = pointerBytes * (request.prevOffset === undefined ? 1 : 2);
  for (;;) {
    if (entry === 0n) return end(Outcome.Ended, entry);
    const closing = entry === head;
    if (!closing) {
      if (visited.has(entry)) return end(Outcome.Cycle, entry);
      if (!readable(entry)) return end(Outcome.NonCanonical, entry);
      if (entry % BigInt(request.alignment) !== 0n) {
        return end(Outcome.Misaligned, entry);
      }
      if (nodes.length >= maxNodes) return end(Outcome.TooManyNodes, entry);
      if (spent + perNode + nodeBytes > maxBytes) {
        return end(Outcome.TooManyBytes, entry);
      }
      visited.add(entry);
    }
    let prev = 0n;
    if (request.prevOffset !== undefined) {
      const found = link(entry, request.prevOffset);
      if (found === undefined) return end(Outcome.Faulted, entry);
      prev = found;
    }
    if (closing) {
      const torn = request.prevOffset !== undefined && prev !== before;
      return end(torn ? Outcome.Torn : Outcome.Closed, entry, 0n, prev);
    }
    const next = link(entry, request.nextOffset);
    if (next === undefined) return end(Outcome.Faulted, entry, 0n, prev);
    if (request.prevOffset !== undefined && prev !== before) {
      return end(Outcome.Torn, entry, next, prev);
    }
    const node = at(entry, -request.entryOffset);
    spent += nodeBytes;
    const contents = read(node, nodeBytes);
    fault = contents.fault;
    if (fault !== undefined) return end(Outcome.Faulted, entry, next, prev);
    nodes.push(node);
    parts.push(contents.bytes);
    steps.push({
      entry,
      next,
      prev,
      outcome: Outcome.Node,
      bytes: contents.bytes,
    });
    before = entry;
    entry = next;
  }
}
