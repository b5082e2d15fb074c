import { readFileSync, readdirSync } from 'node:fs';
import test from 'ava';
import fc from 'fast-check';
import {
  ACK,
  CONNTRACK_DEFAULTS,
  FIN,
  FROM_HOST,
  FROM_OUTSIDE,
  FROM_POD,
  Ipv6Family,
  Packet,
  SCTP,
  SYN,
  Streams,
  TCP,
  UDP,
  parseIpv4,
  type AddressFamily,
  type Origin,
} from '@vipsim/sim-core';
import {
  Endpoints,
  Pods,
  READY,
  SERVING,
  ServicePorts,
  type Cluster,
  type Service,
} from '../src/kubernetes/cluster.ts';
import { EndpointsMap } from '../src/kubernetes/endpoints-map.ts';
import { SYNTHETIC_DEFAULTS, syntheticCluster } from '../src/kubernetes/synthetic.ts';
import { DROP, FORWARD, Verdict, defaultsOf, type OptionsOf } from '../src/proxier.ts';
import {
  connectionList,
  persistentList,
  rateList,
  savedLines,
  serviceList,
  statisticsList,
  thresholdList,
  timeoutLine,
} from '../src/ipvs/ipvsadm.ts';
import { readIpvsadmSave } from '../src/ipvs/ipvsadm-reader.ts';
import {
  NO_TRAFFIC,
  comparePlaces,
  compareServices,
  mergeSorted,
  type ListedServer,
  type ListedService,
  type Place,
  type Traffic,
} from '../src/ipvs/listing.ts';
import { ipvs, ipvsOptions } from '../src/ipvs/mode.ts';
import { IPVS_OPERATIONS } from '../src/ipvs/operations.ts';
import type { IpvsProxier } from '../src/ipvs/proxier.ts';
import { RestoredTable } from '../src/ipvs/restored-table.ts';
import { createSets } from '../src/ipvs/sets.ts';

type Options = Partial<OptionsOf<typeof ipvsOptions>>;

const SECOND = 1_000_000_000;
const ip = (text: string): number => parseIpv4(text)!;
const countOf = (counts: Float64Array, name: (typeof IPVS_OPERATIONS)[number]): number =>
  counts[IPVS_OPERATIONS.indexOf(name)]!;

// ── A node ──────────────────────────────────────────────────────────────────────────────────────────────────

const NODE = '172.30.9.9';

interface PortSpec {
  readonly protocol?: number;
  readonly port: number;
  readonly nodePort?: number;
}

/** One Service at 172.30.0.41 with an endpoint on this node and one on another, unless told otherwise. */
function cluster(
  over: Partial<Service> = {},
  specs: readonly PortSpec[] = [{ port: 80 }],
  family?: Ipv6Family,
): Cluster {
  const address = (v4: string, v6: string): number => (family === undefined ? ip(v4) : family.parse(v6)!);
  const ports = new ServicePorts();
  const pods = new Pods();
  const endpoints = new Endpoints(family);
  const clusterIp = address('172.30.0.41', 'fd00::41');
  for (const [service, { protocol = TCP, port, nodePort = 0 }] of specs.entries()) {
    ports.add({ service: 0, clusterIp, name: `p${service}`, protocol, port, nodePort });
    ports.firstEndpoint[service] = endpoints.count;
    for (const [i, pod] of [
      address('10.180.0.1', 'fd00:1::1'),
      address('10.180.2.1', 'fd00:1::2'),
    ].entries()) {
      endpoints.add(service, pods.add(pod, i, 0), pod, port, READY | SERVING);
    }
  }
  ports.firstEndpoint[specs.length] = endpoints.count;
  return {
    name: 'test',
    nodes: [
      { name: 'a', address: address(NODE, 'fd00:2::9'), zone: '' },
      { name: 'b', address: address('172.30.9.10', 'fd00:2::10'), zone: '' },
    ],
    services: [
      {
        namespace: 'default',
        name: 'web',
        type: 'LoadBalancer',
        clusterIp,
        externalIps: [],
        loadBalancerIps: [],
        sourceRanges: [],
        affinityS: 0,
        internalPolicyLocal: false,
        externalPolicyLocal: false,
        healthCheckNodePort: 0,
        ...over,
      },
    ],
    ports,
    workloads: [],
    pods,
    endpoints,
    podCidr: family === undefined ? { address: ip('10.0.0.0'), prefix: 8 } : family.parseCidr('fd00:1::/64')!,
    serviceCidr:
      family === undefined ? { address: ip('172.30.0.0'), prefix: 16 } : family.parseCidr('fd00::/112')!,
    notes: [],
  };
}

class NodeBench {
  readonly proxier: IpvsProxier;
  readonly endpoints: EndpointsMap;
  readonly verdict = new Verdict(IPVS_OPERATIONS.length);
  readonly failure: string;
  readonly #packet = new Packet();
  nowNs = 0;

  constructor(of: Cluster, options: Options = {}) {
    this.endpoints = new EndpointsMap(of);
    const node = {
      cluster: of,
      endpoints: this.endpoints,
      node: 0,
      cores: 4,
      conntrack: CONNTRACK_DEFAULTS,
      streams: new Streams('7'),
    };
    this.proxier = ipvs.create(node, { ...defaultsOf(ipvsOptions), ...options }) as IpvsProxier;
    this.failure = this.sync([], true).failure;
  }

  /** All counts of a pass together. */
  sync(
    changed: readonly number[],
    full = false,
  ): { readonly counts: Float64Array; readonly failure: string } {
    const plan = this.proxier.sync(changed, full);
    const counts = new Float64Array(IPVS_OPERATIONS.length);
    for (const stage of plan.stages) {
      for (const i of counts.keys()) counts[i]! += stage.counts[i]!;
      stage.commit();
    }
    return { counts, failure: plan.failure?.message ?? '' };
  }

  dump(format: string): string[] {
    return [...this.proxier.dump(format)];
  }

  send(
    from: string,
    to: string,
    flags: number,
    { protocol = TCP, origin = FROM_POD as Origin } = {},
  ): Verdict {
    const packet = this.#packet;
    [packet.source, packet.sourcePort] = place(from);
    [packet.destination, packet.destinationPort] = place(to);
    packet.flags = flags;
    packet.protocol = protocol;
    packet.origin = origin;
    this.verdict.begin(packet);
    this.proxier.dataplane.classify(packet, this.nowNs, this.verdict);
    return this.verdict;
  }

  wait(seconds: number): void {
    for (let i = 0; i < seconds; i++) this.proxier.dataplane.expire((this.nowNs += SECOND));
  }
}

function place(text: string): [number, number] {
  const [address, port] = text.split(':');
  return [ip(address!), Number(port)];
}

// ── Virtual servers and kube-ipvs0 ──────────────────────────────────────────────────────────────────────────

const EXPOSED: Partial<Service> = {
  externalIps: [ip('192.168.99.22'), ip(NODE)],
  loadBalancerIps: [ip('1.2.3.4')],
};

test('each way in is a virtual server; its address goes to kube-ipvs0 unless another interface has it', (t) => {
  const bench = new NodeBench(cluster(EXPOSED, [{ port: 80, nodePort: 30080 }]), {
    otherAddresses: '172.17.0.1,10.180.0.254',
  });
  t.deepEqual(
    bench.dump('ipvsadm-save').filter((line) => line.startsWith('-A')),
    [
      // Sorted as ipvsadm does, by the sign of 32-bit differences.
      '-A -t 172.17.0.1:30080 -s rr',
      '-A -t 172.30.0.41:80 -s rr',
      '-A -t 172.30.9.9:80 -s rr',
      '-A -t 172.30.9.9:30080 -s rr',
      '-A -t 192.168.99.22:80 -s rr',
      '-A -t 1.2.3.4:80 -s rr',
      '-A -t 10.180.0.254:30080 -s rr',
    ],
  );
  t.deepEqual(
    bench.dump('ipset-restore').filter((line) => line.startsWith('add KUBE-IPVS-IPS')),
    [
      'add KUBE-IPVS-IPS 1.2.3.4 -exist',
      'add KUBE-IPVS-IPS 172.30.0.41 -exist',
      'add KUBE-IPVS-IPS 192.168.99.22 -exist',
    ],
  );
  t.true(
    bench.proxier
      .remarks()
      .some((line) => /1 node ports on 3 addresses of the node are 3 virtual/.test(line)),
  );
});

