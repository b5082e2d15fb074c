import { Streams } from '@vipsim/sim-core';
import { ipvsKernel as ipvs } from '@vipsim/proxiers';
import { escapeTerminal } from '../report/index.ts';
import { seriesPort, shareLines } from './flow-shares.ts';
import { familyOf, parseRulesPacket } from './packet.ts';
import type { RulesTraceFlags } from './rules-trace.ts';

/** Between packets of a series: each is a flow of its own. */
const GAP_NS = 1_000_000;

/** Whether a text is one of `ipvsadm -Sn`, by the name of its file or by how it begins. */
export function isIpvsadmSave(text: string, file: string): boolean {
  return file.endsWith('.ipvs') || /^\s*(-A|--add-service)\s+(-[tuf]|--\w+-service)\s/.test(text);
}

/** One packet at the virtual servers of a file, or where many of them go. Lines without line ends. */
export function* ipvsTrace(text: string, flags: RulesTraceFlags): Generator<string> {
  const services = ipvs.readIpvsadmSave(text, flags.rules);
  const family = familyOf(flags.packet);
  const streams = new Streams(flags.seed ?? '0');
  const table = new ipvs.RestoredTable(services, family, streams.stream('ipvs.twos'));
  const packet = parseRulesPacket(flags.packet, {
    isOwn: nowhere,
    isPod: nowhere,
    from: undefined,
    inLink: undefined,
  });
  if (flags.count === 1) {
    yield escapeTerminal(`${flags.rules}: ${flags.packet.trim()}${markText(flags.mark)}`);
    yield '';
    for (const line of walkLines(table.send(packet, 0, flags.mark))) yield escapeTerminal(line);
    return;
  }
  const counts = new Map<string, number>();
  for (let i = 0; i < flags.count; i++) {
    const sourcePort = seriesPort(packet.sourcePort, i);
    const name = placeName(table.send({ ...packet, sourcePort }, i * GAP_NS, flags.mark));
    counts.set(name, (counts.get(name) ?? 0) + 1);
  }
  yield escapeTerminal(
    `${flags.rules}: ${flags.count} flows of ${flags.packet.trim()}${markText(flags.mark)}`,
  );
  yield '';
  yield* shareLines(counts, flags.count);
}

function nowhere(): boolean {
  return false;
}

function* walkLines(sent: ipvs.Scheduled): Generator<string> {
  if (sent.fate === 'dropped') {
    yield 'dropped';
    return;
  }
  const { bucket, lookups, compared } = sent.search;
  const searches = lookups === 1 ? 'one search' : `${lookups} searches`;
  const search = `${searches}, ${compared} compared; bucket ${bucket} of 256`;
  if (sent.fate === 'passed') {
    yield `  virtual server  none: ${search}`;
    yield '';
    yield 'not for IPVS: it goes on to the node itself';
    return;
  }
  const { service, steps } = sent;
  const flags = service.flags === '' ? '' : ` (${service.flags})`;
  const persistence = service.persistentS === 0 ? '' : `, persistent for ${service.persistentS} s`;
  yield `  virtual server  ${ipvs.selectorText(service)}: ${service.mark === 0 ? search : 'by mark'}`;
  yield `  scheduler       ${service.scheduler}${flags}${persistence}: ${steps} looked at, ${service.servers.length} servers`;
  if (sent.fate === 'refused') {
    yield '';
    yield 'refused: no server to choose, the sender gets ICMP port unreachable';
    return;
  }
  const { server, place } = sent;
  yield `  real server     ${ipvs.placeText(server)}, weight ${server.weight}`;
  yield '';
  yield `${FORWARDS[server.forward]} ${ipvs.placeText(place)}`;
}

const FORWARDS: Readonly<Record<ipvs.Forward, string>> = {
  Masq: 'sent, its destination translated, to',
  Tunnel: 'sent as it is through a tunnel to',
  Route: 'sent as it is by the route to',
  Local: 'taken by the node itself as',
};

function placeName(sent: ipvs.Scheduled): string {
  if (sent.fate === 'sent') return ipvs.placeText(sent.place);
  return sent.fate === 'passed' ? 'not for IPVS' : sent.fate;
}

function markText(mark: number): string {
  return mark === 0 ? '' : `, mark ${mark}`;
}
