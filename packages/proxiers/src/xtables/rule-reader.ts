import { formatNetwork, parseNetwork, type Family } from '../netfilter/address.ts';
import { MATCHES } from './matches/extensions.ts';
import { Options, type OptionNames, type OptionUse } from './options.ts';
import { protocolNumber, protocolText } from './protocol.ts';
import type { AddressTest, LinkTest, Match, Rule, Selector, Target } from './rule.ts';
import { CONTINUING, OTHER_TARGETS, TARGETS } from './targets/extensions.ts';
import { fault, type Place, type Token } from './token.ts';

const LINK_MAX = 15;

/** Protocols whose match is loaded by its first option: `-p tcp --dport 80` needs no `-m tcp`. */
const IMPLICIT: Readonly<Record<string, string>> = {
  tcp: 'tcp',
  udp: 'udp',
  sctp: 'sctp',
  icmp: 'icmp',
  'ipv6-icmp': 'icmp6',
};

/** An extension being read: its options so far. */
interface Use {
  readonly name: string;
  readonly known: OptionNames | undefined;
  readonly uses: OptionUse[];
  /** Of one that is not modelled: its words as written. */
  raw: string;
}

/**
 * Reads the words of one rule behind its chain, in any order that iptables takes: save's (`-d … -p tcp -m tcp`)
 * and kube-proxy's (`-m tcp -p tcp -d … --dport`). Several rules come of lists such as `-s 10.0.0.1,10.0.0.2`.
 * An option belongs to the extension loaded last that has it. Source: iptables/xshared.c, do_parse.
 */
export function readRules(words: readonly Token[], table: string, family: Family, place: Place): Rule[] {
  return new RuleReader(words, table, family, place).read();
}

class RuleReader {
  readonly #words: readonly Token[];
  readonly #table: string;
  readonly #family: Family;
  readonly #place: Place;
  readonly #matches: Use[] = [];
  #target: Use | undefined;
  #goto: string | undefined;
  #at = 0;
  #sources: AddressTest[] = [];
  #destinations: AddressTest[] = [];
  #selector: { -readonly [Name in keyof Selector]: Selector[Name] } = {};
  #packets = 0;
  #bytes = 0;

  constructor(words: readonly Token[], table: string, family: Family, place: Place) {
    this.#words = words;
    this.#table = table;
    this.#family = family;
    this.#place = place;
  }

