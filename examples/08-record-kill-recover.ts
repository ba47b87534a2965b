/**
 * Recording, killing and recovering.
 *
 *   deno run --allow-read=. --allow-write=. --allow-run examples/08-record-kill-recover.ts
 *
 * A child process runs a guest that echoes its serial input. We type, wait for
 * the echo, and kill the child with SIGKILL in mid-run. The torn tape opens to
 * its last good commit; every byte that the guest consumed is on it.
 */
import {
  decodeStored,
  FileSink,
  FileSource,
  machines,
  recoverTape,
  TapeReader,
  verifyTape,
} from "../mod.ts";

const TYPED = "time travel\n";
const SCENARIO = "examples/guests/echo.yaml";

/** What was left. */
export interface Remains {
  readonly echoed: string;
  readonly status: number;
  readonly recovered: string;
  readonly verified: number;
}

/** Runs the child, kills it, recovers its tape. @param folder where tapes go */
export async function recordKillRecover(folder: string): Promise<Remains> {
  const tape = `${folder}/killed.tape`;
  const whole = `${folder}/killed.recovered.tape`;
  const child = new Deno.Command(Deno.execPath(), {
    args: [
      "run",
      "--allow-read=.",
      `--allow-write=${folder}`,
      "host/cli/main.ts",
      "run",
      SCENARIO,
      "--tape",
      tape,
    ],
    cwd: new URL("../", import.meta.url),
    stdin: "piped",
    stdout: "piped",
    stderr: "null",
  }).spawn();
  const writer = child.stdin.getWriter();
  await writer.write(new TextEncoder().encode(TYPED));
  const echoed = await readUntil(child.stdout, TYPED.length);
  child.kill("SIGKILL");
  await child.status;
  await writer.abort().catch(() => {});

  const torn = TapeReader.open(new FileSource(tape));
  const status = torn.exitStatus;
  recoverTape(new FileSource(tape), new FileSink(whole));
  const mended = TapeReader.open(new FileSource(whole));
  let recovered = "";
  const factory = machines.factory({ uses: [] });
  for (const { event, payload } of decodeStored(mended, new Map())) {
    if (event.name !== "uart.received") continue;
    const { bytes } = payload as { bytes: Uint8Array };
    recovered += new TextDecoder().decode(bytes);
  }
  const verification = verifyTape(mended, factory);
  return { echoed, status, recovered, verified: verification.status };
}

async function readUntil(
  stream: ReadableStream<Uint8Array>,
  length: number,
): Promise<string> {
  let text = "";
  for await (const bytes of stream) {
    text += new TextDecoder().decode(bytes);
    if (text.length >= length) break;
  }
  return text;
}

if (import.meta.main) {
  const folder = Deno.makeTempDirSync({ dir: "." });
  try {
    const { echoed, status, recovered, verified } = await recordKillRecover(
      folder,
    );
    console.log(`The guest had echoed ${JSON.stringify(echoed)} when it died.`);
    console.log(`The torn tape has status ${status} (4: torn but usable).`);
    console.log(`On the recovered tape: ${JSON.stringify(recovered)}.`);
    console.log(`Replaying it: status ${verified} (0: equal).`);
  } finally {
    Deno.removeSync(folder, { recursive: true });
  }
}
