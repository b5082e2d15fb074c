import { inertName } from '../kubernetes/inert-name.ts';
import { addressText, familyOf, protocolName, servicePortName, type Cluster } from '../kubernetes/cluster.ts';
import { FW, SEP, SVC, fixedChainName, serviceChainName } from './chains.ts';
import { probabilityText, threshold } from './probability.ts';
import {
  ACCEPT,
  COMMENT,
  CT_DNAT,
  CT_ESTABLISHED,
  CT_INVALID,
  CT_NEW,
  CT_RELATED,
  DESTINATION,
  DESTINATION_NOT,
  DNAT,
  DROP_PACKET,
  FROM_LINK,
  FROM_LINK_NOT,
  FROM_LOCAL,
  JUMP,
  MARK,
  MARK_NOT,
  MARK_OR,
  MARK_XOR,
  MASQUERADE,
  NFACCT,
  NOTHING,
  NOT_ACCEPTED,
  PORT,
  PROTOCOL,
  RECENT_CHECK,
  RECENT_SET,
  REJECT_PACKET,
  RETURN,
  SNAT,
  SOURCE,
  SOURCE_NOT,
  STATE,
  STATE_FIRST,
  STATE_NOT,
  STATISTIC,
  TO_ENDPOINT,
  TO_LOCAL,
} from './rule.ts';
import type { RuleTable } from './rule-table.ts';

/** What differs between kube-proxy builds and hosts in the same rules. */
export interface TextStyle {
  /** The masquerade mark: `0x00004000` as kube-proxy formats it. */
  readonly mark: string;
  /** Whether iptables is new enough (1.6.2) for MASQUERADE --random-fully. */
  readonly randomFully: boolean;
  /** The interface of FROM_LINK rules. */
  readonly link: string;
  /** The address of SNAT rules. */
  readonly nodeAddress: number;
}

/** Counters by their number in the value column. */
export const NFACCT_NAMES: readonly string[] = [
  '',
  'ct_state_invalid_dropped_pkts',
  'localhost_nps_accepted_pkts',
];

const STATE_NAMES: readonly (readonly [number, string])[] = [
  [CT_INVALID, 'INVALID'],
  [CT_NEW, 'NEW'],
  [CT_RELATED, 'RELATED'],
  [CT_ESTABLISHED, 'ESTABLISHED'],
  [CT_DNAT, 'DNAT'],
];

/** Comments by their number in rule.ts; N is the service port's name. Those without a space go unquoted. */
const COMMENTS: readonly ((n: string) => string)[] = [
  () => '',
  (n) => `"${n} cluster IP"`,
  (n) => `"${n} external IP"`,
  (n) => `"${n} loadbalancer IP"`,
  (n) => n,
  (n) => `"${n} has no endpoints"`,
  (n) => `"${n} has no local endpoints"`,
  (n) => `"${n} health check node port"`,
  (n) => `"${n} traffic not accepted by `,
  (n) => `"masquerade traffic for ${n} external destinations"`,
  (n) => `"pod traffic for ${n} external destinations"`,
  (n) => `"masquerade LOCAL traffic for ${n} external destinations"`,
  (n) => `"route LOCAL traffic for ${n} external destinations"`,
  (n) => `"other traffic to ${n} will be dropped by KUBE-PROXY-FIREWALL"`,
  (n) => `"${n} -> `,
  () => '"kubernetes service traffic requiring SNAT"',
  () => '"kubernetes service nodeports; NOTE: this must be the last rule in this chain"',
  () => '"block incoming localnet connections"',
  () => '"kubernetes forwarding rules"',
  () => '"kubernetes forwarding conntrack rule"',
  () => '"kubernetes externally-visible service portals"',
  () => '"kubernetes health check service ports"',
  () => '"kubernetes service portals"',
  () => '"kubernetes load balancer firewall"',
  () => '"kubernetes postrouting rules"',
];

/** Rules and chains in the words of kube-proxy's iptables-restore input. */
export class RuleText {
  readonly #cluster: Cluster;
  readonly #style: TextStyle;
  readonly #names = new Map<number, string>();

