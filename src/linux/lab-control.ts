/**
 * How `isthmus lab up`, `down` and `status` find each other: whoever holds a lab listens on an abstract Unix socket.
 * It opens that socket and nothing in the file system; the name is gone with the holder, and so is the lab (lab.ts).
 */
import { connect, createServer, type Server } from 'node:net';
import { ERRNO, systemError } from '../errors.ts';
import { createLab, type Lab, type LabOptions, type LabSide } from './lab.ts';

const ANSWER_MS = 5000;
const MAX_ANSWER = 1 << 14;

export type LabSideStatus = Omit<LabSide, 'namespace'>;

export interface LabStatus {
  /** The process that holds the lab. */
  readonly pid: number;
  /** Frames have room for XDP, and the client has no kernel network ({@link Lab.reserveHeadroom}). */
  readonly headroom: boolean;
  readonly server: LabSideStatus;
  readonly client: LabSideStatus;
}

export interface HeldLab {
  readonly lab: Lab;
  readonly status: LabStatus;
  /** Resolves when somebody has asked for the end; the holder then calls `close`. */
  readonly ended: Promise<void>;
  close(): void;
}

/** Labs of different names stand side by side. Abstract names belong to a network namespace: ask in that of the holder. */
function socketPath(name: string): string {
  if (!/^[\w-]{1,32}$/.test(name)) throw new TypeError(`${JSON.stringify(name)} names no lab`);
  return `\0isthmus-lab-${name}`;
}

/**
 * Makes a lab and answers for it until closed or the process ends.
 * @throws IsthmusError EADDRINUSE where a lab of this name is up; as `createLab`
 */
export async function holdLab(name = 'default', options: LabOptions = {}): Promise<HeldLab> {
  let end = (): void => {};
  const ended = new Promise<void>((resolve) => {
    end = resolve;
  });
  let answer = '';
  const server = createServer((socket) => {
    socket.on('error', () => socket.destroy());
    socket.on('data', (request) => {
      // The asker of the end hears of it by the end of this connection, which is the end of the process or `close`.
      if (request[0] === 0x65) end();
      else socket.end(answer);
    });
    server.once('isthmus:close', () => socket.destroy());
  });
  await listen(server, name);
  let lab: Lab;
  try {
    lab = createLab(options);
  } catch (error) {
    server.close();
    throw error;
  }
  const { headroom = false } = options;
  const status = { pid: process.pid, headroom, server: describeSide(lab.server), client: describeSide(lab.client) };
  answer = JSON.stringify(status);
  const close = (): void => {
    lab.close();
    server.close();
    server.emit('isthmus:close');
  };
  return { lab, status, ended, close };
}

/** The lab of this name, or null. */
export async function labStatus(name = 'default'): Promise<LabStatus | null> {
  const answer = await ask(name, 's');
  return answer === null || answer === '' ? null : (JSON.parse(answer) as LabStatus);
}

/** Ends the lab of this name; false where there is none. Resolves when its holder has let go. */
export async function endLab(name = 'default'): Promise<boolean> {
  return (await ask(name, 'e')) !== null;
}

function describeSide({ namespace: _, ...side }: LabSide): LabSideStatus {
  return side;
}

function listen(server: Server, name: string): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', (error: NodeJS.ErrnoException) => {
      const hint = error.code === 'EADDRINUSE' ? 'a lab of this name is up' : undefined;
      reject(systemError(error.errno ?? ERRNO.EIO, 'bind', `lab ${name}`, hint));
    });
    server.listen(socketPath(name), resolve);
  });
}

/** Sends a letter and gives all that comes back; null where nobody listens. */
function ask(name: string, request: 's' | 'e'): Promise<string | null> {
  return new Promise((resolve, reject) => {
    let answer = '';
    const socket = connect(socketPath(name), () => socket.write(request));
    socket.setTimeout(ANSWER_MS, () => socket.destroy(systemError(ERRNO.ETIMEDOUT, 'connect', `lab ${name}`)));
    socket.setEncoding('utf8');
    socket.on('data', (text: string) => {
      answer += text;
      if (answer.length > MAX_ANSWER) socket.destroy(systemError(ERRNO.EMSGSIZE, 'recv', `lab ${name}`));
    });
    socket.once('error', (error: NodeJS.ErrnoException) => {
      const hasEnded = error.code === 'ECONNRESET' || error.code === 'EPIPE'; // just now
      if (error.code === 'ECONNREFUSED') resolve(null);
      else if (hasEnded) resolve(request === 'e' ? '' : null);
      else reject(error);
    });
    socket.once('close', () => resolve(answer));
  });
}
