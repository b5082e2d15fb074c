import { Streams } from '@vipsim/sim-core';
import { nfTables, xtables } from '@vipsim/proxiers';
import { escapeTerminal } from '../report/index.ts';
import { seriesPort, shareLines } from './flow-shares.ts';
import { parseRulesPacket, type RulesPlace } from './packet.ts';
import type { RulesTraceFlags } from './rules-trace.ts';
import { foldedRuns } from './trace-steps.ts';
import { UsageError } from './usage-error.ts';

/** What a trace of nft rules is told besides its flags. */
export interface NftTracePlace {
  readonly facts: nfTables.NodeFacts;
  readonly family: xtables.Family;
  readonly packet: Omit<RulesPlace, 'isOwn'>;
  originName(packet: nfTables.NftPacket): string;
  verdictText(outcome: nfTables.NftOutcome): string;
  destinationText(outcome: nfTables.NftOutcome): string;
}

/** Between flows of a series: when the last source port has been used, the first flow's entry is long gone. */
const GAP_NS = 2_000_000;

/** Whether a text is one for `nft -f`, or a listing, by the name of its file or by how it begins. */
export function isNftRules(text: string, file: string): boolean {
  if (file.endsWith('.nft')) return true;
  const first = /^(?:\s*#.*\n|\s*\n)*\s*(\S.*)/.exec(text)?.[1] ?? '';
  return (
    /^#!.*\bnft\b/.test(text) ||
    /^(table|add|create|delete|destroy|insert|replace|flush)\s+(table|chain|rule|set|map|element|ruleset|ip|ip6|inet|\w+\s*\{)/.test(
      first,
    )
  );
}

/** One packet's way through the nft tables of a file, or where many of them go. Lines without line ends. */
export function* nftTrace(text: string, flags: RulesTraceFlags, place: NftTracePlace): Generator<string> {
  const { facts, family } = place;
  const rules = new nfTables.NftRuleset();
  rules.apply(text, flags.rules);
  if (rules.tables.size === 0) {
    throw new UsageError(
      `${flags.rules}: holds no table; wanted what nft list ruleset prints, or nft -f reads`,
    );
  }
  const node = new nfTables.NftNode({ rules, family, facts, streams: new Streams(flags.seed ?? '0') });
  const packet = parseRulesPacket(flags.packet, {
    ...place.packet,
    isOwn: (address) => node.isLocal(address),
  });
  const flows = flags.count === 1 ? '' : `${flags.count} flows of `;
  yield escapeTerminal(`${flags.rules}: ${flows}${flags.packet.trim()}, from ${place.originName(packet)}`);
  yield '';
  if (flags.count === 1) yield* walkLines(node, packet, place);
  else yield* countLines(node, packet, flags.count, place);
}

function* walkLines(
  node: nfTables.NftNode,
  packet: nfTables.NftPacket,
  place: NftTracePlace,
): Generator<string> {
  const record = new nfTables.WalkRecord(node.rules, node.registers);
  node.recorder = record;
  const outcome = node.send(packet, 0);
  for (const run of foldedRuns(record.steps, placeOf)) {
    if (typeof run === 'number') yield `    … and ${run} more rules here`;
    else for (const line of stepText(run)) yield escapeTerminal(line);
  }
  if (record.steps.length > 0) yield '';
  yield escapeTerminal(countText(node));
  yield escapeTerminal(place.verdictText(outcome));
}

/** Rules of a chain that follow each other are one run; anything else stands alone. */
function placeOf(step: nfTables.WalkStep, index: number): string {
  return step.kind === 'rule' ? step.where : `${index}`;
}

function* stepText(step: nfTables.WalkStep): Generator<string> {
  if (step.kind === 'enter') {
    yield `${step.where}: ${step.text}`;
  } else if (step.kind === 'rule') {
    const chain = step.where.replace(/^\S+ \S+ /, '');
    yield `  ${chain}, rule ${step.index} of ${step.rules}: ${step.text}`;
    const width = step.expressions.reduce((widest, { text }) => Math.max(widest, text.length), 0);
    for (const { text, value } of step.expressions) {
      yield `      [ ${text} ]${value === '' ? '' : `${' '.repeat(width - text.length)}  ${value}`}`;
    }
    if (step.verdict !== '') yield `    ${step.verdict}`;
  } else yield `  ${step.kind === 'event' ? `${step.where}: ` : ''}${step.text}`;
}

function countText(node: nfTables.NftNode): string {
  const { counts } = node;
  const rules = counts[nfTables.RULES_ENTERED]!;
  const lookups = counts[nfTables.LOOKUPS]!;
  const expressions = counts.subarray(0, nfTables.RULES_ENTERED).reduce((sum, count) => sum + count, 0);
  return `${expressions} expressions in ${rules} rules, ${lookups} set lookups`;
}

function* countLines(
  node: nfTables.NftNode,
  packet: nfTables.NftPacket,
  count: number,
  place: NftTracePlace,
): Generator<string> {
  const counts = new Map<string, number>();
  for (let i = 0; i < count; i++) {
    const sourcePort = seriesPort(packet.sourcePort, i);
    const name = place.destinationText(node.send({ ...packet, sourcePort }, i * GAP_NS));
    counts.set(name, (counts.get(name) ?? 0) + 1);
  }
  yield* shareLines(counts, count);
}
