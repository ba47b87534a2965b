/**
 * Far JMP, CALL and RET (SDM 2A CALL, JMP; SDM 2B RET; SDM 3A §5.8): direct and
 * through call gates (16-, 32- and 64-bit), task gates and TSSs. The target is
 * checked and the frame written before CS, SS or RSP change.
 */
import { Vector } from "../../arch/exceptions.ts";
import { SegmentRights as R } from "../../arch/flags.ts";
import type { CpuContext } from "../../context.ts";
import type { Insn } from "../../isa/insn.ts";
import { OperandKind } from "../../isa/insn.ts";
import { Outcome, type OutcomeCode } from "../../isa/row.ts";
import { Gpr, Seg } from "../../layout.ts";
import type { SegmentValue } from "../../vcpu.ts";
import {
  failed,
  gp,
  in64,
  longModeActive,
  maskOf,
  protectedMode,
  readMemory,
  readSystem,
  refuse,
} from "./common.ts";
import { stackFromTss64 } from "./delivery_long.ts";
import { innerStack } from "./delivery_protected.ts";
import {
  type Descriptor,
  dplOf,
  dropInnerSegments,
  fetchDescriptor,
  isCode,
  isConforming,
  isNull,
  isPresent,
  isSystem,
  isWritableData,
  limitOf,
  loadReal,
  loadVirtual8086,
  markAccessed,
  nullStack,
  segmentOf,
  selectorError,
  SystemType,
} from "./descriptors.ts";
import { virtual8086 } from "./common.ts";
import { Stack } from "./stack.ts";
import { TaskSource, taskSwitch } from "./task.ts";

/** Selector and offset of a far transfer. */
interface FarTarget {
  readonly selector: number;
  readonly offset: bigint;
}

/** Reads ptr16:n from the instruction or m16:n from memory. */
function farTarget(cpu: CpuContext, insn: Insn): FarTarget | undefined {
  const o = insn.operands[0];
  if (o.kind === OperandKind.FarBranch) {
    return { selector: o.selector, offset: o.imm };
  }
  const bytes = insn.operandSize >> 3;
  const offset = readMemory(cpu, insn, bytes);
  if (offset === undefined) return undefined;
  const selector = readMemory(cpu, insn, 2, BigInt(bytes));
  if (selector === undefined) return undefined;
  return { selector: Number(selector), offset };
}

/** Whether `offset` may become RIP under code segment `d`; else #GP(0). */
export function offsetAllowed(
  cpu: CpuContext,
  d: Descriptor,
  offset: bigint,
): boolean {
  if (longModeActive(cpu.v) && (d.attributes & R.Long)) {
    return cpu.access.canonical(offset);
  }
  return offset <= BigInt(limitOf(d));
}

/** IA-32e mode refuses code segments with L and D both set. */
export function codeModeValid(cpu: CpuContext, attributes: number): boolean {
  return !longModeActive(cpu.v) ||
    (attributes & (R.Long | R.DefaultBig)) !== (R.Long | R.DefaultBig);
}

/** Far transfer in real-address and virtual-8086 mode. */
function realTransfer(
  cpu: CpuContext,
  insn: Insn,
  to: FarTarget,
  call: boolean,
): OutcomeCode {
  const { v } = cpu;
  const offset = to.offset & maskOf(insn.operandSize);
  if (offset > BigInt(v.segLimit(Seg.CS))) return gp(cpu);
  if (call && !pushReturn(cpu, Stack.current(cpu), insn.operandSize)) {
    return failed(cpu);
  }
  if (virtual8086(v)) loadVirtual8086(v, Seg.CS, to.selector);
  else loadReal(v, Seg.CS, to.selector);
  cpu.nextRip = offset;
  return Outcome.Done;
}

/** Pushes CS and the return offset and commits the stack pointer. */
function pushReturn(cpu: CpuContext, stack: Stack, bits: number): boolean {
  const cs = BigInt(cpu.v.segSelector(Seg.CS));
  if (!stack.push(bits, cs) || !stack.push(bits, cpu.nextRip)) return false;
  stack.commit();
  return true;
}

/** Conforming and non-conforming targets without a gate (SDM 2A CALL). */
function codeAllowed(a: number, selector: number, cpl: number): boolean {
  return isConforming(a)
    ? dplOf(a) <= cpl
    : (selector & 3) <= cpl && dplOf(a) === cpl;
}

