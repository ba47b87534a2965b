/**
 * Rows of the XSAVE feature set other than XGETBV and XSETBV (SDM vol. 1
 * ch. 13), and of RDPKRU and WRPKRU (SDM 3A §4.6.2).
 */
import type { Feature } from "../../arch/cpuid.ts";
import { Intercept, type InterceptId } from "../../arch/intercepts.ts";
import { rdpkru, wrpkru } from "../../semantics/protection_keys.ts";
import * as xsave from "../../semantics/xsave.ts";
import type { CallFunction, Row } from "../row.ts";

const { SaveKind } = xsave;

function pair(
  name: string,
  feature: Feature,
  call: (long: boolean) => CallFunction,
  intercept?: InterceptId,
): Row[] {
  return [false, true].map((long): Row => ({
    name: long ? `${name}64` : name,
    codes: [
      `${name[0]}${name.slice(1).toLowerCase()}${long ? "64" : ""}_mem`,
    ],
    call: call(long),
    feature,
    ...intercept === undefined
      ? {}
      : { intercept, detail: xsave.checkSupervisor },
    manual: `SDM 2D ${name}`,
  }));
}

/** See the file header. */
export const XSAVE_ROWS: readonly Row[] = [
  ...pair("XSAVE", "xsave", (long) => xsave.save(SaveKind.Xsave, long)),
  ...pair("XRSTOR", "xsave", (long) => xsave.restore(false, long)),
  ...pair(
    "XSAVEOPT",
    "xsaveopt",
    (long) => xsave.save(SaveKind.Xsaveopt, long),
  ),
  ...pair("XSAVEC", "xsavec", (long) => xsave.save(SaveKind.Xsavec, long)),
  ...pair(
    "XSAVES",
    "xsaves",
    (long) => xsave.save(SaveKind.Xsaves, long),
    Intercept.Xsaves,
  ),
  ...pair(
    "XRSTORS",
    "xsaves",
    (long) => xsave.restore(true, long),
    Intercept.Xrstors,
  ),
  {
    name: "RDPKRU",
    codes: ["Rdpkru"],
    call: rdpkru,
    feature: "pku",
    manual: "SDM 2B RDPKRU",
  },
  {
    name: "WRPKRU",
    codes: ["Wrpkru"],
    call: wrpkru,
    feature: "pku",
    manual: "SDM 2D WRPKRU",
  },
];
