/**
 * The machine loop, shared by all engines (design §7): boundaries, the engine,
 * `call` rows, exceptions, and the rules that belong to a step's end — RF, TF,
 * the STI and MOV SS shadows, debug traps. Engines differ only in how `emit`
 * rows run, so everything here is the same on each (design law 2).
 *
 * While TF, RF, a shadow, a debug register or a monitor trap asks for it, the
 * engine is given one step at a time.
 */
import { Vector } from "../arch/exceptions.ts";
import { Rflags } from "../arch/flags.ts";
import { DebugCtl, MsrSlot } from "../arch/msr.ts";
import { Intercept } from "../arch/intercepts.ts";
import type { CpuContext } from "../context.ts";
import { isPrefix } from "../isa/prefixes.ts";
import type { Insn } from "../isa/insn.ts";
import { Outcome, type OutcomeCode } from "../isa/row.ts";
import {
  ActivityState,
  EventRequest,
  GuestMode,
  Interruptibility,
  VCPU,
} from "../layout.ts";
import { Access } from "../port.ts";
import { isFarTransfer, tookNearBranch } from "../semantics/branches.ts";
import { in64 } from "../semantics/system/common.ts";
import { type Backend, CallEnd, type CallRows, ExecReason } from "./backend.ts";
import {
  asleep,
  Boundary,
  boundary,
  type BoundaryCode,
  deliverPending,
  halt,
  PENDING_BS,
} from "./boundary.ts";
import type { Turns } from "./turns.ts";

/** Transitions without a step after which the machine is stuck (design law 8). */
export const STUCK_TRANSITIONS = 65_536;
/** Transitions without a step after which the host is polled. */
const POLL_TRANSITIONS = 4096;

/** Why `MachineLoop.run` came back. */
export const LoopEnd = {
  Limit: 0,
  Idle: 1,
  Shutdown: 2,
  Stuck: 3,
  /** Poll the host; nothing is wrong. */
  Yield: 4,
} as const;
/** One of LoopEnd. */
export type LoopEndCode = typeof LoopEnd[keyof typeof LoopEnd];

/** What the loop asks of the executor around it. */
export interface LoopHost {
  /** Called at consistent points: delivers waiting events to their handlers. */
  pump(cpu: CpuContext): void;
  /** Whether `pump` would find something to do. */
  waiting(): boolean;
  /** The step counter moved without a `cpu.retired` record. */
  rebase(): void;
}

const SHADOW = Interruptibility.BySti | Interruptibility.ByMovSs;
const DR7 = VCPU.dr + 7 * 8;
const STRING_OPCODES = new Set([
  ...[0x6c, 0x6d, 0x6e, 0x6f],
  ...[0xa4, 0xa5, 0xa6, 0xa7, 0xaa, 0xab, 0xac, 0xad, 0xae, 0xaf],
]);

/** See the file header. */
export class MachineLoop implements CallRows {
  /** Steps at which the running `run` ends; may be lowered from within. */
  limit = 0;
  /** Drain and pump after each step. */
  perStep = false;
  /** The engine is not held to one step at a time. */
  private free = false;
  /** Step of the last progress; steps in between reset the transition count. */
  private stepBefore = 0;
  private readonly before = new BigUint64Array(16);
  /** DR0–3 and DR7 as the engine last saw them, per vCPU; not state. */
  private readonly debug: string[];

  constructor(
    private readonly cpus: readonly CpuContext[],
    private readonly turns: Turns,
    private readonly backend: Backend,
    private readonly host: LoopHost,
  ) {
    this.debug = cpus.map(() => "");
    backend.callRows = this;
  }

  /** State was replaced: forget what was derived from it. */
  reset(): void {
    this.debug.fill("");
  }

  /** Runs the vCPUs in turns until `limit` steps or a reason to stop. */
  run(limit: number): LoopEndCode {
    const { turns } = this;
    this.limit = limit;
    let { cpu } = turns;
    let { v } = cpu;
    this.stepBefore = v.step;
    for (;;) {
      this.host.pump(cpu);
      const { step } = v;
      if (step >= this.limit) return this.atLimit();
      let what = step < turns.end ? boundary(cpu) : this.pass(step, true);
      if (what === Boundary.Idle) what = this.pass(step, false);
      if (what === Boundary.Idle) return LoopEnd.Idle;
      if (what === Boundary.Shutdown) return LoopEnd.Shutdown;
      if (turns.several) {
        cpu = turns.cpu;
        v = cpu.v;
      }
      let transition = true;
      if (what === Boundary.Execute) transition = this.execute(cpu);
      else this.host.rebase();
      if (this.stepBefore !== v.step) {
        this.stepBefore = v.step;
        v.setWord(VCPU.transitions, 0);
      } else if (transition) {
        const count = v.word(VCPU.transitions) + 1;
        v.setWord(VCPU.transitions, count);
        if (count >= STUCK_TRANSITIONS) return LoopEnd.Stuck;
        if (count % POLL_TRANSITIONS === 0) return LoopEnd.Yield;
      }
    }
  }

