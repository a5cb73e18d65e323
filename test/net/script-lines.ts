/**
 * The text of packet scripts: lines of time, direction and segment, or of time and call.
 * Pure: text in, lines out; what the lines do is in script-run.ts, and the format is described in scripts/README.md.
 */

/** A segment as written; null fields were left out. Numbers are relative to the initial sequence numbers. */
export interface ScriptSegment {
  readonly flags: number;
  readonly seq: number;
  readonly length: number;
  readonly ack: number | null;
  readonly window: number | null;
  /** Null where no options are written; else exactly these. */
  readonly options: ScriptOptions | null;
  readonly badChecksum: boolean;
}

export interface ScriptOptions {
  readonly mss: number | null;
  readonly windowScale: number | null;
  readonly sackPermitted: boolean;
  readonly sack: readonly (readonly [number, number])[] | null;
  /** Null: none. `'any'`: present, values not looked at. */
  readonly timestamps: readonly [number, number] | 'any' | null;
}

export interface ScriptLine {
  readonly number: number;
  readonly text: string;
  /** Milliseconds: relative to the line before, absolute, or whenever the next segment is sent. */
  readonly time: { readonly kind: 'relative' | 'absolute'; readonly ms: number } | { readonly kind: 'whenever' };
  readonly peer: number;
  readonly verb: string;
  readonly words: readonly string[];
  readonly segment: ScriptSegment | null;
}

export interface Script {
  readonly name: string;
  readonly config: Readonly<Record<string, string>>;
  readonly lines: readonly ScriptLine[];
}

/** Reads a file of scripts; each begins with a line `=== what it shows`. */
export function parseScripts(text: string): Script[] {
  const scripts: { name: string; config: Record<string, string>; lines: ScriptLine[] }[] = [];
  text.split('\n').forEach((raw, index) => {
    const line = raw.replace(/(^|\s)#.*$/, '').trim();
    if (line === '') return;
    if (line.startsWith('===')) {
      scripts.push({ name: line.slice(3).trim(), config: {}, lines: [] });
      return;
    }
    const script = scripts.at(-1);
    if (script === undefined) throw new SyntaxError(`line ${index + 1}: no script has begun`);
    if (line.startsWith('config ')) {
      for (const pair of line.slice(7).trim().split(/\s+/)) {
        const [key, value] = pair.split('=') as [string, string | undefined];
        script.config[key] = value ?? 'true';
      }
      return;
    }
    script.lines.push(parseLine(line, index + 1));
  });
  return scripts;
}

function parseLine(text: string, number: number): ScriptLine {
  const words = text.split(/\s+/);
  const time = parseTime(words[0]!);
  if (time === null) throw new SyntaxError(`line ${number}: no time: ${text}`);
  words.shift();
  let peer = 1;
  if (words[0]?.startsWith('@')) peer = Number(words.shift()!.slice(1));
  const verb = words.shift();
  if (verb === undefined) throw new SyntaxError(`line ${number}: nothing to do: ${text}`);
  const packet = verb === '<' || verb === '<+' || verb === '>';
  const segment = packet ? parseSegment(words.join(' '), number) : null;
  return { number, text, time, peer, verb, words, segment };
}

function parseTime(word: string): ScriptLine['time'] | null {
  if (word === '*') return { kind: 'whenever' };
  if (!/^\+?\d+(\.\d+)?$/.test(word)) return null;
  return word.startsWith('+')
    ? { kind: 'relative', ms: Number(word.slice(1)) }
    : { kind: 'absolute', ms: Number(word) };
}

const FLAG_BITS: Readonly<Record<string, number>> = { F: 1, S: 2, R: 4, P: 8, '.': 16, U: 32, E: 64, W: 128, '-': 0 };

/** `FLAGS SEQ(LENGTH) [ack N] [win N] [<options>] [badsum]` */
function parseSegment(text: string, number: number): ScriptSegment {
  const match =
    /^([FSRPUEW.-]+)\s+(-?\d+)\((\d+)\)(?:\s+ack\s+(-?\d+))?(?:\s+win\s+(\d+))?(?:\s+<([^>]*)>)?(\s+badsum)?$/.exec(
      text,
    );
  if (match === null) throw new SyntaxError(`line ${number}: no segment: ${text}`);
  let flags = 0;
  for (const letter of match[1]!) flags |= FLAG_BITS[letter]!;
  return {
    flags,
    seq: Number(match[2]),
    length: Number(match[3]),
    ack: match[4] === undefined ? null : Number(match[4]),
    window: match[5] === undefined ? null : Number(match[5]),
    options: match[6] === undefined ? null : parseOptions(match[6], number),
    badChecksum: match[7] !== undefined,
  };
}

/** `mss N, ws N, sackok, sack A:B C:D, ts V E`, each at most once; `ts` alone: any values. */
function parseOptions(text: string, number: number): ScriptOptions {
  let mss: number | null = null;
  let windowScale: number | null = null;
  let sackPermitted = false;
  let sack: [number, number][] | null = null;
  let timestamps: ScriptOptions['timestamps'] = null;
  for (const option of text.split(',').map((part) => part.trim())) {
    const [name, ...rest] = option.split(/\s+/);
    if (name === 'mss') mss = Number(rest[0]);
    else if (name === 'ws') windowScale = Number(rest[0]);
    else if (name === 'sackok') sackPermitted = true;
    else if (name === 'sack') sack = rest.map((pair) => pair.split(':').map(Number) as [number, number]);
    else if (name === 'ts') timestamps = rest.length === 0 ? 'any' : [Number(rest[0]), Number(rest[1])];
    else if (name !== '') throw new SyntaxError(`line ${number}: no option: ${option}`);
  }
  return { mss, windowScale, sackPermitted, sack, timestamps };
}
