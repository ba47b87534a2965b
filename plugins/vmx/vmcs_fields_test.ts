/** The VMCS field table against SDM 3C appendix B and its own invariants. */
import { assert, assertEquals } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import {
  fieldMask,
  fieldOffset,
  FieldType,
  FieldWidth,
  findField,
  HIGHEST_FIELD_INDEX,
  VMCS_FIELDS,
  VMCS_REGION,
  VmcsField as F,
} from "./vmcs_fields.ts";
import { VmxRig } from "./vmx_testing.ts";

describe("VMCS fields", () => {
  it("have one encoding and one place each, inside one page", () => {
    const encodings = new Set(VMCS_FIELDS.map((r) => r.encoding));
    const offsets = new Set(VMCS_FIELDS.map((r) => r.offset));
    assertEquals(encodings.size, VMCS_FIELDS.length);
    assertEquals(offsets.size, VMCS_FIELDS.length);
    for (const row of VMCS_FIELDS) {
      assert(row.offset >= VMCS_REGION.fields && row.offset + 8 <= 4096);
      assertEquals(row.offset % 8, 0);
      assertEquals(fieldOffset(row.encoding), row.offset);
      assertEquals(row.encoding & 1, 0);
      assertEquals(row.encoding >> 15, 0);
    }
  });

  it("are of the width and type that their names promise", () => {
    for (const { name, type, width } of VMCS_FIELDS) {
      if (/^Guest(?!LinearAddress|PhysicalAddress)/.test(name)) {
        assertEquals(type, FieldType.Guest, name);
      }
      if (name.startsWith("Host")) assertEquals(type, FieldType.Host, name);
      if (name.endsWith("Selector")) assertEquals(width, FieldWidth.Word, name);
      if (/Limit$|Attributes$|Count$|Controls$/.test(name)) {
        const wide = name === "VmFunctionControls";
        assertEquals(width, wide ? FieldWidth.Quad : FieldWidth.Long, name);
      }
      if (/Base$/.test(name)) assertEquals(width, FieldWidth.Natural, name);
    }
  });

  it("are read-only where they report exits", () => {
    const readOnly = VMCS_FIELDS.filter((r) => r.type === FieldType.ReadOnly)
      .map((r) => r.name).sort();
    assertEquals(readOnly, [
      "ExitInstructionInformation",
      "ExitInstructionLength",
      "ExitInterruptionErrorCode",
      "ExitInterruptionInformation",
      "ExitQualification",
      "ExitReason",
      "GuestLinearAddress",
      "GuestPhysicalAddress",
      "IdtVectoringErrorCode",
      "IdtVectoringInformation",
      "InstructionError",
      "IoRcx",
      "IoRdi",
      "IoRip",
      "IoRsi",
    ]);
  });

  it("have a high half exactly when 64 bits wide", () => {
    for (const { encoding, width } of VMCS_FIELDS) {
      assertEquals(
        findField(encoding | 1)?.high,
        width === FieldWidth.Quad ? true : undefined,
      );
    }
    assertEquals(findField(0x7ffe), undefined);
    assertEquals(HIGHEST_FIELD_INDEX, F.TscMultiplier >> 1 & 0x1ff);
  });

  it("keep what is written, cut to their width, and nothing else", () => {
    const { vmcs } = new VmxRig();
    const value = (n: number): bigint =>
      BigInt.asUintN(64, 0x9e37_79b9_7f4a_7c15n * BigInt(n + 1));
    VMCS_FIELDS.forEach((row, i) => vmcs.write(row.encoding, value(i)));
    VMCS_FIELDS.forEach((row, i) => {
      assertEquals(vmcs.read(row.encoding), value(i) & fieldMask(row));
      assertEquals(
        vmcs.read32(row.encoding),
        Number(value(i) & fieldMask(row) & 0xffff_ffffn),
      );
    });
    assertEquals(vmcs.launchState, 0);
  });
});
