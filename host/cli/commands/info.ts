/**
 * `vmtape info`: what a tape is a recording of, how much is on it and in which
 * state it is, from the tape alone: no plugin is loaded, nothing is run.
 * Invariant: works on every tape that can be opened, torn and damaged ones too.
 */
import { frameTypeName } from "../../../core/tape/frames.ts";
import type { TapeReader } from "../../../core/tape/reader.ts";
import type { Json } from "../../../core/fields.ts";
import { readHostInfo } from "../../host_info.ts";
import type { Arguments } from "../args.ts";
import { columns } from "../args.ts";
import {
  type Command,
  type Context,
  grouped,
  openTape,
  printJson,
  requireManifest,
  sizeText,
} from "../command.ts";
import { TAPE_STATUSES } from "../exit.ts";

/** `vmtape info` */
export const infoCommand: Command = {
  usage: {
    name: "info",
    summary: "say what is on a tape",
    positionals: [{ name: "TAPE", doc: "the tape" }],
    options: [
      { name: "check", doc: "check every byte instead of believing the index" },
      { name: "manifest", doc: "print the manifest whole, as JSON" },
    ],
    statuses: TAPE_STATUSES,
    examples: ["info hello.tape", "info --check --json hello.tape"],
  },
  run: runInfo,
};

function runInfo(args: Arguments, context: Context): number {
  const { io } = context;
  const [path] = args.positionals;
  const tape = openTape(path, context, args.has("check"));
  if (args.has("manifest")) printJson(io, requireManifest(tape, path));
  else if (args.has("json")) printJson(io, describe(tape));
  else io.out(page(path, tape));
  return tape.exitStatus;
}

/** Frames and bytes of each type. */
function frameCounts(
  tape: TapeReader,
): Record<string, { frames: number; bytes: number }> {
  const counts: Record<string, { frames: number; bytes: number }> = {};
  for (const { type, storedLength } of tape.frames) {
    const count = counts[frameTypeName(type)] ??= { frames: 0, bytes: 0 };
    count.frames++;
    count.bytes += storedLength;
  }
  return counts;
}

/** Everything as plain data. */
function describe(tape: TapeReader): Record<string, unknown> {
  const { manifest } = tape;
  return {
    id: tape.id,
    state: tape.state,
    lost: tape.lost(),
    bytes: tape.size,
    end: tape.end,
    engine: tape.engine ?? null,
    detail: manifest?.detail ?? null,
    parent: manifest?.parent ?? null,
    machine: manifest?.machine ?? null,
    host: manifest?.host ?? null,
    chainHead: tape.chainHead,
    inputs: tape.inputs.length,
    keyframes: tape.keyframes.length,
    commits: tape.commits.length,
    digests: tape.digests.length,
    facts: tape.commits.at(-1)?.facts ?? 0,
    events: tape.schemas.map(({ name, version, kind }) => ({
      name,
      version,
      kind,
    })),
    frames: frameCounts(tape),
  };
}

interface MachineView {
  readonly seed?: string;
  readonly machine?: Record<string, Json>;
  readonly participants?: readonly {
    name: string;
    version: string;
    options?: Record<string, Json>;
  }[];
}

function page(path: string, tape: TapeReader): string {
  const { manifest, end } = tape;
  const machine = (manifest?.machine ?? {}) as MachineView;
  const guest = readHostInfo(manifest?.host).guest;
  const plugins = (machine.participants ?? []).map(
    ({ name, version, options = {} }) => {
      const set = Object.entries(options).map(([key, value]) =>
        `${key}=${JSON.stringify(value)}`
      );
      return `${name} ${version}${
        set.length === 0 ? "" : ` (${set.join(" ")})`
      }`;
    },
  );
  const rows: [string, string][] = [
    ["tape", `${path}, ${sizeText(tape.size)}, ${tape.state}`],
    ["id", tape.id],
    [
      "guest",
      guest === undefined
        ? "none"
        : `${guest.format} ${guest.path ?? "(text)"}${
          guest.append === "" ? "" : `, append ${JSON.stringify(guest.append)}`
        }`,
    ],
    [
      "machine",
      Object.entries(machine.machine ?? {}).filter(([k]) => k !== "images")
        .map(([k, v]) =>
          k === "ramBytes" && typeof v === "number"
            ? `memory ${v / 1024} KiB`
            : `${k} ${typeof v === "string" ? v : JSON.stringify(v)}`
        ).join(", "),
    ],
    ...Object.entries(machine.machine?.images ?? {}).map((
      [name, hash],
    ): [string, string] => ["", `${name}: SHA-256 ${hash}`]),
    ["seed", machine.seed ?? "unknown"],
    ["plugins", plugins[0] ?? "none"],
    ...plugins.slice(1).map((plugin): [string, string] => ["", plugin]),
    [
      "recorded",
      `policy ${manifest?.detail ?? "unknown"}, engine ${
        tape.engine ?? "unknown"
      }`,
    ],
    [
      "ends",
      `step ${grouped(end.step)}, virtual time ${grouped(end.time)} ns, ${
        end.stopped ? "the machine ended" : "recording was cut"
      }`,
    ],
    [
      "holds",
      `${grouped(tape.inputs.length)} inputs, ${
        grouped(tape.commits.at(-1)?.facts ?? 0)
      } stored facts of ${tape.schemas.length} types, ${
        grouped(tape.keyframes.length)
      } keyframes, ${grouped(tape.commits.length)} commits`,
    ],
    ["chain head", tape.chainHead],
  ];
  if (manifest?.parent !== undefined) {
    const { tape: parent, step, ordinal } = manifest.parent;
    rows.splice(2, 0, [
      "fork of",
      `${parent} at ${step}${ordinal === 0 ? "" : `.${ordinal}`}`,
    ]);
  }
  const frames = Object.entries(frameCounts(tape)).map((
    [type, { frames, bytes }],
  ): [string, string] => [
    `  ${type}`,
    `${grouped(frames)} frames, ${sizeText(bytes)}`,
  ]);
  const lost = tape.lost().map((line): [string, string] => ["lost", line]);
  return columns([...rows, ...frames, ...lost]);
}