  constructor(cluster: Cluster, style: TextStyle) {
    this.#cluster = cluster;
    this.#style = style;
  }

  /** Names hash with SHA-256, so those of per-service chains are kept until `forget`. */
  chain(table: RuleTable, chain: number): string {
    const kind = table.kind[chain]!;
    if (kind < SVC) return fixedChainName(kind);
    const known = this.#names.get(chain);
    if (known !== undefined) return known;
    const name = this.serviceChain(kind, table.subject[chain]!);
    this.#names.set(chain, name);
    return name;
  }

  forget(): void {
    this.#names.clear();
  }

  /** `-A KUBE-SERVICES -m comment …` */
  rule(table: RuleTable, chain: number, row: number): string {
    const { rules } = table;
    const match = rules.match[row]!;
    let text = `-A ${this.chain(table, chain)}`;
    if ((match & STATE_FIRST) !== 0) text += stateText(match, rules.value[row]!);
    if ((match & COMMENT) !== 0) text += ` -m comment --comment ${this.comment(table, chain, row)}`;
    text += this.#recentText(table, chain, row);
    if ((match & TO_LOCAL) !== 0) text += ' -m addrtype --dst-type LOCAL';
    if ((match & FROM_LOCAL) !== 0) text += ' -m addrtype --src-type LOCAL';
    if ((match & PROTOCOL) !== 0) {
      const protocol = protocolName(rules.protocol[row]!);
      text += ` -m ${protocol} -p ${protocol}`;
    }
    if ((match & (DESTINATION | DESTINATION_NOT)) !== 0) {
      const not = (match & DESTINATION_NOT) !== 0;
      // What the last rule leaves out is written as a network even where that is the one address ::1.
      text += `${not ? ' !' : ''} -d ${this.network(rules.destination[row]!, rules.destinationMask[row]!, not)}`;
    }
    if ((match & PORT) !== 0) text += ` --dport ${rules.port[row]!}`;
    if ((match & (SOURCE | SOURCE_NOT)) !== 0) {
      const not = (match & SOURCE_NOT) === 0 ? '' : ' !';
      text += `${not} -s ${this.network(rules.source[row]!, rules.sourceMask[row]!)}`;
    }
    text += this.link(match);
    text += this.#markText(match);
    if ((match & STATE_FIRST) === 0) text += stateText(match, rules.value[row]!);
    if ((match & STATISTIC) !== 0) {
      text += ` -m statistic --mode random --probability ${probabilityOf(table, chain, row)}`;
    }
    if ((match & NFACCT) !== 0) text += ` -m nfacct --nfacct-name ${NFACCT_NAMES[rules.value[row]!]!}`;
    return text + this.target(table, row);
  }

  /** The name of a chain whether it exists or not. */
  serviceChain(kind: number, subject: number): string {
    const { endpoints, ports } = this.#cluster;
    const servicePort = kind === SEP ? endpoints.servicePort[subject]! : subject;
    return serviceChainName(
      kind,
      servicePortName(this.#cluster, servicePort),
      protocolName(ports.protocol[servicePort]!),
      kind === SEP ? endpoints.text(subject) : '',
    );
  }

  /** `10.0.0.0/8`; a single address goes without its prefix unless `inFull`. */
  network(address: number, mask: number, inFull = false): string {
    const text = addressText(this.#cluster, address);
    return mask === 0xffffffff && !inFull ? text : `${text}/${familyOf(this.#cluster).prefixOf(mask)}`;
  }

  /** ` -i …`, empty for a rule that does not ask. */
  link(match: number): string {
    if ((match & (FROM_LINK | FROM_LINK_NOT)) === 0) return '';
    return `${(match & FROM_LINK_NOT) === 0 ? '' : ' !'} -i ${this.#style.link}`;
  }

  /** The address list of `-m recent` has the name of the endpoint's chain. */
  recentList(table: RuleTable, chain: number, row: number): string {
    const asked = (table.rules.match[row]! & RECENT_CHECK) !== 0;
    return this.chain(table, asked ? table.rules.argument[row]! : chain);
  }

  #recentText(table: RuleTable, chain: number, row: number): string {
    const match = table.rules.match[row]!;
    if ((match & (RECENT_CHECK | RECENT_SET)) === 0) return '';
    const text = ` -m recent --name ${this.recentList(table, chain, row)}`;
    return (match & RECENT_SET) !== 0
      ? `${text} --set`
      : `${text} --rcheck --seconds ${table.rules.value[row]!} --reap`;
  }

  #markText(match: number): string {
    const { mark } = this.#style;
    if ((match & MARK_NOT) !== 0) return ` -m mark ! --mark ${mark}/${mark}`;
    return (match & MARK) === 0 ? '' : ` -m mark --mark ${mark}/${mark}`;
  }

