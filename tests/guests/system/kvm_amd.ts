/**
 * Linux's own hypervisor in a guest: Debian's kernel on an SVM model inserts
 * its stock kvm modules, and a program of ours (kvm_guest.c) runs a real-mode
 * and a long-mode virtual machine, with nested and with shadow paging; its tape
 * replays, and the reference engine agrees on windows around the VMRUNs.
 */
import { messageOf } from "../../../mod.ts";
import { SvmExited } from "../../../plugins/svm/api.ts";
import { cloudKernel } from "./debian.ts";
import {
  type Check,
  debianGuest,
  FOLDER,
  type Guest,
  replayWhole,
} from "./guest.ts";
import { LEAN, TRIPLE_FAULT } from "./lean.ts";
import { Session } from "./session.ts";
import { compareWindows } from "./windows.ts";

const TAPE = `${FOLDER}/kvm.tape`;
const SOURCE = new URL("kvm_guest.c", import.meta.url).pathname;
/** Windows begin so many steps before a #VMEXIT: its VMRUN is in them. */
const BEFORE_EXIT = 5000;

/** Compiles and links a static program. @returns gcc's words if that fails */
function compile(source: string, binary: string): string | undefined {
  const { success, stderr } = new Deno.Command("gcc", {
    args: ["-static", "-O1", "-Wall", "-o", binary, source],
  }).outputSync();
  return success ? undefined : new TextDecoder().decode(stderr).trim();
}

/** The C compiler, a static C library and KVM's header, as Debian has them. */
function missing(): string | undefined {
  const source = `${FOLDER}/try.c`;
  Deno.writeTextFileSync(
    source,
    "#include <linux/kvm.h>\nint main(void) { return 0; }\n",
  );
  let words: string | undefined;
  try {
    words = compile(source, `${FOLDER}/try`);
  } catch (error) {
    words = messageOf(error);
  }
  return words && `install gcc and libc6-dev: ${words.split("\n")[0]}`;
}

function program(): Uint8Array {
  const binary = `${FOLDER}/kvm_guest`;
  const words = compile(SOURCE, binary);
  if (words !== undefined) throw new Error(`gcc ${SOURCE}: ${words}`);
  return Deno.readFileSync(binary);
}

function guest(): Guest {
  const { modules } = cloudKernel();
  const module = (path: string): Uint8Array =>
    Deno.readFileSync(`${modules}/kernel/${path}`);
  return debianGuest({
    name: "kvm",
    machine: { cpu: "qemu64,+svm,+npt,-apic", memory: "256MiB" },
    append: LEAN.append,
    more: new Map([
      ["lib/irqbypass.ko", module("virt/lib/irqbypass.ko")],
      ["lib/kvm.ko", module("arch/x86/kvm/kvm.ko")],
      ["lib/kvm-amd.ko", module("arch/x86/kvm/kvm-amd.ko")],
      ["bin/kvm_guest", program()],
    ]),
  });
}

let session: Session | undefined;
/** Steps of the first and the last #VMEXIT, in each paging mode. */
const exits: number[] = [];

function run(): string {
  const { scenario, files } = guest();
  session = new Session(scenario, files, TAPE);
  const seenExits = session.steps(SvmExited, () => true);
  session.expect(LEAN.prompt);
  session.ask("insmod /lib/irqbypass.ko; insmod /lib/kvm.ko; echo $?", "0");
  const seen: string[] = [];
  for (const npt of [1, 0]) {
    session.ask(`insmod /lib/kvm-amd.ko npt=${npt}; ls -l /dev/kvm`, "10, 232");
    const before = seenExits.length;
    session.ask("kvm_guest", "kvm guests done");
    exits.push(seenExits[before], seenExits[seenExits.length - 1]);
    session.ask("rmmod kvm-amd; echo $?", "0");
    seen.push(npt ? "nested paging" : "shadow paging");
  }
  session.type("reboot -f");
  const status = session.end();
  session.finish();
  if (status !== TRIPLE_FAULT) throw new Error(`exit status ${status}`);
  const steps = session.kernel.moment.step / 1e6;
  return `both guests, ${seen.join(" and ")}, ${seenExits.length} exits, ` +
    `${steps.toFixed(0)} M steps`;
}

function engines(): string {
  if (session === undefined) throw new Error("there was no boot");
  const { text, facts } = compareWindows(
    TAPE,
    exits.map((step) => step - BEFORE_EXIT),
  );
  const count = facts.get(SvmExited.name) ?? 0;
  if (count < exits.length) throw new Error(`only ${count} exits in them`);
  return `${text}, ${count} exits among them`;
}

/** The checks, in order. */
export const KVM_CHECKS: readonly Check[] = [
  { name: "kvm-amd: runs a real-mode and a long-mode guest", run },
  { name: "kvm-amd: replays with equal digests", run: () => replayWhole(TAPE) },
  { name: "kvm-amd: windows on the reference engine", run: engines },
].map((check) => ({ ...check, missing }));
