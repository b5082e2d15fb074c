import { ACK, FROM_OUTSIDE, RST, SYN, Streams, TCP, UDP, type Stream } from '@vipsim/sim-core';
import { xtables } from '@vipsim/proxiers';
import { closing } from './closing.ts';
import { recordOf, textOf, wrong, type Recording, type Step } from './recording.ts';
import type { Player } from './player.ts';
import type { Score } from './score.ts';
import { compareConntrack, compareLists, compareSave, probabilitiesIn } from './iptables-listings.ts';

/**
 * The stage of the recordings: clients and servers on both sides of a router whose tables are replayed. Toward
 * the servers the router has this address; every address of their network has a server.
 */
const ROUTER = '169.254.2.1';
const SERVERS = xtables.parseNetwork('10.1.0.0/16', 4)!;
const BURST_CLIENTS = '10.2.0.1';
/** Lengths of a SYN with the options that Linux sends, of a datagram with one byte, of what follows a SYN. */
const SYN_BYTES = 60;
const DATAGRAM_BYTES = 29;
const SEGMENT_BYTES = 52;
/** CONFIG_HZ of the recorded kernel. */
const HZ = 250;
const FIRST_PORT = 1024;
const PORTS = 64_512;

const OPS = [
  'apply',
  'iptables-save',
  'connect',
  'data',
  'close',
  'sleep',
  'xt_recent',
  'xt_recent-sizes',
  'burst',
  'probabilities',
  'conntrack-L',
];

/** Recordings of iptables, either backend: rules are applied and connections made on the literal walk. */
export const iptablesPlayer: Player = {
  name: 'iptables',
  plays: ({ steps }) => steps.some(isRules) && steps.every((step) => OPS.includes(step.op)),
  play: (recording, score, seed) => {
    const stage = new Stage(recording, score, seed);
    recording.steps.forEach((step, i) => {
      score.at(i, step.op);
      stage.step(step);
    });
    stage.end();
  },
};

