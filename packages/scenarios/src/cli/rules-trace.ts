import { FROM_HOST, FROM_OUTSIDE, FROM_POD, Streams, type Origin } from '@vipsim/sim-core';
import { xtables } from '@vipsim/proxiers';
import { escapeTerminal } from '../report/index.ts';
import { readInput } from './files.ts';
import { seriesPort, shareLines } from './flow-shares.ts';
import { ipvsTrace, isIpvsadmSave } from './ipvs-trace.ts';
import { isNftRules, nftTrace } from './nft-trace.ts';
import { familyOf, parseRulesPacket } from './packet.ts';
import { stepLines } from './trace-steps.ts';
import { UsageError } from './usage-error.ts';

export interface RulesTraceFlags {
  readonly rules: string;
  readonly packet: string;
  readonly seed?: string;
  readonly nodeAddress: readonly string[];
  readonly podNetwork?: string;
  readonly podLink: string;
  readonly outsideLink: string;
  readonly inLink?: string;
  readonly from?: string;
  readonly unknown: string;
  readonly backend: string;
  readonly mark: number;
  readonly count: number;
}

const ORIGINS: Readonly<Record<string, Origin>> = {
  pod: FROM_POD,
  host: FROM_HOST,
  outside: FROM_OUTSIDE,
};

export const ORIGIN_NAMES = Object.keys(ORIGINS);

const HZ = 250;
/** The node's address where none is given: one of those kept for documentation (RFC 5737, RFC 3849). */
const STAND_IN = { 4: '192.0.2.1', 6: '2001:db8::1' } as const;
/** Between flows of a series: when the last source port has been used, the first flow's entry is long gone. */
const GAP_NS = 2_000_000;

/**
 * One packet's way through the rules of a file, of iptables-save, nft or ipvsadm -Sn, or where many of them go. Lines
 * without line ends.
 */
export function* rulesTrace(flags: RulesTraceFlags): Generator<string> {
  const text = readInput(flags.rules).toString('utf8');
  if (isIpvsadmSave(text, flags.rules)) {
    yield* ipvsTrace(text, flags);
    return;
  }
  if (flags.mark !== 0) throw new UsageError('--mark is for an ipvsadm -Sn text; rules set marks themselves');
  const family = familyOf(flags.packet);
  const facts = factsOf(flags, family);
  const place = {
    isPod: (address: xtables.Address) =>
      facts.podNetwork !== undefined && xtables.isInside(facts.podNetwork, address),
    from: flags.from === undefined ? undefined : ORIGINS[flags.from],
    inLink: flags.inLink,
  };
  if (isNftRules(text, flags.rules)) {
    yield* nftTrace(text, flags, { facts, family, packet: place, originName, verdictText, destinationText });
    return;
  }
  const rules = xtables.readRuleset(text, flags.rules, family);
  if (rules.tables.size === 0) {
    throw new UsageError(
      `${flags.rules}: holds no table; wanted what iptables-save, nft list ruleset or ipvsadm -Sn print`,
    );
  }
  yield* unknownLines(rules, flags);
  const backend = flags.backend === 'legacy' ? 'legacy' : 'nft';
  const node = new xtables.XtNode({ rules, facts, backend, streams: new Streams(flags.seed ?? '0'), hz: HZ });
  const packet = parseRulesPacket(flags.packet, { ...place, isOwn: (address) => node.isLocal(address) });
  if (flags.count === 1) yield* walkLines(node, packet, flags);
  else yield* countLines(node, packet, flags);
}

function* walkLines(
  node: xtables.XtNode,
  packet: xtables.XtPacket,
  flags: RulesTraceFlags,
): Generator<string> {
  const steps: { readonly where: string; readonly what: string }[] = [];
  node.recorder = { step: (where, what) => steps.push({ where, what }) };
  const outcome = node.send(packet, 0);
  yield escapeTerminal(`${flags.rules}: ${flags.packet.trim()}, from ${originName(packet)}`);
  yield '';
  yield* stepLines(steps);
  if (steps.length === 0) yield '  no rule matched';
  yield '';
  yield verdictText(outcome);
}