function toCodeSegment(
  cpu: CpuContext,
  insn: Insn,
  d: Descriptor,
  to: FarTarget,
  call: boolean,
): OutcomeCode {
  const { v } = cpu;
  const error = selectorError(to.selector);
  if (
    !codeModeValid(cpu, d.attributes) ||
    !codeAllowed(d.attributes, to.selector, v.cpl)
  ) return gp(cpu, error);
  if (!isPresent(d.attributes)) return v.raise(Vector.NP, error);
  const offset = to.offset & maskOf(insn.operandSize);
  const code = markAccessed(cpu, d);
  if (code === undefined) return failed(cpu);
  const stack = Stack.current(cpu);
  const bits = insn.operandSize;
  if (call) {
    // Pushes come before the offset check, RSP after it (SDM 2A CALL).
    if (
      !stack.push(bits, BigInt(v.segSelector(Seg.CS))) ||
      !stack.push(bits, cpu.nextRip)
    ) return failed(cpu);
  }
  if (!offsetAllowed(cpu, code, offset)) return gp(cpu);
  if (call) stack.commit();
  v.setSegment(Seg.CS, segmentOf(code, (to.selector & ~3) | v.cpl));
  cpu.nextRip = offset;
  return Outcome.Done;
}

/** Switches through a TSS or task gate. */
function toTask(
  cpu: CpuContext,
  selector: number,
  call: boolean,
): OutcomeCode {
  const { v } = cpu;
  const outcome = taskSwitch(
    cpu,
    selector,
    call ? TaskSource.Call : TaskSource.Jump,
    { ext: 0, returnRip: cpu.nextRip, flags: v.rflags, errorCode: -1 },
  );
  if (outcome !== Outcome.Done) return outcome;
  v.step += 1;
  return Outcome.Completed;
}

/** A gate's target code segment, checked. */
function gateCode(
  cpu: CpuContext,
  selector: number,
  call: boolean,
): Descriptor | undefined {
  const { v } = cpu;
  if (isNull(selector)) return refuse(cpu, Vector.GP, 0);
  const d = fetchDescriptor(cpu, selector);
  if (d === undefined) return undefined;
  const a = d.attributes;
  const error = selectorError(selector);
  const dpl = dplOf(a);
  const reachable = isConforming(a) || call ? dpl <= v.cpl : dpl === v.cpl;
  if (!isCode(a) || !reachable) return refuse(cpu, Vector.GP, error);
  if (
    longModeActive(v) && (a & (R.Long | R.DefaultBig)) !== R.Long
  ) return refuse(cpu, Vector.GP, error);
  if (!isPresent(a)) return refuse(cpu, Vector.NP, error);
  return d;
}

function throughCallGate(
  cpu: CpuContext,
  gate: Descriptor,
  selector: number,
  call: boolean,
): OutcomeCode {
  const { v } = cpu;
  const long = longModeActive(v);
  const rights = gate.attributes;
  const error = selectorError(selector);
  const dpl = dplOf(rights);
  if (dpl < v.cpl || (selector & 3) > dpl) return gp(cpu, error);
  if (!isPresent(rights)) return v.raise(Vector.NP, error);
  let offset = BigInt(((gate.low & 0xffff) | (gate.high & 0xffff0000)) >>> 0);
  if (long) {
    // 16-byte descriptor; its upper type field must be zero (SDM 3A §5.8.3.1).
    const upper = readSystem(cpu, gate.address + 8n, 8);
    if (upper === undefined) return failed(cpu);
    if ((upper >> 40n) & 0x1fn) return gp(cpu, error);
    offset |= (upper & 0xffff_ffffn) << 32n;
  }
  const wide = (rights & R.TypeMask) === SystemType.CallGate32;
  const bits = long ? 64 : wide ? 32 : 16;
  if (bits === 16) offset &= 0xffffn;
  const target = gate.low >>> 16;
  const d = gateCode(cpu, target, call);
  if (d === undefined) return failed(cpu);
  const code = markAccessed(cpu, d);
  if (code === undefined) return failed(cpu);
  const inner = call && !isConforming(code.attributes) &&
    dplOf(code.attributes) < v.cpl;
  if (!offsetAllowed(cpu, code, offset)) return gp(cpu);
  if (inner) return toInner(cpu, code, target, offset, bits, gate.high & 0x1f);
  if (call && !pushReturn(cpu, Stack.current(cpu), bits)) return failed(cpu);
  v.setSegment(Seg.CS, segmentOf(code, (target & ~3) | v.cpl));
  cpu.nextRip = offset;
  return Outcome.Done;
}

