/**
 * Addresses of both families as words of 32 bits, unsigned, most significant first: one word for IPv4, four for
 * IPv6. The rules of one text are of one family, so words of equal position are compared and nothing else.
 */
export type Address = readonly number[];
export type Family = 4 | 6;

export interface Network {
  readonly address: Address;
  /** Any mask of bits: iptables accepts 255.0.255.0. */
  readonly mask: Address;
}

/** `10.0.0.1` or `fd00::1`; undefined if the text is no address of that family. */
export function parseAddress(text: string, family: Family): Address | undefined {
  return family === 4 ? parseFour(text) : parseSix(text);
}

/** An address with or without `/prefix` or `/mask`; host bits are cleared, as iptables does. */
export function parseNetwork(text: string, family: Family): Network | undefined {
  const slash = text.indexOf('/');
  const host = slash < 0 ? text : text.slice(0, slash);
  const address = parseAddress(family === 4 && slash >= 0 ? padded(host) : host, family);
  if (address === undefined) return undefined;
  const mask = slash < 0 ? prefixMask(address.length * 32, family) : parseMask(text.slice(slash + 1), family);
  if (mask === undefined) return undefined;
  return { address: address.map((word, i) => (word & mask[i]!) >>> 0), mask };
}

/** Lower case, the longest run of zeros shortened, as inet_ntop writes it. */
export function formatAddress(address: Address): string {
  if (address.length === 1) return dotted(address[0]!);
  const [first, second, third, last] = address as [number, number, number, number];
  if (first === 0 && second === 0 && third === 0xffff) return `::ffff:${dotted(last)}`;
  if (first === 0 && second === 0 && third === 0 && last > 0xffff) return `::${dotted(last)}`;
  const groups = address.flatMap((word) => [word >>> 16, word & 0xffff]);
  const run = longestZeros(groups);
  const text = groups.map((group) => group.toString(16));
  if (run.length < 2) return text.join(':');
  return `${text.slice(0, run.from).join(':')}::${text.slice(run.from + run.length).join(':')}`;
}

/** Always with its mask: a prefix length where the mask is one, else the mask in full. */
export function formatNetwork(network: Network): string {
  const { mask } = network;
  const bits = mask.reduce((total, word) => total + ones(word), 0);
  const plain = sameAddress(mask, prefixMask(bits, mask.length === 1 ? 4 : 6));
  return `${formatAddress(network.address)}/${plain ? bits : formatAddress(mask)}`;
}

export function sameAddress(one: Address, other: Address): boolean {
  return one.every((word, i) => word === other[i]);
}

export function isInside(network: Network, address: Address): boolean {
  for (let i = 0; i < address.length; i++) {
    if (((address[i]! ^ network.address[i]!) & network.mask[i]!) !== 0) return false;
  }
  return true;
}

export function prefixMask(prefix: number, family: Family): Address {
  return Array.from({ length: family === 4 ? 1 : 4 }, (_, i) => {
    const bits = Math.min(32, Math.max(0, prefix - 32 * i));
    return bits === 0 ? 0 : (0xffffffff << (32 - bits)) >>> 0;
  });
}

function parseMask(text: string, family: Family): Address | undefined {
  if (/^\d{1,3}$/.test(text)) {
    const prefix = Number(text);
    return prefix > (family === 4 ? 32 : 128) ? undefined : prefixMask(prefix, family);
  }
  return parseAddress(text, family);
}

/** iptables takes `10/8` for `10.0.0.0/8`. */
function padded(host: string): string {
  const octets = host.split('.');
  while (octets.length < 4) octets.push('0');
  return octets.join('.');
}

function parseFour(text: string): Address | undefined {
  const match = /^(\d{1,3})\.(\d{1,3})\.(\d{1,3})\.(\d{1,3})$/.exec(text);
  if (!match) return undefined;
  let word = 0;
  for (let i = 1; i <= 4; i++) {
    const octet = Number(match[i]);
    if (octet > 255) return undefined;
    word = word * 256 + octet;
  }
  return [word];
}

function parseSix(text: string): Address | undefined {
  const tail = /^(.*:)(\d+\.\d+\.\d+\.\d+)$/.exec(text);
  if (tail) {
    const four = parseFour(tail[2]!);
    if (four === undefined) return undefined;
    return parseSix(`${tail[1]!}${(four[0]! >>> 16).toString(16)}:${(four[0]! & 0xffff).toString(16)}`);
  }
  const halves = text.split('::');
  if (halves.length > 2) return undefined;
  const [head, rest] = halves.map((half) => (half === '' ? [] : half.split(':'))) as [string[], string[]?];
  const given = head.length + (rest?.length ?? 0);
  if (rest === undefined ? given !== 8 : given > 7) return undefined;
  const groups = [...head, ...Array.from({ length: 8 - given }, () => '0'), ...(rest ?? [])];
  if (!groups.every((group) => /^[0-9a-f]{1,4}$/i.test(group))) return undefined;
  return [0, 2, 4, 6].map((i) => parseInt(groups[i]!, 16) * 65536 + parseInt(groups[i + 1]!, 16));
}

function dotted(word: number): string {
  return `${word >>> 24}.${(word >>> 16) & 255}.${(word >>> 8) & 255}.${word & 255}`;
}

function longestZeros(groups: readonly number[]): { readonly from: number; readonly length: number } {
  let best = { from: 0, length: 0 };
  for (let from = 0; from < groups.length; from++) {
    let length = 0;
    while (groups[from + length] === 0) length++;
    if (length > best.length) best = { from, length };
  }
  return best;
}

function ones(word: number): number {
  let count = 0;
  for (let rest = word; rest !== 0; rest = (rest & (rest - 1)) >>> 0) count++;
  return count;
}
