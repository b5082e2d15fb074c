import { familyOf, protocolName, type Cluster } from '../../kubernetes/cluster.ts';
import type { BackendList } from './backend-list.ts';
import { MaglevBackends } from '../maglev/backends.ts';
import { readMaglevSeed, type MaglevSeed } from '../maglev/seed.ts';
import { backendsInARow, buildMaglev, type MaglevTable } from '../maglev/table.ts';

/** A table, and what its making takes of the thread that waits for it and of the others. */
export interface FrontendTable {
  readonly ids: Uint32Array;
  readonly probes: number;
  /** Positions of permutations computed one after another, and beside them on other cores. */
  readonly inARow: number;
  readonly beside: number;
}

export interface MaglevSettings {
  readonly tableSize: number;
  readonly hashSeed: string;
  readonly cores: number;
}

/**
 * Maglev tables of frontends: over the backends that may be chosen, active or not, which is why texts say active.
 * Frontends of one service port with the same backends get equal tables; the agent computes each of them.
 * Source: computeMaglevTable, pkg/loadbalancer/reconciler/bpf_reconciler.go. Not modelled: weights, all of which are 1.
 */
export class MaglevTables {
  /** The largest table since the start, in backends. */
  backendsMax = 0;
  readonly tableSize: number;
  readonly #seed: MaglevSeed;
  readonly #cores: number;
  readonly #cluster: Cluster;
  readonly #backends: MaglevBackends;
  #lastList: BackendList | undefined;
  #lastTable: FrontendTable | undefined;

  constructor(cluster: Cluster, settings: MaglevSettings) {
    this.#cluster = cluster;
    this.#seed = readMaglevSeed(settings.hashSeed);
    this.tableSize = settings.tableSize;
    this.#cores = settings.cores;
    this.#backends = new MaglevBackends(familyOf(cluster));
  }

  /** The table of a list that has selectable backends. */
  of(list: BackendList): FrontendTable {
    if (list !== this.#lastList) {
      this.#lastTable = this.#build(list);
      this.#lastList = list;
    }
    return this.#lastTable!;
  }

  #build(list: BackendList): FrontendTable {
    const { endpoints, ports } = this.#cluster;
    const backends = this.#backends;
    backends.clear();
    for (let i = 0; i < list.selectable; i++) {
      const row = list.rows[i]!;
      const protocol = protocolName(ports.protocol[endpoints.servicePort[row]!]!).toUpperCase();
      backends.add(endpoints.address[row]!, endpoints.port[row]!, protocol, list.ids[i]!);
    }
    this.backendsMax = Math.max(this.backendsMax, list.selectable);
    const { ids, work }: MaglevTable = buildMaglev(backends, this.tableSize, this.#seed);
    const inARow = backendsInARow(list.selectable, this.#cores) * this.tableSize;
    return { ids, probes: work.probes, inARow, beside: work.permutationEntries - inARow };
  }
}
