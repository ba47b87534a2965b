/**
 * `deno task test:system`: software that nobody here wrote, from Debian
 * packages, on this machine, recorded, replayed and travelled through. Nothing
 * of it is part of the project. Its last line is "N passed, N failed".
 */
import { parseArgs } from "@std/cli/parse-args";
import { messageOf } from "../../../mod.ts";
import { busybox, cloudKernel } from "./debian.ts";
import type { Check } from "./guest.ts";
import { KVM_CHECKS } from "./kvm_amd.ts";
import { LEAN_CHECKS } from "./lean_boot.ts";
import { SMP_CHECKS } from "./smp_boot.ts";

const HELP = `deno task test:system [--only WORD] [--list]

Boots Debian's cloud kernel (fetched by apt, kept in ~/.cache/vmtape) with a
busybox initramfs made on the spot, and checks what is seen.

  --only WORD   the checks whose name has WORD
  --list        names them
  --help        this`;

const CHECKS: readonly Check[] = [...LEAN_CHECKS, ...SMP_CHECKS, ...KVM_CHECKS];

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

function main(): number {
  const args = parseArgs(Deno.args, {
    string: ["only"],
    boolean: ["list", "help"],
  });
  if (args.help) {
    console.log(HELP);
    return 0;
  }
  const only = args.only === undefined ? "" : String(args.only);
  const checks = CHECKS.filter(({ name }) => name.includes(only));
  const missing = args.list ? undefined : whatIsMissing();
  if (missing !== undefined) {
    console.log(`not run: Debian's packages can't be had here: ${missing}`);
    console.log("0 passed, 0 failed");
    return 0;
  }
  let failed = 0;
  for (const { name, run } of checks) {
    if (args.list) {
      console.log(name);
      continue;
    }
    const started = performance.now();
    const seconds = (): string =>
      `${((performance.now() - started) / 1000).toFixed(0)} s`;
    try {
      console.log(`ok    ${name}: ${run()} (${seconds()})`);
    } catch (error) {
      failed++;
      console.log(`FAIL  ${name} (${seconds()}): ${messageOf(error)}`);
    }
  }
  if (!args.list) {
    console.log(`${checks.length - failed} passed, ${failed} failed`);
  }
  return failed === 0 ? 0 : 1;
}

Deno.exit(main());
