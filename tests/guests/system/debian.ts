/**
 * Files from Debian packages, fetched and unpacked outside the project and
 * never committed: `apt-get download`, then `dpkg-deb -x`, in a cache folder.
 * Invariant: a package that is there is not fetched again.
 */

const CACHE = `${
  Deno.env.get("XDG_CACHE_HOME") ?? `${Deno.env.get("HOME") ?? "/tmp"}/.cache`
}/vmtape/debian`;

/** A program's output. @throws Error with its own words */
function output(
  command: string,
  args: readonly string[],
  cwd?: string,
): string {
  const { success, stdout, stderr } = new Deno.Command(command, {
    args: [...args],
    cwd,
  }).outputSync();
  const text = new TextDecoder();
  if (!success) {
    throw new Error(
      `${command} ${args.join(" ")}: ${text.decode(stderr).trim()}`,
    );
  }
  return text.decode(stdout);
}

function download(name: string, folder: string): void {
  try {
    output("apt-get", ["download", name], folder);
  } catch {
    // The package lists may be older than the mirror.
    output("apt-get", ["update"]);
    output("apt-get", ["download", name], folder);
  }
}

/** Folder with the contents of a package. @throws Error if apt can't give it */
export function unpacked(name: string): string {
  const folder = `${CACHE}/${name}`;
  const root = `${folder}/root`;
  try {
    Deno.statSync(`${folder}/done`);
    return root;
  } catch { /* not there yet */ }
  Deno.mkdirSync(root, { recursive: true });
  download(name, folder);
  for (const { name: file } of Deno.readDirSync(folder)) {
    if (file.endsWith(".deb")) {
      output("dpkg-deb", ["-x", `${folder}/${file}`, root]);
    }
  }
  Deno.writeTextFileSync(`${folder}/done`, "");
  return root;
}

/** The package that a meta package such as `linux-image-cloud-amd64` stands for. */
export function dependencyOf(meta: string, prefix: string): string {
  const find = (): string | undefined =>
    new RegExp(`Depends: (${prefix}\\S*)`).exec(
      output("apt-cache", ["depends", meta]),
    )?.[1];
  let found = undefined;
  try {
    found = find();
  } catch { /* no package lists yet */ }
  if (found === undefined) {
    output("apt-get", ["update"]);
    found = find();
  }
  if (found === undefined) {
    throw new Error(`${meta}: depends on no package called ${prefix}…`);
  }
  return found;
}

/** Debian's cloud kernel: its bzImage, and the folder of its modules. */
export interface Kernel {
  readonly release: string;
  readonly bzImage: string;
  readonly modules: string;
}

/** Fetches the kernel. */
export function cloudKernel(): Kernel {
  const name = dependencyOf("linux-image-cloud-amd64", "linux-image-");
  const release = name.replace("linux-image-", "");
  const root = unpacked(name);
  return {
    release,
    bzImage: `${root}/boot/vmlinuz-${release}`,
    modules: `${root}/lib/modules/${release}`,
  };
}

/** Fetches the static busybox. */
export function busybox(): string {
  return `${unpacked("busybox-static")}/bin/busybox`;
}
