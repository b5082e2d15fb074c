import { ACK, FROM_OUTSIDE, SYN, Streams, TCP, UDP, type Stream } from '@vipsim/sim-core';
import { nfTables, xtables } from '@vipsim/proxiers';
import { closing } from './closing.ts';
import { compareConntrack } from './iptables-listings.ts';
import { compareListing } from './nft-listings.ts';
import type { Player } from './player.ts';
import { recordOf, textOf, wrong, type Recording, type Step } from './recording.ts';
import type { Score } from './score.ts';

/**
 * The stage of the recordings: clients and servers on both sides of a router whose rules are replayed. Toward the
 * servers the router has this address; every address of their network has a server.
 */
const ROUTER = '169.254.2.1';
const SERVERS = xtables.parseNetwork('10.1.0.0/16', 4)!;
const BURST_CLIENTS = '10.2.0.1';
const FIRST_PORT = 1024;
const PORTS = 64_512;
const SYN_BYTES = 60;
const DATAGRAM_BYTES = 29;

/** Recordings of nftables: rules are applied and connections made on the kernel's walk of expressions. */
export const nftablesPlayer: Player = {
  name: 'nftables',
  plays: ({ steps }) => steps.some(({ op }) => op === 'nft-f'),
  play: (recording, score, seed) => {
    const stage = new Stage(recording, score, seed);
    recording.steps.forEach((step, i) => {
      score.at(i, step.op);
      stage.step(step);
    });
    stage.end();
  },
};

/** One way that the rules allow a packet to go, by the numbers that lead there. */
interface Way {
  readonly draws: readonly nfTables.NumberDraw[];
  readonly probability: number;
  readonly ends: string;
}

interface Connection {
  readonly packet: nfTables.NftPacket;
  readonly leaves: xtables.Tuple;
}

class Stage {
  readonly #recording: Recording;
  readonly #score: Score;
  readonly #rules = new nfTables.NftRuleset();
  readonly #node: nfTables.NftNode;
  readonly #own: Stream;
  readonly #connections = new Map<string, Connection>();
  /** Of all connects that were decided by draws: how often each way was taken, and how often it should be. */
  readonly #drawn = new Map<string, number>();
  readonly #expected = new Map<string, number>();
  #burstPorts = 0;

  constructor(recording: Recording, score: Score, seed: string) {
    this.#recording = recording;
    this.#score = score;
    const streams = new Streams(seed);
    this.#own = streams.stream('replay.own');
    const facts = { addresses: [xtables.parseAddress(ROUTER, 4)!], podLink: '', outsideLink: 'eth0' };
    this.#node = new nfTables.NftNode({ rules: this.#rules, family: 4, facts, streams });
  }

