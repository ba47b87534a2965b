/**
 * The guest's symbols for a tape: out of the image named with --symbols, or
 * out of the image that was recorded, if it still lies where it lay and is
 * the same (its SHA-256 is on the tape).
 * Invariant: symbols of another image are never shown without being asked for.
 */
import { toHex } from "../../core/bytes.ts";
import { ConfigError } from "../../core/errors.ts";
import { sha256 } from "../../core/keyframe.ts";
import type { TapeReader } from "../../core/tape/reader.ts";
import { readHostInfo } from "../host_info.ts";
import type { GuestSymbol } from "../machines.ts";
import { fileProblem } from "../scenario/files.ts";
import type { Arguments } from "./args.ts";
import { type Context, urlOf } from "./command.ts";

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
      return machines.symbols(
        { format: "image", path: asked },
        Deno.readFileSync(urlOf(asked, context)),
      );
    } catch (error) {
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
