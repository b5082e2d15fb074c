import { readFileSync } from 'node:fs';
import { contains, formatCidr, formatIpv4, parseCidr, parseIpv4, SCTP, TCP, UDP } from '@vipsim/sim-core';
import test from 'ava';
import fc from 'fast-check';
import { stringify } from 'yaml';
import { ClusterIps, covering, NodePorts } from '../src/kubernetes/allocate.ts';
import { HINT_BY_SERVICE, NO_HINT, servicePortName, type Cluster } from '../src/kubernetes/cluster.ts';
import { locate } from '../src/kubernetes/json-locator.ts';
import { InputError, readCluster, scaleCluster, type ReadOptions } from '../src/kubernetes/read.ts';
import { syntheticCluster, SYNTHETIC_DEFAULTS } from '../src/kubernetes/synthetic.ts';

const SHOP = fixture('shop.yaml');
const DUMP = fixture('dump.json');

test('a manifest becomes a cluster: types, ports, policies, addresses and the endpoints of its workloads', (t) => {
  const cluster = readCluster([SHOP]);
  t.deepEqual(
    cluster.services.map(({ name, type, clusterIp }) => `${name} ${type} ${formatIpv4(clusterIp)}`),
    [
      'web NodePort 10.96.1.2',
      'web-public LoadBalancer 10.96.1.3',
      'db ClusterIP 10.96.1.1',
      'db-peers ClusterIP 0.0.0.0',
      'mail ExternalName 0.0.0.0',
      'dns ClusterIP 10.96.1.4',
    ],
  );
  t.deepEqual(rowsOf(cluster), [
    'shop/web:http 6 80 node 30087 > 10.244.0.2:8080/3 10.244.1.2:8080/3 10.244.2.2:8080/3 10.244.0.3:8080/3',
    'shop/web:metrics 6 9090 node 30086 > 10.244.0.2:9100/3 10.244.1.2:9100/3 10.244.2.2:9100/3 10.244.0.3:9100/3',
    'shop/web-public 6 443 node 30088 > 10.244.0.2:8080/3 10.244.1.2:8080/3 10.244.2.2:8080/3 10.244.0.3:8080/3',
    'shop/db 6 5432 node 0 > 10.244.1.3:5432/3',
    'shop/dns:dns 17 53 node 0 > 172.16.0.2:53/3 172.16.0.3:53/3 172.16.0.4:53/3',
    'shop/dns:dns-tcp 6 53 node 0 > 172.16.0.2:53/3 172.16.0.3:53/3 172.16.0.4:53/3',
  ]);
  const [web, open] = cluster.services;
  t.is(web!.affinityS, 10800);
  t.true(web!.externalPolicyLocal);
  t.false(web!.internalPolicyLocal);
  t.is(web!.healthCheckNodePort, 0);
  t.true(open!.internalPolicyLocal);
  t.is(open!.healthCheckNodePort, 30089);
  t.deepEqual(open!.externalIps.map(formatIpv4), ['192.0.2.10']);
  t.deepEqual(open!.loadBalancerIps.map(formatIpv4), ['203.0.113.5']);
  t.deepEqual(open!.sourceRanges.map(formatCidr), ['198.51.100.0/24']);
  t.deepEqual(workloadsOf(cluster), [
    'Deployment shop/web 0,1,2,3',
    'StatefulSet shop/db 4',
    'DaemonSet shop/agent 5,6,7',
  ]);
  t.is(formatCidr(cluster.podCidr), '10.244.0.0/16');
  t.deepEqual(cluster.notes, [
    'skipped 3 documents of 2 kinds that do not concern Services: 2 ConfigMap, 1 Service.serving.knative.dev',
    'listed but not proxied: 1 headless Service',
    'listed but not proxied: 1 ExternalName Service',
    'allocated 3 ClusterIPs from 10.96.0.0/12',
    'allocated 3 NodePorts from 30000-32767',
    'derived 8 pods of 3 workloads from replicas and template labels',
    'made up 3 nodes: the input has no Node objects',
  ]);
});

test('a dump becomes the cluster as it is: slices, conditions, pods shared by Services, nodes', (t) => {
  const cluster = readCluster([DUMP]);
  t.deepEqual(
    cluster.nodes.map(({ name, address, zone }) => `${name} ${formatIpv4(address)} ${zone}`),
    ['control 192.168.1.1 a', 'worker 192.168.1.2 b', 'ghost 172.16.0.2 c', '(outside) 172.16.0.3 '],
  );
  t.deepEqual(rowsOf(cluster), [
    'default/kubernetes:https 6 443 node 0 > 192.168.1.1:6443/3',
    // A terminating repetition of .5 does not replace it; missing conditions mean ready and serving.
    'prod/api:http 6 80 node 0 > 10.20.1.5:8080/3 10.20.1.6:8080/6 10.20.9.9:8080/3 10.20.0.7:8080/3 198.51.100.1:8080/3',
    'prod/api:grpc 6 90 node 0 >',
    // From Pods: one ready, one terminating, one without a status, which is placed on the untainted node.
    'prod/api-derived 6 80 node 0 > 10.20.1.5:8080/3 10.20.1.6:8080/6 10.20.1.2:8080/3',
  ]);
  t.deepEqual(workloadsOf(cluster), [
    'Service default/kubernetes 0',
    'Deployment prod/api 1,2',
    'Service prod/api 3,4,5',
    'Pod prod/api-manifest 6',
  ]);
  const nodeOf = (address: string): string => {
    const pod = cluster.pods.address.indexOf(parseIpv4(address)!);
    return cluster.nodes[cluster.pods.node[pod]!]!.name;
  };
  t.is(nodeOf('192.168.1.1'), 'control');
  t.is(nodeOf('10.20.0.7'), 'control');
  t.is(nodeOf('10.20.9.9'), 'ghost');
  t.is(nodeOf('198.51.100.1'), '(outside)');
  t.is(formatCidr(cluster.podCidr), '10.20.0.0/23');
  t.deepEqual(cluster.notes, [
    'read 1 dual-stack Service as IPv4 alone (vipsim rules --mode iptables --family ipv6 prints the IPv6 rules)',
    'left out 1 EndpointSlice with addresses other than IPv4',
    'left out 1 EndpointSlice of no Service in the input',
    'left out 1 port of EndpointSlices that their Service does not have',
    'left out as finished or without an IPv4 address: 1 pod',
    'took 1 node from names in pods and EndpointSlices, without a Node object',
    'on no node of the cluster, so local to none: 1 pod',
  ]);
});