test('nodePortAddresses chooses among the addresses of the node; without one left the rest of the port is skipped', (t) => {
  const of = cluster({ healthCheckNodePort: 30000, externalPolicyLocal: true }, [
    { port: 80, nodePort: 3001 },
  ]);
  const nodePorts = (options: Options): string[] => {
    const lines = new NodeBench(of, options).dump('ipvsadm-save').filter((line) => line.includes(':3001 -s'));
    return lines.map((line) => line.split(' ')[2]!);
  };
  const otherAddresses = '172.17.0.1';
  t.deepEqual(nodePorts({ otherAddresses }), ['172.17.0.1:3001', `${NODE}:3001`]);
  t.deepEqual(nodePorts({ otherAddresses, nodePortAddresses: 'primary' }), [`${NODE}:3001`]);
  t.deepEqual(nodePorts({ otherAddresses, nodePortAddresses: '172.17.0.0/16' }), ['172.17.0.1:3001']);
  const none = new NodeBench(of, { nodePortAddresses: '192.0.2.0/24' });
  t.deepEqual(nodePorts({ nodePortAddresses: '192.0.2.0/24' }), []);
  t.false(none.dump('ipset-restore').some((line) => /^add KUBE-(NODE-PORT|HEALTH)/.test(line)));
  t.true(new NodeBench(of).dump('ipset-restore').includes('add KUBE-HEALTH-CHECK-NODE-PORT 30000 -exist'));
  t.true(none.proxier.remarks().some((line) => line.startsWith('1 node ports are not served')));
});

test('session affinity makes every virtual server persistent; mh hashes the port, too', (t) => {
  const sticky = new NodeBench(cluster({ affinityS: 10800 }, [{ port: 80, nodePort: 30080 }]));
  t.deepEqual(
    sticky.dump('ipvsadm-save').filter((line) => line.startsWith('-A')),
    ['-A -t 172.30.0.41:80 -s rr -p 10800', '-A -t 172.30.9.9:30080 -s rr -p 10800'],
  );
  t.is(new NodeBench(cluster(), { scheduler: 'mh' }).dump('ipvsadm')[3], 'TCP  172.30.0.41:80 mh (mh-port)');
  t.is(
    new NodeBench(cluster(), { scheduler: 'mh' }).dump('ipvsadm-save')[0],
    '-A -t 172.30.0.41:80 -s mh -b mh-port',
  );
});

test('every scheduler of the kernel may be asked for', (t) => {
  for (const scheduler of ipvsOptions.scheduler.choices) {
    const bench = new NodeBench(cluster(), { scheduler });
    t.true(bench.dump('ipvsadm')[3]!.startsWith(`TCP  172.30.0.41:80 ${scheduler}`));
    t.is(bench.send('10.180.7.7:40000', '172.30.0.41:80', SYN).fate, FORWARD, scheduler);
  }
});

test('policy Local takes local endpoints, or all of them where there is none', (t) => {
  const servers = (bench: NodeBench, vip: string): string[] =>
    bench
      .dump('ipvsadm-save')
      .filter((line) => line.startsWith(`-a -t ${vip} `))
      .map((line) => line.split(' ')[4]!);
  const of = cluster({ externalPolicyLocal: true, internalPolicyLocal: false }, [
    { port: 80, nodePort: 30080 },
  ]);
  const bench = new NodeBench(of);
  t.deepEqual(servers(bench, `${NODE}:30080`), ['10.180.0.1:80']);
  t.deepEqual(servers(bench, '172.30.0.41:80'), ['10.180.0.1:80', '10.180.2.1:80']);
  bench.endpoints.conditions[0] = 0;
  bench.sync([0]);
  t.deepEqual(servers(bench, `${NODE}:30080`), ['10.180.2.1:80']);
});

test('virtual servers of others are deleted by the next pass, save those in excludeCIDRs', (t) => {
  const bench = new NodeBench(cluster(), { excludeCIDRs: '192.0.2.0/24' });
  for (const address of ['192.0.2.7', '198.51.100.7']) {
    const service = bench.proxier.director.addService(TCP, ip(address), 80);
    bench.proxier.director.addServer(service, ip('10.9.9.9'), 80, 1, -1);
  }
  const { counts } = bench.sync([]);
  t.deepEqual(
    bench.dump('ipvsadm-save').filter((line) => line.startsWith('-A')),
    ['-A -t 172.30.0.41:80 -s rr', '-A -t 192.0.2.7:80 -s rr'],
  );
  // Link, two address dumps, three calls for the one virtual server, the last dump, one DEL_SERVICE.
  t.is(countOf(counts, 'ipvs.netlink'), 3 + 3 + 1 + 1);
});

// ── Sets ────────────────────────────────────────────────────────────────────────────────────────────────────

const HASH = 'family inet hashsize 1024 maxelem 65536 -exist';

test('the seventeen sets are made with these commands, and filled entry by entry', (t) => {
  const of = cluster(
    {
      externalIps: [ip('192.168.99.22')],
      loadBalancerIps: [ip('1.2.3.4')],
      sourceRanges: [
        { address: ip('203.0.113.0'), prefix: 25 },
        { address: ip('172.30.9.0'), prefix: 24 },
      ],
      healthCheckNodePort: 30000,
    },
    [
      { port: 80, nodePort: 3001 },
      { protocol: UDP, port: 53, nodePort: 3002 },
      { protocol: SCTP, port: 3868, nodePort: 3003 },
    ],
  );
  t.deepEqual(new NodeBench(of, { otherAddresses: '172.17.0.1' }).dump('ipset-restore'), [
    `create KUBE-LOOP-BACK hash:ip,port,ip ${HASH}`,
    `create KUBE-CLUSTER-IP hash:ip,port ${HASH}`,
    `create KUBE-EXTERNAL-IP hash:ip,port ${HASH}`,
    `create KUBE-EXTERNAL-IP-LOCAL hash:ip,port ${HASH}`,
    `create KUBE-LOAD-BALANCER hash:ip,port ${HASH}`,
    `create KUBE-LOAD-BALANCER-FW hash:ip,port ${HASH}`,
    `create KUBE-LOAD-BALANCER-LOCAL hash:ip,port ${HASH}`,
    `create KUBE-LOAD-BALANCER-SOURCE-IP hash:ip,port,ip ${HASH}`,
    `create KUBE-LOAD-BALANCER-SOURCE-CIDR hash:ip,port,net ${HASH}`,
    'create KUBE-NODE-PORT-TCP bitmap:port range 0-65535 -exist',
    'create KUBE-NODE-PORT-LOCAL-TCP bitmap:port range 0-65535 -exist',
    'create KUBE-NODE-PORT-UDP bitmap:port range 0-65535 -exist',
    'create KUBE-NODE-PORT-LOCAL-UDP bitmap:port range 0-65535 -exist',
    `create KUBE-NODE-PORT-SCTP-HASH hash:ip,port ${HASH}`,
    `create KUBE-NODE-PORT-LOCAL-SCTP-HASH hash:ip,port ${HASH}`,
    'create KUBE-HEALTH-CHECK-NODE-PORT bitmap:port range 0-65535 -exist',
    `create KUBE-IPVS-IPS hash:ip ${HASH}`,
    'add KUBE-LOOP-BACK 10.180.0.1,sctp:3868,10.180.0.1 -exist',
    'add KUBE-LOOP-BACK 10.180.0.1,tcp:80,10.180.0.1 -exist',
    'add KUBE-LOOP-BACK 10.180.0.1,udp:53,10.180.0.1 -exist',
    'add KUBE-CLUSTER-IP 172.30.0.41,sctp:3868 -exist',
    'add KUBE-CLUSTER-IP 172.30.0.41,tcp:80 -exist',
    'add KUBE-CLUSTER-IP 172.30.0.41,udp:53 -exist',
    'add KUBE-EXTERNAL-IP 192.168.99.22,sctp:3868 -exist',
    'add KUBE-EXTERNAL-IP 192.168.99.22,tcp:80 -exist',
    'add KUBE-EXTERNAL-IP 192.168.99.22,udp:53 -exist',
    ...['KUBE-LOAD-BALANCER', 'KUBE-LOAD-BALANCER-FW'].flatMap((name) =>
      ['sctp:3868', 'tcp:80', 'udp:53'].map((port) => `add ${name} 1.2.3.4,${port} -exist`),
    ),
    ...['sctp:3868', 'tcp:80', 'udp:53'].map(
      (port) => `add KUBE-LOAD-BALANCER-SOURCE-IP 1.2.3.4,${port},1.2.3.4 -exist`,
    ),
    ...['sctp:3868', 'tcp:80', 'udp:53'].flatMap((port) =>
      ['172.30.9.0/24', '203.0.113.0/25'].map(
        (range) => `add KUBE-LOAD-BALANCER-SOURCE-CIDR 1.2.3.4,${port},${range} -exist`,
      ),
    ),
    'add KUBE-NODE-PORT-TCP 3001 -exist',
    'add KUBE-NODE-PORT-UDP 3002 -exist',
    'add KUBE-NODE-PORT-SCTP-HASH 172.17.0.1,sctp:3003 -exist',
    'add KUBE-NODE-PORT-SCTP-HASH 172.30.9.9,sctp:3003 -exist',
    'add KUBE-HEALTH-CHECK-NODE-PORT 30000 -exist',
    'add KUBE-IPVS-IPS 1.2.3.4 -exist',
    'add KUBE-IPVS-IPS 172.30.0.41 -exist',
    'add KUBE-IPVS-IPS 192.168.99.22 -exist',
  ]);
});

