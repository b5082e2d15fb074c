/** Of what IPv4 leaves out. */
const SHOWN_BY = ' (vipsim rules --mode iptables --family ipv6 prints the IPv6 rules)';

/** What the reader left out, made up or found odd, counted; one sentence each in the cluster's notes. */
export class Notes {
  readonly skipped = new Map<string, number>();
  /** Of the other family alone. */
  otherFamilyServices = 0;
  dualStackServices = 0;
  headless = 0;
  externalNames = 0;
  otherFamilySlices = 0;
  orphanSlices = 0;
  orphanEndpoints = 0;
  orphanPorts = 0;
  absentPods = 0;
  clusterIps = 0;
  nodePorts = 0;
  derivedPods = 0;
  derivedWorkloads = 0;
  madeUpNodes = 0;
  namedNodes = 0;
  outsidePods = 0;
  readonly unmatched: string[] = [];
  readonly withoutSelector: string[] = [];
  readonly withoutLoadBalancer: string[] = [];
  /** Service port to the number of endpoints left out of it. */
  readonly unresolvedTargets = new Map<string, number>();

  /** `14 documents of 6 kinds that do not concern Services: 4 ConfigMap, ...`; empty if nothing was skipped. */
  skippedKinds(): string {
    const kinds = [...this.skipped].sort((a, b) => b[1] - a[1]);
    if (kinds.length === 0) return '';
    const total = kinds.reduce((sum, [, count]) => sum + count, 0);
    const concern = total === 1 ? 'does' : 'do';
    const list = kinds.map(([kind, count]) => `${count} ${kind}`).join(', ');
    return `${quantity(total, 'document')} of ${quantity(kinds.length, 'kind')} that ${concern} not concern Services: ${list}`;
  }

  /** `family` is the one that was read. */
  lines(family: 'IPv4' | 'IPv6', serviceCidr: string, nodePorts: string): string[] {
    const lines: string[] = [];
    const say = (count: number, text: string): void => void (count > 0 && lines.push(text));
    const unresolved = [...this.unresolvedTargets];
    const missing = unresolved.reduce((sum, [, count]) => sum + count, 0);
    say(this.skipped.size, `skipped ${this.skippedKinds()}`);
    const [other, seen] = family === 'IPv4' ? ['IPv6', SHOWN_BY] : ['IPv4', ''];
    say(
      this.otherFamilyServices,
      `left out ${quantity(this.otherFamilyServices, `${other}-only Service`)}${seen}`,
    );
    say(
      this.dualStackServices,
      `read ${quantity(this.dualStackServices, 'dual-stack Service')} as ${family} alone${seen}`,
    );
    say(
      this.otherFamilySlices,
      `left out ${quantity(this.otherFamilySlices, 'EndpointSlice')} with addresses other than ${family}`,
    );
    say(this.headless, `listed but not proxied: ${quantity(this.headless, 'headless Service')}`);
    say(
      this.externalNames,
      `listed but not proxied: ${quantity(this.externalNames, 'ExternalName Service')}`,
    );
    say(
      this.orphanSlices,
      `left out ${quantity(this.orphanSlices, 'EndpointSlice')} of no Service in the input`,
    );
    say(
      this.orphanEndpoints,
      `left out ${quantity(this.orphanEndpoints, 'Endpoints object')} of no Service in the input`,
    );
    say(
      this.orphanPorts,
      `left out ${quantity(this.orphanPorts, 'port')} of EndpointSlices that their Service does not have`,
    );
    say(
      this.absentPods,
      `left out as finished or without an ${family} address: ${quantity(this.absentPods, 'pod')}`,
    );
    say(this.clusterIps, `allocated ${quantity(this.clusterIps, 'ClusterIP')} from ${serviceCidr}`);
    say(this.nodePorts, `allocated ${quantity(this.nodePorts, 'NodePort')} from ${nodePorts}`);
    say(
      this.derivedPods,
      `derived ${quantity(this.derivedPods, 'pod')} of ${quantity(this.derivedWorkloads, 'workload')} from replicas and template labels`,
    );
    say(this.madeUpNodes, `made up ${quantity(this.madeUpNodes, 'node')}: the input has no Node objects`);
    say(
      this.namedNodes,
      `took ${quantity(this.namedNodes, 'node')} from names in pods and EndpointSlices, without a Node object`,
    );
    say(
      this.outsidePods,
      `on no node of the cluster, so local to none: ${quantity(this.outsidePods, 'pod')}`,
    );
    say(
      this.unmatched.length,
      `no endpoints, as the selector matches no pod of the input: ${names(this.unmatched)}`,
    );
    say(
      this.withoutSelector.length,
      `no endpoints, as there is neither a selector nor an EndpointSlice: ${names(this.withoutSelector)}`,
    );
    say(
      this.withoutLoadBalancer.length,
      `type LoadBalancer without an address in the status: ${names(this.withoutLoadBalancer)}`,
    );
    say(
      missing,
      `left out ${quantity(missing, 'endpoint')} whose pod has no port of the targetPort's name: ${names(unresolved.map(([port]) => port))}`,
    );
    return lines;
  }
}

/** `1 Service`, `2 Services`. */
export function quantity(count: number, noun: string): string {
  return `${count} ${noun}${count === 1 ? '' : 's'}`;
}

/** The first five, and how many more. */
function names(list: readonly string[]): string {
  const more = list.length > 5 ? ` and ${list.length - 5} more` : '';
  return list.slice(0, 5).join(', ') + more;
}
