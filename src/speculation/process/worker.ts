/**
 * The tracer's thread: carries out commands that come by message, and sends events.
 * The program of a worker; it sleeps in waitpid, so its own event loop never turns.
 */
import { receiveMessageOnPort, workerData } from 'node:worker_threads';
import { IsthmusError } from '../../errors.ts';
import type { Command, Message, WorkerSetUp } from './protocol.ts';
import { Tracer } from './tracer.ts';

const { options, port } = workerData as WorkerSetUp;
const send = (message: Message): void => port.postMessage(message);
const tracer = new Tracer(
  options,
  (event) => send({ event }),
  () => send({ later: true }),
);

function carryOut(command: Command): void {
  switch (command.do) {
    case 'start':
      tracer.start();
      return;
    case 'checkpoint':
      tracer.wishes.checkpoint(command.pid, command.token, command.reply);
      return;
    case 'detain':
      tracer.wishes.detain(command.pid, command.token, command.reply);
      return;
    case 'resume':
      tracer.wishes.resume(command.pid, command.result);
      return;
    case 'eager':
      tracer.wishes.eager = command.on;
      return;
    case 'proceed':
      tracer.wishes.proceed(command.pid, command.child, command.token, command.fresh);
      return;
    case 'commit':
      tracer.commit(command.checkpoint);
      return;
    case 'rollback':
      tracer.rollback(command.checkpoints);
      return;
    case 'pass':
      tracer.pass(command.pid);
      return;
    case 'signal':
      tracer.signal(command.signal);
      return;
    case 'output':
      tracer.core.retryOutput();
      return;
    case 'close':
      tracer.kill();
  }
}

function listen(): void {
  for (let got = receiveMessageOnPort(port); got; got = receiveMessageOnPort(port)) carryOut(got.message as Command);
}

try {
  send({ bell: tracer.hangBell() });
  tracer.run(listen);
} catch (error) {
  tracer.kill();
  const details =
    error instanceof IsthmusError ? { code: error.code, errno: error.errno, syscall: error.syscall } : null;
  send({ failure: { error: error as Error, details } });
}
port.close();