test('typed lists, several sources and Endpoints objects are read; slices come before Endpoints', (t) => {
  const services = JSON.stringify({
    kind: 'ServiceList',
    apiVersion: 'v1',
    items: [
      { metadata: { name: 'a' }, spec: { ports: [{ port: 80 }] } },
      service('b', [{ port: 53, protocol: 'SCTP' }]),
    ],
  });
  const endpoints = stringify({
    kind: 'List',
    items: [
      {
        kind: 'Endpoints',
        metadata: { name: 'a' },
        subsets: [
          {
            addresses: [{ ip: '10.0.0.1', nodeName: 'n1' }],
            notReadyAddresses: [{ ip: '10.0.0.2', nodeName: 'n2' }],
            ports: [{ port: 8080 }],
          },
        ],
      },
      {
        kind: 'Endpoints',
        metadata: { name: 'b' },
        subsets: [{ addresses: [{ ip: '10.0.0.9' }], ports: [{ port: 1 }] }],
      },
      { kind: 'Endpoints', metadata: { name: 'leader' } },
      slice('b', ['10.0.0.3'], { port: 53, protocol: 'SCTP' }),
    ],
  });
  const cluster = readCluster([
    { name: 'services.json', text: `\ufeff${services}` },
    { name: 'endpoints.yaml', text: endpoints },
  ]);
  t.is(cluster.name, 'services.json, endpoints.yaml');
  t.deepEqual(rowsOf(cluster), [
    'default/a 6 80 node 0 > 10.0.0.1:8080/3 10.0.0.2:8080/0',
    'default/b 132 53 node 0 > 10.0.0.3:53/3',
  ]);
  t.is(cluster.ports.protocol[1], SCTP);
  t.true(cluster.notes.includes('left out 1 Endpoints object of no Service in the input'));
});

test('named target ports are looked up per pod; what nothing serves is said in a note', (t) => {
  const cluster = read(
    service('named', [{ port: 80, targetPort: 'http' }], { selector: { app: 'x' } }),
    service('lost', [{ port: 80 }], { selector: { app: 'operator' } }),
    service('bare', [{ port: 80 }]),
    service('six', [{ port: 80 }], { ipFamilies: ['IPv6'] }),
    service('lb', [{ port: 80 }], {
      type: 'LoadBalancer',
      allocateLoadBalancerNodePorts: false,
      selector: { app: 'x' },
    }),
    podNamed('p1', { spec: { containers: [{ ports: [{ name: 'http', containerPort: 8080 }] }] } }),
    podNamed('p2', {
      spec: { containers: [{ ports: [{ name: 'http', containerPort: 8080, protocol: 'UDP' }] }] },
    }),
    podNamed('p3', {
      spec: {
        initContainers: [{ restartPolicy: 'Always', ports: [{ name: 'http', containerPort: 81 }] }],
      },
    }),
  );
  t.deepEqual(rowsOf(cluster), [
    'default/named 6 80 node 0 > 10.244.0.2:8080/3 10.244.1.2:81/3',
    'default/lost 6 80 node 0 >',
    'default/bare 6 80 node 0 >',
    'default/lb 6 80 node 0 > 10.244.0.2:80/3 10.244.2.2:80/3 10.244.1.2:80/3',
  ]);
  t.deepEqual(cluster.notes.slice(0, 1), [
    'left out 1 IPv6-only Service (vipsim rules --mode iptables --family ipv6 prints the IPv6 rules)',
  ]);
  t.deepEqual(cluster.notes.slice(-4), [
    'no endpoints, as the selector matches no pod of the input: default/lost',
    'no endpoints, as there is neither a selector nor an EndpointSlice: default/bare',
    'type LoadBalancer without an address in the status: default/lb',
    "left out 1 endpoint whose pod has no port of the targetPort's name: default/named",
  ]);
});

test('not-ready pods are published when the Service asks for it, and finished ones never', (t) => {
  const cluster = read(
    service('plain', [{ port: 80 }], { selector: { app: 'x' } }),
    service('eager', [{ port: 80 }], { selector: { app: 'x' }, publishNotReadyAddresses: true }),
    podNamed('p1', { status: { podIP: '10.0.0.1', conditions: [{ type: 'Ready', status: 'False' }] } }),
    podNamed('p2', { status: { podIP: '10.0.0.2', phase: 'Succeeded' } }),
    podNamed('p3', {
      status: {
        podIP: 'fd00::3',
        podIPs: [{ ip: 'fd00::3' }, { ip: '10.0.0.3' }],
        conditions: [{ type: 'Ready', status: 'True' }],
      },
    }),
  );
  t.deepEqual(rowsOf(cluster), [
    'default/plain 6 80 node 0 > 10.0.0.1:80/0 10.0.0.3:80/3',
    'default/eager 6 80 node 0 > 10.0.0.1:80/1 10.0.0.3:80/3',
  ]);
});

