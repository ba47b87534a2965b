/**
 * Where supervisor code of L2 can be entered from user mode: targets of IDT
 * gates, LSTAR, CSTAR and SYSENTER_EIP, and call gates of GDT and LDT (SDM 3A
 * §5.8, §6.10). Read through L2's own paging, without effect.
 */
import { Efer } from "../../cpu/arch/flags.ts";
import { Msr } from "../../cpu/arch/msr.ts";
import type { NestedContext } from "../hypervisor/api.ts";
import { VmcsField as F } from "../vmx/api.ts";

const CALL_GATE = 0xc;
const PRESENT = 0x80;

/** Which sources of entry points to collect. */
export interface Sources {
  readonly interrupts: boolean;
  readonly fastCalls: boolean;
  readonly callGates: boolean;
}

/** Guest-physical pages that hold an entry point. */
export function entryPages(
  context: NestedContext,
  sources: Sources,
): Set<number> {
  const { operations: ops } = context;
  const targets: bigint[] = [];
  const long = (context.paging().efer & Efer.LMA) !== 0;
  const table = (base: number, limit: number): Uint8Array =>
    context.readL2(ops.vmread(base), Number(ops.vmread(limit)) + 1) ??
      new Uint8Array(0);
  if (sources.interrupts) {
    const idt = table(F.GuestIdtrBase, F.GuestIdtrLimit);
    targets.push(...gateTargets(idt, long, () => true));
  }
  if (sources.fastCalls) {
    for (const msr of [Msr.LSTAR, Msr.CSTAR]) {
      const target = ops.rdmsr(msr);
      if (target) targets.push(target);
    }
    const eip = ops.vmread(F.GuestSysenterEip);
    if (eip !== 0n) targets.push(eip);
  }
  if (sources.callGates) {
    const isCallGate = (type: number): boolean => (type & 0x1f) === CALL_GATE;
    const unusable = ops.vmread(F.GuestLdtrAttributes) & 0x1_0000n;
    const tables = [table(F.GuestGdtrBase, F.GuestGdtrLimit)];
    if (!unusable) tables.push(table(F.GuestLdtrBase, F.GuestLdtrLimit));
    for (const bytes of tables) {
      targets.push(...callGateTargets(bytes, long, isCallGate));
    }
  }
  const pages = new Set<number>();
  for (const target of targets) {
    const page = context.translate(target)?.guestPage;
    if (page !== undefined) pages.add(page);
  }
  return pages;
}

/** Offsets of present gates in a table of gates only. */
function gateTargets(
  bytes: Uint8Array,
  long: boolean,
  wanted: (type: number) => boolean,
): bigint[] {
  const size = long ? 16 : 8;
  const out: bigint[] = [];
  for (let at = 0; at + size <= bytes.length; at += size) {
    const type = bytes[at + 5];
    if (type & PRESENT && wanted(type)) out.push(offsetIn(bytes, at, long));
  }
  return out;
}

/** Offsets of present call gates among descriptors of 8 (in long mode 8 or 16) bytes. */
function callGateTargets(
  bytes: Uint8Array,
  long: boolean,
  isCallGate: (type: number) => boolean,
): bigint[] {
  const out: bigint[] = [];
  for (let at = 8; at + 8 <= bytes.length; at += 8) {
    const type = bytes[at + 5];
    const system = (type & 0x10) === 0;
    const wide = long && system && (type & PRESENT) !== 0;
    if (type & PRESENT && system && isCallGate(type)) {
      if (!wide || at + 16 <= bytes.length) {
        out.push(offsetIn(bytes, at, wide));
      }
    }
    if (wide) at += 8;
  }
  return out;
}

function offsetIn(bytes: Uint8Array, at: number, long: boolean): bigint {
  const view = new DataView(bytes.buffer, bytes.byteOffset);
  const low = BigInt(view.getUint16(at, true)) |
    BigInt(view.getUint16(at + 6, true)) << 16n;
  return long ? low | BigInt(view.getUint32(at + 8, true)) << 32n : low;
}
