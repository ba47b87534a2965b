/**
 * `deno task test:system`: software that nobody here wrote, from Debian
 * packages, on this machine, recorded, replayed and travelled through. Nothing
 * of it is part of the project. Its last line is "N passed, N failed".
 *
 * Each guest's checks share its tape, so they run in one process; the guests
 * run beside each other, one a processor.
 */
import { parseArgs } from "@std/cli/parse-args";
import { messageOf } from "../../../mod.ts";
import { busybox, cloudKernel } from "./debian.ts";
import type { Check } from "./guest.ts";
import { KVM_CHECKS } from "./kvm_amd.ts";
import { LEAN_CHECKS } from "./lean_boot.ts";
import { MEMTEST_CHECKS } from "./memtest.ts";
import { MINIMAL_CHECKS } from "./minimal.ts";
import { SMP_CHECKS } from "./smp_boot.ts";

const HELP = `deno task test:system [--only WORD] [--jobs N] [--list]

Boots software from Debian's packages (fetched by apt, kept in ~/.cache/vmtape),
its cloud kernel with a busybox initramfs made on the spot, and checks what is
seen. What this machine lacks for a check is said; the check is not run then.

  --only WORD   the checks whose name has WORD
  --jobs N      guests at a time, without --only (default: one a processor)
  --list        names the checks
  --help        this`;

/** The longest first. */
const CHECKS: readonly Check[] = [
  ...SMP_CHECKS,
  ...LEAN_CHECKS,
  ...MEMTEST_CHECKS,
  ...KVM_CHECKS,
  ...MINIMAL_CHECKS,
];

/** Whose check it is: its name up to the colon. */
const guestOf = ({ name }: Check): string => name.slice(0, name.indexOf(":"));

interface Tally {
  passed: number;
  failed: number;
}
const LAST_LINE = /^(\d+) passed, (\d+) failed$/;

/** Why the packages are not there, if they are not. */
function whatIsMissing(): string | undefined {
  try {
    cloudKernel();
    busybox();
    return undefined;
  } catch (error) {
    return messageOf(error);
  }
}

/** Runs checks here, one after the other. */
async function runHere(checks: readonly Check[]): Promise<Tally> {
  const tally = { passed: 0, failed: 0 };
  for (const { name, run, missing } of checks) {
    const lacking = missing?.();
    if (lacking !== undefined) {
      console.log(`not run: ${name}: ${lacking}`);
      continue;
    }
    const started = performance.now();
    const seconds = (): string =>
      `${((performance.now() - started) / 1000).toFixed(0)} s`;
    try {
      const seen = await run();
      tally.passed++;
      console.log(`ok    ${name}: ${seen} (${seconds()})`);
    } catch (error) {
      tally.failed++;
      console.log(`FAIL  ${name} (${seconds()}): ${messageOf(error)}`);
    }
  }
  return tally;
}

/** Runs a guest's checks in a process of its own; shows what it says. */
async function runBeside(words: string, tally: Tally): Promise<void> {
  const child = new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", import.meta.filename!, "--only", words],
    stdout: "piped",
    stderr: "inherit",
  }).spawn();
  let rest = "", last: RegExpExecArray | null = null;
  for await (const text of child.stdout.pipeThrough(new TextDecoderStream())) {
    const lines = (rest + text).split("\n");
    rest = lines.pop()!;
    for (const line of lines) {
      last = LAST_LINE.exec(line);
      if (last === null) console.log(line);
    }
  }
  const { code } = await child.status;
  const [passed, failed] = last === null ? [0, 0] : [+last[1], +last[2]];
  tally.passed += passed;
  tally.failed += failed;
  if (last !== null && (code === 0 || failed > 0)) return;
  tally.failed++;
  console.log(`FAIL  ${words} the checks broke off with status ${code}`);
}

/** Runs each guest's checks, `jobs` guests at a time. */
async function runSideBySide(guests: string[], jobs: number): Promise<Tally> {
  const tally = { passed: 0, failed: 0 };
  const work = async (): Promise<void> => {
    for (let next = guests.shift(); next; next = guests.shift()) {
      await runBeside(`${next}:`, tally);
    }
  };
  await Promise.all(Array.from({ length: jobs }, work));
  return tally;
}

async function main(): Promise<number> {
  const args = parseArgs(Deno.args, {
    string: ["only", "jobs"],
    boolean: ["list", "help"],
  });
  if (args.help) {
    console.log(HELP);
    return 0;
  }
  const only = args.only === undefined ? "" : String(args.only);
  const checks = CHECKS.filter(({ name }) => name.includes(only));
  if (args.list) {
    for (const { name } of checks) console.log(name);
    return 0;
  }
  const missing = whatIsMissing();
  if (missing !== undefined) {
    console.log(`not run: Debian's packages can't be had here: ${missing}`);
    console.log("0 passed, 0 failed");
    return 0;
  }
  const guests = [...new Set(checks.map(guestOf))];
  const jobs = args.jobs === undefined
    ? navigator.hardwareConcurrency
    : Number(args.jobs);
  if (!Number.isInteger(jobs) || jobs < 1) {
    console.log(`--jobs ${args.jobs}: give a number from 1`);
    return 2;
  }
  const { passed, failed } = jobs > 1 && only === ""
    ? await runSideBySide(guests, jobs)
    : await runHere(checks);
  console.log(`${passed} passed, ${failed} failed`);
  return failed === 0 ? 0 : 1;
}

Deno.exit(await main());