test('a pod counts once, whether its Deployment, its ReplicaSet or itself is in the input', (t) => {
  const template = { metadata: { labels: { app: 'x', 'pod-template-hash': '5d4' } }, spec: {} };
  const front = service('x', [{ port: 80 }], { selector: { app: 'x' } });
  const deployment = { kind: 'Deployment', metadata: { name: 'x' }, spec: { replicas: 3, template } };
  const set = {
    kind: 'ReplicaSet',
    metadata: { name: 'x-5d4', ...owner('Deployment', 'x') },
    spec: { replicas: 2, template },
  };
  const member = {
    kind: 'Pod',
    metadata: { name: 'x-5d4-a', labels: template.metadata.labels, ...owner('ReplicaSet', 'x-5d4') },
  };
  const orphan = { kind: 'Pod', metadata: { name: 'solo', labels: { app: 'x' } } };
  t.deepEqual(workloadsOf(read(front, deployment, set)), ['Deployment default/x 0,1,2']);
  t.deepEqual(workloadsOf(read(front, set)), ['Deployment default/x 0,1']);
  t.deepEqual(workloadsOf(read(front, deployment, set, member)), ['Deployment default/x 0']);
  t.deepEqual(workloadsOf(read(front, deployment, member)), ['Deployment default/x 0']);
  t.deepEqual(workloadsOf(read(front, deployment, orphan)), [
    'Pod default/solo 0',
    'Deployment default/x 1,2,3',
  ]);
  // An operator's StatefulSet is the controller itself, not the resource that owns it.
  const stateful = {
    kind: 'StatefulSet',
    metadata: { name: 'y', ...owner('Prometheus', 'k8s') },
    spec: { template },
  };
  t.deepEqual(workloadsOf(read(front, stateful)), ['StatefulSet default/y 0']);
});

test('addresses are allocated around those that the input uses, and the pod network widens when it must', (t) => {
  const template = { metadata: { labels: { app: 'x' } }, spec: {} };
  const many = (replicas: number): object => ({
    kind: 'Deployment',
    metadata: { name: 'x' },
    spec: { replicas, template },
  });
  const front = service('x', [{ port: 80 }], { selector: { app: 'x' } });
  const used = ['10.244.0.2', '10.244.0.3', '10.96.1.1', '172.16.0.2', '172.16.0.4'];
  const cluster = read(front, service('used', [{ port: 80 }]), slice('used', used, { port: 80 }), many(3));
  t.is(formatIpv4(cluster.services[0]!.clusterIp), '10.96.1.2');
  t.deepEqual(
    cluster.nodes.map(({ name, address }) => `${name} ${formatIpv4(address)}`),
    ['n1 172.16.0.3', 'node-0 172.16.0.5', 'node-1 172.16.0.6'],
  );
  t.deepEqual(rowsOf(cluster)[0], 'default/x 6 80 node 0 > 10.244.0.4:80/3 10.244.1.2:80/3 10.244.2.2:80/3');

  const wide = read(front, many(40_000));
  t.is(wide.nodes.length, 364);
  t.is(formatCidr(wide.podCidr), '10.128.0.0/9');
  const addresses = wide.pods.address.slice(0, wide.pods.count);
  t.is(new Set(addresses).size, 40_000);
  t.true(addresses.every((address) => contains(wide.podCidr, address)));

  const error = t.throws(() => read(front, many(2_000_000)), { instanceOf: InputError });
  t.is(
    error?.message,
    'test.yaml:15 (document 2, Deployment default/x) spec.replicas: 2000000 pods in all; maxEndpoints is 1500000',
  );
  t.throws(
    () => read({ maxEndpoints: 2 }, front, slice('x', ['10.0.0.1', '10.0.0.2', '10.0.0.3'], { port: 80 })),
    {
      message: /Service default\/x\): its endpoints make more than maxEndpoints \(2\)/,
    },
  );
});

test('ClusterIPs and NodePorts start above the band for static ones (KEP-3070, KEP-3668) and then use it up', (t) => {
  // The worked examples of the Kubernetes documentation: 10.96.0.0/20, /24 and the default port range.
  const bands = [
    ['10.96.0.0', 20, '10.96.1.1', 4094],
    ['10.96.0.0', 24, '10.96.0.17', 254],
  ] as const;
  for (const [network, prefix, first, size] of bands) {
    const ips = new ClusterIps({ address: parseIpv4(network)!, prefix }, new Set([parseIpv4('10.96.0.1')!]));
    const given = drained(() => ips.next());
    t.is(formatIpv4(given[0]!), first);
    t.is(given.length, size - 1);
    t.is(new Set(given).size, size - 1);
    t.is(formatIpv4(given.at(-1)!), formatIpv4(parseIpv4(first)! - 1));
  }
  const ports = new NodePorts();
  ports.take(30086);
  const given = drained(() => ports.next());
  t.is(given[0], 30087);
  t.is(given.at(-1), 30085);
  t.is(given.length, 2767);

  t.is(coverOf('10.244.0.0/24'), '10.244.0.0/24');
  t.is(coverOf('10.244.0.0/24', '10.244.3.0/24'), '10.244.0.0/22');
  t.is(coverOf('10.0.0.0/24', '192.168.0.0/24'), '');

  const both = [
    { name: 'a', port: 53, protocol: 'TCP' },
    { name: 'b', port: 53, protocol: 'UDP' },
  ];
  const shared = read(service('dns', both, { type: 'NodePort' }));
  t.deepEqual(Array.from(shared.ports.nodePort.slice(0, 2)), [30086, 30086]);
  t.deepEqual(Array.from(shared.ports.protocol.slice(0, 2)), [TCP, UDP]);
  const many = Array.from({ length: 2769 }, (_, i) => service(`s${i}`, [{ port: 80 }], { type: 'NodePort' }));
  t.throws(() => readJson(many), { instanceOf: InputError, message: /no NodePort is left in 30000-32767/ });
});

