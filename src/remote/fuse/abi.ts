/**
 * Numbers of the FUSE kernel protocol, version 7.31 and what later versions added compatibly (linux/fuse.h).
 * Constants only.
 */

export const FUSE_MAJOR = 7;
/** The oldest kernel protocol spoken: Linux 5.4. */
export const FUSE_MINOR_MIN = 31;
/** The newest whose layouts are known here; a newer kernel speaks this one. */
export const FUSE_MINOR_MAX = 38;

export const FUSE_ROOT_ID = 1;

export const Opcode = {
  LOOKUP: 1,
  FORGET: 2,
  GETATTR: 3,
  SETATTR: 4,
  READLINK: 5,
  SYMLINK: 6,
  MKNOD: 8,
  MKDIR: 9,
  UNLINK: 10,
  RMDIR: 11,
  RENAME: 12,
  LINK: 13,
  OPEN: 14,
  READ: 15,
  WRITE: 16,
  STATFS: 17,
  RELEASE: 18,
  FSYNC: 20,
  SETXATTR: 21,
  GETXATTR: 22,
  LISTXATTR: 23,
  REMOVEXATTR: 24,
  FLUSH: 25,
  INIT: 26,
  OPENDIR: 27,
  READDIR: 28,
  RELEASEDIR: 29,
  FSYNCDIR: 30,
  GETLK: 31,
  SETLK: 32,
  SETLKW: 33,
  ACCESS: 34,
  CREATE: 35,
  INTERRUPT: 36,
  BMAP: 37,
  DESTROY: 38,
  IOCTL: 39,
  POLL: 40,
  NOTIFY_REPLY: 41,
  BATCH_FORGET: 42,
  FALLOCATE: 43,
  READDIRPLUS: 44,
  RENAME2: 45,
  LSEEK: 46,
  COPY_FILE_RANGE: 47,
  SYNCFS: 50,
  TMPFILE: 51,
  STATX: 52,
} as const;

/** Flags of INIT, low word. */
export const InitFlag = {
  ASYNC_READ: 1 << 0,
  ATOMIC_O_TRUNC: 1 << 3,
  BIG_WRITES: 1 << 5,
  AUTO_INVAL_DATA: 1 << 12,
  DO_READDIRPLUS: 1 << 13,
  ASYNC_DIO: 1 << 15,
  PARALLEL_DIROPS: 1 << 18,
  HANDLE_KILLPRIV: 1 << 19,
  ABORT_ERROR: 1 << 21,
  MAX_PAGES: 1 << 22,
  CACHE_SYMLINKS: 1 << 23,
} as const;

/** Which fields of SETATTR count. */
export const SetattrValid = {
  MODE: 1 << 0,
  UID: 1 << 1,
  GID: 1 << 2,
  SIZE: 1 << 3,
  ATIME: 1 << 4,
  MTIME: 1 << 5,
  FH: 1 << 6,
  ATIME_NOW: 1 << 7,
  MTIME_NOW: 1 << 8,
  CTIME: 1 << 10,
} as const;

/** Flags of the replies to OPEN and CREATE. */
export const OpenFlag = {
  DIRECT_IO: 1 << 0,
  KEEP_CACHE: 1 << 1,
  NOFLUSH: 1 << 5,
} as const;

export const GETATTR_FH = 1;

/** Codes of notifications: a message that answers no request. */
export const Notify = { INVAL_INODE: 2, INVAL_ENTRY: 3 } as const;

export const IN_HEADER_BYTES = 40;
export const OUT_HEADER_BYTES = 16;
const ATTR_BYTES = 88;
export const ENTRY_OUT_BYTES = 40 + ATTR_BYTES;
export const INIT_OUT_BYTES = 64;
export const STATFS_OUT_BYTES = 80;
/** A directory entry before its name. */
export const DIRENT_BYTES = 24;
/** The kernel's own limit on a name or a link's target in a request; older ones send names of up to 1024. */
export const PATH_BYTES_MAX = 4096;
/** Least length of each request's body, beside the header; names count their closing NUL. */
export const BODY_BYTES: Readonly<Record<number, number>> = {
  [Opcode.LOOKUP]: 2,
  [Opcode.FORGET]: 8,
  [Opcode.GETATTR]: 16,
  [Opcode.SETATTR]: 88,
  [Opcode.READLINK]: 0,
  [Opcode.SYMLINK]: 4,
  [Opcode.MKNOD]: 18,
  [Opcode.MKDIR]: 10,
  [Opcode.UNLINK]: 2,
  [Opcode.RMDIR]: 2,
  [Opcode.RENAME]: 12,
  [Opcode.LINK]: 10,
  [Opcode.OPEN]: 8,
  [Opcode.READ]: 40,
  [Opcode.WRITE]: 40,
  [Opcode.STATFS]: 0,
  [Opcode.RELEASE]: 24,
  [Opcode.FSYNC]: 16,
  [Opcode.FLUSH]: 24,
  [Opcode.INIT]: 16,
  [Opcode.OPENDIR]: 8,
  [Opcode.READDIR]: 40,
  [Opcode.READDIRPLUS]: 40,
  [Opcode.RELEASEDIR]: 24,
  [Opcode.FSYNCDIR]: 16,
  [Opcode.CREATE]: 18,
  [Opcode.INTERRUPT]: 8,
  [Opcode.DESTROY]: 0,
  [Opcode.BATCH_FORGET]: 8,
  [Opcode.RENAME2]: 20,
  [Opcode.ACCESS]: 8,
};