  /**
   * Gives the turn to the next vCPU that has something to do.
   * @param own the one that had it may have another, when no other wants it
   * @returns what its boundary came to; Idle, and the turn stays, if none does
   */
  private pass(step: number, own: boolean): BoundaryCode {
    const { cpus, turns } = this;
    const last = turns.index;
    const others = cpus.length - (own ? 0 : 1);
    for (let i = 1; i <= others; i++) {
      turns.index = (last + i) % cpus.length;
      const what = boundary(turns.cpu);
      if (what === Boundary.Idle) continue;
      turns.begin(step);
      return what;
    }
    turns.index = last;
    return Boundary.Idle;
  }

  /** At the limit halted vCPUs that nothing wakes say so. */
  private atLimit(): LoopEndCode {
    return this.cpus.every(asleep) ? LoopEnd.Idle : LoopEnd.Limit;
  }

  /** New debug registers end the engine's silent accesses. */
  private syncDebug(cpu: CpuContext, enabled: boolean): void {
    const { v } = cpu;
    const now = enabled
      ? `${v.dr(0)},${v.dr(1)},${v.dr(2)},${v.dr(3)},${v.word(DR7)}`
      : "";
    if (this.debug[cpu.index] === now) return;
    this.debug[cpu.index] = now;
    this.backend.dropGrants(cpu.index);
  }

  /**
   * Executes up to the next thing that concerns the loop.
   * @returns whether that was a transition: a fault, exit or procedure
   */
  private execute(cpu: CpuContext): boolean {
    const { v } = cpu;
    const flags = v.rflags;
    const shadow = v.interruptibility & SHADOW;
    const debug = (v.word(DR7) & 0xff) !== 0;
    this.syncDebug(cpu, debug);
    const recording = cpu.virtualization?.branchRecords?.(cpu) === true;
    const single = this.perStep || recording || debug || shadow !== 0 ||
      (flags & (Rflags.TF | Rflags.RF)) !== 0 ||
      (v.eventRequest & EventRequest.VirtualizationStep) !== 0;
    const step = v.step;
    const rip = v.rip;
    cpu.attention = false;
    const limit = single ? step + 1 : Math.min(this.limit, this.turns.end);
    this.free = !single;
    const reason = this.backend.execute(cpu, limit);
    if (single && v.step !== step) {
      this.stepped(cpu, rip, flags, shadow);
      if (recording) cpu.virtualization?.executed?.(cpu, rip, undefined);
      return false;
    }
    if (v.step !== step) {
      v.setWord(VCPU.transitions, 0);
      this.stepBefore = v.step;
    }
    switch (reason) {
      case ExecReason.Call:
        this.call(cpu, this.backend.insn!);
        break;
      case ExecReason.Fault:
        deliverPending(cpu, 0);
        this.host.rebase();
        break;
      case ExecReason.Stage2:
        this.stage2(cpu);
        break;
      case ExecReason.NotModelled:
        cpu.notModelled(this.backend.notModelled ?? "instruction", "SDM 2");
        break;
      case ExecReason.Transition:
        break;
      default:
        return false;
    }
    return true;
  }

  /** See CallRows. Goes on only where `run` would find nothing else to do. */
  perform(cpu: CpuContext, insn: Insn): number {
    if (!this.free || cpu.facts.observed) return CallEnd.Refused;
    const { v } = cpu;
    const { step } = v;
    this.call(cpu, insn);
    if (v.step === step) return CallEnd.Transition;
    const quiet = !cpu.attention && v.eventRequest === 0 &&
      v.pendingDebug === 0 && v.activity === ActivityState.Active &&
      (v.interruptibility & SHADOW) === 0 &&
      (v.rflags & (Rflags.TF | Rflags.RF)) === 0 &&
      (v.word(DR7) & 0xff) === 0 && step + 1 < this.turns.end &&
      cpu.virtualization?.branchRecords?.(cpu) !== true &&
      !this.host.waiting();
    return quiet ? CallEnd.GoOn : CallEnd.Attention;
  }

  private stage2(cpu: CpuContext): void {
    if (cpu.virtualization === undefined) {
      throw new RangeError("a stage-2 fault without a virtualization plugin");
    }
    cpu.virtualization.stage2Fault(cpu);
    cpu.v.stage2 = undefined;
    this.host.rebase();
  }

  /** End of one `emit` instruction or iteration in single-step mode. */
  private stepped(
    cpu: CpuContext,
    rip: bigint,
    flags: number,
    shadow: number,
  ): void {
    const { v } = cpu;
    v.interruptibility &= ~shadow;
    if (flags & Rflags.RF) {
      // RF lasts for all iterations of a string instruction (SDM 3B §17.3.1.1).
      if (v.rip !== rip || !this.repeats(cpu)) v.rflags &= ~Rflags.RF;
    }
    if (flags & Rflags.TF && (!onBranches(cpu) || tookNearBranch(cpu, rip))) {
      v.pendingDebug |= PENDING_BS;
    }
  }

