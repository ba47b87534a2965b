/**
 * Completing an instruction of the guest on its behalf: register and memory
 * results with their facts, the next RIP, what retirement does to blocking and
 * single-stepping (SDM 3C §33.2.1), and one step.
 */
import { Gpr, Interruptibility } from "../../cpu/layout.ts";
import { Interruption, InterruptionType, VmcsField as F } from "../vmx/api.ts";
import { EXCEPTIONS } from "../../cpu/arch/exceptions.ts";
import { Rflags } from "../../cpu/arch/flags.ts";
import type { L0 } from "./nested_state.ts";

/** Pending debug exceptions: single step (SDM 3C table 25-4, bit 14). */
const PENDING_BS = 1 << 14;

/** Reads a general register of the exited guest. */
export function readGpr(l0: L0, register: number): bigint {
  return register === Gpr.RSP
    ? l0.operations.vmread(F.GuestRsp)
    : l0.cpu.v.gpr(register);
}

/**
 * Writes general registers. `RootOperations.retired` states those that changed;
 * RSP, which lies in the VMCS, is stated here and is written alone.
 */
export function writeGprs(
  l0: L0,
  values: readonly (readonly [number, bigint])[],
): void {
  const { cpu, operations: ops } = l0;
  for (const [register, value] of values) {
    if (register !== Gpr.RSP) cpu.v.setGpr(register, value);
    else if (readGpr(l0, register) !== value) {
      ops.vmwrite(F.GuestRsp, value);
      if (cpu.facts.observed) {
        cpu.facts.registerWrote(cpu.index, register, value);
      }
    }
  }
}

/** Advances over the instruction and counts its step. */
export function complete(l0: L0): void {
  const { operations: ops } = l0;
  const rip = ops.vmread(F.GuestRip);
  const flags = Number(ops.vmread(F.GuestRflags));
  const blocking = Number(ops.vmread(F.GuestInterruptibility));
  ops.retired(rip);
  const length = ops.vmread(F.ExitInstructionLength);
  const long = (Number(ops.vmread(F.GuestCsAttributes)) & 1 << 13) !== 0;
  ops.vmwrite(
    F.GuestRip,
    BigInt.asUintN(long ? 64 : 32, rip + length),
  );
  ops.vmwrite(
    F.GuestInterruptibility,
    BigInt(
      blocking & ~(Interruptibility.BySti | Interruptibility.ByMovSs),
    ),
  );
  ops.vmwrite(F.GuestRflags, BigInt((flags & ~Rflags.RF) >>> 0));
  if (flags & Rflags.TF) {
    const pending = Number(ops.vmread(F.GuestPendingDebug));
    ops.vmwrite(F.GuestPendingDebug, BigInt(pending | PENDING_BS));
  }
}

/** Raises an exception in the guest instead. @param errorCode −1 for none */
export function injectException(
  l0: L0,
  vector: number,
  errorCode = -1,
): void {
  const { operations: ops } = l0;
  const hasCode = errorCode >= 0 &&
    EXCEPTIONS.some((e) => e.vector === vector && e.hasErrorCode);
  const info = Interruption.Valid | vector |
    InterruptionType.HardwareException << Interruption.TypeShift |
    (hasCode ? Interruption.ErrorCodeValid : 0);
  ops.vmwrite(F.EntryInterruptionInformation, BigInt(info >>> 0));
  if (hasCode) ops.vmwrite(F.EntryExceptionErrorCode, BigInt(errorCode));
}
