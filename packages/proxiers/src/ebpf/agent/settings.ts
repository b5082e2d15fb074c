import type { NodeContext } from '../../proxier.ts';
import type { EbpfDataplaneOptions } from '../programs/options.ts';
import type { FrontendSettings } from './frontends.ts';
import { readMaglevSeed } from '../maglev/seed.ts';
import { mapSizes, type MapSizes } from '../maps/map-sizing.ts';
import { addressesIn } from './node-addresses.ts';
import type { AgentOptions } from './options.ts';

const SECOND = 1_000_000_000;
const GIBIBYTE = 1_073_741_824;
/** The end of --service-node-port-range, as it is when nobody sets it. */
const NODE_PORT_MAX = 32_767;

/** What the options mean for the programs. */
export function dataplaneOptions(
  options: AgentOptions,
  sizes: MapSizes,
  hostAddresses: readonly number[],
): EbpfDataplaneOptions {
  return {
    socketLB: options.socketLB,
    socketLBHostOnly: options.socketLBHostOnly,
    udpSockets: options.udpSockets,
    mode: options.lbMode,
    dsrDispatch: options.dsrDispatch,
    acceleration: options.acceleration,
    algorithm: options.algorithm,
    maglevSeedIpv4: readMaglevSeed(options.maglevHashSeed).ipv4,
    externalClusterIP: options.externalClusterIP,
    bothDirections: options.ctLookups === 2,
    wildcards: options.agentOrder === '1.18+',
    hostAddresses,
    snatTries: options.snatTries,
    snatClamp: options.snatClamp,
    timeouts: {
      regularTcp: seconds(options.ctTimeoutTcp),
      regularTcpSyn: seconds(options.ctTimeoutTcpSyn),
      regularTcpFin: seconds(options.ctTimeoutTcpFin),
      regularAny: seconds(options.ctTimeoutAny),
      serviceTcp: seconds(options.ctTimeoutServiceTcp),
      serviceAny: seconds(options.ctTimeoutServiceAny),
      serviceTcpGrace: seconds(options.ctTimeoutServiceTcpGrace),
    },
    gcInterval: options.ctGcInterval,
    gcMaxInterval: options.ctGcMaxInterval,
    nodePortMax: NODE_PORT_MAX,
    sizes,
    distributedLru: options.distributedLru,
    noBackendResponse: options.noBackendResponse,
  };
}

/** How many connections, translations and sockets the node's maps hold. */
export function flowMapSizes(options: AgentOptions, cpus: number): MapSizes {
  return mapSizes({
    memoryBytes: options.memoryGiB * GIBIBYTE,
    ratio: Number(options.mapSizeRatio),
    distributedLru: options.distributedLru,
    cpus,
  });
}

/** What the options mean for the frontends of a node. */
export function frontendSettings({ cluster, node }: NodeContext, options: AgentOptions): FrontendSettings {
  const { address } = cluster.nodes[node]!;
  return {
    nodeAddresses: [...new Set([address, ...addressesIn(options.otherAddresses)])],
    maglev: options.algorithm === 'maglev',
    externalClusterIP: options.externalClusterIP,
    lbMode: options.lbMode,
    protocolInKey: options.protocolInKey,
  };
}

function seconds(ns: number): number {
  return Math.floor(ns / SECOND);
}