test('policy Local fills the sets named so', (t) => {
  const of = cluster(
    { externalIps: [ip('192.168.99.22')], loadBalancerIps: [ip('1.2.3.4')], externalPolicyLocal: true },
    [{ port: 80, nodePort: 3001 }],
  );
  t.deepEqual(
    new NodeBench(of).dump('ipset-restore').filter((line) => /^add KUBE-(EXTERNAL|LOAD|NODE)/.test(line)),
    [
      'add KUBE-EXTERNAL-IP-LOCAL 192.168.99.22,tcp:80 -exist',
      'add KUBE-LOAD-BALANCER 1.2.3.4,tcp:80 -exist',
      'add KUBE-LOAD-BALANCER-LOCAL 1.2.3.4,tcp:80 -exist',
      'add KUBE-NODE-PORT-TCP 3001 -exist',
      'add KUBE-NODE-PORT-LOCAL-TCP 3001 -exist',
    ],
  );
});

test('sets of IPv6 are named KUBE-6-, cut to 31 characters', (t) => {
  const family: AddressFamily = new Ipv6Family();
  const names = Object.values(createSets(new Streams('1').stream('s'), family)).map(({ name }) => name);
  t.true(names.includes('KUBE-6-LOAD-BALANCER-SOURCE-CID'));
  t.true(names.includes('KUBE-6-NODE-PORT-LOCAL-SCTP-HAS'));
  t.true(names.every((name) => name.startsWith('KUBE-6-') && name.length <= 31));
  t.is(new Set(names).size, 17);
});

test('an IPv6 node has the same rules with its own names, addresses and set type', (t) => {
  const bench = new NodeBench(cluster({}, [{ port: 80 }], new Ipv6Family()));
  t.deepEqual(bench.dump('ipvsadm-save'), [
    '-A -t [fd00::41]:80 -s rr',
    '-a -t [fd00::41]:80 -r [fd00:1::1]:80 -m -w 1',
    '-a -t [fd00::41]:80 -r [fd00:1::2]:80 -m -w 1',
  ]);
  const rules = bench.dump('iptables-restore');
  t.is(rules[6], '-A KUBE-SERVICES -s ::1/128 -j RETURN');
  t.true(
    rules.includes(
      '-A KUBE-SERVICES -m comment --comment "Kubernetes service cluster ip + port for masquerade purpose" -m set --match-set KUBE-6-CLUSTER-IP dst,dst ! -s fd00:1::/64 -j KUBE-MARK-MASQ',
    ),
  );
  const sets = bench.dump('ipset-restore');
  t.is(sets[1], 'create KUBE-6-CLUSTER-IP hash:ip,port family inet6 hashsize 1024 maxelem 65536 -exist');
  t.true(sets.includes('add KUBE-6-LOOP-BACK fd00:1::1,tcp:80,fd00:1::1 -exist'));
});

// ── Fixed rules ─────────────────────────────────────────────────────────────────────────────────────────────

test('with every set in use the restore input is this, line by line', (t) => {
  const of = everything();
  t.deepEqual(new NodeBench(of).dump('iptables-restore'), RESTORE.trim().split('\n'));
});

/** Two Services, one with policy Local, that fill every set but one. */
function everything(): Cluster {
  const one = cluster(
    {
      externalIps: [ip('192.168.99.22')],
      loadBalancerIps: [ip('1.2.3.4')],
      sourceRanges: [{ address: ip('172.30.9.0'), prefix: 24 }],
      healthCheckNodePort: 30000,
    },
    [
      { port: 80, nodePort: 3001 },
      { protocol: UDP, port: 53, nodePort: 3002 },
      { protocol: SCTP, port: 3868, nodePort: 3003 },
    ],
  );
  const web = one.services[0]!;
  const local: Service = {
    ...web,
    name: 'local',
    clusterIp: ip('172.30.0.42'),
    externalIps: [ip('192.168.99.23')],
    loadBalancerIps: [ip('1.2.3.5')],
    sourceRanges: [{ address: ip('203.0.113.0'), prefix: 25 }],
    externalPolicyLocal: true,
    healthCheckNodePort: 0,
  };
  for (const [i, protocol] of [TCP, UDP, SCTP].entries()) {
    const port = {
      service: 1,
      clusterIp: local.clusterIp,
      name: `q${i}`,
      protocol,
      port: 90,
      nodePort: 4001 + i,
    };
    one.ports.add(port);
    one.ports.firstEndpoint[one.ports.count] = one.endpoints.count;
  }
  return { ...one, services: [web, local] };
}

