/**
 * The emulation itself: which view is in force, what happens on each exit of
 * L2, and how an escalation is run again (reference §1.3–1.5).
 *
 * Two rules keep it simple. After anything that may have changed privilege or
 * paging, `choose` looks at L2's state and puts the fitting view in force. And
 * an instruction whose trap fired is run again with the traps lifted and one
 * monitor-trap step, so that hardware itself does the escalation.
 */
import { Vector } from "../../cpu/arch/exceptions.ts";
import { Cr0, Rflags } from "../../cpu/arch/flags.ts";
import {
  Decision,
  type DecisionCode,
  MISCONFIGURATION,
  type NestedContext,
  type PolicyEntry,
} from "../hypervisor/api.ts";
import {
  effectiveControls,
  ExitReason,
  Interruption,
  InterruptionType,
  Pin,
  Primary,
  Secondary,
  VmcsField as F,
} from "../vmx/api.ts";
import { SwitchPath, View } from "./api.ts";
import { type MbecCells, type MbecOptions, StepReason } from "./cells.ts";
import { Action, decide, viewFor, type Violation } from "./decision.ts";
import { denyHalf, isOtherHalf, lendHalf, returnHalf } from "./halves.ts";
import { entryPages } from "./entry_points.ts";
import {
  blockNmi,
  cplOf,
  debugException,
  describeViolation,
  nextIsUser,
  pagingOn,
  pathOf,
  RW,
  wantedByL1,
  wantsMbec,
  XS,
  XU,
} from "./l2_state.ts";
import type { Reporter } from "./report.ts";
import { arm, disarm, holdInterrupts, nmiBlocked, setStep } from "./traps.ts";

/** In place of an action: only the second half of an instruction is to be let through. */
const HALF = -1;

/** One vCPU's emulation. */
export class Emulation {
  constructor(
    private readonly cells: MbecCells,
    private readonly options: MbecOptions,
    private readonly report: Reporter,
  ) {}

  /** Hardware's rights (R W X) of a shadow leaf in a view. */
  leafRights(
    context: NestedContext,
    view: number,
    page: number,
    entry: PolicyEntry,
  ): number {
    const { rights } = entry;
    if (!wantsMbec(context)) return rights & (RW | XS);
    if (rights & XS && !(rights & XU) && !this.cells.supervisorOnly) {
      this.cells.supervisorOnly = true;
      this.exactStepping(context);
    }
    if (this.cells.half === page + 1) {
      return (rights & RW) | (this.cells.halfExecutes ? XS : 0);
    }
    const execute = view === View.User
      ? (rights & XU) !== 0 && !this.withholds(page)
      : (rights & XS) !== 0;
    return (rights & RW) | (execute ? XS : 0);
  }

  private withholds(page: number): boolean {
    return this.cells.withheld.has(BigInt(page)) &&
      this.cells.lent !== page + 1;
  }

  /** L1 entered L2: vmcs02 is built anew from vmcs12. */
  entering(context: NestedContext): void {
    const { cells } = this;
    cells.armed = false;
    cells.step = StepReason.None;
    cells.lent = 0;
    cells.half = 0;
    cells.active = wantsMbec(context);
    if (!cells.active) {
      context.useView(View.User);
      return;
    }
    this.watchPaging(context);
    const injected = Number(
      context.operations.vmread(F.EntryInterruptionInformation),
    );
    const type = (injected & Interruption.TypeMask) >>> Interruption.TypeShift;
    // An event goes to supervisor code, except a pending MTF exit.
    if (injected & Interruption.Valid && type !== InterruptionType.Other) {
      this.enter(context, View.Supervisor, SwitchPath.Entry);
    } else this.chooseExactly(context, SwitchPath.Entry);
  }

  /** vmcs02 is about to be shown to L1. */
  leaving(context: NestedContext): void {
    disarm(context, this.cells);
    this.cells.step = StepReason.None;
    this.returnLent(context);
  }

  dropped(): void {
    this.cells.supervisorOnly = false;
    this.cells.withheld.clear();
  }

  /** Puts the view for L2's present state in force. */
  private choose(context: NestedContext, path: number): void {
    this.enter(context, viewFor(cplOf(context), pagingOn(context)), path);
  }

