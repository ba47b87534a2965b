/**
 * The SIGKILL harness: starts a command that records a tape and reports, one
 * character on standard output each, the input bytes that its guest consumed;
 * kills it at a seeded instant; says what was reported and what the tape has.
 * The toy child is one such command; `vmtape run` with a guest that echoes its
 * serial port is another: give its arguments and its input event.
 */
import { FileSource } from "../../host/store/file_store.ts";
import { TapeReader } from "../../core/tape/reader.ts";
import { decodeStored } from "../../core/tape/events.ts";

/** A command to be killed. */
export interface Victim {
  readonly command: string;
  readonly args: readonly string[];
  /** What it gets on standard input, if anything. */
  readonly stdin?: Uint8Array;
  /** Where it records. */
  readonly tape: string;
  /** The event whose payload has the bytes, and their field. */
  readonly input: { readonly event: string; readonly field: string };
}

/** What a killed child left. */
export interface Remains {
  /** Input bytes that the guest consumed, as the child reported them. */
  readonly reported: Uint8Array;
  readonly tape: TapeReader;
  /** Input bytes on the tape. */
  readonly recorded: Uint8Array;
  close(): void;
}

/** Runs `victim`, kills it when `reports` bytes have been seen. */
export async function killAt(
  victim: Victim,
  reports: number,
): Promise<Remains> {
  const child = new Deno.Command(victim.command, {
    args: [...victim.args],
    stdin: victim.stdin === undefined ? "null" : "piped",
    stdout: "piped",
    stderr: "inherit",
  }).spawn();
  if (victim.stdin !== undefined) {
    const writer = child.stdin.getWriter();
    // The child may die before it has read all of it.
    writer.write(victim.stdin).catch(() => {});
  }
  const seen: number[] = [];
  let alive = true;
  for await (const chunk of child.stdout) {
    seen.push(...chunk);
    if (alive && seen.length >= reports) {
      alive = false;
      // Not waited for: it goes on until the signal arrives.
      child.kill("SIGKILL");
    }
  }
  if (victim.stdin !== undefined) child.stdin.abort().catch(() => {});
  await child.status;
  const source = new FileSource(victim.tape);
  const tape = TapeReader.open(source, { verify: true });
  return {
    reported: Uint8Array.from(seen),
    tape,
    recorded: inputBytes(tape, victim.input),
    close: () => source.close(),
  };
}

/** The bytes of all inputs of one event, in order. */
export function inputBytes(
  tape: TapeReader,
  { event, field }: Victim["input"],
): Uint8Array {
  const bytes: number[] = [];
  for (const one of decodeStored(tape, new Map())) {
    if (one.event.name !== event) continue;
    const value = (one.payload as Record<string, Uint8Array | number>)[field];
    if (typeof value === "number") bytes.push(value);
    else bytes.push(...value);
  }
  return Uint8Array.from(bytes);
}
