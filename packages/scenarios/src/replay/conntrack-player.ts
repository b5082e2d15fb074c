import {
  ACK,
  ConntrackTable,
  IPV4,
  ORIGINAL,
  Packet,
  REPLY,
  RST,
  SYN,
  Streams,
  TCP,
  TCP_STATE_NAMES,
  TCP_TIMEOUTS_S,
  UDP,
} from '@vipsim/sim-core';
import type { Player } from './player.ts';
import { recordOf, textOf, wrong, type Recording, type Step } from './recording.ts';
import type { Score } from './score.ts';

const SECOND = 1_000_000_000;
const SECONDS_OFF_MAX = 2;
/** Chains that early drop looks at for a victim. */
const EARLY_DROP_CHAINS = 8;
/** A victim is a matter of chance where the chains that are looked at hold more than one entry in so many. */
const UNLIKELY = 100;
const KERNEL = { buckets: 262_144, max: 262_144, tcpEstablishedTimeoutS: 432_000, tcpCloseWaitTimeoutS: 60 };

const OPS = new Set([
  'apply',
  'close',
  'connect',
  'conntrack-D',
  'conntrack-L',
  'conntrack-S',
  'count',
  'data',
  'local-udp',
  'nf_conntrack_max',
  'nf_conntrack_max-write',
  'sleep',
  'sysctls',
  'udp-request-reply',
]);

/** Recordings of connection tracking: its table is held against them; which endpoint rules choose is taken from them. */
export const conntrackPlayer: Player = {
  name: 'conntrack',
  plays: ({ steps }) =>
    steps.some((step) => step.op === 'apply' && typeof step['text'] === 'string') &&
    steps.some(({ op }) => op.includes('conntrack') || op === 'sysctls') &&
    steps.every(({ op }) => OPS.has(op)),
  play: (recording, score, seed) => {
    const stage = new ConntrackStage(recording, score, seed);
    recording.steps.forEach((step, i) => {
      score.at(i, step.op);
      stage.step(step);
    });
  },
};

class ConntrackStage {
  readonly #recording: Recording;
  readonly #score: Score;
  readonly #seed: string;
  readonly #packet = new Packet();
  /** Connections made, by their first packet. */
  readonly #steps = new Map<string, Step>();
  #options = KERNEL;
  #table: ConntrackTable;
  /** Why what follows cannot be told. */
  #unknown = '';

  constructor(recording: Recording, score: Score, seed: string) {
    this.#recording = recording;
    this.#score = score;
    this.#seed = seed;
    this.#table = this.#newTable();
  }

  step(step: Step): void {
    const nowNs = Math.round(step.t * SECOND);
    if (step.op === 'sysctls') this.#sysctls(recordOf(step, 'values', this.#recording));
    else if (step.op === 'nf_conntrack_max') this.#limit(step);
    else if (this.#unknown !== '' && step.op !== 'sleep') this.#score.skip(this.#unknown);
    else if (step.op === 'connect') this.#connect(step, nowNs);
    else if (step.op === 'data') this.#data(step, nowNs);
    else if (step.op === 'udp-request-reply') this.#answered(step, nowNs);
    else if (step.op === 'count') this.#compare('counters', 'entries', String(step['n']), this.#table.count);
    else if (step.op === 'conntrack-L') this.#list(textOf(step, 'text', this.#recording), nowNs);
    else if (step.op === 'conntrack-D') this.#delete(step, nowNs);
    else if (step.op === 'conntrack-S') this.#statistics(textOf(step, 'text', this.#recording));
    else if (step.op !== 'apply' && step.op !== 'sleep') this.#score.skip();
  }

  #newTable(): ConntrackTable {
    return new ConntrackTable(new Streams(this.#seed).stream('replay.conntrack'), this.#options);
  }

  /** Texts are what was read, numbers what was written. */
  #sysctls(values: Readonly<Record<string, unknown>>): void {
    for (const [name, value] of Object.entries(values)) {
      const timeout = /^nf_conntrack_tcp_timeout_(\w+)$/.exec(name)?.[1]?.toUpperCase();
      const state = TCP_STATE_NAMES.findIndex((known) => known === timeout);
      if (typeof value === 'string') {
        if (state >= 0) this.#compare('states', name, value, TCP_TIMEOUTS_S[state]!);
      } else if (name === 'nf_conntrack_buckets') this.#reform({ buckets: Number(value) });
      else if (name === 'nf_conntrack_max' && typeof value === 'number') this.#reform({ max: value });
      else this.#unknown = `${name} cannot be set in the table`;
    }
  }

  /** The limit that the kernel had, and the one that it was given. */
  #limit({ before, now }: Step): void {
    if (typeof before === 'number') {
      this.#compare('states', 'nf_conntrack_max', String(before), this.#options.max);
    }
    if (typeof now === 'number') this.#reform({ max: now });
  }

