import { visitElements, hasComment } from './elements.ts';
import { baseChains, affinitySpec, setSpec, FixedRules } from './fixed-rules.ts';
import type { KernelTable } from './kernel-table.ts';
import { EXTERNAL, FIXED_CHAINS, FIXED_SETS, fixedChain, type FixedChain } from './names.ts';
import type { Programmed } from './programmed.ts';
import { ServiceRules } from './service-rules.ts';
import { USES_EXTERNAL } from '../kubernetes/service-plan.ts';
import { TABLE, commentOf } from './text-sink.ts';
import { Terms } from './terms.ts';
import type { Cluster } from '../kubernetes/cluster.ts';
import { delinearize, type DelinearizeContext } from '../nf-tables/language/delinearize.ts';
import { elementsFrom } from '../nf-tables/language/delinearize-set.ts';
import type { KernelElement } from '../nf-tables/language/linearize-set.ts';
import type { ListedTable } from '../nf-tables/language/listing.ts';
import type { AnySet } from '../nf-tables/kernel/new-set.ts';
import { forEachRule } from '../nf-tables/kernel/program.ts';
import type { ChainSpec, Rule, SetSpec } from '../nf-tables/language/statement.ts';

type Comments = readonly (string | undefined)[];
const NO_COMMENTS: Comments = [];

/**
 * What is in the kernel, in nft's words: each rule is made of its expressions again, with comments as kube-proxy
 * gave them.
 */
export class Listing {
  readonly context: DelinearizeContext;
  readonly #cluster: Cluster;
  readonly #table: KernelTable;
  readonly #programmed: Programmed;
  readonly #terms: Terms;
  readonly #serviceRules: ServiceRules;
  readonly #fixedComments: ReadonlyMap<number, Comments>;

