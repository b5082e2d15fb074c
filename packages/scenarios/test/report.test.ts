import { createHash } from 'node:crypto';
import test from 'ava';
import fc from 'fast-check';
import { spread } from '../src/report/chart.ts';
import { escapeCsv, escapeMarkdown, escapeXml } from '../src/report/escaping.ts';
import { formatFactor } from '../src/report/format.ts';
import { summarise } from '../src/report/summary.ts';
import {
  canonicalJson,
  formatBytes,
  formatCores,
  formatCount,
  formatNs,
  formatShare,
  formatValue,
  headlineOf,
  metricsOf,
  renderCsv,
  renderHtml,
  renderJson,
  renderMarkdown,
  renderTable,
  resultDigest,
  resultJsonSchema,
  ResultSchema,
  sealed,
  escapeTerminal,
  type Distribution,
  type ModeResult,
  type ResultDocument,
} from '../src/report/index.ts';
import { emptyDistribution, sampleResult, singleSizeResult } from './fixtures/sample-result.ts';

const ESC = '\u001b';
const RENDERERS: readonly (readonly [string, (result: ResultDocument) => string])[] = [
  ['table', (result) => renderTable(result, { colour: false, width: 100 })],
  ['markdown', renderMarkdown],
  ['csv', renderCsv],
  ['html', renderHtml],
  ['json', renderJson],
];

test('figures have three significant digits and the unit that suits them', (t) => {
  t.deepEqual([0, 7, 820, 999.4, 999.6, 36_100, 1_270_000, 2_840_000_000, 1_234_000_000_000].map(formatNs), [
    '0 ns',
    '7 ns',
    '820 ns',
    '999 ns',
    '1.00 µs',
    '36.1 µs',
    '1.27 ms',
    '2.84 s',
    '1 234 s',
  ]);
  t.deepEqual([512, 19_200_000, 999_999_999].map(formatBytes), ['512 B', '19.2 MB', '1.00 GB']);
  t.deepEqual([0, 999, 1000, 1_000_000, 12.5, 4999.5].map(formatCount), [
    '0',
    '999',
    '1 000',
    '1 000 000',
    '12.5',
    '4 999.5',
  ]);
  t.deepEqual([0, 0.042, 0.0042, 0.00042, 1.27, 12.34].map(formatCores), [
    '0',
    '0.042',
    '0.0042',
    '0.00042',
    '1.27',
    '12.3',
  ]);
  t.deepEqual([0, 0.00001, 0.123, 0.9934, 0.99999, 1].map(formatShare), [
    '0 %',
    '<0.01 %',
    '12.3 %',
    '99.34 %',
    '>99.99 %',
    '100 %',
  ]);
  t.deepEqual([1.024, 10.1, 1250].map(formatFactor), ['×1.02', '×10.1', '×1 250']);
  t.is(formatValue(undefined, 'ns'), '–');
  t.is(formatValue(Number.NaN, 'count'), '–');
});

test('formatted durations read back within half a per cent, and never as a thousand of a unit', (t) => {
  const scale: Record<string, number> = { ns: 1, µs: 1e3, ms: 1e6, s: 1e9 };
  fc.assert(
    fc.property(fc.double({ min: 1, max: 1e12, noNaN: true }), (ns) => {
      const [, figure, unit] = /^([\d. ]+) (\S+)$/.exec(formatNs(ns))!;
      const read = Number(figure!.replaceAll(' ', '')) * scale[unit!]!;
      t.true(Math.abs(read - ns) <= ns * 0.0051, `${ns} as ${formatNs(ns)}`);
      t.true(unit === 's' || Number(figure) < 1000);
    }),
    { seed: 42, numRuns: 500 },
  );
});

test('canonical JSON sorts keys by code units and has no white space', (t) => {
  t.is(
    canonicalJson({ b: [1, 2.5, { d: 'µ"', c: null }], B: true, a: undefined }),
    '{"B":true,"b":[1,2.5,{"c":null,"d":"µ\\""}]}',
  );
  const error = t.throws(() => canonicalJson({ sizes: [{ mean: Number.NaN }] }), { instanceOf: TypeError });
  t.is(error.message, '$.sizes[0].mean is NaN, which JSON cannot hold');
});

test('the digest is the SHA-256 of canonical JSON without digest, command and environment', (t) => {
  const result = smallResult();
  const { digest: _digest, command: _command, environment: _environment, ...rest } = result;
  t.is(resultDigest(result), createHash('sha256').update(canonicalJson(rest), 'utf8').digest('hex'));
  t.is(sealed(result).digest, resultDigest(result));
  t.is(resultDigest(sealed(result)), resultDigest(result));
});

