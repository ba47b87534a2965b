/**
 * Linux's own hypervisor in a guest: Debian's kernel on an SVM model inserts
 * its stock kvm modules, and a program of ours (kvm_guest.c) runs a real-mode
 * and a long-mode virtual machine, with nested and with shadow paging.
 */
import { cloudKernel } from "./debian.ts";
import {
  type Check,
  debianGuest,
  FOLDER,
  type Guest,
  replayWhole,
} from "./guest.ts";
import { PROMPT, Session } from "./session.ts";

const TAPE = `${FOLDER}/kvm.tape`;
const APPEND = "console=ttyS0 reboot=t nokaslr cryptomgr.notests";
const TRIPLE_FAULT = 6;

/** Compiles the program. @throws Error with gcc's words */
function program(): Uint8Array {
  const source = new URL("kvm_guest.c", import.meta.url).pathname;
  const binary = `${FOLDER}/kvm_guest`;
  const { success, stderr } = new Deno.Command("gcc", {
    args: ["-static", "-O1", "-Wall", "-o", binary, source],
  }).outputSync();
  if (!success) {
    throw new Error(
      `gcc ${source}: failed; install gcc and libc6-dev and read:\n` +
        new TextDecoder().decode(stderr),
    );
  }
  return Deno.readFileSync(binary);
}

function guest(): Guest {
  const { modules } = cloudKernel();
  const module = (path: string): Uint8Array =>
    Deno.readFileSync(`${modules}/kernel/${path}`);
  return debianGuest({
    name: "kvm",
    machine: { cpu: "qemu64,+svm,+npt,-apic", memory: "256MiB" },
    append: APPEND,
    more: new Map([
      ["lib/irqbypass.ko", module("virt/lib/irqbypass.ko")],
      ["lib/kvm.ko", module("arch/x86/kvm/kvm.ko")],
      ["lib/kvm-amd.ko", module("arch/x86/kvm/kvm-amd.ko")],
      ["bin/kvm_guest", program()],
    ]),
  });
}

function run(): string {
  const { scenario, files } = guest();
  const session = new Session(scenario, files, TAPE);
  session.expect(PROMPT);
  session.ask("insmod /lib/irqbypass.ko; insmod /lib/kvm.ko; echo $?", "0");
  const seen: string[] = [];
  for (const npt of [1, 0]) {
    session.ask(`insmod /lib/kvm-amd.ko npt=${npt}; ls -l /dev/kvm`, "10, 232");
    session.ask("kvm_guest", "kvm guests done");
    session.ask("rmmod kvm-amd; echo $?", "0");
    seen.push(npt ? "nested paging" : "shadow paging");
  }
  session.type("reboot -f");
  const status = session.end();
  session.finish();
  if (status !== TRIPLE_FAULT) throw new Error(`exit status ${status}`);
  const steps = session.kernel.moment.step / 1e6;
  return `both guests, ${seen.join(" and ")}, ${steps.toFixed(0)} M steps`;
}

/** The checks, in order. */
export const KVM_CHECKS: readonly Check[] = [
  { name: "kvm-amd: runs a real-mode and a long-mode guest", run },
  { name: "kvm-amd: replays with equal digests", run: () => replayWhole(TAPE) },
];
