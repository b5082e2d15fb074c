import { ACK, formatIpv4, FROM_OUTSIDE, jhash2, swap32, SYN, TCP, UDP, type Packet } from '@vipsim/sim-core';
import {
  DROP,
  type ConnectionStats,
  type Dataplane,
  type Recorder,
  type TableSize,
  type Verdict,
} from '../../proxier.ts';
import { katranIndex } from '../maglev/katran-ring.ts';
import * as operations from '../operations.ts';
import { HASH_NO_SOURCE_PORT, REALS_MAX, RING_SIZE, VIPS_MAX, type KatranMaps } from './maps.ts';
import { ARRAY_LOOKUP, KTIME, RING_READ } from './operations.ts';

const SECOND = 1_000_000_000;
const HALF = 4_294_967_296;
/** New connections a second and core that are remembered; beyond, packets go by the ring alone (MAX_CONN_RATE). */
export const CONNECTION_RATE_MAX = 125_000;
/** How long a silent UDP flow keeps its real (LRU_UDP_TIMEOUT). */
export const UDP_TIMEOUT = 30 * SECOND;

/** Of each VIP: the endpoint row behind a real's number. */
export type RowsByReal = readonly Map<number, number>[];

/**
 * What a packet from outside meets on a machine that runs Katran: an XDP program that finds the VIP, then the real that
 * the flow had on this core or that the ring gives it, and sends the packet back out in an outer header (IPIP or GUE).
 * Answers go from the real to the client; they never come here, and cost nothing.
 * Models: SYNs that are not looked up; LRU maps by core; UDP flows that have been silent; the rate beyond which nothing
 * is remembered; reals that are gone but whose flows are remembered; every access to a map.
 * Source: katran/lib/bpf/balancer.bpf.c. The core is taken to be chosen by a hash of addresses and ports (RSS).
 * Not modelled: packets above the MTU of 1500, ICMP, QUIC, source routing, health checks, IPv6. The model shows the
 * real as destination, where the packet inside keeps the VIP, and its port.
 */
export class KatranDataplane implements Dataplane {
  recorder: Recorder | undefined;
  readonly maps: KatranMaps;
  readonly #cores: number;
  readonly #rows: RowsByReal;
  readonly #knownReals: ReadonlySet<number>;
  // Of each core: connections in this second, and when it began.
  readonly #rate: Float64Array;
  readonly #rateSinceNs: Float64Array;
  #inserts = 0;
  #entries = 0;
  #peak = 0;
  /** Connections that were not remembered because there were too many. */
  bypassed = 0;

  /** @param knownReals addresses that are or were reals. */
  constructor(maps: KatranMaps, cores: number, rows: RowsByReal, knownReals: ReadonlySet<number>) {
    this.maps = maps;
    this.#cores = cores;
    this.#rows = rows;
    this.#knownReals = knownReals;
    this.#rate = new Float64Array(cores);
    this.#rateSinceNs = new Float64Array(cores).fill(-Infinity);
  }

  classify(packet: Packet, nowNs: number, verdict: Verdict): void {
    if (packet.origin !== FROM_OUTSIDE) {
      this.recorder?.step('xdp', 'not from outside: no program is met');
      return;
    }
    const { counts } = verdict;
    const vip = this.#vip(packet, packet.destinationPort);
    if (vip < 0 && this.#knownReals.has(packet.source)) {
      this.recorder?.step('xdp', 'the real answers the client itself: nothing comes here');
      return;
    }
    counts[operations.XDP]! += 1;
    if (packet.protocol !== TCP && packet.protocol !== UDP) {
      this.recorder?.step('xdp', 'neither TCP nor UDP: to the stack');
      return;
    }
    counts[operations.SERVICES_LOOKUP]! += 1;
    counts[operations.MAP_STEP]! += this.maps.vips.steps;
    this.#tell('vip_map', packet, vip >= 0);
    if (vip < 0) {
      // Once more for a VIP of all ports, of which there are none here.
      this.#vip(packet, 0);
      counts[operations.SERVICES_LOOKUP]! += 1;
      counts[operations.MAP_STEP]! += this.maps.vips.steps;
      this.recorder?.step('vip_map', 'port 0: miss; to the stack');
      return;
    }
    this.#balance(packet, vip, nowNs, verdict);
  }

