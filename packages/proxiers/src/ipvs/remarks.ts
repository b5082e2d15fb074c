import type { NodeContext, OptionsOf } from '../proxier.ts';
import type { Director } from './director.ts';
import type { ipvsOptions } from './mode.ts';
import type { NodeSettings } from './node-settings.ts';
import { fullSetOf, type Sets } from './sets.ts';
import { releaseRemark } from './start-up.ts';

/** Virtual servers, from which on searching their 256 chains is worth a word. */
const MANY_SERVICES = 2560;

/** What a reader of results must know about this node: limits near or passed, options with an unexpected effect. */
export function remarksOf(
  options: OptionsOf<typeof ipvsOptions>,
  settings: NodeSettings,
  { cluster, node }: NodeContext,
  { services, connections }: Director,
  sets: Sets,
): readonly string[] {
  const remarks: string[] = [];
  if (services.count > MANY_SERVICES) {
    remarks.push(
      `${services.count} virtual servers in 256 hash chains: about ${Math.round(services.count / 512)} compared for ` +
        'each new connection (Linux before 7.1).',
    );
  }
  if (connections.peak > 4 * connections.buckets) {
    remarks.push(
      `Up to ${connections.peak} connections in ${connections.buckets} hash chains: conn_tab_bits is low for this load.`,
    );
  }
  const full = fullSetOf(sets);
  if (full !== undefined) remarks.push(full);
  const nodePorts = cluster.ports.nodePort
    .subarray(0, cluster.ports.count)
    .filter((port) => port !== 0).length;
  const serving = settings.nodePortAddresses.length;
  if (nodePorts > 0 && serving === 0) {
    remarks.push(`${nodePorts} node ports are not served: nodePortAddresses names no address of the node.`);
  }
  if (nodePorts > 0 && serving > 1) {
    remarks.push(
      `${nodePorts} node ports on ${serving} addresses of the node are ${nodePorts * serving} virtual servers.`,
    );
  }
  if (options.detectLocalMode === 'NodeCIDR' && cluster.nodes[node]!.podCidr === undefined) {
    remarks.push(
      'detectLocalMode is NodeCIDR, but the node has no podCIDR: nothing tells pods from other clients.',
    );
  }
  const shut = cluster.services.find(
    ({ sourceRanges, loadBalancerIps }) =>
      loadBalancerIps.length > 0 && sourceRanges.some(({ prefix }) => prefix === 0),
  );
  if (shut !== undefined) {
    remarks.push(
      `The source range of all addresses of ${shut.namespace}/${shut.name} cannot be stored (hash:ip,port,net takes no ` +
        'length 0): nobody but its other ranges reaches the load balancer address.',
    );
  }
  const release = releaseRemark(options);
  if (release !== undefined) remarks.push(release);
  return remarks;
}
