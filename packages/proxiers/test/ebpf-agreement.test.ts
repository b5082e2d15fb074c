import { CONNTRACK_DEFAULTS, FROM_OUTSIDE, FROM_POD, Packet, Streams, SYN, TCP, UDP } from '@vipsim/sim-core';
import test from 'ava';
import fc from 'fast-check';
import { ebpf } from '../src/ebpf/mode.ts';
import { iptables } from '../src/iptables/mode.ts';
import { READY, SERVING, TERMINATING, type Cluster } from '../src/kubernetes/cluster.ts';
import { EndpointsMap } from '../src/kubernetes/endpoints-map.ts';
import { defaultsOf, FORWARD, Verdict, type Proxier } from '../src/proxier.ts';
import { clusterOf, ip, LOCAL_NODE, type EndpointSpec } from './iptables-bench.ts';

/*
 * What packets meet with Cilium and in iptables mode, over random clusters: the endpoints that may be chosen are the
 * same, and who is let through there is let through here, but for what Cilium does differently on purpose.
 */

const VIP = '1.2.3.4';
const EXTERNAL_IP = '192.168.99.11';
const CLUSTER_IP = '172.30.0.41';
const NODE_PORT = 30_001;
/** Enough for each of 6 endpoints to be missed once in 10^13. */
const DRAWS = 180;

const CONDITIONS = fc.constantFrom(READY | SERVING, READY | SERVING, SERVING | TERMINATING, TERMINATING, 0);

const SERVICE = fc.record({
  endpoints: fc.array(fc.record({ local: fc.boolean(), conditions: CONDITIONS }), { maxLength: 6 }),
  internalPolicyLocal: fc.boolean(),
  externalPolicyLocal: fc.boolean(),
  isRanged: fc.boolean(),
  protocol: fc.constantFrom(TCP, UDP),
});

const WAYS = fc.record({
  socketLB: fc.boolean(),
  algorithm: fc.constantFrom('random', 'maglev'),
  lbMode: fc.constantFrom('snat', 'dsr', 'hybrid'),
  acceleration: fc.constantFrom('disabled', 'native'),
  agentOrder: fc.constantFrom('1.18+', 'pre-1.18'),
});

interface Probe {
  readonly from: string;
  readonly origin: typeof FROM_POD | typeof FROM_OUTSIDE;
  readonly to: string;
  readonly port: number;
}

const PROBES: readonly Probe[] = [
  { from: '10.0.0.5', origin: FROM_POD, to: CLUSTER_IP, port: 80 },
  { from: '10.0.0.5', origin: FROM_POD, to: VIP, port: 80 },
  { from: '10.0.0.5', origin: FROM_POD, to: EXTERNAL_IP, port: 80 },
  { from: '203.0.113.9', origin: FROM_OUTSIDE, to: VIP, port: 80 },
  { from: '203.0.113.9', origin: FROM_OUTSIDE, to: EXTERNAL_IP, port: 80 },
  { from: '198.51.100.7', origin: FROM_OUTSIDE, to: VIP, port: 80 },
  { from: '203.0.113.9', origin: FROM_OUTSIDE, to: '192.168.0.2', port: NODE_PORT },
];

/** The endpoint rows that packets of a kind were sent to; -1 among them if one was not sent on. */
function rowsMet(proxier: Proxier, operations: number, probe: Probe, protocol: number): Set<number> {
  const verdict = new Verdict(operations);
  const packet = new Packet();
  const met = new Set<number>();
  for (let i = 0; i < DRAWS; i++) {
    packet.source = ip(probe.from);
    packet.sourcePort = 2000 + i;
    packet.destination = ip(probe.to);
    packet.destinationPort = probe.port;
    packet.protocol = protocol;
    packet.flags = protocol === TCP ? SYN : 0;
    packet.origin = probe.origin;
    verdict.begin(packet);
    proxier.dataplane.classify(packet, 1_000_000_000, verdict);
    met.add(verdict.fate === FORWARD ? verdict.endpoint : -1);
  }
  return met;
}

function programmed(mode: typeof ebpf | typeof iptables, cluster: Cluster, options: object): Proxier {
  const node = {
    cluster,
    endpoints: new EndpointsMap(cluster),
    node: LOCAL_NODE,
    cores: 2,
    conntrack: CONNTRACK_DEFAULTS,
    streams: new Streams('0'),
  };
  const proxier = mode.create(node, {
    ...defaultsOf<object & typeof mode.options>(mode.options),
    ...options,
  } as never);
  for (const stage of proxier.sync([0], true).stages) stage.commit();
  return proxier;
}

test('Cilium chooses among the endpoints that iptables mode chooses among, whatever its ways', (t) => {
  fc.assert(
    fc.property(SERVICE, WAYS, ({ endpoints, isRanged, protocol, ...policies }, ways) => {
      const cluster = clusterOf([
        {
          clusterIp: CLUSTER_IP,
          type: 'LoadBalancer',
          loadBalancerIps: [VIP],
          externalIps: [EXTERNAL_IP],
          nodePort: NODE_PORT,
          protocol,
          sourceRanges: isRanged ? ['203.0.113.0/25'] : [],
          ...policies,
          endpoints: endpoints.map((one, i): EndpointSpec => ({ ...one, at: `10.180.0.${i + 1}:8080` })),
        },
      ]);
      const reference = programmed(iptables, cluster, {});
      const cilium = programmed(ebpf, cluster, ways);
      for (const probe of PROBES) {
        // Cilium guards only the way in by source ranges, kube-proxy all ways.
        if (isRanged && probe.origin === FROM_POD && probe.to === VIP) continue;
        // A pod's packet to an outside address: kube-proxy takes all endpoints, Cilium those of internalTrafficPolicy.
        const isShort = probe.origin === FROM_POD && probe.to !== CLUSTER_IP;
        if (isShort && (policies.internalPolicyLocal || policies.externalPolicyLocal)) continue;
        // connect() translates external IPs only where they are the node's own; the way out is left to others.
        if (ways.socketLB && probe.origin === FROM_POD && probe.to === EXTERNAL_IP) continue;
        const wanted = rowsMet(reference, iptables.operations.length, probe, protocol);
        const got = rowsMet(cilium, ebpf.operations.length, probe, protocol);
        const about = `${JSON.stringify(probe)} ${JSON.stringify({ ...policies, ...ways })}`;
        for (const row of got)
          t.true(
            wanted.has(row),
            `${row} of ${[...wanted].join(' ')}, got ${[...got].join(' ')}: ${about} ${JSON.stringify(endpoints)}`,
          );
        // One packet decides for all where nothing is drawn: Maglev spreads the sources' ports as chance does.
        t.is(got.size, wanted.size, about);
      }
    }),
    { seed: 42, numRuns: 120 },
  );
});
