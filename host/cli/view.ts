/**
 * The view of a moment that `seek` and `back` share: where it is, registers,
 * code, page walks, memory, the console, and the events of that step.
 * Invariant: looking changes nothing: a walk sets no accessed flag and fills
 * no TLB, so the timeline goes on as if nobody had looked.
 */
import { eventToJson, formatEvent } from "../../core/collect.ts";
import { ConfigError } from "../../core/errors.ts";
import { toHex } from "../../core/bytes.ts";
import { formatMoment } from "../../core/moment.ts";
import type { Timeline } from "../../core/timeline.ts";
import type { Inspector } from "../machines.ts";
import {
  type Arguments,
  columns,
  type OptionSpec,
  readU64,
  readWhole,
  UsageError,
} from "./args.ts";
import { type Context, grouped, printJson } from "./command.ts";
import { consoleText, lastLines } from "./console_text.ts";
import { namedInspector, SYMBOLS_OPTION } from "./symbols.ts";

/** Options of a view. */
export const VIEW_OPTIONS: readonly OptionSpec[] = [
  { name: "regs", doc: "show registers" },
  { name: "disasm", doc: "show the next instructions" },
  { name: "count", value: "N", doc: "how many instructions (default 8)" },
  {
    name: "walk",
    value: "VA",
    doc: "walk a linear address through its page tables",
    many: true,
  },
  {
    name: "dump",
    value: "PA+BYTES",
    doc: "show physical memory, as 0x1000+64",
    many: true,
  },
  {
    name: "vcpu",
    value: "N",
    doc: "which vCPU (default: the one that has the turn)",
  },
  {
    name: "console",
    doc: "show what the guest had sent to its console (the last 2 KiB)",
  },
  SYMBOLS_OPTION,
];

const DEFAULT_CODE_ROWS = 8;
/** Lines of the console in the view that nobody asked more of. */
const DEFAULT_CONSOLE_LINES = 10;
const DUMP_LIMIT = 65_536;

interface Dump {
  readonly address: number;
  readonly bytes: Uint8Array;
}

/** Shows the moment at which `timeline` stands. */
export function showMoment(
  timeline: Timeline,
  args: Arguments,
  context: Context,
): void {
  const { io, machines } = context;
  const { kernel, moment } = timeline;
  const asked = args.has("regs") || args.has("disasm") ||
    args.has("console") || args.all("walk").length > 0 ||
    args.all("dump").length > 0;
  const wants = {
    regs: args.has("regs") || !asked,
    disasm: args.has("disasm") || !asked,
  };
  const inspector = wants.disasm
    ? namedInspector(timeline, args, context)
    : machines.inspector(kernel);
  if (inspector === undefined && asked) {
    throw new ConfigError(
      "look into the machine: it has no CPU that this host can read",
    );
  }
  const turn = inspector?.turn ?? 0;
  const cpu = args.whole("vcpu", 0) ?? turn;
  if (inspector !== undefined && cpu >= inspector.cpus) {
    throw new UsageError(
      `--vcpu ${cpu}: the machine has ${inspector.cpus}, counted from 0`,
    );
  }
  const sent = args.has("console") || !asked
    ? machines.serial(kernel)?.tail()
    : undefined;
  const view = inspector && read(inspector, cpu, wants, args);
  const time = kernel.moment.time;
  const events = timeline.events(moment.step, moment.step + 1);
  if (args.has("json")) {
    printJson(io, {
      moment,
      time,
      ...(inspector === undefined ? {} : { vcpu: cpu, turn }),
      ...view,
      ...(sent === undefined
        ? {}
        : { console: new TextDecoder().decode(sent) }),
      events: events.map(eventToJson),
    });
    return;
  }
  io.out(
    `moment ${formatMoment(moment)} of ${
      grouped(timeline.end)
    } steps, virtual time ${grouped(time)} ns\n`,
  );
  if (inspector !== undefined && inspector.cpus > 1) {
    const has = cpu === turn ? "has the turn" : `vCPU ${turn} has the turn`;
    io.out(`vCPU ${cpu} of ${inspector.cpus}, ${has}\n`);
  }
  if (view?.registers !== undefined) {
    io.out(
      "\nregisters:\n" +
        columns(
          view.registers.map((
            { name, value, meaning },
          ) => [name, meaning === undefined ? value : `${value}  ${meaning}`]),
        ),
    );
  }
  if (view?.code !== undefined) {
    io.out(
      "\ncode:\n" +
        columns(view.code.map(({ address, bytes, text, symbol }) => [
          symbol === undefined ? address : `${address} <${symbol}>`,
          `${bytes.padEnd(20)}  ${text}`,
        ])),
    );
  }
  for (const { linear, rows, result } of view?.walks ?? []) {
    io.out(
      `\nwalk of ${linear}:\n` +
        columns(
          rows.map((
            { level, address, entry, meaning },
          ) => [level, `${address}: ${entry}  ${meaning}`]),
        ) + `  = ${result}\n`,
    );
  }
  for (const dump of view?.dumps ?? []) io.out(`\nmemory:\n${dumpText(dump)}`);
  if (sent !== undefined && (sent.length > 0 || args.has("console"))) {
    const text = consoleText(sent);
    io.out(
      "\nconsole:\n" +
        lastLines(text, asked ? Infinity : DEFAULT_CONSOLE_LINES)
          .replace(/^(?=.)/gm, "  "),
    );
  }
  if (events.length > 0) {
    io.out(
      "\nevents of this step:\n" +
        events.map((e) =>
          `${e.ordinal === moment.ordinal && moment.ordinal > 0 ? "> " : "  "}${
            formatEvent(e)
          }\n`
        ).join(""),
    );
  }
}

function read(
  inspector: Inspector,
  cpu: number,
  wants: { regs: boolean; disasm: boolean },
  args: Arguments,
) {
  return {
    ...(wants.regs ? { registers: inspector.registers(cpu) } : {}),
    ...(wants.disasm
      ? {
        code: inspector.disassemble(
          cpu,
          args.whole("count", 1, 1000) ?? DEFAULT_CODE_ROWS,
        ),
      }
      : {}),
    walks: args.all("walk").map((text) => ({
      linear: text,
      ...inspector.walk(cpu, readU64(text, "--walk")),
    })),
    dumps: args.all("dump").map((text): Dump => {
      const [from, length, ...rest] = text.split("+");
      const address = readWhole(from), count = readWhole(length ?? "64");
      if (
        address === undefined || count === undefined || count > DUMP_LIMIT ||
        rest.length > 0
      ) {
        throw new UsageError(
          `--dump takes PA+BYTES (at most ${DUMP_LIMIT}), as 0x1000+64, found ${
            JSON.stringify(text)
          }`,
        );
      }
      return { address, bytes: inspector.memory(address, count) };
    }),
  };
}

/** Sixteen bytes a line, with their characters. */
function dumpText({ address, bytes }: Dump): string {
  if (bytes.length === 0) return `  0x${address.toString(16)}: no memory\n`;
  const lines: string[] = [];
  for (let at = 0; at < bytes.length; at += 16) {
    const row = bytes.subarray(at, at + 16);
    const hex = toHex(row).replace(/../g, "$& ").padEnd(48);
    const text = [...row].map((b) =>
      b >= 32 && b < 127 ? String.fromCharCode(b) : "."
    ).join("");
    lines.push(
      `  ${(address + at).toString(16).padStart(8, "0")}  ${hex} ${text}\n`,
    );
  }
  return lines.join("");
}