test('the digest does not see the order of keys', (t) => {
  const reversed = (value: unknown): unknown => {
    if (Array.isArray(value)) return value.map(reversed);
    if (typeof value !== 'object' || value === null) return value;
    return Object.fromEntries(
      Object.entries(value)
        .toReversed()
        .map(([key, member]) => [key, reversed(member)]),
    );
  };
  t.is(resultDigest(reversed(sampleResult()) as ResultDocument), resultDigest(sampleResult()));
});

test('the digest sees every field but the three that are left out', (t) => {
  const digest = resultDigest(smallResult());
  let seen = 0;
  for (const path of leavesOf(smallResult()).map((leaf) => leaf.path)) {
    const changed = smallResult();
    setLeaf(changed, path);
    const outside = ['digest', 'command', 'environment'].includes(path[0]!);
    t.is(resultDigest(changed) === digest, outside, path.join('.'));
    seen++;
  }
  t.true(seen > 100);
});

test('the sample is a valid document and JSON carries it whole', (t) => {
  const result = sealed(sampleResult());
  t.deepEqual(ResultSchema.parse(JSON.parse(renderJson(result))), result);
  t.true(renderJson(result).endsWith('}\n'));
});

test('the JSON Schema names itself, is closed, and lists every member of the document', (t) => {
  const schema = resultJsonSchema();
  t.is(schema['$id'], 'urn:vipsim:result:1');
  t.is(schema['additionalProperties'], false);
  t.deepEqual(Object.keys(schema['properties'] as object), Object.keys(ResultSchema.shape));
});

test('every scalar of a mode is shown, and every metric is a scalar of the mode or a sum over its tables', (t) => {
  const result = smallResult();
  const mode = result.sizes[0]!.modes[0]!;
  const metrics = metricsOf(result);
  let next = 1_000_003;
  const scalars = leavesOf(mode).filter(({ path, value }) => {
    const aside = [
      'options',
      'tables',
      'lookup',
      'timeline',
      'connectLatency',
      'programmingLatency',
    ].includes(path[0]!);
    return typeof value === 'number' && !aside && !path.includes('duration') && !path.includes('operations');
  });
  t.true(scalars.length >= 29);
  for (const { path } of scalars) setLeaf(mode, path, next++);
  const shown = new Set(metrics.map((metric) => metric.of(mode)));
  for (const { path, value } of leavesOf(mode).filter((leaf) =>
    scalars.some((each) => each.path.join() === leaf.path.join()),
  )) {
    t.true(shown.has(value as number), path.join('.'));
  }
  const leaves = new Set(leavesOf(mode).map(({ value }) => value));
  const entries = mode.tables.reduce((sum, table) => sum + table.entries, 0);
  for (const metric of metrics) {
    t.true(
      metric.id === 'table_entries' ? metric.of(mode) === entries : leaves.has(metric.of(mode)!),
      metric.id,
    );
  }
});

test('table, Markdown, CSV and page carry the same metrics of every size and mode', (t) => {
  const result = sealed(sampleResult());
  const metrics = metricsOf(result);
  const csv = parseCsv(renderCsv(result));
  const rows = { table: tableRows(result), markdown: markdownRows(result), html: htmlRows(result) };
  t.is(new Set(metrics.map((metric) => metric.id)).size, metrics.length);
  t.deepEqual(
    csv[0]!.slice(13),
    metrics.map((metric) => metric.id),
  );
  let line = 1;
  for (const [at, size] of result.sizes.entries()) {
    for (const [column, mode] of size.modes.entries()) {
      const record = csv[line++]!;
      t.deepEqual([record[4], record[6], record[8]], [String(size.endpoints), mode.mode, mode.outcome.kind]);
      for (const [index, metric] of metrics.entries()) {
        const value = metric.of(mode);
        const text = formatValue(value, metric.unit);
        const shown = mode.outcome.kind === 'failed' && text !== '–' ? `(${text})` : text;
        t.is(record[13 + index], value === undefined ? '' : String(value));
        for (const [name, tables] of Object.entries(rows)) {
          t.is(tables[at]![index]![column], shown, `${name}: ${metric.id} of ${mode.mode} at ${size.label}`);
        }
      }
    }
  }
  t.is(line, csv.length);
});

