import { InputError } from '../../kubernetes/input-error.ts';
import { parseAddress } from '../../netfilter/address.ts';

/** Kinds of tokens; punctuation is its own character. */
export type TokenKind = 'end' | 'line' | 'word' | 'number' | 'quoted' | 'four' | 'six' | 'sign';

const WORD = /[A-Za-z_.][A-Za-z0-9_./-]*\*?/y;
const NUMBER = /[0-9][0-9A-Za-z]*/y;
const FOUR = /\d{1,3}\.\d{1,3}\.\d{1,3}\.\d{1,3}/y;
const SIX = /[0-9A-Fa-f]*:[0-9A-Fa-f:.]*/y;
const SIGN = /==|!=|<=|>=|<<|>>|[{}()[\];,:.=<>&|^!@$*/+-]/y;

// What a character can begin.
const BLANK = 1;
const LETTER = 2;
const DIGIT = 3;
const HEX = 4;
const STARTS = new Uint8Array(128);
for (let code = 0; code < 128; code++) {
  const character = String.fromCharCode(code);
  if (/[\t\r ]/.test(character)) STARTS[code] = BLANK;
  else if (/[a-fA-F]/.test(character)) STARTS[code] = HEX;
  else if (/[A-Za-z_.]/.test(character)) STARTS[code] = LETTER;
  else if (/[0-9]/.test(character)) STARTS[code] = DIGIT;
}

/**
 * Words of an nft text, one at a time: the current one is `kind` and `text`. A line break is a token, as it ends
 * a statement; a `#` begins a comment; a backslash at the end of a line joins it with the next.
 * Source: nftables 1.0.6, src/scanner.l: the longest pattern wins, the first among equals.
 */
export class Tokens {
  kind: TokenKind = 'line';
  text = '';
  /** Where the current token begins, and its line from 1. */
  start = 0;
  line = 1;
  readonly file: string;
  readonly #source: string;
  #at = 0;
  #atLine = 1;

  constructor(source: string, file: string) {
    this.#source = source;
    this.file = file;
    this.next();
  }

  next(): void {
    const source = this.#source;
    let at = this.#at;
    for (;;) {
      const code = source.charCodeAt(at);
      if (code < 128 && STARTS[code] === BLANK) at++;
      else if (code === 92 && /^\r?\n/.test(source.slice(at + 1, at + 3))) {
        at = source.indexOf('\n', at) + 1;
        this.#atLine++;
      } else if (code === 35) {
        at = source.indexOf('\n', at);
        if (at < 0) at = source.length;
      } else break;
    }
    this.start = at;
    this.line = this.#atLine;
    this.#at = at;
    if (at >= source.length) {
      this.kind = 'end';
      this.text = '';
      return;
    }
    const code = source.charCodeAt(at);
    if (code === 10) {
      this.kind = 'line';
      this.text = '\n';
      this.#at = at + 1;
      this.#atLine++;
      return;
    }
    this.#scan(at, code);
  }

  /** Take the token if it is this sign or word. */
  take(text: string): boolean {
    if (this.text !== text || this.kind === 'quoted') return false;
    this.next();
    return true;
  }

  is(text: string): boolean {
    return this.text === text && this.kind !== 'quoted';
  }

  expect(text: string, hint: string): void {
    if (!this.take(text)) throw this.fault(`${this.shown()} where ${shown(text)} was wanted`, hint);
  }

  skipLines(): void {
    while (this.kind === 'line') this.next();
  }

  /** At the end of a statement: a line break, a semicolon or the end of the text. */
  get atEnd(): boolean {
    return this.kind === 'line' || this.kind === 'end' || (this.kind === 'sign' && this.text === ';');
  }

  shown(): string {
    if (this.kind === 'end') return 'the end of the text';
    return this.kind === 'line' ? 'the end of the line' : shown(this.text);
  }

  /** An error at the current token, or at another place of the text. */
  fault(problem: string, hint: string, start = this.start, line = this.line): InputError {
    const column = start - this.#source.lastIndexOf('\n', start - 1);
    return new InputError({
      file: `${this.file}:${line}:${column}`,
      document: 0,
      line: 0,
      subject: '',
      field: '',
      problem,
      hint,
    });
  }

  #scan(at: number, code: number): void {
    const first = code < 128 ? STARTS[code]! : 0;
    if (code === 34) {
      this.#quoted(at);
      return;
    }
    if (first === DIGIT && this.#match(FOUR, at, 'four')) return;
    if ((first === DIGIT || first === HEX || code === 58) && this.#six(at)) return;
    if ((first === HEX || first === LETTER) && this.#match(WORD, at, 'word')) {
      if (this.text === '.') this.kind = 'sign';
      return;
    }
    if (first === DIGIT && this.#match(NUMBER, at, 'number')) return;
    if (this.#match(SIGN, at, 'sign')) return;
    this.text = this.#source[at]!;
    throw this.fault(`${shown(this.text)} means nothing in nft`, 'quote it if it belongs to a comment');
  }

  #quoted(at: number): void {
    const end = this.#source.indexOf('"', at + 1);
    const text = end < 0 ? '' : this.#source.slice(at + 1, end);
    if (end < 0 || text.includes('\n')) {
      this.text = '"';
      throw this.fault('a quote is opened and not closed in its line', 'close the "');
    }
    this.kind = 'quoted';
    this.text = text;
    this.#at = end + 1;
  }

  /** `fd00::1`, but not the `80 :` of a map nor its `a:`. */
  #six(at: number): boolean {
    SIX.lastIndex = at;
    const text = SIX.exec(this.#source)?.[0];
    if (text === undefined || text.length < 2 || text.indexOf(':') === text.lastIndexOf(':')) return false;
    if (parseAddress(text, 6) === undefined) return false;
    this.kind = 'six';
    this.text = text;
    this.#at = at + text.length;
    return true;
  }

  #match(pattern: RegExp, at: number, kind: TokenKind): boolean {
    pattern.lastIndex = at;
    if (!pattern.test(this.#source)) return false;
    this.kind = kind;
    this.text = this.#source.slice(at, pattern.lastIndex);
    this.#at = pattern.lastIndex;
    return true;
  }
}

function shown(text: string): string {
  return JSON.stringify(text.length > 60 ? `${text.slice(0, 60)}…` : text);
}