const LB = 'Kubernetes service load balancer ip + port';
const RESTORE = `
*nat
:KUBE-SERVICES - [0:0]
:KUBE-POSTROUTING - [0:0]
:KUBE-NODE-PORT - [0:0]
:KUBE-LOAD-BALANCER - [0:0]
:KUBE-MARK-MASQ - [0:0]
-A KUBE-SERVICES -s 127.0.0.0/8 -j RETURN
-A KUBE-POSTROUTING -m comment --comment "Kubernetes endpoints dst ip:port, source ip for solving hairpin purpose" -m set --match-set KUBE-LOOP-BACK dst,dst,src -j MASQUERADE
-A KUBE-SERVICES -m comment --comment "Kubernetes service lb portal" -m set --match-set KUBE-LOAD-BALANCER dst,dst -j KUBE-LOAD-BALANCER
-A KUBE-LOAD-BALANCER -m comment --comment "${LB} with externalTrafficPolicy=local" -m set --match-set KUBE-LOAD-BALANCER-LOCAL dst,dst -j RETURN
-A KUBE-NODE-PORT -p tcp -m comment --comment "Kubernetes nodeport TCP port with externalTrafficPolicy=local" -m set --match-set KUBE-NODE-PORT-LOCAL-TCP dst -j RETURN
-A KUBE-NODE-PORT -p tcp -m comment --comment "Kubernetes nodeport TCP port for masquerade purpose" -m set --match-set KUBE-NODE-PORT-TCP dst -j KUBE-MARK-MASQ
-A KUBE-NODE-PORT -p udp -m comment --comment "Kubernetes nodeport UDP port with externalTrafficPolicy=local" -m set --match-set KUBE-NODE-PORT-LOCAL-UDP dst -j RETURN
-A KUBE-NODE-PORT -p udp -m comment --comment "Kubernetes nodeport UDP port for masquerade purpose" -m set --match-set KUBE-NODE-PORT-UDP dst -j KUBE-MARK-MASQ
-A KUBE-NODE-PORT -p sctp -m comment --comment "Kubernetes nodeport SCTP port with externalTrafficPolicy=local with type 'hash ip:port'" -m set --match-set KUBE-NODE-PORT-LOCAL-SCTP-HASH dst,dst -j RETURN
-A KUBE-NODE-PORT -p sctp -m comment --comment "Kubernetes nodeport SCTP port for masquerade purpose with type 'hash ip:port'" -m set --match-set KUBE-NODE-PORT-SCTP-HASH dst,dst -j KUBE-MARK-MASQ
-A KUBE-SERVICES -m comment --comment "Kubernetes service cluster ip + port for masquerade purpose" -m set --match-set KUBE-CLUSTER-IP dst,dst ! -s 10.0.0.0/8 -j KUBE-MARK-MASQ
-A KUBE-SERVICES -m comment --comment "Kubernetes service external ip + port for masquerade and filter purpose" -m set --match-set KUBE-EXTERNAL-IP dst,dst -j KUBE-MARK-MASQ
-A KUBE-SERVICES -m comment --comment "Kubernetes service external ip + port for masquerade and filter purpose" -m set --match-set KUBE-EXTERNAL-IP dst,dst -m physdev ! --physdev-is-in -m addrtype ! --src-type LOCAL -j ACCEPT
-A KUBE-SERVICES -m comment --comment "Kubernetes service external ip + port for masquerade and filter purpose" -m set --match-set KUBE-EXTERNAL-IP dst,dst -m addrtype --dst-type LOCAL -j ACCEPT
-A KUBE-SERVICES -m comment --comment "Kubernetes service external ip + port with externalTrafficPolicy=local" -m set --match-set KUBE-EXTERNAL-IP-LOCAL dst,dst -m physdev ! --physdev-is-in -m addrtype ! --src-type LOCAL -j ACCEPT
-A KUBE-SERVICES -m comment --comment "Kubernetes service external ip + port with externalTrafficPolicy=local" -m set --match-set KUBE-EXTERNAL-IP-LOCAL dst,dst -m addrtype --dst-type LOCAL -j ACCEPT
-A KUBE-SERVICES -m addrtype --dst-type LOCAL -j KUBE-NODE-PORT
-A KUBE-LOAD-BALANCER -j KUBE-MARK-MASQ
-A KUBE-SERVICES -m set --match-set KUBE-CLUSTER-IP dst,dst -j ACCEPT
-A KUBE-SERVICES -m set --match-set KUBE-LOAD-BALANCER dst,dst -j ACCEPT
-A KUBE-POSTROUTING -m mark ! --mark 0x00004000/0x00004000 -j RETURN
-A KUBE-POSTROUTING -j MARK --xor-mark 0x00004000
-A KUBE-POSTROUTING -m comment --comment "kubernetes service traffic requiring SNAT" -j MASQUERADE --random-fully
-A KUBE-MARK-MASQ -j MARK --or-mark 0x00004000
COMMIT
*filter
:KUBE-FORWARD - [0:0]
:KUBE-NODE-PORT - [0:0]
:KUBE-PROXY-FIREWALL - [0:0]
:KUBE-SOURCE-RANGES-FIREWALL - [0:0]
:KUBE-IPVS-FILTER - [0:0]
:KUBE-IPVS-OUT-FILTER - [0:0]
-A KUBE-PROXY-FIREWALL -m comment --comment "${LB} for load balancer with sourceRange" -m set --match-set KUBE-LOAD-BALANCER-FW dst,dst -j KUBE-SOURCE-RANGES-FIREWALL
-A KUBE-SOURCE-RANGES-FIREWALL -m comment --comment "${LB} + source cidr for packet filter purpose" -m set --match-set KUBE-LOAD-BALANCER-SOURCE-CIDR dst,dst,src -j RETURN
-A KUBE-SOURCE-RANGES-FIREWALL -m comment --comment "${LB} + source IP for packet filter purpose" -m set --match-set KUBE-LOAD-BALANCER-SOURCE-IP dst,dst,src -j RETURN
-A KUBE-SOURCE-RANGES-FIREWALL -j DROP
-A KUBE-IPVS-OUT-FILTER -s 1.2.3.5 -m ipvs --vaddr 1.2.3.5 --vproto tcp --vport 90 -j DROP
-A KUBE-IPVS-OUT-FILTER -s 1.2.3.5 -m ipvs --vaddr 1.2.3.5 --vproto udp --vport 90 -j DROP
-A KUBE-IPVS-OUT-FILTER -s 1.2.3.5 -m ipvs --vaddr 1.2.3.5 --vproto sctp --vport 90 -j DROP
-A KUBE-FORWARD -m comment --comment "kubernetes forwarding rules" -m mark --mark 0x00004000/0x00004000 -j ACCEPT
-A KUBE-FORWARD -m comment --comment "kubernetes forwarding conntrack rule" -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A KUBE-NODE-PORT -m comment --comment "Kubernetes health check node port" -m set --match-set KUBE-HEALTH-CHECK-NODE-PORT dst -j ACCEPT
-A KUBE-IPVS-FILTER -m set --match-set KUBE-LOAD-BALANCER dst,dst -j RETURN
-A KUBE-IPVS-FILTER -m set --match-set KUBE-CLUSTER-IP dst,dst -j RETURN
-A KUBE-IPVS-FILTER -m set --match-set KUBE-EXTERNAL-IP dst,dst -j RETURN
-A KUBE-IPVS-FILTER -m set --match-set KUBE-EXTERNAL-IP-LOCAL dst,dst -j RETURN
-A KUBE-IPVS-FILTER -m set --match-set KUBE-HEALTH-CHECK-NODE-PORT dst -j RETURN
-A KUBE-IPVS-FILTER -m conntrack --ctstate NEW -m set --match-set KUBE-IPVS-IPS dst -j REJECT
COMMIT
`;

const clusterIpMatches = (options: Options): string =>
  new NodeBench(cluster(), options)
    .dump('iptables-restore')
    .find((text) => text.includes('cluster ip + port'))!
    .replace(/^.*KUBE-CLUSTER-IP /, '');

test('who is masqueraded on the way to a ClusterIP has three shapes, by masqueradeAll and the local detector', (t) => {
  t.is(clusterIpMatches({}), 'dst,dst ! -s 10.0.0.0/8 -j KUBE-MARK-MASQ');
  t.is(clusterIpMatches({ masqueradeAll: true }), 'dst,dst -j KUBE-MARK-MASQ');
  t.is(clusterIpMatches({ detectLocalMode: 'BridgeInterface' }), 'dst,dst ! -i cni0 -j KUBE-MARK-MASQ');
  t.is(
    clusterIpMatches({ detectLocalMode: 'InterfaceNamePrefix', interfaceNamePrefix: 'cali' }),
    'dst,dst ! -i cali+ -j KUBE-MARK-MASQ',
  );
  t.is(clusterIpMatches({ detectLocalMode: 'none' }), 'src,dst -j KUBE-MARK-MASQ');
  // The node has no podCIDR.
  t.is(clusterIpMatches({ detectLocalMode: 'NodeCIDR' }), 'src,dst -j KUBE-MARK-MASQ');
});

test('packets are masqueraded as those shapes say', (t) => {
  const ways: [string, string, Origin][] = [
    ['pod', '10.180.7.7', FROM_POD],
    ['outside', '198.51.100.7', FROM_OUTSIDE],
    // A process of the node took the virtual address for its own.
    ['own', '172.30.0.41', FROM_HOST],
  ];
  const masqueraded = (options: Options): string => {
    const bench = new NodeBench(cluster(), options);
    return ways
      .filter(
        ([, from, origin]) =>
          bench.send(`${from}:4000`, '172.30.0.41:80', SYN, { origin }).source === ip(NODE),
      )
      .map(([name]) => name)
      .join(' ');
  };
  t.is(masqueraded({}), 'outside own');
  t.is(masqueraded({ masqueradeAll: true }), 'pod outside own');
  t.is(masqueraded({ detectLocalMode: 'BridgeInterface' }), 'outside own');
  t.is(masqueraded({ detectLocalMode: 'none' }), 'own');
  t.is(masqueraded({ masqueradeBit: 31 }), 'outside own');
});

test('another masqueradeBit is written in all four rules', (t) => {
  const lines = new NodeBench(cluster(), { masqueradeBit: 15 }).dump('iptables-restore');
  t.is(lines.filter((line) => line.includes('0x00008000')).length, 4);
  t.true(
    lines.includes(
      '-A KUBE-FORWARD -m comment --comment "kubernetes forwarding rules" -m mark --mark 0x00008000/0x00008000 -j ACCEPT',
    ),
  );
  t.false(lines.some((line) => line.includes('0x00004000')));
});

