/**
 * The numbers of NFSv4.1 that this client uses: operations, attribute bits, flags and sizes (RFC 8881, XDR in RFC 5662).
 * Pure data.
 */

/** The RPC program, its version, its procedures, and the minor version in every COMPOUND. */
export const NFS4 = { program: 100003, version: 4, procedureNull: 0, procedureCompound: 1, minorVersion: 1 } as const;

/** The call-back program's procedures (the program number is what CREATE_SESSION names). */
export const CALLBACK = { program: 0x40000000, version: 1, procedureNull: 0, procedureCompound: 1 } as const;

/** `nfs_opnum4`: RFC 8881 section 16.2.3. */
export const Op = {
  access: 3,
  close: 4,
  commit: 5,
  create: 6,
  getattr: 9,
  getfh: 10,
  link: 11,
  lock: 12,
  lockt: 13,
  locku: 14,
  lookup: 15,
  lookupp: 16,
  nverify: 17,
  open: 18,
  openDowngrade: 21,
  putfh: 22,
  putrootfh: 24,
  read: 25,
  readdir: 26,
  readlink: 27,
  remove: 28,
  rename: 29,
  restorefh: 31,
  savefh: 32,
  setattr: 34,
  verify: 37,
  write: 38,
  bindConnToSession: 41,
  exchangeId: 42,
  createSession: 43,
  destroySession: 44,
  freeStateid: 45,
  sequence: 53,
  testStateid: 55,
  destroyClientid: 57,
  reclaimComplete: 58,
  illegal: 10044,
} as const;

/** `nfsstat4` values that the client treats in a way of their own. */
export const Status = {
  ok: 0,
  perm: 1,
  noent: 2,
  access: 13,
  exist: 17,
  notdir: 20,
  isdir: 21,
  inval: 22,
  badCookie: 10003,
  notSame: 10027,
  delay: 10008,
  same: 10009,
  denied: 10010,
  expired: 10011,
  grace: 10013,
  fhexpired: 10014,
  wrongsec: 10016,
  resource: 10018,
  minorVersMismatch: 10021,
  staleClientid: 10022,
  staleStateid: 10023,
  oldStateid: 10024,
  badStateid: 10025,
  symlink: 10029,
  attrnotsupp: 10032,
  noGrace: 10033,
  adminRevoked: 10047,
  badSession: 10052,
  badSlot: 10053,
  completeAlready: 10054,
  connNotBound: 10055,
  backChanBusy: 10057,
  seqMisordered: 10063,
  reqTooBig: 10065,
  repTooBig: 10066,
  repTooBigToCache: 10067,
  retryUncachedRep: 10068,
  tooManyOps: 10070,
  opNotInSession: 10071,
  clientidBusy: 10074,
  seqFalseRetry: 10076,
  badHighSlot: 10077,
  deadSession: 10078,
  wrongType: 10083,
} as const;

/** Attribute numbers: the bit's place in a bitmap (RFC 8881 section 5). */
export const Attr = {
  supportedAttrs: 0,
  type: 1,
  fhExpireType: 2,
  change: 3,
  size: 4,
  linkSupport: 5,
  symlinkSupport: 6,
  fsid: 8,
  leaseTime: 10,
  rdattrError: 11,
  caseInsensitive: 16,
  filehandle: 19,
  fileid: 20,
  filesAvail: 21,
  filesFree: 22,
  filesTotal: 23,
  maxfilesize: 27,
  maxlink: 28,
  maxname: 29,
  maxread: 30,
  maxwrite: 31,
  mode: 33,
  numlinks: 35,
  owner: 36,
  ownerGroup: 37,
  rawdev: 41,
  spaceAvail: 42,
  spaceFree: 43,
  spaceTotal: 44,
  spaceUsed: 45,
  timeAccess: 47,
  timeAccessSet: 48,
  timeMetadata: 52,
  timeModify: 53,
  timeModifySet: 54,
  mountedOnFileid: 55,
  suppattrExclcreat: 75,
} as const;

/** `share_access`: what an OPEN wants to do, and that it wants no delegation. */
export const ShareAccess = { read: 1, write: 2, both: 3, wantNoDelegation: 0x0400 } as const;

/** EXCHANGE_ID flags. */
export const ExchangeFlag = { useNonPnfs: 0x00010000, confirmedReply: 0x80000000 } as const;

/** `sr_status_flags` of SEQUENCE that say that state was lost (RFC 8881 section 18.46.3). */
export const SequenceFlag = {
  cbPathDown: 0x00000001,
  expiredAllStateRevoked: 0x00000008,
  expiredSomeStateRevoked: 0x00000010,
  adminStateRevoked: 0x00000020,
  recallableStateRevoked: 0x00000040,
  leaseMoved: 0x00000080,
  restartReclaimNeeded: 0x00000100,
  cbPathDownSession: 0x00000200,
  backchannelFault: 0x00000400,
} as const;

/** Sizes in bytes, fixed by the protocol. */
export const Size = { sessionId: 16, verifier: 8, stateid: 16, maxHandle: 128 } as const;
