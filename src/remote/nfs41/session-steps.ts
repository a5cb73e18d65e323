/**
 * The steps that make, use and end a client id and its session (RFC 8881 sections 18.34 to 18.37, 18.46, 18.50, 18.51).
 * Pure.
 */
import type { XdrReader, XdrWriter } from '../xdr.ts';
import { CALLBACK, Op, Size } from './constants.ts';
import { nothing, opaqueBytes, type Stateid, type Step } from './step.ts';

const MAX_NAME = 1024;
const MAX_STATEIDS = 4096;

/** A slot's place in a request. Fields change between transmissions to different sessions, never between retransmissions. */
export interface SequenceArguments {
  sessionId: Uint8Array;
  sequenceId: number;
  slot: number;
  highestSlot: number;
  /** The server is to keep the reply until the slot is used again. */
  keepReply: boolean;
}

export interface SequenceReply {
  readonly sequenceId: number;
  readonly slot: number;
  readonly targetHighestSlot: number;
  readonly flags: number;
}

export function sequence(args: SequenceArguments): Step<SequenceReply> {
  return {
    op: Op.sequence,
    name: 'SEQUENCE',
    requestBytes: 4 + Size.sessionId + 16,
    replyBytes: 64,
    changes: false,
    encode(writer) {
      writer.fixed(args.sessionId);
      writer.halves(args.sequenceId, args.slot);
      writer.u32(args.highestSlot);
      writer.bool(args.keepReply);
    },
    decode(reader) {
      reader.skip(Size.sessionId);
      const sequenceId = reader.u32();
      const slot = reader.u32();
      reader.u32(); // the highest slot it has, of no use
      return { sequenceId, slot, targetHighestSlot: reader.u32(), flags: reader.u32() };
    },
  };
}

export interface ClientId {
  readonly high: number;
  readonly low: number;
}

export interface ExchangeIdReply {
  readonly client: ClientId;
  readonly sequenceId: number;
  readonly flags: number;
  /** Equal on all addresses of one server. */
  readonly serverOwner: Uint8Array;
}

/** No state protection (SP4_NONE), no implementation id. */
export function exchangeId(verifier: Uint8Array, owner: Uint8Array, flags: number): Step<ExchangeIdReply> {
  return {
    op: Op.exchangeId,
    name: 'EXCHANGE_ID',
    requestBytes: 24 + Size.verifier + opaqueBytes(owner),
    replyBytes: 4096,
    changes: true,
    encode(writer) {
      writer.fixed(verifier);
      writer.opaque(owner);
      writer.u32(flags);
      writer.u32(0);
      writer.u32(0);
    },
    decode(reader) {
      const client = { high: reader.u32(), low: reader.u32() };
      const sequenceId = reader.u32();
      const given = reader.u32();
      reader.enumeration(0, 0, 'state protection that was asked for');
      reader.skip(8);
      const serverOwner = reader.opaque(MAX_NAME);
      reader.opaque(MAX_NAME);
      const implementations = reader.count(20, 1);
      for (let i = 0; i < implementations; i++) {
        reader.opaque(MAX_NAME);
        reader.opaque(MAX_NAME);
        reader.skip(12);
      }
      return { client, sequenceId, flags: given, serverOwner };
    },
  };
}

/** `channel_attrs4`: what one direction of a session can carry. Sizes in bytes of RPC payload. */
export interface Channel {
  readonly maxRequest: number;
  readonly maxReply: number;
  readonly maxKeptReply: number;
  readonly maxOperations: number;
  readonly maxRequests: number;
}

export interface CreateSessionReply {
  readonly sessionId: Uint8Array;
  readonly flags: number;
  readonly fore: Channel;
}

/** A call-back channel of the smallest kind has to be described, whether it is used or not. */
const BACK: Channel = { maxRequest: 4096, maxReply: 4096, maxKeptReply: 0, maxOperations: 2, maxRequests: 1 };