function isRules(step: Step): boolean {
  return step.op === 'apply' && typeof step['text'] === 'string' && /^\s*[*#]/.test(step['text']);
}

/** One way that the rules allow a packet to go, by the draws that lead there. */
interface Way {
  readonly draws: readonly boolean[];
  readonly probability: number;
  readonly ends: string;
}

interface Connection {
  readonly packet: xtables.XtPacket;
  readonly leaves: xtables.Tuple;
}

class Stage {
  readonly #recording: Recording;
  readonly #score: Score;
  readonly #rules = new xtables.Ruleset(4);
  readonly #streams: Streams;
  readonly #own: Stream;
  readonly #connections = new Map<string, Connection>();
  /** Of all connects that were decided by draws: how often each way was taken, and how often it should be. */
  readonly #drawn = new Map<string, number>();
  readonly #expected = new Map<string, number>();
  #node: xtables.XtNode;
  #burstPorts = 0;
  /** What to take from a tick of ours to get the kernel's, once it is known. */
  readonly #clock = { base: undefined as number | undefined };

  constructor(recording: Recording, score: Score, seed: string) {
    this.#recording = recording;
    this.#score = score;
    this.#streams = new Streams(seed);
    this.#own = this.#streams.stream('replay.own');
    this.#node = this.#newNode('legacy');
  }

  step(step: Step): void {
    const nowNs = Math.round(step.t * 1e9);
    switch (step.op) {
      case 'apply':
        this.#apply(step);
        return;
      case 'connect':
        this.#connect(step, nowNs);
        return;
      case 'data':
        this.#data(step, nowNs);
        return;
      case 'close':
        this.#close(step, nowNs);
        return;
      case 'burst':
        this.#burst(step, nowNs);
        return;
      case 'iptables-save':
        compareSave(this.#rules, step, this.#recording, this.#score);
        return;
      case 'xt_recent':
        compareLists(this.#rules, recordOf(step, 'tables', this.#recording), this.#clock, this.#score);
        return;
      case 'xt_recent-sizes':
        for (const [name, size] of Object.entries(recordOf(step, 'sizes', this.#recording))) {
          const list = this.#rules.recent.names().includes(name) ? this.#rules.recent.get(name) : undefined;
          this.#score.compare('states', `addresses in ${name}`, String(size), String(list?.entries().length));
        }
        return;
      case 'probabilities':
        this.#probabilities(step);
        return;
      case 'conntrack-L':
        compareConntrack(
          this.#node.flows.list(nowNs),
          textOf(step, 'text', this.#recording),
          nowNs,
          this.#score,
        );
        return;
      case 'sleep':
        return;
      default:
        this.#score.skip();
    }
  }

  end(): void {
    this.#score.distribution('choices of the kernel over all drawn connects', this.#drawn, this.#expected);
  }

  #newNode(backend: 'legacy' | 'nft'): xtables.XtNode {
    const address = xtables.parseAddress(ROUTER, 4)!;
    const facts = { addresses: [address], podLink: '', outsideLink: 'eth0' };
    return new xtables.XtNode({ rules: this.#rules, facts, backend, streams: this.#streams, hz: HZ });
  }

  #apply(step: Step): void {
    const backend = step['backend'] === 'nft' ? 'nft' : 'legacy';
    const known = this.#node.flows;
    this.#node = this.#newNode(backend);
    // Connections outlive rules.
    for (const flow of known.list(0)) this.#node.flows.add(flow);
    const file = `${this.#recording.file} (rules of step ${this.#recording.steps.indexOf(step)})`;
    const text = textOf(step, 'text', this.#recording);
    xtables.restore(this.#rules, text, { file, noflush: step['noflush'] === true, counters: false });
  }

  #connect(step: Step, nowNs: number): void {
    const packet = this.#packet(step, step['proto'] === 'udp' ? UDP : TCP);
    const seen = step['seen_from'];
    const seenPort = typeof seen === 'string' ? Number(seen.slice(seen.lastIndexOf(':') + 1)) : undefined;
    if (seenPort !== undefined) this.#node.offset = () => seenPort - FIRST_PORT;
    const ways = this.#ways(packet, nowNs);
    const chosen = step['chosen'];
    const recorded = typeof chosen === 'string' ? chosen : 'nobody';
    const way = ways.find(({ ends }) => ends === recorded);
    const what = `${textOf(step, 'src', this.#recording)} > ${textOf(step, 'vip', this.#recording)}`;
    const outcome = this.#send(packet, way ?? ways[0]!, nowNs);
    this.#node.offset = undefined;
    const end = endOf(outcome);
    const connection = { packet, leaves: outcome.leaves };
    if (recorded === 'nobody' && end !== 'nobody' && step['err'] === 'ECONNREFUSED') {
      // Whether a server listens is not in the rules: this one answered with a reset.
      this.#score.skip();
      if (packet.protocol === TCP) this.#follow(connection, 'reply', RST | ACK, nowNs);
      return;
    }
    const possible = [...new Set(ways.map(({ ends }) => ends))].join(' or ');
    this.#score.compare(ways.length === 1 ? 'connects' : 'drawn', what, recorded, way?.ends ?? possible);
    if (ways.length > 1) this.#remember(ways, recorded);
    if (end === 'nobody') return;
    if (typeof seen === 'string') {
      this.#score.compare('states', `${what} as the server sees it`, seen, socket(outcome.leaves, 'source'));
    }
    this.#connections.set(connectionKey(step), connection);
    if (packet.protocol !== TCP) return;
    this.#follow(connection, 'reply', SYN | ACK, nowNs);
    this.#follow(connection, 'original', ACK, nowNs);
  }

  #data(step: Step, nowNs: number): void {
    const connection = this.#connections.get(connectionKey(step));
    if (connection === undefined || typeof step['delivered'] !== 'boolean') {
      this.#score.skip();
      return;
    }
    const outcome = this.#follow(connection, 'original', ACK, nowNs);
    const same = socket(outcome.leaves, 'destination') === socket(connection.leaves, 'destination');
    const delivered = outcome.fate === 'accept' && same;
    this.#score.compare('data', connectionKey(step), String(step['delivered']), String(delivered));
  }

  #close(step: Step, nowNs: number): void {
    const connection = this.#connections.get(connectionKey(step));
    const packets = closing(step['by']);
    if (connection === undefined || connection.packet.protocol !== TCP || packets === undefined) {
      this.#score.skip();
      return;
    }
    for (const [side, flags] of packets) this.#follow(connection, side, flags, nowNs);
  }

  /**
   * Many flows at once, recorded as counts: the kernel's are held against the probabilities that the rules give,
   * and so are as many draws of ours; then each flow is sent the way that it took, so that counters follow.
   */
  #burst(step: Step, nowNs: number): void {
    const counts = recordOf(step, 'counts', this.#recording);
    const protocol = step['proto'] === 'udp' ? UDP : TCP;
    const vip = textOf(step, 'vip', this.#recording);
    const probe = this.#flow(vip, protocol);
    const ways = this.#ways(probe, nowNs);
    const total = Object.values(counts).reduce<number>((sum, count) => sum + Number(count), 0);
    const expected = new Map<string, number>();
    for (const { ends, probability } of ways)
      expected.set(ends, (expected.get(ends) ?? 0) + probability * total);
    const recorded = new Map(Object.entries(counts).map(([name, count]) => [name, Number(count)]));
    this.#score.distribution(`${total} flows of the kernel to ${vip}`, recorded, expected);
    this.#score.distribution(
      `${total} flows of ours to ${vip}`,
      this.#ownDraws(probe, total, nowNs),
      expected,
    );
    for (const [name, count] of recorded) {
      const way = ways.find(({ ends }) => ends === name);
      this.#score.compare(
        'drawn',
        `flows to ${vip}`,
        name,
        way?.ends ?? ways.map(({ ends }) => ends).join(' or '),
      );
      if (way === undefined) continue;
      for (let i = 0; i < count; i++) this.#send(this.#flow(vip, protocol), way, nowNs);
    }
  }

  #ownDraws(packet: xtables.XtPacket, total: number, nowNs: number): Map<string, number> {
    const counts = new Map<string, number>();
    this.#node.chance = (threshold) => (this.#own.uint32() & 0x7fffffff) < threshold;
    for (let i = 0; i < total; i++) {
      const name = endOf(this.#node.foresee(packet, nowNs));
      counts.set(name, (counts.get(name) ?? 0) + 1);
    }
    return counts;
  }

  #probabilities(step: Step): void {
    const shown = step['shown'];
    if (!Array.isArray(shown)) {
      throw wrong(this.#recording.file, `steps[${this.#recording.steps.indexOf(step)}].shown`, 'not a list');
    }
    const ours = probabilitiesIn(this.#rules);
    shown.forEach((text, i) => {
      this.#score.compare('rows', `probability ${i + 1} of ${shown.length}`, String(text), ours[i] ?? 'none');
    });
  }

  /** Everything that the rules allow, each with its draws and how likely they are. */
  #ways(packet: xtables.XtPacket, nowNs: number): Way[] {
    const ways: Way[] = [];
    let draws: boolean[] = [];
    do {
      let probability = 1;
      let made = 0;
      this.#node.chance = (threshold) => {
        const hit = (draws[made] ??= true);
        made++;
        probability *= hit ? threshold / 0x80000000 : 1 - threshold / 0x80000000;
        return hit;
      };
      const outcome = this.#node.foresee(packet, nowNs);
      ways.push({ draws: [...draws], probability, ends: endOf(outcome) });
      // On to the next: the last draw that hit misses, those behind it are made anew.
      draws = draws.slice(0, draws.lastIndexOf(true) + 1);
      if (draws.length > 0) draws[draws.length - 1] = false;
    } while (draws.length > 0);
    return ways;
  }

  #send(packet: xtables.XtPacket, way: Way, nowNs: number): xtables.XtOutcome {
    let made = 0;
    this.#node.chance = () => way.draws[made++] ?? false;
    return this.#node.send(packet, nowNs);
  }

  #follow(
    connection: Connection,
    side: 'original' | 'reply',
    flags: number,
    nowNs: number,
  ): xtables.XtOutcome {
    const { packet, leaves } = connection;
    const tuple = side === 'original' ? packet : xtables.answerTo(leaves);
    return this.#node.send({ ...packet, ...tuple, flags, bytes: SEGMENT_BYTES }, nowNs);
  }

  #remember(ways: readonly Way[], recorded: string): void {
    this.#drawn.set(recorded, (this.#drawn.get(recorded) ?? 0) + 1);
    for (const { ends: name, probability } of ways) {
      this.#expected.set(name, (this.#expected.get(name) ?? 0) + probability);
    }
  }

  #packet(step: Step, protocol: number): xtables.XtPacket {
    const source = this.#endpoint(step, 'src');
    const destination = this.#endpoint(step, 'vip');
    return newPacket(protocol, source, destination);
  }

  #flow(vip: string, protocol: number): xtables.XtPacket {
    const port = FIRST_PORT + (this.#burstPorts % PORTS);
    const client = xtables.parseAddress(BURST_CLIENTS, 4)![0]! + Math.floor(this.#burstPorts / PORTS);
    this.#burstPorts++;
    const colon = vip.lastIndexOf(':');
    const address = xtables.parseAddress(vip.slice(0, colon), 4);
    if (address === undefined) throw wrong(this.#recording.file, 'vip', `${vip} is not address:port`);
    return newPacket(protocol, [[client], port], [address, Number(vip.slice(colon + 1))]);
  }

  #endpoint(step: Step, field: string): readonly [xtables.Address, number] {
    const text = textOf(step, field, this.#recording);
    const colon = text.lastIndexOf(':');
    const address = xtables.parseAddress(text.slice(0, colon), 4);
    const port = Number(text.slice(colon + 1));
    if (address === undefined || !(port >= 0 && port <= 65_535)) {
      throw wrong(
        this.#recording.file,
        `steps[${this.#recording.steps.indexOf(step)}].${field}`,
        `${text} is not an IPv4 address:port`,
      );
    }
    return [address, port];
  }
}

function newPacket(
  protocol: number,
  [source, sourcePort]: readonly [xtables.Address, number],
  [destination, destinationPort]: readonly [xtables.Address, number],
): xtables.XtPacket {
  const isTcp = protocol === TCP;
  return {
    protocol,
    source,
    sourcePort,
    destination,
    destinationPort,
    flags: isTcp ? SYN : 0,
    origin: FROM_OUTSIDE,
    bytes: isTcp ? SYN_BYTES : DATAGRAM_BYTES,
  };
}

/** Where a packet ends: at a server, or with nobody, dropped or sent to an address that nothing has. */
function endOf(outcome: xtables.XtOutcome): string {
  const { fate, leaves } = outcome;
  return fate === 'accept' && xtables.isInside(SERVERS, leaves.destination)
    ? socket(leaves, 'destination')
    : 'nobody';
}

function socket(tuple: xtables.Tuple, side: 'source' | 'destination'): string {
  const port = side === 'source' ? tuple.sourcePort : tuple.destinationPort;
  return `${xtables.formatAddress(tuple[side])}:${port}`;
}

function connectionKey(step: Step): string {
  return `${String(step['src'])} > ${String(step['vip'])}`;
}
