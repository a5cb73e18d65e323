/**
 * An operation with its place among the steps of a COMPOUND, and what is to be known of operations to plan them.
 * Pure.
 */
import type { HandleRef, Operation, SetAttributes } from '../server.ts';
import type { ChangeInfo } from './step.ts';

/** An operation and the indices of its steps; −1 where it has no such step. */
export interface Planned {
  readonly operation: Operation;
  /** In the batch. */
  readonly index: number;
  /** The last of its own: once done, the operation is. */
  main: number;
  attributes: number;
  /** Attributes of the directory it was looked up in. */
  directory: number;
  /** The directory it changed (for a rename: from which), and the one that a rename moves to. */
  changed: ChangedDirectory | null;
  changedTo: ChangedDirectory | null;
}

/** A directory that operations of the COMPOUND change. */
export interface ChangedDirectory {
  readonly ref: HandleRef;
  /** The steps that change it, in order, and which `change_info4` of their results is its. */
  readonly changes: { readonly step: number; readonly info: InfoOf }[];
  /** Who changed it last: the one whose result has its attributes. */
  last: Planned;
  /** Its attributes at the end; −1: not asked for. */
  attributes: number;
}

/** Finds the `change_info4` in a step's result. */
export type InfoOf = (value: never) => ChangeInfo;

/** The objects an operation is about; it begins at the first. */
export function refs(operation: Operation): HandleRef[] {
  switch (operation.op) {
    case 'link':
      return [operation.handle, operation.directory];
    case 'rename':
      return [operation.fromDirectory, operation.toDirectory];
    case 'lookup':
    case 'create':
    case 'mkdir':
    case 'symlink':
    case 'mknod':
    case 'remove':
    case 'rmdir':
    case 'readdir':
      return [operation.directory];
    default:
      return [operation.handle];
  }
}

/** Whether the operation makes another object the current one. */
export function leavesCurrent({ op }: Operation): boolean {
  switch (op) {
    case 'getattr':
    case 'setattr':
    case 'access':
    case 'readlink':
    case 'read':
    case 'write':
    case 'commit':
    case 'readdir':
    case 'verify':
      return false;
    default:
      return true;
  }
}

export function isFrom(ref: HandleRef, index: number): boolean {
  return !(ref instanceof Uint8Array) && ref.from === index;
}

export function modeOf({ mode }: SetAttributes): SetAttributes {
  return mode === undefined ? {} : { mode };
}
