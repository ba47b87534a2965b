/**
 * VMCS fields (SDM 3C §25, appendix B): encoding, name, the processor feature
 * that brings the field, and where our processor keeps it inside the VMCS
 * region. Width, type and index follow from the encoding (SDM 3C table 25-21).
 *
 * Invariant: a field's offset is 16 + 8 × its position in the table, so that a
 * VMCS region written by hardware and one written by a hypervisor model for
 * its guest have one format. Offsets are part of keyframes: append only.
 */

/** Byte offsets of what precedes the fields in a VMCS region (SDM 3C §25.2). */
export const VMCS_REGION = {
  /** u32: revision identifier; bit 31 = shadow-VMCS indicator. */
  revision: 0,
  /** u32 */ abortIndicator: 4,
  /** u32: LaunchState (kept by our processor in the data area). */
  launchState: 8,
  /** First field. */
  fields: 16,
} as const;

/** Launch state of a VMCS (SDM 3C §25.1). */
export const LaunchState = { Clear: 0, Launched: 1 } as const;

/** Features of a processor that decide which VMCS fields exist. */
export const FieldFeature = {
  Always: 0,
  Vpid: 1,
  Ept: 2,
  MsrBitmaps: 3,
  EptpSwitching: 4,
  TscScaling: 5,
  PreemptionTimer: 6,
  Pat: 7,
  Efer: 8,
  TprShadow: 9,
  Xsaves: 10,
} as const;

