/**
 * What a bulk flow reports, in the form of a load's report, so that the harness needs no other: a message is one piece.
 * Pure.
 */

/** Bytes that are pushed at once. */
export const PIECE_BYTES = 65_000;

export function streamReport(bytes: number, seconds: number, cpuNs: number): object {
  const messages = bytes / PIECE_BYTES;
  return {
    messages,
    messagesPerSecond: messages / seconds,
    errors: { refused: 0, reset: 0, closed: 0, timeout: 0, unanswered: 0, wrong: 0, protocol: 0, other: 0 },
    load: { cpu: cpuNs / 1e9 / seconds, cpuNsPerMessage: cpuNs / Math.max(1, messages) },
  };
}