test('source ranges keep others out, and a node outside them meets a rule of its own on its way out', (t) => {
  const matched = (range: string, from: string): string[] => {
    const sourceRanges = [{ address: ip(range), prefix: 24 }];
    const bench = new NodeBench(cluster({ loadBalancerIps: [ip('1.2.3.4')], sourceRanges }));
    const steps: string[] = [];
    bench.proxier.dataplane.recorder = {
      step: (where, what) => void (where === 'filter KUBE-IPVS-OUT-FILTER' && steps.push(what)),
    };
    bench.send(`${from}:4000`, '1.2.3.4:80', SYN, { origin: FROM_HOST });
    return steps;
  };
  // A process of the node took the virtual address for its own.
  t.deepEqual(matched('203.0.113.0', '1.2.3.4'), [
    '-s 1.2.3.4 -m ipvs --vaddr 1.2.3.4 --vproto tcp --vport 80 -j DROP: matched',
  ]);
  t.deepEqual(matched('203.0.113.0', NODE), [
    '-s 1.2.3.4 -m ipvs --vaddr 1.2.3.4 --vproto tcp --vport 80 -j DROP: no',
  ]);
  t.deepEqual(matched('172.30.9.0', '1.2.3.4'), []);
  const bench = new NodeBench(
    cluster({ loadBalancerIps: [ip('1.2.3.4')], sourceRanges: [{ address: ip('203.0.113.0'), prefix: 25 }] }),
  );
  t.is(bench.send('198.51.100.1:4000', '1.2.3.4:80', SYN, { origin: FROM_OUTSIDE }).fate, DROP);
  t.is(bench.send('203.0.113.5:4000', '1.2.3.4:80', SYN, { origin: FROM_OUTSIDE }).fate, FORWARD);
});

test('a source range of all addresses cannot be stored: the chain is there, and lets nobody in', (t) => {
  const everywhere = { address: 0, prefix: 0 };
  const bench = new NodeBench(cluster({ loadBalancerIps: [ip('1.2.3.4')], sourceRanges: [everywhere] }));
  t.false(bench.dump('ipset-restore').some((line) => line.startsWith('add KUBE-LOAD-BALANCER-SOURCE-CIDR')));
  t.is(bench.send('198.51.100.1:4000', '1.2.3.4:80', SYN, { origin: FROM_OUTSIDE }).fate, DROP);
  t.true(bench.proxier.remarks().some((line) => line.includes('takes no length 0')));
});

test('nine jumps are made, each before those that are there', (t) => {
  t.deepEqual(new NodeBench(cluster()).dump('iptables-jumps'), [
    '-t nat -I OUTPUT -m comment --comment "kubernetes service portals" -j KUBE-SERVICES',
    '-t nat -I PREROUTING -m comment --comment "kubernetes service portals" -j KUBE-SERVICES',
    '-t nat -I POSTROUTING -m comment --comment "kubernetes postrouting rules" -j KUBE-POSTROUTING',
    '-t filter -I FORWARD -m comment --comment "kubernetes forwarding rules" -j KUBE-FORWARD',
    '-t filter -I INPUT -m comment --comment "kubernetes health check rules" -j KUBE-NODE-PORT',
    '-t filter -I INPUT -m comment --comment "kube-proxy firewall rules" -j KUBE-PROXY-FIREWALL',
    '-t filter -I FORWARD -m comment --comment "kube-proxy firewall rules" -j KUBE-PROXY-FIREWALL',
    '-t filter -I INPUT -m comment --comment "kubernetes ipvs access filter" -j KUBE-IPVS-FILTER',
    '-t filter -I OUTPUT -m comment --comment "kubernetes ipvs access filter" -j KUBE-IPVS-OUT-FILTER',
  ]);
  const bench = new NodeBench(cluster());
  const inputs: string[] = [];
  bench.proxier.dataplane.recorder = {
    step: (where, what) => void (where === 'filter INPUT' && inputs.push(/-j (\S+):/.exec(what)![1]!)),
  };
  bench.send('10.180.7.7:4000', '172.30.0.41:80', SYN);
  t.deepEqual(inputs, ['KUBE-IPVS-FILTER', 'KUBE-PROXY-FIREWALL', 'KUBE-NODE-PORT']);
});

// ── Start ───────────────────────────────────────────────────────────────────────────────────────────────────

const startSettings = (reuse: readonly string[]): string[] => [
  'net/ipv4/vs/conntrack = 1',
  ...reuse,
  'net/ipv4/vs/expire_nodest_conn = 1',
  'net/ipv4/vs/expire_quiescent_template = 1',
  'net/ipv4/ip_forward = 1',
];

const sysctlsOf = (kernel: string, strictARP = false): string[] =>
  new NodeBench(cluster(), { kernel, strictARP }).dump('sysctl');

test('settings of the kernel depend on its version and on strictARP', (t) => {
  t.deepEqual(sysctlsOf('6.12'), startSettings([]));
  t.deepEqual(sysctlsOf('5.9'), startSettings([]));
  t.deepEqual(sysctlsOf('5.8'), startSettings(['net/ipv4/vs/conn_reuse_mode = 0']));
  t.deepEqual(sysctlsOf('4.1'), startSettings(['net/ipv4/vs/conn_reuse_mode = 0']));
  t.deepEqual(sysctlsOf('4.0'), startSettings([]));
  t.deepEqual(sysctlsOf('6.1', true), [
    ...startSettings([]),
    'net/ipv4/conf/all/arp_ignore = 1',
    'net/ipv4/conf/all/arp_announce = 2',
  ]);
});

const keepsServer = (kernel: string): boolean => {
  const bench = new NodeBench(cluster(), { kernel });
  const vip = '172.30.0.41:80';
  const first = bench.send('10.180.7.7:4000', vip, SYN);
  const server = `${first.destination}`;
  const [address, port] = [first.destination, first.destinationPort];
  const real = `${address >>> 24}.${(address >>> 16) & 255}.${(address >>> 8) & 255}.${address & 255}:${port}`;
  bench.send(real, '10.180.7.7:4000', SYN | ACK);
  bench.send('10.180.7.7:4000', vip, ACK);
  bench.send('10.180.7.7:4000', vip, FIN | ACK);
  bench.send(real, '10.180.7.7:4000', FIN | ACK);
  bench.send('10.180.7.7:4000', vip, ACK);
  return `${bench.send('10.180.7.7:4000', vip, SYN).destination}` === server;
};

test('before Linux 5.9 a client that reuses its port keeps its server, weight 0 or not being reached', (t) => {
  t.true(keepsServer('5.4'));
  t.false(keepsServer('6.1'));
});

test('timeouts are set where they are given, and end idle connections', (t) => {
  t.deepEqual(new NodeBench(cluster()).dump('ipvsadm-timeout'), ['Timeout (tcp tcpfin udp): 900 120 300']);
  const bench = new NodeBench(cluster({}, [{ protocol: UDP, port: 53 }]), {
    udpTimeout: 10 * SECOND,
    tcpTimeout: 7200 * SECOND,
  });
  t.deepEqual(bench.dump('ipvsadm-timeout'), ['Timeout (tcp tcpfin udp): 7200 120 10']);
  bench.send('10.180.7.7:4000', '172.30.0.41:53', 0, { protocol: UDP });
  bench.wait(9);
  t.is(bench.proxier.director.connections.count, 1);
  bench.wait(4);
  t.is(bench.proxier.director.connections.count, 0);
});

test('without the modules kube-proxy exits, before 1.26 falls back, and names what was missing', (t) => {
  const failure = (options: Options): string => {
    const bench = new NodeBench(cluster(), { modules: false, ...options });
    t.deepEqual(bench.dump('ipvsadm-save'), []);
    return bench.failure;
  };
  t.is(
    failure({ scheduler: 'sh' }),
    "kube-proxy 1.36 exits: can't use the IPVS proxier: a trial virtual server with scheduler sh could not be made; the kernel needs ip_vs and ip_vs_sh",
  );
  t.is(
    failure({ release: 'v1.26' }),
    "kube-proxy 1.26 exits: can't use the IPVS proxier; it needs ip_vs, ip_vs_rr, ip_vs_wrr, ip_vs_sh, nf_conntrack and ipset",
  );
  t.is(
    failure({ release: '1.20', kernel: '4.18' }),
    'kube-proxy 1.20 falls back to iptables mode, for IPVS it needs ip_vs, ip_vs_rr, ip_vs_wrr, ip_vs_sh, nf_conntrack_ipv4 and ipset: look at --modes iptables instead',
  );
});

test('the mode ends as KEP-5495 says: a gate from 1.37, off from 1.40, gone from 1.43', (t) => {
  const failure = (release: string, featureGate: 'default' | 'true' | 'false'): string =>
    new NodeBench(cluster(), { release, featureGate }).failure;
  for (const release of ['1.20', '1.35', '1.36', '1.37', '1.39'])
    t.is(failure(release, 'default'), '', release);
  t.regex(failure('1.38', 'false'), /feature gate KubeProxyIPVS is off/);
  t.regex(
    failure('1.40', 'default'),
    /refuses IPVS mode unless the feature gate KubeProxyIPVS is switched on/,
  );
  t.is(failure('1.42', 'true'), '');
  t.regex(failure('1.43', 'true'), /has no IPVS mode/);
  t.true(
    new NodeBench(cluster(), { release: '1.37' }).proxier
      .remarks()
      .some((line) => line.includes('deprecated')),
  );
});