test('what is wrong is said with file, line, document, object, field and what was wanted', (t) => {
  const cases: [text: string, message: string][] = [
    [
      webDocument('  ports:\n    - name: http\n      port: 70000\n'),
      'shop.yaml:11 (document 3, Service default/web) spec.ports[0].port: 70000 is not a port; wanted 1 to 65535',
    ],
    [
      webDocument('  ports: [{ port: "80" }]\n'),
      'shop.yaml:9 (document 3, Service default/web) spec.ports[0].port: "80" is not a port; wanted 1 to 65535, without quotes',
    ],
    [
      webDocument('  ports: [{ port: 80, targetPort: "8080" }]\n'),
      'shop.yaml:9 (document 3, Service default/web) spec.ports[0].targetPort: "8080" is not a port name; wanted a name, or 8080 without quotes',
    ],
    [
      webDocument('  type: clusterip\n'),
      'shop.yaml:9 (document 3, Service default/web) spec.type: "clusterip" is not known; wanted one of ClusterIP, NodePort, LoadBalancer, ExternalName',
    ],
    [
      webDocument('  selector: { app: 1 }\n  ports: [{ port: 80 }]\n'),
      'shop.yaml:9 (document 3, Service default/web) spec.selector.app: 1 is not a string; wanted quotes around it',
    ],
    [
      webDocument('  ports:\n  - { port: 80, name: a }\n  - { port: 81, name: a }\n'),
      'shop.yaml:11 (document 3, Service default/web) spec.ports[1].name: "a" is the name of two ports; several ports need distinct names',
    ],
    [
      webDocument('  ports:\n  - { port: 80 }\n  - { port: 81 }\n'),
      'shop.yaml:10 (document 3, Service default/web) spec.ports[0].name: is missing; several ports need distinct names',
    ],
    [
      webDocument('  clusterIP: 10.0.0\n  ports: [{ port: 80 }]\n'),
      'shop.yaml:9 (document 3, Service default/web) spec.clusterIP: "10.0.0" is not an IP address',
    ],
    [
      webDocument('  ports: [{ port: 80, nodePort: 30000 }]\n'),
      'shop.yaml:9 (document 3, Service default/web) spec.ports[0].nodePort: 30000 in a Service of type ClusterIP; wanted type NodePort or LoadBalancer',
    ],
    [
      webDocument('  loadBalancerSourceRanges: [10.0.0.0]\n  ports: [{ port: 80 }]\n'),
      'shop.yaml:9 (document 3, Service default/web) spec.loadBalancerSourceRanges[0]: "10.0.0.0" is not a CIDR; wanted one such as 10.0.0.0/8',
    ],
    [
      'kind: Service\nmetadata: { name: [web] }\n',
      'shop.yaml:2 (document 1, Service) metadata.name: a list is not a string',
    ],
    [
      'kind: Service\nmetadata: {}\n',
      'shop.yaml:2 (document 1, Service) metadata.name: is missing; wanted a name',
    ],
    [
      'a: 1\n---\nmetadata:\n  name: x\n',
      'shop.yaml:1 (document 1): has no kind; wanted a Kubernetes object with apiVersion, kind and metadata',
    ],
    [
      '---\nkind: List\nitems:\n- hello\n',
      'shop.yaml:4 (document 1) items[0]: "hello" is not a mapping; wanted a Kubernetes object with apiVersion, kind and metadata',
    ],
    [
      'kind: Service\nmetadata:\n  name: x\n   namespace: y\n',
      'shop.yaml:3 (document 1): is not YAML: Nested mappings are not allowed in compact mappings',
    ],
    ['kind: Service\nkind: Pod\n', 'shop.yaml:2 (document 1): key "kind" is given twice'],
    [
      '{\n  "kind": "Service",\n  "metadata": {"name": "x"}\n  "spec": {}\n}',
      'shop.yaml:4: is not JSON: wanted "," or "}"',
    ],
    [
      '{"kind": "List", "items": [\n {"kind": "Pod"},\n {"kind": "Service", "metadata": {"name": "x"},\n  "spec": {"ports": [{"port": 1},\n {"name": "x", "port": 0}]}}]}',
      'shop.yaml:5 (document 1, Service default/x) items[1].spec.ports[1].port: 0 is not a port; wanted 1 to 65535',
    ],
    [
      '{{ .Values }}',
      'shop.yaml:1: is not JSON: wanted a quoted key or "}"; a template is to be rendered first, for instance by helm template',
    ],
    [' \n', 'shop.yaml: is empty; wanted Kubernetes objects as YAML or JSON'],
    ['PK\u0003\u0004\0\0', 'shop.yaml: is binary; wanted Kubernetes objects as YAML or JSON text'],
    [
      '\u001f\ufffd\b\ufffd\ufffd\u0001',
      'shop.yaml: is binary; wanted Kubernetes objects as YAML or JSON text',
    ],
    [
      'kind: ConfigMap\n',
      'shop.yaml: there is no Service, only 1 document of 1 kind that does not concern Services: 1 ConfigMap; wanted manifests or a dump: kubectl get services,endpointslices,pods,nodes -A -o json',
    ],
  ];
  for (const [text, message] of cases) {
    const error = t.throws(() => readCluster([{ name: 'shop.yaml', text }]), { instanceOf: InputError });
    t.is(error?.message, message);
  }
  const { file, document, line, field, problem, hint } = t.throws<InputError>(
    () => readCluster([{ name: 'shop.yaml', text: cases[0]![0] }]),
    { instanceOf: InputError },
  )!;
  t.deepEqual(
    { file, document, line, field, problem, hint },
    {
      file: 'shop.yaml',
      document: 3,
      line: 11,
      field: 'spec.ports[0].port',
      problem: '70000 is not a port',
      hint: 'wanted 1 to 65535',
    },
  );
  t.throws(() => readCluster([]), { instanceOf: InputError });
});

