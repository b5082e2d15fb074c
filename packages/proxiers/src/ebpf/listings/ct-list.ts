import { formatIpv4, swap16, swap32 } from '@vipsim/sim-core';
import { protocolName } from '../../kubernetes/cluster.ts';
import type { ConnectionTracking } from '../programs/connection-tracking.ts';
import { TUPLE_IN, TUPLE_RELATED, TUPLE_SERVICE, type FlowMaps } from '../programs/flow-maps.ts';
import type { LruHashMap } from '../maps/lru-hash-map.ts';

const ICMP = 1;
const FLAG_NAMES = [
  'RxClosing',
  'TxClosing',
  'Nat64',
  'LBLoopback',
  'SeenNonSyn',
  'NodePort',
  'ProxyRedirect',
  'DSR',
];

/**
 * `cilium-dbg bpf ct list global`: a line for each entry, TCP's map first, in the order in which the kernel gives
 * keys. Source: dumpCt of cilium-dbg/cmd/bpf_ct_list.go, CtEntry of pkg/maps/ctmap.
 * Not modelled: packets, bytes and identities, which print as 0.
 * @param old with counters by direction and without the backend's id.
 */
export function* ctList(flows: FlowMaps, tracking: ConnectionTracking, old: boolean): Generator<string> {
  for (const map of [flows.ctTcp, flows.ctAny]) {
    for (const element of map.elements()) yield entryText(map, element, tracking, old);
  }
}

function entryText(map: LruHashMap, element: number, tracking: ConnectionTracking, old: boolean): string {
  const ports = map.keyWord(element, 2);
  const rest = map.keyWord(element, 3);
  const flags = rest >>> 8;
  const destination = formatIpv4(swap32(map.keyWord(element, 0)));
  const source = formatIpv4(swap32(map.keyWord(element, 1)));
  // A tuple's ports lie exchanged.
  const destinationPort = swap16(ports >>> 16);
  const sourcePort = swap16(ports & 0xffff);
  const words = [
    protocolText(rest & 0xff),
    (flags & TUPLE_IN) !== 0 ? 'IN' : 'OUT',
    `${source}:${sourcePort}`,
    '->',
    `${destination}:${destinationPort}`,
  ];
  if ((flags & TUPLE_RELATED) !== 0) words.push('related');
  if ((flags & TUPLE_SERVICE) !== 0) words.push('service');
  words.push(`expires=${tracking.lifetimeS(map, element)}`);
  return [...words, ...valueWords(map, element, tracking, old)].join(' ');
}

function valueWords(map: LruHashMap, element: number, tracking: ConnectionTracking, old: boolean): string[] {
  const direction = (name: string, received: boolean): string[] => [
    `${name}FlagsSeen=${byteText(tracking.flagsSeen(map, element, received))}`,
    `Last${name}Report=${tracking.lastReportS(map, element, received)}`,
  ];
  const last = [
    flagsText(tracking.bits(map, element)),
    `RevNAT=${tracking.revNatOf(map, element)}`,
    'SourceSecurityID=0',
  ];
  const received = direction('Rx', true);
  const sent = direction('Tx', false);
  if (old) return ['RxPackets=0', 'RxBytes=0', ...received, 'TxPackets=0', 'TxBytes=0', ...sent, ...last];
  const backend = `BackendID=${tracking.backendOf(map, element)}`;
  return ['Packets=0', 'Bytes=0', ...received, ...sent, ...last, backend];
}

function flagsText(bits: number): string {
  const names = FLAG_NAMES.filter((_, bit) => ((bits >>> bit) & 1) !== 0);
  return `Flags=0x${bits.toString(16).padStart(4, '0')} [ ${names.map((name) => `${name} `).join('')}]`;
}

function byteText(value: number): string {
  return `0x${value.toString(16).padStart(2, '0')}`;
}

function protocolText(protocol: number): string {
  return protocol === ICMP ? 'ICMP' : protocolName(protocol).toUpperCase();
}