  /** Whether a repeated string instruction lies at RIP. */
  private repeats(cpu: CpuContext): boolean {
    const { v, access } = cpu;
    const long = in64(v);
    const base = long ? 0n : v.segBase(1);
    let repeat = false;
    for (let i = 0n; i < 15n; i++) {
      const at = BigInt.asUintN(long ? 64 : 32, base + v.rip + i);
      const byte = Number(access.read(at, 1, Access.Silent | Access.System));
      if (access.outcome !== 0) {
        v.pending = undefined;
        return false;
      }
      if (byte === 0xf2 || byte === 0xf3) repeat = true;
      else if (STRING_OPCODES.has(byte)) return repeat;
      else if (!isPrefix(byte, long)) return false;
    }
    return false;
  }

  /** Checks that precede the procedure. @returns Done to go on */
  private admit(cpu: CpuContext, insn: Insn): OutcomeCode {
    const { v } = cpu;
    const { row } = insn;
    if (row.feature !== undefined && !cpu.model.has(row.feature)) {
      return v.raise(Vector.UD);
    }
    const { intercept } = row;
    const guest = v.guestMode !== GuestMode.None
      ? cpu.virtualization
      : undefined;
    if (guest && intercept && guest.disabled?.(cpu, intercept)) {
      return v.raise(Vector.UD);
    }
    if (row.privileged && v.cpl !== 0) return v.raise(Vector.GP, 0);
    let detail = 0;
    if (row.detail) {
      const facts = row.detail(cpu, insn);
      if (facts === undefined) return cpu.access.outcome as OutcomeCode;
      detail = facts;
    }
    if (guest && intercept && guest.intercept(cpu, intercept, insn, detail)) {
      return Outcome.Exit;
    }
    return Outcome.Done;
  }

  private call(cpu: CpuContext, insn: Insn): void {
    const { v, facts } = cpu;
    const { row } = insn;
    const step = v.step;
    const rip = v.rip;
    const flags = v.rflags;
    const shadow = v.interruptibility & SHADOW;
    const pendingDebug = v.pendingDebug;
    const bits = insn.codeSize === 64 ? 64 : 32;
    cpu.nextRip = BigInt.asUintN(bits, rip + BigInt(insn.length));
    cpu.shadow = shadow;
    if (facts.observed) {
      for (let i = 0; i < 16; i++) this.before[i] = v.gpr(i);
    }
    let outcome = this.admit(cpu, insn);
    if (outcome === Outcome.Done) {
      v.rflags = (flags & ~Rflags.RF) >>> 0;
      v.interruptibility &= ~shadow;
      outcome = row.call!(cpu, insn);
      if (outcome === Outcome.Fault || outcome === Outcome.Stage2) {
        // Nothing is committed, except by a task switch, whose fault belongs to the new task.
        if (v.rip === rip) {
          v.rflags = (v.rflags | (flags & Rflags.RF)) >>> 0;
          v.interruptibility |= shadow;
          v.pendingDebug = pendingDebug;
        }
      }
    }
    switch (outcome) {
      case Outcome.Fault:
        deliverPending(cpu, insn.length);
        this.host.rebase();
        return;
      case Outcome.Stage2:
        this.stage2(cpu);
        return;
      case Outcome.Exit:
        this.host.rebase();
        return;
      case Outcome.Completed:
        if (v.step !== step) this.state(cpu, rip);
        this.host.rebase();
        return;
      case Outcome.Again:
        if (flags & Rflags.RF) v.rflags |= Rflags.RF;
        break;
      default:
        v.rip = cpu.nextRip;
    }
    this.state(cpu, rip);
    v.step = step + 1;
    const trap = row.finalTrapFlag ? v.rflags : flags;
    if (
      trap & Rflags.TF && !(v.interruptibility & Interruptibility.ByMovSs) &&
      (!onBranches(cpu) || isFarTransfer(row.name))
    ) v.pendingDebug |= PENDING_BS;
    if (cpu.virtualization?.branchRecords?.(cpu)) {
      cpu.virtualization.executed?.(cpu, rip, insn);
    }
    if (outcome === Outcome.Halt) halt(cpu);
    else if (outcome === Outcome.Yield) this.turns.giveUp(v.step);
    else if (outcome === Outcome.Spin) this.turns.pause(cpu, rip);
    if (row.intercept === Intercept.Iret) cpu.exceptionFilter?.returned(cpu);
  }

  /** Facts at a call row's end: changed registers, then the retire. */
  private state(cpu: CpuContext, rip: bigint): void {
    const { v, facts, index } = cpu;
    if (!facts.observed) return;
    for (let i = 0; i < 16; i++) {
      const value = v.gpr(i);
      if (value !== this.before[i]) facts.registerWrote(index, i, value);
    }
    facts.retired(index, rip);
  }
}

/** IA32_DEBUGCTL.BTF: TF traps after taken branches only (SDM 3B §17.4.3). */
function onBranches(cpu: CpuContext): boolean {
  return (cpu.v.msr(MsrSlot.DebugCtl) & DebugCtl.BTF) !== 0n;
}
