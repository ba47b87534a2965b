/**
 * The child that the SIGKILL test kills: an echo guest fed with serial bytes
 * for ever, recording to the file named by its argument. Each byte that the
 * guest sends back, hence has consumed, goes to standard output at once.
 */
import { tapeWriter } from "../../core/recorder.ts";
import { Recorder } from "../../core/recorder.ts";
import { FileSink } from "../../host/store/file_store.ts";
import {
  echoProgram,
  makeToy,
  ToySerialReceived,
  ToySerialSent,
} from "../toy/mod.ts";
import { TOY_CADENCE } from "../laws/toy_runs.ts";

const [path, detail] = Deno.args;
const kernel = makeToy({ program: echoProgram(), ramPages: 4, seed: 5n });
kernel.watch(ToySerialSent, ({ byte }) => {
  Deno.stdout.writeSync(Uint8Array.of(byte));
  return undefined;
});
Recorder.start(kernel, tapeWriter(new FileSink(path)), {
  detail: detail === "full" ? "full" : "boundaries",
  cadence: TOY_CADENCE,
});
for (let n = 0; n < 1e6; n++) {
  // Never 0, which would end the program.
  kernel.inject(ToySerialReceived, { bytes: Uint8Array.of(1 + n % 255) });
  kernel.run({ budgetSteps: 40 + 13 * (n % 5) });
}