test('the best of a row is marked: the least cost, the most capacity, never a failed mode, never a tie of all', (t) => {
  const result = sampleResult();
  const best = (size: number, id: string): readonly string[] => {
    const metric = metricsOf(result).find((each) => each.id === id)!;
    const summary = summarise(result, result.sizes[size]!, [metric]);
    return summary.columns.filter((_, index) => summary.groups[0]!.rows[0]!.cells[index]!.best);
  };
  t.deepEqual(best(0, 'first_packet_ns_mean'), ['ebpf']);
  t.deepEqual(best(2, 'first_packet_ns_mean'), ['nftables'], 'ebpf failed there');
  t.deepEqual(best(0, 'saturation_connections_per_second'), ['ebpf'], 'higher is better');
  t.deepEqual(best(0, 'connections_ok'), ['ebpf'], 'higher is better');
  t.deepEqual(best(0, 'memory_bytes'), ['nftables', 'ebpf'], 'equals share the mark');
  t.deepEqual(best(0, 'connections_broken'), [], 'all equal');
  t.deepEqual(best(0, 'connections_attempted'), [], 'neutral');
  t.deepEqual(best(2, 'programming_latency_ns_p99'), ['nftables'], 'a mode without samples does not compete');
  result.sizes[0]!.modes[0]!.lookup.first.mean = 421.2;
  result.sizes[0]!.modes[2]!.lookup.first.mean = 421.1;
  t.deepEqual(best(0, 'first_packet_ns_mean'), ['iptables', 'ebpf'], 'what reads the same is equally good');
  t.regex(renderTable(result, { colour: false, width: 120 }), /421 ns\* +1\.18 µs +421 ns\*/);
  t.true(renderTable(result, { colour: true, width: 120 }).includes(`${ESC}[1m${ESC}[32m`));
});

test('the headline names the cheapest at the largest size that works, and what fails where', (t) => {
  const sentences = headlineOf(sampleResult());
  t.is(
    sentences[0]!.text,
    'At 100 000 endpoints the first packet of a connection costs least with nftables: 1.24 µs on average, 78 times that with iptables.',
  );
  t.deepEqual(
    sentences.filter(({ kind }) => kind === 'failure'),
    [{ kind: 'failure', text: 'ebpf fails at 100 000 endpoints: ENOMEM.' }],
  );
  const failed = sampleResult();
  for (const size of failed.sizes) for (const mode of size.modes) mode.outcome = size.modes.at(-1)!.outcome;
  for (const mode of failed.sizes.flatMap((size) => size.modes))
    mode.outcome = { kind: 'failed', error: 'E2BIG', message: '' };
  t.true(headlineOf(failed).every(({ kind }) => kind === 'failure'));
});

test('a failed mode says so in every rendering, with its message', (t) => {
  const result = sampleResult();
  for (const [name, render] of RENDERERS.slice(0, 4)) {
    const text = render(result);
    t.true(text.includes('ENOMEM'), name);
    if (name !== 'csv') t.true(text.replaceAll('\n  ', ' ').includes('backend map holds'), name);
  }
});

test('growth gives each size as a factor of the one before, and a single size has none', (t) => {
  const table = renderTable(sampleResult(), { colour: false, width: 120 });
  t.regex(table, /First packet, mean\n {2}iptables +971 ns +9\.71 µs +×10\.0 +97\.1 µs +×10\.0\n/);
  t.regex(table, /ebpf +421 ns +446 ns +×1\.06 +failed\n/);
  t.false(renderTable(singleSizeResult(), { colour: false, width: 120 }).includes('Growth'));
});

test('the terminal table keeps to the width by setting modes below each other', (t) => {
  for (const width of [60, 80, 100, 120]) {
    for (const line of renderTable(sampleResult(), { colour: false, width }).split('\n')) {
      t.true([...line].length <= Math.max(width, 79), `${width}: ${line}`);
    }
  }
  const narrow = renderTable(singleSizeResult(), { colour: false, width: 60 });
  t.true(narrow.split('\nOutcome').length > 2);
});

