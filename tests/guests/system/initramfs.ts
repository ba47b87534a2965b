/**
 * An initramfs in the "newc" cpio format (Linux, Documentation/driver-api/
 * early-userspace/buffer-format.rst): busybox, its links and an /init of ours.
 */

/** Kinds of an entry's mode (POSIX sys/stat.h). */
const S = { Directory: 0o040000, Character: 0o020000, File: 0o100000 };
const S_LINK = 0o120000;

const ALIGN = 4;

/** Writes the archive. */
class Cpio {
  readonly #parts: Uint8Array[] = [];
  #size = 0;
  #inode = 0;

  add(
    name: string,
    mode: number,
    data: Uint8Array = new Uint8Array(),
    device: readonly [number, number] = [0, 0],
  ): void {
    const path = new TextEncoder().encode(`${name}\0`);
    const fields = [
      ++this.#inode,
      mode,
      0,
      0,
      1,
      0,
      data.length,
      0,
      0,
      ...device,
      path.length,
      0,
    ];
    const head = fields.map((n) => n.toString(16).padStart(8, "0")).join("");
    this.#put(new TextEncoder().encode(`070701${head}`));
    this.#put(path);
    this.#pad();
    this.#put(data);
    this.#pad();
  }

  finish(): Uint8Array {
    this.add("TRAILER!!!", 0);
    const out = new Uint8Array(this.#size);
    let at = 0;
    for (const part of this.#parts) {
      out.set(part, at);
      at += part.length;
    }
    return out;
  }

  #put(bytes: Uint8Array): void {
    this.#parts.push(bytes);
    this.#size += bytes.length;
  }
  #pad(): void {
    this.#put(new Uint8Array((ALIGN - this.#size % ALIGN) % ALIGN));
  }
}

/** Commands of busybox that get a link. */
const APPLETS = [
  ...["sh", "mount", "ls", "cat", "echo", "uname", "poweroff", "reboot"],
  ...["setsid", "cttyhack", "insmod", "rmmod", "dmesg", "grep", "nproc"],
];

/** The shell's /init; `extra` runs before the shell. */
const init = (extra: string): string =>
  `#!/bin/sh
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
${extra}
exec setsid cttyhack /bin/sh
`;

/** More files: path without the leading slash, and contents (executable). */
export type Files = ReadonlyMap<string, Uint8Array>;

/** The archive. @param busybox its program @param script lines of /init */
export function initramfs(
  busybox: Uint8Array,
  script = "",
  files: Files = new Map(),
): Uint8Array {
  const cpio = new Cpio();
  for (const folder of ["bin", "dev", "proc", "sys", "tmp", "lib"]) {
    cpio.add(folder, S.Directory | 0o755);
  }
  cpio.add("dev/console", S.Character | 0o600, undefined, [5, 1]);
  cpio.add("dev/null", S.Character | 0o666, undefined, [1, 3]);
  cpio.add("bin/busybox", S.File | 0o755, busybox);
  const text = new TextEncoder();
  for (const applet of APPLETS) {
    cpio.add(`bin/${applet}`, S_LINK | 0o777, text.encode("busybox"));
  }
  for (const [path, contents] of files) {
    cpio.add(path, S.File | 0o755, contents);
  }
  cpio.add("init", S.File | 0o755, text.encode(init(script)));
  return cpio.finish();
}
