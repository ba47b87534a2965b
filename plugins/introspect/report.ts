/**
 * States introspection's facts, in the plugin's name and in no other place. The
 * steps of a list walk, which may be many, are made only where somebody wants
 * them.
 */
import type { EventToken, PayloadOf } from "../../core/mod.ts";
import type { CpuContext } from "../../cpu/context.ts";
import {
  FaultHandled,
  FaultInjected,
  FaultReinjected,
  ModuleArmed,
  ModuleDisarmed,
  ModuleRedirected,
  ReadCompleted,
  ReadFaulted,
  ReadRequested,
  ReadRetried,
  WalkCompleted,
  WalkRequested,
  WalkStepped,
} from "./api.ts";
import type { ListWalk } from "./list_walk.ts";
import { causeOf, type Intercepted, type ModuleDecision } from "./modules.ts";
import type { Fault } from "./reader.ts";
import {
  commonOf,
  defaultsOf,
  type GuestModule,
  type Job,
  type ListRequest,
  type ReadRequest,
  type ReadResult,
  RESULT_FIELDS,
} from "./requests.ts";
import { Ending, type PolicyWord } from "./words.ts";

/** Every event that the plugin emits. */
export const EMITTED = [
  ReadRequested,
  WalkRequested,
  ReadCompleted,
  WalkCompleted,
  WalkStepped,
  ReadFaulted,
  FaultHandled,
  FaultInjected,
  ReadRetried,
  ModuleArmed,
  ModuleDisarmed,
  ModuleRedirected,
  FaultReinjected,
] as const;

/** The plugin's `emit`. */
export type Emit = <T extends typeof EMITTED[number]>(
  event: T,
  payload: PayloadOf<T>,
) => void;

const NO_RESULT = defaultsOf(RESULT_FIELDS);

/** See the file header. */
export class Reporter {
  constructor(
    private readonly emit: Emit,
    private readonly wants: (
      event: EventToken & typeof EMITTED[number],
    ) => boolean,
  ) {}

  requested(id: number, request: ReadRequest | ListRequest): void {
    if ("length" in request) this.emit(ReadRequested, { id, ...request });
    else this.emit(WalkRequested, { id, ...request });
  }

  completed(id: number, job: Job, result: ReadResult, why = ""): void {
    const { cpu, reader, policy } = commonOf(job);
    const { ending, cause, bytesOk, bytes, faultVa, errorCode } = result;
    const common = { id, cpu, reader, policy, ending, cause, why };
    if (job.read !== undefined) {
      this.emit(ReadCompleted, {
        ...common,
        linear: job.read.linear,
        bytesOk,
        faultVa,
        errorCode,
        bytes,
      });
    } else {
      this.emit(WalkCompleted, {
        ...common,
        outcome: result.outcome,
        nodes: result.nodes.length,
        bytesOk,
        faultVa,
        errorCode,
      });
    }
  }

  /** A request that came as an input and makes no sense. */
  refused(job: Job, why: string): void {
    this.completed(0, job, { ...NO_RESULT, ending: Ending.Refused }, why);
  }

  steps(id: number, attempt: number, walk: ListWalk): void {
    if (!this.wants(WalkStepped)) return;
    walk.steps.forEach((step, index) =>
      this.emit(WalkStepped, { id, attempt, index, ...step })
    );
  }

  faulted(
    id: number,
    cpu: CpuContext,
    policy: PolicyWord,
    fault: Fault,
  ): void {
    this.emit(ReadFaulted, {
      id,
      module: "",
      cpu: cpu.index,
      policy,
      ...fault,
      rip: cpu.v.rip,
    });
  }

  handled(
    id: number,
    { policy, handler }: ReadRequest | ListRequest,
    again: boolean,
  ): void {
    this.emit(FaultHandled, { id, policy, handler, again: again ? 1 : 0 });
  }

  injected(id: number, cpu: CpuContext, job: Job): void {
    this.emit(FaultInjected, {
      id,
      cpu: cpu.index,
      attempt: job.attempts,
      errorCode: job.errorCode,
      linear: job.faultVa,
      rip: cpu.v.rip,
    });
  }

  retried(id: number, module: string, cpu: CpuContext): void {
    this.emit(ReadRetried, { id, module, cpu: cpu.index, rip: cpu.v.rip });
  }

  armed(module: GuestModule): void {
    this.emit(ModuleArmed, module);
  }

  disarmed(name: string, why = ""): void {
    this.emit(ModuleDisarmed, { name, why });
  }

  reinjected(fault: Intercepted, count: number): void {
    const { cpu, vector, linear, rip } = fault;
    this.emit(FaultReinjected, {
      cpu,
      vector,
      errorCode: fault.errorCode < 0 ? 0xffff_ffff : fault.errorCode,
      linear,
      rip,
      count,
    });
  }

  moduleFaulted(fault: Intercepted, module: GuestModule): void {
    this.emit(ReadFaulted, {
      id: 0,
      module: module.name,
      cpu: fault.cpu,
      policy: module.policy,
      cause: causeOf(fault.vector),
      vector: fault.vector,
      errorCode: fault.errorCode < 0 ? 0 : fault.errorCode,
      linear: fault.linear,
      rip: fault.rip,
    });
  }

  redirected(
    fault: Intercepted,
    decision: ModuleDecision & { readonly kind: "redirect" },
  ): void {
    const { module, to, status, aborted } = decision;
    this.emit(ModuleRedirected, {
      module: module.name,
      cpu: fault.cpu,
      from: fault.rip,
      to,
      status,
      aborted: aborted ? 1 : 0,
    });
  }
}
