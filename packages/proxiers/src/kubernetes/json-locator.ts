/** A step of a path into a document: a key of a mapping or an index of a list. */
export type Key = string | number;

export interface JsonPlace {
  /** Offset of the value at the path, or of its deepest ancestor that exists. */
  readonly offset: number;
  /** Set where the text stops being JSON: `offset` is there, and this is what was wanted. */
  readonly wanted: string;
}

const TOKEN =
  /[ \t\n\r]*([{}[\],:]|"[^"\\\b\t\n\v\f\r]*(?:\\(?:["\\/bfnrt]|u[\da-fA-F]{4})[^"\\\b\t\n\v\f\r]*)*"|-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][-+]?\d+)?|true|false|null)/y;

const WANTED = {
  value: 'a value',
  'value or ]': 'a value or "]"',
  key: 'a quoted key',
  'key or }': 'a quoted key or "}"',
  colon: '":"',
  'comma or ]': '"," or "]"',
  'comma or }': '"," or "}"',
  end: 'the end of the text',
} as const;
type State = keyof typeof WANTED;

/**
 * Walk a JSON text to the value at a path, or to its first syntax error. JSON.parse gives values without
 * places, and its messages differ between engines; this runs only once something is wrong.
 */
export function locate(text: string, path: readonly Key[]): JsonPlace {
  const token = new RegExp(TOKEN);
  const keys: Key[] = [];
  let state: State = 'value';
  let matched = 0;
  let deepest = 0;
  let found = 0;
  const enter = (key: Key): void => {
    keys[keys.length - 1] = key;
    if (matched >= keys.length - 1) matched = key === path[keys.length - 1] ? keys.length : keys.length - 1;
  };
  const after = (): State => {
    if (keys.length === 0) return 'end';
    return typeof keys.at(-1) === 'number' ? 'comma or ]' : 'comma or }';
  };
  for (;;) {
    const from: number = token.lastIndex;
    const word: string | undefined = token.exec(text)?.[1];
    if (word === undefined) {
      if (state === 'end' && text.slice(from).trim() === '') return { offset: found, wanted: '' };
      return { offset: from + /^\s*/.exec(text.slice(from))![0].length, wanted: WANTED[state] };
    }
    const start = token.lastIndex - word.length;
    const fault = { offset: start, wanted: WANTED[state] };
    if (state === 'colon') {
      if (word !== ':') return fault;
      state = 'value';
    } else if ((word === '}' && state.endsWith('}')) || (word === ']' && state.endsWith(']'))) {
      keys.pop();
      matched = Math.min(matched, keys.length);
      state = after();
    } else if (state === 'comma or ]') {
      if (word !== ',') return fault;
      enter((keys.at(-1) as number) + 1);
      state = 'value';
    } else if (state === 'comma or }') {
      if (word !== ',') return fault;
      state = 'key';
    } else if (state === 'key' || state === 'key or }') {
      if (!word.startsWith('"')) return fault;
      enter(JSON.parse(word) as string);
      state = 'colon';
    } else if (state === 'end' || /^[}\],:]/.test(word)) {
      return fault;
    } else {
      if (matched === keys.length && matched >= deepest) {
        deepest = matched;
        found = start;
      }
      if (word === '{') {
        keys.push('');
        state = 'key or }';
      } else if (word === '[') {
        keys.push(0);
        enter(0);
        state = 'value or ]';
      } else {
        state = after();
      }
    }
  }
}

/** 1-based line of an offset. */
export function lineAt(text: string, offset: number): number {
  let line = 1;
  for (let at = text.indexOf('\n'); at >= 0 && at < offset; at = text.indexOf('\n', at + 1)) line++;
  return line;
}
