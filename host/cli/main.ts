/**
 * The command line `vmtape` (design §9): finds the command, reads its
 * arguments, runs it, and turns what it throws into one message and an exit
 * status. `deno task vmtape --help` lists the commands.
 * Invariant: every error of a user's making names what, where and the remedy
 * and ends with status 2; only what we did not foresee ends with 8.
 */
import {
  ConfigError,
  messageOf,
  NotModelled,
  VmtapeError,
} from "../../core/errors.ts";
import { didYouMean } from "../scenario/spelling.ts";
import type { Machines } from "../machines.ts";
import { encodePath } from "../scenario/files.ts";
import { columns, helpPage, readArguments, UsageError } from "./args.ts";
import { type Command, IncompatibleError } from "./command.ts";
import { backCommand } from "./commands/back.ts";
import { diffCommand } from "./commands/diff.ts";
import { eventsCommand } from "./commands/events.ts";
import { forkCommand } from "./commands/fork.ts";
import { infoCommand } from "./commands/info.ts";
import { pluginsCommand } from "./commands/plugins.ts";
import { recoverCommand } from "./commands/recover.ts";
import { replayCommand, verifyCommand } from "./commands/replay.ts";
import { runCommand } from "./commands/run.ts";
import { seekCommand } from "./commands/seek.ts";
import { Exit } from "./exit.ts";
import { type Io, realIo } from "./io.ts";
import config from "../../deno.json" with { type: "json" };

/** Commands in the order of the help page. */
export const COMMANDS: readonly Command[] = [
  runCommand,
  replayCommand,
  verifyCommand,
  recoverCommand,
  infoCommand,
  eventsCommand,
  seekCommand,
  backCommand,
  diffCommand,
  forkCommand,
  pluginsCommand,
];

const HELP =
  `vmtape records a virtual machine's run, event by event, and travels through it

usage: vmtape COMMAND [arguments] [options]

commands:
${columns(COMMANDS.map(({ usage }) => [usage.name, usage.summary]))}
\`vmtape COMMAND --help\` tells more; \`vmtape --version\` prints the version.
`;

/** What `main` needs of its surroundings. */
export interface Surroundings {
  readonly io: Io;
  /** The folder that relative paths start from, as a URL ending in `/`. */
  readonly folder: URL;
  /** Asked for only when a command runs: loading machines takes a while. */
  machines(): Promise<Machines>;
}

/** Runs one command line. @returns the exit status */
export async function main(
  args: readonly string[],
  world: Surroundings,
): Promise<number> {
  const { io } = world;
  const [name, ...rest] = args;
  if (
    name === undefined || name === "--help" || name === "-h" || name === "help"
  ) {
    const command = COMMANDS.find((c) => c.usage.name === rest[0]);
    const page = command === undefined ? HELP : helpPage(command.usage);
    if (name === undefined) io.err(page);
    else io.out(page);
    return name === undefined ? Exit.badInput : Exit.ok;
  }
  if (name === "--version") {
    io.out(`vmtape ${config.version}\n`);
    return Exit.ok;
  }
  const debug = rest.includes("--debug");
  try {
    const command = COMMANDS.find((c) => c.usage.name === name);
    if (command === undefined) {
      const names = COMMANDS.map((c) => c.usage.name);
      throw new UsageError(
        `there is no command ${JSON.stringify(name)}${
          didYouMean(name, names) || "."
        } The commands are ${names.join(", ")}`,
      );
    }
    const parsed = readArguments(
      command.usage,
      rest.filter((arg) => arg !== "--debug"),
    );
    if (parsed.has("help")) {
      io.out(helpPage(command.usage));
      return Exit.ok;
    }
    return await command.run(parsed, {
      io,
      folder: world.folder,
      machines: await world.machines(),
    });
  } catch (error) {
    return explain(error, name, debug, io);
  }
}

/** Says what went wrong. @returns the exit status */
function explain(
  error: unknown,
  command: string,
  debug: boolean,
  io: Io,
): number {
  if (debug && error instanceof Error) io.err(`${error.stack}\n`);
  if (error instanceof UsageError) {
    const page = COMMANDS.some((c) => c.usage.name === command)
      ? `vmtape ${command} --help`
      : "vmtape --help";
    io.err(`vmtape: ${error.message}\nTry \`${page}\`.\n`);
    return Exit.badInput;
  }
  if (error instanceof IncompatibleError) {
    io.err(`vmtape ${command}: ${error.message}\n`);
    return Exit.incompatible;
  }
  if (error instanceof NotModelled) {
    io.err(`vmtape ${command}: ${error.message}\n`);
    return Exit.notModelled;
  }
  if (error instanceof VmtapeError && error.code !== "assert") {
    io.err(
      error.message.split("\n").map((line) => `vmtape ${command}: ${line}\n`)
        .join(""),
    );
    return Exit.badInput;
  }
  if (isUserError(error)) {
    io.err(`vmtape ${command}: ${messageOf(error)}\n`);
    return Exit.badInput;
  }
  const stack = error instanceof Error && !debug ? `\n${error.stack}` : "";
  io.err(
    `vmtape ${command}: internal error: ${
      messageOf(error)
    }${stack}\nPlease report this with the command line and the tape.\n`,
  );
  return Exit.internal;
}

/** Errors of other layers that are about what the user gave. */
function isUserError(error: unknown): boolean {
  if (error instanceof ConfigError) return true;
  return error instanceof Error &&
    ["AssemblyError", "LoadError"].includes(error.name);
}

/**
 * The folder that a user's relative paths start from: `deno task` changes to
 * the project's root and says in INIT_CWD where the user stood.
 */
function userFolder(): URL {
  const root = new URL("../../", import.meta.url);
  const here = new URL(`file://${encodePath(Deno.cwd())}/`);
  // Without the permission nobody came through `deno task`, which grants all.
  const variable = "INIT_CWD";
  const granted = Deno.permissions.querySync({ name: "env", variable });
  if (granted.state !== "granted") return here;
  const stood = Deno.env.get(variable);
  if (here.href !== root.href || stood === undefined) return here;
  return new URL(`file://${encodePath(stood)}/`);
}

if (import.meta.main) {
  // A promise that nobody waits for: a foreign plugin's async handler, which
  // has been refused already. It must not take the tape with it.
  globalThis.addEventListener("unhandledrejection", (event) => {
    event.preventDefault();
    realIo().err(
      `vmtape: a plugin left a promise behind, which failed: ${
        messageOf(event.reason)
      }; make its handlers synchronous\n`,
    );
  });
  const status = await main(Deno.args, {
    io: realIo(),
    folder: userFolder(),
    machines: async () => (await import("../machine.ts")).machines,
  });
  Deno.exit(status);
}
