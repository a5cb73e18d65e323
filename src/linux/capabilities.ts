/**
 * The capabilities of a thread (capabilities(7)) by name. It reads /proc.
 */
import { readFileSync } from 'node:fs';

// linux/capability.h, by bit number.
const CAPABILITIES =
  'CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE NET_BIND_SERVICE NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT SYS_PTRACE SYS_PACCT SYS_ADMIN SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON BPF CHECKPOINT_RESTORE'.split(
    ' ',
  );

/** Names the bits of a hexadecimal mask as in /proc/PID/status. */
export function capabilityNames(mask: string): string[] {
  const bits = BigInt(`0x${mask}`);
  return CAPABILITIES.filter((_, bit) => (bits >> BigInt(bit)) & 1n).map((name) => `CAP_${name}`);
}

/** What the calling thread may do; each thread has its own set. */
export function heldCapabilities(): string[] {
  const status = readFileSync('/proc/thread-self/status', 'latin1');
  return capabilityNames(/^CapEff:\s*([0-9a-f]+)/m.exec(status)?.[1] ?? '0');
}
