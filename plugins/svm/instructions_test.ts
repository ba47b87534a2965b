/**
 * The SVM instructions as rows (APM 2 §15.4, table 15-7): each with and without
 * its intercept, its #UD and #GP before that, and that a row whose bit or
 * privilege were another, or that were missing, would be noticed.
 */
import { assert, assertEquals } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { Vector } from "../../cpu/arch/exceptions.ts";
import { Cr0, Efer } from "../../cpu/arch/flags.ts";
import { parseModel } from "../../cpu/arch/models.ts";
import type { Insn } from "../../cpu/isa/insn.ts";
import { Outcome } from "../../cpu/isa/row.ts";
import { Gpr, GuestMode } from "../../cpu/layout.ts";
import { assemble } from "../../host/asm/mod.ts";
import { TestMachine } from "../../tests/support/machine.ts";
import { createDecoder } from "../decoder/decode.ts";
import { InterceptBit as B } from "./controls.ts";
import { ExitCode as X } from "./exit_codes.ts";
import { AT, SvmGuest } from "./guest_testing.ts";
import {
  executeSvm,
  SVM_INSTRUCTIONS,
  type SvmInstruction,
} from "./instructions.ts";
import { svm } from "./plugin.ts";
import { SCRATCH } from "./scratch.ts";
import { SvmUnit } from "./unit.ts";
import { longGuest } from "./vmcb_testing.ts";
import { Control, Vmcb } from "./vmcb.ts";

const TEXT: Readonly<Record<string, string>> = {
  VMRUN: "vmrun rax",
  VMMCALL: "vmmcall",
  VMLOAD: "vmload rax",
  VMSAVE: "vmsave rax",
  STGI: "stgi",
  CLGI: "clgi",
  SKINIT: "skinit",
  INVLPGA: "invlpga rax, ecx",
};
const CODE: Readonly<Record<string, number>> = {
  VMRUN: X.Vmrun,
  VMMCALL: X.Vmmcall,
  VMLOAD: X.Vmload,
  VMSAVE: X.Vmsave,
  STGI: X.Stgi,
  CLGI: X.Clgi,
  SKINIT: X.Skinit,
  INVLPGA: X.Invlpga,
};
/** By name: the only one that needs neither CPL 0 nor EFER.SVME. */
const ANYWHERE = "VMMCALL";
const model = parseModel("max-amd");
const decoder = createDecoder(model);
const CODE_AT = 0x8000n;

interface Case {
  readonly name: string;
  readonly on: boolean;
  readonly where: "kernel" | "user" | "disabled" | "real";
}
const CASES: readonly Case[] = Object.keys(TEXT).flatMap((name) =>
  ([true, false] as const).flatMap((on) =>
    (["kernel", "user", "disabled", "real"] as const).map((where) => ({
      name,
      on,
      where,
    }))
  )
);

/** What the manual says of a case: `exit`, `#UD`, `#GP`, or `done`. */
function expected({ name, on, where }: Case): string {
  if (name === ANYWHERE) return on ? "exit" : "#UD";
  if (where === "disabled" || where === "real") return "#UD";
  if (where === "user") return "#GP";
  return on ? "exit" : "done";
}

function decoded(name: string): Insn {
  // No model shows SKINIT, so it decodes on none: STGI lends it its record.
  const text = TEXT[name === "SKINIT" ? "STGI" : name];
  const { bytes } = assemble(text, { bits: 64 });
  const padded = Uint8Array.from([...bytes, ...new Array(15).fill(0x90)]);
  const insn = decoder.decode(padded, 15, 64, CODE_AT, 64, false);
  if (typeof insn === "number") throw new RangeError(`cannot decode ${text}`);
  return { ...insn, row: { ...insn.row, name } };
}

