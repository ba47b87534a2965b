/**
 * `deno task silicon`: the share of vectors recorded on processors that each
 * engine agrees with, and the rows they cover.
 */
import { parseArgs } from "@std/cli/parse-args";
import { type EngineName, ENGINES } from "./engines.ts";
import { isWhole, shareOf, shareText } from "./share.ts";

const HELP = `deno task silicon [options]

Runs every vector of tests/cases/silicon on each engine and prints the share
that agrees with what the processor did, where a result differs and may (with
the manual's word on it), and which instructions have no vectors, and why.

  --engine E   one engine: ${Object.keys(ENGINES).join(" or ")}
  --json       the report as JSON
  --help       this

Exit status 0: all that was judged agrees, and every row that a CPU model shows
has vectors or a reason. 1: not so. 2: bad input.`;

const isEngine = (name: string): name is EngineName =>
  Object.hasOwn(ENGINES, name);

function main(): number {
  const args = parseArgs(Deno.args, {
    string: ["engine"],
    boolean: ["json", "help"],
    unknown: (word) => {
      console.error(`silicon: "${word}" is no option; see --help`);
      Deno.exit(2);
    },
  });
  if (args.help) {
    console.log(HELP);
    return 0;
  }
  const known = Object.keys(ENGINES).filter(isEngine);
  const asked = args.engine === undefined ? known : [String(args.engine)];
  const engines = asked.filter(isEngine);
  if (engines.length === 0) {
    console.error(
      `silicon: no engine is called "${asked}"; known are ${known.join(", ")}`,
    );
    return 2;
  }
  const report = shareOf(engines);
  console.log(
    args.json ? JSON.stringify(report, undefined, 2) : shareText(report),
  );
  return isWhole(report) ? 0 : 1;
}

if (import.meta.main) Deno.exit(main());
