/**
 * Which errors concern one datagram only, so that a server goes on with the next.
 * Pure: it reads an error's code and touches nothing.
 */

/** Its receiver cannot be reached, is not there, or it is too long for the way (udp(7), ip(7), icmp(7)). */
const ONE_DATAGRAM = new Set([
  'ECONNREFUSED',
  'EHOSTUNREACH',
  'EHOSTDOWN',
  'ENETUNREACH',
  'ENETDOWN',
  'EMSGSIZE',
  'EACCES',
  'EPERM',
  'EINVAL',
  'ENOBUFS',
  'ENOMEM',
]);

/** True where the error says nothing against the socket. */
export function concernsOneDatagram(error: unknown): boolean {
  return ONE_DATAGRAM.has((error as { code?: string }).code ?? '');
}
