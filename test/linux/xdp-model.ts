/** For tests: what the head of xdp-program.ts says, written once more in the plainest way. Pure. */
import { formatIp } from '../../src/address/ip.ts';

export interface Rules {
  readonly own: ReadonlySet<string>;
  /** `address protocol port`. */
  readonly served: ReadonlySet<string>;
  /** Addresses that have served ports. */
  readonly shared: ReadonlySet<string>;
}

/** Remembers first fragments from one frame to the next, but not for how long. */
export class XdpModel {
  readonly #rules: Rules;
  readonly #fragments = new Set<string>();

  constructor(rules: Rules) {
    this.#rules = rules;
  }

  /** True where the frame goes to our socket. */
  isOurs(frame: Uint8Array): boolean {
    try {
      return this.#judge(frame);
    } catch (error) {
      if (error instanceof RangeError) return false; // something was read that is not there
      throw error;
    }
  }

  #judge(frame: Uint8Array): boolean {
    let view = viewOf(frame, 0);
    let type = view.getUint16(12);
    let rest = 14;
    if (type === 0x8100) {
      type = view.getUint16(16);
      if ((view.getUint16(14) & 0xfff) !== 0) return false;
      rest = 18;
    }
    view = viewOf(frame, rest);
    if (type === 0x0806) return this.#judgeArp(view);
    if (type === 0x0800) return this.#judge4(view);
    return type === 0x86dd && this.#judge6(view);
  }

  #judgeArp(view: DataView): boolean {
    const target = ipAt(view, 24, 4);
    return view.getUint32(0) === 0x00010800 && view.getUint16(4) === 0x0604 && this.#rules.own.has(target);
  }

  #judge4(view: DataView): boolean {
    const to = ipAt(view, 16, 4);
    if (view.getUint8(0) >> 4 !== 4) return false;
    if (this.#rules.own.has(to)) return true;
    const header = (view.getUint8(0) & 15) * 4;
    if (header < 20 || !this.#rules.shared.has(to)) return false;
    const protocol = view.getUint8(9);
    const fragment = view.getUint16(6);
    const key = `${ipAt(view, 12, 4)} ${to} ${view.getUint16(4)} ${protocol}`;
    if ((fragment & 0x1fff) !== 0) return this.#fragments.has(key);
    const payload = viewOf(view, header);
    const ours = protocol === 1 ? this.#judgeIcmp4(payload, to) : this.#judgePort(payload, 2, to, protocol);
    if (ours && (fragment & 0x2000) !== 0) this.#fragments.add(key);
    return ours;
  }

  #judgeIcmp4(view: DataView, to: string): boolean {
    const about = ipAt(view, 8 + 12, 4);
    view.getUint32(8 + 20);
    if (![3, 11, 12].includes(view.getUint8(0)) || view.getUint8(8) !== 0x45 || about !== to) return false;
    if ((view.getUint16(8 + 6) & 0x1fff) !== 0) return false;
    return this.#judgePort(view, 8 + 20, to, view.getUint8(8 + 9));
  }

  #judge6(view: DataView): boolean {
    const to = ipAt(view, 24, 16);
    if (view.getUint8(0) >> 4 !== 6) return false;
    const next = view.getUint8(6);
    if (view.getUint8(24) === 0xff) {
      return next === 58 && view.getUint8(40) === 135 && this.#rules.own.has(ipAt(view, 48, 16));
    }
    if (this.#rules.own.has(to)) return true;
    if (!this.#rules.shared.has(to)) return false;
    if (next === 44) {
      const protocol = view.getUint8(40);
      const key = `${ipAt(view, 8, 16)} ${to} ${view.getUint32(44)} ${protocol}`;
      const fragment = view.getUint16(42);
      if (fragment >> 3 !== 0) return this.#fragments.has(key);
      const ours = this.#judgePort(viewOf(view, 48), 2, to, protocol);
      if (ours) this.#fragments.add(key); // with more to come, or alone (RFC 6946)
      return ours;
    }
    const payload = viewOf(view, 40);
    if (next !== 58) return this.#judgePort(payload, 2, to, next);
    const about = ipAt(payload, 8 + 8, 16);
    payload.getUint32(8 + 40);
    const type = payload.getUint8(0);
    return type >= 1 && type <= 4 && about === to && this.#judgePort(payload, 8 + 40, to, payload.getUint8(8 + 6));
  }

  #judgePort(view: DataView, at: number, address: string, protocol: number): boolean {
    const port = view.getUint16(at);
    return this.#rules.served.has(`${address} ${protocol} ${port}`);
  }
}

function viewOf(bytes: Uint8Array | DataView, at: number): DataView {
  if (at > bytes.byteLength) throw new RangeError('beyond the frame');
  return new DataView(bytes.buffer, bytes.byteOffset + at, bytes.byteLength - at);
}

function ipAt(view: DataView, at: number, length: number): string {
  if (at + length > view.byteLength) throw new RangeError('beyond the frame');
  return formatIp(new Uint8Array(view.buffer, view.byteOffset + at, length));
}