  private enter(context: NestedContext, view: number, path: number): void {
    const { cells } = this;
    const from = cells.view;
    const user = view === View.User && pagingOn(context) &&
      cplOf(context) === 3;
    if (user) this.withhold(context);
    context.useView(view);
    cells.view = view;
    if (user && this.options.strategy === "trap-all") arm(context, cells);
    else disarm(context, cells);
    cells.step = StepReason.None;
    setStep(context, false);
    returnHalf(context, cells);
    this.exactStepping(context);
    this.denyHalf(context);
    if (from !== view || path === SwitchPath.Entry) {
      this.report.switched(context, from, view, path, cplOf(context));
    }
  }

  /** Exact mode: the supervisor view is single-stepped while it could hide a difference. */
  private exactStepping(context: NestedContext): void {
    const { cells } = this;
    if (
      this.options.exactness !== "exact" || !cells.supervisorOnly ||
      cells.view !== View.Supervisor || cells.step !== StepReason.None
    ) return;
    cells.step = StepReason.Exact;
    setStep(context, true);
  }

  /** Withholds the pages of supervisor entry points from the user view. */
  private withhold(context: NestedContext): void {
    const all = this.options.strategy === "entry-page-nx";
    const pages = entryPages(context, {
      interrupts: all || nmiBlocked(context),
      fastCalls: all,
      callGates: true,
    });
    const { withheld } = this.cells;
    const same = pages.size === withheld.size &&
      [...pages].every((page) => withheld.has(BigInt(page)));
    if (same) return;
    const before = [...withheld];
    withheld.clear();
    for (const page of pages) withheld.add(BigInt(page));
    for (const page of before) context.forget(Number(page));
    for (const page of pages) context.forget(page);
  }

  /** L2's changes of CR0.PG exit, because they change which execute bit counts. */
  private watchPaging(context: NestedContext): void {
    const { operations: ops, vmcs12 } = context;
    const pg = BigInt(Cr0.PG >>> 0);
    const mask = vmcs12.read(F.Cr0Mask);
    if (mask & pg) return;
    ops.vmwrite(F.Cr0Mask, mask | pg);
    const cr0 = ops.vmread(F.GuestCr0);
    ops.vmwrite(F.Cr0Shadow, vmcs12.read(F.Cr0Shadow) & mask | cr0 & ~mask);
  }

  private ignorePaging(context: NestedContext): void {
    const { operations: ops, vmcs12 } = context;
    ops.vmwrite(F.Cr0Mask, vmcs12.read(F.Cr0Mask));
    ops.vmwrite(F.Cr0Shadow, vmcs12.read(F.Cr0Shadow));
  }

  /** Runs the instruction at RIP once more with nothing in its way. */
  private rerun(context: NestedContext, path: number, vector: number): void {
    const { cells } = this;
    this.report.trapped(context, path, vector);
    disarm(context, cells);
    cells.path = path;
    cells.step = StepReason.Rerun;
    setStep(context, true);
  }

  /** An exit of L2. */
  exited(context: NestedContext, reason: number): DecisionCode {
    if (!this.cells.active) return Decision.Default;
    switch (reason) {
      case ExitReason.EptViolation:
        return this.violation(context);
      case ExitReason.ExceptionOrNmi:
        return this.exception(context);
      case ExitReason.ExternalInterrupt:
        return this.interrupt(context);
      case ExitReason.InterruptWindow:
        return this.window(context);
      case ExitReason.MonitorTrapFlag:
        return this.stepped(context);
      case ExitReason.ControlRegister:
        return this.controlRegister(context);
      case ExitReason.GdtrIdtr:
      case ExitReason.LdtrTr:
        return this.descriptorTable(context);
      default:
        return Decision.Default;
    }
  }

