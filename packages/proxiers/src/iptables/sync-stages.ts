import type { Counts } from '../cost/operations.ts';
import type { SyncStage, Wait } from '../proxier.ts';
import { KUBE_SERVICES } from './chains.ts';
import { legacyEntries } from './dataplane.ts';
import { ENTRIES_WITH_JUMPS, JumpCommands } from './jump-commands.ts';
import { NAT_CHAINS } from './restore-text.ts';
import type { Holding, RuleTable } from './rule-table.ts';
import type { NatChanges, Ruleset } from './ruleset.ts';
import { SyncCounts } from './sync-counts.ts';
import type { XtablesLock } from './xtables-lock.ts';

/** One sync, staged in the ruleset. */
export interface SyncWork {
  readonly full: boolean;
  /** Leftover chains are looked for. */
  readonly cleanup: boolean;
  readonly servicePorts: number;
  readonly endpoints: number;
  readonly changes: NatChanges;
  readonly natAfter: Holding;
  /** The kernel will not take nat. */
  readonly refused: boolean;
  /** Everything was written. */
  succeed(): void;
}

/**
 * The steps of a sync in their order: the commands for the jumps, generation, iptables-save where leftovers are
 * looked for, and one iptables-restore that commits filter, then nat.
 * Source: syncProxyRules in pkg/proxy/iptables/proxier.go.
 */
export class SyncStages {
  readonly jumps: JumpCommands;
  readonly #ruleset: Ruleset;
  readonly #costs: SyncCounts;
  readonly #lock: XtablesLock | undefined;
  readonly #nowNs: () => number;

  /** `lock` if somebody else takes it, too. */
  constructor(ruleset: Ruleset, nft: boolean, lock: XtablesLock | undefined, nowNs: () => number) {
    this.jumps = new JumpCommands(nft);
    this.#ruleset = ruleset;
    this.#costs = new SyncCounts(nft);
    this.#lock = lock;
    this.#nowNs = nowNs;
  }

  /** Where nobody is waited for, all up to the COMMIT of filter is one stage, and nat the other. */
  of(work: SyncWork): SyncStage[] {
    const { nat, filter } = this.#ruleset;
    const filled = { ...filledIn('nat', nat), ...filledIn('filter', filter) };
    const natEntries = filled.nat ?? ENTRIES_WITH_JUMPS.nat;
    const commands = work.full ? this.jumps.ensure(filled) : [];
    const prepare = this.#costs.generation(work.servicePorts, work.endpoints);
    if (work.cleanup) add(prepare, this.#costs.listing(nat.holds, natEntries));
    const filterStage = {
      counts: this.#costs.table({
        lines: this.#filterLines(),
        entriesBefore: filled.filter ?? ENTRIES_WITH_JUMPS.filter,
        after: filter.planned(),
      }),
      commit: () => this.#ruleset.commitFilter(),
    };
    const natStage = {
      counts: this.#costs.table({
        lines: this.#natLines(work.changes),
        entriesBefore: natEntries,
        after: work.natAfter,
        refused: work.refused,
      }),
      commit: work.refused ? nothing : () => work.succeed(),
    };
    const lock = this.#lock;
    if (lock === undefined)
      return [merged([...commands, { counts: prepare, commit: nothing }, filterStage]), natStage];
    return [
      ...commands.map((command) => this.#locked(lock, command)),
      { counts: prepare, commit: nothing },
      this.#locked(lock, filterStage),
      this.#locked(lock, natStage),
    ];
  }

  /** A stage that takes the lock first. If it gives up, what is staged and not in force will never be. */
  #locked(lock: XtablesLock, stage: SyncStage): SyncStage {
    return {
      counts: stage.counts,
      wait: (): Wait => {
        const wait = lock.take(this.#nowNs());
        if (wait.failure !== undefined) this.#ruleset.rollback();
        return wait;
      },
      commit: () => {
        lock.giveBack(this.#nowNs());
        stage.commit();
      },
    };
  }

  #filterLines(): number {
    const { filter, filterChains } = this.#ruleset;
    return 2 + filterChains.length + rulesAfter(filter, filterChains);
  }

  #natLines({ chains, rules, deleted }: NatChanges): number {
    const shared = NAT_CHAINS.length + rulesAfter(this.#ruleset.nat, NAT_CHAINS);
    // A chain that goes has a line of its own and an -X.
    return 2 + shared + chains + rules + 2 * deleted.length;
  }
}

/** Legacy entries of a table that a restore has filled. */
function filledIn(name: 'nat' | 'filter', table: RuleTable): Partial<Record<'nat' | 'filter', number>> {
  return table.isLive(KUBE_SERVICES) ? { [name]: legacyEntries(table.holds) } : {};
}

function rulesAfter(table: RuleTable, chains: readonly number[]): number {
  return chains.reduce((rules, chain) => rules + table.countAfter(chain), 0);
}

function merged(stages: readonly SyncStage[]): SyncStage {
  const counts = stages[0]!.counts.slice();
  for (const stage of stages.slice(1)) add(counts, stage.counts);
  const commit = (): void => stages.forEach((stage) => stage.commit());
  return { counts, commit };
}

function add(to: Counts, more: Counts): void {
  for (let operation = 0; operation < to.length; operation++) to[operation]! += more[operation]!;
}

function nothing(): void {
  // Nothing comes into force: only time has passed, or the kernel refused the table.
}