/** SDM 2A CALL, MORE-PRIVILEGE: new stack, parameters copied. */
function toInner(
  cpu: CpuContext,
  code: Descriptor,
  target: number,
  offset: bigint,
  bits: number,
  parameters: number,
): OutcomeCode {
  const { v } = cpu;
  const cpl = dplOf(code.attributes);
  const old = Stack.current(cpu);
  let ss: SegmentValue;
  let stack: Stack;
  const copied: bigint[] = [];
  if (bits === 64) {
    const rsp = stackFromTss64(cpu, 4 + cpl * 8, 0);
    if (rsp === undefined) return failed(cpu);
    ss = nullStack(cpl, cpl);
    stack = new Stack(cpu, undefined, rsp);
  } else {
    const next = innerStack(cpu, cpl, 0);
    if (next === undefined) return failed(cpu);
    ss = next.ss;
    stack = new Stack(cpu, ss, next.sp, selectorError(ss.selector));
    for (let i = parameters - 1; i >= 0; i--) {
      const value = old.peek(bits, i * (bits >> 3));
      if (value === undefined) return failed(cpu);
      copied.push(value);
    }
  }
  const frame = [
    BigInt(v.segSelector(Seg.SS)),
    v.gpr(Gpr.RSP),
    ...copied,
    BigInt(v.segSelector(Seg.CS)),
    cpu.nextRip,
  ];
  const oldCpl = v.cpl;
  v.cpl = cpl;
  for (const value of frame) {
    if (!stack.push(bits, value)) {
      v.cpl = oldCpl;
      return failed(cpu);
    }
  }
  v.setSegment(Seg.SS, ss);
  stack.commit();
  v.setSegment(Seg.CS, segmentOf(code, (target & ~3) | cpl));
  cpu.nextRip = offset;
  return Outcome.Done;
}

function farTransfer(cpu: CpuContext, insn: Insn, call: boolean): OutcomeCode {
  const { v } = cpu;
  const to = farTarget(cpu, insn);
  if (to === undefined) return failed(cpu);
  if (!protectedMode(v)) return realTransfer(cpu, insn, to, call);
  if (isNull(to.selector)) return gp(cpu);
  const d = fetchDescriptor(cpu, to.selector);
  if (d === undefined) return failed(cpu);
  const error = selectorError(to.selector);
  const a = d.attributes;
  if (!isSystem(a)) {
    if (!isCode(a)) return gp(cpu, error);
    return toCodeSegment(cpu, insn, d, to, call);
  }
  const type = a & R.TypeMask;
  if (
    type === SystemType.CallGate32 ||
    (type === SystemType.CallGate16 && !longModeActive(v))
  ) return throughCallGate(cpu, d, to.selector, call);
  if (longModeActive(v)) return gp(cpu, error);
  if (type === SystemType.TaskGate) {
    if (dplOf(a) < v.cpl || dplOf(a) < (to.selector & 3)) {
      return gp(cpu, error);
    }
    if (!isPresent(a)) return v.raise(Vector.NP, error);
    return toTask(cpu, d.low >>> 16, call);
  }
  if (type === SystemType.Tss16 || type === SystemType.Tss32) {
    if (dplOf(a) < v.cpl || dplOf(a) < (to.selector & 3)) {
      return gp(cpu, error);
    }
    return toTask(cpu, to.selector, call);
  }
  return gp(cpu, error);
}

/** JMP far. */
export const jmpFar = (cpu: CpuContext, insn: Insn): OutcomeCode =>
  farTransfer(cpu, insn, false);
/** CALL far. */
export const callFar = (cpu: CpuContext, insn: Insn): OutcomeCode =>
  farTransfer(cpu, insn, true);

/** A return's code segment, checked (SDM 2B RET; SDM 2A IRET). */
export function returnCode(
  cpu: CpuContext,
  selector: number,
): Descriptor | undefined {
  const { v } = cpu;
  if (isNull(selector)) return refuse(cpu, Vector.GP, 0);
  const d = fetchDescriptor(cpu, selector);
  if (d === undefined) return undefined;
  const a = d.attributes;
  const error = selectorError(selector);
  const rpl = selector & 3;
  if (
    !isCode(a) || rpl < v.cpl || !codeModeValid(cpu, a) ||
    (isConforming(a) ? dplOf(a) > rpl : dplOf(a) !== rpl)
  ) return refuse(cpu, Vector.GP, error);
  if (!isPresent(a)) return refuse(cpu, Vector.NP, error);
  return d;
}

