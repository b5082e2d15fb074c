import type { Counts } from '../cost/operations.ts';
import { IPTABLES_OPERATIONS, OPERATION } from './operations.ts';

type TableName = 'filter' | 'nat';

/** The jumps from built-in chains in kube-proxy's order, by what they lead to. */
const JUMPS: readonly (readonly [TableName, string])[] = [
  ['filter', 'KUBE-EXTERNAL-SERVICES'],
  ['filter', 'KUBE-EXTERNAL-SERVICES'],
  ['filter', 'KUBE-NODEPORTS'],
  ['filter', 'KUBE-SERVICES'],
  ['filter', 'KUBE-SERVICES'],
  ['filter', 'KUBE-FORWARD'],
  ['filter', 'KUBE-PROXY-FIREWALL'],
  ['filter', 'KUBE-PROXY-FIREWALL'],
  ['filter', 'KUBE-PROXY-FIREWALL'],
  ['nat', 'KUBE-SERVICES'],
  ['nat', 'KUBE-SERVICES'],
  ['nat', 'KUBE-POSTROUTING'],
  ['filter', 'KUBE-FIREWALL'],
  ['filter', 'KUBE-FIREWALL'],
];

/** Legacy entries of a clean table: a policy for each built-in chain and the closing entry. */
const CLEAN = { mangle: 6, nat: 5, filter: 4 } as const;
/** An empty chain: its ERROR entry and its RETURN. */
const CHAIN = 2;

/** What the tables hold after the canaries and all jumps were made on a clean host, and nothing else. */
export const ENTRIES_WITH_JUMPS: Readonly<Record<TableName, number>> = {
  nat: withJumps('nat'),
  filter: withJumps('filter'),
};

const PROCESS = OPERATION['process.launch'];
const READ = OPERATION['iptables.kernel.read'];
const REPLACED = OPERATION['iptables.kernel.replaced'];
const PACKED = OPERATION['iptables.sync.packed'];

export interface Command {
  readonly counts: Counts;
  /** It has ended well. */
  commit(): void;
}

/**
 * The iptables commands that kube-proxy starts besides iptables-save and iptables-restore, and what they find.
 *
 * Models: -N and -C for each of the 14 jumps in a full sync, -I where the jump is missing: 42 processes on a clean
 * host, 28 afterwards; the canary chains, three -N at the start and one -S in mangle each syncPeriod. A legacy
 * command reads its whole table, and writes it back if it changes something.
 * Source: iptablesJumpChains, iptablesKubeletJumpChains, EnsureChain and EnsureRule; Monitor of pkg/util/iptables.
 * Not modelled: what iptables-nft lists before it decides; flushed tables and the full sync that the canary forces.
 */
export class JumpCommands {
  readonly #nft: boolean;
  readonly #chains = new Set<string>();
  #jumps = 0;
  /** Entries that these commands have put into the tables. */
  readonly #entries: Record<TableName, number> = { nat: CLEAN.nat + CHAIN, filter: CLEAN.filter + CHAIN };

  constructor(nft: boolean) {
    this.#nft = nft;
  }

  /** One full sync's, in order; `filled` tables were restored before and have so many entries. */
  ensure(filled: Readonly<Partial<Record<TableName, number>>>): Command[] {
    const commands: Command[] = [];
    const planned = { ...this.#entries };
    const chains = new Set(this.#chains);
    JUMPS.forEach(([table, chain], at) => {
      const command = (adds: number, commit: () => void): void => {
        const before = filled[table] ?? planned[table];
        commands.push({ counts: this.#counts(before, adds), commit });
        planned[table] += adds;
      };
      const name = `${table} ${chain}`;
      command(chains.has(name) ? 0 : CHAIN, () => this.#makeChain(table, name));
      chains.add(name);
      command(0, nothing);
      if (at >= this.#jumps) {
        command(1, () => {
          this.#jumps++;
          this.#entries[table]++;
        });
      }
    });
    return commands;
  }

  /** The canaries of mangle, nat and filter, made once when kube-proxy starts. */
  plantCanaries(): Counts {
    const counts = new Float64Array(IPTABLES_OPERATIONS.length);
    for (const entries of [CLEAN.mangle, CLEAN.nat, CLEAN.filter]) {
      this.#counts(entries, CHAIN).forEach((count, operation) => (counts[operation]! += count));
    }
    return counts;
  }

  /** Is mangle's canary still there? */
  lookForCanary(): Counts {
    return this.#counts(CLEAN.mangle + CHAIN, 0);
  }

  #makeChain(table: TableName, name: string): void {
    if (this.#chains.has(name)) return;
    this.#chains.add(name);
    this.#entries[table] += CHAIN;
  }

  #counts(entries: number, adds: number): Counts {
    const counts = new Float64Array(IPTABLES_OPERATIONS.length);
    counts[PROCESS] = 1;
    if (this.#nft) return counts;
    counts[READ] = entries;
    if (adds > 0) {
      counts[REPLACED] = entries + adds;
      counts[PACKED] = entries + adds;
    }
    return counts;
  }
}

function withJumps(table: TableName): number {
  const chains = JUMPS.filter(([own]) => own === table).map(([, chain]) => chain);
  return CLEAN[table] + CHAIN + CHAIN * new Set(chains).size + chains.length;
}

function nothing(): void {
  // The rule was only asked for.
}
