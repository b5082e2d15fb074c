import { formatAddress, parseAddress, type Address } from '../../netfilter/address.ts';
import { hex, valueAndMask } from '../matches/state.ts';
import { parsePorts, parseWhole, type OptionNames, type Options } from '../options.ts';
import type { NatTarget, Target } from '../rule.ts';

export interface TargetExtension {
  readonly options: OptionNames;
  /** The table that a rule with this target must be in; the kernel refuses others. */
  readonly table?: string;
  build(options: Options): Target;
}

const NAT_FLAGS: OptionNames = {
  '--random': ['--random', 0],
  '--random-fully': ['--random-fully', 0],
  '--persistent': ['--persistent', 0],
};

const REJECTIONS: Readonly<Record<number, readonly string[]>> = {
  4: [
    'icmp-net-unreachable',
    'icmp-host-unreachable',
    'icmp-proto-unreachable',
    'icmp-port-unreachable',
    'icmp-net-prohibited',
    'icmp-host-prohibited',
    'tcp-reset',
    'icmp-admin-prohibited',
  ],
  6: [
    'icmp6-no-route',
    'icmp6-adm-prohibited',
    'icmp6-addr-unreachable',
    'icmp6-port-unreachable',
    'icmp6-policy-fail',
    'icmp6-reject-route',
    'tcp-reset',
  ],
};

/** The targets that decide or change something, by the word behind `-j`. */
export const TARGETS: Readonly<Record<string, TargetExtension>> = {
  REJECT: { options: { '--reject-with': ['--reject-with', 1] }, table: 'filter', build: rejectTarget },
  MARK: {
    options: {
      '--set-mark': ['--set-mark', 1],
      '--set-xmark': ['--set-xmark', 1],
      '--or-mark': ['--or-mark', 1],
      '--xor-mark': ['--xor-mark', 1],
      '--and-mark': ['--and-mark', 1],
    },
    build: markTarget,
  },
  DNAT: {
    options: { '--to-destination': ['--to', 1], '--to': ['--to', 1], ...NAT_FLAGS },
    table: 'nat',
    build: (options) => natTarget('DNAT', options),
  },
  SNAT: {
    options: { '--to-source': ['--to', 1], '--to': ['--to', 1], ...NAT_FLAGS },
    table: 'nat',
    build: (options) => natTarget('SNAT', options),
  },
  MASQUERADE: {
    options: { '--to-ports': ['--to-ports', 1], ...NAT_FLAGS },
    table: 'nat',
    build: (options) => natTarget('MASQUERADE', options),
  },
  REDIRECT: {
    options: { '--to-ports': ['--to-ports', 1], ...NAT_FLAGS },
    table: 'nat',
    build: (options) => natTarget('REDIRECT', options),
  },
};

/** Targets after which the next rule is met, whatever else they do: their options are kept as written. */
export const CONTINUING: readonly string[] = [
  'LOG',
  'NFLOG',
  'ULOG',
  'CONNMARK',
  'CT',
  'NOTRACK',
  'TCPMSS',
  'TRACE',
  'CHECKSUM',
  'AUDIT',
  'CLASSIFY',
  'DSCP',
  'TOS',
  'TTL',
  'HL',
];

/** Names that are targets of iptables, modelled or not: a `-j` to another name is a jump to a chain. */
export const OTHER_TARGETS: readonly string[] = [
  'QUEUE',
  'NFQUEUE',
  'TPROXY',
  'TEE',
  'SET',
  'NETMAP',
  'CLUSTERIP',
  'CONNSECMARK',
  'SECMARK',
  'ECN',
  'IDLETIMER',
  'LED',
  'RATEEST',
  'SYNPROXY',
  'TCPOPTSTRIP',
  'DNPT',
  'SNPT',
  'MIRROR',
  'SAME',
  'HMARK',
];

/** ` -j …` or ` -g …` as iptables-save prints it. */
export function targetText(target: Target): string {
  switch (target.kind) {
    case 'verdict':
      return ` -j ${target.name}`;
    case 'chain':
      return ` ${target.isGoto ? '-g' : '-j'} ${target.chain}`;
    case 'reject':
      return ` -j REJECT --reject-with ${target.answer}`;
    case 'mark':
      return ` -j MARK --set-xmark ${hex(target.value)}/${hex(target.mask)}`;
    case 'nat':
      return ` -j ${target.name}${natText(target)}`;
    case 'continue':
    case 'unknown':
      return ` -j ${target.name}${target.options}`;
  }
}

