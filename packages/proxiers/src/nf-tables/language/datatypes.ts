import { formatAddress } from '../../netfilter/address.ts';
import type { Expression, Value } from './statement.ts';

/**
 * Types of keys and data: how wide they are, how a value is written, and what it is in the kernel's memory.
 * Source: nftables 1.0.6, src/datatype.c, src/ct.c, src/fib.c, src/meta.c, src/proto.c.
 */
export interface DataType {
  readonly name: string;
  readonly bytes: number;
  /** Network order, the host's (little-endian), or characters. */
  readonly order: 'network' | 'host' | 'text';
  readonly print: 'address' | 'decimal' | 'hex' | 'symbol' | 'interface';
  readonly symbols?: ReadonlyMap<string, number>;
  /** A bit each: `ct state new` asks whether the bit is set. */
  readonly bits?: true;
  /** Elements on one line of a listed set. */
  readonly perLine: number;
}

// As /etc/protocols of Debian 12 names them; what is not there is written as a number.
const PROTOCOLS = symbols(
  'ip 0 icmp 1 igmp 2 ggp 3 ipencap 4 st 5 tcp 6 egp 8 igp 9 pup 12 udp 17 hmp 20 xns-idp 22 rdp 27 iso-tp4 29 ' +
    'dccp 33 xtp 36 ddp 37 idpr-cmtp 38 ipv6 41 ipv6-route 43 ipv6-frag 44 idrp 45 rsvp 46 gre 47 esp 50 ah 51 ' +
    'skip 57 ipv6-icmp 58 ipv6-nonxt 59 ipv6-opts 60 rspf 73 vmtp 81 eigrp 88 ospf 89 ax.25 93 ipip 94 ' +
    'etherip 97 encap 98 pim 103 ipcomp 108 vrrp 112 l2tp 115 isis 124 sctp 132 fc 133 mobility-header 135 ' +
    'udplite 136 mpls-in-ip 137 manet 138 hip 139 shim6 140 wesp 141 rohc 142 ethernet 143',
);
const PROTOCOLS_READ = new Map([...PROTOCOLS, ['icmpv6', 58], ['comp', 108]]);

// Of /etc/services, the names that rules commonly use; they are listed as numbers.
const SERVICES = symbols('ftp 21 ssh 22 telnet 23 smtp 25 domain 53 http 80 pop3 110 ntp 123 https 443');

export const DATATYPES: ReadonlyMap<string, DataType> = new Map(
  (
    [
      { name: 'ipv4_addr', bytes: 4, order: 'network', print: 'address', perLine: 2 },
      { name: 'ipv6_addr', bytes: 16, order: 'network', print: 'address', perLine: 1 },
      {
        name: 'inet_proto',
        bytes: 1,
        order: 'network',
        print: 'symbol',
        symbols: PROTOCOLS_READ,
        perLine: 5,
      },
      {
        name: 'inet_service',
        bytes: 2,
        order: 'network',
        print: 'decimal',
        symbols: SERVICES,
        perLine: 5,
      },
      { name: 'mark', bytes: 4, order: 'host', print: 'hex', perLine: 5 },
      {
        name: 'ct_state',
        bytes: 4,
        order: 'host',
        print: 'symbol',
        symbols: symbols('invalid 1 established 2 related 4 new 8 untracked 64'),
        bits: true,
        perLine: 2,
      },
      {
        name: 'ct_status',
        bytes: 4,
        order: 'host',
        print: 'symbol',
        symbols: symbols('expected 1 seen-reply 2 assured 4 confirmed 8 snat 16 dnat 32 dying 512'),
        bits: true,
        perLine: 2,
      },
      {
        name: 'fib_addrtype',
        bytes: 4,
        order: 'host',
        print: 'symbol',
        symbols: symbols(
          'unspec 0 unicast 1 local 2 broadcast 3 anycast 4 multicast 5 blackhole 6 unreachable 7 prohibit 8',
        ),
        perLine: 1,
      },
      {
        name: 'nf_proto',
        bytes: 1,
        order: 'network',
        print: 'symbol',
        symbols: symbols('ipv4 2 ipv6 10'),
        perLine: 5,
      },
      { name: 'ifname', bytes: 16, order: 'text', print: 'symbol', perLine: 1 },
      { name: 'iface_index', bytes: 4, order: 'host', print: 'interface', perLine: 5 },
      { name: 'ports', bytes: 4, order: 'network', print: 'hex', perLine: 1 },
      { name: 'integer', bytes: 4, order: 'host', print: 'decimal', perLine: 5 },
    ] satisfies DataType[]
  ).map((type) => [type.name, type]),
);

