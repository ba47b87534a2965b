/**
 * Tapes in files: ByteSink and ByteSource over Deno's synchronous file API.
 * Each append is one or more write(2) calls that have returned before it
 * returns, so what was appended survives SIGKILL without further ado; with
 * `fsync` a flush also survives power loss. Reading never changes a file.
 */
import type { ByteSink, ByteSource } from "../../core/tape/store.ts";
import { messageOf, VmtapeError } from "../../core/errors.ts";

/** The store failed: disk full, file gone … */
export class StoreError extends VmtapeError {
  override readonly name = "StoreError";
  constructor(message: string, cause?: unknown) {
    super("store", message, cause);
  }
}

/** How a file sink is opened. */
export interface FileSinkOptions {
  /** fdatasync(2) at each flush: inputs survive power loss. Slow. */
  readonly fsync?: boolean;
  /** Overwrite an existing file; otherwise that is an error. */
  readonly overwrite?: boolean;
}

/** A new file that a tape is written to. */
export class FileSink implements ByteSink {
  readonly path: string;
  readonly #file: Deno.FsFile;
  readonly #fsync: boolean;
  #open = true;

  /** @throws StoreError when the file can't be made or already exists */
  constructor(path: string, options: FileSinkOptions = {}) {
    this.path = path;
    this.#fsync = options.fsync === true;
    const overwrite = options.overwrite === true;
    try {
      this.#file = Deno.openSync(path, {
        write: true,
        create: overwrite,
        createNew: !overwrite,
        truncate: overwrite,
      });
    } catch (error) {
      throw new StoreError(
        error instanceof Deno.errors.AlreadyExists
          ? `create tape ${path}: the file already exists, choose another ` +
            "name or remove it"
          : `create tape ${path}: ${messageOf(error)}, choose a place that ` +
            "can be written",
        error,
      );
    }
  }

  append(bytes: Uint8Array): void {
    let at = 0;
    try {
      while (at < bytes.length) at += this.#file.writeSync(bytes.subarray(at));
    } catch (error) {
      throw new StoreError(
        `write tape ${this.path}: ${messageOf(error)}; what was committed is ` +
          "safe, free some space and run `vmtape recover`",
        error,
      );
    }
  }

  flush(): void {
    if (!this.#fsync) return;
    try {
      this.#file.syncDataSync();
    } catch (error) {
      throw new StoreError(
        `flush tape ${this.path}: ${messageOf(error)}`,
        error,
      );
    }
  }

  /** Closes the file; safe to call twice. */
  close(): void {
    if (this.#open) this.#file.close();
    this.#open = false;
  }
}

/** A file that a tape is read from, perhaps while it is being written. */
export class FileSource implements ByteSource {
  readonly path: string;
  readonly #file: Deno.FsFile;
  #open = true;

  /** @throws StoreError when the file can't be opened */
  constructor(path: string) {
    this.path = path;
    try {
      this.#file = Deno.openSync(path, { read: true });
    } catch (error) {
      throw new StoreError(
        error instanceof Deno.errors.NotFound
          ? `open tape ${path}: there is no such file`
          : `open tape ${path}: ${messageOf(error)}`,
        error,
      );
    }
  }

  get size(): number {
    return this.#file.statSync().size;
  }

  read(offset: number, length: number): Uint8Array {
    const bytes = new Uint8Array(length);
    let at = 0;
    try {
      this.#file.seekSync(offset, Deno.SeekMode.Start);
      while (at < length) {
        const got = this.#file.readSync(bytes.subarray(at));
        if (got === null || got === 0) break;
        at += got;
      }
    } catch (error) {
      throw new StoreError(
        `read tape ${this.path} at byte ${offset}: ${messageOf(error)}`,
        error,
      );
    }
    return at === length ? bytes : bytes.subarray(0, at);
  }

  /** Closes the file; safe to call twice. */
  close(): void {
    if (this.#open) this.#file.close();
    this.#open = false;
  }
}