test('the page stands alone: no script, no reference to anything outside', (t) => {
  const page = renderHtml(sampleResult());
  t.false(/<script|<iframe|<object|<img|<link|@import|url\(|\ssrc=|\son[a-z]+=|javascript:/i.test(page));
  for (const [, target] of page.matchAll(/\shref="([^"]*)"/g)) t.true(target!.startsWith('#'));
  const addresses = page.replaceAll('xmlns="http://www.w3.org/2000/svg"', '');
  t.false(/https?:/.test(addresses));
  t.regex(page, /<html lang="en">/);
  t.regex(page, /<meta name="viewport"/);
  t.regex(page, /@media print/);
});

test('every chart is well-formed, has a title, a description and a caption, and no number that is not one', (t) => {
  for (const result of [sampleResult(), singleSizeResult(), quietResult()]) {
    const page = renderHtml(result);
    t.is(markupError(page), undefined);
    t.false(/NaN|Infinity|undefined/.test(page));
    const figures = [...page.matchAll(/<figure>.*?<\/figure>/gs)].map(([figure]) => figure);
    for (const figure of figures)
      t.regex(figure, /<svg [^>]*role="img"[^>]*><title[^>]*>.+<desc.+<figcaption>.{40,}/s);
    const ids = [...page.matchAll(/ id="([^"]+)"/g)].map(([, id]) => id);
    t.is(new Set(ids).size, ids.length);
  }
  t.is(renderHtml(sampleResult()).split('<figure>').length - 1, 7);
  t.is(renderHtml(singleSizeResult()).split('<figure>').length - 1, 5);
});

test('labels of a chart do not overlap, however close the modes lie', (t) => {
  const result = sampleResult();
  for (const size of result.sizes) {
    size.modes = Array.from({ length: 7 }, (_, index) => ({
      ...size.modes[index % 2]!,
      mode: `mode-${index}`,
    }));
  }
  for (const [svg] of renderHtml(result).matchAll(/<svg.*?<\/svg>/gs)) {
    const boxes = [...svg.matchAll(/<text class="name" x="([\d.]+)" y="([\d.]+)">([^<]*)</g)].map(
      ([, x, y, text]) => {
        return { x: Number(x), y: Number(y), width: text!.length * 6.7 };
      },
    );
    t.true(boxes.length >= 7);
    for (const [index, a] of boxes.entries()) {
      t.true(a.x + a.width <= 862, svg.slice(0, 200));
      for (const b of boxes.slice(index + 1)) {
        t.true(Math.abs(a.y - b.y) >= 14 || a.x + a.width < b.x || b.x + b.width < a.x);
      }
    }
  }
});

test('spread labels keep their order and their distance', (t) => {
  fc.assert(
    fc.property(fc.array(fc.integer({ min: 0, max: 200 }), { maxLength: 12 }), (wanted) => {
      const places = spread(wanted, 16, 0, 200);
      const order = wanted.map((_, index) => index).sort((a, b) => wanted[a]! - wanted[b]! || a - b);
      for (let i = 1; i < order.length; i++) t.true(places[order[i]!]! - places[order[i - 1]!]! >= 16);
      t.true(places.every((place) => place <= 200));
    }),
    { seed: 42, numRuns: 300 },
  );
});

test('text from clusters is inert in its surroundings', (t) => {
  t.is(escapeTerminal(`a${ESC}[31m\u009b\u202eb\n\ud800`), String.raw`a\x1b[31m\x9b\u202eb\x0a\ud800`);
  t.is(escapeXml('<script>alert("1")</script>'), '&lt;script&gt;alert(&quot;1&quot;)&lt;/script&gt;');
  t.is(escapeMarkdown('a|b <b> `c` [d](e)'), String.raw`a\|b &lt;b&gt; \`c\` \[d\](e)`);
  t.is(escapeMarkdown('- x'), String.raw`\- x`);
  t.deepEqual(['=1+1', '+1', '-1', '@a', '\t=1', '\r=1', 'a,b', 'say "x"', 'plain'].map(escapeCsv), [
    "'=1+1",
    "'+1",
    "'-1",
    "'@a",
    "'\\x09=1",
    "'\\x0d=1",
    '"a,b"',
    '"say ""x"""',
    'plain',
  ]);
  const hostile = withText(sampleResult(), '<script>alert(1)</script>');
  t.false(renderHtml(hostile).includes('<script'));
  t.true(renderHtml(hostile).includes('&lt;script&gt;alert(1)&lt;/script&gt;'));
});

test('a command cannot close the block that shows it', (t) => {
  const result = { ...singleSizeResult(), command: 'vipsim compare "```\n# heading"' };
  t.true(renderMarkdown(result).includes('\n````sh\nvipsim compare "```\\x0a# heading"\n````\n'));
});

test('renderers hold against any text in any place', (t) => {
  const hostile = fc.oneof(
    fc.string({ unit: 'binary', maxLength: 24 }),
    fc.constantFrom(
      '<script>',
      `${ESC}[2J`,
      '=cmd()',
      '|',
      '\r\n',
      '```',
      '__proto__',
      '</style>',
      '"',
      '\u2028',
      '🙂',
      '',
    ),
  );
  fc.assert(
    fc.property(fc.array(hostile, { minLength: 1, maxLength: 3 }), (parts) => {
      const result = { ...withText(smallResult(), parts.join('')), command: 'vipsim' };
      for (const [name, render] of RENDERERS) {
        const text = render(result);
        t.false(text.includes(ESC), name);
        t.false(/[\u0080-\u009f\u202a-\u202e]/.test(text), name);
        if (name !== 'csv' && name !== 'table') t.false(text.toLowerCase().includes('<script'), name);
      }
      t.is(markupError(renderHtml(result)), undefined);
      const rows = parseCsv(renderCsv(result));
      t.true(rows.every((row) => row.length === rows[0]!.length));
      for (const cell of rows.slice(1).flatMap((row) => row))
        t.true(/^[^=+\-@\t\r]|^$|^-?\d/.test(cell), cell);
      t.deepEqual(JSON.parse(renderJson(result)), JSON.parse(JSON.stringify(result)));
    }),
    { seed: 42, numRuns: 150 },
  );
});

test('a run without packets, changes or sizes is shown without figures instead of wrong ones', (t) => {
  const quiet = quietResult();
  for (const [name, render] of RENDERERS) t.false(/NaN|Infinity|undefined/.test(render(quiet)), name);
  t.regex(renderTable(quiet, { colour: false, width: 100 }), /First packet\n {2}mean +– +– +–/);
  t.deepEqual(headlineOf({ ...quiet, sizes: [] }), []);
  for (const [name, render] of RENDERERS) t.notThrows(() => render({ ...quiet, sizes: [] }), name);
  const broken = sampleResult();
  broken.sizes[0]!.modes[0]!.balance.maxOverMean = Number.NaN;
  for (const [name, render] of RENDERERS) t.false(render(broken).includes('NaN'), name);
});

test('one document gives one text, whoever renders it', (t) => {
  for (const [name, render] of RENDERERS) t.is(render(sampleResult()), render(sampleResult()), name);
});

/** One mode, short distributions: few enough leaves to change each of them. */
function smallResult(): ResultDocument {
  const result = singleSizeResult();
  const size = result.sizes[0]!;
  const mode = size.modes[0]!;
  const small: ModeResult = {
    ...mode,
    lookup: { ...mode.lookup, first: short(mode.lookup.first), established: short(mode.lookup.established) },
    connectLatency: short(mode.connectLatency),
    programmingLatency: short(mode.programmingLatency),
    sync: {
      ...mode.sync,
      full: { ...mode.sync.full, duration: short(mode.sync.full.duration) },
      partial: { ...mode.sync.partial, duration: short(mode.sync.partial.duration) },
    },
    timeline: mode.timeline.slice(6, 8),
  };
  return { ...result, sizes: [{ ...size, modes: [small] }] };
}

/** Only the first two buckets. */
function short(distribution: Distribution): Distribution {
  return { ...distribution, buckets: distribution.buckets.slice(0, 2) };
}

/** All modes fine, nothing happened. */
function quietResult(): ResultDocument {
  const result = sampleResult();
  for (const size of result.sizes) {
    for (const mode of size.modes) {
      mode.outcome = { kind: 'ok' };
      mode.lookup = { first: emptyDistribution(), established: emptyDistribution(), operations: [] };
      mode.connectLatency = emptyDistribution();
      mode.programmingLatency = emptyDistribution();
      mode.sync.full = { count: 0, duration: emptyDistribution() };
      mode.sync.partial = { count: 0, duration: emptyDistribution() };
      mode.cpu = { dataplaneCores: 0, stackCores: 0, controlCores: 0, dataplaneNsPerConnection: 0 };
      mode.connections = {
        attempted: 0,
        ok: 0,
        refused: 0,
        timedOut: 0,
        broken: 0,
        unfinished: 0,
        sentToDeadEndpoint: 0,
      };
      mode.memoryBytes = 0;
      mode.timeline = [];
    }
  }
  return result;
}

interface Leaf {
  readonly path: readonly string[];
  readonly value: unknown;
}

function leavesOf(value: unknown, path: readonly string[] = []): readonly Leaf[] {
  if (typeof value !== 'object' || value === null) return [{ path, value }];
  return Object.entries(value).flatMap(([key, member]) => leavesOf(member, [...path, key]));
}

function setLeaf(root: unknown, path: readonly string[], to?: unknown): void {
  let at = root as Record<string, unknown>;
  for (const key of path.slice(0, -1)) at = at[key] as Record<string, unknown>;
  const last = path.at(-1)!;
  const old = at[last];
  at[last] = to ?? (typeof old === 'number' ? old + 1 : typeof old === 'boolean' ? !old : `${String(old)}x`);
}

/** Every text of the document replaced, but for the words that the schema fixes. */
function withText(result: ResultDocument, text: string): ResultDocument {
  const replaced = (value: unknown, key: string): unknown => {
    if (typeof value === 'string') return key === 'kind' || key === 'schema' ? value : text;
    if (Array.isArray(value)) return value.map((item) => replaced(item, key));
    if (typeof value !== 'object' || value === null) return value;
    return Object.fromEntries(Object.entries(value).map(([name, member]) => [name, replaced(member, name)]));
  };
  const changed = replaced(result, '') as ResultDocument;
  const option = { [text]: text };
  for (const mode of changed.sizes.flatMap((size) => size.modes)) mode.options = option;
  return { ...changed, tool: result.tool, scenario: option };
}

/** RFC 4180, as a reader would parse it. */
function parseCsv(text: string): readonly (readonly string[])[] {
  const rows: string[][] = [];
  let row: string[] = [];
  for (const [, quoted, plain, end] of text.matchAll(/(?:"((?:[^"]|"")*)"|([^",\r\n]*))(,|\r\n)/g)) {
    row.push(quoted === undefined ? plain! : quoted.replaceAll('""', '"'));
    if (end === ',') continue;
    rows.push(row);
    row = [];
  }
  return rows;
}

