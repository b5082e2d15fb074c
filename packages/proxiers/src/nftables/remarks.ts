import type { NodeContext } from '../proxier.ts';
import type { NftablesOptions } from './kube-proxy.ts';
import type { RulesetOptions } from './settings.ts';

/** Elements that nft allows a set which rules add to. */
const DYNAMIC_SIZE = 65_535;
/** Loading takes about a minute from here on. */
const MANY_MAPS = 16_000;

/** What a reader of results must know about this node's rules: limits near or passed, options without effect. */
export function remarksOf(
  settings: NftablesOptions,
  { cluster, node }: NodeContext,
  { layout, nodePortAddresses }: RulesetOptions,
): readonly string[] {
  const remarks: string[] = [];
  const sticky = cluster.services.filter((service) => service.affinityS > 0).length;
  if (sticky > 0) {
    remarks.push(
      `${sticky} ${sticky === 1 ? 'Service asks' : 'Services ask'} for ClientIP affinity: a rule and a set for each ` +
        `endpoint, visited one after the other; each set remembers ${DYNAMIC_SIZE} clients and no more`,
    );
  }
  if (settings.detectLocalMode === 'NodeCIDR' && cluster.nodes[node]!.podCidr === undefined) {
    remarks.push(
      'detectLocalMode is NodeCIDR, but the node has no podCIDR: nothing tells pods from other clients',
    );
  }
  if (nodePortAddresses?.length === 0) {
    remarks.push('no address of the node is in nodePortAddresses: NodePorts serve nowhere');
  }
  if (!layout.plainSingle && cluster.ports.count > MANY_MAPS) {
    remarks.push(
      `${cluster.ports.count} service ports have a map each, and the kernel looks through the list of all sets for ` +
        'each of them: full syncs take time with the square of their number (kubernetes issue 139513)',
    );
  }
  return remarks;
}
