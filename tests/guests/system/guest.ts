/**
 * What the checks share: a folder for tapes, Debian's kernel with an initramfs
 * as a scenario, and the questions asked of every tape.
 */
import {
  defineScenario,
  FileSource,
  machines,
  type Scenario,
  TapeReader,
  verifyTape,
} from "../../../mod.ts";
import { busybox, cloudKernel } from "./debian.ts";
import { type Files, initramfs } from "./initramfs.ts";

/** One thing that is checked. */
export interface Check {
  readonly name: string;
  /** Does it. @returns what was seen, in a few words @throws Error if wrong */
  run(): string | Promise<string>;
  /** What this machine lacks for it, if anything. */
  missing?(): string | undefined;
}

/** Tapes of this run; gone at its end. */
export const FOLDER = Deno.makeTempDirSync({ prefix: "vmtape-system-" });
globalThis.addEventListener(
  "unload",
  () => Deno.removeSync(FOLDER, { recursive: true }),
);

/** A kernel with its initramfs. */
export interface Guest {
  readonly scenario: Scenario;
  readonly files: ReadonlyMap<string, Uint8Array>;
  /** The same as files. */
  readonly bzImage: string;
  readonly initrd: string;
}

/** What a guest is made of. */
export interface GuestParts {
  /** Names the initramfs. */
  readonly name: string;
  readonly machine: Record<string, unknown>;
  readonly append: string;
  /** Lines of /init before the shell. */
  readonly script?: string;
  /** More files of the initramfs. */
  readonly more?: Files;
}

/** Debian's cloud kernel with busybox. */
export function debianGuest(parts: GuestParts): Guest {
  const { bzImage } = cloudKernel();
  const initrd = `${FOLDER}/${parts.name}.cpio`;
  const archive = initramfs(
    Deno.readFileSync(busybox()),
    parts.script,
    parts.more,
  );
  Deno.writeFileSync(initrd, archive);
  return {
    scenario: defineScenario({
      machine: parts.machine,
      guest: { linux: "bzImage", initrd: "initrd", append: parts.append },
    }),
    files: new Map([
      ["bzImage", Deno.readFileSync(bzImage)],
      ["initrd", archive],
    ]),
    bzImage,
    initrd,
  };
}

/** Opens a tape for a while. */
export function withTape<R>(path: string, use: (tape: TapeReader) => R): R {
  const source = new FileSource(path);
  try {
    return use(TapeReader.open(source));
  } finally {
    source.close();
  }
}

/** Replays a whole tape. @throws Error unless every digest is equal */
export function replayWhole(path: string): string {
  return withTape(path, (tape) => {
    const found = verifyTape(tape, machines.factory({ uses: [] }));
    if (found.status !== 0 || !found.complete || found.digests === 0) {
      throw new Error(
        `status ${found.status}, ${found.digests} digests compared, at step ` +
          found.step,
      );
    }
    return `${found.digests} digests equal, to step ${found.step}`;
  });
}
