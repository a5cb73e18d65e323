/**
 * Why a packet was not taken: one small integer for each reason, from the parsers and from the layers above them.
 * Plain data; the values are dense, because each is the index of its counter.
 */

export const Reason = {
  /** Nothing is wrong. */
  OK: 0,

  // ---- Ethernet
  FRAME_SHORT: 1,
  /** An 802.1Q or 802.1ad tag: not for an untagged interface. */
  FRAME_VLAN: 2,
  /** An EtherType that nobody here reads, or an 802.3 length. */
  FRAME_TYPE: 3,
  /** To another station. */
  FRAME_NOT_OURS: 4,
  /** From a group address. */
  FRAME_SOURCE: 5,

  // ---- ARP
  ARP_SHORT: 6,
  /** Not Ethernet and IPv4. */
  ARP_KIND: 7,
  ARP_OPERATION: 8,
  /** The sender's hardware or protocol address cannot be one. */
  ARP_SENDER: 9,
  /** The sender claims an address of ours. */
  ARP_CONFLICT: 10,

  // ---- IP
  IP_SHORT: 11,
  IP_VERSION: 12,
  IP_HEADER_LENGTH: 13,
  IP_TOTAL_LENGTH: 14,
  IP_CHECKSUM: 15,
  /** A source that cannot be one: a group, loopback from the wire, an address of ours. */
  IP_SOURCE: 16,
  IP_NOT_OURS: 17,
  /** A packet to one host in a frame to all (RFC 1122 3.3.6). */
  IP_LINK_BROADCAST: 18,
  IP_PROTOCOL: 19,
  /** An extension header is cut off or out of place, or there are too many of them. */
  IP_EXTENSION: 20,
  /** An option that is malformed, or that says to discard the packet where it is unknown (RFC 8200 4.2). */
  IP_OPTION: 21,
  /** A routing header with segments left (RFC 5095, RFC 8200 4.4). */
  IP_ROUTING: 22,

  // ---- Fragments
  /** Not a multiple of 8 bytes, empty, or beyond 65535 (RFC 791, RFC 8200 4.5). */
  FRAGMENT_LENGTH: 23,
  /** Overlaps another with other bytes: the whole datagram is given up (RFC 5722). */
  FRAGMENT_OVERLAP: 24,
  /** The same again. */
  FRAGMENT_DUPLICATE: 25,
  FRAGMENT_TIMEOUT: 26,
  /** Given up for a newer datagram, or more fragments than a datagram may have. */
  FRAGMENT_LIMIT: 27,
  /** The first one does not hold the whole chain of headers (RFC 7112). */
  FRAGMENT_HEADERS: 28,

  // ---- ICMP
  ICMP_SHORT: 29,
  ICMP_CHECKSUM: 30,
  /** A type or code that is not read here. */
  ICMP_TYPE: 31,
  /** An error whose quoted packet is not one of ours, or is cut off. */
  ICMP_QUOTE: 32,
  /** More requests than the limit allows answers to. */
  ICMP_RATE: 33,
  /** A request to a group. */
  ICMP_GROUP: 34,
  /** "Too big" with a size that cannot be true, or that tells nothing new. */
  ICMP_MTU: 35,

  // ---- Neighbour discovery
  NDP_SHORT: 36,
  /** Hop limit other than 255: it came through a router (RFC 4861 7.1). */
  NDP_HOP_LIMIT: 37,
  /** A field or option that RFC 4861 7.1 forbids. */
  NDP_INVALID: 38,
  /** In fragments (RFC 6980). */
  NDP_FRAGMENT: 39,
  /** Another host has an address of ours. */
  NDP_CONFLICT: 40,
  /** Router advertisements, solicitations and redirects: routes are configured. */
  NDP_IGNORED: 41,
  /** A solicitation for an address that is not ours. */
  NDP_NOT_OURS: 42,

  // ---- UDP and TCP
  UDP_SHORT: 43,
  UDP_LENGTH: 44,
  UDP_CHECKSUM: 45,
  UDP_PORT: 46,
  UDP_QUEUE_FULL: 47,
  /** A TCP segment to a group, or no TCP here. */
  TCP_UNWANTED: 48,

  // ---- On the way out
  /** The heap is used up. */
  NO_BUFFER: 49,
  /** The device takes no more now. */
  DEVICE_FULL: 50,
  NO_ROUTE: 51,
  /** Larger than the path takes, and not to be fragmented. */
  TOO_LONG: 52,
  /** The next hop does not answer. */
  NEIGHBOUR_UNREACHABLE: 53,
  /** Too many packets wait for the next hop's answer. */
  NEIGHBOUR_QUEUE: 54,
  /** Every neighbour in the table is in use. */
  NEIGHBOUR_TABLE: 55,
  LOOPBACK_FULL: 56,
} as const;
export type Reason = (typeof Reason)[keyof typeof Reason];

export const REASONS = 57;

/** Names in the order of the values, as in `ipChecksum`. */
export const REASON_NAMES: readonly string[] = Object.keys(Reason).map((key) =>
  key.toLowerCase().replace(/_([a-z0-9])/g, (_, letter: string) => letter.toUpperCase()),
);
