/**
 * The decision table for EPT violations of L2 (reference §1.4; claim 1 (f) of
 * the patent is row 5): rows in the order in which they are tested. A row is
 * data: what it needs to hold, and what follows.
 */
import { View } from "./api.ts";

/** What a row may know about one violation. */
export interface Violation {
  readonly fetch: boolean;
  readonly read: boolean;
  readonly write: boolean;
  /** L1's entry: absent, misconfigured, or its rights. */
  readonly policy: "absent" | "misconfigured" | "mapped";
  readonly r: boolean;
  readonly w: boolean;
  readonly xs: boolean;
  readonly xu: boolean;
  readonly view: number;
  readonly cpl: number;
  readonly paging: boolean;
  readonly smep: boolean;
  /** The linear address is a user-mode one. */
  readonly userLinear: boolean;
  /** The shadow had no entry at all. */
  readonly empty: boolean;
  /** Option `exactness: exact`. */
  readonly exact: boolean;
  /** The user view withholds X from this page because supervisor code is entered there. */
  readonly withheld: boolean;
}

/** What follows from a row. */
export const Action = {
  Reflect: 0,
  /** Make the entry of the view in force. */
  Fill: 1,
  /** Drop the stale entry and make it again. */
  Resync: 2,
  Switch: 3,
  /** Run one instruction under the user view, then choose again. */
  StepUser: 4,
  /** Run one instruction of a withheld page with X, then withhold it again. */
  StepWithheld: 5,
} as const;

/** One row. */
export interface DecisionRow {
  readonly row: number;
  readonly doc: string;
  readonly when: (v: Violation) => boolean;
  readonly action: number;
}

/** View that the current privilege permits (reference §1.4, §1.5). */
export function viewFor(cpl: number, paging: boolean): number {
  return cpl === 3 || !paging ? View.User : View.Supervisor;
}

/** CPL < 3 fetches a user-mode address: hardware goes by XU (reference §3.2). */
function supervisorOnUserAddress(v: Violation): boolean {
  return v.cpl < 3 && v.paging && v.userLinear;
}

/** The views alone decide, not the mode of the address. */
function viewsDecide(v: Violation): boolean {
  return !(v.exact && supervisorOnUserAddress(v));
}

/** The view in force is the one for this privilege and allows the fetch. */
function inForceAllows(v: Violation): boolean {
  return viewsDecide(v) && allows(v, v.view) &&
    v.view === viewFor(v.cpl, v.paging);
}

function allows(v: Violation, view: number): boolean {
  return view === View.User ? v.xu && !v.withheld : v.xs;
}

/** Rows in testing order; 7 comes before 6. */
export const DECISION_TABLE: readonly DecisionRow[] = [
  {
    row: 1,
    doc: "L1's EPT has no entry, or a misconfigured one",
    when: (v) => v.policy !== "mapped",
    action: Action.Reflect,
  },
  {
    row: 2,
    doc: "L1 denies the read or write",
    when: (v) => (v.read && !v.r) || (v.write && !v.w),
    action: Action.Reflect,
  },
  {
    row: 3,
    doc: "L1 allows it and the shadow has no entry",
    when: (v) => v.empty && (!v.fetch || inForceAllows(v)),
    action: Action.Fill,
  },
  {
    row: 4,
    doc: "L1 and the view in force allow it: the shadow entry is stale",
    when: (v) => !v.fetch || inForceAllows(v),
    action: Action.Resync,
  },
  {
    row: 5,
    doc: "Another view that the privilege permits allows the fetch",
    when: (v) =>
      viewsDecide(v) && v.view !== viewFor(v.cpl, v.paging) &&
      allows(v, viewFor(v.cpl, v.paging)),
    action: Action.Switch,
  },
  {
    row: 8,
    doc: "User code on a page withheld for its supervisor entry point",
    when: (v) => v.withheld && v.xu && viewFor(v.cpl, v.paging) === View.User,
    action: Action.StepWithheld,
  },
  {
    row: 7,
    doc: "CPL < 3 fetches a user-mode address with SMEP = 0: XU decides",
    when: (v) => supervisorOnUserAddress(v) && !v.smep && v.xu,
    action: Action.StepUser,
  },
  {
    row: 6,
    doc: "No view that the privilege permits allows the fetch",
    when: () => true,
    action: Action.Reflect,
  },
];

/** The first row that holds. */
export function decide(v: Violation): DecisionRow {
  const row = DECISION_TABLE.find((candidate) => candidate.when(v));
  if (row === undefined) throw new Error("the decision table has no last row");
  return row;
}