/** Figures by size, metric and mode, as the eye finds them. */
type Figures = readonly (readonly (readonly string[])[])[];

function tableRows(result: ResultDocument): Figures {
  const text = renderTable(result, { colour: false, width: 200 }).split('\nGrowth')[0]!;
  return text
    .split('\nOutcome')
    .slice(1)
    .map((block) => {
      const rows = block.split('\n').filter((line) => /^ {2}\S.* {2,}\S/.test(line));
      return rows.map((line) =>
        line
          .trim()
          .split(/ {2,}/)
          .slice(1)
          .map((cell) => cell.replace(/\*$/, '')),
      );
    });
}

function markdownRows(result: ResultDocument): Figures {
  return renderMarkdown(result)
    .split('| **Outcome** |')
    .slice(1)
    .map((block) => {
      const rows = block.split('\n\n')[0]!.split('\n').slice(1);
      return rows.map((line) =>
        line
          .split(' | ')
          .slice(1)
          .map((cell) => cell.replaceAll(/\*\*| \|$/g, '')),
      );
    });
}

function htmlRows(result: ResultDocument): Figures {
  const tables = renderHtml(result).split('<th scope="row">Outcome</th>').slice(1);
  const figures = tables.map((table) => {
    const rows = table.split('</table>')[0]!.split('<tr><th scope="row">').slice(1);
    return rows.map((row) => [...row.matchAll(/<td[^>]*>([^<]*)<\/td>/g)].map(([, cell]) => cell!));
  });
  // The page shows the largest size that works first.
  return [...figures.slice(1), figures[0]!];
}

/** The first thing wrong with a page as XML, or nothing. */
function markupError(page: string): string | undefined {
  const open: string[] = [];
  const [text, ...rest] = page
    .replace('<!DOCTYPE html>', '')
    .replace(/<style>.*?<\/style>/s, '')
    .split('<');
  if (text!.trim() !== '') return `text before the first tag: ${text!}`;
  for (const piece of rest) {
    const tag = /^(\/?)([a-zA-Z][\w-]*)(?:\s+[\w:-]+="[^"]*")*\s*(\/?)>(.*)$/s.exec(piece);
    if (tag === null) return `not a tag: <${piece}`;
    const [, closing, name, empty] = tag;
    if (/&(?!(?:amp|lt|gt|quot|#39);)|>/.test(piece.replace('>', ''))) return `bare & or > in ${piece}`;
    if (closing === '/' && open.pop() !== name) return `</${name!}> does not match`;
    if (closing === '' && empty === '') open.push(name!);
  }
  return open.length === 0 ? undefined : `open: ${open.join(' ')}`;
}
