/**
 * What the checks in this folder share: the project's source files as a map
 * from path to text, and findings, printed one a line.
 * Invariant: paths are relative to the project's root with `/`; a check is a
 * pure function of the map, so that its tests need no files.
 */

/** Source files by path. */
export type Files = ReadonlyMap<string, string>;

/** Something wrong at a place, with what to do about it. */
export interface Finding {
  readonly file: string;
  readonly line: number;
  /** What is wrong. */
  readonly what: string;
  /** What the author should do. */
  readonly remedy: string;
}

/** The project's root folder. */
export const ROOT: URL = new URL("../", import.meta.url);

const SKIPPED = new Set(["node_modules", "coverage", "docs", "images"]);

/** Reads every source file (`.ts`, `.js`, `deno.json`) below `root`. */
export function readFiles(root: URL = ROOT): Files {
  const files = new Map<string, string>();
  const visit = (folder: string): void => {
    const entries = [...Deno.readDirSync(new URL(folder, root))];
    entries.sort((a, b) => a.name < b.name ? -1 : 1);
    for (const { name, isDirectory, isFile } of entries) {
      if (name.startsWith(".") || SKIPPED.has(name)) continue;
      const path = folder + name;
      if (isDirectory) visit(path + "/");
      else if (isFile && (/\.[tj]s$/.test(name) || path === "deno.json")) {
        files.set(path, Deno.readTextFileSync(new URL(path, root)));
      }
    }
  };
  visit("");
  return files;
}

/** Whether `path` is a test (or only serves tests). */
export function isTest(path: string): boolean {
  return /_(test|testing)\.[tj]s$/.test(path);
}

/**
 * Prints findings and a closing line.
 * @returns the process's exit status: 0 if there are none.
 */
export function report(
  check: string,
  fileCount: number,
  findings: readonly Finding[],
): number {
  for (const { file, line, what, remedy } of findings) {
    console.error(`${file}:${line}: ${what}: ${remedy}`);
  }
  console.log(
    `${check}: ${fileCount} files, ${findings.length || "no"} finding${
      findings.length === 1 ? "" : "s"
    }`,
  );
  return findings.length === 0 ? 0 : 1;
}