/** Encodings by manual name (SDM 3C appendix B). */
export const VmcsField = {
  Vpid: 0x0000,
  EptpIndex: 0x0004,
  GuestEsSelector: 0x0800,
  GuestCsSelector: 0x0802,
  GuestSsSelector: 0x0804,
  GuestDsSelector: 0x0806,
  GuestFsSelector: 0x0808,
  GuestGsSelector: 0x080a,
  GuestLdtrSelector: 0x080c,
  GuestTrSelector: 0x080e,
  HostEsSelector: 0x0c00,
  HostCsSelector: 0x0c02,
  HostSsSelector: 0x0c04,
  HostDsSelector: 0x0c06,
  HostFsSelector: 0x0c08,
  HostGsSelector: 0x0c0a,
  HostTrSelector: 0x0c0c,
  IoBitmapA: 0x2000,
  IoBitmapB: 0x2002,
  MsrBitmaps: 0x2004,
  ExitMsrStoreAddress: 0x2006,
  ExitMsrLoadAddress: 0x2008,
  EntryMsrLoadAddress: 0x200a,
  ExecutiveVmcsPointer: 0x200c,
  TscOffset: 0x2010,
  VirtualApicAddress: 0x2012,
  VmFunctionControls: 0x2018,
  Eptp: 0x201a,
  EptpListAddress: 0x2024,
  TscMultiplier: 0x2032,
  GuestPhysicalAddress: 0x2400,
  VmcsLinkPointer: 0x2800,
  GuestDebugctl: 0x2802,
  GuestPat: 0x2804,
  GuestEfer: 0x2806,
  GuestPdpte0: 0x280a,
  GuestPdpte1: 0x280c,
  GuestPdpte2: 0x280e,
  GuestPdpte3: 0x2810,
  HostPat: 0x2c00,
  HostEfer: 0x2c02,
  PinControls: 0x4000,
  PrimaryControls: 0x4002,
  ExceptionBitmap: 0x4004,
  PageFaultErrorMask: 0x4006,
  PageFaultErrorMatch: 0x4008,
  Cr3TargetCount: 0x400a,
  ExitControls: 0x400c,
  ExitMsrStoreCount: 0x400e,
  ExitMsrLoadCount: 0x4010,
  EntryControls: 0x4012,
  EntryMsrLoadCount: 0x4014,
  EntryInterruptionInformation: 0x4016,
  EntryExceptionErrorCode: 0x4018,
  EntryInstructionLength: 0x401a,
  TprThreshold: 0x401c,
  SecondaryControls: 0x401e,
  InstructionError: 0x4400,
  ExitReason: 0x4402,
  ExitInterruptionInformation: 0x4404,
  ExitInterruptionErrorCode: 0x4406,
  IdtVectoringInformation: 0x4408,
  IdtVectoringErrorCode: 0x440a,
  ExitInstructionLength: 0x440c,
  ExitInstructionInformation: 0x440e,
  GuestEsLimit: 0x4800,
  GuestCsLimit: 0x4802,
  GuestSsLimit: 0x4804,
  GuestDsLimit: 0x4806,
  GuestFsLimit: 0x4808,
  GuestGsLimit: 0x480a,
  GuestLdtrLimit: 0x480c,
  GuestTrLimit: 0x480e,
  GuestGdtrLimit: 0x4810,
  GuestIdtrLimit: 0x4812,
  GuestEsAttributes: 0x4814,
  GuestCsAttributes: 0x4816,
  GuestSsAttributes: 0x4818,
  GuestDsAttributes: 0x481a,
  GuestFsAttributes: 0x481c,
  GuestGsAttributes: 0x481e,
  GuestLdtrAttributes: 0x4820,
  GuestTrAttributes: 0x4822,
  GuestInterruptibility: 0x4824,
  GuestActivity: 0x4826,
  GuestSmbase: 0x4828,
  GuestSysenterCs: 0x482a,
  PreemptionTimer: 0x482e,
  HostSysenterCs: 0x4c00,
  Cr0Mask: 0x6000,
  Cr4Mask: 0x6002,
  Cr0Shadow: 0x6004,
  Cr4Shadow: 0x6006,
  Cr3Target0: 0x6008,
  Cr3Target1: 0x600a,
  Cr3Target2: 0x600c,
  Cr3Target3: 0x600e,
  ExitQualification: 0x6400,
  IoRcx: 0x6402,
  IoRsi: 0x6404,
  IoRdi: 0x6406,
  IoRip: 0x6408,
  GuestLinearAddress: 0x640a,
  GuestCr0: 0x6800,
  GuestCr3: 0x6802,
  GuestCr4: 0x6804,
  GuestEsBase: 0x6806,
  GuestCsBase: 0x6808,
  GuestSsBase: 0x680a,
  GuestDsBase: 0x680c,
  GuestFsBase: 0x680e,
  GuestGsBase: 0x6810,
  GuestLdtrBase: 0x6812,
  GuestTrBase: 0x6814,
  GuestGdtrBase: 0x6816,
  GuestIdtrBase: 0x6818,
  GuestDr7: 0x681a,
  GuestRsp: 0x681c,
  GuestRip: 0x681e,
  GuestRflags: 0x6820,
  GuestPendingDebug: 0x6822,
  GuestSysenterEsp: 0x6824,
  GuestSysenterEip: 0x6826,
  HostCr0: 0x6c00,
  HostCr3: 0x6c02,
  HostCr4: 0x6c04,
  HostFsBase: 0x6c06,
  HostGsBase: 0x6c08,
  HostTrBase: 0x6c0a,
  HostGdtrBase: 0x6c0c,
  HostIdtrBase: 0x6c0e,
  HostSysenterEsp: 0x6c10,
  HostSysenterEip: 0x6c12,
  HostRsp: 0x6c14,
  HostRip: 0x6c16,
  XssExitingBitmap: 0x202c,
} as const;
/** An encoding that our processor knows. */
export type VmcsFieldEncoding = typeof VmcsField[keyof typeof VmcsField];

/** Field widths, as encoded in bits 14:13. */
export const FieldWidth = { Word: 0, Quad: 1, Long: 2, Natural: 3 } as const;
/** Field types, as encoded in bits 11:10. */
export const FieldType = {
  Control: 0,
  /** VM-exit information: VMWRITE refuses it with error 13. */
  ReadOnly: 1,
  Guest: 2,
  Host: 3,
} as const;

