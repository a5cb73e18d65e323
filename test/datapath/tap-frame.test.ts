/** Which frames a tap still takes when the heap is used up. */
import assert from 'node:assert/strict';
import { it } from 'node:test';
import { holdsNoData } from '../../src/datapath/tap/frame.ts';

it('frames that hold no data are acknowledgements, ARP and neighbour discovery', () => {
  const frame = new Uint8Array(100);
  const view = new DataView(frame.buffer);
  const is = (length: number): boolean => holdsNoData(frame, 0, length);
  view.setUint16(12, 0x0806);
  assert.equal(is(60), true);
  view.setUint16(12, 0x0800);
  frame[14] = 0x45;
  frame[23] = 6;
  view.setUint16(16, 20 + 32);
  frame[34 + 12] = 8 << 4;
  assert.equal(is(66), true);
  view.setUint16(16, 20 + 33);
  assert.equal(is(67), false);
  view.setUint16(16, 20 + 32);
  view.setUint16(20, 0x2000);
  assert.equal(is(66), false, 'a fragment is kept');
  view.setUint16(20, 0x4000);
  frame[23] = 17;
  assert.equal(is(66), false);
  view.setUint16(12, 0x86dd);
  view.setUint16(18, 20);
  frame[20] = 6;
  frame[54 + 12] = 5 << 4;
  assert.equal(is(74), true);
  view.setUint16(18, 21);
  assert.equal(is(75), false);
  frame[20] = 58;
  assert.equal(is(75), true);
  assert.equal(is(30), false);
});
