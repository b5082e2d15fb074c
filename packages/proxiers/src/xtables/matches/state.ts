import type { OptionNames, Options } from '../options.ts';
import type { Match } from '../rule.ts';
import {
  CT_DNAT,
  CT_ESTABLISHED,
  CT_INVALID,
  CT_NEW,
  CT_RELATED,
  CT_SNAT,
  CT_UNTRACKED,
  type Skb,
  type World,
} from '../skb.ts';

/**
 * Models: `conntrack --ctstate`, `state --state`, `addrtype`, `mark`, `comment`, `nfacct`.
 * Source: net/netfilter/xt_conntrack.c, xt_state.c, xt_addrtype.c, xt_mark.c, and the save functions of iptables.
 * Not modelled: the other tests of conntrack (`--ctorigdst` and so on); address types that ask the routing table.
 */

export const CONNTRACK_OPTIONS: OptionNames = { '--ctstate': ['--ctstate', 1] };
export const STATE_OPTIONS: OptionNames = { '--state': ['--state', 1] };
export const MARK_OPTIONS: OptionNames = { '--mark': ['--mark', 1] };
export const COMMENT_OPTIONS: OptionNames = { '--comment': ['--comment', 1] };
export const NFACCT_OPTIONS: OptionNames = { '--nfacct-name': ['--nfacct-name', 1] };
export const ADDRTYPE_OPTIONS: OptionNames = {
  '--src-type': ['--src-type', 1],
  '--dst-type': ['--dst-type', 1],
  '--limit-iface-in': ['--limit-iface-in', 0],
  '--limit-iface-out': ['--limit-iface-out', 0],
};

const CTSTATES: readonly (readonly [string, number])[] = [
  ['INVALID', CT_INVALID],
  ['NEW', CT_NEW],
  ['RELATED', CT_RELATED],
  ['ESTABLISHED', CT_ESTABLISHED],
  ['UNTRACKED', CT_UNTRACKED],
  ['SNAT', CT_SNAT],
  ['DNAT', CT_DNAT],
];

const ADDRESS_TYPES = [
  'UNSPEC',
  'UNICAST',
  'LOCAL',
  'BROADCAST',
  'ANYCAST',
  'MULTICAST',
  'BLACKHOLE',
  'UNREACHABLE',
  'PROHIBIT',
];

/** `match conntrack` and the older `match state`, which knows the first five states only. */
export function stateMatch(name: 'conntrack' | 'state', options: Options): Match {
  const option = name === 'state' ? '--state' : '--ctstate';
  const known = name === 'state' ? CTSTATES.slice(0, 5) : CTSTATES;
  const wanted = listed(
    options,
    option,
    known.map(([word]) => word),
  );
  const not = options.isNot(option);
  const states = known.filter(([word]) => wanted.includes(word));
  const bits = states.reduce((all, [, bit]) => all | bit, 0);
  const text = `${not ? ' !' : ''} ${option} ${states.map(([word]) => word).join(',')}`;
  return { name, save: () => text, fits: (skb) => ((skb.state & bits) !== 0) !== not };
}

export function addrtypeMatch(options: Options): Match {
  const tests = ['--src-type', '--dst-type']
    .filter((option) => options.has(option))
    .map((option) => {
      const types = listed(options, option, ADDRESS_TYPES);
      const inOrder = ADDRESS_TYPES.filter((type) => types.includes(type));
      return { option, not: options.isNot(option), types: inOrder };
    });
  if (tests.length === 0) throw options.fault('wants --src-type or --dst-type', 'name a type, such as LOCAL');
  const flags = ['--limit-iface-in', '--limit-iface-out'].filter((flag) => options.has(flag));
  const words = tests.map(({ option, not, types }) => `${not ? ' !' : ''} ${option} ${types.join(',')}`);
  const text = words.join('') + flags.map((flag) => ` ${flag}`).join('');
  return {
    name: 'addrtype',
    save: () => text,
    fits: (skb, world) =>
      tests.every(({ option, not, types }) => types.includes(typeOf(skb, option, world)) !== not),
  };
}

export function markMatch(options: Options): Match {
  const [value, mask] = valueAndMask(options, '--mark', options.needed('--mark'));
  const not = options.isNot('--mark');
  const shown = mask === 0xffffffff ? hex(value) : `${hex(value)}/${hex(mask)}`;
  return {
    name: 'mark',
    save: () => `${not ? ' !' : ''} --mark ${shown}`,
    fits: (skb) => ((skb.mark & mask) >>> 0 === value) !== not,
  };
}

/** `0x4000`, `0x4000/0x4000`, decimal as well. */
export function valueAndMask(options: Options, option: string, text: string): readonly [number, number] {
  const match = /^(0x[0-9a-f]{1,8}|\d{1,10})(?:\/(0x[0-9a-f]{1,8}|\d{1,10}))?$/i.exec(text);
  const value = Number(match?.[1] ?? NaN);
  const mask = Number(match?.[2] ?? 0xffffffff);
  if (!(value <= 0xffffffff && mask <= 0xffffffff)) {
    throw options.fault(`${option} ${text}: not a mark`, 'write value or value/mask, each of 32 bits');
  }
  return [value, mask];
}

export function hex(value: number): string {
  return `0x${(value >>> 0).toString(16)}`;
}

function listed(options: Options, option: string, known: readonly string[]): readonly string[] {
  const words = options.needed(option).toUpperCase().split(',');
  const odd = words.find((word) => !known.includes(word));
  if (odd !== undefined) throw options.fault(`${option}: ${odd} is not known`, `use ${known.join(', ')}`);
  return words;
}

function typeOf(skb: Skb, option: string, world: World): string {
  const address = option === '--src-type' ? skb.source : skb.destination;
  if (world.isLocal(address)) return 'LOCAL';
  if (world.isBroadcast(address)) return 'BROADCAST';
  const top = address[0]! >>> 24;
  const isMulticast = address.length === 1 ? top >= 224 && top < 240 : top === 0xff;
  return isMulticast ? 'MULTICAST' : 'UNICAST';
}
