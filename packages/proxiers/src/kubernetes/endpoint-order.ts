import type { Endpoints } from './cluster.ts';

/**
 * kube-proxy sorts the endpoints of a service by the bytes of `address:port`, so 10.0.0.10:80 comes before
 * 10.0.0.1:80 (the colon follows the digits). The same order comes out of comparing numbers, if each octet and
 * the port are replaced by the rank of their text among all texts with the same terminator. IPv6 texts, of no fixed
 * shape, are compared as they are.
 */

const DOT_RANK = ranks(256, '.');
const COLON_RANK = ranks(256, ':');
let portRank: Uint32Array | undefined;

/** The rows in kube-proxy's order, in a new array. */
export function sortedByText(endpoints: Endpoints, rows: Int32Array): Int32Array {
  if (rows.length < 2) return rows.slice();
  if (endpoints.family.name === 'ipv6') return sortByString(endpoints, rows);
  const port = endpoints.port[rows[0]!]!;
  const onePort = rows.every((row) => endpoints.port[row] === port);
  return onePort && rows.length <= 1048576 ? sortByAddress(endpoints, rows) : sortByBoth(endpoints, rows);
}

/** Address rank (32 bits) and position (20 bits) share a double, so that the engine's numeric sort does the work. */
function sortByAddress(endpoints: Endpoints, rows: Int32Array): Int32Array {
  const keys = new Float64Array(rows.length);
  for (let i = 0; i < rows.length; i++) keys[i] = addressRank(endpoints.address[rows[i]!]!) * 1048576 + i;
  keys.sort();
  const sorted = new Int32Array(rows.length);
  for (let i = 0; i < rows.length; i++) sorted[i] = rows[keys[i]! % 1048576]!;
  return sorted;
}

function sortByBoth(endpoints: Endpoints, rows: Int32Array): Int32Array {
  portRank ??= ranks(65536, '');
  const rankOfPort = portRank;
  const keyOf = (row: number): number =>
    addressRank(endpoints.address[row]!) * 65536 + rankOfPort[endpoints.port[row]!]!;
  return rows.slice().sort((a, b) => keyOf(a) - keyOf(b) || a - b);
}

/** Text of addresses is ASCII, so the order of strings is that of bytes. */
function sortByString(endpoints: Endpoints, rows: Int32Array): Int32Array {
  const texts = Array.from(rows, (row) => endpoints.text(row));
  const order = Int32Array.from(rows, (_, place) => place).sort((a, b) => {
    if (texts[a] === texts[b]) return a - b;
    return texts[a]! < texts[b]! ? -1 : 1;
  });
  return order.map((place) => rows[place]!);
}

function addressRank(address: number): number {
  return (
    DOT_RANK[address >>> 24]! * 16777216 +
    DOT_RANK[(address >>> 16) & 255]! * 65536 +
    DOT_RANK[(address >>> 8) & 255]! * 256 +
    COLON_RANK[address & 255]!
  );
}

/** By number below `bound`: its place when all are sorted as text followed by `terminator`. */
function ranks(bound: number, terminator: string): Uint32Array {
  const texts = Array.from({ length: bound }, (_, value) => `${value}${terminator}`);
  const order = texts.map((_, value) => value).sort((a, b) => (texts[a]! < texts[b]! ? -1 : 1));
  const rank = new Uint32Array(bound);
  for (let place = 0; place < bound; place++) rank[order[place]!] = place;
  return rank;
}