// ── Passes ──────────────────────────────────────────────────────────────────────────────────────────────────

test('an unchanged pass asks twice for each virtual server, dumps all servers, and starts 55 processes', (t) => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 12 }), fc.integer({ min: 0, max: 8 }), (services, endpoints) => {
      const bench = new NodeBench(syntheticCluster({ ...SYNTHETIC_DEFAULTS, services, endpoints, nodes: 2 }));
      const { counts } = bench.sync([]);
      const virtual = services;
      const real = services * endpoints;
      t.is(countOf(counts, 'process.launch'), 11 + 9 + 17 + 17 + 1);
      t.is(countOf(counts, 'ipvs.netlink'), 3 + 2 * virtual + virtual + 1);
      t.is(countOf(counts, 'ipvs.sync.endpoint'), 2 * real);
      // Addresses twice and the node's own twice; two answers and the dump of each; all virtual servers.
      t.is(countOf(counts, 'ipvs.netlink.record'), 2 * virtual + 2 + 2 * virtual + real + virtual);
    }),
    { seed: 42, numRuns: 30 },
  );
});

test('an endpoint that goes drains while it has connections over TCP, and goes at once over UDP and SCTP', (t) => {
  for (const [protocol, weights] of [
    [TCP, ['0', '1']],
    [UDP, ['1']],
    [SCTP, ['1']],
  ] as const) {
    const bench = new NodeBench(cluster({}, [{ protocol, port: 80 }]));
    for (let i = 0; i < 4; i++) bench.send(`10.180.7.7:${4000 + i}`, '172.30.0.41:80', SYN, { protocol });
    bench.endpoints.conditions[0] = 0;
    bench.sync([0]);
    const left = bench.dump('ipvsadm-save').filter((line) => line.startsWith('-a'));
    t.deepEqual(
      left.map((line) => line.slice(-1)),
      [...weights],
      `${protocol}`,
    );
  }
});

test('a draining server is looked at every minute and goes with its last connection, however long that takes', (t) => {
  const bench = new NodeBench(cluster(), { tcpTimeout: 86_400 * SECOND });
  for (let i = 0; i < 2; i++) {
    const { destination, destinationPort } = bench.send(`10.180.7.7:${4000 + i}`, '172.30.0.41:80', SYN);
    const real = destination === ip('10.180.0.1') ? '10.180.0.1' : '10.180.2.1';
    bench.send(`${real}:${destinationPort}`, `10.180.7.7:${4000 + i}`, SYN | ACK);
    bench.send(`10.180.7.7:${4000 + i}`, '172.30.0.41:80', ACK);
  }
  bench.endpoints.conditions[0] = 0;
  bench.sync([0]);
  bench.wait(3 * 3600);
  const drains = (): boolean =>
    bench.dump('ipvsadm').some((line) => /10\.180\.0\.1:80 +Masq +0 +1 +0/.test(line));
  t.true(drains());
  // Wanted again: deleted and added with weight 1, at the head.
  bench.endpoints.conditions[0] = READY | SERVING;
  bench.sync([0]);
  t.false(drains());
  t.is(bench.proxier.termination.size, 0);
});

// ── Listings ────────────────────────────────────────────────────────────────────────────────────────────────

const server = (name: string, over: Partial<ListedServer> = {}): ListedServer => ({
  ...placed(name),
  forward: 'Masq',
  tunnel: '',
  weight: 1,
  active: 0,
  inactive: 0,
  persistent: 0,
  upperThreshold: 0,
  lowerThreshold: 0,
  traffic: NO_TRAFFIC,
  ...over,
});

const service = (protocol: number, name: string, over: Partial<ListedService> = {}): ListedService => ({
  protocol,
  mark: 0,
  ...placed(name),
  scheduler: 'rr',
  flags: '',
  persistentS: 0,
  clientPrefix: 32,
  engine: '',
  onePacket: false,
  traffic: NO_TRAFFIC,
  servers: [],
  ...over,
});

function placed(text: string): Place {
  const [address, port] = place(text);
  return { address: [address], port };
}

const traffic = (...[connections, packetsIn, packetsOut, bytesIn, bytesOut]: number[]): Traffic => ({
  connections: connections!,
  packetsIn: packetsIn!,
  packetsOut: packetsOut!,
  bytesIn: bytesIn!,
  bytesOut: bytesOut!,
});

test('columns of ipvsadm -Ln, --stats, --rate, --thresholds and --persistent-conn are those of ipvsadm 1.31', (t) => {
  const busy = traffic(1500, 9000, 8200, 123_456_789, 2_345_678_901);
  const listed = [
    service(TCP, '172.30.0.41:80', {
      traffic: busy,
      servers: [
        server('10.180.0.1:80', {
          active: 3,
          inactive: 12,
          traffic: busy,
          upperThreshold: 3,
          lowerThreshold: 1,
        }),
        server('10.180.2.1:80', { weight: 0, active: 1 }),
      ],
    }),
    service(TCP, '172.30.0.45:443', {
      persistentS: 10800,
      servers: [server('192.168.0.1:6443', { active: 1, persistent: 4 })],
    }),
    service(UDP, '172.30.0.10:53', { servers: [server('10.180.0.9:53', { inactive: 4 })] }),
  ];
  t.deepEqual(
    [...serviceList(listed, 4096)],
    [
      'IP Virtual Server version 1.2.1 (size=4096)',
      'Prot LocalAddress:Port Scheduler Flags',
      '  -> RemoteAddress:Port           Forward Weight ActiveConn InActConn',
      'TCP  172.30.0.41:80 rr',
      '  -> 10.180.0.1:80                Masq    1      3          12        ',
      '  -> 10.180.2.1:80                Masq    0      1          0         ',
      'TCP  172.30.0.45:443 rr persistent 10800',
      '  -> 192.168.0.1:6443             Masq    1      1          0         ',
      'UDP  172.30.0.10:53 rr',
      '  -> 10.180.0.9:53                Masq    1      0          4         ',
    ],
  );
  t.deepEqual([...statisticsList(listed.slice(0, 1), 4096)].slice(1, 5), [
    'Prot LocalAddress:Port               Conns   InPkts  OutPkts  InBytes OutBytes',
    '  -> RemoteAddress:Port',
    'TCP  172.30.0.41:80                   1500     9000     8200  123456K    2345M',
    '  -> 10.180.0.1:80                    1500     9000     8200  123456K    2345M',
  ]);
  t.is(
    [...statisticsList(listed.slice(0, 1), 4096, true)][3],
    'TCP  172.30.0.41:80                   1500     9000     8200 123456789 2345678901',
  );
  t.is(
    [...rateList([], 4096)][1],
    'Prot LocalAddress:Port                 CPS    InPPS   OutPPS    InBPS   OutBPS',
  );
  t.deepEqual([...thresholdList(listed.slice(0, 1), 4096)].slice(1), [
    'Prot LocalAddress:Port            Uthreshold Lthreshold ActiveConn InActConn ',
    '  -> RemoteAddress:Port',
    'TCP  172.30.0.41:80 rr',
    '  -> 10.180.0.1:80                3          1          3          12        ',
    '  -> 10.180.2.1:80                0          0          1          0         ',
  ]);
  t.deepEqual([...persistentList(listed.slice(1, 2), 4096)].slice(1), [
    'Prot LocalAddress:Port            Weight    PersistConn ActiveConn InActConn ',
    '  -> RemoteAddress:Port',
    'TCP  172.30.0.45:443 rr persistent 10800',
    '  -> 192.168.0.1:6443             1         4           1          0         ',
  ]);
  t.is(timeoutLine({ tcpS: 900, tcpFinS: 120, udpS: 300 }), 'Timeout (tcp tcpfin udp): 900 120 300');
});

const firstFigure = (value: number): string =>
  [...statisticsList([service(TCP, '10.0.0.1:80', { traffic: traffic(value, 0, 0, 0, 0) })], 1)][3]!.slice(
    33,
    42,
  );