  expire(): void {}

  workingSets(out: Float64Array): void {
    const { maps } = this;
    out.fill(0);
    out[operations.SERVICES_LOOKUP] = maps.vips.liveBytes();
    let flows = 0;
    for (const map of maps.lru) flows += map.liveBytes();
    out[operations.CT_LOOKUP] = flows;
    out[operations.CT_UPDATE] = flows;
    out[RING_READ] = maps.ringsUsed * RING_SIZE * 8;
    out[ARRAY_LOOKUP] = maps.realBytes;
  }

  tables(): readonly TableSize[] {
    const { maps } = this;
    const total = (read: (map: KatranMaps['lru'][number]) => number): number =>
      maps.lru.reduce((sum, map) => sum + read(map), 0);
    return [
      { name: `vip_map (max ${VIPS_MAX})`, entries: maps.vips.count, bytes: maps.vips.bytes() },
      { name: `reals (max ${REALS_MAX})`, entries: REALS_MAX, bytes: maps.realBytes },
      { name: 'ch_rings', entries: VIPS_MAX * RING_SIZE, bytes: maps.ringBytes },
      {
        name: `${maps.lru.length} LRU maps (max ${total((map) => map.maxEntries)})`,
        entries: total((map) => map.count),
        bytes: total((map) => map.bytes()),
      },
    ];
  }

  connections(): ConnectionStats {
    const evictions = this.maps.lru.reduce((sum, map) => sum + map.evictions, 0);
    const inserts = this.#inserts;
    return {
      entries: this.#entries,
      peak: this.#peak,
      inserts,
      drops: 0,
      earlyDrops: evictions,
      portExhaustions: 0,
    };
  }

