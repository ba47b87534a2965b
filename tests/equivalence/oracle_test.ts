/** The oracle: silent where the views do as hardware does, and not where they don't. */
import { assert, assertEquals } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import {
  ALIAS,
  hvciGuest,
  ORIGIN,
  type ScriptLine,
  strictPolicy,
} from "../../examples/guests/hvci.ts";
import { machines } from "../../host/machine.ts";
import { defineScenario } from "../../host/scenario/define.ts";
import { hypervisor } from "../../plugins/hypervisor/plugin.ts";
import { PolicySlack } from "../../plugins/mbec/api.ts";
import { hardwareAllows, mbecOracle } from "../../plugins/mbec/oracle.ts";
import { mbec } from "../../plugins/mbec/plugin.ts";

interface Slack {
  readonly allowed: number;
  readonly user: number;
  readonly rights: number;
  readonly rip: bigint;
}

/** Slack notes of a script under HVCI's strict policy. */
function notes(
  script: readonly ScriptLine[],
  exactness: "lazy" | "exact",
): Slack[] {
  const guest = hvciGuest({ policy: strictPolicy(), script });
  const kernel = machines.create(
    defineScenario({
      machine: { cpu: "haswell-server", memory: "2MiB" },
      guest: { flat: "guest", at: ORIGIN, mode: "long" },
    }),
    new Map([["guest", guest.image]]),
    {
      engine: "reference",
      uses: [
        { plugin: hypervisor },
        { plugin: mbec, options: { exactness } },
        { plugin: mbecOracle },
      ],
    },
  );
  const found: Slack[] = [];
  kernel.watch(PolicySlack, (payload) => void found.push(payload));
  const end = kernel.run({ untilStep: 50_000 });
  assertEquals(end.exitCode, 33);
  return found;
}

const ORDINARY: ScriptLine[] = [
  { page: 0, code: "syscall" },
  { page: 1, code: "int 0x40", way: 1 },
  { page: 2, code: "ud2", call: `call_U2+${ALIAS.supervisor}` },
];
/** User code on a page that only the kernel may execute. */
const STALE: ScriptLine[] = [
  { page: 0, code: "syscall" },
  { page: 0, target: `user_K1+${ALIAS.user}` },
];

describe("hardware's rule (reference §3.2)", () => {
  it("goes by XU for user-mode addresses, by XS for others", () => {
    const [xs, xu] = [4, 8];
    assertEquals(
      [[true, xu], [true, xs], [false, xs], [false, xu], [true, 3]].map((
        [user, rights],
      ) => hardwareAllows(user as boolean, rights as number)),
      [true, false, true, false, false],
    );
  });
});

describe("the oracle", () => {
  it("says nothing of ordinary code and of violations that hardware raises", () => {
    assertEquals(notes(ORDINARY, "lazy"), []);
  });
  it("remarks user code that runs on a stale supervisor view", () => {
    const [first] = notes(STALE, "lazy");
    assert(first !== undefined);
    assertEquals([first.allowed, first.user, first.rights], [1, 1, 5]);
    assertEquals(first.rip & ~0xfffn, 0x191000n);
  });
  it("has nothing to remark when the emulation is exact", () => {
    assertEquals(notes(STALE, "exact"), []);
  });
});
