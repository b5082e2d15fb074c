import { ACK, FIN, IPV4, Ipv6Family, Packet, RST, SYN, TCP, UDP, type AddressFamily } from '@vipsim/sim-core';
import { compareConnections, compareListing, isListing } from './ipvs-listings.ts';
import { ipvsKernel } from '@vipsim/proxiers';
import { IpvsadmPrompt } from './ipvsadm-prompt.ts';
import { Unplayable, serverSettings, serviceSettings } from './ipvs-settings.ts';
import { recordOf, textOf, wrong, type Recording, type Step } from './recording.ts';
import type { Score } from './score.ts';

const { Director, DROPPED, FOUND, IN, OPENED, OUT } = ipvsKernel;

/**
 * The stage of the recordings: every address of these networks has a server. To others there is no route, which
 * the client is told.
 */
const SERVERS = { ipv4: '10.1.0.0/16', ipv6: 'fd01::/64' } as const;
const NO_ROUTE = 'no route to the server';
const SECOND = 1_000_000_000;
/** CONFIG_HZ of the recorded kernels. */
const HZ = 100;
const CONN_TAB_BITS = 12;
/** TCP_RTO_MIN: how soon a segment is sent again where the round trip takes no time. */
const RETRANSMISSION_NS = 200_000_000;

/** A segment that was dropped, and when it is sent again. */
interface Lost {
  readonly step: Step;
  readonly flags: number;
  readonly atNs: number;
  readonly waitNs: number;
}

const NOTHING_LOST = { atNs: Infinity } as Lost;

/** Does to a director what was done to a kernel, and compares what both show. */
export class IpvsStage {
  readonly director: InstanceType<typeof Director>;
  readonly #recording: Recording;
  readonly #score: Score;
  readonly #family: AddressFamily;
  readonly #servers: { readonly address: number; readonly prefix: number };
  readonly #prompt: IpvsadmPrompt;
  readonly #counts = new Float64Array(ipvsKernel.IPVS_OPERATIONS.length);
  readonly #packet = new Packet();
  /** The firewall mark that a rule in front gives to packets of a protocol to a network. */
  readonly #marks: { readonly mark: number; readonly protocol: number; readonly network: string }[] = [];
  readonly #protocols = new Map<string, number>();
  /** Connections with a segment that never arrived: what comes after it is not heard alone. */
  readonly #stalled = new Set<string>();
  readonly #lost: Lost[] = [];
  /** Tables were changed in a way that is not replayed: what they hold is not known any more. */
  #isLost = false;

  /** @param jiffies the kernel's clock when the case began; not recorded. */
  constructor(recording: Recording, score: Score, jiffies?: number) {
    this.#recording = recording;
    this.#score = score;
    const isIpv6 = recording.steps.some(({ svc, src }) => String(svc ?? src).startsWith('['));
    this.#family = isIpv6 ? new Ipv6Family() : IPV4;
    this.#servers = this.#family.parseCidr(SERVERS[this.#family.name])!;
    this.director = new Director({
      scheduler: 'wlc',
      connTabBits: CONN_TAB_BITS,
      seed: 1,
      expireNodest: false,
      reuseMode: 1,
      hz: HZ,
      family: this.#family,
      ...ipvsKernel.kernelOptions(recording.kernel),
      ...(jiffies === undefined ? {} : { jiffies }),
    });
    this.#prompt = new IpvsadmPrompt(this.director, recording, this.#family);
  }

  step(step: Step): void {
    const nowNs = Math.round(step.t * SECOND);
    this.#retransmit(nowNs);
    this.#pass(nowNs);
    try {
      this.#play(step, nowNs);
    } catch (error) {
      if (!(error instanceof Unplayable)) throw error;
      this.#score.skip(error.message);
    }
  }

  #pass(nowNs: number): void {
    this.director.sweep(nowNs);
    this.director.expire(nowNs, this.#counts);
  }