  private exception(context: NestedContext): DecisionCode {
    const { cells } = this;
    const { operations: ops, vmcs12 } = context;
    const info = Number(ops.vmread(F.ExitInterruptionInformation));
    const vector = info & Interruption.VectorMask;
    const type = (info & Interruption.TypeMask) >> Interruption.TypeShift;
    const rerunning = cells.step === StepReason.Rerun;
    if (type === InterruptionType.Nmi) {
      if (effectiveControls(vmcs12).pin & Pin.NmiExiting) {
        return Decision.Default;
      }
      return this.deliver(context, info, SwitchPath.Nmi);
    }
    const induced = cells.armed && !rerunning &&
      (vector === Vector.UD || vector === Vector.GP);
    if (induced) {
      // The trap, or a fault of the instruction itself: running it again tells.
      if (info & Interruption.NmiUnblocking) blockNmi(context);
      this.rerun(context, pathOf(context), vector);
      return Decision.Resume;
    }
    if (wantedByL1(context, info)) return Decision.Default;
    if (vector === Vector.PF) {
      context.cpu.v.cr2 = ops.vmread(F.ExitQualification);
    }
    if (vector === Vector.DB) debugException(context);
    return this.deliver(context, info, SwitchPath.Exception);
  }

  /** Delivers an event that only our traps stopped. */
  private deliver(
    context: NestedContext,
    info: number,
    path: number,
  ): DecisionCode {
    const { operations: ops } = context;
    this.enter(context, View.Supervisor, path);
    ops.vmwrite(
      F.EntryInterruptionInformation,
      BigInt((info & ~Interruption.NmiUnblocking) >>> 0),
    );
    if (info & Interruption.ErrorCodeValid) {
      ops.vmwrite(
        F.EntryExceptionErrorCode,
        ops.vmread(F.ExitInterruptionErrorCode),
      );
    }
    ops.vmwrite(
      F.EntryInstructionLength,
      ops.vmread(F.ExitInstructionLength),
    );
    return Decision.Resume;
  }

  private interrupt(context: NestedContext): DecisionCode {
    if (
      effectiveControls(context.vmcs12).pin & Pin.ExternalInterruptExiting
    ) return Decision.Default;
    const { operations: ops } = context;
    if (!(Number(ops.vmread(F.GuestRflags)) & Rflags.IF)) {
      holdInterrupts(context);
      return Decision.Resume;
    }
    // Still pending: with the trap lifted, hardware delivers it on entry.
    this.enter(context, View.Supervisor, SwitchPath.ExternalInterrupt);
    return Decision.Resume;
  }

  /** L2 can be interrupted again: an interrupt that waits exits now. */
  private window(context: NestedContext): DecisionCode {
    const own = effectiveControls(context.vmcs12).primary &
      Primary.InterruptWindowExiting;
    if (own) return Decision.Default;
    disarm(context, this.cells);
    arm(context, this.cells);
    return Decision.Resume;
  }

  private stepped(context: NestedContext): DecisionCode {
    const { cells } = this;
    const own = effectiveControls(context.vmcs12).primary &
      Primary.MonitorTrapFlag;
    const step = cells.step;
    const path = step === StepReason.Rerun
      ? cells.path
      : step === StepReason.Withheld
      ? SwitchPath.Rerun
      : SwitchPath.Exact;
    this.returnLent(context);
    cells.step = StepReason.None;
    setStep(context, false);
    if (path === SwitchPath.Paging) this.watchPaging(context);
    this.chooseExactly(context, path);
    return own ? Decision.Default : Decision.Resume;
  }

  /** Exact mode looks at the next instruction's address, lazy only at privilege. */
  private chooseExactly(context: NestedContext, path: number): void {
    const { cells } = this;
    const cpl = cplOf(context);
    if (
      this.options.exactness === "exact" && cells.supervisorOnly && cpl < 3 &&
      pagingOn(context) && nextIsUser(context)
    ) {
      this.stepUser(context);
      return;
    }
    this.choose(context, path);
  }

  /** One instruction under the user view although CPL < 3. */
  private stepUser(context: NestedContext): void {
    const { cells } = this;
    const from = cells.view;
    disarm(context, cells);
    context.useView(View.User);
    cells.view = View.User;
    cells.step = StepReason.User;
    setStep(context, true);
    returnHalf(context, cells);
    this.denyHalf(context);
    if (from !== View.User) {
      this.report.switched(
        context,
        from,
        View.User,
        SwitchPath.Exact,
        cplOf(context),
      );
    }
  }

  /** Lends a withheld page to the user view until the step under way is done. */
  private lend(context: NestedContext, page: number): void {
    this.cells.lent = page + 1;
    context.forget(page);
  }