test('two objects that clash are both named', (t) => {
  const a = {
    name: 'a.yaml',
    text: '# first\nkind: Service\nmetadata: { name: web }\nspec: { clusterIP: 10.96.0.5, ports: [{ port: 1 }] }\n',
  };
  const again = { name: 'b.yaml', text: '\n\n---\nkind: Service\nmetadata:\n  name: web\n' };
  t.throws(() => readCluster([a, again]), {
    message:
      'b.yaml:6 (document 1, Service default/web) metadata.name: is the name of two Service objects; the other is at a.yaml:2 (document 1)',
  });
  const other = {
    ...again,
    text: `${again.text}  namespace: x\nspec: { clusterIP: 10.96.0.5, ports: [{ port: 1 }] }\n`,
  };
  t.throws(() => readCluster([a, other]), {
    message:
      'b.yaml:8 (document 1, Service x/web) spec.clusterIP: 10.96.0.5 is the ClusterIP of two Services; the other is default/web at a.yaml:2 (document 1)',
  });
  const port = [{ port: 80, nodePort: 30001 }];
  t.throws(() => read(service('p', port, { type: 'NodePort' }), service('q', port, { type: 'NodePort' })), {
    message:
      /spec\.ports\[0\]\.nodePort: 30001 is given twice for one protocol; the other is default\/p at test\.yaml:1 /,
  });
});

test('hostile input meets a limit with a name, and odd names are kept as they are', (t) => {
  const bomb = ['a: &a [x, x, x, x, x, x, x, x, x]'];
  for (const [name, of] of ['ba', 'cb', 'dc', 'ed', 'fe']) {
    bomb.push(`${name}: &${name} [${Array.from({ length: 9 }, () => `*${of}`).join(', ')}]`);
  }
  t.throws(() => readCluster([{ name: 'bomb.yaml', text: `kind: Service\n${bomb.join('\n')}\n` }]), {
    instanceOf: InputError,
    message:
      'bomb.yaml:1 (document 1): aliases repeat their anchors more than maxAliases (100) times; write the values out',
  });
  const large = { name: 'large.yaml', text: `kind: Service\n${'# padding\n'.repeat(1_700_000)}` };
  t.throws(() => readCluster([large]), {
    instanceOf: InputError,
    message:
      'large.yaml: 16.3 MiB of YAML, more than maxYamlBytes (16 MiB); dump JSON instead, which reads faster: kubectl get services,endpointslices,pods,nodes -A -o json',
  });
  for (const text of [`a: ${'['.repeat(50_000)}`, `{"a": ${'['.repeat(200_000)}`]) {
    t.throws(() => readCluster([{ name: 'deep', text }]), { instanceOf: InputError });
  }
  // The parser's own check of repeated keys is quadratic: this would take minutes.
  const keys = Array.from({ length: 60_000 }, (_, i) => `k${i}: 1`).join('\n');
  t.throws(() => readCluster([{ name: 'keys', text: `kind: ConfigMap\n${keys}` }]), {
    message: /there is no Service/,
  });

  for (const name of ['<script>', '../../etc', '__proto__', 'constructor', '\u001b[31m', 'ü/ö']) {
    t.is(read(service(name, [{ port: 80 }])).services[0]!.name, name);
  }
  t.throws(() => read(service('\u001b[31m', [{ port: 0 }])), {
    message: /Service default\/\\u\{1b\}\[31m\)/,
  });
});

test('a JSON text is followed to the same place that its value has', (t) => {
  fc.assert(
    fc.property(fc.json(), fc.integer({ min: 0, max: 4 }), (json, indent) => {
      const text = JSON.stringify(JSON.parse(json), null, indent);
      const visit = (value: unknown, path: (string | number)[]): void => {
        const place = locate(text, path);
        t.is(place.wanted, '');
        const rest = text.slice(place.offset);
        const expected = JSON.stringify(value, null, 0);
        t.is(rest.replace(/\s/g, '').slice(0, 1), expected.replace(/\s/g, '').slice(0, 1));
        if (Array.isArray(value)) for (const [index, one] of value.entries()) visit(one, [...path, index]);
        else if (typeof value === 'object' && value !== null) {
          for (const key of Object.keys(value))
            visit((value as Record<string, unknown>)[key], [...path, key]);
        }
      };
      visit(JSON.parse(text), []);
    }),
    { seed: 42, numRuns: 200 },
  );
  // Where JSON.parse refuses, the walk finds a fault, and only there.
  fc.assert(
    fc.property(fc.json(), fc.nat(), fc.constantFrom(...'{}[],:"x1 -e.\\'), (json, at, character) => {
      const cut = at % (json.length + 1);
      const text = json.slice(0, cut) + character + json.slice(cut + 1);
      let valid = true;
      try {
        JSON.parse(text);
      } catch {
        valid = false;
      }
      t.is(locate(text, []).wanted === '', valid);
    }),
    { seed: 42, numRuns: 2000 },
  );
});