export function createSession(
  client: ClientId,
  sequenceId: number,
  flags: number,
  fore: Channel,
): Step<CreateSessionReply> {
  return {
    op: Op.createSession,
    name: 'CREATE_SESSION',
    requestBytes: 128,
    replyBytes: 128,
    changes: true,
    encode(writer) {
      writer.halves(client.high, client.low);
      writer.halves(sequenceId, flags);
      writeChannel(writer, fore);
      writeChannel(writer, BACK);
      writer.u32(CALLBACK.program);
      writer.u32(1);
      writer.u32(0); // AUTH_NONE
    },
    decode(reader) {
      const sessionId = reader.fixed(Size.sessionId).slice();
      reader.u32();
      const given = reader.u32();
      const channel = readChannel(reader);
      readChannel(reader);
      return { sessionId, flags: given, fore: channel };
    },
  };
}

function writeChannel(writer: XdrWriter, channel: Channel): void {
  writer.u32(0);
  writer.u32(channel.maxRequest);
  writer.u32(channel.maxReply);
  writer.u32(channel.maxKeptReply);
  writer.u32(channel.maxOperations);
  writer.u32(channel.maxRequests);
  writer.u32(0);
}

function readChannel(reader: XdrReader): Channel {
  reader.u32();
  const channel = {
    maxRequest: reader.u32(),
    maxReply: reader.u32(),
    maxKeptReply: reader.u32(),
    maxOperations: reader.u32(),
    maxRequests: reader.u32(),
  };
  const rdma = reader.count(4, 1);
  reader.skip(4 * rdma);
  return channel;
}

/** This connection serves the fore channel of the session. */
export function bindConnection(sessionId: Uint8Array): Step<void> {
  return {
    op: Op.bindConnToSession,
    name: 'BIND_CONN_TO_SESSION',
    requestBytes: 12 + Size.sessionId,
    replyBytes: 40,
    changes: false,
    encode(writer) {
      writer.fixed(sessionId);
      writer.u32(1);
      writer.bool(false);
    },
    decode: (reader) => reader.skip(Size.sessionId + 8),
  };
}

export function destroySession(sessionId: Uint8Array): Step<void> {
  return {
    op: Op.destroySession,
    name: 'DESTROY_SESSION',
    requestBytes: 4 + Size.sessionId,
    replyBytes: 8,
    changes: true,
    encode: (writer) => writer.fixed(sessionId),
    decode: nothing,
  };
}

export function destroyClient(client: ClientId): Step<void> {
  return {
    op: Op.destroyClientid,
    name: 'DESTROY_CLIENTID',
    requestBytes: 12,
    replyBytes: 8,
    changes: true,
    encode: (writer) => writer.halves(client.high, client.low),
    decode: nothing,
  };
}

/** Nothing more will be reclaimed. */
export const RECLAIM_COMPLETE: Step<void> = {
  op: Op.reclaimComplete,
  name: 'RECLAIM_COMPLETE',
  requestBytes: 8,
  replyBytes: 8,
  changes: true,
  encode: (writer) => writer.bool(false),
  decode: nothing,
};

/** The status of each stateid. */
export function testStateid(stateids: readonly Stateid[]): Step<readonly number[]> {
  return {
    op: Op.testStateid,
    name: 'TEST_STATEID',
    requestBytes: 8 + Size.stateid * stateids.length,
    replyBytes: 12 + 4 * stateids.length,
    changes: false,
    encode(writer) {
      writer.u32(stateids.length);
      for (const stateid of stateids) writer.fixed(stateid);
    },
    decode(reader) {
      const count = reader.count(4, MAX_STATEIDS);
      return Array.from({ length: count }, () => reader.u32());
    },
  };
}

export function freeStateid(stateid: Stateid): Step<void> {
  return {
    op: Op.freeStateid,
    name: 'FREE_STATEID',
    requestBytes: 4 + Size.stateid,
    replyBytes: 8,
    changes: true,
    encode: (writer) => writer.fixed(stateid),
    decode: nothing,
  };
}
