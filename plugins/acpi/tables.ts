/**
 * The machine's ACPI tables as bytes (ACPI 6.5 §5.2): RSDP, RSDT, XSDT, FADT
 * (revision 3), FACS, MADT and DSDT, for a PC with so many vCPUs. They lie in
 * the 64 KiB below 1 MiB, which every loader's memory map reserves.
 * Invariant: pure functions of the description; each table sums to zero.
 */
import {
  device,
  dwordRange,
  eisaId,
  integer,
  name,
  packageOf,
  ports,
  resources,
  scope,
  Space,
  string,
  wordRange,
} from "./aml.ts";
import { checksum, table, text, u16, u32, u64, u8 } from "./bytes.ts";

/** What the tables tell. */
export interface PcDescription {
  readonly cpus: number;
  /** First I/O port of the power-management block. */
  readonly pmBase: number;
  readonly sciLine: number;
  /** There are local APICs and an IOAPIC. */
  readonly apic: boolean;
  /** There is PCI configuration space, with the reset control register. */
  readonly pci: boolean;
}

/** Tables to be copied to `address`. */
export interface TableImage {
  readonly address: number;
  readonly bytes: Uint8Array;
}

/** Where the tables lie; RSDP first, where guests look for it. */
export const TABLES_AT = 0xf0000;
/** Registers of the PM block, relative to its base (PIIX4's arrangement). */
export const Pm = { Event: 0, Control: 4, Timer: 8, Bytes: 12 } as const;
/** SLP_TYP values of the sleep states. */
export const SleepType = { S5: 0, S3: 1 } as const;
/** Offset of the waking vector in the FACS. */
export const WAKING_VECTOR = 12;

const LAPIC = 0xfee00000;
const IOAPIC = 0xfec00000;
const RESET_PORT = 0xcf9;
const RESET_VALUE = 6;
/** FADT flags (table 5.10). */
const FADT_FLAG = {
  wbinvd: 1 << 0,
  c1: 1 << 2,
  noPowerButton: 1 << 4,
  noSleepButton: 1 << 5,
  resetRegister: 1 << 10,
} as const;
/** IA-PC boot architecture flags (table 5.11): no VGA, no MSI, no ASPM. */
const BOOT_FLAGS = 1 << 0 | 1 << 2 | 1 << 3 | 1 << 4;
/** Generic address structure (§5.2.3.2) of an I/O port. */
const io = (port: number, bits: number): number[] => [
  ...[1, bits, 0, 0],
  ...u64(port),
];
const NO_ADDRESS = new Array<number>(12).fill(0);

/** Differentiated system description table: sleep states, CPUs, PCI root. */
function dsdt(pc: PcDescription): number[] {
  const sleep = (type: number): number[] =>
    packageOf(integer(type), integer(type), integer(0), integer(0));
  const cpus = Array.from({ length: pc.cpus }, (_, i) =>
    device(
      `C${i.toString(16).toUpperCase().padStart(3, "0")}`,
      name("_HID", string("ACPI0007")),
      name("_UID", integer(i)),
    ));
  const pci = device(
    "PCI0",
    name("_HID", eisaId("PNP0A03")),
    name("_UID", integer(0)),
    name("_BBN", integer(0)),
    name("_PRT", packageOf()),
    name(
      "_CRS",
      resources(
        wordRange(Space.Bus, 0, 0xff),
        ports(0xcf8, 8),
        wordRange(Space.Io, 0, 0xcf7),
        wordRange(Space.Io, 0xd00, 0xffff),
        dwordRange(Space.Memory, 0xa0000, 0xbffff),
        dwordRange(Space.Memory, 0xc0000000, 0xfebfffff),
      ),
    ),
  );
  return table("DSDT", 2, [
    ...name("\\_S3", sleep(SleepType.S3)),
    ...name("\\_S5", sleep(SleepType.S5)),
    ...scope("\\_SB", ...cpus, ...pc.pci ? [pci] : []),
  ]);
}