const CLUSTER = fc.record({
  services: fc.uniqueArray(
    fc.record({
      name: fc.string({ minLength: 1, maxLength: 8 }),
      type: fc.constantFrom('ClusterIP', 'NodePort', 'LoadBalancer', 'ExternalName'),
      headless: fc.boolean(),
      selector: fc.option(
        fc.dictionary(fc.constantFrom('app', 'tier'), fc.constantFrom('a', 'b', '1', 'true')),
        { nil: null },
      ),
      ports: fc.uniqueArray(fc.integer({ min: 1, max: 65535 }), { minLength: 1, maxLength: 3 }),
      endpoints: fc.option(fc.array(fc.integer({ min: 0x0a000000, max: 0x0a0000ff }), { maxLength: 6 }), {
        nil: null,
      }),
      terminating: fc.boolean(),
    }),
    { minLength: 1, maxLength: 6, selector: (one) => one.name },
  ),
  workloads: fc.uniqueArray(
    fc.record({
      name: fc.string({ minLength: 1, maxLength: 8 }),
      kind: fc.constantFrom('Deployment', 'StatefulSet', 'DaemonSet', 'ReplicaSet'),
      labels: fc.dictionary(fc.constantFrom('app', 'tier'), fc.constantFrom('a', 'b', '1', 'true')),
      replicas: fc.integer({ min: 0, max: 400 }),
      hostNetwork: fc.boolean(),
    }),
    { maxLength: 4, selector: (one) => one.name },
  ),
});

test('JSON and YAML of any cluster give the same columns, which keep their promises', (t) => {
  fc.assert(
    fc.property(CLUSTER, (spec) => {
      const objects: object[] = [];
      for (const { name, type, headless, selector, ports, endpoints, terminating } of spec.services) {
        const numbered = ports.map((port, index) => ({ name: `p${index}`, port, targetPort: 8000 + index }));
        const more = headless && type === 'ClusterIP' ? { clusterIP: 'None' } : {};
        objects.push(service(name, numbered, { type, selector, ...more }));
        if (endpoints === null) continue;
        const one = slice(name, endpoints.map(formatIpv4), { name: 'p0', port: 8000 }) as {
          endpoints: object[];
        };
        objects.push({
          ...one,
          endpoints: one.endpoints.map((entry) => ({ ...entry, conditions: { terminating } })),
        });
      }
      for (const { name, kind, labels, replicas, hostNetwork } of spec.workloads) {
        const template = { metadata: { labels }, spec: { hostNetwork } };
        objects.push({ kind, metadata: { name }, spec: { replicas, template } });
      }
      const json = readJson(objects);
      const yaml = readCluster([
        { name: 'test.json', text: objects.map((one) => stringify(one)).join('---\n') },
      ]);
      t.deepEqual(columnsOf(json), columnsOf(yaml));
      checkInvariants(t, json);
    }),
    { seed: 42, numRuns: 150 },
  );
});

test('scaled up, every Service keeps its number of endpoints and all addresses differ', (t) => {
  for (const [name, cluster] of [
    ['manifest', readCluster([SHOP])],
    ['dump', readCluster([DUMP])],
    ['synthetic', syntheticCluster({ ...SYNTHETIC_DEFAULTS, services: 7, endpoints: 30 })],
  ] as const) {
    const target = cluster.endpoints.count * 2 + 1;
    const scaled = scaleCluster(cluster, target);
    t.is(scaled.endpoints.count, cluster.endpoints.count * 3, name);
    t.is(scaled.services.length, cluster.services.length * 3);
    t.is(scaled.workloads.length, cluster.workloads.length * 3);
    t.deepEqual(
      scaled.services.slice(cluster.services.length).map(({ namespace }) => namespace),
      ['-2', '-3'].flatMap((suffix) => cluster.services.map(({ namespace }) => namespace + suffix)),
    );
    t.deepEqual(sizesOf(scaled), [...sizesOf(cluster), ...sizesOf(cluster), ...sizesOf(cluster)]);
    checkInvariants(t, scaled);
    t.is(new Set(scaled.pods.address.slice(0, scaled.pods.count)).size, scaled.pods.count);
    t.is(scaleCluster(cluster, 1), cluster);
    t.is(scaled.notes.at(-1), `copied everything 2 times to reach ${target} endpoints`);
  }
  const twice = scaleCluster(read(service('a', [{ port: 80 }]), slice('a', ['10.0.0.1'], { port: 80 })), 500);
  t.is(twice.endpoints.count, 500);
  t.is(twice.nodes.length, 5);
  const taken = read(
    service('a', [{ port: 80 }]),
    slice('a', ['10.0.0.1'], { port: 80 }),
    service('a', [{ port: 80 }], {}, 'default-2'),
  );
  t.is(scaleCluster(taken, 2).services[2]!.namespace, 'default-3');
  t.throws(() => scaleCluster(read(service('a', [{ port: 80 }])), 5), { instanceOf: RangeError });
});

test('a million endpoints are reached by scaling, with node ports as far as they go', (t) => {
  const big = scaleCluster(readCluster([SHOP]), 1_000_000);
  t.true(big.endpoints.count >= 1_000_000);
  t.true(big.notes.at(-1)!.startsWith('no NodePort was left for '));
  t.is(formatCidr(big.podCidr), '10.128.0.0/9');
  checkInvariants(t, big);
});

type Assertions = {
  is(actual: unknown, expected: unknown, message?: string): void;
  true(actual: boolean): void;
};

