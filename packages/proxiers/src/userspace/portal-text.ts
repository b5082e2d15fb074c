import { inertName } from '../kubernetes/inert-name.ts';
import { formatIpv4, TCP } from '@vipsim/sim-core';
import { protocolName, servicePortName } from '../kubernetes/cluster.ts';
import {
  DNAT,
  NODEPORT_NON_LOCAL,
  NOT_FROM_BRIDGE,
  REDIRECT,
  STATE_NEW,
  TO_LOCAL,
  type PortalChain,
} from './portal-chain.ts';
import { NOT_PROXIED, type Portals } from './portals.ts';

/** The jumps into the portal chains, in the order in which kube-proxy makes sure of them. */
export const JUMPS = [
  ['nat', 'PREROUTING', 'KUBE-PORTALS-CONTAINER', '-I'],
  ['nat', 'OUTPUT', 'KUBE-PORTALS-HOST', '-I'],
  ['nat', 'PREROUTING', 'KUBE-NODEPORT-CONTAINER', '-A'],
  ['nat', 'OUTPUT', 'KUBE-NODEPORT-HOST', '-A'],
  ['filter', 'INPUT', 'KUBE-NODEPORT-NON-LOCAL', '-I'],
] as const;

const PORTALS_COMMENT = 'handle ClusterIPs; NOTE: this must be before the NodePort rules';
const NODE_PORTS_COMMENT = 'handle service NodePorts; NOTE: this must be the last rule in the chain';
const NON_LOCAL_COMMENT = 'Ensure that non-local NodePort traffic can flow';
const MATCHES: Readonly<Record<string, string>> = {
  'KUBE-PORTALS-CONTAINER': `-m comment --comment "${PORTALS_COMMENT}"`,
  'KUBE-PORTALS-HOST': `-m comment --comment "${PORTALS_COMMENT}"`,
  'KUBE-NODEPORT-CONTAINER': `-m addrtype --dst-type LOCAL -m comment --comment "${NODE_PORTS_COMMENT}"`,
  'KUBE-NODEPORT-HOST': `-m addrtype --dst-type LOCAL -m comment --comment "${NODE_PORTS_COMMENT}"`,
  'KUBE-NODEPORT-NON-LOCAL': `-m comment --comment "${NON_LOCAL_COMMENT}"`,
};
const BUILT_IN = {
  filter: ['INPUT', 'FORWARD', 'OUTPUT'],
  nat: ['PREROUTING', 'INPUT', 'OUTPUT', 'POSTROUTING'],
};

/** The commands that made the tables, in order, as one would type them (kube-proxy waits for the lock as here). */
export function* commandLines(portals: Portals, hostAddress: string): Generator<string> {
  for (const [table, from, chain, position] of JUMPS) {
    yield `${COMMAND} -N ${chain} -t ${table}`;
    yield `${COMMAND} ${position} ${from} -t ${table} ${MATCHES[chain]!} -j ${chain}`;
  }
  for (const { chain: index, row } of portals.order) {
    const chain = portals.chains[index]!;
    const table = index === NODEPORT_NON_LOCAL ? 'filter' : 'nat';
    const { selector, matches, target } = parts(portals, chain, row, hostAddress);
    const name = comment(portals, chain, row);
    yield `${COMMAND} -A ${chain.name} -t ${table} -m comment --comment ${name} ${matches.protocol}${selector}${matches.rest} ${target}`;
  }
}

const COMMAND = 'iptables -w 5 -W 100000';

/**
 * The tables as iptables-save prints them, without its dated comment lines and with counters at zero: built-in
 * chains in hook order, user chains by name, the selector before the matches.
 */
export function* savedLines(portals: Portals, hostAddress: string): Generator<string> {
  for (const table of ['filter', 'nat'] as const) {
    const jumps = JUMPS.filter(([inTable]) => inTable === table);
    const chains = portals.chains.filter(({ name }) => jumps.some(([, , chain]) => chain === name));
    chains.sort((a, b) => (a.name < b.name ? -1 : 1));
    yield `*${table}`;
    for (const name of BUILT_IN[table]) yield `:${name} ACCEPT [0:0]`;
    for (const { name } of chains) yield `:${name} - [0:0]`;
    for (const name of BUILT_IN[table]) {
      for (const [, from, chain] of jumps) {
        if (from === name) yield `-A ${from} ${MATCHES[chain]!} -j ${chain}`;
      }
    }
    for (const chain of chains) {
      for (let row = 0; row < chain.count; row++) yield portalRule(portals, chain, row, hostAddress);
    }
    yield 'COMMIT';
  }
}

/** One rule as iptables-save prints it: with quotes around every name that has a slash. */
export function portalRule(portals: Portals, chain: PortalChain, row: number, hostAddress: string): string {
  const { selector, matches, target } = parts(portals, chain, row, hostAddress);
  const protocol = protocolName(chain.protocol[row]!);
  const port = ` -m ${protocol} --dport ${chain.port[row]!}`;
  return `-A ${chain.name}${selector} -p ${protocol} -m comment --comment "${comment(portals, chain, row)}"${port}${matches.rest} ${target}`;
}

/** The process's sockets as `ss -lntup` lists them: one for each service port, and those that hold node ports. */
export function* socketLines(portals: Portals): Generator<string> {
  yield 'Netid State  Recv-Q Send-Q Local Address:Port Peer Address:Port Process';
  for (let servicePort = 0; servicePort < portals.proxyPort.length; servicePort++) {
    const port = portals.proxyPort[servicePort]!;
    if (port !== NOT_PROXIED) yield socketLine(portals.cluster.ports.protocol[servicePort]!, port);
  }
  for (const { protocol, port } of portals.heldPorts) yield socketLine(protocol, port);
}

function socketLine(protocol: number, port: number): string {
  const state = protocol === TCP ? 'tcp   LISTEN 0      4096  ' : 'udp   UNCONN 0      0     ';
  return `${state} ${`0.0.0.0:${port}`.padStart(18)} ${'0.0.0.0:*'.padStart(17)} users:(("kube-proxy"))`;
}

function parts(
  portals: Portals,
  chain: PortalChain,
  row: number,
  hostAddress: string,
): {
  readonly selector: string;
  readonly matches: { readonly protocol: string; readonly rest: string };
  readonly target: string;
} {
  const destination = chain.destination[row]!;
  const protocol = protocolName(chain.protocol[row]!);
  const tests = chain.tests[row]!;
  const proxyPort = portals.proxyPort[chain.servicePort[row]!]!;
  let rest = '';
  if ((tests & NOT_FROM_BRIDGE) !== 0) rest += ' -m physdev ! --physdev-is-in';
  if ((tests & TO_LOCAL) !== 0) rest += ' -m addrtype --dst-type LOCAL';
  if ((tests & STATE_NEW) !== 0) rest += ' -m state --state NEW';
  const target =
    chain.target[row] === REDIRECT
      ? `-j REDIRECT --to-ports ${proxyPort}`
      : chain.target[row] === DNAT
        ? `-j DNAT --to-destination ${hostAddress}:${proxyPort}`
        : '-j ACCEPT';
  return {
    selector: destination === 0 ? '' : ` -d ${formatIpv4(destination)}/32`,
    matches: { protocol: `-p ${protocol} -m ${protocol} --dport ${chain.port[row]!}`, rest },
    target,
  };
}

function comment(portals: Portals, chain: PortalChain, row: number): string {
  return inertName(servicePortName(portals.cluster, chain.servicePort[row]!));
}
