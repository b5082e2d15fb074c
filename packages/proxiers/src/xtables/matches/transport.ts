import { FIN, RST, SCTP, SYN, TCP, UDP, ACK } from '@vipsim/sim-core';
import { parsePorts, type OptionNames, type Options } from '../options.ts';
import { ICMP, ICMPV6 } from '../protocol.ts';
import type { Match } from '../rule.ts';
import type { Skb } from '../skb.ts';

/**
 * Models: ports of tcp, udp, sctp; TCP flags; multiport. Source: net/netfilter/xt_tcpudp.c, xt_multiport.c.
 * Not modelled: TCP and SCTP options, ICMP types (no packet here is ICMP, and their protocol is tested first).
 */

export const PORT_OPTIONS: OptionNames = {
  '--sport': ['--sport', 1],
  '--source-port': ['--sport', 1],
  '--dport': ['--dport', 1],
  '--destination-port': ['--dport', 1],
};

export const TCP_OPTIONS: OptionNames = {
  ...PORT_OPTIONS,
  '--tcp-flags': ['--tcp-flags', 2],
  '--syn': ['--syn', 0],
};

export const MULTIPORT_OPTIONS: OptionNames = {
  '--sports': ['--sports', 1],
  '--source-ports': ['--sports', 1],
  '--dports': ['--dports', 1],
  '--destination-ports': ['--dports', 1],
  '--ports': ['--ports', 1],
};

/** PSH and URG are bits that no packet here carries. */
const FLAGS: readonly (readonly [string, number])[] = [
  ['FIN', FIN],
  ['SYN', SYN],
  ['RST', RST],
  ['PSH', 64],
  ['ACK', ACK],
  ['URG', 128],
];

export function transportMatch(name: string, options: Options): Match {
  const sources = portTest(options, '--sport');
  const destinations = portTest(options, '--dport');
  const flags = name === 'tcp' ? flagTest(options) : undefined;
  const protocol = name === 'tcp' ? TCP : name === 'udp' ? UDP : SCTP;
  return {
    name,
    save: () => `${sources.text}${destinations.text}${flags?.text ?? ''}`,
    fits: (skb) =>
      skb.protocol === protocol &&
      sources.fits(skb.sourcePort) &&
      destinations.fits(skb.destinationPort) &&
      (flags === undefined || flags.fits(skb.flags)),
  };
}

/** `-m icmp` and `-m icmp6`: kept as written. */
export function icmpMatch(name: string, options: Options): Match {
  const protocol = name === 'icmp' ? ICMP : ICMPV6;
  const text = options.uses
    .map(
      ({ name: option, not, words }) =>
        `${not ? ' !' : ''} ${option} ${words.map(({ raw }) => raw).join(' ')}`,
    )
    .join('');
  return { name, save: () => text, fits: (skb) => skb.protocol === protocol };
}

export function multiportMatch(options: Options): Match {
  const use = options.uses[0];
  if (use === undefined || options.uses.length > 1) {
    throw options.fault('wants one of --sports, --dports, --ports', 'name the ports in one list');
  }
  const words = use.words[0]!.text.split(',');
  const ranges = words.map((word) => parsePorts(word, ':'));
  const bad = ranges.indexOf(undefined);
  if (bad >= 0) throw badPorts(options, words[bad]!);
  const holds = (port: number): boolean => ranges.some((range) => port >= range![0] && port <= range![1]);
  const tests: Readonly<Record<string, (skb: Skb) => boolean>> = {
    '--sports': (skb) => holds(skb.sourcePort),
    '--dports': (skb) => holds(skb.destinationPort),
    '--ports': (skb) => holds(skb.sourcePort) || holds(skb.destinationPort),
  };
  const test = tests[use.name]!;
  return {
    name: 'multiport',
    save: () => `${use.not ? ' !' : ''} ${use.name} ${words.join(',')}`,
    fits: (skb) =>
      (skb.protocol === TCP || skb.protocol === UDP || skb.protocol === SCTP) && test(skb) !== use.not,
  };
}

interface PortTest {
  readonly text: string;
  fits(port: number): boolean;
}

function portTest(options: Options, name: string): PortTest {
  const text = options.text(name);
  if (text === undefined) return { text: '', fits: () => true };
  const range = parsePorts(text, ':');
  if (range === undefined) throw badPorts(options, text);
  const [low, high] = range;
  const not = options.isNot(name);
  const shown = low === high ? String(low) : `${low}:${high}`;
  return {
    text: `${not ? ' !' : ''} ${name} ${shown}`,
    fits: (port) => (port >= low && port <= high) !== not,
  };
}

function flagTest(options: Options): { readonly text: string; fits(flags: number): boolean } | undefined {
  const use = options.find('--tcp-flags') ?? options.find('--syn');
  if (use === undefined) return undefined;
  const [mask, wanted] =
    use.name === '--syn'
      ? [SYN | RST | ACK | FIN, SYN]
      : [flagBits(options, use.words[0]!.text), flagBits(options, use.words[1]!.text)];
  return {
    text: `${use.not ? ' !' : ''} --tcp-flags ${flagText(mask)} ${flagText(wanted)}`,
    fits: (flags) => ((flags & mask) === wanted) !== use.not,
  };
}

function flagBits(options: Options, text: string): number {
  if (text === 'NONE') return 0;
  if (text === 'ALL') return FLAGS.reduce((all, [, bit]) => all | bit, 0);
  return text.split(',').reduce((bits, word) => {
    const bit = FLAGS.find(([name]) => name === word.toUpperCase())?.[1];
    if (bit === undefined) {
      throw options.fault(
        `${word} is no TCP flag`,
        `use ${FLAGS.map(([name]) => name).join(', ')}, ALL or NONE`,
      );
    }
    return bits | bit;
  }, 0);
}

function flagText(bits: number): string {
  const names = FLAGS.filter(([, bit]) => (bits & bit) !== 0).map(([name]) => name);
  return names.length === 0 ? 'NONE' : names.join(',');
}

function badPorts(options: Options, text: string): Error {
  return options.fault(
    `${JSON.stringify(text)} is not a port or a range of ports`,
    'write numbers from 0 to 65535, such as 80 or 8000:8100; names of services are not looked up',
  );
}
