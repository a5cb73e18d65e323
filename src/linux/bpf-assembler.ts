/**
 * An assembler for eBPF (kernel Documentation/bpf/standardization/instruction-set.rst): typed instructions, labels,
 * maps by name. Pure: it makes words of memory; bpf.ts hands them to the kernel.
 *
 * It refuses what it can see before the kernel does, with the label in the message: unknown registers and labels, jumps
 * and immediates out of range, registers read before they are written, code that is never reached or runs off the end.
 */

export type Register = 'r0' | 'r1' | 'r2' | 'r3' | 'r4' | 'r5' | 'r6' | 'r7' | 'r8' | 'r9' | 'r10';
/** A register, or an immediate: a signed 32-bit number, extended to 64 bits. */
export type Operand = Register | number;
export type Size = 'u8' | 'u16' | 'u32' | 'u64';

const ALU = {
  add: 0x00,
  subtract: 0x10,
  multiply: 0x20,
  divide: 0x30,
  or: 0x40,
  and: 0x50,
  shiftLeft: 0x60,
  shiftRight: 0x70,
  modulo: 0x90,
  xor: 0xa0,
  move: 0xb0,
  shiftRightSigned: 0xc0,
} as const;
export type AluOperation = keyof typeof ALU;

const CONDITION = {
  equal: 0x10,
  above: 0x20,
  atLeast: 0x30,
  anyBit: 0x40,
  notEqual: 0x50,
  aboveSigned: 0x60,
  atLeastSigned: 0x70,
  below: 0xa0,
  atMost: 0xb0,
} as const;
/** Comparisons are unsigned unless they say otherwise; `anyBit`: the two have a bit in common. */
export type Condition = keyof typeof CONDITION;

const SIZE: Record<Size, number> = { u32: 0x00, u16: 0x08, u8: 0x10, u64: 0x18 };

/** Helpers of the kernel (bpf-helpers(7)): number, and how many of r1 … r5 it reads. */
const HELPER = {
  mapLookup: [1, 2],
  mapUpdate: [2, 4],
  mapDelete: [3, 2],
  ktimeGetNs: [5, 0],
  redirectMap: [51, 3],
} as const;
export type Helper = keyof typeof HELPER;

const CLASS_LDX = 0x61;
const CLASS_ST = 0x62;
const CLASS_STX = 0x63;
const CLASS_ALU32 = 0x04;
const CLASS_ALU64 = 0x07;
const CLASS_JUMP = 0x05;
const SOURCE_REGISTER = 0x08;
const LOAD_IMMEDIATE_64 = 0x18;
const TO_BIG_ENDIAN = 0xdc;
const CALL = 0x85;
const EXIT = 0x95;
const PSEUDO_MAP_FD = 1;
const PSEUDO_MAP_VALUE = 2;

const FRAME_POINTER = 10;
const STACK_BYTES = 512;
/** The kernel's limit for a program of a process without CAP_BPF; ours are far below. */
const MAX_INSTRUCTIONS = 4096;

interface Instruction {
  readonly code: number;
  readonly destination: number;
  readonly source: number;
  readonly offset: number;
  readonly immediate: number;
  /** Bits of the registers that it reads, and that hold something after it. */
  readonly reads: number;
  readonly writes: number;
  readonly clobbers: number;
  /** Where it may jump to, and whether it may go on behind it. */
  readonly target: string | null;
  readonly falls: boolean;
  readonly map: string | null;
  /** 2 for the one instruction that takes two slots. */
  readonly slots: number;
}

const PLAIN = { offset: 0, immediate: 0, clobbers: 0, target: null, falls: true, map: null, slots: 1 } as const;

/** Assembled code: words for the kernel, still without the descriptors of its maps. */
export interface BpfCode {
  /** Slots of 8 bytes. */
  readonly count: number;
  /** Two words to a slot. */
  readonly words: Int32Array;
  /** Slots that want the descriptor of the map of that name as their immediate. */
  readonly maps: readonly { readonly slot: number; readonly name: string }[];
  /** Where a slot is, as `label+distance`. */
  describe(slot: number): string;
}

/** Collects instructions; every method gives the assembler itself, so that they can be chained. */
export class BpfAssembler {
  readonly #code: Instruction[] = [];
  readonly #labels = new Map<string, number>();
  #slots = 0;

  /** 64-bit arithmetic: `destination = destination OP operand`. */
  alu(operation: AluOperation, destination: Register, operand: Operand): this {
    return this.#alu(operation, destination, operand, CLASS_ALU64);
  }

  /** 32-bit arithmetic; the upper half of the destination becomes zero. An immediate may be given unsigned. */
  alu32(operation: AluOperation, destination: Register, operand: Operand): this {
    return this.#alu(operation, destination, operand, CLASS_ALU32);
  }

  move(destination: Register, operand: Operand): this {
    return this.alu('move', destination, operand);
  }

  add(destination: Register, operand: Operand): this {
    return this.alu('add', destination, operand);
  }

  and(destination: Register, operand: Operand): this {
    return this.alu('and', destination, operand);
  }