  read(): Rule[] {
    while (this.#at < this.#words.length) {
      const not = this.#words[this.#at]!.raw === '!';
      if (not) this.#at++;
      const word = this.#words[this.#at++];
      if (word === undefined) throw this.#fault('a rule ends in !', 'put an option behind it, or remove it');
      if (!this.#readSelector(word.text, not) && !this.#readLoading(word.text, not))
        this.#readOption(word, not);
    }
    const sources = this.#sources.length === 0 ? [undefined] : this.#sources;
    const destinations = this.#destinations.length === 0 ? [undefined] : this.#destinations;
    return sources.flatMap((source) => destinations.map((destination) => this.#rule(source, destination)));
  }

  #rule(source: AddressTest | undefined, destination: AddressTest | undefined): Rule {
    return {
      selector: {
        ...(source === undefined ? {} : { source }),
        ...(destination === undefined ? {} : { destination }),
        ...this.#selector,
      },
      matches: this.#matches.map((use) => this.#match(use)),
      target: this.#targetOf(),
      line: this.#place.line,
      packets: this.#packets,
      bytes: this.#bytes,
    };
  }

  /** Options of the rule itself. */
  #readSelector(word: string, not: boolean): boolean {
    switch (word) {
      case '-s':
      case '--source':
      case '--src':
        this.#sources = this.#addresses(this.#next(word), not);
        return true;
      case '-d':
      case '--destination':
      case '--dst':
        this.#destinations = this.#addresses(this.#next(word), not);
        return true;
      case '-i':
      case '--in-interface':
        this.#selector.inLink = this.#link(this.#next(word), not);
        return true;
      case '-o':
      case '--out-interface':
        this.#selector.outLink = this.#link(this.#next(word), not);
        return true;
      case '-p':
      case '--protocol':
      case '--proto':
        this.#readProtocol(this.#next(word), not);
        return true;
      case '-f':
      case '--fragment':
      case '--fragments':
        this.#selector.fragment = { not };
        return true;
      case '-c':
      case '--set-counters':
        this.#packets = this.#count(this.#next(word));
        this.#bytes = this.#count(this.#next(word));
        return true;
      default:
        return false;
    }
  }

  /** `-m`, `-j`, `-g`. */
  #readLoading(word: string, not: boolean): boolean {
    switch (word) {
      case '-m':
      case '--match': {
        const name = this.#next(word).text;
        this.#matches.push({ name, known: MATCHES[name]?.options, uses: [], raw: '' });
        return true;
      }
      case '-j':
      case '--jump':
      case '-g':
      case '--goto': {
        const name = this.#next(word).text;
        if (this.#target !== undefined)
          throw this.#fault(`a second target, ${name}`, 'a rule has one -j or -g');
        if (word === '-g' || word === '--goto') this.#goto = name;
        const isVerbatim = CONTINUING.includes(name) || OTHER_TARGETS.includes(name);
        this.#target = {
          name,
          known: isVerbatim ? undefined : (TARGETS[name]?.options ?? {}),
          uses: [],
          raw: '',
        };
        return true;
      }
      default:
        if (!word.startsWith('-')) {
          throw this.#fault(
            `${JSON.stringify(word)} stands where an option should`,
            'quote text that has blanks; an option starts with - or --',
          );
        }
        if (not && !word.startsWith('--'))
          throw this.#fault(`! before ${word}`, 'only options can be inverted');
        return false;
    }
  }

  #readOption(word: Token, not: boolean): void {
    const owner = this.#ownerOf(word.text);
    if (owner === undefined) {
      const protocol = this.#selector.protocol;
      const name =
        protocol === undefined || protocol.not ? undefined : IMPLICIT[protocolText(protocol.value)];
      const extension = name === undefined ? undefined : MATCHES[name];
      if (
        name !== undefined &&
        extension!.options[word.text] !== undefined &&
        !this.#matches.some((use) => use.name === name)
      ) {
        this.#matches.push({ name, known: extension!.options, uses: [], raw: '' });
        this.#readOption(word, not);
        return;
      }
      this.#readUnknown(word, not);
      return;
    }
    const [name, count] = owner.known![word.text]!;
    const words: Token[] = [];
    for (let i = 0; i < count; i++) words.push(this.#next(word.text));
    if (owner.uses.some((use) => use.name === name)) {
      throw this.#fault(`${word.text} is given twice to ${owner.name}`, 'give it once');
    }
    owner.uses.push({ name, not, words });
  }

  /** The extension loaded last that has the option. */
  #ownerOf(option: string): Use | undefined {
    if (this.#target?.known?.[option] !== undefined) return this.#target;
    return this.#matches.findLast((use) => use.known?.[option] !== undefined);
  }

  /** Give an option and its arguments to the extension that was loaded last among those not modelled. */
  #readUnknown(word: Token, not: boolean): void {
    const isTargets = this.#target !== undefined && this.#target.known === undefined;
    const partly = this.#matches.findLast((use) => use.name === 'conntrack' || use.name === 'state');
    const owner = isTargets
      ? this.#target
      : (this.#matches.findLast((use) => use.known === undefined) ?? partly);
    if (owner === undefined) {
      throw this.#fault(
        `option ${word.text} belongs to none of the matches and targets before it`,
        'load its match with -m NAME first, or correct the option',
      );
    }
    owner.raw += ` ${not ? '! ' : ''}${word.raw}`;
    while (this.#at < this.#words.length) {
      const { raw, text } = this.#words[this.#at]!;
      if (raw === '!' || (text.startsWith('-') && raw === text && !/^-\d/.test(text))) break;
      owner.raw += ` ${raw}`;
      this.#at++;
    }
  }

  #match(use: Use): Match {
    const extension = MATCHES[use.name];
    if (extension === undefined || use.raw !== '') {
      const known = use.uses
        .map(
          ({ name, not, words }) => `${not ? ' !' : ''} ${[name, ...words.map(({ raw }) => raw)].join(' ')}`,
        )
        .join('');
      const text = known + use.raw;
      return { name: use.name, unknown: true, save: () => text, fits: () => false };
    }
    return extension.build(new Options(`match ${use.name}`, this.#family, this.#place, use.uses));
  }

  #targetOf(): Target | undefined {
    const use = this.#target;
    if (use === undefined) return undefined;
    const { name } = use;
    if (this.#goto !== undefined) return { kind: 'chain', chain: name, isGoto: true };
    if (name === 'ACCEPT' || name === 'DROP' || name === 'RETURN') return { kind: 'verdict', name };
    const extension = TARGETS[name];
    if (extension !== undefined) {
      if (extension.table !== undefined && extension.table !== this.#table) {
        throw this.#fault(
          `target ${name} in table ${this.#table}: the kernel takes it in ${extension.table} only`,
          `move the rule below *${extension.table}`,
        );
      }
      return extension.build(new Options(`target ${name}`, this.#family, this.#place, use.uses));
    }
    if (CONTINUING.includes(name)) {
      const untracks = name === 'NOTRACK' || (name === 'CT' && / --notrack\b/.test(use.raw));
      return { kind: 'continue', name, options: use.raw, untracks };
    }
    if (OTHER_TARGETS.includes(name)) return { kind: 'unknown', name, options: use.raw };
    return { kind: 'chain', chain: name, isGoto: false };
  }

  #readProtocol(word: Token, not: boolean): void {
    const value = protocolNumber(word.text);
    if (value === undefined) {
      throw this.#fault(`-p ${word.text}: no such protocol`, 'use tcp, udp, sctp, icmp, all or a number');
    }
    if (value !== 0) this.#selector.protocol = { value, not };
  }

  #addresses(word: Token, not: boolean): AddressTest[] {
    return word.text.split(',').flatMap((text) => {
      const network = parseNetwork(text, this.#family);
      if (network === undefined) {
        throw this.#fault(
          `${JSON.stringify(text)} is not an IPv${this.#family} address or network`,
          `write it like ${this.#family === 4 ? '10.1.0.0/16' : 'fd00::/64'}; names of hosts are not looked up`,
        );
      }
      // Any address: no test, and iptables-save does not print it.
      const isAny = !not && formatNetwork(network).endsWith('/0');
      return isAny ? [] : [{ network, not }];
    });
  }

  #link(word: Token, not: boolean): LinkTest {
    if (word.text.length === 0 || word.text.length > LINK_MAX) {
      throw this.#fault(
        `${JSON.stringify(word.text)} is no interface name`,
        `it has 1 to ${LINK_MAX} characters`,
      );
    }
    return { name: word.text, not };
  }

  #count(word: Token): number {
    if (/^\d{1,15}$/.test(word.text)) return Number(word.text);
    throw this.#fault(`counter ${JSON.stringify(word.text)} is not a number`, 'write -c PACKETS BYTES');
  }

  #next(option: string): Token {
    const word = this.#words[this.#at++];
    if (word === undefined) throw this.#fault(`${option} lacks its argument`, 'add it, or remove the option');
    return word;
  }

  #fault(problem: string, hint: string): Error {
    return fault(this.#place, problem, hint);
  }
}