  /** What was dropped is sent again, after ever longer times, until it passes. */
  #retransmit(nowNs: number): void {
    for (;;) {
      const next = this.#lost.reduce((first, lost) => (lost.atNs < first.atNs ? lost : first), NOTHING_LOST);
      if (next.atNs > nowNs) return;
      this.#lost.splice(this.#lost.indexOf(next), 1);
      this.#pass(next.atNs);
      this.#send(next.step, next.flags, next.atNs, next.waitNs * 2);
    }
  }

  /** A segment of the client, which is sent again if it is dropped. */
  #send(step: Step, flags: number, nowNs: number, waitNs = RETRANSMISSION_NS): ipvsKernel.Outcome {
    const outcome = this.#request(this.#seek(step), flags, nowNs);
    if (outcome === DROPPED) this.#lost.push({ step, flags, atNs: nowNs + waitNs, waitNs });
    return outcome;
  }

  #play(step: Step, nowNs: number): void {
    switch (step.op) {
      case 'connect':
        this.#connect(step, nowNs);
        return;
      case 'close':
        this.#close(step, nowNs);
        return;
      case 'data':
        this.#data(step, nowNs);
        return;
      case 'sleep':
        return;
      case 'note':
        this.#note(textOf(step, 'text', this.#recording));
        return;
      case 'sysctls':
        this.#sysctls(recordOf(step, 'values', this.#recording));
        return;
      case 'set-timeouts':
        this.#setTimeouts(step);
        return;
      default:
        if (isListing(step.op)) this.#list(step, nowNs);
        else this.#configure(step);
    }
  }

  #configure(step: Step): void {
    const { director } = this;
    try {
      if (step.op === 'add-svc') this.#addService(step);
      else if (step.op === 'edit-svc')
        director.editService(this.#service(step), serviceSettings(step, this.#family, this.#recording));
      else if (step.op === 'del-svc') director.removeService(this.#service(step));
      else if (step.op === 'add-rs') this.#addServer(step);
      else if (step.op === 'edit-rs')
        director.editServer(this.#server(step), serverSettings(step, this.#recording));
      else if (step.op === 'del-rs') director.removeServer(this.#server(step));
      else if (step.op === 'ipvsadm') this.#type(step);
      else throw new Unplayable();
    } catch (error) {
      if (error instanceof Unplayable) this.#isLost = true;
      throw error;
    }
  }

  #type(step: Step): void {
    const text = textOf(step, 'cmd', this.#recording);
    const { code, error } = this.#prompt.type(text);
    const recorded = `${String(step['rc'])} ${textOf(step, 'err', this.#recording).trim()}`;
    this.#score.compare('answers', text, recorded, `${code} ${error}`);
  }

  #addService(step: Step): void {
    const name = textOf(step, 'svc', this.#recording);
    const settings = serviceSettings(step, this.#family, this.#recording);
    if (name.startsWith('fwm:')) this.director.addMarkService(Number(name.slice(4)), settings);
    else this.director.addService(this.#protocol(step), ...this.#place(step, 'svc'), settings);
  }

  #addServer(step: Step): void {
    const { weight, ...thresholds } = serverSettings(step, this.#recording);
    this.director.addServer(this.#service(step), ...this.#place(step, 'addr'), weight, -1, thresholds);
  }

  #service(step: Step): number {
    const name = textOf(step, 'svc', this.#recording);
    const { services } = this.director;
    const found = name.startsWith('fwm:')
      ? services.findMark(Number(name.slice(4)))
      : services.find(this.#protocol(step), ...this.#place(step, 'svc'));
    if (found < 0) throw new Unplayable();
    return found;
  }

  #server(step: Step): number {
    const found = this.director.servers.find(this.#service(step), ...this.#place(step, 'addr'));
    if (found < 0) throw new Unplayable();
    return found;
  }

  #connect(step: Step, nowNs: number): void {
    this.#needConnections();
    const what = `${textOf(step, 'src', this.#recording)} > ${textOf(step, 'vip', this.#recording)}`;
    const found = this.#seek(step);
    const outcome = this.#request(found, this.#protocol(step) === TCP ? SYN : 0, nowNs);
    const served = outcome === FOUND || outcome === OPENED;
    this.#score.compare('connects', what, recordedEnd(step), this.#end(outcome));
    this.#stalled.delete(what);
    const { connection } = this.director;
    if (!served || connection < 0 || this.#protocol(step) !== TCP || !this.#isReachable()) return;
    this.#advance(connection, OUT, SYN | ACK, nowNs);
    this.#advance(connection, IN, ACK, nowNs);
  }

  /** What the client meets. */
  #end(outcome: ipvsKernel.Outcome): string {
    const { director } = this;
    if (outcome === DROPPED) return 'silence';
    if (outcome !== FOUND && outcome !== OPENED) return 'refused';
    if (!this.#isReachable()) return NO_ROUTE;
    return this.#family.hostPort(director.servers.address[director.server]!, director.serverPort);
  }

  #isReachable(): boolean {
    const { servers, server } = this.director;
    return this.#family.contains(this.#servers, servers.address[server]!);
  }

  /** Who ends a connection sends FIN first; the other side's FIN carries its ACK. */
  #close(step: Step, nowNs: number): void {
    const by = textOf(step, 'by', this.#recording);
    const found = this.#seek(step);
    const steps = ENDINGS[by];
    if (steps === undefined) throw new Unplayable();
    if (found < 0) return;
    for (const [direction, flags] of steps) {
      if (direction === IN) this.#send(step, flags, nowNs);
      else this.#advance(found, OUT, flags, nowNs);
    }
  }

  #data(step: Step, nowNs: number): void {
    const what = `${textOf(step, 'src', this.#recording)} > ${textOf(step, 'vip', this.#recording)}`;
    this.#needConnections();
    const found = this.#seek(step);
    const delivered = this.#send(step, ACK, nowNs) === FOUND;
    if (delivered) this.#advance(found, OUT, ACK, nowNs);
    if (this.#stalled.has(what)) throw new Unplayable('an earlier segment never arrived, and comes first');
    if (!delivered) this.#stalled.add(what);
    this.#score.compare('data', what, String(step['delivered']), String(delivered));
  }

  #needTables(): void {
    if (this.#isLost) throw new Unplayable('after a step that is not replayed');
  }

  #needConnections(): void {
    this.#needTables();
    if (this.#prompt.forwards.size > 0)
      throw new Unplayable('a server is reached by tunnel or direct routing');
  }

  #seek(step: Step): number {
    const packet = this.#packet;
    [packet.source, packet.sourcePort] = this.#place(step, 'src');
    [packet.destination, packet.destinationPort] = this.#place(step, 'vip');
    packet.protocol = this.#protocol(step);
    return this.director.seek(packet);
  }

  #request(found: number, flags: number, nowNs: number): ipvsKernel.Outcome {
    const packet = this.#packet;
    packet.flags = flags;
    this.director.mark =
      this.#marks.find(
        ({ protocol, network }) =>
          protocol === packet.protocol &&
          this.#family.contains(this.#family.parseCidr(network)!, packet.destination),
      )?.mark ?? 0;
    // A closed connection's conntrack entry is replaced by one for the packet: it is never an old one here.
    return this.director.request(found, packet, false, nowNs, this.#counts);
  }

  /** Steps on a connection do not repeat its protocol. */
  #protocol(step: Step): number {
    const name = `${String(step['src'])} > ${String(step['vip'])}`;
    if (step['proto'] === undefined) return this.#protocols.get(name) ?? TCP;
    const protocol = step['proto'] === 'udp' ? UDP : TCP;
    if (step.op === 'connect') this.#protocols.set(name, protocol);
    return protocol;
  }

  #advance(connection: number, direction: number, flags: number, nowNs: number): void {
    this.director.advance(connection, direction, flags, nowNs, this.#counts);
  }

  #note(text: string): void {
    const match = /^fwmark (\d+) for (tcp|udp) to (\S+)/.exec(text);
    if (match === null || this.#family.parseCidr(match[3]!) === undefined) throw new Unplayable();
    this.#marks.push({
      mark: Number(match[1]),
      protocol: match[2] === 'tcp' ? TCP : UDP,
      network: match[3]!,
    });
  }

  #sysctls(values: Readonly<Record<string, unknown>>): void {
    const of = (name: string): number | undefined => {
      const value = values[`net.ipv4.vs.${name}`] ?? values[name];
      return value === undefined ? undefined : Number(value);
    };
    const reuse = of('conn_reuse_mode');
    const nodest = of('expire_nodest_conn');
    const quiescent = of('expire_quiescent_template');
    const sloppy = of('sloppy_tcp');
    if (NOT_REPLAYED.some((name) => (of(name) ?? 0) !== 0)) {
      this.#isLost = true;
      throw new Unplayable(`one of ${NOT_REPLAYED.join(', ')} is set`);
    }
    this.director.options = {
      ...this.director.options,
      ...(reuse === undefined ? {} : { reuseMode: reuse as 0 | 1 | 2 }),
      ...(nodest === undefined ? {} : { expireNodest: nodest !== 0 }),
      ...(quiescent === undefined ? {} : { expireQuiescentTemplate: quiescent !== 0 }),
      ...(sloppy === undefined ? {} : { sloppyTcp: sloppy !== 0 }),
    };
  }

  /** Three numbers in the order of `ipvsadm --set`: TCP, TCP after FIN, UDP. */
  #setTimeouts(step: Step): void {
    const { op: _op, t: _t, ...fields } = step;
    const found = JSON.stringify(Object.values(fields)).match(/\d+/g)?.map(Number) ?? [];
    if (found.length !== 3) {
      this.#isLost = true;
      throw new Unplayable('it does not say three timeouts');
    }
    const [tcpS, tcpFinS, udpS] = found as [number, number, number];
    this.director.setTimeouts({ tcpS, tcpFinS, udpS });
  }

  #list(step: Step, nowNs: number): void {
    this.#needTables();
    const text = textOf(step, 'text', this.#recording);
    const services = Array.from(ipvsKernel.listedServices(this.director), (one) => this.#prompt.listed(one));
    if (step.op === 'ipvsadm-Lnc') compareConnections(this.director, text, nowNs, this.#score);
    else if (!compareListing(services, this.director, step.op, text, this.#score))
      throw new Unplayable(WHY_NOT[step.op] ?? '');
  }

  #place(step: Step, field: string): [number, number] {
    const text = textOf(step, field, this.#recording);
    const colon = text.lastIndexOf(':');
    const address = this.#family.parse(text.slice(0, colon).replaceAll(/[[\]]/g, ''));
    if (this.#family !== IPV4 && IPV4.parse(text.slice(0, colon)) !== undefined) {
      throw new Unplayable('of the other address family');
    }
    const port = Number(text.slice(colon + 1));
    if (address === undefined || !(port >= 0 && port <= 65_535)) {
      throw this.#wrong(`${field}: ${text} is no ${this.#family.title} address with a port`);
    }
    return [address, port];
  }

  #wrong(problem: string): Error {
    return wrong(this.#recording.file, 'steps', problem);
  }
}

/** Sysctls (net.ipv4.vs) that change what happens, in ways that are not modelled or that the kernel draws. */
const NOT_REPLAYED = ['secure_tcp', 'drop_entry', 'drop_packet', 'cache_bypass'];

/** Listings that are not held against ours. */
const WHY_NOT: Readonly<Record<string, string>> = {
  'ipvsadm-Ln-stats': 'an estimator whose phase is not recorded refreshes them every 2 s',
};

/** Packets by the side that sends them, as close() on both sides makes them. */
const ENDINGS: Readonly<Record<string, readonly (readonly [number, number])[]>> = {
  client: [
    [IN, FIN | ACK],
    [OUT, FIN | ACK],
    [IN, ACK],
  ],
  server: [
    [OUT, FIN | ACK],
    [IN, FIN | ACK],
    [OUT, ACK],
  ],
  rst: [[IN, RST | ACK]],
  'rst-server': [[OUT, RST | ACK]],
  'half-client': [
    [IN, FIN | ACK],
    [OUT, ACK],
  ],
  'half-server': [
    [OUT, FIN | ACK],
    [IN, ACK],
  ],
};

/** Where a recorded connect ended: at a server, or with what the client was told. */
function recordedEnd(step: Step): string {
  const { chosen, icmp, err } = step;
  if (typeof chosen === 'string') return chosen;
  const [type, code] = Array.isArray(icmp) ? (icmp as number[]) : [];
  if ((type === 3 && code === 3) || (type === 1 && code === 4)) return 'refused';
  if (err === 'ECONNREFUSED') return 'refused';
  if (type !== undefined || err === 'EHOSTUNREACH' || err === 'ENETUNREACH') return NO_ROUTE;
  return 'silence';
}