  #vip({ destination, protocol }: Packet, port: number): number {
    return this.maps.vip(destination, port, protocol).find();
  }

  #balance(packet: Packet, element: number, nowNs: number, verdict: Verdict): void {
    const { maps, recorder } = this;
    const { counts } = verdict;
    const { source, destination, destinationPort, protocol, flags } = packet;
    const sticks = (maps.vipFlags(element) & HASH_NO_SOURCE_PORT) !== 0;
    const sourcePort = sticks ? 0 : packet.sourcePort;
    const vip = maps.vipNumber(element);
    const core = this.#coreOf(packet);
    // Counters of packets, and the map of this core.
    counts[ARRAY_LOOKUP]! += 2;
    let real = 0;
    if (protocol !== TCP || (flags & SYN) === 0) {
      const map = maps.flow(core, source, sourcePort, destination, destinationPort, protocol);
      const flow = map.lookup();
      counts[operations.CT_LOOKUP]! += 1;
      counts[operations.MAP_STEP]! += map.steps;
      recorder?.step(map.spec.name, `core ${core}: ${flow < 0 ? 'miss' : 'hit'}`);
      if (flow >= 0) real = this.#remembered(map, flow, protocol, nowNs, verdict);
    }
    if (real === 0) {
      real = this.#byRing(packet, vip, sourcePort, core, nowNs, verdict);
      if (real === 0) return;
    }
    // The router's address, counters of the VIP and of the real.
    counts[ARRAY_LOOKUP]! += 3;
    counts[operations.DSR_DISPATCH]! += 1;
    verdict.destination = maps.reals[real]!;
    recorder?.step('xdp', `real ${real}: encapsulated to ${formatIpv4(verdict.destination)}, XDP_TX`);
  }

  /** The real of a known flow; 0 if it was silent for too long. */
  #remembered(
    map: KatranMaps['lru'][number],
    flow: number,
    protocol: number,
    nowNs: number,
    { counts }: Verdict,
  ): number {
    if (protocol === UDP) {
      counts[KTIME]! += 1;
      const seenNs = map.value(flow, 1) + map.value(flow, 2) * HALF;
      if (nowNs - seenNs > UDP_TIMEOUT) {
        this.recorder?.step(map.spec.name, 'silent for more than 30 s: as if it were not there');
        return 0;
      }
      setTime(map, flow, nowNs);
    }
    counts[ARRAY_LOOKUP]! += 1;
    return map.value(flow, 0);
  }

  /** The ring's real for a flow, which is remembered unless there are too many; 0 when there is none. */
  #byRing(
    packet: Packet,
    vip: number,
    sourcePort: number,
    core: number,
    nowNs: number,
    verdict: Verdict,
  ): number {
    const { maps, recorder } = this;
    const { counts } = verdict;
    const { source, destination, destinationPort, protocol, flags } = packet;
    verdict.first = true;
    if (protocol === TCP) counts[ARRAY_LOOKUP]! += 1;
    const flooded = this.#isUnderFlood(core, nowNs, verdict);
    const position = katranIndex(source, sourcePort, destinationPort);
    const real = maps.ringAt(vip, position);
    counts[RING_READ]! += 1;
    recorder?.step('ch_rings', `VIP ${vip}, position ${position}: real ${real}`);
    if (real === 0) {
      counts[ARRAY_LOOKUP]! += 1;
      verdict.fate = DROP;
      recorder?.step('xdp', 'no real was ever there: XDP_DROP');
      return 0;
    }
    counts[ARRAY_LOOKUP]! += 1;
    verdict.endpoint = this.#rows[vip]?.get(real) ?? -1;
    if (flooded) {
      this.bypassed++;
      recorder?.step('katran_lru', `core ${core}: more than ${CONNECTION_RATE_MAX} a second, not written`);
    } else {
      const map = maps.flow(core, source, sourcePort, destination, destinationPort, protocol);
      const before = map.count + map.evictions;
      const held = map.count;
      const flow = map.update(core);
      counts[operations.CT_UPDATE]! += 1;
      if (flow >= 0) {
        if (map.count + map.evictions > before) this.#inserts++;
        map.setValue(flow, 0, real);
        setTime(map, flow, protocol === UDP ? nowNs : 0);
      }
      recorder?.step(map.spec.name, `core ${core}: written`);
      this.#entries += map.count - held;
      if (this.#entries > this.#peak) this.#peak = this.#entries;
    }
    // The VIP whose misses are counted.
    counts[ARRAY_LOOKUP]! += 1;
    if (protocol === TCP && (flags & (SYN | ACK)) === 0)
      recorder?.step('xdp', 'TCP without SYN was not known');
    return real;
  }

  #isUnderFlood(core: number, nowNs: number, { counts }: Verdict): boolean {
    counts[ARRAY_LOOKUP]! += 1;
    counts[KTIME]! += 1;
    if (nowNs - this.#rateSinceNs[core]! > SECOND) {
      this.#rate[core] = 1;
      this.#rateSinceNs[core] = nowNs;
      return false;
    }
    this.#rate[core]! += 1;
    return this.#rate[core]! > CONNECTION_RATE_MAX;
  }

  #coreOf({ source, destination, sourcePort, destinationPort }: Packet): number {
    if (this.#cores === 1) return 0;
    return jhash2(source ^ swap32(destination), sourcePort | (destinationPort << 16), 0) % this.#cores;
  }

  #tell(map: string, { destination, destinationPort }: Packet, hit: boolean): void {
    this.recorder?.step(map, `${formatIpv4(destination)}:${destinationPort}: ${hit ? 'hit' : 'miss'}`);
  }
}

function setTime(map: KatranMaps['lru'][number], flow: number, ns: number): void {
  map.setValue(flow, 1, ns % HALF);
  map.setValue(flow, 2, Math.floor(ns / HALF));
}
