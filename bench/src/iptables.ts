import { nodeTurn } from './children.ts';
import { contest, type Score } from './contest.ts';
import type { Table } from './report.ts';

export interface IptablesScores {
  readonly walks: readonly {
    readonly backend: 'nft' | 'legacy';
    readonly services: number;
    readonly rulesPerLookup: number;
    readonly literal: Score;
    readonly indexed: Score;
  }[];
  /** ns and bytes per rule. */
  readonly builds: readonly {
    readonly services: number;
    readonly endpoints: number;
    readonly score: Score;
  }[];
  readonly syncs: {
    readonly services: number;
    readonly endpoints: number;
    readonly syncs: number;
    readonly score: Score;
  };
}

export interface IptablesEffort {
  readonly rounds: number;
  readonly services: readonly number[];
  /** Endpoints in all of the table that is built. */
  readonly endpoints: number;
  readonly syncs: number;
}

/** Rules that the literal walks of one turn evaluate, roughly. */
const RULES_A_TURN = 400_000_000;
const LOOKUPS_MIN = 4000;
const LOOKUPS_MAX = 400_000;
const BUILT_SERVICES = [1, 10_000];
const SYNCED = { services: 500, endpoints: 10 };

/** The walk of the nat table both ways, tables built from nothing, syncs in a row. */
export function measureIptables(effort: IptablesEffort): IptablesScores {
  const { rounds } = effort;
  const walks = (['legacy', 'nft'] as const).flatMap((backend) =>
    effort.services.map((services) => walkScores(backend, services, rounds)),
  );
  const builds = BUILT_SERVICES.map((services) => {
    const endpoints = Math.max(1, Math.round(effort.endpoints / services));
    const request = { bench: 'iptables-build', backend: 'nft', services, endpoints } as const;
    const [score] = contest([{ name: 'build', agrees: true, turn: () => nodeTurn(request) }], rounds);
    return { services, endpoints, score: score! };
  });
  const request = { bench: 'iptables-syncs', ...SYNCED, syncs: effort.syncs } as const;
  const [score] = contest([{ name: 'syncs', agrees: true, turn: () => nodeTurn(request) }], 1);
  return { walks, builds, syncs: { ...SYNCED, syncs: effort.syncs, score: score! } };
}

function walkScores(backend: 'nft' | 'legacy', services: number, rounds: number) {
  const lookups = Math.min(LOOKUPS_MAX, Math.max(LOOKUPS_MIN, Math.round(RULES_A_TURN / services)));
  const [literal, indexed] = contest(
    (['literal', 'indexed'] as const).map((way) => ({
      name: way,
      agrees: true,
      turn: () => nodeTurn({ bench: 'iptables-walk', way, backend, services, lookups }),
    })),
    rounds,
  );
  const rulesPerLookup = literal!.result / lookups;
  return { backend, services, rulesPerLookup, literal: literal!, indexed: indexed! };
}

export function iptablesTables({ walks, builds, syncs }: IptablesScores): Table[] {
  return [
    {
      title: 'iptables, first packets to services in turn through nat PREROUTING',
      head: [
        'backend, services',
        'rules a walk',
        'literal ns',
        'ns a rule',
        'indexed ns',
        'literal ÷ indexed',
      ],
      rows: walks.map(({ backend, services, rulesPerLookup, literal, indexed }) => [
        `${backend}, ${services}`,
        rulesPerLookup.toFixed(0),
        literal.ns.toFixed(0),
        (literal.ns / rulesPerLookup).toFixed(2),
        indexed.ns.toFixed(0),
        (literal.ns / indexed.ns).toFixed(1),
      ]),
      notes: ['both ways give the same verdicts, counts and draws'],
    },
    {
      title: 'iptables, tables of a first sync',
      head: ['services x endpoints', 'rules', 's', 'ns a rule', 'MB', 'bytes a rule'],
      rows: builds.map(({ services, endpoints, score }) => [
        `${services} x ${endpoints}`,
        String(score.result),
        ((score.ns * score.result) / 1e9).toFixed(2),
        score.ns.toFixed(0),
        ((score.bytes * score.result) / 1e6).toFixed(0),
        score.bytes.toFixed(1),
      ]),
      notes: [],
    },
    {
      title: `iptables, ${syncs.syncs} full syncs in a row`,
      head: ['services x endpoints', 'ms a sync', 'bytes left a sync'],
      rows: [
        [
          `${syncs.services} x ${syncs.endpoints}`,
          (syncs.score.ns / 1e6).toFixed(2),
          syncs.score.bytes.toFixed(1),
        ],
      ],
      notes: ['bytes over the second half of the syncs'],
    },
  ];
}
