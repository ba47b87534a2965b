/**
 * What keyframes and digests rest on (`PagedState`, core/executor.ts): RAM is
 * zero at load unless its page is marked dirty, and whoever writes later marks
 * it. Checked on every engine over the corpus and the examples: a page store
 * that believes no mark and reads all of RAM finds the digest and the pages
 * that the kernel finds by the marks.
 */
import { Buffer } from "node:buffer";
import { assert, assertEquals } from "@std/assert";
import type { PagedState } from "../../core/executor.ts";
import type { Kernel } from "../../core/kernel.ts";
import { PageStore } from "../../core/pages.ts";
import { toHex } from "../../core/bytes.ts";
import { ENGINES } from "../sim/engines.ts";
import { drive, machineOf } from "../sim/run.ts";
import { corpus, exampleSubjects } from "./x86_subjects.ts";

const subjects = [
  ...corpus.filter((_, i) => i % 4 === 0),
  ...await exampleSubjects(),
];

/** The same pages, all of them said to be written. */
function allWritten(state: PagedState): PagedState {
  const { pageCount, statePages } = state;
  return {
    pageCount,
    statePages,
    page: (index) => state.page(index),
    harvestDirty: (visit) => {
      for (let i = statePages; i < pageCount; i++) visit(i);
    },
    restored: () => {},
    describe: (page, offset) => state.describe(page, offset),
  };
}

function ramDigest(kernel: Kernel): string | undefined {
  return kernel.digestParts().find(({ name }) => name === "ram")?.digest;
}

/** Compares the kernel's digest and keyframe with those of all bytes. */
function check(kernel: Kernel, where: string, digestFirst: boolean): void {
  const { state } = kernel.executor;
  const before = digestFirst ? ramDigest(kernel) : undefined;
  const { pages } = kernel.capture();
  const digest = before ?? ramDigest(kernel);
  const all = new PageStore(allWritten(state));
  assertEquals(digest, toHex(all.ramDigest()), where);
  for (let i = state.statePages; i < state.pageCount; i++) {
    const same = Buffer.compare(pages.page(i).bytes, state.page(i)) === 0;
    assert(same, `${where}: page ${i - state.statePages} of RAM`);
  }
}

for (const { name } of ENGINES) {
  Deno.test(`${name}: RAM is zero or marked at load, written pages are marked`, () => {
    let checks = 0;
    for (const subject of subjects) {
      const kernel = machineOf(subject, name);
      const where = (): string => `${subject.name}, ${checks} checks before`;
      const next = (): void => check(kernel, where(), checks++ % 2 === 0);
      next();
      let pauses = 0;
      drive(kernel, subject, {
        chop: 97,
        paused: () => {
          if (pauses++ % 16 === 0) next();
        },
      });
      next();
    }
    assert(checks > 3 * subjects.length, `${checks} checks`);
  });
}