/** Rows of a port lie together; pods know their workload and node; no address or node port is given twice. */
function checkInvariants(t: Assertions, cluster: Cluster): void {
  const { ports, endpoints, pods, workloads, services } = cluster;
  let faults = 0;
  for (let port = 0; port < ports.count; port++) {
    if (ports.clusterIp[port] !== services[ports.service[port]!]!.clusterIp) faults++;
    for (let row = ports.firstEndpoint[port]!; row < ports.firstEndpoint[port + 1]!; row++) {
      if (endpoints.servicePort[row] !== port) faults++;
      if (endpoints.address[row] !== pods.address[endpoints.pod[row]!]) faults++;
    }
  }
  for (const [index, workload] of workloads.entries()) {
    for (const pod of workload.pods) if (pods.workload[pod] !== index) faults++;
  }
  for (let pod = 0; pod < pods.count; pod++) if (pods.node[pod]! >= cluster.nodes.length) faults++;
  t.is(faults, 0);
  t.is(ports.firstEndpoint[ports.count], endpoints.count);
  t.is(
    workloads.reduce((sum, workload) => sum + workload.pods.length, 0),
    pods.count,
  );
  const clusterIps = services.map(({ clusterIp }) => clusterIp).filter((ip) => ip !== 0);
  t.is(new Set(clusterIps).size, clusterIps.length);
  t.true(clusterIps.every((ip) => contains(cluster.serviceCidr, ip)));
  const nodePorts = new Set<string>();
  let numbered = 0;
  for (let port = 0; port < ports.count; port++) {
    if (ports.nodePort[port] === 0) continue;
    numbered++;
    nodePorts.add(`${ports.protocol[port]}/${ports.nodePort[port]}`);
  }
  t.is(nodePorts.size, numbered);
  t.is(new Set(cluster.nodes.map((node) => node.address)).size, cluster.nodes.length);
}

function coverOf(...cidrs: string[]): string {
  const cidr = covering(cidrs.map((text) => parseCidr(text)!));
  return cidr === undefined ? '' : formatCidr(cidr);
}

/** All that an allocator gives until it has no more. */
function drained(next: () => number): number[] {
  const given: number[] = [];
  for (let one = next(); one !== 0; one = next()) given.push(one);
  return given;
}

function sizesOf(cluster: Cluster): number[] {
  const { count, firstEndpoint } = cluster.ports;
  return Array.from({ length: count }, (_, port) => firstEndpoint[port + 1]! - firstEndpoint[port]!);
}

function valuesOf(column: Uint8Array | Uint16Array | Uint32Array, count: number): number[] {
  return Array.from(column.slice(0, count));
}

function columnsOf(cluster: Cluster): unknown {
  const { ports, pods, endpoints } = cluster;
  return {
    ...cluster,
    ports: [
      ports.names,
      valuesOf(ports.service, ports.count),
      valuesOf(ports.clusterIp, ports.count),
      valuesOf(ports.port, ports.count),
      valuesOf(ports.nodePort, ports.count),
      valuesOf(ports.protocol, ports.count),
      valuesOf(ports.firstEndpoint, ports.count + 1),
    ],
    pods: [
      valuesOf(pods.address, pods.count),
      valuesOf(pods.node, pods.count),
      valuesOf(pods.workload, pods.count),
    ],
    endpoints: [
      valuesOf(endpoints.servicePort, endpoints.count),
      valuesOf(endpoints.pod, endpoints.count),
      valuesOf(endpoints.address, endpoints.count),
      valuesOf(endpoints.port, endpoints.count),
      valuesOf(endpoints.conditions, endpoints.count),
    ],
  };
}

/** `namespace/name:port protocol port node N > address:port/conditions …` */
/** Pods `a-0`, `a-1`, … of zone a, and so on, behind one Service; nodes have 4 CPUs unless told. */
function zoned(counts: Record<string, number>, spec: object, cpus: Record<string, string> = {}): object[] {
  const objects: object[] = [
    {
      kind: 'Service',
      metadata: { name: 'web' },
      spec: { ports: [{ port: 80 }], selector: { app: 'x' } },
      ...spec,
    },
  ];
  for (const [zone, count] of Object.entries(counts)) {
    objects.push({
      kind: 'Node',
      metadata: { name: `node-${zone}`, labels: { 'topology.kubernetes.io/zone': zone } },
      status: {
        conditions: [{ type: 'Ready', status: 'True' }],
        allocatable: { cpu: cpus[zone] ?? '4' },
      },
    });
    for (let i = 0; i < count; i++) {
      objects.push(podNamed(`${zone}-${i}`, { spec: { nodeName: `node-${zone}` } }));
    }
  }
  return objects;
}

/** Zones that the endpoints are hinted for, `-` for none, in order. */
function hintsOf(cluster: Cluster): string {
  const { endpoints } = cluster;
  const rows = Array.from({ length: endpoints.count }, (_, row) => endpoints.hints[endpoints.hint[row]!]!);
  return rows.map(({ zones }) => zones.join('+') || '-').join(' ');
}

const AUTO = { metadata: { name: 'web', annotations: { 'service.kubernetes.io/topology-mode': 'Auto' } } };

test('topology aware routing hints endpoints for their own zone and gives surplus ones to zones with too few', (t) => {
  // Shares of 3 CPUs, desired 3 each: zone a gives one to zone c.
  t.is(hintsOf(readCluster(sourceOf(zoned({ a: 4, b: 3, c: 2 }, AUTO)))), 'c a a a b b b c c');
  // 6 endpoints, 4 + 12 CPUs: a is to have 1.5 but at least 2, b 4.5; a gives one.
  t.is(hintsOf(readCluster(sourceOf(zoned({ a: 3, b: 3 }, AUTO, { b: '12' })))), 'b a a b b b');
  // The older annotation wins; equal shares move nothing.
  const older = {
    metadata: {
      name: 'web',
      annotations: {
        'service.kubernetes.io/topology-mode': 'Disabled',
        'service.kubernetes.io/topology-aware-hints': 'auto',
      },
    },
  };
  t.is(hintsOf(readCluster(sourceOf(zoned({ a: 2, b: 2 }, older)))), 'a a b b');
  t.is(hintsOf(readCluster(sourceOf(zoned({ a: 2, b: 2 }, {})))), '- - - -');
});

