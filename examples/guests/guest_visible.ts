/**
 * What a guest can see of its own run, in order: retired RIPs, register and
 * memory writes, delivered events, serial output, L1's exits with the whole
 * VMCS that L1 then reads. A sink that writes it down, so that two machines can
 * be compared; and, apart from it, how often L0 had to act.
 */
import type { EventToken } from "../../core/event.ts";
import type { At } from "../../core/moment.ts";
import type { FactSink } from "../../core/sink.ts";
import type { CpuContext } from "../../cpu/context.ts";
import {
  CpuRetired,
  ExceptionDelivered,
  InterruptDelivered,
  MemWrote,
  RegWrote,
} from "../../cpu/facts.ts";
import { ExitHandled, NestedReflected } from "../../plugins/hypervisor/api.ts";
import { Decided, PolicySlack, ViewSwitched } from "../../plugins/mbec/api.ts";
import { UartSent } from "../../plugins/uart16550/api.ts";
import { VMCS_FIELDS, VmxExited } from "../../plugins/vmx/api.ts";

const HOT = new Map([
  [CpuRetired.id, "retired"],
  [MemWrote.id, "memory"],
  [RegWrote.id, "register"],
]);
const COMPARED: ReadonlySet<EventToken> = new Set<EventToken>([
  InterruptDelivered,
  UartSent,
]);
const WANTED: ReadonlySet<EventToken> = new Set<EventToken>([
  ...COMPARED,
  ExceptionDelivered,
  CpuRetired,
  MemWrote,
  RegWrote,
  VmxExited,
  NestedReflected,
  Decided,
  ViewSwitched,
  ExitHandled,
  PolicySlack,
]);

function count(map: Map<number, number>, key: number): void {
  map.set(key, (map.get(key) ?? 0) + 1);
}

/** See the file header. Counts of what is not the guest's to see are apart. */
export class GuestVisible implements FactSink {
  /** What must agree; each entry begins with its step. */
  readonly stream: string[] = [];
  /** L1's VMCS at each of its exits. */
  readonly exits: Uint8Array[] = [];
  /** Steps of slack notes. */
  readonly slack: number[] = [];
  /** How often each decision row fired. */
  readonly decisions = new Map<number, number>();
  /** View switches by SwitchPath. */
  readonly switches = new Map<number, number>();
  /** VM exits that hardware made. */
  hardwareExits = 0;
  /** Exits that L0 dealt with itself. */
  handled = 0;
  /** Their modelled cost in host cycles. */
  cost = 0;
  /** Step at which INT n, INT3 or INT1 was delivered. */
  private softwareStep = -1;

  /** @param memory reads physical memory @param cpu the vCPU, for CR2 and DR6 */
  constructor(
    private readonly memory: (at: number) => Uint8Array,
    private readonly cpu: () => CpuContext,
  ) {}

  input(_at: At): void {}
  fact(step: number, event: EventToken, payload: unknown): void {
    if (event === ExceptionDelivered) {
      // An event that L0 delivers again carries no payload: CR2 and DR6 do.
      const { v } = this.cpu();
      const p = event.toText({ ...payload as object, payload: 0n });
      if ((payload as { type: number }).type >= 4) this.softwareStep = step;
      this.stream.push(`${step} ${event.name} ${p} ${v.cr2} ${v.dr(6)}`);
    } else if (COMPARED.has(event)) {
      this.stream.push(`${step} ${event.name} ${event.toText(payload)}`);
    } else if (event === VmxExited) {
      const p = payload as { owner: boolean; vmcs: bigint; reason: number };
      this.hardwareExits++;
      if (!p.owner) this.exit(step, p.vmcs, p.reason);
    } else if (event === NestedReflected) {
      const p = payload as { vmcs12: bigint; reason: number };
      this.exit(step, p.vmcs12, p.reason);
    } else if (event === Decided) {
      count(this.decisions, (payload as { row: number }).row);
    } else if (event === ViewSwitched) {
      count(this.switches, (payload as { path: number }).path);
    } else if (event === ExitHandled) {
      this.handled++;
      this.cost += (payload as { cost: number }).cost;
    }
  }
  private exit(step: number, vmcs: bigint, reason: number): void {
    this.stream.push(`${step} exit ${reason} #${this.exits.length}`);
    this.exits.push(this.memory(Number(vmcs)));
  }
  hot(
    step: number,
    eventId: number,
    words: Uint32Array,
    at: number,
    n: number,
  ): void {
    const name = HOT.get(eventId);
    if (name === undefined) return;
    if (this.softwareStep === step) {
      // INT n retires, but not when its delivery had to begin again.
      if (eventId !== MemWrote.id) return;
    }
    let text = `${step} ${name}`;
    for (let i = 0; i < n; i++) text += ` ${words[at + i].toString(16)}`;
    this.stream.push(text);
  }
  note(step: number, event: EventToken): void {
    if (event === PolicySlack) this.slack.push(step);
  }
  boundary(): void {}
  wants(event: EventToken): boolean {
    return WANTED.has(event);
  }
}

/** A difference between two runs. */
export interface Difference {
  readonly step: number;
  readonly text: string;
}

/** The first thing that the guest saw differently in `b`. */
export function difference(
  a: GuestVisible,
  b: GuestVisible,
): Difference | undefined {
  const n = Math.max(a.stream.length, b.stream.length);
  let exits = 0;
  for (let i = 0; i < n; i++) {
    const [x, y] = [a.stream[i], b.stream[i]];
    if (x !== y) {
      const step = Math.min(
        x === undefined ? Infinity : parseInt(x),
        y === undefined ? Infinity : parseInt(y),
      );
      const before = a.stream.slice(Math.max(0, i - 6), i).join("\n  ");
      return { step, text: `after\n  ${before}\nfirst:  ${x}\nsecond: ${y}` };
    }
    if (x.includes(" exit ")) {
      const fields = fieldDifference(a.exits[exits], b.exits[exits]);
      if (fields !== undefined) {
        return { step: parseInt(x), text: `${x}: ${fields}` };
      }
      exits++;
    }
  }
  return undefined;
}

/** Names what differs in two VMCS regions. */
function fieldDifference(a: Uint8Array, b: Uint8Array): string | undefined {
  if (a.every((byte, i) => byte === b[i])) return undefined;
  const out: string[] = [];
  const [first, second] = [a, b].map((r) => new DataView(r.buffer));
  for (const { offset, name } of VMCS_FIELDS) {
    const x = first.getBigUint64(offset, true);
    const y = second.getBigUint64(offset, true);
    if (x !== y) {
      out.push(`${name} 0x${x.toString(16)} and 0x${y.toString(16)}`);
    }
  }
  return out.join(", ") || "bytes outside all fields";
}