  #reform(options: Partial<typeof KERNEL>): void {
    this.#options = { ...this.#options, ...options };
    if (this.#table.count > 0) this.#unknown = 'the table was given another size while in use';
    else this.#table = this.#newTable();
  }

  #connect(step: Step, nowNs: number): void {
    const what = `${textOf(step, 'src', this.#recording)} > ${textOf(step, 'vip', this.#recording)}`;
    const packet = this.#packetOf(step, step['proto'] === 'udp' ? 0 : SYN);
    const { count } = this.#table;
    const { max, buckets } = this.#options;
    if (count >= max && (EARLY_DROP_CHAINS * count) / buckets > 1 / UNLIKELY) {
      this.#unknown = 'who is dropped early depends on a hash key that the kernel draws at boot';
      this.#score.skip(this.#unknown);
      return;
    }
    this.#steps.set(what, step);
    const chosen = typeof step['chosen'] === 'string' ? step['chosen'] : undefined;
    const known = this.#table.find(packet, nowNs);
    if (known >= 0) {
      this.#table.track(known >> 1, known & 1, packet, nowNs);
      this.#compare('connects', what, chosen ?? 'nobody', this.#endpoint(known >> 1));
      return;
    }
    const entry = this.#table.allocate(packet, nowNs);
    this.#compare('connects', what, recordedEnd(step), entry < 0 ? 'dropped' : 'goes on');
    if (entry < 0) return;
    this.#table.track(entry, ORIGINAL, packet, nowNs);
    if (chosen !== undefined) this.#table.translateDestination(entry, ...this.#place(chosen));
    this.#table.confirm(entry);
    if (packet.protocol !== TCP) return;
    this.#follow(entry, REPLY, chosen === undefined ? RST | ACK : SYN | ACK, nowNs);
    if (chosen !== undefined) this.#follow(entry, ORIGINAL, ACK, nowNs);
  }

  #data(step: Step, nowNs: number): void {
    const known = this.#table.find(this.#packetOf(step, ACK), nowNs);
    this.#compare('data', `${String(step['src'])} is known`, String(step['delivered']), String(known >= 0));
    if (known >= 0) this.#follow(known >> 1, ORIGINAL, ACK, nowNs);
  }

  /** A request and its answer on the first connection. */
  #answered(step: Step, nowNs: number): void {
    const [first] = this.#steps.values();
    const known = first === undefined ? -1 : this.#table.find(this.#packetOf(first, 0), nowNs);
    this.#compare('data', 'the first connection is known', String(step['answered']), String(known >= 0));
    if (known < 0) return;
    this.#follow(known >> 1, ORIGINAL, 0, nowNs);
    this.#follow(known >> 1, REPLY, 0, nowNs);
  }

  #follow(entry: number, direction: number, flags: number, nowNs: number): void {
    this.#packet.protocol = this.#table.protocol(entry);
    this.#packet.flags = flags;
    this.#table.track(entry, direction, this.#packet, nowNs);
  }

  /** `conntrack -L` in no order: state, answered or not, assured or not, and the seconds left within two. */
  #list(text: string, nowNs: number): void {
    this.#table.expire(nowNs);
    const lines = text.split('\n').filter((line) => line.trim() !== '');
    this.#compare('counters', 'entries listed', String(lines.length), this.#table.count);
    for (const line of lines) {
      const match = /^(tcp|udp) +\d+ (\d+) (?:([A-Z]\w+) )?src=(\S+) dst=(\S+) sport=(\d+) dport=(\d+)/.exec(
        line,
      );
      if (match === null) throw wrong(this.#recording.file, 'steps', `conntrack -L has a line ${line}`);
      const [, proto, seconds, state, source, destination, from, to] = match;
      const key = { proto, src: `${source}:${from}`, vip: `${destination}:${to}` } as unknown as Step;
      const node = this.#table.find(this.#packetOf(key, 0), nowNs);
      const flags = (line.match(/\[\w+\]/g) ?? []).join('');
      const server = /src=\S+ .*src=(\S+) dst=\S+ sport=(\d+)/.exec(line)!;
      const recorded = `${state ?? ''} ${flags} ${server[1]}:${server[2]} ${seconds} s`;
      this.#compare(
        'states',
        `${proto} ${key['src']}`,
        recorded,
        this.#entryText(node, Number(seconds), nowNs),
      );
    }
  }

  #entryText(node: number, recordedSeconds: number, nowNs: number): string {
    if (node < 0) return 'not listed';
    const table = this.#table;
    const entry = node >> 1;
    const state = table.protocol(entry) === TCP ? TCP_STATE_NAMES[table.state(entry)]! : '';
    const flags = (table.answered(entry) ? '' : '[UNREPLIED]') + (table.assured(entry) ? '[ASSURED]' : '');
    const left = Math.floor((table.deadlineNs(entry) - nowNs) / SECOND);
    const shown = Math.abs(left - recordedSeconds) <= SECONDS_OFF_MAX ? recordedSeconds : left;
    return `${state} ${flags} ${this.#endpoint(entry)} ${shown} s`;
  }

  #delete(step: Step, nowNs: number): void {
    const args = /^-p (tcp|udp) --orig-dst (\S+) --dst-nat (\S+)$/.exec(
      textOf(step, 'args', this.#recording),
    );
    const deleted = /(\d+) flow entries have been deleted/.exec(String(step['err']))?.[1];
    if (args === null || deleted === undefined) {
      this.#unknown = 'after conntrack -D that is not replayed';
      this.#score.skip();
      return;
    }
    let own = 0;
    for (const made of this.#steps.values()) {
      const packet = this.#packetOf(made, 0);
      const node = this.#table.find(packet, nowNs);
      const wanted =
        node >= 0 &&
        packet.protocol === (args[1] === 'tcp' ? TCP : UDP) &&
        packet.destination === IPV4.parse(args[2]!) &&
        this.#table.source((node >> 1) * 2 + 1) === IPV4.parse(args[3]!);
      if (!wanted) continue;
      this.#table.remove(node >> 1);
      own++;
    }
    this.#compare('counters', 'entries deleted', deleted, own);
  }

  /** Dropped packets are sent again by their clients as often as they like; early drops are the table's. */
  #statistics(text: string): void {
    let early = 0;
    for (const match of text.matchAll(/early_drop=(\d+)/g)) early += Number(match[1]);
    this.#compare('counters', 'early drops', String(early), this.#table.earlyDrops);
  }

  /** Where replies come from. */
  #endpoint(entry: number): string {
    const reply = entry * 2 + 1;
    return IPV4.hostPort(this.#table.source(reply), this.#table.sourcePort(reply));
  }

  #packetOf(step: Step, flags: number): Packet {
    const packet = this.#packet;
    const known = this.#steps.get(`${String(step['src'])} > ${String(step['vip'])}`);
    packet.protocol = (step['proto'] ?? known?.['proto']) === 'udp' ? UDP : TCP;
    [packet.source, packet.sourcePort] = this.#place(textOf(step, 'src', this.#recording));
    [packet.destination, packet.destinationPort] = this.#place(textOf(step, 'vip', this.#recording));
    packet.flags = flags;
    return packet;
  }

  #place(text: string): [number, number] {
    const [address, port] = text.split(':');
    const parsed = IPV4.parse(address!);
    if (parsed === undefined || !(Number(port) <= 65_535)) {
      throw wrong(this.#recording.file, 'steps', `${text} is no IPv4 address with a port`);
    }
    return [parsed, Number(port)];
  }

  #compare(kind: string, what: string, recorded: string, ours: string | number): void {
    this.#score.compare(kind, what, recorded, String(ours));
  }
}

/** Of a new connection the table only says whether there is room for it. */
function recordedEnd(step: Step): string {
  return typeof step['chosen'] === 'string' || step['err'] === 'ECONNREFUSED' ? 'goes on' : 'dropped';
}
