/**
 * Reads `x86/unittests.cfg` of a kvm-unit-tests checkout: sections of
 * `key = value` lines, shell quoting in values, `"""` over several lines
 * (scripts/common.bash there is who defines it).
 * Invariant: what is not understood is an error with its line, never skipped.
 */
import { ConfigError } from "../../../mod.ts";

/** One entry of the file. */
export interface CfgEntry {
  readonly name: string;
  /** Image, beside the file. */
  readonly file: string;
  /** vCPUs. */
  readonly smp: number;
  /** Words for the guest's command line. */
  readonly args: string;
  /** Words for QEMU. */
  readonly params: readonly string[];
  readonly groups: readonly string[];
  /** Architecture, if it says so: `x86_64` or `i386`. */
  readonly arch: string;
}

const KEYS = new Set([
  "file",
  "smp",
  "test_args",
  "qemu_params",
  "extra_params",
  "groups",
  "arch",
  "machine",
  "check",
  "accel",
  "timeout",
  "disabled_if",
]);

/** Splits as a shell does: blanks outside quotes, quotes taken off. */
export function shellWords(text: string): string[] {
  const words: string[] = [];
  for (const [word] of text.matchAll(/(?:[^\s"']+|"[^"]*"|'[^']*')+/g)) {
    words.push(word.replaceAll(/"([^"]*)"|'([^']*)'/g, "$1$2"));
  }
  return words;
}

/**
 * @param path for messages
 * @throws ConfigError with file and line
 */
export function parseCfg(text: string, path: string): CfgEntry[] {
  const entries: CfgEntry[] = [];
  let name: string | undefined;
  let fields = new Map<string, string>();
  const close = (): void => {
    if (name === undefined) return;
    const file = fields.get("file");
    if (file === undefined) {
      throw new ConfigError(
        `${path}: entry ${name}: no "file"; name its image`,
      );
    }
    entries.push({
      name,
      file,
      smp: Number(fields.get("smp") ?? 1),
      args: shellWords(fields.get("test_args") ?? "").join(" "),
      params: shellWords(
        fields.get("qemu_params") ?? fields.get("extra_params") ?? "",
      ),
      groups: shellWords(fields.get("groups") ?? ""),
      arch: fields.get("arch") ?? "",
    });
  };
  const lines = text.split("\n");
  for (let i = 0; i < lines.length; i++) {
    const line = lines[i].trim();
    if (line === "" || line.startsWith("#")) continue;
    const section = /^\[(.+)\]$/.exec(line);
    if (section) {
      close();
      name = section[1];
      fields = new Map();
      continue;
    }
    const pair = /^(\w+)\s*=\s*(.*)$/.exec(line);
    if (pair === null || name === undefined || !KEYS.has(pair[1])) {
      throw new ConfigError(
        `${path}:${i + 1}: "${line}" is neither [entry] nor key = value with ` +
          `one of ${[...KEYS].join(", ")}; use a checkout whose ` +
          "x86/unittests.cfg has these",
      );
    }
    let value = pair[2];
    if (value.startsWith('"""')) {
      value = value.slice(3);
      while (!value.includes('"""')) {
        if (++i === lines.length) {
          throw new ConfigError(`${path}: entry ${name}: """ is never closed`);
        }
        value = `${value.replace(/\\$/, "")} ${lines[i]}`;
      }
      value = value.slice(0, value.indexOf('"""'));
    }
    fields.set(pair[1], value);
  }
  close();
  return entries;
}
