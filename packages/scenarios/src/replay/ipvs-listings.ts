import { IPV4 } from '@vipsim/sim-core';
import { ipvsKernel } from '@vipsim/proxiers';
import type { Score } from './score.ts';

type Director = InstanceType<typeof ipvsKernel.Director>;

/** Recorded times are milliseconds, ticks are ten: listed seconds may differ by one, and by one for the order. */
const SECONDS_OFF_MAX = 2;

export function isListing(op: string): boolean {
  return op.startsWith('ipvsadm-');
}

/**
 * Hold a listing of virtual and real servers against ours, the director's `services`, line by line: what is configured, and apart from it
 * what was counted. Says whether it is one that we have.
 */
export function compareListing(
  services: readonly ipvsKernel.ListedService[],
  director: Director,
  op: string,
  text: string,
  score: Score,
): boolean {
  const theirs = linesOf(text);
  const ours = oursFor(services, director, op, theirs);
  if (ours === undefined) return false;
  for (let i = 0; i < Math.max(ours.length, theirs.length); i++) {
    const recorded = splitCounters(op, theirs[i] ?? 'nothing');
    const own = splitCounters(op, ours[i] ?? 'nothing');
    score.compare('rows', `line ${i + 1}`, recorded.text, own.text);
    if (recorded.counters !== '') {
      score.compare('counters', `counters of ${recorded.text}`, recorded.counters, own.counters);
    }
  }
  return true;
}

/** `ipvsadm -Lnc` in no order: entries, their states, and the seconds left within two. */
export function compareConnections(director: Director, text: string, nowNs: number, score: Score): void {
  const listed = ipvsKernel.connectionList(ipvsKernel.listedConnections(director, nowNs));
  const ours = byEntry([...listed]);
  const theirs = byEntry(linesOf(text));
  for (const [entry, recorded] of theirs) {
    const own = ours.get(entry) ?? [];
    recorded.forEach(({ state, seconds }, i) => {
      score.compare('states', entry, state, own[i]?.state ?? 'not listed');
      const left = own[i]?.seconds ?? NaN;
      const shown = Math.abs(left - seconds) <= SECONDS_OFF_MAX ? seconds : left;
      if (own[i] !== undefined) score.compare('timers', entry, `${seconds} s`, `${shown} s`);
    });
  }
  const others = [...ours].filter(([entry, own]) => own.length > (theirs.get(entry)?.length ?? 0));
  score.compare('states', 'other entries', '', others.map(([entry]) => entry).join('; '));
}

function oursFor(
  services: readonly ipvsKernel.ListedService[],
  director: Director,
  op: string,
  theirs: readonly string[],
): readonly string[] | undefined {
  const { buckets } = director.connections;
  switch (op) {
    case 'ipvsadm-Ln':
      return [...ipvsKernel.serviceList(services, buckets)];
    case 'ipvsadm-Ln-nosort':
      return [...ipvsKernel.serviceList(unsorted(services, director, theirs), buckets)];
    case 'ipvsadm-Ln-persistent':
      return [...ipvsKernel.persistentList(services, buckets)];
    case 'ipvsadm-Ln-thresholds':
      return [...ipvsKernel.thresholdList(services, buckets)];
    case 'ipvsadm-Sn':
      return [...ipvsKernel.savedLines(services)];
    default:
      return undefined;
  }
}

/**
 * As the kernel keeps it: real servers the newest first. Virtual servers come by hash chain, which depends on where
 * the kernel's records lie; they are taken in the order of `theirs`.
 */
function* unsorted(
  services: readonly ipvsKernel.ListedService[],
  director: Director,
  theirs: readonly string[],
): Generator<ipvsKernel.ListedService> {
  const places = new Map(theirs.map((line, i) => [line.split(' ').slice(0, 3).join(' '), i]));
  const placed = services.map((service) => {
    const [, , , line] = ipvsKernel.serviceList([service], 0);
    return { service, at: places.get(line!.split(' ').slice(0, 3).join(' ')) ?? Infinity };
  });
  placed.sort((a, b) => a.at - b.at);
  for (const { service } of placed) {
    const order = listOrder(director, service);
    const position = (server: ipvsKernel.ListedServer): number => order.indexOf(ipvsKernel.placeText(server));
    yield { ...service, servers: [...service.servers].sort((a, b) => position(a) - position(b)) };
  }
}

function listOrder({ services, servers, options }: Director, listed: ipvsKernel.ListedService): string[] {
  const family = options.family ?? IPV4;
  const address = family.parse(ipvsKernel.placeText(listed).replaceAll(/:\d+$|[[\]]/g, ''))!;
  const service =
    listed.mark === 0 ? services.find(listed.protocol, address, listed.port) : services.findMark(listed.mark);
  const names: string[] = [];
  for (let at = services.head[service]!; at >= 0; at = servers.next[at]!) {
    names.push(family.hostPort(servers.address[at]!, servers.port[at]!));
  }
  return names;
}

interface Entry {
  readonly state: string;
  readonly seconds: number;
}

/** Protocol, source, virtual address and destination tell entries apart; invalid templates may be alike. */
function byEntry(lines: readonly string[]): Map<string, Entry[]> {
  const entries = new Map<string, Entry[]>();
  for (const line of lines) {
    const match = /^(\S+) +(\d+):(\d+) +(\S+) +(\S+) +(\S+) +(\S+)$/.exec(line.trim());
    if (match === null) continue;
    const [, protocol, minutes, seconds, state, source, virtual, destination] = match;
    const entry = `${protocol} ${source} ${virtual} ${destination}`;
    const known = entries.get(entry) ?? [];
    entries.set(entry, known);
    known.push({ state: state!, seconds: Number(minutes) * 60 + Number(seconds) });
    known.sort((a, b) => a.seconds - b.seconds);
  }
  return entries;
}

function linesOf(text: string): readonly string[] {
  return text.split('\n').filter((line) => line.trim() !== '');
}

/** The last figures of a server's line are counters: two of active and inactive, three with templates. */
function splitCounters(op: string, line: string): { readonly text: string; readonly counters: string } {
  const figures = op === 'ipvsadm-Ln-persistent' ? 3 : 2;
  const match = new RegExp(`^(  -> .*?)((?: +\\d+){${figures}} *)$`).exec(line);
  if (op === 'ipvsadm-Sn' || match === null) return { text: line, counters: '' };
  return { text: match[1]!.trimEnd(), counters: match[2]! };
}