  step(step: Step): void {
    const nowNs = Math.round(step.t * 1e9);
    if (step.op === 'nft-f') this.#apply(step, nowNs);
    else if (step.op === 'connect') this.#connect(step, nowNs);
    else if (step.op === 'data') this.#data(step, nowNs);
    else if (step.op === 'close') this.#close(step, nowNs);
    else if (step.op === 'burst') this.#burst(step, nowNs);
    else if (step.op === 'nft-list') this.#list(step, nowNs);
    else if (step.op === 'conntrack-L') {
      const text = textOf(step, 'text', this.#recording);
      compareConntrack(this.#node.flows.list(nowNs), text, nowNs, this.#score);
    } else if (step.op !== 'sleep') this.#score.skip();
  }

  end(): void {
    this.#score.distribution('choices of the kernel over all drawn connects', this.#drawn, this.#expected);
  }

  #apply(step: Step, nowNs: number): void {
    const file = `${this.#recording.file} (rules of step ${this.#recording.steps.indexOf(step)})`;
    this.#rules.apply(textOf(step, 'text', this.#recording), file, nowNs);
  }

  #list(step: Step, nowNs: number): void {
    compareListing(this.#rules.list(nowNs), textOf(step, 'text', this.#recording), this.#score);
  }

  #connect(step: Step, nowNs: number): void {
    const [source, destination] = [this.#socket(step, 'src'), this.#socket(step, 'vip')];
    const packet = newPacket(step['proto'] === 'udp' ? UDP : TCP, source, destination);
    const seen = step['seen_from'];
    if (typeof seen === 'string')
      this.#node.offset = () => Number(seen.slice(seen.lastIndexOf(':') + 1)) - FIRST_PORT;
    const ways = this.#ways(packet, nowNs);
    const recorded = typeof step['chosen'] === 'string' ? step['chosen'] : 'nobody';
    const way = ways.find(({ ends }) => ends === recorded);
    const outcome = this.#send(packet, way ?? ways[0]!, nowNs);
    this.#node.offset = undefined;
    const possible = [...new Set(ways.map(({ ends }) => ends))].join(' or ');
    const kind = ways.length === 1 ? 'connects' : 'drawn';
    this.#score.compare(kind, connectionKey(step), recorded, way?.ends ?? possible);
    if (ways.length > 1) this.#remember(ways, recorded);
    if (endOf(outcome) === 'nobody') {
      if (outcome.fate === 'accept' && step['err'] === 'timeout') this.#lose(packet, nowNs);
      return;
    }
    const { leaves } = outcome;
    if (typeof seen === 'string') {
      const own = socketText({ destination: leaves.source, destinationPort: leaves.sourcePort });
      this.#score.compare('states', `${connectionKey(step)} as the server sees it`, seen, own);
    }
    const connection = { packet, leaves };
    this.#connections.set(connectionKey(step), connection);
    if (packet.protocol !== TCP) return;
    this.#follow(connection, 'reply', SYN | ACK, nowNs);
    this.#follow(connection, 'original', ACK, nowNs);
  }

  /** The rules let it pass, yet nothing came back: it went a way that ends before the flow is confirmed. */
  #lose(packet: nfTables.NftPacket, nowNs: number): void {
    const found = this.#node.flows.find(packet.protocol, packet, nowNs);
    if (found !== undefined) this.#node.flows.remove(found.flow);
    const address = xtables.formatAddress(packet.destination);
    this.#score.fitted.push(
      `routes, which the recording does not tell: packets to ${address} are lost in the router`,
    );
  }

  #data(step: Step, nowNs: number): void {
    const connection = this.#connections.get(connectionKey(step));
    if (connection === undefined || typeof step['delivered'] !== 'boolean') {
      this.#score.skip();
      return;
    }
    const outcome = this.#follow(connection, 'original', ACK, nowNs);
    const same = endOf(outcome) === socketText(connection.leaves);
    this.#score.compare('data', connectionKey(step), String(step['delivered']), String(same));
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
   * Many flows at once, recorded as counts and as the first hundred choices: each must be one that the rules allow,
   * the kernel's counts are held against the probabilities that the rules give, and so are as many draws of ours.
   */
  #burst(step: Step, nowNs: number): void {
    const vip = textOf(step, 'vip', this.#recording);
    const counts = Object.entries(recordOf(step, 'counts', this.#recording));
    const recorded = new Map(counts.map(([name, count]) => [name, Number(count)]));
    const total = [...recorded.values()].reduce((sum, count) => sum + count, 0);
    const protocol = step['proto'] === 'udp' ? UDP : TCP;
    const ways = this.#ways(this.#flow(step, protocol), nowNs);
    const expected = new Map<string, number>();
    for (const { ends, probability } of ways) {
      expected.set(ends, (expected.get(ends) ?? 0) + probability * total);
    }
    this.#score.distribution(`${total} flows of the kernel to ${vip}`, recorded, expected);
    const own = this.#ownDraws(step, protocol, total, nowNs);
    this.#score.distribution(`${total} flows of ours to ${vip}`, own, expected);
    const possible = [...expected.keys()].join(' or ');
    const first = Array.isArray(step['first100']) ? step['first100'].map(String) : [];
    for (const name of [...recorded.keys(), ...first]) {
      this.#score.compare('drawn', `flows to ${vip}`, name, expected.has(name) ? name : possible);
    }
  }

  /** As many flows through the node as the kernel had, decided by our own stream. */
  #ownDraws(step: Step, protocol: number, total: number, nowNs: number): Map<string, number> {
    const counts = new Map<string, number>();
    this.#node.bits = () => this.#own.uint32();
    for (let i = 0; i < total; i++) {
      const name = endOf(this.#node.send(this.#flow(step, protocol), nowNs));
      counts.set(name, (counts.get(name) ?? 0) + 1);
    }
    return counts;
  }

  /** Everything that the rules allow, each with its numbers and how likely they are. */
  #ways(packet: nfTables.NftPacket, nowNs: number): Way[] {
    const ways: Way[] = [];
    let wanted: readonly nfTables.NumberDraw[] = [];
    for (;;) {
      this.#give(wanted);
      const outcome = this.#node.foresee(packet, nowNs);
      const { draws } = outcome;
      const probability = draws.reduce((product, { modulus }) => product / modulus, 1);
      ways.push({ draws, probability, ends: endOf(outcome) });
      // On to the next: the last number that can grow does, those behind it are drawn anew.
      const last = draws.findLastIndex(({ number, modulus }) => number + 1 < modulus);
      if (last < 0) return ways;
      const { number, modulus } = draws[last]!;
      wanted = [...draws.slice(0, last), { number: number + 1, modulus }];
    }
  }

  #send(packet: nfTables.NftPacket, way: Way, nowNs: number): nfTables.NftOutcome {
    this.#give(way.draws);
    return this.#node.send(packet, nowNs);
  }

  /** The next walk draws these numbers, and 0 after them. */
  #give(draws: readonly nfTables.NumberDraw[]): void {
    let made = 0;
    this.#node.bits = () => {
      const draw = draws[made++];
      return draw === undefined ? 0 : nfTables.bitsFor(draw);
    };
  }

  #follow(
    { packet, leaves }: Connection,
    side: 'original' | 'reply',
    flags: number,
    nowNs: number,
  ): nfTables.NftOutcome {
    const tuple = side === 'original' ? packet : xtables.answerTo(leaves);
    return this.#node.send({ ...packet, ...tuple, flags }, nowNs);
  }

  #remember(ways: readonly Way[], recorded: string): void {
    this.#drawn.set(recorded, (this.#drawn.get(recorded) ?? 0) + 1);
    for (const { ends, probability } of ways) {
      this.#expected.set(ends, (this.#expected.get(ends) ?? 0) + probability);
    }
  }

  /** The next of a burst's flows: from one port after the other, then from the next client. */
  #flow(step: Step, protocol: number): nfTables.NftPacket {
    const port = FIRST_PORT + (this.#burstPorts % PORTS);
    const client = xtables.parseAddress(BURST_CLIENTS, 4)![0]! + Math.floor(this.#burstPorts / PORTS);
    this.#burstPorts++;
    return newPacket(protocol, [[client], port], this.#socket(step, 'vip'));
  }

  #socket(step: Step, field: string): Socket {
    const text = textOf(step, field, this.#recording);
    const colon = text.lastIndexOf(':');
    const address = xtables.parseAddress(text.slice(0, colon), 4);
    const port = Number(text.slice(colon + 1));
    if (address !== undefined && port >= 0 && port <= 65_535) return [address, port];
    const place = `steps[${this.#recording.steps.indexOf(step)}].${field}`;
    throw wrong(this.#recording.file, place, `${text} is not an IPv4 address:port`);
  }
}

type Socket = readonly [address: xtables.Address, port: number];

function newPacket(
  protocol: number,
  [source, sourcePort]: Socket,
  [destination, destinationPort]: Socket,
): nfTables.NftPacket {
  const isTcp = protocol === TCP;
  const flags = isTcp ? SYN : 0;
  const bytes = isTcp ? SYN_BYTES : DATAGRAM_BYTES;
  const origin = FROM_OUTSIDE;
  return { protocol, source, sourcePort, destination, destinationPort, flags, origin, bytes };
}

/** Where a packet ends: at a server, or with nobody, dropped or sent to an address that nothing has. */
function endOf({ fate, leaves }: nfTables.NftOutcome): string {
  return fate === 'accept' && xtables.isInside(SERVERS, leaves.destination) ? socketText(leaves) : 'nobody';
}

function socketText({
  destination,
  destinationPort,
}: Pick<xtables.Tuple, 'destination' | 'destinationPort'>): string {
  return `${xtables.formatAddress(destination)}:${destinationPort}`;
}

function connectionKey(step: Step): string {
  return `${String(step['src'])} > ${String(step['vip'])}`;
}
