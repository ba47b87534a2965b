/**
 * The debug devices that kvm-unit-tests expects (QEMU's pc-testdev, by its
 * observable behaviour): a 32-bit register at ports E0h–E3h that can be reached
 * by parts, a "flush this page" port at E4h, ports 2000h–2017h that drive the
 * interrupt lines 0–23, and 64 KiB of memory behind the device bus.
 * The flush asks a host to drop its mapping of a guest page; our hardware has
 * no such mapping, so that it has no effect that a guest could see.
 */
import { bytesOf, definePlugin, optional, u32 } from "../../core/mod.ts";
import { Devices } from "../../cpu/devices.ts";
import { Irq, IRQ_LINES } from "../pic8259/api.ts";

const REGISTER = 0xe0;
const FLUSH = 0xe4;
const LINES = 0x2000;
/** Where the memory window lies. */
export const TESTDEV_MEMORY = 0xff000000;
const MEMORY_BYTES = 0x10000;

/** Test devices. */
export const testdev = definePlugin({
  name: "testdev",
  version: "1.0.0",
  doc: "Debug devices of kvm-unit-tests: register, interrupt lines, memory",
  role: "participant",
  needs: { devices: Devices, lines: optional(Irq) },
  state: {
    register: u32("What was written to ports E0h–E3h"),
    memory: bytesOf(MEMORY_BYTES, "The memory window"),
  },
  setup({ use, state }) {
    const { devices, lines } = use;
    devices.ports("testdev", REGISTER, REGISTER + 3, {
      in(port, size) {
        const value = state.register >>> (port - REGISTER) * 8;
        return size === 4 ? value : value & (1 << size * 8) - 1;
      },
      out(port, size, value) {
        const shift = (port - REGISTER) * 8;
        const mask = size === 4 ? 0xffffffff : (1 << size * 8) - 1;
        state.register =
          (state.register & ~(mask << shift) | (value & mask) << shift) >>> 0;
      },
    });
    devices.ports("testdev", FLUSH, FLUSH + 3, { in: () => 0, out() {} });
    devices.ports("testdev", LINES, LINES + IRQ_LINES - 1, {
      in: () => 0xff,
      out: (port, _size, value) => lines?.set(port - LINES, value !== 0),
    });
    devices.memory("testdev", TESTDEV_MEMORY, MEMORY_BYTES, {
      read(address, size) {
        const at = address - TESTDEV_MEMORY;
        let value = 0n;
        for (let i = size - 1; i >= 0; i--) {
          value = value << 8n | BigInt(state.memory[at + i]);
        }
        return value;
      },
      write(address, size, value) {
        const at = address - TESTDEV_MEMORY;
        for (let i = 0; i < size; i++) {
          state.memory[at + i] = Number(value >> BigInt(i * 8) & 0xffn);
        }
      },
    });
    return undefined;
  },
});
