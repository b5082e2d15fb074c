import { parseAddress } from '../../netfilter/address.ts';
import { readName, readTime, numberOfText } from './reader-word.ts';
import type { Element, Value, Verdict } from './statement.ts';
import type { Tokens } from './tokens.ts';

const VERDICTS: ReadonlySet<string> = new Set(['accept', 'drop', 'return', 'continue']);

/** `accept`, `goto chain`; undefined if the token begins no verdict. */
export function readVerdict(tokens: Tokens): Verdict | undefined {
  if (tokens.kind !== 'word') return undefined;
  const { text } = tokens;
  if (VERDICTS.has(text)) {
    tokens.next();
    return { kind: text as 'accept' };
  }
  if (text !== 'jump' && text !== 'goto') return undefined;
  tokens.next();
  return { kind: text, chain: readName(tokens, `the chain to ${text}`) };
}

/** What stands right of a match: a value, a range, `a . b`, `a,b`, `{ … }` or `@name`. */
export function readOperand(tokens: Tokens): Value {
  if (tokens.is('{')) return { kind: 'set', elements: readElements(tokens) };
  if (tokens.take('@')) return { kind: 'reference', name: readName(tokens, 'a set') };
  if (tokens.is('$')) throw tokens.fault('variables are not read', 'write the value out');
  const value = readTuple(tokens);
  if (!tokens.is(',')) return value;
  const names = [flagName(tokens, value)];
  while (tokens.take(',')) names.push(flagName(tokens, readSingle(tokens)));
  return { kind: 'flags', names };
}

/** `{ key [comment …] [timeout …] [: data], … }`, over any number of lines. */
export function readElements(tokens: Tokens): Element[] {
  tokens.expect('{', 'elements stand in braces: { 10.0.0.1 . tcp . 80 }');
  const elements: Element[] = [];
  for (;;) {
    tokens.skipLines();
    if (tokens.take('}')) break;
    elements.push(readElement(tokens));
    tokens.skipLines();
    if (tokens.take(',')) continue;
    tokens.expect('}', 'elements are parted by , and the last is followed by }');
    break;
  }
  return elements;
}

function readElement(tokens: Tokens): Element {
  if (tokens.is('*') || tokens.is('default')) {
    throw tokens.fault('a catch-all element is not read here', 'write a prefix that covers the rest');
  }
  const key = readTuple(tokens);
  const element: { -readonly [K in keyof Element]: Element[K] } = { key };
  for (;;) {
    if (tokens.take('timeout')) element.timeoutMs = readTime(tokens);
    else if (tokens.take('expires')) element.expiresMs = readTime(tokens);
    else if (tokens.take('comment')) {
      if (tokens.kind !== 'quoted' && tokens.kind !== 'word') {
        throw tokens.fault(`${tokens.shown()} is no comment`, 'write comment "text"');
      }
      element.comment = tokens.text;
      tokens.next();
    } else if (tokens.is('counter') || tokens.is('limit') || tokens.is('quota')) {
      throw tokens.fault(`${tokens.text} in an element is not read here`, 'remove it');
    } else break;
  }
  if (tokens.take(':')) {
    const verdict = readVerdict(tokens);
    element.data = verdict === undefined ? readTuple(tokens) : { kind: 'verdict', verdict };
  }
  return element;
}

/** `a . b . c`, each a single value, prefix or range. */
export function readTuple(tokens: Tokens): Value {
  const first = readSingle(tokens);
  if (!tokens.is('.')) return first;
  const parts = [first];
  while (tokens.take('.')) parts.push(readSingle(tokens));
  return { kind: 'tuple', parts };
}

/** One value, prefix or range. */
export function readSingle(tokens: Tokens): Value {
  const from = readAtom(tokens);
  // A mark may be masked as an address is: 0x80000000/1.
  if ((from.kind === 'address' || from.kind === 'integer') && tokens.take('/')) {
    const host = from.kind === 'integer' ? [from.value] : from.words;
    const bits = 32 * host.length;
    const length = numberOfText(tokens.text);
    if (tokens.kind !== 'number' || length === undefined || length > bits) {
      throw tokens.fault(`/${tokens.text} is no prefix here`, `a prefix is 0 to ${bits}`);
    }
    tokens.next();
    return { kind: 'prefix', words: host.map((word, i) => masked(word, length - 32 * i)), length };
  }
  if (!tokens.take('-')) return from;
  return { kind: 'range', from, to: readAtom(tokens) };
}

/** `[fd00::1]` as it stands before a port, too. */
function readAtom(tokens: Tokens): Value {
  const { text, kind } = tokens;
  if (kind === 'sign' && text === '[') {
    tokens.next();
    const address = readAtom(tokens);
    tokens.expect(']', 'an IPv6 address before a port is written [fd00::1]');
    return address;
  }
  if (kind === 'four' || kind === 'six') {
    const words = parseAddress(text, kind === 'four' ? 4 : 6);
    if (words === undefined) throw tokens.fault(`${text} is no address`, 'write it as 10.0.0.1 or fd00::1');
    tokens.next();
    return { kind: 'address', words };
  }
  if (kind === 'number') {
    const value = numberOfText(text);
    if (value === undefined) throw tokens.fault(`${tokens.shown()} is no number`, 'write 80 or 0x50');
    tokens.next();
    return { kind: 'integer', value };
  }
  if (kind === 'word' || kind === 'quoted') {
    tokens.next();
    return { kind: 'symbol', text };
  }
  throw tokens.fault(`${tokens.shown()} where a value was wanted`, 'write an address, a number or a name');
}

function flagName(tokens: Tokens, value: Value): string {
  if (value.kind === 'symbol') return value.text;
  throw tokens.fault('only names may be listed with commas', 'write alternatives in braces: { a, b }');
}

function masked(word: number, bits: number): number {
  if (bits >= 32) return word;
  return bits <= 0 ? 0 : (word & (-1 << (32 - bits))) >>> 0;
}
