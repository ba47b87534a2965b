/**
 * `deno task bench`: measures what we publish, ratios side by side in one run.
 * Arguments: --engine NAME, --millions N (instructions a run), --rounds N,
 * --only engines|recording|travel|linux, --linux DIR (a folder with a Linux
 * kernel and initial RAM disk, see linux_guest.ts).
 */
import { parseArgs } from "@std/cli/parse-args";
import { engineTable, measureEngines } from "./engines.ts";
import { linuxLines, measureLinux } from "./linux.ts";
import { findLinuxGuest } from "./linux_guest.ts";
import { recordingOverhead, travelCosts } from "./recording.ts";

const { engine, millions, rounds, only, linux } = parseArgs(Deno.args, {
  string: ["engine", "millions", "rounds", "only", "linux"],
  default: { engine: "t0", millions: "600", rounds: "3", only: "" },
});
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
  const guest = findLinuxGuest(folder);
  if (guest === undefined) {
    console.log(
      `  not run: no kernel and initial RAM disk ${
        folder === undefined ? "found" : `in ${folder}`
      }; name a folder that has vmlinux or vmlinuz* and *.cpio with --linux`,
    );
  } else {
    const place = guest.kernel.slice(0, guest.kernel.lastIndexOf("/"));
    for (const line of linuxLines(measureLinux(guest, place, Number(rounds)))) {
      console.log(`  ${line}`);
    }
  }
}