test('topology aware routing hints nothing where zones, CPUs or endpoints do not suffice', (t) => {
  t.is(hintsOf(readCluster(sourceOf(zoned({ a: 4 }, AUTO)))), '- - - -', 'one zone');
  t.is(
    hintsOf(readCluster(sourceOf(zoned({ a: 1, b: 1, c: 0 }, AUTO)))),
    '- -',
    'fewer endpoints than zones',
  );
  t.is(
    hintsOf(readCluster(sourceOf(zoned({ a: 2, b: 2 }, AUTO, { b: '0' })))),
    '- - - -',
    'a node without CPUs',
  );
  // 2 endpoints, shares 3/4 and 1/4: minima of 2 and 1 are more than there are.
  t.is(hintsOf(readCluster(sourceOf(zoned({ a: 1, b: 1 }, AUTO, { a: '3', b: '1000m' })))), '- -');
});

test('hints are taken from slices; without slices trafficDistribution decides for each endpoint', (t) => {
  const hinted = {
    kind: 'EndpointSlice',
    addressType: 'IPv4',
    metadata: { labels: { 'kubernetes.io/service-name': 'web' } },
    endpoints: [
      {
        addresses: ['10.244.0.2'],
        hints: { forZones: [{ name: 'a' }, { name: 'b' }], forNodes: [{ name: 'n1' }] },
      },
      { addresses: ['10.244.0.3'] },
    ],
    ports: [{ port: 80 }],
  };
  const close = service('web', [{ port: 80 }], { trafficDistribution: 'PreferClose' });
  const { endpoints, services } = read(close, hinted);
  t.is(services[0]!.distribution, 'zone');
  t.deepEqual(endpoints.hints[endpoints.hint[0]!], { zones: ['a', 'b'], nodes: ['n1'] });
  t.is(endpoints.hint[1], NO_HINT);
  t.is(scaleCluster(read(close, hinted), 4).endpoints.hint[2], HINT_BY_SERVICE);

  const node = read(
    service('web', [{ port: 80 }], { selector: { app: 'x' }, trafficDistribution: 'PreferSameNode' }),
    podNamed('x', {}),
  );
  t.is(node.services[0]!.distribution, 'node');
  t.is(node.endpoints.hint[0], HINT_BY_SERVICE);
  t.throws(() => read(service('web', [{ port: 80 }], { trafficDistribution: 'Near' })), {
    instanceOf: InputError,
    message: /trafficDistribution.*"Near" is not known.*PreferSameZone/s,
  });
});

function sourceOf(items: object[]): { name: string; text: string }[] {
  return [{ name: 'test.json', text: JSON.stringify({ kind: 'List', items }) }];
}

function rowsOf(cluster: Cluster): string[] {
  const { ports, endpoints } = cluster;
  return Array.from({ length: ports.count }, (_, port) => {
    let line = `${servicePortName(cluster, port)} ${ports.protocol[port]} ${ports.port[port]} node ${ports.nodePort[port]} >`;
    for (let row = ports.firstEndpoint[port]!; row < ports.firstEndpoint[port + 1]!; row++) {
      line += ` ${endpoints.text(row)}/${endpoints.conditions[row]}`;
    }
    return line;
  });
}

function workloadsOf(cluster: Cluster): string[] {
  return cluster.workloads.map(
    ({ kind, namespace, name, pods }) => `${kind} ${namespace}/${name} ${pods.join(',')}`,
  );
}

/** The third document of a source. */
function webDocument(spec: string): string {
  return `kind: ConfigMap\n---\n# nothing\n---\nkind: Service\nmetadata:\n  name: web\nspec:\n${spec}`;
}

function service(name: string, ports: object[], spec: object = {}, namespace = 'default'): object {
  return { kind: 'Service', metadata: { name, namespace }, spec: { ports, ...spec } };
}

function podNamed(name: string, rest: object): object {
  return { kind: 'Pod', metadata: { name, labels: { app: 'x' } }, ...rest };
}

function owner(kind: string, name: string): object {
  return { ownerReferences: [{ kind, name, controller: true }] };
}

function slice(of: string, addresses: string[], port: object): object {
  return {
    kind: 'EndpointSlice',
    addressType: 'IPv4',
    metadata: { labels: { 'kubernetes.io/service-name': of } },
    endpoints: addresses.map((address) => ({ addresses: [address], nodeName: 'n1' })),
    ports: [port],
  };
}

function read(first: Partial<ReadOptions> | object, ...rest: object[]): Cluster {
  const options = 'kind' in first ? {} : first;
  const objects = 'kind' in first ? [first, ...rest] : rest;
  return readCluster(
    [{ name: 'test.yaml', text: objects.map((one) => stringify(one)).join('---\n') }],
    options,
  );
}

function readJson(items: object[]): Cluster {
  return readCluster([{ name: 'test.json', text: JSON.stringify({ kind: 'List', items }) }]);
}

function fixture(name: string): { name: string; text: string } {
  return { name, text: readFileSync(new URL(`fixtures/kubernetes/${name}`, import.meta.url), 'utf8') };
}

test('more pods than a node has addresses of its own take others, and none takes one twice', (t) => {
  const cluster = readCluster([
    {
      name: 'thousand.yaml',
      text: `
apiVersion: v1
kind: Node
metadata: { name: node-a }
spec: { podCIDR: 10.244.0.0/24 }
---
apiVersion: v1
kind: Service
metadata: { name: web, namespace: d }
spec: { clusterIP: 10.96.0.10, selector: { app: web }, ports: [{ port: 80 }] }
---
apiVersion: apps/v1
kind: Deployment
metadata: { name: web, namespace: d }
spec:
  replicas: 1000
  selector: { matchLabels: { app: web } }
  template:
    metadata: { labels: { app: web } }
    spec: { containers: [{ name: c }] }
`,
    },
  ]);
  const addresses = cluster.pods.address.subarray(0, cluster.pods.count);
  t.is(addresses.length, 1000);
  t.is(new Set(addresses).size, 1000);
});
