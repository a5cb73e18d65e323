/**
 * Room in front of every packet that a veth pair takes from AF_XDP: without it generic XDP moves each to a larger head.
 * It touches the namespace of the calling thread, with devices of its own that stay down; they end with the namespace.
 *
 * Generic XDP promises its program 256 bytes in front of a packet (XDP_PACKET_HEADROOM). A packet that AF_XDP makes of a frame
 * has what its device says that it needs (needed_headroom; 64 bytes at least), and a veth says what it was told. Who tells is a
 * bridge: the largest need among its ports, to every one of them (ndo_set_rx_headroom), and a veth passes it on to its peer.
 * Tunnels need room for what they put in front: a VXLAN 64 bytes more than the device below it.
 */
import { XDP_PACKET_HEADROOM } from './af-xdp.ts';
import { NetworkSetup } from './network-setup.ts';

const VXLAN_BYTES = 64;
const BRIDGE = 'headroom';

/** An end of a veth pair that is asked for the room, or not. While it is, the kernel takes no packets from it. */
export class Headroom {
  readonly #interfaceIndex: number;
  #bridge = 0;
  #reserved = false;

  constructor(interfaceIndex: number) {
    this.#interfaceIndex = interfaceIndex;
  }

  /** @throws IsthmusError EPERM without CAP_NET_ADMIN, EOPNOTSUPP where the kernel has no VXLAN or no bridges */
  reserve(wanted: boolean): void {
    if (wanted === this.#reserved) return;
    const setup = new NetworkSetup();
    try {
      if (this.#bridge === 0) this.#bridge = tower(setup);
      setup.setLink(this.#interfaceIndex, { bridge: wanted ? this.#bridge : 0 });
      this.#reserved = wanted;
    } finally {
      setup.close();
    }
  }
}

/** A bridge with one port, that needs the room. @returns its index */
function tower(setup: NetworkSetup): number {
  let top = 0;
  for (let bytes = VXLAN_BYTES; bytes <= XDP_PACKET_HEADROOM; bytes += VXLAN_BYTES) {
    const name = `headroom-${bytes}`;
    setup.createVxlan(name, { network: bytes, below: top });
    top = setup.link(name)!.index;
  }
  setup.createBridge(BRIDGE);
  const bridge = setup.link(BRIDGE)!.index;
  setup.setLink(top, { bridge });
  return bridge;
}
