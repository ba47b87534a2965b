/**
 * What a PC's chipset has beside its devices (Intel 440FX and PIIX3 data
 * sheets): PCI configuration mechanism #1 with the host bridge as the only
 * function, the reset control register CF9h, port 92h, and the keyboard
 * controller's reset line. A reset ends the machine with status 0, as QEMU's
 * --no-reboot does.
 *
 * There is no keyboard: ports 60h and 64h read all ones, which drivers take for
 * its absence; only the command FEh (pulse the reset line) acts. Memory
 * attributes and SMRAM control are kept without effect: it is RAM everywhere.
 */
import { bytesOf, definePlugin, NotModelled, u32, u8 } from "../../core/mod.ts";
import { Devices } from "../../cpu/devices.ts";
import { PciHost } from "./api.ts";

const ADDRESS = 0xcf8;
const RESET_CONTROL = 0xcf9;
const DATA = 0xcfc;
const ENABLE = 1 << 31;
/** CONFIG_ADDRESS bits that exist: enable, bus, device, function, register. */
const ADDRESS_MASK = 0x80fffffc;
/** CF9h: reset the CPU; bit 1 says how hard. */
const RESET_CPU = 4;
const PORT_92 = 0x92;
const FAST_RESET = 1;
const A20 = 2;
const KEYBOARD_COMMAND = 0x64;
const PULSE_RESET = 0xfe;

/** Configuration registers of the 440FX with their values after reset. */
const HOST_BRIDGE: readonly (readonly [number, readonly number[]])[] = [
  [0x00, [0x86, 0x80, 0x37, 0x12]], // Intel 82441FX
  [0x04, [0x06, 0x00, 0x80, 0x02]], // command, status
  [0x08, [0x02, 0x00, 0x00, 0x06]], // revision; bridge, host
  [0x72, [0x02]],
];
/** Registers that keep what is written: PAM0–6, SMRAM control. */
const isKept = (register: number): boolean =>
  register >= 0x59 && register <= 0x5f || register === 0x72;

/** Chipset. */
export const i440fx = definePlugin({
  name: "i440fx",
  version: "1.0.0",
  doc: "440FX host bridge in PCI configuration space, and the reset ports",
  role: "participant",
  needs: { devices: Devices },
  provides: { host: PciHost },
  state: {
    address: u32("CONFIG_ADDRESS"),
    bridge: bytesOf(256, "Configuration space of function 0:0.0"),
    reset: u8("CF9h, bit 1"),
    port92: u8("Port 92h", A20),
  },
  setup({ use: { devices }, state, stop, provide }) {
    for (const [at, bytes] of HOST_BRIDGE) state.bridge.set(bytes, at);
    const restart = (): void => stop("the guest reset the machine", 0);

    /** Register of the host bridge that a data port reaches, or -1. */
    const selected = (port: number): number => {
      const { address } = state;
      // Bus 0, device 0, function 0; every other function is absent.
      if (!(address & ENABLE) || (address & 0xffff00) !== 0) return -1;
      return (address & 0xfc) + (port - DATA);
    };
    devices.ports("i440fx", ADDRESS, DATA + 3, {
      in(port, size) {
        const ones = size === 4 ? 0xffffffff : (1 << size * 8) - 1;
        if (port === ADDRESS && size === 4) return state.address;
        if (port === RESET_CONTROL) return state.reset;
        const register = port < DATA ? -1 : selected(port);
        if (register < 0) return ones;
        let value = 0;
        for (let i = size - 1; i >= 0; i--) {
          value = value << 8 | state.bridge[register + i];
        }
        return value >>> 0;
      },
      out(port, size, value) {
        if (port === ADDRESS && size === 4) {
          state.address = (value & ADDRESS_MASK) >>> 0;
        } else if (port === RESET_CONTROL && size === 1) {
          state.reset = value & 2;
          if (value & RESET_CPU) restart();
        }
        const register = port < DATA ? -1 : selected(port);
        if (register < 0) return;
        for (let i = 0; i < size; i++) {
          if (isKept(register + i)) {
            state.bridge[register + i] = value >>> i * 8 & 0xff;
          }
        }
      },
    });
    devices.ports("i440fx", PORT_92, PORT_92, {
      in: () => state.port92,
      out(_port, _size, value) {
        if (!(value & A20)) {
          throw new NotModelled("A20 gate closed", "PC/AT; SDM 3A §20.1.1");
        }
        state.port92 = value & A20;
        if (value & FAST_RESET) restart();
      },
    });
    devices.ports("i440fx", KEYBOARD_COMMAND, KEYBOARD_COMMAND, {
      in: (_port, size) => size === 4 ? 0xffffffff : (1 << size * 8) - 1,
      out(_port, _size, value) {
        if ((value & 0xff) === PULSE_RESET) restart();
      },
    });
    provide.host({ firstBus: 0 });
    return undefined;
  },
});