function rejectTarget(options: Options): Target {
  const known = REJECTIONS[options.family]!;
  const answer = options.text('--reject-with') ?? known[3]!;
  if (!known.includes(answer)) {
    throw options.fault(`--reject-with ${answer} is not known`, `use ${known.join(', ')}`);
  }
  return { kind: 'reject', name: 'REJECT', answer };
}

/** Every way to set a mark is a value and a mask: mark = (mark & ~mask) ^ value. Source: libxt_MARK.c. */
function markTarget(options: Options): Target {
  const use = options.uses[0];
  if (use === undefined || options.uses.length > 1) {
    throw options.fault(
      'wants one of --set-mark, --set-xmark, --or-mark, --and-mark, --xor-mark',
      'give one',
    );
  }
  const [bits, given] = valueAndMask(options, use.name, use.words[0]!.text);
  const masks: Readonly<Record<string, readonly [number, number]>> = {
    '--set-mark': [bits, (given | bits) >>> 0],
    '--set-xmark': [bits, given],
    '--or-mark': [bits, bits],
    '--xor-mark': [bits, 0],
    '--and-mark': [0, ~bits >>> 0],
  };
  const [value, mask] = masks[use.name]!;
  return { kind: 'mark', name: 'MARK', value, mask };
}

function natTarget(name: NatTarget['name'], options: Options): NatTarget {
  const flags = {
    random: options.has('--random'),
    randomFully: options.has('--random-fully'),
    persistent: options.has('--persistent'),
  };
  if (name === 'DNAT' || name === 'SNAT') {
    return { kind: 'nat', name, ...natRange(options, options.needed('--to')), ...flags };
  }
  const text = options.text('--to-ports');
  if (text === undefined) return { kind: 'nat', name, ...flags };
  const ports = parsePorts(text, '-');
  if (ports === undefined) throw badRange(options, text);
  return { kind: 'nat', name, ports, ...flags };
}

type Range = Pick<NatTarget, 'addresses' | 'ports' | 'basePort'>;

/** `10.0.0.1`, `10.0.0.1:80`, `10.0.0.1-10.0.0.9:1000-2000/3000`, `:53`; IPv6 in brackets before a port. */
function natRange(options: Options, text: string): Range {
  const split = options.family === 6 ? /^(?:\[([^\]]*)\](?::(.*))?|([^[\]]+))$/ : /^([^:]*)(?::(.*))?$/;
  const match = split.exec(text);
  if (!match) throw badRange(options, text);
  const [first, last] = (match[1] ?? match[3] ?? '').split('-');
  const [ports, base] = (match[2] ?? '').split('/');
  const range = ports === '' ? undefined : parsePorts(ports!, '-');
  const basePort = base === undefined ? undefined : parseWhole(base);
  const addresses =
    first === ''
      ? undefined
      : ([first!, last ?? first!] as const).map((end) => parseAddress(end, options.family));
  const badPorts = ports !== '' && (range === undefined || range[0] === 0);
  if (badPorts || (base !== undefined && basePort === undefined) || addresses?.includes(undefined)) {
    throw badRange(options, text);
  }
  return {
    ...(addresses === undefined ? {} : { addresses: addresses as unknown as readonly [Address, Address] }),
    ...(range === undefined ? {} : { ports: range }),
    ...(basePort === undefined ? {} : { basePort }),
  };
}

function natText(target: NatTarget): string {
  const { addresses, ports } = target;
  const flags =
    (target.random ? ' --random' : '') +
    (target.randomFully ? ' --random-fully' : '') +
    (target.persistent ? ' --persistent' : '');
  const base = target.basePort === undefined ? '' : `/${target.basePort}`;
  const portText =
    ports === undefined ? '' : (ports[0] === ports[1] ? `${ports[0]}` : `${ports[0]}-${ports[1]}`) + base;
  if (target.name === 'MASQUERADE' || target.name === 'REDIRECT') {
    return `${portText === '' ? '' : ` --to-ports ${portText}`}${flags}`;
  }
  const ends = addresses?.map(formatAddress) ?? [];
  const span = ends[0] === ends[1] ? (ends[0] ?? '') : `${ends[0]}-${ends[1]}`;
  const host = addresses?.[0].length === 4 && portText !== '' ? `[${span}]` : span;
  const option = target.name === 'DNAT' ? '--to-destination' : '--to-source';
  return ` ${option} ${host}${portText === '' ? '' : `:${portText}`}${flags}`;
}

function badRange(options: Options, text: string): Error {
  return options.fault(
    `${JSON.stringify(text)} is not an address with a port`,
    options.family === 4 ? 'write it like 10.1.2.3:8080' : 'write it like [fd00::1]:8080',
  );
}
