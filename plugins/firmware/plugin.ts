/**
 * What a BIOS leaves behind for guests that stay in real mode (platform.md §6):
 * an interrupt vector table whose handlers end their interrupt and return, the
 * 8259 pair at vectors 8 and 70h with the timer's line open, and the 8254
 * ticking at 18.2 Hz. There is no BIOS service: INT n returns at once.
 * Nothing is placed over a guest's image: RAM there must be zero.
 */
import { ConfigError, definePlugin } from "../../core/mod.ts";
import { Devices } from "../../cpu/devices.ts";
import { HardwareAccess } from "../../cpu/hardware.ts";

const SEGMENT = 0xf000;
/** Handlers at F000:FE00, above the ACPI tables. */
const STUBS = 0xfe00;
const EOI = 0x20;
const MASTER = 0x20;
const SLAVE = 0xa0;
const MASTER_VECTOR = 0x08;
const SLAVE_VECTOR = 0x70;
/** Open: the timer and the cascade. */
const MASTER_MASK = 0xfa;
const SLAVE_MASK = 0xff;

const IRET = 0xcf;
/** push ax; mov al, EOI; (out SLAVE, al;) out MASTER, al; pop ax; iret */
const end = (...ports: readonly number[]): number[] => [
  ...[0x50, 0xb0, EOI],
  ...ports.flatMap((port) => [0xe6, port]),
  ...[0x58, IRET],
];
const HANDLERS = {
  none: [IRET],
  master: end(MASTER),
  slave: end(SLAVE, MASTER),
} as const;

/** Writes to ports, in order, that leave the devices as a BIOS does. */
const SETTINGS: readonly (readonly [number, number])[] = [
  ...[[MASTER, 0x11], [SLAVE, 0x11]] as const,
  ...[[MASTER + 1, MASTER_VECTOR], [SLAVE + 1, SLAVE_VECTOR]] as const,
  ...[[MASTER + 1, 4], [SLAVE + 1, 2], [MASTER + 1, 1], [
    SLAVE + 1,
    1,
  ]] as const,
  ...[[MASTER + 1, MASTER_MASK], [SLAVE + 1, SLAVE_MASK]] as const,
  // Channel 0, both bytes, mode 3, count 65536.
  ...[[0x43, 0x36], [0x40, 0], [0x40, 0]] as const,
];

/** Real-mode leftovers of a BIOS. */
export const firmware = definePlugin({
  name: "firmware",
  version: "1.0.0",
  doc: "Interrupt vectors, 8259 and 8254 as a BIOS leaves them to real mode",
  role: "participant",
  needs: { hardware: HardwareAccess, devices: Devices },
  setup({ use: { hardware } }) {
    hardware.onStart(() => {
      const { physical, cpus } = hardware;
      const put = (address: number, bytes: readonly number[]): void => {
        const place = physical.readBytes(address, bytes.length);
        if (place.length < bytes.length || place.some((byte) => byte !== 0)) {
          throw new ConfigError(
            `start the machine with plugin firmware: the guest's image lies ` +
              `at 0x${address.toString(16)}, where its vectors and handlers ` +
              `belong; load the guest elsewhere or leave the plugin out`,
          );
        }
        physical.writeBytes(address, Uint8Array.from(bytes));
      };
      let next = STUBS;
      const at = Object.fromEntries(
        Object.entries(HANDLERS).map(([name, bytes]) => {
          const offset = next;
          put(SEGMENT * 16 + offset, bytes);
          next += bytes.length;
          return [name, offset];
        }),
      );
      const vectors = Array.from({ length: 256 }, (_, vector) => {
        const offset = vector >> 3 === MASTER_VECTOR >> 3
          ? at.master
          : vector >> 3 === SLAVE_VECTOR >> 3
          ? at.slave
          : at.none;
        return [offset & 0xff, offset >> 8, SEGMENT & 0xff, SEGMENT >> 8];
      });
      put(0, vectors.flat());
      for (const [port, value] of SETTINGS) cpus[0].devices.out(port, 1, value);
    });
    return undefined;
  },
});
