/**
 * Which CR4 bits a CPU model defines (SDM 3A §2.5): every other bit is
 * reserved. MOV to CR4 and the VMX fixed-bit MSRs both follow from this table.
 */
import type { Feature } from "./cpuid.ts";
import { Cr4 } from "./flags.ts";
import type { CpuModel } from "./models.ts";

/** CR4 bits and the feature without which each is reserved. */
const CR4_FEATURES: readonly (readonly [number, Feature])[] = [
  [Cr4.VME | Cr4.PVI, "vme"],
  [Cr4.TSD, "tsc"],
  [Cr4.DE, "de"],
  [Cr4.PSE, "pse"],
  [Cr4.PAE, "pae"],
  [Cr4.MCE, "mce"],
  [Cr4.PGE, "pge"],
  [Cr4.OSFXSR, "fxsr"],
  [Cr4.OSXMMEXCPT, "sse"],
  [Cr4.UMIP, "umip"],
  [Cr4.LA57, "la57"],
  [Cr4.VMXE, "vmx"],
  [Cr4.SMXE, "smx"],
  [Cr4.FSGSBASE, "fsgsbase"],
  [Cr4.PCIDE, "pcid"],
  [Cr4.OSXSAVE, "xsave"],
  [Cr4.SMEP, "smep"],
  [Cr4.SMAP, "smap"],
  [Cr4.PKE, "pku"],
  [Cr4.PKS, "pks"],
  [Cr4.LAM_SUP, "lam"],
];

/** CR4 bits that the model defines; PCE needs no feature. */
export function cr4Defined(model: CpuModel): number {
  let bits: number = Cr4.PCE;
  for (const [mask, feature] of CR4_FEATURES) {
    if (model.has(feature)) bits |= mask;
  }
  return bits >>> 0;
}
