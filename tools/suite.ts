/**
 * The test command: formatting, lint, types, import rules, house rules and doc
 * comments, then every test; ends with one plain line `N passed, N failed` that
 * other programs can read. `deno task test [--checks] [PATH…]`: `--checks` runs
 * the static checks alone, paths limit which tests run.
 * Invariant: the status is 0 only if every check and every test passed, and a
 * run that reports no test at all is a failure.
 */
import { parseArgs } from "@std/cli/parse-args";
import { ROOT } from "./files.ts";

/** How many ended how. */
export interface Tally {
  passed: number;
  failed: number;
  skipped: number;
}

/** Static checks by name, each the arguments of one `deno` command. */
function checks(): [name: string, args: string[]][] {
  return [
    ["fmt", ["fmt", "--check", "--quiet"]],
    ["lint", ["lint", "--quiet"]],
    ["check", ["check", "--quiet", "."]],
    ["imports", ["run", "--allow-read=.", "tools/imports.ts"]],
    ["tidy", ["run", "--allow-read=.", "tools/tidy.ts"]],
    ["doc", ["run", "-A", "tools/doc_lint.ts"]],
    ["events", ["run", "-A", "tools/event_docs.ts", "--check"]],
  ];
}

/** Runs `deno ARGS` in the project's root with our own output; whether it ended well. */
function deno(args: string[]): boolean {
  const { success } = new Deno.Command(Deno.execPath(), {
    args,
    cwd: ROOT,
    stdin: "null",
    stdout: "inherit",
    stderr: "inherit",
  }).outputSync();
  return success;
}

/**
 * Counts a JUnit report's cases. A suite (a case that has steps) counts only
 * when it failed by itself: its steps are counted.
 */
export function tally(junit: string): Tally {
  const count: Tally = { passed: 0, failed: 0, skipped: 0 };
  const cases = [
    ...junit.matchAll(
      /<testcase name="([^"]*)"[^>]*?(?:\/>|>([^]*?)<\/testcase>)/g,
    ),
  ].map(([, name, body = ""]) => ({ name, body }));
  const suites = new Set<string>();
  for (const { name } of cases) {
    for (
      let i = name.indexOf(" &gt; ");
      i >= 0;
      i = name.indexOf(" &gt; ", i + 1)
    ) {
      suites.add(name.slice(0, i));
    }
  }
  for (const { name, body } of cases) {
    const failed = body.includes("<failure");
    const ownFailure = failed &&
      !/<failure message="\d+ test steps? failed/.test(body);
    if (suites.has(name) && !ownFailure) continue;
    if (failed) count.failed++;
    else if (body.includes("<skipped")) count.skipped++;
    else count.passed++;
  }
  return count;
}

/** Runs the tests of `paths` (all, if empty). */
function test(paths: readonly string[]): Tally {
  const junit = Deno.makeTempFileSync({ suffix: ".xml" });
  try {
    const ok = deno([
      "test",
      "-A",
      "--parallel",
      "--reporter=dot",
      `--junit-path=${junit}`,
      ...paths,
    ]);
    const count = tally(Deno.readTextFileSync(junit));
    // a module that doesn't load, a leak, or nothing to run: no case says so
    if (count.failed === 0 && (!ok || count.passed === 0)) count.failed++;
    return count;
  } finally {
    Deno.removeSync(junit);
  }
}

/** Runs everything; returns the exit status. */
function main(args: string[]): number {
  const options = parseArgs(args, { boolean: ["checks"] });
  const total: Tally = { passed: 0, failed: 0, skipped: 0 };
  const failures: string[] = [];
  for (const [name, command] of checks()) {
    console.log(`== ${name}`);
    if (deno(command)) total.passed++;
    else {
      total.failed++;
      failures.push(name);
    }
  }
  if (!options.checks) {
    console.log("== test");
    const { passed, failed, skipped } = test(options._.map(String));
    total.passed += passed;
    total.failed += failed;
    total.skipped += skipped;
    if (failed > 0) failures.push(`${failed} of the tests`);
  }
  if (failures.length > 0) console.log(`failed: ${failures.join(", ")}`);
  if (total.skipped > 0) console.log(`skipped: ${total.skipped}`);
  console.log(`${total.passed} passed, ${total.failed} failed`);
  return total.failed === 0 ? 0 : 1;
}

if (import.meta.main) Deno.exit(main(Deno.args));