  constructor(cluster: Cluster, table: KernelTable, programmed: Programmed) {
    const { options, names } = table;
    this.#cluster = cluster;
    this.#table = table;
    this.#programmed = programmed;
    this.#terms = new Terms(options);
    this.#serviceRules = new ServiceRules(cluster, options, this.#terms, names);
    const fixed = new FixedRules(options, this.#terms);
    this.#fixedComments = new Map([
      [fixedChain('services'), fixed.services().map(({ comment }) => comment)],
      [fixedChain('cluster-ips-check'), fixed.clusterIpsCheck().map(({ comment }) => comment)],
    ]);
    this.context = {
      family: this.#terms.ip,
      chainName: (id) => names.chain(table.ownChain(id)),
      set: (id) => this.#loaded(id),
    };
  }

  /** The whole table; sets and chains are made one by one, as they are asked for. */
  table(nowMs: number): ListedTable {
    return {
      family: this.#terms.ip,
      name: TABLE,
      comment: 'rules for kube-proxy',
      sets: this.#sets(nowMs),
      chains: this.#chains(),
    };
  }

  /** The rule whose header is at `at` in the arena, as nft lists it. */
  rule(chain: number, at: number, index: number): Rule {
    const rule = delinearize(this.#table.tables.chains.arena, at, this.context);
    const comment = this.#comments(this.#table.ownChain(chain))[index];
    return comment === undefined ? rule : { ...rule, comment };
  }

  *#sets(nowMs: number): Generator<SetSpec> {
    const comments = this.#elementComments();
    for (const number of this.#table.namedSets()) {
      const spec = this.#spec(number);
      const set = this.#table.tables.sets[this.#table.set(number)]!;
      const elements = kernelElements(set, nowMs, hasComment(number) ? comments.get(number) : undefined);
      yield { ...spec, elements: elementsFrom(spec, false, elements, this.context) };
    }
  }

  *#chains(): Generator<ChainSpec> {
    const { chains } = this.#table.tables;
    const bases = baseChains(this.#table.options.layout);
    for (const id of this.#table.chainsInOrder()) {
      const number = this.#table.ownChain(id);
      const name = this.#table.names.chain(number);
      const base = bases.find(({ chain }) => chain === (name as FixedChain));
      const comment =
        name === 'reject-chain'
          ? { comment: 'helper for @no-endpoint-services / @no-endpoint-nodeports' }
          : undefined;
      const rules: Rule[] = [];
      forEachRule(chains.arena, chains.start[id]!, chains.words[id]!, (at) => {
        rules.push(this.rule(id, at, rules.length));
      });
      yield {
        name,
        ...(base && {
          base: { type: base.type, hook: base.hook, priority: base.priority, policy: 'accept' },
        }),
        ...comment,
        rules,
      };
    }
  }

  #spec(number: number): SetSpec {
    const fixed = FIXED_SETS[number];
    if (fixed !== undefined) return setSpec(fixed, this.#terms.ip);
    const row = number - FIXED_SETS.length;
    const { endpoints, ports, services } = this.#cluster;
    const { affinityS } = services[ports.service[endpoints.servicePort[row]!]!]!;
    return affinitySpec(this.#table.names.set(number), affinityS, this.#terms.ip);
  }

  #loaded(id: number): ReturnType<DelinearizeContext['set']> {
    const set = this.#table.tables.sets[id]!;
    const number = this.#table.ownSet(id);
    if (number >= 0) {
      const { types, data } = this.#spec(number);
      const name = this.#table.names.set(number);
      return { name, types, ...(data && { data }), anonymous: false, interval: false, elements: () => [] };
    }
    return { name: '', ...this.#shape(set), anonymous: true, elements: () => kernelElements(set, 0) };
  }

  /** Of an anonymous set: networks of Services and of sources, or what numgen chooses from. */
  #shape({ description }: AnySet): {
    readonly types: readonly string[];
    readonly data?: readonly string[];
    readonly interval: boolean;
  } {
    const address = this.#terms.ip === 'ip' ? 'ipv4_addr' : 'ipv6_addr';
    const { interval, dataWords, verdicts } = description;
    if (dataWords === 0) return { types: [address], interval };
    return { types: ['integer'], data: verdicts ? ['verdict'] : [address, 'inet_service'], interval };
  }

  #comments(chain: number): Comments {
    if (chain < FIXED_CHAINS.length) return this.#fixedComments.get(chain) ?? NO_COMMENTS;
    if (this.#table.names.endpointOf(chain) >= 0) return NO_COMMENTS;
    const at = chain - FIXED_CHAINS.length;
    const plan = this.#programmed.plan(at >> 2);
    if ((at & 3) !== EXTERNAL || (plan.decisions & USES_EXTERNAL) === 0) return NO_COMMENTS;
    return this.#serviceRules.external(plan).map(({ comment }) => comment);
  }

  /** By set, by the words of the key. */
  #elementComments(): ReadonlyMap<number, ReadonlyMap<string, string>> {
    const comments = new Map<number, Map<string, string>>();
    for (let port = 0; port < this.#cluster.ports.count; port++) {
      visitElements(this.#cluster, this.#programmed.plan(port), undefined, (set, key) => {
        if (!hasComment(set)) return;
        if (!comments.has(set)) comments.set(set, new Map());
        comments.get(set)!.set(this.#table.keyWords(set, key).join(' '), commentOf(this.#cluster, port));
      });
    }
    return comments;
  }
}

function kernelElements(set: AnySet, nowMs: number, comments?: ReadonlyMap<string, string>): KernelElement[] {
  const elements: KernelElement[] = [];
  set.forEach((element) => {
    const expires = set.expiresMs(element);
    if (expires <= nowMs || set.isPending(element)) return;
    const key = Array.from({ length: set.keyWords }, (_, word) => set.key(element, word) >>> 0);
    const comment = comments?.get(key.join(' '));
    elements.push({
      key,
      intervalEnd: set.isIntervalEnd(element),
      ...(set.dataWords > 0 && {
        data: Array.from({ length: set.dataWords }, (_, word) => set.data(element, word) >>> 0),
      }),
      ...(comment !== undefined && { comment }),
      ...(expires !== Infinity && { expiresMs: Math.floor(expires - nowMs) }),
    });
  });
  return elements;
}
