import { SCHEDULER_NAMES, type SchedulerName } from '../../packages/proxiers/src/ipvs/schedulers/create.ts';
import { nodeTurn } from './children.ts';
import { contest, type Score } from './contest.ts';
import type { Table } from './report.ts';

const SIZES = [10, 1000, 10_000];
/** Servers that the picks of one turn examine, roughly, by schedulers that look at all. */
const STEPS_A_TURN = 100_000_000;
const LOOKS_AT_ALL: readonly SchedulerName[] = [
  'lc',
  'wlc',
  'sed',
  'nq',
  'fo',
  'ovf',
  'twos',
  'lblc',
  'lblcr',
];

export interface IpvsScore {
  readonly scheduler: SchedulerName;
  readonly servers: number;
  /** Servers and slots examined per pick, as the kernel would. */
  readonly stepsPerPick: number;
  /** ns per pick. */
  readonly score: Score;
}

export interface IpvsEffort {
  readonly rounds: number;
  /** Of schedulers that do not look at all servers. */
  readonly picks: number;
}

/** Every scheduler over 10 to 10,000 real servers. */
export function measureIpvs({ rounds, picks: most }: IpvsEffort): IpvsScore[] {
  return SCHEDULER_NAMES.flatMap((scheduler) =>
    SIZES.map((servers) => {
      const picks = LOOKS_AT_ALL.includes(scheduler)
        ? Math.min(most, Math.ceil(STEPS_A_TURN / servers))
        : most;
      const request = { bench: 'ipvs-picks', scheduler, servers, picks } as const;
      const name = `${scheduler} ${servers}`;
      const [score] = contest([{ name, agrees: true, turn: () => nodeTurn(request) }], rounds);
      return { scheduler, servers, stepsPerPick: score!.result / picks, score: score! };
    }),
  );
}

export function ipvsTable(scores: readonly IpvsScore[]): Table {
  return {
    title: 'IPVS schedulers: ns per pick, million picks per second, servers and slots examined per pick',
    head: ['scheduler', ...SIZES.flatMap((servers) => [`N = ${servers}`, 'M/s', 'steps'])],
    rows: SCHEDULER_NAMES.map((scheduler) => [
      scheduler,
      ...scores
        .filter((one) => one.scheduler === scheduler)
        .flatMap(({ score, stepsPerPick }) => [
          score.ns.toFixed(1),
          (1000 / score.ns).toPrecision(3),
          stepsPerPick.toFixed(1),
        ]),
    ]),
    notes: [
      'weights 1 to 4 in turn; all servers busy, but for ovf; 256 destinations',
      'mh over 10,000 servers has 131,071 slots, else 4093',
    ],
  };
}
