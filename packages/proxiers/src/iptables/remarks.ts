import type { NodeContext } from '../proxier.ts';
import { fitsLegacy, LEGACY_TABLE_LIMIT } from './legacy-limit.ts';
import type { IptablesOptions } from './kube-proxy.ts';
import { LEGACY_SIZES } from './rule-sizes.ts';
import type { RuleTable } from './rule-table.ts';

/** What a reader of results must know about this node's rules: limits near or passed, options without effect. */
export function remarksOf(
  options: IptablesOptions,
  node: NodeContext,
  endpoints: number,
  nat: RuleTable,
): readonly string[] {
  const { cluster } = node;
  const nft = options.backend === 'nft';
  const remarks: string[] = [];
  const sticky = cluster.services.filter((service) => service.affinityS > 0).length;
  if (sticky > 0) {
    remarks.push(
      `${sticky} ${sticky === 1 ? 'Service asks' : 'Services ask'} for ClientIP affinity: each endpoint remembers its ` +
        'last 100 client addresses (ip_list_tot of xt_recent) and forgets others',
    );
  }
  if (options.detectLocalMode === 'NodeCIDR' && cluster.nodes[node.node]!.podCidr === undefined) {
    remarks.push(
      'detectLocalMode is NodeCIDR, but the node has no podCIDR: nothing tells pods from other clients',
    );
  }
  if (endpoints > options.largeClusterEndpoints) {
    remarks.push(
      `${endpoints} endpoints are more than ${options.largeClusterEndpoints}: kube-proxy leaves ` +
        'comments out of per-endpoint rules, and leftover chains in place for up to syncPeriod',
    );
  }
  if (options.lockHeld > 0 && nft) {
    remarks.push(
      'lockHeld changes nothing here: iptables-nft takes no lock, the nft backend has generations',
    );
  }
  const legacyBytes = nat.bytesIn(LEGACY_SIZES);
  if (legacyBytes > LEGACY_TABLE_LIMIT / 2) {
    const percent = Math.round((legacyBytes / LEGACY_TABLE_LIMIT) * 100);
    const legacy = nft ? 'With the legacy backend the nat table would take' : 'The nat table takes';
    remarks.push(
      `${legacy} ${percent} % of the 512 MiB that x_tables allows for one table` +
        (fitsLegacy(legacyBytes)
          ? ''
          : ': iptables-restore would fail with ENOMEM, and the rules of before would stay'),
    );
  }
  return remarks;
}
