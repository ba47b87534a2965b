/**
 * The observer `mbec-oracle`: judges every fetch of an L2 under emulated
 * mode-based execute control by hardware's rule (reference §3.2: XU for a
 * user-mode linear address or without paging, else XS) and remarks where the
 * views let more or less through (§1.5, the silent cases).
 *
 * A retired instruction was fetched, and so was one that raised an exception or
 * exited on its data; an EPT violation given to L1 for a fetch was not. L2 can't
 * change L1's EPT, so the policy afterwards is the policy of the fetch.
 */
import { bool, definePlugin } from "../../core/mod.ts";
import { Vector } from "../../cpu/arch/exceptions.ts";
import { CpuRetired, ExceptionDelivered } from "../../cpu/facts.ts";
import { NestedEntered, NestedReflected } from "../hypervisor/api.ts";
import { ExitReason, InterruptionType } from "../vmx/api.ts";
import { Mbec, PolicySlack } from "./api.ts";

/** Bit of an EPT violation's qualification: instruction fetch. */
const FETCH = 4n;
/** Bit of a page fault's error code: instruction fetch. */
const PF_FETCH = 16;
/** Exits that precede the instruction at RIP. */
const BEFORE_FETCH: ReadonlySet<number> = new Set([
  ExitReason.ExternalInterrupt,
  ExitReason.TripleFault,
  ExitReason.InterruptWindow,
  ExitReason.NmiWindow,
  ExitReason.MonitorTrapFlag,
  ExitReason.PreemptionTimer,
  ExitReason.EptMisconfiguration,
]);
const XS = 4;
const XU = 8;

/** Whether hardware lets a fetch through. @param rights R W XS XU, bits 0 to 3 */
export function hardwareAllows(user: boolean, rights: number): boolean {
  return (rights & (user ? XU : XS)) !== 0;
}

/** See the file header. */
export const mbecOracle = definePlugin({
  name: "mbec-oracle",
  version: "1.0.0",
  doc: "Compares every fetch of L2 with hardware's mode-based execute control",
  role: "observer",
  needs: { mbec: Mbec },
  emits: [PolicySlack],
  state: { inL2: bool("L2 runs") },
  setup({ use, on, emit, state }) {
    const judgePage = (cpu: number, rip: bigint, executed: boolean): void => {
      const policy = use.mbec.policyOf(cpu, rip);
      if (policy === undefined) return;
      const { user, rights } = policy;
      if (hardwareAllows(user, rights) === executed) return;
      emit(PolicySlack, {
        cpu,
        allowed: executed ? 1 : 0,
        user: user ? 1 : 0,
        rights,
        view: use.mbec.view(cpu),
        rip,
      });
    };
    const judge = (cpu: number, rip: bigint, executed: boolean): void => {
      if (!use.mbec.active(cpu)) return;
      judgePage(cpu, rip, executed);
      // What was executed was fetched to its last byte.
      const rest = executed ? use.mbec.secondHalf(cpu, rip) : undefined;
      if (rest !== undefined) judgePage(cpu, rest, true);
    };
    on(NestedEntered, () => {
      state.inL2 = true;
      return undefined;
    });
    on(NestedReflected, ({ cpu, reason, qualification, linear, rip }) => {
      state.inL2 = false;
      if (reason === ExitReason.EptViolation && qualification & FETCH) {
        judge(cpu, linear, false);
        // Denied is the second half of an instruction: the first was fetched.
        if (linear !== rip && use.mbec.active(cpu)) judgePage(cpu, rip, true);
      } else if (!BEFORE_FETCH.has(reason)) judge(cpu, rip, true);
      return undefined;
    });
    on(ExceptionDelivered, ({ cpu, vector, type, errorCode, rip }) => {
      const fault = type === InterruptionType.HardwareException &&
        vector !== Vector.DB;
      const ofFetch = vector === Vector.PF && (errorCode & PF_FETCH) !== 0;
      if (state.inL2 && fault && !ofFetch) judge(cpu, rip, true);
      return undefined;
    });
    on(CpuRetired, ({ cpu, rip }) => {
      if (state.inL2) judge(cpu, rip, true);
      return undefined;
    });
    return undefined;
  },
});
