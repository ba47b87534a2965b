/**
 * Introspection while L2 runs under L0: reads go through L2's own translation,
 * and no fault is injected into a guest whose faults are its hypervisor's.
 */
import { assertEquals } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { definePlugin, type PayloadOf } from "../../core/mod.ts";
import { DATA, hvciGuest, ORIGIN } from "../../examples/guests/hvci.ts";
import { machines } from "../../host/machine.ts";
import { defineScenario } from "../../host/scenario/define.ts";
import { L1Exceptions } from "../../plugins/hypervisor/api.ts";
import { hypervisor } from "../../plugins/hypervisor/plugin.ts";
import {
  Cause,
  Ending,
  introspectRequest,
  IntrospectRequested,
  Policy,
  ReadCompleted,
  Reader,
} from "../../plugins/introspect/api.ts";
import { introspect } from "../../plugins/introspect/plugin.ts";
import { pairOf } from "./programs.ts";

describe("in a nested guest", () => {
  it("reads through L2's translation, and injects nothing there", () => {
    let level: (cpu: number) => number = () => 0;
    const probe = definePlugin({
      name: "probe",
      version: "1.0.0",
      doc: "Shows the test where the machine is",
      role: "participant",
      needs: { l1: L1Exceptions },
      setup({ use: { l1 } }) {
        level = l1.level;
        return undefined;
      },
    });
    const guest = hvciGuest(pairOf(1));
    const scenario = defineScenario({
      machine: { cpu: "skylake-server", memory: "2MiB" },
      guest: { flat: "guest", at: ORIGIN, mode: "long" },
    });
    const kernel = machines.create(
      scenario,
      new Map([["guest", guest.image]]),
      {
        uses: [hypervisor, introspect, probe].map((plugin) => ({ plugin })),
      },
    );
    const reads: PayloadOf<typeof ReadCompleted>[] = [];
    kernel.watch(ReadCompleted, (read) => void reads.push(read));
    // L0 shadows lazily: what L2 has not touched yet is denied to readers too.
    for (let inL2 = 0; inL2 < 3; inL2 = level(0) === 2 ? inL2 + 1 : 0) {
      kernel.run({ untilStep: kernel.moment.step + 7 });
    }
    for (const reader of [Reader.L0, Reader.Walk]) {
      const ask = { length: 1, reader, cpl: 0 };
      const policy = Policy.InjectAndRetry;
      kernel.inject(
        IntrospectRequested,
        introspectRequest({ ...ask, linear: BigInt(DATA.line) }),
      );
      kernel.inject(
        IntrospectRequested,
        introspectRequest({ ...ask, linear: 0x7000_0000_0000n, policy }),
      );
    }
    kernel.run({ stopWhen: (k) => k.queued === 0 });
    assertEquals(level(0), 2);
    assertEquals(reads.map((r) => [r.ending, r.cause, r.bytesOk]), [
      [Ending.Read, Cause.None, 1],
      [Ending.NotInjectable, Cause.PageFault, 0],
      [Ending.Read, Cause.None, 1],
      [Ending.NotInjectable, Cause.PageFault, 0],
    ]);
    assertEquals(reads[0].bytes, reads[2].bytes);
  });
});
