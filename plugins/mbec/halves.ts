/**
 * Instructions that lie across two pages. Hardware judges each page of a fetch
 * by the mode of its own address (reference §3.2), a view judges both alike; so
 * where one half is the user's and the other the supervisor's, which only CPL 0
 * to 2 without SMEP can fetch, the second half is given a right of its own for
 * one step.
 */
import type { NestedContext } from "../hypervisor/api.ts";
import { VmcsField as F } from "../vmx/api.ts";
import { View } from "./api.ts";
import { type MbecCells, StepReason } from "./cells.ts";
import {
  cplOf,
  longMode,
  nextIsUser,
  nextLinear,
  pagingOn,
  XS,
  XU,
} from "./l2_state.ts";
import { disarm, setStep } from "./traps.ts";

const PAGE = 0xfffn;
/** Longest instruction. */
const LONGEST = 15n;

/** What a view makes of the second half of L2's next instruction, and hardware. */
interface SecondHalf {
  /** Guest-physical page. */
  readonly page: number;
  readonly viewAllows: boolean;
  readonly hardwareAllows: boolean;
}

/**
 * The page after the one at RIP, if the next instruction may reach it, its
 * address has the other mode than the view stands for, and L1's EPT maps it.
 * Two halves in one guest-physical page can't be told apart: undefined.
 */
function secondHalf(
  context: NestedContext,
  view: number,
): SecondHalf | undefined {
  const linear = nextLinear(context);
  if ((linear & PAGE) + LONGEST <= PAGE + 1n) return undefined;
  if (!pagingOn(context) || cplOf(context) === 3) return undefined;
  const bits = longMode(context) ? 64 : 32;
  const following = BigInt.asUintN(bits, (linear | PAGE) + 1n);
  const first = context.translate(linear);
  const second = context.translate(following);
  if (
    first === undefined || second === undefined ||
    first.guestPage === second.guestPage ||
    second.user === (view === View.User)
  ) return undefined;
  const policy = context.policy(second.guestPage);
  if (policy.kind !== "mapped") return undefined;
  const { rights } = policy.entry;
  const user = (rights & XU) !== 0;
  const supervisor = (rights & XS) !== 0;
  return {
    page: second.guestPage,
    viewAllows: second.user ? supervisor : user,
    hardwareAllows: second.user ? user : supervisor,
  };
}

/**
 * The violation in vmcs02 is the fetch of an instruction's second half, whose
 * first half has the other mode.
 * @param user mode of the address that was fetched
 */
export function isOtherHalf(context: NestedContext, user: boolean): boolean {
  const linear = context.operations.vmread(F.GuestLinearAddress);
  return linear >> 12n !== nextLinear(context) >> 12n &&
    nextIsUser(context) !== user;
}

/** Ends the right of its own that a page has. */
export function returnHalf(context: NestedContext, cells: MbecCells): void {
  if (cells.half === 0) return;
  const page = cells.half - 1;
  cells.half = 0;
  context.forget(page);
}

/** The instruction to be stepped shall not reach into a page that hardware denies it and the view does not. */
export function denyHalf(context: NestedContext, cells: MbecCells): void {
  const half = secondHalf(context, cells.view);
  if (half === undefined || half.hardwareAllows || !half.viewAllows) return;
  cells.half = half.page + 1;
  cells.halfExecutes = false;
  context.forget(half.page);
}

/** Lets the instruction under way reach into a page that its view denies it. */
export function lendHalf(
  context: NestedContext,
  cells: MbecCells,
  page: number,
): void {
  returnHalf(context, cells);
  cells.half = page + 1;
  cells.halfExecutes = true;
  context.forget(page);
  if (cells.step !== StepReason.None) return;
  disarm(context, cells);
  cells.step = StepReason.Exact;
  setStep(context, true);
}