/** The stack segment of a return to `cpl`, checked. */
export function returnStack(
  cpu: CpuContext,
  selector: number,
  cpl: number,
  to64: boolean,
): SegmentValue | undefined {
  if (isNull(selector)) {
    if (!to64 || cpl === 3 || (selector & 3) !== cpl) {
      return refuse(cpu, Vector.GP, 0);
    }
    return nullStack(selector, cpl);
  }
  let d = fetchDescriptor(cpu, selector);
  if (d === undefined) return undefined;
  const error = selectorError(selector);
  if (
    (selector & 3) !== cpl || !isWritableData(d.attributes) ||
    dplOf(d.attributes) !== cpl
  ) return refuse(cpu, Vector.GP, error);
  if (!isPresent(d.attributes)) return refuse(cpu, Vector.SS, error);
  d = markAccessed(cpu, d);
  return d && segmentOf(d, selector);
}

/** RET far, with the immediate's bytes released. */
export function retFar(cpu: CpuContext, insn: Insn): OutcomeCode {
  const { v } = cpu;
  const bits = insn.operandSize;
  const release = insn.operands.length > 0 ? Number(insn.operands[0].imm) : 0;
  const stack = Stack.current(cpu);
  // The manuals leave the order of reads open; this is what silicon does.
  const bytes = bits >> 3;
  const popped = stack.peek(bits, bytes);
  if (popped === undefined) return failed(cpu);
  const offset = stack.peek(bits);
  if (offset === undefined) return failed(cpu);
  stack.drop(2 * bytes);
  const selector = Number(popped & 0xffffn);
  if (!protectedMode(v)) {
    if (offset > BigInt(v.segLimit(Seg.CS))) return gp(cpu);
    stack.drop(release);
    stack.commit();
    if (virtual8086(v)) loadVirtual8086(v, Seg.CS, selector);
    else loadReal(v, Seg.CS, selector);
    cpu.nextRip = offset;
    return Outcome.Done;
  }
  const rpl = selector & 3;
  if (rpl !== v.cpl && cpu.model.vendor === "AuthenticAMD") {
    // AMD's processors read the outer stack before they look at CS.
    if (stack.peek(bits, release + bytes) === undefined) return failed(cpu);
    if (stack.peek(bits, release) === undefined) return failed(cpu);
  }
  const d = returnCode(cpu, selector);
  if (d === undefined) return failed(cpu);
  if (rpl === v.cpl) {
    const code = markAccessed(cpu, d);
    if (code === undefined) return failed(cpu);
    if (!offsetAllowed(cpu, code, offset)) return gp(cpu);
    stack.drop(release);
    stack.commit();
    v.setSegment(Seg.CS, segmentOf(code, selector));
    cpu.nextRip = offset;
    return Outcome.Done;
  }
  // RETURN-TO-OUTER-PRIVILEGE-LEVEL.
  stack.drop(release);
  const ssPopped = stack.peek(bits, bytes);
  if (ssPopped === undefined) return failed(cpu);
  const sp = stack.peek(bits);
  if (sp === undefined) return failed(cpu);
  const to64 = longModeActive(v) && (d.attributes & R.Long) !== 0;
  const ss = returnStack(cpu, Number(ssPopped & 0xffffn), rpl, to64);
  if (ss === undefined) return failed(cpu);
  const code = markAccessed(cpu, d);
  if (code === undefined) return failed(cpu);
  if (!offsetAllowed(cpu, code, offset)) return gp(cpu);
  v.setSegment(Seg.CS, segmentOf(code, selector));
  v.setSegment(Seg.SS, ss);
  v.cpl = rpl;
  setStackPointer(cpu, sp, bits);
  const after = Stack.current(cpu);
  after.drop(release);
  after.commit();
  dropInnerSegments(v);
  cpu.nextRip = offset;
  return Outcome.Done;
}

/** Loads the popped pointer at the width of the stack now in force. */
export function setStackPointer(
  cpu: CpuContext,
  sp: bigint,
  bits: number,
): void {
  const { v } = cpu;
  const big = (v.segAttributes(Seg.SS) & R.DefaultBig) !== 0;
  if (in64(v)) v.setGpr(Gpr.RSP, sp);
  else if (big) v.setGprSized(Gpr.RSP, 32, sp & maskOf(bits));
  else v.setGprSized(Gpr.RSP, 16, sp);
}