function* countLines(
  node: xtables.XtNode,
  packet: xtables.XtPacket,
  flags: RulesTraceFlags,
): Generator<string> {
  const counts = new Map<string, number>();
  for (let i = 0; i < flags.count; i++) {
    const sourcePort = seriesPort(packet.sourcePort, i);
    const outcome = node.send({ ...packet, sourcePort }, i * GAP_NS);
    const name = destinationText(outcome);
    counts.set(name, (counts.get(name) ?? 0) + 1);
  }
  yield escapeTerminal(
    `${flags.rules}: ${flags.count} flows of ${flags.packet.trim()}, from ${originName(packet)}`,
  );
  yield '';
  yield* shareLines(counts, flags.count);
}

function* unknownLines(rules: xtables.Ruleset, flags: RulesTraceFlags): Generator<string> {
  const found = rules.unknown();
  if (found.length === 0) return;
  const lines = found.map(({ name, table, line }) => `line ${line} (${table}): ${name} is not modelled`);
  if (flags.unknown === 'refuse') {
    throw new UsageError(
      `${flags.rules}: ${lines.join('; ')}; --unknown skip walks on as if these rules never matched`,
    );
  }
  for (const line of lines) yield escapeTerminal(`${flags.rules}, ${line}: taken not to match`);
  yield '';
}

/** Of either kind of rules. */
type Outcome = Omit<xtables.XtOutcome, 'first'>;

function verdictText({ fate, where, answer, masqueraded, leaves }: Outcome): string {
  if (fate === 'drop') return `dropped in ${where}`;
  if (fate === 'reject') return `rejected in ${where}: the sender gets ${answerText(answer)}`;
  const masquerade = masqueraded ? ', its source translated' : '';
  return `accepted as ${socket(leaves.source, leaves.sourcePort)} > ${socket(leaves.destination, leaves.destinationPort)}${masquerade}`;
}

function answerText(answer: string): string {
  return answer === 'tcp-reset'
    ? 'a TCP reset'
    : `ICMP ${answer.replace(/^icmp6?-/, '').replaceAll('-', ' ')}`;
}

function destinationText({ fate, where, leaves }: Outcome): string {
  if (fate !== 'accept') return `${fate === 'drop' ? 'dropped' : 'rejected'} in ${where}`;
  return socket(leaves.destination, leaves.destinationPort);
}

function socket(address: xtables.Address, port: number): string {
  const text = xtables.formatAddress(address);
  return address.length === 1 ? `${text}:${port}` : `[${text}]:${port}`;
}

function originName({ origin }: Pick<xtables.XtPacket, 'origin'>): string {
  return ORIGIN_NAMES.find((name) => ORIGINS[name] === origin)!;
}

function factsOf(flags: RulesTraceFlags, family: xtables.Family): xtables.NodeFacts {
  const addresses = flags.nodeAddress
    .filter((text) => text.includes(':') === (family === 6))
    .map((text) => {
      const address = xtables.parseAddress(text, family);
      if (address === undefined) throw new UsageError(`--node-address ${text}: not an IPv${family} address`);
      return address;
    });
  if (addresses.length === 0) {
    const standIn = STAND_IN[family];
    process.stderr.write(
      `vipsim: no --node-address: ${standIn} stands for the node, so rules about its own addresses see the loopback only\n`,
    );
    addresses.push(xtables.parseAddress(standIn, family)!);
  }
  const { podLink, outsideLink, podNetwork } = flags;
  if (podNetwork === undefined) return { addresses, podLink, outsideLink };
  const network = xtables.parseNetwork(podNetwork, family);
  if (network === undefined) {
    throw new UsageError(`--pod-network ${podNetwork}: not an IPv${family} network such as 10.244.0.0/24`);
  }
  return { addresses, podNetwork: network, podLink, outsideLink };
}
