import type { Cluster } from '../kubernetes/cluster.ts';
import {
  EXT,
  FW,
  KUBE_EXTERNAL_SERVICES,
  KUBE_FIREWALL,
  KUBE_FORWARD,
  KUBE_MARK_MASQ,
  KUBE_NODEPORTS,
  KUBE_POSTROUTING,
  KUBE_PROXY_FIREWALL,
  KUBE_SERVICES,
  SEP,
  SVC,
  SVL,
} from './chains.ts';
import type { ChainIndex } from './chain-index.ts';
import { CLUSTER_IP } from './rule.ts';
import { RuleText, type TextStyle } from './rule-text.ts';
import type { RuleTable } from './rule-table.ts';

/** What is programmed, as far as its text needs it. */
export interface Programmed {
  readonly cluster: Cluster;
  readonly nat: RuleTable;
  readonly filter: RuleTable;
  readonly index: ChainIndex;
  inUse(chain: number): boolean;
  /** Endpoints of a service port that have a KUBE-SEP chain, in order. */
  reachable(servicePort: number): Int32Array;
}

export const FILTER_CHAINS: readonly number[] = [
  KUBE_SERVICES,
  KUBE_EXTERNAL_SERVICES,
  KUBE_FORWARD,
  KUBE_NODEPORTS,
  KUBE_PROXY_FIREWALL,
  KUBE_FIREWALL,
];
export const NAT_CHAINS: readonly number[] = [
  KUBE_SERVICES,
  KUBE_NODEPORTS,
  KUBE_POSTROUTING,
  KUBE_MARK_MASQ,
];

/** The input that kube-proxy would give to `iptables-restore --noflush` in a full sync, line by line. */
export function* restoreLines(programmed: Programmed, style: TextStyle): Generator<string> {
  if (!programmed.nat.isLive(KUBE_SERVICES)) return;
  yield* filterLines(programmed, new RuleText(programmed.cluster, style));
  yield* natLines(programmed, new RuleText(programmed.cluster, style));
}

function* filterLines({ cluster, filter }: Programmed, text: RuleText): Generator<string> {
  yield '*filter';
  for (const chain of FILTER_CHAINS) yield chainLine(text, filter, chain);
  yield* allOf(text, filter, KUBE_FIREWALL);
  const services = new Cursor(filter, KUBE_SERVICES, text);
  const external = new Cursor(filter, KUBE_EXTERNAL_SERVICES, text);
  const healthChecks = new Cursor(filter, KUBE_NODEPORTS, text);
  const firewall = new Cursor(filter, KUBE_PROXY_FIREWALL, text);
  for (let servicePort = 0; servicePort < cluster.ports.count; servicePort++) {
    const service = cluster.services[cluster.ports.service[servicePort]!]!;
    yield* services.of(servicePort, 1);
    yield* external.of(servicePort, service.externalIps.length);
    yield* firewall.of(servicePort, service.loadBalancerIps.length);
    yield* external.of(servicePort, service.loadBalancerIps.length + 1);
    yield* healthChecks.of(servicePort, 1);
  }
  yield* allOf(text, filter, KUBE_FORWARD);
  yield 'COMMIT';
}

function* natLines(programmed: Programmed, text: RuleText): Generator<string> {
  const { cluster, nat } = programmed;
  yield '*nat';
  for (const chain of NAT_CHAINS) yield chainLine(text, nat, chain);
  for (let servicePort = 0; servicePort < cluster.ports.count; servicePort++) {
    for (const chain of chainsOf(programmed, servicePort)) yield chainLine(text, nat, chain);
    text.forget();
  }
  yield* allOf(text, nat, KUBE_POSTROUTING);
  yield* allOf(text, nat, KUBE_MARK_MASQ);
  const services = new Cursor(nat, KUBE_SERVICES, text);
  const nodePorts = new Cursor(nat, KUBE_NODEPORTS, text);
  for (let servicePort = 0; servicePort < cluster.ports.count; servicePort++) {
    yield* services.of(servicePort, Infinity);
    yield* nodePorts.of(servicePort, 1);
    yield* serviceRules(programmed, text, servicePort);
    text.forget();
  }
  yield* services.rest();
  yield 'COMMIT';
}

function* serviceRules(programmed: Programmed, text: RuleText, servicePort: number): Generator<string> {
  const { nat } = programmed;
  const chains = [...chainsOf(programmed, servicePort)];
  // The masquerade rule of the ClusterIP leads its dispatch chain, but is written before the other chains.
  for (const chain of chains) {
    if (leadsWithMasquerade(nat, chain)) yield text.rule(nat, chain, nat.first[chain]!);
  }
  for (const chain of chains) {
    const first = nat.first[chain]!;
    const skipped = leadsWithMasquerade(nat, chain) ? 1 : 0;
    for (let i = skipped; i < nat.count[chain]!; i++) yield text.rule(nat, chain, first + i);
  }
}

function leadsWithMasquerade(nat: RuleTable, chain: number): boolean {
  const kind = nat.kind[chain];
  return (kind === SVC || kind === SVL) && nat.rules.about[nat.first[chain]!] === CLUSTER_IP;
}

/** The chains of a service port in the order in which kube-proxy declares them. */
function* chainsOf(programmed: Programmed, servicePort: number): Generator<number> {
  for (const kind of [EXT, FW, SVC, SVL]) {
    const chain = programmed.index.find(kind, servicePort);
    if (chain !== 0 && programmed.inUse(chain)) yield chain;
  }
  for (const endpoint of programmed.reachable(servicePort)) yield programmed.index.find(SEP, endpoint);
}

function chainLine(text: RuleText, table: RuleTable, chain: number): string {
  return `:${text.chain(table, chain)} - [0:0]`;
}

function* allOf(text: RuleText, table: RuleTable, chain: number): Generator<string> {
  for (let i = 0; i < table.count[chain]!; i++) yield text.rule(table, chain, table.first[chain]! + i);
}

/** Reads a chain that all services share, whose rules come in the order of service ports. */
class Cursor {
  readonly #table: RuleTable;
  readonly #chain: number;
  readonly #text: RuleText;
  readonly #end: number;
  #row: number;

  constructor(table: RuleTable, chain: number, text: RuleText) {
    this.#table = table;
    this.#chain = chain;
    this.#text = text;
    this.#row = table.first[chain]!;
    this.#end = this.#row + table.count[chain]!;
  }

  /** Up to `limit` more rules of the service port. */
  *of(servicePort: number, limit: number): Generator<string> {
    for (let i = 0; i < limit && this.#row < this.#end; i++) {
      if (this.#text.servicePort(this.#table, this.#chain, this.#row) !== servicePort) return;
      yield this.#text.rule(this.#table, this.#chain, this.#row++);
    }
  }

  *rest(): Generator<string> {
    while (this.#row < this.#end) yield this.#text.rule(this.#table, this.#chain, this.#row++);
  }
}