  /** The view in force lets no instruction reach where hardware does not. */
  private denyHalf(context: NestedContext): void {
    const { step } = this.cells;
    const stepping = step === StepReason.Exact || step === StepReason.User;
    if (this.options.exactness === "exact" && stepping) {
      denyHalf(context, this.cells);
    }
  }

  private returnLent(context: NestedContext): void {
    const { cells } = this;
    returnHalf(context, cells);
    if (cells.lent === 0) return;
    const page = cells.lent - 1;
    cells.lent = 0;
    context.forget(page);
  }

  private controlRegister(context: NestedContext): DecisionCode {
    const { operations: ops, vmcs12 } = context;
    const qualification = Number(ops.vmread(F.ExitQualification));
    const toCr0 = (qualification & 0x3f) === 0;
    if (!toCr0) return Decision.Default;
    const register = (qualification >>> 8) & 15;
    const value = register === 4
      ? ops.vmread(F.GuestRsp)
      : context.cpu.v.gpr(register);
    const mask = vmcs12.read(F.Cr0Mask);
    const own = (value ^ vmcs12.read(F.Cr0Shadow)) & mask;
    if (own !== 0n) return Decision.Default;
    this.ignorePaging(context);
    this.rerun(context, SwitchPath.Paging, 0);
    return Decision.Resume;
  }

  private descriptorTable(context: NestedContext): DecisionCode {
    const { secondary } = effectiveControls(context.vmcs12);
    if (secondary & Secondary.DescriptorTableExiting) return Decision.Default;
    this.rerun(context, SwitchPath.Rerun, 0);
    return Decision.Resume;
  }

  private violation(context: NestedContext): DecisionCode {
    const { cells } = this;
    const v = describeViolation(
      context,
      cells.view,
      this.options.exactness === "exact",
      (page) => cells.view === View.User && this.withholds(page),
    );
    const row = decide(v.facts);
    this.report.decided(context, row.row, v.facts, v.page, cells.view);
    const half = (row.action === Action.Switch ||
      row.action === Action.StepUser) &&
      v.facts.cpl < 3 &&
      isOtherHalf(context, v.facts.userLinear);
    switch (half ? HALF : row.action) {
      case HALF:
        lendHalf(context, cells, v.page);
        break;
      case Action.Resync:
        context.forget(v.page);
        break;
      case Action.Switch:
        this.switchFor(context, v.facts);
        break;
      case Action.StepUser:
        this.stepUser(context);
        if (this.withholds(v.page)) this.lend(context, v.page);
        break;
      case Action.StepWithheld:
        disarm(context, cells);
        this.lend(context, v.page);
        cells.step = StepReason.Withheld;
        setStep(context, true);
        break;
      case Action.Reflect:
        return this.reflectViolation(context, v.facts, v.rights);
    }
    if (v.entry) context.fill(cells.view, v.page, v.entry);
    context.keepVectoring();
    return Decision.Resume;
  }

  /** Claim 1 (f): the hierarchy that the privilege permits is exposed. */
  private switchFor(context: NestedContext, facts: Violation): void {
    const { cells } = this;
    const path = facts.cpl < 3 ? SwitchPath.EntryPage : SwitchPath.Violation;
    const rerunning = cells.step === StepReason.Rerun;
    const rerunPath = cells.path;
    this.choose(context, path);
    // The instruction being run again is not finished: its step goes on.
    if (rerunning) {
      disarm(context, cells);
      cells.step = StepReason.Rerun;
      cells.path = rerunPath;
      setStep(context, true);
    }
  }

  /** Bits 3–6 from L1's own entries (reference §1.4 row 6). */
  private reflectViolation(
    context: NestedContext,
    facts: Violation,
    rights: number,
  ): DecisionCode {
    if (facts.policy === "misconfigured") {
      context.reflect(MISCONFIGURATION);
      return Decision.Reflected;
    }
    const hardware = Number(
      context.operations.vmread(F.ExitQualification),
    );
    const q = hardware & ~0x78 | (rights & 7) << 3 |
      (rights & XU ? 1 << 6 : 0);
    context.reflect({ qualification: BigInt(q) });
    return Decision.Reflected;
  }
}
