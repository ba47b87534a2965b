/**
 * The device bus: which plugin answers which I/O port and which physical page
 * (design §9; platform.md: unclaimed ports and addresses read all ones).
 *
 * Claims are made while plugins load and never change afterwards, so they are
 * configuration, not state. Two claims of one port or page are an error that
 * names both owners.
 */
import {
  ConfigError,
  messageOf,
  PluginError,
  VmtapeError,
} from "../core/errors.ts";
import { defineService } from "../core/service.ts";
import { PAGE_SIZE } from "./layout.ts";
import type { DeviceBus } from "./port.ts";

/** Handler of a port range. Values are zero-extended to the access size. */
export interface PortHandler {
  in(port: number, size: 1 | 2 | 4): number;
  out(port: number, size: 1 | 2 | 4, value: number): void;
}

/** Handler of a physical-memory range; addresses are host-physical. */
export interface MemoryHandler {
  read(address: number, size: 1 | 2 | 4 | 8): bigint;
  write(address: number, size: 1 | 2 | 4 | 8, value: bigint): void;
}

/** Handler of memory that the guest moves (the local APIC's registers). */
export interface MovableHandler extends MemoryHandler {
  /** Whether a page above RAM is this handler's for the access that runs. */
  covers(physicalPage: number): boolean;
}

/** What device plugins get: claiming, nothing else. */
export interface DeviceClaims {
  /** @throws ConfigError when a port is taken */
  ports(owner: string, first: number, last: number, handler: PortHandler): void;
  /**
   * Claims whole 4-KiB pages.
   * @throws ConfigError when a page is taken or lies in RAM
   */
  memory(
    owner: string,
    address: number,
    bytes: number,
    handler: MemoryHandler,
  ): void;
  /** Claims pages above RAM by asking at each access; fixed claims go first. */
  movable(owner: string, handler: MovableHandler): void;
}
/** Token of the machine's device bus. */
export const Devices = defineService<DeviceClaims>("cpu.devices", {
  doc: "Claims of I/O ports and device memory",
});

interface Claim<H> {
  readonly owner: string;
  readonly handler: H;
}

/** The bus of one machine. */
export class DeviceSpace implements DeviceBus, DeviceClaims {
  private readonly portClaims = new Map<number, Claim<PortHandler>>();
  private readonly pageClaims = new Map<number, Claim<MemoryHandler>>();
  private readonly movables: Claim<MovableHandler>[] = [];

  constructor(private readonly ramBytes: number) {}

  ports(
    owner: string,
    first: number,
    last: number,
    handler: PortHandler,
  ): void {
    for (let port = first; port <= last; port++) {
      const taken = this.portClaims.get(port);
      if (taken) {
        throw new ConfigError(
          `claim port 0x${port.toString(16)} for ${owner}: it belongs to ` +
            `${taken.owner}; remove one of the two plugins`,
        );
      }
      this.portClaims.set(port, { owner, handler });
    }
  }

  memory(
    owner: string,
    address: number,
    bytes: number,
    handler: MemoryHandler,
  ): void {
    if (address < this.ramBytes) {
      throw new ConfigError(
        `claim memory 0x${address.toString(16)} for ${owner}: RAM reaches to ` +
          `0x${this.ramBytes.toString(16)}; give the machine less memory`,
      );
    }
    const last = Math.floor((address + bytes - 1) / PAGE_SIZE);
    for (let page = Math.floor(address / PAGE_SIZE); page <= last; page++) {
      const taken = this.pageClaims.get(page);
      if (taken) {
        throw new ConfigError(
          `claim page 0x${
            (page * PAGE_SIZE).toString(16)
          } for ${owner}: it belongs to ${taken.owner}; remove one of the two`,
        );
      }
      this.pageClaims.set(page, { owner, handler });
    }
  }

  movable(owner: string, handler: MovableHandler): void {
    this.movables.push({ owner, handler });
  }

  private claimOf(page: number): Claim<MemoryHandler> | undefined {
    return this.pageClaims.get(page) ??
      this.movables.find(({ handler }) => handler.covers(page));
  }

  in(port: number, size: 1 | 2 | 4): number {
    const claim = this.portClaims.get(port);
    if (claim === undefined) {
      return size === 4 ? 0xffffffff : (1 << size * 8) - 1;
    }
    try {
      return claim.handler.in(port, size);
    } catch (thrown) {
      throw blame(claim.owner, `read of port 0x${port.toString(16)}`, thrown);
    }
  }

  out(port: number, size: 1 | 2 | 4, value: number): void {
    const claim = this.portClaims.get(port);
    try {
      claim?.handler.out(port, size, value);
    } catch (thrown) {
      const { owner } = claim!;
      throw blame(owner, `write of port 0x${port.toString(16)}`, thrown);
    }
  }

  claims(physicalPage: number): boolean {
    return this.claimOf(physicalPage) !== undefined;
  }

  read(address: number, size: 1 | 2 | 4 | 8): bigint {
    const claim = this.claimOf(Math.floor(address / PAGE_SIZE));
    if (claim === undefined) return (1n << BigInt(size * 8)) - 1n;
    try {
      return claim.handler.read(address, size);
    } catch (thrown) {
      throw blame(claim.owner, `read of 0x${address.toString(16)}`, thrown);
    }
  }

  write(address: number, size: 1 | 2 | 4 | 8, value: bigint): void {
    const claim = this.claimOf(Math.floor(address / PAGE_SIZE));
    try {
      claim?.handler.write(address, size, value);
    } catch (thrown) {
      const { owner } = claim!;
      throw blame(owner, `write of 0x${address.toString(16)}`, thrown);
    }
  }
}

/** What a device's handler threw, as its plugin's mistake. */
function blame(owner: string, what: string, thrown: unknown): unknown {
  if (thrown instanceof VmtapeError) return thrown;
  return new PluginError(
    owner,
    `plugin ${owner}, ${what}: ${messageOf(thrown)}, correct its handler`,
    thrown,
  );
}
