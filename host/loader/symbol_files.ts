/**
 * Files that a user names for their symbols: an ELF image with a symbol table,
 * or lines of "address type name" as System.map, `nm` and /proc/kallsyms have
 * them (nm(1)'s type letters; kallsyms adds `[module]`).
 * Invariant: a file is told apart by its contents, never by its name; one that
 * names nothing is an error with the remedy, never an empty table.
 */
import { ConfigError } from "../../core/errors.ts";
import { isElf, readElf } from "./elf.ts";
import { isBzImage } from "./linux.ts";
import { type MapSymbol, mapTable } from "./symbol_map.ts";
import type { SymbolTable } from "./symbols.ts";

const LINE = /^\s*([0-9a-f]{1,16}) ([a-z?]) (\S+)(?:\s+\[\S+\])?\s*$/i;
/** Lines that are looked at in order to tell what a file is. */
const PROBE_LINES = 8;
/** Debian ships a System.map of one line that says where the real one is. */
const LEAST_SYMBOLS = 2;

/**
 * Reads the symbols of a file.
 * @throws {ConfigError} naming the file, what it is instead, and the remedy
 */
export function readSymbolFile(bytes: Uint8Array, file: string): SymbolTable {
  const refuse = (what: string): never => {
    throw new ConfigError(`read symbols of ${file}: ${what}`);
  };
  if (isElf(bytes)) {
    const { symbols } = readElf(bytes, file);
    return symbols.all.length > 0 ? symbols : refuse(
      "an ELF image without a symbol table (stripped); name the unstripped one or a System.map",
    );
  }
  if (isBzImage(bytes)) {
    refuse(
      "a compressed Linux kernel, which names nothing; name its vmlinux or System.map, or leave --symbols out: a booted kernel's own kallsyms are read from its memory",
    );
  }
  if (bytes.length === 0) refuse("the file is empty");
  if (bytes.subarray(0, 4096).includes(0)) {
    refuse("neither an ELF image nor text like System.map or kallsyms");
  }
  const lines = new TextDecoder().decode(bytes).split("\n");
  const symbols: MapSymbol[] = [];
  let hidden = 0;
  for (const [i, line] of lines.entries()) {
    if (line.trim() === "") continue;
    const found = LINE.exec(line);
    if (found === null) {
      // words of the file's maker where the symbols should be
      if (i < PROBE_LINES && symbols.length < LEAST_SYMBOLS) {
        refuse(
          `line ${i + 1} is ${
            JSON.stringify(line.slice(0, 90))
          }, not "address type name" as in System.map or kallsyms, and the file is no ELF image`,
        );
      }
      refuse(
        `line ${i + 1} is ${
          JSON.stringify(line.slice(0, 90))
        }, not "address type name"; use an undamaged copy`,
      );
    }
    const [, address, type, name] = found!;
    const value = BigInt(`0x${address}`);
    if (value === 0n) hidden++;
    symbols.push({ address: value, type, name });
  }
  if (hidden > 0 && hidden === symbols.length) {
    refuse(
      "every address is 0: the kernel hid them (kptr_restrict); read /proc/kallsyms as root after `echo 0 > /proc/sys/kernel/kptr_restrict`",
    );
  }
  if (symbols.length < LEAST_SYMBOLS) refuse("it names nothing");
  return mapTable(symbols);
}
