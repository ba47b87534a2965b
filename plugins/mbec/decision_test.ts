/**
 * The decision table against hardware's rule (reference §3.2), over every
 * combination of what a row may know, and each row by an example.
 */
import { assert, assertEquals } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { View } from "./api.ts";
import {
  Action,
  decide,
  DECISION_TABLE,
  viewFor,
  type Violation,
} from "./decision.ts";

const KERNEL_FETCH: Violation = {
  fetch: true,
  read: false,
  write: false,
  policy: "mapped",
  r: true,
  w: false,
  xs: true,
  xu: true,
  view: View.Supervisor,
  cpl: 0,
  paging: true,
  smep: false,
  userLinear: false,
  empty: true,
  exact: false,
  withheld: false,
};
const USER_FETCH = {
  ...KERNEL_FETCH,
  view: View.User,
  cpl: 3,
  userLinear: true,
};

function* booleans<K extends keyof Violation>(
  keys: readonly K[],
): Generator<Record<K, boolean>> {
  for (let bits = 0; bits < 2 ** keys.length; bits++) {
    yield Object.fromEntries(
      keys.map((key, i) => [key, (bits >> i & 1) === 1]),
    ) as Record<K, boolean>;
  }
}

/** Every violation that hardware can raise in a shadow. */
function* everything(exact: boolean): Generator<Violation> {
  const flags = [
    "r",
    "w",
    "xs",
    "xu",
    "paging",
    "smep",
    "userLinear",
    "empty",
    "withheld",
  ] as const;
  const accesses = [
    { fetch: true, read: false, write: false },
    { fetch: false, read: true, write: false },
    { fetch: false, read: false, write: true },
    { fetch: false, read: true, write: true },
  ];
  for (const some of booleans(flags)) {
    for (const access of accesses) {
      for (const view of [View.User, View.Supervisor]) {
        for (const cpl of [0, 3]) {
          const v: Violation = {
            ...some,
            ...access,
            policy: "mapped",
            view,
            cpl,
            exact,
          };
          // Without paging every address is a user-mode one, and only the user
          // view withholds; guest paging denies the rest before stage 2.
          if (!v.paging && !v.userLinear) continue;
          if (v.withheld && v.view !== View.User) continue;
          if (v.paging && cpl === 3 && !v.userLinear) continue;
          if (v.paging && cpl < 3 && v.userLinear && v.smep) continue;
          yield v;
        }
      }
    }
  }
}

function hardwareAllows(v: Violation): boolean {
  if (v.fetch) return !v.paging || v.userLinear ? v.xu : v.xs;
  return (!v.read || v.r) && (!v.write || v.w);
}

describe("the decision table", () => {
  it("reflects under exact what hardware denies, and nothing else", () => {
    let count = 0;
    for (const v of everything(true)) {
      const reflected = decide(v).action === Action.Reflect;
      assertEquals(reflected, !hardwareAllows(v), JSON.stringify(v));
      count++;
    }
    assert(count > 1000);
  });
  it("never reflects under lazy what hardware allows", () => {
    for (const v of everything(false)) {
      if (decide(v).action !== Action.Reflect) continue;
      assertEquals(hardwareAllows(v), false, JSON.stringify(v));
    }
  });
  it("lets more through under lazy only for a supervisor at a user address", () => {
    for (const v of everything(false)) {
      if (decide(v).action === Action.Reflect || hardwareAllows(v)) continue;
      assert(v.cpl < 3 && v.userLinear && v.xs, JSON.stringify(v));
    }
  });
  it("switches to the view that the privilege permits, never to the same", () => {
    for (const exact of [false, true]) {
      for (const v of everything(exact)) {
        if (decide(v).action !== Action.Switch) continue;
        assert(v.fetch && v.view !== viewFor(v.cpl, v.paging));
      }
    }
  });
  it("ends: what a row makes of a violation is not the same violation again", () => {
    for (const exact of [false, true]) {
      for (const v of everything(exact)) {
        const { action } = decide(v);
        if (action === Action.Fill || action === Action.Resync) {
          const x = v.view === View.User ? v.xu && !v.withheld : v.xs;
          assert(!v.fetch || x, JSON.stringify(v));
        } else if (action === Action.StepUser) assert(v.xu);
        else if (action === Action.StepWithheld) assert(v.xu && v.withheld);
      }
    }
  });

  const examples: [number, number, Partial<Violation>, Violation][] = [
    [1, Action.Reflect, { policy: "absent" }, KERNEL_FETCH],
    [1, Action.Reflect, { policy: "misconfigured" }, USER_FETCH],
    [2, Action.Reflect, { fetch: false, write: true }, USER_FETCH],
    [2, Action.Reflect, { fetch: false, read: true, r: false }, USER_FETCH],
    [3, Action.Fill, {}, KERNEL_FETCH],
    [3, Action.Fill, { fetch: false, read: true }, USER_FETCH],
    [4, Action.Resync, { empty: false }, KERNEL_FETCH],
    [5, Action.Switch, { view: View.Supervisor }, USER_FETCH],
    [5, Action.Switch, { view: View.User }, KERNEL_FETCH],
    [
      5,
      Action.Switch,
      { view: View.Supervisor, paging: false, cpl: 0 },
      USER_FETCH,
    ],
    [6, Action.Reflect, { xs: false }, KERNEL_FETCH],
    [6, Action.Reflect, { xu: false }, USER_FETCH],
    [7, Action.StepUser, { userLinear: true, xs: false }, KERNEL_FETCH],
    [
      6,
      Action.Reflect,
      { userLinear: true, xs: false, smep: true },
      KERNEL_FETCH,
    ],
    [7, Action.StepUser, { userLinear: true, exact: true }, KERNEL_FETCH],
    [8, Action.StepWithheld, { withheld: true }, USER_FETCH],
    [5, Action.Switch, { withheld: true, view: View.User }, KERNEL_FETCH],
  ];
  for (const [row, action, change, base] of examples) {
    const who = base === USER_FETCH ? "user" : "kernel";
    it(`row ${row}: ${who} fetch with ${JSON.stringify(change)}`, () => {
      const found = decide({ ...base, ...change });
      assertEquals([found.row, found.action], [row, action]);
    });
  }
  it("has an example of each row", () => {
    const shown = new Set(examples.map(([row]) => row));
    assertEquals(DECISION_TABLE.filter(({ row }) => !shown.has(row)), []);
  });
});

describe("the view for a privilege", () => {
  it("is the user view at CPL 3 and without paging", () => {
    assertEquals(
      [[3, true], [0, true], [1, true], [0, false], [3, false]].map((
        [cpl, paging],
      ) => viewFor(cpl as number, paging as boolean)),
      [View.User, View.Supervisor, View.Supervisor, View.User, View.User],
    );
  });
});
