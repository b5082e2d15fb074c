import { isProxied, type Cluster } from '../kubernetes/cluster.ts';
import type { NodeSettings } from './node-settings.ts';

/**
 * The virtual servers that kube-proxy wants, in the order of its pass: for each service port its ClusterIP,
 * external IPs, load balancer addresses, and its node port on each of the node's addresses that serve node ports.
 * kube-proxy goes through service ports in no particular order; here it is that of the input. Where two service
 * ports want the same address and port, the first has it; in kube-proxy each pass gives it to one, then the other.
 * Source: syncProxyRules, pkg/proxy/ipvs/proxier.go.
 */
export class WantedServers {
  count = 0;
  readonly address: number[] = [];
  readonly port: number[] = [];
  readonly protocol: number[] = [];
  readonly servicePort: number[] = [];
  /** 1: traffic policy Local applies. */
  readonly localOnly: (0 | 1)[] = [];
  /** Wanted virtual servers [first[p], first[p + 1]) belong to service port p. */
  readonly first: Uint32Array;
  /** Addresses to bind to kube-ipvs0, each once. */
  readonly bound: readonly number[];

  constructor(cluster: Cluster, { nodeAddresses, nodePortAddresses }: NodeSettings) {
    const { ports } = cluster;
    const taken = new Set<string>();
    const bound = new Set<number>();
    this.first = new Uint32Array(ports.count + 1);
    const want = (p: number, address: number, port: number, localOnly: boolean): void => {
      const key = `${ports.protocol[p]!} ${address}:${port}`;
      if (taken.has(key)) return;
      taken.add(key);
      this.address.push(address);
      this.port.push(port);
      this.protocol.push(ports.protocol[p]!);
      this.servicePort.push(p);
      this.localOnly.push(localOnly ? 1 : 0);
      this.count++;
    };
    for (let p = 0; p < ports.count; p++) {
      this.first[p] = this.count;
      const service = cluster.services[ports.service[p]!]!;
      if (!isProxied(service)) continue;
      want(p, ports.clusterIp[p]!, ports.port[p]!, service.internalPolicyLocal);
      bound.add(ports.clusterIp[p]!);
      for (const address of [...service.externalIps, ...service.loadBalancerIps]) {
        want(p, address, ports.port[p]!, service.externalPolicyLocal);
        // An address that the node has already stays where it is.
        if (!nodeAddresses.includes(address)) bound.add(address);
      }
      if (ports.nodePort[p] === 0) continue;
      for (const address of nodePortAddresses) {
        want(p, address, ports.nodePort[p]!, service.externalPolicyLocal);
      }
    }
    this.first[ports.count] = this.count;
    this.bound = [...bound];
  }
}
