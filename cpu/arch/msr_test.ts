/**
 * The MSR table, row by row: what WRMSR accepts, refuses and stores. Values are
 * derived from each row, so a changed row fails.
 */
import { assert, assertEquals } from "@std/assert";
import { lapic } from "../../plugins/lapic/plugin.ts";
import { TestMachine } from "../../tests/support/machine.ts";
import { readMsr, writeMsr } from "../semantics/system/msr.ts";
import { findMsr, MSRS } from "./msr.ts";

const ALL = 0xffff_ffff_ffff_ffffn;

for (const model of ["qemu64", "max-intel"]) {
  const m = new TestMachine("hlt", { model, plugins: [{ plugin: lapic }] });
  const { cpu } = m;
  for (const row of MSRS) {
    const here = findMsr(cpu.model, row.index) === row;
    const name = `${model} ${row.name}`;
    if (!here) {
      if (findMsr(cpu.model, row.index) === undefined) {
        Deno.test(`${name} does not exist`, () => {
          assertEquals(readMsr(cpu, row.index), undefined);
          assertEquals(writeMsr(cpu, row.index, 0n), false);
        });
      }
      continue;
    }
    Deno.test(`${name} reads, and refuses reserved bits`, () => {
      const value = readMsr(cpu, row.index);
      assert(value !== undefined);
      if (row.special === 0) assertEquals(value, row.reset);
      for (let bit = 0n; bit < 64n; bit++) {
        if ((row.mask >> bit) & 1n) continue;
        assertEquals(
          writeMsr(cpu, row.index, value | 1n << bit),
          row.readOnly ? false : ((value >> bit) & 1n) === 1n,
          `bit ${bit}`,
        );
      }
      assertEquals(readMsr(cpu, row.index), value);
    });
    if (row.readOnly || row.special !== 0) continue;
    Deno.test(`${name} stores what it accepts`, () => {
      const old = readMsr(cpu, row.index)!;
      // A pattern that every `valid` rule accepts: memory types are 6 or 0.
      const wanted = [
        0x0606_0606_0606_0606n & row.mask & 0xff_ffff_ffffn,
        0x0006_0606_0606_0606n & row.mask,
        0n,
      ];
      const accepted = wanted.filter((v) => writeMsr(cpu, row.index, v));
      assert(accepted.length > 0);
      for (const v of accepted) {
        assert(writeMsr(cpu, row.index, v));
        assertEquals(readMsr(cpu, row.index), v);
      }
      if (row.canonical) {
        assertEquals(writeMsr(cpu, row.index, 1n << 63n), false);
        assert(writeMsr(cpu, row.index, ALL));
      }
      assert(writeMsr(cpu, row.index, old));
    });
  }
}
