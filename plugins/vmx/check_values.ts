/**
 * Value tests that several entry checks and VMX instructions share: canonical
 * addresses, physical-address width, PAT and EFER contents, PDPTEs. Each says
 * what the manual section that calls it means by "valid".
 */
import type { CpuModel } from "../../cpu/arch/models.ts";
import { Cr3, Efer } from "../../cpu/arch/flags.ts";

/** Canonical for the widest linear address the model supports (SDM 1 §3.3.7.1). */
export function canonical(value: bigint, model: CpuModel): boolean {
  const top = BigInt.asIntN(64, value) >> BigInt(model.linearAddressBits - 1);
  return top === 0n || top === -1n;
}

/** No bit at or above MAXPHYADDR. */
export function withinPhysical(value: bigint, model: CpuModel): boolean {
  return value >> BigInt(model.physicalAddressBits) === 0n;
}

/** CR3: no bit at or above MAXPHYADDR but LAM's (SDM 3C §27.2.2, §27.3.1.1). */
export function validCr3(value: bigint, model: CpuModel): boolean {
  const lam = model.has("lam") ? Cr3.LAM_U48 | Cr3.LAM_U57 : 0n;
  return withinPhysical(value & ~lam, model);
}

/** A physical address on a `1 << alignment` boundary within MAXPHYADDR. */
export function physicalAddress(
  value: bigint,
  alignment: number,
  model: CpuModel,
): boolean {
  return (value & ((1n << BigInt(alignment)) - 1n)) === 0n &&
    withinPhysical(value, model);
}

/** Every byte is a memory type that IA32_PAT knows (SDM 3A §12.12.2). */
export function validPat(value: bigint): boolean {
  for (let i = 0n; i < 64n; i += 8n) {
    const type = Number((value >> i) & 0xffn);
    if (type > 7 || type === 2 || type === 3) return false;
  }
  return true;
}

/** EFER bits the model has. */
export function eferSettable(model: CpuModel): bigint {
  let bits = Efer.LMA | Efer.LME;
  if (model.has("syscall")) bits |= Efer.SCE;
  if (model.has("nx")) bits |= Efer.NXE;
  return BigInt(bits);
}

/** A PAE PDPTE without reserved bits, or not present (SDM 3A table 4-8). */
export function validPdpte(value: bigint, model: CpuModel): boolean {
  if ((value & 1n) === 0n) return true;
  return (value & 0x1e6n) === 0n && withinPhysical(value, model);
}
