import type { Family } from '../netfilter/address.ts';
import { fault, type Place, type Token } from './token.ts';

/** Options that an extension takes: their names, aliases included, each with its proper name and arguments. */
export type OptionNames = Readonly<Record<string, readonly [name: string, words: number]>>;

export interface OptionUse {
  readonly name: string;
  readonly not: boolean;
  readonly words: readonly Token[];
}

/** The options that one use of an extension was given, in the order in which they were written. */
export class Options {
  readonly place: Place;
  readonly family: Family;
  /** `match tcp`, `target DNAT`: for errors. */
  readonly owner: string;
  readonly uses: readonly OptionUse[];

  constructor(owner: string, family: Family, place: Place, uses: readonly OptionUse[]) {
    this.owner = owner;
    this.family = family;
    this.place = place;
    this.uses = uses;
  }

  find(name: string): OptionUse | undefined {
    return this.uses.find((use) => use.name === name);
  }

  has(name: string): boolean {
    return this.find(name) !== undefined;
  }

  isNot(name: string): boolean {
    return this.find(name)?.not === true;
  }

  text(name: string): string | undefined {
    return this.find(name)?.words[0]?.text;
  }

  /** The argument of an option that must be there. */
  needed(name: string): string {
    const text = this.text(name);
    if (text === undefined)
      throw this.fault(`lacks ${name}`, `add ${name} with its value, or remove the rule`);
    return text;
  }

  /** A whole number, decimal or 0x…, between two bounds; undefined if the option is absent. */
  whole(name: string, min: number, max: number): number | undefined {
    const text = this.text(name);
    if (text === undefined) return undefined;
    const value = parseWhole(text);
    if (value === undefined || value < min || value > max) {
      throw this.fault(`${name} ${text}: not a whole number from ${min} to ${max}`, 'correct the number');
    }
    return value;
  }

  fault(problem: string, hint: string): Error {
    return fault(this.place, `${this.owner}: ${problem}`, hint);
  }
}

/** Decimal or 0x… */
export function parseWhole(text: string): number | undefined {
  return /^(?:\d{1,15}|0x[0-9a-f]{1,12})$/i.test(text) ? Number(text) : undefined;
}

/** `80` or `1000:2000`, undefined for anything else. */
export function parsePorts(text: string, separator: string): readonly [number, number] | undefined {
  const [low, high, more] = text.split(separator);
  if (more !== undefined) return undefined;
  const from = low === '' && high !== undefined ? 0 : port(low!);
  const to = high === undefined ? from : high === '' ? 65535 : port(high);
  return from === undefined || to === undefined || from > to ? undefined : [from, to];
}

function port(text: string): number | undefined {
  return /^\d{1,5}$/.test(text) && Number(text) <= 65535 ? Number(text) : undefined;
}
