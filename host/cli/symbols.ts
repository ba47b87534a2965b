/**
 * The guest's symbols for a tape: out of the file named with --symbols, out of
 * the image that was recorded, if it still lies where it lay and is the same
 * (its SHA-256 is on the tape), or out of the guest's memory (Linux).
 * Invariant: symbols of another image are never shown without being asked for.
 */
import { toHex } from "../../core/bytes.ts";
import { ConfigError } from "../../core/errors.ts";
import { sha256 } from "../../core/keyframe.ts";
import type { TapeReader } from "../../core/tape/reader.ts";
import { readHostInfo } from "../host_info.ts";
import type { Timeline } from "../../core/timeline.ts";
import type { GuestSymbol, Inspector } from "../machines.ts";
import { fileProblem } from "../scenario/files.ts";
import type { Arguments, OptionSpec } from "./args.ts";
import { type Context, urlOf } from "./command.ts";

/** The option that names them. */
export const SYMBOLS_OPTION: OptionSpec = {
  name: "symbols",
  value: "FILE",
  doc:
    "take names from an ELF image, System.map or kallsyms (default: the image's own, or what Linux holds in memory)",
};

/** A machine to look into, with the names that can be found for its code. */
export function namedInspector(
  timeline: Timeline,
  args: Arguments,
  context: Context,
): Inspector | undefined {
  const symbols = symbolsOf(timeline.tape, args, context);
  const inspector = context.machines.inspector(timeline.kernel, symbols);
  if (inspector !== undefined && symbols.length === 0) nameItself(inspector);
  return inspector;
}

/** Names code by what the guest holds in memory now. @returns whether it has that */
export function nameItself(inspector: Inspector): boolean {
  const symbols = inspector.guestSymbols();
  if (symbols.length > 0) inspector.name(symbols);
  return symbols.length > 0;
}

/** Symbols for disassembly, as many as can be found. */
export function symbolsOf(
  tape: TapeReader,
  args: Arguments,
  context: Context,
): readonly GuestSymbol[] {
  const { machines } = context;
  const asked = args.text("symbols");
  if (asked !== undefined) {
    try {
      return machines.symbolFile(
        asked,
        Deno.readFileSync(urlOf(asked, context)),
      );
    } catch (error) {
      if (error instanceof ConfigError) throw error;
      throw new ConfigError(
        `read symbols of ${asked}: ${fileProblem(error)}`,
        error,
      );
    }
  }
  const guest = readHostInfo(tape.manifest?.host).guest;
  if (guest === undefined) return [];
  const { format, path, text } = guest;
  try {
    const bytes = path === undefined
      ? new TextEncoder().encode(text)
      : Deno.readFileSync(urlOf(path, context));
    if (toHex(sha256(bytes)) !== guest.sha256) return [];
    return machines.symbols(
      { format, ...(path === undefined ? {} : { path }) },
      bytes,
    );
  } catch {
    return []; // the image is gone: addresses stay bare
  }
}
