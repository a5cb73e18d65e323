/**
 * The numbers of io_uring's interface (include/uapi/linux/io_uring.h, io_uring_setup(2), io_uring_enter(2)).
 * Constants only.
 */

/** System call numbers; the same on every architecture. */
export const SYS_IO_URING_SETUP = 425;
export const SYS_IO_URING_ENTER = 426;
export const SYS_IO_URING_REGISTER = 427;

/** io_uring_setup flags. */
export const Setup = {
  CQSIZE: 1 << 3,
  CLAMP: 1 << 4,
  SUBMIT_ALL: 1 << 7,
  COOP_TASKRUN: 1 << 8,
  TASKRUN_FLAG: 1 << 9,
  SINGLE_ISSUER: 1 << 12,
  DEFER_TASKRUN: 1 << 13,
  NO_MMAP: 1 << 14,
  NO_SQARRAY: 1 << 16,
} as const;

/** io_uring_params.features. */
export const Feature = {
  SINGLE_MMAP: 1 << 0,
  NODROP: 1 << 1,
  EXT_ARG: 1 << 8,
  CQE_SKIP: 1 << 11,
  RECVSEND_BUNDLE: 1 << 14,
  MIN_TIMEOUT: 1 << 15,
  NO_IOWAIT: 1 << 17,
} as const;

/** Operation codes. */
export const Op = {
  NOP: 0,
  POLL_ADD: 6,
  POLL_REMOVE: 7,
  SENDMSG: 9,
  RECVMSG: 10,
  TIMEOUT: 11,
  TIMEOUT_REMOVE: 12,
  ACCEPT: 13,
  ASYNC_CANCEL: 14,
  LINK_TIMEOUT: 15,
  CONNECT: 16,
  CLOSE: 19,
  FILES_UPDATE: 20,
  READ: 22,
  WRITE: 23,
  SEND: 26,
  RECV: 27,
  SHUTDOWN: 34,
  MSG_RING: 40,
  SOCKET: 45,
  SEND_ZC: 47,
  SENDMSG_ZC: 48,
  FIXED_FD_INSTALL: 54,
} as const;

/** Flags of a submission (sqe.flags), combined by `|` in the `flags` argument of the prep functions. */
export const SqeFlag = {
  /** The descriptor is a slot of the registered file table. */
  FIXED_FILE: 1 << 0,
  DRAIN: 1 << 1,
  LINK: 1 << 2,
  HARDLINK: 1 << 3,
  ASYNC: 1 << 4,
  BUFFER_SELECT: 1 << 5,
  /** No completion if it succeeds. */
  CQE_SKIP: 1 << 6,
} as const;

/** Flags of a completion. */
export const CqeFlag = {
  /** The upper 16 bits of the flags are the id of the provided buffer that holds the data. */
  BUFFER: 1 << 0,
  /** The multishot operation goes on; without it, it has ended and must be armed again. For SEND_ZC: a NOTIF follows. */
  MORE: 1 << 1,
  SOCK_NONEMPTY: 1 << 2,
  /** Of a zero-copy send: the memory may be used again. */
  NOTIF: 1 << 3,
  BUF_MORE: 1 << 4,
} as const;
export const CQE_BUFFER_SHIFT = 16;

/** sqe.ioprio of accept, recv and send. */
export const ACCEPT_MULTISHOT = 1 << 0;
export const RECVSEND_POLL_FIRST = 1 << 0;
export const RECV_MULTISHOT = 1 << 1;
export const RECVSEND_FIXED_BUF = 1 << 2;
export const SEND_ZC_REPORT_USAGE = 1 << 3;
export const RECVSEND_BUNDLE = 1 << 4;

export const POLL_ADD_MULTI = 1 << 0;
export const ASYNC_CANCEL_ALL = 1 << 0;
export const ASYNC_CANCEL_FD = 1 << 1;
export const ASYNC_CANCEL_ANY = 1 << 2;
export const ASYNC_CANCEL_FD_FIXED = 1 << 3;
export const TIMEOUT_MULTISHOT = 1 << 6;

/** In place of a slot number: the kernel takes a free slot of the file table. */
export const FILE_INDEX_ALLOC = -1;

export const ENTER_GETEVENTS = 1 << 0;
export const ENTER_EXT_ARG = 1 << 3;
/** The first argument is an index of a registered ring, not a descriptor. */
export const ENTER_REGISTERED_RING = 1 << 4;
/** A sleep here is not a wait for a disk: it does not count as one. */
export const ENTER_NO_IOWAIT = 1 << 7;

/** sq.flags: completions wait in the kernel for room in the queue; task work waits for an enter. */
export const SQ_CQ_OVERFLOW = 1 << 1;
export const SQ_TASKRUN = 1 << 2;
/** cq.flags */
export const CQ_EVENTFD_DISABLED = 1 << 0;

/** io_uring_register opcodes. */
export const Register = {
  BUFFERS: 0,
  UNREGISTER_BUFFERS: 1,
  FILES: 2,
  UNREGISTER_FILES: 3,
  EVENTFD: 4,
  UNREGISTER_EVENTFD: 5,
  FILES_UPDATE: 6,
  PROBE: 8,
  EVENTFD_ASYNC: 7,
  FILES2: 13,
  RING_FDS: 20,
  UNREGISTER_RING_FDS: 21,
  PBUF_RING: 22,
  UNREGISTER_PBUF_RING: 23,
  SYNC_CANCEL: 24,
  FILE_ALLOC_RANGE: 25,
} as const;
export const RSRC_REGISTER_SPARSE = 1;
