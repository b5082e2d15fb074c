import { parseArgs } from 'node:util';
import type { PathsEffort } from './ebpf-paths.ts';
import { SHAPE_NAMES, type Shape } from './increments.ts';

export const USAGE = `pnpm bench [options]
  --quick               few and short: sizes 10, 1e3 and 1e5, 200,000 packets
  --sizes 1e3,1e5,…     pending events of the hold model (10,1e3,1e5,1e6,1e7)
  --increments SHAPES   ${SHAPE_NAMES.join(', ')}; or all (exponential)
  --against NAMES       only those rivals of the engine whose names hold one of these texts
  --rounds N            turns of each (5)
  --packets N           packets of pipeline and timers (2,000,000)
  --services 1e3,1e4,…  services whose rules packets walk (1e3,1e4,1e5)
  --only PARTS          of hold,pipeline,timers,iptables,nftables,ipvs,ebpf (all)
  --native              C, C++ and, where libns3-dev is installed, ns-3
  --alloc, --deopts     bytes allocated per event, and optimised code lost, in steady state
  --json FILE           all numbers
  --markdown            tables for the documentation`;

export interface BenchOptions {
  readonly sizes: readonly number[];
  readonly shapes: readonly Shape[];
  /** Parts of names; empty for all. */
  readonly against: readonly string[];
  readonly rounds: number;
  readonly packets: number;
  /** Of the iptables part: services walked, endpoints built, full syncs in a row. */
  readonly services: readonly number[];
  readonly endpoints: number;
  readonly syncs: number;
  /** Of the ipvs part: picks a turn. */
  readonly picks: number;
  /** Of the nftables part: new connections of a turn. */
  readonly connections: number;
  /** Of the ebpf part: clusters, flows of a turn, lookups of one service, endpoints that change. */
  readonly paths: Omit<PathsEffort, 'rounds'>;
  /** Of the ebpf part: backends of Maglev tables, and ms that a turn builds them. */
  readonly maglev: { readonly backends: readonly number[]; readonly turnMs: number };
  /** Holds measured in a turn at least, unless they take longer than `turnMsMax`. */
  readonly steps: number;
  readonly turnMsMax: number;
  readonly parts: readonly string[];
  readonly native: boolean;
  readonly alloc: boolean;
  readonly deopts: boolean;
  readonly json: string | undefined;
  readonly markdown: boolean;
}

const PARTS = ['hold', 'pipeline', 'timers', 'iptables', 'nftables', 'ipvs', 'ebpf'];

/** @throws RangeError for what it does not know. */
export function readOptions(args: readonly string[]): BenchOptions {
  const { values } = parseArgs({
    args: [...args],
    options: {
      quick: { type: 'boolean', default: false },
      sizes: { type: 'string' },
      increments: { type: 'string', default: 'exponential' },
      against: { type: 'string' },
      rounds: { type: 'string' },
      packets: { type: 'string' },
      services: { type: 'string' },
      only: { type: 'string', default: PARTS.join(',') },
      native: { type: 'boolean', default: false },
      alloc: { type: 'boolean', default: false },
      deopts: { type: 'boolean', default: false },
      json: { type: 'string' },
      markdown: { type: 'boolean', default: false },
    },
  });
  const { quick } = values;
  const shapes = values.increments === 'all' ? SHAPE_NAMES : values.increments.split(',');
  return {
    sizes: (values.sizes ?? (quick ? '10,1e3,1e5' : '10,1e3,1e5,1e6,1e7')).split(',').map(wholeNumber),
    shapes: shapes.map((shape) => oneOf(shape, SHAPE_NAMES)),
    against: values.against?.split(',') ?? [],
    rounds: wholeNumber(values.rounds ?? (quick ? '3' : '5')),
    packets: wholeNumber(values.packets ?? (quick ? '2e5' : '2e6')),
    services: (values.services ?? (quick ? '1e3,1e4' : '1e3,1e4,1e5')).split(',').map(wholeNumber),
    endpoints: quick ? 100_000 : 1_000_000,
    syncs: quick ? 100 : 10_000,
    picks: quick ? 1_000_000 : 5_000_000,
    connections: quick ? 20_000 : 100_000,
    paths: {
      services: quick ? [10, 1000] : [10, 1000, 10_000],
      endpoints: 100,
      flows: quick ? 20_000 : 150_000,
      lookups: quick ? 500_000 : 5_000_000,
      changes: quick ? 100 : 1000,
    },
    maglev: { backends: quick ? [3, 1000] : [3, 100, 1000, 10_000], turnMs: quick ? 200 : 500 },
    steps: quick ? 300_000 : 20_000_000,
    turnMsMax: quick ? 500 : 4000,
    parts: values.only.split(',').map((part) => oneOf(part, PARTS)),
    native: values.native,
    alloc: values.alloc,
    deopts: values.deopts,
    json: values.json,
    markdown: values.markdown,
  };
}

function wholeNumber(text: string): number {
  const number = Number(text);
  if (!Number.isSafeInteger(number) || number < 1)
    throw new RangeError(`${text}: wanted a whole number from 1`);
  return number;
}

function oneOf<T extends string>(text: string, known: readonly T[]): T {
  const found = known.find((candidate) => candidate === text);
  if (found === undefined) throw new RangeError(`${text}: wanted one of ${known.join(', ')}`);
  return found;
}
