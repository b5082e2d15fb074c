import { execFileSync, spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import test from 'ava';
import fc from 'fast-check';
import { Ipv6Family, formatIpv4, formatIpv6, parseIpv6, type Cidr } from '@vipsim/sim-core';
import { Endpoints, ServicePorts, addressText, familyOf, type Cluster } from '../src/kubernetes/cluster.ts';
import { InputError, readCluster, scaleCluster } from '../src/kubernetes/read.ts';
import { chainHash } from '../src/iptables/chains.ts';
import { sortedByText } from '../src/kubernetes/endpoint-order.ts';
import type { IptablesOptions } from '../src/iptables/kube-proxy.ts';
import { wantedCidrs } from '../src/iptables/ruleset-options.ts';
import { clusterOf, dumpOf, ownRules, synced } from './iptables-bench.ts';

/*
 * The IPv6 half of a dual-stack cluster, for which kube-proxy runs a second proxier with ip6tables; and that half
 * against real ip6tables where it is installed.
 */

type Family = 'ipv4' | 'ipv6';

const DUAL = readFileSync(new URL('fixtures/kubernetes/dual-stack.yaml', import.meta.url), 'utf8');

function dualStack(family: Family): Cluster {
  return readCluster([{ name: 'dual-stack.yaml', text: DUAL }], { family });
}

function read(objects: readonly object[], family: Family = 'ipv6'): Cluster {
  const items = objects.map((object) => ({ apiVersion: 'v1', ...object }));
  return readCluster([{ name: 'test.json', text: JSON.stringify({ kind: 'List', items }) }], { family });
}

interface ServiceOptions {
  readonly namespace?: string;
  readonly spec?: object;
  readonly port?: object;
}

function service(name: string, { namespace = 'ns1', spec = {}, port = {} }: ServiceOptions = {}): object {
  return {
    kind: 'Service',
    metadata: { name, namespace },
    spec: { ipFamilies: ['IPv6'], ports: [{ name: 'p80', port: 80, ...port }], ...spec },
  };
}

function slice(name: string, addresses: readonly string[], namespace = 'ns1'): object {
  return {
    apiVersion: 'discovery.k8s.io/v1',
    kind: 'EndpointSlice',
    metadata: { name, namespace, labels: { 'kubernetes.io/service-name': name } },
    addressType: 'IPv6',
    ports: [{ name: 'p80', port: 80 }],
    endpoints: addresses.map((address) => ({ addresses: [address], nodeName: 'test-node' })),
  };
}

function node(name: string, address: string, podCIDR: string): object {
  const addresses = [{ type: 'InternalIP', address }];
  return { kind: 'Node', metadata: { name }, spec: { podCIDR }, status: { addresses } };
}

const NODE = node('test-node', 'fd00:192:168::2', 'fd00:10::/64');

function pod(name: string, ips: readonly string[]): object {
  return {
    kind: 'Pod',
    metadata: { name, namespace: 'ns1', labels: { app: 'x' } },
    spec: { nodeName: 'test-node' },
    status: {
      podIP: ips[0],
      podIPs: ips.map((ip) => ({ ip })),
      conditions: [{ type: 'Ready', status: 'True' }],
    },
  };
}

function namesOf(cluster: Cluster): string[] {
  return cluster.services.map(({ name, clusterIp }) => `${name} ${addressText(cluster, clusterIp)}`);
}

/** Of the Services that both families have. */
function nodePorts(cluster: Cluster): string[] {
  return [...cluster.ports.names.keys()]
    .map((port) => {
      const { name } = cluster.services[cluster.ports.service[port]!]!;
      return `${name} ${cluster.ports.nodePort[port]!}`;
    })
    .filter((text) => /both|prefer/.test(text));
}

function nodesOf(cluster: Cluster): string[] {
  return placesOf(cluster, 'prefer').map((place) => place.split(' on ')[1]!);
}

/** Chains of the Services that both families have. */
function chainsOf(cluster: Cluster): string[] {
  return dumpOf(synced(cluster)).filter((line) => /^:KUBE-(SVC|SVL|EXT|FW)-(PNCAB|HMC3T)/.test(line));
}

function sizesOf(options: Partial<IptablesOptions>): (string | number)[][] {
  return synced(dualStack('ipv6'), { backend: 'legacy', ...options })
    .proxier.dataplane.tables()
    .filter(({ name }) => name === 'nat' || name === 'filter')
    .map(({ name, entries, bytes }) => [name, entries, bytes]);
}

/** Each endpoint of a service with the name of its node. */
function placesOf(cluster: Cluster, name: string): string[] {
  const { endpoints, ports, pods } = cluster;
  const places: string[] = [];
  for (let row = 0; row < endpoints.count; row++) {
    const found = cluster.services[ports.service[endpoints.servicePort[row]!]!]!;
    if (found.name !== name) continue;
    places.push(`${endpoints.text(row)} on ${cluster.nodes[pods.node[endpoints.pod[row]!]!]!.name}`);
  }
  return places;
}

test('an IPv6 NodePort Service has the rules that kube-proxy gives it', (t) => {
  t.is(chainHash('ns1/svc1:p80tcp[fd00:10:180::1]:80'), 'OGYCNMB4EMRUSJ6N');
  const spec = { type: 'NodePort', clusterIPs: ['fd00:172:30::41'] };
  const cluster = read([
    NODE,
    service('svc1', { spec, port: { nodePort: 3001 } }),
    slice('svc1', ['fd00:10:180::2:1', 'fd00:10:180:0:0:0:0:1']),
  ]);
  const lines = dumpOf(synced(cluster));
  for (const rule of [
    '-A KUBE-SVC-XPGD46QRK7WJZT7O -m comment --comment "ns1/svc1:p80 -> [fd00:10:180::1]:80" -m statistic --mode random --probability 0.5000000000 -j KUBE-SEP-OGYCNMB4EMRUSJ6N',
    '-A KUBE-SEP-OGYCNMB4EMRUSJ6N -m comment --comment ns1/svc1:p80 -s fd00:10:180::1 -j KUBE-MARK-MASQ',
    '-A KUBE-SEP-OGYCNMB4EMRUSJ6N -m comment --comment ns1/svc1:p80 -m tcp -p tcp -j DNAT --to-destination [fd00:10:180::1]:80',
    '-A KUBE-SERVICES -m comment --comment "kubernetes service nodeports; NOTE: this must be the last rule in this chain" -m addrtype --dst-type LOCAL ! -d ::1/128 -j KUBE-NODEPORTS',
  ]) {
    t.true(lines.includes(rule), rule);
  }
  t.deepEqual(ownRules(lines, 'nat', ['cluster IP', '-A KUBE-NODEPORTS', '-A KUBE-POSTROUTING']), [
    '-A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN',
    '-A KUBE-POSTROUTING -j MARK --xor-mark 0x4000',
    '-A KUBE-POSTROUTING -m comment --comment "kubernetes service traffic requiring SNAT" -j MASQUERADE',
    '-A KUBE-SERVICES -m comment --comment "ns1/svc1:p80 cluster IP" -m tcp -p tcp -d fd00:172:30::41 --dport 80 -j KUBE-SVC-XPGD46QRK7WJZT7O',
    '-A KUBE-NODEPORTS -m comment --comment ns1/svc1:p80 -m tcp -p tcp --dport 3001 -j KUBE-EXT-XPGD46QRK7WJZT7O',
    '-A KUBE-SVC-XPGD46QRK7WJZT7O -m comment --comment "ns1/svc1:p80 cluster IP" -m tcp -p tcp -d fd00:172:30::41 --dport 80 ! -s fd00:10::/64 -j KUBE-MARK-MASQ',
  ]);
  // localhostNodePorts and its counters are IPv4's alone, and so is KUBE-FIREWALL.
  const counted = dumpOf(synced(cluster, { nfacct: true }));
  t.is(counted.filter((line) => /KUBE-FIREWALL|127\.0\.0|localhost_nps/.test(line)).length, 0);
  t.is(counted.filter((line) => line.includes('ct_state_invalid')).length, 1);
});

test('each family of a dual-stack cluster has its own Services, addresses, slices and nodes', (t) => {
  const four = dualStack('ipv4');
  const six = dualStack('ipv6');
  t.deepEqual(namesOf(four), ['both 10.96.0.20', 'four 10.96.0.44', 'prefer 10.96.1.1']);
  t.deepEqual(namesOf(six), [
    'both fd00:10:96::a:0:14',
    'six fd00:10:96::66',
    'prefer fd00:10:96::101',
    'nobody fd00:10:96::dead',
  ]);
  t.deepEqual(placesOf(four, 'both'), ['10.244.0.5:8080 on worker-a', '10.244.1.5:8080 on worker-b']);
  t.deepEqual(placesOf(six, 'both'), [
    '[fd00:10:244::5]:8080 on worker-a',
    '[fd00:10:244:1::5]:8080 on worker-b',
  ]);
  const both = six.services[0]!;
  t.deepEqual(
    [...both.externalIps, ...both.loadBalancerIps].map((address) => addressText(six, address)),
    ['2001:db8::1:0:0:7', '2001:db8::9'],
  );
  t.deepEqual(
    both.sourceRanges.map((range) => familyOf(six).cidrText(range)),
    ['2001:db8:c0de::/48', 'fc00:f853:ccd:e793::/64'],
  );
  t.deepEqual(
    six.nodes.map(
      (one) => `${one.name} ${addressText(six, one.address)} ${familyOf(six).cidrText(one.podCidr!)}`,
    ),
    ['worker-a fc00:f853:ccd:e793::2 fd00:10:244::/64', 'worker-b fc00:f853:ccd:e793::3 fd00:10:244:1::/64'],
  );
  t.is(familyOf(six).cidrText(six.podCidr), 'fd00:10:244::/63');
  t.deepEqual(four.notes.slice(0, 3), [
    'left out 2 IPv6-only Services (vipsim rules --mode iptables --family ipv6 prints the IPv6 rules)',
    'read 2 dual-stack Services as IPv4 alone (vipsim rules --mode iptables --family ipv6 prints the IPv6 rules)',
    'left out 2 EndpointSlices with addresses other than IPv4',
  ]);
  t.deepEqual(six.notes.slice(0, 4), [
    'left out 1 IPv4-only Service',
    'read 2 dual-stack Services as IPv6 alone',
    'left out 1 EndpointSlice with addresses other than IPv6',
    'allocated 1 ClusterIP from fd00:10:96::/108',
  ]);
});

test('what both families share is the same in either: chain names of Services, node ports, nodes of pods', (t) => {
  const four = dualStack('ipv4');
  const six = dualStack('ipv6');
  t.deepEqual(nodePorts(six), ['both 30080', 'prefer 30086']);
  t.deepEqual(nodePorts(four), nodePorts(six));
  // A Service of IPv6 alone takes its number after those that have an IPv4 half, wherever it stands.
  const open = { type: 'NodePort' };
  const mixed = [
    service('alone', { spec: open }),
    service('prefer', { spec: { ...open, ipFamilies: ['IPv4', 'IPv6'] } }),
  ];
  t.deepEqual(nodePorts(read(mixed, 'ipv4')), ['prefer 30086']);
  t.deepEqual(nodePorts(read(mixed, 'ipv6')), ['prefer 30086']);
  // Three pods of an IPv4-only Service are placed before these.
  t.deepEqual(nodesOf(six), ['worker-b', 'worker-a', 'worker-b', 'worker-a']);
  t.deepEqual(nodesOf(four), nodesOf(six));
  t.is(chainsOf(six).length, 6);
  t.deepEqual(chainsOf(four), chainsOf(six));
});

test('policies, ranges and refusals of an IPv6 load balancer are those of its family', (t) => {
  const lines = dumpOf(synced(dualStack('ipv6')));
  t.deepEqual(ownRules(lines, 'filter', ['PROXY-FIREWALL -m comment', 'KUBE-NODEPORTS', 'nobody']), [
    '-A KUBE-PROXY-FIREWALL -m comment --comment "shop/both:http traffic not accepted by KUBE-FW-PNCABDFH6LF6WYZE" -m tcp -p tcp -d 2001:db8::9 --dport 80 -j DROP',
    '-A KUBE-NODEPORTS -m comment --comment "shop/both:http health check node port" -m tcp -p tcp --dport 31999 -j ACCEPT',
    '-A KUBE-SERVICES -m comment --comment "shop/nobody has no endpoints" -m tcp -p tcp -d fd00:10:96::dead --dport 1 -j REJECT',
  ]);
  t.deepEqual(
    ownRules(lines, 'nat', ['-A KUBE-FW']),
    // The node is in the second range, so the load balancer's own address is let in as a source.
    ['2001:db8:c0de::/48', 'fc00:f853:ccd:e793::/64', '2001:db8::9']
      .map(
        (source) =>
          `-A KUBE-FW-PNCABDFH6LF6WYZE -m comment --comment "shop/both:http loadbalancer IP" -s ${source} -j KUBE-EXT-PNCABDFH6LF6WYZE`,
      )
      .concat(
        '-A KUBE-FW-PNCABDFH6LF6WYZE -m comment --comment "other traffic to shop/both:http will be dropped by KUBE-PROXY-FIREWALL"',
      ),
  );
  const ours = [...synced(dualStack('ipv6')).proxier.dump('iptables-save')];
  t.true(
    ours.includes(
      '-A KUBE-SERVICES -d fd00:10:96::dead/128 -p tcp -m comment --comment "shop/nobody has no endpoints" -m tcp --dport 1 -j REJECT --reject-with icmp6-port-unreachable',
    ),
  );
});

test('settings with addresses and interfaces count by family', (t) => {
  const last = (nodePortAddresses: string, family: Family = 'ipv6'): string[] =>
    dumpOf(synced(dualStack(family), { nodePortAddresses }))
      .filter((line) => line.endsWith('-j KUBE-NODEPORTS'))
      .map((line) => line.replace(/.*chain" /, ''));
  const all = '-m addrtype --dst-type LOCAL ! -d ::1/128 -j KUBE-NODEPORTS';
  t.deepEqual(last('172.18.0.0/16,127.0.0.0/8'), [all]);
  t.deepEqual(last('172.18.0.0/16,::/0'), [all]);
  t.deepEqual(last('primary'), ['-d fc00:f853:ccd:e793::2 -j KUBE-NODEPORTS']);
  // The loopback's address serves none, though it is inside.
  t.deepEqual(last('fc00::/7,::1/128'), ['-d fc00:f853:ccd:e793::2 -j KUBE-NODEPORTS']);
  t.deepEqual(last('2001:db8::/32'), []);
  t.deepEqual(last('fc00::/7', 'ipv4'), ['-m addrtype --dst-type LOCAL -j KUBE-NODEPORTS']);
  t.is(wantedCidrs('10.0.0.0/8, fd00::/8'), '');
  for (const text of ['fd00::/129', 'fd0g::/8', '1::2::3/64', 'fd00::']) t.not(wantedCidrs(text), '', text);

  const local = (options: Partial<IptablesOptions>): string =>
    ownRules(dumpOf(synced(dualStack('ipv6'), options)), 'nat', ['"pod traffic for'])[0]!;
  t.regex(local({ detectLocalMode: 'NodeCIDR' }), / -s fd00:10:244::\/64 -j/);
  t.regex(local({ detectLocalMode: 'BridgeInterface' }), / -i cni0 -j/);
  const snat = dumpOf(synced(dualStack('ipv6'), { snatNodeInternalIP: true }));
  t.true(
    snat.includes(
      '-A KUBE-POSTROUTING -m comment --comment "kubernetes service traffic requiring SNAT" -j SNAT --to-source fc00:f853:ccd:e793::2',
    ),
  );
});

test('addresses left to the control plane come in order, in networks as kind makes them', (t) => {
  const template = { metadata: { labels: { app: 'x' } } };
  const deployment = (replicas: number): object => ({
    apiVersion: 'apps/v1',
    kind: 'Deployment',
    metadata: { name: 'x', namespace: 'ns1' },
    spec: { replicas, template },
  });
  const front = service('x', { spec: { selector: { app: 'x' } } });
  const used = service('used', { spec: { clusterIP: 'fd00:10:96::101' } });
  const cluster = read([front, used, slice('used', ['fd00:10:244:1::2']), deployment(4)]);
  t.is(addressText(cluster, cluster.services[0]!.clusterIp), 'fd00:10:96::102');
  t.deepEqual(
    cluster.nodes.map((one) => `${one.name} ${addressText(cluster, one.address)}`),
    ['test-node fc00:f853:ccd:e793::2', 'node-0 fc00:f853:ccd:e793::3', 'node-1 fc00:f853:ccd:e793::4'],
  );
  t.deepEqual(placesOf(cluster, 'x'), [
    '[fd00:10:244::2]:80 on test-node',
    '[fd00:10:244:1::3]:80 on node-0',
    '[fd00:10:244:2::2]:80 on node-1',
    '[fd00:10:244::3]:80 on test-node',
  ]);
  t.is(familyOf(cluster).cidrText(cluster.podCidr), 'fd00:10:244::/56');

  const wide = read([front, deployment(40_000)]);
  t.is(familyOf(wide).cidrText(wide.podCidr), 'fd00:10:244::/48');
  const addresses = wide.endpoints.address.slice(0, wide.endpoints.count);
  t.is(new Set(addresses).size, 40_000);
  t.true(addresses.every((address) => familyOf(wide).contains(wide.podCidr, address)));
});

test('pods and Endpoints objects give the addresses of the family', (t) => {
  const pods = [pod('a', ['10.0.0.1', 'fd00:10::a']), pod('b', ['10.0.0.2'])];
  const ipv4Endpoints = {
    kind: 'Endpoints',
    metadata: { name: 'x', namespace: 'ns1' },
    subsets: [{ ports: [{ name: 'p80', port: 80 }], addresses: [{ ip: '10.0.0.1' }, { ip: '10.0.0.2' }] }],
  };
  const selecting = service('x', { spec: { ipFamilies: ['IPv4', 'IPv6'], selector: { app: 'x' } } });
  const cluster = read([NODE, selecting, ...pods]);
  t.deepEqual(placesOf(cluster, 'x'), ['[fd00:10::a]:80 on test-node']);
  t.true(cluster.notes.includes('left out as finished or without an IPv6 address: 1 pod'));
  // An Endpoints object is of the first family; the controller makes the second one's slices from the selector.
  t.deepEqual(placesOf(read([NODE, selecting, ...pods, ipv4Endpoints]), 'x'), placesOf(cluster, 'x'));
  const manual = service('x', { spec: { ipFamilies: ['IPv4', 'IPv6'] } });
  t.deepEqual(placesOf(read([NODE, manual, ipv4Endpoints]), 'x'), []);
});

test('what cannot be meant or be done with IPv6 is refused', (t) => {
  const refused = (objects: readonly object[], message: RegExp, family: Family = 'ipv6'): void =>
    void t.throws(() => read(objects, family), { instanceOf: InputError, message });
  const ipv4 = service('x', { spec: { ipFamilies: ['IPv4'] } });
  refused([ipv4], /all Services \(1\) are IPv4-only; wanted one with an IPv6 ClusterIP/);
  refused(
    [service('x')],
    /all Services \(1\) are IPv6-only, which cannot be simulated; vipsim rules/,
    'ipv4',
  );
  const at = (clusterIP: string): object => service('x', { spec: { clusterIP } });
  refused([at('fd00::x')], /spec\.clusterIP: "fd00::x" is not an IP address/);
  refused([at('::ffff:10.0.0.1')], /is not an IP address; wanted IPv4 addresses without ::ffff:/);
  refused([at('::')], /:: cannot be a ClusterIP/);
  refused(
    [at('fd00::1'), service('y', { spec: { clusterIP: 'FD00:0::1' } })],
    /fd00::1 is the ClusterIP of two/,
  );
  const ranged = service('x', { spec: { loadBalancerSourceRanges: ['fd00::/129'] } });
  refused([ranged], /"fd00::\/129" is not a CIDR; wanted one such as fd00::\/8/);
  refused([node('n', 'fd00::1', 'fd00::'), service('x')], /spec\.podCIDR: "fd00::" is not a CIDR/);

  const cluster = dualStack('ipv6');
  t.throws(() => cluster.endpoints.copy(), {
    message: 'an IPv6 cluster has rules to print, but cannot be run',
  });
  t.throws(() => scaleCluster(cluster, 1000), { message: 'an IPv6 cluster cannot be scaled by copying' });
});

test('IPv6 endpoints are in the order of the bytes of their text', (t) => {
  const words = fc.tuple(
    fc.constantFrom('fd00:', 'fd00::', '2001:db8::'),
    fc.nat({ max: 0xffff }),
    fc.boolean(),
  );
  fc.assert(
    fc.property(fc.array(fc.tuple(words, fc.integer({ min: 1, max: 65535 })), { maxLength: 60 }), (list) => {
      const family = new Ipv6Family();
      const endpoints = new Endpoints(family);
      for (const [[head, group, long], port] of list) {
        const text = head.endsWith('::') ? `${head}${group.toString(16)}` : `${head}${long ? '1:2' : '9'}::7`;
        endpoints.add(0, 0, family.parse(text)!, port, 0);
      }
      const rows = Int32Array.from(list.keys());
      const sorted = Array.from(sortedByText(endpoints, rows), (row) => Buffer.from(endpoints.text(row)));
      const wanted = Array.from(rows, (row) => Buffer.from(endpoints.text(row))).sort(Buffer.compare);
      t.deepEqual(sorted, wanted);
    }),
    { seed: 42, numRuns: 200 },
  );
});

test('the rules of one family are those of the other with the addresses exchanged', (t) => {
  const digit = fc.integer({ min: 1, max: 9 });
  const specOf = fc.record({
    nodePort: fc.boolean(),
    external: fc.boolean(),
    ranged: fc.boolean(),
    local: fc.boolean(),
    internal: fc.boolean(),
    sticky: fc.boolean(),
    endpoints: fc.uniqueArray(digit, { maxLength: 4 }),
  });
  fc.assert(
    fc.property(fc.array(specOf, { minLength: 1, maxLength: 6 }), fc.boolean(), (specs, large) => {
      // One digit at the end keeps the order of texts the same in both families.
      const made = specs.map((spec, i) => ({
        namespace: 'ns',
        name: `s${i}`,
        clusterIp: `10.9.${i}.1`,
        type: spec.nodePort ? ('NodePort' as const) : ('ClusterIP' as const),
        nodePort: spec.nodePort ? 30_000 + i : 0,
        loadBalancerIps: spec.external ? [`10.8.${i}.1`] : [],
        externalIps: spec.external ? [`10.7.${i}.1`] : [],
        sourceRanges: spec.ranged ? ['192.168.0.0/16'] : [],
        externalPolicyLocal: spec.local,
        internalPolicyLocal: spec.internal,
        affinityS: spec.sticky ? 60 : 0,
        endpoints: spec.endpoints.map((last) => ({ at: `10.6.0.${last}:80`, local: last < 4 })),
      }));
      const four = clusterOf(made);
      const six = translated(four);
      const options = { localhostNodePorts: false, largeClusterEndpoints: large ? 0 : 1000 };
      const exchanged = dumpOf(synced(four, options)).map(toIpv6);
      t.deepEqual(anonymous(dumpOf(synced(six, options))), anonymous(exchanged));
    }),
    { seed: 42, numRuns: 150 },
  );
});

/** 10.6.0.3 becomes fd00:10:6:0::3, digit for digit. */
function sixOf(address: string): string {
  const [first, second, third, fourth] = address.split('.');
  return formatIpv6(parseIpv6(`fd00:${first}:${second}:${third}::${fourth}`)!);
}

function translated(cluster: Cluster): Cluster {
  const family = new Ipv6Family();
  const six = (address: number): number => family.parse(sixOf(formatIpv4(address)))!;
  const cidr = ({ address, prefix }: Cidr): Cidr => family.network(six(address), 16 + 2 * prefix);
  const endpoints = new Endpoints(family);
  const from = cluster.endpoints;
  for (let row = 0; row < from.count; row++) {
    const address = six(from.address[row]!);
    endpoints.add(from.servicePort[row]!, from.pod[row]!, address, from.port[row]!, from.conditions[row]!);
  }
  const ports = Object.assign(new ServicePorts(), cluster.ports);
  ports.clusterIp = cluster.ports.clusterIp.map(six);
  return {
    ...cluster,
    nodes: cluster.nodes.map(({ name, zone, address }) => ({ name, zone, address: six(address) })),
    services: cluster.services.map((one) => ({
      ...one,
      clusterIp: six(one.clusterIp),
      externalIps: one.externalIps.map(six),
      loadBalancerIps: one.loadBalancerIps.map(six),
      sourceRanges: one.sourceRanges.map(cidr),
    })),
    ports,
    endpoints,
    podCidr: cidr(cluster.podCidr),
  };
}

/** The same in text: the loopback is left out whole or as one address, and endpoints have brackets. */
function toIpv6(line: string): string {
  return line
    .replace('! -d 127.0.0.0/8', '! -d ::1/128')
    .replaceAll(
      /(\d+\.\d+\.\d+\.\d+)(?:\/(\d+)|(:\d+))?/g,
      (_, address: string, prefix?: string, port?: string) => {
        if (prefix !== undefined) return `${sixOf(address)}/${16 + 2 * Number(prefix)}`;
        return port === undefined ? sixOf(address) : `[${sixOf(address)}]${port}`;
      },
    );
}

/** Hashes replaced by their place in the text: the address is part of what is hashed. */
function anonymous(lines: readonly string[]): string[] {
  const seen = new Map<string, number>();
  return lines.map((line) =>
    line.replaceAll(/(?<=KUBE-(?:SVC|SVL|EXT|FW|SEP)-)[A-Z2-7]{16}/g, (hash) => {
      if (!seen.has(hash)) seen.set(hash, seen.size);
      return `#${seen.get(hash)!}`;
    }),
  );
}

test('legacy IPv6 tables measure what IP6T_SO_GET_INFO said of them', (t) => {
  const measured = [
    ['nat', 111, 43_208],
    ['filter', 35, 13_496],
  ];
  t.deepEqual(sizesOf({}), measured);
  t.deepEqual(sizesOf({ snatNodeInternalIP: true, detectLocalMode: 'BridgeInterface' }), measured);
});

const OPTION_SETS: readonly Partial<IptablesOptions>[] = [
  {},
  { masqueradeAll: true, masqueradeBit: 0, randomFully: false },
  { detectLocalMode: 'BridgeInterface', nodePortAddresses: 'fc00::/7' },
  { detectLocalMode: 'InterfaceNamePrefix', snatNodeInternalIP: true, tcpBeLiberal: true },
  { detectLocalMode: 'none', largeClusterEndpoints: 0, masqueradeBit: 31 },
];

for (const backend of ['legacy', 'nft']) {
  const restore = `ip6tables-${backend}-restore`;
  // Needs the program, and root.
  const here = spawnSync('unshare', ['-n', restore, '--test'], { input: '*nat\nCOMMIT\n' }).status === 0;
  const onReal = here ? test : test.skip;

  onReal(`ip6tables-${backend} takes every document, and prints the rules as we do`, (t) => {
    for (const options of OPTION_SETS) {
      const { proxier } = synced(dualStack('ipv6'), options);
      const ours = [...proxier.dump('iptables-save')];
      const script = `${restore}; ip6tables-${backend}-save`;
      t.deepEqual(tablesOf(saved(inside(script, ours))), tablesOf(ours));
      t.is(inside(`${restore} --test`, ours), '');
      const document = [...proxier.dump('iptables-restore')];
      t.is(inside(`${restore} --test`, document), '');
      t.deepEqual(kubeRules(saved(inside(script, document))), kubeRules(ours));
    }
  });

  onReal(`ip6tables-${backend} takes a partial sync after a full one`, (t) => {
    const made = synced(dualStack('ipv6'));
    const full = [...made.proxier.dump('iptables-restore')];
    made.endpoints.remove(0);
    made.endpoints.remove(3);
    const partial = [...made.proxier.partialDump([0, 1])];
    t.true(partial.some((line) => line.startsWith('-X KUBE-SEP-')));
    // Tables may follow one another in one text; each commits alone.
    const loaded = inside(`${restore} --noflush; ip6tables-${backend}-save`, [...full, ...partial]);
    t.deepEqual(kubeRules(saved(loaded)), kubeRules([...made.proxier.dump('iptables-save')]));
  });
}

/** In a network namespace of its own. */
function inside(script: string, lines: readonly string[]): string {
  const input = `${lines.join('\n')}\n`;
  return execFileSync('unshare', ['-n', 'sh', '-ec', script], {
    input,
    encoding: 'utf8',
    maxBuffer: 1 << 28,
  });
}

function saved(text: string): string[] {
  const lines = text.split('\n').filter((line) => line !== '' && !line.startsWith('#'));
  return lines.map((line) => line.replace(/ \[\d+:\d+\]$/, ' [0:0]'));
}

/** Tables by name: nft saves them in another order. */
function tablesOf(lines: readonly string[]): string[][] {
  const tables: string[][] = [];
  for (const line of lines) {
    if (line.startsWith('*')) tables.push([]);
    tables.at(-1)!.push(line);
  }
  return tables.sort((a, b) => (a[0]! < b[0]! ? -1 : 1));
}

/** What kube-proxy's chains hold, table by table. */
function kubeRules(lines: readonly string[]): string[][] {
  return tablesOf(lines).map((table) =>
    table.filter((line) => line.startsWith('*') || line.startsWith('-A KUBE-')),
  );
}
