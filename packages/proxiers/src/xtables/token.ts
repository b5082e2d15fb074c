import { InputError } from '../kubernetes/input-error.ts';

/** A word of a rule. */
export interface Token {
  /** What it says, quotes and escapes resolved. */
  readonly text: string;
  /** As it was written. */
  readonly raw: string;
}

/** Where a line stands, for errors. */
export interface Place {
  readonly file: string;
  readonly line: number;
}

/**
 * Split a line as iptables-restore does: at blanks, except within double quotes, where a backslash takes the next
 * character literally. A closing quote ends the word. Single quotes mean nothing.
 * Source: add_param_to_argv in iptables/xshared.c (1.8.9).
 */
export function tokens(line: string, place: Place): Token[] {
  const found: Token[] = [];
  for (let at = 0; at < line.length;) {
    if (isBlank(line, at)) {
      at++;
      continue;
    }
    const start = at;
    while (at < line.length && !isBlank(line, at) && line[at] !== '"') at++;
    let text = line.slice(start, at);
    if (line[at] === '"') {
      const end = closing(line, at + 1);
      if (end < 0) {
        throw fault(place, 'a quote is opened and never closed', `close the " that opens ${line.slice(at)}`);
      }
      text += line.slice(at + 1, end).replaceAll(/\\(.)/g, '$1');
      at = end + 1;
    }
    found.push({ text, raw: line.slice(start, at) });
  }
  return found;
}

function isBlank(line: string, at: number): boolean {
  return line[at] === ' ' || line[at] === '\t';
}

/** Where a quoted part ends, or -1. */
function closing(line: string, from: number): number {
  for (let at = from; at < line.length; at++) {
    if (line[at] === '"') return at;
    if (line[at] === '\\') at++;
  }
  return -1;
}

/** Quote as iptables-save does: whatever is not all letters, digits, `_` and `-`. Source: xtables_save_string. */
export function quoted(text: string): string {
  if (/^[A-Za-z0-9_-]+$/.test(text)) return text;
  return `"${text.replaceAll(/["'\\]/g, (character) => `\\${character}`)}"`;
}

/** An error that says where, what, and the way out. */
export function fault(place: Place, problem: string, hint: string): InputError {
  return new InputError({
    file: place.file,
    document: 0,
    line: place.line,
    subject: '',
    field: '',
    problem,
    hint,
  });
}