test('large numbers are cut to K, M, G and T, not rounded', (t) => {
  t.is(firstFigure(99_999_999), ' 99999999');
  t.is(firstFigure(100_000_000), '  100000K');
  t.is(firstFigure(999_999_999), '  999999K');
  t.is(firstFigure(1_000_000_000), '    1000M');
  t.is(firstFigure(99_999_999_999), '   99999M');
  t.is(firstFigure(100_000_000_000), '     100G');
  t.is(firstFigure(100_000_000_000_000), '     100T');
});

test('connections are listed with their time left, in minutes that may be many', (t) => {
  const rows: [number, number, string, string, string, string][] = [
    [TCP, 899, 'ESTABLISHED', '10.180.0.7:41234', '172.30.0.41:80', '10.180.0.1:80'],
    [TCP, 118, 'FIN_WAIT', '10.180.0.7:41230', '172.30.0.41:80', '10.180.0.1:80'],
    [TCP, 10_795, 'NONE', '10.180.0.7:0', '172.30.0.45:443', '192.168.0.1:6443'],
    [UDP, 299, 'UDP', '10.180.0.7:55555', '172.30.0.10:53', '10.180.0.9:53'],
  ];
  const listed = rows.map(([protocol, expiresS, state, client, virtual, real]) => ({
    protocol,
    expiresS,
    state,
    client: placed(client),
    virtual: placed(virtual),
    server: placed(real),
  }));
  t.deepEqual(
    [...connectionList(listed)],
    [
      'IPVS connection entries',
      'pro expire state       source             virtual            destination',
      'TCP 14:59  ESTABLISHED 10.180.0.7:41234   172.30.0.41:80     10.180.0.1:80',
      'TCP 01:58  FIN_WAIT    10.180.0.7:41230   172.30.0.41:80     10.180.0.1:80',
      'TCP 179:55 NONE        10.180.0.7:0       172.30.0.45:443    192.168.0.1:6443',
      'UDP 04:59  UDP         10.180.0.7:55555   172.30.0.10:53     10.180.0.9:53',
    ],
  );
});

test('a running node lists its connections and templates', (t) => {
  const bench = new NodeBench(cluster({ affinityS: 10800 }));
  bench.wait(1);
  const { destination } = bench.send('10.180.7.7:4000', '172.30.0.41:80', SYN);
  const real = destination === ip('10.180.0.1') ? '10.180.0.1:80' : '10.180.2.1:80';
  t.deepEqual(bench.dump('ipvsadm-connections').slice(2).sort(), [
    `TCP 01:00  SYN_RECV    10.180.7.7:4000    172.30.0.41:80     ${real}`,
    `TCP 180:00 NONE        10.180.7.7:0       172.30.0.41:80     ${real}`,
  ]);
  t.true(
    bench
      .dump('ipvsadm-persistent')
      .includes(`  -> ${real.padEnd(28)} 1         1           1          0         `),
  );
});

test('a running node counts connections, packets and bytes of headers as a kernel did', (t) => {
  const bench = new NodeBench(cluster());
  for (let i = 0; i < 6; i++) {
    const client = `10.180.7.7:${4000 + i}`;
    const { destination } = bench.send(client, '172.30.0.41:80', SYN);
    const real = destination === ip('10.180.0.1') ? '10.180.0.1:80' : '10.180.2.1:80';
    bench.send(real, client, SYN | ACK);
    bench.send(client, '172.30.0.41:80', ACK);
    bench.send(client, '172.30.0.41:80', FIN | ACK);
    bench.send(real, client, FIN | ACK);
    bench.send(client, '172.30.0.41:80', ACK);
  }
  // Figures of Linux 6.1 after six connections without data over two servers.
  t.deepEqual(bench.dump('ipvsadm-stats').slice(3), [
    'TCP  172.30.0.41:80                      6       24       12     1296      672',
    '  -> 10.180.0.1:80                       3       12        6      648      336',
    '  -> 10.180.2.1:80                       3       12        6      648      336',
  ]);
});

test('rates go a quarter of the way every two seconds, in binary places', (t) => {
  const bench = new NodeBench(cluster());
  for (let i = 0; i < 100; i++) bench.send(`10.180.7.7:${4000 + i}`, '172.30.0.41:80', SYN);
  const rates = (): string => bench.dump('ipvsadm-rate')[3]!;
  t.is(rates(), 'TCP  172.30.0.41:80                      0        0        0        0        0');
  bench.wait(2);
  // 100 · 512 / 4 = 12800, and (12800 + 511) / 1024; 6000 · 16 / 4 = 24000, and (24000 + 15) / 32.
  t.is(rates(), 'TCP  172.30.0.41:80                     12       12        0      750        0');
  bench.wait(2);
  t.is(rates(), 'TCP  172.30.0.41:80                      9        9        0      562        0');
});

test('a server that comes back from the trash has its figures still, a new one has none', (t) => {
  const bench = new NodeBench(cluster({}, [{ protocol: UDP, port: 53 }]));
  const figures = (): string[] =>
    bench
      .dump('ipvsadm-stats')
      .slice(4)
      .map((line) => line.trim().split(/ +/).slice(1, 3).join(' '));
  const set = (conditions: number): void => {
    bench.endpoints.conditions[0] = conditions;
    bench.sync([0]);
  };
  for (let i = 0; i < 4; i++) bench.send(`10.180.7.7:${4000 + i}`, '172.30.0.41:53', 0, { protocol: UDP });
  t.deepEqual(figures(), ['10.180.0.1:53 2', '10.180.2.1:53 2']);
  set(0);
  set(READY | SERVING);
  t.deepEqual(figures(), ['10.180.0.1:53 2', '10.180.2.1:53 2']);
  set(0);
  bench.wait(600);
  set(READY | SERVING);
  t.deepEqual(figures(), ['10.180.0.1:53 0', '10.180.2.1:53 2']);
});

test('ipvsadm sorts by signed differences of 32 bits: 172.17.0.1, 192.168.0.1, 1.1.1.1, 10.0.0.1; marks come last', (t) => {
  // As published listings of nodes with a docker0 show it.
  const names = ['10.109.98.33:80', '10.244.36.64:30002', '1.1.1.1:30002', '172.17.0.1:30002'];
  const sorted = mergeSorted(
    names.map((name) => service(TCP, name)),
    compareServices,
  );
  t.deepEqual(
    [...savedLines(sorted)].map((line) => line.split(' ')[2]),
    ['172.17.0.1:30002', '1.1.1.1:30002', '10.109.98.33:80', '10.244.36.64:30002'],
  );
  const mixed = [
    service(UDP, '10.0.0.1:53'),
    service(0, '0.0.0.0:0', { mark: 7 }),
    service(TCP, '10.0.0.2:80'),
    service(TCP, '192.168.50.200:30716'),
    service(TCP, '10.0.0.2:79'),
  ];
  t.deepEqual(
    [...savedLines(mergeSorted(mixed, compareServices))],
    [
      '-A -t 192.168.50.200:30716 -s rr',
      '-A -t 10.0.0.2:79 -s rr',
      '-A -t 10.0.0.2:80 -s rr',
      '-A -u 10.0.0.1:53 -s rr',
      '-A -f 7 -s rr',
    ],
  );
});

// ── Reading ─────────────────────────────────────────────────────────────────────────────────────────────────

const FIXTURES = new URL('fixtures/ipvs-listings/', import.meta.url);

for (const file of readdirSync(FIXTURES).sort()) {
  test(`what a kernel had, ${file}, is read and printed without a difference`, (t) => {
    const text = readFileSync(new URL(file, FIXTURES), 'utf8');
    const services = readIpvsadmSave(text, file);
    t.is([...savedLines(services), ''].join('\n'), text);
    const sorted = mergeSorted(services, compareServices).map((one) => ({
      ...one,
      servers: mergeSorted(one.servers, comparePlaces),
    }));
    t.is([...savedLines(sorted), ''].join('\n'), text);
  });
}

