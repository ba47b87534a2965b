/** Bounded list walks: sound lists, torn ones, and every way to lead one astray. */
import { assertEquals } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import * as fc from "fast-check";
import { setGate } from "../../tests/support/machine.ts";
import { Ending, Outcome, Policy, Reader, WalkStepped } from "./api.ts";
import type { ReadBytes } from "./reader.ts";
import { walkList } from "./list_walk.ts";
import { defaultsOf, LIST_FIELDS } from "./requests.ts";
import {
  FRAMES,
  PAGE_IN,
  PWU,
  Rig,
  setEntry,
  WINDOW,
} from "../../tests/support/introspect.ts";

/** Head and three nodes of 32 bytes: entry at +16, payload in front. */
const HEAD = WINDOW;
const NODES = [WINDOW + 0x100n, WINDOW + 0x1200n, WINDOW + 0x2300n];
const ENTRY = 16n;

interface Links {
  readonly next: readonly bigint[];
  readonly prev: readonly bigint[];
}

/** A sound circular list as entries: head, then the nodes' entries. */
function sound(): Links {
  const entries = [HEAD, ...NODES.map((n) => n + ENTRY)];
  const next = entries.map((_, i) => entries[(i + 1) % entries.length]);
  const prev = entries.map((_, i) =>
    entries[(i + entries.length - 1) % entries.length]
  );
  return { next, prev };
}

function machine(
  change: (links: { next: bigint[]; prev: bigint[] }) => void = () => {},
): Rig {
  const m = new Rig(
    `spin: inc rbx
    jmp spin
    ${PAGE_IN}`,
    { pages: [PWU, PWU, PWU] },
  );
  setGate(m.hardware, 14, m.at("pagein"));
  const links = { next: [...sound().next], prev: [...sound().prev] };
  change(links);
  const entries = [HEAD, ...NODES.map((n) => n + ENTRY)];
  entries.forEach((entry, i) => {
    const at = FRAMES + Number(entry - WINDOW);
    m.hardware.physical.writeU64(at, links.next[i]);
    m.hardware.physical.writeU64(at + 8, links.prev[i]);
    if (i > 0) m.hardware.physical.writeU64(at - 16, 0x1111n * BigInt(i));
  });
  m.run(2);
  return m;
}

const LIST = {
  head: HEAD,
  nextOffset: 0,
  prevOffset: 8,
  entryOffset: 16,
  nodeBytes: 16,
};

/** Outcome and number of sound nodes of a walk. */
function walked(m: Rig, list: object = {}): [string, number, bigint] {
  m.askList({ ...LIST, ...list });
  m.settle();
  const walk = m.walks.at(-1)!;
  return [walk.outcome, walk.nodes, walk.faultVa];
}

describe("list walk", () => {
  for (const reader of [Reader.L0, Reader.Walk]) {
    it(`${reader}: takes every node of a sound list, each an event`, () => {
      const m = machine();
      const steps = m.collect(WalkStepped);
      assertEquals(walked(m, { reader }), [Outcome.Closed, 3, 0n]);
      assertEquals(steps.map((s) => [s.index, s.entry, s.outcome]), [
        [0, NODES[0] + ENTRY, Outcome.Node],
        [1, NODES[1] + ENTRY, Outcome.Node],
        [2, NODES[2] + ENTRY, Outcome.Node],
        [3, HEAD, Outcome.Closed],
      ]);
      assertEquals(
        steps.slice(0, 3).map((s) =>
          new DataView(s.bytes.buffer, s.bytes.byteOffset).getBigUint64(0, true)
        ),
        [0x1111n, 0x2222n, 0x3333n],
      );
      assertEquals(m.accessed(2), reader === Reader.L0);
    });
  }

  it("stops at a torn node and takes nothing from it", () => {
    const torn = machine(({ prev }) => prev[2] = HEAD);
    assertEquals(walked(torn), [Outcome.Torn, 1, NODES[1] + ENTRY]);
    const head = machine(({ prev }) => prev[0] = NODES[0] + ENTRY);
    assertEquals(walked(head), [Outcome.Torn, 3, HEAD]);
    const blind = machine(({ prev }) => prev[2] = HEAD);
    assertEquals(
      walked(blind, { prevOffset: undefined }),
      [Outcome.Closed, 3, 0n],
    );
  });

  it("is led astray by no link", () => {
    const to = (target: bigint): Rig => machine(({ next }) => next[2] = target);
    const second = NODES[1] + ENTRY;
    const cases: [bigint, string, bigint][] = [
      [NODES[0] + ENTRY, Outcome.Cycle, NODES[0] + ENTRY],
      [0n, Outcome.Ended, 0n],
      [second + 3n, Outcome.Misaligned, second + 3n],
      [0x8000_0000_0000n, Outcome.NonCanonical, 0x8000_0000_0000n],
      [WINDOW + 0x7000n, Outcome.Faulted, WINDOW + 0x7008n],
    ];
    for (const [target, outcome, at] of cases) {
      assertEquals(walked(to(target)), [outcome, 2, at]);
    }
  });

  it("keeps to its bounds", () => {
    const m = machine();
    assertEquals(walked(m, { maxNodes: 2 }), [
      Outcome.TooManyNodes,
      2,
      NODES[2] + ENTRY,
    ]);
    // The head's link, then two links and 16 bytes a node.
    assertEquals(walked(m, { maxBytes: 8 + 2 * 32 }), [
      Outcome.TooManyBytes,
      2,
      NODES[2] + ENTRY,
    ]);
  });

  it("pages in with inject-and-retry, and publishes one consistent walk", () => {
    const m = machine();
    setEntry(m.hardware, 1, 0n);
    setEntry(m.hardware, 2, 0n);
    const steps = m.collect(WalkStepped);
    m.askList({ ...LIST, policy: Policy.InjectAndRetry });
    m.run(80);
    assertEquals(m.walks.map((w) => [w.ending, w.outcome, w.nodes]), [
      [Ending.Read, Outcome.Closed, 3],
    ]);
    assertEquals(
      steps.filter((s) => s.attempt === 2).map((s) => s.outcome),
      [Outcome.Node, Outcome.Node, Outcome.Node, Outcome.Closed],
    );
  });

  it("ends within its bounds over any memory whatever", () => {
    const request = {
      ...defaultsOf(LIST_FIELDS),
      ...LIST,
      head: 8n,
      maxNodes: 20,
      maxBytes: 500,
    };
    fc.assert(
      fc.property(
        fc.array(fc.nat({ max: 63 }), { minLength: 64, maxLength: 64 }),
        fc.nat({ max: 63 }),
        (words, hole) => {
          let spent = 0;
          const read: ReadBytes = (linear, length) => {
            spent += length;
            const bytes = new Uint8Array(length);
            const at = Number(linear) / 8;
            if (linear >= 0x1000n || Math.floor(at) % 64 === hole) {
              return {
                bytes: bytes.slice(0, 0),
                fault: {
                  cause: "page-fault",
                  vector: 14,
                  errorCode: 0,
                  linear,
                },
              };
            }
            const words64 = new DataView(bytes.buffer);
            if (length === 8) {
              words64.setBigUint64(0, BigInt(words[at % 64] * 8), true);
            }
            return { bytes, fault: undefined };
          };
          const walk = walkList(request, read, () => true);
          const unique = new Set(walk.nodes);
          return spent <= 500 && walk.nodes.length <= 20 &&
            unique.size === walk.nodes.length &&
            walk.steps.length === walk.nodes.length + 1;
        },
      ),
      { seed: 1, numRuns: 300 },
    );
  });
});