function actual(c: Case, rows: readonly SvmInstruction[]): string {
  const m = new TestMachine("hlt", {
    model: "max-amd",
    plugins: [{ plugin: svm }],
  });
  const { v, cpu, hardware } = m;
  longGuest().store(hardware.physical, AT.vmcb);
  v.setQuad(SCRATCH.vmcb, BigInt(AT.vmcb));
  v.setQuad(SCRATCH.hsave, BigInt(AT.hsave));
  v.guestMode = GuestMode.Svm;
  v.efer |= Efer.SVME;
  v.setGpr(Gpr.RAX, BigInt(AT.data));
  longGuest().store(hardware.physical, AT.hsave);
  if (c.where === "user") v.cpl = 3;
  if (c.where === "disabled") v.efer &= ~Efer.SVME;
  if (c.where === "real") v.cr0 &= ~Cr0.PE;
  const row = SVM_INSTRUCTIONS.find(({ name }) => name === c.name);
  const at = SCRATCH.intercepts + (row!.bit >>> 5) * 4;
  v.setWord(at, c.on ? 1 << (row!.bit & 31) : ~(1 << (row!.bit & 31)));
  const insn = decoded(c.name);
  cpu.nextRip = CODE_AT + BigInt(insn.length);
  const unit = new SvmUnit(model, { dropGrants() {} });
  // Whatever it does without an intercept is told apart, and not done here.
  const quiet = rows.map((r) =>
    r.name === ANYWHERE ? r : { ...r, run: () => Outcome.Done }
  );
  const outcome = executeSvm(unit, cpu, insn, quiet);
  if (outcome === Outcome.Done) return "done";
  if (outcome === Outcome.Fault) {
    const { pending } = v;
    if (pending?.vector === Vector.UD) return "#UD";
    return pending?.vector === Vector.GP && pending.errorCode === 0
      ? "#GP"
      : "another fault";
  }
  const vmcb = new Vmcb(hardware.physical, AT.vmcb);
  const exited = Number(vmcb.read(Control.exitCode)) === CODE[c.name] &&
    vmcb.read(Control.nextRip) === cpu.nextRip;
  return outcome === Outcome.Exit && exited ? "exit" : "another outcome";
}

/** What is wrong with a table, judged by all cases of some instructions. */
function faults(rows: readonly SvmInstruction[], names: readonly string[]) {
  return CASES.filter(({ name }) => names.includes(name))
    .filter((c) => actual(c, rows) !== expected(c))
    .map((c) => `${c.name} ${c.where} ${c.on}: ${actual(c, rows)}`);
}

describe("the SVM instructions", () => {
  const names = SVM_INSTRUCTIONS.map(({ name }) => name);

  it("check mode and privilege, then exit with their bit", () => {
    assertEquals(Object.keys(TEXT).toSorted(), names.toSorted());
    assertEquals(faults(SVM_INSTRUCTIONS, names), []);
  });

  it("are noticed when a row is dropped, its bit or privilege another", () => {
    SVM_INSTRUCTIONS.forEach((row, i) => {
      const variants: [string, readonly SvmInstruction[]][] = [
        ["dropped", SVM_INSTRUCTIONS.filter((r) => r !== row)],
        ["bit", SVM_INSTRUCTIONS.with(i, { ...row, bit: row.bit ^ 1 })],
        [
          "privilege",
          SVM_INSTRUCTIONS.with(i, { ...row, anywhere: !row.anywhere }),
        ],
      ];
      for (const [how, rows] of variants) {
        const noticed = faults(rows, [row.name]).length > 0;
        assert(noticed, `${row.name} ${how}: unnoticed`);
      }
    });
  });

  it("exit through the whole machine", () => {
    for (const row of SVM_INSTRUCTIONS) {
      if (row.bit === B.Skinit) continue; // no model shows it
      const run = new SvmGuest(`${TEXT[row.name]}\nafter: vmmcall`, {
        vmcb: (d) => d.intercept(row.bit).set(0x5f8, AT.data),
      });
      assertEquals(run.code, CODE[row.name], row.name);
      assertEquals(run.vmcb.read(Control.nextRip), run.label("after"));
    }
  });
});
