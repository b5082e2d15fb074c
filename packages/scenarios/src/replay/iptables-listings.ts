import { xtables } from '@vipsim/proxiers';
import { TCP, UDP } from '@vipsim/sim-core';
import { textOf, type Recording, type Step } from './recording.ts';
import type { Score } from './score.ts';

/** Recorded times are milliseconds, ticks are four: a tick either side, and one for the order of reading. */
const TICKS_OFF_MAX = 2;
const SECONDS_OFF_MAX = 2;
const S = 1_000_000_000;

/** Hold a table's save text against ours, line by line: what rules say, and apart from it what they counted. */
export function compareSave(rules: xtables.Ruleset, step: Step, recording: Recording, score: Score): void {
  const counters = step['counters'] === true;
  const name = textOf(step, 'table', recording);
  const table = rules.tables.get(name);
  const ours = table === undefined ? [] : [...xtables.tableLines(table, { counters })];
  const theirs = textOf(step, 'text', recording)
    .split('\n')
    .filter((line) => line !== '' && !line.startsWith('#'));
  for (let i = 0; i < Math.max(ours.length, theirs.length); i++) {
    const recorded = splitCounters(theirs[i] ?? 'nothing');
    const own = splitCounters(ours[i] ?? 'nothing');
    score.compare('rows', `line ${i + 1} of table ${name}`, recorded.text, own.text);
    if (recorded.counters !== '') {
      score.compare('counters', `counters of ${recorded.text}`, recorded.counters, own.counters);
    }
  }
}

/** `[packets:bytes]` at the beginning of a rule or the end of a chain's line. */
function splitCounters(line: string): { readonly text: string; readonly counters: string } {
  const match = /^\[(\d+:\d+)\] (.*)$/.exec(line);
  if (match) return { text: match[2]!, counters: match[1]! };
  const chain = /^(:\S+ \S+) \[(\d+:\d+)\]$/.exec(line);
  return chain ? { text: chain[1]!, counters: chain[2]! } : { text: line, counters: '' };
}

/**
 * Lists of xt_recent as /proc shows them, in no order: each address with its stamps. Ticks are the kernel's own;
 * the first that is met sets our clock by it, all others must then fit.
 */
export function compareLists(
  rules: xtables.Ruleset,
  tables: Readonly<Record<string, unknown>>,
  clock: { base: number | undefined },
  score: Score,
): void {
  const names = Object.keys(tables).sort();
  score.compare('states', 'lists', names.join(' '), [...rules.recent.names()].sort().join(' '));
  for (const name of names) {
    if (!rules.recent.names().includes(name)) continue;
    const entries = rules.recent.get(name).entries();
    const ours = new Map(entries.map((entry) => [xtables.formatAddress(entry.address), entry]));
    const seen = new Set<string>();
    for (const line of String(tables[name]).split('\n')) {
      const match = /^src=(\S+) ttl: \d+ last_seen: (\d+) oldest_pkt: (\d+)(.*)$/.exec(line);
      if (!match) continue;
      const [, address, last, index, stamps] = match;
      seen.add(address!);
      const entry = ours.get(address!);
      const recorded = `${stamps!.split(',').length} stamps, the next at ${index}, last ${last}`;
      score.compare('states', `${address} in ${name}`, recorded, entryText(entry, Number(last), clock));
    }
    const left = [...ours.keys()].filter((address) => !seen.has(address));
    score.compare('states', `other addresses in ${name}`, '', left.join(' '));
  }
}

function entryText(
  entry: xtables.RecentEntry | undefined,
  recordedLast: number,
  clock: { base: number | undefined },
): string {
  if (entry === undefined) return 'not listed';
  const last = entry.stamps[entry.index - 1]!;
  clock.base ??= recordedLast - last;
  const inTicks = last + clock.base;
  const shown = Math.abs(inTicks - recordedLast) <= TICKS_OFF_MAX ? recordedLast : inTicks;
  return `${entry.stamps.length} stamps, the next at ${entry.index}, last ${shown}`;
}

/** `conntrack -L`, in no order: protocol, state, both tuples, ASSURED, and the seconds left within two. */
export function compareConntrack(
  flows: readonly xtables.Flow[],
  text: string,
  nowNs: number,
  score: Score,
): void {
  const ours = new Map(flows.map((flow) => [`${protocolName(flow)} ${xtables.flowText(flow)}`, flow]));
  const seen = new Set<string>();
  for (const line of text.split('\n')) {
    const match = /^(tcp|udp)\s+\d+ (\d+) (?:([A-Z]\w+) )?(src=.*)$/.exec(line);
    if (!match) continue;
    const [, protocol, seconds, state, rest] = match;
    const tuples = rest!.replaceAll(/ (\[\w+\]|mark=\d+|use=\d+)/g, '');
    const key = `${protocol} ${tuples}`;
    seen.add(key);
    const flags = (rest!.match(/\[\w+\]/g) ?? []).join('');
    const recorded = `${state ?? ''} ${flags} ${seconds} s`;
    score.compare('states', key, recorded, flowState(ours.get(key), Number(seconds), nowNs));
  }
  const left = [...ours.keys()].filter((key) => !seen.has(key));
  score.compare('states', 'other connections', '', left.join('; '));
}

function flowState(flow: xtables.Flow | undefined, recordedSeconds: number, nowNs: number): string {
  if (flow === undefined) return 'not listed';
  const flags = (flow.replySeen ? '' : '[UNREPLIED]') + (flow.assured ? '[ASSURED]' : '');
  const left = Math.floor((flow.untilNs - nowNs) / S);
  const shown = Math.abs(left - recordedSeconds) <= SECONDS_OFF_MAX ? recordedSeconds : left;
  return `${flow.state} ${flags} ${shown} s`;
}

function protocolName(flow: xtables.Flow): string {
  return flow.protocol === TCP ? 'tcp' : flow.protocol === UDP ? 'udp' : String(flow.protocol);
}

/** The probabilities of a chain's statistic rules as iptables-save shows them, in the order of the rules. */
export function probabilitiesIn(rules: xtables.Ruleset): string[] {
  const table = rules.tables.get('nat');
  if (table === undefined) return [];
  return [...xtables.tableLines(table, { counters: false })].flatMap(
    (line) => / --probability (\S+)/.exec(line)?.[1] ?? [],
  );
}