/** Multiple APIC description table (§5.2.12). */
function madt(pc: PcDescription): number[] {
  const PCAT_COMPATIBLE = 1;
  const override = (irq: number, gsi: number, flags: number): number[] => [
    ...[2, 10, 0, irq],
    ...u32(gsi),
    ...u16(flags),
  ];
  const ACTIVE_HIGH_LEVEL = 0xd;
  return table("APIC", 3, [
    ...u32(LAPIC),
    ...u32(PCAT_COMPATIBLE),
    ...Array.from(
      { length: pc.cpus },
      (_, i) => [0, 8, i, i, ...u32(1)],
    ).flat(),
    ...[1, 12, 0, 0, ...u32(IOAPIC), ...u32(0)],
    ...override(0, 2, 0),
    ...override(pc.sciLine, pc.sciLine, ACTIVE_HIGH_LEVEL),
    // Every processor's LINT1 is NMI.
    ...[4, 6, 0xff, ...u16(0), 1],
  ]);
}

/** Fixed ACPI description table, revision 3 (§5.2.9). */
function fadt(pc: PcDescription, facs: number, dsdtAt: number): number[] {
  const port = (offset: number): number => pc.pmBase + offset;
  const reset = pc.pci;
  const flags = FADT_FLAG.wbinvd | FADT_FLAG.c1 | FADT_FLAG.noPowerButton |
    FADT_FLAG.noSleepButton | (reset ? FADT_FLAG.resetRegister : 0);
  const NO_C2 = 101;
  const NO_C3 = 1001;
  const CENTURY = 0x32;
  return table("FACP", 3, [
    ...u32(facs),
    ...u32(dsdtAt),
    ...u8(0),
    ...u8(0), // preferred profile: unspecified
    ...u16(pc.sciLine),
    ...u32(0), // SMI_CMD: always in ACPI mode
    ...[0, 0, 0, 0],
    ...u32(port(Pm.Event)),
    ...u32(0),
    ...u32(port(Pm.Control)),
    ...u32(0),
    ...u32(0),
    ...u32(port(Pm.Timer)),
    ...u32(0),
    ...u32(0),
    ...[4, 2, 0, 4, 0, 0, 0, 0],
    ...u16(NO_C2),
    ...u16(NO_C3),
    ...u16(0),
    ...u16(0),
    ...[0, 0, 0, 0, CENTURY],
    ...u16(BOOT_FLAGS),
    ...u8(0),
    ...u32(flags),
    ...reset ? io(RESET_PORT, 8) : NO_ADDRESS,
    ...u8(reset ? RESET_VALUE : 0),
    ...[0, 0, 0],
    ...u64(facs),
    ...u64(dsdtAt),
    ...io(port(Pm.Event), 32),
    ...NO_ADDRESS,
    ...io(port(Pm.Control), 16),
    ...NO_ADDRESS,
    ...NO_ADDRESS,
    ...io(port(Pm.Timer), 32),
    ...NO_ADDRESS,
    ...NO_ADDRESS,
  ]);
}

/** Firmware ACPI control structure (§5.2.10): signature, length, version. */
function facs(): number[] {
  const bytes = [...text("FACS", 4), ...u32(64), ...new Array(24).fill(0), 1];
  return [...bytes, ...new Array<number>(64 - bytes.length).fill(0)];
}

/** Root system description pointer, revision 2 (§5.2.5.3). */
function rsdp(rsdt: number, xsdt: number): number[] {
  const bytes = [
    ...text("RSD PTR ", 8),
    0,
    ...text("VMTAPE", 6),
    2,
    ...u32(rsdt),
    ...u32(36),
    ...u64(xsdt),
    ...[0, 0, 0, 0],
  ];
  bytes[8] = checksum(bytes.slice(0, 20));
  bytes[32] = checksum(bytes);
  return bytes;
}

/** All tables, and where the FACS is. */
export function acpiTables(
  pc: PcDescription,
): TableImage & { readonly facs: number } {
  const bytes: number[] = new Array<number>(64).fill(0);
  const place = (content: readonly number[]): number => {
    while (bytes.length % 64 !== 0) bytes.push(0);
    bytes.push(...content);
    return TABLES_AT + bytes.length - content.length;
  };
  const facsAt = place(facs());
  const dsdtAt = place(dsdt(pc));
  const listed = [place(fadt(pc, facsAt, dsdtAt))];
  if (pc.apic) listed.push(place(madt(pc)));
  const rsdt = place(table("RSDT", 1, listed.flatMap(u32)));
  const xsdt = place(table("XSDT", 1, listed.flatMap(u64)));
  rsdp(rsdt, xsdt).forEach((byte, i) => bytes[i] = byte);
  return {
    address: TABLES_AT,
    bytes: Uint8Array.from(bytes),
    facs: facsAt,
  };
}