  /** A comment as kube-proxy writes it: quoted unless it is a bare name. */
  comment(table: RuleTable, chain: number, row: number): string {
    const about = table.rules.about[row]!;
    const servicePort = this.servicePort(table, chain, row);
    const name = servicePort < 0 ? '' : inertName(servicePortName(this.#cluster, servicePort));
    const text = COMMENTS[about]!(name);
    if (about === TO_ENDPOINT) {
      return `${text}${this.#cluster.endpoints.text(table.subject[table.rules.argument[row]!]!)}"`;
    }
    return about === NOT_ACCEPTED ? `${text}${this.serviceChain(FW, servicePort)}"` : text;
  }

  /** The service port that a rule is about, or -1. */
  servicePort(table: RuleTable, chain: number, row: number): number {
    const kind = table.kind[chain]!;
    if (kind === SEP) return this.#cluster.endpoints.servicePort[table.subject[chain]!]!;
    if (kind >= SVC) return table.subject[chain]!;
    const argument = table.rules.argument[row]!;
    if (table.rules.target[row] !== JUMP) return table.rules.protocol[row] === 0 ? -1 : argument;
    return table.kind[argument]! >= SVC ? table.subject[argument]! : -1;
  }

  /** ` -j …`, or nothing for a rule that only counts. */
  target(table: RuleTable, row: number): string {
    const argument = table.rules.argument[row]!;
    const { mark, randomFully } = this.#style;
    switch (table.rules.target[row]) {
      case NOTHING:
        return '';
      case JUMP:
        return ` -j ${this.chain(table, argument)}`;
      case RETURN:
        return ' -j RETURN';
      case ACCEPT:
        return ' -j ACCEPT';
      case DROP_PACKET:
        return ' -j DROP';
      case REJECT_PACKET:
        return ' -j REJECT';
      case DNAT:
        return ` -j DNAT --to-destination ${this.#cluster.endpoints.text(argument)}`;
      case MASQUERADE:
        return ` -j MASQUERADE${randomFully ? ' --random-fully' : ''}`;
      case SNAT:
        return ` -j SNAT --to-source ${addressText(this.#cluster, this.#style.nodeAddress)}${randomFully ? ' --random-fully' : ''}`;
      case MARK_OR:
        return ` -j MARK --or-mark ${mark}`;
      case MARK_XOR:
        return ` -j MARK --xor-mark ${mark}`;
      default:
        throw new RangeError(`target ${table.rules.target[row]!} has no text`);
    }
  }
}

/** ` -m conntrack --ctstate …`, empty for a rule that does not ask. */
export function stateText(match: number, states: number): string {
  if ((match & (STATE | STATE_NOT)) === 0) return '';
  const names = STATE_NAMES.filter(([bit]) => (states & bit) !== 0).map(([, name]) => name);
  return ` -m conntrack${(match & STATE_NOT) === 0 ? '' : ' !'} --ctstate ${names.join(',')}`;
}

/** The text that the rule was written with: its place in the chain tells how many endpoints were left. */
function probabilityOf(table: RuleTable, chain: number, row: number): string {
  const left = table.first[chain]! + table.count[chain]! - row;
  if (threshold(left) !== table.rules.value[row]) {
    throw new Error(`row ${row}: threshold ${table.rules.value[row]!} is not that of 1/${left}`);
  }
  return probabilityText(left);
}
