import { inertName } from '../kubernetes/inert-name.ts';
import { protocolName, servicePortName, type Cluster } from '../kubernetes/cluster.ts';
import type { Command, Element, Rule, SetSpec, Value } from '../nf-tables/language/statement.ts';
import {
  CLUSTER_IPS,
  DROPS,
  HAIRPIN,
  NODEPORT_IPS,
  NO_ENDPOINT_NODEPORTS,
  SERVICE_NODEPORTS,
  addressOf,
  chainOf,
  hasComment,
  portOf,
  protocolOf,
} from './elements.ts';
import type { BaseChainSpec } from './fixed-rules.ts';
import type { ObjectNames } from './names.ts';
import type { RulesetOptions } from './settings.ts';
import type { Sink } from './sync-work.ts';
import { goTo, integer, symbol, Terms } from './terms.ts';

export const TABLE = 'kube-proxy';
/** nft's longest comment (NFTNL_UDATA_COMMENT_MAXLEN); longer ones are cut (truncateNFTablesComment). */
const COMMENT_LENGTH_MAX = 128;

/** Operations as nft commands, for text. */
export class CommandSink implements Sink {
  readonly naming: ObjectNames;
  readonly #cluster: Cluster;
  readonly #terms: Terms;
  readonly #say: (command: Command) => void;
  #line = 0;

  constructor(
    cluster: Cluster,
    options: RulesetOptions,
    names: ObjectNames,
    say: (command: Command) => void,
  ) {
    this.#cluster = cluster;
    this.#terms = new Terms(options);
    this.naming = names;
    this.#say = say;
  }

  table(comment: string): void {
    this.#say({ ...this.#at(), op: 'add', what: 'table', comment });
  }

  addChain(number: number, base?: BaseChainSpec, comment?: string): void {
    const chain = {
      name: this.naming.chain(number),
      ...(base && {
        base: { type: base.type, hook: base.hook, priority: base.priority, policy: 'accept' as const },
      }),
      ...(comment !== undefined && { comment }),
      rules: [],
    };
    this.#say({ ...this.#at(), op: 'add', what: 'chain', chain });
  }

  flushChain(chain: number): void {
    this.#say({ ...this.#at(), op: 'flush', what: 'chain', chain: this.naming.chain(chain) });
  }

  deleteChain(chain: number): void {
    const target = { name: this.naming.chain(chain) };
    this.#say({ ...this.#at(), op: 'delete', what: 'chain', target });
  }

  addRule(chain: number, rule: Rule): void {
    this.#say({ ...this.#at(), op: 'add', what: 'rule', chain: this.naming.chain(chain), rule });
  }

  addSet(_: number, set: SetSpec): void {
    this.#say({ ...this.#at(), op: 'add', what: set.data === undefined ? 'set' : 'map', set });
  }

  flushSet(set: number): void {
    this.#say({ ...this.#at(), op: 'flush', what: 'set', set: this.naming.set(set) });
  }

  deleteSet(set: number): void {
    this.#say({ ...this.#at(), op: 'delete', what: 'set', target: { name: this.naming.set(set) } });
  }

  addElement(set: number, key: number, value: number, servicePort: number): void {
    this.#element('add', set, this.element(set, key, value, servicePort));
  }

  deleteElement(set: number, key: number, value: number): void {
    this.#element('delete', set, this.element(set, key, value, -1));
  }

  /** `value` -1 where none is told, `servicePort` -1 where no comment is. */
  element(set: number, key: number, value: number, servicePort: number): Element {
    const chain = chainOf(value);
    const verdict =
      value === DROPS ? ({ kind: 'drop' } as const) : goTo(this.naming.chain(Math.max(0, chain)));
    const isMapped = chain >= 0 || value === DROPS;
    return {
      key: elementKey(this.#terms, set, key),
      ...(isMapped && { data: { kind: 'verdict', verdict } }),
      ...(hasComment(set) && servicePort >= 0 && { comment: commentOf(this.#cluster, servicePort) }),
    };
  }

  #element(op: 'add' | 'delete', set: number, element: Element): void {
    this.#say({ ...this.#at(), op, what: 'element', set: this.naming.set(set), elements: [element] });
  }

  #at(): { line: number; family: 'ip' | 'ip6'; table: string } {
    return { line: ++this.#line, family: this.#terms.ip, table: TABLE };
  }
}

export function commentOf(cluster: Cluster, servicePort: number): string {
  return inertName(servicePortName(cluster, servicePort)).slice(0, COMMENT_LENGTH_MAX);
}

/** The key of an element as it is written. */
export function elementKey(terms: Terms, set: number, key: number): Value {
  const address = terms.address(addressOf(key));
  if (set === CLUSTER_IPS || set === NODEPORT_IPS) return address;
  const service = [symbol(protocolName(protocolOf(key))), integer(portOf(key))];
  if (set === SERVICE_NODEPORTS || set === NO_ENDPOINT_NODEPORTS) return { kind: 'tuple', parts: service };
  return { kind: 'tuple', parts: set === HAIRPIN ? [address, address, ...service] : [address, ...service] };
}
