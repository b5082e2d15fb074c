import { costChart } from './cost-chart.ts';
import { distributionChart, type DistributionChart } from './distribution-chart.ts';
import { formatCount } from './format.ts';
import { proseXml } from './html-tables.ts';
import { hasLosses, lossChart } from './loss-chart.ts';
import type { ResultDocument, SizeResult } from './result.ts';
import { sizeChart, type SizeChart } from './size-chart.ts';
import { modeLabels } from './summary.ts';

interface Figure {
  readonly title: string;
  readonly svg: string;
  /** How to read it. */
  readonly caption: string;
}

/** The charts of the page, each with words on how to read it; what cannot be drawn is left out. */
export function figures(result: ResultDocument, size: SizeResult | undefined): string {
  const drawn = [...sizeFigures(result), ...(size === undefined ? [] : runFigures(result, size))].filter(
    ({ svg }) => svg !== '',
  );
  if (drawn.length === 0) return '';
  const all = drawn.map(({ title, svg, caption }) => {
    return `<figure>\n<h3>${proseXml(title)}</h3>\n${svg}\n<figcaption>${proseXml(caption)}</figcaption>\n</figure>`;
  });
  return `<section>\n<h2>Charts</h2>\n${all.join('\n')}\n</section>`;
}

function sizeFigures(result: ResultDocument): readonly Figure[] {
  const slope =
    'Both axes are logarithmic: a flat line does not depend on the size, and a line that rises one decade for each ' +
    'decade grows in proportion to it. A cross above the plot names a mode whose tables could not be programmed.';
  return SIZE_CHARTS.map(([chart, what]) => ({
    title: chart.title,
    svg: sizeChart(result, chart),
    caption:
      chart === SIZE_CHARTS[0]![0] ? `${what} ${slope}` : `${what} Both axes are logarithmic, as above.`,
  }));
}

const SIZE_CHARTS: readonly (readonly [SizeChart, string])[] = [
  [
    {
      id: 'cost',
      title: 'Cost of a first packet against size',
      axis: 'mean dataplane work of a first packet',
      unit: 'ns',
      of: (mode) => (mode.lookup.first.count === 0 ? undefined : mode.lookup.first.mean),
    },
    'What the node computes for the packet that opens a connection, on average.',
  ],
  [
    {
      id: 'memory',
      title: 'Memory of the tables against size',
      axis: 'kernel memory on one node',
      unit: 'bytes',
      of: (mode) => mode.memoryBytes,
    },
    'Kernel memory that the Service tables take on each node.',
  ],
  [
    {
      id: 'cores',
      title: 'CPU against size',
      axis: 'cores, dataplane and syncs',
      unit: 'cores',
      of: (mode) => mode.cpu.dataplaneCores + mode.cpu.controlCores,
    },
    'Cores that Services keep busy on the node: packets and syncs, without the rest of the network stack.',
  ],
];

function runFigures(result: ResultDocument, size: SizeResult): readonly Figure[] {
  const at = `${formatCount(size.endpoints)} endpoints`;
  const single = result.sizes.length < 2;
  const distributions = DISTRIBUTIONS.map(([chart, what]): Figure => {
    const title = `${chart.title}, ${at}`;
    const reading =
      'A point says what share of them took that long or less; further left is better, and steep means even. ' +
      'Markers stand at 50, 90 and 99 %; the time axis is logarithmic.';
    const svg = distributionChart(result, size, { ...chart, title });
    return { title, svg, caption: `${what} ${reading}${absent(result, size)}` };
  });
  const losses = `Failed connections over time, ${at}`;
  const costs = `Cost of a first and of an established packet, ${at}`;
  return [
    {
      title: costs,
      svg: single ? costChart(result, size, 'costs', costs) : '',
      caption:
        'Mean work of the dataplane, from zero. Filled: packets that open a connection and meet the Service tables; ' +
        `outlined: all later packets.${absent(result, size)}`,
    },
    ...distributions,
    {
      title: losses,
      svg: hasLosses(size) ? lossChart(result, size, 'losses', losses) : '',
      caption:
        'One strip for each mode, all on one scale, so heights compare. Shaded: times at which endpoints changed, ' +
        `with their number per second in the lowest strip.${absent(result, size)}`,
    },
  ];
}

const DISTRIBUTIONS: readonly (readonly [DistributionChart, string])[] = [
  [
    {
      id: 'first',
      title: 'First packets by cost',
      axis: 'dataplane work of a first packet (logarithmic)',
      of: (mode) => mode.lookup.first,
    },
    'How the cost is spread over packets that open a connection.',
  ],
  [
    {
      id: 'connect',
      title: 'Connections by connect latency',
      axis: 'from the first SYN to the answer (logarithmic)',
      of: (mode) => mode.connectLatency,
    },
    'From the client’s first SYN to the answer: queueing, network and retransmissions included.',
  ],
  [
    {
      id: 'programming',
      title: 'Endpoint changes by programming latency',
      axis: 'from the change of a pod to the tables in force (logarithmic)',
      of: (mode) => mode.programmingLatency,
    },
    'From the change of a pod to the tables in force on this node.',
  ],
];

/** Which modes are not drawn because they failed. */
function absent(result: ResultDocument, size: SizeResult): string {
  const labels = modeLabels(result, size);
  const failed = size.modes.flatMap((mode, index) =>
    mode.outcome.kind === 'failed' ? [labels[index]!] : [],
  );
  return failed.length === 0 ? '' : ` Not drawn, as it failed: ${failed.join(', ')}.`;
}