const NAMES: ReadonlyMap<string, ReadonlyMap<number, string>> = new Map(
  [...DATATYPES.values()].map((type) => [
    type.name,
    new Map([...(type.name === 'inet_proto' ? PROTOCOLS : (type.symbols ?? []))].map(([a, b]) => [b, a])),
  ]),
);

/** Where a header field lies, in bytes. */
export interface Field {
  readonly header: string;
  readonly field: string;
  readonly base: 1 | 2;
  readonly offset: number;
  readonly bytes: number;
  readonly type: string;
}

/** linux/include/uapi/linux/ip.h, ipv6.h, tcp.h: the fields that rules of a Service path read. */
export const FIELDS: readonly Field[] = [
  { header: 'ip', field: 'protocol', base: 1, offset: 9, bytes: 1, type: 'inet_proto' },
  { header: 'ip', field: 'saddr', base: 1, offset: 12, bytes: 4, type: 'ipv4_addr' },
  { header: 'ip', field: 'daddr', base: 1, offset: 16, bytes: 4, type: 'ipv4_addr' },
  { header: 'ip6', field: 'nexthdr', base: 1, offset: 6, bytes: 1, type: 'inet_proto' },
  { header: 'ip6', field: 'saddr', base: 1, offset: 8, bytes: 16, type: 'ipv6_addr' },
  { header: 'ip6', field: 'daddr', base: 1, offset: 24, bytes: 16, type: 'ipv6_addr' },
  ...['th', 'tcp', 'udp', 'sctp', 'dccp', 'udplite'].flatMap((header): Field[] => [
    { header, field: 'sport', base: 2, offset: 0, bytes: 2, type: 'inet_service' },
    { header, field: 'dport', base: 2, offset: 2, bytes: 2, type: 'inet_service' },
    // Both at once: no word of nft, but how it reads two tests of ports that stand together.
    { header, field: 'ports', base: 2, offset: 0, bytes: 4, type: 'ports' },
  ]),
];

const FIELD_INDEX = new Map(FIELDS.map((field) => [`${field.header} ${field.field}`, field]));

export function fieldOf(header: string, name: string): Field | undefined {
  return FIELD_INDEX.get(`${header} ${name}`);
}

/** Keys of `meta` and `ct`: type, and the kernel's number of the key (linux/netfilter/nf_tables.h). */
export const META_KEYS: ReadonlyMap<string, { readonly type: string; readonly key: number }> = new Map([
  ['mark', { type: 'mark', key: 3 }],
  ['iif', { type: 'iface_index', key: 4 }],
  ['oif', { type: 'iface_index', key: 5 }],
  ['iifname', { type: 'ifname', key: 6 }],
  ['oifname', { type: 'ifname', key: 7 }],
  ['nfproto', { type: 'nf_proto', key: 15 }],
  ['l4proto', { type: 'inet_proto', key: 16 }],
]);
export const CT_KEYS: ReadonlyMap<string, { readonly type: string; readonly key: number }> = new Map([
  ['state', { type: 'ct_state', key: 0 }],
  ['status', { type: 'ct_status', key: 2 }],
  ['mark', { type: 'mark', key: 3 }],
]);

/** Transport protocols by the header's name, for `tcp dport` and its kin. */
export const TRANSPORTS: ReadonlyMap<string, number> = symbols('tcp 6 udp 17 dccp 33 sctp 132 udplite 136');

/** Types of the parts of an expression: one, or one for each part of a concatenation. */
export function typesOf(expression: Expression): string[] {
  switch (expression.kind) {
    case 'payload':
      return [fieldOf(expression.header, expression.field)?.type ?? 'integer'];
    case 'meta':
      return [META_KEYS.get(expression.key)?.type ?? 'integer'];
    case 'ct':
      return [CT_KEYS.get(expression.key)?.type ?? 'integer'];
    case 'fib':
      return [
        expression.result === 'type'
          ? 'fib_addrtype'
          : expression.result === 'oif'
            ? 'iface_index'
            : 'ifname',
      ];
    case 'concat':
      return expression.parts.flatMap(typesOf);
    case 'binary':
      return typesOf(expression.left);
    case 'numgen':
    case 'map':
    case 'value':
      return ['integer'];
  }
}

export function typeNamed(name: string): DataType {
  return DATATYPES.get(name) ?? DATATYPES.get('integer')!;
}

/** Words that a key of these types takes in registers: each part begins a word. */
export function wordsOf(types: readonly string[]): number {
  return types.reduce((total, name) => total + ((typeNamed(name).bytes + 3) >> 2), 0);
}

/** Bytes as the kernel counts them: a single part has its own width, parts of a concatenation fill words. */
export function bytesOf(types: readonly string[]): number {
  return types.length === 1 ? typeNamed(types[0]!).bytes : 4 * wordsOf(types);
}