const address = fc.oneof(
  fc.integer({ min: 1, max: 0xfffffffe }).map((word) => [word]),
  fc.array(fc.integer({ min: 1, max: 0xffffffff }), { minLength: 4, maxLength: 4 }),
);
const servers = fc.uniqueArray(
  fc.record({
    host: fc.integer({ min: 1, max: 0xfffffffe }),
    port: fc.integer({ min: 1, max: 65535 }),
    weight: fc.nat(65536),
    forward: fc.constantFrom('Masq' as const, 'Tunnel' as const, 'Route' as const),
    tunnel: fc.constantFrom('ipip', 'gue --tun-port 6080 --tun-nocsum', 'gre --tun-csum'),
  }),
  { maxLength: 6, selector: ({ host }) => host },
);
const services = fc.uniqueArray(
  fc.record({
    protocol: fc.constantFrom(TCP, UDP, SCTP, 0),
    address,
    port: fc.integer({ min: 1, max: 65535 }),
    scheduler: fc.constantFrom('rr', 'sh', 'mh', 'wlc', 'lblcr'),
    fallback: fc.boolean(),
    persistentS: fc.constantFrom(0, 0, 360, 10800),
    shared: fc.boolean(),
    onePacket: fc.boolean(),
    servers,
  }),
  {
    maxLength: 8,
    selector: ({ address: words, port, protocol }) => `${protocol} ${words.join('.')} ${port}`,
  },
);

test('whatever is listed, reading what -Sn prints of it prints the same again', (t) => {
  fc.assert(
    fc.property(services, (drawn) => {
      const listed = drawn.map((one): ListedService => {
        const isMark = one.protocol === 0;
        const words = isMark ? one.address.map(() => 0) : one.address;
        const named = one.scheduler === 'sh' || one.scheduler === 'mh';
        const port = isMark ? 0 : one.port;
        return {
          ...service(one.protocol, '0.0.0.0:0'),
          mark: isMark ? one.port : 0,
          address: words,
          port,
          scheduler: one.scheduler,
          flags: named && one.fallback ? `${one.scheduler}-fallback,${one.scheduler}-port` : '',
          persistentS: one.persistentS,
          clientPrefix: words.length === 1 ? (one.shared ? 24 : 32) : one.shared ? 64 : 128,
          onePacket: one.onePacket && one.protocol === UDP,
          servers: one.servers.map(({ host, port: own, weight, forward, tunnel }) =>
            server('0.0.0.0:0', {
              address: words.length === 1 ? [host] : [1, 2, 3, host],
              port: forward === 'Masq' ? own : port,
              weight,
              forward,
              tunnel: forward === 'Tunnel' ? tunnel : '',
            }),
          ),
        };
      });
      const unique = [
        ...new Map(
          listed.map((one) => [[...savedLines([{ ...one, servers: [] }])][0]!.split(' -s ')[0], one]),
        ).values(),
      ];
      const text = [...savedLines(unique), ''].join('\n');
      t.is([...savedLines(readIpvsadmSave(text, 'x.ipvs')), ''].join('\n'), text);
    }),
    { seed: 42, numRuns: 200 },
  );
});

test('what ipvsadm or the kernel would refuse is refused with file, line, token and way out', (t) => {
  const head = '-A -t 10.96.0.1:80 -s rr\n';
  const refused: [string, RegExp][] = [
    ['-A -t 10.96.0.1:80 -s nosuch', /^f\.ipvs:1 -s nosuch: no such scheduler; Linux has rr, /],
    [`${head}${head}`, /^f\.ipvs:2 -t 10\.96\.0\.1:80: the service exists already/],
    ['-a -t 10.96.0.8:80 -r 10.1.0.1:8080 -m', /^f\.ipvs:1 -t 10\.96\.0\.8:80: no such service; an -A line/],
    [
      `${head}-a -t 10.96.0.1:80 -r 10.1.0.1:80 -m\n-a -t 10.96.0.1:80 -r 10.1.0.1:80 -m`,
      /^f\.ipvs:3 -r 10\.1\.0\.1:80: the service has/,
    ],
    [
      `${head}-a -t 10.96.0.1:80 -r 10.1.0.2:8080 -m -w -1`,
      /^f\.ipvs:2 -w -1: wanted a whole number from 0 to 2147483647/,
    ],
    [
      `${head}-a -t 10.96.0.1:80 -r 10.1.0.3:8080 -m -x 5 -y 9`,
      /^f\.ipvs:2 -y 9: above the upper threshold 5/,
    ],
    ['-A -t 10.96.0.1:0 -s rr', /^f\.ipvs:1 :0: port 0 .* needs persistence; add -p/],
    ['-A -f 0 -s rr', /^f\.ipvs:1 -f 0: wanted a whole number from 1 to 4294967295/],
    ['-A -t 10.96.0.2:80 -s rr -o', /^f\.ipvs:1 -o: one-packet scheduling is only for UDP/],
    ['-A -t web:80 -s rr', /^f\.ipvs:1 -t web:80: wanted ADDRESS:PORT in numbers.*-S names/],
    ['-A -t 10.96.0.1:http -s rr', /-t 10\.96\.0\.1:http: wanted ADDRESS:PORT/],
    ['-A -t 10.96.0.1:80 -s sh -b mh-port', /^f\.ipvs:1 -b mh-port: sh has sh-fallback, sh-port, flag-3/],
    ['-A -t 10.96.0.1:80 -M 255.0.255.0 -p 300', /-M 255\.0\.255\.0: wanted a netmask/],
    ['-A -t 10.96.0.1:80 -Q', /^f\.ipvs:1 -Q: not an option that ipvsadm -Sn writes/],
    ['-A -t 10.96.0.1:80 -s', /^f\.ipvs:1 -s: its value is missing/],
    ['TCP  10.96.0.1:80 rr', /^f\.ipvs:1 TCP: not an option/],
    ['-D -t 10.96.0.1:80', /^f\.ipvs:1 -D: not an option/],
  ];
  for (const [text, message] of refused)
    t.throws(() => readIpvsadmSave(text, 'f.ipvs'), { name: 'InputError', message }, text);
});

test('what ipvsadm leaves out gets its defaults: wlc, 360 s, weight 1, a route to the same port', (t) => {
  const text =
    '# saved\n\n-A -t 10.96.0.5:80 -p\n--add-server -t 10.96.0.5:80 -r 10.1.0.9:9999\n-a -t 10.96.0.5:80 -r 10.1.0.10 -i\n';
  t.deepEqual(
    [...savedLines(readIpvsadmSave(text, 'x'))],
    [
      '-A -t 10.96.0.5:80 -s wlc -p 360',
      '-a -t 10.96.0.5:80 -r 10.1.0.9:80 -g -w 1',
      '-a -t 10.96.0.5:80 -r 10.1.0.10:80 -i -w 1 --tun-type ipip',
    ],
  );
});

const synTo = (to: string, sourcePort: number) => {
  const [destination, destinationPort] = place(to);
  return {
    protocol: TCP,
    source: [ip('10.2.0.1')],
    sourcePort,
    destination: [destination],
    destinationPort,
    flags: SYN,
  };
};

test('a restored table sends packets by scheduler, mark and family, the newest server first', (t) => {
  const text = [
    '-A -t 10.96.0.1:80 -s rr',
    '-a -t 10.96.0.1:80 -r 10.1.0.1:8080 -m -w 1',
    '-a -t 10.96.0.1:80 -r 10.1.0.2:8080 -m -w 1',
    '-A -t 10.96.0.2:80 -s wlc',
    '-A -f 7 -s rr',
    '-a -f 7 -r 10.1.0.3:0 -m -w 1',
    '-A -t [fd00::1]:80 -s rr',
    '-a -t [fd00::1]:80 -r [fd00::2]:8080 -m -w 1',
  ].join('\n');
  const listed = readIpvsadmSave(text, 'x');
  const draws = new Streams('1').stream('draws');
  const table = new RestoredTable(listed, 4, draws);
  const to = (vip: string, port: number, mark = 0): string => {
    const sent = table.send(synTo(vip, port), 0, mark);
    return sent.fate === 'sent'
      ? [...savedLines([{ ...sent.service, servers: [{ ...sent.server, ...sent.place }] }])][1]!.split(
          ' ',
        )[4]!
      : sent.fate;
  };
  t.deepEqual(
    [1, 2, 3].map((port) => to('10.96.0.1:80', port)),
    ['10.1.0.2:8080', '10.1.0.1:8080', '10.1.0.2:8080'],
  );
  t.is(to('10.96.0.2:80', 4), 'refused');
  t.is(to('10.96.0.3:80', 5), 'passed');
  const six = new RestoredTable(listed, 6, draws);
  const sent = six.send(
    {
      protocol: TCP,
      source: [0xfd000000, 0, 0, 9],
      sourcePort: 1,
      destination: [0xfd000000, 0, 0, 1],
      destinationPort: 80,
      flags: SYN,
    },
    0,
  );
  t.is(sent.fate === 'sent' ? sent.place.port : sent.fate, 8080);
});
