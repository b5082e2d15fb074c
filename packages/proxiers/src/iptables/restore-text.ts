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
  readonly style: TextStyle;
  /** The filter table's chains that every sync declares. */
  readonly filterChains: readonly number[];
  inUse(chain: number): boolean;
  /** Endpoints of a service port that have a KUBE-SEP chain, in order. */
  reachable(servicePort: number): Int32Array;
}

/** What a partial sync writes besides the chains that all Services share. */
export interface Rewritten {
  readonly servicePorts: ReadonlySet<number>;
  readonly deleted: readonly DeletedChain[];
}

/** A chain of the nat table that is no more: its kind, and its service port or endpoint. */
export interface DeletedChain {
  readonly kind: number;
  readonly subject: number;
}

const FILTER_CHAINS: readonly number[] = [
  KUBE_SERVICES,
  KUBE_EXTERNAL_SERVICES,
  KUBE_FORWARD,
  KUBE_NODEPORTS,
  KUBE_PROXY_FIREWALL,
];
const FILTER_CHAINS_LOCALHOST: readonly number[] = [...FILTER_CHAINS, KUBE_FIREWALL];
export const NAT_CHAINS: readonly number[] = [
  KUBE_SERVICES,
  KUBE_NODEPORTS,
  KUBE_POSTROUTING,
  KUBE_MARK_MASQ,
];

/** KUBE-FIREWALL guards node ports on localhost, so it is filled only with them (kubelet may own it otherwise). */
export function filterChainsOf(localhostNodePorts: boolean): readonly number[] {
  return localhostNodePorts ? FILTER_CHAINS_LOCALHOST : FILTER_CHAINS;
}

/**
 * The input that kube-proxy gives to `iptables-restore --noflush`, line by line: of a full sync, or with
 * `rewritten` of a partial one. Upstream deletes stale chains in random order; here they come as given.
 */
export function* restoreLines(
  programmed: Programmed,
  style: TextStyle,
  rewritten?: Rewritten,
): Generator<string> {
  if (!programmed.nat.isLive(KUBE_SERVICES)) return;
  yield* filterLines(programmed, new RuleText(programmed.cluster, style));
  yield* natLines(programmed, new RuleText(programmed.cluster, style), rewritten);
}

function* filterLines({ cluster, filter, filterChains }: Programmed, text: RuleText): Generator<string> {
  yield '*filter';
  for (const chain of filterChains) yield chainLine(text, filter, chain);
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

function* natLines(
  programmed: Programmed,
  text: RuleText,
  rewritten: Rewritten | undefined,
): Generator<string> {
  const { cluster, nat } = programmed;
  const writes = (servicePort: number): boolean => rewritten?.servicePorts.has(servicePort) ?? true;
  const deleted = (rewritten?.deleted ?? []).map(({ kind, subject }) => text.serviceChain(kind, subject));
  yield '*nat';
  for (const chain of NAT_CHAINS) yield chainLine(text, nat, chain);
  for (let servicePort = 0; servicePort < cluster.ports.count; servicePort++) {
    if (!writes(servicePort)) continue;
    for (const chain of chainsOf(programmed, servicePort)) yield chainLine(text, nat, chain);
    text.forget();
  }
  for (const name of deleted) yield `:${name} - [0:0]`;
  yield* allOf(text, nat, KUBE_POSTROUTING);
  yield* allOf(text, nat, KUBE_MARK_MASQ);
  const services = new Cursor(nat, KUBE_SERVICES, text);
  const nodePorts = new Cursor(nat, KUBE_NODEPORTS, text);
  for (let servicePort = 0; servicePort < cluster.ports.count; servicePort++) {
    yield* services.of(servicePort, Infinity);
    yield* nodePorts.of(servicePort, Infinity);
    if (writes(servicePort)) yield* serviceRules(programmed, text, servicePort);
    text.forget();
  }
  for (const name of deleted) yield `-X ${name}`;
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
