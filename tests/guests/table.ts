/**
 * kvm-unit-tests images that must pass, and what passing is. Flat table: image,
 * its arguments, CPU model, memory in MiB, the number of PASS lines (at least,
 * where `least`), and whether it is short enough for the reference engine.
 */

/** One guest. */
export interface GuestRow {
  readonly name: string;
  readonly image: string;
  readonly append: string;
  readonly cpu: string;
  readonly memory: number;
  readonly passes: number;
  readonly least?: boolean;
  readonly short?: boolean;
  /** Number in the guest's own closing SUMMARY line, where it prints no PASS lines. */
  readonly summary?: number;
  /** Plugins as a scenario names them. */
  readonly plugins?: readonly (string | Record<string, unknown>)[];
}

const row = (
  name: string,
  cpu: string,
  passes: number,
  more: Partial<GuestRow> = {},
): GuestRow => ({
  name,
  image: `${name}.flat`,
  append: "",
  cpu,
  memory: 128,
  passes,
  ...more,
});

/** The guests, in the order in which they run. */
export const GUESTS: readonly GuestRow[] = [
  row("setjmp", "qemu64", 10, { short: true }),
  row("syscall", "qemu64", 2, { short: true }),
  row("umip", "max-intel", 21, { short: true }),
  row("memory", "max-intel", 7, { short: true }),
  row("tsc", "max-intel,-rdpid", 3, { short: true }),
  row("idt_test", "max-intel", 4, { least: true, short: true }),
  row("smap", "max-intel", 18),
  row("rmap_chain", "max-intel", 1),
  row("ept-mbec", "skylake-server", 0, {
    image: "vmx.flat",
    append: "ept_access*",
    memory: 2560,
    summary: 12160,
  }),
  row("ept-mbec emulated", "haswell-server", 0, {
    image: "vmx.flat",
    append: "ept_access*",
    memory: 2560,
    summary: 11648,
    plugins: ["hypervisor", { mbec: { exactness: "exact" } }],
  }),
];
