/**
 * In-guest modules: what becomes of an intercepted #PF or #GP. A fault is a
 * module's when it comes from its code, is a read, and (if the module declares
 * a window) lies in it; everything else is re-injected unchanged and counted.
 *
 * Nesting depth is one: a fault in the handler, or one met while another event
 * was being delivered, is no read of the module's; in the handler it aborts the
 * read by policy report. Interrupts need no rule of their own: their handlers
 * run outside the module's code, which suspends the window by itself.
 */
import { PageFaultError, Vector } from "../../cpu/arch/exceptions.ts";
import type { GuestModule } from "./requests.ts";
import { Cause, type CauseWord, Policy } from "./words.ts";

/** An intercepted exception. */
export interface Intercepted {
  readonly cpu: number;
  readonly vector: number;
  /** −1 for none. */
  readonly errorCode: number;
  readonly linear: bigint;
  readonly rip: bigint;
  readonly cr3: bigint;
  /** Another event was being delivered. */
  readonly delivering: boolean;
}

/** What shall happen with it. */
export type ModuleDecision =
  /** Nobody's: the guest gets it. */
  | { readonly kind: "reinject" }
  /** The module's, and the guest gets it, so that it pages in. */
  | { readonly kind: "inject"; readonly module: GuestModule }
  | {
    readonly kind: "redirect";
    readonly module: GuestModule;
    readonly to: bigint;
    readonly status: bigint;
    readonly aborted: boolean;
    /** The fault frame is due first. */
    readonly frame: boolean;
  };

/** Exception-bitmap bits of what is intercepted. */
export const INTERCEPTED = (1 << Vector.GP) | (1 << Vector.PF);

/** RAX of a redirected module: the vector, and the error code in bits 63:32. */
export function statusOf(vector: number, errorCode: number): bigint {
  return BigInt(errorCode < 0 ? 0 : errorCode) << 32n | BigInt(vector);
}

/** Cause by vector. */
export function causeOf(vector: number): CauseWord {
  return vector === Vector.PF ? Cause.PageFault : Cause.GeneralProtection;
}

const NOT_A_READ = PageFaultError.Write | PageFaultError.Fetch;

function isRead(fault: Intercepted): boolean {
  return fault.vector !== Vector.PF || (fault.errorCode & NOT_A_READ) === 0;
}

function within(module: GuestModule, fault: Intercepted): boolean {
  const { base, length } = module;
  // #GP tells no address: it counts as the module's by its RIP alone.
  return length === 0n || fault.vector !== Vector.PF ||
    (fault.linear >= base && fault.linear - base < length);
}

/**
 * Decides about one exception.
 * @param injections of the same fault of that module so far
 */
export function decide(
  modules: Iterable<GuestModule>,
  fault: Intercepted,
  injections: (module: GuestModule) => number,
): ModuleDecision {
  if (fault.delivering) return { kind: "reinject" };
  const status = statusOf(fault.vector, fault.errorCode);
  for (const module of modules) {
    if (module.cpu !== fault.cpu) continue;
    if (module.cr3 !== undefined && module.cr3 !== fault.cr3) continue;
    const redirect = (to: bigint, aborted: boolean): ModuleDecision => ({
      kind: "redirect",
      module,
      to,
      status,
      aborted,
      frame: module.policy === Policy.Forward && !aborted,
    });
    const { rip } = fault;
    const handled = module.policy === Policy.Handler ||
      module.policy === Policy.Forward;
    if (handled && rip >= module.handler && rip < module.handlerEnd) {
      return redirect(module.recover, true);
    }
    if (rip < module.start || rip >= module.end) continue;
    if (!isRead(fault) || !within(module, fault)) continue;
    if (handled) return redirect(module.handler, false);
    if (module.policy === Policy.Report) return redirect(module.recover, false);
    // Only a page fault can be paged in, and only so often.
    return fault.vector === Vector.PF && injections(module) < module.budget
      ? { kind: "inject", module }
      : redirect(module.recover, true);
  }
  return { kind: "reinject" };
}