/** The number behind a symbol or an integer of this type; undefined for what it does not know. */
export function numberOf(type: DataType, value: Value): number | undefined {
  if (value.kind === 'integer') return value.value;
  if (value.kind === 'symbol') return type.symbols?.get(value.text);
  if (value.kind !== 'flags' || type.bits === undefined) return undefined;
  let bits = 0;
  for (const name of value.names) {
    const bit = type.symbols!.get(name);
    if (bit === undefined) return undefined;
    bits |= bit;
  }
  return bits;
}

/** Memory order of words in host order, for a type in network order or of characters. And back: it is its own inverse. */
export function swapped(type: DataType, word: number): number {
  if (type.order === 'host' || type.bytes === 1) return word >>> 0;
  if (type.bytes === 2) return ((word & 0xff) << 8) | ((word >>> 8) & 0xff);
  return ((word << 24) | ((word & 0xff00) << 8) | ((word >>> 8) & 0xff00) | ((word >>> 24) & 0xff)) >>> 0;
}

/** Characters as words, most significant first, zeros behind them. */
export function textWords(text: string): number[] {
  const words = [0, 0, 0, 0];
  for (let i = 0; i < text.length; i++) words[i >> 2]! |= text.charCodeAt(i) << (24 - 8 * (i & 3));
  return words.map((word) => word >>> 0);
}

export function wordsText(words: readonly number[]): string {
  let text = '';
  for (let i = 0; i < 4 * words.length; i++) {
    const code = (words[i >> 2]! >>> (24 - 8 * (i & 3))) & 0xff;
    if (code === 0) break;
    text += String.fromCharCode(code);
  }
  return text;
}

/** A value from words in host order, in the form in which nft lists it. */
export function valueFrom(
  type: DataType,
  words: readonly number[],
  interfaceName?: (index: number) => string | undefined,
): Value {
  if (type.print === 'address') return { kind: 'address', words };
  if (type.order === 'text') return { kind: 'symbol', text: wordsText(words) };
  const value = words[0]!;
  if (type.print === 'interface') {
    const text = interfaceName?.(value);
    return text === undefined ? { kind: 'integer', value } : { kind: 'symbol', text };
  }
  if (type.print !== 'symbol') return { kind: 'integer', value };
  const text = NAMES.get(type.name)!.get(value);
  if (text !== undefined) return { kind: 'symbol', text };
  const names = type.bits === undefined ? undefined : bitNames(type, value);
  return names === undefined ? { kind: 'integer', value } : { kind: 'flags', names };
}

/** A value as nft lists it. */
export function valueText(type: DataType, value: Value): string {
  switch (value.kind) {
    case 'integer': {
      if (type.print === 'hex') return `0x${value.value.toString(16).padStart(8, '0')}`;
      if (type.print !== 'symbol') return String(value.value);
      const named = valueFrom(type, [value.value]);
      if (named.kind !== 'integer') return valueText(type, named);
      return type.bits ? `0x${value.value.toString(16)}` : String(value.value);
    }
    case 'symbol':
      if (type.order === 'text' || type.print === 'interface') return `"${value.text}"`;
      if (type.print === 'symbol' && type.symbols?.has(value.text)) {
        return NAMES.get(type.name)!.get(type.symbols.get(value.text)!) ?? value.text;
      }
      return String(type.symbols?.get(value.text) ?? value.text);
    case 'flags':
      return value.names.join(',');
    case 'address':
      return formatAddress(value.words);
    case 'prefix': {
      if (type.print !== 'address') {
        return `${valueText(type, { kind: 'integer', value: value.words[0]! })}/${value.length}`;
      }
      const text = formatAddress(value.words);
      return value.length === 32 * value.words.length ? text : `${text}/${value.length}`;
    }
    case 'range':
      return `${rangeEnd(type, value.from)}-${rangeEnd(type, value.to)}`;
    default:
      return '';
  }
}

/** Symbols are not used in ranges. */
function rangeEnd(type: DataType, value: Value): string {
  const number = type.print === 'symbol' && type.order !== 'text' ? numberOf(type, value) : undefined;
  return number === undefined ? valueText(type, value) : String(number);
}

function bitNames(type: DataType, value: number): string[] | undefined {
  const names: string[] = [];
  let left = value;
  for (const [name, bit] of type.symbols!) {
    if ((left & bit) === 0) continue;
    names.push(name);
    left &= ~bit;
  }
  return left === 0 && names.length > 0 ? names : undefined;
}

/** `tcp 6 udp 17` */
function symbols(text: string): Map<string, number> {
  const words = text.split(' ');
  return new Map(words.flatMap((name, i) => (i % 2 === 0 ? [[name, Number(words[i + 1])]] : [])));
}
