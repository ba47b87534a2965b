/**
 * Reads one entry of 32-bit, PAE, 4- or 5-level paging (SDM 3A §4.3–4.5, APM 2
 * §5.3–5.5): what it points to, whether it maps a page, and whether a reserved
 * bit is set. Guest paging and nested paging share it; the controls that decide
 * (NXE, PSE) are the guest's for the first and the host's for the second.
 *
 * Results stay in fields; nothing is allocated.
 */
import type { CpuModel } from "../../cpu/arch/models.ts";
import { Entry, ENTRY_XD_HIGH, Format, Level } from "./formats.ts";

/** See the file header. One reader a walker. */
export class EntryReader {
  /** After reading: the entry maps a page. */
  leaf = false;
  /** After reading: a reserved bit is set. */
  reserved = false;
  /** Page number of the table pointed to; of the page translated for a leaf. */
  page = 0;
  /** Attribute size code of a leaf. */
  size = 0;

  private physicalBits = 0;
  private maxPage = 0;
  private gigabytePages = false;
  private pse36 = false;
  private amd = false;
  private model: CpuModel | undefined;

  /** Which CPU decides about widths and page sizes, for the entries to come. */
  of(model: CpuModel): void {
    if (this.model === model) return;
    this.model = model;
    this.physicalBits = model.physicalAddressBits;
    this.maxPage = 2 ** (this.physicalBits - 12);
    this.gigabytePages = model.has("pdpe1gb");
    this.pse36 = model.has("pse36");
    this.amd = model.vendor === "AuthenticAMD";
  }

  /**
   * @param format a Format other than Ept
   * @param page page number that is being translated
   * @param nxe bit 63 is XD, not reserved
   * @param pse 32-bit paging has 4-MByte pages
   */
  read(
    format: number,
    level: number,
    low: number,
    high: number,
    page: number,
    nxe: boolean,
    pse: boolean,
  ): void {
    if (format === Format.Legacy32) this.legacy(level, low, page, pse);
    else this.wide(format, level, low, high, page, nxe);
  }

  private legacy(level: number, low: number, page: number, pse: boolean): void {
    this.leaf = level === Level.Pte || (pse && (low & Entry.PS) !== 0);
    this.page = low >>> 12;
    this.reserved = false;
    this.size = 0;
    if (level === Level.Pte || !this.leaf) return;
    // PSE-36 (SDM 3A §4.3): bits 20:13 are address bits 39:32.
    this.reserved = (low & (this.pse36 ? 1 << 21 : 0x3fe000)) !== 0;
    this.page = (low >>> 22) * 1024 + ((low >>> 13) & 0xff) * 2 ** 20 +
      page % 1024;
    if (this.page >= this.maxPage) this.reserved = true;
    this.size = 2;
  }

  private wide(
    format: number,
    level: number,
    low: number,
    high: number,
    page: number,
    nxe: boolean,
  ): void {
    const next = (high & 0xfffff) * 2 ** 20 + (low >>> 12);
    this.page = next;
    this.size = 0;
    this.leaf = level === Level.Pte;
    let reserved = next >= this.maxPage ||
      (!nxe && (high & ENTRY_XD_HIGH) !== 0);
    if (format === Format.Pae) {
      if (high & 0x7ff00000) reserved = true;
      if (level === Level.Pdpte) {
        // No rights, no flags, no XD (SDM 3A table 4-8).
        this.reserved = reserved || (low & 0x1e6) !== 0 ||
          (high & ENTRY_XD_HIGH) !== 0;
        return;
      }
    }
    if (level >= Level.Pml4e) {
      // AMD reserves bit 8 too (APM 2 §5.3.3).
      if (low & (this.amd ? Entry.PS | Entry.G : Entry.PS)) reserved = true;
    } else if (level > Level.Pte && low & Entry.PS) {
      if (level === Level.Pdpte && !this.gigabytePages) reserved = true;
      this.leaf = true;
      // Bit 12 is PAT; the other address bits below the page are reserved.
      const below = level === Level.Pdpte ? 2 ** 18 : 2 ** 9;
      if ((next - (next & 1)) % below !== 0) reserved = true;
      this.page = next - next % below + page % below;
      this.size = level === Level.Pdpte ? 3 : 1;
    }
    this.reserved = reserved;
  }
}