  /** Turns the low bits of a register from network order into a number; the bits above become zero. */
  fromNetwork(register: Register, bits: 16 | 32 | 64): this {
    const destination = this.#writable(register);
    const bit = 1 << destination;
    return this.#push({
      ...PLAIN,
      code: TO_BIG_ENDIAN,
      destination,
      source: 0,
      immediate: bits,
      reads: bit,
      writes: bit,
    });
  }

  /** `destination = memory[base + offset]`, zero-extended. */
  load(size: Size, destination: Register, base: Register, offset: number): this {
    const to = this.#writable(destination);
    const from = registerNumber(base);
    this.#checkOffset(from, offset);
    const code = CLASS_LDX | SIZE[size];
    return this.#push({ ...PLAIN, code, destination: to, source: from, offset, reads: 1 << from, writes: 1 << to });
  }

  /** `memory[base + offset] = operand`. An immediate may be given unsigned where the size is at most 32 bits. */
  store(size: Size, base: Register, offset: number, operand: Operand): this {
    const to = registerNumber(base);
    this.#checkOffset(to, offset);
    if (typeof operand === 'number') {
      const immediate = this.#immediate(operand, size !== 'u64');
      const code = CLASS_ST | SIZE[size];
      return this.#push({ ...PLAIN, code, destination: to, source: 0, offset, immediate, reads: 1 << to, writes: 0 });
    }
    const source = registerNumber(operand);
    const reads = (1 << to) | (1 << source);
    return this.#push({ ...PLAIN, code: CLASS_STX | SIZE[size], destination: to, source, offset, reads, writes: 0 });
  }

  /** Loads the address of a map, which the loader knows by this name. */
  loadMap(destination: Register, map: string): this {
    return this.#loadMap(destination, map, PSEUDO_MAP_FD);
  }

  /** Loads the address of the value of a map that is an ARRAY of one entry. */
  loadMapValue(destination: Register, map: string): this {
    return this.#loadMap(destination, map, PSEUDO_MAP_VALUE);
  }

  /** Calls a helper of the kernel: arguments in r1 … r5, result in r0; r1 … r5 hold nothing afterwards. */
  call(helper: Helper): this {
    const [number, parameters] = HELPER[helper] ?? [];
    if (number === undefined) throw new TypeError(`no helper ${helper}`);
    const reads = ((1 << parameters) - 1) << 1;
    const immediate = number;
    return this.#push({
      ...PLAIN,
      code: CALL,
      destination: 0,
      source: 0,
      immediate,
      reads,
      writes: 1,
      clobbers: 0b111110,
    });
  }

  /** Ends the program with r0 as its result. */
  exit(): this {
    return this.#push({ ...PLAIN, code: EXIT, destination: 0, source: 0, reads: 1, writes: 0, falls: false });
  }

  jump(target: string): this {
    return this.#push({
      ...PLAIN,
      code: CLASS_JUMP,
      destination: 0,
      source: 0,
      reads: 0,
      writes: 0,
      target,
      falls: false,
    });
  }

  /** Jumps where `left CONDITION right` holds, compared as unsigned 64-bit numbers. */
  jumpIf(condition: Condition, left: Register, right: Operand, target: string): this {
    const destination = registerNumber(left);
    const code = CLASS_JUMP | lookUp(CONDITION, condition, 'condition');
    if (typeof right === 'number') {
      const immediate = this.#immediate(right, false);
      return this.#push({
        ...PLAIN,
        code,
        destination,
        source: 0,
        immediate,
        reads: 1 << destination,
        writes: 0,
        target,
      });
    }
    const source = registerNumber(right);
    const reads = (1 << destination) | (1 << source);
    return this.#push({ ...PLAIN, code: code | SOURCE_REGISTER, destination, source, reads, writes: 0, target });
  }

  /** Names the next instruction. */
  label(name: string): this {
    if (this.#labels.has(name)) throw new TypeError(`label ${name} stands twice`);
    this.#labels.set(name, this.#slots);
    return this;
  }

  /**
   * Checks the whole and gives the code.
   * @throws TypeError or RangeError naming the place, `label+distance`
   */
  assemble(): BpfCode {
    if (this.#slots > MAX_INSTRUCTIONS) throw new RangeError(`a program of ${this.#slots} instructions`);
    this.#checkFlow();
    const words = new Int32Array(this.#slots * 2);
    const maps: { slot: number; name: string }[] = [];
    let slot = 0;
    for (const one of this.#code) {
      const offset = one.target === null ? one.offset : this.#distance(slot, one.target);
      words[2 * slot] = one.code | (one.destination << 8) | (one.source << 12) | (offset << 16);
      words[2 * slot + 1] = one.immediate;
      if (one.map !== null) maps.push({ slot, name: one.map });
      slot += one.slots;
    }
    const labels = [...this.#labels].sort((a, b) => a[1] - b[1]);
    return { count: this.#slots, words, maps, describe: (at) => describeSlot(labels, at) };
  }

  #alu(operation: AluOperation, register: Register, operand: Operand, width: number): this {
    const destination = this.#writable(register);
    const bit = 1 << destination;
    const kept = operation === 'move' ? 0 : bit;
    const code = width | lookUp(ALU, operation, 'operation');
    if (typeof operand === 'number') {
      const immediate = this.#immediate(operand, width === CLASS_ALU32);
      if ((operation === 'divide' || operation === 'modulo') && operand === 0) throw this.#range('a division by zero');
      const bits = width === CLASS_ALU64 ? 64 : 32;
      if (operation.startsWith('shift') && !(operand >= 0 && operand < bits))
        throw this.#range(`a shift by ${operand}`);
      return this.#push({ ...PLAIN, code, destination, source: 0, immediate, reads: kept, writes: bit });
    }
    const source = registerNumber(operand);
    const reads = kept | (1 << source);
    return this.#push({ ...PLAIN, code: code | SOURCE_REGISTER, destination, source, reads, writes: bit });
  }

  #loadMap(destination: Register, map: string, source: number): this {
    const to = this.#writable(destination);
    return this.#push({
      ...PLAIN,
      code: LOAD_IMMEDIATE_64,
      destination: to,
      source,
      reads: 0,
      writes: 1 << to,
      map,
      slots: 2,
    });
  }

  #push(instruction: Instruction): this {
    this.#code.push(instruction);
    this.#slots += instruction.slots;
    return this;
  }

  #writable(register: Register): number {
    const number = registerNumber(register);
    if (number === FRAME_POINTER) throw new TypeError(`r10 is read-only, at ${this.#here()}`);
    return number;
  }

  #immediate(value: number, unsignedToo: boolean): number {
    const most = unsignedToo ? 0xffffffff : 0x7fffffff;
    if (!Number.isInteger(value) || value < -0x80000000 || value > most) throw this.#range(`immediate ${value}`);
    return value | 0;
  }

  #checkOffset(base: number, offset: number): void {
    if (!Number.isInteger(offset) || offset < -0x8000 || offset > 0x7fff) throw this.#range(`offset ${offset}`);
    if (base === FRAME_POINTER && (offset >= 0 || offset < -STACK_BYTES)) throw this.#range(`stack offset ${offset}`);
  }

  #distance(slot: number, target: string): number {
    const to = this.#labels.get(target);
    if (to === undefined) throw new TypeError(`no label ${target}, wanted at ${this.#describe(slot)}`);
    const distance = to - slot - 1;
    if (distance < -0x8000 || distance > 0x7fff) {
      throw new RangeError(`the jump at ${this.#describe(slot)} to ${target} is ${distance} instructions long`);
    }
    return distance;
  }

  /** Follows every path; `written` has, for each slot, the registers that hold something on all paths to it. */
  #checkFlow(): void {
    const bySlot: (Instruction | undefined)[] = new Array(this.#slots);
    let slot = 0;
    for (const one of this.#code) {
      bySlot[slot] = one;
      slot += one.slots;
    }
    const written = new Int32Array(this.#slots).fill(-1);
    const pending: [at: number, known: number][] = [[0, (1 << 1) | (1 << FRAME_POINTER)]];
    for (let next = pending.pop(); next !== undefined; next = pending.pop()) {
      const [at] = next;
      const one = bySlot[at];
      if (one === undefined) throw new TypeError(`the program runs off its end after ${this.#describe(at - 1)}`);
      const known = written[at]! & next[1];
      if (known === written[at]) continue;
      written[at] = known;
      const missing = one.reads & ~known;
      if (missing !== 0) {
        throw new TypeError(`r${31 - Math.clz32(missing)} is read before it is written, at ${this.#describe(at)}`);
      }
      const after = (known & ~one.clobbers) | one.writes;
      if (one.target !== null) pending.push([at + 1 + this.#distance(at, one.target), after]);
      if (one.falls) pending.push([at + one.slots, after]);
    }
    const dead = bySlot.findIndex((one, at) => one !== undefined && written[at] === -1);
    if (dead >= 0) throw new TypeError(`${this.#describe(dead)} is never reached`);
  }

  #range(what: string): RangeError {
    return new RangeError(`${what} at ${this.#here()}`);
  }

  #here(): string {
    return this.#describe(this.#slots);
  }

  #describe(slot: number): string {
    return describeSlot(
      [...this.#labels].sort((a, b) => a[1] - b[1]),
      slot,
    );
  }
}

function registerNumber(register: Register): number {
  const number = /^r(\d|10)$/.exec(register);
  if (number === null) throw new TypeError(`no register ${register}`);
  return Number(number[1]);
}

function lookUp<Table extends Record<string, number>>(table: Table, key: keyof Table & string, what: string): number {
  const value = table[key];
  if (value === undefined) throw new TypeError(`no ${what} ${key}`);
  return value;
}

function describeSlot(labels: readonly (readonly [name: string, slot: number])[], slot: number): string {
  let name = 'start';
  let base = 0;
  for (const [label, at] of labels) {
    if (at > slot) break;
    name = label;
    base = at;
  }
  return `${name}+${slot - base}`;
}
