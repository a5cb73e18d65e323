/**
 * The public API of Isthmus; nothing else re-exports.
 * It may touch everything below it: the kernel, its datapaths and the buffer heap.
 */

export type { IpAddress } from './address/sockaddr.ts';
export { type BootedKernel, type BootOptions, boot } from './boot.ts';
export { IsthmusError } from './errors.ts';
export { Connection } from './kernel/connection.ts';
export type { Address, Datapath } from './kernel/datapath.ts';
export { Family, SocketOption, SocketType } from './kernel/datapath.ts';
export { Listener, UdpSocket } from './kernel/endpoints.ts';
export { Kernel, type KernelOptions } from './kernel/kernel.ts';
export type { OperationOptions } from './kernel/limit.ts';
export type { ListenOptions, UdpOptions } from './kernel/opening.ts';
export type { CompletedOperation, Operation, QueueToken } from './kernel/operation.ts';
export { Opcode } from './kernel/operation.ts';
export type { QueueDescriptor } from './kernel/queue-table.ts';
export type { Coroutine } from './kernel/scheduler.ts';
export { CoroutineClass } from './kernel/scheduler.ts';
export type { Task } from './kernel/task.ts';
export type { WaitAnyResult } from './kernel/waiting.ts';
export { type ConnectFilesOptions, connectFiles } from './remote/connect.ts';
export type { RemoteFile } from './remote/files/file.ts';
export type { RemoteFiles } from './remote/files/files.ts';
export type { HeapBuffer, Sga } from './ring/heap.ts';
