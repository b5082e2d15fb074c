import { numberOf, textWords, typeNamed, wordsText, type DataType } from './datatypes.ts';
import type { Value } from './statement.ts';

/** A key as words of which the first counts most. */
export function hostOrder(types: readonly string[], key: Value): readonly number[] {
  if (types.length === 1) {
    const type = typeNamed(types[0]!);
    const words = startWords(type, key);
    return type.order === 'text' ? backwards(characters(words)) : words;
  }
  const bytes: number[] = [];
  const parts = key.kind === 'tuple' ? key.parts : [key];
  types.forEach((name, i) => {
    const type = typeNamed(name);
    const words = startWords(type, parts[i] ?? { kind: 'integer', value: 0 });
    if (type.order === 'text') bytes.push(...characters(words));
    else bytes.push(...memoryBytes(type, words));
  });
  return backwards(bytes);
}

function startWords(type: DataType, value: Value): readonly number[] {
  if (value.kind === 'address' || value.kind === 'prefix') return value.words;
  if (value.kind === 'range') return startWords(type, value.from);
  if (type.order === 'text') return textWords(value.kind === 'symbol' ? value.text.replace(/\*$/, '') : '');
  return [numberOf(type, value) ?? 0];
}

function memoryBytes(type: DataType, words: readonly number[]): number[] {
  const bytes: number[] = [];
  for (const word of words) {
    for (let shift = 8 * Math.min(4, type.bytes) - 8; shift >= 0; shift -= 8)
      bytes.push((word >>> shift) & 255);
  }
  return type.order === 'host' ? bytes.toReversed() : bytes;
}

function characters(words: readonly number[]): number[] {
  const text = wordsText(words);
  return Array.from({ length: 16 }, (_, i) => (i < text.length ? text.charCodeAt(i) : 0));
}

function backwards(bytes: number[]): number[] {
  return bytes.toReversed();
}
