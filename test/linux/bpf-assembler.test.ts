/** The assembler: encodings against the instruction set's documentation, and everything that it refuses. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { BpfAssembler, type Register } from '../../src/linux/bpf-assembler.ts';
import { assembleXdpProgram } from '../../src/linux/xdp-program.ts';

const hex = (code: BpfAssembler): string[] => {
  const { words } = code.assemble();
  const bytes = new Uint8Array(words.buffer);
  return Array.from({ length: bytes.length / 8 }, (_, i) => Buffer.from(bytes.slice(8 * i, 8 * i + 8)).toString('hex'));
};

const start = (): BpfAssembler => new BpfAssembler().move('r0', 0);

describe('the eBPF assembler', () => {
  it('encodes as the instruction set says', () => {
    const code = new BpfAssembler()
      .move('r6', 'r1')
      .load('u32', 'r2', 'r6', 4)
      .load('u16', 'r3', 'r6', -2)
      .store('u64', 'r10', -8, 0)
      .store('u8', 'r10', -9, 'r3')
      .alu32('add', 'r3', 0xffffffff)
      .alu('shiftRightSigned', 'r3', 3)
      .fromNetwork('r3', 16)
      .loadMap('r1', 'things')
      .loadMapValue('r2', 'one')
      .move('r2', 'r10')
      .add('r2', -8)
      .call('mapLookup')
      .jumpIf('equal', 'r0', 0, 'none')
      .jumpIf('above', 'r0', 'r6', 'none')
      .jump('none')
      .label('none')
      .move('r0', 2)
      .exit();
    assert.deepEqual(hex(code), [
      'bf16000000000000',
      '6162040000000000',
      '6963feff00000000',
      '7a0af8ff00000000',
      '733af7ff00000000',
      '04030000ffffffff',
      'c703000003000000',
      'dc03000010000000',
      '1811000000000000',
      '0000000000000000',
      '1822000000000000',
      '0000000000000000',
      'bfa2000000000000',
      '07020000f8ffffff',
      '8500000001000000',
      '1500020000000000',
      '2d60010000000000',
      '0500000000000000',
      'b700000002000000',
      '9500000000000000',
    ]);
    assert.deepEqual(code.assemble().maps, [
      { slot: 8, name: 'things' },
      { slot: 10, name: 'one' },
    ]);
    assert.equal(code.assemble().describe(19), 'none+1');
  });

  it('counts the two slots of a map reference in jumps over it', () => {
    fc.assert(
      fc.property(fc.array(fc.boolean(), { maxLength: 40 }), (pieces) => {
        const code = start().jumpIf('equal', 'r1', 0, 'end');
        for (const wide of pieces) {
          if (wide) code.loadMap('r2', 'm');
          else code.move('r2', 1);
        }
        const { words } = code.label('end').exit().assemble();
        const distance = words[2]! >> 16;
        assert.equal(
          distance,
          pieces.reduce((sum, wide) => sum + (wide ? 2 : 1), 0),
        );
        assert.equal(words[2 * (2 + distance)], 0x95);
      }),
    );
  });

  const refused: [name: string, build: () => unknown, message: RegExp][] = [
    ['an unknown register', () => start().move('r11' as Register, 1), /no register r11/],
    ['a change of the frame pointer', () => start().add('r10', 1), /r10 is read-only, at start\+1/],
    ['an unknown label', () => start().jump('nowhere').assemble(), /no label nowhere, wanted at start\+1/],
    ['a label twice', () => start().label('a').label('a'), /label a stands twice/],
    ['an immediate that would change its sign', () => start().and('r0', 0xffffffff), /immediate 4294967295/],
    ['an immediate that is no integer', () => start().move('r0', 0.5), /immediate 0.5/],
    ['an offset out of range', () => start().load('u8', 'r0', 'r1', 0x8000), /offset 32768/],
    ['a place outside of the stack', () => start().store('u8', 'r10', -513, 0), /stack offset -513/],
    ['a place above the stack', () => start().store('u8', 'r10', 0, 0), /stack offset 0/],
    ['a shift too far', () => start().alu32('shiftLeft', 'r0', 32), /shift by 32/],
    ['a division by zero', () => start().alu('divide', 'r0', 0), /division by zero/],
    [
      'a register read before it is written',
      () => start().move('r0', 'r3').exit().assemble(),
      /r3 is read before.*start\+1/,
    ],
    [
      'a register written on one path only',
      () => start().jumpIf('equal', 'r1', 0, 'end').move('r3', 1).label('end').move('r0', 'r3').exit().assemble(),
      /r3 is read before it is written, at end\+0/,
    ],
    [
      'an argument register after a call',
      () => start().call('ktimeGetNs').move('r0', 'r1').exit().assemble(),
      /r1 is read before/,
    ],
    ['a call without its arguments', () => start().call('mapLookup').exit().assemble(), /r2 is read before/],
    ['a result that is missing', () => new BpfAssembler().exit().assemble(), /r0 is read before/],
    ['running off the end', () => start().assemble(), /runs off its end/],
    ['no instruction', () => new BpfAssembler().assemble(), /runs off its end/],
    ['a jump to the end', () => start().jump('end').label('end').assemble(), /runs off its end/],
    [
      'code that is never reached',
      () => start().exit().label('dead').move('r1', 1).exit().assemble(),
      /dead\+0 is never/,
    ],
    [
      'too many instructions',
      () => {
        const code = start();
        for (let i = 0; i < 4096; i++) code.add('r0', 1);
        code.exit().assemble();
      },
      /a program of 4098 instructions/,
    ],
  ];
  for (const [name, build, message] of refused) it(`refuses ${name}`, () => assert.throws(build, message));

  it('assembles the XDP program for every VLAN alike', () => {
    const sizes = [0, 1, 4094].map((vlan) => assembleXdpProgram(vlan).count);
    assert.deepEqual(sizes, [sizes[0], sizes[0], sizes[0]]);
    assert.throws(() => assembleXdpProgram(4095), RangeError);
  });
});
