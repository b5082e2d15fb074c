import { nodeTurn } from './children.ts';
import { contest, type Score } from './contest.ts';
import { probesPerLookup } from './ipvs-connections-turn.ts';
import type { IpvsEffort } from './ipvs.ts';
import type { Table } from './report.ts';

const SIZES = [1 << 10, 1 << 15, 1 << 20, 1 << 22];
/** CONFIG_IP_VS_TAB_BITS, and the least and most that conn_tab_bits may be. */
const DEFAULT_BITS = 12;
const BITS_MIN = 8;
const BITS_MAX = 27;
/** Entries that stay in the processor's caches. */
const HOT = 1 << 8;
/** Chain entries that the lookups of one turn compare, roughly. */
const STEPS_A_TURN = 20_000_000;
/** Of ip_vs_conn and of a chain's head, Linux 6.1 on x86-64. */
const KERNEL_ENTRY_BYTES = 320;
const KERNEL_CHAIN_BYTES = 8;

export interface ConnectionsScore {
  readonly entries: number;
  /** 12, then as many as give each entry a chain. */
  readonly bits: readonly [number, number];
  /** Chain entries compared per lookup over all entries, by bits. */
  readonly probes: readonly [number, number];
  /** ns per lookup over all entries, and over a few that stay in the caches: both tables, then the Map. */
  readonly all: readonly Score[];
  readonly hot: readonly Score[];
}

/** The connection table from a thousand to four million entries, against a Map. */
export function measureConnections({ rounds, picks: most }: IpvsEffort): ConnectionsScore[] {
  return SIZES.map((entries) => {
    const ample = Math.min(BITS_MAX, Math.max(BITS_MIN, Math.log2(entries)));
    const bits = [DEFAULT_BITS, ample] as const;
    const probes = bits.map((one) => probesPerLookup(entries, one, Math.min(entries, 1 << 15)));
    const lookups = Math.min(most, Math.ceil(STEPS_A_TURN / Math.max(...probes)));
    const play = (asked: number): Score[] =>
      contest(
        [...bits, 'map' as const].map((one) => ({
          name: `${entries} connections, ${one === 'map' ? 'Map' : `${one} bits`}`,
          agrees: true,
          turn: () => nodeTurn({ bench: 'ipvs-connections', bits: one, entries, asked, lookups }),
        })),
        rounds,
      );
    return { entries, bits, probes: [probes[0]!, probes[1]!], all: play(entries), hot: play(HOT) };
  });
}

export function connectionsTable(scores: readonly ConnectionsScore[]): Table {
  return {
    title: 'IPVS connection table: ns per lookup, and bytes per entry',
    head: [
      'entries',
      '12 bits',
      'probes',
      'ample bits',
      'probes',
      'Map',
      'hot, ample',
      'hot, Map',
      'ratio',
      'bytes',
      'of the kernel',
      'of the Map',
    ],
    rows: scores.map(({ entries, bits, probes, all, hot }) => {
      const chains = 1 << bits[1];
      return [
        String(entries),
        all[0]!.ns.toFixed(1),
        probes[0].toFixed(1),
        `${all[1]!.ns.toFixed(1)} (${bits[1]})`,
        probes[1].toFixed(1),
        all[2]!.ns.toFixed(1),
        hot[1]!.ns.toFixed(1),
        hot[2]!.ns.toFixed(1),
        (hot[1]!.ns / hot[2]!.ns).toFixed(2),
        all[1]!.bytes.toFixed(0),
        (KERNEL_ENTRY_BYTES + (chains * KERNEL_CHAIN_BYTES) / entries).toFixed(0),
        all[2]!.bytes.toFixed(0),
      ];
    }),
    notes: [
      'every lookup finds its entry; 16 connections of each client; ample: as many chains as entries',
      `hot: ${HOT} entries, scattered; ratio: time with ample bits over that of the Map, whose key is client address and port alone`,
      'bytes: of a table with ample bits and its timers; the kernel needs 320 for an entry and 8 for a chain',
    ],
  };
}
