/**
 * A port mapper that says yes to every registration, on a unix socket: servers that insist on registering are content with it.
 * It listens where it is told and touches nothing else.
 */
import { createServer, type Server, type Socket } from 'node:net';
import { RecordDecoder } from '../../remote/rpc/record.ts';
import { XdrWriter } from '../../remote/xdr.ts';

/** Listens on `path` (rpcbind's is /run/rpcbind.sock) and answers TRUE to RPCBPROC_SET and RPCBPROC_UNSET (RFC 1833 section 2.2.1). */
export async function startFakeRpcbind(path: string): Promise<Server> {
  const server = createServer(serve);
  await new Promise<void>((resolve, reject) => server.once('error', reject).listen(path, resolve));
  server.unref();
  return server;
}

function serve(socket: Socket): void {
  const records = new RecordDecoder(65_536, (reader) => {
    const xid = reader.u32();
    const reply = new XdrWriter(64);
    reply.u32(0);
    reply.halves(xid, 1); // a reply
    reply.halves(0, 0); // accepted, verifier AUTH_NONE
    reply.halves(0, 0); // of no bytes, success
    reply.u32(1); // TRUE
    reply.view.setUint32(0, (0x8000_0000 | (reply.length - 4)) >>> 0);
    socket.write(reply.toBytes());
  });
  socket.unref();
  socket.on('data', (piece: Buffer) => records.push(piece, piece.length));
  socket.on('error', () => socket.destroy());
}