/** One row of the field table. */
export interface VmcsFieldRow {
  readonly name: string;
  readonly encoding: number;
  readonly width: number;
  readonly type: number;
  /** Index within width and type (bits 9:1). */
  readonly index: number;
  /** Byte offset inside the VMCS region. */
  readonly offset: number;
  /** FieldFeature without which the field does not exist. */
  readonly feature: number;
}

const FEATURES = new Map<number, number>([
  [VmcsField.Vpid, FieldFeature.Vpid],
  [VmcsField.EptpIndex, FieldFeature.EptpSwitching],
  [VmcsField.EptpListAddress, FieldFeature.EptpSwitching],
  [VmcsField.VmFunctionControls, FieldFeature.EptpSwitching],
  [VmcsField.Eptp, FieldFeature.Ept],
  [VmcsField.GuestPhysicalAddress, FieldFeature.Ept],
  [VmcsField.GuestPdpte0, FieldFeature.Ept],
  [VmcsField.GuestPdpte1, FieldFeature.Ept],
  [VmcsField.GuestPdpte2, FieldFeature.Ept],
  [VmcsField.GuestPdpte3, FieldFeature.Ept],
  [VmcsField.MsrBitmaps, FieldFeature.MsrBitmaps],
  [VmcsField.TscMultiplier, FieldFeature.TscScaling],
  [VmcsField.PreemptionTimer, FieldFeature.PreemptionTimer],
  [VmcsField.GuestPat, FieldFeature.Pat],
  [VmcsField.HostPat, FieldFeature.Pat],
  [VmcsField.GuestEfer, FieldFeature.Efer],
  [VmcsField.HostEfer, FieldFeature.Efer],
  [VmcsField.VirtualApicAddress, FieldFeature.TprShadow],
  [VmcsField.TprThreshold, FieldFeature.TprShadow],
  [VmcsField.XssExitingBitmap, FieldFeature.Xsaves],
]);

/** Every field, in order of encoding group as listed above. */
export const VMCS_FIELDS: readonly VmcsFieldRow[] = Object.entries(VmcsField)
  .map(([name, encoding], position) => ({
    name,
    encoding,
    width: (encoding >> 13) & 3,
    type: (encoding >> 10) & 3,
    index: (encoding >> 1) & 0x1ff,
    offset: VMCS_REGION.fields + 8 * position,
    feature: FEATURES.get(encoding) ?? FieldFeature.Always,
  }));

/** Offset by full encoding, 0 for an encoding that names no field. */
const OFFSETS = new Uint16Array(0x8000);
const ROWS = new Map<number, VmcsFieldRow>();
for (const row of VMCS_FIELDS) {
  OFFSETS[row.encoding] = row.offset;
  ROWS.set(row.encoding, row);
}

/** Byte offset of a known field in the VMCS region. */
export function fieldOffset(encoding: number): number {
  return OFFSETS[encoding];
}

/** The field that a VMREAD/VMWRITE encoding names, high halves included. */
export function findField(
  encoding: number,
): { row: VmcsFieldRow; high: boolean } | undefined {
  const high = (encoding & 1) === 1;
  const row = ROWS.get(encoding & ~1);
  // Only 64-bit fields have a high half (SDM 3C table 25-21, bit 0).
  if (row === undefined || (high && row.width !== FieldWidth.Quad)) {
    return undefined;
  }
  return { row, high };
}

/** Mask of the bits a field can hold. */
export function fieldMask(row: VmcsFieldRow): bigint {
  if (row.width === FieldWidth.Word) return 0xffffn;
  if (row.width === FieldWidth.Long) return 0xffff_ffffn;
  return 0xffff_ffff_ffff_ffffn;
}

/** Highest index of any field, for IA32_VMX_VMCS_ENUM bits 9:1. */
export const HIGHEST_FIELD_INDEX: number = VMCS_FIELDS.reduce(
  (most, row) => Math.max(most, row.index),
  0,
);
