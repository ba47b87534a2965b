/**
 * `deno task bench`: measures what we publish, ratios side by side in one run.
 */
import { parseArgs } from "@std/cli/parse-args";
import { engineTable, measureEngines } from "./engines.ts";
import { linuxLines, measureLinux } from "./linux.ts";
import { recordingOverhead, travelCosts } from "./recording.ts";

const HELP = `deno task bench [--only PART] [--linux DIR] …

Measures every published claim; compare ratios, not seconds of two runs.

  --only PART     engines, recording, travel or linux
  --linux DIR     boots the kernel (vmlinux or vmlinuz*) and initial RAM disk
                  (*.cpio) there; default: Debian's cloud kernel and busybox,
                  fetched by apt and kept in ~/.cache/vmtape
  --rounds N      how often what is timed is run (default 3)
  --millions N    instructions of a run of engines and recording (default 600)
  --engine NAME   t0 (default) or reference, for engines
  --help          this`;

const { engine, millions, rounds, only, linux, help } = parseArgs(Deno.args, {
  string: ["engine", "millions", "rounds", "only", "linux"],
  boolean: ["help"],
  default: { engine: "t0", millions: "600", rounds: "3", only: "" },
});
if (help) {
  console.log(HELP);
  Deno.exit(0);
}
const wanted = (what: string): boolean => only === "" || only === what;

if (wanted("engines")) {
  console.log(
    `Engine ${engine}, millions of guest instructions a second of CPU time:`,
  );
  console.log(
    engineTable(
      measureEngines({
        engine: String(engine),
        millions: Number(millions),
        rounds: Number(rounds),
      }),
    ),
  );
}

if (wanted("recording")) {
  console.log("Recording under `inputs` against none (claim: at most 1.05):");
  for (
    const { kernel, ratio, steps, tapeBytes } of recordingOverhead(
      Number(millions),
      Number(rounds),
    )
  ) {
    console.log(
      `  ${kernel}  ${
        ratio.toFixed(3)
      }  (${steps} steps, ${tapeBytes} bytes of tape)`,
    );
  }
}

if (wanted("travel")) {
  const travel = travelCosts(15);
  console.log("Under `full`, and travelling over 200 M steps:");
  console.log(
    `  ${(travel.eventsPerSecond / 1e6).toFixed(2)} M events/s, ${
      travel.bytesPerEvent.toFixed(2)
    } bytes/event`,
  );
  console.log(
    `  seek ${travel.seekMedian.toFixed(1)} ms at the median, ${
      travel.seekWorst.toFixed(1)
    } ms at worst; back ${travel.backMedian.toFixed(1)} ms at the median`,
  );
}

if (wanted("linux")) {
  console.log("A Linux boot:");
  const folder = linux === undefined ? undefined : String(linux);
  const figures = measureLinux(folder, Number(rounds));
  const lines = typeof figures === "string"
    ? [`not run: ${figures}`]
    : linuxLines(figures);
  for (const line of lines) console.log(`  ${line}`);
}
